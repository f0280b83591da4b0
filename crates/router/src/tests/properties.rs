//! What must hold whatever comes in: of every strategy, with a predictor in any state.

use flightpath_types::{CandidateNumbers, TableUse};
use proptest::prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::{BoxedStrategy, Strategy as Generator};

use super::*;
use crate::ProfileLimits;
use crate::rank::{Contestant, rank};

fn any_strategy() -> BoxedStrategy<Strategy> {
    let simple = prop_oneof![
        Just(Strategy::Rules),
        Just(Strategy::Latency),
        (prop::option::of(0.0..10.0f64), prop::option::of(1.0..1e6f64))
            .prop_map(|(usd_per_second_late, slo_ms)| Strategy::Cost { usd_per_second_late, slo_ms }),
        prop::option::of(1.0..1e6f64).prop_map(|slo_ms| Strategy::CheapestWithinSlo { slo_ms }),
        prop::sample::select(vec!["a", "b", "nowhere"]).prop_map(|engine| Strategy::Always(EngineId::new(engine))),
    ];
    let unit = prop::sample::select(vec![AbUnit::Shape, AbUnit::Query]);
    let ab = (simple.clone(), simple.clone(), 0.01..0.99f64, unit)
        .prop_map(|(a, b, share_b, unit)| Strategy::Ab(Box::new(AbTest { a, b, share_b, unit })));
    prop_oneof![4 => simple, 1 => ab].boxed()
}

/// Sensible numbers and all the others.
fn any_number() -> BoxedStrategy<f64> {
    prop_oneof![4 => 0.0..1e6f64, 1 => any::<f64>(), 1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, f64::MAX])]
        .boxed()
}

fn any_pricing(number: BoxedStrategy<f64>) -> BoxedStrategy<Pricing> {
    let hourly =
        (number.clone(), number.clone()).prop_map(|(usd_per_hour, utilisation)| ComputePrice::Hourly { usd_per_hour, utilisation });
    let warehouse = (0..6u8, number.clone(), number.clone(), number.clone(), prop::option::of(number.clone())).prop_map(
        |(activity, usd_per_hour, ms, start_ms, auto_stop_ms)| {
            let activity = match activity {
                0 => WarehouseActivity::Busy,
                1 => WarehouseActivity::Idle { idle_ms: ms },
                2 => WarehouseActivity::Asleep,
                3 => WarehouseActivity::Starting { remaining_ms: ms },
                4 => WarehouseActivity::Queued { wait_ms: ms },
                _ => WarehouseActivity::Unknown,
            };
            ComputePrice::Warehouse { usd_per_hour, activity, start_ms, auto_stop_ms }
        },
    );
    (prop_oneof![hourly, warehouse], number.clone(), number)
        .prop_map(|(compute, egress_usd_per_gb, storage_usd_per_gb)| Pricing { compute, egress_usd_per_gb, storage_usd_per_gb })
        .boxed()
}

fn any_contender(id: &'static str, number: BoxedStrategy<f64>) -> BoxedStrategy<Contender> {
    let state = prop_oneof![
        6 => Just(EngineState::Ready),
        1 => Just(EngineState::Down("x".into())),
        1 => Just(EngineState::Draining),
    ];
    let counts = (any::<u64>(), 0..200u32, 0..200u32, 0..1_000u32, 0..300u32);
    (number.clone(), number.clone(), counts, any_pricing(number), state, prop::bool::weighted(0.2))
        .prop_map(move |(overhead_ms, rate, (memory_bytes_max, slots, running, queued, cores), pricing, state, refuses)| {
            let facts = EngineFacts {
                state,
                memory_bytes_max,
                slots,
                running,
                queued,
                cores,
                cores_total: cores,
                overhead_ms,
                scan_bytes_per_second_per_core: rate,
                pricing,
                ..facts(id, 0.0, 0.0)
            };
            Contender { facts, refusal: refuses.then(|| Refusal::new(RefusalClass::Semantics, "no")) }
        })
        .boxed()
}

fn any_count() -> BoxedStrategy<u64> {
    prop_oneof![6 => 0u64..1 << 42, 1 => any::<u64>(), 1 => Just(u64::MAX)].boxed()
}

