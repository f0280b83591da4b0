//! Peers that connect and say nothing. Nobody else ends their connections: HTTP/2 waits for its preface
//! for ever, over TLS too, and its keepalive begins behind it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// HTTP/2's preface, with which every client begins. TLS' first message is longer.
const GREETING_BYTES: usize = 24;

/// How long a new connection's peer may say nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SilenceLimits {
    /// Until it has greeted.
    pub greeting: Duration,
    /// From then on, until anything more comes. What comes from a client that speaks HTTP/2 is, at the
    /// latest, its answer to the first ping.
    pub after: Duration,
}

/// Watches over one connection until its peer is known to speak.
pub(crate) struct Silence {
    limit: Pin<Box<Sleep>>,
    heard: usize,
    /// What has to have come by the limit.
    wanted: usize,
    /// The second limit, before it begins.
    after: Option<Duration>,
}

impl Silence {
    pub fn new(limits: SilenceLimits) -> Self {
        let limit = Box::pin(tokio::time::sleep(limits.greeting));
        Self { limit, heard: 0, wanted: GREETING_BYTES, after: Some(limits.after) }
    }

    /// Counts what has come. Ready once it's known whether the peer speaks.
    pub fn poll(&mut self, context: &mut Context<'_>, bytes: usize) -> Poll<bool> {
        self.heard += bytes;
        loop {
            if self.after.is_none() && self.heard >= self.wanted {
                return Poll::Ready(true);
            }
            ready!(self.limit.as_mut().poll(context));
            let Some(after) = self.after.take().filter(|_| self.heard >= self.wanted) else { return Poll::Ready(false) };
            self.wanted = self.heard + 1;
            self.limit.as_mut().reset(Instant::now() + after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a peer speaks of which so many bytes come at once, and so many after the first limit.
    async fn speaks(mut first: usize, mut later: usize) -> bool {
        let limits = SilenceLimits { greeting: Duration::from_millis(20), after: Duration::from_millis(20) };
        let mut silence = Silence::new(limits);
        std::future::poll_fn(|context| {
            let known = silence.poll(context, std::mem::take(&mut first));
            if known.is_pending() && silence.after.is_none() {
                return silence.poll(context, std::mem::take(&mut later));
            }
            known
        })
        .await
    }

    #[tokio::test]
    async fn a_peer_speaks_that_greets_and_goes_on() {
        for (first, later, expected) in [(0, 0, false), (GREETING_BYTES - 1, 0, false), (GREETING_BYTES, 0, false), (2_000, 1, true)] {
            assert_eq!(speaks(first, later).await, expected, "{first} bytes, then {later}");
        }
    }
}
