//! Rows between text, seconds since the epoch, and dates and timestamps.

use arrow::datatypes::DataType::{self, Date32, Decimal128, Float32, Float64, Int64, Utf8};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::duck;
use super::pattern::{MICROS_PER_DAY, MICROS_PER_SECOND, Moment, Parsed, Pattern};
use crate::cast::session_zone;
use crate::cast::zone::Zone;
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::errors;
use crate::rows::{Frame, eval};
use crate::sig::{self, maybe, rewrite, scalar, strict};
use crate::strings::duck as text;
use crate::types;

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

/// A pattern argument, read once while it stays the same.
struct Patterns {
    read: fn(&str) -> Result<Pattern>,
    last: Option<(String, Pattern)>,
}

impl Patterns {
    fn new(read: fn(&str) -> Result<Pattern>) -> Self {
        Self { read, last: None }
    }

    fn get(&mut self, text: &str) -> Result<&Pattern> {
        if self.last.as_ref().is_none_or(|(t, _)| t != text) {
            self.last = Some((text.to_string(), (self.read)(text)?));
        }
        match &self.last {
            Some((_, pattern)) => Ok(pattern),
            None => Err(Error::internal("a pattern was read and lost")),
        }
    }
}

fn format_moment(pattern: &Pattern, instant: i64, zone: Zone, name: &str) -> Result<String> {
    let local = zone.to_local(instant).ok_or_else(errors::datetime_overflow)?;
    let offset = i32::try_from((local - instant) / MICROS_PER_SECOND).unwrap_or(0);
    pattern.format(&Moment { local, offset, zone: name })
}

fn date_format(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (values, formats) = (frame.micros(0)?, frame.text(1)?);
    let zone = session_zone(invocation.time_zone)?;
    let mut patterns = Patterns::new(Pattern::for_formatting);
    frame.texts(|row| {
        let Some((value, format)) = values.get(row).zip(formats.get(row)) else { return Ok(None) };
        format_moment(patterns.get(format)?, value, zone, invocation.time_zone).map(Some)
    })
}

fn date_format_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let format = text::text(c, 1).ok_or("`date_format` with a computed pattern isn't known on DuckDB")?;
    let pattern = Pattern::for_formatting(format).map_err(|_| "the pattern isn't valid".to_string())?;
    let (written, year) =
        pattern.strftime().ok_or_else(|| format!("the date pattern '{format}' isn't known to be written alike on DuckDB"))?;
    let local = duck::local(c, 0)?;
    let written = crate::duckdb::string(&written);
    if !year {
        return Ok(format!("strftime({local}, {written})"));
    }
    Ok(text::once(&local, |t| {
        format!("CASE WHEN year({t}) NOT BETWEEN 0 AND 9999 THEN {} ELSE strftime({t}, {written}) END", duck::year_out_of_range())
    }))
}

fn cannot_parse(text: &str, format: &str, function: &str) -> Error {
    Error::raised(
        "CANNOT_PARSE_TIMESTAMP",
        "22007",
        format!(
            "Text '{text}' could not be parsed with the pattern '{format}'. Use `{function}` to tolerate invalid input and return NULL instead."
        ),
    )
}

/// Parses the first argument by the second. With `tolerate`, what can't be parsed is NULL.
fn parse(
    invocation: &Invocation<'_>,
    tolerate: bool,
    make: fn(Parsed, Zone) -> Option<i64>,
    out: fn(&Frame, Vec<Option<i64>>) -> Result<ColumnarValue>,
) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (texts, formats) = (frame.text(0)?, frame.text(1)?);
    let zone = session_zone(invocation.time_zone)?;
    let mut patterns = Patterns::new(Pattern::for_parsing);
    let mut values = Vec::with_capacity(frame.rows());
    for row in 0..frame.rows() {
        let Some((text, format)) = texts.get(row).zip(formats.get(row)) else {
            values.push(None);
            continue;
        };
        match patterns.get(format)?.parse(text).and_then(|p| make(p, zone)) {
            Some(value) => values.push(Some(value)),
            None if tolerate => values.push(None),
            None => return Err(cannot_parse(text, format, "try_to_timestamp")),
        }
    }
    out(&frame, values)
}

fn instant(parsed: Parsed, session: Zone) -> Option<i64> {
    parsed.zone.unwrap_or(session).to_instant(parsed.local)
}

fn wall_clock(parsed: Parsed, _: Zone) -> Option<i64> {
    Some(parsed.local)
}

/// The session's day of what was parsed.
fn day(parsed: Parsed, session: Zone) -> Option<i64> {
    let local = match parsed.zone {
        Some(zone) => session.to_local(zone.to_instant(parsed.local)?)?,
        None => parsed.local,
    };
    Some(local.div_euclid(MICROS_PER_DAY))
}

