//! Whole exports: in every form they come in, damaged ones, and what they come to.

use flightpath_audit::{Assumptions, History, Report, Warehouses, estimate};
use flightpath_types::ErrorKind;
use serde_json::{Value, json};

const NOON_MS: i64 = 1_760_000_000_000;
const MINUTE_MS: i64 = 60_000;

/// As the API answers, metrics included.
fn query(id: &str, minute: i64, kind: &str, read_bytes: u64) -> Value {
    let start = NOON_MS + minute * MINUTE_MS;
    json!({
        "query_id": id, "status": "FINISHED", "query_text": format!("{kind} {id}"), "statement_type": kind,
        "query_start_time_ms": start, "execution_end_time_ms": start + 9_000, "query_end_time_ms": start + 10_000, "duration": 10_000,
        "user_id": 1, "user_name": "ana@example.com", "warehouse_id": "w1", "endpoint_id": "w1", "rows_produced": 3,
        "is_final": true, "channel_used": {"name": "CHANNEL_NAME_CURRENT"}, "client_application": "Power BI",
        "metrics": {"total_time_ms": 10_000, "read_bytes": read_bytes, "spill_to_disk_bytes": 0, "result_from_cache": false,
                    "compilation_time_ms": 100, "query_compilation_start_timestamp": start},
    })
}

fn read(texts: &[&str]) -> History {
    let mut history = History::default();
    for text in texts {
        history.read(text.as_bytes()).unwrap();
    }
    history
}

fn report(history: &mut History) -> Report {
    let mut warehouses = Warehouses::default();
    warehouses.add("w1=Small,10,serverless").unwrap();
    let everything_may_leave = Assumptions { share: [1.0; 3], ..Default::default() };
    estimate(history, &warehouses, &everything_may_leave).unwrap()
}

#[test]
fn every_form_of_an_export_is_read_alike() {
    let queries: Vec<Value> = (0..6).map(|i| query(&format!("q{i}"), i * 7, "SELECT", 100_000_000)).collect();
    let page = |range: std::ops::Range<usize>, next: &str| json!({"next_page_token": next, "has_next_page": !next.is_empty(), "res": queries[range]});
    let (first, second, empty) = (page(0..4, "abc").to_string(), page(4..6, "").to_string(), json!({"has_next_page": false}).to_string());
    let lines: String = queries.iter().map(|q| format!("{q}\n")).collect();
    let array = Value::Array(queries.clone()).to_string();
    let pages = format!("[{first},{second}]");
    let concatenated = format!("{first}\n{second}{empty}");
    let mut reports: Vec<Report> = [vec![&first[..], &second, &empty], vec![&lines], vec![&array], vec![&pages], vec![&concatenated]]
        .iter()
        .map(|texts| report(&mut read(texts)))
        .collect();
    let one = reports.pop().unwrap();
    assert_eq!((one.queries, one.selects), (6, 6));
    assert!(reports.iter().all(|r| *r == one), "{reports:#?}");
}

#[test]
fn a_query_exported_twice_counts_once_and_odd_lines_are_counted_not_fatal() {
    let whole = query("q1", 0, "SELECT", 1_000);
    let odd = json!({"res": [
        whole, whole, null, 7, "text",
        {"query_id": "no-start", "status": "FINISHED", "duration": 5},
        {"query_id": "running", "status": "RUNNING", "query_start_time_ms": NOON_MS},
        {"query_id": "at-zero", "status": "FINISHED", "query_start_time_ms": 0, "query_end_time_ms": NOON_MS},
        {"query_id": "before-zero", "status": "FINISHED", "query_start_time_ms": -5, "duration": 5},
        {"query_id": "backwards", "query_start_time_ms": NOON_MS, "query_end_time_ms": NOON_MS - 1},
        // The least that can be used; numbers in quotes, nulls, no metrics.
        {"query_id": "least", "query_start_time_ms": NOON_MS.to_string(), "duration": "250", "metrics": null, "statement_type": null},
        {"error_code": "X", "message": "y"},
    ]});
    let mut history = read(&[&odd.to_string()]);
    assert_eq!(history.len(), 2);
    let skipped: Vec<(&str, u64)> = history.skipped().collect();
    assert_eq!(
        skipped,
        [
            ("an error that the API answered", 1),
            ("ends before it begins", 1),
            ("exported twice", 1),
            ("not a query", 3),
            ("not ended when it was exported", 1),
            ("without a start time", 3)
        ]
    );
    let report = report(&mut history);
    assert_eq!(report.api_errors, ["X: y"]);
    assert_eq!((report.selects, report.others), (1, 1));
    // Not since 1970.
    assert_eq!(report.from_unix_ms, NOON_MS);
    assert!(report.days < 1.0, "{}", report.days);
}

