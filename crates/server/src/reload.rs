//! New settings without a restart: read again on SIGHUP, and checked whole before any of it is taken.
//! Profiles, strategies, budgets, prices, limits of time and queue, who may connect, what the log tells
//! and how long it is kept change at once. What is bound to a socket, a file or a process at the start
//! stays as it was, and the log names each such setting that changed.

use std::sync::Arc;

use flightpath_engine_databricks::DatabricksEngine;
use flightpath_engine_datafusion::DataFusionEngine;
use flightpath_engine_duckdb::DuckdbEngine;
use flightpath_flight::{CheckedAuth, LiveAuth, OutsideTokens};
use flightpath_pipeline::{LiveConfig, Pipeline};
use flightpath_querylog::{RetentionConfig, Store, keep_retention};
use flightpath_telemetry::Telemetry;
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;

use crate::compose::{Parts, worker_usd_per_hour};
use crate::serve::auth;
use crate::settings::{Mistake, Mistakes, Settings};

/// Reads the settings as the start did: file, environment, command line.
pub type Load = Arc<dyn Fn() -> Result<Settings, Mistakes> + Send + Sync>;

/// Everything that can change while the server runs. Dropped, it ends what it keeps going.
pub(crate) struct Live {
    pub auth: LiveAuth,
    pub outside_tokens: Option<OutsideTokens>,
    pub telemetry: Arc<Telemetry>,
    pipeline: Arc<Pipeline>,
    store: Arc<dyn Store>,
    datafusion: Option<Arc<DataFusionEngine>>,
    duckdb: Option<Arc<DuckdbEngine>>,
    databricks: Option<Arc<DatabricksEngine>>,
    retention: Retention,
}

/// Settings that were checked and can be taken on.
struct Checked {
    settings: Settings,
    live: LiveConfig,
    auth: CheckedAuth,
}

/// The task that deletes old records, if any is to be deleted.
struct Retention(Option<JoinHandle<()>>);

impl Retention {
    fn start(settings: &Settings, store: &Arc<dyn Store>) -> Self {
        Self(settings.log_retention.map(|keep| tokio::spawn(keep_retention(store.clone(), RetentionConfig::new(keep)))))
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.0.as_ref().inspect(|task| task.abort());
    }
}

impl Live {
    pub fn new(
        parts: &Parts,
        settings: &Settings,
        telemetry: Arc<Telemetry>,
        auth: LiveAuth,
        outside_tokens: Option<OutsideTokens>,
    ) -> Self {
        Self {
            auth,
            outside_tokens,
            telemetry,
            pipeline: parts.pipeline.clone(),
            store: parts.store.clone(),
            datafusion: parts.datafusion.clone(),
            duckdb: parts.duckdb.clone(),
            databricks: parts.databricks.clone(),
            retention: Retention::start(settings, &parts.store),
        }
    }

    /// Takes on new settings at each signal. Mistakes leave everything as it is.
    pub async fn on_signal(mut self, mut hangup: Signal, load: Load, started: Settings) {
        let mut current = started.clone();
        while hangup.recv().await.is_some() {
            let (load, outside, engines) = (load.clone(), self.outside_tokens.clone(), self.engines());
            match tokio::task::spawn_blocking(move || check(&load, outside.as_ref(), &engines)).await {
                Ok(Ok(checked)) => current = self.take(checked, &current, &started),
                Ok(Err(mistakes)) => tracing::error!(%mistakes, "the settings stay as they were"),
                Err(error) => tracing::error!(%error, "the settings can't be read; they stay as they were"),
            }
        }
    }

    /// Those that run.
    fn engines(&self) -> Vec<&'static str> {
        let all = [("datafusion", self.datafusion.is_some()), ("duckdb", self.duckdb.is_some()), ("databricks", self.databricks.is_some())];
        all.into_iter().filter(|(_, runs)| *runs).map(|(name, _)| name).collect()
    }

    fn take(&mut self, checked: Checked, current: &Settings, started: &Settings) -> Settings {
        let Checked { settings, live, auth } = checked;
        self.auth.replace(auth);
        self.pipeline.configure(live);
        self.telemetry.set_log_level(&settings.log_level);
        if let Some(engine) = &self.datafusion {
            engine.set_usd_per_hour(settings.datafusion.usd_per_hour);
        }
        if let Some(engine) = &self.duckdb {
            engine.set_usd_per_hour(worker_usd_per_hour(&settings));
        }
        if let Some(engine) = &self.databricks {
            engine.set_usd_per_dbu(settings.databricks.usd_per_dbu);
        }
        if settings.log_retention != current.log_retention {
            self.retention = Retention::start(&settings, &self.store);
        }
        let names = |since: &Settings, live: bool| {
            let changes = since.changes(&settings).into_iter().filter(|(_, is_live)| *is_live == live);
            changes.map(|(name, _)| name).collect::<Vec<_>>().join(", ")
        };
        let (taken, waiting) = (names(current, true), names(started, false));
        tracing::info!(changed = taken, "settings taken on");
        if !waiting.is_empty() {
            tracing::warn!(settings = waiting, "these settings changed and take effect at the next start: restart the server");
        }
        settings
    }
}

fn check(load: &Load, outside: Option<&OutsideTokens>, engines: &[&str]) -> Result<Checked, Mistakes> {
    let settings = load()?;
    settings.name_only(engines)?;
    let live = settings.live()?;
    let mistake = |e: flightpath_types::Error| Mistakes(vec![Mistake { place: "auth".into(), message: e.to_string() }]);
    let auth = CheckedAuth::new(&auth(&settings), outside).map_err(mistake)?;
    Ok(Checked { settings, live, auth })
}
