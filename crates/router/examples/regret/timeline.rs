//! A day in order: the same queries at the same moments, once all on the warehouse, once routed.
//! The warehouse starts when asked, is paid while it is up and stops by itself; the worker is paid
//! all the time.

use std::collections::BTreeMap;

use flightpath_types::{ComputePrice, EngineFacts, WarehouseActivity};

use crate::Options;
use crate::matrix::{Matrix, drawn};
use crate::replay::{Play, Replay, tried};
use crate::report::quantile;

const MS_PER_HOUR: f64 = 3_600_000.0;

/// A warehouse on a clock.
struct Warehouse {
    usd_per_hour: f64,
    start_ms: f64,
    auto_stop_ms: f64,
    /// When it is up and when its last query ends; down before.
    ready_ms: f64,
    busy_until_ms: f64,
    up_since_ms: Option<f64>,
    paid_ms: f64,
}

impl Warehouse {
    fn of(facts: &EngineFacts) -> Option<Self> {
        match facts.pricing.compute {
            ComputePrice::Warehouse { usd_per_hour, start_ms, auto_stop_ms, .. } => Some(Self {
                usd_per_hour,
                start_ms,
                auto_stop_ms: auto_stop_ms.unwrap_or(MS_PER_HOUR),
                ready_ms: 0.0,
                busy_until_ms: 0.0,
                up_since_ms: None,
                paid_ms: 0.0,
            }),
            ComputePrice::Hourly { .. } => None,
        }
    }

    fn stop_if_idle(&mut self, now_ms: f64) {
        if let Some(since) = self.up_since_ms.filter(|_| now_ms > self.busy_until_ms + self.auto_stop_ms) {
            self.paid_ms += self.busy_until_ms + self.auto_stop_ms - since;
            self.up_since_ms = None;
        }
    }

    fn activity(&mut self, now_ms: f64) -> WarehouseActivity {
        self.stop_if_idle(now_ms);
        match self.up_since_ms {
            None => WarehouseActivity::Asleep,
            Some(_) if now_ms < self.ready_ms => WarehouseActivity::Starting { remaining_ms: self.ready_ms - now_ms },
            Some(_) if now_ms < self.busy_until_ms => WarehouseActivity::Busy,
            Some(_) => WarehouseActivity::Idle { idle_ms: now_ms - self.busy_until_ms },
        }
    }

    /// Runs a query; what it takes with waiting for the start.
    fn run(&mut self, now_ms: f64, run_ms: f64) -> f64 {
        self.stop_if_idle(now_ms);
        if self.up_since_ms.is_none() {
            self.up_since_ms = Some(now_ms);
            self.ready_ms = now_ms + self.start_ms;
        }
        let end = self.ready_ms.max(now_ms) + run_ms;
        self.busy_until_ms = self.busy_until_ms.max(end);
        end - now_ms
    }

    fn usd(mut self, end_ms: f64) -> f64 {
        self.stop_if_idle(end_ms);
        let rest = self.up_since_ms.map_or(0.0, |since| end_ms.max(self.busy_until_ms) - since);
        (self.paid_ms + rest) / MS_PER_HOUR * self.usd_per_hour
    }
}

struct Day {
    usd: f64,
    latencies_ms: Vec<f64>,
    utilisation: f64,
    on_warehouse: usize,
}

pub(crate) fn print(matrix: &Matrix, options: &Options) {
    let warehouse = (0..matrix.engines.len()).find(|e| Warehouse::of(&matrix.engines[*e].facts).is_some());
    let Some(warehouse) = warehouse else { return };
    println!("\n### Against all of it on {} (simulated), on a clock\n", matrix.name(warehouse));
    println!("The router starts with nothing learned; one worker machine is paid around the clock.\n");
    println!(
        "| workload, mean gap | all-warehouse $/h | routed $/h | cheaper | worker's utilisation | on the warehouse | p50 ms all / routed | p95 ms all / routed |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, sequence) in matrix.sequences() {
        for gap_s in &options.gaps_s {
            let arrivals = arrivals(&sequence, gap_s * 1_000.0);
            let end_ms = arrivals.last().map_or(0.0, |(at, _)| *at) + gap_s * 1_000.0;
            let all = all_on(matrix, warehouse, &arrivals, end_ms);
            let routed = routed(matrix, options, warehouse, &arrivals, end_ms);
            let hours = end_ms / MS_PER_HOUR;
            println!(
                "| {name}, {gap_s} s | {:.3} | {:.3} | {:.1}x | {:.1}% | {:.1}% | {:.0} / {:.0} | {:.0} / {:.0} |",
                all.usd / hours,
                routed.usd / hours,
                all.usd / routed.usd,
                routed.utilisation * 100.0,
                routed.on_warehouse as f64 / arrivals.len().max(1) as f64 * 100.0,
                quantile(&all.latencies_ms, 0.5),
                quantile(&routed.latencies_ms, 0.5),
                quantile(&all.latencies_ms, 0.95),
                quantile(&routed.latencies_ms, 0.95),
            );
        }
    }
}

