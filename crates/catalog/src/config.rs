//! What a local catalog is told; the server maps its settings to this.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Config {
    /// The catalog's name, `lake`.
    pub catalog: String,
    /// Folders of tables, as `serve --data` takes them.
    pub data: Vec<PathBuf>,
    /// How often folders and logs are looked at in the background.
    pub refresh_interval: Duration,
    /// The zone that TIMESTAMP partition values without one were written in. Delta doesn't record
    /// it, so without this such tables are refused.
    pub partition_time_zone: Option<chrono_tz::Tz>,
    /// Tables read ahead of their first query, at most.
    pub preload_tables_max: usize,
    pub limits: Limits,
}

impl Config {
    pub fn new(data: Vec<PathBuf>) -> Self {
        Self {
            catalog: "lake".into(),
            data,
            refresh_interval: Duration::from_secs(1),
            partition_time_zone: None,
            preload_tables_max: 200,
            limits: Limits::default(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Data files in one snapshot.
    pub files_max: usize,
    /// Files times columns whose statistics one snapshot keeps; row counts are always kept.
    pub stats_columns_max: usize,
    /// Bytes of commits and checkpoints behind one snapshot.
    pub log_bytes_max: u64,
    /// Rows in all deletion vectors of one snapshot.
    pub deleted_rows_max: u64,
    /// Tables read from disk at once.
    pub loads_max: usize,
    /// Old versions of one table kept for time travel.
    pub versions_kept: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files_max: 500_000,
            stats_columns_max: 500_000,
            log_bytes_max: 4 << 30,
            deleted_rows_max: 50_000_000,
            loads_max: 4,
            versions_kept: 8,
        }
    }
}
