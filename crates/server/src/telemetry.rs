//! What telemetry is told of this server, and what the DuckDB worker is told of telemetry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use flightpath_catalog::{AsOf, Catalog, CommitInfo, TableName, TableSnapshot, TableSummary};
use flightpath_flight::{OpenConnections, OpenSessions};
use flightpath_pipeline::Pipeline;
use flightpath_querylog::{RecordObserver, Recorder, ShadowFilter, ShadowKey, ShadowLog};
use flightpath_telemetry::{Config, EngineLevel, Levels, LogConfig, LogLevel, LookupLevel, QueryMetrics, Role, Telemetry};
use flightpath_types::{EngineId, EngineState, Error, Fingerprint, Principal, Quarantined, Result, ShadowRun};

use crate::settings::Settings;

/// How the worker that `serve` starts is told where spans go. Its environment is this alone and a
/// few variables of the system's, and only its own user can look at it.
const WORKER_VARIABLE: &str = "FLIGHTPATH_WORKER_TELEMETRY";

/// Starts the log on standard error and whatever is to be told to others.
pub(crate) async fn start(settings: &Settings, role: Role) -> Result<Telemetry> {
    let config = settings.telemetry.config().map_err(Error::invalid)?;
    let config = if role == Role::Worker { config.of_worker() } else { config };
    flightpath_telemetry::start(&config, &log_config(settings), role).await
}

/// The same for a worker that `serve` has started. A worker without telemetry is better than none.
pub(crate) async fn start_supervised() -> Telemetry {
    let log = LogConfig { level: "warn".into(), format: Default::default() };
    let config = match std::env::var(WORKER_VARIABLE) {
        Ok(text) => Config::from_text(&text),
        Err(_) => Ok(Config::default()),
    };
    let (config, mistake) = match config {
        Ok(config) => (config, None),
        Err(mistake) => (Config::default(), Some(Error::invalid(mistake))),
    };
    let (telemetry, error) = match flightpath_telemetry::start(&config, &log, Role::Worker).await {
        Ok(telemetry) => (telemetry, mistake),
        Err(error) => (Telemetry::default(), Some(error)),
    };
    if let Some(error) = error {
        tracing::warn!(%error, "the worker sends no traces and no logs");
    }
    telemetry
}

/// For the environment of the worker that `serve` starts.
pub(crate) fn for_worker(settings: &Settings) -> Result<Vec<(String, String)>> {
    let config = settings.telemetry.config().map_err(Error::invalid)?;
    if config.otlp.is_none() {
        return Ok(Vec::new());
    }
    let told = (WORKER_VARIABLE.to_string(), config.of_worker().to_text().map_err(Error::internal)?);
    Ok(settings.telemetry.batch_variables().chain([told]).collect())
}

fn log_config(settings: &Settings) -> LogConfig {
    LogConfig { level: settings.log_level.clone(), format: settings.log_format }
}

/// Metrics of ended queries: the record that goes into the log is the record that is counted.
pub(crate) fn observer(metrics: Arc<QueryMetrics>) -> RecordObserver {
    Arc::new(move |record| metrics.record(record))
}

/// A shadow log whose runs are counted.
pub(crate) struct CountedShadowLog {
    pub log: Arc<dyn ShadowLog>,
    pub metrics: Arc<QueryMetrics>,
}

#[async_trait]
impl ShadowLog for CountedShadowLog {
    async fn append_shadow(&self, run: &ShadowRun) -> Result<()> {
        self.metrics.record_shadow(run);
        self.log.append_shadow(run).await
    }

    async fn shadow_runs(&self, filter: &ShadowFilter, after: Option<&ShadowKey>, limit: usize) -> Result<Vec<ShadowRun>> {
        self.log.shadow_runs(filter, after, limit).await
    }

    async fn quarantine(&self) -> Result<Vec<Quarantined>> {
        self.log.quarantine().await
    }

