//! Tables in memory, whose versions the tests move on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use flightpath_catalog::{
    AccessRules, AsOf, Catalog, Column, ColumnStats, CommitInfo, DataFile, Home, SystemTable, TableContents, TableFormat, TableKind,
    TableName, TableSnapshot, TableSummary,
};
use flightpath_types::{Error, Principal, Result};
use parking_lot::Mutex;

#[derive(Default)]
pub struct FakeCatalog {
    tables: Mutex<BTreeMap<TableName, Arc<TableSnapshot>>>,
    pub asked: AtomicUsize,
}

impl FakeCatalog {
    pub fn with_sales() -> Arc<Self> {
        let catalog = Self::default();
        catalog.put(sales(1));
        catalog.put(people());
        Arc::new(catalog)
    }

    pub fn put(&self, snapshot: TableSnapshot) {
        self.tables.lock().insert(snapshot.name.clone(), Arc::new(snapshot));
    }

    fn find(&self, name: &TableName) -> Option<Arc<TableSnapshot>> {
        let tables = self.tables.lock();
        let same = |n: &TableName| {
            n.catalog.eq_ignore_ascii_case(&name.catalog)
                && n.schema.eq_ignore_ascii_case(&name.schema)
                && n.table.eq_ignore_ascii_case(&name.table)
        };
        tables.iter().find(|(n, _)| same(n)).map(|(_, snapshot)| snapshot.clone())
    }
}

#[async_trait]
impl Catalog for FakeCatalog {
    async fn snapshot(&self, _: &Principal, name: &TableName, as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = self.find(name).ok_or_else(|| Error::not_found(format!("table {name} doesn't exist")))?;
        match as_of {
            AsOf::Version(version) if *version != found.version => Ok(Arc::new(sales(*version))),
            _ => Ok(found),
        }
    }

    fn cached_snapshot(&self, _: &Principal, name: &TableName) -> Option<Arc<TableSnapshot>> {
        self.find(name)
    }

    async fn catalogs(&self, _: &Principal) -> Result<Vec<String>> {
        Ok(vec!["lake".into(), "system".into()])
    }

    async fn schemas(&self, _: &Principal, _: &str) -> Result<Vec<String>> {
        Ok(vec!["default".into(), "other".into()])
    }

    async fn tables(&self, _: &Principal, catalog: &str, schema: &str) -> Result<Vec<TableSummary>> {
        let tables = self.tables.lock();
        let here = tables.keys().filter(|n| n.catalog.as_ref() == catalog && n.schema.as_ref() == schema);
        Ok(here.map(|n| TableSummary { name: n.clone(), kind: TableKind::Table, format: "delta" }).collect())
    }

    async fn history(&self, _: &Principal, _: &TableName, limit: usize) -> Result<Vec<CommitInfo>> {
        let commit = |version| CommitInfo {
            version,
            timestamp_unix_ms: Some(1_700_000_000_000 + version as i64),
            user_id: None,
            user_name: Some("ada".into()),
            operation: Some("WRITE".into()),
            operation_parameters: BTreeMap::from([("mode".to_string(), "Append".to_string())]),
            operation_metrics: BTreeMap::new(),
            is_blind_append: Some(true),
            engine_info: None,
        };
        Ok((0..3).rev().map(commit).take(limit).collect())
    }

    async fn refresh(&self, _: &Principal, _: &TableName) -> Result<()> {
        Ok(())
    }
}

