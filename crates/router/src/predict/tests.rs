use flightpath_types::{EngineId, EngineState, Pricing, TableUse};

use super::*;

fn facts(engine: &str, shape: &str) -> EngineFacts {
    EngineFacts {
        id: EngineId::new(engine),
        state: EngineState::Ready,
        shape: shape.into(),
        memory_bytes_max: 4 << 30,
        slots: 4,
        running: 0,
        queued: 0,
        cores: 2,
        cores_total: 2,
        overhead_ms: 2.0,
        scan_bytes_per_second_per_core: 2e8,
        pricing: Pricing::hourly(0.2),
    }
}

fn scan(bytes: u64) -> Features {
    Features { scans: 1, files: 1, files_total: 1, file_bytes: bytes, scan_bytes: bytes, columns_read: 2, ..Default::default() }
}

fn shape(number: u64) -> Option<Fingerprint> {
    Some(Fingerprint::from_u64(number))
}

fn see(predictor: &Predictor, fingerprint: Option<Fingerprint>, features: &Features, facts: &EngineFacts, latency: Observed) {
    predictor.observe(&Observation { fingerprint, features, facts, latency_ms: Some(latency), memory_bytes: None, read_bytes: None });
}

fn close(actual: f64, expected: f64, factor: f64) -> bool {
    actual <= expected * factor && actual >= expected / factor
}

/// A stand-in for an engine: three times the prior, joins cost double, aggregates half as much.
fn truth(features: &Features) -> f64 {
    3.0 * prior::latency_ms(features, &facts("e", "s")) * f64::from(1 + features.joins) * 0.5f64.powi(features.aggregates as i32)
}

fn mixed(number: u64) -> Features {
    let bytes = 1u64 << (10 + mix(number) % 22);
    Features { joins: (mix(number ^ 1) % 4) as u32, aggregates: (mix(number ^ 2) % 2) as u32, ..scan(bytes) }
}

#[test]
fn a_new_installation_starts_with_the_prior() {
    let numbers = Predictor::default().predict(shape(1), &scan(400_000_000), &facts("duckdb", "2c"));
    assert_eq!((numbers.source, numbers.observations), (PredictionSource::Prior, 0));
    assert!((numbers.latency_ms - 1_002.0).abs() < 1e-6, "{numbers:?}");
    assert!(close(numbers.latency_p95_ms, 5_010.0, 1.01), "{numbers:?}");
    assert!(numbers.memory_p95_bytes > numbers.memory_bytes);
}

#[test]
fn a_shape_that_was_seen_takes_what_it_took() {
    let predictor = Predictor::default();
    let (features, engine) = (scan(400_000_000), facts("duckdb", "2c"));
    for ms in [900.0, 100.0, 110.0, 105.0, 102.0] {
        see(&predictor, shape(1), &features, &engine, Observed::Exactly(ms));
    }
    let numbers = predictor.predict(shape(1), &features, &engine);
    assert_eq!((numbers.source, numbers.observations), (PredictionSource::Shape, 5));
    assert!(close(numbers.latency_ms, 105.0, 1.06), "{numbers:?}");
    assert!(numbers.latency_p95_ms > numbers.latency_ms);
}

#[test]
fn another_worker_shape_starts_anew() {
    let predictor = Predictor::default();
    let features = scan(400_000_000);
    for _ in 0..20 {
        see(&predictor, shape(1), &features, &facts("duckdb", "2c"), Observed::Exactly(10.0));
    }
    let bigger = predictor.predict(shape(1), &features, &facts("duckdb", "16c"));
    assert_eq!((bigger.source, bigger.observations), (PredictionSource::Prior, 0));
    assert_eq!(predictor.predict(shape(1), &features, &facts("duckdb", "2c")).source, PredictionSource::Shape);
}

