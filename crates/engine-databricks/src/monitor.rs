//! Watches the warehouse with few calls: its state, its clusters, and what waits on it. Never
//! starts it, never asks it to run anything, and never holds anything up when it can't be seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_databricks::segment;
use flightpath_types::{ErrorKind, Result};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::config::{MonitorAccess, MonitorConfig};
use crate::history;
use crate::warehouse::{WarehousePhase, WarehouseState, millis};

const HISTORY_PAGE: &str = "500";
/// Longer queues aren't counted to their end.
const HISTORY_PAGES_MAX: usize = 3;
/// What was seen longer ago than this many looks, or this long, is no longer told as so.
const STALE_LOOKS: u32 = 6;
/// And what was counted longer ago than this many counts.
const STALE_COUNTS: u32 = 4;
const STALE_AFTER_MIN: Duration = Duration::from_secs(30);
/// A warehouse that still sleeps so long after a statement was sent to it wasn't woken by that one:
/// it may have been turned away.
const WAKES_WITHIN: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
struct Seen {
    state: Option<String>,
    #[serde(default)]
    num_clusters: u32,
    #[serde(default)]
    min_num_clusters: u32,
    #[serde(default)]
    max_num_clusters: u32,
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

/// A statement of this router, until the warehouse has ended it or nobody waits for it any more.
pub(crate) struct Sent<'a>(&'a Monitor);

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let mut state = self.0.seen.lock();
        state.executing = state.executing.saturating_sub(1);
        if state.executing == 0 {
            state.woken = None;
        }
    }
}

impl Monitor {
    pub fn new(warehouse_id: String, config: MonitorConfig) -> Arc<Self> {
        Arc::new(Self { warehouse_id, config, seen: Mutex::default() })
    }

    pub fn state(&self) -> WarehouseState {
        let mut state = self.seen.lock().clone();
        let stale = |at: Instant, every: Duration, times: u32| at.elapsed() > every.saturating_mul(times).max(STALE_AFTER_MIN);
        if state.seen.is_some_and(|at| stale(at, self.config.state_every, STALE_LOOKS)) {
            state.phase = WarehousePhase::Unknown;
        }
        // Its history may not be read any more while its state is.
        if state.counted.is_some_and(|at| stale(at, self.config.queue_every, STALE_COUNTS)) {
            (state.queued, state.running, state.counted) = (0, 0, None);
            if state.phase == WarehousePhase::Queued {
                state.phase = WarehousePhase::Warm;
            }
        }
        state
    }

    /// A query of this router started or ended there.
    pub fn worked(&self) {
        self.seen.lock().worked = Some(Instant::now());
    }

