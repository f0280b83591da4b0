//! Three levels of one estimate: at each, some queries leave their warehouse, it is up without them,
//! and machines run what left. A query that leaves at a lower level leaves at every higher one.

use flightpath_types::{Error, Result, WarehouseKind as Kind, WarehouseSize};
use serde::Serialize;

use crate::read::{Class, History, Query};
use crate::timeline::{AutoStop, Uptime, uptime};
use crate::warehouse::{Warehouse, Warehouses};

const GB: u64 = 1_000_000_000;
const HOUR_MS: i64 = 3_600_000;
/// The levels' names, in order.
const LEVELS: [&str; 3] = ["low", "expected", "high"];
/// Where a warehouse's size and auto-stop aren't known.
const SIZES_ASSUMED: [&str; 3] = ["X-Small", "Small", "Medium"];
const AUTO_STOP_ASSUMED_MINUTES: [f64; 3] = [5.0, 10.0, 20.0];

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

/// One level's numbers.
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

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WarehouseEstimate {
    pub id: String,
    pub name: Option<String>,
    /// As given; `None` where it was assumed.
    pub size: Option<String>,
    /// 0 for one that never stops by itself.
    pub auto_stop_minutes: Option<f64>,
    pub kind: &'static str,
    pub queries: u64,
    /// Queries that waited for it to start, as exported: what `wakes_now` should come to.
    pub starts_seen: u64,
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
    pub warehouses: Vec<WarehouseEstimate>,
    /// Low, expected, high.
    pub estimates: Vec<Estimate>,
    pub assumptions: Vec<String>,
}

/// Says what the history comes to. An error when there is nothing to say.
pub fn estimate(history: &mut History, known: &Warehouses, assumptions: &Assumptions) -> Result<Report> {
    assumptions.check()?;
    history.queries.sort_unstable_by_key(|q| (q.warehouse, q.start_ms, q.end_ms));
    let queries = &history.queries;
    let from = queries.iter().map(|q| q.start_ms).min();
    let until = queries.iter().map(|q| q.end_ms).max();
    let (Some(from), Some(until)) = (from, until) else {
        return Err(Error::invalid(
            "there is no query in what was given: expected the answers of GET /api/2.0/sql/history/queries?include_metrics=true",
        ));
    };
    let days = ((until - from) as f64 / (24 * HOUR_MS) as f64).max(1.0 / 24.0);
    let warehouses: Vec<WarehouseEstimate> = queries
        .chunk_by(|a, b| a.warehouse == b.warehouse)
        .map(|own| {
            let id = &history.warehouses[own[0].warehouse as usize];
            of_warehouse(own, &known.get(id), assumptions, until)
        })
        .collect();
    let estimates = (0..LEVELS.len()).map(|level| total(level, queries, &warehouses, assumptions, (from, until), days)).collect();
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
        assumptions: said(&warehouses, assumptions),
        warehouses,
        estimates,
    })
}

fn of_warehouse(queries: &[Query], warehouse: &Warehouse, assumptions: &Assumptions, until: i64) -> WarehouseEstimate {
    let kind = warehouse.kind.unwrap_or(Kind::Serverless);
    let levels = (0..LEVELS.len())
        .map(|level| {
            let minutes = warehouse.auto_stop_minutes.unwrap_or(AUTO_STOP_ASSUMED_MINUTES[level]);
            // One that never stops is paid to the end of what was exported.
            let auto_stop = if minutes > 0.0 { AutoStop::After((minutes * 60_000.0) as i64) } else { AutoStop::Never { until_ms: until } };
            let size = WarehouseSize::named(warehouse.size.as_deref().unwrap_or(SIZES_ASSUMED[level]));
            let usd_per_dbu = assumptions.usd_per_dbu.unwrap_or(kind.usd_per_dbu());
            let usd_per_hour = size.dbu_per_hour * usd_per_dbu + size.machines_usd_per_hour(kind);
            let up = |keep: &dyn Fn(&Query) -> bool| -> Uptime {
                uptime(queries.iter().filter(|q| keep(q)).map(|q| (q.start_ms, q.end_ms)), warehouse, auto_stop)
            };
            let now = up(&|_| true);
            let after = up(&|q| !leaves(q, level, assumptions));
            Level {
                level: LEVELS[level],
                leaving: queries.iter().filter(|q| leaves(q, level, assumptions)).count() as u64,
                hours_now: now.hours(),
                hours_after: after.hours(),
                wakes_now: now.wakes,
                wakes_after: after.wakes,
                usd_now: now.cluster_hours() * usd_per_hour,
                usd_after: after.cluster_hours() * usd_per_hour,
            }
        })
        .collect();
    WarehouseEstimate {
        id: warehouse.id.clone(),
        name: warehouse.name.clone(),
        size: warehouse.size.clone(),
        auto_stop_minutes: warehouse.auto_stop_minutes,
        kind: kind.as_str(),
        queries: queries.len() as u64,
        starts_seen: queries.iter().filter(|q| q.woke).count() as u64,
        levels,
    }
}

