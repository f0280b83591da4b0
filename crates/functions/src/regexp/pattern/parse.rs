//! Reading a pattern as Java does.

use flightpath_types::{Error, Result};

use super::{Class, Fold, Item, Node, Pattern};

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    ignore_case: bool,
    unicode_case: bool,
    dot_all: bool,
}

pub(super) fn parse(text: &str) -> Result<Pattern> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0, flags: Flags::default(), groups: 0, pattern: text };
    let root = parser.alternation()?;
    if parser.at < parser.chars.len() {
        return Err(parser.invalid("an unmatched ')'"));
    }
    Ok(Pattern { root, groups: parser.groups })
}

struct Parser<'a> {
    chars: Vec<char>,
    at: usize,
    flags: Flags,
    groups: usize,
    pattern: &'a str,
}

impl Parser<'_> {
    fn invalid(&self, what: &str) -> Error {
        Error::raised("INVALID_PARAMETER_VALUE.PATTERN", "22023", format!("The regular expression '{}' isn't valid: {what}.", self.pattern))
    }

    fn refuse(&self, what: &str) -> Error {
        Error::not_eligible(format!("{what} in the regular expression '{}' isn't known to mean what it does in Databricks", self.pattern))
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_next = text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c));
        if is_next {
            self.at += text.chars().count();
        }
        is_next
    }

    fn fold(&self) -> Fold {
        match (self.flags.ignore_case, self.flags.unicode_case) {
            (false, _) => Fold::None,
            (true, false) => Fold::Ascii,
            (true, true) => Fold::Unicode,
        }
    }

    fn alternation(&mut self) -> Result<Node> {
        let mut branches = vec![self.concat()?];
        while self.eat("|") {
            branches.push(self.concat()?);
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Alternation(branches) })
    }

    fn concat(&mut self) -> Result<Node> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let Some(node) = self.atom()? else { continue };
            nodes.push(self.quantified(node)?);
        }
        Ok(Node::Concat(nodes))
    }

    fn quantified(&mut self, node: Node) -> Result<Node> {
        let (min, max) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let end = self.chars[self.at..].iter().position(|c| *c == '}').ok_or_else(|| self.invalid("a '{' isn't closed"))?;
                let body: String = self.chars[self.at + 1..self.at + end].iter().collect();
                let (low, high) = body.split_once(',').map_or((body.as_str(), None), |(l, h)| (l, Some(h)));
                let min: u32 = low.parse().map_err(|_| self.invalid("an illegal repetition"))?;
                let max = match high {
                    None => Some(min),
                    Some("") => None,
                    Some(h) => Some(h.parse().map_err(|_| self.invalid("an illegal repetition"))?),
                };
                if max.is_some_and(|m| m < min) {
                    return Err(self.invalid("an illegal repetition range"));
                }
                self.at += end;
                (min, max)
            }
            _ => return Ok(node),
        };
        self.at += 1;
        if matches!(node, Node::Start | Node::End | Node::AbsoluteEnd | Node::Word(_) | Node::Look { .. }) {
            return Err(self.refuse("a repeated assertion"));
        }
        let lazy = self.eat("?");
        if self.peek() == Some('+') && !lazy {
            return Err(self.refuse("a possessive quantifier"));
        }
        if matches!(self.peek(), Some('*' | '+' | '?')) {
            return Err(self.invalid("a dangling quantifier"));
        }
        Ok(Node::Repeat { node: Box::new(node), min, max, lazy })
    }

    /// `None` for what only sets flags.
    fn atom(&mut self) -> Result<Option<Node>> {
        let c = self.chars[self.at];
        self.at += 1;
        Ok(Some(match c {
            '.' => Node::Any { all: self.flags.dot_all },
            '^' => Node::Start,
            '$' => Node::End,
            '[' => Node::Class(self.class()?, self.fold()),
            '(' => return self.group(),
            '\\' => self.escape()?,
            '*' | '+' | '?' => return Err(self.invalid(&format!("a dangling '{c}'"))),
            '{' => return Err(self.invalid("an illegal repetition")),
            c => Node::Literal(c, self.fold()),
        }))
    }

    fn group(&mut self) -> Result<Option<Node>> {
        let outer = self.flags;
        let mut look = None;
        let mut capturing = false;
        if !self.eat("?") {
            self.groups += 1;
            capturing = true;
        } else if self.eat(":") {
        } else if self.eat("=") {
            look = Some((true, false));
        } else if self.eat("!") {
            look = Some((true, true));
        } else if self.eat("<=") {
            look = Some((false, false));
        } else if self.eat("<!") {
            look = Some((false, true));
        } else if self.eat(">") || self.eat("<") {
            return Err(self.refuse("an atomic or named group"));
        } else if !self.read_flags()? {
            // `(?i)`: for the rest of the group around it.
            return Ok(None);
        }
        let body = self.alternation()?;
        if !self.eat(")") {
            return Err(self.invalid("a group isn't closed"));
        }
        self.flags = outer;
        Ok(Some(match look {
            Some((ahead, negated)) => Node::Look { ahead, negated, node: Box::new(body) },
            None => Node::Group(Box::new(body), capturing),
        }))
    }

    /// True when a group follows (`(?i:`), false when the flags stand alone (`(?i)`).
    fn read_flags(&mut self) -> Result<bool> {
        let mut on = true;
        loop {
            let c = self.peek().ok_or_else(|| self.invalid("a group isn't closed"))?;
            self.at += 1;
            match c {
                'i' => self.flags.ignore_case = on,
                'u' => self.flags.unicode_case = on,
                's' => self.flags.dot_all = on,
                '-' => on = false,
                ')' => return Ok(false),
                ':' => return Ok(true),
                'm' | 'x' | 'd' | 'U' => return Err(self.refuse(&format!("the flag '{c}'"))),
                _ => return Err(self.invalid("an unknown inline flag")),
            }
        }
    }

    fn escape(&mut self) -> Result<Node> {
        let c = self.peek().ok_or_else(|| self.invalid("it ends in a backslash"))?;
        self.at += 1;
        if let Some(items) = self.shorthand(c)? {
            return Ok(Node::Class(Class { negated: false, items }, Fold::None));
        }
        Ok(match c {
            'A' => Node::Start,
            'z' => Node::AbsoluteEnd,
            'Z' => Node::End,
            'b' => Node::Word(true),
            'B' => Node::Word(false),
            '1'..='9' => {
                let group = c as usize - '0' as usize;
                if group > self.groups || self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    return Err(self.refuse("a reference to a group that doesn't stand before it"));
                }
                Node::Backreference(group)
            }
            'Q' => {
                let mut nodes = Vec::new();
                while self.at < self.chars.len() && !self.eat("\\E") {
                    nodes.push(Node::Literal(self.chars[self.at], self.fold()));
                    self.at += 1;
                }
                Node::Group(Box::new(Node::Concat(nodes)), false)
            }
            c => Node::Literal(self.character(c)?, self.fold()),
        })
    }

    /// `\d` and its like, as class items.
    fn shorthand(&mut self, c: char) -> Result<Option<Vec<Item>>> {
        const DIGIT: &[(char, char)] = &[('0', '9')];
        const WORD: &[(char, char)] = &[('a', 'z'), ('A', 'Z'), ('_', '_'), ('0', '9')];
        const SPACE: &[(char, char)] = &[('\t', '\r'), (' ', ' ')];
        let ranges = |r: &[(char, char)]| Some(r.iter().map(|(a, b)| Item::Range(*a, *b)).collect::<Vec<_>>());
        let not = |r: &[(char, char)]| Some(vec![Item::Not(r.to_vec())]);
        Ok(match c {
            'd' => ranges(DIGIT),
            'w' => ranges(WORD),
            's' => ranges(SPACE),
            'D' => not(DIGIT),
            'W' => not(WORD),
            'S' => not(SPACE),
            'p' | 'P' => Some(vec![self.property(c == 'P')?]),
            _ => None,
        })
    }

    fn property(&mut self, negated: bool) -> Result<Item> {
        let name: String = if self.eat("{") {
            let len = self.chars[self.at..].iter().position(|c| *c == '}').ok_or_else(|| self.invalid("a property isn't closed"))?;
            let name = self.chars[self.at..self.at + len].iter().collect();
            self.at += len + 1;
            name
        } else {
            let c = self.peek().ok_or_else(|| self.invalid("a property without a name"))?;
            self.at += 1;
            c.to_string()
        };
        let ranges: &[(char, char)] = match name.as_str() {
            "L" | "Lu" | "Ll" | "Lt" | "Lm" | "Lo" | "M" | "Mn" | "N" | "Nd" | "P" | "S" | "Z" | "Zs" => {
                return Ok(Item::Category(name, negated));
            }
            "IsL" | "IsLu" | "IsLl" | "IsN" | "IsP" => return Ok(Item::Category(name[2..].to_string(), negated)),
            "Lower" => &[('a', 'z')],
            "Upper" => &[('A', 'Z')],
            "Alpha" => &[('a', 'z'), ('A', 'Z')],
            "Digit" => &[('0', '9')],
            "Alnum" => &[('a', 'z'), ('A', 'Z'), ('0', '9')],
            "Punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
            "XDigit" => &[('0', '9'), ('a', 'f'), ('A', 'F')],
            "Space" => &[('\t', '\r'), (' ', ' ')],
            "ASCII" => &[('\0', '\x7F')],
            _ => return Err(self.refuse(&format!("the property {name}"))),
        };
        if negated {
            return Ok(Item::Not(ranges.to_vec()));
        }
        match ranges {
            [(a, b)] => Ok(Item::Range(*a, *b)),
            _ => Err(self.refuse(&format!("the property {name}"))),
        }
    }

    /// An escape that stands for one character.
    fn character(&mut self, c: char) -> Result<char> {
        let code = match c {
            't' => return Ok('\t'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            'f' => return Ok('\x0C'),
            'a' => return Ok('\x07'),
            'e' => return Ok('\x1B'),
            'x' if self.eat("{") => {
                let len = self.chars[self.at..].iter().position(|c| *c == '}').ok_or_else(|| self.invalid("an unclosed \\x{"))?;
                let code: String = self.chars[self.at..self.at + len].iter().collect();
                self.at += len + 1;
                code
            }
            'x' | 'u' => {
                let len = if c == 'x' { 2 } else { 4 };
                let code: String = self.chars[self.at..].iter().take(len).collect();
                if code.chars().count() < len {
                    return Err(self.invalid("an incomplete hexadecimal escape"));
                }
                self.at += len;
                code
            }
            c if c.is_ascii_alphabetic() => return Err(self.refuse(&format!("the escape \\{c}"))),
            '0' => return Err(self.refuse("an octal escape")),
            c => return Ok(c),
        };
        u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).ok_or_else(|| self.invalid("a wrong hexadecimal escape"))
    }

    fn class(&mut self) -> Result<Class> {
        let negated = self.eat("^");
        let mut items = Vec::new();
        loop {
            let c = self.peek().ok_or_else(|| self.invalid("a '[' isn't closed"))?;
            self.at += 1;
            let low = match c {
                ']' if items.is_empty() => return Err(self.refuse("a ']' that begins a class")),
                ']' => return Ok(Class { negated, items }),
                '[' => return Err(self.refuse("a class within a class")),
                '&' if self.peek() == Some('&') => return Err(self.refuse("an intersection of classes")),
                '\\' => {
                    let c = self.peek().ok_or_else(|| self.invalid("it ends in a backslash"))?;
                    self.at += 1;
                    if let Some(mut more) = self.shorthand(c)? {
                        items.append(&mut more);
                        continue;
                    }
                    self.character(c)?
                }
                c => c,
            };
            let is_range = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']');
            if !is_range {
                items.push(Item::Range(low, low));
                continue;
            }
            self.at += 1;
            let mut high = self.chars[self.at];
            self.at += 1;
            if high == '[' {
                return Err(self.refuse("a class within a class"));
            }
            if high == '\\' {
                let c = self.peek().ok_or_else(|| self.invalid("it ends in a backslash"))?;
                self.at += 1;
                if "dwsDWSpP".contains(c) {
                    return Err(self.refuse("a range that ends in a class"));
                }
                high = self.character(c)?;
            }
            if high < low {
                return Err(self.invalid("an illegal character range"));
            }
            items.push(Item::Range(low, high));
        }
    }
}
