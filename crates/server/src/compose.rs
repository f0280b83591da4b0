//! Which parts there are and who is given whom. Adding an engine is one line in [`engines`].

use std::path::Path;
use std::sync::Arc;

use flightpath_catalog::{Catalog, CatalogSet, LocalCatalog};
use flightpath_engine::Engine;
use flightpath_engine_databricks::DatabricksEngine;
use flightpath_engine_datafusion::DataFusionEngine;
use flightpath_engine_duckdb::DuckdbEngine;
use flightpath_flight::{OpenConnections, OpenSessions, TokenCheck};
use flightpath_pipeline::{Administrators, HoldConfig, Pipeline, PipelineConfig};
use flightpath_planner::Planner;
use flightpath_querylog::{Recorder, RecorderConfig, ShadowLog, Store};
use flightpath_router::Predictor;
use flightpath_telemetry::Telemetry;
use flightpath_types::{Error, Result};
use tokio::task::JoinSet;

use crate::databricks::{self, Callers};
use crate::describe::DuckdbDescriber;
use crate::lazy_log::LazyLog;
use crate::learned::Learned;
use crate::settings::{EngineSettings, Settings};
use crate::state::{self, StateDir};
use crate::system_tables::{self, LogSource};
use crate::telemetry::{self, CountedCatalog, CountedShadowLog, Lookups, Now};

/// The catalog of local folders.
pub(crate) const LOCAL_CATALOG: &str = "lake";

/// A running program without its front door.
pub(crate) struct Parts {
    pub pipeline: Arc<Pipeline>,
    pub engines: Vec<Arc<dyn Engine>>,
    pub recorder: Recorder,
    /// The log's database: the record read back, and what is kept over restarts.
    pub store: Arc<dyn Store>,
    pub datafusion: Option<Arc<DataFusionEngine>>,
    pub duckdb: Option<Arc<DuckdbEngine>>,
    pub databricks: Option<Arc<DatabricksEngine>>,
    /// Told of every caller's token, where a workspace is configured.
    pub callers: Option<Arc<Callers>>,
    /// To be kept true by the front door.
    pub connections: OpenConnections,
    pub sessions: OpenSessions,
    /// Says whose a bearer token is that settings don't list, where the workspace is to be asked.
    pub tokens: Option<Arc<dyn TokenCheck>>,
    /// What was learned of the engines.
    pub learned: Arc<Learned>,
    /// Keeps the folder locked until the end.
    pub _state: StateDir,
    /// Looks after the folder's other slots until the end.
    pub _slots: JoinSet<()>,
}

pub(crate) async fn compose(settings: &Settings, telemetry: &Telemetry) -> Result<Parts> {
    let state = StateDir::open(&settings.state_dir)?;
    let catalog = open_catalog(settings).await?;
    let Engines { all: mut engines, datafusion, duckdb } = engines(settings, &state.temporary())?;
    let administrators = Arc::<Administrators>::default();
    let workspace = databricks::open(settings, &administrators)?;
    engines.extend(workspace.iter().map(|w| w.engine.clone() as Arc<dyn Engine>));

    state.note_log(&log_url(settings, &state))?;
    let store = open_log(settings, &state).await;
    let spool = RecorderConfig { spool_bytes_max: settings.log_spool_bytes_max, ..RecorderConfig::new(state.spool()) };
    let mut recorder = Recorder::start(store.clone(), spool)?;
    let mut shadow_log: Arc<dyn ShadowLog> = store.clone();
    if let Some(metrics) = telemetry.query_metrics() {
        recorder = recorder.observed_by(telemetry::observer(metrics.clone()));
        shadow_log = Arc::new(CountedShadowLog { log: shadow_log, metrics });
    }
    let rows_max = usize::try_from(settings.log_read_rows_max).unwrap_or(usize::MAX);
    let log = LogSource { store: store.clone(), recorder: recorder.clone(), rows_max, administrators: administrators.clone() };
    system_tables::register(&catalog, log, &engines);
    system_tables::workers::register(&catalog, duckdb.as_ref());

    let mut shared: Arc<dyn Catalog> = catalog;
    if let Some(workspace) = &workspace {
        let mut members = vec![(LOCAL_CATALOG.to_string(), shared)];
        members.extend(workspace.catalog.names().iter().map(|name| (name.clone(), workspace.catalog.clone() as Arc<dyn Catalog>)));
        shared = Arc::new(CatalogSet::new(members)?);
    }
    let lookups = Arc::<Lookups>::default();
    if telemetry.query_metrics().is_some() {
        shared = Arc::new(CountedCatalog { catalog: shared, lookups: lookups.clone() });
    }
    let mut planner = Planner::new(shared.clone(), Default::default());
    if let Some(duckdb) = &duckdb {
        planner = planner.with_describer(Arc::new(DuckdbDescriber { engine: duckdb.clone() }));
    }
    if let Some(workspace) = &workspace {
        planner = planner.with_remote(workspace.describer.clone());
    }
    let config = PipelineConfig { administrators, ..pipeline_config(settings)? };
    let predictor = Arc::new(Predictor::default());
    let learned = Arc::new(Learned::new(store.clone(), predictor.clone()));
    learned.restore().await;
    let pipeline = Arc::new(Pipeline::new(planner, shared, engines.clone(), recorder.clone(), shadow_log, predictor.clone(), config));
    if let Some(workspace) = &workspace {
        workspace.describer.with_profiles_of(&pipeline);
    }
    let connections = OpenConnections::default();
    let sessions = OpenSessions::default();
    let now = Now {
        pipeline: Arc::downgrade(&pipeline),
        recorder: recorder.clone(),
        connections: connections.clone(),
        sessions: sessions.clone(),
        lookups,
    };
    telemetry.watch(Arc::new(now));
    let tokens = workspace.as_ref().and_then(|w| w.tokens.clone()).map(|tokens| tokens as Arc<dyn TokenCheck>);
    let databricks = workspace.as_ref().map(|w| w.engine.clone());
    let callers = workspace.map(|w| w.callers);
    let mut slots = JoinSet::new();
    slots.spawn(state::keep_slots_drained(settings.state_dir.clone(), log_url(settings, &state), store.clone()));
    Ok(Parts {
        pipeline,
        engines,
        recorder,
        store,
        datafusion,
        duckdb,
        databricks,
        callers,
        connections,
        sessions,
        tokens,
        learned,
        _state: state,
        _slots: slots,
    })
}