pub fn table(name: TableName, fields: Vec<Field>, files: Vec<DataFile>) -> TableSnapshot {
    let columns = fields.iter().map(|f| Column { physical_name: f.name().clone(), field_id: None, comment: None, widened: false });
    TableSnapshot {
        name,
        format: TableFormat::Delta,
        version: 1,
        committed_unix_ms: Some(1_700_000_000_000),
        columns: columns.collect(),
        schema: Arc::new(Schema::new(fields)),
        partition_columns: Vec::new(),
        contents: TableContents::Files(Arc::new(files.into_iter().map(Arc::new).collect())),
        access: AccessRules::Free,
        home: Home::Local,
        storage: None,
        location: "/data/table".into(),
        properties: BTreeMap::from([("delta.appendOnly".to_string(), "true".to_string())]),
        min_reader_version: 1,
        min_writer_version: 2,
        reader_features: Vec::new(),
        writer_features: vec!["appendOnly".into()],
        table_id: Some("1-2-3".into()),
        description: None,
        created_unix_ms: Some(1_600_000_000_000),
    }
}

pub fn file(path: &str, rows: u64) -> DataFile {
    DataFile {
        path: path.into(),
        size_bytes: 1_000,
        modified_unix_ms: 0,
        rows: Some(rows),
        partition_values: Vec::new(),
        stats: Vec::new(),
        deletion_vector: None,
    }
}

pub fn stats(min: ArrayRef, max: ArrayRef, nulls: u64) -> ColumnStats {
    ColumnStats { min: Some(min), max: Some(max), nulls: Some(nulls) }
}

fn unknown(columns: usize) -> Vec<ColumnStats> {
    vec![ColumnStats::default(); columns]
}

pub fn int(value: i32) -> ArrayRef {
    Arc::new(Int32Array::from(vec![value]))
}

pub fn text(value: Option<&str>) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

/// `lake.default.sales`, by region: `eu` with ids 1 to 10 and 11 to 20, `us` with 21 to 30, and
/// NULL without statistics.
pub fn sales(version: u64) -> TableSnapshot {
    let fields = vec![
        Field::new("id", DataType::Int32, true),
        Field::new("amount", DataType::Decimal128(10, 2), true),
        Field::new("region", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("score", DataType::Float64, true),
    ];
    let part = |name: &str, region: Option<&str>, ids: Option<(i32, i32)>| {
        let mut stats_of = unknown(5);
        if let Some((min, max)) = ids {
            stats_of[0] = stats(int(min), int(max), 0);
            let score = |v: i32| Arc::new(arrow::array::Float64Array::from(vec![f64::from(v)])) as ArrayRef;
            stats_of[4] = stats(score(min), score(max), 0);
            let at = |v: i32| {
                Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![i64::from(v) * 1_000]).with_timezone("UTC")) as ArrayRef
            };
            stats_of[3] = stats(at(min), at(max), 0);
        }
        let value: ArrayRef = text(region);
        assert_eq!(value.len(), 1);
        DataFile { partition_values: vec![value], stats: stats_of, ..file(name, 10) }
    };
    let files = vec![
        part("eu-1", Some("eu"), Some((1, 10))),
        part("eu-2", Some("eu"), Some((11, 20))),
        part("us-1", Some("us"), Some((21, 30))),
        part("none", None, None),
    ];
    TableSnapshot { partition_columns: vec![2], version, ..table(TableName::new("lake", "default", "sales"), fields, files) }
}

pub fn people() -> TableSnapshot {
    let fields = vec![Field::new("id", DataType::Int32, false), Field::new("name", DataType::Utf8, true)];
    table(TableName::new("lake", "default", "people"), fields, vec![file("people", 100)])
}

#[derive(Debug)]
struct Queries(SchemaRef);

#[async_trait]
impl SystemTable for Queries {
    fn schema(&self) -> SchemaRef {
        self.0.clone()
    }

    async fn read(&self, _: &Principal) -> Result<Vec<RecordBatch>> {
        Ok(Vec::new())
    }
}

pub fn system_queries() -> TableSnapshot {
    let table = table(TableName::new("system", "system", "queries"), vec![Field::new("query_id", DataType::Utf8, false)], Vec::new());
    let contents = TableContents::System(Arc::new(Queries(table.schema.clone())));
    TableSnapshot { format: TableFormat::System, contents, ..table }
}
