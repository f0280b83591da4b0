//! The worker's end: joins one router, tells it every second how the worker is, and joins again
//! whenever that has ended. Shows nothing to a router that hasn't proved that it knows the key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flightpath_proto::v1::fleet_client::FleetClient;
use flightpath_proto::v1::{FromRouter, FromWorker, Heartbeat, RouterWelcome, WorkerHello, WorkerRegistration, from_router, from_worker};
use flightpath_types::{Error, ErrorKind, Result};
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::handshake::{FleetKey, NONCE_BYTES, Nonce, Seen, SessionKey, nonce};
use crate::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION, PURPOSE_HEARTBEAT, PURPOSE_REGISTRATION, Worker, choose_cryptography};

const CONNECT_MAX: Duration = Duration::from_secs(5);
const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// Waits between tries to join grow from the first to the second.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// What a router may ask for.
const HEARTBEAT_MIN: Duration = Duration::from_millis(50);
const HEARTBEAT_MAX: Duration = Duration::from_secs(30);
/// A router that doesn't answer for so long is left, and joined again when it's back.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(8);

#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// `grpc://host:port`, or `grpc+tls://host:port`.
    pub router: String,
    /// PEM text of the authority whose certificate the router shows.
    pub ca_pem: Option<String>,
    pub key: FleetKey,
    pub name: String,
    /// `host:port` at which the router reaches the worker.
    pub address: String,
    /// Whether the worker speaks TLS there.
    pub tls: bool,
    pub labels: BTreeMap<String, String>,
}

/// Joins, and joins again, until it's dropped. Fails only for what trying again can't mend.
pub async fn keep_registered(config: AgentConfig, worker: Arc<dyn Worker>) -> Result<()> {
    crate::check_name(&config.name)?;
    crate::check_description(&config.address, &config.labels)?;
    let endpoint = endpoint(&config)?;
    let mut backoff = BACKOFF_MIN;
    let mut told = None;
    loop {
        let began = Instant::now();
        let mut stay = Stay { config: &config, worker: worker.as_ref(), joined: false };
        let error = match stay.run(&endpoint).await {
            Ok(()) => Error::unavailable("the router has ended the stay"),
            Err(error) => error,
        };
        if stay.joined {
            told = None;
        }
        // Once for each reason, not for each try.
        if told.as_deref() != Some(error.message()) {
            tracing::warn!(router = config.router, %error, "not registered; trying again");
            told = Some(error.message().to_string());
        }
        if began.elapsed() > BACKOFF_MAX {
            backoff = BACKOFF_MIN;
        }
        // Not all workers of a fleet at once.
        sleep(backoff.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

fn endpoint(config: &AgentConfig) -> Result<Endpoint> {
    let wrong = || Error::invalid(format!("a router is grpc://HOST:PORT or grpc+tls://HOST:PORT, not `{}`", config.router));
    let (encrypted, authority) = match config.router.split_once("://") {
        Some(("grpc", authority)) => (false, authority),
        Some(("grpc+tls", authority)) => (true, authority),
        _ => return Err(wrong()),
    };
    let scheme = if encrypted { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
        .map_err(|_| wrong())?
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if encrypted {
        let ca = config
            .ca_pem
            .as_ref()
            .ok_or_else(|| Error::invalid("a router with grpc+tls:// needs fleet.ca, the authority of its certificate"))?;
        choose_cryptography();
        endpoint = endpoint
            .tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)))
            .map_err(|e| Error::invalid(format!("fleet.ca: {e}")))?;
    }
    Ok(endpoint)
}

/// One stay with the router.
struct Stay<'a> {
    config: &'a AgentConfig,
    worker: &'a dyn Worker,
    joined: bool,
}

/// What a stay is made of once it has begun. Its end takes the key back from the worker.
struct Joined {
    sender: mpsc::Sender<FromWorker>,
    answers: Streaming<FromRouter>,
    session: SessionKey,
    heartbeat: Duration,
    _grant: Box<dyn Send + Sync>,
}