    /// A statement of this router goes there, and wakes it if it sleeps.
    pub fn sent(&self) -> Sent<'_> {
        let mut state = self.seen.lock();
        state.executing = state.executing.saturating_add(1);
        if state.phase == WarehousePhase::Asleep {
            state.woken.get_or_insert_with(Instant::now);
        }
        Sent(self)
    }

    /// A query of this router was answered there: it's up, until a look says otherwise.
    pub fn answered(&self) {
        let mut state = self.seen.lock();
        let now = Some(Instant::now());
        (state.answered, state.worked) = (now, now);
        if matches!(state.phase, WarehousePhase::Asleep | WarehousePhase::Starting) {
            (state.phase, state.woken) = (WarehousePhase::Warm, None);
        }
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
        let asked = Instant::now();
        let seen: Result<Seen> = access.client.get(&access.identity, &path, &[], Some(self.patience())).await;
        match seen {
            Ok(seen) => self.note(seen, asked),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut state = self.seen.lock();
                state.phase = WarehousePhase::Gone(format!("the warehouse {} doesn't exist", self.warehouse_id));
                state.seen = Some(Instant::now());
            }
            // What can't be seen goes stale by itself.
            Err(error) => tracing::debug!(%error, "the warehouse's state can't be seen"),
        }
    }

    /// `asked`: when. What has happened since then is newer.
    fn note(&self, seen: Seen, asked: Instant) {
        let mut state = self.seen.lock();
        let queued = state.queued;
        let (phase, up) = match seen.state.as_deref() {
            Some("RUNNING") => (if queued > 0 { WarehousePhase::Queued } else { WarehousePhase::Warm }, true),
            Some("STARTING") => (WarehousePhase::Starting, false),
            Some("STOPPED" | "STOPPING") => (WarehousePhase::Asleep, false),
            Some("DELETED" | "DELETING") => (WarehousePhase::Gone(format!("the warehouse {} is deleted", self.warehouse_id)), false),
            _ => (WarehousePhase::Unknown, false),
        };
        if !up && state.answered.is_some_and(|at| at > asked) {
            return;
        }
        let woken_in_vain = |at: Instant| phase == WarehousePhase::Asleep && at.elapsed() > WAKES_WITHIN;
        if !matches!(phase, WarehousePhase::Asleep | WarehousePhase::Starting) || state.woken.is_some_and(woken_in_vain) {
            state.woken = None;
        }
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
            (state.queued, state.running, state.counted) = (0, 0, None);
            state.worked = None;
        } else if state.worked.is_none() {
            state.worked = Some(Instant::now());
        }
        state.phase = phase;
        state.clusters = seen.num_clusters;
        state.clusters_min = seen.min_num_clusters;
        state.clusters_max = seen.max_num_clusters;
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
        (state.queued, state.running, state.counted) = (queued, running, Some(Instant::now()));
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
    use flightpath_types::WarehouseActivity;

    use super::*;
    use crate::config::Config;
    use crate::warehouse::STARTING_MS_MIN;
    use crate::warehouse::tests::activity_of;

    fn ago(seconds: u64) -> Option<Instant> {
        Instant::now().checked_sub(Duration::from_secs(seconds))
    }

    fn monitor() -> Arc<Monitor> {
        Monitor::new("wh1".into(), Config::new("wh1").monitor)
    }

    /// What a look sees that was begun in so many seconds.
    fn look(monitor: &Monitor, state: &str, in_seconds: u64) {
        let seen = serde_json::from_str(&format!(r#"{{"state": "{state}", "enable_serverless_compute": true}}"#)).unwrap();
        monitor.note(seen, Instant::now() + Duration::from_secs(in_seconds));
    }

    fn activity(monitor: &Monitor) -> WarehouseActivity {
        activity_of(&monitor.state(), 0)
    }

    #[test]
    fn only_the_first_query_of_this_router_finds_it_asleep() {
        let monitor = monitor();
        look(&monitor, "STOPPED", 0);
        assert_eq!(activity(&monitor), WarehouseActivity::Asleep, "whoever is asked about now wakes it");
        let first = monitor.sent();
        assert!(matches!(activity(&monitor), WarehouseActivity::Starting { remaining_ms } if remaining_ms <= 4_000.0));
        // Counted from the first of them, and never over before it's known to be up.
        monitor.seen.lock().woken = ago(3);
        let second = monitor.sent();
        assert!(matches!(activity(&monitor), WarehouseActivity::Starting { remaining_ms } if remaining_ms <= 1_000.0));
        monitor.seen.lock().woken = ago(9);
        assert_eq!(activity(&monitor), WarehouseActivity::Starting { remaining_ms: STARTING_MS_MIN });
        look(&monitor, "STARTING", 0);
        assert_eq!(activity(&monitor), WarehouseActivity::Starting { remaining_ms: STARTING_MS_MIN });
        // Answered: up, whatever a look saw that had begun before.
        monitor.answered();
        assert_eq!(activity_of(&monitor.state(), 1), WarehouseActivity::Busy);
        monitor.seen.lock().answered = Some(Instant::now() + Duration::from_secs(60));
        look(&monitor, "STOPPED", 0);
        drop((first, second));
        assert!(matches!(activity(&monitor), WarehouseActivity::Idle { idle_ms } if idle_ms < 60_000.0));
        look(&monitor, "STOPPED", 120);
        assert_eq!(activity(&monitor), WarehouseActivity::Asleep);
    }

    #[test]
    fn a_statement_that_wakes_nobody_leaves_it_asleep() {
        let monitor = monitor();
        look(&monitor, "STOPPED", 0);
        drop(monitor.sent());
        assert_eq!(activity(&monitor), WarehouseActivity::Asleep, "it may have been turned away");
        let _sent = monitor.sent();
        look(&monitor, "STOPPED", 0);
        assert!(matches!(activity(&monitor), WarehouseActivity::Starting { .. }), "it was sent a moment ago");
        monitor.seen.lock().woken = ago(16);
        look(&monitor, "STOPPED", 0);
        assert_eq!(activity(&monitor), WarehouseActivity::Asleep);
        let _again = monitor.sent();
        assert!(matches!(activity(&monitor), WarehouseActivity::Starting { .. }));
    }

    #[test]
    fn counts_are_forgotten_when_the_history_cant_be_read_any_more() {
        let monitor = monitor();
        look(&monitor, "RUNNING", 0);
        let counted = |queued, running, at| {
            let mut seen = monitor.seen.lock();
            (seen.queued, seen.running, seen.counted) = (queued, running, at);
        };
        counted(0, 5, ago(30));
        assert_eq!((activity(&monitor), monitor.state().running), (WarehouseActivity::Busy, 5));
        counted(0, 5, ago(61));
        assert!(matches!(activity(&monitor), WarehouseActivity::Idle { .. }));
        counted(7, 10, ago(61));
        look(&monitor, "RUNNING", 0);
        let seen = monitor.state();
        assert_eq!((seen.phase, seen.queued, seen.running), (WarehousePhase::Warm, 0, 0));
        counted(7, 10, ago(1));
        look(&monitor, "RUNNING", 0);
        assert_eq!(activity(&monitor), WarehouseActivity::Queued { wait_ms: 1_400.0 });
    }
}
