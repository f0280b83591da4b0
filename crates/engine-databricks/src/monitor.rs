//! Watches the warehouse with few calls: its state, its clusters, and what waits on it. Never
//! starts it, never asks it to run anything, and never holds anything up when it can't be seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_databricks::segment;
use flightpath_types::{
    ComputePrice, EngineState, ErrorKind, Pricing, QUERIES_PER_CLUSTER, Result, WarehouseActivity, WarehouseKind, WarehouseSize,
};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::config::{MonitorAccess, MonitorConfig, Prices};
use crate::history;

const HISTORY_PAGE: &str = "500";
/// Longer queues aren't counted to their end.
const HISTORY_PAGES_MAX: usize = 3;
/// What was seen longer ago than this many looks, or this long, is no longer told as so.
const STALE_LOOKS: u32 = 6;
const STALE_AFTER_MIN: Duration = Duration::from_secs(30);
/// No limit of Databricks' own is known: it spills.
const MEMORY_BYTES: u64 = 1 << 50;

/// What a query that comes now would meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WarehousePhase {
    /// Not seen yet, or not lately.
    #[default]
    Unknown,
    /// Stopped or stopping: a query wakes it.
    Asleep,
    Starting,
    /// Up, nothing waits.
    Warm,
    /// Up, and queries wait for a place.
    Queued,
    /// Can't be used; why, for a person.
    Gone(String),
}

/// The warehouse as last seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WarehouseState {
    pub phase: WarehousePhase,
    /// Clusters that run, and the fewest it has when it is up.
    pub clusters: u32,
    pub clusters_min: u32,
    pub queued: u32,
    pub running: u32,
    /// `2X-Small` to `5X-Large`.
    pub size: Option<String>,
    pub serverless: bool,
    pub pro: bool,
    /// Databricks' own word when it isn't healthy.
    pub health: Option<String>,
    /// How long its latest start took, in milliseconds, when one was seen.
    pub start_ms: Option<f64>,
    /// Idle minutes after which it stops; 0 when it never does.
    pub auto_stop_minutes: Option<u32>,
    /// Since when it starts, while it does.
    pub starting: Option<Instant>,
    /// When a query was last seen on it, or when it came up.
    pub worked: Option<Instant>,
    pub seen: Option<Instant>,
}

/// The part of [`flightpath_types::EngineFacts`] that follows from the warehouse.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outlook {
    pub state: EngineState,
    pub shape: String,
    pub slots: u32,
    pub running: u32,
    pub queued: u32,
    /// Of one cluster.
    pub cores: u32,
    pub cores_total: u32,
    pub memory_bytes_max: u64,
    pub overhead_ms: f64,
    pub pricing: Pricing,
}

impl WarehouseState {
    fn kind(&self) -> WarehouseKind {
        match (self.serverless, self.pro) {
            (true, _) => WarehouseKind::Serverless,
            (false, true) => WarehouseKind::Pro,
            (false, false) => WarehouseKind::Classic,
        }
    }

    /// `own`: queries of this router that it runs, which the history may not show yet.
    pub(crate) fn outlook(&self, prices: &Prices, own: u32) -> Outlook {
        let clusters = self.clusters.max(self.clusters_min).max(1);
        let size = WarehouseSize::named(self.size.as_deref().unwrap_or_default());
        let slots = QUERIES_PER_CLUSTER * clusters;
        let kind = self.kind();
        let start_ms = self.start_ms.unwrap_or(match kind {
            WarehouseKind::Serverless => prices.start_serverless_ms,
            WarehouseKind::Pro | WarehouseKind::Classic => prices.start_classic_ms,
        });
        let running = self.running.max(own);
        let activity = match &self.phase {
            WarehousePhase::Unknown | WarehousePhase::Gone(_) => WarehouseActivity::Unknown,
            WarehousePhase::Asleep => WarehouseActivity::Asleep,
            WarehousePhase::Starting => {
                let remaining_ms = match self.starting {
                    Some(since) => (start_ms - millis(since.elapsed())).max(0.0),
                    // Somewhere in the middle of it.
                    None => start_ms / 2.0,
                };
                WarehouseActivity::Starting { remaining_ms }
            }
            WarehousePhase::Queued => {
                WarehouseActivity::Queued { wait_ms: f64::from(self.queued) * prices.queued_query_ms / f64::from(slots) }
            }
            WarehousePhase::Warm if running > 0 => WarehouseActivity::Busy,
            WarehousePhase::Warm => WarehouseActivity::Idle { idle_ms: self.worked.map_or(0.0, |at| millis(at.elapsed())) },
        };
        let auto_stop_minutes = self.auto_stop_minutes.unwrap_or(kind.auto_stop_minutes());
        let usd_per_dbu = prices.usd_per_dbu.unwrap_or(kind.usd_per_dbu());
        let usd_per_hour = (size.dbu_per_hour * usd_per_dbu + size.machines_usd_per_hour(kind)) * f64::from(clusters);
        Outlook {
            state: match &self.phase {
                WarehousePhase::Gone(why) => EngineState::Down(why.clone()),
                _ => EngineState::Ready,
            },
            shape: format!("databricks:{}:{}", self.size.as_deref().unwrap_or("unknown"), kind_text(kind)),
            slots,
            running,
            queued: self.queued,
            cores: size.cores(),
            cores_total: size.cores().saturating_mul(clusters),
            memory_bytes_max: MEMORY_BYTES,
            overhead_ms: prices.warm_ms,
            pricing: Pricing {
                compute: ComputePrice::Warehouse {
                    usd_per_hour,
                    activity,
                    start_ms,
                    auto_stop_ms: (auto_stop_minutes > 0).then(|| f64::from(auto_stop_minutes) * 60_000.0),
                },
                egress_usd_per_gb: 0.0,
                storage_usd_per_gb: 0.0,
            },
        }
    }
}

