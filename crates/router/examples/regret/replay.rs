//! Plays queries through predictor and router: a decision sees what was learned so far, and only
//! what was run is learned.

use std::collections::HashMap;
use std::time::Instant;

use flightpath_router::{Contender, Observation, Observed, Policy, Predictor, Profile, RouteInput, escalate_after_ms, marginal_usd, route};
use flightpath_types::{CandidateNumbers, ComputePrice, EngineFacts, Principal, QueryId, Refusal, RefusalClass};

use crate::Options;
use crate::matrix::{Matrix, drawn};

/// What a query costs: dollars plus lateness.
pub(crate) struct Objective {
    usd_per_second_late: f64,
    slo_ms: f64,
}

impl Objective {
    pub fn of(profile: &Profile) -> Self {
        Self { usd_per_second_late: profile.usd_per_second_late, slo_ms: profile.slo_ms }
    }

    pub fn cost(&self, run: &Run) -> f64 {
        run.usd + self.usd_per_second_late * (run.latency_ms - self.slo_ms).max(0.0) / 1_000.0
    }
}

/// What became of a query, by the medians of its runs.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub query: usize,
    /// Waiting, deciding and what was given up on included.
    pub latency_ms: f64,
    pub usd: f64,
    /// An engine got through with it.
    pub through: bool,
}

impl Run {
    /// On one engine, come what may.
    pub fn on(matrix: &Matrix, query: usize, engine: usize) -> Self {
        let facts = &matrix.engines[engine].facts;
        let (through, ms) = matrix.median_ms(query, engine);
        let usd = marginal_usd(ms, matrix.queries[query].features.scan_bytes, 0, facts);
        Self { query, latency_ms: ms + facts.pricing.wait_ms(), usd, through }
    }

    /// As the pipeline runs it: an engine that fails, or takes three times its predicted 95th
    /// percentile, is given up on for the next one.
    pub fn routed(matrix: &Matrix, play: &Play) -> Self {
        let (mut spent_ms, mut spent_usd) = (play.decide_ms, 0.0);
        let scan_bytes = matrix.queries[play.query].features.scan_bytes;
        let tried = tried(matrix, play);
        for (engine, limit_ms) in &tried[..tried.len().saturating_sub(1)] {
            spent_ms += limit_ms;
            spent_usd += marginal_usd(*limit_ms, scan_bytes, 0, &matrix.engines[*engine].facts);
        }
        let last = Self::on(matrix, play.query, tried.last().map_or(play.engine, |(engine, _)| *engine));
        Self { latency_ms: last.latency_ms + spent_ms, usd: last.usd + spent_usd, ..last }
    }
}

/// The engines that a query is given to, and when each is given up on; the last one isn't.
pub(crate) fn tried(matrix: &Matrix, play: &Play) -> Vec<(usize, f64)> {
    let mut tried = Vec::new();
    for (position, (engine, numbers)) in play.predicted.iter().enumerate() {
        // What costs money by itself is never left for being slow, and the clock begins with the place.
        let metered = matches!(matrix.engines[*engine].facts.pricing.compute, ComputePrice::Warehouse { .. });
        let run = CandidateNumbers { latency_p95_ms: (numbers.latency_p95_ms - numbers.wait_ms).max(0.0), ..*numbers };
        let limit_ms = if metered { f64::INFINITY } else { escalate_after_ms(&run) };
        tried.push((*engine, limit_ms));
        let (through, ms) = matrix.median_ms(play.query, *engine);
        if (through && ms <= limit_ms) || position + 1 == play.predicted.len() {
            break;
        }
    }
    tried
}

/// One decision and what it was worth.
pub(crate) struct Play {
    pub query: usize,
    pub engine: usize,
    pub decide_ms: f64,
    /// How often its shape had run before.
    pub times_before: u32,
    /// What was predicted, by engine that may run it, best first.
    pub predicted: Vec<(usize, CandidateNumbers)>,
}

pub(crate) struct Replay<'a> {
    matrix: &'a Matrix,
    policy: Policy,
    principal: Principal,
    predictor: Predictor,
    shadow: f64,
    plays: u64,
    times: HashMap<u64, u32>,
}

impl<'a> Replay<'a> {
    pub fn new(matrix: &'a Matrix, options: &Options) -> Self {
        Self {
            matrix,
            policy: Policy::of(options.profile.clone()),
            principal: Principal::new("replay"),
            predictor: Predictor::default(),
            shadow: options.shadow,
            plays: 0,
            times: HashMap::new(),
        }
    }

