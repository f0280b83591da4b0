//! What the rest of the program may ask of a catalog.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use flightpath_types::{Principal, Result};

use crate::{CommitInfo, TableSnapshot};

/// A table's full name. Catalogs and schemas compare case-insensitively, as Databricks' do; this
/// type holds the names as the catalog spells them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    pub catalog: Arc<str>,
    pub schema: Arc<str>,
    pub table: Arc<str>,
}

impl TableName {
    pub fn new(catalog: &str, schema: &str, table: &str) -> Self {
        Self { catalog: catalog.into(), schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.schema, self.table)
    }
}

/// A name as written, completed by the session's catalog and schema. `system.queries` and the like
/// are completed to `system.system.queries`... by the binder: schema `system` exists in every catalog.
pub type ResolvedName = TableName;

/// Which version of a table a query asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AsOf {
    Latest,
    Version(u64),
    /// The newest version committed at or before this instant, microseconds since the Unix epoch.
    TimestampMicros(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableKind {
    Table,
    System,
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    pub name: TableName,
    pub kind: TableKind,
    /// `delta`, `parquet`, `system` or `remote`.
    pub format: &'static str,
}

/// Table metadata. Implementations cache; `resolve` on a cached table must not touch the disk
/// or network.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// The snapshot that a query reads. Unknown names are `NotFound` with the nearest names;
    /// a corrupt or truncated log is `DataLoss`; an unsupported reader feature is `NotEligible`.
    async fn snapshot(&self, principal: &Principal, name: &TableName, as_of: &AsOf) -> Result<Arc<TableSnapshot>>;

    /// Like [`Catalog::snapshot`] of the latest version, answered only if it can be without waiting.
    fn cached_snapshot(&self, principal: &Principal, name: &TableName) -> Option<Arc<TableSnapshot>>;

    async fn catalogs(&self, principal: &Principal) -> Result<Vec<String>>;
    async fn schemas(&self, principal: &Principal, catalog: &str) -> Result<Vec<String>>;
    async fn tables(&self, principal: &Principal, catalog: &str, schema: &str) -> Result<Vec<TableSummary>>;

    /// Commits newest first, at most `limit`.
    async fn history(&self, principal: &Principal, name: &TableName, limit: usize) -> Result<Vec<CommitInfo>>;

    /// Reads the newest version now, rather than at the next background refresh.
    async fn refresh(&self, principal: &Principal, name: &TableName) -> Result<()>;

    /// Something outside this program was changed on its behalf, it isn't known where: nothing that
    /// was learned before counts any more. Catalogs that nobody changes through us have nothing to do.
    async fn refresh_all(&self) {}
}
