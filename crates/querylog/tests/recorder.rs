//! The recorder against a store that fails on demand (a stand-in; the real stores are tested in
//! their own crate).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use flightpath_querylog::{LogStore, Recorder, RecorderConfig, drain_left, holds_records};
use flightpath_types::{CandidateRecord, Error, ErrorKind, Outcome, QueryId, QueryRecord, Result};
use parking_lot::Mutex;

#[derive(Default)]
struct FakeStore {
    rows: Mutex<BTreeMap<QueryId, QueryRecord>>,
    down: AtomicBool,
    /// Writes that were asked for.
    writes: AtomicUsize,
    refuses_text: Option<&'static str>,
    /// Who takes another record for each write.
    busy: Mutex<Option<Recorder>>,
}

#[async_trait]
impl LogStore for FakeStore {
    async fn append(&self, records: &[QueryRecord]) -> Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::unavailable("the database is down"));
        }
        if records.iter().any(|r| Some(r.text.as_str()) == self.refuses_text) {
            return Err(Error::new(ErrorKind::InvalidArgument, "bad record"));
        }
        // As one that does input and output: others get their turn.
        tokio::task::yield_now().await;
        let mut rows = self.rows.lock();
        rows.extend(records.iter().map(|r| (r.query_id, r.clone())));
        if let Some(recorder) = self.busy.lock().as_ref() {
            recorder.record(&record("SELECT 'another'"));
        }
        Ok(())
    }

    async fn queries(&self, _: Option<&str>, _: usize) -> Result<Vec<QueryRecord>> {
        Ok(self.rows.lock().values().cloned().collect())
    }

    async fn candidates(&self, _: usize) -> Result<Vec<CandidateRecord>> {
        Ok(Vec::new())
    }
}

fn record(text: &str) -> QueryRecord {
    QueryRecord {
        query_id: QueryId::generate(),
        started_unix_ms: 1,
        text: text.into(),
        fingerprint: None,
        statement_kind: "query".into(),
        session_id: None,
        principal: "anonymous".into(),
        catalog: "lake".into(),
        schema: "default".into(),
        dialect: "databricks".into(),
        profile: None,
        tag: None,
        features: Default::default(),
        decision: None,
        engine: None,
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

fn config(dir: &Path) -> RecorderConfig {
    RecorderConfig { retry_pause: Duration::from_millis(5), ..RecorderConfig::new(dir.to_path_buf()) }
}

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn records_reach_the_store_once_it_is_back_and_none_is_lost_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FakeStore::default());
    store.down.store(true, Ordering::SeqCst);
    let recorder = Recorder::start(store.clone(), config(dir.path())).unwrap();
    for i in 0..2000 {
        recorder.record(&record(&format!("SELECT {i}")));
    }
    assert!(!recorder.flush(Duration::from_millis(20)).await);
    assert!(store.rows.lock().is_empty());
    store.down.store(false, Ordering::SeqCst);
    assert!(recorder.flush(LIMIT).await);
    assert_eq!(store.rows.lock().len(), 2000);
    assert_eq!(recorder.stats().dropped, 0);
    assert_eq!(recorder.stats().stored, 2000);
}

#[tokio::test]
async fn records_of_a_run_that_was_killed_are_stored_by_the_next_one_and_a_torn_line_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let down = Arc::new(FakeStore::default());
    down.down.store(true, Ordering::SeqCst);
    let killed = Recorder::start(down, config(dir.path())).unwrap();
    for i in 0..10 {
        killed.record(&record(&format!("SELECT {i}")));
    }
    // As a kill in mid-write leaves it.
    let segment =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|x| x == "jsonl")).unwrap();
    use std::io::Write;
    std::fs::OpenOptions::new().append(true).open(&segment).unwrap().write_all(b"{\"query_id\":\"01").unwrap();

    let store = Arc::new(FakeStore::default());
    let next = Recorder::start(store.clone(), config(dir.path())).unwrap();
    next.record(&record("SELECT 'after'"));
    assert!(next.flush(LIMIT).await);
    assert_eq!(store.rows.lock().len(), 11);
    assert_eq!(next.stats().dropped, 0);
}

#[tokio::test]
async fn a_full_spool_drops_new_records_counts_them_and_takes_records_again_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FakeStore::default());
    store.down.store(true, Ordering::SeqCst);
    let recorder = Recorder::start(store.clone(), RecorderConfig { spool_bytes_max: 10_000, ..config(dir.path()) }).unwrap();
    for _ in 0..100 {
        recorder.record(&record("SELECT 1"));
    }
    let stats = recorder.stats();
    assert!(stats.dropped > 0 && stats.taken > 0 && stats.pending_bytes <= 10_000, "{stats:?}");
    store.down.store(false, Ordering::SeqCst);
    assert!(recorder.flush(LIMIT).await);
    recorder.record(&record("SELECT 2"));
    assert!(recorder.flush(LIMIT).await);
    assert_eq!(store.rows.lock().len() as u64, stats.taken + 1);
}

