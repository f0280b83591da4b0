//! The wire to one worker: a connection per query (kept for the next), its stream decoded and
//! checked to be whole, its errors as they were raised there.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, IpcMessage, Ticket};
use bytes::Bytes;
use flightpath_engine::{BatchStream, Findings};
use flightpath_proto::v1::{CancelAnswer, CancelQuery, DescribeAnswer, ResultEnd, StatusRequest, WorkerError, WorkerStatus, WorkerTicket};
use flightpath_types::{Error, ErrorKind, Result};
use futures::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use prost::Message;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use crate::ticket::{self, Signer, expires_unix_ms};

const PURPOSE_QUERY: &str = "query";
const ACTION_STATUS: &str = "flightpath.status";
const ACTION_CANCEL: &str = "flightpath.cancel";
const ACTION_DESCRIBE: &str = "flightpath.describe";
/// How a worker classes its error where a file isn't there, and where something else keeps it from reading one.
const FILE_MISSING: &str = "FAILED_READ_FILE.FILE_NOT_EXIST";
const FILE_UNREADABLE: &str = "FAILED_READ_FILE.NO_HINT";

/// What the router holds at most of one result that its client reads slowly.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const FRAME_BYTES: u32 = 1 << 20;
/// One row can be large; a message larger than this isn't taken.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Connections that wait for the next query, and how long each may: what stands between forgets those that
/// nobody uses, and tells nobody.
const IDLE_MAX: usize = 16;
const IDLE_KEPT: Duration = Duration::from_secs(60);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// For what heartbeats don't tell: one connection that leads nowhere any more. A worker with all its
/// processors busy may answer late.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// A worker as it is reached. Each query has a connection of its own, since on a shared one a
/// client that doesn't read would hold up all others.
pub struct Client {
    endpoint: Endpoint,
    signer: Signer,
    /// Host or socket, and port.
    server: (String, Option<u16>),
    /// Each with when it was used last; the latest comes last.
    idle: Mutex<Vec<(Channel, std::time::Instant)>>,
}

