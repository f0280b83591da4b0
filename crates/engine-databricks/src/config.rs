//! The engine's settings. Sizes in bytes.

use std::sync::Arc;
use std::time::Duration;

use flightpath_databricks::{Client, Identity};
use flightpath_types::{EngineId, Error, Result};

#[derive(Debug, Clone)]
pub struct Config {
    pub id: EngineId,
    pub warehouse_id: String,
    /// The zone that the warehouse's sessions are in; a statement can't set it, so that sessions in
    /// other zones are refused.
    pub time_zone: String,
    /// Whether small results are asked for within the answer. Given up when Databricks refuses.
    pub inline_results: bool,
    /// Whether chunks are asked for compressed. Given up when Databricks refuses.
    pub compressed_results: bool,
    /// How long Databricks is asked to hold the answer back for a statement to end: 0, or 5 to 50 s.
    /// A statement that is cancelled earlier is stopped only when that answer has come.
    pub wait: Duration,
    pub poll_min: Duration,
    pub poll_max: Duration,
    /// Past the deadline, how long the answer to an execution is waited for, so as to cancel it.
    pub answer_grace: Duration,
    /// Chunks held ahead of one reader, after decompression. One chunk is always held.
    pub query_memory_bytes_max: u64,
    /// The same over all queries together.
    pub memory_bytes_max: u64,
    /// Chunks of one result fetched at once.
    pub downloads_max: usize,
    pub chunk_tries_max: u32,
    pub chunk_backoff_min: Duration,
    pub chunk_backoff_max: Duration,
    pub storage_connect_timeout: Duration,
    /// Longest silence of a storage endpoint.
    pub storage_read_timeout: Duration,
    /// A link that expires sooner is asked for anew.
    pub link_renew_before: Duration,
    /// How long a cancelled statement is watched until it has ended.
    pub cancel_wait_max: Duration,
    /// A cancel that shows no effect is sent again.
    pub cancel_again: Duration,
    pub shutdown_wait_max: Duration,
    pub monitor: MonitorConfig,
    pub prices: Prices,
}

/// How the warehouse is watched.
#[derive(Debug, Clone)]
pub struct MonitorConfig {
    pub state_every: Duration,
    /// The query history allows ten calls a second over a whole account.
    pub queue_every: Duration,
}

/// What time and money a warehouse takes.
#[derive(Debug, Clone)]
pub struct Prices {
    /// US dollars for one DBU; the list price of the warehouse's kind when not set.
    pub usd_per_dbu: Option<f64>,
    /// A query that does nothing on a warehouse that is up, in milliseconds.
    pub warm_ms: f64,
    pub start_serverless_ms: f64,
    pub start_classic_ms: f64,
    /// What each query ahead in the queue adds, divided by the places, in milliseconds.
    pub queued_query_ms: f64,
    /// Bytes of Parquet that one core scans in a second; a prior.
    pub scan_bytes_per_second_per_core: f64,
}

/// What the monitor calls with: an identity that may see the warehouse, which needn't be a user's.
#[derive(Clone)]
pub struct MonitorAccess {
    pub client: Arc<Client>,
    pub identity: Identity,
}

impl Config {
    pub fn new(warehouse_id: impl Into<String>) -> Self {
        Self {
            id: EngineId::new("databricks"),
            warehouse_id: warehouse_id.into(),
            time_zone: "UTC".into(),
            inline_results: true,
            compressed_results: true,
            wait: Duration::from_secs(5),
            poll_min: Duration::from_millis(200),
            poll_max: Duration::from_secs(1),
            answer_grace: Duration::from_secs(60),
            query_memory_bytes_max: 128 << 20,
            memory_bytes_max: 1 << 30,
            downloads_max: 8,
            chunk_tries_max: 5,
            chunk_backoff_min: Duration::from_millis(200),
            chunk_backoff_max: Duration::from_secs(10),
            storage_connect_timeout: Duration::from_secs(10),
            storage_read_timeout: Duration::from_secs(30),
            link_renew_before: Duration::from_secs(60),
            cancel_wait_max: Duration::from_secs(120),
            cancel_again: Duration::from_secs(5),
            shutdown_wait_max: Duration::from_secs(30),
            monitor: MonitorConfig { state_every: Duration::from_secs(10), queue_every: Duration::from_secs(15) },
            prices: Prices::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wait_seconds = self.wait.as_secs();
        let mistake = if self.warehouse_id.trim().is_empty() {
            "needs the id of a warehouse"
        } else if self.wait.subsec_nanos() != 0 || !(wait_seconds == 0 || (5..=50).contains(&wait_seconds)) {
            "can wait 0 or 5 to 50 whole seconds for a statement"
        } else if self.poll_min.is_zero() || self.poll_max < self.poll_min || self.cancel_again.is_zero() {
            "needs pauses between polls, the longest no shorter than the first"
        } else if self.downloads_max == 0 || self.chunk_tries_max == 0 {
            "needs at least one download and one try"
        } else if self.monitor.state_every.is_zero() || self.monitor.queue_every.is_zero() {
            "can't watch its warehouse without a pause"
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("engine {} {mistake}", self.id)))
    }
}

impl Default for Prices {
    fn default() -> Self {
        Self {
            usd_per_dbu: None,
            // The fastest query of public benchmarks takes 0.216 s on any size.
            warm_ms: 250.0,
            start_serverless_ms: 4_000.0,
            start_classic_ms: 240_000.0,
            queued_query_ms: 2_000.0,
            scan_bytes_per_second_per_core: 150e6,
        }
    }
}