fn as_timestamps(frame: &Frame, values: Vec<Option<i64>>) -> Result<ColumnarValue> {
    frame.timestamps(|row| Ok(values[row]))
}

fn as_dates(frame: &Frame, values: Vec<Option<i64>>) -> Result<ColumnarValue> {
    frame.dates(|row| values[row].map(|v| i32::try_from(v).map_err(|_| errors::datetime_overflow())).transpose())
}

fn as_seconds(frame: &Frame, values: Vec<Option<i64>>) -> Result<ColumnarValue> {
    frame.longs(|row| Ok(values[row].map(|v| v / MICROS_PER_SECOND)))
}

/// DuckDB for patterns of fixed digits; `wrap` makes the value out of a wall clock.
fn parse_duckdb(c: &DuckCall<'_>, tolerate: bool, wrap: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let format = text::text(c, 1).ok_or("parsing dates by a computed pattern isn't known on DuckDB")?;
    let pattern = Pattern::for_parsing(format).map_err(|_| "the pattern isn't valid".to_string())?;
    let (regex, strptime) =
        pattern.strptime().ok_or_else(|| format!("the date pattern '{format}' isn't known to be read alike on DuckDB"))?;
    let (regex, strptime) = (crate::duckdb::string(&regex), crate::duckdb::string(&strptime));
    let value = wrap(&format!("try_strptime({{s}}, {strptime})"))?;
    // Years with a sign, which DuckDB doesn't read.
    let signed = crate::duckdb::raise("UNSUPPORTED_FEATURE", "0A000", "'A date with a sign isn''t known on DuckDB.'");
    Ok(text::once(&c.args[0], |s| {
        let fail = if tolerate {
            "NULL".to_string()
        } else {
            crate::duckdb::raise(
                "CANNOT_PARSE_TIMESTAMP",
                "22007",
                &format!(
                    "'Text ''' || left({s}, 200) || {}",
                    crate::duckdb::string(&format!(
                        "' could not be parsed with the pattern '{format}'. Use `try_to_timestamp` to tolerate invalid input and return NULL instead."
                    ))
                ),
            )
        };
        let value = value.replace("{s}", s);
        format!(
            "CASE WHEN {s} IS NULL THEN NULL WHEN {s}[1] IN ('+', '-') THEN {signed} WHEN regexp_full_match({s}, {regex}) AND try_strptime({s}, {strptime}) IS NOT NULL THEN {value} ELSE {fail} END"
        )
    }))
}

/// `f(x)` is a cast, `f(x, pattern)` parses a text.
fn cast_or_parse(ctx: &BindContext, name: &str, parser: &str, mut args: Vec<Typed>, to: &DataType, tolerate: bool) -> Result<Typed> {
    sig::arity(name, args.len(), 1, Some(2))?;
    let is_text = matches!(args[0].ty, Utf8 | DataType::Null);
    if args.len() == 2 && is_text {
        return sig::call_by_name(ctx, parser, args);
    }
    let value = args.remove(0);
    if tolerate { crate::cast::try_cast(ctx, value, to) } else { crate::cast::cast(ctx, value, to) }
}

fn bind_to_date(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    cast_or_parse(ctx, "to_date", "parse_date", args, &Date32, false)
}

fn unix_seconds_of(invocation: &Invocation<'_>, unit: i64, floor: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let values = frame.micros(0)?;
    frame.longs(|row| Ok(values.get(row).map(|v| if floor { v.div_euclid(unit) } else { v / unit })))
}

/// `unix_timestamp(x[, pattern])`: a text is parsed, a date or timestamp is taken as it is.
fn bind_unix_timestamp(ctx: &BindContext, name: &str, mut args: Vec<Typed>) -> Result<Typed> {
    sig::arity(name, args.len(), 0, Some(2))?;
    if args.is_empty() {
        ctx.mark_uncacheable();
        return Ok(Typed::literal(datafusion::common::ScalarValue::Int64(Some(ctx.now_micros.div_euclid(MICROS_PER_SECOND)))));
    }
    if let Some(pattern) = args.get(1).filter(|pattern| !matches!(pattern.ty, Utf8 | DataType::Null)) {
        return Err(sig::unexpected_input(name, 1, "STRING", &pattern.ty));
    }
    if types::is_datetime(&args[0].ty) {
        args.truncate(1);
        return sig::call_by_name(ctx, "unix_timestamp_of", args);
    }
    if args.len() == 1 {
        args.push(Typed::literal(datafusion::common::ScalarValue::Utf8(Some(DEFAULT_PATTERN.into()))));
    }
    sig::call_by_name(ctx, "parse_unix_timestamp", args)
}

