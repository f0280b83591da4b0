//! Writing values as text as `CAST(... AS STRING)` does.

use std::fmt::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{Datelike, NaiveDate};
use flightpath_types::{Error, Result};

use super::zone::Zone;
use crate::duckdb::decimal_text;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Java's `Double.toString`: shortest digits, plain between 1e-3 and 1e7, else `1.0E7`.
pub(crate) fn double(v: f64) -> String {
    java_float(v, v.abs(), |digits| match digits {
        None => format!("{:e}", v.abs()),
        Some(n) => format!("{:.n$e}", v.abs()),
    })
}

pub(crate) fn float(v: f32) -> String {
    java_float(f64::from(v), f64::from(v.abs()), |digits| match digits {
        None => format!("{:e}", v.abs()),
        Some(n) => format!("{:.n$e}", v.abs()),
    })
}

fn java_float(v: f64, magnitude: f64, scientific: impl Fn(Option<usize>) -> String) -> String {
    if v.is_nan() {
        return "NaN".into();
    }
    let sign = if v.is_sign_negative() { "-" } else { "" };
    if v.is_infinite() {
        return format!("{sign}Infinity");
    }
    if v == 0.0 {
        return format!("{sign}0.0");
    }
    let mut text = scientific(None);
    // Where one digit would do Java takes the nearest number of two digits: 4.9E-324.
    if !text.contains('.') {
        text = scientific(Some(1));
    }
    // `scientific` always writes `d.dddE` with an exponent.
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if !(1e-3..1e7).contains(&magnitude) {
        return format!("{sign}{}.{}E{exponent}", &digits[..1], trim_zeros(&digits[1..]));
    }
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{}", trim_zeros(&digits));
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        let zeros = "0".repeat(whole - digits.len());
        return format!("{sign}{digits}{zeros}.0");
    }
    format!("{sign}{}.{}", &digits[..whole], trim_zeros(&digits[whole..]))
}

fn trim_zeros(digits: &str) -> &str {
    let trimmed = digits.trim_end_matches('0');
    if trimmed.is_empty() { "0" } else { trimmed }
}

/// Year, month and day of a day count; any year.
pub(crate) fn civil(days: i64) -> (i64, u32, u32) {
    let cycles = days.div_euclid(146_097);
    // Within the first 400 years after 1970, where chrono is at home.
    let date = NaiveDate::from_epoch_days(days.rem_euclid(146_097) as i32).unwrap_or_default();
    (i64::from(date.year()) + cycles * 400, date.month(), date.day())
}

pub(crate) fn date(days: i32) -> String {
    let mut out = String::with_capacity(10);
    write_date(&mut out, i64::from(days));
    out
}

fn write_date(out: &mut String, days: i64) {
    let (year, month, day) = civil(days);
    let sign = if year < 0 {
        "-"
    } else if year > 9999 {
        "+"
    } else {
        ""
    };
    // Writing to a String can't fail.
    let _ = write!(out, "{sign}{:04}-{month:02}-{day:02}", year.abs());
}

/// A wall clock in microseconds: the fraction without its trailing zeros.
pub(crate) fn wall_clock(local: i64) -> String {
    let seconds = local.div_euclid(MICROS_PER_SECOND);
    let micros = local.rem_euclid(MICROS_PER_SECOND);
    let mut out = String::with_capacity(26);
    write_date(&mut out, seconds.div_euclid(SECONDS_PER_DAY));
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let _ = write!(out, " {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    if micros != 0 {
        let fraction = format!("{micros:06}");
        let _ = write!(out, ".{}", fraction.trim_end_matches('0'));
    }
    out
}

/// One value of an array as text; NULL is `null`, as inside arrays, structs and maps.
pub(crate) fn write_value(out: &mut String, array: &dyn Array, row: usize, zone: Zone) -> Result<()> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    let _ = match array.data_type() {
        DataType::Null => write!(out, "null"),
        DataType::Boolean => write!(out, "{}", array.as_boolean().value(row)),
        DataType::Int8 => write!(out, "{}", array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => write!(out, "{}", array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => write!(out, "{}", array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => write!(out, "{}", array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => write!(out, "{}", float(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => write!(out, "{}", double(array.as_primitive::<Float64Type>().value(row))),
        DataType::Decimal128(_, scale) => {
            write!(out, "{}", decimal_text(array.as_primitive::<Decimal128Type>().value(row), (*scale).max(0) as usize))
        }
        DataType::Utf8 => write!(out, "{}", array.as_string::<i32>().value(row)),
        DataType::Binary => write!(out, "{}", String::from_utf8_lossy(array.as_binary::<i32>().value(row))),
        DataType::Date32 => write!(out, "{}", date(array.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(TimeUnit::Microsecond, tz) => {
            let value = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let local = if tz.is_some() { zone.to_local(value).unwrap_or(value) } else { value };
            write!(out, "{}", wall_clock(local))
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for i in 0..items.len() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_value(out, &items, i, zone)?;
            }
            write!(out, "]")
        }
        DataType::Struct(_) => {
            out.push('{');
            for (i, column) in array.as_struct().columns().iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_value(out, column, row, zone)?;
            }
            write!(out, "}}")
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for i in 0..entries.len() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_value(out, entries.column(0), i, zone)?;
                out.push_str(" -> ");
                write_value(out, entries.column(1), i, zone)?;
            }
            write!(out, "}}")
        }
        other => return Err(Error::not_eligible(format!("the text of a value of type {} isn't known", crate::types::name(other)))),
    };
    Ok(())
}
