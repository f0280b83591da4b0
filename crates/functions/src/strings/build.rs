//! Rows that make text from text: case, trimming, joining, padding, replacing.

use arrow::datatypes::DataType::{self, Binary, Utf8};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::Result;

use super::{case, duck, search};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::limit;
use crate::rows::{Frame, eval};
use crate::sig::{self, P, Ret, scalar, strict};
use crate::types;

fn bind_by_first(ctx: &BindContext, name: &str, args: Vec<Typed>, params: &[P]) -> Result<Bound> {
    let mut bound = sig::call(ctx, name, args, params, strict(Utf8))?;
    bound.ret = bound.args[0].ty.clone();
    Ok(bound)
}

/// `CONCAT` and `||`: texts, all BINARY, or arrays.
fn bind_concat(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    if args.is_empty() {
        return Ok(Bound { args, ret: Utf8, nullable: false });
    }
    if args.iter().any(|a| matches!(a.ty, DataType::List(_))) {
        if args.iter().any(|a| a.ty == DataType::Null) {
            return Err(sig::mismatch("DATA_DIFF_TYPES", "concat", "Input to `concat` should all be the same type, but one is VOID."));
        }
        return crate::nested::bind_same_arrays(ctx, "concat", args);
    }
    let binary = args.iter().all(|a| matches!(a.ty, Binary));
    let p = if binary { P::Bin } else { P::Str };
    let args = args.into_iter().enumerate().map(|(i, a)| sig::cast(ctx, "concat", i, a, p)).collect::<Result<_>>()?;
    Ok(sig::bound(args, strict(if binary { Binary } else { Utf8 })))
}

fn concat(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    match frame.ret() {
        DataType::List(_) => crate::nested::concat_arrays(invocation),
        Binary => {
            let columns = (0..frame.len()).map(|i| frame.binary(i)).collect::<Result<Vec<_>>>()?;
            frame.binaries(|row| {
                let Some(parts) = columns.iter().map(|c| c.get(row)).collect::<Option<Vec<_>>>() else { return Ok(None) };
                limit::allow(parts.iter().map(|part| part.len()).sum())?;
                Ok(Some(parts.concat()))
            })
        }
        _ => {
            let columns = (0..frame.len()).map(|i| frame.text(i)).collect::<Result<Vec<_>>>()?;
            frame.texts(|row| {
                let Some(bytes) = columns.iter().map(|c| c.get(row).map(str::len)).sum::<Option<usize>>() else { return Ok(None) };
                limit::allow(bytes)?;
                let mut text = String::with_capacity(bytes);
                columns.iter().filter_map(|c| c.get(row)).for_each(|part| text.push_str(part));
                Ok(Some(text))
            })
        }
    }
}

/// `CONCAT_WS`: NULLs are skipped, arrays of texts are spread.
fn bind_concat_ws(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    sig::arity("concat_ws", args.len(), 1, None)?;
    let args = args
        .into_iter()
        .enumerate()
        .map(|(i, a)| match &a.ty {
            DataType::List(item) if i > 0 => {
                let ty = types::array(Utf8, item.is_nullable() || types::cast_is_nullable(item.data_type(), &Utf8));
                sig::cast_to(ctx, "concat_ws", i, a, &ty)
            }
            _ => sig::cast(ctx, "concat_ws", i, a, P::Str),
        })
        .collect::<Result<Vec<_>>>()?;
    let nullable = args[0].nullable;
    Ok(Bound { args, ret: Utf8, nullable })
}

fn concat_ws(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    use arrow::array::{Array, AsArray};
    let frame = Frame::new(invocation)?;
    let separator = frame.text(0)?;
    frame.texts(|row| {
        let Some(separator) = separator.get(row) else { return Ok(None) };
        let mut parts: Vec<String> = Vec::new();
        for i in 1..frame.len() {
            if matches!(frame.ty(i)?, DataType::List(_)) {
                if let Some(items) = frame.list(i)?.get(row) {
                    let items = items.as_string::<i32>();
                    parts.extend((0..items.len()).filter(|j| items.is_valid(*j)).map(|j| items.value(j).to_string()));
                }
            } else if let Some(part) = frame.text(i)?.get(row) {
                parts.push(part.to_string());
            }
        }
        limit::allow(joined_bytes(parts.iter().map(String::len), separator))?;
        Ok(Some(parts.join(separator)))
    })
}

