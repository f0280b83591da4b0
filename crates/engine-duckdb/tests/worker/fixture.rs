//! Workers, tables and queries to test with.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::logical_expr::LogicalPlanBuilder;
use flightpath_catalog::{AccessRules, Column, DataFile, DeletionVector, Home, TableContents, TableFormat, TableName, TableSnapshot};
use flightpath_engine::{BatchStream, Engine, Execution};
use flightpath_engine_duckdb::{Config, DuckdbEngine};
use flightpath_plan::{CompiledSql, PlannedQuery, ScanBinding, ScanId};
use flightpath_types::{Dialect, Error, Features, Fingerprint, Principal, QueryId, Refusal, RefusalClass, Session};
use futures::StreamExt;
use parquet::arrow::ArrowWriter;

pub const WORKER_VARIABLE: &str = "FLIGHTPATH_TEST_WORKER";
/// Enough for a loaded machine; nothing waits that long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn config() -> Config {
    let mut config = Config::new(std::env::current_exe().unwrap(), 1 << 30, 2);
    config.arguments = vec!["--exact".into(), "worker_process".into(), "--nocapture".into(), "--test-threads=1".into()];
    config.environment = vec![(WORKER_VARIABLE.into(), "1".into())];
    config.start_max = PATIENCE;
    config.silence_down = Duration::from_secs(30);
    config.silence_kill = Duration::from_secs(60);
    config
}

pub async fn start(config: Config) -> DuckdbEngine {
    let engine = DuckdbEngine::start(config);
    engine.ready().await.unwrap();
    engine
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub fn execution() -> Execution {
    Execution {
        query_id: QueryId::generate(),
        principal: Principal::new("tester"),
        token: None,
        deadline: None,
        traceparent: None,
        findings: Default::default(),
    }
}

/// A query as the planner would hand it over; its scans are `s0`, `s1`...
pub fn query(sql: &str, scans: Vec<ScanBinding>) -> Arc<PlannedQuery> {
    let plan = LogicalPlanBuilder::empty(true).build().unwrap();
    let scans: BTreeMap<ScanId, ScanBinding> = scans.into_iter().enumerate().map(|(i, scan)| (ScanId(i as u32), scan)).collect();
    Arc::new(PlannedQuery {
        text: sql.into(),
        fingerprint: Fingerprint::of(sql),
        session: Session::new(Principal::new("tester")),
        plan: plan.clone(),
        optimized: plan,
        schema: Arc::new(Schema::empty()),
        tables: Vec::new(),
        duckdb: Ok(CompiledSql { sql: sql.into(), scans: scans.keys().copied().collect() }),
        scans,
        features: Features::default(),
        databricks: Err(Refusal::new(RefusalClass::Policy, "no warehouse")),
        datafusion: Ok(()),
        ordered: false,
        deterministic: true,
        comparable: true,
    })
}

/// The same text as a user's own, in the `duckdb` dialect.
pub fn user_query(sql: &str, scans: Vec<ScanBinding>) -> Arc<PlannedQuery> {
    let mut query = Arc::into_inner(query(sql, scans)).unwrap();
    query.session.dialect = Dialect::Duckdb;
    Arc::new(query)
}

pub async fn collect(stream: BatchStream) -> Result<Vec<RecordBatch>, Error> {
    let mut stream = stream;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch?);
    }
    Ok(batches)
}

pub async fn run(engine: &DuckdbEngine, query: Arc<PlannedQuery>) -> Result<Vec<RecordBatch>, Error> {
    let stream = engine.execute(query, execution()).await?;
    collect(stream).await
}

/// The result as text, one line per row, columns separated by ` | `.
pub async fn rows(engine: &DuckdbEngine, query: Arc<PlannedQuery>) -> Vec<String> {
    let batches = run(engine, query).await.unwrap();
    if batches.is_empty() {
        return Vec::new();
    }
    let whole = concat_batches(&batches[0].schema(), &batches).unwrap();
    let table = pretty_format_batches(&[whole]).unwrap().to_string();
    let lines = table.lines().skip(3).filter(|l| l.starts_with('|'));
    lines.map(|l| l.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" | ")).collect()
}

pub async fn sql(engine: &DuckdbEngine, text: &str) -> Vec<String> {
    rows(engine, query(text, Vec::new())).await
}

pub fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) -> DataFile {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    data_file(path)
}

pub fn data_file(path: &Path) -> DataFile {
    DataFile {
        path: path.canonicalize().unwrap().to_str().unwrap().into(),
        size_bytes: path.metadata().unwrap().len(),
        modified_unix_ms: 0,
        rows: None,
        partition_values: Vec::new(),
        stats: Vec::new(),
        deletion_vector: None,
    }
}

pub fn with_partition(mut file: DataFile, value: ArrayRef) -> DataFile {
    file.partition_values.push(value);
    file
}

pub fn with_deleted(mut file: DataFile, rows: Vec<u64>) -> DataFile {
    file.deletion_vector = Some(DeletionVector { rows: Arc::new(rows) });
    file
}

pub fn snapshot(schema: SchemaRef, partition_columns: Vec<usize>, files: Vec<DataFile>) -> TableSnapshot {
    let columns =
        schema.fields().iter().map(|f| Column { physical_name: f.name().clone(), field_id: None, comment: None, widened: false }).collect();
    TableSnapshot {
        name: TableName::new("lake", "default", "t"),
        format: TableFormat::Delta,
        version: 0,
        committed_unix_ms: None,
        schema,
        columns,
        partition_columns,
        contents: TableContents::Files(Arc::new(files.into_iter().map(Arc::new).collect())),
        access: AccessRules::Free,
        home: Home::Local,
        storage: None,
        location: String::new(),
        properties: BTreeMap::new(),
        min_reader_version: 1,
        min_writer_version: 2,
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        table_id: None,
        description: None,
        created_unix_ms: None,
    }
}

/// All files and columns of a snapshot.
pub fn scan(snapshot: TableSnapshot) -> ScanBinding {
    let files = Arc::new(snapshot.files().to_vec());
    let columns = (0..snapshot.schema.fields().len()).collect();
    ScanBinding { snapshot: Arc::new(snapshot), files, columns }
}

pub fn table(schema: Schema, partition_columns: Vec<usize>, files: Vec<DataFile>) -> ScanBinding {
    scan(snapshot(Arc::new(schema), partition_columns, files))
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
