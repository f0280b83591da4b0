//! Whatever goes wrong: never a short result, never a second execution, never a secret told.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flightpath_engine::Engine;
use flightpath_types::ErrorKind;
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use serde_json::json;

use super::fake::{Fake, Fault, KEY, Plan, SIGNATURE, StorageFault, TOKEN};
use super::*;

fn storage(faults: &[(usize, &[StorageFault])]) -> HashMap<usize, std::collections::VecDeque<StorageFault>> {
    faults.iter().map(|(chunk, faults)| (*chunk, faults.iter().copied().collect())).collect()
}

#[tokio::test]
async fn an_execution_that_was_turned_away_is_sent_again_and_run_once() {
    let faults = [Fault::RetryAfter(429), Fault::RetryAfter(503), Fault::Status(429)];
    let fake = Fake::start(Plan { execute_faults: faults.into(), ..Default::default() }).await;
    assert_eq!(ids(&engine(&fake)).await.unwrap().len(), 5);
    assert_eq!(fake.executed(), 1);
}

#[tokio::test]
async fn an_api_that_stays_busy_is_no_want_of_memory() {
    let plan = Plan { execute_faults: [Fault::RetryAfter(429); 5].into(), ..Default::default() };
    let fake = Fake::start(plan).await;
    let failed = failure(&engine(&fake), query()).await;
    assert_eq!((failed.kind(), failed.class()), (ErrorKind::ResourceExhausted, Some("TOO_MANY_REQUESTS")));
    assert_eq!(fake.executed(), 0);
}

#[tokio::test]
async fn an_execution_that_may_have_happened_is_never_sent_again() {
    for fault in [Fault::Status(500), Fault::Status(503), Fault::Status(504), Fault::Drop, Fault::DoneThenDrop] {
        let fake = Fake::start(Plan { execute_faults: [fault].into(), ..Default::default() }).await;
        let engine = engine(&fake);
        // A query may be answered by another engine, but not by this one again.
        assert_eq!(failure(&engine, query()).await.kind(), ErrorKind::Internal);
        assert_eq!(fake.bodies.lock().len(), 1);
        assert!(fake.executed() <= 1);
        fake.plan.lock().execute_faults.push_back(fault);
        let failed = failure(&engine, write()).await;
        assert!(!failed.kind().may_fail_over(), "{failed}");
        assert_eq!(fake.bodies.lock().len(), 2);
    }
}

#[tokio::test]
async fn polls_and_links_survive_a_faulty_server() {
    let faults = [Fault::Status(500), Fault::Drop, Fault::RetryAfter(429), Fault::Status(503)];
    let plan = Plan { poll_faults: faults.into(), chunk_faults: faults.into(), ..Default::default() };
    let fake = Fake::start(plan).await;
    assert_eq!(ids(&engine(&fake)).await.unwrap(), (0..5).collect::<Vec<_>>());
    assert_eq!(fake.executed(), 1);
}

#[tokio::test]
async fn a_write_that_is_lost_sight_of_is_not_tried_elsewhere() {
    let faults = [Fault::Status(500); 5];
    let fake = Fake::start(Plan { poll_faults: faults.into(), ..Default::default() }).await;
    let failed = failure(&engine(&fake), write()).await;
    assert!(!failed.kind().may_fail_over() && failed.message().contains("may have been carried out"), "{failed}");
    assert_eq!(fake.executed(), 1);
}

#[tokio::test]
async fn damaged_chunks_are_fetched_again() {
    use StorageFault::*;
    let plan = Plan {
        chunks: chunks(&[100, 200, 300]),
        links_per_answer: 3,
        storage_faults: storage(&[(0, &[Status(403), DropMidway]), (1, &[CutOff, RowMissing]), (2, &[Status(503), Status(400)])]),
        ..Default::default()
    };
    let fake = Fake::start(plan).await;
    assert_eq!(ids(&engine(&fake)).await.unwrap(), (0..600).collect::<Vec<_>>());
    assert_eq!((fake.executed(), fake.fetched.lock().len()), (1, 9));
}

#[tokio::test]
async fn a_chunk_that_stays_damaged_is_an_error_never_a_short_result() {
    for fault in [StorageFault::Status(403), StorageFault::DropMidway, StorageFault::CutOff, StorageFault::RowMissing] {
        for compressed in [true, false] {
            let plan = Plan {
                chunks: chunks(&[10, 20]),
                refuse_inline: !compressed,
                refuse_compression: !compressed,
                storage_faults: storage(&[(1, &[fault; 5])]),
                ..Default::default()
            };
            let fake = Fake::start(plan).await;
            let stream = execute(&engine(&fake), query()).await.unwrap();
            let outcomes: Vec<_> = stream.collect().await;
            let failed = outcomes.last().unwrap().as_ref().unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
            assert_eq!(fake.executed(), 1);
        }
    }
}

#[tokio::test]
async fn expired_links_are_renewed() {
    let fake = Fake::start(Plan { link_seconds: -5, links_per_answer: 9, ..Default::default() }).await;
    assert_eq!(ids(&engine(&fake)).await.unwrap().len(), 5);
    assert!(fake.link_answers.load(Ordering::SeqCst) >= 2, "no link of the first answer was used");
}

