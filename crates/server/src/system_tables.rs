//! `system.queries`, `system.decisions`, `system.savings`, `system.engines`, `system.tables`: what the server knows
//! of itself, as tables.

mod pages;
mod records;
mod savings;
mod shadow;
pub(crate) mod workers;

use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use flightpath_catalog::{AccessRules, AsOf, Catalog, LocalCatalog, SystemRows, SystemScan, SystemTable};
use flightpath_engine::Engine;
use flightpath_pipeline::Administrators;
use flightpath_querylog::{HistoryFilter, RecordParts, Recorder, Store};
use flightpath_types::{EngineState, Error, Principal, QueryId, QueryRecord, Result};
use futures::StreamExt;
use pages::pages;
use savings::Savings;
use shadow::ShadowRuns;

/// A query that has ended is in its table when it is read, unless the log's database is this far behind.
const CATCH_UP_MAX: Duration = Duration::from_millis(500);

/// What the log's tables read from.
pub(crate) struct LogSource {
    pub store: Arc<dyn Store>,
    pub recorder: Recorder,
    /// Records that one scan may go through.
    pub rows_max: usize,
    /// Who sees what everybody did.
    pub administrators: Arc<Administrators>,
}

/// Registers all of them. `engines` are weak so that a table can't keep an engine from ending.
pub(crate) fn register(catalog: &Arc<LocalCatalog>, log: LogSource, engines: &[Arc<dyn Engine>]) {
    let log = Arc::new(log);
    catalog.register_system("queries", Arc::new(Queries { log: log.clone() }));
    catalog.register_system("decisions", Arc::new(Decisions { log: log.clone() }));
    catalog.register_system("savings", Arc::new(Savings::new(log.clone(), engines)));
    catalog.register_system("shadow_runs", Arc::new(ShadowRuns { log: log.clone() }));
    catalog.register_system("quarantine", Arc::new(QuarantineTable { log }));
    catalog.register_system("engines", Arc::new(Engines { engines: engines.iter().map(Arc::downgrade).collect() }));
    catalog.register_system("tables", Arc::new(Tables { catalog: Arc::downgrade(catalog) }));
}

struct Queries {
    log: Arc<LogSource>,
}

struct Decisions {
    log: Arc<LogSource>,
}

struct QuarantineTable {
    log: Arc<LogSource>,
}

struct Engines {
    engines: Vec<Weak<dyn Engine>>,
}

struct Tables {
    catalog: Weak<LocalCatalog>,
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, ty, nullable)| Field::new(*name, ty.clone(), *nullable)).collect::<Vec<_>>()))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<Vec<RecordBatch>> {
    one_batch(schema, columns).map(|batch| vec![batch])
}

fn one_batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns).map_err(|e| Error::internal(format!("system table: {e}")))
}

fn text<'a, T>(rows: &'a [T], get: impl Fn(&'a T) -> Option<&'a str>) -> ArrayRef {
    Arc::new(rows.iter().map(get).collect::<StringArray>())
}

fn long<T>(rows: &[T], get: impl Fn(&T) -> Option<u64>) -> ArrayRef {
    Arc::new(rows.iter().map(|r| get(r).map(|v| i64::try_from(v).unwrap_or(i64::MAX))).collect::<Int64Array>())
}

fn double<T>(rows: &[T], get: impl Fn(&T) -> f64) -> ArrayRef {
    Arc::new(rows.iter().map(|r| Some(get(r))).collect::<Float64Array>())
}

fn maybe_double<T>(rows: &[T], get: impl Fn(&T) -> Option<f64>) -> ArrayRef {
    Arc::new(rows.iter().map(get).collect::<Float64Array>())
}

fn boolean<T>(rows: &[T], get: impl Fn(&T) -> bool) -> ArrayRef {
    Arc::new(rows.iter().map(|r| Some(get(r))).collect::<BooleanArray>())
}

fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[async_trait]
impl SystemTable for Queries {
    fn schema(&self) -> SchemaRef {
        use DataType::{Boolean, Float64, Int64, Utf8};
        schema(&[
            ("query_id", Utf8, false),
            ("started_at", timestamp(), false),
            ("text", Utf8, false),
            ("fingerprint", Utf8, true),
            ("statement_kind", Utf8, false),
            ("session_id", Utf8, true),
            ("principal", Utf8, false),
            ("catalog", Utf8, false),
            ("schema", Utf8, false),
            ("dialect", Utf8, false),
            ("profile", Utf8, true),
            ("tag", Utf8, true),
            ("engine", Utf8, true),
            ("reason", Utf8, true),
            ("outcome", Utf8, false),
            ("error_kind", Utf8, true),
            ("error_message", Utf8, true),
            ("failovers", Utf8, false),
            ("tables", Utf8, false),
            ("files", Int64, false),
            ("files_total", Int64, false),
            ("scan_bytes", Int64, false),
            ("scan_rows", Int64, true),
            ("plan_cache_hit", Boolean, false),
            ("plan_ms", Float64, false),
            ("decide_ms", Float64, false),
            ("queue_ms", Float64, false),
            ("first_batch_ms", Float64, false),
            ("stream_ms", Float64, false),
            ("total_ms", Float64, false),
            ("result_rows", Int64, false),
            ("result_bytes", Int64, false),
            ("predicted_ms", Float64, true),
            ("predicted_usd", Float64, true),
            ("actual_usd", Float64, true),
            ("engine_ms", Float64, false),
            ("predicted_memory_bytes", Int64, true),
            ("memory_bytes", Int64, true),
            ("statement_id", Utf8, true),
            ("warehouse_ms", Float64, true),
            ("reconciled_at", timestamp(), true),
            ("predicted_p95_ms", Float64, true),
            ("predicted_usd_p95", Float64, true),
            ("predicted_memory_p95_bytes", Int64, true),
            ("predicted_bytes", Int64, true),
            ("predicted_p95_bytes", Int64, true),
            ("read_bytes", Int64, true),
        ])
    }

    fn ordered_by(&self) -> Option<usize> {
        self.schema().index_of("started_at").ok()
    }

    fn scan(self: Arc<Self>, principal: Principal, wanted: SystemScan) -> SystemRows {
        let schema = self.schema();
        let looks_at = |names: &[&str]| wanted.columns.iter().any(|column| names.contains(&schema.field(*column).name().as_str()));
        let parts = RecordParts {
            text: looks_at(&["text"]),
            features: looks_at(&["tables", "files", "files_total", "scan_bytes", "scan_rows"]),
            decision: looks_at(&[
                "reason",
                "predicted_ms",
                "predicted_usd",
                "predicted_memory_bytes",
                "predicted_p95_ms",
                "predicted_usd_p95",
                "predicted_memory_p95_bytes",
                "predicted_bytes",
                "predicted_p95_bytes",
            ]),
        };
        let filter = records::filter(&wanted.conditions, &schema);
        let asked = records::Asked { filter, oldest_first: wanted.oldest_first, parts };
        pages(self.log.clone(), &principal, asked).map(move |page| self.batch_of(&page?)).boxed()
    }
}

