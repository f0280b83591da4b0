//! Stops calling a host that doesn't answer, and lets one call through from time to time to see.

use std::time::{Duration, Instant};

use flightpath_types::Error;
use parking_lot::Mutex;

use crate::error::{ApiError, Cause};

/// A call that was let through to see and that isn't answered in this time is joined by another: it may
/// hang until its own time is up, which is much longer.
const PROBE_AGAIN: Duration = Duration::from_secs(3);

/// Whether calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// They are, or the next one is, to see whether the host is back.
    Closed,
    /// Calls fail at once.
    Open,
}

pub(crate) struct Breaker {
    failures_max: u32,
    open_for: Duration,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    failures: u32,
    open_until: Option<Instant>,
    /// When the latest call was let through to see, while it lasts.
    probing: Option<Instant>,
}

impl Inner {
    /// Whether a call that comes now is made, if only to see whether the host is back.
    fn lets_through(&self, now: Instant) -> bool {
        let waited_for = |since: Instant| now.saturating_duration_since(since) < PROBE_AGAIN;
        match self.open_until {
            None => true,
            Some(until) => now >= until && !self.probing.is_some_and(waited_for),
        }
    }
}

/// A call let through. Dropped without a verdict (the caller gave up), it says nothing.
pub(crate) struct Admitted<'a> {
    breaker: &'a Breaker,
    /// Let through to see, and when.
    probe: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(failures_max: u32, open_for: Duration) -> Self {
        Self { failures_max: failures_max.max(1), open_for, inner: Mutex::default() }
    }

    pub(crate) fn admit(&self) -> Result<Admitted<'_>, ApiError> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Result<Admitted<'_>, ApiError> {
        let mut inner = self.inner.lock();
        if !inner.lets_through(now) {
            let error = Error::unavailable("Databricks hasn't answered lately and isn't asked for a moment");
            return Err(ApiError::new(error, Cause::NotSent { retry: false }));
        }
        let probe = inner.open_until.map(|_| now);
        inner.probing = probe.or(inner.probing);
        Ok(Admitted { breaker: self, probe })
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.state_at(Instant::now())
    }

    /// Once a probe is due it's no longer open to who asks, or nobody would ever come and probe.
    fn state_at(&self, now: Instant) -> BreakerState {
        match self.inner.lock().lets_through(now) {
            true => BreakerState::Closed,
            false => BreakerState::Open,
        }
    }
}

impl Admitted<'_> {
    /// The host answered, whatever it said.
    pub(crate) fn answered(self) {
        let mut inner = self.breaker.inner.lock();
        // An answer to a call made before the host went away says nothing about now.
        if inner.open_until.is_none() || self.probe.is_some() {
            inner.failures = 0;
            inner.open_until = None;
        }
    }

    /// The host didn't answer, or answered that it can't.
    pub(crate) fn failed(self) {
        let mut inner = self.breaker.inner.lock();
        inner.failures = inner.failures.saturating_add(1);
        let opens = match inner.open_until {
            // Another probe may have closed it meanwhile.
            None => inner.failures >= self.breaker.failures_max,
            Some(_) => self.probe.is_some(),
        };
        if opens {
            inner.open_until = Some(Instant::now() + self.breaker.open_for);
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.probe.is_some() {
            let mut inner = self.breaker.inner.lock();
            // Another one may be waited for by now.
            if inner.probing == self.probe {
                inner.probing = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_closes_by_a_probe() {
        let breaker = Breaker::new(2, Duration::ZERO);
        breaker.admit().unwrap().failed();
        breaker.admit().unwrap().answered();
        breaker.admit().unwrap().failed();
        assert!(breaker.inner.lock().open_until.is_none());
        breaker.admit().unwrap().failed();
        let now = Instant::now();
        let probe = breaker.admit_at(now).unwrap();
        assert!(breaker.admit_at(now).is_err(), "one probe at a time");
        probe.failed();
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().answered();
        assert!(breaker.inner.lock().open_until.is_none());
    }

    #[test]
    fn a_probe_that_hangs_is_joined_by_another_after_a_while() {
        let breaker = Breaker::new(2, Duration::ZERO);
        breaker.admit().unwrap().failed();
        breaker.admit().unwrap().failed();
        let now = Instant::now();
        assert_eq!(breaker.state_at(now), BreakerState::Closed, "a probe is due");
        let first = breaker.admit_at(now).unwrap();
        assert_eq!(breaker.state_at(now), BreakerState::Open, "any other call would fail at once");
        let later = now + PROBE_AGAIN;
        assert_eq!(breaker.state_at(later), BreakerState::Closed);
        let second = breaker.admit_at(later).unwrap();
        assert!(breaker.admit_at(later).is_err());
        // The first one's end leaves the second one to be waited for.
        drop(first);
        assert_eq!(breaker.state_at(later), BreakerState::Open);
        breaker.admit_at(later + PROBE_AGAIN).unwrap().answered();
        assert_eq!(breaker.state_at(later), BreakerState::Closed);
        // One that fails after all is a failure like any other.
        second.failed();
        assert_eq!(breaker.state_at(later), BreakerState::Closed);
    }

    #[test]
    fn open_fails_at_once() {
        let breaker = Breaker::new(1, Duration::from_secs(60));
        let late = breaker.admit().unwrap();
        breaker.admit().unwrap().failed();
        late.answered();
        assert!(breaker.admit().is_err());
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
