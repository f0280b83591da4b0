//! What consoles ask of the record, of either store. The store holds other tests' records too; these
//! are found by a principal of their own.

use std::time::Duration;

use flightpath_querylog::{
    Baseline, Cost, HistoryFilter, KeptModel, MODEL_BYTES_MAX, PageKey, PageRequest, RecordParts, RetentionConfig, ShadowFilter, ShadowKey,
    Store, Unreconciled, forget,
};
use flightpath_types::*;

use crate::record;

const DAY_MS: i64 = 86_400_000;
/// Old enough that nobody else's records are around.
const OLD_MS: i64 = 1_000_000 * 1_000;
/// What the store holds after [`everything`].
pub const LEFT: usize = 3;

pub async fn everything(store: &dyn Store) {
    pages_hold_every_match_once_and_in_order(store).await;
    filters_narrow_and_principals_are_kept_apart(store).await;
    savings_are_by_day_and_count_what_was_paid(store).await;
    what_isnt_reconciled_is_found_until_it_is(store).await;
    spending_is_added_up_once_for_each_query(store).await;
    a_model_is_replaced_whole_by_who_knows_what_is_there(store).await;
    comparisons_are_read_in_pages_and_narrowed(store).await;
    what_is_past_its_time_goes_in_batches_and_nothing_else(store).await;
}

fn zoe(text: &str, started_unix_ms: i64) -> QueryRecord {
    QueryRecord { principal: "zoe".into(), outcome: Outcome::Success, ..record(text, started_unix_ms) }
}

fn of_zoe() -> HistoryFilter {
    HistoryFilter { principal: Some("zoe".into()), ..Default::default() }
}

async fn pages_hold_every_match_once_and_in_order(store: &dyn Store) {
    // Many of one millisecond: pages part between them.
    let records: Vec<QueryRecord> = (0..23).map(|i| zoe("SELECT 7", OLD_MS + i / 10)).collect();
    store.append(&records).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.page(&of_zoe(), after, 4).await.unwrap();
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = Some(PageKey::of(last));
        seen.extend(page.iter().map(|r| (r.started_unix_ms, r.query_id)));
    }
    let mut expected: Vec<_> = records.iter().map(|r| (r.started_unix_ms, r.query_id)).collect();
    expected.sort_unstable();
    expected.reverse();
    assert_eq!(seen, expected);

    expected.reverse();
    let filter = of_zoe();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let request = PageRequest { filter: &filter, after, oldest_first: true, parts: RecordParts::ALL, limit: 9 };
        let page = store.read_page(&request).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(PageKey::of(last));
        seen.extend(page.iter().map(|r| (r.started_unix_ms, r.query_id)));
    }
    assert_eq!(seen, expected, "and from the other end");

    let one = &records[3];
    let filter = HistoryFilter { query_id: Some(one.query_id), ..of_zoe() };
    for large in [true, false] {
        let parts = RecordParts { text: large, features: large, decision: large };
        let request = PageRequest { filter: &filter, after: None, oldest_first: false, parts, limit: 9 };
        let mut expected = QueryRecord { bytes: i64::MAX as u64, ..one.clone() };
        if !large {
            (expected.text, expected.features, expected.decision) = (String::new(), Features::default(), None);
        }
        assert_eq!(store.read_page(&request).await.unwrap(), [expected]);
    }
    assert_eq!(store.query(one.query_id, Some("zoe")).await.unwrap().unwrap().query_id, one.query_id);
    assert!(store.query(one.query_id, Some("eve")).await.unwrap().is_none());
    assert!(store.query(QueryId::generate(), None).await.unwrap().is_none());
}

async fn filters_narrow_and_principals_are_kept_apart(store: &dyn Store) {
    let mut special = zoe("SELECT special", OLD_MS + 1_000);
    special.engine = Some("datafusion".into());
    special.outcome = Outcome::Cancelled;
    special.tag = Some("nightly".into());
    special.fingerprint = Some(Fingerprint::of("special"));
    store.append(std::slice::from_ref(&special)).await.unwrap();
    let filters = [
        HistoryFilter { engine: Some(EngineId::new("datafusion")), ..of_zoe() },
        HistoryFilter { outcome: Some(Outcome::Cancelled), ..of_zoe() },
        HistoryFilter { tag: Some("nightly".into()), ..of_zoe() },
        HistoryFilter { fingerprint: special.fingerprint, ..of_zoe() },
        HistoryFilter { from_unix_ms: Some(OLD_MS + 1_000), until_unix_ms: Some(OLD_MS + 1_001), ..of_zoe() },
    ];
    for filter in filters {
        let found = store.page(&filter, None, 10).await.unwrap();
        assert_eq!(found.iter().map(|r| r.query_id).collect::<Vec<_>>(), [special.query_id], "{filter:?}");
    }
    let nobody = HistoryFilter { principal: Some("eve".into()), tag: Some("nightly".into()), ..Default::default() };
    assert!(store.page(&nobody, None, 10).await.unwrap().is_empty());
    let injected = HistoryFilter { principal: Some("' OR 1 = 1 --".into()), ..Default::default() };
    assert!(store.page(&injected, None, 10).await.unwrap().is_empty());
}

