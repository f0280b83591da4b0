//! Text of a Delta log turned into typed one-row arrays: partition values exactly, statistics as
//! bounds. A partition value that can't be read is an error; a bound that can't is unknown. Never
//! rounds a bound to the wrong side.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeZone};
use chrono_tz::Tz;

/// Spark cuts text in statistics to this many characters; longer bounds may be prefixes.
const STATS_TEXT_CHARS: usize = 32;

/// Why a partition value can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadValue {
    /// Not a value of its type.
    Malformed,
    /// A TIMESTAMP written without a zone, and no zone is configured to read it in.
    ZoneUnknown,
    /// Types that can't be partition columns.
    Type,
}

/// The value of a partition column; `None` and empty text are NULL, as the protocol says.
pub(crate) fn partition_value(text: Option<&str>, data_type: &DataType, zone: Option<Tz>) -> Result<ArrayRef, BadValue> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(new_null_array(data_type, 1)) };
    if let DataType::Utf8 = data_type {
        return Ok(Arc::new(StringArray::from(vec![text])));
    }
    if let DataType::Binary = data_type {
        return Ok(Arc::new(BinaryArray::from(vec![text.as_bytes()])));
    }
    if let DataType::Timestamp(TimeUnit::Microsecond, Some(_)) = data_type {
        let micros = match instant_micros(text) {
            Some(floor) => floor.micros,
            None => {
                let local = local_datetime(text).ok_or(BadValue::Malformed)?;
                let zone = zone.ok_or(BadValue::ZoneUnknown)?;
                // Where clocks go back the earlier instant is meant, as in Java; a time that clocks skip doesn't exist.
                let instant = zone.from_local_datetime(&local).earliest().ok_or(BadValue::Malformed)?;
                instant.timestamp_micros()
            }
        };
        return timestamp(micros, data_type).ok_or(BadValue::Type);
    }
    if !is_scalar(data_type) {
        return Err(BadValue::Type);
    }
    scalar(text, data_type).ok_or(BadValue::Malformed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Min,
    Max,
}

/// A bound from statistics: `json` is one JSON value as written. `None` is unknown.
pub(crate) fn stats_bound(json: &str, data_type: &DataType, bound: Bound) -> Option<ArrayRef> {
    let json = json.trim();
    let text = if json.starts_with('"') { serde_json::from_str::<String>(json).ok()? } else { json.to_string() };
    let quoted = json.starts_with('"');
    match data_type {
        DataType::Utf8 => quoted.then(|| text_bound(text, bound)),
        DataType::Date32 => quoted.then(|| scalar(&text, data_type)).flatten(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            let micros = instant_micros(&text)?;
            timestamp(micros.bound(bound)?, data_type)
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            let naive = local_datetime(text.strip_suffix('Z').unwrap_or(&text))?;
            timestamp(Floored::of(&naive.and_utc())?.bound(bound)?, data_type)
        }
        // Writers disagree whether NaN, the greatest of all, counts: no upper bound. Zero has two signs.
        DataType::Float32 | DataType::Float64 if bound == Bound::Max || quoted => None,
        DataType::Float32 => {
            text.parse::<f32>().ok().filter(|v| v.is_finite()).map(|v| Arc::new(Float32Array::from(vec![below_zero(v)])) as ArrayRef)
        }
        DataType::Float64 => text.parse::<f64>().ok().filter(|v| v.is_finite()).map(|v| {
            let v = if v == 0.0 { -0.0 } else { v };
            Arc::new(Float64Array::from(vec![v])) as ArrayRef
        }),
        DataType::Binary => None,
        // Some writers pass decimals through a double, which moves what has more than 53 bits.
        DataType::Decimal128(precision, scale) => decimal(&text, *precision, *scale)
            .filter(|value| value.unsigned_abs() < 1 << 53)
            .and_then(|value| Decimal128Array::from(vec![value]).with_precision_and_scale(*precision, *scale).ok())
            .map(|array| Arc::new(array) as ArrayRef),
        other if is_scalar(other) => scalar(&text, other),
        _ => None,
    }
}

/// Bounds of text, safe against prefixes: the upper one is raised when it may have been cut off.
pub(crate) fn text_bound(text: String, bound: Bound) -> ArrayRef {
    let text = match bound {
        Bound::Max if text.chars().count() >= STATS_TEXT_CHARS => format!("{text}{}", char::MAX),
        _ => text,
    };
    Arc::new(StringArray::from(vec![text]))
}

fn below_zero(v: f32) -> f32 {
    if v == 0.0 { -0.0 } else { v }
}

