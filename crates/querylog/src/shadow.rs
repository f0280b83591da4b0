//! Where comparisons between engines, and what follows from them, are kept.

use async_trait::async_trait;
use flightpath_types::{EngineId, Fingerprint, Quarantined, QueryId, Result, ShadowOutcome, ShadowRun};

use crate::{LogStore, ModelStore, QueryHistory};

/// Which comparisons. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShadowFilter {
    /// Whose queries; everybody's for `None`.
    pub principal: Option<String>,
    /// Ended at this or later; milliseconds since the Unix epoch.
    pub from_unix_ms: Option<i64>,
    /// Ended before this; milliseconds since the Unix epoch.
    pub until_unix_ms: Option<i64>,
    pub fingerprint: Option<Fingerprint>,
    pub query_id: Option<QueryId>,
    pub outcome: Option<ShadowOutcome>,
}

/// Where a page of comparisons ended: the next one holds what comes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowKey {
    pub ended_unix_ms: i64,
    pub query_id: QueryId,
    pub shadow_engine: EngineId,
}

impl ShadowKey {
    pub fn of(run: &ShadowRun) -> Self {
        Self { ended_unix_ms: run.ended_unix_ms, query_id: run.query_id, shadow_engine: run.shadow_engine.clone() }
    }
}

/// Shadow runs and the quarantine. Several routers may share one.
#[async_trait]
pub trait ShadowLog: Send + Sync {
    /// A run that is there already is left as it is.
    async fn append_shadow(&self, run: &ShadowRun) -> Result<()>;

    /// A page of comparisons, newest first: at most `limit` of those behind `after`.
    async fn shadow_runs(&self, filter: &ShadowFilter, after: Option<&ShadowKey>, limit: usize) -> Result<Vec<ShadowRun>>;

    /// Everything in quarantine, oldest first.
    async fn quarantine(&self) -> Result<Vec<Quarantined>>;

    /// One that is there already is left as it is.
    async fn add_quarantine(&self, entry: &Quarantined) -> Result<()>;

    /// Lifts a shape on one engine, or on all; the number of rows lifted.
    async fn lift_quarantine(&self, fingerprint: Fingerprint, engine: Option<&EngineId>) -> Result<u64>;
}

/// A database that keeps everything.
pub trait Store: LogStore + QueryHistory + ShadowLog + ModelStore {}

impl<T: LogStore + QueryHistory + ShadowLog + ModelStore> Store for T {}