async fn savings_are_by_day_and_count_what_was_paid(store: &dyn Store) {
    let asked = |principal: &str, started, run_ms, class: Option<RefusalClass>| {
        let mut r = zoe("SELECT 9", started);
        r.principal = principal.into();
        r.bytes = 0;
        let decision = r.decision.as_mut().unwrap();
        let mut other = decision.candidates[1].clone();
        other.engine = EngineId::new("databricks");
        // By itself each would wake the warehouse.
        (other.numbers.usd, other.numbers.latency_ms) = (4.0, run_ms);
        other.refusal = class.map(|class| Refusal::new(class, "no"));
        decision.candidates.push(other);
        r
    };
    let (second, minute) = (1_000, 60_000);
    let day = OLD_MS / DAY_MS * DAY_MS;
    let next = day + DAY_MS;
    let records = [
        // Wakes it: a minute, and ten of the idle tail.
        asked("saver", day, 60_000.0, None),
        // Half a minute longer.
        asked("saver", day + 30 * second, 60_000.0, Some(RefusalClass::Policy)),
        // Within the run before: adds nothing.
        asked("saver", day + 35 * second, 5_000.0, None),
        // Could never have run there: not compared.
        asked("saver", day + 40 * second, 60_000.0, Some(RefusalClass::TableFeature)),
        // Somebody else's keeps it up, from 1.5 minutes on to 10.
        asked("other", day + 9 * minute, 60_000.0, None),
        asked("saver", day + 15 * minute, 60_000.0, None),
        // Explained, never run: it neither wakes it nor counts.
        QueryRecord { engine: None, ..asked("saver", day + 40 * minute, 60_000.0, None) },
        QueryRecord { outcome: Outcome::Error, ..asked("saver", day + 45 * minute, 60_000.0, None) },
        // Slept for long; what is up at midnight isn't woken again.
        asked("saver", next - minute, 30_000.0, None),
        asked("saver", next + minute, 60_000.0, None),
    ];
    store.append(&records).await.unwrap();
    let last = records.last().unwrap().query_id;
    let cost = |query_id, usd| Cost { query_id, usd: Some(usd), warehouse_ms: Some(120_000.0), read_bytes: None };
    let costs = [cost(last, 1.0), cost(QueryId::generate(), 9.0)];
    assert_eq!(store.record_costs(&costs).await.unwrap(), 1);
    assert_eq!(store.query(last, None).await.unwrap().unwrap().usd_actual, Some(1.0));
    // A dollar every thousand seconds.
    let baseline = Baseline { usd_per_hour: 3.6, auto_stop_ms: 600_000.0, storage_usd_per_gb: 0.0, egress_usd_per_gb: 0.0 };
    let of = async |principal: Option<&str>, since| {
        let days = store.savings(principal, since, &baseline).await.unwrap();
        let round = |usd: f64| (usd * 1e6).round() / 1e6;
        days.iter().map(|d| (d.day, d.queries, round(d.usd), round(d.databricks_usd))).collect::<Vec<_>>()
    };
    let today = day / DAY_MS;
    // The last one ran for two minutes by the warehouse's history: 2.5 after the one before had ended.
    let saver = [(today + 1, 1, 1.0, 0.21), (today, 5, 1.25, 1.68)];
    assert_eq!(of(Some("saver"), day).await, saver);
    assert_eq!(of(Some("other"), day).await, [(today, 1, 0.25, 0.51)]);
    assert_eq!(of(None, day).await, [saver[0], (today, 6, 1.5, 2.19)]);
    assert_eq!(of(Some("saver"), next).await, [(today + 1, 1, 1.0, 0.72)], "begins with a sleeping one");
    assert!(of(Some("eve"), day).await.is_empty());
    let read = Baseline { storage_usd_per_gb: 1e9, ..baseline };
    let bytes = records[0].predicted().unwrap().scan_bytes as f64;
    let dearer = store.savings(Some("other"), day, &read).await.unwrap()[0].databricks_usd;
    assert!((dearer - 0.51 - bytes).abs() < 1e-6, "{dearer}");
}

