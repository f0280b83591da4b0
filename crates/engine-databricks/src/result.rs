//! A result's chunks as one stream: fetched ahead of the reader within a bound of memory, handed
//! on in order, and never short without an error.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use arrow::record_batch::RecordBatch;
use flightpath_engine::BatchStream;
use flightpath_types::{Error, ErrorKind, Result};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use crate::chunk::Chunks;
use crate::config::Config;
use crate::conform::Shape;
use crate::decode::Expected;
use crate::wire::Manifest;

/// Memory shared by all results, in units that a semaphore can count.
pub(crate) struct SharedMemory {
    units: Arc<Semaphore>,
}

const UNIT_BYTES: u64 = 64 << 10;

impl SharedMemory {
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)) }
    }

    fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        self.units.clone().try_acquire_many_owned(units).ok()
    }
}

/// Checks a manifest and tells what each chunk must hold.
pub(crate) fn plan(manifest: &Manifest) -> Result<Vec<Expected>> {
    if manifest.truncated {
        let message = "Databricks cut the result off: it is larger than what the Statement Execution API hands out";
        return Err(Error::classed(ErrorKind::ResourceExhausted, "RESULT_TOO_LARGE", "54000", message));
    }
    let contradicts = |what: String| Error::unavailable(format!("Databricks' account of its result contradicts itself: {what}"));
    let (chunks, rows) = (manifest.total_chunk_count, manifest.total_row_count);
    let plan = match &manifest.chunks {
        Some(listed) => {
            let in_order = listed.iter().zip(0u64..).all(|(chunk, index)| chunk.chunk_index == index);
            if listed.len() as u64 != chunks || !in_order {
                return Err(contradicts(format!("{} chunks are listed, {chunks} announced", listed.len())));
            }
            listed.iter().map(|chunk| Expected { rows: chunk.row_count, bytes: chunk.byte_count }).collect()
        }
        None if chunks == 0 => Vec::new(),
        None if chunks == 1 => vec![Expected { rows, bytes: manifest.total_byte_count }],
        None => return Err(contradicts(format!("none of {chunks} chunks is listed"))),
    };
    let sum = plan.iter().try_fold(0u64, |sum, chunk: &Expected| sum.checked_add(chunk.rows));
    if sum != Some(rows) {
        return Err(contradicts(format!("its chunks don't add up to {rows} rows")));
    }
    Ok(plan)
}

struct Pending {
    task: AbortOnDropHandle<Result<Vec<RecordBatch>>>,
    held: Held,
}

/// Memory of one chunk.
struct Held {
    bytes: u64,
    /// Only of what is fetched ahead; the chunk that is read next is always let through.
    _shared: Option<OwnedSemaphorePermit>,
}

pub(crate) struct Reader {
    config: Arc<Config>,
    memory: Arc<SharedMemory>,
    chunks: Arc<Chunks>,
    plan: Vec<Expected>,
    /// A compressed chunk is held twice while it's being decompressed.
    copies: u64,
    shape: Shape,
    deadline: Option<Instant>,
    next_index: usize,
    held_bytes: u64,
    pending: VecDeque<Pending>,
    current: VecDeque<RecordBatch>,
    current_held: Option<Held>,
    rows_left: u64,
}

impl Reader {
    pub fn new(
        config: Arc<Config>,
        memory: Arc<SharedMemory>,
        chunks: Arc<Chunks>,
        manifest: &Manifest,
        shape: Shape,
        deadline: Option<Instant>,
    ) -> Result<Self> {
        let compressed = manifest.result_compression.as_deref().is_some_and(|how| how != "NONE");
        Ok(Self {
            config,
            memory,
            chunks,
            plan: plan(manifest)?,
            copies: if compressed { 2 } else { 1 },
            shape,
            deadline,
            next_index: 0,
            held_bytes: 0,
            pending: VecDeque::new(),
            current: VecDeque::new(),
            current_held: None,
            rows_left: manifest.total_row_count,
        })
    }

