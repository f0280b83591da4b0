//! The query log's ports and the spool between a query and its record. The log is never in a
//! query's way: a log database that is down or slow costs a query nothing, and a record that was
//! taken is on disk until the database has it.

#![forbid(unsafe_code)]

mod history;
mod models;
mod recorder;
mod retention;
mod shadow;
mod spool;

use async_trait::async_trait;
use flightpath_types::{CandidateRecord, QueryRecord, Result};

pub use history::{Baseline, Cost, DaySavings, HistoryFilter, PageKey, PageRequest, QueryHistory, RecordParts, Unreconciled};
pub use models::{KeptModel, MODEL_BYTES_MAX, ModelStore};
pub use recorder::{RecordObserver, Recorder, RecorderConfig, RecorderStats, drain_left};
pub use retention::{RetentionConfig, forget, keep_retention};
pub use shadow::{ShadowFilter, ShadowKey, ShadowLog, Store};
pub use spool::holds_records;

/// Where records end up.
#[async_trait]
pub trait LogStore: Send + Sync {
    /// Writes all or none. A record whose query id is there already is left as it is, so that
    /// records can be written again after a crash. `Unavailable` means: keep them and try again.
    async fn append(&self, records: &[QueryRecord]) -> Result<()>;

    /// This principal's (everybody's, for `None`), newest first, at most `limit`.
    async fn queries(&self, principal: Option<&str>, limit: usize) -> Result<Vec<QueryRecord>>;

    /// Candidates of the newest queries, newest query first, at most `limit` rows.
    async fn candidates(&self, limit: usize) -> Result<Vec<CandidateRecord>>;
}
