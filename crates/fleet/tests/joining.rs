//! Both ends over a real connection, with a worker and a roster that only take notes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use flightpath_fleet::{AgentConfig, DoorConfig, FleetKey, Joining, KEY_BYTES, Roster, Seat, Worker, keep_registered, serve};
use flightpath_proto::v1::fleet_client::FleetClient;
use flightpath_proto::v1::{FromWorker, SignedTicket, WorkerHello, WorkerStatus, from_worker};
use flightpath_types::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);

fn key(digits: &str) -> FleetKey {
    FleetKey::parse(&digits.repeat(32)).unwrap()
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Who belongs to the fleet, with the last status and the ticket's key.
#[derive(Default)]
struct Notes {
    present: Mutex<BTreeMap<String, (WorkerStatus, [u8; KEY_BYTES])>>,
    refuse: Mutex<bool>,
    tries: Mutex<u32>,
}

struct Book(Arc<Notes>);

struct Place(Arc<Notes>, String);

#[async_trait]
impl Roster for Book {
    async fn join(&self, joining: Joining) -> Result<Box<dyn Seat>> {
        *self.0.tries.lock() += 1;
        if *self.0.refuse.lock() {
            return Err(Error::unavailable("not today"));
        }
        assert_eq!((joining.address.as_str(), joining.labels["zone"].as_str()), ("10.0.0.7:4711", "a"));
        self.0.present.lock().insert(joining.name.clone(), (joining.status, joining.ticket_key));
        Ok(Box::new(Place(self.0.clone(), joining.name)))
    }
}

impl Seat for Place {
    fn report(&self, status: &WorkerStatus) {
        if let Some(entry) = self.0.present.lock().get_mut(&self.1) {
            entry.0 = status.clone();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.present.lock().remove(&self.1);
    }
}

#[derive(Default)]
struct Machine {
    granted: Arc<Mutex<Vec<[u8; KEY_BYTES]>>>,
    running: Mutex<u32>,
    drain: tokio::sync::watch::Sender<bool>,
}

struct Granted(Arc<Mutex<Vec<[u8; KEY_BYTES]>>>, [u8; KEY_BYTES]);

impl Drop for Granted {
    fn drop(&mut self) {
        self.0.lock().retain(|key| *key != self.1);
    }
}

impl Worker for Machine {
    fn status(&self) -> WorkerStatus {
        WorkerStatus { running: *self.running.lock(), slots: 4, draining: *self.drain.borrow(), ..WorkerStatus::default() }
    }

    fn grant(&self, ticket_key: &[u8; KEY_BYTES]) -> Result<Box<dyn Send + Sync>> {
        self.granted.lock().push(*ticket_key);
        Ok(Box::new(Granted(self.granted.clone(), *ticket_key)))
    }

    fn draining(&self) -> BoxFuture<'static, ()> {
        let mut drain = self.drain.subscribe();
        async move {
            let _ = drain.wait_for(|d| *d).await;
        }
        .boxed()
    }
}

struct Router {
    notes: Arc<Notes>,
    uri: String,
    task: JoinHandle<Result<()>>,
}

async fn router(digits: &str, heartbeat: Duration) -> Router {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("grpc://{}", listener.local_addr().unwrap());
    let notes: Arc<Notes> = Arc::default();
    let lease = Duration::from_secs(30);
    let config = DoorConfig { key: key(digits), tls: None, workers_max: 2, heartbeat, lease, forget: PATIENCE };
    let task = tokio::spawn(serve(listener, Arc::new(Book(notes.clone())), config, std::future::pending()));
    Router { notes, uri, task }
}

fn agent(uri: &str, digits: &str, name: &str, machine: &Arc<Machine>) -> JoinHandle<Result<()>> {
    let config = AgentConfig {
        router: uri.into(),
        ca_pem: None,
        key: key(digits),
        name: name.into(),
        address: "10.0.0.7:4711".into(),
        tls: false,
        labels: BTreeMap::from([("zone".to_string(), "a".to_string())]),
    };
    tokio::spawn(keep_registered(config, machine.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_joins_tells_how_it_is_and_leaves() {
    let router = router("ab", Duration::from_millis(50)).await;
    let machine: Arc<Machine> = Arc::default();
    let task = agent(&router.uri, "ab", "w1", &machine);
    let seen = |check: &dyn Fn(&WorkerStatus) -> bool| router.notes.present.lock().get("w1").is_some_and(|(status, _)| check(status));
    eventually("it has joined", || seen(&|s| s.slots == 4)).await;
    // Both ends have made the same key of what they know, and nobody sent it.
    let first = router.notes.present.lock()["w1"].1;
    assert_eq!(*machine.granted.lock(), [first]);
    *machine.running.lock() = 3;
    eventually("its load is known", || seen(&|s| s.running == 3)).await;
    task.abort();
    eventually("it has left", || router.notes.present.lock().is_empty()).await;
    eventually("its key counts no more", || machine.granted.lock().is_empty()).await;
    // The next stay has another key.
    let again = agent(&router.uri, "ab", "w1", &machine);
    eventually("it has joined again", || seen(&|s| s.slots == 4)).await;
    assert_ne!(router.notes.present.lock()["w1"].1, first);
    again.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_told_at_once_and_a_refused_worker_tries_again() {
    // The next heartbeat would come far too late.
    let router = router("ab", Duration::from_secs(30)).await;
    *router.notes.refuse.lock() = true;
    let machine: Arc<Machine> = Arc::default();
    let task = agent(&router.uri, "ab", "w1", &machine);
    eventually("it has tried", || *router.notes.tries.lock() > 0).await;
    assert!(router.notes.present.lock().is_empty());
    *router.notes.refuse.lock() = false;
    eventually("it has joined", || !router.notes.present.lock().is_empty()).await;
    machine.drain.send_replace(true);
    eventually("its drain is known", || router.notes.present.lock().get("w1").is_some_and(|(s, _)| s.draining)).await;
    // A router that goes away and comes back elsewhere is another; this one's end takes the key back.
    router.task.abort();
    eventually("its key counts no more", || machine.granted.lock().is_empty()).await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_key_neither_end_gives_anything() {
    let router = router("ab", Duration::from_millis(50)).await;
    let stranger: Arc<Machine> = Arc::default();
    let task = agent(&router.uri, "ac", "w1", &stranger);
    // Somebody with the key comes in meanwhile; the stranger had its tries by then.
    let machine: Arc<Machine> = Arc::default();
    let friend = agent(&router.uri, "ab", "w2", &machine);
    eventually("the friend has joined", || router.notes.present.lock().contains_key("w2")).await;
    assert!(!router.notes.present.lock().contains_key("w1"));
    assert!(stranger.granted.lock().is_empty(), "nothing is granted to a router without the key");
    task.abort();
    friend.abort();

    // By hand: a made-up signature, a heartbeat without registration, a name that isn't one.
    let mut client = FleetClient::connect(router.uri.replace("grpc://", "http://")).await.unwrap();
    let hello = |name: &str| from_worker::Message::Hello(WorkerHello { version: 1, name: name.into(), nonce: vec![1; 32] });
    let forged = SignedTicket { body: vec![], mac: vec![0; 32] };
    for (what, messages, code) in [
        ("forged", vec![hello("w9"), from_worker::Message::Registration(forged.clone())], tonic::Code::Unauthenticated),
        ("early", vec![from_worker::Message::Heartbeat(forged.clone())], tonic::Code::InvalidArgument),
        ("name", vec![hello("w 9\n")], tonic::Code::InvalidArgument),
        (
            "nonce",
            vec![from_worker::Message::Hello(WorkerHello { version: 1, name: "w9".into(), nonce: vec![] })],
            tonic::Code::InvalidArgument,
        ),
        ("version", vec![from_worker::Message::Hello(WorkerHello { version: 9, ..Default::default() })], tonic::Code::InvalidArgument),
    ] {
        // The call stays open after its last message, as a worker's does.
        let messages = tokio_stream::iter(messages.into_iter().map(|m| FromWorker { message: Some(m) }).collect::<Vec<_>>());
        let messages = futures::StreamExt::chain(messages, futures::stream::pending());
        let mut answers = client.join(messages).await.unwrap().into_inner();
        let status = loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{what}: ended without a reason"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), code, "{what}: {status}");
    }
    assert!(!router.notes.present.lock().contains_key("w9"));
}

#[tokio::test]
async fn beyond_loopback_nothing_is_taken_in_without_tls() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let config = DoorConfig {
        key: key("ab"),
        tls: None,
        workers_max: 2,
        heartbeat: Duration::from_secs(1),
        lease: Duration::from_secs(3),
        forget: PATIENCE,
    };
    let error = serve(listener, Arc::new(Book(Arc::default())), config, std::future::pending()).await.unwrap_err();
    assert!(error.message().contains("TLS"), "{error}");
    let machine: Arc<Machine> = Arc::default();
    for (router, address) in [("http://a:1", "a:1"), ("grpc+tls://a:1", "a:1"), ("grpc://a:1", "nowhere"), ("grpc://a:1", "a:0")] {
        let config = AgentConfig {
            router: router.into(),
            ca_pem: None,
            key: key("ab"),
            name: "w".into(),
            address: address.into(),
            tls: false,
            labels: BTreeMap::new(),
        };
        assert!(keep_registered(config, machine.clone()).await.is_err(), "{router} {address}");
    }
}