/// How long parts are with a separator between them.
pub(crate) fn joined_bytes(parts: impl Iterator<Item = usize>, separator: &str) -> usize {
    parts.fold(0, |sum, part| sum.saturating_add(part).saturating_add(separator.len()))
}

fn concat_ws_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    if c.types[1..].iter().any(|t| matches!(t, DataType::List(_))) {
        let parts: Vec<String> = c.args[1..]
            .iter()
            .zip(&c.types[1..])
            .map(|(a, t)| if matches!(t, DataType::List(_)) { format!("coalesce({a}, [])") } else { format!("[{a}]") })
            .collect();
        let list = parts.into_iter().reduce(|a, b| format!("list_concat({a}, {b})")).unwrap_or_default();
        if duck::text(c, 0).is_none() {
            return Err("`concat_ws` of arrays with a computed separator isn't known on DuckDB".into());
        }
        // Of an empty list it would make NULL.
        return Ok(format!("coalesce(array_to_string({list}, {}), '')", c.args[0]));
    }
    if c.args.len() == 1 { Ok(format!("left({}, 0)", c.args[0])) } else { duck::same("concat_ws", c) }
}

/// Trims spaces, or the characters of the other argument.
fn trim<'a>(text: &'a str, chars: Option<&str>, start: bool, end: bool) -> &'a str {
    let is_trimmed = |c: char| chars.map_or(c == ' ', |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(is_trimmed) } else { text };
    if end { text.trim_end_matches(is_trimmed) } else { text }
}

/// `text_at` and `chars_at` say which argument is which.
fn trim_eval(invocation: &Invocation<'_>, text_first: bool, start: bool, end: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    if frame.len() == 1 {
        let text = frame.text(0)?;
        return frame.texts(|row| Ok(text.get(row).map(|t| trim(t, None, start, end))));
    }
    let (text, chars) = if text_first { (frame.text(0)?, frame.text(1)?) } else { (frame.text(1)?, frame.text(0)?) };
    frame.texts(|row| Ok(text.get(row).zip(chars.get(row)).map(|(t, c)| trim(t, Some(c), start, end))))
}

fn trim_duckdb(c: &DuckCall<'_>, name: &str, text_first: bool) -> Result<String, String> {
    match c.args {
        // Without characters DuckDB would trim every Unicode space.
        [text] => Ok(format!("{name}({text}, ' ')")),
        [a, b] if text_first => Ok(format!("{name}({a}, {b})")),
        [a, b] => Ok(format!("{name}({b}, {a})")),
        _ => Err("`trim` takes one or two arguments".into()),
    }
}

fn pad(invocation: &Invocation<'_>, left: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let length = frame.int(1)?;
    let bounded = |row: usize| {
        let length = length.get(row);
        limit::allow(length.map_or(0, |l| l.max(0) as usize))?;
        Ok(length)
    };
    if frame.ty(0)? == &Binary {
        let bytes = frame.binary(0)?;
        let with = if frame.len() > 2 { Some(frame.binary(2)?) } else { None };
        return frame.binaries(|row| {
            let Some((bytes, length)) = bytes.get(row).zip(bounded(row)?) else { return Ok(None) };
            let with = with.as_ref().map_or(Some(&[0u8][..]), |w| w.get(row));
            Ok(with.map(|w| search::pad_bytes(bytes, length, w, left)))
        });
    }
    let text = frame.text(0)?;
    let with = if frame.len() > 2 { Some(frame.text(2)?) } else { None };
    frame.texts(|row| {
        let Some((text, length)) = text.get(row).zip(bounded(row)?) else { return Ok(None) };
        let with = with.as_ref().map_or(Some(" "), |w| w.get(row));
        Ok(with.map(|w| search::pad(text, length, w, left)))
    })
}

