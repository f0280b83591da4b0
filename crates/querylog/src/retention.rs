//! Forgets records after their time: small batches with pauses between them, so that writers wait
//! for one short transaction at most. A database that is down is tried again at the next round.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flightpath_types::Result;

use crate::QueryHistory;

#[derive(Debug, Clone)]
pub struct RetentionConfig {
    /// Older queries are deleted.
    pub keep: Duration,
    /// Between two rounds.
    pub every: Duration,
    /// Queries per transaction.
    pub batch: usize,
    /// Between two transactions.
    pub pause: Duration,
}

impl RetentionConfig {
    pub fn new(keep: Duration) -> Self {
        Self { keep, every: Duration::from_secs(600), batch: 500, pause: Duration::from_millis(50) }
    }
}

/// Runs until it is dropped.
pub async fn keep_retention(history: Arc<dyn QueryHistory>, config: RetentionConfig) {
    let mut interval = tokio::time::interval(config.every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        match forget(history.as_ref(), &config, now_unix_ms()).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "records past their time were deleted from the query log"),
            Err(error) => tracing::warn!(%error, "records past their time can't be deleted from the query log"),
        }
    }
}

/// One round; the number of rows deleted.
pub async fn forget(history: &dyn QueryHistory, config: &RetentionConfig, now_unix_ms: i64) -> Result<u64> {
    let keep_ms = i64::try_from(config.keep.as_millis()).unwrap_or(i64::MAX);
    let before = now_unix_ms.saturating_sub(keep_ms);
    let mut deleted = 0;
    loop {
        let batch = history.delete_before(before, config.batch).await?;
        deleted += batch;
        if batch < config.batch as u64 {
            return Ok(deleted);
        }
        tokio::time::sleep(config.pause).await;
    }
}

fn now_unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