#[test]
fn after_growth_times_are_scaled_and_then_forgotten() {
    let predictor = Predictor::default();
    let engine = facts("duckdb", "2c");
    see(&predictor, shape(1), &scan(100_000_000), &engine, Observed::Exactly(102.0));
    let same = predictor.predict(shape(1), &scan(120_000_000), &engine);
    let fourfold = predictor.predict(shape(1), &scan(400_000_000), &engine);
    let hundredfold = predictor.predict(shape(1), &scan(10_000_000_000), &engine);
    assert!(close(same.latency_ms, 102.0, 1.01), "{same:?}");
    assert!(close(fourfold.latency_ms, 402.0, 1.01), "{fourfold:?}");
    assert!(fourfold.latency_p95_ms / fourfold.latency_ms > same.latency_p95_ms / same.latency_ms);
    assert_ne!(hundredfold.source, PredictionSource::Shape);
    // Both sizes are kept beside one another: the same text with other literals.
    see(&predictor, shape(1), &scan(10_000_000_000), &engine, Observed::Exactly(9_000.0));
    assert!(close(predictor.predict(shape(1), &scan(10_000_000_000), &engine).latency_ms, 9_000.0, 1.01));
    assert!(close(predictor.predict(shape(1), &scan(100_000_000), &engine).latency_ms, 102.0, 1.01));
}

