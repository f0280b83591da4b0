//! Both stores answer the same. Postgres is a real one, started here.

mod cut_short;
mod damage;
mod history;
mod migrations;
mod postgres;

use std::sync::Arc;

use flightpath_querylog::{LogStore, Store};
use flightpath_types::*;

use crate::postgres::Postgres;

pub fn record(text: &str, started_unix_ms: i64) -> QueryRecord {
    let candidate = |engine: &str, rank| Candidate {
        engine: EngineId::new(engine),
        refusal: None,
        numbers: CandidateNumbers {
            latency_ms: 1.5,
            latency_p95_ms: 3.5,
            wait_ms: 0.5,
            memory_bytes: 10,
            memory_p95_bytes: 30,
            scan_bytes: 20,
            scan_bytes_p95: 26,
            usd: 0.25,
            usd_p95: 0.75,
            source: PredictionSource::Model,
            observations: 4,
            leave_after_ms: 0.0,
        },
        rank,
        reason: format!("because {engine}"),
    };
    QueryRecord {
        query_id: QueryId::generate(),
        started_unix_ms,
        text: text.into(),
        fingerprint: Some(Fingerprint::of(text)),
        statement_kind: "query".into(),
        session_id: Some("s".into()),
        principal: "ana".into(),
        catalog: "lake".into(),
        schema: "default".into(),
        dialect: "databricks".into(),
        profile: None,
        tag: Some("t".into()),
        features: Features { scan_bytes: 7, joins: 2, ..Default::default() },
        decision: Some(Decision {
            strategy: "rules".into(),
            candidates: vec![candidate("duckdb", Some(1)), candidate("datafusion", Some(2))],
            reason: "duckdb: fast".into(),
            profile: Some("batch".into()),
            propensity: Some(1.0),
            arm: None,
        }),
        engine: Some("duckdb".into()),
        plan_cache_hit: true,
        times: PhaseTimes { plan_us: 1, decide_us: 2, queue_us: 3, first_batch_us: 4, engine_us: 6, stream_us: 5, total_us: 15 },
        rows: 3,
        bytes: u64::MAX,
        outcome: Outcome::Error,
        error_kind: Some(ErrorKind::Unavailable),
        error_message: Some("gone".into()),
        failovers: vec!["duckdb: gone".into()],
        usd_actual: None,
        memory_bytes: Some(1 << 20),
        read_bytes: Some(21),
        statement_id: Some("01ef".into()),
        warehouse_ms: None,
        reconciled_unix_ms: None,
    }
}

async fn reads_back_what_was_written(store: &dyn LogStore) {
    let old = record("SELECT 1", 1000);
    let new = record("SELECT 'Zoë \u{1F980}'", 2000);
    store.append(&[old.clone(), new.clone()]).await.unwrap();
    // Again, as after a crash: nothing doubles, nothing fails.
    store.append(std::slice::from_ref(&new)).await.unwrap();
    let read = store.queries(None, 10).await.unwrap();
    let mut expected = vec![new.clone(), old.clone()];
    for record in &mut expected {
        record.bytes = i64::MAX as u64;
    }
    assert_eq!(read, expected);
    assert_eq!(store.queries(None, 1).await.unwrap().len(), 1);
    assert_eq!(store.queries(Some("ana"), 10).await.unwrap().len(), 2);
    assert!(store.queries(Some("eve"), 10).await.unwrap().is_empty());
    let candidates = store.candidates(10).await.unwrap();
    assert_eq!(candidates.len(), 4);
    assert_eq!(candidates[..2], new.candidates()[..]);
}

async fn takes_text_with_nul_and_a_batch_larger_than_one_insert(store: &dyn LogStore) {
    let mut odd = record("SELECT 'a\0b'", 3000);
    odd.error_message = Some("\0".into());
    store.append(&[odd]).await.unwrap();
    assert_eq!(store.queries(None, 1).await.unwrap()[0].text, "SELECT 'a\u{FFFD}b'");
    looks_like_nul(store).await;
    let many: Vec<QueryRecord> = (0..1200).map(|i| record("SELECT 2", 4000 + i)).collect();
    store.append(&many).await.unwrap();
    assert_eq!(store.queries(None, 5000).await.unwrap().len(), 1204);
}

/// JSON writes a NUL as `\u0000`, and so a text may say it itself.
async fn looks_like_nul(store: &dyn LogStore) {
    let with = |nul: &str| {
        let mut odd = record(&format!("SELECT '\\u0000{nul}'"), 3001);
        odd.failovers = vec![format!("duckdb: '\\u0000' isn't '\\\\u0000' or '{nul}'")];
        odd.features.tables = vec![TableUse { name: format!("lake.default.`\\u0000{nul}`"), ..Default::default() }];
        odd.decision.as_mut().unwrap().reason = format!("\\u0000{nul}\\");
        odd
    };
    let odd = with("\0");
    store.append(std::slice::from_ref(&odd)).await.unwrap();
    let read = store.queries(None, 1).await.unwrap().remove(0);
    let expected = with("\u{FFFD}");
    assert_eq!((read.query_id, read.text, read.failovers), (odd.query_id, expected.text, expected.failovers));
    assert_eq!((read.features, read.decision), (expected.features, expected.decision));
}

#[tokio::test]
async fn sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/log.sqlite");
    let store = flightpath_log_store::open(path.to_str().unwrap()).await.unwrap();
    reads_back_what_was_written(store.as_ref()).await;
    takes_text_with_nul_and_a_batch_larger_than_one_insert(store.as_ref()).await;
    history::everything(store.as_ref()).await;
    nobody_else_can_read(path.parent().unwrap());
    drop(store);
    let reopened = flightpath_log_store::open(&format!("sqlite://{}", path.display())).await.unwrap();
    assert_eq!(reopened.queries(None, 5000).await.unwrap().len(), history::LEFT);
}

fn nobody_else_can_read(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let seen: Vec<_> = files.chain([folder.to_path_buf()]).collect();
    // The file, what SQLite keeps beside it, and the folder.
    assert!(seen.len() >= 4, "{seen:?}");
    for path in seen {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    }
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_closed_to_others_and_the_folder_is_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.sqlite");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // As good as a database with nothing in it.
    std::fs::write(&path, "").unwrap();
    for (made, mode) in [(dir.path(), 0o755), (path.as_path(), 0o644)] {
        std::fs::set_permissions(made, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let store = flightpath_log_store::open(path.to_str().unwrap()).await.unwrap();
    store.append(&[record("SELECT 1", 1)]).await.unwrap();
    assert_eq!((mode(dir.path()), mode(&path)), (0o755, 0o640));
}

#[tokio::test]
async fn postgres_and_its_absence() {
    let server = Postgres::start();
    let store = flightpath_log_store::open(&server.url()).await.unwrap();
    reads_back_what_was_written(store.as_ref()).await;
    takes_text_with_nul_and_a_batch_larger_than_one_insert(store.as_ref()).await;
    history::everything(store.as_ref()).await;
    // A second router migrates the same database without harm.
    let again: Arc<dyn Store> = flightpath_log_store::open(&server.url()).await.unwrap();
    assert_eq!(again.queries(None, 1).await.unwrap().len(), 1);
    drop(server);
    let error = store.append(&[record("SELECT 3", 1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_bad_url_is_explained_without_its_password() {
    let error = flightpath_log_store::open("mysql://u:secret@h/d").await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(!error.to_string().contains("secret"));
    let error = flightpath_log_store::open("postgres://u:secret@h:notaport/d").await.err().unwrap();
    assert!(!error.to_string().contains("secret"), "{error}");
}