fn any_features() -> BoxedStrategy<Features> {
    let few = || prop_oneof![9 => 0u32..6, 1 => any::<u32>()];
    let sizes = (any_count(), any_count(), any_count(), prop::option::of(any_count()), prop::option::of(any_count()), any_count());
    let work = (few(), few(), few(), few(), few(), few(), few(), few());
    (sizes, work, prop::collection::vec(any_count(), 0..4))
        .prop_map(|((files, file_bytes, scan_bytes, scan_rows, result_rows, deleted_rows), work, tables)| {
            let (joins, aggregates, group_keys, windows, distincts, sorts, limits, columns_read) = work;
            let tables = tables.into_iter().map(|bytes| TableUse { bytes, ..Default::default() }).collect();
            Features {
                scans: 1,
                files,
                files_total: files,
                file_bytes,
                scan_bytes,
                scan_rows,
                result_rows,
                deleted_rows,
                joins,
                cross_joins: joins,
                aggregates,
                group_keys,
                windows,
                distincts,
                sorts,
                limits,
                unions: limits,
                subqueries: sorts,
                filters: aggregates,
                depth: windows,
                columns_read,
                tables,
                produced_rows: deleted_rows,
                generators: limits,
                array_elements: files,
                collects: aggregates,
                groups: result_rows,
                grouped_rows: scan_rows,
                joined_rows: scan_rows,
                sorted_rows: result_rows,
            }
        })
        .boxed()
}

/// Runs on the engines `a`, `b` and `c` of [`facts`]' shapes.
fn any_history() -> BoxedStrategy<Vec<(usize, u64, Features, Observed, Option<Observed>)>> {
    let observed =
        || (any_number(), any::<bool>()).prop_map(|(value, exact)| if exact { Observed::Exactly(value) } else { Observed::AtLeast(value) });
    prop::collection::vec((0..3usize, 0..4u64, any_features(), observed(), prop::option::of(observed())), 0..12).boxed()
}

fn taught(history: &[(usize, u64, Features, Observed, Option<Observed>)], contenders: &[Contender]) -> Predictor {
    let predictor = Predictor::new(PredictorConfig { shapes_max: 64, models_max: 4 });
    for (engine, shape, features, latency, memory_bytes) in history {
        predictor.observe(&Observation {
            fingerprint: Some(Fingerprint::from_u64(*shape)),
            features,
            facts: &contenders[*engine % contenders.len()].facts,
            latency_ms: Some(*latency),
            memory_bytes: *memory_bytes,
            read_bytes: None,
        });
    }
    predictor
}

fn input<'a>(features: &'a Features, contenders: &'a [Contender], policy: &'a Policy, predictor: &'a Predictor) -> RouteInput<'a> {
    let principal = PRINCIPAL.get_or_init(|| Principal::new("ana"));
    let (fingerprint, query_id) = (Some(Fingerprint::from_u64(1)), QueryId::from_bytes([3; 16]));
    RouteInput { features, fingerprint, query_id, principal, contenders, policy, predictor }
}

fn finite(numbers: &CandidateNumbers) -> bool {
    [numbers.latency_ms, numbers.latency_p95_ms, numbers.wait_ms, numbers.usd, numbers.leave_after_ms]
        .iter()
        .all(|n| n.is_finite() && *n >= 0.0)
        && numbers.latency_p95_ms >= numbers.latency_ms
        && numbers.memory_p95_bytes >= numbers.memory_bytes
}

/// The engine with some of its numbers better by `gain`.
fn improved(mut contender: Contender, what: [bool; 6], gain: f64) -> Contender {
    let facts = &mut contender.facts;
    if what[0] {
        facts.overhead_ms /= gain;
    }
    if what[1] {
        facts.scan_bytes_per_second_per_core *= gain;
    }
    if what[2] {
        facts.memory_bytes_max = (facts.memory_bytes_max as f64 * gain) as u64;
    }
    if what[3] {
        match &mut facts.pricing.compute {
            ComputePrice::Hourly { usd_per_hour, .. } | ComputePrice::Warehouse { usd_per_hour, .. } => *usd_per_hour /= gain,
        }
    }
    if what[4] {
        (facts.running, facts.queued) = ((f64::from(facts.running) / gain) as u32, (f64::from(facts.queued) / gain) as u32);
    }
    if let (true, ComputePrice::Warehouse { start_ms, .. }) = (what[5], &mut facts.pricing.compute) {
        *start_ms /= gain;
    }
    contender
}

/// Facts as they come from sound engines.
fn sound_contender(id: &'static str) -> BoxedStrategy<Contender> {
    any_contender(id, (0.001..1e5f64).boxed())
        .prop_map(|mut contender| {
            contender.facts.scan_bytes_per_second_per_core *= 1e5;
            contender.facts.memory_bytes_max >>= 20;
            contender
        })
        .boxed()
}

