//! Plain Parquet files as a table: schema and statistics from their footers. Never unions files
//! whose columns disagree, and never leaves files out without saying so.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::datatypes::{Field, Schema};
use flightpath_types::{Error, ErrorKind, Result};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use crate::{AccessRules, Column, ColumnStats, DataFile, Home, Limits, TableContents, TableFormat, TableName, TableSnapshot, errors};

mod footer;

use footer::Footer;

/// Footers read at once by one load.
const READERS: usize = 4;

/// A snapshot and the footers it came from, which the next one reuses where files are unchanged.
pub(crate) struct Loaded {
    pub snapshot: Arc<TableSnapshot>,
    files: Vec<(FileId, Arc<Footer>)>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct FileId {
    path: PathBuf,
    size: u64,
    modified_ns: u128,
}

impl Loaded {
    /// Whether the files are still those that were read.
    pub fn is_current(&self, name: &TableName, root: &Path, limits: &Limits) -> Result<bool> {
        let now = list(name, root, limits)?;
        Ok(now.len() == self.files.len() && now.iter().zip(&self.files).all(|(a, (b, _))| a == b))
    }
}

/// `root` is one file or a folder of them, canonical.
pub(crate) fn load(name: &TableName, root: &Path, limits: &Limits, previous: Option<&Loaded>) -> Result<Loaded> {
    let ids = list(name, root, limits)?;
    let known: HashMap<&FileId, &Arc<Footer>> = previous.iter().flat_map(|p| p.files.iter().map(|(id, footer)| (id, footer))).collect();
    let footers = read_footers(name, &ids, &known)?;
    let files: Vec<(FileId, Arc<Footer>)> = ids.into_iter().zip(footers).collect();
    let snapshot = Arc::new(snapshot(name, root, limits, &files)?);
    Ok(Loaded { snapshot, files })
}

fn list(name: &TableName, root: &Path, limits: &Limits) -> Result<Vec<FileId>> {
    let unreadable = |e: std::io::Error| errors::io(&format!("can't read the files of table {name} in"), root, &e);
    let id = |path: PathBuf| -> std::io::Result<FileId> {
        let metadata = std::fs::metadata(&path)?;
        let modified_ns = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        Ok(FileId { path, size: metadata.len(), modified_ns })
    };
    if std::fs::metadata(root).map_err(unreadable)?.is_file() {
        return Ok(vec![id(root.to_path_buf()).map_err(unreadable)?]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (file_name, path) = (entry.file_name(), entry.path());
        let file_name = file_name.to_string_lossy();
        if file_name.starts_with(['.', '_']) {
            continue;
        }
        if std::fs::metadata(&path).map_err(unreadable)?.is_dir() {
            return Err(errors::not_eligible(
                name,
                format!(
                    "its folder of Parquet files has the subfolder `{file_name}`; Parquet tables in several folders aren't supported: write it as a Delta table"
                ),
            ));
        }
        if crate::discover::is_parquet(&path) {
            files.push(id(path).map_err(unreadable)?);
        }
        if files.len() > limits.files_max {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("table {name} has more than {} files; merge them, or raise the limit", limits.files_max),
            ));
        }
    }
    if files.is_empty() {
        return Err(errors::data_loss(name, "its folder has no Parquet files any more", errors::RESTORE_FILE));
    }
    files.sort();
    Ok(files)
}

fn read_footers(name: &TableName, ids: &[FileId], known: &HashMap<&FileId, &Arc<Footer>>) -> Result<Vec<Arc<Footer>>> {
    let read_all = |part: &[FileId]| -> Result<Vec<Arc<Footer>>> {
        part.iter().map(|id| known.get(id).map_or_else(|| read_footer(name, id).map(Arc::new), |footer| Ok(Arc::clone(footer)))).collect()
    };
    if ids.len() < 2 * READERS {
        return read_all(ids);
    }
    let parts: Vec<&[FileId]> = ids.chunks(ids.len().div_ceil(READERS)).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = parts.iter().map(|part| scope.spawn(|| read_all(part))).collect();
        let mut footers = Vec::with_capacity(ids.len());
        for reader in readers {
            let part =
                reader.join().map_err(|_| errors::data_loss(name, "reading a Parquet footer failed unexpectedly", errors::RESTORE_FILE))?;
            footers.extend(part?);
        }
        Ok(footers)
    })
}