    /// Decides, and learns nothing.
    pub fn decide(&self, query: usize) -> Play {
        let facts: Vec<EngineFacts> = self.matrix.engines.iter().map(|engine| engine.facts.clone()).collect();
        self.decide_with(query, facts)
    }

    /// Decides on engines in the state that they are in.
    pub fn decide_with(&self, query: usize, facts: Vec<EngineFacts>) -> Play {
        let matrix = self.matrix;
        let contenders: Vec<Contender> = facts
            .into_iter()
            .enumerate()
            .map(|(engine, facts)| {
                let refusal = matrix.refusal(query, engine).map(|why| Refusal::new(RefusalClass::Semantics, why));
                Contender { facts, refusal }
            })
            .collect();
        let fingerprint = matrix.queries[query].fingerprint;
        let input = RouteInput {
            features: &matrix.queries[query].features,
            fingerprint: Some(fingerprint),
            query_id: QueryId::generate(),
            principal: &self.principal,
            contenders: &contenders,
            policy: &self.policy,
            predictor: &self.predictor,
        };
        let begun = Instant::now();
        let decision = route(&input);
        let decide_ms = begun.elapsed().as_secs_f64() * 1_000.0;
        let index = |id: &str| (0..matrix.engines.len()).find(|engine| matrix.name(*engine) == id).unwrap_or(0);
        Play {
            query,
            engine: decision.chosen().map_or(0, |chosen| index(chosen.engine.as_str())),
            decide_ms,
            times_before: self.times.get(&fingerprint.as_u64()).copied().unwrap_or(0),
            predicted: decision.ranked().map(|c| (index(c.engine.as_str()), c.numbers)).collect(),
        }
    }

    /// Decides, runs and learns; now and then a cheap engine runs it too.
    pub fn run(&mut self, query: usize) -> Play {
        let play = self.decide(query);
        self.learn(&play);
        play
    }

    pub fn learn(&mut self, play: &Play) {
        let matrix = self.matrix;
        self.plays += 1;
        let tried = tried(matrix, play);
        for (position, (engine, limit_ms)) in tried.iter().enumerate() {
            // As in the pipeline: a warehouse's start and a query's own time can't be told apart.
            let warehouse = matches!(matrix.engines[*engine].facts.pricing.compute, ComputePrice::Warehouse { .. });
            if warehouse && play.predicted.iter().any(|(of, numbers)| of == engine && numbers.wait_ms > 0.0) {
                continue;
            }
            self.see(play.query, *engine, (position + 1 < tried.len()).then_some(*limit_ms));
        }
        let worth = |engine: &usize| {
            let facts = &matrix.engines[*engine].facts;
            let cheap = matches!(facts.pricing.compute, ComputePrice::Hourly { .. });
            let other = cheap && *engine != play.engine && matrix.runs(play.query, *engine).is_some();
            let query = &matrix.queries[play.query];
            let ran = &matrix.engines[play.engine].facts;
            let share = self.predictor.shadow_share(self.shadow, Some(query.fingerprint), &query.features, ran, facts);
            other && drawn(self.plays << 8 | *engine as u64) < share
        };
        if let Some(second) = (0..matrix.engines.len()).find(worth) {
            self.see(play.query, second, None);
        }
        *self.times.entry(matrix.queries[play.query].fingerprint.as_u64()).or_default() += 1;
    }

    /// One of the engine's runs, another one each time, or that it was given up on.
    fn see(&self, query: usize, engine: usize, given_up_ms: Option<f64>) {
        let Some(runs) = self.matrix.runs(query, engine) else { return };
        let latency = match (given_up_ms, &runs.failed) {
            (Some(ms), _) => Observed::AtLeast(ms),
            (None, Some(_)) => Observed::AtLeast(self.matrix.timeout_ms),
            (None, None) => match runs.latency_ms.get(self.plays as usize % runs.latency_ms.len().max(1)) {
                Some(ms) => Observed::Exactly(*ms),
                None => return,
            },
        };
        let matrix = self.matrix;
        self.predictor.observe(&Observation {
            fingerprint: Some(matrix.queries[query].fingerprint),
            features: &matrix.queries[query].features,
            facts: &matrix.engines[engine].facts,
            latency_ms: Some(latency),
            memory_bytes: runs.memory_bytes.map(|bytes| Observed::Exactly(bytes as f64)),
            read_bytes: None,
        });
    }
}