#[test]
fn damaged_times_and_unknown_statuses_are_left_out_and_counted() {
    let whole: Vec<Value> = (0..20).map(|i| query(&format!("q{i}"), i, "SELECT", 1_000)).collect();
    let damaged = |id: &str, field: &str, value: Value| {
        let mut one = query(id, 0, "SELECT", 1_000);
        one[field] = value;
        one
    };
    let in_three_years = {
        let minutes = 3 * 365 * 24 * 60;
        query("stray", minutes, "SELECT", 1_000)
    };
    let all: Vec<Value> = whole
        .iter()
        .cloned()
        .chain([
            damaged("long", "query_end_time_ms", json!(NOON_MS + 8 * 86_400_000)),
            damaged("year-9999", "query_start_time_ms", json!(253_370_764_800_000_i64)),
            damaged("year-1970", "query_start_time_ms", json!(86_400_000)),
            damaged("weird", "status", json!("WEIRD")),
            damaged("null", "status", Value::Null),
            in_three_years,
            Value::Null,
            json!({}),
        ])
        .collect();
    let mut history = read(&[&json!({"res": all}).to_string()]);
    let report = report(&mut history);
    assert_eq!(report.queries, 20);
    assert!(report.days < 1.0, "{}", report.days);
    let skipped: Vec<(&str, u64)> = report.skipped.iter().map(|(why, count)| (why.as_str(), *count)).collect();
    assert_eq!(
        skipped,
        [
            ("begun before 2015 or after 2100", 2),
            ("longer than 7 days", 1),
            ("more than a year away from the others", 1),
            ("not a query", 2),
            ("of a status that isn't known", 2)
        ]
    );
}

#[test]
fn when_nothing_can_be_counted_it_is_said_why() {
    let estimate_of = |page: Value| estimate(&mut read(&[&page.to_string()]), &Warehouses::default(), &Assumptions::default()).unwrap_err();
    let endless: Vec<Value> = (0..5).map(|i| json!({"query_id": i, "status": "FINISHED", "query_start_time_ms": NOON_MS})).collect();
    let error = estimate_of(json!({"res": endless}));
    assert!(error.message().contains("left out: 5 without an end or a duration"), "{error}");
    let error = estimate_of(json!({"error_code": "PERMISSION_DENIED", "message": "no"}));
    assert!(error.message().contains("the API answered PERMISSION_DENIED: no"), "{error}");
}

#[test]
fn a_byte_order_mark_in_front_of_a_file_is_no_trouble() {
    let page = json!({"res": [query("q1", 0, "SELECT", 1)]}).to_string();
    let mut history = read(&[&format!("\u{feff}{page}"), &format!("\u{feff}{}", query("q2", 1, "SELECT", 1)), "\u{feff}"]);
    assert_eq!(history.len(), 2);
    assert_eq!(history.skipped().count(), 0);
    assert_eq!(report(&mut history).selects, 2);
}

