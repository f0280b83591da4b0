//! A table to generate: its columns in Databricks' types, and its rows in parts.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchReader};
use arrow::compute::{DatePart, cast, date_part};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

/// One part's batches, as the generator makes them.
pub(crate) type Batches = Box<dyn RecordBatchReader + Send>;

/// Opens part `k` of `n`, counted from 1.
type Open = Box<dyn Fn(u32, u32) -> Batches + Send + Sync>;

pub(crate) struct Table {
    pub name: &'static str,
    /// Estimated, for progress and for the number of files.
    pub rows_expected: u64,
    /// Whether the generator can make parts on their own.
    pub splits: bool,
    pub year: Option<YearPartition>,
    /// With the partition column, last.
    pub schema: SchemaRef,
    open: Open,
}

/// A partition column that holds the year of a date column. It comes on top of the standard's
/// columns, at the end, so that the standard's queries run unchanged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct YearPartition {
    pub column: &'static str,
    pub date: &'static str,
    /// How many years there are.
    pub years: u64,
}

impl Table {
    pub fn new(name: &'static str, generated: &Schema, rows_expected: u64, open: Open) -> Self {
        Self { name, rows_expected, splits: false, year: None, schema: delta_schema(generated, None), open }
    }

    pub fn splitting(mut self) -> Self {
        self.splits = true;
        self
    }

    pub fn partitioned(mut self, year: YearPartition) -> Self {
        self.schema = delta_schema(&self.schema, Some(&year));
        self.year = Some(year);
        self
    }

    pub fn open(&self, part: u32, parts: u32) -> Batches {
        (self.open)(part, parts)
    }

    /// A generated batch as it is stored.
    pub fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (column, field) in batch.columns().iter().zip(self.schema.fields()) {
            columns.push(cast(column, field.data_type())?);
        }
        if let Some(year) = &self.year {
            let date = batch.column_by_name(year.date).ok_or_else(|| ArrowError::SchemaError(format!("no column {}", year.date)))?;
            let years: ArrayRef = cast(&date_part(date, DatePart::Year)?, &DataType::Int32)?;
            columns.push(years);
        }
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

fn delta_schema(generated: &Schema, year: Option<&YearPartition>) -> SchemaRef {
    let stored = |field: &Field| {
        let data_type = match field.data_type() {
            DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
            other => other.clone(),
        };
        Field::new(field.name(), data_type, field.is_nullable())
    };
    let mut fields: Vec<Field> = generated.fields().iter().map(|f| stored(f)).collect();
    if let Some(year) = year {
        let nullable = generated.field_with_name(year.date).is_ok_and(Field::is_nullable);
        fields.push(Field::new(year.column, DataType::Int32, nullable));
    }
    Arc::new(Schema::new(fields))
}