fn any_numbers() -> BoxedStrategy<CandidateNumbers> {
    (prop_oneof![0.01..1e3f64, 0.01..1e6f64], 1.0..20.0f64, 0u64..1 << 34, 0.0..1e4f64, 0.0..2.0f64, 0..6u32)
        .prop_map(|(latency_ms, spread, memory_bytes, wait_ms, usd, observations)| CandidateNumbers {
            latency_ms,
            latency_p95_ms: latency_ms * spread,
            wait_ms,
            memory_bytes,
            memory_p95_bytes: memory_bytes * 2,
            usd,
            usd_p95: usd * spread,
            observations,
            source: flightpath_types::PredictionSource::Model,
            scan_bytes: 0,
            scan_bytes_p95: 0,
            leave_after_ms: 0.0,
        })
        .boxed()
}

/// A profile's engines, none of them perhaps, and how much a query may read.
fn any_limits() -> BoxedStrategy<(Option<Vec<EngineId>>, Option<u64>)> {
    let used = prop::sample::subsequence(vec!["a", "b", "c", "nowhere"], 0..=4);
    let used = used.prop_map(|names| names.into_iter().map(EngineId::new).collect());
    (prop::option::weighted(0.3, used), prop::option::weighted(0.3, any_count())).boxed()
}

