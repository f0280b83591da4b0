//! What a query would take on an engine, learned from what queries took: first the same shape's own
//! times, then a model of the engine, then a prior. Learning never blocks deciding for long, never
//! grows without bound, and never lets what isn't a number in or out.
//!
//! The learner is written here: what is needed is an update per query and an uncertainty with each
//! prediction, for two dozen features, which is a page of arithmetic without an array library.

mod cache;
mod model;
mod prior;
mod regression;
mod samples;
mod snapshot;
mod vector;

use std::sync::atomic::{AtomicU64, Ordering};

use flightpath_types::{CandidateNumbers, ComputePrice, EngineFacts, Features, Fingerprint, PredictionSource};
use parking_lot::RwLock;

use crate::ab::{fnv1a, mix};
use crate::money::marginal_usd;
use crate::number::{clamped, saturating_u64};
use cache::Shapes;
use model::{Model, Models};
use prior::{LATENCY_MS_MAX, LATENCY_MS_MIN};

pub use snapshot::{ModelState, PredictorSnapshot, Restored, ShapeState};

/// Limits of what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictorConfig {
    /// Shapes times engines; beyond it those seen longest ago are forgotten.
    pub shapes_max: usize,
    /// Engines times worker shapes.
    pub models_max: usize,
}

impl Default for PredictorConfig {
    fn default() -> Self {
        Self { shapes_max: 100_000, models_max: 256 }
    }
}

/// What was seen of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observed {
    Exactly(f64),
    /// The run was cut short there: a timeout, an escalation, out of memory.
    AtLeast(f64),
}

/// One run of one query on one engine.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// Without one only the model learns.
    pub fingerprint: Option<Fingerprint>,
    pub features: &'a Features,
    /// As they were when it was decided.
    pub facts: &'a EngineFacts,
    /// Milliseconds that the engine worked: without waiting for a place, for a start, or for a slow
    /// client.
    pub latency_ms: Option<Observed>,
    /// Peak, in bytes.
    pub memory_bytes: Option<Observed>,
    /// Of files, whatever the plan thought.
    pub read_bytes: Option<u64>,
}

/// Everything learned. Shared between threads; reading takes no exclusive lock.
#[derive(Debug)]
pub struct Predictor {
    shapes: Shapes,
    models: RwLock<Models>,
    /// Counts observations: what is oldest goes first.
    ticks: AtomicU64,
    /// Observations made here.
    observed: AtomicU64,
}

/// A distribution of a positive quantity: log-normal, as its logarithm's median and 95th percentile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub ln_p50: f64,
    pub ln_p95: f64,
    pub observations: u32,
    pub source: PredictionSource,
}

/// The 95th percentile lies so many standard deviations above the median.
pub(crate) const Z_95: f64 = 1.645;
/// How far reality is from the prior: five times at the 95th percentile for times, thrice for memory.
const PRIOR_LATENCY_SD: f64 = 0.98;
const PRIOR_MEMORY_SD: f64 = 0.67;
/// Less than this makes no difference to anybody.
const MEMORY_BYTES_MIN: f64 = 1_048_576.0;
const MEMORY_BYTES_MAX: f64 = 1e18;
/// A result's bytes per row where nothing is known.
const RESULT_ROW_BYTES: u64 = 64;
/// While fewer runs than this were seen of an engine, more of them are repeated there.
const CURIOUS_RUNS: u32 = 300;
const CURIOUS_FACTOR: f64 = 25.0;
/// A shape that ran this often will come again: trying it elsewhere once pays.
const REPEATS_MIN: u32 = 2;
/// A query is given up on an engine at so many times its 95th percentile, where settings don't say.
pub const ESCALATE_FACTOR: f64 = 3.0;
/// But not before this: predictions of small queries are no reason to hurry.
pub const ESCALATE_MS_MIN: f64 = 2_000.0;

/// What leaving costs is waited for at most so many times as long as leaving for being slow would take: what hangs
/// is left at any price.
const PATIENCE: f64 = 4.0;

/// When a query that has answered nothing yet is given to the next engine, by the default settings.
pub fn escalate_after_ms(numbers: &CandidateNumbers) -> f64 {
    patient_ms(clamped(numbers.latency_p95_ms * ESCALATE_FACTOR, ESCALATE_MS_MIN, LATENCY_MS_MAX), numbers)
}

/// When a query that is slow after `slow_ms` is left, by what the next engine costs.
pub fn patient_ms(slow_ms: f64, numbers: &CandidateNumbers) -> f64 {
    slow_ms.max(numbers.leave_after_ms.min(slow_ms * PATIENCE))
}

