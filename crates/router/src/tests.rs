use flightpath_types::{ComputePrice, Decision, EngineState, Pricing, RefusalClass, WarehouseActivity};

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
        cores_total: 2,
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

#[test]
fn the_record_reads_decisions_of_older_versions() {
    let old = r#"{"strategy":"rules","candidates":[{"engine":"duckdb","refusal":null,
        "numbers":{"latency_ms":1.5,"memory_bytes":10,"scan_bytes":20,"usd":0.25},"rank":1,"reason":"r"}],"reason":"r"}"#;
    let decision: Decision = serde_json::from_str(old).unwrap();
    let numbers = decision.chosen().unwrap().numbers;
    assert_eq!((numbers.latency_ms, numbers.usd, numbers.observations), (1.5, 0.25, 0));
    assert_eq!((decision.profile, decision.propensity, decision.arm), (None, None, None));
}

fn warehouse(activity: WarehouseActivity) -> Contender {
    let mut facts = facts("databricks", 250.0, 1.5e8);
    (facts.memory_bytes_max, facts.slots, facts.cores) = (1 << 50, 10, 32);
    facts.pricing.compute = ComputePrice::Warehouse { usd_per_hour: 8.4, activity, start_ms: 4_000.0, auto_stop_ms: Some(600_000.0) };
    Contender { facts, refusal: None }
}

fn policy(strategy: &str) -> Policy {
    Policy::with_strategy(Strategy::parse(strategy).unwrap())
}

#[test]
fn a_sleeping_warehouse_isnt_woken_for_what_a_worker_does_in_time() {
    let engines = vec![two_engines().remove(1), warehouse(WarehouseActivity::Asleep)];
    for strategy in ["cost", "cheapest_within_slo", "latency", "rules"] {
        assert_eq!(chosen(&decide(&scan(100 << 20), &engines, &policy(strategy))), "duckdb", "{strategy}");
    }
}

#[test]
fn a_busy_warehouse_takes_what_would_be_late_on_a_worker() {
    // 40 GB: 50 s on the worker at 0.8 GB/s, 9 s on the warehouse at 4.8 GB/s.
    let engines = |activity| vec![two_engines().remove(1), warehouse(activity)];
    let busy = decide(&scan(40_000_000_000), &engines(WarehouseActivity::Busy), &policy("cost"));
    assert_eq!(chosen(&busy), "databricks");
    assert!(busy.reason.contains("least cost"), "{}", busy.reason);
    // Waking it costs $1.40 for the tail alone; 48 s are worth 48 cents.
    let mut learned = facts("duckdb", 2.0, 4e8);
    learned.scan_bytes_per_second_per_core = 4e8;
    let predictor = Predictor::default();
    let features = scan(40_000_000_000);
    for _ in 0..5 {
        let latency_ms = Some(Observed::Exactly(50_000.0));
        let fingerprint = Some(Fingerprint::from_u64(1));
        predictor.observe(&Observation {
            fingerprint,
            features: &features,
            facts: &learned,
            latency_ms,
            memory_bytes: None,
            read_bytes: None,
        });
    }
    let input = |policy, contenders| RouteInput {
        features: &features,
        fingerprint: Some(Fingerprint::from_u64(1)),
        query_id: QueryId::from_bytes([7; 16]),
        principal: PRINCIPAL.get_or_init(|| Principal::new("ana")),
        contenders,
        policy,
        predictor: &predictor,
    };
    let (cost, asleep) = (policy("cost"), engines(WarehouseActivity::Asleep));
    let decision = route(&input(&cost, &asleep));
    assert_eq!(chosen(&decision), "duckdb");
    assert!(decision.reason.contains("as 5 times before"), "{}", decision.reason);
}

static PRINCIPAL: std::sync::OnceLock<Principal> = std::sync::OnceLock::new();

#[test]
fn what_is_big_and_unknown_goes_where_there_is_room() {
    let engines = vec![two_engines().remove(1), warehouse(WarehouseActivity::Asleep)];
    let decision = decide(&scan(60_000_000_000), &engines, &policy("cost(late=0)"));
    assert_eq!(chosen(&decision), "databricks");
    assert!(decision.candidates[1].reason.contains("little known"), "{}", decision.candidates[1].reason);
    // Alone, the worker has to do.
    assert_eq!(chosen(&decide(&scan(60_000_000_000), &engines[..1], &policy("cost"))), "duckdb");
}

