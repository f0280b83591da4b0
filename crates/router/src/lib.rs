//! Which engine runs a query: a pure function from what the query needs, what the engines are and
//! what was learned of them, to a decision with every reason. No clock, no I/O, no knowledge of any
//! engine by name. What is learned lives in one [`Predictor`], which others feed; deciding only
//! reads it, and the same inputs and the same predictor give the same decision.

#![forbid(unsafe_code)]

mod ab;
mod money;
mod number;
mod predict;
mod profile;
mod rank;
mod route;
mod strategy;

use std::sync::Arc;

use flightpath_types::{EngineFacts, EngineId, Features, Fingerprint, Principal, QueryId, Refusal};

pub use ab::{AbOutcome, AbReport, Interval, Method, compare};
pub use money::{marginal_usd, settled_usd};
pub use predict::{
    ESCALATE_FACTOR, ESCALATE_MS_MIN, ModelState, Observation, Observed, Predictor, PredictorConfig, PredictorSnapshot, Restored,
    ShapeState, escalate_after_ms, patient_ms,
};
pub use profile::{Budget, DEFAULT_PROFILE, OverBudget, Profile, ProfileAssignments, ProfileLimits, ProfileMistake, Profiles};
pub use route::route;
pub use strategy::{AbTest, AbUnit, STRATEGIES, Strategy};

/// One engine as the router sees it for one query.
#[derive(Debug, Clone)]
pub struct Contender {
    pub facts: EngineFacts,
    /// What the engine itself says about this query.
    pub refusal: Option<Refusal>,
}

/// What holds for the one who asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub profile: Arc<Profile>,
    /// The session's pinned engine: it may refuse, it is never replaced.
    pub pinned: Option<EngineId>,
    pub restriction: Option<Restriction>,
    /// Why it isn't the profile that was asked for.
    pub handed_down: Option<String>,
}

/// Engines that are left for a while, and why: a budget that is spent. None left: refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Restriction {
    pub engines: Vec<EngineId>,
    pub why: String,
}

impl Policy {
    /// A profile without more ado.
    pub fn of(profile: Profile) -> Self {
        Self { profile: Arc::new(profile), pinned: None, restriction: None, handed_down: None }
    }

    /// A strategy under the default profile's name.
    pub fn with_strategy(strategy: Strategy) -> Self {
        Self::of(Profile { strategy, ..Profile::named(DEFAULT_PROFILE) })
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::with_strategy(Strategy::default())
    }
}

/// Everything that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct RouteInput<'a> {
    pub features: &'a Features,
    /// The query's shape; without one nothing is remembered of it.
    pub fingerprint: Option<Fingerprint>,
    pub query_id: QueryId,
    pub principal: &'a Principal,
    pub contenders: &'a [Contender],
    pub policy: &'a Policy,
    pub predictor: &'a Predictor,
}

#[cfg(test)]
mod tests;
