//! How many queries may be tried a second time: a share of all, so that a fleet in trouble isn't
//! given more work than it has. Pure: time comes from the caller.

use std::time::Instant;

/// Of every ten queries one may be tried again.
const SHARE: f64 = 0.1;
/// However few queries there are.
const PER_SECOND: f64 = 2.0;
/// What may be saved up: all that a dying worker leaves behind must find another at once.
const SAVED_MAX: f64 = 128.0;

#[derive(Debug)]
pub struct RetryBudget {
    tokens: f64,
    at: Instant,
}

impl RetryBudget {
    pub fn new(now: Instant) -> Self {
        Self { tokens: SAVED_MAX, at: now }
    }

    /// A query was given to a worker for the first time.
    pub fn first_try(&mut self) {
        self.tokens = (self.tokens + SHARE).min(SAVED_MAX);
    }

    /// Whether a query may be tried again.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * PER_SECOND).min(SAVED_MAX);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn once_savings_are_spent_a_tenth_of_the_queries_may_be_tried_again() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        assert_eq!((0..1000).filter(|_| budget.take(start)).count(), SAVED_MAX as usize);
        let retried = (0..10_000).filter(|_| {
            budget.first_try();
            budget.take(start)
        });
        let retried = retried.count();
        assert!((995..=1000).contains(&retried), "{retried}");
        assert!(budget.take(start + Duration::from_secs(1)), "time alone gives some back");
        let later = start + Duration::from_secs(86_400);
        assert_eq!((0..1000).filter(|_| budget.take(later)).count(), SAVED_MAX as usize, "savings are bounded");
    }
}
