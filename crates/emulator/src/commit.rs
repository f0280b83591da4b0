//! Commits to a Delta log: append, replace, create. A version is claimed by making its file, which
//! fails if another writer was first; nothing that a reader may have seen is changed.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use flightpath_catalog::{TableFormat, TableSnapshot};
use flightpath_types::{Error, ErrorKind, Result};
use parquet::arrow::ArrowWriter;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::lakehouse::unsupported;
use crate::types;
use crate::wire::now_ms;

/// Appends that lose to another writer try the next version this often.
const TRIES_MAX: u64 = 100;
/// Features whose rules a plain append or rewrite keeps.
const KNOWN_FEATURES: [&str; 4] = ["appendOnly", "invariants", "deletionVectors", "timestampNtz"];

/// One Parquet file being written; unfinished, it's removed.
pub(crate) struct DataFiles {
    folder: PathBuf,
    name: String,
    schema: SchemaRef,
    writer: Option<ArrowWriter<File>>,
    rows: u64,
    /// Made for a new table, and to be removed with it if it fails.
    new_folder: bool,
    committed: bool,
}

impl DataFiles {
    pub fn create(folder: &Path, schema: SchemaRef) -> Result<Self> {
        let new_folder = !folder.exists();
        if new_folder {
            fs::create_dir_all(folder).map_err(|e| storing(folder, &e))?;
        }
        let name = format!("part-00000-{}.c000.parquet", Uuid::new_v4());
        let path = folder.join(&name);
        let file = File::create_new(&path).map_err(|e| storing(&path, &e))?;
        let writer = ArrowWriter::try_new(file, schema.clone(), None).map_err(|e| storing(&path, &e))?;
        Ok(Self { folder: folder.to_path_buf(), name, schema, writer: Some(writer), rows: 0, new_folder, committed: false })
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The batch's columns are the table's, in order.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), batch.columns().to_vec(), &options).map_err(|e| {
            Error::classed(ErrorKind::Raised, "DELTA_NOT_NULL_CONSTRAINT_VIOLATED", "23502", format!("the rows don't fit the table: {e}"))
        })?;
        self.rows += batch.num_rows() as u64;
        match &mut self.writer {
            Some(writer) => writer.write(&batch).map_err(|e| storing(&self.folder, &e)),
            None => Err(Error::internal("a data file is written after its end")),
        }
    }

    /// The `add` action; none when there are no rows.
    fn finish(&mut self) -> Result<Option<Json>> {
        if let Some(writer) = self.writer.take() {
            writer.close().map_err(|e| storing(&self.folder, &e))?;
        }
        if self.rows == 0 {
            return Ok(None);
        }
        let path = self.folder.join(&self.name);
        let size = fs::metadata(&path).map_err(|e| storing(&path, &e))?.len();
        Ok(Some(json!({"add": {
            "path": self.name, "partitionValues": {}, "size": size, "modificationTime": now_ms(), "dataChange": true,
            "stats": json!({"numRecords": self.rows}).to_string(),
        }})))
    }
}

impl Drop for DataFiles {
    fn drop(&mut self) {
        if !self.committed || self.rows == 0 {
            self.writer = None;
            // What isn't in the log isn't in the table; leaving it would only take space.
            let _ = fs::remove_file(self.folder.join(&self.name));
            if self.new_folder && !self.committed {
                let _ = fs::remove_dir_all(self.folder.join("_delta_log"));
                let _ = fs::remove_dir(&self.folder);
            }
        }
    }
}

/// Refuses tables that need more than this file knows.
pub(crate) fn check_writable(snapshot: &TableSnapshot) -> Result<()> {
    let name = &snapshot.name;
    if snapshot.format != TableFormat::Delta {
        return Err(unsupported(&format!("writing to {name}, which isn't a Delta table")));
    }
    if !snapshot.partition_columns.is_empty() {
        return Err(unsupported(&format!("writing to {name}, which is partitioned")));
    }
    let mapped = snapshot.columns.iter().zip(snapshot.schema.fields()).any(|(c, f)| c.physical_name != *f.name());
    let unknown = snapshot.writer_features.iter().find(|f| !KNOWN_FEATURES.contains(&f.as_str()));
    let old = snapshot.writer_features.is_empty() && snapshot.min_writer_version > 2;
    if mapped || unknown.is_some() || old {
        return Err(unsupported(&format!("writing to {name}, whose table features go further than the simulation's")));
    }
    Ok(())
}

