//! What comes out: every draw of what leaves, at every level, with every auto-stop and size that a
//! warehouse may have. What isn't known is tried by itself, as more of it may save more or less.

use flightpath_types::{WarehouseKind as Kind, WarehouseSize};

use crate::estimate::{Assumptions, EXPECTED, LEVELS, Level};
use crate::leaving::{Draw, leaves};
use crate::read::{Class, Query};
use crate::timeline::{AutoStop, Uptime, uptime};
use crate::warehouse::Warehouse;

const HOUR_MS: i64 = 3_600_000;
/// Where a warehouse's size, auto-stop and kind aren't known.
pub(crate) const SIZES_ASSUMED: [&str; 3] = ["X-Small", "Small", "Medium"];
pub(crate) const AUTO_STOPS_ASSUMED_MINUTES: [f64; 3] = [5.0, 10.0, 20.0];
pub(crate) const KIND_ASSUMED: Kind = Kind::Serverless;

/// A warehouse and its queries, with all that it may be.
pub(crate) struct Candidate<'a> {
    pub queries: &'a [Query],
    pub warehouse: Warehouse,
    /// One if it is known, or three; each with how long the warehouse is up now.
    auto_stops: Vec<(AutoStop, Uptime)>,
    /// By size, in the same way.
    usd_per_hour: Vec<f64>,
}

impl<'a> Candidate<'a> {
    /// `queries` in order of their beginnings; `until_ms` is when what was exported ends.
    pub fn new(queries: &'a [Query], warehouse: Warehouse, assumptions: &Assumptions, until_ms: i64) -> Self {
        let kind = warehouse.kind.unwrap_or(KIND_ASSUMED);
        let usd_per_dbu = assumptions.usd_per_dbu.unwrap_or(kind.usd_per_dbu());
        let usd_per_hour = |size: &str| {
            let size = WarehouseSize::named(size);
            size.dbu_per_hour * usd_per_dbu + size.machines_usd_per_hour(kind)
        };
        let with_uptime = |minutes: f64| {
            // One that never stops is paid to the end of what was exported.
            let auto_stop = if minutes > 0.0 { AutoStop::After((minutes * 60_000.0) as i64) } else { AutoStop::Never { until_ms } };
            (auto_stop, uptime(queries.iter().map(Query::span), &warehouse, auto_stop))
        };
        let auto_stops = match warehouse.auto_stop_minutes {
            Some(minutes) => vec![with_uptime(minutes)],
            None => AUTO_STOPS_ASSUMED_MINUTES.into_iter().map(with_uptime).collect(),
        };
        let usd_per_hour = match &warehouse.size {
            Some(size) => vec![usd_per_hour(size)],
            None => SIZES_ASSUMED.into_iter().map(usd_per_hour).collect(),
        };
        Self { queries, warehouse, auto_stops, usd_per_hour }
    }

    /// With each auto-stop and each size; the middle of both is in the middle.
    fn outcomes(&self, leaves: impl Fn(&Query) -> bool) -> Vec<Level> {
        let staying: Vec<(i64, i64)> = self.queries.iter().filter(|q| !leaves(q)).map(Query::span).collect();
        let leaving = (self.queries.len() - staying.len()) as u64;
        let mut outcomes = Vec::with_capacity(self.auto_stops.len() * self.usd_per_hour.len());
        for (auto_stop, now) in &self.auto_stops {
            let after = uptime(staying.iter().copied(), &self.warehouse, *auto_stop);
            outcomes.extend(self.usd_per_hour.iter().map(|usd| Level {
                level: "",
                leaving,
                hours_now: now.hours(),
                hours_after: after.hours(),
                wakes_now: now.wakes,
                wakes_after: after.wakes,
                usd_now: now.cluster_hours() * usd,
                usd_after: after.cluster_hours() * usd,
            }));
        }
        outcomes
    }
}

