//! Rows that move, compare and truncate dates and timestamps.

use arrow::datatypes::DataType::{self, Date32, Float64, Int32, Int64};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, ErrorKind, Result};

use super::duck;
use super::parts::local_micros;
use super::pattern::{MICROS_PER_DAY, MICROS_PER_SECOND, days_of, weekday};
use crate::cast::zone::Zone;
use crate::cast::{civil, session_zone};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::errors;
use crate::ops::{add_months, timestamp_plus_micros, timestamp_plus_months};
use crate::rows::{Frame, eval};
use crate::sig::{self, P, maybe, rewrite, scalar, strict};
use crate::strings::duck as text;
use crate::types;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A number of microseconds that doesn't depend on the calendar.
    Micros(i64),
    Months(i64),
}

/// `MICROSECOND` to `YEAR`, as `dateadd` and `datediff` name them.
fn unit(name: &str) -> Option<Unit> {
    Some(match name.to_ascii_uppercase().as_str() {
        "MICROSECOND" => Unit::Micros(1),
        "MILLISECOND" => Unit::Micros(1000),
        "SECOND" => Unit::Micros(MICROS_PER_SECOND),
        "MINUTE" => Unit::Micros(60 * MICROS_PER_SECOND),
        "HOUR" => Unit::Micros(3600 * MICROS_PER_SECOND),
        "DAY" | "DAYOFYEAR" => Unit::Micros(MICROS_PER_DAY),
        "WEEK" => Unit::Micros(7 * MICROS_PER_DAY),
        "MONTH" => Unit::Months(1),
        "QUARTER" => Unit::Months(3),
        "YEAR" => Unit::Months(12),
        _ => return None,
    })
}

fn literal_text(arg: &Typed) -> Option<String> {
    match arg.as_literal() {
        Some(ScalarValue::Utf8(Some(text))) => Some(text.clone()),
        _ => None,
    }
}

fn check_unit(name: &str, arg: &Typed) -> Result<()> {
    match literal_text(arg) {
        Some(text) if unit(&text).is_some() => Ok(()),
        Some(text) => Err(Error::classed(
            ErrorKind::InvalidArgument,
            "INVALID_PARAMETER_VALUE.DATETIME_UNIT",
            "22023",
            format!(
                "The unit of `{name}` must be one of YEAR, QUARTER, MONTH, WEEK, DAY, DAYOFYEAR, HOUR, MINUTE, SECOND, MILLISECOND, MICROSECOND, not '{text}'."
            ),
        )),
        None => Err(Error::internal(format!("the unit of {name} must be a literal"))),
    }
}

/// The unit comes as a literal text.
fn bind_timestamp_add(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "timestampadd";
    let args = sig::cast_all(ctx, NAME, args, &[P::Str, P::Long, P::AnyTs])?;
    check_unit(NAME, &args[0])?;
    let ret = args[2].ty.clone();
    Ok(sig::bound(args, strict(ret)))
}

fn unit_of(frame: &Frame) -> Result<Unit> {
    frame.text(0)?.get(0).and_then(unit).ok_or_else(|| Error::internal("a date function without its unit"))
}

fn timestamp_add(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let unit = unit_of(&frame)?;
    let (count, values) = (frame.long(1)?, frame.micros(2)?);
    let zone = if matches!(frame.ret(), DataType::Timestamp(_, Some(_))) { session_zone(invocation.time_zone)? } else { Zone::UTC };
    frame.timestamps(|row| {
        let Some((count, value)) = count.get(row).zip(values.get(row)) else { return Ok(None) };
        let moved = match unit {
            Unit::Micros(micros) => count.checked_mul(micros).and_then(|m| timestamp_plus_micros(value, m, zone)),
            Unit::Months(months) => count.checked_mul(months).and_then(|m| timestamp_plus_months(value, m, zone)),
        };
        moved.map(Some).ok_or_else(errors::datetime_overflow)
    })
}

