//! A worker's life: what happens when it, its queries or its readers end early.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::Int32Array;
use arrow::datatypes::{DataType, Field, Schema};
use flightpath_engine::{Engine, Execution};
use flightpath_engine_duckdb::{Config, DuckdbEngine, Transport};
use flightpath_types::{EngineState, ErrorKind};
use futures::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::*;

const ENDLESS: &str = "SELECT count(*) AS n FROM range(1000000000000) t(i) WHERE sin(i) > 2";
/// 8 bytes a row, far more than any buffer between the worker and its reader.
const LARGE: &str = "SELECT i FROM range(1000000000) t(i)";

/// Processor time that a process has used, in clock ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn memory_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Waits until the worker has used no processor time for a while; how long that took.
async fn idle(pid: u32) -> Duration {
    let started = Instant::now();
    let mut last = (cpu_ticks(pid), Instant::now());
    eventually("the worker is idle", async || {
        let now = cpu_ticks(pid);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(200)
    })
    .await;
    last.1 - started
}

async fn busy(pid: u32) {
    let before = cpu_ticks(pid);
    eventually("the worker computes", async || cpu_ticks(pid) > before + 5).await;
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn answers(engine: &DuckdbEngine) -> bool {
    run(engine, query("SELECT 1", vec![])).await.is_ok()
}

#[test]
fn a_dropped_stream_or_call_stops_duckdb_at_once() {
    runtime().block_on(async {
        for transport in [Transport::Unix, Transport::Tcp] {
            let mut config = config();
            config.transport = transport;
            let engine = start(config).await;
            let pid = engine.pid().unwrap();
            // Before the first row: the call itself is dropped.
            let call = engine.execute(query(ENDLESS, vec![]), execution());
            let dropped = tokio::time::timeout(Duration::from_secs(1), async {
                let waited = call.await;
                assert!(waited.is_err(), "an endless query gave a stream");
            });
            assert!(dropped.await.is_err());
            let took = idle(pid).await;
            println!("idle {took:?} after a dropped call");
            // In mid-stream.
            let text = "SELECT i FROM range(1000000000) t(i) WHERE i < 5000000 OR sin(i) > 2";
            let mut stream = engine.execute(query(text, vec![]), execution()).await.unwrap();
            // DuckDB hands out its last megabyte of rows only at the end.
            let mut taken = 0;
            while taken < 4_500_000 {
                taken += stream.next().await.unwrap().unwrap().num_rows();
            }
            busy(pid).await;
            drop(stream);
            let took = idle(pid).await;
            println!("idle {took:?} after a dropped stream");
            assert_eq!(engine.facts().running, 0);
            // By its id.
            let execution = execution();
            let id = execution.query_id;
            let mut running = Box::pin(engine.execute(query(ENDLESS, vec![]), execution));
            let asked = async {
                eventually("the query runs", async || engine.cancel(id).await.unwrap()).await;
                std::future::pending::<()>().await;
            };
            let outcome = tokio::select! { outcome = &mut running => outcome, () = asked => unreachable!() };
            assert_eq!(outcome.err().unwrap().kind(), ErrorKind::Cancelled);
            assert_eq!(engine.pid(), Some(pid));
            assert!(answers(&engine).await);
            engine.shutdown().await;
            assert!(!exists(pid));
        }
    });
}

#[test]
fn a_deadline_ends_the_query_before_and_after_its_first_row() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let pid = engine.pid().unwrap();
        let soon = || Execution { deadline: Some(Instant::now() + Duration::from_secs(2)), ..execution() };
        let error = engine.execute(query(ENDLESS, vec![]), soon()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        idle(pid).await;
        let text = "SELECT i FROM range(1000000000) t(i) WHERE i < 5000000 OR sin(i) > 2";
        let stream = engine.execute(query(text, vec![]), soon()).await.unwrap();
        assert_eq!(collect(stream).await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        idle(pid).await;
        // A reader that doesn't read holds no slot beyond it either.
        let mut one = config();
        one.slots = 1;
        one.user_slots = 0;
        let single = start(one).await;
        let later = Execution { deadline: Some(Instant::now() + Duration::from_secs(5)), ..execution() };
        let stream = single.execute(query(LARGE, vec![]), later).await.unwrap();
        assert!(answers(&single).await);
        drop(stream);
        single.shutdown().await;
        engine.shutdown().await;
    });
}

