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
/// No warehouse stops sooner after its last query: the shortest auto-stop is a minute.
const STAYS_UP: Duration = Duration::from_secs(60);
/// What was seen longer ago than this many looks, or this long, is no longer told as so.
const STALE_LOOKS: u32 = 6;
/// And what was counted longer ago than this many counts.
const STALE_COUNTS: u32 = 4;
const STALE_AFTER_MIN: Duration = Duration::from_secs(30);
/// A warehouse that still sleeps so long after a statement was sent to it wasn't woken by that one:
/// it may have been turned away.
const WAKES_WITHIN: Duration = Duration::from_secs(15);
/// A start that takes longer than thought isn't over: who comes waits a little still, and what it
/// takes isn't the query's own time.
const STARTING_MS_MIN: f64 = 1.0;
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
    /// Clusters that run, and the fewest and most that it has when it is up; 0 where that isn't known.
    pub clusters: u32,
    pub clusters_min: u32,
    pub clusters_max: u32,
    pub queued: u32,
    pub running: u32,
    /// When these two were counted.
    pub counted: Option<Instant>,
    /// Statements that this router has sent there and that haven't ended.
    pub executing: u32,
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
    /// Since when it's seen starting, while it is.
    pub starting: Option<Instant>,
    /// When this router sent a statement to it while it slept, until it is up or that was in vain.
    pub woken: Option<Instant>,
    /// When a query was last seen on it, or when it came up.
    pub worked: Option<Instant>,
    /// When a query of this router was last answered there: it was up then, whoever may look at it.
    pub answered: Option<Instant>,
    pub seen: Option<Instant>,
}

/// The part of [`flightpath_types::EngineFacts`] that follows from the warehouse.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outlook {
    pub state: EngineState,
    pub shape: String,
    /// Queries that it is sent at once: more than it has places for now, while it may grow.
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
        let places = QUERIES_PER_CLUSTER.saturating_mul(clusters);
        // One cluster's more than run: without a queue of its own it would have no reason to grow.
        let admitted = clusters.saturating_add(1).min(self.clusters_max).max(clusters);
        let slots = QUERIES_PER_CLUSTER.saturating_mul(admitted);
        let kind = self.kind();
        let start_ms = self.start_ms.unwrap_or(match kind {
            WarehouseKind::Serverless => prices.start_serverless_ms,
            WarehouseKind::Pro | WarehouseKind::Classic => prices.start_classic_ms,
        });
        let queue_ms = f64::from(self.ahead(places, slots)) * prices.queued_query_ms / f64::from(places);
        let activity = self.activity(start_ms, queue_ms, own);
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
            running: self.running.max(own),
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

    /// What a query that comes now meets. `queue_ms`: how long it waits for a place once the warehouse is up.
    fn activity(&self, start_ms: f64, queue_ms: f64, own: u32) -> WarehouseActivity {
        let starting = |since: Option<Instant>| {
            let remaining_ms = match since {
                Some(since) => start_ms - millis(since.elapsed()),
                // Somewhere in the middle of it.
                None => start_ms / 2.0,
            };
            WarehouseActivity::Starting { remaining_ms: remaining_ms.max(STARTING_MS_MIN) }
        };
        match &self.phase {
            WarehousePhase::Unknown => match self.answered.map(|at| at.elapsed()).filter(|since| *since < STAYS_UP) {
                Some(_) if own > 0 => WarehouseActivity::Busy,
                Some(since) => WarehouseActivity::Idle { idle_ms: millis(since) },
                None => WarehouseActivity::Unknown,
            },
            WarehousePhase::Gone(_) => WarehouseActivity::Unknown,
            // It won't be seen starting before the next look, and whoever woke it pays for that.
            WarehousePhase::Asleep if self.woken.is_some() => starting(self.woken),
            WarehousePhase::Asleep => WarehouseActivity::Asleep,
            WarehousePhase::Starting => starting(self.woken.or(self.starting)),
            WarehousePhase::Queued => WarehouseActivity::Queued { wait_ms: queue_ms },
            WarehousePhase::Warm if queue_ms > 0.0 => WarehouseActivity::Queued { wait_ms: queue_ms },
            WarehousePhase::Warm if self.running.max(own) > 0 => WarehouseActivity::Busy,
            WarehousePhase::Warm => WarehouseActivity::Idle { idle_ms: self.worked.map_or(0.0, |at| millis(at.elapsed())) },
        }
    }

    /// Who waits for a place there: as counted, or as many as this router has sent beyond the places since
    /// then, the next one included.
    fn ahead(&self, places: u32, slots: u32) -> u32 {
        let sent = self.executing.saturating_add(1).min(slots);
        self.queued.max(sent.saturating_sub(places.max(self.running)))
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
    use super::*;
    use crate::config::Config;

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

    fn activity_of(state: &WarehouseState, own: u32) -> WarehouseActivity {
        match state.outlook(&Prices::default(), own).pricing.compute {
            ComputePrice::Warehouse { activity, .. } => activity,
            ComputePrice::Hourly { .. } => panic!("a warehouse isn't paid like a machine"),
        }
    }

    fn activity(monitor: &Monitor) -> WarehouseActivity {
        activity_of(&monitor.state(), 0)
    }

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
        // Nobody may look at it, and it has just answered.
        let unseen = WarehouseState { answered: Some(Instant::now()), ..state(WarehousePhase::Unknown) };
        assert_eq!(compute(&unseen, 1).0, WarehouseActivity::Busy);
        assert!(matches!(compute(&unseen, 0).0, WarehouseActivity::Idle { idle_ms } if idle_ms < 60_000.0));
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61));
        assert_eq!(compute(&WarehouseState { answered: long_ago, ..unseen }, 1).0, WarehouseActivity::Unknown);
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

    #[test]
    fn one_cluster_more_than_runs_is_filled_where_there_may_be_one() {
        let slots = |clusters, clusters_max| {
            let outlook = WarehouseState { clusters, clusters_max, ..state(WarehousePhase::Warm) }.outlook(&Prices::default(), 0);
            // The price and what shares it are of those that run.
            assert!((outlook.pricing.usd_per_hour() - 12.0 * 0.70 * f64::from(clusters.max(1))).abs() < 1e-9);
            assert_eq!(outlook.cores_total, 32 * clusters.max(1));
            outlook.slots
        };
        assert_eq!([(1, 4), (3, 4), (4, 4), (0, 4), (2, 0)].map(|(clusters, most)| slots(clusters, most)), [20, 40, 40, 20, 20]);
    }

    #[test]
    fn what_is_sent_beyond_the_places_waits_there() {
        let warm = WarehouseState { clusters: 1, clusters_max: 2, ..state(WarehousePhase::Warm) };
        let sent = |executing, running| activity_of(&WarehouseState { executing, running, ..warm.clone() }, executing);
        assert_eq!(sent(9, 0), WarehouseActivity::Busy);
        assert_eq!(sent(14, 0), WarehouseActivity::Queued { wait_ms: 1_000.0 });
        // It was seen to run more at once than it's said to.
        assert_eq!(sent(14, 15), WarehouseActivity::Busy);
        // What waits here doesn't wait there.
        let full = WarehouseState { executing: 10, clusters_max: 1, ..warm.clone() };
        assert_eq!(activity_of(&full, 10), WarehouseActivity::Busy);
    }
}