async fn spending_is_added_up_once_for_each_query(store: &dyn Store) {
    let day = 3;
    let spent = |profile: Option<&str>, started_unix_ms, usd_actual| QueryRecord {
        profile: profile.map(str::to_string),
        usd_actual,
        ..zoe("SELECT 10", started_unix_ms)
    };
    let begins = day * DAY_MS;
    // Predicted to cost 0.25 each.
    let records = [
        spent(Some("batch"), begins, None),
        spent(Some("batch"), begins + DAY_MS - 1, Some(2.0)),
        spent(Some("frugal"), begins + 5, Some(0.5)),
        spent(None, begins, Some(100.0)),
        QueryRecord { engine: None, ..spent(Some("batch"), begins, Some(100.0)) },
        spent(Some("batch"), begins - 1, Some(8.0)),
    ];
    store.append(&records[..3]).await.unwrap();
    // Again, as after a crash, and twice in one batch.
    let again: Vec<QueryRecord> = records.iter().chain(&records[4..]).cloned().collect();
    store.append(&again).await.unwrap();
    let spending = async |day| {
        let mut found = store.spending(day).await.unwrap();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    };
    assert_eq!(spending(day).await, [("batch".to_string(), 2.25), ("frugal".to_string(), 0.5)]);
    assert_eq!(spending(day - 1).await, [("batch".to_string(), 8.0)]);
    let cost = |record: &QueryRecord, usd| Cost { query_id: record.query_id, usd, warehouse_ms: None, read_bytes: None };
    let costs = [cost(&records[0], Some(1.0)), cost(&records[0], Some(1.5)), cost(&records[1], None), cost(&records[3], Some(7.0))];
    assert_eq!(store.record_costs(&costs).await.unwrap(), 4);
    assert_eq!(spending(day).await, [("batch".to_string(), 3.5), ("frugal".to_string(), 0.5)]);
    assert_eq!(spending(day + 1).await, []);
    // It goes with the day's last queries.
    store.delete_before(begins, 10_000).await.unwrap();
    assert_eq!((spending(day - 1).await.len(), spending(day).await.len()), (0, 2));
}

async fn what_isnt_reconciled_is_found_until_it_is(store: &dyn Store) {
    let on = |engine: &str, at| QueryRecord { engine: Some(engine.into()), ..zoe("SELECT 8", at) };
    let from = OLD_MS + 2_000;
    let first = QueryRecord { statement_id: None, outcome: Outcome::Error, ..on("databricks", from) };
    let second = on("databricks", from + 1);
    store.append(&[second.clone(), on("duckdb", from), first.clone(), on("databricks", from + 2)]).await.unwrap();
    let found = store.unreconciled(from, from + 2, 10).await.unwrap();
    let ids = |found: &[Unreconciled]| found.iter().map(|q| (q.query_id, q.statement_id.clone())).collect::<Vec<_>>();
    assert_eq!(ids(&found), [(first.query_id, None), (second.query_id, Some("01ef".into()))]);
    assert_eq!(store.unreconciled(from, from + 2, 1).await.unwrap().len(), 1);
    let cost = Cost { query_id: first.query_id, usd: Some(0.25), warehouse_ms: Some(1_500.0), read_bytes: Some(4_096) };
    assert_eq!(store.record_costs(&[cost]).await.unwrap(), 1);
    assert_eq!(ids(&store.unreconciled(from, from + 2, 10).await.unwrap()), [(second.query_id, Some("01ef".into()))]);
    let checked = store.query(first.query_id, None).await.unwrap().unwrap();
    assert_eq!((checked.usd_actual, checked.warehouse_ms), (Some(0.25), Some(1_500.0)));
    assert!(checked.reconciled_unix_ms.is_some());
    assert_eq!(checked.read_bytes, Some(4_096));
    // What the warehouse doesn't know keeps the cost that it had.
    let unknown = Cost { query_id: first.query_id, usd: None, warehouse_ms: None, read_bytes: None };
    assert_eq!(store.record_costs(&[unknown]).await.unwrap(), 1);
    let kept = store.query(first.query_id, None).await.unwrap().unwrap();
    assert_eq!((kept.usd_actual, kept.warehouse_ms), (Some(0.25), None));
}

