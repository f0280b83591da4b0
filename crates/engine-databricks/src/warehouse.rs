//! The warehouse as last seen, and what follows from it for a query that comes now: places, waits and
//! prices.

use std::time::{Duration, Instant};

use flightpath_types::{ComputePrice, EngineState, Pricing, QUERIES_PER_CLUSTER, WarehouseActivity, WarehouseKind, WarehouseSize};

use crate::config::Prices;

/// No warehouse stops sooner after its last query: the shortest auto-stop is a minute.
const STAYS_UP: Duration = Duration::from_secs(60);
/// A start that takes longer than thought isn't over: who comes waits a little still, and what it
/// takes isn't the query's own time.
pub(crate) const STARTING_MS_MIN: f64 = 1.0;
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

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn activity_of(state: &WarehouseState, own: u32) -> WarehouseActivity {
        match state.outlook(&Prices::default(), own).pricing.compute {
            ComputePrice::Warehouse { activity, .. } => activity,
            ComputePrice::Hourly { .. } => panic!("a warehouse isn't paid like a machine"),
        }
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
