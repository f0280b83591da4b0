//! Stops calling a host that doesn't answer, and lets one call through from time to time to see.

use std::time::{Duration, Instant};

use flightpath_types::Error;
use parking_lot::Mutex;

use crate::error::{ApiError, Cause};

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
    probing: bool,
}

/// A call let through. Dropped without a verdict (the caller gave up), it says nothing.
pub(crate) struct Admitted<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    pub(crate) fn new(failures_max: u32, open_for: Duration) -> Self {
        Self { failures_max: failures_max.max(1), open_for, inner: Mutex::default() }
    }

    pub(crate) fn admit(&self) -> Result<Admitted<'_>, ApiError> {
        let mut inner = self.inner.lock();
        let probe = match inner.open_until {
            None => false,
            Some(until) if Instant::now() >= until && !inner.probing => {
                inner.probing = true;
                true
            }
            Some(_) => {
                let error = Error::unavailable("Databricks hasn't answered lately and isn't asked for a moment");
                return Err(ApiError::new(error, Cause::NotSent { retry: false }));
            }
        };
        Ok(Admitted { breaker: self, probe })
    }

    pub(crate) fn state(&self) -> BreakerState {
        match self.inner.lock().open_until {
            // Once a probe is due it's no longer open to who asks, or nobody would ever come and probe.
            Some(until) if Instant::now() < until => BreakerState::Open,
            Some(_) | None => BreakerState::Closed,
        }
    }
}

impl Admitted<'_> {
    /// The host answered, whatever it said.
    pub(crate) fn answered(self) {
        let mut inner = self.breaker.inner.lock();
        // An answer to a call made before the host went away says nothing about now.
        if inner.open_until.is_none() || self.probe {
            inner.failures = 0;
            inner.open_until = None;
        }
    }

    /// The host didn't answer, or answered that it can't.
    pub(crate) fn failed(self) {
        let mut inner = self.breaker.inner.lock();
        inner.failures = inner.failures.saturating_add(1);
        if self.probe || (inner.open_until.is_none() && inner.failures >= self.breaker.failures_max) {
            inner.open_until = Some(Instant::now() + self.breaker.open_for);
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.inner.lock().probing = false;
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
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "one probe at a time");
        probe.failed();
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().answered();
        assert!(breaker.inner.lock().open_until.is_none());
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
