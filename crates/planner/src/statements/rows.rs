//! Small results made here.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use flightpath_plan::{LocalResult, PlannedQuery, StatementKind};
use flightpath_types::{Error, Result};

use crate::query::sql_or_reason;

/// A result of string columns.
pub(super) fn text_result_with(
    kind: StatementKind,
    names: &[&str],
    nullable: &[bool],
    rows: Vec<Vec<Option<String>>>,
) -> Result<LocalResult> {
    let fields: Vec<Field> = names.iter().zip(nullable).map(|(name, nullable)| Field::new(*name, DataType::Utf8, *nullable)).collect();
    let columns = (0..names.len()).map(|i| {
        let values: StringArray = rows.iter().map(|row| row.get(i).cloned().flatten()).collect();
        Arc::new(values) as ArrayRef
    });
    result(kind, fields, columns.collect())
}

pub(super) fn result(kind: StatementKind, fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<LocalResult> {
    let schema = Arc::new(Schema::new(fields));
    let batches = if columns.is_empty() {
        Vec::new()
    } else {
        vec![
            RecordBatch::try_new(schema.clone(), columns)
                .map_err(|e| Error::internal(format!("a result made here doesn't fit its schema: {e}")))?,
        ]
    };
    Ok(LocalResult { kind, schema, batches })
}

pub(super) fn booleans(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(values.into_iter().map(Some).collect::<BooleanArray>())
}

/// `EXPLAIN`: the typed plan, what the client is promised, and what each engine would be asked.
pub(crate) fn explain_result(query: &PlannedQuery, extended: bool) -> Result<LocalResult> {
    let mut text = String::from("== Typed Plan ==\n");
    text.push_str(&query.plan.display_indent().to_string());
    if extended {
        text.push_str("\n\n== Optimized Plan ==\n");
        text.push_str(&query.optimized.display_indent().to_string());
    }
    text.push_str("\n\n== Schema ==\n");
    for field in query.schema.fields() {
        let null = if field.is_nullable() { "" } else { " NOT NULL" };
        text.push_str(&format!("{}: {}{null}\n", field.name(), flightpath_functions::types::name(field.data_type())));
    }
    text.push_str("\n== Scans ==\n");
    for (id, scan) in &query.scans {
        let columns: Vec<&str> = scan.columns.iter().map(|i| scan.snapshot.schema.field(*i).name().as_str()).collect();
        let total = scan.snapshot.files().len();
        text.push_str(&format!(
            "s{}: {} version {}, {} of {total} files, columns [{}]\n",
            id.0,
            scan.snapshot.name,
            scan.snapshot.version,
            scan.files.len(),
            columns.join(", ")
        ));
    }
    text.push_str("\n== DuckDB ==\n");
    text.push_str(&sql_or_reason(&query.duckdb));
    text.push_str("\n\n== DataFusion ==\n");
    match &query.datafusion {
        Ok(()) => text.push_str("eligible"),
        Err(refusal) => text.push_str(&format!("not eligible: {}", refusal.reason)),
    }
    text_result_with(StatementKind::Explain, &["plan"], &[false], vec![vec![Some(text)]])
}
