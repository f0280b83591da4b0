//! Memory limits: one over all queries, one for each.
//!
//! Inside a query the operators that can spill share its limit fairly, so that one sort doesn't
//! starve the other. Over all queries the first to ask is served: a query that finds the shared
//! limit reached spills, or fails with `ResourceExhausted`, while the others live on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use flightpath_engine::Findings;

/// Bytes reserved by all queries of the engine, against their common limit.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl SharedMemory {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicUsize::new(0) })
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: usize) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn shrink(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn try_grow(&self, bytes: usize) -> bool {
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes))
            .is_ok()
    }
}

/// The pool of one query.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    own: FairSpillPool,
    limit_bytes: usize,
    shared: Arc<SharedMemory>,
    /// Reserved now; the pool's own count is behind a lock.
    used_bytes: AtomicUsize,
    findings: Arc<Findings>,
}

impl QueryMemory {
    pub(crate) fn new(limit_bytes: usize, shared: Arc<SharedMemory>, findings: Arc<Findings>) -> Self {
        // A query whose operators reserve nothing needs next to nothing.
        findings.memory(0);
        Self { own: FairSpillPool::new(limit_bytes), limit_bytes, shared, used_bytes: AtomicUsize::new(0), findings }
    }

    fn grown(&self, bytes: usize) {
        let used = self.used_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.findings.memory(used as u64);
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query(limit: {} bytes)", self.limit_bytes)
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.shared.grow(additional);
        self.grown(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.shared.shrink(shrink);
        self.used_bytes.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        if self.shared.try_grow(additional) {
            self.grown(additional);
            return Ok(());
        }
        self.own.shrink(reservation, additional);
        Err(DataFusionError::ResourcesExhausted(format!(
            "{} more bytes for {} exceed the memory limit of {} bytes over all queries",
            additional,
            reservation.consumer().name(),
            self.shared.limit_bytes
        )))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_query_cannot_take_what_another_holds_and_gives_all_back() {
        let shared = SharedMemory::new(100);
        let findings = [Arc::<Findings>::default(), Arc::default()];
        let pool = |n: usize| Arc::new(QueryMemory::new(80, shared.clone(), findings[n].clone())) as Arc<dyn MemoryPool>;
        let (first, second) = (pool(0), pool(1));
        let held = MemoryConsumer::new("sort").register(&first);
        assert!(held.try_grow(81).is_err(), "more than its own limit");
        held.try_grow(70).unwrap();
        let wanted = MemoryConsumer::new("join").register(&second);
        assert!(matches!(wanted.try_grow(40), Err(DataFusionError::ResourcesExhausted(_))), "more than is left for all");
        assert_eq!((second.reserved(), shared.used_bytes()), (0, 70), "a refused reservation leaves no trace");
        let peaks = || findings.each_ref().map(|f| f.memory_bytes_peak());
        assert_eq!(peaks(), [Some(70), Some(0)]);
        wanted.try_grow(30).unwrap();
        drop(held);
        wanted.try_grow(40).unwrap();
        drop(wanted);
        assert_eq!(shared.used_bytes(), 0);
    }
}