fn timestamp_add_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let unit = text::text(c, 0).and_then(unit).ok_or("the unit isn't a literal")?;
    let local = duck::local(c, 2)?;
    let count = text::int(c, 1).filter(|n| n.abs() < 1_000_000_000);
    let Some(count) = count else { return computed_add_duckdb(c, unit, &local) };
    let moved = match unit {
        Unit::Micros(micros) => {
            format!("({local} + to_microseconds(CAST({} AS BIGINT)))", count.checked_mul(micros).ok_or("an interval is too long")?)
        }
        Unit::Months(months) => format!("({local} + to_months(CAST({} AS INTEGER)))", count * months),
    };
    duck::from_local(c, &moved)
}

/// Counts that keep far from the ends of DuckDB's timestamps.
fn computed_add_duckdb(c: &DuckCall<'_>, unit: Unit, local: &str) -> Result<String, String> {
    let refuse = text::refuse_value("A date or time this far away isn't known on DuckDB.");
    let (most, step) = match unit {
        Unit::Micros(micros) => (4_000_000_000_000_000_000 / micros, format!("to_microseconds({{n}} * CAST({micros} AS BIGINT))")),
        Unit::Months(months) => (1_000_000 / months, format!("to_months(CAST({{n}} * {months} AS INTEGER))")),
    };
    let moved = duck::from_local(c, "(fp_p.a + {step})")?;
    let n = format!("CAST({} AS BIGINT)", c.args[1]);
    Ok(text::once2(local, &n, |_, n| {
        let moved = moved.replace("{step}", &step.replace("{n}", n));
        format!("CASE WHEN {n} NOT BETWEEN -{most} AND {most} THEN {refuse} ELSE {moved} END")
    }))
}

/// Full units from the second to the third argument, by their wall clocks.
fn bind_timestamp_diff(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "timestampdiff";
    let args = sig::cast_all(ctx, NAME, args, &[P::Str, P::Ts, P::Ts])?;
    check_unit(NAME, &args[0])?;
    Ok(sig::bound(args, strict(Int64)))
}

fn timestamp_diff(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let unit = unit_of(&frame)?;
    let (start, end) = (local_micros(&frame, invocation, 1)?, local_micros(&frame, invocation, 2)?);
    frame.longs(|row| {
        let Some((start, end)) = start(row).zip(end(row)) else { return Ok(None) };
        match unit {
            Unit::Micros(micros) => end.checked_sub(start).map(|d| Some(d / micros)).ok_or_else(errors::datetime_overflow),
            Unit::Months(months) => Ok(Some(full_months(start, end) / months)),
        }
    })
}

/// Java's count: the end moves a day towards the start when its time of day lies behind, then
/// whole months are counted by dates.
fn full_months(start: i64, end: i64) -> i64 {
    let (from, mut to) = (start.div_euclid(MICROS_PER_DAY), end.div_euclid(MICROS_PER_DAY));
    let (from_time, to_time) = (start.rem_euclid(MICROS_PER_DAY), end.rem_euclid(MICROS_PER_DAY));
    if to > from && to_time < from_time {
        to -= 1;
    } else if to < from && to_time > from_time {
        to += 1;
    }
    let packed = |days: i64| {
        let (year, month, day) = civil(days);
        (year * 12 + i64::from(month)) * 32 + i64::from(day)
    };
    (packed(to) - packed(from)) / 32
}

fn timestamp_diff_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let unit = text::text(c, 0).and_then(unit).ok_or("the unit isn't a literal")?;
    let (start, end) = (duck::local(c, 1)?, duck::local(c, 2)?);
    Ok(match unit {
        Unit::Micros(micros) => format!("((epoch_us({end}) - epoch_us({start})) // {micros})"),
        Unit::Months(months) => text::once2(&start, &end, |a, b| {
            let day = |x: &str| format!("CAST({x} AS DATE)");
            let time = |x: &str| format!("CAST({x} AS TIME)");
            let (d1, d2, t1, t2) = (day(a), day(b), time(a), time(b));
            let to = format!("({d2} + CASE WHEN {d2} > {d1} AND {t2} < {t1} THEN -1 WHEN {d2} < {d1} AND {t2} > {t1} THEN 1 ELSE 0 END)");
            let packed = |d: &str| format!("((year({d}) * 12 + month({d})) * 32 + day({d}))");
            format!("CAST((({} - {}) // 32) // {months} AS BIGINT)", packed(&to), packed(&d1))
        }),
    })
}

