//! How many records a second the query log takes for good: records are given to the recorder at a
//! steady rate, as queries do, and counted in the database afterwards.
//!
//! ```text
//! cargo run --release -p flightpath-log-store --example record_rate [-- RATE [SECONDS [sqlite|postgres]]]
//! ```
//! Postgres is started here, in a temporary folder.

#[path = "../tests/stores/postgres.rs"]
mod postgres;

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_querylog::{Recorder, RecorderConfig, Store};
use flightpath_types::*;

const FLUSH_MAX: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rate: u64 = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(2_000);
    let seconds: u64 = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(20);
    let only = arguments.next();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let dir = tempfile::tempdir().map_err(|e| Error::internal(format!("no temporary folder: {e}")))?;
    let mut lost = 0;
    if wanted("sqlite") {
        let store = flightpath_log_store::open(&dir.path().join("log.sqlite").display().to_string()).await?;
        lost += measure("sqlite", store, dir.path().join("spool-sqlite"), rate, seconds).await?;
    }
    if wanted("postgres") {
        let server = postgres::Postgres::start();
        let store = flightpath_log_store::open(&server.url()).await?;
        lost += measure("postgres", store, dir.path().join("spool-postgres"), rate, seconds).await?;
    }
    match lost {
        0 => Ok(()),
        lost => Err(Error::internal(format!("{lost} records were lost"))),
    }
}

/// Prints what was seen; the number of records lost.
async fn measure(name: &str, store: Arc<dyn Store>, spool: std::path::PathBuf, rate: u64, seconds: u64) -> Result<u64> {
    let recorder = Recorder::start(store.clone(), RecorderConfig::new(spool))?;
    let total = rate * seconds;
    let began = Instant::now();
    let (mut given, mut depth_max, mut slowest) = (0, 0, Duration::ZERO);
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while given < total {
        tick.tick().await;
        let due = ((began.elapsed().as_secs_f64() * rate as f64) as u64).min(total);
        for number in given..due {
            let record = record(number);
            let taking = Instant::now();
            recorder.record(&record);
            slowest = slowest.max(taking.elapsed());
        }
        given = due;
        depth_max = depth_max.max(recorder.stats().pending_bytes);
    }
    let giving = began.elapsed().as_secs_f64();
    let left = recorder.stats().pending_bytes;
    let flushed = recorder.flush(FLUSH_MAX).await;
    let all = began.elapsed().as_secs_f64();
    let stats = recorder.stats();
    let stored: u64 = store.queries(None, usize::try_from(total + 1).unwrap_or(usize::MAX)).await?.len() as u64;
    println!(
        "{name:<9} {total} records at {:.0}/s in {giving:.1} s, all stored after {all:.1} s ({:.0}/s); in the database {stored}, lost {}, \
         spool at most {:.2} MB, at the end {:.2} MB; slowest record {:.2} ms{}",
        given as f64 / giving,
        stored as f64 / all,
        total - stored.min(total),
        depth_max as f64 / 1e6,
        left as f64 / 1e6,
        slowest.as_secs_f64() * 1e3,
        if flushed && stats.dropped == 0 { "" } else { " (NOT ALL STORED)" },
    );
    recorder.shutdown(Duration::from_secs(1)).await;
    Ok(total - stored.min(total))
}

/// As a query over a join leaves one: about 2 KB.
fn record(number: u64) -> QueryRecord {
    let engines = ["duckdb", "datafusion", "databricks"];
    let candidates = engines.iter().zip(1..).map(|(engine, rank)| Candidate {
        engine: EngineId::new(engine),
        refusal: None,
        numbers: CandidateNumbers {
            latency_ms: 12.5 * f64::from(rank),
            memory_bytes: 1 << 26,
            scan_bytes: 5 << 20,
            usd: 1e-6,
            ..Default::default()
        },
        rank: Some(rank),
        reason: "reads 5.3 MB in 9 of 14 files, 1 join, 1 aggregate, 1 sort: fastest scan".into(),
    });
    let table = |name: &str| TableUse {
        name: format!("lake.default.{name}"),
        version: Some(number),
        files: 7,
        files_total: 14,
        bytes: 5 << 20,
        rows: Some(100_000),
        columns: ["l_orderkey", "l_quantity", "l_extendedprice", "l_returnflag"].map(String::from).to_vec(),
    };
    QueryRecord {
        query_id: QueryId::generate(),
        started_unix_ms: 1_750_000_000_000 + number as i64,
        text: format!(
            "SELECT l_returnflag, sum(l_quantity), count(*) FROM lineitem JOIN orders ON l_orderkey = o_orderkey WHERE o_orderkey > {number} GROUP BY ALL"
        ),
        fingerprint: Some(Fingerprint::from_u64(number % 97)),
        statement_kind: "query".into(),
        session_id: Some("0123456789abcdef0123456789abcdef".into()),
        principal: format!("user{}", number % 20),
        catalog: "lake".into(),
        schema: "default".into(),
        dialect: "databricks".into(),
        profile: None,
        tag: (number.is_multiple_of(5)).then(|| "dashboard".into()),
        features: Features { tables: vec![table("lineitem"), table("orders")], joins: 1, aggregates: 1, ..Default::default() },
        decision: Some(Decision {
            strategy: "rules".into(),
            candidates: candidates.collect(),
            reason: "duckdb: reads 5.3 MB in 9 of 14 files, 1 join, 1 aggregate, 1 sort: fastest scan".into(),
            profile: Some("interactive".into()),
            propensity: Some(1.0),
            arm: None,
        }),
        engine: Some("duckdb".into()),
        plan_cache_hit: true,
        times: PhaseTimes {
            plan_us: 150,
            decide_us: 40,
            queue_us: 0,
            first_batch_us: 11_000,
            engine_us: 11_000,
            stream_us: 800,
            total_us: 12_100,
        },
        rows: 3,
        bytes: 512,
        outcome: Outcome::Success,
        error_kind: None,
        error_message: None,
        failovers: Vec::new(),
        usd_actual: None,
        memory_bytes: None,
        read_bytes: Some(4 << 20),
        statement_id: None,
        warehouse_ms: None,
        reconciled_unix_ms: None,
    }
}
