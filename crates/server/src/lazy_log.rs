//! A log database that may be down when the server starts: opened at the first use, and tried
//! again at the next. Meanwhile records wait in the spool.

use std::sync::Arc;

use async_trait::async_trait;
use flightpath_querylog::LogStore;
use flightpath_types::{CandidateRecord, QueryRecord, Result};
use tokio::sync::OnceCell;

pub(crate) struct LazyLog {
    url: String,
    store: OnceCell<Arc<dyn LogStore>>,
}

impl LazyLog {
    pub fn new(url: String) -> Self {
        Self { url, store: OnceCell::new() }
    }

    /// The open store; an attempt that fails is made again by the next caller.
    pub async fn store(&self) -> Result<&Arc<dyn LogStore>> {
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