fn bind_pad(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<Bound> {
    let binary = args.first().is_some_and(|a| a.ty == Binary) && args.get(2).is_none_or(|a| a.ty == Binary);
    if binary {
        return sig::call(ctx, name, args, &[P::Bin, P::Int, P::Opt, P::Bin], strict(Binary));
    }
    sig::call(ctx, name, args, &[P::Str, P::Int, P::Opt, P::Str], strict(Utf8))
}

/// DuckDB makes a whole chunk of such texts outside of its own limit of memory.
const PADDED_MAX: i64 = 100_000;

fn pad_duckdb(c: &DuckCall<'_>, name: &str) -> Result<String, String> {
    if c.types[0] == Binary {
        return Err("padding BINARY isn't known on DuckDB".into());
    }
    let with = match (c.args.len(), duck::text(c, 2)) {
        (2, _) => " ",
        (_, Some(with)) if !with.is_empty() => with,
        _ => return Err(format!("`{name}` with an empty or computed padding isn't known on DuckDB")),
    };
    let padded = |length: &str| format!("{name}({}, {length}, {})", c.args[0], crate::duckdb::string(with));
    match duck::int(c, 1) {
        Some(length) if length <= PADDED_MAX => Ok(padded(&duck::at_least_zero(c, 1))),
        Some(_) => Err(format!("`{name}` to a length beyond {PADDED_MAX} isn't known to stay within memory on DuckDB")),
        None => {
            let far = duck::refuse_value(&format!("Padding to a length beyond {PADDED_MAX} isn't known to stay within memory on DuckDB."));
            Ok(duck::once(&c.args[1], |n| {
                format!(
                    "CASE WHEN {n} > {PADDED_MAX} THEN {far} ELSE {} END",
                    padded(&format!("CAST(CASE WHEN {n} < 0 THEN 0 ELSE {n} END AS INTEGER)"))
                )
            }))
        }
    }
}

fn repeat(text: &str, times: i32) -> Result<String> {
    let times = times.max(0) as usize;
    limit::allow(text.len().saturating_mul(times))?;
    Ok(text.repeat(times))
}

fn overlay(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let position = frame.int(2)?;
    let length = if frame.len() > 3 { Some(frame.int(3)?) } else { None };
    let at = |row: usize| {
        let length = match &length {
            Some(length) => length.get(row)?,
            None => -1,
        };
        Some((position.get(row)?, length))
    };
    if frame.ret() == &Binary {
        let (bytes, with) = (frame.binary(0)?, frame.binary(1)?);
        return frame.binaries(|row| {
            let Some(((bytes, with), (p, l))) = bytes.get(row).zip(with.get(row)).zip(at(row)) else { return Ok(None) };
            Ok(Some(search::overlay_bytes(bytes, with, p, l)))
        });
    }
    let (text, with) = (frame.text(0)?, frame.text(1)?);
    frame.texts(|row| {
        let Some(((text, with), (p, l))) = text.get(row).zip(with.get(row)).zip(at(row)) else { return Ok(None) };
        Ok(Some(search::overlay(text, with, p, l)))
    })
}

fn overlay_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let from = duck::int(c, 2).filter(|n| *n >= 1);
    let length = if c.args.len() > 3 { duck::int(c, 3).map(Some) } else { Some(None) };
    match (from, length) {
        (Some(from), Some(length)) if c.ret == &Utf8 => Ok(duck::once2(&c.args[0], &c.args[1], |s, with| {
            let skipped = match length {
                Some(n) if n >= 0 => n.to_string(),
                _ => format!("length({with})"),
            };
            format!("left({s}, {}) || {with} || substring({s}, {from} + {skipped})", from - 1)
        })),
        _ => Err("`overlay` is known on DuckDB for texts at literal positions from the front only".into()),
    }
}

fn bind_reverse(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    match args.first().map(|a| &a.ty) {
        Some(DataType::List(_)) if args.len() == 1 => {
            let (ty, nullable) = (args[0].ty.clone(), args[0].nullable);
            Ok(Bound { args, ret: ty, nullable })
        }
        Some(DataType::Binary) => sig::call(ctx, "reverse", args, &[P::Bin], strict(DataType::Binary)),
        _ => sig::call(ctx, "reverse", args, &[P::Str], strict(Utf8)),
    }
}