impl Queries {
    fn batch_of(&self, rows: &[QueryRecord]) -> Result<RecordBatch> {
        let ids: Vec<String> = rows.iter().map(|r| r.query_id.to_string()).collect();
        let fingerprints: Vec<Option<String>> = rows.iter().map(|r| r.fingerprint.map(|f| f.to_string())).collect();
        let failovers: Vec<String> = rows.iter().map(|r| r.failovers.join("; ")).collect();
        let tables: Vec<String> = rows.iter().map(table_versions).collect();
        let started = rows.iter().map(|r| Some(r.started_unix_ms.saturating_mul(1000))).collect::<TimestampMicrosecondArray>();
        let reconciled = rows.iter().map(|r| r.reconciled_unix_ms.map(|at| at.saturating_mul(1000))).collect::<TimestampMicrosecondArray>();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(&ids)),
            Arc::new(started.with_timezone("UTC")),
            text(rows, |r| Some(&r.text)),
            Arc::new(fingerprints.iter().map(|f| f.as_deref()).collect::<StringArray>()),
            text(rows, |r| Some(&r.statement_kind)),
            text(rows, |r| r.session_id.as_deref()),
            text(rows, |r| Some(&r.principal)),
            text(rows, |r| Some(&r.catalog)),
            text(rows, |r| Some(&r.schema)),
            text(rows, |r| Some(&r.dialect)),
            text(rows, |r| r.profile.as_deref()),
            text(rows, |r| r.tag.as_deref()),
            text(rows, |r| r.engine.as_deref()),
            text(rows, |r| r.decision.as_ref().map(|d| d.reason.as_str())),
            text(rows, |r| Some(r.outcome.as_str())),
            text(rows, |r| r.error_kind.map(|k| k.as_str())),
            text(rows, |r| r.error_message.as_deref()),
            Arc::new(StringArray::from_iter_values(&failovers)),
            Arc::new(StringArray::from_iter_values(&tables)),
            long(rows, |r| Some(r.features.files)),
            long(rows, |r| Some(r.features.files_total)),
            long(rows, |r| Some(r.features.scan_bytes)),
            long(rows, |r| r.features.scan_rows),
            boolean(rows, |r| r.plan_cache_hit),
            double(rows, |r| milliseconds(r.times.plan_us)),
            double(rows, |r| milliseconds(r.times.decide_us)),
            double(rows, |r| milliseconds(r.times.queue_us)),
            double(rows, |r| milliseconds(r.times.first_batch_us)),
            double(rows, |r| milliseconds(r.times.stream_us)),
            double(rows, |r| milliseconds(r.times.total_us)),
            long(rows, |r| Some(r.rows)),
            long(rows, |r| Some(r.bytes)),
            maybe_double(rows, |r| r.predicted().map(|n| n.latency_ms)),
            maybe_double(rows, |r| r.predicted().map(|n| n.usd)),
            maybe_double(rows, |r| r.usd_actual),
            double(rows, |r| milliseconds(r.times.engine_us)),
            long(rows, |r| r.predicted().map(|n| n.memory_bytes)),
            long(rows, |r| r.memory_bytes),
            text(rows, |r| r.statement_id.as_deref()),
            maybe_double(rows, |r| r.warehouse_ms),
            Arc::new(reconciled.with_timezone("UTC")),
            maybe_double(rows, |r| r.predicted().map(|n| n.latency_p95_ms)),
            maybe_double(rows, |r| r.predicted().map(|n| n.usd_p95)),
            long(rows, |r| r.predicted().map(|n| n.memory_p95_bytes)),
            long(rows, |r| r.predicted().map(|n| n.scan_bytes)),
            long(rows, |r| r.predicted().map(|n| n.scan_bytes_p95)),
            long(rows, |r| r.read_bytes),
        ];
        one_batch(self.schema(), columns)
    }
}

/// `lake.default.orders@12, lake.default.lineitem@7`
fn table_versions(record: &QueryRecord) -> String {
    let parts: Vec<String> = record
        .features
        .tables
        .iter()
        .map(|t| match t.version {
            Some(version) => format!("{}@{version}", t.name),
            None => t.name.clone(),
        })
        .collect();
    parts.join(", ")
}

#[async_trait]
impl SystemTable for Decisions {
    fn schema(&self) -> SchemaRef {
        use DataType::{Boolean, Float64, Int32, Int64, Utf8};
        schema(&[
            ("query_id", Utf8, false),
            ("engine", Utf8, false),
            ("eligible", Boolean, false),
            ("chosen", Boolean, false),
            ("rank", Int32, true),
            ("reason", Utf8, false),
            ("predicted_ms", Float64, false),
            ("predicted_usd", Float64, false),
            ("predicted_bytes", Int64, false),
            ("predicted_memory_bytes", Int64, false),
            ("predicted_p95_ms", Float64, false),
            ("source", Utf8, false),
            ("observations", Int64, false),
            ("predicted_usd_p95", Float64, false),
            ("predicted_memory_p95_bytes", Int64, false),
            ("predicted_p95_bytes", Int64, false),
        ])
    }

