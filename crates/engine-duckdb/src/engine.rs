//! The `Engine` that runs queries on a supervised DuckDB worker.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use flightpath_engine::{BatchStream, Engine, Execution};
use flightpath_plan::{PlannedQuery, ScanBinding};
use flightpath_types::{EngineFacts, EngineId, EngineState, Error, Refusal, RefusalClass, Result, Session};
use futures::Stream;
use tracing::Instrument;

use crate::Config;
use crate::supervisor::Supervisor;
use crate::{binding, ticket, trace};

/// Describing a statement only plans it.
const DESCRIBE_MAX: Duration = Duration::from_secs(20);

pub struct DuckdbEngine {
    id: EngineId,
    config: Config,
    supervisor: Supervisor,
    running: Arc<AtomicU32>,
}

impl DuckdbEngine {
    /// Starts the worker in the background; needs a tokio runtime. See [`DuckdbEngine::ready`].
    pub fn start(config: Config) -> Self {
        let supervisor = Supervisor::start(config.clone());
        Self { id: EngineId::new("duckdb"), config, supervisor, running: Arc::default() }
    }

    /// Waits until the worker takes queries; the reason if it can't be started.
    pub async fn ready(&self) -> Result<()> {
        self.supervisor.client().await.map(drop)
    }

    /// The worker's process id; none while there is no worker.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.pid()
    }

    /// Ends a query by its id; whether there was one. Dropping its stream does the same.
    pub async fn cancel(&self, query_id: flightpath_types::QueryId) -> Result<bool> {
        self.supervisor.client().await?.cancel(&query_id.to_string()).await
    }

    /// The schema that a user's DuckDB text would give over these tables, without running it.
    /// Types are DuckDB's own in Arrow's form.
    pub async fn describe(&self, text: &str, tables: &[ScanBinding], session: &Session) -> Result<SchemaRef> {
        let mut bound = Vec::with_capacity(tables.len());
        for scan in tables {
            let refused = |refusal: Refusal| Error::not_eligible(refusal.reason);
            binding::check(scan).map_err(refused)?;
            let mut table = binding::table(scan, String::new()).map_err(refused)?;
            ticket::name_for_user(&mut table, scan);
            bound.push(table);
        }
        let mut ticket = ticket::base(text.to_string(), bound);
        ticket::make_user(&mut ticket, &session.catalog, &session.schema);
        let client = self.supervisor.client().await?;
        match tokio::time::timeout(DESCRIBE_MAX, client.describe(&ticket)).await {
            Ok(schema) => schema,
            Err(_) => Err(Error::unavailable("the DuckDB worker didn't describe the statement in time")),
        }
    }
}

/// What the router is told of an engine with these settings.
pub fn facts(config: &Config, state: EngineState, running: u32) -> EngineFacts {
    EngineFacts {
        id: EngineId::new("duckdb"),
        state,
        memory_bytes_max: if config.user_slots == 0 { config.memory_bytes_max } else { config.memory_bytes_max / 4 * 3 },
        slots: config.slots,
        running,
        cores: config.threads,
        overhead_ms: config.overhead_ms,
        scan_bytes_per_second_per_core: config.scan_bytes_per_second_per_core,
        usd_per_hour: config.usd_per_hour,
    }
}

/// Whether an engine with these settings may run the query; needs no worker.
pub fn eligible(config: &Config, query: &PlannedQuery) -> Result<(), Refusal> {
    let compiled = query.duckdb.as_ref().map_err(Clone::clone)?;
    let mut files = 0;
    for scan in compiled.scans.iter().filter_map(|id| query.scans.get(id)) {
        binding::check(scan)?;
        files += scan.files.len();
    }
    if files > config.files_max as usize {
        let reason = format!("it reads {files} files; the DuckDB worker takes at most {}", config.files_max);
        return Err(Refusal::new(RefusalClass::Resources, reason));
    }
    Ok(())
}

#[async_trait]
impl Engine for DuckdbEngine {
    fn id(&self) -> &EngineId {
        &self.id
    }

    fn facts(&self) -> EngineFacts {
        facts(&self.config, self.supervisor.state(), self.running.load(Ordering::Relaxed))
    }

    fn eligible(&self, query: &PlannedQuery) -> Result<(), Refusal> {
        eligible(&self.config, query)
    }

    async fn execute(&self, query: Arc<PlannedQuery>, execution: Execution) -> Result<BatchStream> {
        self.eligible(&query).map_err(|refusal| Error::not_eligible(refusal.reason))?;
        let running = RunningGuard::new(&self.running);
        let deadline = execution.deadline.map(tokio::time::Instant::from_std);
        let client = self.supervisor.client().await?;
        let call = trace::call();
        let mut ticket = ticket::of_query(&query, &execution)?;
        ticket.traceparent = trace::traceparent(&call, execution.traceparent.as_deref());
        let stream = client.query(&ticket, deadline).instrument(call).await?;
        Ok(Box::pin(Counted { stream, _running: running }))
    }

    async fn shutdown(&self) {
        self.supervisor.shutdown().await;
    }
}

struct RunningGuard(Arc<AtomicU32>);

impl RunningGuard {
    fn new(running: &Arc<AtomicU32>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(running.clone())
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts as running until it's dropped.
struct Counted {
    stream: BatchStream,
    _running: RunningGuard,
}

impl Stream for Counted {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}