impl Client {
    /// `address` as the worker announces it: `unix:/path` or `tcp:host:port`. With the authority of its
    /// certificate (PEM) it is spoken to over TLS. `silence_max` is for connecting; who has a connection
    /// goes by the worker's heartbeats, and looks itself only now and then.
    pub fn new(address: &str, ca_pem: Option<&str>, signer: Signer, silence_max: Duration) -> Result<Self> {
        let scheme = if ca_pem.is_some() { "https" } else { "http" };
        let uri = match address.strip_prefix("tcp:") {
            Some(host_port) => format!("{scheme}://{host_port}"),
            None => address.to_string(),
        };
        let mut endpoint = Endpoint::from_shared(uri)
            .map_err(|e| Error::unavailable(format!("the DuckDB worker announced the address {address}: {e}")))?
            .connect_timeout(CONNECT_MAX.min(silence_max))
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES);
        if address.starts_with("tcp:") {
            endpoint =
                endpoint.http2_keep_alive_interval(KEEPALIVE_INTERVAL).keep_alive_timeout(KEEPALIVE_TIMEOUT).keep_alive_while_idle(true);
        }
        if let Some(ca) = ca_pem {
            endpoint = endpoint
                .tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)))
                .map_err(|e| Error::invalid(format!("the authority of the workers' certificates: {e}")))?;
        }
        Ok(Self { endpoint, signer, server: server(address), idle: Mutex::default() })
    }

    /// Where the worker listens, as traces name it: a host or a socket's path, and a port.
    pub fn server(&self) -> (&str, Option<u16>) {
        (self.server.0.as_str(), self.server.1)
    }

    /// Starts a query; returns once it has its first rows, or has failed. The ticket is renewed as it's sent.
    /// What the worker found out about the run goes into `findings`.
    pub async fn query(
        self: &Arc<Self>,
        ticket: &mut WorkerTicket,
        deadline: Option<Instant>,
        spoke: &Spoke,
        findings: Arc<Findings>,
    ) -> Result<BatchStream> {
        let connection = self.connection().await?;
        // Waiting for a worker and for the connection took its time.
        ticket::renew(ticket, deadline.map(Instant::into_std));
        let mut request = tonic::Request::new(Ticket { ticket: self.signer.sign(PURPOSE_QUERY, ticket).into() });
        // For whoever stands between; the worker goes by the signed ticket's.
        for (name, value) in [("traceparent", &ticket.traceparent), ("tracestate", &ticket.tracestate)] {
            if let Some(value) = value.parse().ok().filter(|_| !value.is_empty()) {
                request.metadata_mut().insert(name, value);
            }
        }
        let mut service = service(&connection);
        spoke.mark_sent(true);
        let call = async move { service.do_get(request).await };
        let response = match deadline {
            Some(at) => tokio::time::timeout_at(at, call).await.map_err(|_| deadline_passed())?,
            None => call.await,
        };
        let told = |status: Status| {
            spoke.mark_sent(!is_unsent(&status));
            spoke.error_of(&status)
        };
        let stream = response.map_err(told)?.into_inner();
        let lease = Lease { client: self.clone(), connection: Some(connection) };
        Ok(batches(stream, deadline, spoke.clone(), lease, findings))
    }

    pub async fn status(&self) -> Result<WorkerStatus> {
        let request = StatusRequest { expires_unix_ms: expires_unix_ms() };
        let answer = self.action(ACTION_STATUS, self.signer.sign(ACTION_STATUS, &request), &Spoke::default()).await?;
        WorkerStatus::decode(answer).map_err(malformed)
    }

    /// Whether the worker was running such a query.
    pub async fn cancel(&self, query_id: &str) -> Result<bool> {
        let request = CancelQuery { query_id: query_id.into(), expires_unix_ms: expires_unix_ms() };
        let answer = self.action(ACTION_CANCEL, self.signer.sign(ACTION_CANCEL, &request), &Spoke::default()).await?;
        Ok(CancelAnswer::decode(answer).map_err(malformed)?.found)
    }

    /// The schema of a statement's result.
    pub async fn describe(&self, ticket: &WorkerTicket, spoke: &Spoke) -> Result<SchemaRef> {
        let answer = self.action(ACTION_DESCRIBE, self.signer.sign(ACTION_DESCRIBE, ticket), spoke).await?;
        let message = DescribeAnswer::decode(answer).map_err(malformed)?.ipc_schema;
        let schema = Schema::try_from(IpcMessage(message.into()))
            .map_err(|e| Error::unavailable(format!("the DuckDB worker sent a malformed schema: {e}")))?;
        Ok(Arc::new(schema))
    }

    async fn action(&self, name: &str, body: Vec<u8>, spoke: &Spoke) -> Result<Bytes> {
        let connection = self.connection().await?;
        let action = Action { r#type: name.into(), body: body.into() };
        let response = service(&connection).do_action(action).await.map_err(|e| spoke.error_of(&e))?;
        let answer = response.into_inner().next().await;
        self.keep(connection);
        match answer {
            Some(answer) => Ok(answer.map_err(|e| spoke.error_of(&e))?.body),
            None => Err(Error::unavailable("the DuckDB worker gave no answer")),
        }
    }

    /// Closes connections that have waited for long.
    pub fn close_idle(&self, now: std::time::Instant) {
        self.idle.lock().retain(|(_, used)| now.saturating_duration_since(*used) < IDLE_KEPT);
    }

    async fn connection(&self) -> Result<Channel> {
        self.close_idle(std::time::Instant::now());
        if let Some((connection, _)) = self.idle.lock().pop() {
            return Ok(connection);
        }
        self.endpoint.connect().await.map_err(|e| Error::unavailable(format!("the DuckDB worker can't be reached: {e}")))
    }

    fn keep(&self, connection: Channel) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push((connection, std::time::Instant::now()));
        }
    }
}

