//! Accepted connections, at most so many at once: callers that can't be served wait unaccepted. One on
//! which nothing comes is closed, so that nobody waits for it for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// After a failed accept (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a caller may take to begin.
const FIRST_BYTES_MAX: Duration = Duration::from_secs(10);
/// How long it may say nothing from then on: one that speaks HTTP/2 is pinged every few seconds, and nobody
/// else ends a connection before it has got there.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// One caller's connection, which counts until it's dropped.
pub struct Connection {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit, first_bytes_max: Duration) -> Self {
        Self { stream, silence: Box::pin(tokio::time::sleep(first_bytes_max)), _permit: permit }
    }
}

pub fn connections(listener: TcpListener, max: usize) -> impl Stream<Item = io::Result<Connection>> {
    let permits = Arc::new(Semaphore::new(max));
    stream::unfold((listener, permits), |(listener, permits)| async move {
        let permit = permits.clone().acquire_owned().await.ok()?;
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    tracing::warn!(%error, "accepting a worker's connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        // Heartbeats must not wait for more.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        Some((Ok(Connection::new(stream, permit, FIRST_BYTES_MAX)), (listener, permits)))
    })
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
        } else if self.silence.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
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

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_caller_that_says_nothing_is_let_go_and_one_that_speaks_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let permits = Arc::new(Semaphore::new(2));
        let (silent, mut speaks) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        speaks.write_all(b"PRI").await.unwrap();
        let mut taken = Vec::new();
        for _ in 0..2 {
            let permit = permits.clone().acquire_owned().await.unwrap();
            taken.push(Connection::new(listener.accept().await.unwrap().0, permit, Duration::from_millis(50)));
        }
        let mut greeting = [0; 3];
        taken[1].read_exact(&mut greeting).await.unwrap();
        assert_eq!(taken[0].read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // It has been here for longer than that.
        speaks.write_all(b"!").await.unwrap();
        assert_eq!(taken[1].read(&mut [0; 1]).await.unwrap(), 1);
        drop((taken, silent));
        assert_eq!(permits.available_permits(), 2);
    }
}
