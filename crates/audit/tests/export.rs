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
            ("ends before it begins", 1),
            ("exported twice", 1),
            ("not a query", 3),
            ("not ended when it was exported", 1),
            ("without a start time", 1)
        ]
    );
    let report = report(&mut history);
    assert_eq!((report.selects, report.others), (1, 1));
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
    let falling = Assumptions { share: [0.9, 0.5, 1.0], ..Default::default() };
    assert!(estimate(&mut history, &Warehouses::default(), &falling).is_err());
}
