//! The beginning of a result, kept back until there is enough of it. What is held hasn't left for
//! the client, so the engine's death, or its being too slow, can still be made good elsewhere: a
//! result that fits is never seen half.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use flightpath_engine::BatchStream;
use flightpath_types::Result;
use futures::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::size::batch_bytes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldConfig {
    /// Of one result, in bytes of Arrow data.
    pub bytes_max: usize,
    /// Of all results together; beyond it, results leave as they come.
    pub total_bytes_max: usize,
}

impl Default for HoldConfig {
    fn default() -> Self {
        Self { bytes_max: 32 << 20, total_bytes_max: 512 << 20 }
    }
}

/// Permits of the total are counted in this many bytes.
const UNIT_BYTES: usize = 1 << 10;

pub(crate) struct Holds {
    bytes_max: usize,
    total: Arc<Semaphore>,
}

/// A result from its first batch on.
pub(crate) struct Held {
    pub first: Option<RecordBatch>,
    pub rest: BatchStream,
    /// All of it is held: the engine has nothing to do with it any more.
    pub ended: bool,
}

impl Holds {
    pub fn new(config: HoldConfig) -> Self {
        Self {
            bytes_max: config.bytes_max,
            total: Arc::new(Semaphore::new((config.total_bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Reads until the result has ended, is as large as may be held, or nothing more may be held
    /// of all results together. At least one batch is waited for.
    pub async fn hold(&self, mut source: BatchStream) -> Result<Held> {
        let (mut held, mut bytes) = (Vec::new(), 0);
        let mut taken: Option<OwnedSemaphorePermit> = None;
        let mut ended = false;
        loop {
            let Some(batch) = source.next().await else {
                // A stream that has ended may not be polled again.
                source = stream::empty().boxed();
                ended = true;
                break;
            };
            let batch = batch?;
            // A batch takes something, if its rows don't.
            let size = batch_bytes(&batch).max(UNIT_BYTES);
            bytes += size;
            held.push(batch);
            if bytes >= self.bytes_max || !self.take(size, &mut taken) {
                break;
            }
        }
        let mut held = held.into_iter();
        let first = held.next();
        // The share of the total is given back when the held part has gone out.
        let held = stream::iter(held.map(move |batch| {
            let _kept = &taken;
            Ok(batch)
        }));
        Ok(Held { first, rest: held.chain(source).boxed(), ended })
    }

    fn take(&self, bytes: usize, taken: &mut Option<OwnedSemaphorePermit>) -> bool {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let Ok(more) = self.total.clone().try_acquire_many_owned(units) else { return false };
        match taken {
            Some(taken) => taken.merge(more),
            None => *taken = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use flightpath_types::Error;

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![7; rows]))]).unwrap()
    }

    fn source(batches: usize, end: Option<Error>) -> BatchStream {
        stream::iter((0..batches).map(|_| Ok(batch(1_000))).chain(end.map(Err))).boxed()
    }

    async fn rows(held: Held) -> usize {
        let rest: Vec<_> = held.rest.map(|b| b.unwrap().num_rows()).collect().await;
        held.first.map_or(0, |b| b.num_rows()) + rest.iter().sum::<usize>()
    }

    #[tokio::test]
    async fn an_error_within_the_held_part_is_an_error_before_the_first_batch() {
        let holds = Holds::new(HoldConfig { bytes_max: 1 << 20, total_bytes_max: 1 << 20 });
        assert!(holds.hold(source(3, Some(Error::unavailable("died")))).await.is_err());
        let whole = holds.hold(source(3, None)).await.unwrap();
        assert!(whole.ended);
        assert_eq!(rows(whole).await, 3_000);
        assert_eq!(holds.total.available_permits(), 1 << 10);
    }

    #[tokio::test]
    async fn a_larger_result_leaves_with_what_is_held_and_its_error_behind_it() {
        let holds = Holds::new(HoldConfig { bytes_max: 20_000, total_bytes_max: 1 << 20 });
        let held = holds.hold(source(5, Some(Error::unavailable("died")))).await.unwrap();
        assert!(!held.ended);
        let rest: Vec<_> = held.rest.collect().await;
        assert!(held.first.is_some() && rest.last().unwrap().is_err());
        assert_eq!(rest.len(), 5);
    }

    #[tokio::test]
    async fn all_results_together_are_bounded_and_the_share_comes_back() {
        let holds = Holds::new(HoldConfig { bytes_max: 1 << 20, total_bytes_max: 20 << 10 });
        let one = holds.hold(source(2, None)).await.unwrap();
        let other = holds.hold(source(50, None)).await.unwrap();
        assert!(holds.total.available_permits() < 8);
        assert_eq!(rows(one).await, 2_000);
        assert_eq!(rows(other).await, 50_000);
        assert_eq!(holds.total.available_permits(), 20);
    }
}