fn from_unixtime(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let seconds = frame.long(0)?;
    let formats = if frame.len() > 1 { Some(frame.text(1)?) } else { None };
    let zone = session_zone(invocation.time_zone)?;
    let mut patterns = Patterns::new(Pattern::for_formatting);
    frame.texts(|row| {
        let Some(format) = formats.as_ref().map_or(Some(DEFAULT_PATTERN), |f| f.get(row)) else { return Ok(None) };
        let Some(seconds) = seconds.get(row) else { return Ok(None) };
        let instant = seconds.checked_mul(MICROS_PER_SECOND).ok_or_else(errors::datetime_overflow)?;
        format_moment(patterns.get(format)?, instant, zone, invocation.time_zone).map(Some)
    })
}

fn from_unixtime_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    if !Zone::parse(c.time_zone).is_some_and(Zone::is_utc) {
        return Err("`from_unixtime` is known on DuckDB in time zone UTC only".into());
    }
    let format = if c.args.len() > 1 { text::text(c, 1).ok_or("a computed pattern isn't known on DuckDB")? } else { DEFAULT_PATTERN };
    let pattern = Pattern::for_formatting(format).map_err(|_| "the pattern isn't valid".to_string())?;
    let (written, _) =
        pattern.strftime().ok_or_else(|| format!("the date pattern '{format}' isn't known to be written alike on DuckDB"))?;
    let written = crate::duckdb::string(&written);
    // Seconds of the years 0 to 9999.
    Ok(text::once(&c.args[0], |s| {
        format!(
            "CASE WHEN {s} NOT BETWEEN -62167219200 AND 253402300799 THEN {} ELSE strftime(make_timestamp(CAST({s} * 1000000 AS BIGINT)), {written}) END",
            duck::year_out_of_range()
        )
    }))
}

/// `timestamp_seconds` of an integral, decimal or fractional number.
fn bind_timestamp_seconds(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "timestamp_seconds";
    sig::arity(NAME, args.len(), 1, Some(1))?;
    let arg = args.remove(0);
    let (to, nullable) = match &arg.ty {
        Float32 | Float64 => (Float64, true),
        Decimal128(_, s) if *s > 6 => {
            return Err(Error::not_eligible("`timestamp_seconds` of a decimal with more than six places isn't known"));
        }
        Decimal128(..) => (arg.ty.clone(), false),
        _ => (Int64, false),
    };
    let arg = sig::cast_to(ctx, NAME, 0, arg, &to)?;
    Ok(sig::bound(vec![arg], sig::Ret { ty: types::timestamp(), nullable }))
}

fn timestamp_seconds(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    match frame.ty(0)? {
        Float64 => {
            let values = frame.double(0)?;
            // What isn't a number has no instant; a number is cut to microseconds.
            frame.timestamps(|row| Ok(values.get(row).filter(|v| v.is_finite()).map(|v| (v * MICROS_PER_SECOND as f64) as i64)))
        }
        Decimal128(_, scale) => {
            let unit = 10i128.pow(6 - u32::try_from(*scale).unwrap_or(0));
            let values = frame.decimal(0)?;
            frame.timestamps(|row| {
                let micros = |v: i128| v.checked_mul(unit).and_then(|micros| i64::try_from(micros).ok());
                values.get(row).map(|v| micros(v).ok_or_else(|| errors::arithmetic_overflow("long"))).transpose()
            })
        }
        _ => scaled(&frame, MICROS_PER_SECOND),
    }
}

fn scaled(frame: &Frame, unit: i64) -> Result<ColumnarValue> {
    let values = frame.long(0)?;
    frame.timestamps(|row| values.get(row).map(|v| v.checked_mul(unit).ok_or_else(|| errors::arithmetic_overflow("long"))).transpose())
}

fn epoch_duckdb(c: &DuckCall<'_>, unit: i64) -> Result<String, String> {
    // `//` rounds towards zero; these round down.
    Ok(text::once(&c.args[0], |t| format!("CAST((epoch_us({t}) - ((epoch_us({t}) % {unit}) + {unit}) % {unit}) // {unit} AS BIGINT)")))
}

