use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use flightpath_types::{Decision, EngineState, Pricing, RefusalClass};
use proptest::strategy::Strategy as _;

use super::*;

/// Decides with a predictor that has seen nothing.
fn decide(features: &Features, contenders: &[Contender], policy: &Policy) -> Decision {
    route(&RouteInput {
        features,
        fingerprint: None,
        query_id: QueryId::from_bytes([7; 16]),
        principal: &Principal::new("ana"),
        contenders,
        policy,
        predictor: &Predictor::default(),
    })
}

fn facts(id: &str, overhead_ms: f64, rate: f64) -> EngineFacts {
    EngineFacts {
        id: EngineId::new(id),
        state: EngineState::Ready,
        shape: format!("{id}:2c"),
        memory_bytes_max: 4 << 30,
        slots: 4,
        running: 0,
        queued: 0,
        cores: 2,
        overhead_ms,
        scan_bytes_per_second_per_core: rate,
        pricing: Pricing::hourly(0.2),
    }
}

fn two_engines() -> Vec<Contender> {
    vec![Contender { facts: facts("datafusion", 0.5, 2e8), refusal: None }, Contender { facts: facts("duckdb", 2.0, 4e8), refusal: None }]
}

fn scan(bytes: u64) -> Features {
    Features { scans: 1, files: 1, files_total: 10, file_bytes: bytes, scan_bytes: bytes, ..Default::default() }
}

fn chosen(decision: &Decision) -> &str {
    decision.chosen().map_or("none", |c| c.engine.as_str())
}

#[test]
fn small_queries_go_where_starting_is_cheapest_and_big_ones_where_scanning_is_fastest() {
    let small = decide(&scan(1 << 20), &two_engines(), &Policy::default());
    assert_eq!(chosen(&small), "datafusion");
    assert!(small.reason.contains("small and simple"), "{}", small.reason);
    let big = decide(&scan(1 << 30), &two_engines(), &Policy::default());
    assert_eq!(chosen(&big), "duckdb");
    assert!(big.reason.contains("fastest scan"), "{}", big.reason);
}

#[test]
fn a_pinned_engine_that_refuses_is_never_replaced() {
    let mut engines = two_engines();
    engines[1].refusal = Some(Refusal::new(RefusalClass::Semantics, "function `x` isn't known"));
    let policy = Policy { pinned: Some(EngineId::new("duckdb")), ..Default::default() };
    let decision = decide(&scan(1), &engines, &policy);
    assert!(decision.chosen().is_none());
    assert!(decision.reason.contains("function `x` isn't known"), "{}", decision.reason);
}

#[test]
fn a_pin_on_an_unknown_engine_names_the_known_ones() {
    let policy = Policy { pinned: Some(EngineId::new("oracle")), ..Default::default() };
    let decision = decide(&scan(1), &two_engines(), &policy);
    assert!(decision.chosen().is_none());
    assert!(decision.reason.contains("datafusion, duckdb"), "{}", decision.reason);
}

#[test]
fn an_engine_that_is_down_is_passed_over_with_its_reason() {
    let mut engines = two_engines();
    engines[1].facts.state = EngineState::Down("worker exited with signal 9".into());
    let decision = decide(&scan(1 << 30), &engines, &Policy::default());
    assert_eq!(chosen(&decision), "datafusion");
    assert!(decision.refusals_text().contains("signal 9"));
}

#[test]
fn always_allows_one_engine_only() {
    let policy = Policy::with_strategy(Strategy::parse("always:duckdb").unwrap());
    let decision = decide(&scan(1), &two_engines(), &policy);
    assert_eq!(chosen(&decision), "duckdb");
    assert_eq!(decision.ranked().count(), 1);
}

#[test]
fn a_query_beyond_every_engines_memory_is_refused_with_the_sizes() {
    let mut features = scan(1 << 40);
    features.joins = 1;
    features.tables = vec![Default::default(), Default::default()];
    let decision = decide(&features, &two_engines(), &Policy::default());
    assert!(decision.chosen().is_none());
    assert!(decision.reason.contains("of memory"), "{}", decision.reason);
}

fn any_contender(id: &'static str) -> impl proptest::strategy::Strategy<Value = Contender> {
    (0.0..100.0f64, 1e6..1e10f64, 1u64 << 20..1 << 36, any::<bool>(), 0..3u8).prop_map(move |(overhead, rate, memory, refuses, state)| {
        let mut facts = facts(id, overhead, rate);
        facts.memory_bytes_max = memory;
        facts.state = match state {
            0 => EngineState::Ready,
            1 => EngineState::Down("x".into()),
            _ => EngineState::Draining,
        };
        Contender { facts, refusal: refuses.then(|| Refusal::new(RefusalClass::Semantics, "no")) }
    })
}

fn any_features() -> impl proptest::strategy::Strategy<Value = Features> {
    (0u64..1 << 42, 0u32..8, 0u32..4, 0u32..3, proptest::option::of(0u64..1 << 40)).prop_map(|(bytes, joins, group_keys, windows, rows)| {
        let mut features = scan(bytes);
        features.joins = joins;
        features.group_keys = group_keys;
        features.windows = windows;
        features.scan_rows = rows;
        features
    })
}

proptest! {
    #[test]
    fn never_ranks_an_ineligible_engine_and_every_refusal_has_a_reason(
        features in any_features(), a in any_contender("a"), b in any_contender("b"), c in any_contender("c"),
    ) {
        let engines = vec![a, b, c];
        let decision = decide(&features, &engines, &Policy::default());
        prop_assert_eq!(&decision, &decide(&features, &engines, &Policy::default()));
        prop_assert_eq!(decision.candidates.len(), 3);
        for candidate in &decision.candidates {
            let contender = engines.iter().find(|e| e.facts.id == candidate.engine).unwrap();
            prop_assert!(!candidate.reason.is_empty());
            prop_assert_eq!(candidate.refusal.is_none(), candidate.rank.is_some());
            if contender.refusal.is_some() || contender.facts.state != EngineState::Ready {
                prop_assert!(candidate.rank.is_none());
            }
        }
        let ranks: Vec<u32> = decision.ranked().filter_map(|c| c.rank).collect();
        prop_assert_eq!(ranks.clone(), (1..=ranks.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn better_numbers_never_make_an_engine_less_preferred(
        features in any_features(), a in any_contender("a"), b in any_contender("b"), gain in 1.0..10.0f64,
    ) {
        let before = decide(&features, &[a.clone(), b.clone()], &Policy::default());
        let mut better = a;
        better.facts.overhead_ms /= gain;
        better.facts.scan_bytes_per_second_per_core *= gain;
        better.facts.memory_bytes_max = (better.facts.memory_bytes_max as f64 * gain) as u64;
        let after = decide(&features, &[better, b], &Policy::default());
        if chosen(&before) == "a" {
            prop_assert_eq!(chosen(&after), "a");
        }
    }
}
