//! What a run teaches the predictor, and what it cost: how long the engine itself took, whatever the
//! client, the queue and other engines did meanwhile, and how much memory it says that it needed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_engine::Findings;
use flightpath_plan::PlannedQuery;
use flightpath_router::{Observation, Observed, Predictor, settled_usd};
use flightpath_types::{ComputePrice, EngineFacts, WarehouseActivity};

/// One query on one engine, for as long as it runs. Dropped without a word (cancelled, failed), it
/// teaches nothing.
pub(crate) struct Lesson {
    predictor: Arc<Predictor>,
    query: Arc<PlannedQuery>,
    /// As they were when the engine took it.
    facts: EngineFacts,
    /// Before the result's stream began.
    begun: Duration,
    findings: Arc<Findings>,
}

impl Lesson {
    /// `None` where the run's time isn't the query's, or may not be: a warehouse that had to be started first,
    /// or that nobody sees.
    pub fn of(
        predictor: &Arc<Predictor>,
        query: &Arc<PlannedQuery>,
        facts: EngineFacts,
        begun: Duration,
        findings: Arc<Findings>,
    ) -> Option<Self> {
        let unseen = matches!(facts.pricing.compute, ComputePrice::Warehouse { activity: WarehouseActivity::Unknown, .. });
        let waited = facts.pricing.wait_ms() > 0.0;
        (!waited && !unseen).then(|| Self { predictor: predictor.clone(), query: query.clone(), facts, begun, findings })
    }

    /// The engine was waited for this long after the beginning, and the answer is whole.
    pub fn finished(self, streamed: Duration) {
        self.teach(
            Some(Observed::Exactly(milliseconds(self.begun + streamed))),
            self.memory(Observed::Exactly),
            self.findings.read_bytes(),
        );
    }

    /// The deadline came first.
    pub fn cut_short(self, streamed: Duration) {
        self.teach(Some(Observed::AtLeast(milliseconds(self.begun + streamed))), self.memory(Observed::AtLeast), None);
    }

    /// It was taken from the engine for being slow.
    pub fn too_slow(self) {
        self.teach(Some(Observed::AtLeast(milliseconds(self.begun))), self.memory(Observed::AtLeast), None);
    }

    /// It needed more than was left: at least what it had, where that's known, else its share of what the
    /// engine has among those that ran there.
    pub fn out_of_memory(self) {
        let share = self.facts.memory_bytes_max / (u64::from(self.facts.running) + 1);
        let bytes = self.findings.memory_bytes_peak().unwrap_or(share);
        self.teach(None, Some(Observed::AtLeast(bytes as f64)), None);
    }

    fn memory(&self, observed: fn(f64) -> Observed) -> Option<Observed> {
        self.findings.memory_bytes_peak().map(|bytes| observed(bytes as f64))
    }

    fn teach(&self, latency_ms: Option<Observed>, memory_bytes: Option<Observed>, read_bytes: Option<u64>) {
        self.predictor.observe(&Observation {
            fingerprint: Some(self.query.fingerprint),
            features: &self.query.features,
            facts: &self.facts,
            latency_ms,
            memory_bytes,
            read_bytes,
        });
    }
}

/// Watches a run whose answer isn't here yet. When it's dropped after the query's deadline, nobody waits
/// for the run any more, and what is known is that it takes at least so long.
pub(crate) struct CutShort {
    lesson: Option<Lesson>,
    deadline: Option<Instant>,
    begun: Instant,
}

impl CutShort {
    pub fn new(lesson: Option<Lesson>, deadline: Option<Instant>) -> Self {
        Self { lesson, deadline, begun: Instant::now() }
    }

    /// The run is over, whatever came of it.
    pub fn over(mut self) {
        self.lesson = None;
    }
}

impl Drop for CutShort {
    fn drop(&mut self) {
        if let Some(lesson) = self.lesson.take().filter(|_| self.deadline.is_some_and(|deadline| Instant::now() >= deadline)) {
            lesson.cut_short(self.begun.elapsed());
        }
    }
}

/// What a run costs, by the time it took.
pub(crate) struct Bill {
    /// The engine as it was when it took the query.
    pub facts: EngineFacts,
    /// By the plan, for engines that don't tell what they read.
    pub scan_bytes: u64,
    pub findings: Arc<Findings>,
}

impl Bill {
    /// US dollars that the run added, and the time that was billed.
    pub fn settle(&self, engine_us: u64, result_bytes: u64) -> (f64, Duration) {
        let waited_ms = self.facts.pricing.wait_ms();
        let run_ms = (engine_us as f64 / 1000.0 - waited_ms).max(0.0);
        let billed = Duration::try_from_secs_f64(run_ms / 1000.0).unwrap_or_default();
        let read_bytes = self.findings.read_bytes().unwrap_or(self.scan_bytes);
        (settled_usd(run_ms, read_bytes, result_bytes, &self.facts), billed)
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use flightpath_types::EngineId;

    use super::*;
    use crate::fixtures;

    #[test]
    fn a_run_teaches_how_long_it_took_at_least_when_its_deadline_came_first() {
        let facts = fixtures::facts(&EngineId::new("duckdb"));
        let watched = |deadline: Option<Instant>| {
            let predictor = Arc::<Predictor>::default();
            let lesson = Lesson::of(&predictor, &fixtures::query(), facts.clone(), Duration::ZERO, Arc::default());
            let mut run = CutShort::new(lesson, deadline);
            run.begun -= Duration::from_secs(60);
            (run, predictor)
        };
        let now = Instant::now();
        for (deadline, over, teaches) in
            [(Some(now), false, true), (Some(now), true, false), (Some(now + Duration::from_secs(600)), false, false), (None, false, false)]
        {
            let (run, predictor) = watched(deadline);
            if over {
                run.over()
            } else {
                drop(run)
            };
            assert_eq!(!predictor.is_empty(), teaches, "{deadline:?}, {over}");
        }
    }
}
