//! `flightpath worker`: a DuckDB worker as a process of its own.

use std::sync::Arc;

use flightpath_fleet::{AgentConfig, KEY_BYTES};
use flightpath_proto::v1::WorkerStatus;
use flightpath_telemetry::Role;
use flightpath_types::{Error, Result};
use flightpath_worker::{Config, Endpoint, Key, Listener, Tls};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::settings::Settings;
use crate::{fleet, serve};

/// The variable that holds a worker's key, 64 hex digits or more, shared with its router: for a
/// worker that doesn't register.
const KEY_VARIABLE: &str = "FLIGHTPATH_WORKER_KEY";

/// A worker that `serve` started: it is told everything on standard input.
pub async fn run_supervised_worker() -> Result<()> {
    let telemetry = crate::telemetry::start_supervised().await;
    let result = flightpath_worker::run_supervised().await;
    telemetry.shutdown().await;
    result
}

/// A worker that a person started. Prints `listening on ADDRESS` when routers can connect; registers
/// with the routers that its settings name. SIGTERM drains it. A query that doesn't hear that it was told to
/// end drains it too, and is an error: whoever started it is to start it again.
pub async fn run_worker(settings: Settings, listen: &str) -> Result<()> {
    let telemetry = crate::telemetry::start(&settings, Role::Worker).await?;
    let result = run_traced(settings, listen).await;
    telemetry.shutdown().await;
    result
}

async fn run_traced(settings: Settings, listen: &str) -> Result<()> {
    flightpath_worker::harden();
    let registers = !settings.fleet.routers.is_empty();
    let state = crate::state::StateDir::open(&settings.state_dir)?;
    let own = &settings.duckdb;
    let threads = u32::try_from(own.threads).unwrap_or(u32::MAX);
    let tls = serve::read_tls(&settings)?.map(|t| Tls { certificate_pem: t.certificate_pem, key_pem: t.key_pem });
    let encrypted = tls.is_some();
    let key = if registers { None } else { Some(own_key()?) };
    let defaults = Config::new(key, state.temporary(), own.memory_bytes, threads);
    let slots = u32::try_from(own.slots).unwrap_or(u32::MAX);
    let config = Config {
        slots,
        // No more than all of them.
        user_slots: defaults.user_slots.min(slots),
        temp_bytes_max: own.temp_bytes,
        drain_max: settings.drain,
        tls,
        ..defaults
    };
    let listener = if encrypted { Listener::bind_for_tls(listen).await? } else { Listener::bind(listen).await? };
    let address = listener.address()?;
    let agents = agents(&settings, &address, encrypted)?;
    let endpoint = Endpoint::new(config)?;
    println!("listening on {address}");
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Error::internal(format!("no signal handler: {e}")))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Error::internal(format!("no signal handler: {e}")))?;
    let mut registering = JoinSet::new();
    for agent in agents {
        registering.spawn(flightpath_fleet::keep_registered(agent, Arc::new(Lent(endpoint.clone()))));
    }
    let serving = endpoint.serve(listener, async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining: no new queries; running ones may finish");
    });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended,
        // Registration ends by itself only for what trying again can't mend.
        Some(ended) = registering.join_next() => match ended {
            Ok(Ok(())) => serving.await,
            Ok(Err(error)) => Err(error),
            Err(error) => Err(Error::internal(format!("registering failed: {error}"))),
        },
    }
}

fn own_key() -> Result<Key> {
    let key = std::env::var(KEY_VARIABLE).ok().and_then(|text| hex::decode(text.trim()).ok());
    let key = key.ok_or_else(|| {
        Error::invalid(format!(
            "set worker.router to register with a router, or {KEY_VARIABLE} to the key that router and worker share: at least 64 hex digits"
        ))
    })?;
    Key::new(key)
}

/// One for each router.
fn agents(settings: &Settings, listening: &str, tls: bool) -> Result<Vec<AgentConfig>> {
    let own = &settings.fleet;
    if own.routers.is_empty() {
        return Ok(Vec::new());
    }
    let address = match (&own.advertise, listening.strip_prefix("tcp:")) {
        (Some(advertise), _) => advertise.clone(),
        (None, Some(address)) if !is_anywhere(address) => address.to_string(),
        (None, _) => {
            return Err(Error::invalid(format!("routers can't be told to come to {listening}: set worker.advertise to host:port")));
        }
    };
    let name = own.name.clone().unwrap_or_else(|| default_name(&address));
    let (key, ca_pem) = (fleet::key(settings)?, fleet::authority(settings)?);
    let agent = |router: &String| AgentConfig {
        router: router.clone(),
        ca_pem: ca_pem.clone(),
        key: key.clone(),
        name: name.clone(),
        address: address.clone(),
        tls,
        labels: own.labels.clone(),
    };
    Ok(own.routers.iter().map(agent).collect())
}

fn is_anywhere(address: &str) -> bool {
    address.parse::<std::net::SocketAddr>().is_ok_and(|address| address.ip().is_unspecified())
}

/// Host name and port: unique where host names are.
fn default_name(address: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(64).collect();
    let port = address.rsplit(':').next().unwrap_or_default();
    if host.is_empty() { format!("worker-{port}") } else { format!("{host}-{port}") }
}

/// This process's worker, as the agents lend it to routers.
struct Lent(Endpoint);

impl flightpath_fleet::Worker for Lent {
    fn status(&self) -> WorkerStatus {
        self.0.status()
    }

    fn grant(&self, ticket_key: &[u8; KEY_BYTES]) -> Result<Box<dyn Send + Sync>> {
        Ok(Box::new(self.0.grant(&Key::new(ticket_key.to_vec())?)?))
    }

    fn draining(&self) -> BoxFuture<'static, ()> {
        self.0.draining().boxed()
    }
}
