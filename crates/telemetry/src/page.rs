//! The Prometheus page: `GET /metrics` on an address of its own. Few connections, each for a short
//! while: whoever reads it asks every few seconds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flightpath_types::{Error, ErrorKind, Result};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{Registry, TextEncoder};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::config::Page;

const CONNECTIONS_MAX: usize = 32;
/// Longest life of a connection, and how long its request's head may take.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
const HEAD_MAX: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct Shared {
    registry: Registry,
    token_sha256: Option<Vec<u8>>,
}

/// The page as it is served; ends with [`Serving::stop`].
pub(crate) struct Serving {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Serving {
    pub fn stop(&self) {
        self.task.abort();
    }
}

pub(crate) async fn serve(page: &Page, registry: Registry) -> Result<Serving> {
    let token_sha256 = match &page.token_sha256 {
        Some(hash) => Some(hex::decode(hash).map_err(|_| Error::invalid("telemetry.prometheus_token_sha256 must be hexadecimal digits"))?),
        None => None,
    };
    if token_sha256.is_none() && !page.listen.ip().is_loopback() {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            format!("refusing to show metrics on {} without a token: set telemetry.prometheus_token_sha256", page.listen),
        ));
    }
    let listener = TcpListener::bind(page.listen).await.map_err(|e| {
        Error::unavailable(format!("can't listen on {} for Prometheus: {e}; choose another telemetry.prometheus", page.listen))
    })?;
    let address = listener.local_addr().map_err(|e| Error::internal(format!("no local address: {e}")))?;
    let shared = Arc::new(Shared { registry, token_sha256 });
    let router = Router::new().route("/metrics", get(metrics)).with_state(shared);
    Ok(Serving { address, task: tokio::spawn(accept(listener, router)) })
}

async fn accept(listener: TcpListener, router: Router) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Connections end with the task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                // One more than there may be is closed right away.
                if let Ok(permit) = permits.clone().try_acquire_owned() {
                    connections.spawn(answer(stream, router.clone(), permit));
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn answer(stream: TcpStream, router: Router, _permit: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A reader's mistakes are its own.
    let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !is_allowed(&shared, &headers) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "the metrics' token is needed\n").into_response();
    }
    // Collecting takes locks and formats some hundred lines.
    let gathered = tokio::task::spawn_blocking(move || TextEncoder::new().encode_to_string(&shared.registry.gather()));
    match gathered.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Ok(Err(_)) | Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written\n").into_response(),
    }
}

fn is_allowed(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(wanted) = &shared.token_sha256 else { return true };
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    shown.is_some_and(|token| bool::from(Sha256::digest(token.trim().as_bytes()).ct_eq(wanted.as_slice())))
}
