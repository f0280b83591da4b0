//! The simulation's front: start and end, the routes, and the layer that names it on every answer,
//! counts calls and lets faults strike.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use flightpath_types::{Error, Result};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::auth::Accounts;
use crate::config::Config;
use crate::faults::{self, Fault};
use crate::lakehouse::Lakehouse;
use crate::rules::RuleBook;
use crate::spool::Spool;
use crate::state::{App, Workspace};
use crate::warehouses::Warehouses;
use crate::wire::{ApiError, SIMULATION, SIMULATION_HEADER};
use crate::{history, identity, oauth, objects, simulation, statements, storage, unity, warehouses};

/// Statements up to 16 MiB, in JSON.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Starts simulations; see [`Config`].
#[derive(Debug, Clone, Copy)]
pub struct Emulator;

/// A simulation that answers until it's shut down or dropped.
pub struct RunningEmulator {
    /// `http://host:port`.
    pub url: String,
    ending: CancellationToken,
    server: Option<JoinHandle<()>>,
    lake: Arc<Lakehouse>,
}

impl Emulator {
    /// Fails when a data folder can't be listed or the address is taken.
    pub async fn start(config: Config) -> Result<RunningEmulator> {
        let cannot_listen = |e: std::io::Error| Error::unavailable(format!("the simulation can't listen on {}: {e}", config.listen));
        let listener = TcpListener::bind(config.listen).await.map_err(cannot_listen)?;
        let url = format!("http://{}", listener.local_addr().map_err(cannot_listen)?);
        let rules = Arc::new(RuleBook::new(&config.tables));
        let accounts = Arc::new(Accounts::new(config.principals.clone(), config.oauth_clients.clone()));
        let settings = Arc::new(RwLock::new(config.settings.clone()));
        let lake = Arc::new(Lakehouse::open(&config, rules.clone(), accounts.clone(), settings.clone()).await?);
        let ending = CancellationToken::new();
        let app = Arc::new(Workspace {
            lake: lake.clone(),
            rules,
            accounts,
            settings,
            warehouses: Warehouses::new(&config.warehouses),
            statements: Default::default(),
            links: Default::default(),
            grants: Default::default(),
            faults: Default::default(),
            counters: Default::default(),
            spool: Spool::create()?,
            url: url.clone(),
            ending: ending.clone(),
        });
        let until = ending.clone();
        let server = tokio::spawn(async move {
            let serving = axum::serve(listener, routes(app)).with_graceful_shutdown(until.cancelled_owned());
            if let Err(error) = serving.await {
                tracing::warn!(%error, "the simulation stopped answering");
            }
        });
        Ok(RunningEmulator { url, ending, server: Some(server), lake })
    }
}

impl RunningEmulator {
    /// Cancels what runs and waits until the last answer is out, at most two seconds.
    pub async fn shutdown(mut self) {
        self.ending.cancel();
        self.lake.shutdown().await;
        if let Some(mut server) = self.server.take()
            && tokio::time::timeout(Duration::from_secs(2), &mut server).await.is_err()
        {
            server.abort();
        }
    }
}

