use flightpath_types::{EngineId, EngineState, Pricing, WarehouseKind, WarehouseSize};

use super::*;

fn facts(compute: ComputePrice) -> EngineFacts {
    EngineFacts {
        id: EngineId::new("e"),
        state: EngineState::Ready,
        shape: String::new(),
        memory_bytes_max: 1 << 40,
        slots: 10,
        running: 0,
        queued: 0,
        cores: 8,
        cores_total: 8,
        overhead_ms: 0.0,
        scan_bytes_per_second_per_core: 1e8,
        pricing: Pricing { compute, ..Pricing::default() },
    }
}

/// A serverless Small: 12 DBU an hour at $0.70 is $8.40 an hour.
fn small(activity: WarehouseActivity, auto_stop_ms: Option<f64>) -> EngineFacts {
    let usd_per_hour = WarehouseSize::named("Small").dbu_per_hour * WarehouseKind::Serverless.usd_per_dbu();
    facts(ComputePrice::Warehouse { usd_per_hour, activity, start_ms: 4_000.0, auto_stop_ms })
}

fn assert_usd(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= expected.abs() * 1e-9, "{actual} isn't {expected}");
}

const TEN_MINUTES: Option<f64> = Some(600_000.0);

#[test]
fn a_workers_hour_is_divided_by_its_utilisation() {
    let worker = |utilisation| facts(ComputePrice::Hourly { usd_per_hour: 0.20, utilisation });
    // 36 s are a hundredth of an hour.
    assert_usd(marginal_usd(36_000.0, 0, 0, &worker(1.0)), 0.002);
    assert_usd(marginal_usd(36_000.0, 0, 0, &worker(0.25)), 0.008);
    // Four at once share the hour.
    assert_usd(marginal_usd(36_000.0, 0, 0, &worker(4.0)), 0.0005);
    // Clamped: never more than twenty times the list price, never less than one of ten places.
    assert_usd(marginal_usd(36_000.0, 0, 0, &worker(0.0)), 0.04);
    assert_usd(marginal_usd(36_000.0, 0, 0, &worker(70.0)), 0.0002);
}

#[test]
fn a_busy_warehouse_costs_one_of_its_places() {
    // 6 s at $8.40 an hour are $0.014; a tenth of the places.
    for activity in
        [WarehouseActivity::Busy, WarehouseActivity::Queued { wait_ms: 5_000.0 }, WarehouseActivity::Starting { remaining_ms: 2_000.0 }]
    {
        assert_usd(marginal_usd(6_000.0, 0, 0, &small(activity, TEN_MINUTES)), 0.0014);
    }
}

#[test]
fn a_place_is_one_of_the_clusters_that_run_whatever_is_sent_there() {
    let three = |slots| EngineFacts { slots, cores_total: 24, ..small(WarehouseActivity::Busy, TEN_MINUTES) };
    for slots in [30, 40] {
        assert_usd(marginal_usd(6_000.0, 0, 0, &three(slots)), 6.0 / 3_600.0 * 8.40 / 30.0);
    }
    // Alone on it: the whole warehouse. Older facts don't know how many cores there are together.
    assert_usd(marginal_usd(6_000.0, 0, 0, &three(1)), 0.014);
    assert_usd(marginal_usd(6_000.0, 0, 0, &EngineFacts { cores_total: 0, ..three(40) }), 0.0014);
}

#[test]
fn an_idle_warehouse_stops_later() {
    // Idle for 4 min, then a run of 6 s: it would have stopped after 6 more minutes, now it stops
    // 10 min after the run: 246 s more, at $8.40 an hour.
    let idle = WarehouseActivity::Idle { idle_ms: 240_000.0 };
    assert_usd(marginal_usd(6_000.0, 0, 0, &small(idle, TEN_MINUTES)), 246.0 / 3_600.0 * 8.40);
    // It can't have been idle for longer than until its stop.
    let long = WarehouseActivity::Idle { idle_ms: 1e9 };
    assert_usd(marginal_usd(0.0, 0, 0, &small(long, TEN_MINUTES)), 1.40);
    // One that never stops is up anyway.
    assert_usd(marginal_usd(6_000.0, 0, 0, &small(idle, None)), 0.0014);
}

#[test]
fn a_sleeping_warehouse_costs_start_run_and_tail() {
    // 4 s + 6 s + 600 s = 610 s at $8.40 an hour.
    assert_usd(marginal_usd(6_000.0, 0, 0, &small(WarehouseActivity::Asleep, TEN_MINUTES)), 610.0 / 3_600.0 * 8.40);
    // What isn't seen may sleep.
    assert_usd(marginal_usd(6_000.0, 0, 0, &small(WarehouseActivity::Unknown, TEN_MINUTES)), 610.0 / 3_600.0 * 8.40);
    // Without a stop of its own: an hour.
    assert_usd(marginal_usd(6_000.0, 0, 0, &small(WarehouseActivity::Asleep, None)), 3_610.0 / 3_600.0 * 8.40);
}

#[test]
fn a_start_that_nobody_saw_is_in_the_time_that_was_measured() {
    // 4 s of start and 6 s of run were measured, and it stays up for 600 s: 610 s at $8.40 an hour.
    assert_usd(settled_usd(10_000.0, 0, 0, &small(WarehouseActivity::Unknown, TEN_MINUTES)), 610.0 / 3_600.0 * 8.40);
    assert_usd(settled_usd(10_000.0, 0, 0, &small(WarehouseActivity::Unknown, None)), 3_610.0 / 3_600.0 * 8.40);
    // All other waiting is told, and left out of what was measured.
    let seen = [
        WarehouseActivity::Asleep,
        WarehouseActivity::Starting { remaining_ms: 2_000.0 },
        WarehouseActivity::Queued { wait_ms: 5_000.0 },
        WarehouseActivity::Busy,
        WarehouseActivity::Idle { idle_ms: 240_000.0 },
    ];
    let mut engines = seen.map(|activity| small(activity, TEN_MINUTES)).to_vec();
    engines.push(facts(ComputePrice::Hourly { usd_per_hour: 0.20, utilisation: 0.3 }));
    for engine in engines {
        assert_usd(settled_usd(6_000.0, 7, 8, &engine), marginal_usd(6_000.0, 7, 8, &engine));
    }
}

#[test]
fn bytes_read_and_sent_cost_too() {
    let mut worker = facts(ComputePrice::Hourly { usd_per_hour: 0.0, utilisation: 1.0 });
    (worker.pricing.storage_usd_per_gb, worker.pricing.egress_usd_per_gb) = (0.02, 0.09);
    assert_usd(marginal_usd(1.0, 5_000_000_000, 2_000_000_000, &worker), 0.10 + 0.18);
}

#[test]
fn nothing_that_comes_in_makes_it_other_than_a_finite_number() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1.0] {
        for mut engine in [
            facts(ComputePrice::Hourly { usd_per_hour: bad, utilisation: bad }),
            facts(ComputePrice::Warehouse {
                usd_per_hour: bad,
                activity: WarehouseActivity::Idle { idle_ms: bad },
                start_ms: bad,
                auto_stop_ms: Some(bad),
            }),
            small(WarehouseActivity::Asleep, Some(bad)),
        ] {
            (engine.pricing.storage_usd_per_gb, engine.pricing.egress_usd_per_gb, engine.slots) = (bad, bad, 0);
            for usd in [marginal_usd(bad, u64::MAX, u64::MAX, &engine), settled_usd(bad, u64::MAX, u64::MAX, &engine)] {
                assert!(usd.is_finite() && usd >= 0.0, "{usd} of {engine:?}");
            }
        }
    }
}
