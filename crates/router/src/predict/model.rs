//! One model per engine and worker shape: by what factor its prior is off, for queries like this.

use std::collections::HashMap;

use flightpath_types::{EngineFacts, Features, PredictionSource};

use super::regression::{Regression, Z_MAX, Z_MIN, calibrated};
use super::snapshot::ModelState;
use super::vector::vector;
use super::{Estimate, Z_95, named_key};

/// Runs before a model has a say of its own; until then its correction of the prior is slight, and of
/// memory, where too much means another engine, there is none.
const SEEN_MIN: u32 = 5;
/// What the thousandth run of one shape still weighs.
const WEIGHT_MIN: f64 = 0.02;
/// How fast the usual time of a query follows.
const USUAL_SHARE: f64 = 0.05;

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

    pub fn latency(&self, features: &Features, ln_prior: f64) -> Option<Estimate> {
        estimate(&self.latency, features, ln_prior)
    }

    pub fn memory(&self, features: &Features, ln_prior: f64) -> Option<Estimate> {
        (self.memory.seen >= SEEN_MIN).then(|| estimate(&self.memory, features, ln_prior)).flatten()
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

    fn add_earlier(&mut self, earlier: Model) {
        self.tick = self.tick.max(earlier.tick);
        self.latency.add_earlier(&earlier.latency);
        self.memory.add_earlier(&earlier.memory);
        self.shape_z = earlier.shape_z;
        self.ln_usual_ms = earlier.ln_usual_ms.or(self.ln_usual_ms);
    }

    pub fn learn_memory(&mut self, features: &Features, ln_prior: f64, value: f64, times: u32) {
        self.memory.learn(&vector(features), value - ln_prior, weight(times), times == 0);
    }
}

/// A shape that runs all day must not be all that the model knows.
fn weight(times: u32) -> f64 {
    (1.0 / (1.0 + f64::from(times))).max(WEIGHT_MIN)
}

fn estimate(regression: &Regression, features: &Features, ln_prior: f64) -> Option<Estimate> {
    if regression.seen == 0 {
        return None;
    }
    let (mean, reach) = regression.predict(&vector(features));
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
        };
        let mut all: Vec<ModelState> = self.by_engine.values().map(state).collect();
        all.sort_by(|a, b| (&a.engine, &a.shape).cmp(&(&b.engine, &b.shape)));
        all
    }

    /// Adds it to what was learned since; false for an entry that is damaged.
    pub fn restore(&mut self, state: &ModelState) -> bool {
        let sound = (Z_MIN..=Z_MAX).contains(&state.shape_z) && state.ln_usual_ms.is_none_or(|ln| ln.abs() < 100.0);
        let (Some(latency), Some(memory), true) = (Regression::restore(&state.latency), Regression::restore(&state.memory), sound) else {
            return false;
        };
        let (engine, shape) = (state.engine.clone(), state.shape.clone());
        let key = named_key(&engine, &shape);
        let (tick, shape_z, ln_usual_ms) = (state.tick, state.shape_z, state.ln_usual_ms);
        let earlier = Model { engine, shape, tick, latency, memory, shape_z, ln_usual_ms };
        if let Some(model) = self.by_engine.get_mut(&key) {
            model.add_earlier(earlier);
            return true;
        }
        self.make_room();
        self.by_engine.insert(key, earlier);
        true
    }
}
