//! Regular expression functions, with Java's meaning of a pattern.

mod pattern;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use arrow::datatypes::DataType::{self, Boolean, Int32, Utf8};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use fancy_regex::{Captures, Regex, RegexBuilder};
use flightpath_types::{Error, ErrorKind, Result};

use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::limit;
use crate::rows::Frame;
use crate::sig::{self, P, maybe, scalar, strict};
use crate::strings::{duck, string_array};
use crate::types;
use pattern::Pattern;

/// Steps one match may take before it is given up.
const BACKTRACKS_MAX: usize = 10_000_000;
/// Patterns kept compiled.
const COMPILED_MAX: usize = 256;

struct Compiled {
    regex: Regex,
    groups: usize,
}

static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Compiled>>>> = LazyLock::new(|| Mutex::new(HashMap::new()));

fn compile(text: &str) -> Result<Arc<Compiled>> {
    // A panic elsewhere can't leave the map half written.
    let mut known = COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(found) = known.get(text) {
        return Ok(found.clone());
    }
    let pattern = Pattern::parse(text)?;
    let regex = RegexBuilder::new(&pattern.rust()?)
        .backtrack_limit(BACKTRACKS_MAX)
        .build()
        .map_err(|e| Error::not_eligible(format!("the regular expression '{text}' can't be run here: {e}")))?;
    if known.len() >= COMPILED_MAX {
        known.clear();
    }
    let compiled = Arc::new(Compiled { regex, groups: pattern.groups });
    known.insert(text.to_string(), compiled.clone());
    Ok(compiled)
}

fn gave_up(e: impl std::fmt::Display) -> Error {
    let message = format!("a regular expression took too many steps: {e}");
    Error::classed(ErrorKind::ResourceExhausted, "REGEXP_TOO_COMPLEX", "54000", message)
}

/// The pattern of each row, compiled once while it stays the same.
#[derive(Default)]
struct Current {
    last: Option<(String, Arc<Compiled>)>,
}

impl Current {
    fn get(&mut self, text: &str) -> Result<Arc<Compiled>> {
        match &self.last {
            Some((t, compiled)) if t == text => Ok(compiled.clone()),
            _ => {
                let compiled = compile(text)?;
                self.last = Some((text.to_string(), compiled.clone()));
                Ok(compiled)
            }
        }
    }
}

/// Java's successive matches: behind an empty one the search goes on a character further.
fn matches<'t>(regex: &Regex, text: &'t str, mut f: impl FnMut(&Captures<'t>) -> bool) -> Result<()> {
    let mut at = 0;
    while at <= text.len() {
        let Some(captures) = regex.captures_from_pos(text, at).map_err(gave_up)? else { return Ok(()) };
        let Some(whole) = captures.get(0) else { return Ok(()) };
        if !f(&captures) {
            return Ok(());
        }
        at = if whole.end() > whole.start() {
            whole.end()
        } else {
            whole.end() + text[whole.end()..].chars().next().map_or(1, char::len_utf8)
        };
    }
    Ok(())
}

fn rlike(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, patterns) = (frame.text(0)?, frame.text(1)?);
    let mut current = Current::default();
    frame.booleans(|row| {
        let Some((text, pattern)) = texts.get(row).zip(patterns.get(row)) else { return Ok(None) };
        current.get(pattern)?.regex.is_match(text).map(Some).map_err(gave_up)
    })
}

fn check_group(name: &str, group: i32, groups: usize) -> Result<usize> {
    usize::try_from(group).ok().filter(|g| *g <= groups).ok_or_else(|| {
        Error::raised(
            "INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX",
            "22023",
            format!("Expects group index of `{name}` between 0 and {groups}, but got {group}."),
        )
    })
}

/// A group that took no part in the match is empty.
fn group_text(captures: &Captures<'_>, group: usize) -> String {
    captures.get(group).map_or_else(String::new, |m| m.as_str().to_string())
}

