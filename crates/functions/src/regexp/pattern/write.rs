//! Writing a pattern for an engine, or saying why it has none that means the same.

use super::{Class, Fold, Item, Node, may_be_empty};

/// Line terminators, which `.` doesn't match.
const TERMINATORS: &str = r"\n\r\x{85}\x{2028}\x{2029}";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// fancy-regex.
    Rust,
    /// RE2, where the match's end doesn't count: a final `$` may take a line terminator in.
    Re2 { end_may_move: bool },
}

/// At the top, where a `$` at the end may be widened for RE2.
pub(super) fn write_top(node: &Node, target: Target, out: &mut String) -> Result<(), String> {
    if let (Node::Concat(nodes), Target::Re2 { end_may_move: true }) = (node, target)
        && let Some((Node::End, before)) = nodes.split_last()
    {
        for node in before {
            write(node, target, out)?;
        }
        out.push_str(&format!(r"(?:\r\n|[{TERMINATORS}])?\z"));
        return Ok(());
    }
    write(node, target, out)
}

pub(super) fn write(node: &Node, target: Target, out: &mut String) -> Result<(), String> {
    let rust = target == Target::Rust;
    match node {
        Node::Literal(c, fold) => write_literal(*c, *fold, rust, out)?,
        Node::Any { all: true } => out.push_str("(?s:.)"),
        Node::Any { all: false } => out.push_str(&format!("[^{TERMINATORS}]")),
        Node::Class(class, fold) => write_class(class, *fold, rust, out)?,
        Node::Start => out.push_str(r"\A"),
        Node::AbsoluteEnd => out.push_str(r"\z"),
        // The end, or before the last line terminator, but not within CR LF.
        Node::End if rust => out.push_str(r"(?:\z|(?=\r\n\z)|(?=[\r\x{85}\x{2028}\x{2029}]\z)|(?<!\r)(?=\n\z))"),
        Node::End => return Err("'$' also matches before a final line break; that isn't known on DuckDB here".into()),
        Node::Word(boundary) if rust => out.push_str(if *boundary { r"\b" } else { r"\B" }),
        Node::Word(_) => return Err("word boundaries in regular expressions mean ASCII only on DuckDB".into()),
        Node::Group(inner, capturing) => {
            out.push_str(if *capturing { "(" } else { "(?:" });
            write(inner, target, out)?;
            out.push(')');
        }
        Node::Look { ahead, negated, node } if rust => {
            out.push_str(match (ahead, negated) {
                (true, false) => "(?=",
                (true, true) => "(?!",
                (false, false) => "(?<=",
                (false, true) => "(?<!",
            });
            write(node, target, out)?;
            out.push(')');
        }
        Node::Look { .. } => return Err("lookaround doesn't exist in DuckDB's regular expressions".into()),
        Node::Concat(nodes) => nodes.iter().try_for_each(|n| write(n, target, out))?,
        Node::Alternation(nodes) => {
            out.push_str("(?:");
            for (i, n) in nodes.iter().enumerate() {
                if i > 0 {
                    out.push('|');
                }
                write(n, target, out)?;
            }
            out.push(')');
        }
        Node::Repeat { node, min, max, lazy } => {
            if !rust && (may_be_empty(node) || min.max(&max.unwrap_or(0)) > &1000) {
                return Err("a repetition of what may be empty, or of more than 1000, isn't known on DuckDB".into());
            }
            out.push_str("(?:");
            write(node, target, out)?;
            out.push(')');
            out.push_str(&match (min, max) {
                (0, None) => "*".to_string(),
                (1, None) => "+".to_string(),
                (0, Some(1)) => "?".to_string(),
                (n, None) => format!("{{{n},}}"),
                (n, Some(m)) => format!("{{{n},{m}}}"),
            });
            if *lazy {
                out.push('?');
            }
        }
        Node::Backreference(n) if rust => out.push_str(&format!(r"(?:\{n})")),
        Node::Backreference(_) => return Err("back references don't exist in DuckDB's regular expressions".into()),
    }
    Ok(())
}

fn character(c: char) -> String {
    if c.is_ascii_alphanumeric() || (!c.is_ascii() && !c.is_control()) { c.to_string() } else { format!(r"\x{{{:X}}}", u32::from(c)) }
}

fn write_literal(c: char, fold: Fold, rust: bool, out: &mut String) -> Result<(), String> {
    match fold {
        Fold::Ascii if c.is_ascii_alphabetic() => out.push_str(&format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase())),
        Fold::Unicode if rust => out.push_str(&format!("(?i:{})", character(c))),
        Fold::Unicode => return Err("case folding beyond ASCII isn't known on DuckDB".into()),
        _ => out.push_str(&character(c)),
    }
    Ok(())
}

fn write_class(class: &Class, fold: Fold, rust: bool, out: &mut String) -> Result<(), String> {
    if fold == Fold::Unicode && !rust {
        return Err("case folding beyond ASCII isn't known on DuckDB".into());
    }
    if let ([Item::Not(ranges)], false) = (class.items.as_slice(), class.negated) {
        out.push_str("[^");
        ranges.iter().for_each(|(a, b)| push_range(*a, *b, out));
        out.push(']');
        return Ok(());
    }
    let mut text = String::from(if class.negated { "[^" } else { "[" });
    for item in &class.items {
        match item {
            Item::Range(a, b) => {
                push_range(*a, *b, &mut text);
                if fold == Fold::Ascii {
                    // The part of the range that has another case.
                    for (low, high, shift) in [('a', 'z', -32i32), ('A', 'Z', 32)] {
                        let (from, to) = ((*a).max(low), (*b).min(high));
                        let moved = |c: char| char::from_u32((u32::from(c) as i32 + shift) as u32);
                        if let (true, Some(from), Some(to)) = (from <= to, moved(from), moved(to)) {
                            push_range(from, to, &mut text);
                        }
                    }
                }
            }
            Item::Category(name, negated) => text.push_str(&format!(r"\{}{{{name}}}", if *negated { 'P' } else { 'p' })),
            Item::Not(ranges) if rust => {
                text.push_str("[^");
                ranges.iter().for_each(|(a, b)| push_range(*a, *b, &mut text));
                text.push(']');
            }
            Item::Not(_) => return Err("a negated class within a class isn't known on DuckDB".into()),
        }
    }
    text.push(']');
    if fold == Fold::Unicode {
        out.push_str(&format!("(?i:{text})"))
    } else {
        out.push_str(&text)
    }
    Ok(())
}

fn push_range(a: char, b: char, out: &mut String) {
    out.push_str(&character(a));
    if a != b {
        out.push('-');
        out.push_str(&character(b));
    }
}
