//! Arithmetic on dates, timestamps and intervals. Wall clocks are the session's; months end where
//! the calendar ends them, days are calendar days, the rest is elapsed time.

use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float64Type, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalYearMonthType, TimeUnit, TimestampMicrosecondType, i256,
};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::arithmetic::operator_bind;
use super::kernel::{binary, unary};
use super::rules;
use crate::cast::zone::Zone;
use crate::cast::{Mode, civil, days_from_civil, power_of_ten, session_zone};
use crate::def::{Invocation, ScalarDef};
use crate::errors;

const MICROS_PER_DAY: i64 = 86_400_000_000;

macro_rules! temporal {
    ($($id:ident / $try_id:ident $name:literal / $try_name:literal $eval:expr, $rule:path, $proof:literal;)*) => {
        $(
            pub(crate) static $id: ScalarDef = ScalarDef {
                name: $name,
                aliases: &[],
                bind: operator_bind,
                eval: |call| $eval(call, Mode::Ansi),
                duckdb: |call| $rule(call, Mode::Ansi),
                proof: $proof,
                deterministic: true,
            };
            pub(crate) static $try_id: ScalarDef = ScalarDef {
                name: $try_name,
                aliases: &[],
                bind: operator_bind,
                eval: |call| $eval(call, Mode::Try),
                duckdb: |call| $rule(call, Mode::Try),
                proof: $proof,
                deterministic: true,
            };
        )*
    };
}

temporal! {
    DATE_PLUS_DAYS / TRY_DATE_PLUS_DAYS "date_plus_days" / "try_date_plus_days" date_plus_days, rules::date_plus_days, "corpus: hard-077";
    DATE_MINUS_DAYS / TRY_DATE_MINUS_DAYS "date_minus_days" / "try_date_minus_days" date_minus_days, rules::date_minus_days, "corpus: area dates";
    DATE_DIFFERENCE / TRY_DATE_DIFFERENCE "date_difference" / "try_date_difference" date_difference, rules::date_difference, "corpus: hard-029";
    TIMESTAMP_DIFFERENCE / TRY_TIMESTAMP_DIFFERENCE "timestamp_difference" / "try_timestamp_difference" timestamp_difference, rules::timestamp_difference, "corpus: times-025, times-037";
    PLUS_MONTHS / TRY_PLUS_MONTHS "plus_months" / "try_plus_months" plus_months, rules::plus_months, "corpus: hard-077, times-011";
    MINUS_MONTHS / TRY_MINUS_MONTHS "minus_months" / "try_minus_months" minus_months, rules::minus_months, "corpus: times-011, times-033";
    PLUS_DURATION / TRY_PLUS_DURATION "plus_duration" / "try_plus_duration" plus_duration, rules::plus_duration, "corpus: times-010, times-011";
    MINUS_DURATION / TRY_MINUS_DURATION "minus_duration" / "try_minus_duration" minus_duration, rules::minus_duration, "corpus: times-011";
    PLUS_MIXED / TRY_PLUS_MIXED "plus_mixed" / "try_plus_mixed" plus_mixed, rules::plus_mixed, "corpus: times-024, times-027, dates-018";
    MINUS_MIXED / TRY_MINUS_MIXED "minus_mixed" / "try_minus_mixed" minus_mixed, rules::minus_mixed, "slt: intervals";
    INTERVAL_ADD / TRY_INTERVAL_ADD "interval_add" / "try_interval_add" interval_add, rules::interval_add, "corpus: times-007, times-033";
    INTERVAL_SUBTRACT / TRY_INTERVAL_SUBTRACT "interval_subtract" / "try_interval_subtract" interval_subtract, rules::interval_subtract, "corpus: times-007";
    INTERVAL_MULTIPLY / TRY_INTERVAL_MULTIPLY "interval_multiply" / "try_interval_multiply" interval_multiply, rules::interval_multiply, "corpus: times-032, slt: intervals";
    INTERVAL_DIVIDE / TRY_INTERVAL_DIVIDE "interval_divide" / "try_interval_divide" interval_divide, rules::interval_divide, "corpus: times-032, times-036, slt: intervals";
}