/// The parts of an address that a worker has announced.
fn server(address: &str) -> (String, Option<u16>) {
    if let Some(path) = address.strip_prefix("unix:") {
        return (path.to_string(), None);
    }
    let host_port = address.strip_prefix("tcp:").unwrap_or(address);
    let (host, port) = host_port.rsplit_once(':').unwrap_or((host_port, ""));
    (host.trim_matches(['[', ']']).to_string(), port.parse().ok())
}

/// Whether a call never left: there was no connection any more, and none could be made.
fn is_unsent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    // What was taken back before it was sent.
    status.code() == Code::Cancelled
}

/// Whether a worker says that it doesn't find a file, or can't read it. Another one may.
pub fn is_out_of_sight(error: &Error) -> bool {
    matches!(error.class(), Some(FILE_MISSING | FILE_UNREADABLE))
}

fn service(connection: &Channel) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(connection.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(usize::MAX)
}

/// A query's connection: kept for the next one after a whole result, closed otherwise, which ends
/// the query in the worker.
struct Lease {
    client: Arc<Client>,
    connection: Option<Channel>,
}

impl Lease {
    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.client.keep(connection);
        }
    }
}

struct Receiving {
    decoder: FlightDataDecoder,
    end: Arc<Mutex<Option<ResultEnd>>>,
    rows: u64,
    deadline: Option<Instant>,
    spoke: Spoke,
    lease: Lease,
    findings: Arc<Findings>,
}

fn batches(
    data: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    deadline: Option<Instant>,
    spoke: Spoke,
    lease: Lease,
    findings: Arc<Findings>,
) -> BatchStream {
    let end = Arc::new(Mutex::new(None));
    let seen = end.clone();
    // The end's mark isn't Arrow: it is taken out before the decoder.
    let data = data.filter_map(move |message| {
        let message = match message {
            Ok(message) if message.data_header.is_empty() && !message.app_metadata.is_empty() => {
                match ResultEnd::decode(message.app_metadata) {
                    Ok(mark) => {
                        *seen.lock() = Some(mark);
                        None
                    }
                    Err(e) => Some(Err(FlightError::DecodeError(e.to_string()))),
                }
            }
            Ok(message) => Some(Ok(message)),
            Err(status) => Some(Err(FlightError::Tonic(Box::new(status)))),
        };
        std::future::ready(message)
    });
    let receiving = Receiving { decoder: FlightDataDecoder::new(data), end, rows: 0, deadline, spoke, lease, findings };
    Box::pin(stream::unfold(Some(receiving), |state| async move {
        let mut receiving = state?;
        match receiving.next().await {
            Some(Ok(batch)) => Some((Ok(batch), Some(receiving))),
            Some(Err(error)) => Some((Err(error), None)),
            None => {
                receiving.lease.give_back();
                None
            }
        }
    })) as Pin<Box<_>>
}

impl Receiving {
    async fn next(&mut self) -> Option<Result<arrow::record_batch::RecordBatch>> {
        loop {
            let decoded = match self.deadline {
                Some(at) => match tokio::time::timeout_at(at, self.decoder.next()).await {
                    Ok(decoded) => decoded,
                    Err(_) => return Some(Err(deadline_passed())),
                },
                None => self.decoder.next().await,
            };
            match decoded {
                Some(Ok(message)) => match message.payload {
                    DecodedPayload::RecordBatch(batch) => {
                        self.rows += batch.num_rows() as u64;
                        return Some(Ok(batch));
                    }
                    DecodedPayload::Schema(_) | DecodedPayload::None => {}
                },
                Some(Err(FlightError::Tonic(status))) => return Some(Err(self.spoke.error_of(&status))),
                Some(Err(error)) => return Some(Err(Error::unavailable(format!("the DuckDB worker's answer is malformed: {error}")))),
                None => return self.finished(),
            }
        }
    }