    async fn add_quarantine(&self, entry: &Quarantined) -> Result<()> {
        self.log.add_quarantine(entry).await
    }

    async fn lift_quarantine(&self, fingerprint: Fingerprint, engine: Option<&EngineId>) -> Result<u64> {
        self.log.lift_quarantine(fingerprint, engine).await
    }
}

/// Questions to the catalog: answered from memory, or not.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A catalog whose lookups are counted.
pub(crate) struct CountedCatalog {
    pub catalog: Arc<dyn Catalog>,
    pub lookups: Arc<Lookups>,
}

#[async_trait]
impl Catalog for CountedCatalog {
    async fn snapshot(&self, principal: &Principal, name: &TableName, as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
        let known = *as_of == AsOf::Latest && self.catalog.cached_snapshot(principal, name).is_some();
        let count = if known { &self.lookups.hits } else { &self.lookups.misses };
        count.fetch_add(1, Ordering::Relaxed);
        self.catalog.snapshot(principal, name, as_of).await
    }

    /// Looks whether a cached plan is still good; where it isn't, `snapshot` is asked next.
    fn cached_snapshot(&self, principal: &Principal, name: &TableName) -> Option<Arc<TableSnapshot>> {
        let known = self.catalog.cached_snapshot(principal, name)?;
        self.lookups.hits.fetch_add(1, Ordering::Relaxed);
        Some(known)
    }

    async fn catalogs(&self, principal: &Principal) -> Result<Vec<String>> {
        self.catalog.catalogs(principal).await
    }

    async fn schemas(&self, principal: &Principal, catalog: &str) -> Result<Vec<String>> {
        self.catalog.schemas(principal, catalog).await
    }

    async fn tables(&self, principal: &Principal, catalog: &str, schema: &str) -> Result<Vec<TableSummary>> {
        self.catalog.tables(principal, catalog, schema).await
    }

    async fn history(&self, principal: &Principal, name: &TableName, limit: usize) -> Result<Vec<CommitInfo>> {
        self.catalog.history(principal, name, limit).await
    }

    async fn refresh(&self, principal: &Principal, name: &TableName) -> Result<()> {
        self.catalog.refresh(principal, name).await
    }

    async fn refresh_all(&self) {
        self.catalog.refresh_all().await;
    }
}

/// What is going on now. Holds nothing alive.
pub(crate) struct Now {
    pub pipeline: Weak<Pipeline>,
    pub recorder: Recorder,
    pub connections: OpenConnections,
    pub sessions: OpenSessions,
    pub lookups: Arc<Lookups>,
}

impl Levels for Now {
    fn engines(&self) -> Vec<EngineLevel> {
        let Some(pipeline) = self.pipeline.upgrade() else { return Vec::new() };
        let level = |facts: flightpath_types::EngineFacts| EngineLevel {
            queued: facts.queued.into(),
            engine: facts.id.to_string(),
            running: facts.running.into(),
            slots: facts.slots.into(),
            up: facts.state == EngineState::Ready,
        };
        pipeline.engine_facts().into_iter().map(level).collect()
    }

    fn log(&self) -> LogLevel {
        let stats = self.recorder.stats();
        LogLevel { taken: stats.taken, stored: stats.stored, dropped: stats.dropped, pending_bytes: stats.pending_bytes }
    }

    fn connections(&self) -> Option<u64> {
        Some(self.connections.count() as u64)
    }

    fn sessions(&self) -> Option<u64> {
        Some(self.sessions.count() as u64)
    }

    fn plans(&self) -> LookupLevel {
        let (hits, misses) = self.pipeline.upgrade().map_or((0, 0), |pipeline| pipeline.plan_cache_lookups());
        LookupLevel { hits, misses }
    }

    fn catalog(&self) -> LookupLevel {
        LookupLevel { hits: self.lookups.hits.load(Ordering::Relaxed), misses: self.lookups.misses.load(Ordering::Relaxed) }
    }
}
