//! Bayesian linear regression, online: sums of what was seen, forgotten slowly, a normal prior on
//! the weights and an inverse-gamma prior on the noise. Each update solves it exactly by Cholesky,
//! so that nothing drifts; each prediction comes with the uncertainty of its place
//! (Bishop, "Pattern Recognition and Machine Learning", 3.3).

use super::Z_95;
use super::snapshot::RegressionState;
use super::vector::{SIZE, Vector};
use crate::number::clamped;

/// Entries of a lower triangle.
const TRIANGLE: usize = SIZE * (SIZE + 1) / 2;
/// How much of the past is kept at each full observation: half of it after some 1,400.
const KEEP: f64 = 0.9995;
/// Precision of the weights' prior, relative to the noise: the prior's level and its slope by bytes
/// may well be off, most else matters little until shown.
const fn ridge(index: usize) -> f64 {
    match index {
        0 => 0.1,
        1 => 1.0,
        _ => 6.0,
    }
}
/// The noise's prior: a standard deviation of 0.6, worth four observations.
const NOISE_SHAPE: f64 = 2.0;
const NOISE_SCALE: f64 = NOISE_SHAPE * 0.36;
/// An observation farther off than this many deviations counts as if it stood there.
const OUTLIER_SD: f64 = 4.0;
/// Added standard deviation per unit beyond what was seen.
const BEYOND_SD: f64 = 0.5;
/// What one observation may change at most where it was made, as a logarithm: elsewhere that is no more
/// than twofold. One run is as likely a query on a cold cache, or an odd one, as news of the engine; when
/// the next ones say the same, it's learned.
const STEP_MAX: f64 = 0.57;
/// A correction of the prior beyond a factor of 150 isn't believed.
const MEAN_MAX: f64 = 5.0;
const SD_MAX: f64 = 2.0;

#[derive(Debug, Clone)]
pub(crate) struct Regression {
    /// Sum of x x', lower triangle by rows.
    xx: Vec<f64>,
    xy: Vector,
    yy: f64,
    /// Sum of the weights, forgotten along.
    weight: f64,
    pub seen: u32,
    /// Sum of the weights that were learned here, forgotten or not: how much of what was there before is
    /// forgotten since follows from it.
    learned: f64,
    /// What each number was seen to be: beyond it nothing is known, and nothing is extrapolated.
    low: Vector,
    high: Vector,
    /// How many standard deviations above the mean 95 of 100 observations are found to lie.
    z: f64,
    /// Cholesky factor of xx + ridge, solution and noise that follow from the above.
    factor: Vec<f64>,
    solution: Vector,
    noise: f64,
}

impl Default for Regression {
    fn default() -> Self {
        let mut empty = Self {
            xx: vec![0.0; TRIANGLE],
            xy: [0.0; SIZE],
            yy: 0.0,
            weight: 0.0,
            seen: 0,
            learned: 0.0,
            low: [0.0; SIZE],
            high: [0.0; SIZE],
            z: Z_95,
            factor: vec![0.0; TRIANGLE],
            solution: [0.0; SIZE],
            noise: 0.0,
        };
        empty.solve();
        empty
    }
}

/// What is thought of one place, among those that were seen.
struct Place {
    mean: f64,
    sd: f64,
    /// Without what lies beyond what was seen.
    known_sd: f64,
    /// Variance of the mean, relative to the noise.
    leverage: f64,
}

/// Where a row of a lower triangle begins.
const fn row(index: usize) -> usize {
    index * (index + 1) / 2
}

impl Regression {
    /// Mean, and how far above it the 95th percentile lies: for lying beyond what was seen, no farther than `reach_max`.
    pub fn predict(&self, x: &Vector, reach_max: f64) -> (f64, f64) {
        let Place { mean, sd, known_sd, .. } = self.at(x);
        // As much as this many observations may have changed.
        let believed = self.weight * STEP_MAX;
        (clamped(mean, -believed, believed), (sd * self.z).min(reach_max).max(known_sd * self.z))
    }