/// Whether a query leaves at this level.
fn leaves(query: &Query, level: usize, assumptions: &Assumptions) -> bool {
    match query.class {
        Class::Metadata => true,
        Class::Other => false,
        Class::Select => {
            let small = match query.read_bytes {
                Some(bytes) => bytes <= assumptions.bytes_max[level],
                // How much it reads isn't known: a short one can't have read much.
                None => level > 0 && query.end_ms - query.start_ms < 60_000,
            };
            // What spilled on a warehouse needs more memory than a machine has, but for the boldest guess.
            let fits = !query.spilled || level + 1 == LEVELS.len();
            // The hash's upper bits as a number from 0 to 1: all of a shape leave, or none.
            let drawn = (query.shape.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1u64 << 53) as f64;
            small && fits && drawn < assumptions.share[level]
        }
    }
}

fn total(
    level: usize,
    queries: &[Query],
    warehouses: &[WarehouseEstimate],
    assumptions: &Assumptions,
    (from, until): (i64, i64),
    days: f64,
) -> Estimate {
    let mut sum = Level { level: LEVELS[level], ..Default::default() };
    for one in warehouses.iter().map(|w| &w.levels[level]) {
        sum.leaving += one.leaving;
        sum.hours_now += one.hours_now;
        sum.hours_after += one.hours_after;
        sum.wakes_now += one.wakes_now;
        sum.wakes_after += one.wakes_after;
        sum.usd_now += one.usd_now;
        sum.usd_after += one.usd_after;
    }
    let machine_hours = machine_hours(level, queries, assumptions, from, until);
    let machines_usd = machine_hours * assumptions.machine_usd_per_hour;
    let saved_usd = sum.usd_now - sum.usd_after - machines_usd;
    Estimate { machine_hours, machines_usd, saved_usd, saved_usd_per_30_days: saved_usd / days * 30.0, warehouses: sum }
}

/// In each hour as many machines as its work needs, and never fewer than always run.
fn machine_hours(level: usize, queries: &[Query], assumptions: &Assumptions, from: i64, until: i64) -> f64 {
    /// Of a query that reads nothing, in seconds.
    const OVERHEAD_SECONDS: f64 = 0.05;
    let hours = usize::try_from((until - from) / HOUR_MS + 1).unwrap_or(1);
    let mut busy = std::collections::HashMap::<i64, f64>::new();
    for query in queries.iter().filter(|q| q.class == Class::Select && leaves(q, level, assumptions)) {
        let seconds = OVERHEAD_SECONDS + query.read_bytes.unwrap_or(0) as f64 / assumptions.scan_bytes_per_second[level];
        *busy.entry((query.start_ms - from) / HOUR_MS).or_default() += seconds;
    }
    let least = assumptions.machines_min[level] as f64;
    let beyond: f64 = busy.values().map(|s| ((s / (3600.0 * assumptions.utilisation[level])).ceil() - least).max(0.0)).sum();
    hours as f64 * least + beyond
}

/// In sentences.
fn said(warehouses: &[WarehouseEstimate], assumptions: &Assumptions) -> Vec<String> {
    let percent = assumptions.share.map(|s| format!("{:.0}%", s * 100.0)).join(", ");
    let bytes = assumptions.bytes_max.map(|b| format!("{} GB", b / GB)).join(", ");
    let rates = assumptions.scan_bytes_per_second.map(|b| format!("{:.0} MB/s", b / 1e6)).join(", ");
    let least = assumptions.machines_min.map(|n| n.to_string()).join(", ");
    let mut lines = vec![
        "each level is given as low, expected, high".to_string(),
        format!("of the shapes of queries that read, {percent} may run elsewhere; the history doesn't tell which tables are governed"),
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
            "NOT KNOWN: size of {}; taken as {}; give them with --warehouse or --warehouses",
            sizes.join(", "),
            SIZES_ASSUMED.join(", ")
        ));
    }
    let stops = unknown(|w| w.auto_stop_minutes.is_none());
    if !stops.is_empty() {
        lines.push(format!("NOT KNOWN: auto-stop of {}; taken as 5, 10, 20 minutes", stops.join(", ")));
    }
    lines
}
