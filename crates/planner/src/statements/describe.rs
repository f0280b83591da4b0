//! DESCRIBE: a table's columns, its detail as Delta tells it, and its history.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, ListBuilder, MapBuilder, MapFieldNames, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use flightpath_catalog::{AccessRules, AsOf, CommitInfo, TableContents, TableSnapshot};
use flightpath_functions::types;
use flightpath_plan::{LocalResult, StatementKind};
use flightpath_types::{Error, ErrorKind, Result};

use super::Asking;
use super::rows::{result, text_result_with};

/// Commits shown when no LIMIT says otherwise.
const HISTORY_MAX: usize = 1_000;

const DESCRIBE: [&str; 3] = ["col_name", "data_type", "comment"];
const DESCRIBE_NULLABLE: [bool; 3] = [false, false, true];

pub(super) async fn table(asking: &Asking<'_>, table: &[String], column: Option<&str>, extended: bool) -> Result<LocalResult> {
    let name = asking.complete(table)?;
    let snapshot = asking.catalog.snapshot(&asking.session.principal, &name, &AsOf::Latest).await?;
    if let Some(column) = column {
        return one_column(&snapshot, column);
    }
    let line =
        |name: &str, ty: &str, comment: Option<&str>| vec![Some(name.to_string()), Some(ty.to_string()), comment.map(str::to_string)];
    let of_column = |i: usize| {
        let field = snapshot.schema.field(i);
        let comment = snapshot.columns.get(i).and_then(|c| c.comment.as_deref());
        line(field.name(), &types::name(field.data_type()), comment)
    };
    let mut rows: Vec<Vec<Option<String>>> = (0..snapshot.schema.fields().len()).map(of_column).collect();
    if !snapshot.partition_columns.is_empty() {
        rows.push(line("# Partition Information", "", Some("")));
        rows.push(line("# col_name", "data_type", Some("comment")));
        rows.extend(snapshot.partition_columns.iter().map(|i| of_column(*i)));
    }
    if extended {
        rows.push(line("", "", Some("")));
        rows.push(line("# Detailed Table Information", "", Some("")));
        rows.push(line("Catalog", &snapshot.name.catalog, Some("")));
        rows.push(line("Database", &snapshot.name.schema, Some("")));
        rows.push(line("Table", &snapshot.name.table, Some("")));
        rows.push(line("Type", "EXTERNAL", Some("")));
        if let Some(description) = &snapshot.description {
            rows.push(line("Comment", description, Some("")));
        }
        if let Some(location) = visible_location(&snapshot) {
            rows.push(line("Location", location, Some("")));
        }
        rows.push(line("Provider", snapshot.format.as_str(), Some("")));
        let properties: Vec<String> = snapshot.properties.iter().map(|(k, v)| format!("{k}={v}")).collect();
        rows.push(line("Table Properties", &format!("[{}]", properties.join(",")), Some("")));
    }
    text_result_with(StatementKind::Describe, &DESCRIBE, &DESCRIBE_NULLABLE, rows)
}

fn one_column(snapshot: &TableSnapshot, column: &str) -> Result<LocalResult> {
    let found = snapshot.schema.fields().iter().position(|f| f.name().eq_ignore_ascii_case(column));
    let Some(index) = found else {
        let message = format!("A column with name `{column}` cannot be resolved in table {}.", snapshot.name);
        return Err(Error::classed(ErrorKind::InvalidArgument, "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION", "42703", message));
    };
    let field = snapshot.schema.field(index);
    let comment = snapshot.columns.get(index).and_then(|c| c.comment.clone());
    let row = |name: &str, value: String| vec![Some(name.to_string()), Some(value)];
    let rows = vec![
        row("col_name", field.name().clone()),
        row("data_type", types::name(field.data_type())),
        row("comment", comment.unwrap_or_else(|| "NULL".into())),
    ];
    text_result_with(StatementKind::Describe, &["info_name", "info_value"], &[false, false], rows)
}

pub(super) fn query(schema: &Schema) -> Result<LocalResult> {
    let rows = schema.fields().iter().map(|f| vec![Some(f.name().clone()), Some(types::name(f.data_type())), None]).collect();
    text_result_with(StatementKind::Describe, &DESCRIBE, &DESCRIBE_NULLABLE, rows)
}

/// Where a table lives is for those who may read it freely.
fn visible_location(snapshot: &TableSnapshot) -> Option<&str> {
    match snapshot.access {
        AccessRules::Free => Some(&snapshot.location),
        AccessRules::Governed(_) => None,
    }
}

