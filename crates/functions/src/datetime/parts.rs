//! Rows that take parts out of dates, timestamps and intervals.

use arrow::datatypes::DataType::{self, Date32, Decimal128, Int32, Utf8};
use arrow::datatypes::{Decimal128Type, DurationMicrosecondType, Int8Type, IntervalYearMonthType};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, ErrorKind, Result};

use super::duck;
use super::pattern::{DAYS, MICROS_PER_DAY, MICROS_PER_SECOND, MONTHS, day_of_year, weekday};
use crate::cast::{civil, session_zone};
use crate::def::{BindContext, FunctionDef, Invocation, Typed};
use crate::rows::{Frame, eval};
use crate::sig::{self, rewrite, scalar, strict};
use crate::types::{DAY_TIME, YEAR_MONTH};

/// The ISO year and week of a day.
pub(crate) fn iso_week(days: i64) -> (i64, i64) {
    // The week belongs to the year of its Thursday.
    let thursday = days - weekday(days) as i64 + 3;
    let (year, month, day) = civil(thursday);
    (year, (day_of_year(year, month, day) - 1) / 7 + 1)
}

fn of_date(invocation: &Invocation<'_>, f: fn(i64) -> i64) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let dates = frame.date(0)?;
    frame.ints(|row| Ok(dates.get(row).map(|d| f(i64::from(d)) as i32)))
}

/// Wall clocks of a timestamp argument, in microseconds.
pub(crate) fn local_micros<'a>(frame: &'a Frame, invocation: &Invocation<'_>, index: usize) -> Result<impl Fn(usize) -> Option<i64> + 'a> {
    let zoned = matches!(frame.ty(index)?, DataType::Timestamp(_, Some(_)));
    let zone = if zoned { session_zone(invocation.time_zone)? } else { crate::cast::zone::Zone::UTC };
    let values = frame.micros(index)?;
    Ok(move |row| values.get(row).and_then(|v| zone.to_local(v)))
}

fn of_time(invocation: &Invocation<'_>, f: fn(i64) -> i64) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let local = local_micros(&frame, invocation, 0)?;
    frame.ints(|row| Ok(local(row).map(|v| f(v.rem_euclid(MICROS_PER_DAY)) as i32)))
}

fn seconds_with_fraction(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    if frame.ty(0)? == &DAY_TIME {
        let spans = frame.column::<arrow::array::PrimitiveArray<DurationMicrosecondType>>(0)?;
        return frame.primitives::<Decimal128Type>(|row| Ok(spans.get(row).map(|v| i128::from(v % (60 * MICROS_PER_SECOND)))));
    }
    let local = local_micros(&frame, invocation, 0)?;
    frame.primitives::<Decimal128Type>(|row| Ok(local(row).map(|v| i128::from(v.rem_euclid(60 * MICROS_PER_SECOND)))))
}

fn of_months(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let spans = frame.column::<arrow::array::PrimitiveArray<IntervalYearMonthType>>(0)?;
    if frame.ret() == &Int32 {
        return frame.ints(|row| Ok(spans.get(row).map(|v| v / 12)));
    }
    frame.primitives::<Int8Type>(|row| Ok(spans.get(row).map(|v| (v % 12) as i8)))
}

fn of_span(invocation: &Invocation<'_>, unit_seconds: i64, modulo: i64) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let spans = frame.column::<arrow::array::PrimitiveArray<DurationMicrosecondType>>(0)?;
    let unit = unit_seconds * MICROS_PER_SECOND;
    if frame.ret() == &Int32 {
        return frame.ints(|row| Ok(spans.get(row).map(|v| (v / unit) as i32)));
    }
    frame.primitives::<Int8Type>(|row| Ok(spans.get(row).map(|v| (v / unit % modulo) as i8)))
}