fn is_scalar(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(_, _)
            | DataType::Date32
            | DataType::Timestamp(TimeUnit::Microsecond, None)
    )
}

/// Text of a type whose text means one thing; `None` when it doesn't fit.
fn scalar(text: &str, data_type: &DataType) -> Option<ArrayRef> {
    Some(match data_type {
        DataType::Boolean if text.eq_ignore_ascii_case("true") => Arc::new(BooleanArray::from(vec![true])),
        DataType::Boolean if text.eq_ignore_ascii_case("false") => Arc::new(BooleanArray::from(vec![false])),
        DataType::Int8 => Arc::new(Int8Array::from(vec![text.parse::<i8>().ok()?])),
        DataType::Int16 => Arc::new(Int16Array::from(vec![text.parse::<i16>().ok()?])),
        DataType::Int32 => Arc::new(Int32Array::from(vec![text.parse::<i32>().ok()?])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![text.parse::<i64>().ok()?])),
        DataType::Float32 => Arc::new(Float32Array::from(vec![text.parse::<f32>().ok()?])),
        DataType::Float64 => Arc::new(Float64Array::from(vec![text.parse::<f64>().ok()?])),
        DataType::Decimal128(precision, scale) => {
            let value = decimal(text, *precision, *scale)?;
            Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(*precision, *scale).ok()?)
        }
        DataType::Date32 => Arc::new(Date32Array::from(vec![days(&date(text)?)])),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            return timestamp(local_datetime(text)?.and_utc().timestamp_micros(), data_type);
        }
        _ => return None,
    })
}

fn timestamp(micros: i64, data_type: &DataType) -> Option<ArrayRef> {
    let DataType::Timestamp(TimeUnit::Microsecond, zone) = data_type else { return None };
    Some(Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone_opt(zone.clone())))
}

/// A decimal's unscaled value; exact or nothing. Takes exponents, which Java writes (`0E-18`).
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let shift = i32::from(scale).checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(exponent)?;
    if value != 0 {
        for _ in 0..shift.min(77) {
            value = value.checked_mul(10)?;
        }
        for _ in 0..(-shift).clamp(0, 77) {
            if value % 10 != 0 {
                return None;
            }
            value /= 10;
        }
    }
    (value < 10i128.checked_pow(u32::from(precision))?).then_some(if negative { -value } else { value })
}

fn date(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d").ok()
}

fn days(date: &NaiveDate) -> i32 {
    /// 1970-01-01 counted from 0001-01-01.
    const EPOCH_DAYS_FROM_CE: i32 = 719_163;
    date.num_days_from_ce() - EPOCH_DAYS_FROM_CE
}

/// A date and time without zone, with `T` or a space, the time optional.
fn local_datetime(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f"))
        .ok()
        .or_else(|| date(text)?.and_hms_opt(0, 0, 0))
}

/// Microseconds rounded down, from text that may hold nanoseconds.
struct Floored {
    micros: i64,
}

impl Floored {
    fn of<Z: TimeZone>(at: &DateTime<Z>) -> Option<Self> {
        Some(Self { micros: at.timestamp().checked_mul(1_000_000)?.checked_add(i64::from(at.timestamp_subsec_nanos() / 1000))? })
    }

    /// Statistics are cut to milliseconds by Spark, so an upper bound covers its whole millisecond.
    fn bound(&self, bound: Bound) -> Option<i64> {
        match bound {
            Bound::Min => Some(self.micros),
            Bound::Max => self.micros.checked_add(999),
        }
    }
}

