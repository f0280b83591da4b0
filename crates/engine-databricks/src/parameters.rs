//! Values as statement parameters: text that Databricks casts to the named type without loss.
//! A value that no such text exists for is refused.

use arrow::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};
use datafusion::common::ScalarValue;

use crate::statement::StatementParameter;

pub(crate) fn parameter(name: String, value: &ScalarValue) -> Result<StatementParameter, String> {
    let (type_text, value) = text(value)?;
    Ok(StatementParameter { name, value, type_text })
}

fn text(value: &ScalarValue) -> Result<(String, Option<String>), String> {
    fn plain<T: ToString>(type_text: &str, value: &Option<T>) -> (String, Option<String>) {
        (type_text.into(), value.as_ref().map(T::to_string))
    }
    Ok(match value {
        // A NULL without a type takes any; STRING is the wire's own default.
        ScalarValue::Null => ("STRING".into(), None),
        ScalarValue::Boolean(v) => plain("BOOLEAN", v),
        ScalarValue::Int8(v) => plain("TINYINT", v),
        ScalarValue::Int16(v) => plain("SMALLINT", v),
        ScalarValue::Int32(v) => plain("INT", v),
        ScalarValue::Int64(v) => plain("BIGINT", v),
        ScalarValue::UInt8(v) => plain("SMALLINT", v),
        ScalarValue::UInt16(v) => plain("INT", v),
        ScalarValue::UInt32(v) => plain("BIGINT", v),
        ScalarValue::UInt64(v) => plain("DECIMAL(20,0)", v),
        ScalarValue::Float32(v) => ("FLOAT".into(), v.map(|v| float(v.into(), v.to_string()))),
        ScalarValue::Float64(v) => ("DOUBLE".into(), v.map(|v| float(v, v.to_string()))),
        ScalarValue::Decimal128(v, precision, scale) => {
            let scale = u8::try_from(*scale).map_err(|_| "a decimal of negative scale can't be sent to Databricks".to_string())?;
            (format!("DECIMAL({precision},{scale})"), v.map(|v| decimal(v, scale)))
        }
        ScalarValue::Utf8(v) | ScalarValue::LargeUtf8(v) | ScalarValue::Utf8View(v) => plain("STRING", v),
        ScalarValue::Binary(v) | ScalarValue::LargeBinary(v) | ScalarValue::BinaryView(v) => match v.as_deref().map(std::str::from_utf8) {
            None => ("BINARY".into(), None),
            // Casting a string to BINARY gives its UTF-8 bytes.
            Some(Ok(text)) => ("BINARY".into(), Some(text.into())),
            Some(Err(_)) => return Err("binary values that aren't text can't be sent to Databricks".into()),
        },
        ScalarValue::Date32(v) => {
            let date =
                v.map(|v| date32_to_datetime(v).map(|at| at.format("%Y-%m-%d").to_string()).ok_or("a date is out of range")).transpose()?;
            ("DATE".into(), date)
        }
        ScalarValue::TimestampMicrosecond(v, zone) => {
            let (type_text, suffix) = if zone.is_some() { ("TIMESTAMP", "Z") } else { ("TIMESTAMP_NTZ", "") };
            let at = |v| timestamp_us_to_datetime(v).map(|at| at.format("%Y-%m-%dT%H:%M:%S%.6f").to_string() + suffix);
            (type_text.into(), v.map(|v| at(v).ok_or("a timestamp is out of range")).transpose()?)
        }
        ScalarValue::TimestampSecond(v, zone) => return rescaled(v, 1_000_000, zone),
        ScalarValue::TimestampMillisecond(v, zone) => return rescaled(v, 1_000, zone),
        ScalarValue::TimestampNanosecond(v, zone) if v.is_none_or(|v| v % 1_000 == 0) => {
            return text(&ScalarValue::TimestampMicrosecond(v.map(|v| v / 1_000), zone.clone()));
        }
        ScalarValue::Dictionary(_, inner) => return text(inner),
        other => return Err(format!("values of type {} can't be sent to Databricks", other.data_type())),
    })
}

fn rescaled(value: &Option<i64>, factor: i64, zone: &Option<std::sync::Arc<str>>) -> Result<(String, Option<String>), String> {
    let micros = value.map(|v| v.checked_mul(factor).ok_or("a timestamp is out of range")).transpose()?;
    text(&ScalarValue::TimestampMicrosecond(micros, zone.clone()))
}

fn float(value: f64, text: String) -> String {
    match value {
        v if v.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => text,
    }
}

fn decimal(value: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: ScalarValue) -> String {
        match text(&value) {
            Ok((ty, value)) => format!("{ty} {}", value.as_deref().unwrap_or("(null)")),
            Err(reason) => reason,
        }
    }

    #[test]
    fn values_are_text_that_casts_back() {
        let utc = Some("UTC".into());
        let cases = [
            (ScalarValue::Null, "STRING (null)"),
            (ScalarValue::Boolean(Some(true)), "BOOLEAN true"),
            (ScalarValue::Int32(None), "INT (null)"),
            (ScalarValue::UInt64(Some(u64::MAX)), "DECIMAL(20,0) 18446744073709551615"),
            (ScalarValue::Float64(Some(f64::NAN)), "DOUBLE NaN"),
            (ScalarValue::Float64(Some(f64::NEG_INFINITY)), "DOUBLE -Infinity"),
            (ScalarValue::Float32(Some(0.1)), "FLOAT 0.1"),
            (ScalarValue::Decimal128(Some(-5), 10, 2), "DECIMAL(10,2) -0.05"),
            (ScalarValue::Decimal128(Some(12345), 10, 0), "DECIMAL(10,0) 12345"),
            (ScalarValue::Utf8(Some("it's".into())), "STRING it's"),
            (ScalarValue::Binary(Some(b"ab".to_vec())), "BINARY ab"),
            (ScalarValue::Binary(Some(vec![255])), "binary values that aren't text can't be sent to Databricks"),
            (ScalarValue::Date32(Some(-1)), "DATE 1969-12-31"),
            (ScalarValue::TimestampMicrosecond(Some(-1), utc), "TIMESTAMP 1969-12-31T23:59:59.999999Z"),
            (ScalarValue::TimestampSecond(Some(1), None), "TIMESTAMP_NTZ 1970-01-01T00:00:01.000000"),
            (ScalarValue::TimestampSecond(Some(i64::MAX), None), "a timestamp is out of range"),
        ];
        for (value, expected) in cases {
            assert_eq!(sent(value.clone()), expected, "{value:?}");
        }
    }
}
