//! Casting an engine's batches to the promised schema, exactly: a value that doesn't fit is an
//! error, never NULL and never rounded. Types that aren't known to hold the same values don't cast.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DurationMicrosecondArray, IntervalYearMonthArray, ListArray, MapArray, StructArray, make_array,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use flightpath_types::{Error, ErrorKind, Result};

/// The batch with the types, names and nullability of `schema`. Columns correspond by position.
pub fn restamp(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal(format!(
            "an engine answered with {} columns where {} were promised",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field)).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|e| Error::internal(format!("an engine's answer doesn't fit the promised schema: {e}")))
}

fn cast(array: &ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
    let to = field.data_type();
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let cast_failed = |e: ArrowError| {
        Error::classed(
            ErrorKind::Raised,
            "NUMERIC_VALUE_OUT_OF_RANGE",
            "22003",
            format!("a value of column `{}` doesn't fit its type {to}: {e}", field.name()),
        )
    };
    match (array.data_type(), to) {
        // NULL is NULL in any type: an untyped NULL has some type in every engine.
        _ if array.null_count() == array.len() || array.data_type() == &DataType::Null => Ok(new_null_array(to, array.len())),
        (
            DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Duration(TimeUnit::Microsecond) | DataType::Interval(IntervalUnit::YearMonth),
        ) => interval(array, field),
        (DataType::List(_) | DataType::LargeList(_) | DataType::ListView(_), DataType::List(item)) => {
            let list = cast_with_options(array, &DataType::List(list_item(array.data_type(), item)), &STRICT).map_err(cast_failed)?;
            let list = list.as_list::<i32>();
            let values = cast(list.values(), item)?;
            ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned())
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| shape(field, e))
        }
        (DataType::Struct(from), DataType::Struct(fields)) if from.len() == fields.len() => {
            let parts = array.as_struct();
            let columns = parts.columns().iter().zip(fields).map(|(c, f)| cast(c, f)).collect::<Result<Vec<_>>>()?;
            StructArray::try_new_with_length(fields.clone(), columns, parts.nulls().cloned(), parts.len())
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| shape(field, e))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let whole: ArrayRef = Arc::new(map.entries().clone());
            let cast_entries = cast(&whole, entries)?;
            MapArray::try_new(entries.clone(), map.offsets().clone(), cast_entries.as_struct().clone(), map.nulls().cloned(), *sorted)
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| shape(field, e))
        }
        // One instant or one wall-clock time under another label of the zone.
        (DataType::Timestamp(TimeUnit::Microsecond, Some(_)), DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
        | (DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Timestamp(TimeUnit::Microsecond, None)) => {
            let data = array.to_data().into_builder().data_type(to.clone()).build().map_err(|e| shape(field, e))?;
            Ok(make_array(data))
        }
        (from, _) if is_exact(from, to) => cast_with_options(array, to, &STRICT).map_err(cast_failed),
        (from, _) => Err(Error::internal(format!("an engine answered column `{}` as {from} where {to} was promised", field.name()))),
    }
}

/// DuckDB has one interval type of months, days and time; Databricks has months, or microseconds
/// in which a day is 24 hours.
fn interval(array: &ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
    let mixed = |v: IntervalMonthDayNano| {
        Error::internal(format!(
            "an engine answered column `{}` with the interval {v:?}, which isn't a {}",
            field.name(),
            field.data_type()
        ))
    };
    let values = array.as_primitive::<IntervalMonthDayNanoType>();
    let parts = values.iter();
    if let DataType::Interval(IntervalUnit::YearMonth) = field.data_type() {
        let months = parts.map(|v| v.map(|v| if v.days == 0 && v.nanoseconds == 0 { Ok(v.months) } else { Err(mixed(v)) }).transpose());
        return Ok(Arc::new(months.collect::<Result<IntervalYearMonthArray>>()?));
    }
    let micros = parts.map(|v| {
        v.map(|v| {
            let exact = v.months == 0 && v.nanoseconds % 1000 == 0;
            let sum = i64::from(v.days).checked_mul(DAY_MICROS).and_then(|days| days.checked_add(v.nanoseconds / 1000));
            sum.filter(|_| exact).ok_or_else(|| mixed(v))
        })
        .transpose()
    });
    Ok(Arc::new(micros.collect::<Result<DurationMicrosecondArray>>()?))
}

const DAY_MICROS: i64 = 86_400_000_000;

/// Values that don't fit raise instead of becoming NULL.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// Same list shape, the item type as it came: only the offsets' width changes.
fn list_item(from: &DataType, to: &FieldRef) -> FieldRef {
    match from {
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => item.clone(),
        _ => to.clone(),
    }
}

fn shape(field: &FieldRef, error: ArrowError) -> Error {
    Error::internal(format!("column `{}` doesn't fit the promised schema: {error}", field.name()))
}