fn kind_text(kind: WarehouseKind) -> &'static str {
    match kind {
        WarehouseKind::Serverless => "serverless",
        WarehouseKind::Pro => "pro",
        WarehouseKind::Classic => "classic",
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[derive(Deserialize)]
struct Seen {
    state: Option<String>,
    #[serde(default)]
    num_clusters: u32,
    #[serde(default)]
    min_num_clusters: u32,
    cluster_size: Option<String>,
    #[serde(default)]
    enable_serverless_compute: bool,
    warehouse_type: Option<String>,
    auto_stop_mins: Option<u32>,
    health: Option<Health>,
}

#[derive(Deserialize)]
struct Health {
    status: Option<String>,
    summary: Option<String>,
}

#[derive(Deserialize)]
struct History {
    #[serde(default)]
    res: Vec<HistoryLine>,
    #[serde(default)]
    has_next_page: bool,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct HistoryLine {
    status: Option<String>,
}

/// What was last seen, shared with whoever asks.
pub(crate) struct Monitor {
    warehouse_id: String,
    config: MonitorConfig,
    seen: Mutex<WarehouseState>,
}

impl Monitor {
    pub fn new(warehouse_id: String, config: MonitorConfig) -> Arc<Self> {
        Arc::new(Self { warehouse_id, config, seen: Mutex::default() })
    }

    pub fn state(&self) -> WarehouseState {
        let mut state = self.seen.lock().clone();
        let stale_after = self.config.state_every.saturating_mul(STALE_LOOKS).max(STALE_AFTER_MIN);
        if state.seen.is_some_and(|at| at.elapsed() > stale_after) {
            state.phase = WarehousePhase::Unknown;
        }
        state
    }

    /// A query of this router started or ended there.
    pub fn worked(&self) {
        self.seen.lock().worked = Some(Instant::now());
    }

    /// Looks until `closing`.
    pub async fn watch(self: Arc<Self>, access: MonitorAccess, closing: CancellationToken) {
        let mut queue_next = Instant::now();
        loop {
            let look = async {
                self.look(&access).await;
                if Instant::now() >= queue_next && self.is_up() {
                    queue_next = Instant::now() + self.config.queue_every;
                    self.count(&access).await;
                }
                tokio::time::sleep(self.config.state_every).await;
            };
            tokio::select! {
                () = look => {}
                () = closing.cancelled() => return,
            }
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.seen.lock().phase, WarehousePhase::Warm | WarehousePhase::Queued)
    }

    async fn look(&self, access: &MonitorAccess) {
        let path = format!("/api/2.0/sql/warehouses/{}", segment(&self.warehouse_id));
        let seen: Result<Seen> = access.client.get(&access.identity, &path, &[], Some(self.patience())).await;
        match seen {
            Ok(seen) => self.note(seen),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut state = self.seen.lock();
                state.phase = WarehousePhase::Gone(format!("the warehouse {} doesn't exist", self.warehouse_id));
                state.seen = Some(Instant::now());
            }
            // What can't be seen goes stale by itself.
            Err(error) => tracing::debug!(%error, "the warehouse's state can't be seen"),
        }
    }

    fn note(&self, seen: Seen) {
        let mut state = self.seen.lock();
        let queued = state.queued;
        let (phase, up) = match seen.state.as_deref() {
            Some("RUNNING") => (if queued > 0 { WarehousePhase::Queued } else { WarehousePhase::Warm }, true),
            Some("STARTING") => (WarehousePhase::Starting, false),
            Some("STOPPED" | "STOPPING") => (WarehousePhase::Asleep, false),
            Some("DELETED" | "DELETING") => (WarehousePhase::Gone(format!("the warehouse {} is deleted", self.warehouse_id)), false),
            _ => (WarehousePhase::Unknown, false),
        };
        match (&phase, state.starting) {
            (WarehousePhase::Starting, None) => state.starting = Some(Instant::now()),
            (WarehousePhase::Starting, Some(_)) => {}
            (_, began) => {
                if let (true, Some(began)) = (up, began) {
                    state.start_ms = Some(millis(began.elapsed()));
                    state.worked = Some(Instant::now());
                }
                state.starting = None;
            }
        }
        if !up {
            (state.queued, state.running) = (0, 0);
            state.worked = None;
        } else if state.worked.is_none() {
            state.worked = Some(Instant::now());
        }
        state.phase = phase;
        state.clusters = seen.num_clusters;
        state.clusters_min = seen.min_num_clusters;
        state.size = seen.cluster_size;
        state.serverless = seen.enable_serverless_compute;
        state.pro = seen.warehouse_type.as_deref() == Some("PRO");
        state.auto_stop_minutes = seen.auto_stop_mins;
        state.health = seen.health.and_then(|health| {
            let status = health.status.filter(|status| status != "HEALTHY")?;
            Some(health.summary.map_or(status.clone(), |summary| format!("{status}: {summary}")))
        });
        state.seen = Some(Instant::now());
    }

    /// Counts what runs and what waits.
    async fn count(&self, access: &MonitorAccess) {
        let mut query = vec![
            ("filter_by.warehouse_ids", self.warehouse_id.clone()),
            ("filter_by.statuses", "QUEUED".into()),
            ("filter_by.statuses", "RUNNING".into()),
            ("max_results", HISTORY_PAGE.into()),
        ];
        let (mut queued, mut running) = (0u32, 0u32);
        for _ in 0..HISTORY_PAGES_MAX {
            let page: Result<History> = access.client.get(&access.identity, history::PATH, &query, Some(self.patience())).await;
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    tracing::debug!(%error, "the warehouse's queue can't be seen");
                    return;
                }
            };
            for line in &page.res {
                match line.status.as_deref() {
                    Some("QUEUED") => queued += 1,
                    Some("RUNNING") => running += 1,
                    _ => {}
                }
            }
            match page.next_page_token.filter(|token| page.has_next_page && !token.is_empty()) {
                Some(token) => {
                    query.retain(|(name, _)| *name != "page_token");
                    query.push(("page_token", token));
                }
                None => break,
            }
        }
        let mut state = self.seen.lock();
        (state.queued, state.running) = (queued, running);
        if queued + running > 0 {
            state.worked = Some(Instant::now());
        }
        if matches!(state.phase, WarehousePhase::Warm | WarehousePhase::Queued) {
            state.phase = if queued > 0 { WarehousePhase::Queued } else { WarehousePhase::Warm };
        }
    }

    fn patience(&self) -> Instant {
        Instant::now() + self.config.state_every.max(Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(phase: WarehousePhase) -> WarehouseState {
        WarehouseState { phase, clusters: 2, clusters_min: 1, size: Some("Small".into()), serverless: true, ..Default::default() }
    }

    #[test]
    fn the_outlook_follows_the_state() {
        let prices = Prices::default();
        let warm = state(WarehousePhase::Warm).outlook(&prices, 0);
        assert_eq!((warm.slots, warm.cores, warm.overhead_ms), (20, 32, 250.0));
        assert_eq!(warm.shape, "databricks:Small:serverless");
        assert!((warm.pricing.usd_per_hour() - 12.0 * 0.70 * 2.0).abs() < 1e-9);
        assert_eq!(warm.pricing.wait_ms(), 0.0);
        let asleep = state(WarehousePhase::Asleep).outlook(&prices, 0);
        assert_eq!((asleep.overhead_ms, asleep.pricing.wait_ms()), (250.0, 4_000.0));
        let queued = WarehouseState { queued: 40, running: 20, ..state(WarehousePhase::Queued) }.outlook(&prices, 0);
        assert_eq!((queued.running, queued.queued, queued.pricing.wait_ms()), (20, 40, 4_000.0));
        let classic = WarehouseState { serverless: false, start_ms: Some(1_000.0), ..state(WarehousePhase::Asleep) };
        assert_eq!(classic.outlook(&prices, 0).pricing.wait_ms(), 1_000.0);
        let gone = state(WarehousePhase::Gone("deleted".into())).outlook(&prices, 0);
        assert_eq!(gone.state, EngineState::Down("deleted".into()));
    }

    #[test]
    fn what_it_does_now_and_when_it_stops_decide_its_price() {
        let prices = Prices::default();
        let compute = |state: &WarehouseState, own| match state.outlook(&prices, own).pricing.compute {
            ComputePrice::Warehouse { activity, auto_stop_ms, .. } => (activity, auto_stop_ms),
            ComputePrice::Hourly { .. } => panic!("a warehouse isn't paid like a machine"),
        };
        let warm = state(WarehousePhase::Warm);
        assert_eq!(compute(&warm, 0), (WarehouseActivity::Idle { idle_ms: 0.0 }, Some(600_000.0)));
        assert_eq!(compute(&warm, 1).0, WarehouseActivity::Busy);
        assert_eq!(compute(&WarehouseState { auto_stop_minutes: Some(0), ..warm.clone() }, 0).1, None);
        assert_eq!(compute(&WarehouseState { auto_stop_minutes: Some(1), ..warm }, 0).1, Some(60_000.0));
        assert_eq!(compute(&state(WarehousePhase::Unknown), 0).0, WarehouseActivity::Unknown);
    }
}