#[test]
fn the_model_learns_what_the_prior_doesnt_know() {
    let predictor = Predictor::default();
    let engine = facts("e", "s");
    for number in 0..400 {
        let features = mixed(number);
        see(&predictor, shape(number), &features, &engine, Observed::Exactly(truth(&features)));
    }
    let mut errors: Vec<f64> = (10_000..10_200)
        .map(|number| {
            let features = mixed(number);
            let numbers = predictor.predict(shape(number), &features, &engine);
            assert_eq!(numbers.source, PredictionSource::Model);
            (numbers.latency_ms / truth(&features)).max(truth(&features) / numbers.latency_ms)
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    assert!(errors[100] < 1.15 && errors[190] < 1.6, "median q-error {}, 95th {}", errors[100], errors[190]);
}

#[test]
fn the_95th_percentile_is_kept_even_by_noise_that_isnt_normal() {
    let predictor = Predictor::default();
    let engine = facts("e", "s");
    let (mut within, mut all) = (0, 0);
    for number in 0..3_000 {
        let features = mixed(number);
        // One in ten is six times slower.
        let actual = truth(&features) * if mix(number ^ 77).is_multiple_of(10) { 6.0 } else { 1.0 };
        if number >= 1_000 {
            all += 1;
            within += usize::from(actual <= predictor.predict(shape(number), &features, &engine).latency_p95_ms);
        }
        see(&predictor, shape(number), &features, &engine, Observed::Exactly(actual));
    }
    let share = within as f64 / f64::from(all);
    assert!((0.92..0.98).contains(&share), "{share}");
}

#[test]
fn a_run_that_was_cut_short_counts_as_at_least_that() {
    let predictor = Predictor::default();
    let (features, engine) = (scan(100_000_000), facts("duckdb", "2c"));
    let before = predictor.predict(shape(1), &features, &engine).latency_ms;
    // A bound far below what is expected says nothing.
    see(&predictor, shape(1), &features, &engine, Observed::AtLeast(before / 100.0));
    assert_eq!(predictor.predict(shape(1), &features, &engine).observations, 0);
    see(&predictor, shape(1), &features, &engine, Observed::AtLeast(60_000.0));
    let after = predictor.predict(shape(1), &features, &engine);
    assert!(after.latency_ms >= 60_000.0, "{after:?}");
}

#[test]
fn memory_is_learned_beside_time() {
    let predictor = Predictor::default();
    let engine = facts("duckdb", "2c");
    for number in 0..50 {
        let features = mixed(number);
        predictor.observe(&Observation {
            fingerprint: shape(number),
            features: &features,
            facts: &engine,
            latency_ms: None,
            memory_bytes: Some(Observed::Exactly(10.0 * prior::memory_bytes(&features) as f64)),
            read_bytes: None,
        });
    }
    let numbers = predictor.predict(shape(1), &mixed(1), &engine);
    assert!(close(numbers.memory_bytes as f64, 10.0 * prior::memory_bytes(&mixed(1)) as f64, 1.05), "{numbers:?}");
    let unseen = predictor.predict(None, &mixed(999), &engine);
    assert!(close(unseen.memory_bytes as f64, 10.0 * prior::memory_bytes(&mixed(999)) as f64, 1.5), "{unseen:?}");
    assert_eq!(unseen.source, PredictionSource::Prior, "no time was seen");
}

#[test]
fn bytes_are_what_files_say_and_their_95th_percentile_follows_what_is_read() {
    let predictor = Predictor::default();
    let (engine, other) = (facts("datafusion", "2c"), facts("duckdb", "2c"));
    let features = scan(1_000_000);
    let bytes = |engine: &EngineFacts| {
        let numbers = predictor.predict(None, &features, engine);
        assert_eq!(numbers.scan_bytes, 1_000_000);
        numbers.scan_bytes_p95
    };
    let first = bytes(&engine);
    assert!((1_100_000..1_500_000).contains(&first), "{first}");
    let read = |engine: &EngineFacts, read_bytes| {
        let (fingerprint, features) = (shape(1), &features);
        predictor.observe(&Observation { fingerprint, features, facts: engine, latency_ms: None, memory_bytes: None, read_bytes });
    };
    // Every tenth query reads three times as much.
    (0..400).for_each(|number| read(&engine, Some(if number % 10 == 0 { 3_000_000 } else { 900_000 })));
    assert!((2_000_000..4_000_000).contains(&bytes(&engine)), "{}", bytes(&engine));
    assert_eq!(bytes(&other), first, "another engine's reads say nothing of it");
    // What comes from a cache isn't read: the bound comes down to what files say, and no lower.
    (0..400).for_each(|_| read(&engine, Some(0)));
    assert_eq!(bytes(&engine), 1_000_000);
    let none = predictor.predict(None, &scan(0), &engine);
    assert_eq!((none.scan_bytes, none.scan_bytes_p95), (0, 0));
}

#[test]
fn a_full_engine_makes_a_query_wait_as_long_as_its_queries_take() {
    let predictor = Predictor::default();
    let (features, mut engine) = (scan(1_000), facts("duckdb", "2c"));
    for number in 0..10 {
        see(&predictor, shape(number), &features, &engine, Observed::Exactly(1_000.0));
    }
    assert_eq!(predictor.predict(shape(1), &features, &engine).wait_ms, 0.0);
    (engine.running, engine.queued) = (4, 7);
    // Eight ahead of it for four places.
    let numbers = predictor.predict(shape(1), &features, &engine);
    assert!(close(numbers.wait_ms, 6_000.0, 1.01), "each takes three times as long beside the others: {numbers:?}");
    assert!(numbers.latency_ms > 5_000.0, "two cores for five queries: {numbers:?}");
}

/// What runs there shares the cores of all machines, not of the one that the query lands on.
#[test]
fn many_machines_with_as_much_each_are_as_slow_as_one() {
    let predictor = Predictor::default();
    let one = EngineFacts { running: 3, ..facts("duckdb", "2c") };
    let ten = EngineFacts { running: 30, slots: 40, cores_total: 20, ..one.clone() };
    let busy = EngineFacts { running: 30, ..one.clone() };
    let latency = |facts: &EngineFacts| predictor.predict(None, &scan(1 << 30), facts).latency_ms;
    assert_eq!(latency(&one), latency(&ten));
    assert!(latency(&busy) > 5.0 * latency(&one));
}

#[test]
fn what_was_learned_survives_a_restart() {
    let predictor = Predictor::default();
    let engine = facts("duckdb", "2c");
    for number in 0..200 {
        let features = Features { tables: vec![TableUse { bytes: 5, ..Default::default() }], ..mixed(number) };
        predictor.observe(&Observation {
            fingerprint: shape(number % 50),
            features: &features,
            facts: &engine,
            latency_ms: Some(Observed::Exactly(truth(&features))),
            memory_bytes: Some(Observed::Exactly(1e8)),
            read_bytes: Some(3 * features.scan_bytes),
        });
    }
    let kept = serde_json::to_string(&predictor.export()).unwrap();
    let again = Predictor::default();
    let restored = again.restore(serde_json::from_str(&kept).unwrap());
    assert_eq!((restored.models, restored.left_out, again.len()), (1, 0, predictor.len()));
    for number in [3, 60, 5_000] {
        let (a, b) = (predictor.predict(shape(number), &mixed(number), &engine), again.predict(shape(number), &mixed(number), &engine));
        assert_eq!((a.source, a.observations), (b.source, b.observations));
        assert!(close(a.latency_ms, b.latency_ms, 1.000_001) && close(a.latency_p95_ms, b.latency_p95_ms, 1.000_001), "{a:?} {b:?}");
        assert_eq!(a.scan_bytes_p95, b.scan_bytes_p95);
    }
}

#[test]
fn a_damaged_or_foreign_snapshot_is_left_out_and_counted() {
    let predictor = Predictor::default();
    for number in 0..20 {
        see(&predictor, shape(number), &mixed(number), &facts("duckdb", "2c"), Observed::Exactly(5.0));
    }
    let sound = predictor.export();
    let mut damaged = sound.clone();
    damaged.shapes[0].classes[0].latency = vec![f32::NAN];
    damaged.shapes[1].classes.clear();
    damaged.models[0].latency.xx[0] = f64::INFINITY;
    let again = Predictor::default();
    assert_eq!(again.restore(damaged), Restored { shapes: 18, models: 0, left_out: 3 });
    let foreign = PredictorSnapshot { version: 999, ..sound.clone() };
    assert_eq!(Predictor::default().restore(foreign).left_out, 21);
    // What a shape took stays true when the models' features change.
    let older = PredictorSnapshot { version: snapshot::VERSION - 1, ..sound };
    assert_eq!(Predictor::default().restore(older), Restored { shapes: 20, models: 0, left_out: 1 });
}

#[test]
fn it_stays_within_its_bounds_and_forgets_the_oldest_first() {
    let predictor = Predictor::new(PredictorConfig { shapes_max: 160, models_max: 3 });
    let features = scan(1_000);
    for number in 0..5_000 {
        see(&predictor, shape(number), &features, &facts("duckdb", &format!("{}c", number / 500)), Observed::Exactly(1.0));
        let (shapes, models) = predictor.len();
        assert!(shapes <= 160 && models <= 3, "{shapes} shapes, {models} models");
    }
    assert_eq!(predictor.predict(shape(4_999), &features, &facts("duckdb", "9c")).source, PredictionSource::Shape);
    assert_ne!(predictor.predict(shape(4_000), &features, &facts("duckdb", "8c")).source, PredictionSource::Shape);
}

#[test]
fn what_is_new_to_an_engine_is_tried_there_more_often() {
    let predictor = Predictor::default();
    let (ran, other) = (facts("datafusion", "2c"), facts("duckdb", "2c"));
    let share = |share, number| predictor.shadow_share(share, shape(number), &mixed(number), &ran, &other);
    assert!(close(share(0.02, 1), 0.5, 1.001), "nothing is known");
    for number in 0..400 {
        see(&predictor, shape(number), &mixed(number), &other, Observed::Exactly(5.0));
    }
    assert!(close(share(0.02, 1), 0.02, 1.001), "that shape ran there");
    assert!(close(share(0.02, 5_000), 0.02, 1.001), "the engine is known");
    for _ in 0..2 {
        see(&predictor, shape(5_000), &mixed(5_000), &ran, Observed::Exactly(5.0));
    }
    assert!(close(share(0.02, 5_000), 0.5, 1.001), "it comes again and again, and never ran there");
    assert_eq!((share(0.0, 5_000), share(f64::NAN, 5_000)), (0.0, 0.0));
}

#[test]
fn escalation_waits_for_three_times_the_95th_percentile_and_at_least_two_seconds() {
    let numbers = |p95| CandidateNumbers { latency_p95_ms: p95, ..Default::default() };
    assert_eq!(escalate_after_ms(&numbers(2_000.0)), 6_000.0);
    assert_eq!(escalate_after_ms(&numbers(3.0)), ESCALATE_MS_MIN);
    assert_eq!(escalate_after_ms(&numbers(f64::NAN)), ESCALATE_MS_MIN);
    let dear = |leave_after_ms| escalate_after_ms(&CandidateNumbers { leave_after_ms, ..numbers(2_000.0) });
    assert_eq!((dear(10_000.0), dear(3e9), dear(f64::NAN)), (10_000.0, 24_000.0, 24_000.0));
}

/// Shapes far from one another.
fn varied() -> Vec<Features> {
    let joined = Features { joins: 2, aggregates: 1, group_keys: 2, depth: 9, scans: 3, columns_read: 7, ..scan(2_000_000_000) };
    let crossed = Features { joins: 1, cross_joins: 1, aggregates: 1, scans: 2, produced_rows: 10_000_000, ..scan(70_000_000) };
    let ranked = Features { windows: 3, sorts: 1, filters: 2, subqueries: 1, unions: 1, ..scan(50_000_000) };
    vec![scan(900), scan(40_000), scan(71_000_000), scan(30_000_000_000), joined, crossed, ranked, Features::default()]
}

#[test]
fn one_observation_moves_another_shape_by_at_most_twofold() {
    let engine = facts("e", "s");
    for ordinary in [0, 1, 2, 4, 8, 40] {
        for (odd, outlier) in varied().iter().enumerate() {
            for factor in [1e-4, 0.01, 70.0, 1e5] {
                let predictor = Predictor::default();
                for number in 0..ordinary {
                    let features = mixed(number);
                    see(&predictor, shape(number), &features, &engine, Observed::Exactly(truth(&features)));
                }
                let others: Vec<Features> = varied().into_iter().enumerate().filter(|(i, _)| *i != odd).map(|(_, f)| f).collect();
                let of = |features: &Features| predictor.predict(None, features, &engine).latency_ms;
                let before: Vec<f64> = others.iter().map(of).collect();
                let ms = truth(outlier) * factor;
                see(&predictor, shape(1_000), outlier, &engine, Observed::Exactly(ms));
                for (other, before) in others.iter().zip(before) {
                    let after = of(other);
                    assert!(close(after, before, 2.0), "after {ordinary} and {ms} ms: {before} -> {after} ms for {other:?}");
                }
            }
        }
    }
}

fn see_memory(predictor: &Predictor, number: u64, features: &Features, engine: &EngineFacts, memory: Observed) {
    let (fingerprint, memory_bytes) = (shape(number), Some(memory));
    predictor.observe(&Observation { fingerprint, features, facts: engine, latency_ms: None, memory_bytes, read_bytes: None });
}

#[test]
fn a_few_heavy_runs_dont_make_a_small_query_spill() {
    let predictor = Predictor::default();
    let engine = facts("e", "s");
    let of = |features: &Features| predictor.predict(None, features, &engine).memory_p95_bytes;
    let (small, crossed) = (scan(1_000), Features { joins: 1, cross_joins: 1, scans: 2, ..scan(1_000) });
    let fresh = of(&small);
    see_memory(&predictor, 1, &scan(71_000_000), &engine, Observed::Exactly(3e9));
    assert_eq!(of(&small), fresh, "one run");
    for number in 2..20 {
        see_memory(
            &predictor,
            number,
            &Features { joins: 1, cross_joins: 1, scans: 2, ..scan(71_000_000) },
            &engine,
            Observed::Exactly(3e9),
        );
    }
    assert!(of(&small) <= 129 << 20, "{}", of(&small));
    assert!(of(&crossed) > 129 << 20, "nothing bounds what a cross join holds: {}", of(&crossed));
    let seen = predictor.predict(shape(1), &scan(71_000_000), &engine);
    assert!(close(seen.memory_bytes as f64, 3e9, 1.01), "its own is believed: {seen:?}");
}

#[test]
fn running_out_of_memory_says_nothing_of_others() {
    let predictor = Predictor::default();
    let engine = facts("e", "s");
    let other = scan(400_000_000);
    let of = |fingerprint| predictor.predict(fingerprint, &other, &engine).memory_bytes;
    let fresh = of(None);
    for number in 0..20 {
        see_memory(&predictor, number, &other, &engine, Observed::AtLeast(4e9));
    }
    assert_eq!(of(None), fresh);
    assert!(of(shape(3)) >= 4_000_000_000);
}

#[test]
fn rows_that_are_made_count_as_work_and_arrays_as_memory() {
    let engine = facts("e", "s");
    let numbers = |features: &Features| Predictor::default().predict(None, features, &engine);
    let rows = 6_000_000;
    let pairs = Features { joins: 1, cross_joins: 1, aggregates: 1, scans: 2, produced_rows: rows * rows, ..scan(100_000) };
    assert!(numbers(&pairs).latency_ms > 3_600_000.0, "{:?}", numbers(&pairs));
    let exploded = Features { generators: 1, produced_rows: 100_000_000, array_elements: 100_000_000, ..Features::default() };
    let taken = numbers(&exploded);
    assert!(taken.latency_ms > 500.0 && taken.memory_bytes > 1_000_000_000, "{taken:?}");
    // What is grouped or sorted above it is held.
    let sorted = Features { sorts: 1, result_rows: Some(rows * rows), ..pairs.clone() };
    assert!(numbers(&sorted).memory_bytes > 1_000_000_000_000, "{:?}", numbers(&sorted));
    let beyond = Features { produced_rows: u64::MAX, array_elements: u64::MAX, ..pairs };
    assert!(numbers(&beyond).latency_ms.is_finite() && numbers(&beyond).memory_p95_bytes > 0);
}

#[test]
fn what_was_kept_is_added_to_what_was_learned_since() {
    let (earlier, now) = (Predictor::default(), Predictor::default());
    let engine = facts("e", "s");
    for number in 0..200 {
        see(&earlier, shape(number), &mixed(number), &engine, Observed::Exactly(truth(&mixed(number))));
    }
    for number in [5, 1_000] {
        see(&now, shape(number), &mixed(number), &engine, Observed::Exactly(7.0));
    }
    let before = now.revision();
    assert_eq!(now.restore(earlier.export()), Restored { shapes: 200, models: 1, left_out: 0 });
    assert_eq!(now.revision(), before, "nothing was learned here by that");
    let of = |number| now.predict(shape(number), &mixed(number), &engine);
    assert_eq!((of(5).source, of(5).observations), (PredictionSource::Shape, 2));
    assert!(close(of(1_000).latency_ms, 7.0, 1.01) && close(of(6).latency_ms, truth(&mixed(6)), 1.01));
    let unseen = now.predict(None, &mixed(9_000), &engine);
    assert_eq!((unseen.source, unseen.observations), (PredictionSource::Model, 202));
    let apart = earlier.predict(None, &mixed(9_000), &engine);
    assert!(close(unseen.latency_ms, apart.latency_ms, 1.3), "{unseen:?} {apart:?}");
}

/// Two that share what is kept, as routers do, end up knowing what one would that had seen all of it.
#[test]
fn what_several_learn_is_added_up_and_nothing_counts_twice() {
    let engine = facts("duckdb", "2c");
    let truth = |features: &Features| prior::latency_ms(features, &engine) * 6.0;
    let (first, second, alone) = (Predictor::default(), Predictor::default(), Predictor::default());
    let mut kept = first.export();
    let learn = |predictor: &Predictor, number: u64| {
        for one in [predictor, &alone] {
            see(one, shape(number), &mixed(number), &engine, Observed::Exactly(truth(&mixed(number))));
        }
    };
    for round in 0..20 {
        // One shape that both run, and others that are each one's own.
        for number in 0..3 {
            learn(&first, 1_000 + round * 10 + number);
            learn(&second, 2_000 + round * 10 + number);
        }
        learn(&first, 7);
        learn(&second, 7);
        for one in [&first, &second] {
            one.restore(kept.clone());
            kept = one.export();
            // Learned while it was being saved: not in there yet.
            if round == 9 {
                learn(one, 7);
            }
            one.saved(&kept);
        }
    }
    first.restore(kept.clone());
    for one in [&first, &second] {
        // Taking in the same again changes nothing.
        one.restore(kept.clone());
        assert_eq!(one.len(), alone.len());
        let (seven, whole) = (one.predict(shape(7), &mixed(7), &engine), alone.predict(shape(7), &mixed(7), &engine));
        assert_eq!((seven.source, seven.observations), (PredictionSource::Shape, 42));
        assert_eq!(whole.observations, 42);
        let (unseen, whole) = (one.predict(None, &mixed(9_000), &engine), alone.predict(None, &mixed(9_000), &engine));
        assert_eq!((unseen.source, unseen.observations), (PredictionSource::Model, whole.observations));
        assert!(close(unseen.latency_ms, whole.latency_ms, 1.3), "{unseen:?} {whole:?}");
    }
}
