//! One chunk's body as batches, whole or not at all.

use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use crate::lz4;

/// What a chunk must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub rows: u64,
    pub bytes: u64,
}

/// A body may be larger than the manifest says by this much: it's a count of something else.
const BYTES_FACTOR_MAX: u64 = 4;
const BYTES_SLACK: u64 = 64 << 20;

impl Expected {
    pub fn bytes_max(&self) -> usize {
        usize::try_from(self.bytes.saturating_mul(BYTES_FACTOR_MAX).saturating_add(BYTES_SLACK)).unwrap_or(usize::MAX - 1)
    }
}

/// The batches, or what is wrong with the body.
pub(crate) fn batches(body: Bytes, expected: Expected) -> Result<Vec<RecordBatch>, String> {
    let mut buffer = if lz4::is_lz4(&body) {
        let expected_bytes = usize::try_from(expected.bytes).unwrap_or(0);
        Buffer::from(lz4::decompress(&body, expected_bytes, expected.bytes_max())?)
    } else {
        Buffer::from(body)
    };
    let broken = |e| format!("its Arrow stream is broken: {e}");
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    while !buffer.is_empty() {
        if let Some(batch) = decoder.decode(&mut buffer).map_err(broken)? {
            batches.push(batch);
        }
    }
    decoder.finish().map_err(broken)?;
    let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    if rows != expected.rows {
        return Err(format!("it has {rows} rows where {} were promised", expected.rows));
    }
    batches.retain(|batch| batch.num_rows() > 0);
    Ok(batches)
}
