//! Keeps work away from a worker that fails, and tries it again with single queries. Pure: time
//! comes from the caller.

use std::time::{Duration, Instant};

/// Failures one after the other that open it.
const FAILURES_MAX: u32 = 3;
/// How long it stays open; doubles with each probe that fails.
const OPEN_MIN: Duration = Duration::from_secs(1);
const OPEN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Breaker {
    state: State,
    failures: u32,
    open_for: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Until then; after it one query may try.
    Open(Instant),
    /// That one runs.
    Probing,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, failures: 0, open_for: OPEN_MIN }
    }
}

impl Breaker {
    /// Whether a query may be given to the worker now.
    pub fn allows(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open(until) => now >= until,
            State::Probing => false,
        }
    }

    /// A query is given to the worker.
    pub fn begin(&mut self, now: Instant) {
        if matches!(self.state, State::Open(until) if now >= until) {
            self.state = State::Probing;
        }
    }

    /// The worker has answered a query.
    pub fn success(&mut self) {
        *self = Self::default();
    }

    /// The worker died, was silent, or couldn't be reached.
    pub fn failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Closed if self.failures < FAILURES_MAX => {}
            State::Closed => self.state = State::Open(now + self.open_for),
            State::Probing => {
                self.open_for = (self.open_for * 2).min(OPEN_MAX);
                self.state = State::Open(now + self.open_for);
            }
            // Of queries that had begun before it opened.
            State::Open(_) => {}
        }
    }

    /// A query ended without telling anything of the worker: its client left, say.
    pub fn undecided(&mut self, now: Instant) {
        if self.state == State::Probing {
            self.state = State::Open(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_good_probe() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES_MAX - 1 {
            breaker.failure(now);
        }
        breaker.success();
        for _ in 0..FAILURES_MAX {
            assert!(breaker.allows(now));
            breaker.begin(now);
            breaker.failure(now);
        }
        assert!(!breaker.allows(now));
        now += OPEN_MIN;
        assert!(breaker.allows(now));
        breaker.begin(now);
        assert!(!breaker.allows(now), "one probe at a time");
        breaker.failure(now);
        now += OPEN_MIN;
        assert!(!breaker.allows(now), "a probe that fails makes the pause longer");
        now += OPEN_MIN;
        breaker.begin(now);
        breaker.undecided(now);
        assert!(breaker.allows(now), "a probe that says nothing is tried again");
        breaker.begin(now);
        breaker.success();
        assert!(breaker.allows(now));
        breaker.failure(now);
        assert!(breaker.allows(now), "counting begins anew");
    }

    #[test]
    fn its_pauses_are_bounded() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            breaker.begin(now);
            breaker.failure(now);
            now += OPEN_MAX;
            assert!(breaker.allows(now));
        }
    }
}
