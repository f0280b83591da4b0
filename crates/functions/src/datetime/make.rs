//! Rows that make dates, timestamps and intervals from numbers.

use arrow::datatypes::DataType::{self, Date32, Decimal128};
use arrow::datatypes::{DurationMicrosecondType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalYearMonthType};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::pattern::{MICROS_PER_DAY, MICROS_PER_SECOND, days_of};
use crate::cast::session_zone;
use crate::cast::zone::Zone;
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::errors;
use crate::rows::{Frame, eval};
use crate::sig::{self, P, scalar, strict};
use crate::strings::duck as text;
use crate::types::{self, DAY_TIME, YEAR_MONTH};

/// Seconds with microseconds: what `make_timestamp` takes.
const SECONDS: DataType = Decimal128(16, 6);
/// The same for intervals.
const INTERVAL_SECONDS: DataType = Decimal128(18, 6);

fn out_of_bounds(what: impl std::fmt::Display) -> Error {
    Error::raised(
        "DATETIME_FIELD_OUT_OF_BOUNDS.WITHOUT_SUGGESTION",
        "22023",
        format!("{what} isn't a valid date or time. If necessary, use a `try_` function to return NULL instead."),
    )
}

fn date_of(year: i32, month: i32, day: i32) -> Option<i32> {
    days_of(i64::from(year), i64::from(month), i64::from(day)).and_then(|d| i32::try_from(d).ok())
}

fn bind_make_timestamp(ctx: &BindContext, name: &str, args: Vec<Typed>, ty: DataType, with_zone: bool) -> Result<Bound> {
    let max = if with_zone { 7 } else { 6 };
    sig::arity(name, args.len(), 6, Some(max))?;
    let args = args
        .into_iter()
        .enumerate()
        .map(|(i, a)| match i {
            0..=4 => sig::cast(ctx, name, i, a, P::Int),
            // Seconds may come as any number; more than six places are an error of the cast.
            5 if types::is_numeric(&a.ty) => crate::cast::cast(ctx, a, &SECONDS),
            5 => sig::cast_to(ctx, name, i, a, &SECONDS),
            _ => sig::cast(ctx, name, i, a, P::Str),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(sig::bound(args, strict(ty)))
}

fn make_timestamp(invocation: &Invocation<'_>, tolerate: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let parts = (0..5).map(|i| frame.int(i)).collect::<Result<Vec<_>>>()?;
    let seconds = frame.decimal(5)?;
    let zones = if frame.len() > 6 { Some(frame.text(6)?) } else { None };
    let session = if matches!(frame.ret(), DataType::Timestamp(_, Some(_))) { session_zone(invocation.time_zone)? } else { Zone::UTC };
    frame.timestamps(|row| {
        let Some(numbers) = parts.iter().map(|p| p.get(row)).collect::<Option<Vec<i32>>>() else { return Ok(None) };
        let Some(seconds) = seconds.get(row) else { return Ok(None) };
        let zone = match &zones {
            None => session,
            Some(zones) => match zones.get(row) {
                Some(name) => Zone::parse(name)
                    .ok_or_else(|| Error::raised("INVALID_TIMEZONE", "22009", format!("The timezone: {name} is invalid.")))?,
                None => return Ok(None),
            },
        };
        let made = wall_clock(&numbers, seconds).and_then(|local| zone.to_instant(local));
        match made {
            Some(value) => Ok(Some(value)),
            None if tolerate => Ok(None),
            None => Err(out_of_bounds(format!("{}-{}-{} {}:{}", numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]))),
        }
    })
}

/// 60 whole seconds count as the next minute's first.
fn wall_clock(numbers: &[i32], micros: i128) -> Option<i64> {
    let days = i64::from(date_of(numbers[0], numbers[1], numbers[2])?);
    let (hour, minute, micros) = (i64::from(numbers[3]), i64::from(numbers[4]), i64::try_from(micros).ok()?);
    let minute_micros = 60 * MICROS_PER_SECOND;
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=minute_micros).contains(&micros) {
        return None;
    }
    days.checked_mul(MICROS_PER_DAY)?.checked_add((hour * 60 + minute) * minute_micros + micros)
}

fn bind_interval(ctx: &BindContext, name: &str, mut args: Vec<Typed>, ty: DataType) -> Result<Bound> {
    let max = if ty == DAY_TIME { 4 } else { 2 };
    sig::arity(name, args.len(), 0, Some(max))?;
    while args.len() < max {
        args.push(Typed::literal(ScalarValue::Int32(Some(0))));
    }
    let args = args
        .into_iter()
        .enumerate()
        .map(|(i, a)| match i {
            3 if types::is_numeric(&a.ty) => crate::cast::cast(ctx, a, &INTERVAL_SECONDS),
            3 => sig::cast_to(ctx, name, i, a, &INTERVAL_SECONDS),
            _ => sig::cast(ctx, name, i, a, P::Int),
        })
        .collect::<Result<Vec<_>>>()?;
    // The default of seconds is a literal that fits: it adds no NULL.
    Ok(sig::bound(args, strict(ty)))
}