#[test]
fn a_torn_file_and_one_without_queries_say_so() {
    let text = json!({"res": [query("q1", 0, "SELECT", 1)]}).to_string();
    let mut history = History::default();
    let torn = history.read(&text.as_bytes()[..text.len() - 5]).unwrap_err();
    assert!(torn.message().contains("ends in the middle"), "{torn}");
    let garbage = History::default().read(b"<html>".as_slice()).unwrap_err();
    assert_eq!(garbage.kind(), ErrorKind::InvalidArgument);
    let nothing = estimate(&mut read(&["{\"res\": []}"]), &Warehouses::default(), &Assumptions::default()).unwrap_err();
    assert!(nothing.message().contains("history/queries"), "{nothing}");
}

#[test]
fn small_selects_leave_and_the_warehouse_sleeps_while_writes_keep_it_up() {
    // A dashboard asks every 9 minutes all day; one job writes for 10 s at noon.
    let mut queries: Vec<Value> = (0..160).map(|i| query(&format!("q{i}"), i * 9, "SELECT", 100_000_000)).collect();
    queries.push(query("job", 720, "INSERT", 5_000_000));
    let mut history = read(&[&json!({"res": queries}).to_string()]);
    let report = report(&mut history);
    for (level, estimate) in report.estimates.iter().enumerate() {
        let of = &report.warehouses[0].levels[level];
        // Up all day now, 10 s and its tail afterwards.
        assert!((of.hours_now - 24.02).abs() < 0.05, "{of:?}");
        assert!((of.hours_after - (610.0 / 3600.0)).abs() < 0.001, "{of:?}");
        assert_eq!((of.wakes_now, of.wakes_after, of.leaving), (1, 1, 160));
        // 12 DBU an hour at 0.70 USD, less the machines that always run.
        let saved = (of.hours_now - of.hours_after) * 12.0 * 0.70 - estimate.machines_usd;
        assert!((estimate.saved_usd - saved).abs() < 1e-6);
    }
    let [low, expected, high] = &report.estimates[..] else { panic!("three levels") };
    assert!(low.saved_usd < expected.saved_usd && expected.saved_usd <= high.saved_usd);
}

#[test]
fn what_is_large_spilled_or_unknown_leaves_only_where_it_is_believed() {
    let mut spilled = query("spilled", 1, "SELECT", 1_000);
    spilled["metrics"]["spill_to_disk_bytes"] = json!(5);
    let mut unknown = query("unknown", 2, "SELECT", 0);
    unknown["metrics"] = Value::Null;
    let mut cached = query("cached", 3, "SELECT", 0);
    cached["metrics"] = json!({"result_from_cache": true});
    let queries =
        [spilled, unknown, cached, query("large", 4, "SELECT", 100_000_000_000), query("shown", 5, "SHOW", 0), query("w", 6, "MERGE", 0)];
    let mut history = read(&[&json!({"res": queries}).to_string()]);
    let report = report(&mut history);
    let leaving: Vec<u64> = report.warehouses[0].levels.iter().map(|l| l.leaving).collect();
    // cached and shown; and the unknown one, which was short; and the spilled and the large one.
    assert_eq!(leaving, [2, 3, 5]);
    assert_eq!((report.metadata, report.others, report.selects_of_unknown_size), (1, 1, 1));
}

#[test]
fn levels_nest_and_what_is_assumed_is_said() {
    let queries: Vec<Value> = (0..300)
        .map(|i| {
            let mut q = query(&format!("q{i}"), i * 30, "SELECT", 1_000_000);
            q["query_text"] = json!(format!("SELECT c{} FROM t", "x".repeat(i as usize % 50)));
            q
        })
        .collect();
    let mut history = read(&[&json!({"res": queries}).to_string()]);
    let report = estimate(&mut history, &Warehouses::default(), &Assumptions::default()).unwrap();
    let leaving: Vec<u64> = report.warehouses[0].levels.iter().map(|l| l.leaving).collect();
    assert!(leaving[0] <= leaving[1] && leaving[1] <= leaving[2] && leaving[2] > leaving[0], "{leaving:?}");
    assert!(report.assumptions.iter().any(|a| a.contains("NOT KNOWN: size of w1")));
    assert!(report.assumptions.iter().any(|a| a.contains("NOT KNOWN: auto-stop of w1")));
    assert!(report.assumptions.iter().any(|a| a == "NOT KNOWN: kind of w1; taken as serverless"));
    assert_eq!(report.warehouses[0].kind, None);
    let mut known = Warehouses::default();
    known.add("w1=Small,10,classic").unwrap();
    let of_known = estimate(&mut history, &known, &Assumptions::default()).unwrap();
    assert!(!of_known.assumptions.iter().any(|a| a.contains("NOT KNOWN")), "{:?}", of_known.assumptions);
    assert_eq!(of_known.warehouses[0].kind, Some("classic"));
    let falling = Assumptions { share: [0.9, 0.5, 1.0], ..Default::default() };
    assert!(estimate(&mut history, &Warehouses::default(), &falling).is_err());
}

