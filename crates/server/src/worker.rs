//! `flightpath worker`: a DuckDB worker as a process of its own.

use flightpath_telemetry::Role;
use flightpath_types::{Error, Result};
use flightpath_worker::{Config, Key, Listener};
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::Settings;

/// The variable that holds a worker's key, 64 hex digits or more, shared with its router.
const KEY_VARIABLE: &str = "FLIGHTPATH_WORKER_KEY";

/// A worker that `serve` started: it is told everything on standard input.
pub async fn run_supervised_worker() -> Result<()> {
    let telemetry = crate::telemetry::start_supervised().await;
    let result = flightpath_worker::run_supervised().await;
    telemetry.shutdown().await;
    result
}

/// A worker that a person started. Prints `listening on ADDRESS` when routers can connect.
pub async fn run_worker(settings: Settings, listen: &str) -> Result<()> {
    let telemetry = crate::telemetry::start(&settings, Role::Worker).await?;
    let key = std::env::var(KEY_VARIABLE).ok().and_then(|text| hex::decode(text.trim()).ok());
    let key =
        key.ok_or_else(|| Error::invalid(format!("set {KEY_VARIABLE} to the key that router and worker share: at least 64 hex digits")))?;
    let state = crate::state::StateDir::open(&settings.state_dir)?;
    let own = &settings.duckdb;
    let threads = u32::try_from(own.threads).unwrap_or(u32::MAX);
    let config = Config {
        slots: u32::try_from(own.slots).unwrap_or(u32::MAX),
        temp_bytes_max: own.temp_bytes,
        drain_max: settings.drain,
        ..Config::new(Key::new(key)?, state.temporary(), own.memory_bytes, threads)
    };
    let listener = Listener::bind(listen).await?;
    println!("listening on {}", listener.address()?);
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Error::internal(format!("no signal handler: {e}")))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Error::internal(format!("no signal handler: {e}")))?;
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let result = flightpath_worker::serve(config, listener, stopped).await;
    telemetry.shutdown().await;
    result
}
