//! The port to table metadata: a name becomes a *pinned snapshot*, the exact files of one version
//! with their statistics, partition values and deletion vectors. Every engine reads what the
//! snapshot says; nobody lists a log twice for one query. Never hands out a half-read snapshot.

#![forbid(unsafe_code)]

mod cloud;
mod config;
mod damage;
mod delta;
mod discover;
mod errors;
mod local;
mod log;
mod parquet_files;
mod port;
mod set;
mod snapshot;
mod storage;
mod table;
mod values;

pub use cloud::{CloudConfig, CloudLocation, CloudStores, TableStore, store_error};
pub use config::{Config, Limits};
pub use errors::{schema_not_found, table_not_found};
pub use local::LocalCatalog;
pub use log::{DeltaLog, DeltaLogs};
pub use port::{AsOf, Catalog, ResolvedName, TableKind, TableName, TableSummary};
pub use set::CatalogSet;
pub use snapshot::{
    AccessRules, Column, ColumnStats, CommitInfo, Comparison, DataFile, DeletionVector, SystemCondition, SystemRows, SystemScan,
    SystemTable, SystemValue, TableContents, TableFormat, TableSnapshot,
};
pub use storage::{Home, StorageAccess, StorageCredentials, StorageKeys};
