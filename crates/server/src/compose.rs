//! Which parts there are and who is given whom. Adding an engine is one line in [`engines`].

use std::path::Path;
use std::sync::Arc;

use flightpath_catalog::{Catalog, CatalogSet, LocalCatalog};
use flightpath_engine::Engine;
use flightpath_engine_datafusion::DataFusionEngine;
use flightpath_engine_duckdb::DuckdbEngine;
use flightpath_flight::OpenConnections;
use flightpath_pipeline::{AdmissionConfig, Pipeline, PipelineConfig, ShadowConfig};
use flightpath_planner::Planner;
use flightpath_querylog::{Recorder, RecorderConfig, ShadowLog, Store};
use flightpath_telemetry::Telemetry;
use flightpath_types::{Error, Result};

use crate::databricks::{self, Callers};
use crate::describe::DuckdbDescriber;
use crate::lazy_log::LazyLog;
use crate::settings::{EngineSettings, Settings};
use crate::state::StateDir;
use crate::system_tables::{self, LogSource};
use crate::telemetry::{self, CountedShadowLog, Now};

/// The catalog of local folders.
const LOCAL_CATALOG: &str = "lake";

/// A running program without its front door.
pub(crate) struct Parts {
    pub pipeline: Arc<Pipeline>,
    pub engines: Vec<Arc<dyn Engine>>,
    pub recorder: Recorder,
    pub duckdb: Option<Arc<DuckdbEngine>>,
    /// Told of every caller's token, where a workspace is configured.
    pub callers: Option<Arc<Callers>>,
    /// To be kept true by the front door.
    pub connections: OpenConnections,
    /// Keeps the folder locked until the end.
    pub _state: StateDir,
}

pub(crate) async fn compose(settings: &Settings, telemetry: &Telemetry) -> Result<Parts> {
    let state = StateDir::open(&settings.state_dir)?;
    let catalog = open_catalog(settings).await?;
    let (mut engines, duckdb) = engines(settings, &state.temporary())?;
    let workspace = databricks::open(settings)?;
    engines.extend(workspace.iter().map(|w| w.engine.clone() as Arc<dyn Engine>));

    let store = open_log(settings, &state).await;
    let spool = RecorderConfig { spool_bytes_max: settings.log_spool_bytes_max, ..RecorderConfig::new(state.spool()) };
    let mut recorder = Recorder::start(store.clone(), spool)?;
    let mut shadow_log: Arc<dyn ShadowLog> = store.clone();
    if let Some(metrics) = telemetry.query_metrics() {
        recorder = recorder.observed_by(telemetry::observer(metrics.clone()));
        shadow_log = Arc::new(CountedShadowLog { log: shadow_log, metrics });
    }
    let rows_max = usize::try_from(settings.log_read_rows_max).unwrap_or(usize::MAX);
    system_tables::register(&catalog, LogSource { store: store.clone(), recorder: recorder.clone(), rows_max }, &engines);

    let mut shared: Arc<dyn Catalog> = catalog;
    if let Some(workspace) = &workspace {
        let mut members = vec![(LOCAL_CATALOG.to_string(), shared)];
        members.extend(workspace.catalog.names().iter().map(|name| (name.clone(), workspace.catalog.clone() as Arc<dyn Catalog>)));
        shared = Arc::new(CatalogSet::new(members)?);
    }
    let mut planner = Planner::new(shared.clone(), Default::default());
    if let Some(duckdb) = &duckdb {
        planner = planner.with_describer(Arc::new(DuckdbDescriber { engine: duckdb.clone() }));
    }
    if let Some(workspace) = &workspace {
        planner = planner.with_remote(workspace.describer.clone());
    }
    let config = pipeline_config(settings);
    let pipeline = Arc::new(Pipeline::new(planner, shared, engines.clone(), recorder.clone(), shadow_log, config));
    let connections = OpenConnections::default();
    let now = Now { pipeline: Arc::downgrade(&pipeline), recorder: recorder.clone(), connections: connections.clone() };
    telemetry.watch(Arc::new(now));
    Ok(Parts { pipeline, engines, recorder, duckdb, callers: workspace.map(|w| w.callers), connections, _state: state })
}

