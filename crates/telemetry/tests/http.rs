//! Against a real OTLP receiver over HTTP.

mod support;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use flightpath_telemetry::{Config, Headers, Otlp, Protocol};
use flightpath_types::trace::SPANS;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use support::{Received, start};
use tokio::net::TcpListener;

async fn traces(State(received): State<Received>, headers: HeaderMap, body: Bytes) {
    received.secrets.lock().push(headers["x-secret"].to_str().unwrap().to_string());
    received.traces.lock().push(ExportTraceServiceRequest::decode(body).unwrap());
}

async fn metrics(State(received): State<Received>, body: Bytes) {
    received.metrics.lock().push(ExportMetricsServiceRequest::decode(body).unwrap());
}

async fn logs(State(received): State<Received>, body: Bytes) {
    received.logs.lock().push(ExportLogsServiceRequest::decode(body).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_metrics_and_lines_go_over_http_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/prefix/", listener.local_addr().unwrap());
    let received = Received::default();
    let router = Router::new().route("/prefix/v1/traces", post(traces)).route("/prefix/v1/metrics", post(metrics));
    let router = router.route("/prefix/v1/logs", post(logs)).with_state(received.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let headers = Headers::parse("x-secret=hush").unwrap();
    let otlp = Some(Otlp { endpoint, protocol: Protocol::Http, headers });
    // Nothing is drawn of those that nobody decided about.
    let telemetry = start(Config { otlp, sample_ratio: Some(0.0), logs: Some(true), ..Config::default() }).await;
    tracing::info_span!(target: SPANS, "undecided").in_scope(|| ());
    let query = tracing::info_span!(target: SPANS, "decided");
    flightpath_types::trace::continue_from(&query, Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    query.in_scope(|| tracing::info!(target: "flightpath_test", "a line"));
    drop(query);
    assert!(telemetry.shutdown().await);
    let names: Vec<String> = received.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["decided"]);
    assert_eq!(*received.secrets.lock(), ["hush"]);
    let lines: Vec<String> = received.lines().into_iter().map(|(_, text, _)| text).collect();
    assert!(lines.contains(&"a line".to_string()), "{lines:?}");
    assert!(received.metric_names().iter().any(|name| name.starts_with("flightpath.")));
}