impl Default for Predictor {
    fn default() -> Self {
        Self::new(PredictorConfig::default())
    }
}

impl Predictor {
    pub fn new(config: PredictorConfig) -> Self {
        Self {
            shapes: Shapes::new(config.shapes_max),
            models: RwLock::new(Models::new(config.models_max)),
            ticks: AtomicU64::new(0),
            observed: AtomicU64::new(0),
        }
    }

    /// Shapes and models that are remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.shapes.len(), self.models.read().len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// What the query would take there now.
    pub fn predict(&self, fingerprint: Option<Fingerprint>, features: &Features, facts: &EngineFacts) -> CandidateNumbers {
        let engine = engine_key(facts);
        let latency = self.latency(engine, fingerprint, features, facts);
        let memory = self.memory(engine, fingerprint, features);
        let run_ms = bounded_ms(latency.ln_p50.exp());
        let run_p95_ms = bounded_ms(latency.ln_p95.exp()).max(run_ms);
        let load = prior::load_factor(facts);
        let wait_ms = self.wait_ms(engine, run_ms, facts);
        let result_bytes = features.result_rows.unwrap_or(0).saturating_mul(RESULT_ROW_BYTES);
        let reach = self.models.read().get(engine).map_or(model::BYTES_REACH, Model::bytes_reach);
        let scan_bytes_p95 = saturating_u64(features.scan_bytes as f64 * reach.exp()).max(features.scan_bytes);
        // By the time that it takes beside others, as it's billed.
        let usd = |run_ms: f64, scan_bytes: u64| marginal_usd(bounded_ms(run_ms * load), scan_bytes, result_bytes, facts);
        CandidateNumbers {
            latency_ms: bounded_ms(run_ms * load + wait_ms),
            latency_p95_ms: bounded_ms(run_p95_ms * load + wait_ms),
            wait_ms,
            memory_bytes: saturating_u64(memory.ln_p50.exp()),
            memory_p95_bytes: saturating_u64(memory.ln_p95.max(memory.ln_p50).exp()),
            scan_bytes: features.scan_bytes,
            scan_bytes_p95,
            usd: usd(run_ms, features.scan_bytes),
            usd_p95: usd(run_p95_ms, scan_bytes_p95),
            source: latency.source,
            observations: latency.observations,
            leave_after_ms: 0.0,
        }
    }

    /// Of an otherwise idle engine.
    fn latency(&self, engine: u64, fingerprint: Option<Fingerprint>, features: &Features, facts: &EngineFacts) -> Estimate {
        let ln_prior = prior::latency_ms(features, facts).ln();
        let models = self.models.read();
        let model = models.get(engine);
        let z = model.map_or(Z_95, |model| model.shape_z());
        let seen = fingerprint.and_then(|f| self.shapes.latency(shape_key(engine, f), features, z));
        seen.or_else(|| model.and_then(|model| model.latency(features, ln_prior))).unwrap_or(Estimate {
            ln_p50: ln_prior,
            ln_p95: ln_prior + Z_95 * PRIOR_LATENCY_SD,
            observations: 0,
            source: PredictionSource::Prior,
        })
    }

    fn memory(&self, engine: u64, fingerprint: Option<Fingerprint>, features: &Features) -> Estimate {
        let ln_prior = (prior::memory_bytes(features).max(1) as f64).ln();
        let seen = fingerprint.and_then(|f| self.shapes.memory(shape_key(engine, f), features));
        if let Some(seen) = seen {
            return seen;
        }
        let modelled = self.models.read().get(engine).and_then(|model| model.memory(features, ln_prior));
        let estimate = modelled.unwrap_or(Estimate {
            ln_p50: ln_prior,
            ln_p95: ln_prior + Z_95 * PRIOR_MEMORY_SD,
            observations: 0,
            source: PredictionSource::Prior,
        });
        // What others took there says little of a query that reads next to nothing.
        let ln_limit = prior::memory_bytes_limit(features).map_or(f64::INFINITY, |bytes| (bytes as f64).ln());
        Estimate { ln_p50: estimate.ln_p50.min(ln_limit), ln_p95: estimate.ln_p95.min(ln_limit), ..estimate }
    }