/// Having run there is no reason to trust an engine less.
#[test]
fn a_big_query_that_ran_somewhere_once_goes_there_again() {
    let engines = vec![two_engines().remove(1), warehouse(WarehouseActivity::Asleep)];
    let features = scan(40_000_000_000);
    let predictor = Predictor::default();
    let see = |shape: u64, features: &Features, ms: f64| {
        predictor.observe(&Observation {
            fingerprint: Some(Fingerprint::from_u64(shape)),
            features,
            facts: &engines[0].facts,
            latency_ms: Some(Observed::Exactly(ms)),
            memory_bytes: None,
            read_bytes: None,
        })
    };
    (100..400).for_each(|shape| see(shape, &scan(shape * 200_000_000), shape as f64 * 250.0));
    let (policy, principal) = (policy("cost(late=0.0003,slo=300s)"), Principal::new("ana"));
    let decide = || {
        route(&RouteInput {
            features: &features,
            fingerprint: Some(Fingerprint::from_u64(1)),
            query_id: QueryId::from_bytes([7; 16]),
            principal: &principal,
            contenders: &engines,
            policy: &policy,
            predictor: &predictor,
        })
    };
    let before = decide();
    assert_eq!(chosen(&before), "duckdb", "{}", before.reason);
    see(1, &features, 50_000.0);
    let after = decide();
    assert_eq!(after.candidates[0].numbers.observations, 1);
    assert_eq!(chosen(&after), "duckdb", "{}", after.reason);
    assert!(after.candidates[0].numbers.latency_p95_ms > 60_000.0, "it may take over a minute: {after:?}");
}

#[test]
fn who_waits_here_for_a_warehouse_waits() {
    let mut engines = vec![warehouse(WarehouseActivity::Busy)];
    let alone = decide(&scan(1 << 30), &engines, &policy("cost")).candidates[0].numbers;
    (engines[0].facts.running, engines[0].facts.queued) = (engines[0].facts.slots, 40);
    let behind = decide(&scan(1 << 30), &engines, &policy("cost")).candidates[0].numbers;
    assert_eq!(alone.wait_ms, 0.0);
    assert!(behind.wait_ms > 2.0 * alone.latency_ms, "{behind:?}");
}

#[test]
fn a_pin_decides_for_no_side_of_a_test_and_hides_no_reason() {
    let mut engines = two_engines();
    engines[1].refusal = Some(Refusal::new(RefusalClass::Semantics, "it can't"));
    let pinned = Policy { pinned: Some(EngineId::new("datafusion")), ..policy("ab:rules|latency") };
    let decision = decide(&scan(1 << 20), &engines, &pinned);
    assert_eq!((decision.arm.as_deref(), decision.propensity), (None, Some(1.0)));
    let refused = |id: &str| decision.candidates.iter().find(|c| c.engine.as_str() == id).and_then(|c| c.refusal.clone());
    assert_eq!(refused("duckdb").map(|r| r.class), Some(RefusalClass::Semantics));
}

#[test]
fn a_query_that_may_need_more_memory_than_a_worker_has_comes_there_last() {
    let mut features = scan(3 << 30);
    features.joins = 1;
    features.tables = vec![Default::default(), Default::default()];
    let mut engines = vec![two_engines().remove(1), warehouse(WarehouseActivity::Asleep)];
    engines[0].facts.memory_bytes_max = 1 << 30;
    let decision = decide(&features, &engines, &policy("cost(late=0)"));
    assert_eq!(chosen(&decision), "databricks");
    assert!(decision.candidates[1].reason.contains("would spill"), "{}", decision.candidates[1].reason);
    engines[0].facts.memory_bytes_max = 64 << 30;
    assert_eq!(chosen(&decide(&features, &engines, &policy("cost(late=0)"))), "duckdb");
}

/// What spills ends, mostly soon; waking a warehouse costs the same for every query.
#[test]
fn a_sleeping_warehouse_isnt_woken_for_what_spills_a_little() {
    let mut features = scan(3 << 30);
    features.joins = 1;
    features.tables = vec![Default::default(), Default::default()];
    let mut worker = two_engines().remove(1);
    let needed = decide(&features, std::slice::from_ref(&worker), &Policy::default()).candidates[0].numbers.memory_bytes;
    worker.facts.memory_bytes_max = needed - needed / 4;
    let chosen_of = |activity| chosen(&decide(&features, &[worker.clone(), warehouse(activity)], &policy("cost(late=0)"))).to_string();
    assert_eq!(chosen_of(WarehouseActivity::Asleep), "duckdb");
    assert_eq!(chosen_of(WarehouseActivity::Busy), "databricks");
    // Where it fits beside, it isn't made to spill.
    let roomy = Contender { facts: EngineFacts { memory_bytes_max: needed * 2, ..facts("datafusion", 500.0, 2e8) }, refusal: None };
    let both = [worker.clone(), roomy, warehouse(WarehouseActivity::Asleep)];
    assert_eq!(chosen(&decide(&features, &both, &policy("cost(late=0)"))), "datafusion");
    worker.facts.memory_bytes_max = needed / 12;
    let asleep = decide(&features, &[worker, warehouse(WarehouseActivity::Asleep)], &policy("cost(late=0)"));
    assert_eq!(chosen(&asleep), "databricks");
}

