//! What bindings read: every case a Delta table's files can hold.

use std::sync::Arc;

use arrow::array::{Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use crate::fixture::{query, rows, runtime, sql, start, table, write};

#[test]
fn small_queries_and_files_are_answered() {
    runtime().block_on(async {
        let engine = start(crate::fixture::config()).await;
        assert_eq!(sql(&engine, "SELECT 1 AS a, 'x' AS b").await, ["1 | x"]);
        let folder = tempfile::tempdir().unwrap();
        let file = write(
            &folder.path().join("a.parquet"),
            vec![("id", Arc::new(Int32Array::from(vec![1, 2, 3]))), ("name", Arc::new(StringArray::from(vec![Some("x"), None, Some("z")])))],
        );
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
        let scan = table(schema, vec![], vec![file]);
        assert_eq!(rows(&engine, query("SELECT * FROM s0 WHERE id > 1 ORDER BY id", vec![scan])).await, ["2 | ", "3 | z"]);
    });
}
