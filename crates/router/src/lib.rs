//! Which engine runs a query: a pure function from what the query needs and what the engines are
//! to a decision with every reason. No clock, no I/O, no state.

#![forbid(unsafe_code)]

use flightpath_types::{Decision, EngineFacts, EngineId, Features, Refusal};

/// One engine as the router sees it for one query.
#[derive(Debug, Clone)]
pub struct Contender {
    pub facts: EngineFacts,
    /// What the engine itself says about this query.
    pub refusal: Option<Refusal>,
}

/// How to choose among the engines that may run a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Small and simple queries in-process, the rest where scans are fastest.
    #[default]
    Rules,
    /// One engine, whatever the query; others are refused.
    Always(EngineId),
}

#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub strategy: Strategy,
    /// The session's pinned engine: it may refuse, it is never replaced.
    pub pinned: Option<EngineId>,
}

/// Decides. Deterministic: the same inputs give the same decision.
pub fn route(_features: &Features, _contenders: &[Contender], _policy: &Policy) -> Decision {
    Decision { strategy: String::new(), candidates: Vec::new(), reason: String::new() }
}
