//! The measured matrix: queries times engines, three runs each, and the order in which they came.

use std::collections::{BTreeMap, BTreeSet};

use flightpath_types::{ComputePrice, EngineFacts, Features, Fingerprint, WarehouseActivity};
use serde::Deserialize;

use crate::replay::{Objective, Run};

/// One line of the file.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Entry {
    Engines { note: String, timeout_ms: f64, engines: Vec<Engine> },
    Query(Box<Query>),
    Sequence { name: String, ids: Vec<String> },
}

#[derive(Deserialize, Clone)]
pub(crate) struct Engine {
    pub facts: EngineFacts,
    pub simulated: bool,
}

#[derive(Deserialize)]
pub(crate) struct Query {
    pub id: String,
    pub workload: String,
    pub fingerprint: Fingerprint,
    #[serde(default)]
    pub grown: bool,
    pub features: Features,
    /// By engine.
    runs: BTreeMap<String, Runs>,
}

#[derive(Deserialize, Clone, Default)]
pub(crate) struct Runs {
    #[serde(default)]
    pub latency_ms: Vec<f64>,
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// It may not run there.
    #[serde(default)]
    pub refused: Option<String>,
    /// It may, and didn't get through.
    #[serde(default)]
    pub failed: Option<String>,
}

pub(crate) struct Matrix {
    pub note: String,
    pub timeout_ms: f64,
    pub engines: Vec<Engine>,
    pub queries: Vec<Query>,
    sequences: Vec<(String, Vec<usize>)>,
    tables: Vec<String>,
}

/// What a failed or timed-out query counts as, in timeouts.
const FAILURE_TIMEOUTS: f64 = 10.0;

impl Matrix {
    pub fn read(path: &str, warehouse: WarehouseActivity) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
        let mut matrix = Self {
            note: String::new(),
            timeout_ms: 0.0,
            engines: Vec::new(),
            queries: Vec::new(),
            sequences: Vec::new(),
            tables: Vec::new(),
        };
        let mut named = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let entry: Entry = serde_json::from_str(line).map_err(|e| format!("{path}, line {}: {e}", number + 1))?;
            match entry {
                Entry::Engines { note, timeout_ms, engines } => {
                    (matrix.note, matrix.timeout_ms, matrix.engines) = (note, timeout_ms, engines)
                }
                Entry::Query(query) => matrix.queries.push(*query),
                Entry::Sequence { name, ids } => named.push((name, ids)),
            }
        }
        if matrix.engines.is_empty() || matrix.queries.is_empty() {
            return Err(format!("{path} names no engines or no queries"));
        }
        for engine in &mut matrix.engines {
            if let ComputePrice::Warehouse { activity, .. } = &mut engine.facts.pricing.compute {
                *activity = warehouse;
            }
        }
        let by_id: BTreeMap<&str, usize> = matrix.queries.iter().enumerate().map(|(at, query)| (query.id.as_str(), at)).collect();
        for (name, ids) in named {
            let known: Result<Vec<usize>, String> =
                ids.iter().map(|id| by_id.get(id.as_str()).copied().ok_or_else(|| format!("no query `{id}`"))).collect();
            matrix.sequences.push((name, known?));
        }
        let tables: BTreeSet<&str> = matrix.queries.iter().flat_map(|q| q.features.tables.iter().map(|t| t.name.as_str())).collect();
        matrix.tables = tables.into_iter().map(str::to_string).collect();
        Ok(matrix)
    }

    pub fn sequences(&self) -> Vec<(String, Vec<usize>)> {
        self.sequences.clone()
    }

    /// Queries on the tables as they were first.
    pub fn base(&self) -> Vec<usize> {
        (0..self.queries.len()).filter(|query| !self.queries[*query].grown).collect()
    }

    pub fn grown(&self) -> Vec<usize> {
        (0..self.queries.len()).filter(|query| self.queries[*query].grown).collect()
    }

    /// Distinct shapes, in the order they come.
    pub fn shapes(&self, queries: &[usize]) -> Vec<Fingerprint> {
        let mut seen = BTreeSet::new();
        queries.iter().map(|query| self.queries[*query].fingerprint).filter(|f| seen.insert(f.as_u64())).collect()
    }

    /// All of them several times over, each time in another order.
    pub fn passes(&self, queries: &[usize], count: usize) -> Vec<usize> {
        (0..count as u64)
            .flat_map(|pass| {
                let mut order = queries.to_vec();
                order.sort_by_key(|query| mixed(*query as u64 ^ (pass << 32)));
                order
            })
            .collect()
    }

    pub fn name(&self, engine: usize) -> &str {
        self.engines[engine].facts.id.as_str()
    }

    pub fn runs(&self, query: usize, engine: usize) -> Option<&Runs> {
        self.queries[query].runs.get(self.name(engine)).filter(|runs| runs.refused.is_none())
    }

    /// Why the engine may not run it.
    pub fn refusal(&self, query: usize, engine: usize) -> Option<String> {
        match self.queries[query].runs.get(self.name(engine)) {
            Some(runs) => runs.refused.clone(),
            None => Some("wasn't measured there".into()),
        }
    }

    pub fn failure_ms(&self) -> f64 {
        self.timeout_ms * FAILURE_TIMEOUTS
    }

    /// Whether it got through, and its median time there; a failure's when it didn't.
    pub fn median_ms(&self, query: usize, engine: usize) -> (bool, f64) {
        match self.runs(query, engine) {
            Some(runs) if runs.failed.is_none() && !runs.latency_ms.is_empty() => {
                let mut sorted = runs.latency_ms.clone();
                sorted.sort_by(f64::total_cmp);
                (true, sorted[sorted.len() / 2])
            }
            _ => (false, self.failure_ms()),
        }
    }

    /// The engine, or the first that may run it instead.
    pub fn or_eligible(&self, query: usize, engine: usize) -> usize {
        let may = |engine: &usize| self.runs(query, *engine).is_some();
        std::iter::once(engine).chain(0..self.engines.len()).find(may).unwrap_or(engine)
    }

    pub fn oracle(&self, objective: &Objective, query: usize) -> usize {
        let cost = |engine: &usize| objective.cost(&Run::on(self, query, *engine));
        let eligible = (0..self.engines.len()).filter(|engine| self.runs(query, *engine).is_some());
        eligible.min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(0)
    }

    /// Which tables it touches.
    pub fn presence(&self, query: usize) -> Vec<bool> {
        let used = &self.queries[query].features.tables;
        self.tables.iter().map(|table| used.iter().any(|t| t.name == *table)).collect()
    }
}

/// The finalizer of splitmix64: numbers that look drawn, the same in every run.
pub(crate) fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Between 0 and 1.
pub(crate) fn drawn(number: u64) -> f64 {
    (mixed(number) >> 11) as f64 / (1u64 << 53) as f64
}
