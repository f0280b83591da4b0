//! The warehouses: asleep, starting, up, stopping, with as many places as their clusters run
//! queries at once. Only a statement or `start` wakes one; looking never does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::WarehouseConfig;
use crate::state::App;
use crate::wire::{Answered, ApiError, now_ms};

/// Published: serverless starts in 2 to 6 s, the others in about 4 minutes.
const SERVERLESS_START: Duration = Duration::from_secs(4);
const CLASSIC_START: Duration = Duration::from_secs(240);

#[derive(Debug, Clone, Copy)]
enum Phase {
    Stopped,
    Starting { ready: Instant },
    Running { idle_since: Instant },
    Stopping { done: Instant },
}

struct Status {
    phase: Phase,
    /// Statements admitted or waiting.
    active: u32,
    running: u32,
    up_since: Option<Instant>,
    up_before: Duration,
    starts: u32,
}

pub(crate) struct Warehouse {
    pub config: WarehouseConfig,
    status: Mutex<Status>,
    places: Arc<Semaphore>,
}

pub(crate) struct Warehouses {
    list: Vec<Arc<Warehouse>>,
}

/// A place on a warehouse; going away gives it back.
pub(crate) struct Place {
    warehouse: Arc<Warehouse>,
    _permit: OwnedSemaphorePermit,
    _active: Active,
}

/// Keeps a warehouse from stopping by itself.
struct Active(Arc<Warehouse>);

/// When a statement waited, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waited {
    pub provisioning_from: Option<i64>,
    pub overloading_from: Option<i64>,
}

impl Warehouses {
    pub fn new(configs: &[WarehouseConfig]) -> Self {
        Self { list: configs.iter().map(|config| Arc::new(Warehouse::new(config.clone()))).collect() }
    }

    pub fn get(&self, id: &str) -> Option<Arc<Warehouse>> {
        self.list.iter().find(|w| w.config.id == id).cloned()
    }

    pub fn all(&self) -> &[Arc<Warehouse>] {
        &self.list
    }
}

impl Warehouse {
    fn new(config: WarehouseConfig) -> Self {
        let now = Instant::now();
        let places = config.concurrency_per_cluster.max(1).saturating_mul(config.max_num_clusters.max(1));
        let running = config.running;
        let phase = if running { Phase::Running { idle_since: now } } else { Phase::Stopped };
        let status = Status {
            phase,
            active: 0,
            running: 0,
            up_since: running.then_some(now),
            up_before: Duration::ZERO,
            starts: u32::from(running),
        };
        Self { config, status: Mutex::new(status), places: Arc::new(Semaphore::new(places as usize)) }
    }

