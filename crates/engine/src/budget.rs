//! How many tries beyond the first there may be: a share of all queries, so that what is in trouble
//! isn't given more work than it has. Pure: time comes from the caller.

use std::time::Instant;

/// What a [`RetryBudget`] grows by, and how far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryRates {
    /// Tries that each query adds, 0 to 1.
    pub share: f64,
    /// Tries that each second adds, however few queries there are.
    pub per_second: f64,
    /// Tries that may be saved up; there are so many at the beginning.
    pub saved_max: f64,
}

#[derive(Debug)]
pub struct RetryBudget {
    rates: RetryRates,
    saved: f64,
    at: Instant,
}

impl RetryBudget {
    pub fn new(rates: RetryRates, now: Instant) -> Self {
        Self { rates, saved: rates.saved_max, at: now }
    }

    /// New rates; what was saved stays, up to the new bound.
    pub fn configure(&mut self, rates: RetryRates) {
        self.rates = rates;
        self.saved = self.saved.min(rates.saved_max);
    }

    /// A query is tried for the first time.
    pub fn first_try(&mut self) {
        self.saved = (self.saved + self.rates.share).min(self.rates.saved_max);
    }

    /// Whether a query may be tried again.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.saved = (self.saved + passed * self.rates.per_second).min(self.rates.saved_max);
        if self.saved < 1.0 {
            return false;
        }
        self.saved -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATES: RetryRates = RetryRates { share: 0.1, per_second: 2.0, saved_max: 128.0 };

    #[test]
    fn once_savings_are_spent_a_tenth_of_the_queries_may_be_tried_again() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(RATES, start);
        assert_eq!((0..1000).filter(|_| budget.take(start)).count(), 128);
        let retried = (0..10_000).filter(|_| {
            budget.first_try();
            budget.take(start)
        });
        let retried = retried.count();
        assert!((995..=1000).contains(&retried), "{retried}");
        assert!(budget.take(start + Duration::from_secs(1)), "time alone gives some back");
        let later = start + Duration::from_secs(86_400);
        assert_eq!((0..1000).filter(|_| budget.take(later)).count(), 128, "savings are bounded");
    }

    #[test]
    fn new_rates_hold_from_now_on() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(RATES, start);
        budget.configure(RetryRates { share: 0.0, per_second: 0.0, saved_max: 2.0 });
        budget.first_try();
        let later = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| budget.take(later)).count(), 2);
    }
}
