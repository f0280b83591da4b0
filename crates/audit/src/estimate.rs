//! Three levels of one estimate: some queries leave their warehouse, it is up without them, and
//! machines run what left. Here is what is assumed and what is reported.

use flightpath_types::{Error, Result};
use serde::Serialize;

use crate::leaving::{Draw, HeavyShape, heavy_shapes};
use crate::outcome::{AUTO_STOPS_ASSUMED_MINUTES, Candidate, KIND_ASSUMED, Outcome, SIZES_ASSUMED, Trial};
use crate::read::{Class, History};
use crate::warehouse::Warehouses;

const GB: u64 = 1_000_000_000;
const DAY_MS: f64 = 86_400_000.0;
/// The levels' names, in order.
pub(crate) const LEVELS: [&str; 3] = ["low", "expected", "high"];
pub(crate) const EXPECTED: usize = 1;

/// What the history can't tell. Arrays are low, expected, high.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumptions {
    /// Of the shapes of queries that read, those that another engine may run with the same answer:
    /// the rest reads governed tables or needs what only Databricks has.
    pub share: [f64; 3],
    /// Queries that read more stay.
    pub bytes_max: [u64; 3],
    /// Bytes a machine scans in a second.
    pub scan_bytes_per_second: [f64; 3],
    /// Share of an hour that a machine is busy before another one is started.
    pub utilisation: [f64; 3],
    /// Machines that always run.
    pub machines_min: [u64; 3],
    /// US dollars for an hour of one machine.
    pub machine_usd_per_hour: f64,
    /// US dollars for one DBU; the list price of each warehouse's kind when not set.
    pub usd_per_dbu: Option<f64>,
}

impl Default for Assumptions {
    /// A machine has 4 cores and 16 GB: about 0.20 USD an hour on demand in 2026; a core scans 75 to
    /// 300 MB of Parquet in a second.
    fn default() -> Self {
        Self {
            share: [0.4, 0.7, 0.95],
            bytes_max: [5 * GB, 50 * GB, 200 * GB],
            scan_bytes_per_second: [300e6, 600e6, 1_200e6],
            utilisation: [0.3, 0.5, 0.7],
            machines_min: [2, 1, 1],
            machine_usd_per_hour: 0.20,
            usd_per_dbu: None,
        }
    }
}

impl Assumptions {
    pub fn check(&self) -> Result<()> {
        let rising = |values: &[f64; 3]| values.windows(2).all(|pair| pair[0] <= pair[1]);
        if !self.share.iter().all(|s| (0.0..=1.0).contains(s)) || !rising(&self.share) {
            return Err(Error::invalid("the shares of queries that may leave must be three rising numbers from 0 to 1"));
        }
        let price = |usd: f64| usd.is_finite() && usd >= 0.0;
        if !price(self.machine_usd_per_hour) || !self.usd_per_dbu.is_none_or(price) {
            return Err(Error::invalid("prices must be US dollars, not negative"));
        }
        Ok(())
    }
}

/// One level's numbers, of a warehouse or of all. They belong together: where less is saved because of
/// a long auto-stop, each number is with that auto-stop.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Level {
    pub level: &'static str,
    /// Queries that leave.
    pub leaving: u64,
    pub hours_now: f64,
    pub hours_after: f64,
    pub wakes_now: u64,
    pub wakes_after: u64,
    pub usd_now: f64,
    /// Of the warehouses, without what left.
    pub usd_after: f64,
}

impl Level {
    pub(crate) fn spared_usd(&self) -> f64 {
        self.usd_now - self.usd_after
    }

    pub(crate) fn include(&mut self, other: &Level) {
        self.leaving += other.leaving;
        self.hours_now += other.hours_now;
        self.hours_after += other.hours_after;
        self.wakes_now += other.wakes_now;
        self.wakes_after += other.wakes_after;
        self.usd_now += other.usd_now;
        self.usd_after += other.usd_after;
    }

