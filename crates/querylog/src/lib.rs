//! The query log's two ports and the queue between a query and its record. The log is never in a
//! query's way: a log database that is down or slow costs a query nothing, and what was
//! acknowledged is spooled to disk until the database takes it.

#![forbid(unsafe_code)]

use async_trait::async_trait;
use flightpath_types::{CandidateRecord, QueryRecord, Result};

/// Where records end up. Writing the same record twice leaves it there once.
#[async_trait]
pub trait LogStore: Send + Sync {
    /// Writes all or none. `Unavailable` means: keep them and try again.
    async fn append(&self, records: &[QueryRecord]) -> Result<()>;

    /// Newest first, at most `limit`.
    async fn queries(&self, limit: usize) -> Result<Vec<QueryRecord>>;

    /// Candidates of the newest queries, at most `limit` rows.
    async fn candidates(&self, limit: usize) -> Result<Vec<CandidateRecord>>;
}
