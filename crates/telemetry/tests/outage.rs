//! A collector that is down, and one that never answers: nothing waits for them, what is lost is
//! counted, and when the collector comes it is found.

mod support;

use flightpath_telemetry::{Config, Headers, Otlp, Page, Protocol};
use flightpath_types::trace::SPANS;
use support::{WAIT_MAX, collector, read_page, start, until};
use tokio::net::TcpListener;

/// More than the queue holds.
const MANY: usize = 20_000;

fn make(count: usize) {
    for _ in 0..count {
        tracing::info_span!(target: SPANS, "query").in_scope(|| ());
    }
}

async fn dropped(page: std::net::SocketAddr) -> u64 {
    let (_, text) = read_page(page, "/metrics", "").await;
    let line = text.lines().find(|l| l.starts_with("flightpath_telemetry_dropped_spans_total ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_costs_nothing_and_is_found_again() {
    // Bound and not listened to by anybody who answers: connections are taken, calls hang.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let config = Config {
        otlp: Some(Otlp { endpoint: format!("http://{address}"), protocol: Protocol::Grpc, headers: Headers::default() }),
        page: Some(Page { listen: "127.0.0.1:0".parse().unwrap(), token_sha256: None }),
        ..Config::default()
    };
    let telemetry = start(config).await;
    let page = telemetry.page_address().unwrap();
    make(MANY);
    until("spans that fit nowhere are dropped", async || dropped(page).await > MANY as u64 / 2).await;
    // Now the port refuses.
    drop(silent);
    until("a batch fails, then all are dropped at once", async || {
        make(600);
        dropped(page).await >= MANY as u64
    })
    .await;
    let received = collector(TcpListener::bind(address).await.unwrap()).await;
    until("the collector is found once it's there", async || {
        make(600);
        !received.spans().is_empty()
    })
    .await;
    telemetry.shutdown().await;

    // One that takes connections and never answers doesn't hold the end up.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let otlp = Some(Otlp { endpoint, protocol: Protocol::Http, headers: Headers::default() });
    let telemetry = start(Config { otlp, ..Config::default() }).await;
    let ended = tokio::time::timeout(WAIT_MAX, telemetry.shutdown()).await;
    assert_eq!(ended, Ok(false), "its end is bounded, and what is lost is told");
    drop(silent);
}
