//! What running one query on an engine adds to the bill. Marginal, not average: a warehouse that is
//! up anyway is nearly free, one that has to be woken costs its start and its idle tail.

use flightpath_types::{ComputePrice, EngineFacts, QUERIES_PER_CLUSTER, WarehouseActivity};

use crate::number::clamped;

/// A machine that is hardly used still serves more than this share of its hours' worth to price a
/// query by; below it one early query would seem to pay for the whole day.
const UTILISATION_MIN: f64 = 0.05;
/// What a warehouse that never stops by itself is charged for being woken: somebody has to stop it.
const TAIL_WITHOUT_AUTO_STOP_MS: f64 = 3_600_000.0;
const MS_PER_HOUR: f64 = 3_600_000.0;
const BYTES_PER_GB: f64 = 1e9;
const USD_MAX: f64 = 1e12;
const MS_MAX: f64 = 1e12;

/// What is known of a run's time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    /// What the query itself takes.
    Predicted,
    /// What it took, with a start that nobody could see.
    Measured,
}

/// US dollars that a run of `run_ms` (waiting left out) adds, reading `scan_bytes` and sending
/// `result_bytes`, as far as can be told beforehand.
///
/// A machine by the hour: the run's share of the hour, divided by how many run there on average, so that
/// all of them together come to what the machine costs.
/// A warehouse, by what it does:
/// - busy, queued or starting: it is up for others; the run takes one place of the hour, of those of the
///   clusters that run;
/// - idle: it stops later by the run and by the idle time that starts anew;
/// - asleep or unseen: its start, the run, and the idle tail until it stops.
pub fn marginal_usd(run_ms: f64, scan_bytes: u64, result_bytes: u64, facts: &EngineFacts) -> f64 {
    usd(Run::Predicted, run_ms, scan_bytes, result_bytes, facts)
}

/// The same of a run that was measured, `facts` being those of the engine when it took the query. Waiting
/// that the facts tell of is left out of `run_ms`; a warehouse that nobody saw may have been started first,
/// and then the time that was measured holds its start already.
pub fn settled_usd(run_ms: f64, scan_bytes: u64, result_bytes: u64, facts: &EngineFacts) -> f64 {
    usd(Run::Measured, run_ms, scan_bytes, result_bytes, facts)
}

fn usd(run: Run, run_ms: f64, scan_bytes: u64, result_bytes: u64, facts: &EngineFacts) -> f64 {
    let run_ms = clamped(run_ms, 0.0, MS_MAX);
    let paid = |ms: f64, usd_per_hour: f64| ms / MS_PER_HOUR * clamped(usd_per_hour, 0.0, USD_MAX);
    let pricing = &facts.pricing;
    let compute = match &pricing.compute {
        ComputePrice::Hourly { usd_per_hour, utilisation } => {
            paid(run_ms, *usd_per_hour) / clamped(*utilisation, UTILISATION_MIN, f64::from(facts.slots.max(1)))
        }
        ComputePrice::Warehouse { usd_per_hour, activity, start_ms, auto_stop_ms } => {
            let start_ms = clamped(*start_ms, 0.0, MS_MAX);
            let tail_ms = auto_stop_ms.map(|ms| clamped(ms, 0.0, MS_MAX));
            let share_ms = run_ms / f64::from(places(facts));
            let unseen_start_ms = if run == Run::Measured { 0.0 } else { start_ms };
            let added_ms = match (activity, tail_ms) {
                (WarehouseActivity::Busy | WarehouseActivity::Queued { .. } | WarehouseActivity::Starting { .. }, _) => share_ms,
                // It is up whatever happens.
                (WarehouseActivity::Idle { .. }, None) => share_ms,
                (WarehouseActivity::Idle { idle_ms }, Some(tail)) => run_ms + clamped(*idle_ms, 0.0, tail),
                (WarehouseActivity::Asleep, tail) => start_ms + run_ms + tail.unwrap_or(TAIL_WITHOUT_AUTO_STOP_MS),
                (WarehouseActivity::Unknown, tail) => unseen_start_ms + run_ms + tail.unwrap_or(TAIL_WITHOUT_AUTO_STOP_MS),
            };
            paid(added_ms, *usd_per_hour)
        }
    };
    let per_gb = |bytes: u64, usd: f64| bytes as f64 / BYTES_PER_GB * clamped(usd, 0.0, USD_MAX);
    let data = per_gb(scan_bytes, pricing.storage_usd_per_gb) + per_gb(result_bytes, pricing.egress_usd_per_gb);
    clamped(compute + data, 0.0, USD_MAX)
}

/// What shares a warehouse's price: the places of the clusters that run and are paid for, even where more is
/// sent there, so that it grows.
fn places(facts: &EngineFacts) -> u32 {
    let clusters = (facts.cores_total / facts.cores.max(1)).max(1);
    facts.slots.min(QUERIES_PER_CLUSTER.saturating_mul(clusters)).max(1)
}

#[cfg(test)]
mod tests;