proptest! {
    #[test]
    fn a_decision_is_complete_reasoned_finite_and_the_same_again(
        features in any_features(), strategy in any_strategy(), history in any_history(),
        a in any_contender("a", any_number()), b in any_contender("b", any_number()), c in any_contender("c", any_number()),
        pinned in prop::option::weighted(0.2, prop::sample::select(vec!["a", "nowhere"])),
        allowed in prop::option::weighted(0.2, prop::sample::select(vec!["a", "b"])),
        (used, scan_bytes_max) in any_limits(),
    ) {
        let engines = vec![a, b, c];
        let predictor = taught(&history, &engines);
        let mut policy = Policy::with_strategy(strategy);
        policy.pinned = pinned.map(EngineId::new);
        let limits = ProfileLimits { scan_bytes_max, ..Default::default() };
        policy.profile = Arc::new(Profile { engines: used.clone(), limits, ..policy.profile.as_ref().clone() });
        if let Some(allowed) = allowed {
            policy.restriction = Some(Restriction { engines: vec![EngineId::new(allowed)], why: "spent".into() });
        }
        let decision = route(&input(&features, &engines, &policy, &predictor));
        prop_assert_eq!(&decision, &route(&input(&features, &engines, &policy, &predictor)));
        prop_assert!(decision.candidates.len() >= 3);
        prop_assert!(!decision.reason.is_empty());
        for candidate in &decision.candidates {
            prop_assert!(!candidate.reason.is_empty());
            prop_assert!(candidate.refusal.as_ref().is_none_or(|refusal| !refusal.reason.is_empty()));
            prop_assert_eq!(candidate.refusal.is_none(), candidate.rank.is_some());
            prop_assert!(finite(&candidate.numbers), "{:?}", candidate.numbers);
            let Some(contender) = engines.iter().find(|e| e.facts.id == candidate.engine) else {
                prop_assert!(candidate.rank.is_none());
                continue;
            };
            let forbidden = contender.refusal.is_some()
                || contender.facts.state != EngineState::Ready
                || policy.pinned.as_ref().is_some_and(|pinned| *pinned != candidate.engine)
                || policy.restriction.as_ref().is_some_and(|r| !r.engines.contains(&candidate.engine))
                || used.as_ref().is_some_and(|used| !used.contains(&candidate.engine))
                || scan_bytes_max.is_some_and(|max| features.scan_bytes > max);
            prop_assert!(!forbidden || candidate.rank.is_none(), "{}", candidate.engine);
        }
        let ranks: Vec<u32> = decision.ranked().filter_map(|c| c.rank).collect();
        prop_assert_eq!(ranks.clone(), (1..=ranks.len() as u32).collect::<Vec<_>>());
        prop_assert_eq!(decision.propensity.is_some(), decision.chosen().is_some());
        prop_assert!(decision.propensity.is_none_or(|p| p > 0.0 && p <= 1.0));
        // What JSON can't say would be lost in the record.
        let text = serde_json::to_string(&decision).unwrap();
        prop_assert!(serde_json::from_str::<Decision>(&text).is_ok(), "{text}");
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// Of the facts, with whatever was learned: another overhead, rate, memory, price, load or start.
    #[test]
    fn a_better_engine_is_never_less_preferred(
        features in any_features(), strategy in any_strategy(), history in any_history(),
        a in sound_contender("a"), b in sound_contender("b"), c in sound_contender("c"),
        what in any::<[bool; 6]>(), gain in 1.0..10.0f64,
    ) {
        let policy = Policy::with_strategy(strategy);
        let engines = [a, b, c];
        let predictor = taught(&history, &engines);
        let before = route(&input(&features, &engines, &policy, &predictor));
        let [a, b, c] = engines;
        let engines = [improved(a, what, gain), b, c];
        let after = route(&input(&features, &engines, &policy, &predictor));
        let rank = |decision: &Decision| decision.candidates.iter().find(|c| c.engine.as_str() == "a").and_then(|c| c.rank);
        match (rank(&before), rank(&after)) {
            (Some(before), Some(after)) => prop_assert!(after <= before, "from {before} to {after}"),
            (Some(_), None) => prop_assert!(false, "it was refused for being better"),
            (None, _) => {}
        }
    }

    /// Of the predictions themselves; the other engine's are near, so that little decides.
    #[test]
    fn better_numbers_never_make_an_engine_less_preferred(
        features in any_features(), strategy in any_strategy(), a in any_numbers(),
        near in [0.3..3.0f64, 0.3..3.0f64, 0.3..3.0f64, 0.3..3.0f64], what in any::<[bool; 5]>(), gain in 1.0..10.0f64, metered in any::<[bool; 2]>(),
    ) {
        let mut b = a;
        (b.latency_ms, b.usd) = (a.latency_ms * near[0], a.usd * near[2]);
        b.latency_p95_ms = (a.latency_p95_ms * near[1]).max(b.latency_ms);
        b.memory_bytes = (a.memory_bytes as f64 * near[3]) as u64;
        b.memory_p95_bytes = b.memory_bytes * 2;
        let profile = Profile::named("p");
        let asleep = ComputePrice::Warehouse { usd_per_hour: 8.4, activity: WarehouseActivity::Asleep, start_ms: 4_000.0, auto_stop_ms: None };
        let of = |id, metered| {
            let mut facts = facts(id, 1.0, 1e8);
            if metered {
                facts.pricing.compute = asleep.clone();
            }
            facts
        };
        let (facts_a, facts_b) = (of("a", metered[0]), of("b", metered[1]));
        let first = |a: CandidateNumbers| {
            let contestants = [Contestant { index: 0, numbers: a, facts: &facts_a }, Contestant { index: 1, numbers: b, facts: &facts_b }];
            rank(&strategy, &profile, &features, &contestants)[0].index
        };
        let mut better = a;
        if what[0] {
            better.latency_ms /= gain;
        }
        if what[1] {
            better.latency_p95_ms = (better.latency_p95_ms / gain).max(better.latency_ms);
        }
        if what[2] {
            better.usd /= gain;
        }
        if what[3] {
            better.memory_p95_bytes = ((better.memory_p95_bytes as f64 / gain) as u64).max(better.memory_bytes);
        }
        if what[4] {
            better.memory_bytes = (better.memory_bytes as f64 / gain) as u64;
        }
        if first(a) == 0 {
            prop_assert_eq!(first(better), 0);
        }
    }

}

proptest! {
    #[test]
    fn the_predictor_never_panics_stays_bounded_and_is_restored_whole(
        features in any_features(), history in prop::collection::vec(any_history(), 1..8),
        a in any_contender("a", any_number()), b in any_contender("b", any_number()), c in any_contender("c", any_number()),
    ) {
        let engines = [a, b, c];
        let history: Vec<_> = history.into_iter().flatten().collect();
        let predictor = taught(&history, &engines);
        let (shapes, models) = predictor.len();
        prop_assert!(shapes <= 64 && models <= 4);
        let text = serde_json::to_string(&predictor.export()).unwrap();
        let again = Predictor::new(PredictorConfig { shapes_max: 64, models_max: 4 });
        let restored = again.restore(serde_json::from_str(&text).unwrap());
        prop_assert_eq!(restored.left_out, 0);
        for engine in &engines {
            let numbers = predictor.predict(Some(Fingerprint::from_u64(1)), &features, &engine.facts);
            prop_assert!(finite(&numbers), "{numbers:?}");
            let restored = again.predict(Some(Fingerprint::from_u64(1)), &features, &engine.facts);
            prop_assert!(finite(&restored) && (restored.latency_ms / numbers.latency_ms - 1.0).abs() < 1e-3);
        }
    }
}
