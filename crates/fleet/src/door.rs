//! The router's end: one call per worker, from its hello to its leaving. Nothing of what a caller
//! sends is believed before it has proved that it knows the fleet's key.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flightpath_proto::v1::fleet_server::{Fleet, FleetServer};
use flightpath_proto::v1::{
    FromRouter, FromWorker, Heartbeat, RouterChallenge, RouterWelcome, SignedTicket, WorkerHello, WorkerRegistration, from_router,
    from_worker,
};
use flightpath_types::{Error, ErrorKind, Result};
use futures::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::handshake::{FleetKey, NONCE_BYTES, Nonce, Seen, SessionKey, nonce};
use crate::incoming::connections;
use crate::{
    Joining, MESSAGE_BYTES_MAX, PROTOCOL_VERSION, PURPOSE_HEARTBEAT, PURPOSE_REGISTRATION, Roster, check_description, check_name,
    choose_cryptography,
};

/// From a call's beginning to its welcome, reaching the worker included.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Callers that haven't proved anything yet, beyond the workers that may be there.
const STRANGERS_MAX: usize = 32;
/// Calls on one connection: a worker makes one.
const STREAMS_MAX: u32 = 4;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// PEM texts of the certificate that the router shows to workers.
#[derive(Clone)]
pub struct Tls {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

#[derive(Debug, Clone)]
pub struct DoorConfig {
    pub key: FleetKey,
    pub tls: Option<Tls>,
    pub workers_max: usize,
    /// How often workers tell how they are.
    pub heartbeat: Duration,
    /// After this long a silence a worker gets no more work: what [`Roster`] goes by.
    pub lease: Duration,
    /// After this long a silence its place is given up; it may join again.
    pub forget: Duration,
}

/// Takes workers in until `shutdown` completes. Beyond loopback only with TLS.
pub async fn serve(
    listener: TcpListener,
    roster: Arc<dyn Roster>,
    config: DoorConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let address = listener.local_addr().map_err(|e| Error::unavailable(format!("the fleet's listener has no address: {e}")))?;
    if config.tls.is_none() && !address.ip().is_loopback() {
        return Err(Error::invalid(format!("without TLS the fleet's workers are taken in on loopback only, not on {address}")));
    }
    let mut builder = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    if let Some(tls) = &config.tls {
        choose_cryptography();
        let identity = Identity::from_pem(&tls.certificate_pem, &tls.key_pem);
        builder = builder
            .tls_config(ServerTlsConfig::new().identity(identity))
            .map_err(|e| Error::invalid(format!("TLS certificate or key: {e}")))?;
    }
    let calls_max = config.workers_max + STRANGERS_MAX;
    let calls = Arc::new(Semaphore::new(calls_max));
    // Gone with this call, however that ends.
    let (_open, closed) = watch::channel(());
    let service = FleetServer::new(Door { roster, config, calls, closed }).max_decoding_message_size(MESSAGE_BYTES_MAX);
    // Workers' calls go on for ever: they are cut, not waited for.
    let served = builder.add_service(service).serve_with_incoming(connections(listener, calls_max));
    tokio::select! {
        ended = served => ended.map_err(|e| Error::unavailable(format!("taking workers in failed: {e}"))),
        () = shutdown => Ok(()),
    }
}

struct Door {
    roster: Arc<dyn Roster>,
    config: DoorConfig,
    calls: Arc<Semaphore>,
    closed: watch::Receiver<()>,
}

#[tonic::async_trait]
impl Fleet for Door {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<FromRouter, Status>> + Send + 'static>>;

