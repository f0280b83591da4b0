//! Listening, and a worker's life as a process.

use std::future::Future;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use flightpath_proto::v1::WorkerStatus;
use flightpath_types::{Error, Result};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::config::{Tls, decode_launch};
use crate::service::{Service, Worker};
use crate::ticket::Grant;
use crate::{Config, Key};

const FRAME_BYTES: u32 = 1 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long open connections may stay in any case once no query runs any more, and nobody is behind with reading.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// A launch line longer than this isn't one.
const LAUNCH_BYTES_MAX: u64 = 64 << 10;

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds `unix:/path`, `tcp:host:port` or `host:port`, on loopback only: without TLS what a worker
    /// sends can be read on the way.
    pub async fn bind(address: &str) -> Result<Self> {
        Self::bind_on(address, false).await
    }

    /// For an endpoint that speaks TLS: on any address.
    pub async fn bind_for_tls(address: &str) -> Result<Self> {
        Self::bind_on(address, true).await
    }

    async fn bind_on(address: &str, anywhere: bool) -> Result<Self> {
        let cannot = |e: std::io::Error| Error::unavailable(format!("the worker can't listen on {address}: {e}"));
        if let Some(path) = address.strip_prefix("unix:") {
            return Ok(Listener::Unix(UnixListener::bind(path).map_err(cannot)?, PathBuf::from(path)));
        }
        let host_port = address.strip_prefix("tcp:").unwrap_or(address);
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(host_port).await.map_err(cannot)?.collect();
        if addresses.is_empty() || !anywhere && addresses.iter().any(|a| !a.ip().is_loopback()) {
            return Err(Error::invalid(format!(
                "without TLS a worker listens on loopback addresses only, not on {host_port}: set tls.certificate and tls.key"
            )));
        }
        Ok(Listener::Tcp(TcpListener::bind(addresses.as_slice()).await.map_err(cannot)?))
    }

    /// The address in the form that [`Listener::bind`] takes, with the port that was given.
    pub fn address(&self) -> Result<String> {
        match self {
            Listener::Tcp(listener) => {
                let address = listener.local_addr().map_err(|e| Error::unavailable(format!("the worker's socket has no address: {e}")))?;
                Ok(format!("tcp:{address}"))
            }
            Listener::Unix(_, path) => Ok(format!("unix:{}", path.display())),
        }
    }
}

/// A worker that may be served, and what others may know of it and grant it meanwhile.
#[derive(Clone)]
pub struct Endpoint {
    worker: Arc<Worker>,
    tls: Option<Tls>,
    ticket_bytes_max: usize,
    drain_max: Duration,
}

impl Endpoint {
    pub fn new(config: Config) -> Result<Self> {
        let (tls, ticket_bytes_max, drain_max) = (config.tls.clone(), config.ticket_bytes_max as usize, config.drain_max);
        Ok(Self { worker: Worker::new(config)?, tls, ticket_bytes_max, drain_max })
    }

    pub fn status(&self) -> WorkerStatus {
        self.worker.status()
    }

    /// Takes tickets under this key too, for as long as the grant lives.
    pub fn grant(&self, key: &Key) -> Result<Grant> {
        self.worker.grant(key)
    }

    /// Completes once the worker takes no more queries.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.worker.draining()
    }

    /// Serves until `shutdown` completes, then lets running queries finish within the configured limit. A
    /// query that doesn't hear that it was told to end has the same effect, and is an error.
    pub async fn serve(self, listener: Listener, shutdown: impl Future<Output = ()>) -> Result<()> {
        serve_worker(self, listener, shutdown).await
    }
}

/// [`Endpoint::serve`] for a worker that nobody else deals with.
pub async fn serve(config: Config, listener: Listener, shutdown: impl Future<Output = ()>) -> Result<()> {
    Endpoint::new(config)?.serve(listener, shutdown).await
}