/// Estimates multiply along a chain of joins, and so do their errors.
#[test]
fn rows_beyond_all_that_is_read_are_no_reason_to_refuse() {
    let exploded = Some(1 << 40);
    let mut features = Features { scan_rows: Some(100_000), joins: 18, columns_read: 40, ..scan(10 << 20) };
    (features.groups, features.grouped_rows) = (exploded, exploded);
    (features.joined_rows, features.sorted_rows) = (exploded, exploded);
    let decision = decide(&features, &two_engines(), &Policy::default());
    let numbers = decision.chosen().expect("it is run").numbers;
    assert!(numbers.latency_ms < 1_000.0 && numbers.memory_bytes < 1 << 30, "{numbers:?}");
}

#[test]
fn an_engine_is_left_once_waiting_has_cost_what_the_next_one_does() {
    let mut engines = two_engines();
    engines.push(warehouse(WarehouseActivity::Asleep));
    let waits = |strategy: &str| -> Vec<(String, f64, f64)> {
        let decision = decide(&scan(100 << 20), &engines, &policy(strategy));
        decision.ranked().map(|c| (c.engine.to_string(), c.numbers.leave_after_ms, c.numbers.usd)).collect()
    };
    let waits_of = waits("cost(late=0.01,slo=3s)");
    let [(_, first, _), (_, second, _), (last, behind_it, usd)] = &waits_of[..] else { panic!("{waits_of:?}") };
    assert_eq!((last.as_str(), *first, *behind_it), ("databricks", 0.0, 0.0), "machines by the hour are paid in any case");
    assert!((second - 3_000.0 - usd / 0.01 * 1_000.0).abs() < 1e-6 && *second > 4_000.0, "{waits_of:?}");
    assert!(waits("cost(late=0)")[1].1 >= 3e9, "lateness is worth nothing");
    assert!(waits("latency").iter().all(|(_, after, _)| *after == 0.0), "money is worth nothing");
}

#[test]
fn profiles_restrict_engines_bytes_and_budgets() {
    let refused = |profile: Profile, restriction: Option<Restriction>| {
        let decision = decide(&scan(2_000_000_000), &two_engines(), &Policy { restriction, ..Policy::of(profile) });
        (chosen(&decision).to_string(), decision.refusals_text())
    };
    let named = Profile::named("small");
    let only = Profile { engines: Some(vec![EngineId::new("datafusion")]), ..named.clone() };
    assert_eq!(refused(only, None), ("datafusion".into(), "duckdb: profile `small` doesn't use it".into()));
    let limits = ProfileLimits { scan_bytes_max: Some(1_000_000_000), ..Default::default() };
    let (engine, reasons) = refused(Profile { limits, ..named.clone() }, None);
    assert!(engine == "none" && reasons.contains("reads about 2.0 GB; profile `small` allows 1.0 GB"), "{reasons}");
    let spent = Restriction { engines: Vec::new(), why: "profile `small` has spent its 5.00 dollars of today".into() };
    let (engine, reasons) = refused(named, Some(spent));
    assert!(engine == "none" && reasons.contains("nothing runs until tomorrow"), "{reasons}");
}

#[test]
fn an_ab_test_splits_stably_and_says_what_was_drawn() {
    let policy = policy("ab:always:duckdb|always:datafusion:0.25");
    let predictor = Predictor::default();
    let (engines, features, principal) = (two_engines(), scan(1 << 30), Principal::new("ana"));
    let mut on_b = 0;
    for shape in 0..2_000 {
        let input = |query_id: u8| RouteInput {
            features: &features,
            fingerprint: Some(Fingerprint::from_u64(shape)),
            query_id: QueryId::from_bytes([query_id; 16]),
            principal: &principal,
            contenders: &engines,
            policy: &policy,
            predictor: &predictor,
        };
        let decision = route(&input(1));
        assert_eq!(decision, route(&input(2)), "a shape stays on its side");
        assert_eq!(decision.ranked().count(), 2, "a side prefers, it doesn't refuse");
        let b = chosen(&decision) == "datafusion";
        assert_eq!(decision.propensity, Some(if b { 0.25 } else { 0.75 }));
        assert_eq!(decision.arm.as_deref(), Some(if b { "always:datafusion" } else { "always:duckdb" }));
        on_b += u32::from(b);
    }
    assert!((430..570).contains(&on_b), "{on_b} of 2000");
    let same = decide(&features, &engines, &self::policy("ab:latency|always:duckdb:0.25"));
    assert_eq!((chosen(&same), same.propensity), ("duckdb", Some(1.0)), "both sides choose it");
}

mod properties;
