//! What this catalog is told; the server maps its settings to this.

use std::path::PathBuf;
use std::time::Duration;

use flightpath_catalog::{CloudConfig, Limits};

#[derive(Debug, Clone)]
pub struct Config {
    /// The catalogs of the metastore that are shown, `main`. Others don't exist here.
    pub catalogs: Vec<String>,
    /// How old an answer about access may be, from the moment it was asked for. Older ones keep a
    /// table in Databricks until they're renewed.
    pub access_lifetime: Duration,
    /// How long columns and sizes may be used while Unity Catalog doesn't answer.
    pub metadata_lifetime: Duration,
    /// How often the Delta logs of tables in use are looked at in the background.
    pub log_refresh_interval: Duration,
    /// Limit of one lookup, with all calls that it takes.
    pub call_timeout: Duration,
    /// A table that couldn't be asked about isn't asked about again sooner than this.
    pub retry_after: Duration,
    /// Pages of one listing; a longer one is an error, never cut short.
    pub pages_max: usize,
    /// Folders in which `file:///` locations are read, as a simulated Databricks names them. Empty:
    /// none are.
    pub local_roots: Vec<PathBuf>,
    /// How S3-compatible storage is reached.
    pub cloud: CloudConfig,
    /// Pairs of principal and table that are remembered.
    pub entries_max: u64,
    /// A pair that nobody asked for so long is forgotten.
    pub idle_max: Duration,
    /// The zone of TIMESTAMP partition values that were written without one.
    pub partition_time_zone: Option<chrono_tz::Tz>,
    pub limits: Limits,
}

impl Config {
    pub fn new(catalogs: Vec<String>) -> Self {
        Self {
            catalogs,
            access_lifetime: Duration::from_secs(300),
            metadata_lifetime: Duration::from_secs(1_800),
            log_refresh_interval: Duration::from_secs(5),
            call_timeout: Duration::from_secs(20),
            retry_after: Duration::from_secs(5),
            pages_max: 1_000,
            local_roots: Vec::new(),
            cloud: CloudConfig::default(),
            entries_max: 20_000,
            idle_max: Duration::from_secs(3_600),
            partition_time_zone: None,
            limits: Limits::default(),
        }
    }
}
