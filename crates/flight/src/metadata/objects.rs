//! Catalogs, schemas, tables and table types, as the catalog port lists them for this principal.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables};
use bytes::Bytes;
use flightpath_catalog::{AsOf, Catalog, TableKind, TableName, TableSummary};
use flightpath_types::{Error, ErrorKind, Principal, Result};
use futures::{StreamExt, TryStreamExt};

use super::like::Pattern;
use crate::statement::schema_bytes;
use crate::wire;

const TABLE: &str = "TABLE";
const SYSTEM_TABLE: &str = "SYSTEM TABLE";
/// Snapshots that one GetTables call reads at once.
const SNAPSHOTS_AT_ONCE: usize = 16;

pub(crate) fn catalogs_schema() -> SchemaRef {
    super::schema(vec![Field::new("catalog_name", DataType::Utf8, false)])
}

pub(crate) fn db_schemas_schema() -> SchemaRef {
    super::schema(vec![Field::new("catalog_name", DataType::Utf8, true), Field::new("db_schema_name", DataType::Utf8, false)])
}

pub(crate) fn tables_schema(include_schema: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("table_type", DataType::Utf8, false),
    ];
    if include_schema {
        fields.push(Field::new("table_schema", DataType::Binary, false));
    }
    super::schema(fields)
}

pub(crate) fn table_types_schema() -> SchemaRef {
    super::schema(vec![Field::new("table_type", DataType::Utf8, false)])
}

pub(crate) async fn catalogs(catalog: &dyn Catalog, principal: &Principal) -> Result<RecordBatch> {
    let mut names = catalog.catalogs(principal).await?;
    names.sort();
    batch(catalogs_schema(), vec![strings(names)])
}

pub(crate) async fn db_schemas(catalog: &dyn Catalog, principal: &Principal, command: &CommandGetDbSchemas) -> Result<RecordBatch> {
    let found = matching_schemas(catalog, principal, command.catalog.as_deref(), command.db_schema_filter_pattern.as_deref()).await?;
    let (catalogs, schemas): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    batch(db_schemas_schema(), vec![strings(catalogs), strings(schemas)])
}

pub(crate) fn table_types() -> Result<RecordBatch> {
    batch(table_types_schema(), vec![strings([SYSTEM_TABLE, TABLE])])
}

/// Ordered by type, catalog, schema and table, as the protocol asks; a table that the pattern names
/// literally comes first, because clients that look up one table read only the first row.
pub(crate) async fn tables(
    catalog: Arc<dyn Catalog>,
    principal: &Principal,
    command: &CommandGetTables,
    tables_max: usize,
) -> Result<RecordBatch> {
    let name = command.table_name_filter_pattern.as_deref().map(Pattern::new);
    let schemas =
        matching_schemas(catalog.as_ref(), principal, command.catalog.as_deref(), command.db_schema_filter_pattern.as_deref()).await?;
    let mut found = Vec::new();
    for (catalog_name, schema_name) in &schemas {
        let listed = catalog.tables(principal, catalog_name, schema_name).await?;
        let wanted = |t: &TableSummary| type_wanted(t.kind, &command.table_types) && name.as_ref().is_none_or(|p| p.matches(&t.name.table));
        found.extend(listed.into_iter().filter(wanted));
        if found.len() > tables_max {
            return Err(Error::new(ErrorKind::ResourceExhausted, format!("more than {tables_max} tables match; narrow the search")));
        }
    }
    found.sort_by_cached_key(|t| {
        let inexact = name.as_ref().is_some_and(|p| !p.is(&t.name.table));
        (inexact, type_name(t.kind), t.name.clone())
    });
    let mut columns = vec![
        strings(found.iter().map(|t| &t.name.catalog)),
        strings(found.iter().map(|t| &t.name.schema)),
        strings(found.iter().map(|t| &t.name.table)),
        strings(found.iter().map(|t| type_name(t.kind))),
    ];
    if command.include_schema {
        let encoded = encoded_schemas(catalog, principal, &found).await?;
        columns.push(Arc::new(BinaryArray::from_iter_values(encoded)));
    }
    batch(tables_schema(command.include_schema), columns)
}

async fn matching_schemas(
    catalog: &dyn Catalog,
    principal: &Principal,
    catalog_name: Option<&str>,
    schema_pattern: Option<&str>,
) -> Result<Vec<(String, String)>> {
    let pattern = schema_pattern.map(Pattern::new);
    let mut found = Vec::new();
    for name in catalog.catalogs(principal).await? {
        // An empty name asks for what has no catalog, which nothing here is.
        if catalog_name.is_some_and(|wanted| wanted.to_lowercase() != name.to_lowercase()) {
            continue;
        }
        let schemas = catalog.schemas(principal, &name).await?;
        found.extend(schemas.into_iter().filter(|s| pattern.as_ref().is_none_or(|p| p.matches(s))).map(|s| (name.clone(), s)));
    }
    found.sort();
    Ok(found)
}

/// The schemas as IPC messages. One table that can't be read doesn't hide the others: it is listed
/// without columns and with the reason in its schema's metadata. Asked for alone, it is an error.
async fn encoded_schemas(catalog: Arc<dyn Catalog>, principal: &Principal, found: &[TableSummary]) -> Result<Vec<Bytes>> {
    let alone = found.len() == 1;
    let names: Vec<TableName> = found.iter().map(|t| t.name.clone()).collect();
    futures::stream::iter(names)
        .map(|name| encoded_schema(catalog.clone(), principal.clone(), name, alone))
        .buffered(SNAPSHOTS_AT_ONCE)
        .try_collect()
        .await
}

async fn encoded_schema(catalog: Arc<dyn Catalog>, principal: Principal, name: TableName, alone: bool) -> Result<Bytes> {
    match catalog.snapshot(&principal, &name, &AsOf::Latest).await {
        Ok(snapshot) => {
            let comments: Vec<_> = snapshot.columns.iter().map(|c| c.comment.clone()).collect();
            schema_bytes(&wire::table_schema(&name.catalog, &name.schema, &name.table, &snapshot.schema, &comments))
        }
        Err(error) if alone => Err(error),
        Err(error) => {
            tracing::warn!(table = %name, error = %error, "a table is listed without its schema");
            let reason = HashMap::from([("flightpath.error".to_string(), error.to_string())]);
            schema_bytes(&Schema::empty().with_metadata(reason))
        }
    }
}

fn type_name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Table => TABLE,
        TableKind::System => SYSTEM_TABLE,
    }
}

/// Some clients say `BASE TABLE`, the word of `information_schema`.
fn type_wanted(kind: TableKind, wanted: &[String]) -> bool {
    let names: &[&str] = match kind {
        TableKind::Table => &[TABLE, "BASE TABLE"],
        TableKind::System => &[SYSTEM_TABLE],
    };
    wanted.is_empty() || wanted.iter().any(|w| names.iter().any(|n| w.trim().eq_ignore_ascii_case(n)))
}

fn strings<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns).map_err(|e| Error::internal(format!("a metadata answer: {e}")))
}