    fn scan(self: Arc<Self>, principal: Principal, wanted: SystemScan) -> SystemRows {
        let filter = records::filter(&wanted.conditions, &self.schema());
        // An engine of this table's is one that was considered, which the filter's isn't.
        let filter = HistoryFilter { query_id: filter.query_id, ..HistoryFilter::default() };
        let parts = RecordParts { text: false, features: false, decision: true };
        let asked = records::Asked { filter, oldest_first: false, parts };
        pages(self.log.clone(), &principal, asked).map(move |page| self.batch_of(&page?)).boxed()
    }
}

impl Decisions {
    fn batch_of(&self, records: &[QueryRecord]) -> Result<RecordBatch> {
        let rows: Vec<_> = records.iter().flat_map(QueryRecord::candidates).collect();
        let id = |id: &QueryId| id.to_string();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| id(&r.query_id)))),
            text(&rows, |r| Some(&r.engine)),
            boolean(&rows, |r| r.eligible),
            boolean(&rows, |r| r.chosen),
            Arc::new(rows.iter().map(|r| r.rank.map(|n| i32::try_from(n).unwrap_or(i32::MAX))).collect::<Int32Array>()),
            text(&rows, |r| Some(&r.reason)),
            double(&rows, |r| r.predicted_ms),
            double(&rows, |r| r.predicted_usd),
            long(&rows, |r| Some(r.predicted_bytes)),
            long(&rows, |r| Some(r.predicted_memory_bytes)),
            double(&rows, |r| r.predicted_p95_ms),
            text(&rows, |r| Some(r.source.as_str())),
            long(&rows, |r| Some(u64::from(r.observations))),
            double(&rows, |r| r.predicted_usd_p95),
            long(&rows, |r| Some(r.predicted_memory_p95_bytes)),
            long(&rows, |r| Some(r.predicted_p95_bytes)),
        ];
        one_batch(self.schema(), columns)
    }
}

/// Everybody sees all of it: it tells shapes and engines, no texts and no values.
#[async_trait]
impl SystemTable for QuarantineTable {
    fn schema(&self) -> SchemaRef {
        use DataType::Utf8;
        schema(&[
            ("fingerprint", Utf8, false),
            ("engine", Utf8, false),
            ("since", timestamp(), false),
            ("query_id", Utf8, false),
            ("reason", Utf8, false),
        ])
    }

    async fn read(&self, _: &Principal) -> Result<Vec<RecordBatch>> {
        let rows = self.log.store.quarantine().await?;
        let ids: Vec<(String, String)> = rows.iter().map(|r| (r.fingerprint.to_string(), r.query_id.to_string())).collect();
        let since = rows.iter().map(|r| Some(r.since_unix_ms.saturating_mul(1000))).collect::<TimestampMicrosecondArray>();
        let columns: Vec<ArrayRef> = vec![
            text(&ids, |(fingerprint, _)| Some(fingerprint)),
            text(&rows, |r| Some(r.engine.as_str())),
            Arc::new(since.with_timezone("UTC")),
            text(&ids, |(_, query)| Some(query)),
            text(&rows, |r| Some(&r.reason)),
        ];
        batch(self.schema(), columns)
    }
}

#[async_trait]
impl SystemTable for Engines {
    fn schema(&self) -> SchemaRef {
        use DataType::{Float64, Int32, Int64, Utf8};
        schema(&[
            ("engine", Utf8, false),
            ("state", Utf8, false),
            ("detail", Utf8, true),
            ("slots", Int32, false),
            ("running", Int32, false),
            ("cores", Int32, false),
            ("memory_bytes", Int64, false),
            ("usd_per_hour", Float64, false),
        ])
    }

