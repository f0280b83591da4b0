//! A log database that may be down when the server starts: opened at the first use, and tried
//! again at the next. Meanwhile records wait in the spool.

use std::sync::Arc;

use async_trait::async_trait;
use flightpath_querylog::{LogStore, ShadowLog, Store};
use flightpath_types::{CandidateRecord, EngineId, Fingerprint, Quarantined, QueryRecord, Result, ShadowRun};
use tokio::sync::OnceCell;

pub(crate) struct LazyLog {
    url: String,
    store: OnceCell<Arc<dyn Store>>,
}

impl LazyLog {
    pub fn new(url: String) -> Self {
        Self { url, store: OnceCell::new() }
    }

    /// The open store; an attempt that fails is made again by the next caller.
    pub async fn store(&self) -> Result<&Arc<dyn Store>> {
        self.store.get_or_try_init(|| flightpath_log_store::open(&self.url)).await
    }
}

#[async_trait]
impl LogStore for LazyLog {
    async fn append(&self, records: &[QueryRecord]) -> Result<()> {
        // Whatever keeps the database from opening may heal; the records must outlast it.
        let store = self.store().await.map_err(|e| flightpath_types::Error::unavailable(e.to_string()))?;
        store.append(records).await
    }

    async fn queries(&self, principal: Option<&str>, limit: usize) -> Result<Vec<QueryRecord>> {
        self.store().await?.queries(principal, limit).await
    }

    async fn candidates(&self, limit: usize) -> Result<Vec<CandidateRecord>> {
        self.store().await?.candidates(limit).await
    }
}

#[async_trait]
impl ShadowLog for LazyLog {
    async fn append_shadow(&self, run: &ShadowRun) -> Result<()> {
        self.store().await?.append_shadow(run).await
    }

    async fn shadow_runs(&self, principal: Option<&str>, limit: usize) -> Result<Vec<ShadowRun>> {
        self.store().await?.shadow_runs(principal, limit).await
    }

    async fn quarantine(&self) -> Result<Vec<Quarantined>> {
        self.store().await?.quarantine().await
    }

    async fn add_quarantine(&self, entry: &Quarantined) -> Result<()> {
        self.store().await?.add_quarantine(entry).await
    }

    async fn lift_quarantine(&self, fingerprint: Fingerprint, engine: Option<&EngineId>) -> Result<u64> {
        self.store().await?.lift_quarantine(fingerprint, engine).await
    }
}
