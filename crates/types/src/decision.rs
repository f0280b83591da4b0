//! Which engines were considered for a query, what each would take, and which was chosen.

use serde::{Deserialize, Serialize};

use crate::{EngineId, Pricing};

/// Why an engine may not run a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub class: RefusalClass,
    /// A sentence a person understands, naming the construct: "function `soundex(string)` isn't
    /// known to answer as Databricks does on DuckDB".
    pub reason: String,
}

impl Refusal {
    pub fn new(class: RefusalClass, reason: impl Into<String>) -> Self {
        Self { class, reason: reason.into() }
    }
}

/// A bounded set of labels for refusals, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalClass {
    /// A function, operator, type or clause isn't known to give the same answer there.
    Semantics,
    /// The table's format or features can't be read there.
    TableFeature,
    /// Row filters, masks or missing permissions.
    Governance,
    /// Gave another answer than a second engine, and nobody has looked at it yet.
    Quarantine,
    /// Needs more than the engine has: memory, temp space.
    Resources,
    /// Down, draining, or its breaker is open.
    Health,
    /// Another engine was pinned, or settings don't allow this one.
    Policy,
    /// Today's money is spent.
    Budget,
}

impl RefusalClass {
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalClass::Semantics => "semantics",
            RefusalClass::TableFeature => "table_feature",
            RefusalClass::Governance => "governance",
            RefusalClass::Quarantine => "quarantine",
            RefusalClass::Resources => "resources",
            RefusalClass::Health => "health",
            RefusalClass::Policy => "policy",
            RefusalClass::Budget => "budget",
        }
    }
}

/// Whether an engine can take work now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    Ready,
    /// Can't take work; why, for a person.
    Down(String),
    Draining,
}

/// What the router knows of one engine when it decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineFacts {
    pub id: EngineId,
    pub state: EngineState,
    /// What it runs on, as far as speed depends on it: `duckdb:2c:8GiB`. What was learned of one
    /// shape is never used for another.
    #[serde(default)]
    pub shape: String,
    /// Memory one query may use, in bytes.
    pub memory_bytes_max: u64,
    /// Queries it runs at once.
    pub slots: u32,
    pub running: u32,
    /// Queries that wait for a place, there or here.
    #[serde(default)]
    pub queued: u32,
    /// Of the machine that one query runs on; of the smallest where it may be one of several.
    pub cores: u32,
    /// Of all machines that take queries now: what runs there shares these.
    #[serde(default)]
    pub cores_total: u32,
    /// Fixed time of a query that does nothing on an engine that is up and free, in milliseconds.
    pub overhead_ms: f64,
    /// Bytes of Parquet scanned per second and core, a prior.
    pub scan_bytes_per_second_per_core: f64,
    #[serde(default)]
    pub pricing: Pricing,
}

/// What a prediction rests on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionSource {
    /// Times seen for the same shape of query.
    Shape,
    /// A model learned from other queries on this engine.
    Model,
    /// Scan rate and overhead, nothing seen yet.
    #[default]
    Prior,
}

impl PredictionSource {
    /// Inverse of [`PredictionSource::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [PredictionSource::Shape, PredictionSource::Model, PredictionSource::Prior].into_iter().find(|source| source.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            PredictionSource::Shape => "shape",
            PredictionSource::Model => "model",
            PredictionSource::Prior => "prior",
        }
    }
}

/// One engine's prediction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CandidateNumbers {
    /// Median, from admission to the last row, waiting for the engine to be ready included.
    pub latency_ms: f64,
    /// 95 of 100 such queries should be done by then.
    pub latency_p95_ms: f64,
    /// Of the latency, what passes before the engine starts: a warehouse's start, a queue.
    pub wait_ms: f64,
    /// Median of the peak.
    pub memory_bytes: u64,
    pub memory_p95_bytes: u64,
    /// Bytes to be read of files, by what the files say of themselves.
    pub scan_bytes: u64,
    /// 95 of 100 such queries should read no more.
    pub scan_bytes_p95: u64,
    /// What running it there adds to the bill, in US dollars.
    pub usd: f64,
    /// The same if it takes as long as its 95th percentile.
    pub usd_p95: f64,
    pub source: PredictionSource,
    /// Runs that the prediction rests on.
    pub observations: u32,
    /// When being late here, at its price, has cost what the next engine would, in milliseconds: until then it's
    /// left for being slow only where it's far too slow.
    pub leave_after_ms: f64,
}

/// One engine as considered for one query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub engine: EngineId,
    /// `None`: may run it.
    pub refusal: Option<Refusal>,
    pub numbers: CandidateNumbers,
    /// 1 is the chosen one; `None` when refused.
    pub rank: Option<u32>,
    /// Why it stands where it stands, or why it was refused.
    pub reason: String,
}

/// The router's answer: every candidate, ranked ones first in order of preference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub strategy: String,
    pub candidates: Vec<Candidate>,
    /// One sentence for the client: why this engine.
    pub reason: String,
    /// The profile that the strategy came from.
    #[serde(default)]
    pub profile: Option<String>,
    /// How probable this choice was when it was drawn, for evaluating other policies on the record;
    /// 1 where nothing was left to chance, `None` where nothing was chosen.
    #[serde(default)]
    pub propensity: Option<f64>,
    /// Which side of an `ab` strategy decided: the strategy's text.
    #[serde(default)]
    pub arm: Option<String>,
}

impl Decision {
    /// The engine to try first; `None` when every engine refused.
    pub fn chosen(&self) -> Option<&Candidate> {
        self.ranked().next()
    }

    /// Candidates that may run the query, best first.
    pub fn ranked(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|c| c.rank.is_some())
    }

    /// `engine: reason; engine: reason` over the refused ones.
    pub fn refusals_text(&self) -> String {
        let parts: Vec<String> =
            self.candidates.iter().filter_map(|c| c.refusal.as_ref().map(|r| format!("{}: {}", c.engine, r.reason))).collect();
        parts.join("; ")
    }
}