fn make_day_time(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (days, hours, minutes, seconds) = (frame.int(0)?, frame.int(1)?, frame.int(2)?, frame.decimal(3)?);
    frame.primitives::<DurationMicrosecondType>(|row| {
        let Some((((d, h), m), s)) = days.get(row).zip(hours.get(row)).zip(minutes.get(row)).zip(seconds.get(row)) else { return Ok(None) };
        let minute = 60 * i128::from(MICROS_PER_SECOND);
        let total = i128::from(d) * i128::from(MICROS_PER_DAY) + (i128::from(h) * 60 + i128::from(m)) * minute + s;
        i64::try_from(total).map(Some).map_err(|_| errors::interval_overflow())
    })
}

fn bind_mixed(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "make_interval";
    sig::arity(NAME, args.len(), 0, Some(7))?;
    while args.len() < 7 {
        args.push(Typed::literal(ScalarValue::Int32(Some(0))));
    }
    let args = args
        .into_iter()
        .enumerate()
        .map(|(i, a)| match i {
            6 if types::is_numeric(&a.ty) => crate::cast::cast(ctx, a, &INTERVAL_SECONDS),
            6 => sig::cast_to(ctx, NAME, i, a, &INTERVAL_SECONDS),
            _ => sig::cast(ctx, NAME, i, a, P::Int),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(sig::bound(args, strict(types::MIXED_INTERVAL)))
}

/// Years, months, weeks, days, hours, minutes and seconds.
fn make_mixed(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let parts = (0..6).map(|i| frame.int(i)).collect::<Result<Vec<_>>>()?;
    let seconds = frame.decimal(6)?;
    frame.primitives::<IntervalMonthDayNanoType>(|row| {
        let Some(n) = parts.iter().map(|p| p.get(row).map(i128::from)).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let Some(seconds) = seconds.get(row) else { return Ok(None) };
        let micros = (n[4] * 60 + n[5]) * 60 * i128::from(MICROS_PER_SECOND) + seconds;
        let made = i32::try_from(n[0] * 12 + n[1]).ok().zip(i32::try_from(n[2] * 7 + n[3]).ok()).zip(i64::try_from(micros * 1_000).ok());
        made.map(|((months, days), nanos)| Some(IntervalMonthDayNano::new(months, days, nanos))).ok_or_else(errors::interval_overflow)
    })
}

fn make_mixed_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let [years, months, weeks, days, hours, minutes, seconds] = c.args else { return Err("an interval has seven parts".into()) };
    // DuckDB raises for numbers beyond its own, by a class of its own.
    let micros =
        format!("CAST({hours} AS BIGINT) * 3600000000 + CAST({minutes} AS BIGINT) * 60000000 + CAST({seconds} * 1000000 AS BIGINT)");
    Ok(format!(
        "(to_months(CAST(CAST({years} AS BIGINT) * 12 + {months} AS INTEGER)) + to_days(CAST(CAST({weeks} AS BIGINT) * 7 + {days} AS INTEGER)) + to_microseconds({micros}))"
    ))
}

fn make_year_month(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (years, months) = (frame.int(0)?, frame.int(1)?);
    frame.primitives::<IntervalYearMonthType>(|row| {
        let Some((y, m)) = years.get(row).zip(months.get(row)) else { return Ok(None) };
        y.checked_mul(12).and_then(|v| v.checked_add(m)).map(Some).ok_or_else(errors::interval_overflow)
    })
}

fn make_date_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let message = "'The given year, month and day aren''t a valid date. If necessary, use a `try_` function to return NULL instead.'";
    let raise = crate::duckdb::raise("DATETIME_FIELD_OUT_OF_BOUNDS.WITHOUT_SUGGESTION", "22023", message);
    // Beyond these years DuckDB's dates and Databricks' don't end alike.
    let far = text::refuse_value("Years outside 0 to 9999 aren't known on DuckDB.");
    Ok(text::once_all(c.args, |a| {
        let (y, m, d) = (&a[0], &a[1], &a[2]);
        let last = format!("day(last_day(make_date({y}, {m}, 1)))");
        format!(
            "CASE WHEN {} THEN NULL WHEN {m} NOT BETWEEN 1 AND 12 OR {d} NOT BETWEEN 1 AND 31 THEN {raise} WHEN {y} NOT BETWEEN 0 AND 9999 THEN {far} \
             WHEN {d} > {last} THEN {raise} ELSE make_date({y}, {m}, {d}) END",
            text::any_null(a)
        )
    }))
}

