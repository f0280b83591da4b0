//! Fetches one chunk, again where that may help, until it is whole.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use flightpath_types::{Error, Result};

use crate::config::Config;
use crate::decode::{self, Expected};
use crate::download::Storage;
use crate::links::{Links, Source};

/// Longest wait that storage may ask for between two tries.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What all chunks of one result are fetched with.
pub(crate) struct Chunks {
    pub config: Arc<Config>,
    pub storage: Arc<Storage>,
    pub links: Links,
}

impl Chunks {
    pub async fn fetch(self: Arc<Self>, index: u64, expected: Expected) -> Result<Vec<RecordBatch>> {
        let mut tries = 1;
        loop {
            // A failed try always leads to a new link: an old one may be what was wrong.
            let (reason, wait) = match self.attempt(index, expected).await? {
                Ok(batches) => return Ok(batches),
                Err(failed) => failed,
            };
            if tries >= self.config.chunk_tries_max {
                let message = format!("chunk {index} of Databricks' result can't be read: {reason}; tried {tries} times");
                return Err(Error::unavailable(message));
            }
            let wait = wait.map_or_else(|| self.backoff(tries), |asked| asked.min(WAIT_MAX));
            tracing::debug!(chunk = index, reason, wait_ms = wait.as_millis() as u64, "a chunk is fetched again");
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    async fn attempt(&self, index: u64, expected: Expected) -> Result<Result<Vec<RecordBatch>, (String, Option<Duration>)>> {
        let (body, told_rows) = match self.links.take(index).await? {
            Source::Inline(body) => (body, None),
            Source::Link(link) => {
                let bytes_max = expected.bytes_max().max(usize::try_from(link.byte_count).unwrap_or(0));
                match self.storage.read(&link, bytes_max).await {
                    Ok(body) => (body, link.row_count),
                    Err(failed) => return Ok(Err((failed.reason, failed.wait))),
                }
            }
        };
        if let Some(told) = told_rows.filter(|told| *told != expected.rows) {
            return Ok(Err((format!("its link tells of {told} rows where {} were promised", expected.rows), None)));
        }
        // Decompression takes long enough to keep others waiting.
        let decoded = tokio::task::spawn_blocking(move || decode::batches(body, expected)).await;
        let decoded = decoded.map_err(|_| Error::internal("decoding a chunk of Databricks' result broke off"))?;
        Ok(decoded.map_err(|reason| (reason, None)))
    }

    fn backoff(&self, tries: u32) -> Duration {
        let doubled = self.config.chunk_backoff_min.saturating_mul(1u32.checked_shl(tries - 1).unwrap_or(u32::MAX));
        doubled.min(self.config.chunk_backoff_max).mul_f64(rand::random_range(0.5..=1.0))
    }
}
