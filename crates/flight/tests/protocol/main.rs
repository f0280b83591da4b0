//! The protocol as clients see it: a real server on loopback over a fake of what is behind it.

mod access;
mod calls;
mod clients;
mod fake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{Any, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, Ticket};
use bytes::Bytes;
use flightpath_flight::{Config, serve};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::fake::FakeQueries;

pub type Client = FlightServiceClient<Channel>;

/// A server of the test's own.
pub struct TestServer {
    pub address: std::net::SocketAddr,
    pub queries: Arc<FakeQueries>,
    stop: Option<oneshot::Sender<()>>,
    pub ended: JoinHandle<flightpath_types::Result<()>>,
}

impl TestServer {
    pub async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let queries = Arc::new(FakeQueries::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(serve(listener, queries.clone(), config, shutdown));
        Self { address, queries, stop: Some(stop), ended }
    }

    pub async fn open() -> (Self, Client) {
        let server = Self::start(Config::default()).await;
        let client = server.client().await;
        (server, client)
    }

    /// A client with a connection of its own.
    pub async fn client(&self) -> Client {
        let channel = Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap();
        FlightServiceClient::new(channel)
    }

    pub fn begin_shutdown(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

pub fn statement(text: &str) -> FlightDescriptor {
    command(&CommandStatementQuery { query: text.into(), transaction_id: None })
}

pub fn command(message: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(message.as_any().encode_to_vec())
}

pub async fn info(client: &mut Client, text: &str) -> Result<FlightInfo, Status> {
    client.get_flight_info(statement(text)).await.map(|r| r.into_inner())
}

pub fn ticket_of(info: &FlightInfo) -> Ticket {
    assert_eq!(info.endpoint.len(), 1);
    assert!(info.endpoint[0].location.is_empty());
    info.endpoint[0].ticket.clone().unwrap()
}

/// A whole result, checked against the schema that its info promised.
pub async fn fetch(client: &mut Client, info: &FlightInfo) -> Result<Vec<RecordBatch>, Status> {
    let promised = info.clone().try_decode_schema().unwrap();
    let stream = client.do_get(ticket_of(info)).await?.into_inner();
    let mut batches = FlightRecordBatchStream::new_from_flight_data(stream.map_err(|s| FlightError::Tonic(Box::new(s))));
    let mut all = Vec::new();
    while let Some(batch) = batches.next().await {
        all.push(batch.map_err(status)?);
    }
    let delivered = batches.schema().expect("a schema message, also for an empty result");
    assert_eq!(delivered.as_ref(), &promised);
    Ok(all)
}

pub async fn query(client: &mut Client, text: &str) -> Result<Vec<RecordBatch>, Status> {
    let info = info(client, text).await?;
    fetch(client, &info).await
}

pub fn status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("not a status: {other}"),
    }
}

pub async fn act(client: &mut Client, name: &str, body: impl Into<Bytes>) -> Result<Vec<Bytes>, Status> {
    let action = Action { r#type: name.into(), body: body.into() };
    let results: Vec<arrow_flight::Result> = client.do_action(action).await?.into_inner().try_collect().await?;
    Ok(results.into_iter().map(|r| r.body).collect())
}

pub fn unpack<M: Message + Default>(body: &Bytes) -> M {
    M::decode(Any::decode(body.clone()).unwrap().value).unwrap()
}

pub fn with_header<T>(message: T, name: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

/// Waits for a condition that another task makes true.
pub async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
