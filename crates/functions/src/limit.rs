//! How much one call may make of one batch of rows. An engine's memory pool sees what its operators
//! keep, and nothing of what `repeat` or `sequence` makes out of two small numbers: without a limit
//! here one statement takes all memory, and the process with it.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef};
use flightpath_types::{Error, ErrorKind, Result};

/// Bytes that one call may make of one batch, beside twice what its arguments hold.
pub const CALL_BYTES_MAX: usize = 256 << 20;
/// What's smaller is made without a look at the process.
const LOOK_BYTES: usize = 16 << 20;

/// What this process may hold in memory; 0: not told.
static PROCESS_BYTES_MAX: AtomicUsize = AtomicUsize::new(0);

/// From now on no large value is made that would bring this process above so many bytes.
pub fn set_process_bytes_max(bytes: usize) {
    PROCESS_BYTES_MAX.store(bytes, Ordering::Relaxed);
}

/// Before a value, or a column of values, of so many bytes is made.
pub(crate) fn allow(bytes: usize) -> Result<()> {
    if bytes > CALL_BYTES_MAX {
        return Err(too_large());
    }
    if bytes > LOOK_BYTES { look(bytes) } else { Ok(()) }
}

/// The bytes that a call has made so far.
#[derive(Debug, Default)]
pub(crate) struct Made {
    bytes: usize,
    looked_at: usize,
}

impl Made {
    /// Counts `bytes` more, made of `arguments`.
    pub fn add(&mut self, bytes: usize, arguments: impl Fn() -> usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes - self.looked_at <= LOOK_BYTES {
            return Ok(());
        }
        self.looked_at = self.bytes;
        if self.bytes > CALL_BYTES_MAX && self.bytes > arguments().saturating_mul(2).saturating_add(CALL_BYTES_MAX) {
            return Err(too_large());
        }
        // A builder doubles its buffer when it is full.
        look(self.bytes)
    }
}

/// Bytes that arrays hold.
pub(crate) fn bytes_of<'a>(arrays: impl Iterator<Item = &'a ArrayRef>) -> usize {
    arrays.map(|array| array.get_buffer_memory_size()).fold(0, usize::saturating_add)
}

fn look(bytes: usize) -> Result<()> {
    let most = PROCESS_BYTES_MAX.load(Ordering::Relaxed);
    if most > 0 && resident_bytes().is_some_and(|now| now.saturating_add(bytes) > most) {
        let message = "there is no memory left for the large values of an expression; try again later, or make smaller values";
        return Err(Error::new(ErrorKind::ResourceExhausted, message));
    }
    Ok(())
}

fn too_large() -> Error {
    let message = format!(
        "values of more than {} MB would be made of one batch of rows, as by `repeat` or `sequence`; make smaller values",
        CALL_BYTES_MAX >> 20
    );
    Error::classed(ErrorKind::ResourceExhausted, "VALUE_TOO_LARGE", "54000", message)
}

/// What this process holds, where the system tells.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<usize>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_arguments_may_give_large_results_and_small_ones_may_not() {
        let mut made = Made::default();
        let grown = (0..20).try_for_each(|_| made.add(LOOK_BYTES + 1, || 0));
        assert_eq!(grown.unwrap_err().kind(), ErrorKind::ResourceExhausted);
        let mut made = Made::default();
        (0..40).try_for_each(|_| made.add(LOOK_BYTES + 1, || 1 << 30)).unwrap();
        assert!(allow(CALL_BYTES_MAX).is_ok() && allow(CALL_BYTES_MAX + 1).is_err());
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