    /// The average of so many that it includes.
    pub(crate) fn divided_by(&self, count: u64) -> Level {
        let whole = |sum: u64| (sum as f64 / count as f64).round() as u64;
        let part = |sum: f64| sum / count as f64;
        Level {
            level: self.level,
            leaving: whole(self.leaving),
            hours_now: part(self.hours_now),
            hours_after: part(self.hours_after),
            wakes_now: whole(self.wakes_now),
            wakes_after: whole(self.wakes_after),
            usd_now: part(self.usd_now),
            usd_after: part(self.usd_after),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WarehouseEstimate {
    pub id: String,
    pub name: Option<String>,
    /// As given; `None` where it was assumed.
    pub size: Option<String>,
    /// 0 for one that never stops by itself.
    pub auto_stop_minutes: Option<f64>,
    /// `None` where it was assumed.
    pub kind: Option<&'static str>,
    pub queries: u64,
    /// Queries that waited for it to start, as exported: what `wakes_now` should come to.
    pub starts_seen: u64,
    /// Low, expected, high.
    pub levels: Vec<Level>,
}

/// All warehouses together, and what runs what left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    pub warehouses: Level,
    pub machine_hours: f64,
    pub machines_usd: f64,
    /// Now, less what remains, less the machines; negative where it would cost more.
    pub saved_usd: f64,
    pub saved_usd_per_30_days: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub from_unix_ms: i64,
    pub until_unix_ms: i64,
    pub days: f64,
    pub queries: u64,
    pub selects: u64,
    pub metadata: u64,
    pub others: u64,
    /// Queries that read, but of which it isn't known how much.
    pub selects_of_unknown_size: u64,
    /// What couldn't be used, and how much of it.
    pub skipped: Vec<(String, u64)>,
    /// What the API answered instead of queries, the first few: something may be missing.
    pub api_errors: Vec<String>,
    pub warehouses: Vec<WarehouseEstimate>,
    /// Low, expected, high: what is saved rises, the numbers that make it up needn't.
    pub estimates: Vec<Estimate>,
    /// Whether these leave decides most of the answer, and isn't known.
    pub heavy_shapes: Vec<HeavyShape>,
    pub assumptions: Vec<String>,
}

/// Says what the history comes to. An error when there is nothing to say.
pub fn estimate(history: &mut History, known: &Warehouses, assumptions: &Assumptions) -> Result<Report> {
    assumptions.check()?;
    history.leave_out_strays();
    history.queries.sort_unstable_by_key(|q| (q.warehouse, q.start_ms, q.end_ms));
    let queries = &history.queries;
    let from = queries.iter().map(|q| q.start_ms).min();
    let until = queries.iter().map(|q| q.end_ms).max();
    let (Some(from), Some(until)) = (from, until) else {
        return Err(Error::invalid(nothing_to_say(history)));
    };
    let days = ((until - from) as f64 / DAY_MS).max(1.0 / 24.0);
    let candidates = queries
        .chunk_by(|a, b| a.warehouse == b.warehouse)
        .map(|own| Candidate::new(own, known.get(&history.warehouses[own[0].warehouse as usize]), assumptions, until))
        .collect();
    let trial = Trial { candidates, assumptions, draws: Draw::all(queries.len()), from_ms: from, until_ms: until };
    let outcomes = trial.outcomes();
    let warehouses: Vec<WarehouseEstimate> =
        trial.candidates.iter().enumerate().map(|(at, candidate)| of_warehouse(candidate, at, &outcomes)).collect();
    let count = |class| queries.iter().filter(|q| q.class == class).count() as u64;
    Ok(Report {
        from_unix_ms: from,
        until_unix_ms: until,
        days,
        queries: queries.len() as u64,
        selects: count(Class::Select),
        metadata: count(Class::Metadata),
        others: count(Class::Other),
        selects_of_unknown_size: queries.iter().filter(|q| q.class == Class::Select && q.read_bytes.is_none()).count() as u64,
        skipped: history.skipped().map(|(why, n)| (why.to_string(), n)).collect(),
        api_errors: history.api_errors.clone(),
        assumptions: said(&warehouses, assumptions, trial.draws.len()),
        heavy_shapes: heavy_shapes(history, assumptions),
        estimates: totals(&outcomes, assumptions, days),
        warehouses,
    })
}

/// Why there is no query that counts.
fn nothing_to_say(history: &History) -> String {
    let left_out: Vec<String> = history.skipped().map(|(why, count)| format!("{count} {why}")).collect();
    let mut text = match left_out.is_empty() {
        true => "there is no query in what was given".to_string(),
        false => format!("no query in what was given can be counted; left out: {}", left_out.join(", ")),
    };
    if !history.api_errors.is_empty() {
        text += &format!("; the API answered {}", history.api_errors.join("; "));
    }
    text + "; expected are the answers of GET /api/2.0/sql/history/queries?include_metrics=true"
}

fn of_warehouse(candidate: &Candidate<'_>, at: usize, outcomes: &[Outcome; 3]) -> WarehouseEstimate {
    let warehouse = &candidate.warehouse;
    WarehouseEstimate {
        id: warehouse.id.clone(),
        name: warehouse.name.clone(),
        size: warehouse.size.clone(),
        auto_stop_minutes: warehouse.auto_stop_minutes,
        kind: warehouse.kind.map(|kind| kind.as_str()),
        queries: candidate.queries.len() as u64,
        starts_seen: candidate.queries.iter().filter(|q| q.woke).count() as u64,
        levels: LEVELS.into_iter().zip(outcomes).map(|(level, outcome)| Level { level, ..outcome.warehouses[at].clone() }).collect(),
    }
}

fn totals(outcomes: &[Outcome; 3], assumptions: &Assumptions, days: f64) -> Vec<Estimate> {
    let [low, expected, high] = outcomes.each_ref().map(|outcome| outcome.saved_usd(assumptions));
    // Where they are equal, sums in another order may differ in their last digit.
    let saved_usd = [low.min(expected), expected, high.max(expected)];
    let total = |(level, (outcome, saved_usd)): (&'static str, (&Outcome, f64))| {
        let mut warehouses = Level { level, ..Default::default() };
        outcome.warehouses.iter().for_each(|one| warehouses.include(one));
        Estimate {
            warehouses,
            machine_hours: outcome.machine_hours,
            machines_usd: outcome.machine_hours * assumptions.machine_usd_per_hour,
            saved_usd,
            saved_usd_per_30_days: saved_usd / days * 30.0,
        }
    };
    LEVELS.into_iter().zip(outcomes.iter().zip(saved_usd)).map(total).collect()
}

/// In sentences.
fn said(warehouses: &[WarehouseEstimate], assumptions: &Assumptions, draws: usize) -> Vec<String> {
    let percent = assumptions.share.map(|s| format!("{:.0}%", s * 100.0)).join(", ");
    let bytes = assumptions.bytes_max.map(|b| format!("{} GB", b / GB)).join(", ");
    let rates = assumptions.scan_bytes_per_second.map(|b| format!("{:.0} MB/s", b / 1e6)).join(", ");
    let least = assumptions.machines_min.map(|n| n.to_string()).join(", ");
    let mut lines = vec![
        "what is assumed at each level is given as low, expected, high".to_string(),
        format!("of the shapes of queries that read, {percent} may run elsewhere; the history doesn't tell which tables are governed"),
        format!(
            "which shapes those are is drawn {draws} times: expected is the average; low and high are the least and the greatest that comes \
             out at any level, without a tenth of the draws on either side, where there are as many"
        ),
        format!("queries that read more than {bytes} stay, and those that spilled to disk, but for the high level"),
        "SHOW, DESCRIBE, USE, SET and EXPLAIN are answered by the router itself; writes and everything else stay".to_string(),
        format!(
            "what leaves runs on machines of {:.2} USD an hour, each scanning {rates}; {least} of them always run",
            assumptions.machine_usd_per_hour
        ),
        "a warehouse is paid from its first query until nothing came for its auto-stop; the time it takes to start isn't counted"
            .to_string(),
        "clusters are added for every 10 queries at once, and go when they aren't needed".to_string(),
    ];
    lines.push(match assumptions.usd_per_dbu {
        Some(usd) => format!("a DBU costs {usd} USD, as given; with pro and classic warehouses the machines' list price comes on top"),
        None => {
            "a DBU costs its list price: serverless 0.70 USD, machines included; pro 0.55 and classic 0.22, and the machines' list price"
                .into()
        }
    });
    let unknown =
        |what: fn(&WarehouseEstimate) -> bool| -> Vec<&str> { warehouses.iter().filter(|w| what(w)).map(|w| w.id.as_str()).collect() };
    let sizes = unknown(|w| w.size.is_none());
    if !sizes.is_empty() {
        lines.push(format!(
            "NOT KNOWN: size of {}; tried as {} at every level; give them with --warehouse or --warehouses",
            sizes.join(", "),
            SIZES_ASSUMED.join(", ")
        ));
    }
    let stops = unknown(|w| w.auto_stop_minutes.is_none());
    if !stops.is_empty() {
        let minutes = AUTO_STOPS_ASSUMED_MINUTES.map(|minutes| minutes.to_string()).join(", ");
        lines.push(format!("NOT KNOWN: auto-stop of {}; tried as {minutes} minutes at every level", stops.join(", ")));
    }
    let kinds = unknown(|w| w.kind.is_none());
    if !kinds.is_empty() {
        lines.push(format!("NOT KNOWN: kind of {}; taken as {}", kinds.join(", "), KIND_ASSUMED.as_str()));
    }
    lines
}
