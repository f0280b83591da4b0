//! `flightpath serve`: start, wait for a signal, let clients notice, drain.

use std::sync::Arc;
use std::time::Duration;

use flightpath_api::Api;
use flightpath_engine::Engine;
use flightpath_flight::{Auth, Neighbours, OnToken, OutsideTokens, StaticUser, Tls};
use flightpath_pipeline::Pipeline;
use flightpath_telemetry::Role;
use flightpath_types::{Error, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::compose::{Parts, compose};
use crate::fleet;
use crate::learned;
use crate::reconcile::Reconciler;
use crate::reload::{Live, Load};
use crate::settings::Settings;

/// How often expired tickets are forgotten and engines looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the quarantine's table is read.
const QUARANTINE_INTERVAL: Duration = Duration::from_secs(3);
/// How long the log may take to be written at shutdown; the rest stays in the spool.
const LOG_FLUSH_MAX: Duration = Duration::from_secs(5);
/// How long saving what was learned may take at shutdown.
const LEARNED_SAVE_MAX: Duration = Duration::from_secs(2);
/// How long the start waits for the DuckDB worker; queries that need it wait by themselves later.
const WORKER_START_WAIT_MAX: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT. Prints `listening on grpc://HOST:PORT` to standard output when
/// clients can connect.
/// `load` reads the settings again, at SIGHUP.
pub async fn serve(settings: Settings, load: Load) -> Result<()> {
    let telemetry = Arc::new(crate::telemetry::start(&settings, Role::Router).await?);
    let tls = read_tls(&settings)?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => Error::unavailable(format!(
            "{} is in use: another server runs there; stop it or choose another port with --listen",
            settings.listen
        )),
        _ => Error::unavailable(format!("can't listen on {}: {e}", settings.listen)),
    })?;
    let address = listener.local_addr().map_err(|e| Error::internal(format!("no local address: {e}")))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Error::internal(format!("no signal handler: {e}")))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Error::internal(format!("no signal handler: {e}")))?;

    let hangup = signal(SignalKind::hangup()).map_err(|e| Error::internal(format!("no signal handler: {e}")))?;

    let workers = fleet::Door::open(&settings, tls.as_ref()).await?;
    let parts = compose(&settings, &telemetry).await?;
    if let Some(duckdb) = parts.duckdb.as_ref().filter(|_| settings.fleet.local_workers > 0) {
        match tokio::time::timeout(WORKER_START_WAIT_MAX, duckdb.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the DuckDB worker doesn't start; queries run on the other engines"),
            Err(_) => tracing::warn!("the DuckDB worker is slow to start; queries run on the other engines meanwhile"),
        }
    }
    let stop = CancellationToken::new();
    let mut config = flight_config(&settings, tls.as_ref());
    if let Some(callers) = parts.callers.clone() {
        config.on_token = Some(OnToken::new(move |principal, token| callers.seen(principal, token)));
    }
    config.open_connections = parts.connections.clone();
    config.open_sessions = parts.sessions.clone();
    if let Some(check) = parts.tokens.clone() {
        config.outside_tokens = Some(OutsideTokens { check, lifetime: settings.databricks.access_lifetime });
    }
    let live = Live::new(&parts, &settings, telemetry.clone(), config.live_auth.clone(), config.outside_tokens.clone());
    let Api { routes, health } = flightpath_api::api(parts.pipeline.clone(), parts.store.clone(), parts.recorder.clone())?;
    let neighbours = Neighbours { routes, open_paths: flightpath_api::OPEN_PATHS.to_vec() };
    let ended = stop.clone().cancelled_owned();
    let door = tokio::spawn(flightpath_flight::serve_with(listener, parts.pipeline.clone(), neighbours, config, ended));
    let sweeper = tokio::spawn(look_around(parts.pipeline.clone()));
    let quarantine = tokio::spawn(keep_quarantine(parts.pipeline.clone()));
    let reload = tokio::spawn(live.on_signal(hangup, load, settings.clone()));
    // Workers stay known while queries drain: it ends with everything else.
    let taking_in = take_workers_in(workers, &parts)?;
    let learning = tokio::spawn(learned::keep(parts.learned.clone(), parts.store.clone(), parts.recorder.clone(), parts.pipeline.clone()));
    let reconciler = Reconciler::new(&parts, settings.databricks.reconcile_interval);
    let reconciling = reconciler.map(|reconciler| tokio::spawn(reconciler.keep()));
    println!("listening on grpc{}://{address}", if tls.is_some() { "+tls" } else { "" });

    tokio::pin!(door);
    let ended = tokio::select! {
        ended = &mut door => Some(ended),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    if ended.is_none() {
        health.draining();
        delay_drain(settings.drain_delay, &mut terminate, &mut interrupt).await;
    }
    sweeper.abort();
    quarantine.abort();
    reload.abort();
    learning.abort();
    reconciling.inspect(|task| task.abort());
    let result = match ended {
        Some(Ok(result)) => result,
        Some(Err(e)) => Err(Error::internal(format!("the server's front door failed: {e}"))),
        None => {
            tracing::info!("draining: no new queries; running ones may finish");
            let finished = parts.pipeline.drain(settings.drain).await;
            if !finished {
                tracing::warn!("some queries did not finish in time and were cancelled");
            }
            health.over();
            stop.cancel();
            // Connections are closed by now or by the front door's own limit.
            match tokio::time::timeout(settings.drain + Duration::from_secs(5), door).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => Ok(()),
            }
        }
    };
    shut_down(parts).await;
    drop(taking_in);
    telemetry.shutdown().await;
    result
}

