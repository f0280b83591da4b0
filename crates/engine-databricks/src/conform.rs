//! Databricks' batches in types that cast exactly to what the client was promised. Values aren't
//! touched; what doesn't fit is left for the caller's exact cast to refuse.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, make_array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use flightpath_types::{Error, Result};

/// What a statement's batches become.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// A query's rows for this schema.
    Rows(SchemaRef),
    /// A count of changed rows, when the answer holds one.
    Count,
    /// As they come.
    AsIs,
}

/// What statements that aren't queries name their count.
const COUNT_COLUMN: &str = "num_affected_rows";

impl Shape {
    /// `None` when nothing of the batch is kept.
    pub fn apply(&self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        match self {
            Shape::AsIs => Ok(Some(batch)),
            Shape::Rows(promised) => rows(batch, promised).map(Some),
            Shape::Count => count(&batch),
        }
    }
}

fn rows(batch: RecordBatch, promised: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != promised.fields().len() {
        let (come, want) = (batch.num_columns(), promised.fields().len());
        return Err(Error::internal(format!("Databricks answered with {come} columns where {want} were promised")));
    }
    let columns = batch.columns().iter().zip(promised.fields()).map(|(array, field)| column(array, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(misfit)?;
    let fields: Vec<Field> = columns
        .iter()
        .zip(batch.schema().fields())
        .map(|(array, field)| Field::new(field.name(), array.data_type().clone(), field.is_nullable() || array.null_count() > 0))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(misfit)
}

fn column(array: &ArrayRef, promised: &DataType) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), promised) {
        (come, promised) if come == promised => Ok(array.clone()),
        // VOID comes as whatever type the wire has for it.
        (DataType::Null, _) | (_, DataType::Null) if array.logical_null_count() == array.len() => Ok(new_null_array(promised, array.len())),
        // The warehouse's zone is a label; the instant is the same.
        (DataType::Timestamp(TimeUnit::Microsecond, Some(_)), DataType::Timestamp(TimeUnit::Microsecond, Some(_))) => {
            Ok(make_array(array.to_data().into_builder().data_type(promised.clone()).build()?))
        }
        _ => Ok(array.clone()),
    }
}

fn count(batch: &RecordBatch) -> Result<Option<RecordBatch>> {
    let Some(counts) = batch.column_by_name(COUNT_COLUMN) else { return Ok(None) };
    let counts = cast(counts, &DataType::Int64).map_err(misfit)?;
    let schema = Arc::new(Schema::new(vec![Field::new(COUNT_COLUMN, DataType::Int64, true)]));
    RecordBatch::try_new(schema, vec![counts]).map(Some).map_err(misfit)
}

fn misfit(error: ArrowError) -> Error {
    Error::internal(format!("Databricks' answer doesn't fit what was promised: {error}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, NullArray, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::TimestampMicrosecondType;

    use super::*;

    fn batch(name: &str, array: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([(name, array)]).unwrap()
    }

    fn promised(ty: DataType) -> Shape {
        Shape::Rows(Arc::new(Schema::new(vec![Field::new("c", ty, true)])))
    }

    #[test]
    fn zones_are_labels() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let array = TimestampMicrosecondArray::from(vec![Some(5), None]).with_timezone("Etc/UTC");
        let out = promised(utc.clone()).apply(batch("x", Arc::new(array))).unwrap().unwrap();
        assert_eq!(out.column(0).data_type(), &utc);
        assert_eq!(out.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 5);
    }

    #[test]
    fn void_fits_whatever_was_promised() {
        let out = promised(DataType::Int32).apply(batch("x", Arc::new(NullArray::new(2)))).unwrap().unwrap();
        assert_eq!((out.column(0).data_type(), out.column(0).null_count()), (&DataType::Int32, 2));
        let nothing: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        let out = promised(DataType::Null).apply(batch("x", nothing)).unwrap().unwrap();
        assert_eq!(out.column(0).data_type(), &DataType::Null);
    }

    #[test]
    fn counts_are_found_by_name() {
        let counts: ArrayRef = Arc::new(StringArray::from(vec!["7"]));
        let out = Shape::Count.apply(batch(COUNT_COLUMN, counts.clone())).unwrap().unwrap();
        assert_eq!(out.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 7);
        assert!(Shape::Count.apply(batch("path", counts)).unwrap().is_none());
    }

    #[test]
    fn a_wrong_number_of_columns_is_an_error() {
        let shape = Shape::Rows(Arc::new(Schema::empty()));
        assert!(shape.apply(batch("x", Arc::new(NullArray::new(1)))).is_err());
    }
}