    async fn read(&self, _: &Principal) -> Result<Vec<RecordBatch>> {
        let rows: Vec<_> = self.engines.iter().filter_map(Weak::upgrade).map(|engine| engine.facts()).collect();
        let count = |get: fn(&flightpath_types::EngineFacts) -> u32| {
            Arc::new(rows.iter().map(|r| Some(i32::try_from(get(r)).unwrap_or(i32::MAX))).collect::<Int32Array>()) as ArrayRef
        };
        let columns: Vec<ArrayRef> = vec![
            text(&rows, |r| Some(r.id.as_str())),
            text(&rows, |r| {
                Some(match r.state {
                    EngineState::Ready => "ready",
                    EngineState::Down(_) => "down",
                    EngineState::Draining => "draining",
                })
            }),
            text(&rows, |r| match &r.state {
                EngineState::Down(why) => Some(why.as_str()),
                EngineState::Ready | EngineState::Draining => None,
            }),
            count(|r| r.slots),
            count(|r| r.running),
            count(|r| r.cores),
            long(&rows, |r| Some(r.memory_bytes_max)),
            double(&rows, |r| r.pricing.usd_per_hour()),
        ];
        batch(self.schema(), columns)
    }
}

/// One row of `system.tables`.
struct TableRow {
    name: flightpath_catalog::TableName,
    format: String,
    version: Option<u64>,
    files: Option<u64>,
    bytes: Option<u64>,
    rows: Option<u64>,
    governed: Option<bool>,
    error: Option<String>,
}

#[async_trait]
impl SystemTable for Tables {
    fn schema(&self) -> SchemaRef {
        use DataType::{Boolean, Int64, Utf8};
        schema(&[
            ("catalog", Utf8, false),
            ("schema", Utf8, false),
            ("table", Utf8, false),
            ("format", Utf8, false),
            ("version", Int64, true),
            ("files", Int64, true),
            ("bytes", Int64, true),
            ("rows", Int64, true),
            ("governed", Boolean, true),
            ("error", Utf8, true),
        ])
    }

    async fn read(&self, principal: &Principal) -> Result<Vec<RecordBatch>> {
        let catalog = self.catalog.upgrade().ok_or_else(|| Error::unavailable("the server is shutting down"))?;
        let mut rows = Vec::new();
        for catalog_name in catalog.catalogs(principal).await? {
            for schema_name in catalog.schemas(principal, &catalog_name).await? {
                for summary in catalog.tables(principal, &catalog_name, &schema_name).await? {
                    let snapshot = catalog.snapshot(principal, &summary.name, &AsOf::Latest).await;
                    rows.push(table_row(summary, snapshot));
                }
            }
        }
        let columns: Vec<ArrayRef> = vec![
            text(&rows, |r| Some(&r.name.catalog)),
            text(&rows, |r| Some(&r.name.schema)),
            text(&rows, |r| Some(&r.name.table)),
            text(&rows, |r| Some(&r.format)),
            long(&rows, |r| r.version),
            long(&rows, |r| r.files),
            long(&rows, |r| r.bytes),
            long(&rows, |r| r.rows),
            Arc::new(rows.iter().map(|r| r.governed).collect::<BooleanArray>()),
            text(&rows, |r| r.error.as_deref()),
        ];
        batch(self.schema(), columns)
    }
}

fn table_row(summary: flightpath_catalog::TableSummary, snapshot: Result<Arc<flightpath_catalog::TableSnapshot>>) -> TableRow {
    let mut row = TableRow {
        name: summary.name,
        format: summary.format.to_string(),
        version: None,
        files: None,
        bytes: None,
        rows: None,
        governed: None,
        error: None,
    };
    match snapshot {
        Ok(snapshot) => {
            let files = snapshot.files();
            if snapshot.format == flightpath_catalog::TableFormat::Delta {
                row.version = Some(snapshot.version);
            }
            if let flightpath_catalog::TableContents::Files(_) = snapshot.contents {
                row.files = Some(files.len() as u64);
                row.bytes = Some(files.iter().map(|f| f.size_bytes).sum());
                row.rows =
                    files.iter().map(|f| Some(f.rows?.saturating_sub(f.deletion_vector.as_ref().map_or(0, |d| d.rows.len() as u64)))).sum();
            }
            row.governed = Some(snapshot.access != AccessRules::Free);
        }
        Err(error) => row.error = Some(error.to_string()),
    }
    row
}