#[tokio::test]
async fn flushing_waits_for_what_came_before_it_and_not_for_what_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FakeStore::default());
    let recorder = Recorder::start(store.clone(), config(dir.path())).unwrap();
    // From now on there is always one more.
    *store.busy.lock() = Some(recorder.clone());
    let own = record("SELECT 1");
    recorder.record(&own);
    assert!(recorder.flush(LIMIT).await);
    assert!(store.rows.lock().contains_key(&own.query_id));
    *store.busy.lock() = None;
}

#[tokio::test]
async fn an_observer_is_told_of_every_record_also_of_those_that_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FakeStore::default());
    store.down.store(true, Ordering::SeqCst);
    let seen = Arc::new(AtomicUsize::new(0));
    let told = seen.clone();
    let recorder = Recorder::start(store, RecorderConfig { spool_bytes_max: 10_000, ..config(dir.path()) }).unwrap();
    let recorder = recorder.observed_by(Arc::new(move |record| {
        assert_eq!(record.text, "SELECT 1");
        told.fetch_add(1, Ordering::SeqCst);
    }));
    for _ in 0..100 {
        recorder.clone().record(&record("SELECT 1"));
    }
    assert!(recorder.stats().dropped > 0);
    assert_eq!(seen.load(Ordering::SeqCst), 100);
}

#[tokio::test]
async fn one_bad_record_does_not_block_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FakeStore { refuses_text: Some("bad"), ..Default::default() });
    let recorder = Recorder::start(store.clone(), config(dir.path())).unwrap();
    for text in ["a", "bad", "b"] {
        recorder.record(&record(text));
    }
    assert!(recorder.flush(LIMIT).await);
    assert_eq!(store.rows.lock().len(), 2);
    assert_eq!(recorder.stats().dropped, 1);
}

#[tokio::test]
async fn segments_are_deleted_once_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FakeStore::default());
    let recorder = Recorder::start(store.clone(), config(dir.path())).unwrap();
    let long = "x".repeat(100_000);
    for _ in 0..300 {
        recorder.record(&record(&long));
    }
    assert!(recorder.shutdown(LIMIT).await);
    assert_eq!(store.rows.lock().len(), 300);
    let segments =
        std::fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "jsonl")).count();
    assert_eq!(segments, 1);
}

/// As a server leaves it that is killed while its database is down.
async fn left(dir: &Path, texts: &[&str]) {
    let down = Arc::new(FakeStore::default());
    down.down.store(true, Ordering::SeqCst);
    let recorder = Recorder::start(down, config(dir)).unwrap();
    for text in texts {
        recorder.record(&record(text));
    }
    assert!(!recorder.shutdown(Duration::ZERO).await);
}

#[tokio::test]
async fn what_was_left_is_brought_to_the_store_once_and_stays_until_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    assert!(!holds_records(&spool));
    left(&spool, &["a", "bad", "b"]).await;
    assert!(holds_records(&spool));
    let store = FakeStore { refuses_text: Some("bad"), ..Default::default() };
    store.down.store(true, Ordering::SeqCst);
    assert_eq!(drain_left(&store, &spool).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(holds_records(&spool) && store.rows.lock().is_empty());
    store.down.store(false, Ordering::SeqCst);
    assert_eq!(drain_left(&store, &spool).await.unwrap(), 2);
    assert!(!holds_records(&spool));
    assert_eq!(drain_left(&store, &spool).await.unwrap(), 0);
    assert_eq!(store.rows.lock().len(), 2);
    // Whoever takes the folder next goes on behind it.
    left(&spool, &["c"]).await;
    assert_eq!(drain_left(&store, &spool).await.unwrap(), 1);
    assert_eq!(store.rows.lock().len(), 3);
}

#[tokio::test]
async fn records_count_once_however_often_the_cursor_cant_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing can be written where a folder is, by root neither.
    let in_the_way = dir.path().join("cursor.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let store = Arc::new(FakeStore { refuses_text: Some("bad"), ..Default::default() });
    let recorder = Recorder::start(store.clone(), config(dir.path())).unwrap();
    for text in ["a", "bad", "b"] {
        recorder.record(&record(text));
    }
    while store.writes.load(Ordering::SeqCst) < 20 {
        tokio::task::yield_now().await;
    }
    assert_eq!((recorder.stats().stored, recorder.stats().dropped), (0, 0));
    std::fs::remove_dir(&in_the_way).unwrap();
    assert!(recorder.flush(LIMIT).await);
    let stats = recorder.stats();
    assert_eq!((stats.taken, stats.stored, stats.dropped), (3, 2, 1));
}

#[tokio::test]
async fn nobody_else_can_read_the_spool() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("slot/spool");
    let recorder = Recorder::start(Arc::new(FakeStore::default()), config(&spool)).unwrap();
    // Beyond one segment.
    let long = "x".repeat(1 << 20);
    for _ in 0..10 {
        recorder.record(&record(&long));
    }
    assert!(recorder.flush(LIMIT).await);
    let files = std::fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
    let mut seen: Vec<_> = files.chain([spool.clone(), dir.path().join("slot")]).collect();
    seen.sort();
    assert!(seen.len() >= 4, "{seen:?}");
    for path in seen {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    }
}