impl Drop for RunningEmulator {
    fn drop(&mut self) {
        self.ending.cancel();
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}

fn routes(app: App) -> Router {
    let sql = Router::new()
        .route("/statements", post(statements::execute))
        .route("/statements/", post(statements::execute))
        .route("/statements/{id}", get(statements::poll))
        .route("/statements/{id}/result/chunks/{index}", get(statements::chunk))
        .route("/statements/{id}/cancel", post(statements::cancel))
        .route("/warehouses", get(warehouses::list))
        .route("/warehouses/{id}", get(warehouses::get))
        .route("/warehouses/{id}/start", post(warehouses::start))
        .route("/warehouses/{id}/stop", post(warehouses::stop))
        .route("/history/queries", get(history::list));
    let unity = Router::new()
        .route("/catalogs", get(unity::catalogs))
        .route("/catalogs/{name}", get(unity::catalog))
        .route("/schemas", get(unity::schemas))
        .route("/tables", get(unity::tables))
        .route("/tables/{full_name}", get(unity::table))
        .route("/effective-permissions/{kind}/{full_name}", get(unity::effective_permissions))
        .route("/policies/{kind}/{full_name}", get(unity::policies))
        .route("/temporary-table-credentials", post(unity::temporary_table_credentials));
    let simulation = Router::new()
        .route("/", get(simulation::about))
        .route("/counters", get(simulation::counters))
        .route("/tables", get(simulation::tables))
        .route("/tables/{full_name}", post(simulation::set_table).delete(simulation::remove_table))
        .route("/faults", get(simulation::faults).post(simulation::add_fault).delete(simulation::clear_faults))
        .route("/settings", post(simulation::settings))
        .route("/revoke", post(simulation::revoke));
    Router::new()
        .nest("/api/2.0/sql", sql)
        .nest("/api/2.1/unity-catalog", unity)
        .nest("/simulation", simulation)
        .route("/api/2.0/preview/scim/v2/Me", get(identity::me))
        .route("/oidc/.well-known/oauth-authorization-server", get(oauth::discovery))
        .route("/oidc/v1/token", post(oauth::token))
        .route("/storage/{id}", get(storage::get))
        .route("/objects/{bucket}", get(objects::get))
        .route("/objects/{bucket}/{*key}", get(objects::get))
        .fallback(unknown)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), watched))
        .with_state(app)
}

async fn unknown(request: Request) -> ApiError {
    ApiError::not_found("ENDPOINT_NOT_FOUND", format!("simulated Databricks has no endpoint {} {}", request.method(), request.uri().path()))
}

/// Every call: counted, struck by faults, and answered in the simulation's name.
async fn watched(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_string();
    let kind = faults::kind(request.method().as_str(), &path);
    let mut response = if path.starts_with("/simulation") {
        next.run(request).await
    } else {
        app.counters.call(kind);
        match app.faults.call(kind, &path) {
            None => next.run(request).await,
            Some(fault) => struck(fault, request, next).await,
        }
    };
    response.headers_mut().insert(header::SERVER, SIMULATION);
    response.headers_mut().insert(SIMULATION_HEADER, SIMULATION);
    response
}

async fn struck(fault: Fault, request: Request, next: Next) -> Response {
    tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    let response = match fault.status {
        Some(_) if !fault.after_execution => None,
        _ => Some(next.run(request).await),
    };
    let response = match (fault.status, response) {
        (None, Some(response)) => response,
        (status, _) => refusal(&fault, status.unwrap_or(500)),
    };
    if fault.drop_connection_mid_body || fault.truncate_body {
        return halved(response, fault.drop_connection_mid_body).await;
    }
    response
}

fn refusal(fault: &Fault, status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = fault.error_code.as_deref().unwrap_or(match status {
        StatusCode::TOO_MANY_REQUESTS => "RESOURCE_EXHAUSTED",
        StatusCode::SERVICE_UNAVAILABLE => "TEMPORARILY_UNAVAILABLE",
        StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
        StatusCode::FORBIDDEN => "PERMISSION_DENIED",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        _ => "INTERNAL_ERROR",
    });
    let mut response = ApiError::new(status, code, "A simulated failure.").into_response();
    if let Some(value) = fault.retry_after.as_ref().and_then(|v| HeaderValue::from_str(v).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// The first half of the body: as if it were all, or before the connection breaks.
async fn halved(response: Response, breaks: bool) -> Response {
    let (mut head, body) = response.into_parts();
    let Ok(whole) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let half = whole.slice(..whole.len() / 2);
    if !breaks {
        head.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(head, Body::from(half));
    }
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "simulated break of the connection");
    let parts: [std::io::Result<Bytes>; 2] = [Ok(half), Err(broken)];
    Response::from_parts(head, Body::from_stream(futures::stream::iter(parts)))
}