fn extract(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, patterns, groups) = (frame.text(0)?, frame.text(1)?, frame.int(2)?);
    let mut current = Current::default();
    frame.texts(|row| {
        let Some(((text, pattern), group)) = texts.get(row).zip(patterns.get(row)).zip(groups.get(row)) else { return Ok(None) };
        let compiled = current.get(pattern)?;
        let Some(captures) = compiled.regex.captures(text).map_err(gave_up)? else { return Ok(Some(String::new())) };
        let group = check_group("regexp_extract", group, compiled.groups)?;
        Ok(Some(group_text(&captures, group)))
    })
}

fn extract_all(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, patterns, groups) = (frame.text(0)?, frame.text(1)?, frame.int(2)?);
    string_array(&frame, |row| {
        let Some(((text, pattern), group)) = texts.get(row).zip(patterns.get(row)).zip(groups.get(row)) else { return Ok(None) };
        let compiled = compile(pattern)?;
        let mut found = Vec::new();
        let mut wrong = None;
        matches(&compiled.regex, text, |captures| match check_group("regexp_extract_all", group, compiled.groups) {
            Ok(group) => {
                found.push(group_text(captures, group));
                true
            }
            Err(e) => {
                wrong = Some(e);
                false
            }
        })?;
        wrong.map_or(Ok(Some(found)), Err)
    })
}

fn count(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, patterns) = (frame.text(0)?, frame.text(1)?);
    let mut current = Current::default();
    frame.ints(|row| {
        let Some((text, pattern)) = texts.get(row).zip(patterns.get(row)) else { return Ok(None) };
        let mut n = 0;
        matches(&current.get(pattern)?.regex, text, |_| {
            n += 1;
            true
        })?;
        Ok(Some(n))
    })
}

fn substr(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, patterns) = (frame.text(0)?, frame.text(1)?);
    let mut current = Current::default();
    frame.texts(|row| {
        let Some((text, pattern)) = texts.get(row).zip(patterns.get(row)) else { return Ok(None) };
        let found = current.get(pattern)?.regex.find(text).map_err(gave_up)?;
        Ok(found.map(|m| m.as_str()).filter(|m| !m.is_empty()))
    })
}

fn instr(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, patterns) = (frame.text(0)?, frame.text(1)?);
    let mut current = Current::default();
    frame.ints(|row| {
        let Some((text, pattern)) = texts.get(row).zip(patterns.get(row)) else { return Ok(None) };
        let found = current.get(pattern)?.regex.find(text).map_err(gave_up)?;
        // Java counts UTF-16 units.
        Ok(Some(found.map_or(0, |m| text[..m.start()].encode_utf16().count() as i32 + 1)))
    })
}

/// A piece of a replacement: `$1` names a group, a backslash takes the next character as it is.
enum Piece {
    Text(String),
    Group(usize),
}

fn replacement(text: &str, groups: usize) -> Result<Vec<Piece>> {
    let invalid = |what: &str| {
        Error::raised("INVALID_PARAMETER_VALUE.REGEX_REPLACEMENT", "22023", format!("The replacement '{text}' isn't valid: {what}."))
    };
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => literal.push(chars.next().ok_or_else(|| invalid("a backslash ends it"))?),
            '$' => {
                let first = chars.next().and_then(|c| c.to_digit(10)).ok_or_else(|| invalid("a '$' needs the number of a group"))? as usize;
                if first > groups {
                    return Err(invalid(&format!("there is no group {first}")));
                }
                let mut group = first;
                // Further digits count while such a group exists.
                while let Some(next) = chars.peek().and_then(|c| c.to_digit(10)).map(|d| group * 10 + d as usize).filter(|g| *g <= groups) {
                    group = next;
                    chars.next();
                }
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
                pieces.push(Piece::Group(group));
            }
            c => literal.push(c),
        }
    }
    pieces.push(Piece::Text(literal));
    Ok(pieces)
}