pub(super) async fn detail(asking: &Asking<'_>, table: &[String]) -> Result<LocalResult> {
    let name = asking.complete(table)?;
    let snapshot = asking.catalog.snapshot(&asking.session.principal, &name, &AsOf::Latest).await?;
    if matches!(snapshot.contents, TableContents::Remote) {
        return Err(Error::not_eligible(format!("the files of {name} are known to Databricks alone")));
    }
    let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let number = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    let partitions: Vec<&str> = snapshot.partition_columns.iter().map(|i| snapshot.schema.field(*i).name().as_str()).collect();
    let mut features: Vec<&str> = snapshot.reader_features.iter().chain(&snapshot.writer_features).map(String::as_str).collect();
    features.sort_unstable();
    features.dedup();
    let bytes: u64 = snapshot.files().iter().map(|f| f.size_bytes).sum();
    let named: Vec<(&str, ArrayRef)> = vec![
        ("format", text(Some(snapshot.format.as_str()))),
        ("id", text(snapshot.table_id.as_deref())),
        ("name", text(Some(&snapshot.name.to_string()))),
        ("description", text(snapshot.description.as_deref())),
        ("location", text(visible_location(&snapshot))),
        ("createdAt", instants(vec![snapshot.created_unix_ms])),
        ("lastModified", instants(vec![snapshot.committed_unix_ms])),
        ("partitionColumns", texts(&partitions)),
        ("clusteringColumns", texts(&[])),
        ("numFiles", number(snapshot.files().len() as i64)),
        ("sizeInBytes", number(bytes as i64)),
        ("properties", maps([&snapshot.properties])?),
        ("minReaderVersion", Arc::new(Int32Array::from(vec![snapshot.min_reader_version as i32]))),
        ("minWriterVersion", Arc::new(Int32Array::from(vec![snapshot.min_writer_version as i32]))),
        ("tableFeatures", texts(&features)),
    ];
    of_columns(named)
}

pub(super) async fn history(asking: &Asking<'_>, table: &[String], limit: Option<usize>) -> Result<LocalResult> {
    let name = asking.complete(table)?;
    let limit = limit.unwrap_or(HISTORY_MAX).min(HISTORY_MAX);
    let commits = asking.catalog.history(&asking.session.principal, &name, limit).await?;
    let text = |of: fn(&CommitInfo) -> Option<&String>| Arc::new(commits.iter().map(|c| of(c)).collect::<StringArray>()) as ArrayRef;
    let unknown = |ty: DataType| new_null_array(&ty, commits.len());
    let job = ["jobId", "jobName", "jobRunId", "runId", "jobOwnerId", "triggerType"];
    let versions: Vec<i64> = commits.iter().map(|c| c.version as i64).collect();
    let named: Vec<(&str, ArrayRef)> = vec![
        ("version", Arc::new(Int64Array::from(versions))),
        ("timestamp", instants(commits.iter().map(|c| c.timestamp_unix_ms).collect())),
        ("userId", text(|c| c.user_id.as_ref())),
        ("userName", text(|c| c.user_name.as_ref())),
        ("operation", text(|c| c.operation.as_ref())),
        ("operationParameters", maps(commits.iter().map(|c| &c.operation_parameters))?),
        ("job", null_struct(&job, commits.len())),
        ("notebook", null_struct(&["notebookId"], commits.len())),
        ("clusterId", unknown(DataType::Utf8)),
        ("readVersion", unknown(DataType::Int64)),
        ("isolationLevel", unknown(DataType::Utf8)),
        ("isBlindAppend", Arc::new(commits.iter().map(|c| c.is_blind_append).collect::<BooleanArray>())),
        ("operationMetrics", maps(commits.iter().map(|c| &c.operation_metrics))?),
        ("userMetadata", unknown(DataType::Utf8)),
        ("engineInfo", text(|c| c.engine_info.as_ref())),
    ];
    of_columns(named)
}

fn of_columns(named: Vec<(&str, ArrayRef)>) -> Result<LocalResult> {
    let fields = named.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    result(StatementKind::Describe, fields, named.into_iter().map(|(_, array)| array).collect())
}

fn instants(unix_ms: Vec<Option<i64>>) -> ArrayRef {
    let us = unix_ms.into_iter().map(|ms| ms.map(|ms| ms.saturating_mul(1_000)));
    let array: TimestampMicrosecondArray = us.collect();
    debug_assert_eq!(array.data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    Arc::new(array.with_timezone("UTC"))
}

fn texts(values: &[&str]) -> ArrayRef {
    let field = Field::new("element", DataType::Utf8, true);
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(field);
    values.iter().for_each(|v| builder.values().append_value(v));
    builder.append(true);
    Arc::new(builder.finish())
}

fn maps<'a>(maps: impl IntoIterator<Item = &'a BTreeMap<String, String>>) -> Result<ArrayRef> {
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for map in maps {
        for (key, value) in map {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true).map_err(|e| Error::internal(format!("a map made here doesn't hold together: {e}")))?;
    }
    Ok(Arc::new(builder.finish()))
}

fn null_struct(names: &[&str], rows: usize) -> ArrayRef {
    let fields: Fields = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    Arc::new(StructArray::new_null(fields, rows))
}
