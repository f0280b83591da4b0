//! A client's messages that an answer doesn't wait for. gRPC's C++ clients wait for ever where a call
//! ends, or is reset, between its first answer and their own next message. So what is left unread is
//! read for a while and thrown away, and a call may be ended as its client ends it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tonic::{Status, Streaming};

/// How long, and how much, after the answer.
const LINGER_MAX: Duration = Duration::from_secs(5);
const MESSAGES_MAX: usize = 64;

pub(crate) struct Unread<T: Send + 'static> {
    /// `None` once the client has ended it.
    messages: Option<Streaming<T>>,
}

impl<T: Send + 'static> Unread<T> {
    pub fn new(messages: Streaming<T>) -> Self {
        Self { messages: Some(messages) }
    }

    /// Waits for the client's end, not for long.
    pub async fn ended(mut self) {
        if let Some(messages) = self.messages.take() {
            throw_away(messages).await;
        }
    }
}

impl<T: Send + 'static> Stream for Unread<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(messages) = &mut self.messages else { return Poll::Ready(None) };
        let next = std::task::ready!(messages.poll_next_unpin(context));
        if !matches!(next, Some(Ok(_))) {
            self.messages = None;
        }
        Poll::Ready(next)
    }
}

impl<T: Send + 'static> Drop for Unread<T> {
    fn drop(&mut self) {
        let (Some(messages), Ok(runtime)) = (self.messages.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(throw_away(messages));
    }
}

async fn throw_away<T>(messages: Streaming<T>) {
    let rest = messages.take(MESSAGES_MAX).take_while(|message| std::future::ready(message.is_ok()));
    // The limit is as good an end as the client's.
    let _ = tokio::time::timeout(LINGER_MAX, rest.for_each(|_| std::future::ready(()))).await;
}