/// A dashboard asks every minute of a day and may leave; 10 s are written every 15 minutes.
fn dashboard_and_writes() -> History {
    let mut queries: Vec<Value> = (0..1_440).map(|i| query(&format!("q{i}"), i, "SELECT", 1_000)).collect();
    queries.extend((0..96).map(|i| query(&format!("w{i}"), i * 15, "INSERT", 1_000)));
    read(&[&Value::Array(queries).to_string()])
}

#[test]
fn an_auto_stop_that_isnt_known_never_turns_high_and_low_around() {
    let mut warehouses = Warehouses::default();
    warehouses.add("w1=Small").unwrap();
    let everything_may_leave = Assumptions { share: [1.0; 3], ..Default::default() };
    let report = estimate(&mut dashboard_and_writes(), &warehouses, &everything_may_leave).unwrap();
    // Now it is up for 1,439 minutes, 10 s and its auto-stop. Without the dashboard it stops 96 times if
    // that takes 5 or 10 minutes; with 20 it stays up, from the first write to the last, and 20 minutes.
    let spared_seconds = [(86_350 + 1_200) - (85_510 + 1_200), (86_350 + 600) - 96 * 610, (86_350 + 300) - 96 * 310];
    // Two machines for 24 hours, then one.
    for ((estimate, seconds), machines_usd) in report.estimates.iter().zip(spared_seconds).zip([9.6, 4.8, 4.8]) {
        let saved_usd = f64::from(seconds) / 3_600.0 * 12.0 * 0.70 - machines_usd;
        assert!((estimate.saved_usd - saved_usd).abs() < 1e-6, "{saved_usd}: {estimate:?}");
    }
    let stops: Vec<u64> = report.warehouses[0].levels.iter().map(|level| level.wakes_after).collect();
    assert_eq!(stops, [1, 96, 96]);
}

#[test]
fn what_is_saved_rises_from_low_to_high_whatever_is_known() {
    let known = ["", "w1=2X-Small", "w1=Large,3", "w1=Small,0,pro", "w1=Medium,15,classic,3"];
    let shares = [[0.0, 0.5, 1.0], [0.5; 3], [0.0; 3], [1.0; 3], [0.03, 0.04, 0.05], [0.95, 0.96, 0.97]];
    for (at, (known, share)) in known.iter().flat_map(|known| shares.map(|share| (known, share))).enumerate() {
        let mut warehouses = Warehouses::default();
        if !known.is_empty() {
            warehouses.add(known).unwrap();
        }
        // Dashboards at several paces on two warehouses, one of which isn't known, and writes at another pace.
        let paces = [7, 11, 13, 16].map(|pace| pace + at as i64 % 5);
        let mut lines = String::new();
        for (shape, pace) in paces.into_iter().enumerate() {
            let (kind, warehouse) = (if shape == 3 { "MERGE" } else { "SELECT" }, if shape == 1 { "w2" } else { "w1" });
            for i in 0..20 {
                let mut one = query(&format!("q{shape}-{i}"), i * pace, kind, 3_000_000_000_u64 << shape);
                one["query_text"] = json!(format!("SELECT {} FROM t", "x".repeat(shape + at)));
                one["warehouse_id"] = json!(warehouse);
                lines += &format!("{one}\n");
            }
        }
        let mut history = read(&[&lines]);
        let report = estimate(&mut history, &warehouses, &Assumptions { share, ..Default::default() }).unwrap();
        let saved: Vec<f64> = report.estimates.iter().map(|e| e.saved_usd).collect();
        assert!(saved.is_sorted(), "{known} {share:?}: {saved:?}");
        for estimate in &report.estimates {
            let all = &estimate.warehouses;
            assert!((all.usd_now - all.usd_after - estimate.machines_usd - estimate.saved_usd).abs() < 1e-6, "{estimate:?}");
            let of_rows: f64 = report.warehouses.iter().flat_map(|w| &w.levels).filter(|l| l.level == all.level).map(|l| l.usd_after).sum();
            assert!((all.usd_after - of_rows).abs() < 1e-6, "{estimate:?}");
        }
    }
}

