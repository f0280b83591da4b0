//! Rows for measuring, searching and cutting text.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::DataType::{Binary, Boolean, Int32, Utf8};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::{duck, search};
use crate::def::{FunctionDef, Invocation};
use crate::rows::{Frame, eval};
use crate::sig::{self, P, maybe, scalar, strict};

fn is_binary(invocation: &Invocation<'_>, index: usize) -> bool {
    invocation.args.get(index).is_some_and(|a| a.data_type() == Binary)
}

/// A number of text or of bytes.
fn measure(invocation: &Invocation<'_>, text: fn(&str) -> usize, bytes: fn(&[u8]) -> usize) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let to_int = |n: usize| i32::try_from(n).map_err(|_| Error::internal("a text is longer than an INT counts"));
    if is_binary(invocation, 0) {
        let values = frame.binary(0)?;
        return frame.ints(|row| values.get(row).map(|v| to_int(bytes(v))).transpose());
    }
    let values = frame.text(0)?;
    frame.ints(|row| values.get(row).map(|v| to_int(text(v))).transpose())
}

/// Text or bytes to the same.
fn cut(
    invocation: &Invocation<'_>,
    frame: &Frame,
    text: impl Fn(&str, usize) -> Option<String>,
    bytes: impl Fn(&[u8], usize) -> Option<Vec<u8>>,
) -> Result<ColumnarValue> {
    if is_binary(invocation, 0) {
        let values = frame.binary(0)?;
        return frame.binaries(|row| Ok(values.get(row).and_then(|v| bytes(v, row))));
    }
    let values = frame.text(0)?;
    frame.texts(|row| Ok(values.get(row).and_then(|v| text(v, row))))
}

fn substring(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let position = frame.int(1)?;
    let length = if frame.len() > 2 { Some(frame.int(2)?) } else { None };
    let at = |row: usize| {
        let length = match &length {
            Some(length) => length.get(row)?,
            None => i32::MAX,
        };
        Some((position.get(row)?, length))
    };
    cut(
        invocation,
        &frame,
        |v, row| at(row).map(|(p, l)| search::substring(v, p, l).to_string()),
        |v, row| at(row).map(|(p, l)| search::substring_bytes(v, p, l).to_vec()),
    )
}

/// `STARTSWITH` and its like: both text, or both binary.
fn predicate(invocation: &Invocation<'_>, test: fn(&[u8], &[u8]) -> bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    if is_binary(invocation, 0) {
        let (a, b) = (frame.binary(0)?, frame.binary(1)?);
        return frame.booleans(|row| Ok(a.get(row).zip(b.get(row)).map(|(a, b)| test(a, b))));
    }
    // UTF-8 keeps byte-wise containment the same as that of characters.
    let (a, b) = (frame.text(0)?, frame.text(1)?);
    frame.booleans(|row| Ok(a.get(row).zip(b.get(row)).map(|(a, b)| test(a.as_bytes(), b.as_bytes()))))
}

fn bind_predicate(ctx: &crate::BindContext, name: &str, args: Vec<crate::Typed>) -> Result<crate::Bound> {
    sig::arity(name, args.len(), 2, Some(2))?;
    let binary = args.iter().all(|a| a.ty == Binary);
    let p = if binary { P::Bin } else { P::Str };
    sig::call(ctx, name, args, &[p, p], if binary { maybe(Boolean) } else { strict(Boolean) })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|w| w == part)
}

fn text_only(call: &crate::DuckCall<'_>, sql: impl Fn() -> String) -> Result<String, String> {
    if call.types.first() == Some(&Utf8) { Ok(sql()) } else { Err("binary text functions aren't known on DuckDB".into()) }
}

/// `LIKE`, with the pattern parsed once when it's a constant.
fn like(invocation: &Invocation<'_>, fold: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, patterns) = (frame.text(0)?, frame.text(1)?);
    let escape = escape_of(&frame)?;
    let lower = |s: &str| if fold { s.to_lowercase() } else { s.to_string() };
    let mut cached: Option<(String, Vec<search::LikePart>)> = None;
    frame.booleans(|row| {
        let Some((text, pattern)) = texts.get(row).zip(patterns.get(row)) else { return Ok(None) };
        if cached.as_ref().is_none_or(|(p, _)| p != pattern) {
            let parts = search::like_pattern(&lower(pattern), escape).ok_or_else(|| invalid_escape(pattern))?;
            cached = Some((pattern.to_string(), parts));
        }
        Ok(cached.as_ref().map(|(_, parts)| if fold { search::like(&text.to_lowercase(), parts) } else { search::like(text, parts) }))
    })
}