/// Health says NOT_SERVING by now. Statements are still taken for a while, so that whoever goes by health has
/// time to notice. A second signal ends it.
async fn delay_drain(delay: Duration, terminate: &mut Signal, interrupt: &mut Signal) {
    if delay.is_zero() {
        return;
    }
    tracing::info!(seconds = delay.as_secs_f64(), "shutting down: health says so, and new queries are still taken");
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Where workers from elsewhere register, until what is returned is dropped. Prints `workers register
/// at grpc://HOST:PORT`.
fn take_workers_in(door: Option<fleet::Door>, parts: &Parts) -> Result<Option<DropGuard>> {
    let (Some(door), Some(duckdb)) = (door, &parts.duckdb) else { return Ok(None) };
    println!("workers register at {}", door.uri()?);
    let stop = CancellationToken::new();
    tokio::spawn(door.serve(duckdb.clone(), stop.clone().cancelled_owned()));
    Ok(Some(stop.drop_guard()))
}

async fn shut_down(parts: Parts) {
    let engines: Vec<Arc<dyn Engine>> = parts.engines.clone();
    for engine in &engines {
        engine.shutdown().await;
    }
    match tokio::time::timeout(LEARNED_SAVE_MAX, parts.learned.save()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "what was learned can't be saved"),
        Err(_) => tracing::warn!("what was learned isn't saved: the log's database doesn't answer"),
    }
    if !parts.recorder.shutdown(LOG_FLUSH_MAX).await {
        tracing::warn!("the query log's database didn't take all records; they wait in the spool for the next start");
    }
    tracing::info!("stopped");
}

async fn look_around(pipeline: Arc<Pipeline>) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    loop {
        interval.tick().await;
        pipeline.look_around();
    }
}

/// What was lifted, or found by another router, holds here from the next round on.
async fn keep_quarantine(pipeline: Arc<Pipeline>) {
    let mut interval = tokio::time::interval(QUARANTINE_INTERVAL);
    loop {
        interval.tick().await;
        if let Err(error) = pipeline.synchronize_quarantine().await {
            tracing::debug!(%error, "the quarantine's table can't be read");
        }
    }
}

/// Who may connect.
pub(crate) fn auth(settings: &Settings) -> Auth {
    let mut users: Vec<StaticUser> = settings
        .users
        .iter()
        .map(|u| StaticUser { name: u.name.clone(), password_hash: Some(u.password_hash.clone()), tokens: Vec::new() })
        .collect();
    for token in &settings.tokens {
        let stored = format!("sha256:{}", token.token_sha256);
        match users.iter_mut().find(|u| u.name == token.principal) {
            Some(user) => user.tokens.push(stored),
            None => users.push(StaticUser { name: token.principal.clone(), password_hash: None, tokens: vec![stored] }),
        }
    }
    if users.is_empty() { Auth::None } else { Auth::Users(users) }
}

fn flight_config(settings: &Settings, tls: Option<&Tls>) -> flightpath_flight::Config {
    let mut config = flightpath_flight::Config {
        auth: auth(settings),
        tls: tls.cloned(),
        writes: settings.databricks.host.is_some()
            && (settings.databricks.writes || settings.profiles.iter().any(|setting| setting.profile.writes == Some(true))),
        ..Default::default()
    };
    config.limits.connections = usize::try_from(settings.connections_max).unwrap_or(usize::MAX);
    config.lifetimes.drain = settings.drain;
    config.lifetimes.session_idle = settings.session_idle;
    config
}

pub(crate) fn read_tls(settings: &Settings) -> Result<Option<Tls>> {
    let (Some(certificate), Some(key)) = (&settings.tls_certificate, &settings.tls_key) else { return Ok(None) };
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|e| Error::invalid(format!("the TLS file {} can't be read: {e}", path.display())))
    };
    let client_ca_pem = settings.tls_client_ca.as_deref().map(read).transpose()?;
    if client_ca_pem.as_ref().is_some_and(|pem| !pem.contains("BEGIN CERTIFICATE")) {
        return Err(Error::invalid("tls.client_ca holds no certificate; it takes PEM, as tls.certificate does"));
    }
    Ok(Some(Tls { certificate_pem: read(certificate)?, key_pem: read(key)?, client_ca_pem }))
}