    fn at(&self, x: &Vector) -> Place {
        let (x, beyond) = self.within(x);
        let x = &x;
        let mean: f64 = self.solution.iter().zip(x).map(|(w, x)| w * x).sum();
        let solved = self.forward(x);
        let leverage: f64 = solved.iter().map(|v| v * v).sum();
        let known_sd = (self.noise * (1.0 + leverage)).sqrt();
        let sd = |sd| clamped(sd, 0.05, SD_MAX);
        Place { mean: clamped(mean, -MEAN_MAX, MEAN_MAX), sd: sd(known_sd + BEYOND_SD * beyond), known_sd: sd(known_sd), leverage }
    }

    /// The nearest place that was seen, and how far off it is.
    fn within(&self, x: &Vector) -> (Vector, f64) {
        let (mut nearest, mut beyond) = (*x, 0.0f64);
        for i in 0..SIZE {
            nearest[i] = clamped(x[i], self.low[i], self.high[i]);
            beyond = beyond.max((x[i] - nearest[i]).abs());
        }
        (nearest, clamped(beyond, 0.0, SD_MAX))
    }

    /// `weight` between 0 and 1: what was seen often before says little new.
    pub fn learn(&mut self, x: &Vector, y: f64, weight: f64, calibrate: bool) {
        if !y.is_finite() || x.iter().any(|v| !v.is_finite()) {
            return;
        }
        let Place { mean, sd, .. } = self.at(x);
        if calibrate && self.seen > 0 {
            self.z = calibrated(self.z, y > mean + sd * self.z);
        }
        let weight = clamped(weight, 0.0, 1.0);
        for (i, x) in x.iter().enumerate() {
            (self.low[i], self.high[i]) = match self.seen {
                0 => (*x, *x),
                _ => (self.low[i].min(*x), self.high[i].max(*x)),
            };
        }
        // Where it counts: now it's within what was seen.
        let Place { mean, sd, leverage, .. } = self.at(x);
        let drawn = weight * leverage;
        let off = (OUTLIER_SD * sd).min(STEP_MAX * (1.0 + drawn) / drawn.max(1e-9));
        let y = y.clamp(mean - off, mean + off);
        let keep = KEEP.powf(weight);
        for i in 0..SIZE {
            let at = row(i);
            for j in 0..=i {
                self.xx[at + j] = self.xx[at + j] * keep + weight * x[i] * x[j];
            }
            self.xy[i] = self.xy[i] * keep + weight * x[i] * y;
        }
        self.yy = self.yy * keep + weight * y * y;
        self.weight = self.weight * keep + weight;
        self.learned += weight;
        self.seen = self.seen.saturating_add(1);
        self.solve();
    }

    /// As if `kept`, and not `base`, were what had been there before all that was learned here since `base`.
    /// Afterwards [`Regression::as_base`] of `kept` is the base.
    pub fn rebase(&mut self, kept: &Self, base: &Self) {
        let own = self.seen.saturating_sub(base.seen);
        let others = kept.seen.saturating_sub(base.seen);
        if own == 0 {
            let learned = self.learned;
            *self = Self { learned, ..kept.clone() };
            return;
        }
        let left = KEEP.powf((self.learned - base.learned).max(0.0));
        let change = |own: &mut [f64], kept: &[f64], base: &[f64]| {
            own.iter_mut().zip(kept.iter().zip(base)).for_each(|(own, (kept, base))| *own += (kept - base) * left);
        };
        change(&mut self.xx, &kept.xx, &base.xx);
        change(&mut self.xy, &kept.xy, &base.xy);
        self.yy = (self.yy + (kept.yy - base.yy) * left).max(0.0);
        self.weight = (self.weight + (kept.weight - base.weight) * left).max(0.0);
        // Differences of large sums are exact to the last digits only.
        for i in 0..SIZE {
            let diagonal = &mut self.xx[row(i) + i];
            *diagonal = diagonal.max(0.0);
        }
        if kept.seen > 0 {
            for i in 0..SIZE {
                (self.low[i], self.high[i]) = (self.low[i].min(kept.low[i]), self.high[i].max(kept.high[i]));
            }
        }
        if others > 0 {
            self.z = (self.z + kept.z) / 2.0;
        }
        self.seen = kept.seen.saturating_add(own);
        self.solve();
    }

