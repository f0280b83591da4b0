//! One model per engine and worker shape: by what factor its prior is off, for queries like this.

use std::collections::HashMap;

use flightpath_types::{EngineFacts, Features, PredictionSource};

use super::regression::{Regression, Z_MAX, Z_MIN, calibrated};
use super::snapshot::ModelState;
use super::vector::vector;
use super::{Estimate, PRIOR_LATENCY_SD, Z_95, named_key};
use crate::number::clamped;

/// Runs before a model has a say of its own; until then its correction of the prior is slight, and of
/// memory, where too much means another engine, there is none.
const SEEN_MIN: u32 = 5;
/// What the thousandth run of one shape still weighs.
const WEIGHT_MIN: f64 = 0.02;
/// How fast the usual time of a query follows.
const USUAL_SHARE: f64 = 0.05;
/// By what factor, as a logarithm, more is read than files say, at the 95th percentile: at first, at most, and
/// how fast it follows.
pub(crate) const BYTES_REACH: f64 = 0.2;
const BYTES_REACH_MAX: f64 = 4.0;
const BYTES_STEP: f64 = 0.1;

#[derive(Debug, Clone)]
pub(crate) struct Model {
    engine: String,
    shape: String,
    tick: u64,
    latency: Regression,
    memory: Regression,
    /// For shapes that were seen before: see [`calibrated`].
    shape_z: f64,
    ln_usual_ms: Option<f64>,
    bytes_reach: f64,
    base: Base,
}

/// What of a model the database has.
#[derive(Debug, Clone, Default)]
struct Base {
    latency: Regression,
    memory: Regression,
}

impl Model {
    /// Runs that were timed.
    pub fn seen(&self) -> u32 {
        self.latency.seen
    }

    pub fn shape_z(&self) -> f64 {
        self.shape_z
    }

    /// What a query takes there as a rule.
    pub fn usual_ms(&self) -> Option<f64> {
        self.ln_usual_ms.map(f64::exp)
    }

    /// How much more than files say is read in 95 of 100 cases at most, as a logarithm.
    pub fn bytes_reach(&self) -> f64 {
        self.bytes_reach
    }

    /// As for times: moves until 5 of 100 queries read more.
    pub fn learn_bytes(&mut self, ln_ratio: f64) {
        let step = if ln_ratio > self.bytes_reach { BYTES_STEP * 0.95 } else { -BYTES_STEP * 0.05 };
        self.bytes_reach = clamped(self.bytes_reach + step, 0.0, BYTES_REACH_MAX);
    }

    pub fn latency(&self, features: &Features, ln_prior: f64) -> Option<Estimate> {
        estimate(&self.latency, features, ln_prior, Z_95 * PRIOR_LATENCY_SD)
    }

    pub fn memory(&self, features: &Features, ln_prior: f64) -> Option<Estimate> {
        (self.memory.seen >= SEEN_MIN).then(|| estimate(&self.memory, features, ln_prior, f64::INFINITY)).flatten()
    }

    /// `times`: how often this very shape and size was learned before.
    pub fn learn_latency(&mut self, features: &Features, ln_prior: f64, value: f64, times: u32, before: &Estimate, exact: bool) {
        if exact && before.source == PredictionSource::Shape && times > 0 {
            let sd = (before.ln_p95 - before.ln_p50) / self.shape_z.max(Z_95 / 2.0);
            self.shape_z = calibrated(self.shape_z, value > before.ln_p50 + sd * self.shape_z);
        }
        let usual = self.ln_usual_ms.unwrap_or(value);
        self.ln_usual_ms = Some(usual + (value - usual) * USUAL_SHARE);
        self.latency.learn(&vector(features), value - ln_prior, weight(times), exact && times == 0);
    }

    fn rebase(&mut self, kept: Model) {
        let (own, others) = (self.latency.seen > self.base.latency.seen, kept.latency.seen > self.base.latency.seen);
        if !own {
            (self.shape_z, self.ln_usual_ms) = (kept.shape_z, kept.ln_usual_ms.or(self.ln_usual_ms));
            self.bytes_reach = kept.bytes_reach;
        } else if others {
            self.shape_z = (self.shape_z + kept.shape_z) / 2.0;
            self.bytes_reach = (self.bytes_reach + kept.bytes_reach) / 2.0;
            self.ln_usual_ms = match (self.ln_usual_ms, kept.ln_usual_ms) {
                (Some(own), Some(kept)) => Some((own + kept) / 2.0),
                (own, kept) => own.or(kept),
            };
        }
        self.tick = self.tick.max(kept.tick);
        self.latency.rebase(&kept.latency, &self.base.latency);
        self.memory.rebase(&kept.memory, &self.base.memory);
        self.base = Base { latency: kept.latency.as_base(&self.base.latency), memory: kept.memory.as_base(&self.base.memory) };
    }