/// Adds the rows in a version of their own.
pub(crate) fn append(snapshot: &TableSnapshot, mut files: DataFiles) -> Result<()> {
    let Some(add) = files.finish()? else { return Ok(()) };
    let lines = [info("WRITE", json!({"mode": "Append"})), add];
    for version in (snapshot.version + 1..).take(TRIES_MAX as usize) {
        if claim(Path::new(&snapshot.location), version, &lines)? {
            files.committed = true;
            return Ok(());
        }
    }
    Err(concurrent(snapshot))
}

/// Puts the rows in the place of all files of the snapshot.
pub(crate) fn replace(snapshot: &TableSnapshot, mut files: DataFiles, operation: &str) -> Result<()> {
    if snapshot.properties.get("delta.appendOnly").is_some_and(|v| v == "true") {
        let message = format!("This table is configured to only allow appends: {}", snapshot.name);
        return Err(Error::classed(ErrorKind::InvalidArgument, "DELTA_CANNOT_MODIFY_APPEND_ONLY", "42809", message));
    }
    if snapshot.files().iter().any(|f| f.deletion_vector.is_some()) {
        return Err(unsupported(&format!("{operation} on {}, which has deletion vectors", snapshot.name)));
    }
    let mut lines = vec![info(operation, json!({}))];
    for file in snapshot.files() {
        let path = Path::new(&file.path).strip_prefix(&snapshot.location).map_or(file.path.clone(), |p| p.display().to_string());
        lines.push(json!({"remove": {"path": escaped(&path), "deletionTimestamp": now_ms(), "dataChange": true}}));
    }
    lines.extend(files.finish()?);
    match claim(Path::new(&snapshot.location), snapshot.version + 1, &lines)? {
        true => {
            files.committed = true;
            Ok(())
        }
        false => Err(concurrent(snapshot)),
    }
}

/// Makes the folder a table with these rows.
pub(crate) fn create(mut files: DataFiles) -> Result<()> {
    let ntz = files.schema.fields().iter().any(|f| has_ntz(f.data_type()));
    let protocol = match ntz {
        true => {
            json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"]})
        }
        false => json!({"minReaderVersion": 1, "minWriterVersion": 2}),
    };
    let schema = types::spark_struct(files.schema.fields()).to_string();
    let mut lines = vec![
        info("CREATE TABLE AS SELECT", json!({})),
        json!({"protocol": protocol}),
        json!({"metaData": {
            "id": Uuid::new_v4().to_string(), "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
            "partitionColumns": [], "configuration": {}, "createdTime": now_ms(),
        }}),
    ];
    lines.extend(files.finish()?);
    let log = files.folder.join("_delta_log");
    fs::create_dir(&log).map_err(|e| storing(&log, &e))?;
    files.committed = claim(&files.folder, 0, &lines)?;
    match files.committed {
        true => Ok(()),
        false => Err(Error::unavailable("another writer made the same table")),
    }
}

/// Writes the version's file; false when it was there.
fn claim(table: &Path, version: u64, lines: &[Json]) -> Result<bool> {
    let log = table.join("_delta_log");
    let path = log.join(format!("{version:020}.json"));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    // Written aside and linked, so that no reader sees half of it.
    let aside = log.join(format!(".{}.tmp", Uuid::new_v4()));
    let written = OpenOptions::new().write(true).create_new(true).open(&aside).and_then(|mut file| file.write_all(text.as_bytes()));
    let linked = written.and_then(|()| fs::hard_link(&aside, &path));
    let _ = fs::remove_file(&aside);
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == IoKind::AlreadyExists => Ok(false),
        Err(error) => Err(storing(&path, &error)),
    }
}

fn info(operation: &str, parameters: Json) -> Json {
    json!({"commitInfo": {
        "timestamp": now_ms(), "operation": operation, "operationParameters": parameters,
        "engineInfo": "simulated Databricks (not the real one)",
    }})
}

fn has_ntz(ty: &DataType) -> bool {
    match ty {
        DataType::Timestamp(_, None) => true,
        DataType::List(item) | DataType::Map(item, _) => has_ntz(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_ntz(f.data_type())),
        _ => false,
    }
}

/// Paths in the log are URL-encoded.
fn escaped(path: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/=".contains(&b);
    path.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn concurrent(snapshot: &TableSnapshot) -> Error {
    let message = format!("Files were changed in {} by a concurrent update. Please try the operation again.", snapshot.name);
    Error::classed(ErrorKind::Unavailable, "DELTA_CONCURRENT_APPEND", "2D521", message)
}

fn storing(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::unavailable(format!("simulated Databricks can't write {}: {error}", path.display()))
}