pub(crate) async fn open_catalog(settings: &Settings) -> Result<Arc<LocalCatalog>> {
    let config = flightpath_catalog::Config {
        refresh_interval: settings.catalog_refresh,
        partition_time_zone: settings.partition_time_zone,
        ..flightpath_catalog::Config::new(settings.data.clone())
    };
    Ok(Arc::new(LocalCatalog::open(config).await?))
}

/// The engines of this machine.
struct Engines {
    all: Vec<Arc<dyn Engine>>,
    datafusion: Option<Arc<DataFusionEngine>>,
    duckdb: Option<Arc<DuckdbEngine>>,
}

/// Every engine there is, in the order in which listings show them.
fn engines(settings: &Settings, temporary: &Path) -> Result<Engines> {
    let (mut all, mut datafusion): (Vec<Arc<dyn Engine>>, _) = (Vec::new(), None);
    if settings.datafusion.enabled {
        let engine = Arc::new(DataFusionEngine::new(datafusion_config(&settings.datafusion, temporary))?);
        all.push(engine.clone());
        datafusion = Some(engine);
    }
    let mut duckdb = None;
    if settings.duckdb.enabled {
        let program = std::env::current_exe().map_err(|e| Error::internal(format!("this program's own path isn't known: {e}")))?;
        let config = duckdb_config(settings, program, temporary);
        let engine =
            Arc::new(DuckdbEngine::start(flightpath_engine_duckdb::Config { environment: telemetry::for_worker(settings)?, ..config }));
        all.push(engine.clone());
        duckdb = Some(engine);
    }
    Ok(Engines { all, datafusion, duckdb })
}

pub(crate) fn datafusion_config(settings: &EngineSettings, temporary: &Path) -> flightpath_engine_datafusion::Config {
    let memory = usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX);
    flightpath_engine_datafusion::Config {
        cores: usize::try_from(settings.threads).unwrap_or(1),
        memory_bytes_max: memory,
        query_memory_bytes_max: memory,
        // Beside what operators hold: values that expressions make, results on their way, caches.
        process_memory_bytes_max: memory.saturating_add((memory / 2).max(1 << 30)),
        temp_bytes_max: settings.temp_bytes,
        temp_dir: Some(temporary.to_path_buf()),
        slots: count(settings.slots),
        usd_per_hour: settings.usd_per_hour,
        ..Default::default()
    }
}

/// One worker's settings: the engine's share of the machine is divided among its own workers.
pub(crate) fn duckdb_config(settings: &Settings, program: std::path::PathBuf, temporary: &Path) -> flightpath_engine_duckdb::Config {
    let own = &settings.duckdb;
    let workers = settings.fleet.local_workers.max(1);
    let memory = (own.memory_bytes / workers).max(flightpath_engine_duckdb::Config::MEMORY_BYTES_MIN);
    let slots = count(own.slots.div_ceil(workers));
    let defaults = flightpath_engine_duckdb::Config::new(program, memory, count((own.threads / workers).max(1)));
    flightpath_engine_duckdb::Config {
        workers: count(settings.fleet.local_workers),
        workers_max: count(settings.fleet.workers_max),
        slots,
        // No more than all of them.
        user_slots: defaults.user_slots.min(slots),
        queue_max: count(settings.queue_max),
        queue_wait_max: settings.queue_wait,
        temp_dir: temporary.to_path_buf(),
        temp_bytes_max: own.temp_bytes / workers,
        drain_max: settings.drain,
        silence_down: crate::fleet::LEASE,
        usd_per_hour: worker_usd_per_hour(settings),
        ..defaults
    }
}

/// Own workers share the engine's price.
pub(crate) fn worker_usd_per_hour(settings: &Settings) -> f64 {
    settings.duckdb.usd_per_hour / settings.fleet.local_workers.max(1) as f64
}

pub(crate) fn pipeline_config(settings: &Settings) -> Result<PipelineConfig> {
    let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(PipelineConfig {
        live: settings.live().map_err(|mistakes| Error::invalid(mistakes.to_string()))?,
        hold: HoldConfig { bytes_max: bytes(settings.hold_bytes_max), total_bytes_max: bytes(settings.hold_total_bytes_max) },
        ..Default::default()
    })
}

fn log_url(settings: &Settings, state: &StateDir) -> String {
    settings.log_url.clone().unwrap_or_else(|| state.log_file().display().to_string())
}

/// The log's database, opened now if it can be, so that migrations run at the start; if not, the
/// server starts all the same and the records wait.
async fn open_log(settings: &Settings, state: &StateDir) -> Arc<dyn Store> {
    let log = LazyLog::new(log_url(settings, state));
    if let Err(error) = log.store().await {
        tracing::warn!(%error, "the query log's database can't be opened; records wait in the spool until it can");
    }
    Arc::new(log)
}

fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
