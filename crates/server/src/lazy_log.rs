//! A log database that may be down when the server starts: opened at the first use, and tried
//! again at the next. Meanwhile records wait in the spool.

use std::sync::Arc;

use async_trait::async_trait;
use flightpath_querylog::{
    Baseline, Cost, DaySavings, KeptModel, LogStore, ModelStore, PageRequest, QueryHistory, ShadowFilter, ShadowKey, ShadowLog, Store,
    Unreconciled,
};
use flightpath_types::{CandidateRecord, EngineId, Fingerprint, Quarantined, QueryId, QueryRecord, Result, ShadowRun};
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
impl QueryHistory for LazyLog {
    async fn read_page(&self, request: &PageRequest<'_>) -> Result<Vec<QueryRecord>> {
        self.store().await?.read_page(request).await
    }

    async fn query(&self, query_id: QueryId, principal: Option<&str>) -> Result<Option<QueryRecord>> {
        self.store().await?.query(query_id, principal).await
    }

    async fn savings(&self, principal: Option<&str>, since_unix_ms: i64, baseline: &Baseline) -> Result<Vec<DaySavings>> {
        self.store().await?.savings(principal, since_unix_ms, baseline).await
    }

    async fn spending(&self, day: i64) -> Result<Vec<(String, f64)>> {
        self.store().await?.spending(day).await
    }

    async fn unreconciled(&self, from_unix_ms: i64, until_unix_ms: i64, limit: usize) -> Result<Vec<Unreconciled>> {
        self.store().await?.unreconciled(from_unix_ms, until_unix_ms, limit).await
    }

    async fn record_costs(&self, costs: &[Cost]) -> Result<u64> {
        self.store().await?.record_costs(costs).await
    }

    async fn delete_before(&self, unix_ms: i64, limit: usize) -> Result<u64> {
        self.store().await?.delete_before(unix_ms, limit).await
    }
}

#[async_trait]
impl ModelStore for LazyLog {
    async fn load(&self, name: &str) -> Result<Option<KeptModel>> {
        self.store().await?.load(name).await
    }

    async fn revision(&self, name: &str) -> Result<Option<u64>> {
        self.store().await?.revision(name).await
    }

    async fn save(&self, name: &str, contents: &[u8], replaces: Option<u64>) -> Result<Option<u64>> {
        self.store().await?.save(name, contents, replaces).await
    }
}

#[async_trait]
impl ShadowLog for LazyLog {
    async fn append_shadow(&self, run: &ShadowRun) -> Result<()> {
        self.store().await?.append_shadow(run).await
    }

    async fn shadow_runs(&self, filter: &ShadowFilter, after: Option<&ShadowKey>, limit: usize) -> Result<Vec<ShadowRun>> {
        self.store().await?.shadow_runs(filter, after, limit).await
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
