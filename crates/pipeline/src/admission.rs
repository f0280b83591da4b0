//! How many queries an engine runs at once, how many wait, and for how long.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flightpath_types::{EngineId, Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Debug, Clone)]
pub struct AdmissionConfig {
    /// Queries waiting per engine; more are refused at once.
    pub queue_max: usize,
    /// Longest wait for a slot.
    pub wait_max: Duration,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self { queue_max: 256, wait_max: Duration::from_secs(60) }
    }
}

/// First come, first served, per engine.
pub(crate) struct Admission {
    gates: HashMap<EngineId, Gate>,
    config: AdmissionConfig,
}

struct Gate {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A slot; dropping it frees the slot.
pub(crate) struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// `slots`: queries at once, per engine.
    pub fn new(slots: impl IntoIterator<Item = (EngineId, u32)>, config: AdmissionConfig) -> Self {
        let gates = slots
            .into_iter()
            .map(|(id, slots)| (id, Gate { slots: Arc::new(Semaphore::new(slots.max(1) as usize)), waiting: AtomicUsize::new(0) }))
            .collect();
        Self { gates, config }
    }

    /// How many wait for each engine.
    pub fn waiting(&self) -> Vec<(EngineId, usize)> {
        self.gates.iter().map(|(id, gate)| (id.clone(), gate.waiting.load(Ordering::Relaxed))).collect()
    }

    pub async fn admit(&self, engine: &EngineId, deadline: Option<Instant>) -> Result<Permit> {
        let gate = self.gates.get(engine).ok_or_else(|| Error::internal(format!("engine `{engine}` has no slots")))?;
        if let Ok(permit) = gate.slots.clone().try_acquire_owned() {
            return Ok(Permit { _permit: permit });
        }
        let _waiting = Waiting::enter(&gate.waiting, self.config.queue_max).ok_or_else(|| {
            Error::new(
                ErrorKind::ResourceExhausted,
                format!("engine `{engine}` is busy and {} queries wait for it already; try again later", self.config.queue_max),
            )
        })?;
        let limit = Instant::now() + self.config.wait_max;
        let until = deadline.map_or(limit, |d| d.min(limit));
        match tokio::time::timeout_at(until.into(), gate.slots.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Permit { _permit: permit }),
            Ok(Err(_)) => Err(Error::unavailable("the server is shutting down")),
            Err(_) if deadline.is_some_and(|d| d <= limit) => {
                Err(Error::new(ErrorKind::DeadlineExceeded, format!("the deadline passed while the query waited for engine `{engine}`")))
            }
            Err(_) => Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("engine `{engine}` had no free slot for {} s", self.config.wait_max.as_secs()),
            )),
        }
    }
}

/// Counts one waiter for as long as it lives, however its wait ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        let entered = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1));
        entered.is_ok().then(|| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(queue_max: usize, wait_ms: u64) -> (Admission, EngineId) {
        let id = EngineId::new("e");
        let config = AdmissionConfig { queue_max, wait_max: Duration::from_millis(wait_ms) };
        (Admission::new([(id.clone(), 1)], config), id)
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_a_freed_slot_is_given_on() {
        let (admission, id) = admission(1, 60_000);
        let first = admission.admit(&id, None).await.unwrap();
        let admission = Arc::new(admission);
        let waiter = tokio::spawn({
            let (admission, id) = (admission.clone(), id.clone());
            async move { admission.admit(&id, None).await.map(|_| ()) }
        });
        while admission.gates[&id].waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        let refused = admission.admit(&id, None).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
        drop(first);
        waiter.await.unwrap().unwrap();
        assert_eq!(admission.gates[&id].waiting.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_deadline_or_the_limit() {
        let (admission, id) = admission(4, 5);
        let _held = admission.admit(&id, None).await.unwrap();
        assert_eq!(admission.admit(&id, None).await.err().unwrap().kind(), ErrorKind::ResourceExhausted);
        assert_eq!(admission.admit(&id, Some(Instant::now())).await.err().unwrap().kind(), ErrorKind::DeadlineExceeded);
    }
}
