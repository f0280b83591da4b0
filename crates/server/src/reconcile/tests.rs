use std::sync::Mutex;

use flightpath_types::{EngineId, EngineState, Outcome, Pricing, QueryRecord, WarehouseActivity};

use super::*;

const MINUTE_MS: i64 = 60_000;
const AUTO_STOP_MS: f64 = 600_000.0;

/// Of a query that ran on the warehouse.
pub(crate) fn record(started_unix_ms: i64) -> QueryRecord {
    QueryRecord {
        query_id: QueryId::generate(),
        started_unix_ms,
        text: "SELECT 1".into(),
        fingerprint: None,
        statement_kind: "query".into(),
        session_id: None,
        principal: "ana".into(),
        catalog: "lake".into(),
        schema: "default".into(),
        dialect: "databricks".into(),
        profile: None,
        tag: None,
        features: Default::default(),
        decision: None,
        engine: Some("databricks".into()),
        plan_cache_hit: false,
        times: Default::default(),
        rows: 0,
        bytes: 0,
        outcome: Outcome::Success,
        error_kind: None,
        error_message: None,
        failovers: Vec::new(),
        usd_actual: None,
        memory_bytes: None,
        read_bytes: None,
        statement_id: None,
        warehouse_ms: None,
        reconciled_unix_ms: None,
    }
}

/// A warehouse that costs a dollar a second, and its history.
#[derive(Default)]
struct Fake {
    statements: Vec<PastStatement>,
    /// Read at once; all for `None`.
    page: Option<usize>,
    asked: Mutex<Vec<(i64, i64)>>,
}

impl Fake {
    /// One for each record, a second after it, that takes a second.
    fn of(records: &[QueryRecord]) -> Self {
        let statement = |record: &QueryRecord| ran(Some(record.query_id), record.started_unix_ms + 1_000, Some(1_000));
        Self { statements: records.iter().map(statement).collect(), ..Default::default() }
    }

    /// Each part of the past is asked for once.
    fn assert_asked_once(&self) {
        let asked = self.asked.lock().unwrap();
        assert!(asked.iter().all(|(from, until)| from < until), "{asked:?}");
        assert!(asked.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{asked:?}");
    }
}

fn ran(query_id: Option<QueryId>, from_ms: i64, took_ms: Option<i64>) -> PastStatement {
    PastStatement {
        statement_id: QueryId::generate().to_string(),
        query_id,
        run_from_ms: Some(from_ms),
        ended_ms: took_ms.map(|took| from_ms + took),
        ..Default::default()
    }
}

#[async_trait]
impl Warehouse for Fake {
    fn was_seen(&self) -> bool {
        true
    }

    async fn past(&self, from_ms: i64, until_ms: i64) -> Result<Past> {
        let came = |statement: &&PastStatement| (from_ms..=until_ms).contains(&statement.run_from_ms.unwrap());
        let mut statements: Vec<PastStatement> = self.statements.iter().filter(came).cloned().collect();
        let whole = self.page.is_none_or(|page| statements.len() <= page);
        if whole {
            self.asked.lock().unwrap().push((from_ms, until_ms));
        }
        statements.reverse();
        statements.truncate(self.page.unwrap_or(usize::MAX));
        Ok(Past { statements, whole })
    }

    fn facts(&self, run: Option<&PastRun>) -> EngineFacts {
        EngineFacts {
            id: EngineId::new("databricks"),
            state: EngineState::Ready,
            shape: "S".into(),
            memory_bytes_max: 1 << 30,
            slots: 10,
            running: 0,
            queued: 0,
            cores: 8,
            cores_total: 8,
            overhead_ms: 1.0,
            scan_bytes_per_second_per_core: 1e8,
            pricing: Pricing {
                compute: ComputePrice::Warehouse {
                    usd_per_hour: 3_600.0,
                    activity: run.map_or(WarehouseActivity::Unknown, |run| run.activity),
                    start_ms: 0.0,
                    auto_stop_ms: Some(AUTO_STOP_MS),
                },
                egress_usd_per_gb: 0.0,
                storage_usd_per_gb: 0.0,
            },
        }
    }
}

struct Log {
    store: Arc<dyn Store>,
    _dir: tempfile::TempDir,
}

impl Log {
    async fn with(records: &[QueryRecord]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = flightpath_log_store::open(dir.path().join("log.sqlite").to_str().unwrap()).await.unwrap();
        store.append(records).await.unwrap();
        Self { store, _dir: dir }
    }

    /// Of so many queries at a time.
    fn reconciler(&self, warehouse: &Arc<Fake>, batch: usize) -> Reconciler {
        Reconciler { batch, ..Reconciler::of(warehouse.clone(), self.store.clone(), Duration::from_secs(300)) }
    }