    /// This one as a base, from when so much as in `before` was learned here.
    pub fn as_base(&self, before: &Self) -> Self {
        Self { learned: before.learned, ..self.clone() }
    }

    fn solve(&mut self) {
        for i in 0..SIZE {
            for j in 0..=i {
                let mut sum = self.xx[row(i) + j] + if i == j { ridge(i) } else { 0.0 };
                for k in 0..j {
                    sum -= self.factor[row(i) + k] * self.factor[row(j) + k];
                }
                // The ridge keeps the diagonal above zero; rounding must not undo that.
                self.factor[row(i) + j] = if i == j { sum.max(1e-9).sqrt() } else { sum / self.factor[row(j) + j] };
            }
        }
        let half = self.forward(&self.xy);
        for i in (0..SIZE).rev() {
            let above: f64 = (i + 1..SIZE).map(|k| self.factor[row(k) + i] * self.solution[k]).sum();
            self.solution[i] = (half[i] - above) / self.factor[row(i) + i];
        }
        let explained: f64 = self.solution.iter().zip(&self.xy).map(|(w, b)| w * b).sum();
        self.noise = (NOISE_SCALE + (self.yy - explained).max(0.0) / 2.0) / (NOISE_SHAPE + self.weight / 2.0);
    }

    /// Solves factor * v = x.
    fn forward(&self, x: &Vector) -> Vector {
        let mut solved = [0.0; SIZE];
        for i in 0..SIZE {
            let at = row(i);
            let before: f64 = (0..i).map(|k| self.factor[at + k] * solved[k]).sum();
            solved[i] = (x[i] - before) / self.factor[at + i];
        }
        solved
    }

    pub fn export(&self) -> RegressionState {
        RegressionState {
            xx: self.xx.clone(),
            xy: self.xy.to_vec(),
            yy: self.yy,
            weight: self.weight,
            seen: self.seen,
            learned: self.learned,
            low: self.low.to_vec(),
            high: self.high.to_vec(),
            z: self.z,
        }
    }

    /// `None` for what is damaged.
    pub fn restore(state: &RegressionState) -> Option<Self> {
        let vector = |values: &[f64]| Vector::try_from(values).ok();
        let (xy, low, high) = (vector(&state.xy)?, vector(&state.low)?, vector(&state.high)?);
        let finite = |values: &[f64]| values.iter().all(|v| v.is_finite() && v.abs() < 1e12);
        let fit = state.xx.len() == TRIANGLE
            && finite(&state.xx)
            && finite(&xy)
            && finite(&low)
            && finite(&high)
            && (0..SIZE).all(|i| low[i] <= high[i])
            && finite(&[state.yy, state.weight])
            && state.yy >= 0.0
            && state.weight >= 0.0
            && (0..SIZE).all(|i| state.xx[row(i) + i] >= 0.0)
            && (Z_MIN..=Z_MAX).contains(&state.z);
        if !fit {
            return None;
        }
        let (xx, yy, weight, seen, z) = (state.xx.clone(), state.yy, state.weight, state.seen, state.z);
        let learned = if state.learned.is_finite() { state.learned } else { 0.0 };
        let mut regression = Self { xx, xy, yy, weight, seen, learned, low, high, z, ..Self::default() };
        regression.solve();
        let sound = finite(&regression.solution) && regression.noise.is_finite();
        sound.then_some(regression)
    }
}

pub(crate) const Z_MIN: f64 = 0.5;
pub(crate) const Z_MAX: f64 = 3.5;
const Z_STEP: f64 = 0.05;

/// Moves a quantile's place so that 5 of 100 observations come to lie beyond it, whatever their
/// distribution (adaptive conformal inference; Gibbs and Candès, 2021).
pub(crate) fn calibrated(z: f64, beyond: bool) -> f64 {
    let step = if beyond { Z_STEP * 0.95 } else { -Z_STEP * 0.05 };
    clamped(z + step, Z_MIN, Z_MAX)
}
