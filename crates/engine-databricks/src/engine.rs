//! The engine: what it may run, what it costs now, and its way from a planned query to a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use flightpath_databricks::{BreakerState, Client, Identity};
use flightpath_engine::{BatchStream, Engine, Execution, Findings};
use flightpath_plan::{DatabricksText, PlannedQuery};
use flightpath_types::trace::TraceContext;
use flightpath_types::{ComputePrice, EngineFacts, EngineId, EngineState, Error, ErrorKind, QueryId, Refusal, RefusalClass, Result};
use futures::TryStreamExt;
use parking_lot::Mutex;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chunk::Chunks;
use crate::config::{Config, MonitorAccess, Prices};
use crate::conform::Shape;
use crate::describe;
use crate::download::Storage;
use crate::history::{self, Past, PastRun};
use crate::links::Links;
use crate::monitor::Monitor;
use crate::result::{Reader, SharedMemory};
use crate::run::{Finished, Runner, Work, lost};
use crate::statement::StatementRequest;
use crate::warehouse::WarehouseState;
use crate::wire::Manifest;

pub struct DatabricksEngine {
    config: Arc<Config>,
    runner: Arc<Runner>,
    storage: Arc<Storage>,
    memory: Arc<SharedMemory>,
    monitor: Arc<Monitor>,
    /// For looking at the warehouse and its past.
    access: Option<MonitorAccess>,
    running: Arc<AtomicU32>,
    draining: AtomicBool,
    usd_per_dbu: Mutex<Option<f64>>,
}

impl DatabricksEngine {
    /// Call within a Tokio runtime: the monitor's task starts on it. Without one, the warehouse
    /// is taken to be up.
    pub fn new(client: Arc<Client>, monitor: Option<MonitorAccess>, config: Config) -> Result<Self> {
        config.check()?;
        let storage = Arc::new(Storage::new(&config, client.host())?);
        let config = Arc::new(config);
        let (tracker, closing) = (TaskTracker::new(), CancellationToken::new());
        let watched = Monitor::new(config.warehouse_id.clone(), config.monitor.clone());
        if let Some(access) = monitor.clone() {
            tracker.spawn(watched.clone().watch(access, closing.clone()));
        }
        let runner = Arc::new(Runner { client, config: config.clone(), form: AtomicU8::new(0), tracker, closing });
        Ok(Self {
            storage,
            memory: Arc::new(SharedMemory::new(config.memory_bytes_max)),
            monitor: watched,
            access: monitor,
            running: Arc::default(),
            draining: AtomicBool::new(false),
            usd_per_dbu: Mutex::new(config.prices.usd_per_dbu),
            runner,
            config,
        })
    }

    /// The warehouse as last seen.
    pub fn warehouse(&self) -> WarehouseState {
        self.monitor.state()
    }

    /// A new price of a DBU, for what is decided from now on; the list price for `None`.
    pub fn set_usd_per_dbu(&self, usd: Option<f64>) {
        *self.usd_per_dbu.lock() = usd;
    }

    /// Whether the warehouse can be looked at.
    pub fn is_watched(&self) -> bool {
        self.access.is_some()
    }

    /// Whether its size and state were ever seen.
    pub fn was_seen(&self) -> bool {
        self.monitor.state().seen.is_some()
    }

    /// Statements that came between these times, in milliseconds since the Unix epoch.
    pub async fn past(&self, from_ms: i64, until_ms: i64) -> Result<Past> {
        let access =
            self.access.as_ref().ok_or_else(|| Error::unavailable("the warehouse's history can't be seen without a token for it"))?;
        history::past(access, &self.config.warehouse_id, from_ms, until_ms).await
    }

    /// The engine with its prices, as a statement of the past met it.
    pub fn priced(&self, run: Option<&PastRun>) -> EngineFacts {
        let mut facts = self.facts();
        if let (Some(run), ComputePrice::Warehouse { activity, start_ms, .. }) = (run, &mut facts.pricing.compute) {
            *activity = run.activity;
            *start_ms = run.start_ms.unwrap_or(*start_ms);
        }
        facts
    }