/// `date_add(d, n)`, `date_add(unit, n, t)`; the same for `dateadd`.
fn bind_date_add(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    sig::call_by_name(ctx, if args.len() == 3 { "timestampadd" } else { "date_add_days" }, args)
}

/// `datediff(end, start)` in days, `datediff(unit, start, end)`.
fn bind_date_diff(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    sig::call_by_name(ctx, if args.len() == 3 { "timestampdiff" } else { "date_diff_days" }, args)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Level {
    Micros(i64),
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

fn level(name: &str) -> Option<Level> {
    Some(match name.to_ascii_uppercase().as_str() {
        "MICROSECOND" => Level::Micros(1),
        "MILLISECOND" => Level::Micros(1000),
        "SECOND" => Level::Micros(MICROS_PER_SECOND),
        "MINUTE" => Level::Micros(60 * MICROS_PER_SECOND),
        "HOUR" => Level::Micros(3600 * MICROS_PER_SECOND),
        "DAY" | "DD" => Level::Day,
        "WEEK" => Level::Week,
        "MONTH" | "MM" | "MON" => Level::Month,
        "QUARTER" => Level::Quarter,
        "YEAR" | "YYYY" | "YY" => Level::Year,
        _ => return None,
    })
}

/// `trunc` of a DATE knows weeks and longer only.
fn date_level(name: &str) -> Option<Level> {
    level(name).filter(|l| matches!(l, Level::Week | Level::Month | Level::Quarter | Level::Year))
}

fn truncate_days(days: i64, level: Level) -> Option<i64> {
    let (year, month, _) = civil(days);
    match level {
        Level::Micros(_) | Level::Day => Some(days),
        Level::Week => Some(days - weekday(days) as i64),
        Level::Month => days_of(year, i64::from(month), 1),
        Level::Quarter => days_of(year, i64::from((month - 1) / 3 * 3 + 1), 1),
        Level::Year => days_of(year, 1, 1),
    }
}

fn truncate(instant: i64, level: Level, zone: Zone) -> Option<i64> {
    let local = zone.to_local(instant)?;
    if let Level::Micros(unit) = level {
        let truncated = local - local.rem_euclid(unit);
        // In an hour that occurs twice the same one is kept.
        let same_offset = truncated.checked_sub(local - instant)?;
        return if zone.to_local(same_offset) == Some(truncated) { Some(same_offset) } else { zone.to_instant(truncated) };
    }
    zone.to_instant(truncate_days(local.div_euclid(MICROS_PER_DAY), level)?.checked_mul(MICROS_PER_DAY)?)
}

fn date_trunc(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (levels, values) = (frame.text(0)?, frame.micros(1)?);
    let zone = session_zone(invocation.time_zone)?;
    frame.timestamps(|row| {
        let Some((name, value)) = levels.get(row).zip(values.get(row)) else { return Ok(None) };
        let Some(level) = level(name) else { return Ok(None) };
        truncate(value, level, zone).map(Some).ok_or_else(errors::datetime_overflow)
    })
}

fn duck_level(level: Level) -> &'static str {
    match level {
        Level::Micros(1) => "microseconds",
        Level::Micros(1000) => "milliseconds",
        Level::Micros(MICROS_PER_SECOND) => "second",
        Level::Micros(n) if n == 60 * MICROS_PER_SECOND => "minute",
        Level::Micros(_) => "hour",
        Level::Day => "day",
        Level::Week => "week",
        Level::Month => "month",
        Level::Quarter => "quarter",
        Level::Year => "year",
    }
}

fn date_trunc_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let name = text::text(c, 0).ok_or("`date_trunc` with a computed unit isn't known on DuckDB")?;
    let Some(level) = level(name) else { return Ok("CAST(NULL AS TIMESTAMPTZ)".into()) };
    duck::from_local(c, &format!("date_trunc('{}', {})", duck_level(level), duck::local(c, 1)?))
}