    pub fn learn_memory(&mut self, features: &Features, ln_prior: f64, value: f64, times: u32) {
        self.memory.learn(&vector(features), value - ln_prior, weight(times), times == 0);
    }
}

/// A shape that runs all day must not be all that the model knows.
fn weight(times: u32) -> f64 {
    (1.0 / (1.0 + f64::from(times))).max(WEIGHT_MIN)
}

fn estimate(regression: &Regression, features: &Features, ln_prior: f64, reach_max: f64) -> Option<Estimate> {
    if regression.seen == 0 {
        return None;
    }
    let (mean, reach) = regression.predict(&vector(features), reach_max);
    let source = if regression.seen >= SEEN_MIN { PredictionSource::Model } else { PredictionSource::Prior };
    Some(Estimate { ln_p50: ln_prior + mean, ln_p95: ln_prior + mean + reach, observations: regression.seen, source })
}

#[derive(Debug)]
pub(crate) struct Models {
    by_engine: HashMap<u64, Model>,
    max: usize,
}

impl Models {
    pub fn new(max: usize) -> Self {
        Self { by_engine: HashMap::new(), max: max.max(1) }
    }

    pub fn len(&self) -> usize {
        self.by_engine.len()
    }

    pub fn get(&self, engine: u64) -> Option<&Model> {
        self.by_engine.get(&engine)
    }

    /// The engine's model, made when there's none.
    pub fn of(&mut self, engine: u64, facts: &EngineFacts, tick: u64) -> &mut Model {
        if !self.by_engine.contains_key(&engine) {
            self.make_room();
        }
        let model = self.by_engine.entry(engine).or_insert_with(|| Model {
            engine: facts.id.to_string(),
            shape: facts.shape.clone(),
            tick,
            latency: Regression::default(),
            memory: Regression::default(),
            shape_z: Z_95,
            ln_usual_ms: None,
            bytes_reach: BYTES_REACH,
            base: Base::default(),
        });
        model.tick = tick;
        model
    }

    fn make_room(&mut self) {
        while self.by_engine.len() >= self.max {
            let Some(oldest) = self.by_engine.iter().min_by_key(|(_, model)| model.tick).map(|(key, _)| *key) else { return };
            self.by_engine.remove(&oldest);
        }
    }

    pub fn export(&self) -> Vec<ModelState> {
        let state = |model: &Model| ModelState {
            engine: model.engine.clone(),
            shape: model.shape.clone(),
            tick: model.tick,
            latency: model.latency.export(),
            memory: model.memory.export(),
            shape_z: model.shape_z,
            ln_usual_ms: model.ln_usual_ms,
            bytes_reach: model.bytes_reach,
        };
        let mut all: Vec<ModelState> = self.by_engine.values().map(state).collect();
        all.sort_by(|a, b| (&a.engine, &a.shape).cmp(&(&b.engine, &b.shape)));
        all
    }

    /// Takes in what the database has: what was learned here since the last time is added to it. False for
    /// an entry that is damaged.
    pub fn rebase(&mut self, state: &ModelState) -> bool {
        let sound = (Z_MIN..=Z_MAX).contains(&state.shape_z)
            && state.ln_usual_ms.is_none_or(|ln| ln.abs() < 100.0)
            && (0.0..=BYTES_REACH_MAX).contains(&state.bytes_reach);
        let (Some(latency), Some(memory), true) = (Regression::restore(&state.latency), Regression::restore(&state.memory), sound) else {
            return false;
        };
        // What another process has learned by itself isn't forgotten by what is learned here.
        let nothing = Regression::default();
        let (latency, memory) = (latency.as_base(&nothing), memory.as_base(&nothing));
        let key = named_key(&state.engine, &state.shape);
        let kept = Model {
            engine: state.engine.clone(),
            shape: state.shape.clone(),
            tick: state.tick,
            base: Base { latency: latency.clone(), memory: memory.clone() },
            latency,
            memory,
            shape_z: state.shape_z,
            ln_usual_ms: state.ln_usual_ms,
            bytes_reach: state.bytes_reach,
        };
        if let Some(model) = self.by_engine.get_mut(&key) {
            model.rebase(kept);
            return true;
        }
        self.make_room();
        self.by_engine.insert(key, kept);
        true
    }

    /// The database has this now, which was exported here.
    pub fn saved(&mut self, state: &ModelState) {
        let Some(model) = self.by_engine.get_mut(&named_key(&state.engine, &state.shape)) else { return };
        if let (Some(latency), Some(memory)) = (Regression::restore(&state.latency), Regression::restore(&state.memory)) {
            model.base = Base { latency, memory };
        }
    }
}