/// Casts that keep every value, or raise on one that can't be kept.
fn is_exact(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (Dictionary(_, values), to) => values.as_ref() == to || is_exact(values, to),
        (Utf8 | LargeUtf8 | Utf8View, Utf8) | (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        (from, to) if from.is_integer() && to.is_integer() => true,
        // Engines widen sums: HUGEINT comes as DECIMAL(38,0).
        (Decimal128(_, 0), to) if to.is_integer() => true,
        (from, Decimal128(_, _)) if from.is_integer() => true,
        (Decimal128(_, a), Decimal128(_, b)) => a <= b,
        (Decimal256(_, a), Decimal128(_, b)) => *a <= *b,
        (Float32, Float64) => true,
        // A coarser unit fits a finer one; overflow raises.
        (Timestamp(TimeUnit::Second | TimeUnit::Millisecond, a), Timestamp(TimeUnit::Microsecond, b)) => a.is_some() == b.is_some(),
        (Date64, Date32) => false,
        (Duration(TimeUnit::Second | TimeUnit::Millisecond), Duration(TimeUnit::Microsecond)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Int32Array, Int64Array, PrimitiveArray, StringViewArray};
    use arrow::datatypes::{DurationMicrosecondType, Field, Schema};

    use super::*;

    fn one(array: impl Array + 'static, to: DataType, nullable: bool) -> Result<ArrayRef> {
        let batch = RecordBatch::try_from_iter_with_nullable([("engine_name", Arc::new(array) as ArrayRef, true)]).unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("a", to, nullable)]));
        let stamped = restamp(&batch, &schema)?;
        assert_eq!(stamped.schema(), schema);
        Ok(stamped.column(0).clone())
    }

    #[test]
    fn a_wide_sum_becomes_bigint_or_raises() {
        let fits = Decimal128Array::from(vec![Some(5), None]).with_precision_and_scale(38, 0).unwrap();
        assert_eq!(one(fits, DataType::Int64, true).unwrap().as_primitive::<arrow::datatypes::Int64Type>().value(0), 5);
        let too_big = Decimal128Array::from(vec![i128::from(i64::MAX) + 1]).with_precision_and_scale(38, 0).unwrap();
        let error = one(too_big, DataType::Int64, true).unwrap_err();
        assert_eq!((error.kind(), error.sql_state()), (ErrorKind::Raised, Some("22003")));
    }

    #[test]
    fn views_become_plain_strings() {
        let text = one(StringViewArray::from(vec!["x"]), DataType::Utf8, false).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "x");
    }

    #[test]
    fn narrowing_raises_and_never_gives_null() {
        assert!(one(Int64Array::from(vec![1 << 40]), DataType::Int32, true).is_err());
        let coarser = Decimal128Array::from(vec![125]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(one(coarser, DataType::Decimal128(10, 1), true).unwrap_err().kind(), ErrorKind::Internal);
    }

    #[test]
    fn types_of_other_meaning_are_refused() {
        assert_eq!(one(Int32Array::from(vec![1]), DataType::Utf8, true).unwrap_err().kind(), ErrorKind::Internal);
    }

    #[test]
    fn null_in_a_column_promised_without_nulls_is_an_error() {
        assert_eq!(one(Int32Array::from(vec![None]), DataType::Int32, false).unwrap_err().kind(), ErrorKind::Internal);
    }

    #[test]
    fn duckdbs_intervals_become_months_or_microseconds_and_mixed_ones_are_refused() {
        let of = |m, d, n| PrimitiveArray::<IntervalMonthDayNanoType>::from(vec![Some(IntervalMonthDayNano::new(m, d, n)), None]);
        let micros = one(of(0, 2, 1_000), DataType::Duration(TimeUnit::Microsecond), true).unwrap();
        assert_eq!(micros.as_primitive::<DurationMicrosecondType>().value(0), 2 * DAY_MICROS + 1);
        assert!(one(of(14, 0, 0), DataType::Interval(IntervalUnit::YearMonth), true).is_ok());
        assert!(one(of(1, 1, 0), DataType::Interval(IntervalUnit::YearMonth), true).is_err());
        assert!(one(of(1, 0, 0), DataType::Duration(TimeUnit::Microsecond), true).is_err());
    }

    #[test]
    fn untyped_nulls_take_any_type_and_null_itself_stays() {
        assert!(one(Int32Array::from(vec![None, None]), DataType::Utf8, true).unwrap().is_null(1));
        assert_eq!(one(Int32Array::from(vec![None]), DataType::Null, true).unwrap().data_type(), &DataType::Null);
    }

    #[test]
    fn nested_fields_take_the_promised_names() {
        let list = ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([Some([Some(1)])]);
        let to = DataType::List(Arc::new(Field::new("element", DataType::Int64, true)));
        assert_eq!(one(list, to.clone(), true).unwrap().data_type(), &to);
    }
}
