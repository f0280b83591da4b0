//! Which engines were considered for a query, what each would take, and which was chosen.

use serde::{Deserialize, Serialize};

use crate::EngineId;

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
    /// Memory one query may use, in bytes.
    pub memory_bytes_max: u64,
    /// Queries it runs at once.
    pub slots: u32,
    pub running: u32,
    pub cores: u32,
    /// Fixed cost of a query that does nothing, in milliseconds.
    pub overhead_ms: f64,
    /// Bytes of Parquet scanned per second and core, a prior.
    pub scan_bytes_per_second_per_core: f64,
    /// US dollars for an hour of this engine, all of it busy.
    pub usd_per_hour: f64,
}

/// One engine's prediction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CandidateNumbers {
    pub latency_ms: f64,
    pub memory_bytes: u64,
    pub scan_bytes: u64,
    pub usd: f64,
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