fn read_footer(name: &TableName, id: &FileId) -> Result<Footer> {
    let damaged = |what: String| errors::data_loss(name, format!("`{}`: {what}", id.path.display()), errors::RESTORE_FILE);
    let file = File::open(&id.path).map_err(|e| errors::io("can't open the file", &id.path, &e))?;
    // Without the embedded Arrow schema: a file's types are what Parquet says, whoever wrote it.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(&file, options).map_err(|e| damaged(format!("isn't a whole Parquet file: {e}")))?;
    Footer::of(&metadata).map_err(|reason| match reason {
        footer::Unreadable::Type(what) => errors::not_eligible(name, what),
        footer::Unreadable::Damaged(what) => damaged(what),
    })
}

fn snapshot(name: &TableName, root: &Path, limits: &Limits, files: &[(FileId, Arc<Footer>)]) -> Result<TableSnapshot> {
    let (fields, widened) = union(name, files)?;
    let columns: Vec<Column> = fields
        .iter()
        .zip(widened)
        .map(|(field, widened)| Column { physical_name: field.name().clone(), field_id: None, comment: None, widened })
        .collect();
    let keep_stats = files.len().saturating_mul(columns.len()) < limits.stats_columns_max;
    let data_files = files.iter().map(|(id, footer)| data_file(name, id, footer, &fields, keep_stats)).collect::<Result<Vec<_>>>()?;
    let newest = data_files.iter().map(|f| f.modified_unix_ms).max();
    Ok(TableSnapshot {
        name: name.clone(),
        format: TableFormat::Parquet,
        version: version(files),
        committed_unix_ms: newest,
        schema: Arc::new(Schema::new(fields)),
        columns,
        partition_columns: Vec::new(),
        contents: TableContents::Files(Arc::new(data_files)),
        access: AccessRules::Free,
        home: Home::Local,
        storage: None,
        location: root.display().to_string(),
        properties: BTreeMap::new(),
        min_reader_version: 0,
        min_writer_version: 0,
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        table_id: None,
        description: None,
        created_unix_ms: None,
    })
}

/// The first file's columns, then those that only later files have; and which are stored otherwise
/// than the table's type somewhere. Columns of one name must have one type.
fn union(name: &TableName, files: &[(FileId, Arc<Footer>)]) -> Result<(Vec<Field>, Vec<bool>)> {
    let mut fields: Vec<Field> = Vec::new();
    let mut widened: Vec<bool> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    for (id, footer) in files {
        for column in &footer.columns {
            let at = *index.entry(column.field.name().to_lowercase()).or_insert_with(|| {
                fields.push(column.field.clone());
                widened.push(false);
                fields.len() - 1
            });
            if fields[at] != column.field {
                let what = format!(
                    "its Parquet files disagree about the column `{}`: `{}` of type {} in some, `{}` of type {} in `{}`; write them with one schema",
                    fields[at].name(),
                    fields[at].name(),
                    fields[at].data_type(),
                    column.field.name(),
                    column.field.data_type(),
                    id.path.display()
                );
                return Err(errors::not_eligible(name, what));
            }
            widened[at] |= column.converted;
        }
    }
    Ok((fields, widened))
}

fn data_file(name: &TableName, id: &FileId, footer: &Footer, fields: &[Field], keep_stats: bool) -> Result<Arc<DataFile>> {
    let path =
        id.path.to_str().ok_or_else(|| errors::not_eligible(name, format!("the name of its file `{}` isn't UTF-8", id.path.display())))?;
    let by_name: HashMap<&str, &ColumnStats> = footer.columns.iter().map(|c| (c.field.name().as_str(), &c.stats)).collect();
    let stats = |field: &Field| match by_name.get(field.name().as_str()) {
        Some(stats) => (*stats).clone(),
        // A column the file lacks is NULL in each row.
        None => ColumnStats { min: None, max: None, nulls: Some(footer.rows) },
    };
    Ok(Arc::new(DataFile {
        path: path.to_string(),
        size_bytes: id.size,
        modified_unix_ms: i64::try_from(id.modified_ns / 1_000_000).unwrap_or(i64::MAX),
        rows: Some(footer.rows),
        partition_values: Vec::new(),
        stats: if keep_stats { fields.iter().map(stats).collect() } else { Vec::new() },
        deletion_vector: None,
    }))
}

/// FNV-1a over the file list, without the top bit so that it fits a BIGINT.
fn version(files: &[(FileId, Arc<Footer>)]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (id, _) in files {
        add(id.path.as_os_str().as_encoded_bytes());
        add(&id.size.to_le_bytes());
        add(&id.modified_ns.to_le_bytes());
    }
    hash & (u64::MAX >> 1)
}