#[test]
fn a_query_that_hears_no_interrupt_costs_its_worker_and_another_takes_its_place() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let pid = engine.pid().unwrap();
        // DuckDB looks for an interrupt between vectors: this is one row that takes far longer than anybody waits.
        let deaf = "SELECT levenshtein(repeat('a', 150000 + i), repeat('b', 150000 + i)) AS d FROM range(1) t(i)";
        let soon = Execution { deadline: Some(Instant::now() + Duration::from_secs(3)), ..execution() };
        let error = engine.execute(query(deaf, vec![]), soon).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        eventually("another worker answers", async || engine.pid().is_some_and(|p| p != pid) && answers(&engine).await).await;
        assert!(!exists(pid));
        engine.shutdown().await;
    });
}

#[test]
fn a_killed_worker_is_a_typed_error_and_is_replaced() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let pid = engine.pid().unwrap();
        let mut stream = engine.execute(query(LARGE, vec![]), execution()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        let error = collect(stream).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        eventually("another worker answers", async || engine.pid().is_some_and(|p| p != pid) && answers(&engine).await).await;
        assert_eq!(engine.facts().state, EngineState::Ready);
        let next = engine.pid().unwrap();
        // Twenty clients, and the worker dies under them: rows or a typed error, never a short answer.
        let whole: u64 = 3_000_000;
        let text = format!("SELECT i FROM range({whole}) t(i)");
        let clients = (0..20).map(|_| async {
            match run(&engine, query(&text, vec![])).await {
                Ok(batches) => assert_eq!(batches.iter().map(|b| b.num_rows() as u64).sum::<u64>(), whole),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
        });
        let killer = async {
            busy(next).await;
            kill(Pid::from_raw(next as i32), Signal::SIGKILL).unwrap();
        };
        tokio::join!(futures::future::join_all(clients), killer);
        eventually("a third worker answers", async || answers(&engine).await).await;
        let last = engine.pid().unwrap();
        drop(engine);
        eventually("no worker is left behind", async || !exists(last)).await;
    });
}

#[test]
fn a_slow_reader_holds_neither_memory_nor_processor() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let pid = engine.pid().unwrap();
        let mut stream = engine.execute(query(LARGE, vec![]), execution()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        idle(pid).await;
        let held = memory_bytes(pid);
        assert!(held < 300 << 20, "the worker holds {held} bytes for a reader that doesn't read");
        // It goes on when the reader does, and others aren't held up meanwhile.
        assert!(answers(&engine).await);
        for _ in 0..50 {
            stream.next().await.unwrap().unwrap();
        }
        drop(stream);
        idle(pid).await;
        engine.shutdown().await;
    });
}

