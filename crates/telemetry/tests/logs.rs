//! The log's lines at a real OTLP receiver: which arrive, with what, and what one that doesn't take
//! them costs.

mod support;

use flightpath_telemetry::{Config, Headers, Otlp, Page, Protocol};
use flightpath_types::trace::{SPANS, continue_from};
use support::{collector, collector_without_logs, read_page, start_at, text_of, until};
use tokio::net::TcpListener;

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn config(endpoint: String) -> Config {
    Config {
        otlp: Some(Otlp { endpoint, protocol: Protocol::Grpc, headers: Headers::default() }),
        page: Some(Page { listen: "127.0.0.1:0".parse().unwrap(), token_sha256: None }),
        logs: Some(true),
        ..Config::default()
    }
}

async fn value(page: std::net::SocketAddr, name: &str) -> u64 {
    let (_, text) = read_page(page, "/metrics", "").await;
    let line = text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_with_their_traces_and_a_collector_without_logs_costs_no_span() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = server.spawn(collector_without_logs(listener)).await.unwrap();
    // Everything that the libraries write, too: what sending writes must not be sent again.
    let telemetry = start_at("trace", config(format!("http://{address}"))).await;
    let page = telemetry.page_address().unwrap();

    tracing::info!(target: "flightpath_test", "nobody takes this one");
    until("lines that nobody takes are dropped and counted", async || {
        tracing::info!(target: "flightpath_test", "nor this one");
        value(page, "flightpath_telemetry_dropped_logs_total").await > 0
    })
    .await;
    until("spans go on meanwhile", async || {
        tracing::info_span!(target: SPANS, "query").in_scope(|| ());
        !first.spans().is_empty()
    })
    .await;
    assert_eq!(value(page, "flightpath_telemetry_dropped_spans_total").await, 0);

    // Another one at the same place.
    server.shutdown_background();
    let listener = {
        let mut bound = None;
        until("the port is free again", async || {
            bound = TcpListener::bind(address).await.ok();
            bound.is_some()
        })
        .await;
        bound.unwrap()
    };
    let received = collector(listener).await;
    until("lines come once somebody takes them", async || {
        tracing::info!(target: "flightpath_test", "is anybody there?");
        received.lines().iter().any(|(_, text, _)| text == "is anybody there?")
    })
    .await;
    telemetry.set_log_level("info");
    let query = tracing::info_span!(target: SPANS, "query", secret = "in a span");
    continue_from(&query, Some(INCOMING));
    query.in_scope(|| tracing::warn!(target: "flightpath_test::part", rows = 3u64, why = "because", "inside"));
    tracing::error!(target: "flightpath_test", "outside");
    tracing::debug!(target: "flightpath_test", "not wanted any more");
    drop(query);
    assert!(telemetry.shutdown().await, "everything was sent");

    let lines = received.lines();
    let line = |wanted: &str| lines.iter().find(|(_, text, _)| text == wanted).unwrap_or_else(|| panic!("no line {wanted}"));
    let (target, _, inside) = line("inside");
    assert_eq!((target.as_str(), inside.severity_text.as_str()), ("flightpath_test::part", "WARN"));
    assert_eq!(hex::encode(&inside.trace_id), "0af7651916cd43dd8448eb211c80319c");
    let spans = received.spans();
    assert_eq!(inside.span_id, spans.iter().find(|s| !s.parent_span_id.is_empty()).unwrap().span_id);
    assert_eq!(text_of(&inside.attributes, "rows").as_deref(), Some("3"));
    assert_eq!(text_of(&inside.attributes, "why").as_deref(), Some("because"));
    assert_eq!(text_of(&inside.attributes, "secret"), None, "a line holds what it says and no span's fields");
    assert!(line("outside").2.trace_id.is_empty());
    assert!(!lines.iter().any(|(_, text, _)| text == "not wanted any more"));
    let written_by = |target: &str| target.split("::").next().unwrap_or_default().to_string();
    let senders = ["flightpath_telemetry", "h2", "hyper", "hyper_util", "tonic", "tower", "opentelemetry"];
    assert!(lines.iter().all(|(target, _, _)| !senders.contains(&written_by(target).as_str())), "what sending writes isn't sent");
}