    /// Waits until it is up and has a place. Wakes it.
    pub async fn admit(self: &Arc<Self>, waited: &mut Waited) -> Place {
        self.status.lock().active += 1;
        let active = Active(self.clone());
        while let Some(wait) = self.wake() {
            waited.provisioning_from.get_or_insert_with(now_ms);
            tokio::time::sleep(wait).await;
        }
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                waited.overloading_from = Some(now_ms());
                match self.places.clone().acquire_owned().await {
                    Ok(permit) => permit,
                    // Never closed; waiting for ever is what an ended warehouse does.
                    Err(_) => std::future::pending().await,
                }
            }
        };
        self.status.lock().running += 1;
        Place { warehouse: self.clone(), _permit: permit, _active: active }
    }

    pub fn start(&self) {
        let _ = self.wake();
    }

    pub fn stop(&self) {
        let now = Instant::now();
        let mut status = self.status.lock();
        self.settle(&mut status, now);
        if !matches!(status.phase, Phase::Stopped | Phase::Stopping { .. }) {
            self.go_down(&mut status, now);
            status.phase = Phase::Stopping { done: now + Duration::from_millis(self.config.stop_delay_ms) };
        }
    }

    /// How long until it may be up; `None` when it is. Starts it if it's down.
    fn wake(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut status = self.status.lock();
        self.settle(&mut status, now);
        match status.phase {
            Phase::Running { .. } => None,
            Phase::Starting { ready } => Some(ready - now),
            Phase::Stopping { done } => Some(done - now),
            Phase::Stopped => {
                let default = if self.config.enable_serverless_compute { SERVERLESS_START } else { CLASSIC_START };
                let delay = self.config.start_delay_ms.map_or(default, Duration::from_millis);
                status.phase = Phase::Starting { ready: now + delay };
                status.up_since = Some(now);
                status.starts += 1;
                Some(delay)
            }
        }
    }

    /// Does what time has brought.
    fn settle(&self, status: &mut Status, now: Instant) {
        match status.phase {
            Phase::Starting { ready } if now >= ready => status.phase = Phase::Running { idle_since: ready },
            Phase::Stopping { done } if now >= done => status.phase = Phase::Stopped,
            _ => {}
        }
        let auto_stop = Duration::try_from_secs_f64(self.config.auto_stop_mins * 60.0).unwrap_or_default();
        if let Phase::Running { idle_since } = status.phase
            && status.active == 0
            && !auto_stop.is_zero()
            && now >= idle_since + auto_stop
        {
            self.go_down(status, idle_since + auto_stop);
            status.phase = Phase::Stopped;
        }
    }

    fn go_down(&self, status: &mut Status, at: Instant) {
        if let Some(since) = status.up_since.take() {
            status.up_before += at.saturating_duration_since(since);
        }
    }

    /// As `GET warehouses/{id}` shows it.
    pub fn shown(&self, host: &str) -> Value {
        let mut status = self.status.lock();
        self.settle(&mut status, Instant::now());
        let (state, up) = match status.phase {
            Phase::Stopped => ("STOPPED", false),
            Phase::Starting { .. } => ("STARTING", false),
            Phase::Running { .. } => ("RUNNING", true),
            Phase::Stopping { .. } => ("STOPPING", false),
        };
        let config = &self.config;
        let wanted = status.running.div_ceil(config.concurrency_per_cluster.max(1));
        let clusters = if up { wanted.clamp(config.min_num_clusters.max(1), config.max_num_clusters.max(1)) } else { 0 };
        json!({
            "id": config.id, "name": config.name, "state": state,
            "cluster_size": config.cluster_size, "size": config.cluster_size,
            "min_num_clusters": config.min_num_clusters, "max_num_clusters": config.max_num_clusters,
            "num_clusters": clusters, "num_active_sessions": status.running,
            "auto_stop_mins": config.auto_stop_mins.ceil() as u64, "auto_resume": true,
            "enable_serverless_compute": config.enable_serverless_compute, "warehouse_type": config.warehouse_type,
            "enable_photon": true, "spot_instance_policy": "COST_OPTIMIZED", "channel": {},
            "creator_name": "simulated Databricks (not the real one)",
            "health": {"status": "HEALTHY", "summary": "simulated"},
            "odbc_params": {"hostname": host, "path": format!("/sql/1.0/warehouses/{}", config.id), "port": 443, "protocol": "https"},
        })
    }

    /// Time up so far and starts: what a bill would count.
    pub fn usage(&self) -> Value {
        let now = Instant::now();
        let mut status = self.status.lock();
        self.settle(&mut status, now);
        let up = status.up_before + status.up_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        json!({"up_seconds": up.as_secs_f64(), "starts": status.starts, "running": status.running})
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut status = self.warehouse.status.lock();
        status.running = status.running.saturating_sub(1);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut status = self.0.status.lock();
        status.active = status.active.saturating_sub(1);
        if let Phase::Running { idle_since } = &mut status.phase {
            *idle_since = Instant::now();
        }
    }
}

pub(crate) async fn list(State(app): State<App>, headers: HeaderMap) -> Answered {
    app.accounts.authenticate(&headers)?;
    let shown: Vec<Value> = app.warehouses.all().iter().map(|w| w.shown(&app.url)).collect();
    Ok(Json(json!({"warehouses": shown})).into_response())
}

pub(crate) async fn get(State(app): State<App>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    app.accounts.authenticate(&headers)?;
    Ok(Json(find(&app, &id)?.shown(&app.url)).into_response())
}

pub(crate) async fn start(State(app): State<App>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    app.accounts.authenticate(&headers)?;
    find(&app, &id)?.start();
    Ok((StatusCode::OK, Json(json!({}))).into_response())
}

pub(crate) async fn stop(State(app): State<App>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    app.accounts.authenticate(&headers)?;
    find(&app, &id)?.stop();
    app.statements.cancel_all_on(&id);
    Ok((StatusCode::OK, Json(json!({}))).into_response())
}

fn find(app: &App, id: &str) -> Result<Arc<Warehouse>, ApiError> {
    app.warehouses.get(id).ok_or_else(|| ApiError::not_found("RESOURCE_DOES_NOT_EXIST", format!("SQL warehouse {id} does not exist.")))
}
