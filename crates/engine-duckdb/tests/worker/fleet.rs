//! Several workers: what happens to queries when one of them dies, falls silent or drains.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::Int32Array;
use arrow::datatypes::{DataType, Field, Schema};
use flightpath_catalog::TableName;
use flightpath_engine::{Engine, Execution};
use flightpath_engine_duckdb::{Config, DuckdbEngine};
use flightpath_plan::ScanBinding;
use flightpath_types::{EngineState, ErrorKind};
use futures::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::*;

const LARGE: &str = "SELECT i FROM range(1000000000) t(i)";
const ENDLESS: &str = "SELECT count(*) AS n FROM range(1000000000000) t(i) WHERE sin(i) > 2";

async fn fleet(workers: u32, lease: Duration) -> DuckdbEngine {
    let engine = start(Config { workers, silence_down: lease, ..config() }).await;
    eventually("all workers are ready", async || ready(&engine) == workers as usize).await;
    engine
}

fn ready(engine: &DuckdbEngine) -> usize {
    engine.workers().iter().filter(|w| w.state == "ready").count()
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).unwrap();
}

/// SIGSTOP, until every thread of it stands.
async fn freeze(pid: u32) {
    signal(pid, Signal::SIGSTOP);
    let stands = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    eventually("the process stands still", async || threads().all(stands)).await;
}

/// Workers that run something.
fn busy(engine: &DuckdbEngine) -> BTreeSet<String> {
    engine.workers().into_iter().filter(|w| w.running > 0).map(|w| w.name).collect()
}

fn named_table(folder: &std::path::Path, name: &str) -> ScanBinding {
    let file = write(&folder.join(format!("{name}.parquet")), vec![("i", Arc::new(Int32Array::from(vec![1, 2, 3])))]);
    let mut snapshot = snapshot(Arc::new(Schema::new(vec![Field::new("i", DataType::Int32, true)])), vec![], vec![file]);
    snapshot.name = TableName::new("lake", "default", name);
    scan(snapshot)
}

#[test]
fn facts_are_the_fleets_and_load_and_cache_place_queries() {
    runtime().block_on(async {
        let engine = fleet(3, Duration::from_secs(30)).await;
        let facts = engine.facts();
        assert_eq!((facts.state, facts.slots, facts.running, facts.cores), (EngineState::Ready, 24, 0, 2));
        assert_eq!(engine.pids().len(), 3);
        // Queries at once spread, each to a worker of its own.
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(engine.execute(query(LARGE, vec![]), execution()).await.unwrap());
        }
        assert_eq!(busy(&engine).len(), 3);
        assert_eq!(engine.facts().running, 3);
        eventually("each has told of its query", async || engine.workers().iter().all(|w| w.running_there == 1)).await;
        drop(streams);
        eventually("nothing runs", async || engine.facts().running == 0).await;
        eventually("each has told so", async || engine.workers().iter().all(|w| w.running_there == 0)).await;
        // One table's queries stay where it was read.
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let table = named_table(folder.path(), "orders");
            assert_eq!(rows(&engine, query("SELECT sum(i)::BIGINT AS s FROM s0", vec![table])).await, ["6"]);
        }
        eventually("the workers have told what they read", async || engine.workers().iter().any(|w| w.cached_tables > 0)).await;
        assert_eq!(engine.workers().iter().filter(|w| w.cached_tables > 0).count(), 1);
        // Many tables spread.
        for n in 0..20 {
            let table = named_table(folder.path(), &format!("t{n}"));
            rows(&engine, query("SELECT sum(i)::BIGINT AS s FROM s0", vec![table])).await;
        }
        eventually("all have read something", async || engine.workers().iter().all(|w| w.cached_tables > 0)).await;
        engine.shutdown().await;
        assert_eq!(engine.facts().state, EngineState::Draining);
    });
}

#[test]
fn a_query_whose_worker_is_killed_succeeds_on_another() {
    runtime().block_on(async {
        let engine = fleet(2, Duration::from_secs(30)).await;
        for _ in 0..3 {
            eventually("both are ready", async || ready(&engine) == 2).await;
            let execution = execution();
            let findings = execution.findings.clone();
            let again = Execution { findings: Default::default(), ..execution.clone() };
            let mut running = Box::pin(engine.execute(query(ENDLESS, vec![]), execution));
            let killed = async {
                eventually("it runs", async || busy(&engine).len() == 1).await;
                let name = busy(&engine).into_iter().next().unwrap();
                let number: usize = name.strip_prefix("local-").unwrap().parse().unwrap();
                signal(engine.pids()[number], Signal::SIGKILL);
                name
            };
            let (outcome, name) = tokio::join!(&mut running, killed);
            assert_eq!(outcome.err().unwrap().kind(), ErrorKind::Unavailable);
            assert!(findings.has_died(), "the query may be why");
            // The same query again, at once: elsewhere.
            let mut stream = engine.execute(query(LARGE, vec![]), again).await.unwrap();
            stream.next().await.unwrap().unwrap();
            assert!(!busy(&engine).contains(&name));
            assert_eq!(engine.facts().state, EngineState::Ready);
        }
        engine.shutdown().await;
    });
}

