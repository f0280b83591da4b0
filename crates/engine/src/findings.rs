//! What an engine tells of one run beside its rows: how much memory it took, how much it read, under
//! which name the run stands elsewhere, and whether it died under it. Telling is optional and never in the
//! way of the rows; what wasn't told is unknown, never zero.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Longer names are left out.
const STATEMENT_ID_BYTES_MAX: usize = 256;

/// One run's findings, written by its engine while it runs; complete once its stream has ended.
#[derive(Debug)]
pub struct Findings {
    /// One more than the peak, so that 0 is a peak that isn't known.
    memory: AtomicU64,
    /// One more than the sum, likewise.
    read: AtomicU64,
    statement_id: OnceLock<String>,
    died: AtomicBool,
    taken: AtomicBool,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            memory: AtomicU64::default(),
            read: AtomicU64::default(),
            statement_id: OnceLock::default(),
            died: AtomicBool::default(),
            taken: AtomicBool::new(true),
        }
    }
}

impl Findings {
    /// The query holds, or has held, this many bytes.
    pub fn memory(&self, bytes: u64) {
        self.memory.fetch_max(bytes.saturating_add(1), Ordering::Relaxed);
    }

    /// The most that it is known to have held, in bytes.
    pub fn memory_bytes_peak(&self) -> Option<u64> {
        self.memory.load(Ordering::Relaxed).checked_sub(1)
    }

    /// So many bytes more were read of tables' files, from disks or over the network. What a cache gave
    /// wasn't read.
    pub fn read(&self, bytes: u64) {
        let add = |sum: u64| Some(sum.max(1).saturating_add(bytes));
        let _ = self.read.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    pub fn read_bytes(&self) -> Option<u64> {
        self.read.load(Ordering::Relaxed).checked_sub(1)
    }

    /// A warehouse has named the statement; the first name stays.
    pub fn statement(&self, id: &str) {
        if !id.is_empty() && id.len() <= STATEMENT_ID_BYTES_MAX {
            let _ = self.statement_id.set(id.to_string());
        }
    }

    pub fn statement_id(&self) -> Option<&str> {
        self.statement_id.get().map(String::as_str)
    }

    /// The engine was lost while it worked on the query, which may be the query's own doing.
    pub fn died(&self) {
        self.died.store(true, Ordering::Release);
    }

    /// Whether the engine has the query, or may have: until then it costs nothing. An engine that takes what it's
    /// given says nothing of it.
    pub fn taken(&self) -> &AtomicBool {
        &self.taken
    }

    pub fn has_died(&self) -> bool {
        self.died.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_unknown_until_told_and_only_grows() {
        let findings = Findings::default();
        assert_eq!(findings.memory_bytes_peak(), None);
        findings.memory(0);
        assert_eq!(findings.memory_bytes_peak(), Some(0));
        findings.memory(9);
        findings.memory(4);
        assert_eq!(findings.memory_bytes_peak(), Some(9));
        findings.memory(u64::MAX);
        assert_eq!(findings.memory_bytes_peak(), Some(u64::MAX - 1));
    }

    #[test]
    fn what_is_read_adds_up_and_nothing_read_is_something_known() {
        let findings = Findings::default();
        assert_eq!(findings.read_bytes(), None);
        findings.read(0);
        assert_eq!(findings.read_bytes(), Some(0));
        findings.read(5);
        findings.read(7);
        assert_eq!(findings.read_bytes(), Some(12));
        findings.read(u64::MAX);
        assert_eq!(findings.read_bytes(), Some(u64::MAX - 1));
    }

    #[test]
    fn a_death_stays_known() {
        let findings = Findings::default();
        assert!(!findings.has_died());
        findings.died();
        assert!(findings.has_died());
    }

    #[test]
    fn the_first_name_stays() {
        let findings = Findings::default();
        findings.statement("");
        assert_eq!(findings.statement_id(), None);
        findings.statement("a");
        findings.statement("b");
        assert_eq!(findings.statement_id(), Some("a"));
    }
}