#[test]
fn one_shape_that_is_nearly_everything_is_no_coin_toss_and_is_named() {
    let mut queries: Vec<Value> = (0..1_440)
        .map(|i| {
            let mut q = query(&format!("q{i}"), i, "SELECT", 1_000);
            q["query_text"] = json!(format!("SELECT a\nFROM t WHERE b = {i}"));
            q
        })
        .collect();
    let mut warehouses = Warehouses::default();
    warehouses.add("w1=Small,10,serverless").unwrap();
    let mut history = read(&[&Value::Array(queries.clone()).to_string()]);
    let report = estimate(&mut history, &warehouses, &Assumptions::default()).unwrap();
    let saved: Vec<f64> = report.estimates.iter().map(|e| e.saved_usd).collect();
    // Up for 1,439 minutes and 10 s, and 10 minutes.
    let all_usd = 86_950.0 / 3_600.0 * 12.0 * 0.70;
    // It leaves in 40% of the draws at the low level, and in 95% at the high one.
    assert!((saved[0] + 9.6).abs() < 1e-6 && (saved[2] - (all_usd - 4.8)).abs() < 1e-6, "{saved:?}");
    // In 44 or 45 of 64 at the expected one.
    assert!((all_usd * 0.6875 - 4.81..=all_usd * 0.7032 - 4.79).contains(&saved[1]), "{saved:?}");
    assert!((990..=1_013).contains(&report.estimates[1].warehouses.leaving), "{:?}", report.estimates[1]);
    let [heavy] = &report.heavy_shapes[..] else { panic!("{:?}", report.heavy_shapes) };
    assert_eq!(heavy.example.as_deref(), Some("SELECT a FROM t WHERE b = 0"));
    assert_eq!((heavy.queries, heavy.share_of_queries, heavy.share_of_time), (1_440, 1.0, 1.0));

    // One that is rare but long is heavy too; a hundred small ones aren't, nor is what can't leave.
    let mut long = query("long", 2_000, "SELECT", 1_000);
    long["query_end_time_ms"] = json!(NOON_MS + 2_600 * MINUTE_MS);
    let mut large = query("large", 2_000, "SELECT", 900_000_000_000);
    large["query_end_time_ms"] = long["query_end_time_ms"].clone();
    queries.extend([long, large]);
    queries.extend((0..100).map(|i| query(&format!("small{i}"), i, "SELECT", 1_000)));
    let mut history = read(&[&Value::Array(queries).to_string()]);
    let report = estimate(&mut history, &warehouses, &Assumptions::default()).unwrap();
    let named: Vec<Option<&str>> = report.heavy_shapes.iter().map(|shape| shape.example.as_deref()).collect();
    assert_eq!(named, [Some("SELECT long"), Some("SELECT a FROM t WHERE b = 0")]);
    // Nothing hangs on a draw where every shape leaves.
    let certain = Assumptions { share: [1.0; 3], ..Default::default() };
    assert!(estimate(&mut history, &warehouses, &certain).unwrap().heavy_shapes.is_empty());
}