fn escape_of(frame: &Frame) -> Result<char> {
    if frame.len() < 3 {
        return Ok('\\');
    }
    frame.text(2)?.get(0).and_then(|e| e.chars().next()).ok_or_else(|| Error::invalid("ESCAPE must be one character"))
}

fn invalid_escape(pattern: &str) -> Error {
    Error::raised(
        "INVALID_FORMAT.ESC_IN_THE_MIDDLE",
        "42601",
        format!("The escape character in the pattern '{pattern}' must be followed by '_', '%' or itself."),
    )
}

fn like_duckdb(call: &crate::DuckCall<'_>, fold: bool) -> Result<String, String> {
    let Some(pattern) = duck::text(call, 1) else { return computed_like_duckdb(call, fold) };
    let escape =
        if call.args.len() > 2 { duck::text(call, 2).and_then(|e| e.chars().next()).ok_or("the escape isn't a literal")? } else { '\\' };
    let Some(parts) = search::like_pattern(pattern, escape) else { return Err("the LIKE pattern is invalid".into()) };
    let ascii = pattern.is_ascii();
    if fold && !ascii {
        return Err("ILIKE with a pattern beyond ASCII isn't known to fold case as Databricks does on DuckDB".into());
    }
    // Written anew with `\` as the only escape.
    let mut text = String::new();
    for part in &parts {
        match part {
            search::LikePart::Run => text.push('%'),
            search::LikePart::One => text.push('_'),
            search::LikePart::Is(c @ ('%' | '_' | '\\')) => text.extend(['\\', *c]),
            search::LikePart::Is(c) => text.push(*c),
        }
    }
    // DuckDB is fast with a pattern in which nothing is escaped, if told so.
    let escape = if text.contains('\\') { " ESCAPE '\\'" } else { "" };
    let text = crate::duckdb::string(&if fold { text.to_lowercase() } else { text });
    let left = if fold { super::case::lower_duckdb(&call.args[0]) } else { call.args[0].clone() };
    Ok(format!("({left} LIKE {text}{escape})"))
}

/// DuckDB takes an escape in front of an ordinary character for that character.
fn computed_like_duckdb(call: &crate::DuckCall<'_>, fold: bool) -> Result<String, String> {
    let [text, pattern] = call.args else { return Err("LIKE with ESCAPE and a pattern that isn't a literal isn't known on DuckDB".into()) };
    if fold {
        return Err("ILIKE with a pattern that isn't a literal isn't known on DuckDB".into());
    }
    let message = crate::duckdb::string("The escape character is not allowed to precede an ordinary one or to end the pattern of LIKE.");
    let raise = crate::duckdb::raise("INVALID_FORMAT.ESC_IN_THE_MIDDLE", "42601", &message);
    let invalid = crate::duckdb::string(r"(?s)\A(?:[^\\]|\\[%_\\])*\\(?:[^%_\\]|\z)");
    let like = format!("{text} LIKE {pattern} ESCAPE '\\'");
    Ok(format!("(CASE WHEN {text} IS NOT NULL AND regexp_matches({pattern}, {invalid}) THEN {raise} ELSE {like} END)"))
}

