//! Learns a query's columns from Databricks, for texts that only Databricks understands.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use flightpath_types::{Error, Result};

use crate::type_text;
use crate::wire::Manifest;

/// The statement that describes `sql`. A line of its own: `sql` may start with a comment.
pub(crate) fn statement(sql: &str) -> String {
    format!("DESCRIBE QUERY\n{}", sql.trim_end().trim_end_matches(';'))
}

/// The schema that a statement's own result was announced with.
pub(crate) fn announced(manifest: &Manifest) -> Result<SchemaRef> {
    let columns = manifest.schema.as_ref().map(|schema| schema.columns.as_slice()).unwrap_or_default();
    if columns.is_empty() {
        return Err(Error::unavailable("Databricks ended the statement without saying which columns it answers with"));
    }
    let fields = columns.iter().map(|column| Ok(Field::new(&column.name, type_text::parse(&column.type_text)?, true)));
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
}

/// The schema that rows of `col_name, data_type, ...` tell. Whether a column may be NULL isn't told.
pub(crate) fn schema(batches: &[RecordBatch]) -> Result<SchemaRef> {
    let mut fields = Vec::new();
    for batch in batches {
        let column = |name: &str| {
            let found = batch.column_by_name(name).and_then(|column| cast(column, &DataType::Utf8).ok());
            found.ok_or_else(|| Error::internal(format!("Databricks described a query without the column `{name}`")))
        };
        let (names, types) = (column("col_name")?, column("data_type")?);
        let (names, types) = (names.as_string::<i32>(), types.as_string::<i32>());
        for row in 0..batch.num_rows() {
            if names.is_null(row) || types.is_null(row) {
                return Err(Error::internal("Databricks described a column without its name or type"));
            }
            fields.push(Field::new(names.value(row), type_text::parse(types.value(row))?, true));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_columns_of_a_result_are_read_from_its_manifest() {
        let manifest = |schema| serde_json::from_value::<Manifest>(json!({"schema": schema, "total_row_count": 0})).unwrap();
        let columns = json!([{"name": "Principal", "type_text": "STRING", "position": 0}, {"name": "n", "type_text": "DECIMAL(10,2)"}]);
        let schema = announced(&manifest(json!({"column_count": 2, "columns": columns}))).unwrap();
        assert_eq!((schema.field(0).name().as_str(), schema.field(1).data_type()), ("Principal", &DataType::Decimal128(10, 2)));
        // What a statement without a result is answered with.
        assert!(announced(&manifest(json!({"column_count": 0}))).is_err());
        assert!(announced(&Manifest::default()).is_err());
    }
}