    /// For a warehouse's start or queue; for a place, as long as the engine's usual queries take.
    fn wait_ms(&self, engine: u64, run_ms: f64, facts: &EngineFacts) -> f64 {
        let told = clamped(facts.pricing.wait_ms(), 0.0, LATENCY_MS_MAX);
        // A warehouse with nobody waiting runs what it runs, however much that is.
        if facts.queued == 0 && matches!(facts.pricing.compute, ComputePrice::Warehouse { .. }) {
            return told;
        }
        let ahead = (u64::from(facts.queued) + u64::from(facts.running) + 1).saturating_sub(u64::from(facts.slots.max(1)));
        if ahead == 0 {
            return told;
        }
        let usual_ms = self.models.read().get(engine).and_then(|model| model.usual_ms()).unwrap_or(run_ms);
        // They run beside others, as this one will.
        let queued_ms = ahead as f64 / f64::from(facts.slots.max(1)) * usual_ms * prior::load_factor(facts);
        let wait_ms = match facts.pricing.compute {
            ComputePrice::Hourly { .. } => told + queued_ms,
            // A warehouse tells of its own queue; who waits here is in front of it.
            ComputePrice::Warehouse { .. } => told.max(queued_ms),
        };
        clamped(wait_ms, 0.0, LATENCY_MS_MAX)
    }

    /// With what probability a run on `ran` should be repeated in the background on `other`, for
    /// comparing and for learning: the share that is set; up to twenty-five times that for a shape
    /// that was never timed there, when it comes again and again or little is known of the engine.
    pub fn shadow_share(
        &self,
        share: f64,
        fingerprint: Option<Fingerprint>,
        features: &Features,
        ran: &EngineFacts,
        other: &EngineFacts,
    ) -> f64 {
        let times = |facts| fingerprint.map_or(0, |fingerprint| self.shapes.times(shape_key(engine_key(facts), fingerprint), features));
        let seen = self.models.read().get(engine_key(other)).map_or(0, Model::seen);
        let curious = match (times(other), times(ran)) {
            (0, before) if before >= REPEATS_MIN => 1.0,
            (0, _) => 1.0 - f64::from(seen.min(CURIOUS_RUNS)) / f64::from(CURIOUS_RUNS),
            (_, _) => 0.0,
        };
        clamped(share * (1.0 + (CURIOUS_FACTOR - 1.0) * curious), 0.0, 1.0)
    }

    /// Learns from one run.
    pub fn observe(&self, observation: &Observation<'_>) {
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed);
        self.observed.fetch_add(1, Ordering::Relaxed);
        let engine = engine_key(observation.facts);
        self.observe_latency(engine, tick, observation);
        self.observe_memory(engine, tick, observation);
        if let Some(read) = observation.read_bytes.filter(|_| observation.features.scan_bytes > 0) {
            let ln_ratio = ((read as f64).max(1.0) / observation.features.scan_bytes as f64).ln();
            self.models.write().of(engine, observation.facts, tick).learn_bytes(ln_ratio);
        }
    }

    fn observe_latency(&self, engine: u64, tick: u64, observation: &Observation<'_>) {
        let (features, facts) = (observation.features, observation.facts);
        let load = prior::load_factor(facts);
        let Some(observed) = logarithm(observation.latency_ms, LATENCY_MS_MIN, LATENCY_MS_MAX, load) else { return };
        let before = self.latency(engine, observation.fingerprint, features, facts);
        let Some(value) = observed.value(&before) else { return };
        let key = observation.fingerprint.map(|fingerprint| shape_key(engine, fingerprint));
        let times = key.map_or(0, |key| self.shapes.times(key, features));
        let ln_prior = prior::latency_ms(features, facts).ln();
        self.models.write().of(engine, facts, tick).learn_latency(features, ln_prior, value, times, &before, observed.is_exact());
        if let Some(key) = key {
            self.shapes.learn_latency(key, features, facts.overhead_ms, value, tick);
        }
    }

    fn observe_memory(&self, engine: u64, tick: u64, observation: &Observation<'_>) {
        let Some(observed) = logarithm(observation.memory_bytes, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX, 1.0) else { return };
        let features = observation.features;
        let before = self.memory(engine, observation.fingerprint, features);
        let Some(value) = observed.value(&before) else { return };
        let key = observation.fingerprint.map(|fingerprint| shape_key(engine, fingerprint));
        let times = key.map_or(0, |key| self.shapes.times(key, features).saturating_sub(1));
        let ln_prior = (prior::memory_bytes(features).max(1) as f64).ln();
        // That a query ran out of memory says how much it lacked, not what others need.
        if observed.is_exact() {
            self.models.write().of(engine, observation.facts, tick).learn_memory(features, ln_prior, value, times);
        }
        if let Some(key) = key {
            self.shapes.learn_memory(key, features, observation.facts.overhead_ms, value, tick);
        }
    }

    /// Grows with everything that is learned here: equal means that nothing was.
    pub fn revision(&self) -> u64 {
        self.observed.load(Ordering::Relaxed)
    }

    /// Everything, to be kept over a restart and for others. Once it's kept, [`Predictor::saved`] has to be
    /// told.
    pub fn export(&self) -> PredictorSnapshot {
        PredictorSnapshot {
            version: snapshot::VERSION,
            ticks: self.ticks.load(Ordering::Relaxed),
            shapes: self.shapes.export(),
            models: self.models.read().export(),
            saves: Vec::new(),
        }
    }

    /// Takes in what is kept now, by whomever: what was learned here since this was last told or taken in
    /// ([`Predictor::saved`]) is added to it, and nothing counts twice. Entries that are damaged, or of
    /// another version, are left out and counted.
    pub fn restore(&self, snapshot: PredictorSnapshot) -> Restored {
        let entries = snapshot.shapes.len() + snapshot.models.len();
        if !(1..=snapshot::VERSION).contains(&snapshot.version) {
            return Restored { shapes: 0, models: 0, left_out: entries };
        }
        // What a shape took stays true; models rest on the features and the prior of their version.
        let models = if snapshot.version == snapshot::VERSION { snapshot.models } else { Vec::new() };
        self.ticks.fetch_max(snapshot.ticks, Ordering::Relaxed);
        let shapes = snapshot.shapes.into_iter().filter(|state| self.shapes.rebase(state)).count();
        let models = {
            let mut known = self.models.write();
            models.into_iter().filter(|state| known.rebase(state)).count()
        };
        Restored { shapes, models, left_out: entries - shapes - models }
    }

    /// This, which was exported here, is what is kept now.
    pub fn saved(&self, snapshot: &PredictorSnapshot) {
        snapshot.shapes.iter().for_each(|state| self.shapes.saved(state));
        let mut models = self.models.write();
        snapshot.models.iter().for_each(|state| models.saved(state));
    }
}