pub(crate) static INTERVAL_NEGATE: ScalarDef = ScalarDef {
    name: "interval_negate",
    aliases: &[],
    bind: operator_bind,
    eval: |call| interval_negate(call, Mode::Ansi),
    duckdb: |call| rules::interval_negate(call, Mode::Ansi),
    proof: "corpus: times-032",
    deterministic: true,
};

fn operand_type(call: &Invocation<'_>, index: usize) -> Result<DataType> {
    call.args.get(index).map(ColumnarValue::data_type).ok_or_else(|| Error::internal("an operator was called with too few operands"))
}

fn unexpected(call: &Invocation<'_>) -> Error {
    let types: Vec<String> = call.args.iter().map(|a| a.data_type().to_string()).collect();
    Error::internal(format!("date arithmetic on {}", types.join(", ")))
}

fn flag<T: Default>(value: Option<T>) -> (T, bool) {
    match value {
        Some(v) => (v, false),
        None => (T::default(), true),
    }
}

fn date_plus_days(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    binary::<Date32Type, Int32Type, Date32Type>(call, mode, i32::overflowing_add, |_, _| errors::datetime_overflow())
}

fn date_minus_days(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    binary::<Date32Type, Int32Type, Date32Type>(call, mode, i32::overflowing_sub, |_, _| errors::datetime_overflow())
}

fn date_difference(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    binary::<Date32Type, Date32Type, DurationMicrosecondType>(
        call,
        mode,
        |a, b| flag((i64::from(a) - i64::from(b)).checked_mul(MICROS_PER_DAY)),
        |_, _| errors::interval_overflow(),
    )
}

/// Between wall clocks, so that a day with a jump counts 24 hours.
fn timestamp_difference(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    let zone = zone_of(call, 0)?;
    binary::<TimestampMicrosecondType, TimestampMicrosecondType, DurationMicrosecondType>(
        call,
        mode,
        |a, b| flag(zone.to_local(a).and_then(|a| a.checked_sub(zone.to_local(b)?))),
        |_, _| errors::interval_overflow(),
    )
}

/// The session's zone for TIMESTAMP; none moves a TIMESTAMP_NTZ.
fn zone_of(call: &Invocation<'_>, index: usize) -> Result<Zone> {
    match operand_type(call, index)? {
        DataType::Timestamp(_, Some(_)) => session_zone(call.time_zone),
        _ => Ok(Zone::UTC),
    }
}

fn plus_months(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    months(call, mode, 1)
}

fn minus_months(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    months(call, mode, -1)
}

fn months(call: &Invocation<'_>, mode: Mode, sign: i64) -> Result<ColumnarValue> {
    match operand_type(call, 0)? {
        DataType::Date32 => binary::<Date32Type, IntervalYearMonthType, Date32Type>(
            call,
            mode,
            |days, months| flag(add_months(i64::from(days), sign * i64::from(months))),
            |_, _| errors::datetime_overflow(),
        ),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let zone = zone_of(call, 0)?;
            binary::<TimestampMicrosecondType, IntervalYearMonthType, TimestampMicrosecondType>(
                call,
                mode,
                |instant, months| flag(timestamp_plus_months(instant, sign * i64::from(months), zone)),
                |_, _| errors::datetime_overflow(),
            )
        }
        _ => Err(unexpected(call)),
    }
}

/// The day counts of a date `months` later; the last day of the month where the day doesn't exist.
pub(crate) fn add_months(days: i64, months: i64) -> Option<i32> {
    let (year, month, day) = civil(days);
    let total = year * 12 + i64::from(month) - 1 + months;
    let (year, month) = (i32::try_from(total.div_euclid(12)).ok()?, total.rem_euclid(12) as i32 + 1);
    (0..4).find_map(|back| days_from_civil(year, month, day as i32 - back))
}