fn replace(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, patterns, replacements) = (frame.text(0)?, frame.text(1)?, frame.text(2)?);
    let positions = if frame.len() > 3 { Some(frame.int(3)?) } else { None };
    let mut current = Current::default();
    frame.texts(|row| {
        let Some(((text, pattern), with)) = texts.get(row).zip(patterns.get(row)).zip(replacements.get(row)) else { return Ok(None) };
        let Some(position) = positions.as_ref().map_or(Some(1), |p| p.get(row)) else { return Ok(None) };
        let compiled = current.get(pattern)?;
        let start = usize::try_from(position - 1).map_err(|_| {
            Error::raised("INVALID_PARAMETER_VALUE.POSITION", "22023", "The position of `regexp_replace` must be positive.")
        })?;
        // Counted in UTF-16 units; text before it isn't looked at.
        let mut units = 0;
        let from = text
            .char_indices()
            .find(|(_, c)| {
                let here = units >= start;
                units += c.len_utf16();
                here
            })
            .map_or(text.len(), |(i, _)| i);
        if start > 0 && from == text.len() {
            return Ok(Some(text.to_string()));
        }
        let (head, tail) = text.split_at(from);
        let mut out = head.to_string();
        let (mut last, mut pieces, mut wrong, mut looked_at) = (0, None, None, 1usize << 20);
        matches(&compiled.regex, tail, |captures| {
            if pieces.is_none() {
                match replacement(with, compiled.groups) {
                    Ok(parsed) => pieces = Some(parsed),
                    Err(e) => {
                        wrong = Some(e);
                        return false;
                    }
                }
            }
            let (begin, end) = captures.get(0).map_or((last, last), |m| (m.start(), m.end()));
            out.push_str(&tail[last..begin]);
            for piece in pieces.iter().flatten() {
                match piece {
                    Piece::Text(text) => out.push_str(text),
                    Piece::Group(group) => out.push_str(captures.get(*group).map_or("", |m| m.as_str())),
                }
            }
            last = end;
            if out.len() > looked_at.saturating_mul(2) {
                looked_at = out.len();
                if let Err(e) = limit::allow(out.len()) {
                    wrong = Some(e);
                    return false;
                }
            }
            true
        })?;
        if let Some(e) = wrong {
            return Err(e);
        }
        out.push_str(&tail[last..]);
        Ok(Some(out))
    })
}

fn split(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, patterns) = (frame.text(0)?, frame.text(1)?);
    let limits = if frame.len() > 2 { Some(frame.int(2)?) } else { None };
    string_array(&frame, |row| {
        let Some((text, pattern)) = texts.get(row).zip(patterns.get(row)) else { return Ok(None) };
        let Some(limit) = limits.as_ref().map_or(Some(-1), |l| l.get(row)) else { return Ok(None) };
        if pattern.is_empty() && !text.is_empty() {
            if limit > 0 && (limit as usize) < text.chars().count() {
                return Err(Error::not_eligible("`split` by an empty pattern with a limit isn't known"));
            }
            return Ok(Some(text.chars().map(String::from).collect()));
        }
        let compiled = compile(pattern)?;
        let (mut parts, mut last) = (Vec::new(), 0);
        matches(&compiled.regex, text, |captures| {
            let Some(found) = captures.get(0) else { return false };
            if limit > 0 && parts.len() + 1 >= limit as usize {
                return false;
            }
            // An empty match at the very beginning makes no empty first part.
            if found.end() > 0 {
                parts.push(text[last..found.start()].to_string());
                last = found.end();
            }
            true
        })?;
        parts.push(text[last..].to_string());
        Ok(Some(parts))
    })
}

