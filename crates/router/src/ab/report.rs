//! What two sides' outcomes say: the difference, with a confidence interval. Identical lakehouse
//! queries vary up to twofold from run to run, so a difference without an interval says nothing.

use std::collections::BTreeMap;

/// One query's outcome under one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AbOutcome {
    /// Side `b`, or else `a`.
    pub b: bool,
    /// What makes two outcomes comparable: the query's shape.
    pub pair: Option<u64>,
    /// What was drawn for a side, together with all others of the same number: they say one thing between
    /// them. `None` for a run that was drawn by itself.
    pub unit: Option<u64>,
    /// Milliseconds, dollars; lower is better.
    pub value: f64,
}

/// How the interval was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Over shapes that both sides ran: the means of each shape's runs, side against side.
    Paired,
    /// Over all that was drawn for one side or the other: runs, or the means of each shape's runs (Welch's
    /// t interval, unequal variances).
    Welch,
}

/// An estimate with its 95% confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
}

/// `b` against `a`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AbReport {
    pub runs_a: usize,
    pub runs_b: usize,
    /// Of what is compared: each pair or unit counts once, however often it ran.
    pub mean_a: f64,
    pub mean_b: f64,
    /// Pairs or units that the intervals rest on.
    pub compared: usize,
    pub method: Method,
    /// Mean of `b` less mean of `a`.
    pub difference: Interval,
    /// Geometric mean of `b` over that of `a`; `None` when a value isn't above zero.
    pub ratio: Option<Interval>,
}

/// Fewer shapes in common than this aren't enough to pair by.
const PAIRS_MIN: usize = 8;

/// Compares the two sides. `None` when a side has fewer than two units; values that aren't finite are
/// left out.
pub fn compare(outcomes: &[AbOutcome]) -> Option<AbReport> {
    let finite: Vec<&AbOutcome> = outcomes.iter().filter(|o| o.value.is_finite()).collect();
    let runs = |b: bool| finite.iter().filter(|o| o.b == b).count();
    let positive = finite.iter().all(|o| o.value > 0.0);
    let compared = Compared::of(&finite, |value| value);
    let (a, b) = compared.sides();
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let ratio = positive.then(|| {
        let logs = Compared::of(&finite, f64::ln).difference();
        Interval { estimate: logs.estimate.exp(), low: logs.low.exp(), high: logs.high.exp() }
    });
    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let (method, number) = match &compared {
        Compared::Pairs(pairs) => (Method::Paired, pairs.len()),
        Compared::Units(a, b) => (Method::Welch, a.len() + b.len()),
    };
    let difference = compared.difference();
    Some(AbReport { runs_a: runs(false), runs_b: runs(true), mean_a, mean_b, compared: number, method, difference, ratio })
}

/// What is set against each other: means of runs that aren't independent of each other.
enum Compared {
    /// Of each shape that both sides ran, on `a` and on `b`.
    Pairs(Vec<(f64, f64)>),
    /// Of each unit that was drawn for `a`, and for `b`.
    Units(Vec<f64>, Vec<f64>),
}

impl Compared {
    /// After `change` of each value.
    fn of(outcomes: &[&AbOutcome], change: fn(f64) -> f64) -> Self {
        let mut shapes: BTreeMap<u64, [Mean; 2]> = BTreeMap::new();
        let mut units: BTreeMap<(bool, Option<u64>, usize), Mean> = BTreeMap::new();
        for (number, outcome) in outcomes.iter().enumerate() {
            let value = change(outcome.value);
            if let Some(pair) = outcome.pair {
                shapes.entry(pair).or_default()[usize::from(outcome.b)].add(value);
            }
            // A run that was drawn by itself is a unit of its own.
            let run = if outcome.unit.is_some() { 0 } else { number };
            units.entry((outcome.b, outcome.unit, run)).or_default().add(value);
        }
        let pairs: Vec<(f64, f64)> = shapes.values().filter_map(|[a, b]| Some((a.get()?, b.get()?))).collect();
        if pairs.len() >= PAIRS_MIN {
            return Compared::Pairs(pairs);
        }
        let side = |wanted: bool| units.iter().filter(|((b, _, _), _)| *b == wanted).filter_map(|(_, mean)| mean.get()).collect();
        Compared::Units(side(false), side(true))
    }

    fn sides(&self) -> (Vec<f64>, Vec<f64>) {
        match self {
            Compared::Pairs(pairs) => pairs.iter().copied().unzip(),
            Compared::Units(a, b) => (a.clone(), b.clone()),
        }
    }