/// Text with a zone or offset.
fn instant_micros(text: &str) -> Option<Floored> {
    let text = text.trim();
    let at = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z")).ok()?;
    Floored::of(&at)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Date32Type, Decimal128Type, Float64Type, Int32Type, TimestampMicrosecondType};

    use super::*;

    fn utc() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    fn ntz() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, None)
    }

    #[test]
    fn partition_text_is_read_exactly_or_refused() {
        let int = partition_value(Some("-7"), &DataType::Int32, None).unwrap();
        assert_eq!(int.as_primitive::<Int32Type>().value(0), -7);
        assert!(partition_value(Some(""), &DataType::Utf8, None).unwrap().is_null(0));
        assert!(partition_value(None, &DataType::Date32, None).unwrap().is_null(0));
        let hive = partition_value(Some("__HIVE_DEFAULT_PARTITION__"), &DataType::Utf8, None).unwrap();
        assert_eq!(hive.as_string::<i32>().value(0), "__HIVE_DEFAULT_PARTITION__");
        let date = partition_value(Some("2021-09-08"), &DataType::Date32, None).unwrap();
        assert_eq!(date.as_primitive::<Date32Type>().value(0), 18_878);
        assert_eq!(partition_value(Some("300"), &DataType::Int8, None), Err(BadValue::Malformed));
        assert_eq!(partition_value(Some("1.234"), &DataType::Decimal128(5, 2), None), Err(BadValue::Malformed));
        assert_eq!(partition_value(Some("yes"), &DataType::Boolean, None), Err(BadValue::Malformed));
    }

    #[test]
    fn timestamps_without_zone_need_a_configured_one() {
        let micros = |text: &str, zone: Option<Tz>| {
            partition_value(Some(text), &utc(), zone).map(|a| a.as_primitive::<TimestampMicrosecondType>().value(0))
        };
        assert_eq!(micros("2021-09-08T11:11:11.000001Z", None), Ok(1_631_099_471_000_001));
        assert_eq!(micros("2021-09-08 11:11:11", None), Err(BadValue::ZoneUnknown));
        assert_eq!(micros("2021-09-08 11:11:11", Some(Tz::UTC)), Ok(1_631_099_471_000_000));
        assert_eq!(micros("2021-09-08 11:11:11", Some(Tz::America__Los_Angeles)), Ok(1_631_124_671_000_000));
        let local = partition_value(Some("2021-11-18 02:30:00.123456"), &ntz(), None).unwrap();
        assert_eq!(local.as_primitive::<TimestampMicrosecondType>().value(0), 1_637_202_600_123_456);
        let widened = partition_value(Some("2021-11-18"), &ntz(), None).unwrap();
        assert_eq!(widened.as_primitive::<TimestampMicrosecondType>().value(0), 1_637_193_600_000_000);
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(decimal("0E-18", 38, 18), Some(0));
        assert_eq!(decimal("-12.5", 10, 2), Some(-1250));
        assert_eq!(decimal("1e3", 10, 2), Some(100_000));
        assert_eq!(decimal("12.50", 10, 1), Some(125));
        assert_eq!(decimal("12.55", 10, 1), None);
        assert_eq!(decimal("99999999.99", 10, 2), Some(9_999_999_999));
        assert_eq!(decimal("100000000.00", 10, 2), None);
        assert_eq!(decimal("12345678901234567890.123456789012345678", 38, 18), Some(12_345_678_901_234_567_890_123_456_789_012_345_678));
        assert_eq!(decimal(".", 10, 2), None);
        assert_eq!(decimal("", 10, 2), None);
    }

    #[test]
    fn bounds_never_exclude_a_value() {
        let max = |json: &str, t: &DataType| stats_bound(json, t, Bound::Max);
        let min = |json: &str, t: &DataType| stats_bound(json, t, Bound::Min);
        let micros = |a: ArrayRef| a.as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!(micros(max("\"2000-01-01T00:00:00.000-08:00\"", &utc()).unwrap()), 946_713_600_000_999);
        assert_eq!(micros(min("\"2000-01-01T00:00:00.000-08:00\"", &utc()).unwrap()), 946_713_600_000_000);
        assert_eq!(max("\"2000-01-01T00:00:00.000\"", &utc()), None, "no zone: unknown");
        assert_eq!(micros(max("\"2000-01-01T00:00:00.5\"", &ntz()).unwrap()), 946_684_800_500_999);
        let long = "x".repeat(32);
        let cut = max(&format!("\"{long}\""), &DataType::Utf8).unwrap();
        assert_eq!(cut.as_string::<i32>().value(0), format!("{long}\u{10FFFF}"));
        assert_eq!(min("0.0", &DataType::Float64).unwrap().as_primitive::<Float64Type>().value(0).to_bits(), (-0.0f64).to_bits());
        assert_eq!(max("1.5", &DataType::Float64), None);
        assert_eq!(min("\"NaN\"", &DataType::Float64), None);
        assert_eq!(min("12.345", &DataType::Decimal128(10, 2)), None, "more digits than the scale: unknown");
        let exact = min("90071992547409.91", &DataType::Decimal128(21, 2)).unwrap();
        assert_eq!(exact.as_primitive::<Decimal128Type>().value(0), 9_007_199_254_740_991);
        assert_eq!(min("1000000000000000.0", &DataType::Decimal128(21, 2)), None, "more than a double holds: unknown");
        assert_eq!(min("\"5\"", &DataType::Utf8).unwrap().as_string::<i32>().value(0), "5");
        assert_eq!(min("5", &DataType::Utf8), None);
        assert_eq!(min("{\"a\":1}", &DataType::Int32), None);
        assert_eq!(min("null", &DataType::Int32), None);
    }
}
