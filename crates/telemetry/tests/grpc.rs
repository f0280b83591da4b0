//! Against a real OTLP receiver over gRPC: what spans and metrics arrive, and what the page shows.
//! One test a binary: the process has one subscriber.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use flightpath_telemetry::{Config, EngineLevel, Headers, Levels, LogLevel, LookupLevel, Otlp, Page, Protocol};
use flightpath_types::trace::{SPANS, continue_from, hand_on};
use flightpath_types::{
    Candidate, CandidateNumbers, Decision, EngineId, ErrorKind, Features, Fingerprint, Outcome, PhaseTimes, QueryId, QueryRecord, Refusal,
    RefusalClass,
};
use support::{collector, read_page, start, text_of};
use tokio::net::TcpListener;
use tracing::{Instrument, info_span};

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

struct Now;

impl Levels for Now {
    fn engines(&self) -> Vec<EngineLevel> {
        vec![EngineLevel { engine: "duckdb".into(), running: 3, queued: 2, slots: 8, up: true }]
    }

    fn log(&self) -> LogLevel {
        LogLevel { taken: 9, stored: 8, dropped: 1, pending_bytes: 77 }
    }

    fn connections(&self) -> Option<u64> {
        Some(5)
    }

    fn sessions(&self) -> Option<u64> {
        Some(4)
    }

    fn plans(&self) -> LookupLevel {
        LookupLevel { hits: 3, misses: 1 }
    }

    fn catalog(&self) -> LookupLevel {
        LookupLevel { hits: 6, misses: 2 }
    }
}

fn record(engine: &str, outcome: Outcome) -> QueryRecord {
    let candidate = |id: &str, rank, refusal| Candidate {
        engine: EngineId::new(id),
        refusal,
        numbers: CandidateNumbers { latency_ms: 1.0, scan_bytes: 100, usd: 0.25, ..CandidateNumbers::default() },
        rank,
        reason: "why".into(),
    };
    let refusal = Refusal::new(RefusalClass::Semantics, "function `f` isn't known there");
    QueryRecord {
        query_id: QueryId::generate(),
        started_unix_ms: 0,
        text: "SELECT secret".into(),
        fingerprint: Some(Fingerprint::from_u64(7)),
        statement_kind: "query".into(),
        session_id: None,
        principal: "ana".into(),
        catalog: "lake".into(),
        schema: "default".into(),
        dialect: "databricks".into(),
        profile: None,
        tag: Some("invented by a client".into()),
        features: Features::default(),
        decision: Some(Decision {
            strategy: "rules".into(),
            candidates: vec![candidate(engine, Some(1), None), candidate("other-engine", None, Some(refusal))],
            reason: "fastest".into(),
            profile: None,
            propensity: None,
            arm: None,
        }),
        engine: Some(engine.into()),
        plan_cache_hit: true,
        times: PhaseTimes {
            plan_us: 10,
            decide_us: 5,
            queue_us: 0,
            first_batch_us: 2_000,
            stream_us: 300,
            total_us: 2_400,
            ..PhaseTimes::default()
        },
        rows: 4,
        bytes: 64,
        outcome,
        error_kind: (outcome == Outcome::Error).then_some(ErrorKind::Raised),
        error_message: None,
        failovers: vec!["duckdb: it: died".into()],
        usd_actual: Some(0.5),
        memory_bytes: Some(1 << 20),
        read_bytes: Some(99),
        statement_id: None,
        warehouse_ms: None,
        reconciled_unix_ms: None,
    }
}