async fn serve_worker(endpoint: Endpoint, listener: Listener, shutdown: impl Future<Output = ()>) -> Result<()> {
    let Endpoint { worker, tls, ticket_bytes_max, drain_max } = endpoint;
    let service = FlightServiceServer::new(Service(worker.clone()))
        .max_decoding_message_size(ticket_bytes_max.saturating_add(4096))
        .max_encoding_message_size(usize::MAX);
    // A router whose machine is gone mustn't hold slots.
    let mut builder = Server::builder()
        .max_frame_size(Some(FRAME_BYTES))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    if let Some(tls) = &tls {
        choose_cryptography();
        let identity = Identity::from_pem(&tls.certificate_pem, &tls.key_pem);
        builder = builder
            .tls_config(ServerTlsConfig::new().identity(identity))
            .map_err(|e| Error::invalid(format!("the worker's TLS certificate or key: {e}")))?;
    }
    let router = builder.add_service(service);
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let closed = async {
        let _ = closed.await;
    };
    let serving = async {
        match listener {
            Listener::Tcp(listener) => {
                router.serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), closed).await
            }
            Listener::Unix(listener, _) => router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), closed).await,
        }
    };
    tokio::pin!(serving);
    let failed = |e: tonic::transport::Error| Error::unavailable(format!("the worker's endpoint failed: {e}"));
    let why = tokio::select! {
        ended = &mut serving => return ended.map_err(failed),
        () = shutdown => Ok(()),
        error = worker.given_up() => Err(error),
    };
    let began = Instant::now();
    let drained = async {
        worker.drain().await;
        let _ = close.send(());
        // Told to close, connections end as soon as nothing is left to be sent. What an answer's reader is behind
        // with is buffered where nobody here sees it; but one that has never said a word doesn't end either.
        let left = if worker.may_be_behind(began) { drain_max.saturating_sub(began.elapsed()) } else { Duration::ZERO };
        tokio::time::sleep(left.max(CLOSE_MAX)).await;
    };
    // Queries that are being finished need the endpoint to go on meanwhile.
    tokio::select! {
        ended = &mut serving => ended.map_err(failed).and(why),
        () = drained => why,
    }
}

/// The whole life of a worker that a supervisor has started. Its settings and key come as one line
/// on standard input; the address goes as one line to standard output; the end of standard
/// input is the supervisor's death, and the worker's.
pub async fn run_supervised() -> Result<()> {
    harden();
    let (line, parent_gone) = read_stdin().await?;
    let (config, listen) = decode_launch(&line)?;
    let listener = Listener::bind(&listen).await?;
    let address = listener.address()?;
    let temp_dir = config.temp_dir.clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Error::internal(format!("no signal handler: {e}")))?;
    // A terminal's Ctrl-C reaches the whole process group; the supervisor decides what it means.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Error::internal(format!("no signal handler: {e}")))?;
    tokio::spawn(async move { while interrupt.recv().await.is_some() {} });
    let serving = serve(config, listener, async move {
        terminate.recv().await;
    });
    let announce = async {
        let mut out = std::io::stdout();
        // A supervisor that can't read this is gone, which standard input tells too.
        let _ = writeln!(out, "listening on {address}").and_then(|()| out.flush());
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = serving => ended,
        () = announce => Ok(()),
        _ = parent_gone => {
            // Nobody else is left to clean up; what can't be removed stays.
            let _ = std::fs::remove_dir_all(&temp_dir);
            if let Some(path) = address.strip_prefix("unix:") {
                let _ = std::fs::remove_file(path);
            }
            let _ = temp_dir.parent().map(std::fs::remove_dir);
            Err(Error::unavailable("the supervisor is gone"))
        }
    }
}

/// The first line, and a signal for the end of the input.
async fn read_stdin() -> Result<(String, tokio::sync::oneshot::Receiver<()>)> {
    let (line_sender, line) = tokio::sync::oneshot::channel();
    let (gone_sender, gone) = tokio::sync::oneshot::channel();
    // A thread of its own: a blocking read would hold up the runtime's shutdown.
    let reader = move || {
        let mut input = std::io::BufReader::new(std::io::stdin());
        let mut text = String::new();
        let read = std::io::Read::take(&mut input, LAUNCH_BYTES_MAX).read_line(&mut text);
        let _ = line_sender.send(read.map(|_| text));
        // Whatever follows says nothing; its end does.
        let _ = std::io::copy(&mut input, &mut std::io::sink());
        let _ = gone_sender.send(());
    };
    std::thread::Builder::new()
        .name("supervisor-watch".into())
        .spawn(reader)
        .map_err(|e| Error::unavailable(format!("the worker can't start a thread: {e}")))?;
    match line.await {
        Ok(Ok(text)) if text.ends_with('\n') => Ok((text, gone)),
        _ => Err(Error::invalid("a supervised worker gets its settings as one line on standard input")),
    }
}

/// rustls can't choose by itself when the tree has two providers, and panics. Whoever chose before
/// has chosen.
fn choose_cryptography() {
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    if CryptoProvider::get_default().is_none() && aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("another thread chose the cryptography provider first");
    }
}

/// What can be given up for good: other processes of the same user can't look into this one's
/// memory (where the key is), no core dump holds data, and no program gains rights.
pub fn harden() {
    use nix::sys::prctl;
    use nix::sys::resource::{Resource, setrlimit};
    crate::memory::open_process_io();
    // Each is a second line of defence; a kernel without one doesn't keep the worker from running.
    let _ = prctl::set_dumpable(false);
    let _ = prctl::set_no_new_privs();
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}
