//! Rows that make dates, timestamps and intervals from numbers.

use arrow::datatypes::DataType::{self, Date32, Decimal128};
use arrow::datatypes::{DurationMicrosecondType, IntervalYearMonthType};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::pattern::{MICROS_PER_DAY, MICROS_PER_SECOND, days_of};
use crate::cast::session_zone;
use crate::cast::zone::Zone;
use crate::def::{BindContext, Bound, FunctionDef, Invocation, Typed};
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

fn make_year_month(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (years, months) = (frame.int(0)?, frame.int(1)?);
    frame.primitives::<IntervalYearMonthType>(|row| {
        let Some((y, m)) = years.get(row).zip(months.get(row)) else { return Ok(None) };
        y.checked_mul(12).and_then(|v| v.checked_add(m)).map(Some).ok_or_else(errors::interval_overflow)
    })
}

pub(crate) static MAKE: &[FunctionDef] = &[
    scalar!("make_date", [], [Int, Int, Int] => strict(Date32),
        eval: eval!(dates; y: int, m: int, d: int => date_of(y, m, d).ok_or_else(|| out_of_bounds(format!("{y}-{m}-{d}")))?),
        duckdb: |_| text::unknown("make_date"), proof: "dates-033, hard-071"),
    scalar!("make_timestamp", ["make_timestamp_ltz"], bind: |ctx, args| bind_make_timestamp(ctx, "make_timestamp", args, types::timestamp(), true),
        eval: |i| make_timestamp(i, false), duckdb: |_| text::unknown("make_timestamp"), proof: "unit tests"),
    scalar!("make_timestamp_ntz", [], bind: |ctx, args| bind_make_timestamp(ctx, "make_timestamp_ntz", args, types::TIMESTAMP_NTZ, false),
        eval: |i| make_timestamp(i, false), duckdb: |_| text::unknown("make_timestamp_ntz"), proof: "unit tests"),
    scalar!("try_make_timestamp", ["try_make_timestamp_ltz"],
        bind: |ctx, args| { let b = bind_make_timestamp(ctx, "try_make_timestamp", args, types::timestamp(), true)?; Ok(Bound { nullable: true, ..b }) },
        eval: |i| make_timestamp(i, true), duckdb: |_| text::unknown("try_make_timestamp"), proof: "unit tests"),
    scalar!("make_dt_interval", [], bind: |ctx, args| bind_interval(ctx, "make_dt_interval", args, DAY_TIME), eval: make_day_time,
        duckdb: |_| text::unknown("make_dt_interval"), proof: "times-019"),
    scalar!("make_ym_interval", [], bind: |ctx, args| bind_interval(ctx, "make_ym_interval", args, YEAR_MONTH), eval: make_year_month,
        duckdb: |_| text::unknown("make_ym_interval"), proof: "times-019"),
];
