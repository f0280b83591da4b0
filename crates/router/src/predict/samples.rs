//! The latest values of one quantity, as logarithms, and their decayed quantiles.

use super::Z_95;

/// Kept of one quantity; older ones would hardly weigh.
pub(crate) const KEPT: usize = 16;
/// Weight of a value relative to the one after it.
const DECAY: f64 = 0.9;
/// What the spread is thought to be before there are values, and how many values that is worth.
const PRIOR_SD: f64 = 0.4;
const PRIOR_WEIGHT: f64 = 3.0;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Samples {
    /// Oldest first.
    values: Vec<f32>,
    /// Ever seen.
    pub seen: u32,
    median: f32,
    sd: f32,
}

impl Samples {
    /// `None` when a value isn't finite or there are too many.
    pub fn restore(values: &[f32], seen: u32) -> Option<Self> {
        let fit = values.len() <= KEPT && seen as usize >= values.len() && values.iter().all(|v| v.is_finite() && v.abs() < 100.0);
        fit.then(|| {
            let mut samples = Self { values: values.to_vec(), seen, ..Self::default() };
            samples.summarize();
            samples
        })
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn push(&mut self, ln_value: f64) {
        if self.values.len() == KEPT {
            self.values.remove(0);
        }
        self.values.push(ln_value as f32);
        self.seen = self.seen.saturating_add(1);
        self.summarize();
    }

    /// As if these had been there before what was seen here since there were `base`.
    pub fn rebase(&mut self, kept: &Self, base: u32) {
        let own = self.seen.saturating_sub(base);
        let newest = self.values.len().min(own as usize);
        let mut values = kept.values.clone();
        values.extend(self.values.split_off(self.values.len() - newest));
        self.values = values.split_off(values.len().saturating_sub(KEPT));
        self.seen = kept.seen.saturating_add(own);
        self.summarize();
    }

    /// Median, and standard deviation of the next value.
    pub fn summary(&self) -> (f64, f64) {
        (f64::from(self.median), f64::from(self.sd))
    }

    /// How far the 95th percentile lies above the median at `z`.
    pub fn reach(sd: f64, z: f64) -> f64 {
        sd * z.max(Z_95 / 2.0)
    }

    fn summarize(&mut self) {
        let newest = self.values.len().saturating_sub(1);
        let mut weighted: Vec<(f32, f64)> =
            self.values.iter().enumerate().map(|(age, value)| (*value, DECAY.powi((newest - age) as i32))).collect();
        weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        let mut below = 0.0;
        self.median = weighted
            .iter()
            .find(|(_, weight)| {
                below += weight;
                below >= total / 2.0
            })
            .map_or(0.0, |(value, _)| *value);
        let squares: f64 = weighted.iter().map(|(value, weight)| weight * f64::from(value - self.median).powi(2)).sum();
        let variance = (PRIOR_WEIGHT * PRIOR_SD * PRIOR_SD + squares) / (PRIOR_WEIGHT + total);
        // The median itself isn't known exactly.
        self.sd = (variance * (1.0 + 1.0 / total.max(1.0))).sqrt() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_follows_a_change_within_a_few_runs() {
        let mut samples = Samples::default();
        (0..50).for_each(|_| samples.push(1.0));
        assert_eq!(samples.summary().0, 1.0);
        (0..6).for_each(|_| samples.push(3.0));
        assert_eq!((samples.summary().0, samples.seen, samples.values().len()), (3.0, 56, KEPT));
    }

    #[test]
    fn one_outlier_doesnt_move_the_median_and_the_spread_narrows_with_agreement() {
        let mut samples = Samples::default();
        samples.push(2.0);
        let alone = samples.summary().1;
        (0..10).for_each(|_| samples.push(2.0));
        let many = samples.summary().1;
        assert!(many < alone / 1.5, "{alone} {many}");
        samples.push(9.0);
        assert_eq!(samples.summary().0, 2.0);
        assert!(samples.summary().1 > many);
    }

    #[test]
    fn damaged_values_arent_taken_back() {
        assert!(Samples::restore(&[1.0, f32::NAN], 2).is_none());
        assert!(Samples::restore(&[1.0; KEPT + 1], 99).is_none());
        assert!(Samples::restore(&[1.0, 2.0], 1).is_none());
        assert_eq!(Samples::restore(&[1.0, 1.0], 7).map(|s| (s.seen, s.summary().0)), Some((7, 1.0)));
    }
}
