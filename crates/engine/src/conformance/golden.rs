//! Delta tables that Spark wrote, read whole and compared with the rows they must have.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono_tz::Tz;
use flightpath_catalog::{AsOf, Catalog, Config, LocalCatalog, TableName};
use flightpath_types::{Error, ErrorKind, Principal, QueryId};
use futures::StreamExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::Fixture;
use super::fixture::Outcome;
use crate::{Engine, Execution};

/// How one table was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    Same,
    /// By the catalog or the engine, with this reason.
    Refused(String),
    Wrong(String),
}

/// Reads every table of `folder`, which holds folders with a Delta table `delta` and the rows it
/// must have in `expected`. In the order of names. `partition_time_zone` is the writer's, for
/// TIMESTAMP partition values without one; none leaves such tables refused.
pub async fn golden(engine: &Arc<dyn Engine>, folder: &Path, partition_time_zone: Option<Tz>) -> Outcome<Vec<(String, Reading)>> {
    let catalog = LocalCatalog::open(Config { partition_time_zone, ..Config::new(vec![folder.to_path_buf()]) }).await?;
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().join("expected").is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let mut readings = Vec::new();
    for name in names {
        let reading = match table(engine, &catalog, &name).await {
            Err(e) if e.kind() == ErrorKind::NotEligible => Reading::Refused(e.to_string()),
            Err(e) => Reading::Wrong(format!("{:?}: {e}", e.kind())),
            Ok(rows) => match expected(&folder.join(&name).join("expected"), rows.schema_ref()) {
                Ok(expected) => compare(&rows, &expected),
                Err(e) => Reading::Wrong(format!("the expected rows can't be read: {e}")),
            },
        };
        readings.push((name, reading));
    }
    Ok(readings)
}

async fn table(engine: &Arc<dyn Engine>, catalog: &LocalCatalog, name: &str) -> Result<RecordBatch, Error> {
    let principal = Principal::new("conformance");
    let snapshot = catalog.snapshot(&principal, &TableName::new("lake", name, "delta"), &AsOf::Latest).await?;
    let query = Fixture::whole(&snapshot).map_err(|e| Error::internal(e.to_string()))?;
    engine.eligible(&query).map_err(|refusal| Error::not_eligible(refusal.reason))?;
    let execution = Execution {
        query_id: QueryId::generate(),
        principal,
        token: None,
        deadline: None,
        traceparent: None,
        findings: Default::default(),
    };
    let mut stream = engine.execute(query, execution).await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(conformed(&batch?, &snapshot.schema).map_err(|e| Error::internal(e.to_string()))?);
    }
    concat_batches(&snapshot.schema, &batches).map_err(|e| Error::internal(e.to_string()))
}

fn conformed(batch: &RecordBatch, schema: &SchemaRef) -> Outcome<RecordBatch> {
    let options = CastOptions { safe: false, ..Default::default() };
    let columns: Result<Vec<_>, _> =
        batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast_with_options(column, field.data_type(), &options)).collect();
    Ok(RecordBatch::try_new(schema.clone(), columns?)?)
}

fn expected(folder: &Path, schema: &SchemaRef) -> Outcome<RecordBatch> {
    let mut batches = Vec::new();
    for path in parquet_files(folder)? {
        // Nanoseconds, as INT96 are read by default, can't hold every instant.
        let file = File::open(&path)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(&file, options.clone())?;
        let in_micros = Schema::new(micros(metadata.schema().fields()));
        let metadata = ArrowReaderMetadata::load(&file, options.with_schema(Arc::new(in_micros)))?;
        for batch in ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata).build()? {
            let batch = batch?;
            let columns: Result<Vec<usize>, _> = schema.fields().iter().map(|field| batch.schema().index_of(field.name())).collect();
            // The expectation's own types are the writer's: names and nullability may differ.
            let batch = batch.project(&columns?)?;
            batches.push(conformed(&batch, &nullable(schema))?);
        }
    }
    Ok(concat_batches(&nullable(schema), &batches)?)
}

fn parquet_files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(parquet_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(found)
}

fn nullable(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

fn micros(fields: &Fields) -> Fields {
    fields.iter().map(|field| field.as_ref().clone().with_data_type(micros_type(field.data_type()))).collect()
}

fn micros_type(ty: &DataType) -> DataType {
    let inner = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(micros_type(field.data_type())));
    match ty {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Struct(fields) => DataType::Struct(micros(fields)),
        DataType::List(element) => DataType::List(inner(element)),
        DataType::Map(entries, ordered) => DataType::Map(inner(entries), *ordered),
        other => other.clone(),
    }
}

fn compare(seen: &RecordBatch, expected: &RecordBatch) -> Reading {
    match (lines(seen), lines(expected)) {
        (Ok(seen), Ok(expected)) if seen == expected => Reading::Same,
        (Ok(seen), Ok(expected)) => {
            let first = seen.iter().zip(&expected).find(|(a, b)| a != b);
            Reading::Wrong(format!("{} rows, not {}; first difference {first:?}", seen.len(), expected.len()))
        }
        (Err(e), _) | (_, Err(e)) => Reading::Wrong(e.to_string()),
    }
}

/// Each row as text, sorted.
fn lines(batch: &RecordBatch) -> Outcome<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options)).collect::<Result<Vec<_>, _>>()?;
    let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("\u{1f}");
    let mut lines: Vec<String> = (0..batch.num_rows()).map(line).collect();
    lines.sort();
    Ok(lines)
}