/// Which of a warehouse's outcomes counts.
#[derive(Debug, Clone, Copy)]
enum Pick {
    LeastSpared,
    MostSpared,
    Middle,
}

impl Pick {
    fn of(self, outcomes: &[Level]) -> Level {
        let by_usd = |a: &&Level, b: &&Level| a.spared_usd().total_cmp(&b.spared_usd());
        let picked = match self {
            Pick::LeastSpared => outcomes.iter().min_by(by_usd),
            Pick::MostSpared => outcomes.iter().max_by(by_usd),
            Pick::Middle => outcomes.get(outcomes.len() / 2),
        };
        picked.cloned().unwrap_or_default()
    }
}

/// One draw at one level, and what counts of what isn't known.
#[derive(Debug, Clone, Copy)]
struct Case {
    draw: Draw,
    level: usize,
    pick: Pick,
    saved_usd: f64,
}

/// One row for each warehouse, and the machines' hours.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub warehouses: Vec<Level>,
    pub machine_hours: f64,
}

impl Outcome {
    /// Negative where it would cost more.
    pub fn saved_usd(&self, assumptions: &Assumptions) -> f64 {
        let spared: f64 = self.warehouses.iter().map(Level::spared_usd).sum();
        spared - self.machine_hours * assumptions.machine_usd_per_hour
    }
}

/// Everything that is tried, and on what.
pub(crate) struct Trial<'a> {
    pub candidates: Vec<Candidate<'a>>,
    pub assumptions: &'a Assumptions,
    pub draws: Vec<Draw>,
    /// Where what was exported begins and ends.
    pub from_ms: i64,
    pub until_ms: i64,
}

impl Trial<'_> {
    /// Low, expected and high. Expected is the average of all draws at its level, with the middle of
    /// what isn't known. Low is the least that a draw comes to, at any level and whatever isn't known,
    /// high the greatest; the outer tenth of the draws doesn't count.
    pub fn outcomes(&self) -> [Outcome; 3] {
        let mut sum = Outcome { warehouses: vec![Level::default(); self.candidates.len()], machine_hours: 0.0 };
        let (mut least, mut greatest) = (Vec::<Case>::new(), Vec::<Case>::new());
        for draw in &self.draws {
            let cases: [(Case, Case); LEVELS.len()] = std::array::from_fn(|level| self.extremes(*draw, level, &mut sum));
            least.extend(cases.iter().map(|(least, _)| *least).min_by(|a, b| a.saved_usd.total_cmp(&b.saved_usd)));
            greatest.extend(cases.iter().map(|(_, greatest)| *greatest).max_by(|a, b| a.saved_usd.total_cmp(&b.saved_usd)));
        }
        let draws = self.draws.len().max(1) as u64;
        let expected = Outcome {
            warehouses: sum.warehouses.iter().map(|row| row.divided_by(draws)).collect(),
            machine_hours: sum.machine_hours / draws as f64,
        };
        let saved_usd = expected.saved_usd(self.assumptions);
        let shown = |cases, sign| edge(cases, sign, saved_usd).map_or_else(|| expected.clone(), |case| self.of_case(case));
        let (low, high) = (shown(least, 1.0), shown(greatest, -1.0));
        [low, expected, high]
    }

    /// The least and the greatest that a draw comes to at a level. What it is expected to come to is
    /// added to `expected`.
    fn extremes(&self, draw: Draw, level: usize, expected: &mut Outcome) -> (Case, Case) {
        let machine_hours = self.machine_hours(draw, level);
        let machines_usd = machine_hours * self.assumptions.machine_usd_per_hour;
        let case = |pick| Case { draw, level, pick, saved_usd: -machines_usd };
        let (mut least, mut greatest) = (case(Pick::LeastSpared), case(Pick::MostSpared));
        for (candidate, expected) in self.candidates.iter().zip(&mut expected.warehouses) {
            let outcomes = candidate.outcomes(|q| leaves(q, level, draw, self.assumptions));
            least.saved_usd += least.pick.of(&outcomes).spared_usd();
            greatest.saved_usd += greatest.pick.of(&outcomes).spared_usd();
            if level == EXPECTED {
                expected.include(&Pick::Middle.of(&outcomes));
            }
        }
        if level == EXPECTED {
            expected.machine_hours += machine_hours;
        }
        (least, greatest)
    }

    fn of_case(&self, case: Case) -> Outcome {
        let row = |candidate: &Candidate<'_>| case.pick.of(&candidate.outcomes(|q| leaves(q, case.level, case.draw, self.assumptions)));
        Outcome { warehouses: self.candidates.iter().map(row).collect(), machine_hours: self.machine_hours(case.draw, case.level) }
    }

    /// In each hour as many machines as its work needs, and never fewer than always run.
    fn machine_hours(&self, draw: Draw, level: usize) -> f64 {
        /// Of a query that reads nothing, in seconds.
        const OVERHEAD_SECONDS: f64 = 0.05;
        let hours = usize::try_from((self.until_ms - self.from_ms) / HOUR_MS + 1).unwrap_or(1);
        let mut busy = std::collections::HashMap::<i64, f64>::new();
        let queries = self.candidates.iter().flat_map(|candidate| candidate.queries);
        for query in queries.filter(|q| q.class == Class::Select && leaves(q, level, draw, self.assumptions)) {
            let seconds = OVERHEAD_SECONDS + query.read_bytes.unwrap_or(0) as f64 / self.assumptions.scan_bytes_per_second[level];
            *busy.entry((query.start_ms - self.from_ms) / HOUR_MS).or_default() += seconds;
        }
        let least = self.assumptions.machines_min[level] as f64;
        let beyond: f64 = busy.values().map(|s| ((s / (3600.0 * self.assumptions.utilisation[level])).ceil() - least).max(0.0)).sum();
        hours as f64 * least + beyond
    }
}