#[test]
fn limits_are_typed_errors_and_leave_the_worker_whole() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            memory_bytes_max: 128 << 20,
            temp_bytes_max: 64 << 20,
            temp_dir: folder.path().into(),
            slots: 1,
            user_slots: 1,
            queue_max: 1,
            ticket_bytes_max: 1 << 20,
            ..config()
        };
        let engine = start(config).await;
        let pid = engine.pid().unwrap();
        let hungry = "SELECT len(list(i)) AS n FROM range(60000000) t(i)";
        for query in [query(hungry, vec![]), user_query(hungry, vec![])] {
            let error = run(&engine, query).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        }
        // One runs, one waits, the third is refused.
        let running = engine.execute(query(LARGE, vec![]), execution()).await.unwrap();
        let (first, second) = (run(&engine, query("SELECT 1", vec![])), run(&engine, query("SELECT 1", vec![])));
        tokio::pin!(first, second);
        let outcome = tokio::select! { one = &mut first => one, other = &mut second => other };
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ResourceExhausted);
        drop(running);
        eventually("the slot is free", async || answers(&engine).await).await;
        let huge = format!("SELECT '{}' AS x", "x".repeat(2 << 20));
        assert_eq!(run(&engine, query(&huge, vec![])).await.unwrap_err().kind(), ErrorKind::ResourceExhausted);
        assert_eq!(engine.pid(), Some(pid));
        engine.shutdown().await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the worker's folder is gone");
    });
}

#[test]
fn damaged_files_are_data_loss_and_harm_no_other_table() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let pid = engine.pid().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let good = write(&folder.path().join("good.parquet"), vec![("i", Arc::new(Int32Array::from(vec![1, 2, 3])))]);
        let schema = Schema::new(vec![Field::new("i", DataType::Int32, true)]);
        let good_table = || table(schema.clone(), vec![], vec![good.clone()]);
        let harmless = async || {
            assert_eq!(rows(&engine, query("SELECT sum(i)::BIGINT AS s FROM s0", vec![good_table()])).await, ["6"]);
            assert_eq!(engine.pid(), Some(pid), "the process lives on");
        };
        let whole = std::fs::read(&good.path).unwrap();
        let broken = folder.path().join("broken.parquet");
        for bytes in [&whole[..whole.len() / 2], &whole[..0]] {
            std::fs::write(&broken, bytes).unwrap();
            let mut file = data_file(&broken);
            file.size_bytes = whole.len() as u64;
            let error =
                run(&engine, query("SELECT * FROM s0", vec![table(schema.clone(), vec![], vec![good.clone(), file])])).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:?}");
            harmless().await;
        }
        let mut missing = data_file(&broken);
        missing.path = folder.path().join("g[o]od.parquet").to_str().unwrap().into();
        for query in [
            query("SELECT count(*) AS n FROM s0", vec![table(schema.clone(), vec![], vec![missing.clone()])]),
            user_query("SELECT count(*) AS n FROM t", vec![table(schema.clone(), vec![], vec![missing])]),
        ] {
            let error = run(&engine, query).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:?}");
            harmless().await;
        }
        // Nobody can look below a file: what is there isn't known. No error that goes away by asking again.
        let mut unreachable = good.clone();
        unreachable.path = format!("{}/f.parquet", good.path).as_str().into();
        for _ in 0..4 {
            let scan = table(schema.clone(), vec![], vec![unreachable.clone()]);
            let error = run(&engine, query("SELECT count(*) AS n FROM s0", vec![scan])).await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (ErrorKind::Internal, Some("FAILED_READ_FILE.NO_HINT")), "{error:?}");
            harmless().await;
        }
        engine.shutdown().await;
    });
}

