//! Measures deciding: from features to a decision among eight engines, with a predictor that holds
//! ten thousand shapes. Prints percentiles; run it optimized.

use std::time::Instant;

use flightpath_router::{Contender, Observation, Observed, Policy, Predictor, PredictorConfig, RouteInput, Strategy, route};
use flightpath_types::{
    ComputePrice, EngineFacts, EngineId, EngineState, Features, Fingerprint, Pricing, Principal, QueryId, TableUse, WarehouseActivity,
};

const ENGINES: u64 = 8;
const SHAPES: u64 = 10_000;
const DECISIONS: u64 = 20_000;

/// A simple generator with a fixed start: every run measures the same decisions.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn features(numbers: &mut Numbers) -> Features {
    let tables = 1 + numbers.below(5);
    let bytes = 1u64 << (12 + numbers.below(22));
    Features {
        tables: (0..tables)
            .map(|table| TableUse { name: format!("lake.default.t{table}"), bytes: bytes / (table + 1), ..Default::default() })
            .collect(),
        files: 1 + bytes / (64 << 20),
        files_total: 2 + bytes / (16 << 20),
        file_bytes: bytes * 3,
        scan_bytes: bytes,
        scan_rows: Some(bytes / 20),
        result_rows: Some(1 + numbers.below(10_000)),
        scans: tables as u32,
        columns_read: 1 + numbers.below(20) as u32,
        joins: (tables - 1) as u32,
        aggregates: numbers.below(2) as u32,
        group_keys: numbers.below(4) as u32,
        sorts: numbers.below(2) as u32,
        limits: numbers.below(2) as u32,
        filters: numbers.below(5) as u32,
        depth: 3 + numbers.below(10) as u32,
        ..Default::default()
    }
}

fn engine(number: u64) -> Contender {
    let pricing = match number {
        7 => Pricing {
            compute: ComputePrice::Warehouse {
                usd_per_hour: 8.4,
                activity: WarehouseActivity::Idle { idle_ms: 60_000.0 },
                start_ms: 4_000.0,
                auto_stop_ms: Some(600_000.0),
            },
            ..Pricing::default()
        },
        n => Pricing::hourly(0.1 * (n + 1) as f64),
    };
    let facts = EngineFacts {
        id: EngineId::new(format!("worker-{number}")),
        state: EngineState::Ready,
        shape: format!("duckdb:{}c:16GiB", 2 << (number % 3)),
        memory_bytes_max: 16 << 30,
        slots: 8,
        running: number as u32,
        queued: 0,
        cores: 2 << (number % 3),
        cores_total: 2 << (number % 3),
        overhead_ms: 2.0,
        scan_bytes_per_second_per_core: 4e8,
        pricing,
    };
    Contender { facts, refusal: None }
}

fn main() -> Result<(), String> {
    let engines: Vec<Contender> = (0..ENGINES).map(engine).collect();
    let predictor = Predictor::new(PredictorConfig { shapes_max: (SHAPES * ENGINES * 2) as usize, models_max: 64 });
    let mut numbers = Numbers(42);
    let shapes: Vec<Features> = (0..SHAPES).map(|_| features(&mut numbers)).collect();
    for (shape, features) in shapes.iter().enumerate() {
        for contender in &engines {
            let ms = 2.0 + features.scan_bytes as f64 / 1e6 * (1 + numbers.below(4)) as f64;
            predictor.observe(&Observation {
                fingerprint: Some(Fingerprint::from_u64(shape as u64)),
                features,
                facts: &contender.facts,
                latency_ms: Some(Observed::Exactly(ms)),
                memory_bytes: Some(Observed::Exactly(ms * 1e6)),
                read_bytes: Some(features.scan_bytes),
            });
        }
    }
    let (remembered, models) = predictor.len();
    println!("{ENGINES} engines, {remembered} shapes on engines remembered, {models} models");
    let principal = Principal::new("ana");
    for strategy in ["rules", "cost", "cheapest_within_slo", "ab:rules|cost"] {
        let policy = Policy::with_strategy(Strategy::parse(strategy)?);
        for (title, first) in [("seen shapes", 0), ("unseen shapes", SHAPES)] {
            let mut micros: Vec<f64> = (0..DECISIONS)
                .map(|_| {
                    let shape = numbers.below(SHAPES);
                    let input = RouteInput {
                        features: &shapes[shape as usize],
                        fingerprint: Some(Fingerprint::from_u64(first + shape)),
                        query_id: QueryId::generate(),
                        principal: &principal,
                        contenders: &engines,
                        policy: &policy,
                        predictor: &predictor,
                    };
                    let begun = Instant::now();
                    std::hint::black_box(route(&input));
                    begun.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            micros.sort_by(f64::total_cmp);
            let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
            println!("{strategy}, {title}: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us", at(0.5), at(0.99), at(0.999));
        }
    }
    Ok(())
}
