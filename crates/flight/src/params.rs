//! Bound parameters: one row of a client's batch as scalar values of Databricks' types, and back
//! to bytes for a handle. A value that doesn't convert exactly is refused, never rounded.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::ScalarValue;
use flightpath_types::{Error, Result};

/// The first row's values by position.
pub(crate) fn row_of(batch: &RecordBatch) -> Result<Vec<ScalarValue>> {
    batch
        .columns()
        .iter()
        .enumerate()
        .map(|(at, column)| value_of(column).map_err(|e| e.context(format!("parameter {}", at + 1))))
        .collect()
}

/// Arrow IPC of the values, for a handle.
pub(crate) fn to_bytes(values: &[ScalarValue]) -> Result<Vec<u8>> {
    let columns: Vec<ArrayRef> = values.iter().map(|v| v.to_array()).collect::<std::result::Result<_, _>>().map_err(|e| broken(&e))?;
    let fields: Vec<Field> =
        columns.iter().enumerate().map(|(at, c)| Field::new(format!("p{}", at + 1), c.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|e| broken(&e))?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(|e| broken(&e))?;
    writer.write(&batch).map_err(|e| broken(&e))?;
    writer.into_inner().map_err(|e| broken(&e))
}

/// Inverse of [`to_bytes`]; the bytes come from a handle whose MAC was checked.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Vec<ScalarValue>> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(|e| broken(&e))?;
    let batch = reader.next().ok_or_else(|| broken(&"no batch"))?.map_err(|e| broken(&e))?;
    batch.columns().iter().map(|c| ScalarValue::try_from_array(c, 0).map_err(|e| broken(&e))).collect()
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("parameters in a handle: {error}"))
}

fn value_of(column: &ArrayRef) -> Result<ScalarValue> {
    let from = column.data_type();
    let to = bound_type(from).ok_or_else(|| {
        Error::invalid(format!(
            "type {from} can't be bound; boolean, integers, floats, decimal, string, binary, date, timestamp and null can"
        ))
    })?;
    let one = column.slice(0, 1);
    // Unsafe casts give NULL for what doesn't fit; these give an error.
    let exact = CastOptions { safe: false, ..Default::default() };
    let converted = cast_with_options(&one, &to, &exact).map_err(|e| Error::invalid(format!("{e}")))?;
    if may_lose(from, &to) {
        let back = cast_with_options(&converted, from, &exact).map_err(|e| Error::invalid(format!("{e}")))?;
        if back.as_ref() != one.as_ref() {
            return Err(Error::invalid(format!("a value of type {from} doesn't fit {to} exactly")));
        }
    }
    ScalarValue::try_from_array(&converted, 0).map_err(|e| Error::invalid(format!("{e}")))
}

/// The type of Databricks that holds every value of a client's type, as far as there is one.
fn bound_type(from: &DataType) -> Option<DataType> {
    use DataType::*;
    Some(match from {
        Null | Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Utf8 | Binary | Date32 | Decimal128(_, _) => from.clone(),
        UInt8 => Int16,
        UInt16 => Int32,
        UInt32 => Int64,
        UInt64 => Decimal128(20, 0),
        Float16 => Float32,
        LargeUtf8 | Utf8View => Utf8,
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Date64 => Date32,
        Decimal32(p, s) | Decimal64(p, s) => Decimal128(*p, *s),
        Decimal256(p, s) if *p <= 38 => Decimal128(*p, *s),
        Timestamp(_, None) => Timestamp(TimeUnit::Microsecond, None),
        Timestamp(_, Some(_)) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Dictionary(_, value) => bound_type(value)?,
        _ => return None,
    })
}

fn may_lose(from: &DataType, to: &DataType) -> bool {
    matches!((from, to), (DataType::Date64, _) | (DataType::Timestamp(TimeUnit::Nanosecond, _), _))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, BooleanArray, Date64Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array, LargeStringArray,
        NullArray, StringViewArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn one(array: impl arrow::array::Array + 'static) -> Result<ScalarValue> {
        value_of(&(Arc::new(array) as ArrayRef))
    }

    #[test]
    fn the_usual_types_bind_and_survive_a_handle() {
        let dictionary: DictionaryArray<Int32Type> = vec!["d"].into_iter().collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![true])),
            Arc::new(Int32Array::from(vec![Some(1)])),
            Arc::new(Int64Array::from(vec![None])),
            Arc::new(Float64Array::from(vec![1.5])),
            Arc::new(Decimal128Array::from(vec![12345]).with_precision_and_scale(10, 2).unwrap()),
            Arc::new(LargeStringArray::from(vec!["large"])),
            Arc::new(StringViewArray::from(vec!["a view longer than twelve bytes"])),
            Arc::new(BinaryArray::from(vec![&b"\0\xff"[..]])),
            Arc::new(TimestampSecondArray::from(vec![7]).with_timezone("+02:00")),
            Arc::new(NullArray::new(1)),
            Arc::new(dictionary),
            Arc::new(UInt64Array::from(vec![u64::MAX])),
        ];
        let batch = RecordBatch::try_from_iter(columns.into_iter().enumerate().map(|(i, c)| (format!("c{i}"), c))).unwrap();
        let values = row_of(&batch).unwrap();
        assert_eq!(values[2], ScalarValue::Int64(None));
        assert_eq!(values[5], ScalarValue::Utf8(Some("large".into())));
        assert_eq!(values[8], ScalarValue::TimestampMicrosecond(Some(7_000_000), Some("UTC".into())));
        assert_eq!(values[10], ScalarValue::Utf8(Some("d".into())));
        assert_eq!(values[11], ScalarValue::Decimal128(Some(u64::MAX as i128), 20, 0));
        assert_eq!(from_bytes(&to_bytes(&values).unwrap()).unwrap(), values);
    }

    #[test]
    fn what_would_lose_digits_is_refused() {
        assert!(one(TimestampNanosecondArray::from(vec![1_000])).is_ok());
        assert!(one(TimestampNanosecondArray::from(vec![1_001])).is_err());
        assert!(one(Date64Array::from(vec![86_400_000])).is_ok());
        assert!(one(Date64Array::from(vec![86_400_001])).is_err());
        assert!(one(arrow::array::DurationSecondArray::from(vec![1])).unwrap_err().message().contains("can't be bound"));
    }
}
