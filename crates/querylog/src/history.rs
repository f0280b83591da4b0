//! Reading the record back by what people ask of it: a page at a time, one query, a day's savings.
//! Every answer is bounded, and a filter's principal is applied by the database, never after it.

use async_trait::async_trait;
use flightpath_types::{EngineId, Fingerprint, Outcome, QueryId, QueryRecord, Result};

/// Which queries. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistoryFilter {
    /// Whose; everybody's for `None`.
    pub principal: Option<String>,
    /// Began at this or later; milliseconds since the Unix epoch.
    pub from_unix_ms: Option<i64>,
    /// Began before this; milliseconds since the Unix epoch.
    pub until_unix_ms: Option<i64>,
    /// The engine that answered, or was last tried.
    pub engine: Option<EngineId>,
    pub fingerprint: Option<Fingerprint>,
    pub outcome: Option<Outcome>,
    pub tag: Option<String>,
}

/// Where a page ended: the next one holds what is older. Ids break ties between queries of one
/// millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageKey {
    pub started_unix_ms: i64,
    pub query_id: QueryId,
}

impl PageKey {
    pub fn of(record: &QueryRecord) -> Self {
        Self { started_unix_ms: record.started_unix_ms, query_id: record.query_id }
    }
}

/// One day's predicted money against a warehouse that had run everything.
#[derive(Debug, Clone, PartialEq)]
pub struct DaySavings {
    /// Days since the Unix epoch, UTC.
    pub day: i64,
    /// Queries that succeeded and whose price on Databricks was predicted too; the sums are over these.
    pub queries: u64,
    /// US dollars: what they turned out to cost where that is known, else as predicted.
    pub usd: f64,
    /// US dollars predicted for the same queries on Databricks.
    pub databricks_usd: f64,
}

/// A query that a Databricks warehouse ran, or was to run, and whose cost hasn't been checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreconciled {
    pub query_id: QueryId,
    /// Milliseconds since the Unix epoch.
    pub started_unix_ms: i64,
    pub result_bytes: u64,
    /// What the warehouse calls it, where it was told.
    pub statement_id: Option<String>,
}

/// What a query turned out to cost, by the warehouse's own history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    pub query_id: QueryId,
    /// US dollars; `None` where the history doesn't know the query: what was noted before stays.
    pub usd: Option<f64>,
    /// Milliseconds that the warehouse worked on it.
    pub warehouse_ms: Option<f64>,
}

/// The record as it is asked by consoles and services.
#[async_trait]
pub trait QueryHistory: Send + Sync {
    /// Newest first, from behind `after`, at most `limit`.
    async fn page(&self, filter: &HistoryFilter, after: Option<PageKey>, limit: usize) -> Result<Vec<QueryRecord>>;

    /// One query, if it is this principal's (anybody's, for `None`).
    async fn query(&self, query_id: QueryId, principal: Option<&str>) -> Result<Option<QueryRecord>>;

    /// Newest day first, at most `days_max`. Everybody's queries for `None`.
    async fn savings(&self, principal: Option<&str>, days_max: usize) -> Result<Vec<DaySavings>>;

    /// What each profile has spent on queries that began since then, in US dollars: what they cost,
    /// or were predicted to.
    async fn spending(&self, since_unix_ms: i64) -> Result<Vec<(String, f64)>>;

    /// Databricks' queries that began in this time and whose cost hasn't been checked yet, oldest
    /// first, at most `limit`.
    async fn unreconciled(&self, from_unix_ms: i64, until_unix_ms: i64, limit: usize) -> Result<Vec<Unreconciled>>;

    /// Notes what queries turned out to cost, and that this was checked now; ids that aren't known
    /// are passed over. The number that were noted.
    async fn record_costs(&self, costs: &[Cost]) -> Result<u64>;

    /// Deletes up to `limit` of the oldest queries that began before this, with all that belongs to
    /// them, and as many comparisons: one short transaction. The number of queries and comparisons
    /// deleted; fewer than `limit` means that none is left.
    async fn delete_before(&self, unix_ms: i64, limit: usize) -> Result<u64>;
}
