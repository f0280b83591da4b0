//! Keeps work away from a worker that fails, and tries it again with single queries. Pure: time
//! comes from the caller.

use std::time::{Duration, Instant};

/// Failures one after the other that open it.
const FAILURES_MAX: u32 = 3;
/// How long it stays open; doubles with each probe that fails.
const OPEN_MIN: Duration = Duration::from_secs(1);
const OPEN_MAX: Duration = Duration::from_secs(30);
/// A probe that hasn't ended after this long says nothing yet, and another may try.
const PROBE_MAX: Duration = Duration::from_secs(2);

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
    /// That one runs since then.
    Probing(Instant),
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
            State::Probing(since) => now.saturating_duration_since(since) >= PROBE_MAX,
        }
    }

    /// A query is given to the worker.
    pub fn begin(&mut self, now: Instant) {
        if self.state != State::Closed && self.allows(now) {
            self.state = State::Probing(now);
        }
    }

    /// The worker has answered a query to its end.
    pub fn success(&mut self) {
        *self = Self::default();
    }

    /// The worker died, was silent, couldn't be reached, cut an answer short, or can't read what others can.
    pub fn failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Closed if self.failures < FAILURES_MAX => {}
            State::Closed => self.state = State::Open(now + self.open_for),
            State::Probing(_) => {
                self.open_for = (self.open_for * 2).min(OPEN_MAX);
                self.state = State::Open(now + self.open_for);
            }
            // Of queries that had begun before it opened.
            State::Open(_) => {}
        }
    }

    /// A query ended without telling anything of the worker: its client left, say.
    pub fn undecided(&mut self, now: Instant) {
        if matches!(self.state, State::Probing(_)) {
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
    fn a_probe_that_takes_long_keeps_no_other_away() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            breaker.failure(now);
        }
        now += OPEN_MIN;
        for _ in 0..10 {
            assert!(breaker.allows(now));
            breaker.begin(now);
            assert!(!breaker.allows(now + PROBE_MAX - Duration::from_millis(1)), "one within that time");
            now += PROBE_MAX;
        }
        breaker.failure(now);
        assert!(!breaker.allows(now + OPEN_MIN));
        // The others fail as it did, and are the same failure.
        breaker.failure(now + OPEN_MIN);
        assert!(breaker.allows(now + OPEN_MIN * 2));
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
