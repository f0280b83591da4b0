//! `JSON_ARRAY`: each row an array of strings or nulls, the values as Databricks writes them.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::DateTime;
use flightpath_types::{Error, Result};
use serde_json::{Map, Value as Json, json};

/// Appends the rows to `out`, each a JSON array, with commas between all of them.
pub(crate) fn append(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    for row in 0..batch.num_rows() {
        let values: Result<Vec<Json>> = batch.columns().iter().map(|c| cell(c, row)).collect();
        if !out.is_empty() {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, &values?).map_err(|e| Error::internal(format!("a row can't be written as JSON: {e}")))?;
    }
    Ok(())
}

/// Strings or null, whatever the type.
fn cell(array: &dyn Array, row: usize) -> Result<Json> {
    Ok(match value(array, row)? {
        Json::Null => Json::Null,
        Json::String(text) => Json::String(text),
        other => Json::String(other.to_string()),
    })
}

/// The value as it stands within nested ones: numbers and booleans bare.
fn value(array: &dyn Array, row: usize) -> Result<Json> {
    if array.is_null(row) || *array.data_type() == DataType::Null {
        return Ok(Json::Null);
    }
    Ok(match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => json!(text(array, row)?.parse::<i64>().unwrap_or_default()),
        DataType::Float32 => float(f64::from(array.as_primitive::<Float32Type>().value(row)), || text(array, row))?,
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row), || text(array, row))?,
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Binary => json!(BASE64.encode(array.as_binary::<i32>().value(row))),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row), zone.is_some())
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Json::Array((0..items.len()).map(|i| value(&items, i)).collect::<Result<_>>()?)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let member = |(f, c): (&FieldRef, &ArrayRef)| -> Result<(String, Json)> { Ok((f.name().clone(), value(c, row)?)) };
            let members = fields.iter().zip(columns).map(member);
            Json::Object(members.collect::<Result<Map<String, Json>>>()?)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let member = |i: usize| -> Result<(String, Json)> {
                let key = match value(entries.column(0), i)? {
                    Json::String(key) => key,
                    other => other.to_string(),
                };
                Ok((key, value(entries.column(1), i)?))
            };
            Json::Object((0..entries.len()).map(member).collect::<Result<Map<String, Json>>>()?)
        }
        _ => json!(text(array, row)?),
    })
}

/// NaN and the infinities have no JSON number.
fn float(value: f64, text: impl FnOnce() -> Result<String>) -> Result<Json> {
    Ok(match value {
        v if v.is_nan() => json!("NaN"),
        v if v.is_infinite() => json!(if v > 0.0 { "Infinity" } else { "-Infinity" }),
        _ => {
            let text = text()?;
            serde_json::from_str(&text).unwrap_or(Json::String(text))
        }
    })
}

/// `2020-01-01T00:00:00.000Z`; without the Z for TIMESTAMP_NTZ. Microseconds only where there are any.
fn timestamp(micros: i64, zoned: bool) -> Json {
    let Some(instant) = DateTime::from_timestamp_micros(micros) else { return json!(micros.to_string()) };
    let digits = if micros % 1_000 == 0 { "%.3f" } else { "%.6f" };
    let zone = if zoned { "Z" } else { "" };
    json!(instant.format(&format!("%Y-%m-%dT%H:%M:%S{digits}{zone}")).to_string())
}

fn text(array: &dyn Array, row: usize) -> Result<String> {
    let options = FormatOptions::new();
    let formatter =
        ArrayFormatter::try_new(array, &options).map_err(|e| Error::internal(format!("a value can't be written as text: {e}")))?;
    formatter.value(row).try_to_string().map_err(|e| Error::internal(format!("a value can't be written as text: {e}")))
}
