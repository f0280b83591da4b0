//! What a run teaches the predictor, and what it cost: how long the engine itself took, whatever the
//! client, the queue and other engines did meanwhile, and how much memory it says that it needed.

use std::sync::Arc;
use std::time::Duration;

use flightpath_engine::Findings;
use flightpath_plan::PlannedQuery;
use flightpath_router::{Observation, Observed, Predictor, marginal_usd};
use flightpath_types::EngineFacts;

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
    /// `None` where the run's time isn't the query's: a warehouse that had to be started first.
    pub fn of(
        predictor: &Arc<Predictor>,
        query: &Arc<PlannedQuery>,
        facts: EngineFacts,
        begun: Duration,
        findings: Arc<Findings>,
    ) -> Option<Self> {
        let waited = facts.pricing.wait_ms() > 0.0;
        (!waited).then(|| Self { predictor: predictor.clone(), query: query.clone(), facts, begun, findings })
    }

    /// The engine was waited for this long after the beginning, and the answer is whole.
    pub fn finished(self, streamed: Duration) {
        self.teach(Some(Observed::Exactly(milliseconds(self.begun + streamed))), self.memory(Observed::Exactly));
    }

    /// The deadline came first.
    pub fn cut_short(self, streamed: Duration) {
        self.teach(Some(Observed::AtLeast(milliseconds(self.begun + streamed))), self.memory(Observed::AtLeast));
    }

    /// It was taken from the engine for being slow.
    pub fn too_slow(self) {
        self.teach(Some(Observed::AtLeast(milliseconds(self.begun))), self.memory(Observed::AtLeast));
    }

    /// It needed more than the engine has.
    pub fn out_of_memory(self) {
        self.teach(None, Some(Observed::AtLeast(self.facts.memory_bytes_max as f64)));
    }

    fn memory(&self, observed: fn(f64) -> Observed) -> Option<Observed> {
        self.findings.memory_bytes_peak().map(|bytes| observed(bytes as f64))
    }

    fn teach(&self, latency_ms: Option<Observed>, memory_bytes: Option<Observed>) {
        self.predictor.observe(&Observation {
            fingerprint: Some(self.query.fingerprint),
            features: &self.query.features,
            facts: &self.facts,
            latency_ms,
            memory_bytes,
        });
    }
}

/// What a run costs, by the time it took.
pub(crate) struct Bill {
    /// The engine as it was when it took the query.
    pub facts: EngineFacts,
    pub scan_bytes: u64,
    pub findings: Arc<Findings>,
}

impl Bill {
    /// US dollars that the run added, and the time that was billed.
    pub fn settle(&self, engine_us: u64, result_bytes: u64) -> (f64, Duration) {
        let waited_ms = self.facts.pricing.wait_ms();
        let run_ms = (engine_us as f64 / 1000.0 - waited_ms).max(0.0);
        let billed = Duration::try_from_secs_f64(run_ms / 1000.0).unwrap_or_default();
        (marginal_usd(run_ms, self.scan_bytes, result_bytes, &self.facts), billed)
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