/// `next_day`: the weekday after the day, by at least two letters of its name.
fn weekday_of(name: &str) -> Option<usize> {
    Some(match name.to_ascii_uppercase().as_str() {
        "MO" | "MON" | "MONDAY" => 0,
        "TU" | "TUE" | "TUESDAY" => 1,
        "WE" | "WED" | "WEDNESDAY" => 2,
        "TH" | "THU" | "THURSDAY" => 3,
        "FR" | "FRI" | "FRIDAY" => 4,
        "SA" | "SAT" | "SATURDAY" => 5,
        "SU" | "SUN" | "SUNDAY" => 6,
        _ => return None,
    })
}

fn next_day(days: i32, name: &str) -> Result<Option<i32>> {
    let Some(wanted) = weekday_of(name) else {
        return Err(Error::raised(
            "ILLEGAL_DAY_OF_WEEK",
            "22009",
            format!("Illegal input for day of week: {name}. Use at least the first two letters of an English weekday."),
        ));
    };
    let ahead = (wanted + 6 - weekday(i64::from(days))) % 7 + 1;
    Ok(days.checked_add(ahead as i32))
}

fn last_day(days: i32) -> Option<i32> {
    let (year, month, _) = civil(i64::from(days));
    let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_of(year, i64::from(month), 1).and_then(|d| i32::try_from(d - 1).ok())
}

fn months_between(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (a, b) = (local_micros(&frame, invocation, 0)?, local_micros(&frame, invocation, 1)?);
    let round = if frame.len() > 2 { Some(frame.boolean(2)?) } else { None };
    frame.doubles(|row| {
        let Some((a, b)) = a(row).zip(b(row)) else { return Ok(None) };
        let Some(round) = round.as_ref().map_or(Some(true), |r| r.get(row)) else { return Ok(None) };
        Ok(Some(months_from(a, b, round)))
    })
}

/// Months of 31 days; two last days of months, or equal days, are a whole number apart.
fn months_from(a: i64, b: i64, round: bool) -> f64 {
    let split = |local: i64| {
        let days = local.div_euclid(MICROS_PER_DAY);
        let (year, month, day) = civil(days);
        let is_last = civil(days + 1).1 != month;
        (year * 12 + i64::from(month), i64::from(day), is_last, local.rem_euclid(MICROS_PER_DAY) / MICROS_PER_SECOND)
    };
    let ((m1, d1, last1, s1), (m2, d2, last2, s2)) = (split(a), split(b));
    let months = (m1 - m2) as f64;
    if d1 == d2 || (last1 && last2) {
        return months;
    }
    let seconds = (d1 - d2) * 86_400 + s1 - s2;
    let difference = months + seconds as f64 / (31.0 * 86_400.0);
    // Java's round: half towards positive infinity.
    if round { (difference * 1e8 + 0.5).floor() / 1e8 } else { difference }
}

fn months_between_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let round = match c.literals.get(2) {
        None => true,
        Some(Some(ScalarValue::Boolean(Some(round)))) => *round,
        _ => return Err("`months_between` with a computed rounding isn't known on DuckDB".into()),
    };
    Ok(text::once2(&duck::local(c, 0)?, &duck::local(c, 1)?, |a, b| {
        let month = |t: &str| format!("(year({t}) * 12 + month({t}))");
        let seconds = |t: &str| format!("(day({t}) * 86400 + hour({t}) * 3600 + minute({t}) * 60 + second({t}))");
        let is_last = |t: &str| format!("last_day(CAST({t} AS DATE)) = CAST({t} AS DATE)");
        let whole = format!("CAST({} - {} AS DOUBLE)", month(a), month(b));
        let part = format!("({whole} + CAST({} - {} AS DOUBLE) / CAST(2678400 AS DOUBLE))", seconds(a), seconds(b));
        let part = if round { format!("floor({part} * CAST(1e8 AS DOUBLE) + CAST(0.5 AS DOUBLE)) / CAST(1e8 AS DOUBLE)") } else { part };
        format!(
            "CASE WHEN {a} IS NULL OR {b} IS NULL THEN NULL WHEN day({a}) = day({b}) OR ({} AND {}) THEN {whole} ELSE {part} END",
            is_last(a),
            is_last(b)
        )
    }))
}