/// Queries come independently of one another: gaps are exponential.
fn arrivals(sequence: &[usize], gap_ms: f64) -> Vec<(f64, usize)> {
    let mut now = 0.0;
    sequence
        .iter()
        .enumerate()
        .map(|(number, query)| {
            now += -gap_ms * (1.0 - drawn(number as u64 + 7_000_000)).ln();
            (now, *query)
        })
        .collect()
}

fn all_on(matrix: &Matrix, engine: usize, arrivals: &[(f64, usize)], end_ms: f64) -> Day {
    let mut latencies_ms = Vec::new();
    let Some(mut warehouse) = Warehouse::of(&matrix.engines[engine].facts) else {
        return Day { usd: 0.0, latencies_ms, utilisation: 0.0, on_warehouse: 0 };
    };
    for (now, query) in arrivals {
        latencies_ms.push(warehouse.run(*now, matrix.median_ms(*query, engine).1));
    }
    Day { usd: warehouse.usd(end_ms), latencies_ms, utilisation: 0.0, on_warehouse: arrivals.len() }
}

/// Local engines share one machine; what runs there at once slows each other down by its cores.
fn routed(matrix: &Matrix, options: &Options, engine: usize, arrivals: &[(f64, usize)], end_ms: f64) -> Day {
    let mut replay = Replay::new(matrix, options);
    let mut day = Day { usd: 0.0, latencies_ms: Vec::new(), utilisation: 0.0, on_warehouse: 0 };
    let Some(mut warehouse) = Warehouse::of(&matrix.engines[engine].facts) else { return day };
    let mut running: BTreeMap<u64, usize> = BTreeMap::new();
    let mut busy_ms = 0.0;
    for (now, query) in arrivals {
        running = running.split_off(&(*now as u64 + 1));
        let facts = matrix.engines.iter().enumerate().map(|(of, known)| {
            let mut facts = known.facts.clone();
            match &mut facts.pricing.compute {
                ComputePrice::Warehouse { activity, .. } => *activity = warehouse.activity(*now),
                ComputePrice::Hourly { .. } => facts.running = running.values().filter(|at| **at == of).count() as u32,
            }
            facts
        });
        let facts: Vec<EngineFacts> = facts.collect();
        let play: Play = replay.decide_with(*query, facts);
        let tried = tried(matrix, &play);
        let mut took = play.decide_ms;
        for (position, (at, limit_ms)) in tried.iter().enumerate() {
            let given_up = position + 1 < tried.len();
            let ms = if given_up { *limit_ms } else { matrix.median_ms(*query, *at).1 };
            if *at == engine {
                day.on_warehouse += 1;
                took += warehouse.run(*now + took, ms);
            } else {
                let beside = running.len() as f64 / f64::from(matrix.engines[*at].facts.cores.max(1));
                busy_ms += ms;
                took += ms * (1.0 + beside);
                running.insert((*now + took) as u64 + 1, *at);
            }
        }
        day.latencies_ms.push(took);
        replay.learn(&play);
    }
    let machine = matrix.engines.iter().filter(|e| matches!(e.facts.pricing.compute, ComputePrice::Hourly { .. }));
    let usd_per_hour = machine.map(|engine| engine.facts.pricing.usd_per_hour()).fold(0.0, f64::max);
    day.utilisation = busy_ms / end_ms;
    day.usd = warehouse.usd(end_ms) + usd_per_hour * end_ms / MS_PER_HOUR;
    day
}
