//! From a decision to the beginning of a result: candidates are tried in order until one answers.
//! Until a batch has left for the client another try is safe; after that there is none.
//!
//! A candidate is left for the next one when it fails, when it is out of memory, and when it takes
//! much longer than predicted (escalation).

mod attempt;
mod health;
mod hold;
mod recovery;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use flightpath_engine::{BatchStream, Engine, Execution, Findings, RetryBudget, RetryRates};
use flightpath_plan::PlannedQuery;
use flightpath_router::{ESCALATE_FACTOR, ESCALATE_MS_MIN, Predictor, patient_ms};
use flightpath_types::{CandidateNumbers, Decision, EngineFacts, EngineId, EngineState, Error, ErrorKind, Result};
use parking_lot::{Mutex, RwLock};

use crate::admission::{Admission, AdmissionConfig, Capacity, Permit};
use crate::config::DataPrices;
use crate::lifecycle::{Planned, QueryToken, micros};
use crate::usage::Machines;
use attempt::{Answer, Attempts, Failed};
use health::Health;
pub use hold::HoldConfig;
use hold::{Held, Holds};

/// How often the whole list is gone through again when every candidate died under the query.
const ROUNDS_MAX: u32 = 8;
/// Pause before the second round; doubles. A worker's death is noticed within the first ones.
const ROUND_PAUSE: Duration = Duration::from_millis(25);

/// Escalations that a quiet time leaves for a busy one.
const ESCALATIONS_SAVED_MAX: f64 = 16.0;

/// When a query is taken from an engine that is too slow and given to the next candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EscalationConfig {
    /// Times the predicted p95 of its latency; 0 for never.
    pub factor: f64,
    /// Never before this: predictions of small queries are no reason to hurry.
    pub after_min: Duration,
    /// Of all queries this share may move, 0 to 1. When everything is slow at once, moving would
    /// only make more work.
    pub share: f64,
}

impl Default for EscalationConfig {
    fn default() -> Self {
        Self { factor: ESCALATE_FACTOR, after_min: Duration::from_millis(ESCALATE_MS_MIN as u64), share: 0.1 }
    }
}

impl EscalationConfig {
    /// How long a query for which this was predicted may run before it moves on; the clock begins with its place.
    /// `left`: until its deadline.
    fn limit(&self, numbers: &CandidateNumbers, left: Option<Duration>) -> Option<Duration> {
        let millis = |ms: f64| Duration::try_from_secs_f64(ms / 1000.0).ok();
        let run_p95_ms = numbers.latency_p95_ms - numbers.wait_ms;
        let slow = millis(if run_p95_ms < 0.0 { 0.0 } else { run_p95_ms * self.factor })?.max(self.after_min);
        let patient = millis(patient_ms(slow.as_secs_f64() * 1000.0, numbers))?;
        // Half of the time that is left is the next one's.
        let limit = left.map_or(patient, |left| patient.min(left / 2)).max(slow);
        (self.factor > 0.0).then_some(limit)
    }

    fn rates(&self) -> RetryRates {
        RetryRates { share: self.share, per_second: 0.0, saved_max: if self.share > 0.0 { ESCALATIONS_SAVED_MAX } else { 0.0 } }
    }
}

/// How often a statement may be given to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    /// It only reads: elsewhere or again, until one answers.
    UntilAnswered,
    /// It changes something: an engine that fails may have carried it out.
    Once,
}

/// A query whose first batch is here (or that ended without one).
pub(crate) struct Started {
    pub first: Option<RecordBatch>,
    pub rest: BatchStream,
    /// The whole result is here.
    pub ended: bool,
    pub permit: Permit,
    /// Who answers, as it was when it took the query.
    pub facts: EngineFacts,
    /// Microseconds from the first try to the first batch, slots' queues excluded.
    pub waited_us: u64,
    /// What the engine that answers took of it.
    pub took: Duration,
    pub findings: Arc<Findings>,
}

/// The engines, and what running queries on them shares.
pub(crate) struct Runner {
    pub engines: Vec<Arc<dyn Engine>>,
    pub admission: Arc<Admission>,
    holds: Holds,
    predictor: Arc<Predictor>,
    escalation: RwLock<EscalationConfig>,
    prices: RwLock<DataPrices>,
    /// What may yet move for being slow.
    escalations: Mutex<RetryBudget>,
    pub health: Health,
}

impl Runner {
    pub fn new(
        engines: Vec<Arc<dyn Engine>>,
        predictor: Arc<Predictor>,
        admission: Arc<Admission>,
        hold: HoldConfig,
        escalation: EscalationConfig,
        prices: DataPrices,
    ) -> Self {
        let escalations = Mutex::new(RetryBudget::new(escalation.rates(), Instant::now()));
        let (holds, escalation, prices) = (Holds::new(hold), RwLock::new(escalation), RwLock::new(prices));
        let health = Health::new(engines.iter().filter(|engine| !engine.guards_itself()).map(|engine| engine.id().clone()));
        Self { engines, admission, holds, predictor, escalation, prices, escalations, health }
    }

    /// New limits and prices, for whoever comes from now on.
    pub fn configure(&self, admission: AdmissionConfig, escalation: EscalationConfig, prices: DataPrices) {
        self.admission.configure(admission);
        *self.prices.write() = prices;
        self.escalations.lock().configure(escalation.rates());
        *self.escalation.write() = escalation;
    }