pub(crate) async fn open_catalog(settings: &Settings) -> Result<Arc<LocalCatalog>> {
    let config = flightpath_catalog::Config {
        refresh_interval: settings.catalog_refresh,
        partition_time_zone: settings.partition_time_zone,
        ..flightpath_catalog::Config::new(settings.data.clone())
    };
    Ok(Arc::new(LocalCatalog::open(config).await?))
}

/// Every engine there is, in the order in which listings show them.
fn engines(settings: &Settings, temporary: &Path) -> Result<(Vec<Arc<dyn Engine>>, Option<Arc<DuckdbEngine>>)> {
    let mut engines: Vec<Arc<dyn Engine>> = Vec::new();
    if settings.datafusion.enabled {
        engines.push(Arc::new(DataFusionEngine::new(datafusion_config(&settings.datafusion, temporary))?));
    }
    let mut duckdb = None;
    if settings.duckdb.enabled {
        let program = std::env::current_exe().map_err(|e| Error::internal(format!("this program's own path isn't known: {e}")))?;
        let config = duckdb_config(settings, program, temporary);
        let engine =
            Arc::new(DuckdbEngine::start(flightpath_engine_duckdb::Config { environment: telemetry::for_worker(settings)?, ..config }));
        engines.push(engine.clone());
        duckdb = Some(engine);
    }
    Ok((engines, duckdb))
}

pub(crate) fn datafusion_config(settings: &EngineSettings, temporary: &Path) -> flightpath_engine_datafusion::Config {
    let memory = usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX);
    flightpath_engine_datafusion::Config {
        cores: usize::try_from(settings.threads).unwrap_or(1),
        memory_bytes_max: memory,
        query_memory_bytes_max: memory,
        temp_bytes_max: settings.temp_bytes,
        temp_dir: Some(temporary.to_path_buf()),
        slots: count(settings.slots),
        usd_per_hour: settings.usd_per_hour,
        ..Default::default()
    }
}

pub(crate) fn duckdb_config(settings: &Settings, program: std::path::PathBuf, temporary: &Path) -> flightpath_engine_duckdb::Config {
    let own = &settings.duckdb;
    flightpath_engine_duckdb::Config {
        slots: count(own.slots),
        queue_max: count(settings.queue_max),
        queue_wait_max: settings.queue_wait,
        temp_dir: temporary.to_path_buf(),
        temp_bytes_max: own.temp_bytes,
        drain_max: settings.drain,
        usd_per_hour: own.usd_per_hour,
        ..flightpath_engine_duckdb::Config::new(program, own.memory_bytes, count(own.threads))
    }
}

pub(crate) fn pipeline_config(settings: &Settings) -> PipelineConfig {
    PipelineConfig {
        strategy: settings.strategy.clone(),
        admission: AdmissionConfig { queue_max: usize::try_from(settings.queue_max).unwrap_or(usize::MAX), wait_max: settings.queue_wait },
        timeout: settings.timeout,
        shadow: ShadowConfig {
            share: settings.shadow_share,
            rows_max: settings.shadow_rows_max,
            timeout: settings.shadow_timeout,
            runs_max: usize::try_from(settings.shadow_runs_max).unwrap_or(1),
        },
        ..Default::default()
    }
}

/// The log's database, opened now if it can be, so that migrations run at the start; if not, the
/// server starts all the same and the records wait.
async fn open_log(settings: &Settings, state: &StateDir) -> Arc<dyn Store> {
    let url = settings.log_url.clone().unwrap_or_else(|| state.log_file().display().to_string());
    let log = LazyLog::new(url);
    if let Err(error) = log.store().await {
        tracing::warn!(%error, "the query log's database can't be opened; records wait in the spool until it can");
    }
    Arc::new(log)
}

fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
