//! What comparing two engines' answers to one query found.

use serde::{Deserialize, Serialize};

use crate::{EngineId, Fingerprint, QueryId};

/// How a second run of a query went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowOutcome {
    /// Both gave the same rows.
    Same,
    /// The engines disagree, each of them again when asked twice.
    Mismatch,
    /// One engine doesn't agree with itself: the query has more than one right answer.
    Unstable,
    /// The second engine failed, or took more than its budget.
    Failed,
}

impl ShadowOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            ShadowOutcome::Same => "same",
            ShadowOutcome::Mismatch => "mismatch",
            ShadowOutcome::Unstable => "unstable",
            ShadowOutcome::Failed => "failed",
        }
    }

    /// Inverse of [`ShadowOutcome::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Same, Self::Mismatch, Self::Unstable, Self::Failed].into_iter().find(|o| o.as_str() == text)
    }
}

/// One query run a second time, on another engine, in the background.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowRun {
    /// The query whose answer the client got.
    pub query_id: QueryId,
    /// Milliseconds since the Unix epoch, when the second run ended.
    pub ended_unix_ms: i64,
    pub fingerprint: Fingerprint,
    pub principal: String,
    /// The engine that answered the client, and its answer's digest.
    pub engine: EngineId,
    pub digest: String,
    /// The engine that was asked again, and its answer's digest; empty when it failed.
    pub shadow_engine: EngineId,
    pub shadow_digest: String,
    pub outcome: ShadowOutcome,
    /// What differs, or what failed.
    pub detail: String,
}

/// A shape of query that an engine may not run until a person has looked at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    pub fingerprint: Fingerprint,
    pub engine: EngineId,
    /// Milliseconds since the Unix epoch.
    pub since_unix_ms: i64,
    /// The query that showed it.
    pub query_id: QueryId,
    pub reason: String,
}
