//! Reading the record back by what people ask of it: a page at a time, one query, a day's savings.
//! Every answer is bounded, and a filter's principal is applied by the database, never after it.

use async_trait::async_trait;
use flightpath_types::{ComputePrice, EngineId, Fingerprint, Outcome, Pricing, QueryId, QueryRecord, Result};

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
    /// This one alone.
    pub query_id: Option<QueryId>,
}

/// What of a record is read that is large, or costs to take apart. The rest is read always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordParts {
    /// Else empty.
    pub text: bool,
    /// Else those of a query that reads nothing.
    pub features: bool,
    /// Else none.
    pub decision: bool,
}

impl RecordParts {
    pub const ALL: Self = Self { text: true, features: true, decision: true };
}

/// One page of records.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<'a> {
    pub filter: &'a HistoryFilter,
    /// Where the page before ended.
    pub after: Option<PageKey>,
    /// Else newest first.
    pub oldest_first: bool,
    pub parts: RecordParts,
    pub limit: usize,
}

/// Where a page ended: the next one holds what comes behind it. Ids break ties between queries of one
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

/// One warehouse that had run everything, as savings are counted against: it is paid from a query that
/// wakes it until nothing has come for its auto-stop, whatever runs in that time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baseline {
    pub usd_per_hour: f64,
    pub auto_stop_ms: f64,
    /// US dollars per GB read and sent.
    pub storage_usd_per_gb: f64,
    pub egress_usd_per_gb: f64,
}

impl Baseline {
    /// What one that never stops by itself is taken to stay up after its last query: somebody stops it.
    const TAIL_WITHOUT_AUTO_STOP_MS: f64 = 3_600_000.0;

    /// `None` for what isn't a warehouse, or has a price that isn't a number.
    pub fn of(pricing: &Pricing) -> Option<Self> {
        let ComputePrice::Warehouse { usd_per_hour, auto_stop_ms, .. } = &pricing.compute else { return None };
        let auto_stop_ms = auto_stop_ms.unwrap_or(Self::TAIL_WITHOUT_AUTO_STOP_MS);
        let (storage_usd_per_gb, egress_usd_per_gb) = (pricing.storage_usd_per_gb, pricing.egress_usd_per_gb);
        let sound = [*usd_per_hour, auto_stop_ms, storage_usd_per_gb, egress_usd_per_gb].iter().all(|v| v.is_finite() && *v >= 0.0);
        sound.then_some(Self { usd_per_hour: *usd_per_hour, auto_stop_ms, storage_usd_per_gb, egress_usd_per_gb })
    }

    /// US dollars for so much time up, and so many bytes.
    pub fn usd(&self, up_ms: f64, read_bytes: f64, sent_bytes: f64) -> f64 {
        up_ms / 3_600_000.0 * self.usd_per_hour + read_bytes / 1e9 * self.storage_usd_per_gb + sent_bytes / 1e9 * self.egress_usd_per_gb
    }
}

/// One day's money against a warehouse that had run everything.
#[derive(Debug, Clone, PartialEq)]
pub struct DaySavings {
    /// Days since the Unix epoch, UTC.
    pub day: i64,
    /// Queries that an engine answered and that Databricks could have; the sums are over these.
    pub queries: u64,
    /// US dollars: what they turned out to cost where that is known, else as predicted.
    pub usd: f64,
    /// US dollars for the time that these queries had woken the baseline's warehouse for, or had kept it up.
    pub databricks_usd: f64,
}

/// A query that a Databricks warehouse ran, or was to run, and whose cost hasn't been checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreconciled {
    pub query_id: QueryId,
    /// Milliseconds since the Unix epoch.
    pub started_unix_ms: i64,
    /// Read from tables, by the plan's estimate.
    pub scan_bytes: u64,
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
    /// Bytes that it read.
    pub read_bytes: Option<u64>,
}

/// The record as it is asked by consoles and services.
#[async_trait]
pub trait QueryHistory: Send + Sync {
    /// In the order of time, from behind `after`, at most `limit`.
    async fn read_page(&self, request: &PageRequest<'_>) -> Result<Vec<QueryRecord>>;

    /// Whole records, newest first.
    async fn page(&self, filter: &HistoryFilter, after: Option<PageKey>, limit: usize) -> Result<Vec<QueryRecord>> {
        self.read_page(&PageRequest { filter, after, oldest_first: false, parts: RecordParts::ALL, limit }).await
    }

    /// One query, if it is this principal's (anybody's, for `None`).
    async fn query(&self, query_id: QueryId, principal: Option<&str>) -> Result<Option<QueryRecord>>;

    /// By day (UTC) of the queries' beginnings, newest first, of queries that began since then.
    /// Everybody's for `None`. Everybody's queries keep the baseline's warehouse up: who comes while it
    /// is pays for the time added, whoever woke it.
    async fn savings(&self, principal: Option<&str>, since_unix_ms: i64, baseline: &Baseline) -> Result<Vec<DaySavings>>;

    /// What each profile has spent on queries that began on this day (since the Unix epoch, UTC), in US
    /// dollars: what they cost, or were predicted to. Costs the same however many there were.
    async fn spending(&self, day: i64) -> Result<Vec<(String, f64)>>;

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
