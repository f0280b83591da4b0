//! One version of one table, complete enough that no engine needs to ask further.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use flightpath_types::{Error, Principal, Result};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::{Home, StorageAccess, TableName};

/// A pinned version. Immutable; passed on behind its `Arc`.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    pub name: TableName,
    pub format: TableFormat,
    /// Delta's version; for plain Parquet a hash of the file list, so that caches can key on it.
    pub version: u64,
    /// When this version was committed, milliseconds since the Unix epoch.
    pub committed_unix_ms: Option<i64>,
    /// The logical schema in Databricks' types: Utf8 (never views), Decimal128, Date32,
    /// Timestamp(us, "UTC") for TIMESTAMP, Timestamp(us, None) for TIMESTAMP_NTZ, List with item
    /// field `element`, Map with `entries`/`key`/`value`. Column order is the table's.
    pub schema: SchemaRef,
    /// Parallel to `schema`.
    pub columns: Vec<Column>,
    /// Indices into `schema`.
    pub partition_columns: Vec<usize>,
    pub contents: TableContents,
    pub access: AccessRules,
    pub home: Home,
    /// How to get at the files; `None`: with this process's own rights.
    pub storage: Option<Arc<dyn StorageAccess>>,
    /// Where the table lives, for DESCRIBE DETAIL; never sent to a client without the right to see it.
    pub location: String,
    pub properties: BTreeMap<String, String>,
    /// Delta protocol, for DESCRIBE DETAIL and refusals: reader features in force.
    pub min_reader_version: u32,
    pub min_writer_version: u32,
    pub reader_features: Vec<String>,
    pub writer_features: Vec<String>,
    pub table_id: Option<String>,
    pub description: Option<String>,
    pub created_unix_ms: Option<i64>,
}

impl TableSnapshot {
    /// The data files; empty for tables that have none, and for those that only their home can read.
    pub fn files(&self) -> &[Arc<DataFile>] {
        match &self.contents {
            TableContents::Files(files) => files,
            TableContents::System(_) | TableContents::Remote => &[],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableFormat {
    Delta,
    Parquet,
    /// Made by this program: `system.queries` and its kind.
    System,
    /// Known by its columns alone: its files, if it has any, are its home's own business.
    Remote,
}

impl TableFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            TableFormat::Delta => "delta",
            TableFormat::Parquet => "parquet",
            TableFormat::System => "system",
            TableFormat::Remote => "remote",
        }
    }
}

#[derive(Clone)]
pub enum TableContents {
    Files(Arc<Vec<Arc<DataFile>>>),
    System(Arc<dyn SystemTable>),
    /// Only the table's home may read it. Not the same as an empty table.
    Remote,
}

impl fmt::Debug for TableContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableContents::Files(files) => write!(f, "Files({})", files.len()),
            TableContents::System(_) => f.write_str("System"),
            TableContents::Remote => f.write_str("Remote"),
        }
    }
}

/// A table made in memory when it is read. A small one says [`SystemTable::read`], one that may be large
/// [`SystemTable::scan`].
#[async_trait]
pub trait SystemTable: Send + Sync + 'static {
    fn schema(&self) -> SchemaRef;

    /// All rows this principal may see, newest first where that applies.
    async fn read(&self, _principal: &Principal) -> Result<Vec<RecordBatch>> {
        Err(Error::internal("this system table is read in parts"))
    }

    /// The column by which [`SystemTable::scan`] orders its rows: newest first, or oldest first when asked to.
    fn ordered_by(&self) -> Option<usize> {
        None
    }

    /// The rows this principal may see, a part after the other as they are asked for; ends with its first
    /// error. Called on the runtime that the table's connections belong to.
    fn scan(self: Arc<Self>, principal: Principal, _wanted: SystemScan) -> SystemRows {
        let all = async move { self.read(&principal).await };
        futures::stream::once(all).map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok))).try_flatten().boxed()
    }
}

/// A system table's rows.
pub type SystemRows = BoxStream<'static, Result<RecordBatch>>;

/// What a scan of a system table is for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SystemScan {
    /// Columns that are looked at, as indices into the schema. The others are there, but may hold anything.
    pub columns: Vec<usize>,
    /// Rows for which one of these doesn't hold aren't looked at: they may be left out, and needn't be.
    pub conditions: Vec<SystemCondition>,
    /// By the column that the table orders its rows by.
    pub oldest_first: bool,
}

/// `column comparison value`
#[derive(Debug, Clone, PartialEq)]
pub struct SystemCondition {
    pub column: usize,
    pub comparison: Comparison,
    pub value: SystemValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SystemValue {
    Text(String),
    /// Microseconds since the Unix epoch.
    Instant(i64),
}

/// How a logical column is found in the data files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name in the Parquet files (column mapping), the logical name otherwise. Nested fields'
    /// physical names stand in the metadata `delta.columnMapping.physicalName` of the schema's fields.
    pub physical_name: String,
    /// Parquet field id that column mapping by id asks for.
    pub field_id: Option<i32>,
    /// Column comment.
    pub comment: Option<String>,
    /// Set when the column's type was widened, or anything else makes older files hold another
    /// type than the schema: those files need a cast.
    pub widened: bool,
}

/// One data file of the snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Absolute and canonical; a local path without scheme, or a URL of an object store.
    pub path: String,
    pub size_bytes: u64,
    pub modified_unix_ms: i64,
    /// From statistics; before deletions are taken off.
    pub rows: Option<u64>,
    /// Parallel to `TableSnapshot::partition_columns`; a one-row array of the column's type each
    /// (null for NULL), decoded already.
    pub partition_values: Vec<arrow::array::ArrayRef>,
    /// Parallel to `TableSnapshot::schema`; empty when the file has no statistics.
    pub stats: Vec<ColumnStats>,
    /// Rows that count as deleted.
    pub deletion_vector: Option<DeletionVector>,
}

/// Bounds of one column in one file. Truncated strings are still bounds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ColumnStats {
    /// One-row array of the column's type, or none when unknown.
    pub min: Option<arrow::array::ArrayRef>,
    pub max: Option<arrow::array::ArrayRef>,
    pub nulls: Option<u64>,
}

/// Row positions in one file that are deleted, ascending; read when the snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionVector {
    pub rows: Arc<Vec<u64>>,
}

/// What is known about who may read what. Anything but `Free` keeps a table on the governed engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AccessRules {
    /// Known to be free of filters and masks, and readable by the principal.
    Free,
    /// The reason why not, or why it isn't known.
    Governed(String),
}

/// One line of DESCRIBE HISTORY.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitInfo {
    pub version: u64,
    pub timestamp_unix_ms: Option<i64>,
    pub user_id: Option<String>,
    pub user_name: Option<String>,
    pub operation: Option<String>,
    pub operation_parameters: BTreeMap<String, String>,
    pub operation_metrics: BTreeMap<String, String>,
    pub is_blind_append: Option<bool>,
    pub engine_info: Option<String>,
}