#[tokio::test]
async fn results_that_do_not_add_up_are_errors() {
    for (plan, kind, class) in [
        (Plan { truncated: true, ..Default::default() }, ErrorKind::ResourceExhausted, Some("RESULT_TOO_LARGE")),
        (Plan { rows_off: 1, ..Default::default() }, ErrorKind::Unavailable, None),
        (Plan { no_result: true, ..Default::default() }, ErrorKind::Unavailable, None),
        (Plan { state: "MEDITATING", polls: 0, ..Default::default() }, ErrorKind::Unavailable, None),
    ] {
        let fake = Fake::start(plan).await;
        let failed = failure(&engine(&fake), query()).await;
        assert_eq!((failed.kind(), failed.class()), (kind, class));
    }
}

#[tokio::test]
async fn failed_statements_are_typed_errors() {
    let cases = [
        ("[DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012", ErrorKind::Raised, Some("DIVIDE_BY_ZERO")),
        ("[TABLE_OR_VIEW_NOT_FOUND] No `t`. SQLSTATE: 42P01", ErrorKind::NotFound, Some("TABLE_OR_VIEW_NOT_FOUND")),
        ("[INSUFFICIENT_PERMISSIONS] No. SQLSTATE: 42501", ErrorKind::PermissionDenied, Some("INSUFFICIENT_PERMISSIONS")),
        ("something else", ErrorKind::InvalidArgument, None),
    ];
    for (message, kind, class) in cases {
        let error = Some(json!({"error_code": "BAD_REQUEST", "message": message}));
        let fake = Fake::start(Plan { state: "FAILED", error, ..Default::default() }).await;
        let failed = failure(&engine(&fake), query()).await;
        assert_eq!((failed.kind(), failed.class()), (kind, class));
        assert_eq!((fake.executed(), fake.cancels.load(Ordering::SeqCst)), (1, 0));
    }
}

#[tokio::test]
async fn the_deadline_ends_and_cancels_a_statement_even_if_cancels_get_lost() {
    let fake = Fake::start(Plan { never_ends: true, lose_cancels: 2, ..Default::default() }).await;
    let engine = engine(&fake);
    let failed = engine.execute(query(), execution(Some(Duration::from_millis(700)))).await.err().unwrap();
    assert_eq!(failed.kind(), ErrorKind::DeadlineExceeded);
    eventually("the cancel", || fake.all_ended()).await;
    assert_eq!((fake.executed(), fake.cancels.load(Ordering::SeqCst)), (1, 3));
}

#[tokio::test]
async fn the_deadline_holds_while_chunks_are_read() {
    let faults = storage(&[(1, &[StorageFault::Hang])]);
    let fake = Fake::start(Plan { storage_faults: faults, ..Default::default() }).await;
    let engine = engine(&fake);
    let within = execution(Some(Duration::from_millis(500)));
    let outcome = async { engine.execute(query(), within).await?.try_collect::<Vec<_>>().await };
    let failed = outcome.await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn dropping_the_query_cancels_its_statement() {
    let fake = Fake::start(Plan { never_ends: true, ..Default::default() }).await;
    let engine = engine(&fake);
    let mut waiting = Box::pin(engine.execute(query(), execution(None)));
    while fake.polls.load(Ordering::SeqCst) == 0 {
        assert!(waiting.as_mut().now_or_never().is_none());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(waiting);
    eventually("the cancel", || fake.all_ended()).await;
    assert_eq!(engine.facts().running, 0);
    assert_eq!(fake.executed(), 1);
}

#[tokio::test]
async fn shutting_down_ends_what_runs() {
    let fake = Fake::start(Plan { never_ends: true, ..Default::default() }).await;
    let engine = Arc::new(engine(&fake));
    let running = tokio::spawn({
        let engine = engine.clone();
        async move { engine.execute(query(), execution(None)).await.err().unwrap() }
    });
    eventually("the first poll", || fake.polls.load(Ordering::SeqCst) > 0).await;
    engine.shutdown().await;
    assert!(fake.all_ended(), "shutting down waits for the cancel");
    assert_eq!(running.await.unwrap().kind(), ErrorKind::Cancelled);
    assert_eq!(failure(&engine, query()).await.kind(), ErrorKind::Unavailable);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What all tests of this program log. One subscriber for all threads: with one of its own, a test
/// misses what another has found nobody to be interested in.
fn captured() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let start = || {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        tracing::subscriber::set_global_default(subscriber.with_writer(move || writer.clone()).finish()).unwrap();
        log
    };
    LOG.get_or_init(start).clone()
}

#[tokio::test]
async fn links_and_tokens_reach_no_message_and_no_log() {
    let log = captured();

    let plan = Plan {
        poll_faults: [Fault::Status(500), Fault::Drop].into(),
        storage_faults: storage(&[(0, &[StorageFault::Status(403)]), (1, &[StorageFault::DropMidway; 5])]),
        ..Default::default()
    };
    let fake = Fake::start(plan).await;
    let engine = engine(&fake);
    let first = failure(&engine, query()).await;
    fake.plan.lock().execute_faults.push_back(Fault::Status(500));
    let second = failure(&engine, query()).await;
    let logged = String::from_utf8(log.0.lock().clone()).unwrap();
    assert!(logged.contains("fetched again") && logged.contains("asked again"), "the log was captured");
    let texts = [logged, format!("{first:?} {first}"), format!("{second:?} {second} {:?}", execution(None))];
    for text in &texts {
        for secret in [TOKEN, SIGNATURE, KEY, "/blob/"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