    /// The columns of a query that is only sent to be described; nothing of it is run. `findings` tell whether the
    /// warehouse has taken it: that costs money, whatever comes of it.
    pub async fn describe(
        &self,
        text: &DatabricksText,
        who: Identity,
        deadline: Option<Instant>,
        findings: Arc<Findings>,
    ) -> Result<SchemaRef> {
        let mut statement = StatementRequest::of(text).map_err(|refusal| Error::not_eligible(refusal.reason))?;
        statement.sql = describe::statement(&statement.sql).into();
        let work = Work { statement, who, query_id: QueryId::generate(), trace_id: None, deadline, returns_rows: true, findings };
        let batches: Vec<_> = self.start(work, Shape::AsIs).await?.try_collect().await?;
        describe::schema(&batches)
    }

    /// The columns of a statement that shows something and changes nothing: it is run for them, and
    /// its rows are left alone. `findings` as in [`describe`](Self::describe).
    pub async fn try_out(
        &self,
        text: &DatabricksText,
        who: Identity,
        deadline: Option<Instant>,
        findings: Arc<Findings>,
    ) -> Result<SchemaRef> {
        let statement = StatementRequest::of(text).map_err(|refusal| Error::not_eligible(refusal.reason))?;
        let work = Work { statement, who, query_id: QueryId::generate(), trace_id: None, deadline, returns_rows: true, findings };
        let finished = self.run(work).await?;
        describe::announced(&finished.answer.manifest.unwrap_or_default())
    }

    /// Runs a statement to its end. Until then it may be what wakes the warehouse.
    async fn run(&self, work: Work) -> Result<Finished> {
        work.findings.taken().store(false, Ordering::Relaxed);
        if self.draining.load(Ordering::Relaxed) {
            return Err(Error::unavailable(format!("engine {} is shutting down", self.config.id)));
        }
        let _sent = self.monitor.sent();
        let finished = self.runner.run(work).await;
        if finished.as_ref().err().is_none_or(is_of_warehouse) {
            self.monitor.answered();
        }
        finished
    }

    async fn start(&self, work: Work, shape: Shape) -> Result<BatchStream> {
        let running = Running::new(&self.running, &self.monitor);
        let Finished { statement_id, answer } = self.run(work.clone()).await?;
        work.findings.statement(&statement_id);
        let links = Links::new(self.runner.client.clone(), work.who.clone(), statement_id, self.config.link_renew_before);
        let manifest = match answer.manifest {
            Some(manifest) => manifest,
            // What isn't a query has done its work, with nothing to show for it.
            None if !work.returns_rows => Manifest::default(),
            None => return Err(Error::unavailable("Databricks ended the statement without a result")),
        };
        let reader = (|| {
            if let Some(part) = answer.result {
                links.learn(part)?;
            }
            let chunks = Chunks { config: self.config.clone(), storage: self.storage.clone(), links };
            Reader::new(self.config.clone(), self.memory.clone(), Arc::new(chunks), &manifest, shape, work.deadline)
        })();
        let stream = reader.map_err(|e| lost(&work, e))?.into_stream(running);
        if work.returns_rows {
            return Ok(stream);
        }
        Ok(Box::pin(stream.map_err(move |e| lost(&work, e))))
    }
}

/// Whether a warehouse that was up says so. One that raises has run the statement; what a statement lacks or
/// mustn't do has a class when the warehouse found it, and none when it was turned away at the door.
fn is_of_warehouse(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Raised => true,
        ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::PermissionDenied => error.class().is_some(),
        ErrorKind::NotEligible
        | ErrorKind::Unauthenticated
        | ErrorKind::ResourceExhausted
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Cancelled
        | ErrorKind::Unavailable
        | ErrorKind::DataLoss
        | ErrorKind::Internal => false,
    }
}

/// Whom Databricks sees.
fn identity(execution: &Execution) -> Identity {
    Identity::new(execution.principal.clone(), execution.token.as_ref().map(|token| SecretString::from(token.expose())))
}