    async fn join(&self, request: Request<Streaming<FromWorker>>) -> Result<Response<Self::JoinStream>, Status> {
        let permit = self.calls.clone().try_acquire_owned().map_err(|_| Status::resource_exhausted("too many workers at once"))?;
        let peer = request.remote_addr().map_or_else(|| "a worker".to_string(), |address| address.to_string());
        let (sender, answers) = mpsc::channel(4);
        let stay = Stay {
            roster: self.roster.clone(),
            config: self.config.clone(),
            messages: request.into_inner(),
            answers: sender,
            _permit: permit,
        };
        let mut closed = self.closed.clone();
        tokio::spawn(async move {
            let answers = stay.answers.clone();
            let ended = tokio::select! {
                ended = stay.run() => ended,
                // Fails once nobody is left who could send.
                _ = closed.changed() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::warn!(%peer, %error, "a worker's stay has ended");
                // A caller that is gone needs no reason.
                let _ = answers.send(Err(status(&error))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(answers).boxed()))
    }
}

/// One worker's call.
struct Stay {
    roster: Arc<dyn Roster>,
    config: DoorConfig,
    messages: Streaming<FromWorker>,
    answers: mpsc::Sender<Result<FromRouter, Status>>,
    _permit: OwnedSemaphorePermit,
}

impl Stay {
    async fn run(mut self) -> Result<()> {
        let late = |_| Error::new(ErrorKind::DeadlineExceeded, "the worker took too long to join");
        let (seat, session, name) = tokio::time::timeout(HANDSHAKE_MAX, self.take_in()).await.map_err(late)??;
        tracing::info!(worker = name, "a worker has joined");
        let (mut sequence, mut draining) = (0, false);
        loop {
            let message = match tokio::time::timeout(self.config.forget, self.next()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => break,
                // It said that it would go.
                Ok(Err(_)) if draining => break,
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let seconds = self.config.forget.as_secs();
                    return Err(Error::unavailable(format!("worker `{name}` was silent for {seconds} s; it may join again")));
                }
            };
            let from_worker::Message::Heartbeat(signed) = message else {
                return Err(Error::invalid("after the welcome come heartbeats alone"));
            };
            let heartbeat: Heartbeat = session.open(PURPOSE_HEARTBEAT, &signed)?;
            if heartbeat.sequence <= sequence {
                return Err(Error::new(ErrorKind::Unauthenticated, "a heartbeat was sent twice"));
            }
            sequence = heartbeat.sequence;
            if let Some(status) = &heartbeat.status {
                draining = status.draining;
                seat.report(status);
            }
        }
        tracing::info!(worker = name, "a worker has left");
        Ok(())
    }

    async fn take_in(&mut self) -> Result<(Box<dyn crate::Seat>, SessionKey, String)> {
        let Some(from_worker::Message::Hello(hello)) = self.next().await? else {
            return Err(Error::invalid("a worker begins with its hello"));
        };
        let WorkerHello { version, name, nonce: worker_nonce } = hello;
        if version != PROTOCOL_VERSION {
            return Err(Error::invalid(format!(
                "this router speaks version {PROTOCOL_VERSION} with its workers, not {version}; router and worker must be of one release"
            )));
        }
        check_name(&name)?;
        let worker_nonce = nonce(&worker_nonce)?;
        let router_nonce: Nonce = rand::random::<[u8; NONCE_BYTES]>();
        let seen = Seen { worker_nonce: &worker_nonce, router_nonce: &router_nonce, name: &name };
        let proof = self.config.key.router_proof(&seen).to_vec();
        self.answer(from_router::Message::Challenge(RouterChallenge { nonce: router_nonce.to_vec(), proof })).await?;
        let Some(from_worker::Message::Registration(signed)) = self.next().await? else {
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                "the worker left before it had registered: do both have the same fleet key?",
            ));
        };
        let session = self.config.key.session(&seen)?;
        let seat = self.seat(&session, &signed, &seen).await?;
        let welcome = RouterWelcome { heartbeat_ms: millis(self.config.heartbeat), lease_ms: millis(self.config.lease) };
        self.answer(from_router::Message::Welcome(welcome)).await?;
        Ok((seat, session, name))
    }

    async fn seat(&self, session: &SessionKey, signed: &SignedTicket, seen: &Seen<'_>) -> Result<Box<dyn crate::Seat>> {
        let registration: WorkerRegistration = session.open(PURPOSE_REGISTRATION, signed)?;
        let labels = registration.labels.into_iter().collect();
        check_description(&registration.address, &labels)?;
        let status = registration.status.ok_or_else(|| Error::invalid("a registration tells the worker's slots and memory"))?;
        let joining = Joining {
            name: seen.name.to_string(),
            address: registration.address,
            tls: registration.tls,
            labels,
            status,
            ticket_key: self.config.key.ticket_key(seen),
        };
        self.roster.join(joining).await
    }

    async fn next(&mut self) -> Result<Option<from_worker::Message>> {
        match self.messages.message().await {
            Ok(Some(FromWorker { message: Some(message) })) => Ok(Some(message)),
            Ok(Some(FromWorker { message: None })) => Err(Error::invalid("an empty message; router and worker must be of one release")),
            Ok(None) => Ok(None),
            Err(status) => Err(Error::unavailable(format!("the connection to the worker broke: {}", status.message()))),
        }
    }

    async fn answer(&self, message: from_router::Message) -> Result<()> {
        let gone = |_| Error::unavailable("the worker has gone");
        self.answers.send(Ok(FromRouter { message: Some(message) })).await.map_err(gone)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn status(error: &Error) -> Status {
    let code = match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::Raised | ErrorKind::NotEligible => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DataLoss | ErrorKind::Internal => Code::Internal,
    };
    Status::new(code, error.message())
}