#[test]
fn a_file_that_one_worker_cannot_read_is_tried_by_another_and_nobody_is_to_blame_when_none_can() {
    runtime().block_on(async {
        let engine = fleet(2, Duration::from_secs(30)).await;
        let folder = tempfile::tempdir().unwrap();
        let scans: Vec<ScanBinding> = (0..5).map(|_| named_table(folder.path(), "gone")).collect();
        std::fs::remove_file(folder.path().join("gone.parquet")).unwrap();
        for scan in scans {
            let execution = execution();
            let findings = execution.findings.clone();
            let error = engine.execute(query("SELECT sum(i)::BIGINT AS s FROM s0", vec![scan]), execution).await.err().unwrap();
            assert_eq!((error.kind(), error.class()), (ErrorKind::DataLoss, Some("FAILED_READ_FILE.FILE_NOT_EXIST")), "{error}");
            assert!(!findings.has_died());
        }
        // What nobody can read (there is nothing below a file) is no worker's fault, and no reason to ask again.
        let scan = named_table(folder.path(), "file");
        let mut below = (*scan.files[0]).clone();
        below.path = format!("{}/f.parquet", below.path).as_str().into();
        for _ in 0..5 {
            let scan = table(scan.snapshot.schema.as_ref().clone(), vec![], vec![below.clone()]);
            let error = run(&engine, query("SELECT sum(i)::BIGINT AS s FROM s0", vec![scan])).await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (ErrorKind::Internal, Some("FAILED_READ_FILE.NO_HINT")), "{error}");
        }
        eventually("both have told that they were asked", async || engine.workers().iter().all(|w| w.cached_tables > 0)).await;
        assert_eq!(ready(&engine), 2);
        engine.shutdown().await;
    });
}

#[test]
fn a_silent_worker_is_left_within_its_lease_and_used_again_when_it_speaks() {
    runtime().block_on(async {
        let engine = fleet(2, Duration::from_secs(3)).await;
        let pids = engine.pids();
        let mut stream = engine.execute(query(LARGE, vec![]), execution()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        let number: usize = busy(&engine).into_iter().next().unwrap().strip_prefix("local-").unwrap().parse().unwrap();
        freeze(pids[number]).await;
        // In mid-stream: what has arrived, then a typed error.
        assert_eq!(collect(stream).await.unwrap_err().kind(), ErrorKind::Unavailable);
        eventually("its silence is known", async || ready(&engine) == 1).await;
        for _ in 0..20 {
            assert_eq!(sql(&engine, "SELECT 1 AS x").await, ["1"]);
        }
        // Before the first row: a typed error too, though nothing on the connection has changed.
        freeze(pids[1 - number]).await;
        let error = run(&engine, query("SELECT 1", vec![])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        eventually("nobody is left", async || matches!(engine.facts().state, EngineState::Down(why) if why.contains("silent"))).await;
        pids.iter().for_each(|pid| signal(*pid, Signal::SIGCONT));
        eventually("both are back", async || ready(&engine) == 2).await;
        assert_eq!(engine.pids(), pids, "nobody was replaced");
        assert_eq!(sql(&engine, "SELECT 1 AS x").await, ["1"]);
        engine.shutdown().await;
    });
}

#[test]
fn a_worker_that_is_told_to_end_finishes_its_queries_and_gets_no_more() {
    runtime().block_on(async {
        let engine = start(Config { workers: 2, drain_max: PATIENCE, ..config() }).await;
        eventually("both are ready", async || ready(&engine) == 2).await;
        let whole = 5_000_000;
        let mut stream = engine.execute(query(&format!("SELECT i FROM range({whole}) t(i)"), vec![]), execution()).await.unwrap();
        let first = stream.next().await.unwrap().unwrap().num_rows();
        let name = busy(&engine).into_iter().next().unwrap();
        let pid = engine.pids()[name.strip_prefix("local-").unwrap().parse::<usize>().unwrap()];
        signal(pid, Signal::SIGTERM);
        eventually("its drain is known", async || engine.workers().iter().any(|w| w.name == name && w.state == "draining")).await;
        for _ in 0..20 {
            assert_eq!(sql(&engine, "SELECT 1 AS x").await, ["1"]);
        }
        let rest: usize = collect(stream).await.unwrap().iter().map(|b| b.num_rows()).sum();
        assert_eq!(first + rest, whole);
        eventually("another has taken its place", async || ready(&engine) == 2 && !engine.pids().contains(&pid)).await;
        engine.shutdown().await;
    });
}

#[test]
fn a_shutdown_waits_for_queries_that_have_no_row_yet() {
    runtime().block_on(async {
        // A lease that is over long before the query is.
        let engine = Arc::new(start(Config { drain_max: PATIENCE, silence_down: Duration::from_secs(3), ..config() }).await);
        let text = "SELECT count(*) AS n FROM range(300000000) t(i) WHERE sin(i) > 2";
        let running = tokio::spawn({
            let engine = engine.clone();
            async move { sql(&engine, text).await }
        });
        eventually("it runs", async || !busy(&engine).is_empty()).await;
        engine.shutdown().await;
        assert_eq!(running.await.unwrap(), ["0"]);
    });
}