/// One query, counted while it lives.
struct Running {
    count: Arc<AtomicU32>,
    monitor: Arc<Monitor>,
}

impl Running {
    fn new(count: &Arc<AtomicU32>, monitor: &Arc<Monitor>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        monitor.worked();
        Self { count: count.clone(), monitor: monitor.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.monitor.worked();
    }
}

#[async_trait]
impl Engine for DatabricksEngine {
    fn id(&self) -> &EngineId {
        &self.config.id
    }

    fn facts(&self) -> EngineFacts {
        let prices = Prices { usd_per_dbu: *self.usd_per_dbu.lock(), ..self.config.prices.clone() };
        let outlook = self.monitor.state().outlook(&prices, self.running.load(Ordering::Relaxed));
        let state = if self.draining.load(Ordering::Relaxed) {
            EngineState::Draining
        } else if self.runner.client.breaker_state() == BreakerState::Open {
            EngineState::Down("Databricks doesn't answer".into())
        } else {
            outlook.state
        };
        EngineFacts {
            id: self.config.id.clone(),
            state,
            shape: outlook.shape,
            memory_bytes_max: outlook.memory_bytes_max,
            slots: outlook.slots,
            running: outlook.running,
            queued: outlook.queued,
            cores: outlook.cores,
            cores_total: outlook.cores_total,
            overhead_ms: outlook.overhead_ms,
            scan_bytes_per_second_per_core: self.config.prices.scan_bytes_per_second_per_core,
            pricing: outlook.pricing,
        }
    }

    fn eligible(&self, query: &PlannedQuery) -> Result<(), Refusal> {
        let text = query.databricks.as_ref().map_err(Clone::clone)?;
        if !same_zone(&query.session.time_zone, &self.config.time_zone) {
            let (session, warehouse) = (&query.session.time_zone, &self.config.time_zone);
            let reason = format!("the session's time zone is {session}, the warehouse's is {warehouse}, and a statement can't change it");
            return Err(Refusal::new(RefusalClass::Semantics, reason));
        }
        StatementRequest::of(text).map(|_| ())
    }

    fn is_metered(&self) -> bool {
        true
    }

    /// The client has a breaker.
    fn guards_itself(&self) -> bool {
        true
    }

    async fn execute(&self, query: Arc<PlannedQuery>, execution: Execution) -> Result<BatchStream> {
        self.eligible(&query).map_err(|refusal| Error::not_eligible(refusal.reason))?;
        let text = query.databricks.as_ref().map_err(|refusal| Error::not_eligible(&refusal.reason))?;
        let statement = StatementRequest::of(text).map_err(|refusal| Error::not_eligible(refusal.reason))?;
        tracing::Span::current().record("server.address", self.runner.client.host().host_str());
        let shape = if text.returns_rows { Shape::Rows(query.schema.clone()) } else { Shape::Count };
        let work = Work {
            statement,
            who: identity(&execution),
            query_id: execution.query_id,
            trace_id: execution.traceparent.as_deref().and_then(TraceContext::parse).map(|context| context.trace_id_text()),
            deadline: execution.deadline,
            returns_rows: text.returns_rows,
            findings: execution.findings.clone(),
        };
        self.start(work, shape).await
    }

    async fn shutdown(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.runner.closing.cancel();
        self.runner.tracker.close();
        if tokio::time::timeout(self.config.shutdown_wait_max, self.runner.tracker.wait()).await.is_err() {
            tracing::warn!(engine = %self.config.id, statements = self.runner.tracker.len(), "statements may still run on Databricks");
        }
    }
}

fn same_zone(a: &str, b: &str) -> bool {
    let plain = |zone: &str| match zone.trim().to_ascii_uppercase().as_str() {
        "UTC" | "ETC/UTC" | "Z" | "GMT" | "+00:00" => "UTC".to_string(),
        other => other.to_string(),
    };
    plain(a) == plain(b)
}
