//! Where comparisons between engines, and what follows from them, are kept.

use async_trait::async_trait;
use flightpath_types::{EngineId, Fingerprint, Quarantined, Result, ShadowRun};

use crate::{LogStore, ModelStore, QueryHistory};

/// Shadow runs and the quarantine. Several routers may share one.
#[async_trait]
pub trait ShadowLog: Send + Sync {
    /// A run that is there already is left as it is.
    async fn append_shadow(&self, run: &ShadowRun) -> Result<()>;

    /// This principal's (everybody's, for `None`), newest first, at most `limit`.
    async fn shadow_runs(&self, principal: Option<&str>, limit: usize) -> Result<Vec<ShadowRun>>;

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