    fn finished(&self) -> Option<Result<arrow::record_batch::RecordBatch>> {
        let end = *self.end.lock();
        match end {
            Some(end) if end.complete && end.rows == self.rows => {
                if let Some(bytes) = end.memory_bytes_peak {
                    self.findings.memory(bytes);
                }
                if let Some(bytes) = end.read_bytes {
                    self.findings.read(bytes);
                }
                None
            }
            Some(end) => {
                Some(Err(Error::unavailable(format!("the DuckDB worker's answer has {} rows instead of {}", self.rows, end.rows))))
            }
            None => Some(Err(Error::unavailable("the DuckDB worker's answer was cut short"))),
        }
    }
}

fn deadline_passed() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the query's deadline has passed")
}

fn malformed(error: prost::DecodeError) -> Error {
    Error::unavailable(format!("the DuckDB worker's answer is malformed: {error}"))
}

/// Whether a failure was told by the worker itself, which is alive then, or is the connection's; and
/// whether the worker has the ticket.
#[derive(Debug, Clone, Default)]
pub struct Spoke(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    heard: AtomicBool,
    has_ticket: AtomicBool,
}

impl Spoke {
    pub fn heard(&self) -> bool {
        self.0.heard.load(Ordering::Acquire)
    }

    /// Whether the worker may be working on the query.
    pub fn has_ticket(&self) -> bool {
        self.0.has_ticket.load(Ordering::Acquire)
    }

    pub fn mark_sent(&self, sent: bool) {
        self.0.has_ticket.store(sent, Ordering::Release);
    }

    /// A worker's own error comes whole in the details; anything else is the transport's.
    pub fn error_of(&self, status: &Status) -> Error {
        if !status.details().is_empty()
            && let Ok(error) = WorkerError::decode(status.details())
            && let Some(kind) = ErrorKind::parse(&error.kind)
        {
            self.0.heard.store(true, Ordering::Release);
            return if error.class.is_empty() {
                Error::new(kind, error.message)
            } else {
                Error::classed(kind, error.class, error.sql_state, error.message)
            };
        }
        match status.code() {
            Code::OutOfRange => {
                Error::new(ErrorKind::ResourceExhausted, format!("the DuckDB worker's answer is too large: {}", status.message()))
            }
            _ => Error::unavailable(format!("the connection to the DuckDB worker failed: {}", status.message())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Arc<Client> {
        Arc::new(Client::new(address, None, Signer::new(&[7; 32]).unwrap(), Duration::from_secs(3)).unwrap())
    }

    #[test]
    fn a_workers_address_is_host_and_port_or_a_socket() {
        for (address, host, port) in [
            ("tcp:127.0.0.1:4711", "127.0.0.1", Some(4711)),
            ("tcp:blue-7.internal:80", "blue-7.internal", Some(80)),
            ("tcp:[::1]:4711", "::1", Some(4711)),
            ("unix:/tmp/worker/socket", "/tmp/worker/socket", None),
        ] {
            assert_eq!(client(address).server(), (host, port), "{address}");
        }
    }

    #[tokio::test]
    async fn connections_that_nobody_has_used_for_long_are_closed() {
        let client = client("tcp:127.0.0.1:1");
        let connection = client.endpoint.connect_lazy();
        for _ in 0..IDLE_MAX + 3 {
            client.keep(connection.clone());
        }
        assert_eq!(client.idle.lock().len(), IDLE_MAX);
        let now = std::time::Instant::now();
        client.close_idle(now + IDLE_KEPT / 2);
        assert_eq!(client.idle.lock().len(), IDLE_MAX);
        client.close_idle(now + IDLE_KEPT * 2);
        assert_eq!(client.idle.lock().len(), 0);
    }

    #[tokio::test]
    async fn a_query_for_a_worker_that_cannot_be_reached_any_more_was_never_sent() {
        let client = client("tcp:127.0.0.1:1");
        // A connection that was kept, and leads nowhere now.
        client.keep(client.endpoint.connect_lazy());
        let spoke = Spoke::default();
        let asked = client.query(&mut WorkerTicket::default(), None, &spoke, Arc::default()).await;
        assert_eq!(asked.err().map(|e| e.kind()), Some(ErrorKind::Unavailable));
        assert!(!spoke.has_ticket() && !spoke.heard());
    }
}