impl Stay<'_> {
    async fn run(&mut self, endpoint: &Endpoint) -> Result<()> {
        let late = |_| Error::new(ErrorKind::DeadlineExceeded, "the router took too long to take the worker in");
        let mut joined = timeout(HANDSHAKE_MAX, self.join(endpoint)).await.map_err(late)??;
        self.joined = true;
        tracing::info!(router = self.config.router, name = self.config.name, "registered");
        let mut draining = self.worker.draining().fuse();
        let mut sequence = 0;
        loop {
            sequence += 1;
            let heartbeat = Heartbeat { sequence, status: Some(self.worker.status()) };
            let signed = joined.session.sign(PURPOSE_HEARTBEAT, &heartbeat);
            send(&joined.sender, from_worker::Message::Heartbeat(signed)).await?;
            tokio::select! {
                () = sleep(joined.heartbeat) => {}
                // Told at once: the router gives it no more work.
                () = &mut draining => {}
                answer = joined.answers.message() => match answer {
                    Ok(None) => return Ok(()),
                    Ok(Some(_)) => return Err(Error::invalid("the router said something that this worker doesn't understand")),
                    Err(status) => return Err(of_status(&status)),
                },
            }
        }
    }

    async fn join(&self, endpoint: &Endpoint) -> Result<Joined> {
        let connect = endpoint.connect().await;
        let channel: Channel = connect.map_err(|e| Error::unavailable(format!("the router can't be reached: {}", root_cause(&e))))?;
        let mut client = FleetClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (sender, messages) = mpsc::channel(4);
        let worker_nonce: Nonce = rand::random::<[u8; NONCE_BYTES]>();
        let hello = WorkerHello { version: PROTOCOL_VERSION, name: self.config.name.clone(), nonce: worker_nonce.to_vec() };
        send(&sender, from_worker::Message::Hello(hello)).await?;
        let response = client.join(ReceiverStream::new(messages)).await.map_err(|status| of_status(&status))?;
        let mut answers = response.into_inner();
        let from_router::Message::Challenge(challenge) = next(&mut answers).await? else {
            return Err(Error::invalid("the router didn't begin with its challenge"));
        };
        let router_nonce = nonce(&challenge.nonce)?;
        let seen = Seen { worker_nonce: &worker_nonce, router_nonce: &router_nonce, name: &self.config.name };
        if !self.config.key.is_router_proof(&seen, &challenge.proof) {
            return Err(Error::new(ErrorKind::Unauthenticated, "whoever answers there doesn't know this fleet's key"));
        }
        // The router tries the worker before it welcomes it.
        let grant = self.worker.grant(&self.config.key.ticket_key(&seen))?;
        let session = self.config.key.session(&seen)?;
        let registration = WorkerRegistration {
            address: self.config.address.clone(),
            tls: self.config.tls,
            labels: self.config.labels.clone().into_iter().collect(),
            status: Some(self.worker.status()),
        };
        send(&sender, from_worker::Message::Registration(session.sign(PURPOSE_REGISTRATION, &registration))).await?;
        let from_router::Message::Welcome(RouterWelcome { heartbeat_ms, lease_ms: _ }) = next(&mut answers).await? else {
            return Err(Error::invalid("the router didn't answer with its welcome"));
        };
        let heartbeat = Duration::from_millis(heartbeat_ms).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
        Ok(Joined { sender, answers, session, heartbeat, _grant: grant })
    }
}

async fn send(sender: &mpsc::Sender<FromWorker>, message: from_worker::Message) -> Result<()> {
    sender.send(FromWorker { message: Some(message) }).await.map_err(|_| Error::unavailable("the router has gone"))
}

async fn next(answers: &mut Streaming<FromRouter>) -> Result<from_router::Message> {
    match answers.message().await {
        Ok(Some(FromRouter { message: Some(message) })) => Ok(message),
        Ok(Some(FromRouter { message: None })) => Err(Error::invalid("an empty message; router and worker must be of one release")),
        Ok(None) => Err(Error::unavailable("the router has ended the stay")),
        Err(status) => Err(of_status(&status)),
    }
}

fn of_status(status: &tonic::Status) -> Error {
    Error::unavailable(format!("the router says: {}", status.message()))
}

/// A transport's error says little; what is behind it says more.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