pub(crate) fn timestamp_plus_months(instant: i64, months: i64, zone: Zone) -> Option<i64> {
    let local = zone.to_local(instant)?;
    let days = add_months(local.div_euclid(MICROS_PER_DAY), months)?;
    zone.to_instant(i64::from(days).checked_mul(MICROS_PER_DAY)?.checked_add(local.rem_euclid(MICROS_PER_DAY))?)
}

fn plus_duration(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    duration(call, mode, 1)
}

fn minus_duration(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    duration(call, mode, -1)
}

fn duration(call: &Invocation<'_>, mode: Mode, sign: i64) -> Result<ColumnarValue> {
    match operand_type(call, 0)? {
        // An interval of whole days: the result is a date.
        DataType::Date32 => binary::<Date32Type, DurationMicrosecondType, Date32Type>(
            call,
            mode,
            |days, micros| flag(i64::from(days).checked_add(sign * (micros / MICROS_PER_DAY)).and_then(|d| i32::try_from(d).ok())),
            |_, _| errors::datetime_overflow(),
        ),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let zone = zone_of(call, 0)?;
            binary::<TimestampMicrosecondType, DurationMicrosecondType, TimestampMicrosecondType>(
                call,
                mode,
                |instant, micros| flag(micros.checked_mul(sign).and_then(|m| timestamp_plus_micros(instant, m, zone))),
                |_, _| errors::datetime_overflow(),
            )
        }
        _ => Err(unexpected(call)),
    }
}

/// Whole days are calendar days in the zone, the rest is elapsed time.
pub(crate) fn timestamp_plus_micros(instant: i64, micros: i64, zone: Zone) -> Option<i64> {
    if zone.is_utc() {
        return instant.checked_add(micros);
    }
    let (days, rest) = (micros / MICROS_PER_DAY, micros % MICROS_PER_DAY);
    let moved = if days == 0 { instant } else { zone.to_instant(zone.to_local(instant)?.checked_add(days * MICROS_PER_DAY)?)? };
    moved.checked_add(rest)
}

fn plus_mixed(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    mixed(call, mode, 1)
}

fn minus_mixed(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    mixed(call, mode, -1)
}

/// An interval of months, days and microseconds; a date takes no microseconds.
fn mixed(call: &Invocation<'_>, mode: Mode, sign: i64) -> Result<ColumnarValue> {
    let parts = |i: IntervalMonthDayNano| (sign * i64::from(i.months), sign * i64::from(i.days), sign * (i.nanoseconds / 1_000));
    match operand_type(call, 0)? {
        DataType::Date32 => binary::<Date32Type, IntervalMonthDayNanoType, Date32Type>(
            call,
            mode,
            |days, interval| {
                let (months, more, micros) = parts(interval);
                let moved = add_months(i64::from(days), months).and_then(|d| i32::try_from(i64::from(d) + more).ok());
                flag(moved.filter(|_| micros == 0))
            },
            |_, interval| if parts(interval).2 == 0 { errors::datetime_overflow() } else { errors::microseconds_on_date() },
        ),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let zone = zone_of(call, 0)?;
            binary::<TimestampMicrosecondType, IntervalMonthDayNanoType, TimestampMicrosecondType>(
                call,
                mode,
                |instant, interval| {
                    let (months, days, micros) = parts(interval);
                    let moved = timestamp_plus_months(instant, months, zone)
                        .and_then(|t| timestamp_plus_micros(t, days.checked_mul(MICROS_PER_DAY)?, zone))
                        .and_then(|t| t.checked_add(micros));
                    flag(moved)
                },
                |_, _| errors::datetime_overflow(),
            )
        }
        _ => Err(unexpected(call)),
    }
}

fn interval_add(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    match call.ret {
        DataType::Interval(_) => {
            binary::<IntervalYearMonthType, IntervalYearMonthType, IntervalYearMonthType>(call, mode, i32::overflowing_add, |_, _| {
                errors::interval_overflow()
            })
        }
        _ => {
            binary::<DurationMicrosecondType, DurationMicrosecondType, DurationMicrosecondType>(call, mode, i64::overflowing_add, |_, _| {
                errors::interval_overflow()
            })
        }
    }
}

