//! The endpoint as strangers see it: without the key nothing is answered, and a ticket is good for
//! one use, one purpose and a short while.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, Ticket};
use flightpath_proto::v1::{
    FileBinding, PartitionValue, SignedTicket, SqlOrigin, StatusRequest, TableBinding, WorkerError, WorkerStatus, WorkerTicket,
};
use flightpath_types::ErrorKind;
use flightpath_worker::{Config, Endpoint, Key, Listener, TICKET_VERSION, serve};
use futures::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;
use tonic::transport::{Channel, Endpoint as Address};
use tonic::{Code, Status, Streaming};

const KEY: [u8; 32] = [7; 32];
/// Enough for a loaded machine; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

type Client = FlightServiceClient<Channel>;

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn sign(key: &[u8], purpose: &str, body: Vec<u8>) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(purpose.as_bytes());
    mac.update(&[0]);
    mac.update(&body);
    SignedTicket { body, mac: mac.finalize().into_bytes().to_vec() }.encode_to_vec()
}

fn ticket(nonce: u8) -> WorkerTicket {
    WorkerTicket {
        version: TICKET_VERSION,
        query_id: "q".into(),
        expires_unix_ms: unix_ms() + 60_000,
        sql: "SELECT 1 AS one".into(),
        origin: SqlOrigin::Compiled.into(),
        nonce: vec![nonce; 16],
        ..WorkerTicket::default()
    }
}

async fn get(client: &mut Client, bytes: Vec<u8>) -> Result<usize, Status> {
    let stream = client.do_get(Ticket { ticket: bytes.into() }).await?.into_inner();
    rest(stream).await
}