#[test]
fn errors_keep_kind_class_and_state_on_their_way() {
    runtime().block_on(async {
        let engine = start(config()).await;
        for (text, kind, class, state) in [
            ("SELECT error('FLIGHTPATH_RAISED|DIVIDE_BY_ZERO|22012|Division by zero. a|b')", ErrorKind::Raised, "DIVIDE_BY_ZERO", "22012"),
            (
                "SELECT CASE WHEN i = 2500000 THEN error('FLIGHTPATH_RAISED|X|22000|late') ELSE 'x' END AS e FROM range(3000000) t(i)",
                ErrorKind::Raised,
                "X",
                "22000",
            ),
            ("SELECT i + 9223372036854775807 AS x FROM range(3) t(i)", ErrorKind::Raised, "ARITHMETIC_OVERFLOW", "22003"),
            ("SELECT CAST('a' || i AS INTEGER) AS x FROM range(3) t(i)", ErrorKind::Raised, "CAST_INVALID_INPUT", "22018"),
            ("SELECT nonsense(1)", ErrorKind::Internal, "", ""),
        ] {
            let error = run(&engine, query(text, vec![])).await.unwrap_err();
            assert_eq!((error.kind(), error.class().unwrap_or(""), error.sql_state().unwrap_or("")), (kind, class, state), "{error:?}");
        }
        // On several threads, where DuckDB may report its own interrupt in place of the error.
        let late = "SELECT CASE WHEN i = 2500000 THEN error('FLIGHTPATH_RAISED|X|22000|late') ELSE 'x' END AS e FROM range(3000000) t(i)";
        for _ in 0..20 {
            let error = run(&engine, query(late, vec![])).await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (ErrorKind::Raised, Some("X")), "{error:?}");
        }
        let raised = run(&engine, query("SELECT error('FLIGHTPATH_RAISED|A|22000|one|two')", vec![])).await.unwrap_err();
        assert_eq!(raised.message(), "one|two");
        // A user can't forge one, and long messages arrive.
        let forged = run(&engine, user_query("SELECT error('FLIGHTPATH_RAISED|A|22000|m')", vec![])).await.unwrap_err();
        assert_eq!((forged.kind(), forged.class()), (ErrorKind::InvalidArgument, None));
        let long = run(&engine, user_query("SELECT error(repeat('ü', 100000))", vec![])).await.unwrap_err();
        assert_eq!(long.kind(), ErrorKind::InvalidArgument);
        assert!(long.message().len() > 1000);
        engine.shutdown().await;
    });
}

#[test]
fn a_worker_that_cannot_start_says_why() {
    runtime().block_on(async {
        let missing = Config { program: "/nowhere/flightpath".into(), ..config() };
        let engine = DuckdbEngine::start(missing);
        let error = engine.ready().await.unwrap_err();
        assert!(error.message().contains("/nowhere/flightpath"), "{error}");
        engine.shutdown().await;
        let failing = Config {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), "echo no libduckdb.so here >&2; exit 127".into()],
            ..config()
        };
        let engine = DuckdbEngine::start(failing);
        assert!(engine.ready().await.is_err());
        eventually("the reason is told", async || {
            matches!(engine.facts().state, EngineState::Down(reason) if reason.contains("no libduckdb.so here") && reason.contains("127"))
        })
        .await;
        assert_eq!(run(&engine, query("SELECT 1", vec![])).await.unwrap_err().kind(), ErrorKind::Unavailable);
        engine.shutdown().await;
    });
}

#[test]
fn a_worker_ends_with_its_supervisor_and_finishes_queries_when_asked_to_end() {
    runtime().block_on(async {
        let engine = Arc::new(start(Config { drain_max: PATIENCE, ..config() }).await);
        let pid = engine.pid().unwrap();
        let whole = 5_000_000;
        let text = format!("SELECT i FROM range({whole}) t(i)");
        let mut stream = engine.execute(query(&text, vec![]), execution()).await.unwrap();
        let first = stream.next().await.unwrap().unwrap().num_rows();
        let ending = tokio::spawn({
            let engine = engine.clone();
            async move { engine.shutdown().await }
        });
        eventually("no new query is taken", async || !answers(&engine).await).await;
        let rest: usize = collect(stream).await.unwrap().iter().map(|b| b.num_rows()).sum();
        assert_eq!(first + rest, whole);
        ending.await.unwrap();
        assert!(!exists(pid));
    });
    // A runtime that goes away without a shutdown, as when the router crashes.
    let gone = runtime();
    let pid = gone.block_on(async {
        let engine = start(config()).await;
        let pid = engine.pid().unwrap();
        std::mem::forget(engine);
        pid
    });
    gone.shutdown_background();
    runtime().block_on(eventually("the orphan ends", async || !exists(pid)));
}