    fn difference(&self) -> Interval {
        match self {
            Compared::Pairs(pairs) => one_sample(&pairs.iter().map(|(a, b)| b - a).collect::<Vec<f64>>()),
            Compared::Units(a, b) => welch(a, b),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn get(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count).filter(|mean| mean.is_finite())
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The mean's squared standard error.
fn error_squared(values: &[f64]) -> f64 {
    let (n, middle) = (values.len() as f64, mean(values));
    values.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / (n - 1.0) / n
}

fn one_sample(values: &[f64]) -> Interval {
    around(mean(values), error_squared(values).sqrt(), values.len() as f64 - 1.0)
}

fn welch(a: &[f64], b: &[f64]) -> Interval {
    let (error_a, error_b) = (error_squared(a), error_squared(b));
    let both = error_a + error_b;
    // Welch and Satterthwaite's degrees of freedom.
    let below = error_a.powi(2) / (a.len() as f64 - 1.0) + error_b.powi(2) / (b.len() as f64 - 1.0);
    let freedom = if below > 0.0 { both.powi(2) / below } else { (a.len() + b.len() - 2) as f64 };
    around(mean(b) - mean(a), both.sqrt(), freedom)
}

fn around(estimate: f64, error: f64, freedom: f64) -> Interval {
    let reach = error * t_975(freedom);
    Interval { estimate, low: estimate - reach, high: estimate + reach }
}

/// Student's t at 97.5%, by the Cornish-Fisher expansion in 1/freedom (Abramowitz and Stegun,
/// 26.7.5); exact where it converges too slowly.
fn t_975(freedom: f64) -> f64 {
    const EXACT: [f64; 5] = [12.706, 4.303, 3.182, 2.776, 2.571];
    const Z: f64 = 1.959_964;
    let freedom = freedom.max(1.0);
    if freedom < 5.5 {
        return EXACT[(freedom.floor() as usize).clamp(1, 5) - 1];
    }
    let (z3, z5, z7) = (Z.powi(3), Z.powi(5), Z.powi(7));
    Z + (z3 + Z) / (4.0 * freedom)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * freedom.powi(2))
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * Z) / (384.0 * freedom.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(b: bool, pair: Option<u64>, value: f64) -> AbOutcome {
        AbOutcome { b, pair, unit: None, value }
    }

    #[test]
    fn students_t_is_that_of_the_tables() {
        for (freedom, known) in [(1.0, 12.706), (5.0, 2.571), (6.0, 2.447), (10.0, 2.228), (30.0, 2.042), (1e9, 1.960)] {
            assert!((t_975(freedom) - known).abs() < 0.002, "{freedom}: {}", t_975(freedom));
        }
    }

    #[test]
    fn welch_is_that_of_a_worked_example() {
        // Means 20 and 30, variances 10 each, 5 runs each: error 2, 8 degrees of freedom, t 2.306.
        let spread = [-4.0, -2.0, 0.0, 2.0, 4.0];
        let runs = spread.iter().flat_map(|d| [outcome(false, None, 20.0 + d), outcome(true, None, 30.0 + d)]);
        let report = compare(&runs.collect::<Vec<_>>()).unwrap();
        assert_eq!((report.method, report.mean_a, report.mean_b, report.compared), (Method::Welch, 20.0, 30.0, 10));
        assert!((report.difference.estimate - 10.0).abs() < 1e-9);
        assert!((report.difference.low - (10.0 - 2.0 * 2.306)).abs() < 0.01, "{:?}", report.difference);
        assert!(report.ratio.is_some_and(|r| r.low > 1.0 && r.high < 2.0));
    }

    #[test]
    fn pairs_see_a_difference_that_the_shapes_own_spread_hides() {
        let mut outcomes = Vec::new();
        for shape in 0..20u64 {
            let base = 10f64.powi((shape % 4) as i32);
            outcomes.push(outcome(false, Some(shape), base));
            outcomes.push(outcome(true, Some(shape), base * 0.8));
        }
        let report = compare(&outcomes).unwrap();
        assert_eq!((report.method, report.compared), (Method::Paired, 20));
        let ratio = report.ratio.unwrap();
        assert!((ratio.estimate - 0.8).abs() < 1e-9 && ratio.high < 0.81, "{ratio:?}");
        let unpaired: Vec<AbOutcome> = outcomes.iter().map(|o| AbOutcome { pair: None, ..*o }).collect();
        assert!(compare(&unpaired).unwrap().ratio.unwrap().high > 1.0);
    }

    /// Two dashboards, one on each side, refreshed for weeks: that one is slower says nothing of the sides.
    #[test]
    fn runs_that_were_drawn_together_count_once() {
        let of = |unit: u64, b: bool, value: f64| AbOutcome { b, pair: Some(unit), unit: Some(unit), value };
        let mut outcomes: Vec<AbOutcome> = (0..5_000).flat_map(|_| [of(1, false, 10.0), of(2, true, 20.0)]).collect();
        assert_eq!(compare(&outcomes), None);
        outcomes.extend([of(3, false, 30.0), of(4, true, 16.0)]);
        let report = compare(&outcomes).unwrap();
        assert_eq!((report.runs_a, report.runs_b, report.compared), (5_001, 5_001, 4));
        assert_eq!((report.mean_a, report.mean_b, report.difference.estimate), (20.0, 18.0, -2.0));
        assert!(report.difference.low < -20.0 && report.difference.high > 20.0, "{:?}", report.difference);
    }

    #[test]
    fn too_little_says_nothing_and_nonsense_is_left_out() {
        assert_eq!(compare(&[outcome(false, None, 1.0), outcome(true, None, 1.0)]), None);
        let mut outcomes = vec![outcome(false, None, f64::NAN), outcome(true, None, f64::INFINITY)];
        outcomes.extend([1.0, 2.0, 0.0].iter().flat_map(|v| [outcome(false, None, *v), outcome(true, None, *v)]));
        let report = compare(&outcomes).unwrap();
        assert_eq!((report.runs_a, report.runs_b, report.ratio), (3, 3, None));
        assert_eq!(report.difference.estimate, 0.0);
    }
}