/// How many messages are still to come.
async fn rest(mut stream: Streaming<FlightData>) -> Result<usize, Status> {
    let mut messages = 0;
    while let Some(message) = stream.next().await {
        message?;
        messages += 1;
    }
    Ok(messages)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn action(client: &mut Client, name: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut answer = client.do_action(Action { r#type: name.into(), body: body.into() }).await?.into_inner();
    Ok(answer.next().await.unwrap()?.body.to_vec())
}

async fn with_worker(test: impl AsyncFnOnce(Client)) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        files_max: 2,
        ticket_bytes_max: 100_000,
        ..Config::new(Key::new(KEY.to_vec()).unwrap(), folder.path().into(), 256 << 20, 1)
    };
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.address().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(config, listener, async {
        let _ = stopped.await;
    }));
    let uri = format!("http://{}", address.strip_prefix("tcp:").unwrap());
    let client = FlightServiceClient::new(Address::from_shared(uri).unwrap().connect().await.unwrap());
    test(client).await;
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_routers_tickets_are_answered_and_each_once() {
    with_worker(async |mut client| {
        let good = sign(&KEY, "query", ticket(0).encode_to_vec());
        assert_eq!(get(&mut client, good.clone()).await.unwrap(), 3, "schema, batch, end");

        let mut flipped = sign(&KEY, "query", ticket(1).encode_to_vec());
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let expired = WorkerTicket { expires_unix_ms: unix_ms() - 1, ..ticket(2) };
        let eternal = WorkerTicket { expires_unix_ms: unix_ms() + 86_400_000, ..ticket(3) };
        let unsigned = SignedTicket { body: ticket(4).encode_to_vec(), mac: vec![] }.encode_to_vec();
        for (what, bytes) in [
            ("nothing", vec![]),
            ("noise", b"SELECT 1".to_vec()),
            ("no signature", unsigned),
            ("another key", sign(&[8; 32], "query", ticket(5).encode_to_vec())),
            ("another purpose", sign(&KEY, "flightpath.describe", ticket(6).encode_to_vec())),
            ("a changed signature", flipped),
            ("an expired ticket", sign(&KEY, "query", expired.encode_to_vec())),
            ("a ticket without end", sign(&KEY, "query", eternal.encode_to_vec())),
            ("a used ticket", good),
        ] {
            let status = get(&mut client, bytes).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status}");
            assert_eq!(WorkerError::decode(status.details()).unwrap().kind, "unauthenticated");
        }
        for name in ["flightpath.status", "flightpath.cancel", "flightpath.describe"] {
            let body = sign(&KEY, "query", ticket(7).encode_to_vec());
            assert_eq!(action(&mut client, name, body).await.unwrap_err().code(), Code::Unauthenticated, "{name}");
        }
        let status = sign(&KEY, "flightpath.status", StatusRequest { expires_unix_ms: unix_ms() + 1000 }.encode_to_vec());
        let status = WorkerStatus::decode(action(&mut client, "flightpath.status", status).await.unwrap().as_slice()).unwrap();
        assert_eq!((status.running, status.queries_total), (0, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_beyond_the_limits_are_refused() {
    with_worker(async |mut client| {
        let file = |path: &str| FileBinding { path: path.into(), ..FileBinding::default() };
        let tables = |files: Vec<FileBinding>| vec![TableBinding { name: "s0".into(), files, ..TableBinding::default() }];
        let endless = "SELECT count(*) FROM range(1000000000000) t(i) WHERE sin(i) > 2";
        let valued = FileBinding { partition_values: vec![PartitionValue { text: None }], ..file("/a") };
        for (what, ticket, code) in [
            ("version", WorkerTicket { version: 2, ..ticket(1) }, Code::InvalidArgument),
            ("no origin", WorkerTicket { origin: 0, ..ticket(2) }, Code::InvalidArgument),
            ("no nonce", WorkerTicket { nonce: vec![], ..ticket(3) }, Code::InvalidArgument),
            ("files", WorkerTicket { tables: tables(vec![file("/a"), file("/b"), file("/c")]), ..ticket(4) }, Code::ResourceExhausted),
            ("size", WorkerTicket { sql: "x".repeat(100_001), ..ticket(5) }, Code::ResourceExhausted),
            ("remote", WorkerTicket { tables: tables(vec![file("http://host/a.parquet")]), ..ticket(6) }, Code::Unimplemented),
            ("relative", WorkerTicket { tables: tables(vec![file("a.parquet")]), ..ticket(7) }, Code::Unimplemented),
            ("partition values", WorkerTicket { tables: tables(vec![valued]), ..ticket(8) }, Code::InvalidArgument),
            ("passed", WorkerTicket { deadline_unix_ms: 1, sql: endless.into(), ..ticket(9) }, Code::DeadlineExceeded),
            (
                "no time left, though this clock is behind",
                WorkerTicket { deadline_unix_ms: u64::MAX, time_left_ms: Some(0), sql: endless.into(), ..ticket(10) },
                Code::DeadlineExceeded,
            ),
        ] {
            let status = get(&mut client, sign(&KEY, "query", ticket.encode_to_vec())).await.unwrap_err();
            assert_eq!(status.code(), code, "{what}: {status}");
        }
        // Time is left, though this clock says otherwise, and no time is too long to count.
        for (nonce, left) in [(11, 60_000), (12, u64::MAX)] {
            let ahead = WorkerTicket { deadline_unix_ms: 1, time_left_ms: Some(left), ..ticket(nonce) };
            assert_eq!(get(&mut client, sign(&KEY, "query", ahead.encode_to_vec())).await.unwrap(), 3);
        }
        // Far larger than any ticket: the transport refuses it before it is a ticket.
        assert!(get(&mut client, vec![0; 1 << 20]).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_key_counts_as_long_as_its_grant_and_a_drain_is_a_typed_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::new(Config::new(None, folder.path().into(), 256 << 20, 1)).unwrap();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.address().unwrap().strip_prefix("tcp:").unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(endpoint.clone().serve(listener, async {
        let _ = stopped.await;
    }));
    let mut client = FlightServiceClient::new(Address::from_shared(uri).unwrap().connect().await.unwrap());
    let mut nonce = 0;
    let mut ask = async |client: &mut Client, key: u8, sql: &str| {
        nonce += 1;
        let tables = vec![TableBinding { name: "s0".into(), cache_key: format!("lake.default.t{key}"), ..TableBinding::default() }];
        let ticket = WorkerTicket { sql: sql.into(), tables, ..ticket(nonce) };
        get(client, sign(&[key; 32], "query", ticket.encode_to_vec())).await.map_err(|status| status.code())
    };
    let key = |byte: u8| Key::new(vec![byte; 32]).unwrap();
    assert_eq!(ask(&mut client, 1, "SELECT 1 AS one").await, Err(Code::Unauthenticated), "nobody knows a worker without keys");
    let (first, second) = (endpoint.grant(&key(1)).unwrap(), endpoint.grant(&key(2)).unwrap());
    assert!(ask(&mut client, 1, "SELECT 1 AS one").await.is_ok() && ask(&mut client, 2, "SELECT 1 AS one").await.is_ok());
    assert_eq!(endpoint.status().cached, ["lake.default.t2", "lake.default.t1"]);
    drop(first);
    assert_eq!(ask(&mut client, 1, "SELECT 1 AS one").await, Err(Code::Unauthenticated), "an earlier stay's ticket");
    assert!(ask(&mut client, 2, "SELECT 1 AS one").await.is_ok());
    let many: Vec<_> = (0..20).map(|n| endpoint.grant(&key(100 + n))).collect();
    assert_eq!(many.iter().filter(|g| g.is_ok()).count(), 15, "routers are bounded");
    drop(many);
    // One query runs while the worker drains: it keeps the endpoint there to refuse others.
    let large = WorkerTicket { sql: "SELECT i FROM range(1000000000) t(i)".into(), ..ticket(200) };
    let held = client.do_get(Ticket { ticket: sign(&[2; 32], "query", large.encode_to_vec()).into() }).await.unwrap().into_inner();
    stop.send(()).unwrap();
    endpoint.draining().await;
    assert!(endpoint.status().draining);
    assert_eq!(ask(&mut client, 2, "SELECT 1 AS one").await, Err(Code::Unavailable));
    drop(held);
    serving.await.unwrap().unwrap();
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_an_answer_that_is_read_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { drain_max: PATIENCE, ..Config::new(Key::new(KEY.to_vec()).unwrap(), folder.path().into(), 256 << 20, 1) };
    let endpoint = Endpoint::new(config).unwrap();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.address().unwrap().strip_prefix("tcp:").unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(endpoint.clone().serve(listener, async {
        let _ = stopped.await;
    }));
    // Most of the answer has no room on its way.
    let address = Address::from_shared(uri).unwrap().initial_stream_window_size(65_535u32).initial_connection_window_size(65_535u32);
    let mut client = FlightServiceClient::new(address.connect().await.unwrap());
    // One chunk, and so one batch: its thread is done with it before anybody reads it.
    let large = WorkerTicket { sql: "SELECT repeat('x', 1000) || i AS t FROM range(2000) t(i)".into(), ..ticket(0) };
    let answer = client.do_get(Ticket { ticket: sign(&KEY, "query", large.encode_to_vec()).into() }).await.unwrap().into_inner();
    until("its thread is done", || endpoint.status().running == 0).await;
    stop.send(()).unwrap();
    endpoint.draining().await;
    // Longer than connections may stay once nothing runs.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!serving.is_finished(), "the worker has ended under its reader");
    assert_eq!(rest(answer).await.unwrap(), 3, "schema, batch, end");
    drop(client);
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_left_when_a_drain_is_over_ends_with_a_typed_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(Key::new(KEY.to_vec()).unwrap(), folder.path().into(), 256 << 20, 1);
    let endpoint = Endpoint::new(Config { drain_max: Duration::from_millis(200), ..config }).unwrap();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.address().unwrap().strip_prefix("tcp:").unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(endpoint.clone().serve(listener, async {
        let _ = stopped.await;
    }));
    let address = Address::from_shared(uri).unwrap().initial_stream_window_size(65_535u32).initial_connection_window_size(65_535u32);
    let mut client = FlightServiceClient::new(address.connect().await.unwrap());
    // Two chunks of more than two MiB, each a batch: the second one waits, with the end behind it.
    let large = WorkerTicket { sql: "SELECT repeat('x', 1200) || i AS t FROM range(4000) t(i)".into(), ..ticket(0) };
    let answer = client.do_get(Ticket { ticket: sign(&KEY, "query", large.encode_to_vec()).into() }).await.unwrap().into_inner();
    until("its thread is done", || endpoint.status().running == 0).await;
    stop.send(()).unwrap();
    endpoint.draining().await;
    // Longer than the drain, and shorter than what follows it.
    tokio::time::sleep(Duration::from_millis(800)).await;
    let status = rest(answer).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(WorkerError::decode(status.details()).unwrap().message.contains("shutting down"));
    drop(client);
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_row_when_a_drain_is_over_ends_with_a_typed_error_however_deaf_its_query() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(Key::new(KEY.to_vec()).unwrap(), folder.path().into(), 256 << 20, 1);
    let endpoint = Endpoint::new(Config { drain_max: Duration::from_secs(1), ..config }).unwrap();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.address().unwrap().strip_prefix("tcp:").unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(endpoint.clone().serve(listener, async {
        let _ = stopped.await;
    }));
    let mut client = FlightServiceClient::new(Address::from_shared(uri).unwrap().connect().await.unwrap());
    // DuckDB looks for an interrupt between vectors: this is one row that takes seconds.
    let deaf = "SELECT levenshtein(repeat('a', 50000 + i), repeat('b', 50000 + i)) AS d FROM range(1) t(i)";
    let ticket = WorkerTicket { sql: deaf.into(), ..ticket(0) };
    let call = tokio::spawn(async move { client.do_get(Ticket { ticket: sign(&KEY, "query", ticket.encode_to_vec()).into() }).await });
    until("it runs", || endpoint.status().running == 1).await;
    stop.send(()).unwrap();
    let status = call.await.unwrap().err().unwrap();
    assert_eq!(endpoint.status().running, 1, "its query still goes on");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(WorkerError::decode(status.details()).unwrap().message.contains("shutting down"));
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_does_not_wait_for_a_connection_that_has_never_said_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(Key::new(KEY.to_vec()).unwrap(), folder.path().into(), 256 << 20, 1);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let host_port = listener.address().unwrap().strip_prefix("tcp:").unwrap().to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(Config { drain_max: PATIENCE * 10, ..config }, listener, async {
        let _ = stopped.await;
    }));
    let silent = tokio::net::TcpStream::connect(&host_port).await.unwrap();
    let mut client = FlightServiceClient::new(Address::from_shared(format!("http://{host_port}")).unwrap().connect().await.unwrap());
    assert_eq!(get(&mut client, sign(&KEY, "query", ticket(0).encode_to_vec())).await.unwrap(), 3);
    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap().unwrap();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_gives_its_place_up_for_a_query_that_hears_no_interrupt_once_the_others_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(Key::new(KEY.to_vec()).unwrap(), folder.path().into(), 256 << 20, 1);
    let endpoint = Endpoint::new(Config { cancel_max: Duration::from_millis(100), drain_max: PATIENCE, ..config }).unwrap();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.address().unwrap().strip_prefix("tcp:").unwrap());
    let serving = tokio::spawn(endpoint.clone().serve(listener, std::future::pending()));
    let mut client = FlightServiceClient::new(Address::from_shared(uri).unwrap().connect().await.unwrap());
    let asking = |nonce: u8, sql: &str| {
        let ticket = WorkerTicket { sql: sql.into(), ..ticket(nonce) };
        Ticket { ticket: sign(&KEY, "query", ticket.encode_to_vec()).into() }
    };
    let other = client.do_get(asking(0, "SELECT i FROM range(1000000) t(i)")).await.unwrap().into_inner();
    // DuckDB looks for an interrupt between vectors: this is one row that takes seconds.
    let deaf = "SELECT levenshtein(repeat('a', 40000 + i), repeat('b', 40000 + i)) AS d FROM range(1) t(i)";
    for nonce in 1..=20 {
        // The call is dropped, which cancels its query; that may not have begun yet, and ends at once then.
        let _ = tokio::time::timeout(Duration::from_millis(300), client.do_get(asking(nonce, deaf))).await;
        if tokio::time::timeout(Duration::from_secs(1), endpoint.draining()).await.is_ok() {
            break;
        }
    }
    assert!(endpoint.status().draining, "nobody noticed the query that goes on");
    assert_eq!(client.do_get(asking(100, "SELECT 1 AS one")).await.unwrap_err().code(), Code::Unavailable);
    assert!(!serving.is_finished(), "the other query isn't done");
    assert!(rest(other).await.unwrap() > 3);
    let error = tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_worker_listens_on_this_machine_only_and_needs_a_long_key() {
    for address in ["0.0.0.0:0", "tcp:[::]:0"] {
        assert!(Listener::bind(address).await.is_err(), "{address}");
    }
    assert!(Key::new(vec![1; 16]).is_err());
    let bad = Config { slots: 0, threads: 0, ..Config::new(Key::new(KEY.to_vec()).unwrap(), "/nowhere".into(), 1, 1) };
    let text = bad.validate().unwrap_err().to_string();
    for mistake in ["slots", "threads", "memory_bytes_max", "temp_dir"] {
        assert!(text.contains(mistake), "{text}");
    }
    assert!(!format!("{:?}", Key::new(KEY.to_vec()).unwrap()).contains('7'));
}