fn duck_date_shift(c: &DuckCall<'_>, sign: &str) -> Result<String, String> {
    Ok(format!("({} {sign} {})", c.args[0], c.args[1]))
}

pub(crate) static SHIFT: &[FunctionDef] = &[
    rewrite!("date_add", ["dateadd"], bind: bind_date_add, proof: "dates-018, dates-029, hard-011"),
    rewrite!("datediff", ["date_diff"], bind: bind_date_diff, proof: "dates-038, times-014, hard-084"),
    scalar!("date_add_days", [], [Date, Int] => strict(Date32),
        eval: eval!(dates; d: date, n: int => d.checked_add(n).ok_or_else(errors::datetime_overflow)?),
        duckdb: |c| duck_date_shift(c, "+"), proof: "dates-018, hard-011"),
    scalar!("date_sub", [], [Date, Int] => strict(Date32),
        eval: eval!(dates; d: date, n: int => d.checked_sub(n).ok_or_else(errors::datetime_overflow)?),
        duckdb: |c| duck_date_shift(c, "-"), proof: "hard-011"),
    scalar!("date_diff_days", [], [Date, Date] => strict(Int32),
        eval: eval!(ints; end: date, start: date => end.wrapping_sub(start)),
        duckdb: |c| Ok(format!("CAST({} - {} AS INTEGER)", c.args[0], c.args[1])), proof: "dates-014, dates-019, dates-038"),
    scalar!("timestampadd", [], bind: bind_timestamp_add, eval: timestamp_add, duckdb: timestamp_add_duckdb, proof: "times-006, dates-029, slt: date_rules"),
    scalar!("timestampdiff", [], bind: bind_timestamp_diff, eval: timestamp_diff, duckdb: timestamp_diff_duckdb, proof: "times-014, times-037, hard-030, hard-084"),
    scalar!("add_months", [], [Date, Int] => strict(Date32),
        eval: eval!(dates; d: date, n: int => add_months(i64::from(d), i64::from(n)).ok_or_else(errors::datetime_overflow)?),
        duckdb: |c| Ok(format!("CAST({} + to_months({}) AS DATE)", c.args[0], c.args[1])), proof: "dates-022, hard-077"),
    scalar!("months_between", [], [Ts, Ts, Opt, Bool] => strict(Float64), eval: months_between, duckdb: months_between_duckdb, proof: "dates-006, slt: date_rules"),
    scalar!("last_day", [], [Date] => strict(Date32),
        eval: eval!(dates; d: date => last_day(d).ok_or_else(errors::datetime_overflow)?),
        duckdb: |c| Ok(format!("last_day({})", c.args[0])), proof: "dates-018"),
    scalar!("next_day", [], [Date, Str] => maybe(Date32),
        eval: eval!(dates; d: date, name: text =>? next_day(d, name)?),
        duckdb: |c| match text::text(c, 1).and_then(weekday_of) {
            Some(wanted) => Ok(text::once(&c.args[0], |d| format!("({d} + CAST(({wanted} + 7 - isodow({d})) % 7 + 1 AS INTEGER))"))),
            None => Err("`next_day` with a computed or wrong weekday isn't known on DuckDB".into()),
        },
        proof: "dates-011, dates-024, dates-025"),
    scalar!("trunc", [], [Date, Str] => maybe(Date32),
        eval: eval!(dates; d: date, name: text =>? match date_level(name) {
            Some(level) => truncate_days(i64::from(d), level).and_then(|d| i32::try_from(d).ok()),
            None => None,
        }),
        duckdb: |c| match text::text(c, 1) {
            Some(name) => Ok(match date_level(name) {
                Some(level) => format!("CAST(date_trunc('{}', {}) AS DATE)", duck_level(level), c.args[0]),
                None => "CAST(NULL AS DATE)".into(),
            }),
            None => Err("`trunc` with a computed unit isn't known on DuckDB".into()),
        },
        proof: "dates-010, dates-015"),
    scalar!("date_trunc", [], [Str, Ts] => maybe(types::timestamp()), eval: date_trunc, duckdb: date_trunc_duckdb, proof: "dates-001, dates-027, times-013"),
];