/// A literal pattern is checked when the statement is typed.
fn check_literal(args: &[Typed]) -> Result<()> {
    match args.get(1).and_then(Typed::as_literal) {
        Some(ScalarValue::Utf8(Some(text))) if !text.is_empty() => match Pattern::parse(text) {
            // What Java rejects is an error of the run, and only when a row comes by.
            Err(e) if e.kind() == ErrorKind::NotEligible => Err(e),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn bind(ctx: &BindContext, name: &str, args: Vec<Typed>, params: &[P], ret: sig::Ret) -> Result<Bound> {
    let bound = sig::call(ctx, name, args, params, ret)?;
    check_literal(&bound.args)?;
    Ok(bound)
}

/// With the group's default of 1.
fn bind_extract(ctx: &BindContext, name: &str, mut args: Vec<Typed>, ty: DataType) -> Result<Bound> {
    sig::arity(name, args.len(), 2, Some(3))?;
    if args.len() == 2 {
        args.push(Typed::literal(ScalarValue::Int32(Some(1))));
    }
    bind(ctx, name, args, &[P::Str, P::Str, P::Int], strict(ty))
}

/// The literal pattern of a call for RE2, as DuckDB text.
fn re2(c: &DuckCall<'_>, end_may_move: bool, empty_is_fine: bool) -> Result<(Pattern, String), String> {
    let text = duck::text(c, 1).ok_or("a regular expression that isn't a literal isn't known on DuckDB")?;
    let pattern = Pattern::parse(text).map_err(|e| e.message().to_string())?;
    if !empty_is_fine && pattern.may_be_empty() {
        return Err("a regular expression that may match nothing isn't known to be searched alike on DuckDB".into());
    }
    let sql = crate::duckdb::string(&pattern.re2(end_may_move)?);
    Ok((pattern, sql))
}

fn extract_duckdb(c: &DuckCall<'_>, name: &str, all: bool) -> Result<String, String> {
    let group = duck::int(c, 2).ok_or("a computed group isn't known on DuckDB")?;
    let (pattern, sql) = re2(c, !all && group > 0, !all)?;
    if group < 0 || group as usize > pattern.groups || group > 9 {
        return Err("the group isn't one that DuckDB can give".into());
    }
    if all && group > 0 {
        return Err("`regexp_extract_all` of a group isn't known on DuckDB".into());
    }
    Ok(format!("{name}({}, {sql}, {group})", c.args[0]))
}

/// The shortest text in front of a match ends where the first match begins.
fn instr_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    if c.args.len() > 2 {
        return Err("`regexp_instr` of a group isn't known on DuckDB".into());
    }
    // Only where a match begins is asked for, so its end may move.
    let (pattern, sql) = re2(c, true, true)?;
    let before = crate::duckdb::string(&format!(r"(?s)\A(.*?)(?:{})", pattern.re2(true)?));
    Ok(duck::once(&c.args[0], |s| {
        let prefix = format!("regexp_extract({s}, {before}, 1)");
        // Java counts UTF-16 units: two for what lies beyond the basic plane.
        let beyond = format!(r"length(regexp_replace({prefix}, '[^\x{{10000}}-\x{{10FFFF}}]', '', 'g'))");
        format!(
            "CAST(CASE WHEN regexp_matches({s}, {sql}) THEN length({prefix}) + {beyond} + 1 WHEN {s} IS NOT NULL THEN 0 END AS INTEGER)"
        )
    }))
}

fn replace_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    if c.args.len() > 3 {
        return Err("`regexp_replace` from a position isn't known on DuckDB".into());
    }
    let (pattern, sql) = re2(c, false, false)?;
    let with = duck::text(c, 2).ok_or("a computed replacement isn't known on DuckDB")?;
    let pieces = replacement(with, pattern.groups).map_err(|e| e.message().to_string())?;
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(literal) => text.push_str(&literal.replace('\\', r"\\")),
            Piece::Group(group) if group <= 9 => text.push_str(&format!(r"\{group}")),
            Piece::Group(_) => return Err("groups above 9 can't be named on DuckDB".into()),
        }
    }
    Ok(format!("regexp_replace({}, {sql}, {}, 'g')", c.args[0], crate::duckdb::string(&text)))
}

/// Parts that `split` gives whole on DuckDB.
const SPLIT_PARTS_MAX: usize = 50;