    async fn unchecked(&self) -> Vec<QueryId> {
        let found = self.store.unreconciled(0, i64::MAX, 10_000).await.unwrap();
        found.into_iter().map(|query| query.query_id).collect()
    }

    /// To a millionth.
    async fn usd(&self, record: &QueryRecord) -> Option<f64> {
        let kept = self.store.query(record.query_id, None).await.unwrap().unwrap();
        kept.usd_actual.map(|usd| (usd * 1e6).round() / 1e6)
    }
}

#[tokio::test]
async fn one_round_checks_all_that_wait_and_what_the_history_doesnt_know_holds_up_nobody() {
    let begins = unix_ms() - 200 * MINUTE_MS;
    // A minute apart; the oldest have left no trace.
    let records: Vec<QueryRecord> = (0..100).map(|i| record(begins + i * MINUTE_MS)).collect();
    let (unknown, known) = records.split_at(40);
    let log = Log::with(&records).await;
    let warehouse = Arc::new(Fake { page: Some(50), ..Fake::of(known) });
    let mut reconciler = log.reconciler(&warehouse, 7);
    assert_eq!(reconciler.round().await.unwrap(), known.len());
    let ids: Vec<QueryId> = unknown.iter().map(|record| record.query_id).collect();
    assert_eq!(log.unchecked().await, ids);
    warehouse.assert_asked_once();
    // A second of the run, and the minute less a second before it that nothing ran.
    assert_eq!(log.usd(&known[1]).await, Some(60.0));
    for _ in 1..MISSES_MAX {
        assert_eq!(log.unchecked().await, ids);
        assert_eq!(reconciler.round().await.unwrap(), 0);
    }
    // They are let go.
    assert!(log.unchecked().await.is_empty());
    assert_eq!(log.usd(&unknown[0]).await, None);
}

#[tokio::test]
async fn what_had_begun_long_before_and_still_runs_keeps_the_warehouse_busy() {
    let first = record(unix_ms() - 100 * MINUTE_MS);
    let second = record(first.started_unix_ms + 30 * MINUTE_MS);
    let both = [first.clone(), second.clone()];
    for (took_min, busy) in [(55, true), (45, false)] {
        let log = Log::with(&both).await;
        let mut fake = Fake::of(&both);
        // Somebody else's, of fifty minutes before.
        fake.statements.insert(0, ran(None, first.started_unix_ms - 50 * MINUTE_MS, Some(took_min * MINUTE_MS)));
        let warehouse = Arc::new(fake);
        assert_eq!(log.reconciler(&warehouse, 10).round().await.unwrap(), 2);
        // One of ten places for a second; or that second, and the time since the other had ended.
        assert_eq!(log.usd(&first).await, Some(if busy { 0.1 } else { 1.0 + 5.0 * 60.0 + 1.0 }));
        // It slept before the second one came: no more than the idle tail is paid for.
        assert_eq!(log.usd(&second).await, Some(1.0 + AUTO_STOP_MS / 1_000.0));
        warehouse.assert_asked_once();
    }
}

#[tokio::test]
async fn a_past_that_isnt_read_whole_is_read_in_shorter_pieces() {
    let from = 1_000_000_000;
    let statements: Vec<PastStatement> = (0..600).map(|i| ran(None, from + i * 10_000, Some(1))).collect();
    let warehouse = Fake { page: Some(40), statements, ..Default::default() };
    let (mut reading, mut span_ms) = (Reading::default(), SPAN_MAX_MS);
    reading.read_on(&warehouse, from, from + 3_000_000, &mut span_ms).await.unwrap();
    assert!((SPAN_MIN_MS..SPAN_MAX_MS).contains(&span_ms), "{span_ms}");
    assert_eq!(reading.statements.len(), 301);
    // On from there, and only what may still matter is kept.
    reading.read_on(&warehouse, from + 2_000_000, from + 6_000_000, &mut span_ms).await.unwrap();
    assert_eq!(reading.statements.len(), 400);
    assert!(!reading.cut);
    warehouse.assert_asked_once();
    // More than can be read in the shortest piece: the newest of it, and the one that the piece before shares.
    let crowded = Fake { page: Some(3), statements: warehouse.statements, ..Default::default() };
    let (mut reading, mut span_ms) = (Reading::default(), SPAN_MIN_MS);
    reading.read_on(&crowded, from, from + SPAN_MIN_MS, &mut span_ms).await.unwrap();
    assert_eq!((reading.cut, reading.statements.len()), (true, 4));
}