pub(crate) static TEXT: &[FunctionDef] = &[
    scalar!("date_format", [], [Ts, Str] => strict(Utf8), eval: date_format, duckdb: date_format_duckdb,
        proof: "dates-002, dates-003, dates-013, dates-023, dates-039, hard-050"),
    rewrite!("to_date", ["date"], bind: bind_to_date, proof: "dates-032, dates-034, dates-016"),
    rewrite!("try_to_date", [], bind: |ctx, args| cast_or_parse(ctx, "try_to_date", "try_parse_date", args, &Date32, true), proof: "hard-010"),
    rewrite!("to_timestamp", ["to_timestamp_ltz"], bind: |ctx, args| cast_or_parse(ctx, "to_timestamp", "parse_timestamp", args, &types::timestamp(), false), proof: "times-012, times-017"),
    rewrite!("try_to_timestamp", [], bind: |ctx, args| cast_or_parse(ctx, "try_to_timestamp", "try_parse_timestamp", args, &types::timestamp(), true), proof: "times-017"),
    rewrite!("to_timestamp_ntz", [], bind: |ctx, args| cast_or_parse(ctx, "to_timestamp_ntz", "parse_timestamp_ntz", args, &types::TIMESTAMP_NTZ, false), proof: "times-017"),
    scalar!("parse_date", [], [Str, Str] => strict(Date32), eval: |i| parse(i, false, day, as_dates),
        duckdb: |c| parse_duckdb(c, false, |t| Ok(format!("CAST({t} AS DATE)"))), proof: "dates-032"),
    scalar!("try_parse_date", [], [Str, Str] => maybe(Date32), eval: |i| parse(i, true, day, as_dates),
        duckdb: |c| parse_duckdb(c, true, |t| Ok(format!("CAST({t} AS DATE)"))), proof: "hard-010"),
    scalar!("parse_timestamp", [], [Str, Str] => strict(types::timestamp()), eval: |i| parse(i, false, instant, as_timestamps),
        duckdb: |c| parse_duckdb(c, false, |t| duck::from_local(c, t)), proof: "times-012, times-017"),
    scalar!("try_parse_timestamp", [], [Str, Str] => maybe(types::timestamp()), eval: |i| parse(i, true, instant, as_timestamps),
        duckdb: |c| parse_duckdb(c, true, |t| duck::from_local(c, t)), proof: "times-017"),
    scalar!("parse_timestamp_ntz", [], [Str, Str] => strict(types::TIMESTAMP_NTZ), eval: |i| parse(i, false, wall_clock, as_timestamps),
        duckdb: |c| parse_duckdb(c, false, |t| Ok(t.to_string())), proof: "times-017"),
    rewrite!("unix_timestamp", [], bind: |ctx, args| bind_unix_timestamp(ctx, "unix_timestamp", args), proof: "times-018, hard-088"),
    rewrite!("to_unix_timestamp", [], bind: |ctx, args| { sig::arity("to_unix_timestamp", args.len(), 1, Some(2))?; bind_unix_timestamp(ctx, "to_unix_timestamp", args) }, proof: "hard-088"),
    scalar!("unix_timestamp_of", [], [Ts] => strict(Int64), eval: |i| unix_seconds_of(i, MICROS_PER_SECOND, false),
        duckdb: |c| Ok(format!("(epoch_us({}) // 1000000)", c.args[0])), proof: "times-018, hard-088"),
    scalar!("parse_unix_timestamp", [], [Str, Str] => strict(Int64), eval: |i| parse(i, false, instant, as_seconds),
        duckdb: |c| parse_duckdb(c, false, |t| duck::utc_only(c).map(|()| format!("(epoch_us({t}) // 1000000)"))), proof: "hard-088, slt: times"),
    scalar!("from_unixtime", [], [Long, Opt, Str] => maybe(Utf8), eval: from_unixtime, duckdb: from_unixtime_duckdb, proof: "hard-088"),
    scalar!("unix_seconds", [], [Ts] => strict(Int64), eval: |i| unix_seconds_of(i, MICROS_PER_SECOND, true), duckdb: |c| epoch_duckdb(c, MICROS_PER_SECOND), proof: "times-022"),
    scalar!("unix_millis", [], [Ts] => strict(Int64), eval: |i| unix_seconds_of(i, 1000, true), duckdb: |c| epoch_duckdb(c, 1000), proof: "times-022"),
    scalar!("unix_micros", [], [Ts] => strict(Int64), eval: |i| unix_seconds_of(i, 1, true), duckdb: |c| Ok(format!("epoch_us({})", c.args[0])), proof: "times-022"),
    scalar!("timestamp_seconds", [], bind: bind_timestamp_seconds, eval: timestamp_seconds,
        duckdb: |c| match c.types[0] {
            Int64 => Ok(format!("make_timestamptz(CAST({} * 1000000 AS BIGINT))", c.args[0])),
            _ => Err("`timestamp_seconds` of fractional numbers isn't known on DuckDB".into()),
        },
        proof: "times-009"),
    scalar!("timestamp_millis", [], [Long] => strict(types::timestamp()), eval: |i| scaled(&Frame::new(i)?, 1000),
        duckdb: |c| Ok(format!("make_timestamptz(CAST({} * 1000 AS BIGINT))", c.args[0])), proof: "times-009"),
    scalar!("timestamp_micros", [], [Long] => strict(types::timestamp()), eval: eval!(timestamps; n: long => n),
        duckdb: |c| Ok(duck::timestamp_of_micros(&c.args[0])), proof: "times-009"),
];