fn split_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let limit = match c.args.len() {
        0..=2 => 0,
        _ => duck::int(c, 2).ok_or("`split` with a computed limit isn't known on DuckDB")?,
    };
    let (pattern, sql) = re2(c, false, false)?;
    if pattern.groups > 0 {
        return Err("`split` by a pattern with groups isn't known on DuckDB".into());
    }
    if limit <= 0 {
        return Ok(format!("string_split_regex({}, {sql})", c.args[0]));
    }
    let Some(whole_parts) = usize::try_from(limit - 1).ok().filter(|n| *n <= SPLIT_PARTS_MAX) else {
        return Err(format!("`split` into more than {SPLIT_PARTS_MAX} parts isn't known on DuckDB"));
    };
    if whole_parts == 0 {
        return Ok(duck::once(&c.args[0], |s| format!("CASE WHEN {s} IS NOT NULL THEN [{s}] END")));
    }
    // The last part is what stands behind as many matches.
    let behind = crate::duckdb::string(&format!(r"(?s)\A(?:.*?(?:{})){{{whole_parts}}}(.*)\z", pattern.re2(false)?));
    Ok(duck::once(&c.args[0], |s| {
        let parts = format!("string_split_regex({s}, {sql})");
        format!(
            "CASE WHEN {s} IS NULL THEN NULL WHEN len({parts}) <= {limit} THEN {parts} ELSE list_append({parts}[1:{whole_parts}], regexp_extract({s}, {behind}, 1)) END"
        )
    }))
}

pub(crate) static REGEXP: &[FunctionDef] = &[
    scalar!("rlike", ["regexp_like", "regexp"], bind: |ctx, args| bind(ctx, "rlike", args, &[P::Str, P::Str], strict(Boolean)), eval: rlike,
        duckdb: |c| Ok(format!("regexp_matches({}, {})", c.args[0], re2(c, true, true)?.1)), proof: "pattern-001, pattern-003, pattern-007, pattern-020"),
    scalar!("regexp_extract", [], bind: |ctx, args| bind_extract(ctx, "regexp_extract", args, Utf8), eval: extract,
        duckdb: |c| extract_duckdb(c, "regexp_extract", false), proof: "pattern-002, pattern-005, pattern-008, pattern-018, hard-104"),
    scalar!("regexp_extract_all", [], bind: |ctx, args| bind_extract(ctx, "regexp_extract_all", args, types::array(Utf8, true)), eval: extract_all,
        duckdb: |c| extract_duckdb(c, "regexp_extract_all", true), proof: "pattern-009"),
    scalar!("regexp_count", [], bind: |ctx, args| bind(ctx, "regexp_count", args, &[P::Str, P::Str], strict(Int32)), eval: count,
        duckdb: |c| Ok(format!("CAST(len(regexp_extract_all({}, {}, 0)) AS INTEGER)", c.args[0], re2(c, false, false)?.1)), proof: "pattern-010"),
    scalar!("regexp_substr", [], bind: |ctx, args| bind(ctx, "regexp_substr", args, &[P::Str, P::Str], maybe(Utf8)), eval: substr,
        duckdb: |c| Ok(format!("nullif(regexp_extract({}, {}, 0), '')", c.args[0], re2(c, false, true)?.1)), proof: "pattern-010, pattern-017"),
    scalar!("regexp_instr", [], bind: |ctx, args| bind(ctx, "regexp_instr", args, &[P::Str, P::Str, P::Opt, P::Int], strict(Int32)), eval: instr,
        duckdb: instr_duckdb, proof: "pattern-010, pattern-017, slt: text_rules"),
    scalar!("regexp_replace", [], bind: |ctx, args| bind(ctx, "regexp_replace", args, &[P::Str, P::Str, P::Str, P::Opt, P::Int], strict(Utf8)), eval: replace,
        duckdb: replace_duckdb, proof: "pattern-015, pattern-016, hard-093"),
    scalar!("split", [], bind: |ctx, args| bind(ctx, "split", args, &[P::Str, P::Str, P::Opt, P::Int], strict(types::array(Utf8, false))), eval: split,
        duckdb: split_duckdb, proof: "text-014, pattern-012, hard-106"),
];