fn bounded_ms(ms: f64) -> f64 {
    clamped(ms, LATENCY_MS_MIN, LATENCY_MS_MAX)
}

/// One engine on one kind of worker.
fn engine_key(facts: &EngineFacts) -> u64 {
    named_key(facts.id.as_str(), &facts.shape)
}

fn named_key(engine: &str, shape: &str) -> u64 {
    let engine = fnv1a(crate::ab::FNV_OFFSET, engine.as_bytes());
    mix(fnv1a(fnv1a(engine, &[0]), shape.as_bytes()))
}

fn shape_key(engine: u64, fingerprint: Fingerprint) -> u64 {
    mix(engine ^ mix(fingerprint.as_u64()))
}

/// An observation as a logarithm.
#[derive(Debug, Clone, Copy)]
enum Logarithm {
    Exactly(f64),
    AtLeast(f64),
}

fn logarithm(observed: Option<Observed>, low: f64, high: f64, load: f64) -> Option<Logarithm> {
    let value = |value: f64| (value.is_finite() && value >= 0.0).then(|| clamped(value / load, low, high).ln());
    match observed? {
        Observed::Exactly(exact) => value(exact).map(Logarithm::Exactly),
        Observed::AtLeast(bound) => value(bound).map(Logarithm::AtLeast),
    }
}

impl Logarithm {
    fn is_exact(self) -> bool {
        matches!(self, Logarithm::Exactly(_))
    }

    /// The value to learn. A bound stands for what is expected beyond it, given what was thought
    /// before (Schmee and Hahn, 1979); a bound below that says nothing new.
    fn value(self, before: &Estimate) -> Option<f64> {
        match self {
            Logarithm::Exactly(value) => Some(value),
            Logarithm::AtLeast(bound) => {
                let sd = ((before.ln_p95 - before.ln_p50) / Z_95).max(0.05);
                let at = (bound - before.ln_p50) / sd;
                (at > -1.0).then(|| before.ln_p50 + sd * beyond(at))
            }
        }
    }
}

/// The mean of a standard normal variable that exceeds `at`; a little below it, by the bound of
/// Sampford (1953).
fn beyond(at: f64) -> f64 {
    let mills = (3.0 * at + (at * at + 8.0).sqrt()) / 4.0;
    mills.max(at)
}

#[cfg(test)]
mod tests;
