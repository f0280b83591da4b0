//! Listening: connections, their limits, TLS, HTTP/2, and the end. Never serves anything but
//! loopback without authentication, and keeps no connection whose peer says nothing.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use flightpath_pipeline::QueryService;
use flightpath_types::{Error, ErrorKind, Result};
use futures::Stream;
use futures::future::BoxFuture;
use http::{Request, Response};
use rustls::crypto::CryptoProvider;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::config::{Auth, Config, Lifetimes, Tls};
use crate::door::{Door, Peer};
use crate::gate::{FLIGHT_PATHS, Gate};
use crate::open::{Open, OpenConnections};
use crate::service::Service;
use crate::session::SessionKey;
use crate::silence::{Silence, SilenceLimits};

/// Requests are small: statements and bound rows. Results flow by the client's windows.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a finished connection waits for its client to close too.
const LINGER_MAX: Duration = Duration::from_secs(10);
/// After a failed accept (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Other gRPC services on the same listener, behind the same gate: each call's caller is in its
/// request's extensions as [`flightpath_pipeline::Caller`].
#[derive(Debug, Clone, Default)]
pub struct Neighbours {
    pub routes: Routes,
    /// Paths of calls that need no authentication; their requests hold no caller.
    pub open_paths: Vec<&'static str>,
}

/// Serves until `shutdown` resolves and the running calls have ended, at the latest after
/// `config.lifetimes.drain`, when what is left is cut.
pub async fn serve(
    listener: TcpListener,
    queries: Arc<dyn QueryService>,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    serve_with(listener, queries, Neighbours::default(), config, shutdown).await
}

/// [`serve`], with other services beside Flight SQL.
pub async fn serve_with(
    listener: TcpListener,
    queries: Arc<dyn QueryService>,
    neighbours: Neighbours,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let address = listener.local_addr().map_err(|e| Error::unavailable(format!("the listener has no address: {e}")))?;
    refuse_open_door(&config, address)?;
    let mut builder = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(config.limits.streams_per_connection)
        .http2_keepalive_interval(Some(config.lifetimes.http2_keepalive))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(config.limits.header_bytes);
    if let Some(tls) = &config.tls {
        choose_cryptography();
        let tls = tls_config(tls, &config.lifetimes);
        builder = builder.tls_config(tls).map_err(|e| Error::invalid(format!("TLS certificate, key or client_ca: {}", chain(&e))))?;
    }
    let silence = silence_limits(&config.lifetimes);
    let (request_bytes, drain, connections) = (config.limits.request_bytes, config.lifetimes.drain, config.limits.connections);
    let open = config.open_connections.clone();
    let door = Door::new(queries, config, neighbours.open_paths)?;
    let flight = FlightServiceServer::new(Service::new(door.clone())).max_decoding_message_size(request_bytes);
    let gate = Gate::new(Doors { flight, others: neighbours.routes }, door);

    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let incoming = Incoming::new(listener, connections, silence, open, cut.clone());
    let draining = CancellationToken::new();
    let signal = async {
        shutdown.await;
        draining.cancel();
    };
    let served = builder.serve_with_incoming_shutdown(gate, incoming, signal);
    tokio::pin!(served);
    let too_long = async {
        draining.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        result = &mut served => return result.map_err(|e| Error::unavailable(format!("serving Flight SQL failed: {e}"))),
        () = too_long => {}
    }
    tracing::warn!(seconds = drain.as_secs(), "calls still ran at the end of the drain limit; their connections are cut");
    cut.cancel();
    served.await.map_err(|e| Error::unavailable(format!("serving Flight SQL failed: {e}")))
}

/// Flight's calls go straight to it, the rest to whoever has their path.
#[derive(Clone)]
struct Doors {
    flight: FlightServiceServer<Service>,
    others: Routes,
}

impl tower::Service<Request<Body>> for Doors {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    /// Both are always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match request.uri().path().starts_with(FLIGHT_PATHS) {
            true => self.flight.call(request),
            false => Box::pin(self.others.call(request)),
        }
    }
}

fn refuse_open_door(config: &Config, address: SocketAddr) -> Result<()> {
    match config.auth {
        Auth::None if !address.ip().is_loopback() && config.outside_tokens.is_none() => Err(Error::new(
            ErrorKind::PermissionDenied,
            format!("refusing to listen on {address} without authentication: configure users, or listen on 127.0.0.1"),
        )),
        Auth::None | Auth::Users(_) => Ok(()),
    }
}

/// rustls can't choose by itself when the tree has two providers, and panics. Whoever chose before
/// has chosen.
fn choose_cryptography() {
    if CryptoProvider::get_default().is_none() && rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("another thread chose the cryptography provider first");
    }
}

/// An error and its causes: tonic's own text names none.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn silence_limits(lifetimes: &Lifetimes) -> SilenceLimits {
    SilenceLimits { greeting: lifetimes.greeting, after: lifetimes.http2_keepalive + KEEPALIVE_TIMEOUT }
}

fn tls_config(tls: &Tls, lifetimes: &Lifetimes) -> ServerTlsConfig {
    let identity = Identity::from_pem(&tls.certificate_pem, &tls.key_pem);
    let config = ServerTlsConfig::new().identity(identity).timeout(lifetimes.greeting);
    match &tls.client_ca_pem {
        Some(ca) => config.client_ca_root(Certificate::from_pem(ca)),
        None => config,
    }
}

/// Accepted connections, at most so many at once; one more is closed right away.
struct Incoming {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    silence: SilenceLimits,
    open: OpenConnections,
    cut: CancellationToken,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Incoming {
    fn new(listener: TcpListener, connections_max: usize, silence: SilenceLimits, open: OpenConnections, cut: CancellationToken) -> Self {
        Self { listener, permits: Arc::new(Semaphore::new(connections_max)), silence, open, cut, pause: None }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(context)) {
                Ok((stream, address)) => {
                    let Ok(permit) = self.permits.clone().try_acquire_owned() else {
                        tracing::warn!(%address, "connection refused: too many connections");
                        continue;
                    };
                    // Small answers must not wait for more.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%address, %error, "TCP_NODELAY");
                    }
                    let peer = Peer { address: Some(address), session: SessionKey::random() };
                    let cut = Box::pin(self.cut.clone().cancelled_owned());
                    return Poll::Ready(Some(Ok(Connection {
                        stream,
                        peer,
                        cut,
                        silence: Some(Silence::new(self.silence)),
                        closing: None,
                        _permit: permit,
                        _open: self.open.enter(),
                    })));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// One client's connection. It ends when it is cut, however much is still to be sent.
struct Connection {
    stream: TcpStream,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until its peer is known to speak.
    silence: Option<Silence>,
    /// Our side is closed; until then the client's may stay open.
    closing: Option<Pin<Box<tokio::time::Sleep>>>,
    _permit: OwnedSemaphorePermit,
    _open: Open,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let came = buffer.filled().len() - before;
        match self.silence.as_mut().map(|silence| silence.poll(context, came)) {
            Some(Poll::Ready(true)) => self.silence = None,
            Some(Poll::Ready(false)) => {
                tracing::debug!(address = ?self.peer.address, "connection closed: nobody spoke on it");
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Some(Poll::Pending) | None => {}
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Waits for the client to close as well: closing a socket with something unread in it resets the
    /// connection, and the client would lose the end of its result.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            std::task::ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.closing = Some(Box::pin(tokio::time::sleep(LINGER_MAX)));
        }
        let given_up = self.closing.as_mut().is_some_and(|limit| limit.as_mut().poll(context).is_ready());
        if given_up || self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut discarded = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            match std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // Its end, or an error that ends it.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