    /// An engine as it is now, with who waits for it here and what it costs: predictions and bills are
    /// both made of this.
    pub fn facts(&self, engine: &dyn Engine) -> EngineFacts {
        let facts = engine.facts();
        let queued = facts.queued.saturating_add(self.admission.waiting(engine.id()));
        let pricing = self.prices.read().on(facts.pricing);
        let machines = Machines { count: engine.machines(), others_running: engine.others_running() };
        let pricing = match self.admission.utilisation(engine.id(), machines) {
            Some(measured) => pricing.with_utilisation(measured),
            None => pricing,
        };
        let state = match facts.state {
            EngineState::Ready => self.health.state(engine.id(), Instant::now()),
            down => down,
        };
        EngineFacts { state, queued, pricing, ..facts }
    }

    pub fn data_prices(&self) -> DataPrices {
        *self.prices.read()
    }

    /// Looks at every engine as it is now: how busy its machines are, and whether it has room for somebody
    /// who waits, which it may have got without a query's coming or going.
    pub fn look(&self) {
        for engine in &self.engines {
            let facts = self.facts(engine.as_ref());
            self.admission.resize(engine.id(), Capacity::of(engine.as_ref(), &facts));
        }
    }

    pub async fn run(
        &self,
        query: &Arc<PlannedQuery>,
        decision: &Decision,
        execution: &Execution,
        token: &mut QueryToken<Planned>,
        tries: Tries,
        learns: bool,
    ) -> Result<Started> {
        let (begun, waited_before) = (Instant::now(), token.queue_clock().micros());
        self.escalations.lock().first_try();
        let left = execution.deadline.map(|deadline| deadline.saturating_duration_since(begun));
        let mut candidates = self.candidates(decision, tries, learns, left);
        let mut failure = Error::not_eligible(decision.refusals_text());
        let rounds = if tries == Tries::Once { 1 } else { ROUNDS_MAX };
        for round in 0..rounds {
            if round > 0 {
                candidates.retain(Attempts::may_retry);
                let engines: Vec<&Arc<dyn Engine>> = candidates.iter().map(|c| c.engine).collect();
                let pause = ROUND_PAUSE * (1 << (round - 1));
                if engines.is_empty() || !recovery::wait_for_recovery(&engines, pause, execution.deadline).await {
                    break;
                }
            }
            let mut position = 0;
            while position < candidates.len() {
                let others = position + 1 < candidates.len();
                let candidate = &mut candidates[position];
                let engine = candidate.engine.id().clone();
                token.trying(&engine);
                let failed = match candidate.try_once(self, query, execution, others, token.queue_clock()).await {
                    Ok(Answer { held, permit, facts, took, findings }) => {
                        let waited_us = micros(begun.elapsed()).saturating_sub(token.queue_clock().micros().saturating_sub(waited_before));
                        let Held { first, rest, ended } = held;
                        return Ok(Started { first, rest, ended, permit, facts, waited_us, took, findings });
                    }
                    Err(failed) => failed,
                };
                if !may_try_another(&failed, others) {
                    // A second opinion that isn't one doesn't replace what the first engine raised.
                    return Err(if failure.kind() == ErrorKind::Raised { failure } else { failed.error });
                }
                tracing::warn!(query_id = %execution.query_id, %engine, error = %failed.error, "an engine is left before its first batch");
                token.failed_over(&engine, &failed.error);
                if failed.out_of_memory {
                    leave_for_elastic(&mut candidates, position);
                }
                failure = graver(failure, failed.error);
                position += 1;
            }
            if failure.kind() == ErrorKind::Raised {
                break;
            }
        }
        Err(failure)
    }

    fn candidates(&self, decision: &Decision, tries: Tries, learns: bool, left: Option<Duration>) -> Vec<Attempts<'_>> {
        let escalation = *self.escalation.read();
        let known = |id: &EngineId| self.engines.iter().find(|engine| engine.id() == id);
        let ranked = decision
            .ranked()
            // The clock begins with the slot.
            .filter_map(|c| {
                let limit = escalation.limit(&c.numbers, left);
                known(&c.engine).map(|engine| Attempts::new(engine, &c.numbers, limit, learns))
            });
        match tries {
            Tries::UntilAnswered => ranked.collect(),
            Tries::Once => ranked.take(1).map(Attempts::without_limit).collect(),
        }
    }
}

/// A query that was out of memory on this machine isn't tried on another engine of it while there
/// is one without such bounds.
fn leave_for_elastic(candidates: &mut Vec<Attempts<'_>>, position: usize) {
    if candidates[position + 1..].iter().any(|c| c.engine.is_metered()) {
        let mut at = 0;
        candidates.retain(|c| {
            at += 1;
            at <= position + 1 || c.engine.is_metered()
        });
    }
}

/// Whether this failure leaves the query to other candidates.
fn may_try_another(failed: &Failed, others: bool) -> bool {
    if failed.too_slow {
        return true;
    }
    match failed.error.kind() {
        // An engine may find out only at a value that it can't answer as Databricks does.
        ErrorKind::NotEligible => true,
        // Engines compute in their own widths: an overflow counts once no other engine can tell.
        ErrorKind::Raised => others && failed.error.class() == Some("ARITHMETIC_OVERFLOW"),
        kind => kind.may_fail_over(),
    }
}

/// What the client hears when nobody answered: an error of the query's own, else that it needs more
/// than there is, else that an engine died or was left for being slow, else the latest.
fn graver(before: Error, now: Error) -> Error {
    match (before.kind(), now.kind()) {
        (ErrorKind::Raised, _) => before,
        (ErrorKind::Unavailable, kind) if !matches!(kind, ErrorKind::Raised | ErrorKind::ResourceExhausted) => before,
        _ => now,
    }
}

#[cfg(test)]
mod tests;