async fn a_model_is_replaced_whole_by_who_knows_what_is_there(store: &dyn Store) {
    let kept = |contents: Vec<u8>, revision| Some(KeptModel { contents, revision });
    assert_eq!((store.load("latency").await.unwrap(), store.revision("latency").await.unwrap()), (None, None));
    assert_eq!(store.save("latency", &[9], Some(3)).await.unwrap(), None, "there's nothing to replace");
    assert_eq!(store.save("latency", &[1, 0, 2], None).await.unwrap(), Some(1));
    assert_eq!(store.save("latency", &[3], None).await.unwrap(), None, "somebody was there first");
    assert_eq!(store.load("latency").await.unwrap(), kept(vec![1, 0, 2], 1));
    assert_eq!(store.save("latency", &[], Some(1)).await.unwrap(), Some(2));
    assert_eq!(store.save("latency", &[4], Some(1)).await.unwrap(), None, "somebody has replaced it since");
    assert_eq!(store.save("memory", &[7; 100_000], None).await.unwrap(), Some(1));
    assert_eq!((store.load("latency").await.unwrap(), store.revision("latency").await.unwrap()), (kept(vec![], 2), Some(2)));
    assert_eq!(store.load("memory").await.unwrap(), kept(vec![7; 100_000], 1));
    let error = store.save("latency", &vec![0; MODEL_BYTES_MAX + 1], Some(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
}

async fn comparisons_are_read_in_pages_and_narrowed(store: &dyn Store) {
    // One query on two engines, and many of one millisecond.
    let run = |i: i64, shadow_engine: &str| ShadowRun {
        query_id: QueryId::generate(),
        ended_unix_ms: OLD_MS + i / 10,
        fingerprint: Fingerprint::from_u64(0xABC0 + i as u64 % 2),
        principal: "zoe".into(),
        engine: EngineId::new("duckdb"),
        digest: "1 row".into(),
        shadow_engine: EngineId::new(shadow_engine),
        shadow_digest: "1 row".into(),
        outcome: if i == 5 { ShadowOutcome::Mismatch } else { ShadowOutcome::Same },
        detail: String::new(),
    };
    let mut runs: Vec<ShadowRun> = (0..23).map(|i| run(i, "datafusion")).collect();
    runs.push(ShadowRun { shadow_engine: EngineId::new("postgres"), ..runs[7].clone() });
    for run in &runs {
        store.append_shadow(run).await.unwrap();
        store.append_shadow(run).await.unwrap();
    }
    let of_zoe = ShadowFilter { principal: Some("zoe".into()), ..Default::default() };
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.shadow_runs(&of_zoe, after.as_ref(), 4).await.unwrap();
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = Some(ShadowKey::of(last));
        seen.extend(page);
    }
    runs.sort_by(|a, b| {
        (b.ended_unix_ms, b.query_id, b.shadow_engine.as_str()).cmp(&(a.ended_unix_ms, a.query_id, a.shadow_engine.as_str()))
    });
    assert_eq!(seen, runs);

    let count = async |filter: ShadowFilter| store.shadow_runs(&filter, None, 100).await.unwrap().len();
    assert_eq!(count(ShadowFilter { outcome: Some(ShadowOutcome::Mismatch), ..of_zoe.clone() }).await, 1);
    assert_eq!(count(ShadowFilter { fingerprint: Some(Fingerprint::from_u64(0xABC0)), ..of_zoe.clone() }).await, 12);
    assert_eq!(count(ShadowFilter { from_unix_ms: Some(OLD_MS + 1), until_unix_ms: Some(OLD_MS + 2), ..of_zoe.clone() }).await, 10);
    assert_eq!(count(ShadowFilter { query_id: Some(seen[0].query_id), ..of_zoe.clone() }).await, 1);
    assert_eq!(count(ShadowFilter { principal: Some("yan".into()), ..of_zoe }).await, 0);
}

async fn what_is_past_its_time_goes_in_batches_and_nothing_else(store: &dyn Store) {
    let now = OLD_MS + 30 * DAY_MS;
    let kept: Vec<QueryRecord> = (0..LEFT as i64).map(|i| zoe("SELECT kept", now - i)).collect();
    store.append(&kept).await.unwrap();
    let before = store.queries(None, 10_000).await.unwrap().len() as u64;
    let config = RetentionConfig { batch: 100, pause: Duration::ZERO, ..RetentionConfig::new(Duration::from_secs(10 * 86_400)) };
    let everybodys = ShadowFilter::default();
    let runs = store.shadow_runs(&everybodys, None, 10_000).await.unwrap().len() as u64;
    assert_eq!(forget(store, &config, now).await.unwrap(), before - LEFT as u64 + runs);
    assert!(store.shadow_runs(&everybodys, None, 1).await.unwrap().is_empty());
    assert_eq!(forget(store, &config, now).await.unwrap(), 0);
    let left: Vec<QueryId> = store.queries(None, 10_000).await.unwrap().iter().map(|r| r.query_id).collect();
    assert_eq!(left, kept.iter().map(|r| r.query_id).collect::<Vec<_>>());
    // No candidate outlives its query.
    assert_eq!(store.candidates(10_000).await.unwrap().len(), 2 * LEFT);
}