fn reverse(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    if matches!(frame.ret(), DataType::List(_)) {
        return crate::nested::reverse_arrays(invocation);
    }
    if *frame.ret() == DataType::Binary {
        let bytes = frame.binary(0)?;
        return frame.binaries(|row| Ok(bytes.get(row).map(|b| b.iter().rev().copied().collect::<Vec<u8>>())));
    }
    let text = frame.text(0)?;
    frame.texts(|row| Ok(text.get(row).map(|t| t.chars().rev().collect::<String>())))
}

fn bind_replace(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    sig::call(ctx, "replace", args, &[P::Str, P::Str, P::Opt, P::Str], Ret { ty: Utf8, nullable: false })
}

/// A count that no plan knows is refused at run time where the text would grow long.
fn repeat_computed(s: &str, n: &str) -> String {
    let refused = duck::refuse_value("Repeating to a length beyond 100000 isn't known to stay within memory on DuckDB.");
    duck::once2(s, n, |s, n| {
        format!(
            "CASE WHEN {n} <= 0 THEN left({s}, 0) WHEN CAST(length({s}) AS BIGINT) * {n} > 100000 THEN {refused} ELSE repeat({s}, {n}) END"
        )
    })
}

pub(crate) static BUILD: &[FunctionDef] = &[
    scalar!("upper", ["ucase"], [Str] => strict(Utf8),
        eval: eval!(texts; s: text => case::upper(s)),
        duckdb: |c| Ok(case::upper_duckdb(&c.args[0])), proof: "text-029, text-048, text-019"),
    scalar!("lower", ["lcase"], [Str] => strict(Utf8),
        eval: eval!(texts; s: text => case::lower(s)),
        duckdb: |c| Ok(case::lower_duckdb(&c.args[0])), proof: "text-029, text-048"),
    scalar!("initcap", [], [Str] => strict(Utf8),
        eval: eval!(texts; s: text => case::initcap(s)),
        duckdb: |c| Ok(case::initcap_duckdb(&c.args[0])), proof: "text-022, text-051, slt: text_rules"),
    scalar!("concat", [], bind: bind_concat, eval: concat,
        duckdb: |c| match c.args.len() {
            0 => Ok("''".into()),
            _ if matches!(c.ret, DataType::List(_)) => crate::nested::concat_arrays_duckdb(c),
            _ => Ok(format!("({})", c.args.join(" || "))),
        },
        proof: "text-017, text-019, text-039, hard-026"),
    scalar!("concat_ws", [], bind: bind_concat_ws, eval: concat_ws, duckdb: concat_ws_duckdb, proof: "text-033, text-053, hard-026"),
    // Two arguments are written characters first, as in `TRIM(chars FROM text)`.
    scalar!("trim", [], [Str, Opt, Str] => strict(Utf8), eval: |i| trim_eval(i, false, true, true), duckdb: |c| trim_duckdb(c, "trim", false), proof: "text-010, text-003, hard-032"),
    scalar!("ltrim", [], [Str, Opt, Str] => strict(Utf8), eval: |i| trim_eval(i, false, true, false), duckdb: |c| trim_duckdb(c, "ltrim", false), proof: "text-010, hard-024"),
    scalar!("rtrim", [], [Str, Opt, Str] => strict(Utf8), eval: |i| trim_eval(i, false, false, true), duckdb: |c| trim_duckdb(c, "rtrim", false), proof: "text-010"),
    scalar!("btrim", [], [Str, Opt, Str] => strict(Utf8), eval: |i| trim_eval(i, true, true, true), duckdb: |c| trim_duckdb(c, "trim", true), proof: "hard-024"),
    scalar!("repeat", [], [Str, Int] => strict(Utf8),
        eval: eval!(texts; s: text, n: int => repeat(s, n)?),
        duckdb: |c| match duck::int(c, 1) {
            Some(n) if n <= 100_000 => Ok(format!("repeat({}, {})", c.args[0], n.max(0))),
            Some(_) => Err("`repeat` with a very large count isn't known to stay within memory on DuckDB".into()),
            None => Ok(repeat_computed(&c.args[0], &c.args[1])),
        },
        proof: "text-004"),
    scalar!("space", [], [Int] => strict(Utf8),
        eval: eval!(texts; n: int => repeat(" ", n)?),
        duckdb: |c| match duck::int(c, 0) {
            Some(n) if n <= 100_000 => Ok(format!("repeat(' ', {})", n.max(0))),
            Some(_) => Err("`space` with a very large count isn't known to stay within memory on DuckDB".into()),
            None => Ok(repeat_computed("' '", &c.args[0])),
        },
        proof: "hard-025"),
    scalar!("reverse", [], bind: bind_reverse, eval: reverse,
        duckdb: |c| match c.ret {
            DataType::List(_) => Ok(format!("list_reverse({})", c.args[0])),
            DataType::Binary => Err("`reverse` of BINARY isn't known on DuckDB".into()),
            // DuckDB's own `reverse` keeps grapheme clusters together.
            _ => Ok(format!("array_to_string(list_reverse(regexp_extract_all({}, '(?s).')), '')", c.args[0])),
        },
        proof: "text-021"),
    scalar!("lpad", [], bind: |ctx, args| bind_pad(ctx, "lpad", args), eval: |i| pad(i, true), duckdb: |c| pad_duckdb(c, "lpad"), proof: "text-024, text-050"),
    scalar!("rpad", [], bind: |ctx, args| bind_pad(ctx, "rpad", args), eval: |i| pad(i, false), duckdb: |c| pad_duckdb(c, "rpad"), proof: "text-024"),
    scalar!("replace", [], bind: bind_replace,
        eval: |i| {
            let frame = Frame::new(i)?;
            let (text, search_for) = (frame.text(0)?, frame.text(1)?);
            let with = if frame.len() > 2 { Some(frame.text(2)?) } else { None };
            frame.texts(|row| {
                let Some((text, search_for)) = text.get(row).zip(search_for.get(row)) else { return Ok(None) };
                let with = with.as_ref().map_or(Some(""), |w| w.get(row));
                let Some(with) = with else { return Ok(None) };
                limit::allow(search::replaced_bytes(text, search_for, with))?;
                Ok(Some(search::replace(text, search_for, with)))
            })
        },
        duckdb: |c| Ok(format!("replace({}, {}, {})", c.args[0], c.args[1], c.args.get(2).map_or("''", |a| a))),
        proof: "text-015, hard-063"),
    scalar!("translate", [], [Str, Str, Str] => strict(Utf8),
        eval: eval!(texts; s: text, from: text, to: text => search::translate(s, from, to)),
        duckdb: |c| match (duck::text(c, 1), duck::text(c, 2)) {
            (Some(_), Some(to)) if !to.contains('\0') => duck::same("translate", c),
            _ => Err("`translate` with computed characters isn't known on DuckDB".into()),
        },
        proof: "text-035, text-045, hard-063"),
    scalar!("overlay", [],
        bind: |ctx, args| {
            let binary = args.iter().take(2).all(|a| a.ty == Binary);
            let p = if binary { P::Bin } else { P::Str };
            bind_by_first(ctx, "overlay", args, &[p, p, P::Int, P::Opt, P::Int])
        },
        eval: overlay,
        duckdb: overlay_duckdb,
        proof: "text-007, hard-063, slt: text_rules"),
    scalar!("chr", ["char"], [Long] => strict(Utf8),
        eval: eval!(texts; n: long => match n {
            n if n < 0 => String::new(),
            // Only the low eight bits count.
            n => char::from((n & 0xFF) as u8).to_string(),
        }),
        duckdb: |c| match duck::int(c, 0) {
            Some(n) if n < 0 => Ok("''".into()),
            Some(n) => Ok(format!("chr({})", n & 0xFF)),
            None => Ok(duck::once(&c.args[0], |n| format!("CASE WHEN {n} < 0 THEN '' ELSE chr(CAST({n} & 255 AS INTEGER)) END"))),
        },
        proof: "format-002, text-006"),
];