fn interval_subtract(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    match call.ret {
        DataType::Interval(_) => {
            binary::<IntervalYearMonthType, IntervalYearMonthType, IntervalYearMonthType>(call, mode, i32::overflowing_sub, |_, _| {
                errors::interval_overflow()
            })
        }
        _ => {
            binary::<DurationMicrosecondType, DurationMicrosecondType, DurationMicrosecondType>(call, mode, i64::overflowing_sub, |_, _| {
                errors::interval_overflow()
            })
        }
    }
}

fn interval_negate(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    match call.ret {
        DataType::Interval(_) => {
            unary::<IntervalYearMonthType, IntervalYearMonthType>(call, mode, i32::overflowing_neg, |_| errors::interval_overflow())
        }
        _ => unary::<DurationMicrosecondType, DurationMicrosecondType>(call, mode, i64::overflowing_neg, |_| errors::interval_overflow()),
    }
}

fn interval_multiply(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    scaled(call, mode, false)
}

fn interval_divide(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    scaled(call, mode, true)
}

/// An interval times or over a BIGINT, DECIMAL or DOUBLE, HALF_UP to whole months or microseconds.
fn scaled(call: &Invocation<'_>, mode: Mode, divide: bool) -> Result<ColumnarValue> {
    let factor = operand_type(call, 1)?;
    macro_rules! run {
        ($interval:ty, $native:ty) => {
            match factor {
                DataType::Int64 => binary::<$interval, Int64Type, $interval>(
                    call,
                    mode,
                    |i, n| flag(by_ratio(i64::from(i), i128::from(n), 1, divide).and_then(|v| <$native>::try_from(v).ok())),
                    |_, n| scaling_error(divide && n == 0),
                ),
                DataType::Decimal128(_, s) => {
                    let unit = power_of_ten(s).unwrap_or(1);
                    binary::<$interval, Decimal128Type, $interval>(
                        call,
                        mode,
                        |i, n| flag(by_ratio(i64::from(i), n, unit, divide).and_then(|v| <$native>::try_from(v).ok())),
                        |_, n| scaling_error(divide && n == 0),
                    )
                }
                DataType::Float64 => binary::<$interval, Float64Type, $interval>(
                    call,
                    mode,
                    |i, n| {
                        let exact = if divide { i as f64 / n } else { i as f64 * n };
                        // Rust rounds halves away from zero, as HALF_UP does.
                        let whole = exact.round();
                        let fits = whole.is_finite() && whole >= <$native>::MIN as f64 && whole <= <$native>::MAX as f64;
                        (whole as $native, !fits || (divide && n == 0.0))
                    },
                    |_, n| scaling_error(divide && n == 0.0),
                ),
                _ => Err(unexpected(call)),
            }
        };
    }
    match call.ret {
        DataType::Interval(_) => run!(IntervalYearMonthType, i32),
        _ => run!(DurationMicrosecondType, i64),
    }
}

fn scaling_error(by_zero: bool) -> Error {
    if by_zero { errors::interval_divided_by_zero() } else { errors::interval_overflow() }
}

/// `value * n / unit`, or `value / (n / unit)`, HALF_UP.
fn by_ratio(value: i64, n: i128, unit: i128, divide: bool) -> Option<i64> {
    let (by, over) = if divide { (unit, n) } else { (n, unit) };
    if over == 0 {
        return None;
    }
    let product = i256::from_i128(i128::from(value)).checked_mul(i256::from_i128(by))?;
    let over = i256::from_i128(over);
    let (quotient, rest) = (product.checked_div(over)?, product.checked_rem(over)?);
    let twice = rest.checked_abs()?.checked_mul(i256::from_i128(2))?;
    let away = if product.is_negative() == over.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    let rounded = if twice >= over.checked_abs()? { quotient.checked_add(away)? } else { quotient };
    rounded.to_i128().and_then(|v| i64::try_from(v).ok())
}