/// Of six parts; `tolerate`: NULL for what is no date or time.
fn make_timestamp_duckdb(c: &DuckCall<'_>, tolerate: bool) -> Result<String, String> {
    if c.args.len() != 6 {
        return Err("a timestamp made in a zone that is named isn't known on DuckDB".into());
    }
    let message = "'The given parts aren''t a valid date or time. If necessary, use a `try_` function to return NULL instead.'";
    let raise = match tolerate {
        true => "NULL".to_string(),
        false => crate::duckdb::raise("DATETIME_FIELD_OUT_OF_BOUNDS.WITHOUT_SUGGESTION", "22023", message),
    };
    let far = text::refuse_value("Years outside 0 to 9999 aren't known on DuckDB.");
    let made = text::once_all(c.args, |a| {
        let [y, m, d, hour, minute, second] = a else { return String::new() };
        let last = format!("day(last_day(make_date({y}, {m}, 1)))");
        let of_day =
            format!("CAST({hour} AS BIGINT) * 3600000000 + CAST({minute} AS BIGINT) * 60000000 + CAST({second} * 1000000 AS BIGINT)");
        format!(
            "CASE WHEN {} THEN NULL WHEN {m} NOT BETWEEN 1 AND 12 OR {d} NOT BETWEEN 1 AND 31 OR {hour} NOT BETWEEN 0 AND 23 \
             OR {minute} NOT BETWEEN 0 AND 59 OR {second} NOT BETWEEN 0 AND 60 THEN {raise} WHEN {y} NOT BETWEEN 0 AND 9999 THEN {far} \
             WHEN {d} > {last} THEN {raise} ELSE make_timestamp(epoch_us(make_date({y}, {m}, {d})) + {of_day}) END",
            text::any_null(a)
        )
    });
    super::duck::from_local(c, &made)
}

fn make_ym_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let made = crate::ops::rules::interval_of(c.ret, "fp_v", &crate::ops::rules::interval_overflow());
    Ok(format!("list_transform([CAST({} AS HUGEINT) * 12 + {}], lambda fp_v: {made})[1]", c.args[0], c.args[1]))
}

fn make_dt_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let made = crate::ops::rules::interval_of(c.ret, "fp_v", &crate::ops::rules::interval_overflow());
    let [days, hours, minutes, seconds] = c.args else { return Err("an interval of days has four parts".into()) };
    Ok(format!(
        "list_transform([CAST({days} AS HUGEINT) * 86400000000 + CAST({hours} AS HUGEINT) * 3600000000 + CAST({minutes} AS HUGEINT) * 60000000 + CAST({seconds} * 1000000 AS HUGEINT)], lambda fp_v: {made})[1]"
    ))
}

pub(crate) static MAKE: &[FunctionDef] = &[
    scalar!("make_date", [], [Int, Int, Int] => strict(Date32),
        eval: eval!(dates; y: int, m: int, d: int => date_of(y, m, d).ok_or_else(|| out_of_bounds(format!("{y}-{m}-{d}")))?),
        duckdb: make_date_duckdb, proof: "dates-033, hard-071, slt: date_rules"),
    scalar!("make_timestamp", ["make_timestamp_ltz"], bind: |ctx, args| bind_make_timestamp(ctx, "make_timestamp", args, types::timestamp(), true),
        eval: |i| make_timestamp(i, false), duckdb: |c| make_timestamp_duckdb(c, false), proof: "slt: times"),
    scalar!("make_timestamp_ntz", [], bind: |ctx, args| bind_make_timestamp(ctx, "make_timestamp_ntz", args, types::TIMESTAMP_NTZ, false),
        eval: |i| make_timestamp(i, false), duckdb: |c| make_timestamp_duckdb(c, false), proof: "slt: times"),
    scalar!("try_make_timestamp", ["try_make_timestamp_ltz"],
        bind: |ctx, args| { let b = bind_make_timestamp(ctx, "try_make_timestamp", args, types::timestamp(), true)?; Ok(Bound { nullable: true, ..b }) },
        eval: |i| make_timestamp(i, true), duckdb: |c| make_timestamp_duckdb(c, true), proof: "slt: times"),
    scalar!("try_make_timestamp_ntz", [],
        bind: |ctx, args| { let b = bind_make_timestamp(ctx, "try_make_timestamp_ntz", args, types::TIMESTAMP_NTZ, false)?; Ok(Bound { nullable: true, ..b }) },
        eval: |i| make_timestamp(i, true), duckdb: |c| make_timestamp_duckdb(c, true), proof: "slt: times"),
    scalar!("make_dt_interval", [], bind: |ctx, args| bind_interval(ctx, "make_dt_interval", args, DAY_TIME), eval: make_day_time,
        duckdb: make_dt_duckdb, proof: "times-019, slt: intervals"),
    scalar!("make_interval", [], bind: bind_mixed, eval: make_mixed, duckdb: make_mixed_duckdb, proof: "times-005, times-024, times-027, dates-018"),
    scalar!("make_ym_interval", [], bind: |ctx, args| bind_interval(ctx, "make_ym_interval", args, YEAR_MONTH), eval: make_year_month,
        duckdb: make_ym_duckdb, proof: "times-019, slt: intervals"),
];