    /// The stream, which holds on to `owner` until it ends.
    pub fn into_stream<T: Send + 'static>(self, owner: T) -> BatchStream {
        let state = Some((self, owner));
        Box::pin(stream::unfold(state, |state| async move {
            let (mut reader, owner) = state?;
            match reader.next().await {
                Ok(Some(batch)) => Some((Ok(batch), Some((reader, owner)))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(deadline_passed());
            }
            if let Some(batch) = self.current.pop_front() {
                self.rows_left = self.rows_left.saturating_sub(batch.num_rows() as u64);
                if let Some(batch) = self.shape.apply(batch)? {
                    return Ok(Some(batch));
                }
                continue;
            }
            self.release();
            self.fetch_ahead();
            let Some(Pending { task, held }) = self.pending.pop_front() else { break };
            self.current_held = Some(held);
            let fetched = match self.deadline {
                None => task.await,
                Some(deadline) => tokio::time::timeout_at(deadline.into(), task).await.map_err(|_| deadline_passed())?,
            };
            self.current = fetched.map_err(|_| Error::internal("fetching a chunk of Databricks' result broke off"))??.into();
        }
        // Each chunk was checked against the manifest; this guards the adding up here.
        if self.rows_left > 0 {
            return Err(Error::internal(format!("{} rows of Databricks' result are missing", self.rows_left)));
        }
        Ok(None)
    }

    fn release(&mut self) {
        if let Some(held) = self.current_held.take() {
            self.held_bytes -= held.bytes;
        }
    }

    fn fetch_ahead(&mut self) {
        while self.next_index < self.plan.len() && self.pending.len() < self.config.downloads_max {
            let expected = self.plan[self.next_index];
            let bytes = expected.bytes.saturating_mul(self.copies);
            let mut shared = None;
            if !self.pending.is_empty() {
                if self.held_bytes.saturating_add(bytes) > self.config.query_memory_bytes_max {
                    return;
                }
                shared = self.memory.take(bytes);
                if shared.is_none() {
                    return;
                }
            }
            self.held_bytes = self.held_bytes.saturating_add(bytes);
            let task = tokio::spawn(self.chunks.clone().fetch(self.next_index as u64, expected));
            self.pending.push_back(Pending { task: AbortOnDropHandle::new(task), held: Held { bytes, _shared: shared } });
            self.next_index += 1;
        }
    }
}

pub(crate) fn deadline_passed() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before Databricks' result was complete")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ChunkInfo;

    fn manifest(rows: u64, chunks: &[u64]) -> Manifest {
        let listed = chunks.iter().zip(0..).map(|(rows, index)| ChunkInfo { chunk_index: index, row_count: *rows, byte_count: 8 * rows });
        Manifest { total_chunk_count: chunks.len() as u64, total_row_count: rows, chunks: Some(listed.collect()), ..Default::default() }
    }

    #[test]
    fn manifests_must_add_up() {
        assert_eq!(plan(&manifest(5, &[2, 3])).unwrap().len(), 2);
        assert!(plan(&manifest(6, &[2, 3])).is_err());
        assert!(plan(&Manifest { total_chunk_count: 3, ..manifest(5, &[2, 3]) }).is_err());
        assert!(plan(&Manifest { chunks: None, ..manifest(5, &[2, 3]) }).is_err());
        assert_eq!(plan(&Manifest { chunks: None, ..manifest(5, &[5]) }).unwrap()[0].rows, 5);
        assert!(plan(&Manifest::default()).unwrap().is_empty());
        assert!(plan(&manifest(3, &[])).is_err());
        let cut = plan(&Manifest { truncated: true, ..manifest(5, &[2, 3]) }).unwrap_err();
        assert_eq!((cut.kind(), cut.class()), (ErrorKind::ResourceExhausted, Some("RESULT_TOO_LARGE")));
    }
}