/// The first case behind the outer tenth, from below with a sign of 1, from above with -1. If so few
/// cases make up the average that it lies in that tenth, the last one on its outer side.
fn edge(mut cases: Vec<Case>, sign: f64, expected_usd: f64) -> Option<Case> {
    cases.sort_by(|a, b| (sign * a.saved_usd).total_cmp(&(sign * b.saved_usd)));
    cases.truncate(cases.len() / 10 + 1);
    let outer = |case: &&Case| sign * case.saved_usd <= sign * expected_usd;
    cases.iter().rev().find(outer).or(cases.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(saved_usd: impl Iterator<Item = f64>) -> Vec<Case> {
        let draw = Draw::all(1)[0];
        saved_usd.map(|saved_usd| Case { draw, level: EXPECTED, pick: Pick::Middle, saved_usd }).collect()
    }

    #[test]
    fn the_outer_tenth_of_the_draws_doesnt_count() {
        let edges = |saved: &[f64], expected| {
            [1.0, -1.0].map(|sign| edge(cases(saved.iter().copied()), sign, expected).expect("there are cases").saved_usd)
        };
        let even: Vec<f64> = (0..64).rev().map(f64::from).collect();
        assert_eq!(edges(&even, 31.5), [6.0, 57.0]);
        // Two of 64 draws cost far more than all others spare, or spare far more: the average is still inside.
        let mut lopsided = vec![10.0; 64];
        (lopsided[3], lopsided[40]) = (-1_000.0, -900.0);
        assert_eq!(edges(&lopsided, -20.0), [-900.0, 10.0]);
        (lopsided[3], lopsided[40]) = (1_000.0, 900.0);
        assert_eq!(edges(&lopsided, 39.4), [10.0, 900.0]);
        // Sums in another order may round the average beyond all of them.
        assert_eq!(edges(&[0.3; 8], 0.2), [0.3, 0.3]);
        assert!(edge(Vec::new(), 1.0, 0.0).is_none());
    }
}