fn make_spans() {
    let query = info_span!(target: SPANS, "query", otel.kind = "server", flightpath.rows = tracing::field::Empty);
    let incoming = format!("{INCOMING} rojo=00f067aa0ba902b7");
    continue_from(&query, Some(&incoming));
    query.in_scope(|| {
        let execute = info_span!(target: SPANS, "execute", otel.status_code = "ERROR", otel.status_description = "raised");
        execute.in_scope(|| {
            tracing::error!(target: "flightpath_test", "a message that may hold data");
            let onward = hand_on(&execute, Some(INCOMING)).unwrap();
            assert!(
                onward.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && onward.ends_with("-01 rojo=00f067aa0ba902b7"),
                "{onward}"
            );
            assert!(!onward.starts_with(INCOMING), "the next process is a child of this span, not of the client's");
        });
    });
    query.record("flightpath.rows", 3u64);
    drop(query);

    let unwanted = info_span!(target: SPANS, "unwanted");
    continue_from(&unwanted, Some(UNSAMPLED));
    unwanted.in_scope(|| {
        let onward = hand_on(&unwanted, None).unwrap();
        assert!(onward.starts_with("00-1af7651916cd43dd8448eb211c80319c-") && onward.ends_with("-00"), "{onward}");
    });
    let other = info_span!(target: "some_library", "not_a_querys");
    other.in_scope(|| ());
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_and_metrics_reach_a_collector_and_the_page() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let received = collector(listener).await;
    let token_sha256 = Some("d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7".to_string());
    let config = Config {
        otlp: Some(Otlp { endpoint, protocol: Protocol::Grpc, headers: Headers::parse("X-Secret=hush").unwrap() }),
        page: Some(Page { listen: "127.0.0.1:0".parse().unwrap(), token_sha256: None }),
        resource: BTreeMap::from([("deployment.environment.name".to_string(), "test".to_string())]),
        ..Config::default()
    };
    assert!(config.mistakes().is_empty());
    let telemetry = start(config).await;
    make_spans();
    // A future's spans, polled on whatever thread.
    let future = async { tokio::task::yield_now().await }.instrument(info_span!(target: SPANS, "polled"));
    tokio::spawn(future).await.unwrap();

    telemetry.watch(Arc::new(Now));
    let metrics = telemetry.query_metrics().unwrap();
    for _ in 0..3 {
        metrics.record(&record("duckdb", Outcome::Success));
    }
    metrics.record(&record("datafusion", Outcome::Error));

    let (status, page) = read_page(telemetry.page_address().unwrap(), "/metrics", "").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    for line in [
        "flightpath_queries_total{flightpath_engine=\"duckdb\",flightpath_outcome=\"success\",flightpath_statement=\"query\"} 3",
        "flightpath_queries_total{flightpath_engine=\"datafusion\",flightpath_outcome=\"error\",flightpath_statement=\"query\"} 1",
        "flightpath_query_duration_seconds_count{flightpath_engine=\"duckdb\",flightpath_outcome=\"success\"} 3",
        "flightpath_query_phase_duration_seconds_count{flightpath_engine=\"duckdb\",flightpath_phase=\"execute\"} 3",
        "flightpath_errors_total{error_type=\"raised\",flightpath_engine=\"datafusion\"} 1",
        "flightpath_decisions_total{flightpath_engine=\"duckdb\",flightpath_strategy=\"rules\"} 3",
        "flightpath_refusals_total{flightpath_engine=\"other-engine\",flightpath_refusal=\"semantics\"} 4",
        "flightpath_failovers_total{flightpath_engine=\"duckdb\"} 4",
        "flightpath_plan_cache_total{flightpath_result=\"hit\"} 3",
        "flightpath_result_rows_total{flightpath_engine=\"duckdb\"} 12",
        "flightpath_result_size_bytes_total{flightpath_engine=\"duckdb\"} 192",
        "flightpath_scan_size_bytes_total{flightpath_engine=\"duckdb\"} 300",
        "flightpath_cost_predicted_usd_total{flightpath_engine=\"duckdb\"} 0.75",
        "flightpath_cost_actual_usd_total{flightpath_engine=\"duckdb\"} 1.5",
        "flightpath_engine_queued{flightpath_engine=\"duckdb\"} 2",
        "flightpath_engine_running{flightpath_engine=\"duckdb\"} 3",
        "flightpath_log_records_total{flightpath_state=\"dropped\"} 1",
        "flightpath_log_pending_bytes 77",
        "flightpath_connections 5",
        "flightpath_sessions 4",
        "flightpath_catalog_lookups_total{flightpath_result=\"hit\"} 6",
        "flightpath_catalog_lookups_total{flightpath_result=\"miss\"} 2",
        "flightpath_telemetry_dropped_spans_total 0",
    ] {
        assert!(page.lines().any(|l| l == line), "no line {line} in\n{page}");
    }
    // A phase that wasn't reached isn't one of no length.
    assert!(!page.contains("flightpath_phase=\"queue\""));
    for secret in ["SELECT secret", "invented by a client", "hush"] {
        assert!(!page.contains(secret));
    }
    assert_eq!(read_page(telemetry.page_address().unwrap(), "/", "").await.0, "HTTP/1.1 404 Not Found");

    let guarded = Config { page: Some(Page { listen: "127.0.0.1:0".parse().unwrap(), token_sha256 }), ..Config::default() };
    let guarded = start(guarded).await;
    let address = guarded.page_address().unwrap();
    assert_eq!(read_page(address, "/metrics", "").await.0, "HTTP/1.1 401 Unauthorized");
    assert_eq!(read_page(address, "/metrics", "Authorization: Bearer wrong\r\n").await.0, "HTTP/1.1 401 Unauthorized");
    assert_eq!(read_page(address, "/metrics", "Authorization: Bearer open-sesame\r\n").await.0, "HTTP/1.1 200 OK");

    assert!(telemetry.shutdown().await, "everything was sent");
    let spans = received.spans();
    let names: Vec<&str> = spans.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["execute", "query", "polled"]);
    let (execute, query) = (&spans[0], &spans[1]);
    assert_eq!(hex::encode(&query.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex::encode(&query.parent_span_id), "b7ad6b7169203331");
    assert_eq!((&execute.parent_span_id, &execute.trace_id), (&query.span_id, &query.trace_id));
    assert_eq!(text_of(&query.attributes, "flightpath.rows").as_deref(), Some("3"));
    assert!(execute.events.is_empty(), "a log line isn't part of a trace");
    assert!(received.lines().is_empty(), "lines are sent only when told to");
    assert_eq!(execute.status.as_ref().map(|s| s.message.as_str()), Some("raised"));
    assert_eq!(received.resource("service.name").as_deref(), Some("flightpath"));
    assert_eq!(received.resource("deployment.environment.name").as_deref(), Some("test"));
    assert!(received.secrets.lock().iter().all(|secret| secret == "hush"));
    assert!(received.metric_names().iter().any(|name| name == "flightpath.query.duration"));
}
