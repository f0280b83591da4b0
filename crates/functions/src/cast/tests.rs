//! Casts beyond the recorded statements: clocks that jump, every way to write a zone, floats as
//! Java writes them, and values under NULL lists.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::common::ScalarValue as S;

use super::zone::Zone;
use super::{Mode, cast_array, parse, text};
use crate::types;

fn cast_one(value: S, to: &DataType, zone: &str) -> Result<S, String> {
    let array = cast_array(&value.to_array().unwrap(), to, Zone::parse(zone).unwrap(), Mode::Ansi);
    array.map(|a| S::try_from_array(&a, 0).unwrap()).map_err(|e| e.class().unwrap_or_default().to_owned())
}

fn text_of(value: &str) -> S {
    S::Utf8(Some(value.to_owned()))
}

#[test]
fn wall_clocks_follow_java_at_both_jumps() {
    let zone = Zone::parse("America/New_York").unwrap();
    let local = |t: &str| parse::timestamp_ntz(t).unwrap();
    let instant = |t: &str| parse::timestamp(t, Zone::UTC).unwrap();
    for (wall, utc) in [
        ("2024-03-10 01:30:00", "2024-03-10 06:30:00"),
        // Skipped: an hour later.
        ("2024-03-10 02:30:00", "2024-03-10 07:30:00"),
        // Twice: the earlier.
        ("2024-11-03 01:30:00", "2024-11-03 05:30:00"),
        ("2024-07-01 12:00:00", "2024-07-01 16:00:00"),
    ] {
        assert_eq!(zone.to_instant(local(wall)), Some(instant(utc)), "{wall}");
    }
    assert_eq!(zone.to_local(instant("2024-11-03 06:30:00")), Some(local("2024-11-03 01:30:00")));
}

#[test]
fn zones_are_read_in_every_spelling() {
    let hours = |h: i32| Some(Zone::Fixed(h * 3600));
    for (spelling, zone) in
        [("Z", hours(0)), ("+3", hours(3)), ("-03:00", hours(-3)), ("GMT+3", hours(3)), ("UTC-0800", hours(-8)), ("EST", hours(-5))]
    {
        assert_eq!(Zone::parse(spelling), zone, "{spelling}");
    }
    assert_eq!(Zone::parse("CST"), Zone::parse("America/Chicago"));
    for unknown in ["", "Mars/Base", "+19:00", "+1:2:3", "UTC+"] {
        assert_eq!(Zone::parse(unknown), None, "{unknown}");
    }
}

#[test]
fn timestamps_are_read_as_leniently_as_databricks_reads_them() {
    let at = |t: &str| parse::timestamp(t, Zone::UTC);
    let midnight = at("2024-06-01 00:00:00");
    assert!(midnight.is_some());
    for same in ["2024-06", "2024-6-1", "2024-06-01 ", " 2024-06-01T0:0:0Z", "2024-06-01 02:00:00.000000999+02:00", "2024-06-01 0:0:0 UTC"]
    {
        assert_eq!(at(same), midnight, "{same}");
    }
    for malformed in [
        "",
        "2024-06-01T",
        "2024-06-31",
        "2024-06-01 24:00:00",
        "2024-06-01 00:00:60",
        "2024-06-01 00:00:00 Nowhere",
        "24-06-01",
        "2024-06-01x",
    ] {
        assert_eq!(at(malformed), None, "{malformed}");
    }
}

#[test]
fn floats_are_written_as_java_writes_them() {
    for (v, wanted) in [
        (5e-324, "4.9E-324"),
        (1e-323, "9.9E-324"),
        (f64::MAX, "1.7976931348623157E308"),
        (1e-3, "0.001"),
        (9.999e-4, "9.999E-4"),
        (9_999_999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (-0.0, "-0.0"),
        (2e-3, "0.002"),
    ] {
        assert_eq!(text::double(v), wanted);
    }
    assert_eq!(text::float(f32::from_bits(1)), "1.4E-45");
    assert_eq!(text::float(16_777_216.0), "1.6777216E7");
}

#[test]
fn values_under_null_lists_do_not_raise() {
    let values: ArrayRef = Arc::new(StringArray::from(vec!["1", "x", "3"]));
    let item = Arc::new(Field::new("element", DataType::Utf8, true));
    let nulls = NullBuffer::from(vec![true, false, true]);
    let list: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 1, 1]), values, Some(nulls)));
    let cast = cast_array(&list, &types::array(DataType::Int32, true), Zone::UTC, Mode::Ansi).unwrap();
    assert!(cast.is_null(1));
    assert_eq!(cast.as_list::<i32>().value(2).as_primitive::<Int32Type>(), &Int32Array::from(vec![3]));
}

#[test]
fn pairs_answer_or_raise_as_databricks_documents() {
    let decimal = |v, p, s| Ok(S::Decimal128(Some(v), p, s));
    let cases: Vec<(S, DataType, Result<S, String>)> = vec![
        (S::Float64(Some(9.223_372_036_854_776e18)), DataType::Int64, Ok(S::Int64(Some(i64::MAX)))),
        (S::Float64(Some(f64::NAN)), DataType::Int32, Err("CAST_OVERFLOW".into())),
        (S::Float64(Some(f64::NAN)), DataType::Decimal128(5, 2), Ok(S::Decimal128(None, 5, 2))),
        (S::Float64(Some(2.675)), DataType::Decimal128(5, 2), decimal(268, 5, 2)),
        (S::Float32(Some(0.1)), DataType::Decimal128(10, 9), decimal(100_000_001, 10, 9)),
        (S::Decimal128(Some(99_995), 5, 3), DataType::Decimal128(4, 2), Err("NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION".into())),
        (S::Decimal128(Some(-15), 2, 1), DataType::Decimal128(2, 0), decimal(-2, 2, 0)),
        (text_of("1e-400"), DataType::Decimal128(5, 2), decimal(0, 5, 2)),
        (text_of("0.005"), DataType::Decimal128(5, 2), decimal(1, 5, 2)),
        (text_of("+7"), DataType::Int8, Ok(S::Int8(Some(7)))),
        (text_of("128"), DataType::Int8, Err("CAST_INVALID_INPUT".into())),
        (text_of("-0001-01-01"), DataType::Date32, Ok(S::Date32(Some(-719_893)))),
        (S::TimestampMicrosecond(Some(-1), Some("UTC".into())), DataType::Int64, Ok(S::Int64(Some(-1)))),
        (S::TimestampMicrosecond(Some(-1), Some("UTC".into())), DataType::Date32, Ok(S::Date32(Some(-1)))),
        (S::Int64(Some(i64::MAX)), types::timestamp(), Ok(S::TimestampMicrosecond(Some(i64::MAX), Some("UTC".into())))),
        (S::Date32(Some(2_932_897)), DataType::Utf8, Ok(text_of("+10000-01-01"))),
    ];
    for (value, to, wanted) in cases {
        assert_eq!(cast_one(value.clone(), &to, "UTC"), wanted, "{value} as {to}");
    }
    let summer = S::TimestampMicrosecond(Some(1_719_792_000_000_000), Some("UTC".into()));
    assert_eq!(cast_one(summer.clone(), &DataType::Utf8, "Europe/Berlin"), Ok(text_of("2024-07-01 02:00:00")));
    assert_eq!(cast_one(summer, &DataType::Date32, "America/New_York"), Ok(S::Date32(Some(19_904))));
}