/// `EXTRACT(field FROM x)` and `date_part('field', x)`: the field is a literal text.
fn bind_extract(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Typed> {
    sig::arity("date_part", args.len(), 2, Some(2))?;
    let source = args.remove(1);
    let name = match args[0].as_literal().and_then(|v| v.try_as_str().flatten()) {
        Some(name) => name.to_ascii_uppercase(),
        None => return Err(sig::mismatch("NON_FOLDABLE_INPUT", "date_part", "the field must be a literal STRING")),
    };
    let function = if source.ty == YEAR_MONTH {
        match name.as_str() {
            "YEAR" | "Y" | "YEARS" | "YR" | "YRS" => Some("extract_interval_year"),
            "MONTH" | "MON" | "MONS" | "MONTHS" => Some("extract_interval_month"),
            _ => None,
        }
    } else if source.ty == DAY_TIME {
        match name.as_str() {
            "DAY" | "D" | "DAYS" => Some("extract_interval_day"),
            "HOUR" | "H" | "HOURS" | "HR" | "HRS" => Some("extract_interval_hour"),
            "MINUTE" | "M" | "MIN" | "MINS" | "MINUTES" => Some("extract_interval_minute"),
            "SECOND" | "S" | "SEC" | "SECONDS" | "SECS" => Some("extract_interval_second"),
            _ => None,
        }
    } else {
        match name.as_str() {
            "YEAR" | "Y" | "YEARS" | "YR" | "YRS" => Some("year"),
            "YEAROFWEEK" => Some("extract_yearofweek"),
            "QUARTER" | "QTR" => Some("quarter"),
            "MONTH" | "MON" | "MONS" | "MONTHS" => Some("month"),
            "WEEK" | "W" | "WEEKS" => Some("weekofyear"),
            "DAY" | "D" | "DAYS" => Some("day"),
            "DAYOFWEEK" | "DOW" => Some("dayofweek"),
            "DAYOFWEEK_ISO" | "DOW_ISO" => Some("extract_dayofweek_iso"),
            "DOY" => Some("dayofyear"),
            "HOUR" | "H" | "HOURS" | "HR" | "HRS" => Some("hour"),
            "MINUTE" | "M" | "MIN" | "MINS" | "MINUTES" => Some("minute"),
            "SECOND" | "S" | "SEC" | "SECONDS" | "SECS" => Some("extract_second"),
            _ => None,
        }
    };
    let function = function.ok_or_else(|| {
        Error::classed(
            ErrorKind::InvalidArgument,
            "INVALID_EXTRACT_FIELD",
            "42601",
            format!("Cannot extract '{name}' from a value of type {}.", crate::types::sql_name(&source.ty)),
        )
    })?;
    sig::call_by_name(ctx, function, vec![source])
}

/// A part that DuckDB has under another name, of a DATE.
fn part(call: &crate::DuckCall<'_>, sql: impl Fn(&str) -> String) -> Result<String, String> {
    Ok(format!("CAST({} AS INTEGER)", sql(&call.args[0])))
}

/// `number` is what the interval's months or microseconds become.
fn interval_duckdb(call: &crate::DuckCall<'_>, number: &str) -> Result<String, String> {
    let ([x], [ty]) = (call.args, call.types) else { return Err("a part of other than one interval".into()) };
    let value = crate::ops::rules::interval_number(ty, x);
    Ok(format!("CAST({} AS {})", number.replace("{}", &value), crate::duckdb::type_name(call.ret)?))
}

macro_rules! interval_part {
    ($name:literal, $from:expr => $ret:expr, $eval:expr, $number:literal) => {
        scalar!($name, [], bind: |_, args| Ok(sig::bound(args, strict($ret))), eval: $eval, duckdb: |c| interval_duckdb(c, $number),
            proof: "times-023, times-025, slt: intervals")
    };
}

pub(crate) static PARTS: &[FunctionDef] = &[
    rewrite!("date_part", ["datepart", "extract"], bind: bind_extract, proof: "times-023, times-030, hard-068"),
    scalar!("year", [], [Date] => strict(Int32), eval: |i| of_date(i, |d| civil(d).0), duckdb: |c| part(c, |d| format!("year({d})")), proof: "dates-002, dates-008, hard-031"),
    scalar!("quarter", [], [Date] => strict(Int32), eval: |i| of_date(i, |d| i64::from((civil(d).1 - 1) / 3 + 1)), duckdb: |c| part(c, |d| format!("quarter({d})")), proof: "dates-008"),
    scalar!("month", [], [Date] => strict(Int32), eval: |i| of_date(i, |d| i64::from(civil(d).1)), duckdb: |c| part(c, |d| format!("month({d})")), proof: "dates-007, dates-008, hard-021"),
    scalar!("day", ["dayofmonth"], [Date] => strict(Int32), eval: |i| of_date(i, |d| i64::from(civil(d).2)), duckdb: |c| part(c, |d| format!("day({d})")), proof: "dates-008, hard-021"),
    scalar!("dayofyear", [], [Date] => strict(Int32), eval: |i| of_date(i, |d| { let (y, m, day) = civil(d); day_of_year(y, m, day) }), duckdb: |c| part(c, |d| format!("dayofyear({d})")), proof: "dates-002, dates-008"),
    // Sunday is 1.
    scalar!("dayofweek", [], [Date] => strict(Int32), eval: |i| of_date(i, |d| (weekday(d) as i64 + 1) % 7 + 1), duckdb: |c| part(c, |d| format!("(dayofweek({d}) + 1)")), proof: "dates-036"),
    // Monday is 0.
    scalar!("weekday", [], [Date] => strict(Int32), eval: |i| of_date(i, |d| weekday(d) as i64), duckdb: |c| part(c, |d| format!("(isodow({d}) - 1)")), proof: "dates-024, times-004"),
    scalar!("extract_dayofweek_iso", [], [Date] => strict(Int32), eval: |i| of_date(i, |d| weekday(d) as i64 + 1), duckdb: |c| part(c, |d| format!("isodow({d})")), proof: "unit tests"),
    scalar!("weekofyear", [], [Date] => strict(Int32), eval: |i| of_date(i, |d| iso_week(d).1), duckdb: |c| part(c, |d| format!("weekofyear({d})")), proof: "dates-002, dates-035"),
    scalar!("extract_yearofweek", [], [Date] => strict(Int32), eval: |i| of_date(i, |d| iso_week(d).0), duckdb: |c| part(c, |d| format!("isoyear({d})")), proof: "dates-035"),
    scalar!("dayname", [], [Date] => strict(Utf8),
        eval: eval!(texts; d: date => &DAYS[weekday(i64::from(d))][..3]),
        duckdb: |c| Ok(format!("left(dayname({}), 3)", c.args[0])), proof: "hard-021"),
    scalar!("monthname", [], [Date] => strict(Utf8),
        eval: eval!(texts; d: date => &MONTHS[(civil(i64::from(d)).1 - 1) as usize % 12][..3]),
        duckdb: |c| Ok(format!("left(monthname({}), 3)", c.args[0])), proof: "hard-021"),
    scalar!("hour", [], [AnyTs] => strict(Int32), eval: |i| of_time(i, |t| t / (3600 * MICROS_PER_SECOND)),
        duckdb: |c| { let t = duck::local(c, 0)?; part(c, |_| format!("hour({t})")) }, proof: "times-015, times-030, hard-021"),
    scalar!("minute", [], [AnyTs] => strict(Int32), eval: |i| of_time(i, |t| t / (60 * MICROS_PER_SECOND) % 60),
        duckdb: |c| { let t = duck::local(c, 0)?; part(c, |_| format!("minute({t})")) }, proof: "times-015, times-030, hard-021"),
    scalar!("second", [], [AnyTs] => strict(Int32), eval: |i| of_time(i, |t| t / MICROS_PER_SECOND % 60),
        duckdb: |c| { let t = duck::local(c, 0)?; part(c, |_| format!("second({t})")) }, proof: "times-015, times-030"),
    scalar!("extract_second", [], [AnyTs] => strict(Decimal128(8, 6)), eval: seconds_with_fraction,
        // DuckDB's `microsecond` counts from the minute; its decimal division would be a DOUBLE.
        duckdb: |c| { let t = duck::local(c, 0)?; Ok(format!("CAST(CAST(microsecond({t}) AS DECIMAL(8,0)) * 0.000001 AS DECIMAL(8,6))")) }, proof: "times-030"),
    interval_part!("extract_interval_year", YEAR_MONTH => Int32, of_months, "{} // 12"),
    interval_part!("extract_interval_month", YEAR_MONTH => DataType::Int8, of_months, "{} % 12"),
    interval_part!("extract_interval_day", DAY_TIME => Int32, |i| of_span(i, 86_400, i64::MAX), "{} // 86400000000"),
    interval_part!("extract_interval_hour", DAY_TIME => DataType::Int8, |i| of_span(i, 3600, 24), "{} // 3600000000 % 24"),
    interval_part!("extract_interval_minute", DAY_TIME => DataType::Int8, |i| of_span(i, 60, 60), "{} // 60000000 % 60"),
    interval_part!("extract_interval_second", DAY_TIME => Decimal128(8, 6), seconds_with_fraction, "CAST({} % 60000000 AS DECIMAL(8,0)) * 0.000001"),
    // Days since 1970-01-01.
    scalar!("unix_date", [], [Date] => strict(Int32), eval: eval!(ints; d: date => d), duckdb: |c| part(c, |d| format!("({d} - DATE '1970-01-01')")), proof: "dates-037"),
    scalar!("date_from_unix_date", [], [Int] => strict(Date32), eval: eval!(dates; n: int => n), duckdb: duck::date_from_unix_date, proof: "dates-037"),
];