/// A text's parts as an array of texts that aren't NULL.
pub(crate) fn string_array(frame: &Frame, parts: impl Fn(usize) -> Result<Option<Vec<String>>>) -> Result<ColumnarValue> {
    use arrow::array::{ListBuilder, StringBuilder};
    let mut builder = ListBuilder::new(StringBuilder::new());
    if let arrow::datatypes::DataType::List(field) = frame.ret() {
        builder = builder.with_field(field.clone());
    }
    for row in 0..frame.rows() {
        match parts(row)? {
            Some(parts) => {
                for part in parts {
                    builder.values().append_value(part);
                }
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    let array: ArrayRef = Arc::new(builder.finish());
    debug_assert!(array.as_list_opt::<i32>().is_some());
    frame.finish(array)
}

pub(crate) static FIND: &[FunctionDef] = &[
    scalar!("length", ["char_length", "character_length", "len"], [StrOrBin] => strict(Int32),
        eval: |i| measure(i, |t| t.chars().count(), <[u8]>::len),
        duckdb: |c| Ok(if c.types[0] == Binary { format!("CAST(octet_length({}) AS INTEGER)", c.args[0]) } else { format!("CAST(length({}) AS INTEGER)", c.args[0]) }),
        proof: "format-001, format-013, text-042"),
    scalar!("octet_length", [], [StrOrBin] => strict(Int32),
        eval: |i| measure(i, str::len, <[u8]>::len),
        duckdb: |c| Ok(if c.types[0] == Binary { format!("CAST(octet_length({}) AS INTEGER)", c.args[0]) } else { format!("CAST(strlen({}) AS INTEGER)", c.args[0]) }),
        proof: "format-001, format-013, text-042"),
    scalar!("bit_length", [], [StrOrBin] => strict(Int32),
        eval: |i| measure(i, |t| t.len() * 8, |b| b.len() * 8),
        duckdb: |c| Ok(if c.types[0] == Binary { format!("CAST(octet_length({}) * 8 AS INTEGER)", c.args[0]) } else { format!("CAST(strlen({}) * 8 AS INTEGER)", c.args[0]) }),
        proof: "format-001"),
    scalar!("substring", ["substr"], bind: |ctx, args| Ok(same_as_first(sig::call(ctx, "substring", args, &[P::StrOrBin, P::Int, P::Opt, P::Int], strict(Utf8))?)),
        eval: substring,
        duckdb: substring_duckdb,
        proof: "text-037, hard-097"),
    scalar!("left", [], bind: |ctx, args| { let b = sig::call(ctx, "left", args, &[P::StrOrBin, P::Int], strict(Utf8))?; Ok(same_as_first(b)) },
        eval: |i| {
            let frame = Frame::new(i)?;
            let n = frame.int(1)?;
            cut(i, &frame, |v, row| n.get(row).map(|n| search::substring(v, 1, n).to_string()), |v, row| n.get(row).map(|n| search::substring_bytes(v, 1, n).to_vec()))
        },
        duckdb: |c| text_only(c, || format!("left({}, {})", c.args[0], duck::at_least_zero(c, 1))),
        proof: "text-044, hard-102"),
    scalar!("right", [], [Str, Int] => maybe(Utf8),
        eval: eval!(texts; s: text, n: int => if n <= 0 { "" } else { search::substring(s, -n, i32::MAX) }),
        duckdb: |c| Ok(format!("right({}, {})", c.args[0], duck::at_least_zero(c, 1))),
        proof: "text-044, hard-102"),
    scalar!("startswith", [], bind: |ctx, args| bind_predicate(ctx, "startswith", args),
        eval: |i| predicate(i, <[u8]>::starts_with),
        duckdb: |c| text_only(c, || format!("starts_with({}, {})", c.args[0], c.args[1])),
        proof: "text-009"),
    scalar!("endswith", [], bind: |ctx, args| bind_predicate(ctx, "endswith", args),
        eval: |i| predicate(i, <[u8]>::ends_with),
        duckdb: |c| text_only(c, || format!("suffix({}, {})", c.args[0], c.args[1])),
        proof: "text-009"),
    scalar!("contains", [], bind: |ctx, args| bind_predicate(ctx, "contains", args),
        eval: |i| predicate(i, contains),
        // It has forms for lists and maps: an untyped NULL must not leave the choice open.
        duckdb: |c| text_only(c, || format!("contains(CAST({} AS VARCHAR), CAST({} AS VARCHAR))", c.args[0], c.args[1])),
        proof: "text-008, text-009"),
    scalar!("instr", [], [Str, Str] => strict(Int32),
        eval: eval!(ints; s: text, sub: text => search::locate(s, sub, 1)),
        duckdb: |c| Ok(format!("CAST(instr({}, {}) AS INTEGER)", c.args[0], c.args[1])),
        proof: "text-027"),
    scalar!("locate", ["position", "charindex"], [Str, Str, Opt, Int] => strict(Int32),
        eval: |i| {
            let frame = Frame::new(i)?;
            let (sub, s) = (frame.text(0)?, frame.text(1)?);
            let from = if frame.len() > 2 { Some(frame.int(2)?) } else { None };
            frame.ints(|row| {
                let Some(start) = from.as_ref().map_or(Some(1), |f| f.get(row)) else { return Ok(Some(0)) };
                Ok(sub.get(row).zip(s.get(row)).map(|(sub, s)| search::locate(s, sub, start)))
            })
        },
        duckdb: |c| if c.args.len() == 2 { Ok(format!("CAST(instr({}, {}) AS INTEGER)", c.args[1], c.args[0])) } else {
            Ok(duck::once_all(c.args, |a| {
                let (sub, s, from) = (&a[0], &a[1], &a[2]);
                let at = format!("instr(substring({s}, {from}), {sub})");
                format!("CAST(CASE WHEN {from} IS NULL THEN 0 WHEN {sub} IS NULL OR {s} IS NULL THEN NULL WHEN {from} < 1 THEN 0 WHEN {sub} = '' THEN 1 WHEN {at} = 0 THEN 0 ELSE {at} + {from} - 1 END AS INTEGER)")
            }))
        },
        proof: "text-027, slt: text_rules"),
    scalar!("split_part", [], [Str, Str, Int] => maybe(Utf8),
        eval: eval!(texts; s: text, delimiter: text, part: int => match part {
            0 => return Err(index_of_zero()),
            n => search::split_part(s, delimiter, n),
        }),
        duckdb: |c| match (duck::text(c, 1), duck::int(c, 2)) {
            (Some(delimiter), Some(part)) if !delimiter.is_empty() && part != 0 => duck::same("split_part", c),
            (Some(delimiter), None) if !delimiter.is_empty() => {
                let zero = index_of_zero();
                let zero = crate::duckdb::raise("INVALID_INDEX_OF_ZERO", "22003", &crate::duckdb::string(zero.message()));
                let delimiter = crate::duckdb::string(delimiter);
                Ok(duck::once2(&c.args[0], &c.args[2], |s, n| format!("CASE WHEN {s} IS NULL OR {n} IS NULL THEN NULL WHEN {n} = 0 THEN {zero} ELSE split_part({s}, {delimiter}, {n}) END")))
            }
            _ => Err("`split_part` with an empty or computed delimiter, or a computed part, isn't known on DuckDB".into()),
        },
        proof: "text-020, text-032, hard-028"),
    scalar!("substring_index", [], [Str, Str, Int] => strict(Utf8),
        eval: eval!(texts; s: text, delimiter: text, count: int => search::substring_index(s, delimiter, count)),
        duckdb: |c| match (duck::text(c, 1), duck::int(c, 2)) {
            (Some(d), Some(n)) if !d.is_empty() && !overlaps_itself(d) && n.abs() <= 1000 => {
                let d = crate::duckdb::string(d);
                let range = if n > 0 { format!("1:{n}") } else { format!("{n}:") };
                Ok(if n == 0 { format!("left({}, 0)", c.args[0]) } else { format!("array_to_string(string_split({}, {d})[{range}], {d})", c.args[0]) })
            }
            _ => Err("`substring_index` is known on DuckDB for literal delimiters that don't overlap with themselves and literal counts only".into()),
        },
        proof: "text-034, hard-025"),
    scalar!("find_in_set", [], [Str, Str] => strict(Int32),
        eval: eval!(ints; word: text, set: text => search::find_in_set(word, set)),
        duckdb: |c| Ok(duck::once2(&c.args[0], &c.args[1], |w, s| format!("CASE WHEN {w} IS NULL OR {s} IS NULL THEN NULL WHEN contains({w}, ',') THEN 0 ELSE coalesce(list_position(string_split({s}, ','), {w}), 0) END::INTEGER"))),
        proof: "text-054"),
    scalar!("ascii", [], [Str] => strict(Int32),
        eval: eval!(ints; s: text => s.chars().next().map_or(0, |c| u32::from(c) as i32)),
        duckdb: |c| Ok(duck::once(&c.args[0], |s| format!("CASE WHEN {s} = '' THEN 0 ELSE unicode({s}) END"))),
        proof: "text-026, text-042"),
    scalar!("levenshtein", [], [Str, Str, Opt, Int] => strict(Int32),
        eval: |i| {
            let frame = Frame::new(i)?;
            let (a, b) = (frame.text(0)?, frame.text(1)?);
            let limit = if frame.len() > 2 { Some(frame.int(2)?) } else { None };
            frame.ints(|row| {
                let Some((a, b)) = a.get(row).zip(b.get(row)) else { return Ok(None) };
                let distance = search::levenshtein(a, b);
                Ok(match &limit {
                    None => Some(distance),
                    Some(limit) => limit.get(row).map(|l| if distance > l { -1 } else { distance }),
                })
            })
        },
        duckdb: levenshtein_duckdb,
        proof: "text-049, hard-003, slt: text_rules"),
    scalar!("soundex", [], bind: |ctx, args| super::format::text_only("soundex", &args, false).and_then(|()| sig::call(ctx, "soundex", args, &[sig::P::Str], strict(Utf8))),
        eval: eval!(texts; s: text => search::soundex(s)),
        duckdb: |_| duck::unknown("soundex"),
        proof: "hard-003"),
    scalar!("like", [], [Str, Str, Opt, Str] => strict(Boolean), eval: |i| like(i, false), duckdb: |c| like_duckdb(c, false),
        proof: "pattern-004, pattern-011, pattern-021, hard-035, hard-095, slt: text_rules"),
    scalar!("ilike", [], [Str, Str, Opt, Str] => strict(Boolean), eval: |i| like(i, true), duckdb: |c| like_duckdb(c, true),
        proof: "pattern-006, pattern-019, hard-035"),
];

/// Whether an end of the text is also a beginning of it.
fn overlaps_itself(text: &str) -> bool {
    (1..text.len()).any(|n| text.as_bytes().starts_with(&text.as_bytes()[text.len() - n..]))
}

/// DuckDB counts bytes, which are characters in ASCII.
fn levenshtein_duckdb(c: &crate::DuckCall<'_>) -> Result<String, String> {
    let refuse = duck::refuse_value("`levenshtein` of texts beyond ASCII isn't known on DuckDB.");
    Ok(duck::once_all(c.args, |a| {
        let distance = format!("CAST(levenshtein({}, {}) AS INTEGER)", a[0], a[1]);
        let value = match a.get(2) {
            Some(limit) => format!("CASE WHEN {distance} > {limit} THEN -1 ELSE {distance} END"),
            None => distance,
        };
        let ascii = |s: &str| format!("strlen({s}) > length({s})");
        format!("CASE WHEN {} THEN NULL WHEN {} OR {} THEN {refuse} ELSE {value} END", duck::any_null(a), ascii(&a[0]), ascii(&a[1]))
    }))
}

fn same_as_first(mut bound: crate::Bound) -> crate::Bound {
    bound.ret = bound.args[0].ty.clone();
    bound
}

pub(crate) fn index_of_zero() -> Error {
    Error::raised(
        "INVALID_INDEX_OF_ZERO",
        "22003",
        "The index 0 is invalid. An index shall be either < 0 or > 0 (the first element has index 1).",
    )
}

fn substring_duckdb(c: &crate::DuckCall<'_>) -> Result<String, String> {
    if c.types[0] != Utf8 {
        return Err("`substring` of BINARY isn't known on DuckDB".into());
    }
    let (text, position) = (&c.args[0], &c.args[1]);
    let known = duck::int(c, 1);
    if c.args.len() == 2 {
        // So far back the end of the longest piece comes before the text's own.
        let refuse = duck::refuse_value("`substring` from so far back isn't known on DuckDB.");
        let least = i32::MIN;
        return match known {
            Some(p) if p == i64::from(least) => Err("`substring` from so far back isn't known on DuckDB".into()),
            Some(p) => Ok(format!("substring({text}, {})", if p == 0 { 1 } else { p })),
            None => Ok(format!("substring({text}, CASE {position} WHEN {least} THEN {refuse} WHEN 0 THEN 1 ELSE {position} END)")),
        };
    }
    // A negative length means "backwards" there and nothing here.
    let length = duck::at_least_zero(c, 2);
    // From further back than the text is long, the characters that aren't there count. With DuckDB they do
    // or don't, by what its statistics say of the text, so that it's never asked for them.
    let from = format!("greatest({position}, -length({text}))");
    let cut = format!("({} + least(length({text}) + {position}, 0))", c.args[2]);
    let cut = duck::once(&cut, |n| format!("CASE WHEN {n} < 0 THEN 0 ELSE {n} END"));
    Ok(match known {
        Some(p) if p < 0 => format!("substring({text}, {from}, {cut})"),
        Some(p) => format!("substring({text}, {}, {length})", p.max(1)),
        None => {
            let from = format!("CASE WHEN {position} = 0 THEN 1 WHEN {position} < 0 THEN {from} ELSE {position} END");
            format!("substring({text}, {from}, CASE WHEN {position} < 0 THEN {cut} ELSE {length} END)")
        }
    })
}
