//! Logs written by hand, and a catalog over a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_catalog::{AsOf, Catalog, Config, LocalCatalog, TableName, TableSnapshot};
use flightpath_types::{Error, Principal, Result};

/// A folder of tables that goes away with the test.
pub struct Lake {
    pub folder: tempfile::TempDir,
}

impl Lake {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Refreshes in the background so rarely that a test never sees it.
    pub async fn catalog(&self) -> LocalCatalog {
        LocalCatalog::open(quiet(vec![self.path().into()])).await.unwrap()
    }

    pub async fn fails(&self, table: &str) -> Error {
        latest(&self.catalog().await, table).await.unwrap_err()
    }

    pub async fn reads(&self, table: &str) -> Arc<TableSnapshot> {
        latest(&self.catalog().await, table).await.unwrap()
    }

    pub fn table(&self, name: &str) -> Log {
        Log::create(&self.path().join(name))
    }
}

pub fn quiet(data: Vec<PathBuf>) -> Config {
    Config { refresh_interval: Duration::from_secs(3600), preload_tables_max: 0, ..Config::new(data) }
}

pub fn anyone() -> Principal {
    Principal::new("anonymous")
}

pub fn name(table: &str) -> TableName {
    match table.split_once('.') {
        Some((schema, table)) => TableName::new("lake", schema, table),
        None => TableName::new("lake", "default", table),
    }
}

pub async fn latest(catalog: &LocalCatalog, table: &str) -> Result<Arc<TableSnapshot>> {
    catalog.snapshot(&anyone(), &name(table), &AsOf::Latest).await
}

/// Waits until `probe` gives something, at most half a minute.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::task::yield_now().await;
    }
}

/// A Delta log made of hand-written actions.
pub struct Log {
    pub root: PathBuf,
}

pub const INT_SCHEMA: &str = r#"{"type":"struct","fields":[{"name":"id","type":"integer","nullable":true,"metadata":{}}]}"#;
pub const PROTOCOL_1: &str = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#;

pub fn protocol(reader: &[&str], writer: &[&str]) -> String {
    let list = |names: &[&str]| names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(",");
    format!(
        r#"{{"protocol":{{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":[{}],"writerFeatures":[{}]}}}}"#,
        list(reader),
        list(writer)
    )
}

pub fn metadata(schema: &str, partitions: &[&str], configuration: &str) -> String {
    let schema = serde_json::Value::String(schema.into());
    let partitions = serde_json::json!(partitions);
    format!(
        r#"{{"metaData":{{"id":"{}","format":{{"provider":"parquet","options":{{}}}},"schemaString":{schema},"partitionColumns":{partitions},"configuration":{{{configuration}}},"createdTime":1700000000000}}}}"#,
        "6a8a6bd6-0000-4000-8000-000000000001"
    )
}

pub fn add(path: &str, stats: &str) -> String {
    let stats = serde_json::Value::String(stats.into());
    format!(
        r#"{{"add":{{"path":"{path}","partitionValues":{{}},"size":100,"modificationTime":1700000000000,"dataChange":true,"stats":{stats}}}}}"#
    )
}

impl Log {
    fn create(root: &Path) -> Self {
        fs::create_dir_all(root.join("_delta_log")).unwrap();
        Self { root: root.into() }
    }

    /// A table of one INT column.
    pub fn simple(self) -> Self {
        self.commit(0, &[PROTOCOL_1, &metadata(INT_SCHEMA, &[], ""), &add("f0.parquet", r#"{"numRecords":10}"#)]);
        self
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join("_delta_log").join(name)
    }

    pub fn commit_file(&self, version: u64) -> PathBuf {
        self.file(&format!("{version:020}.json"))
    }

    /// As writers do: whole, or not there.
    pub fn commit(&self, version: u64, actions: &[&str]) {
        let staged = self.file(&format!(".{version}.tmp"));
        fs::write(&staged, actions.join("\n") + "\n").unwrap();
        fs::rename(staged, self.commit_file(version)).unwrap();
    }

    pub fn append(&self, version: u64) {
        self.commit(version, &[&add(&format!("f{version}.parquet"), r#"{"numRecords":10}"#)]);
    }
}
