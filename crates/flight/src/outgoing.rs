//! A result on its way to one client: split into messages by rows and bytes, encoded in a task of
//! its own behind a channel of a few messages, so that a slow client never grows memory and encoding
//! never blocks its connection. A stream that ended early is never mistaken for a complete one, and
//! dropping it drops the query. A query that is cancelled, or whose time is up, ends while its client
//! reads nothing, too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use flightpath_pipeline::{Ends, ResultStream, batch_bytes};
use flightpath_types::{Error, ErrorKind, Result};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tonic::Status;

use crate::config::Limits;
use crate::message::{BatchEncoder, MessageStream, WireMessage};
use crate::status::status_of;
use crate::wire;

/// How many moments a stream whose time is up may take to notice.
const ENDS_WITHIN: u32 = 10;
const A_MOMENT: Duration = Duration::from_millis(2);
/// Messages between the encoder and the connection.
const CHANNEL_MESSAGES: usize = 2;

/// What bounds one result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutgoingLimits {
    pub message_rows: usize,
    pub message_bytes: usize,
    pub row_bytes: usize,
    pub client_stall: Duration,
}

impl OutgoingLimits {
    pub fn new(limits: &Limits, client_stall: Duration) -> Self {
        Self {
            message_rows: limits.message_rows.max(1),
            message_bytes: limits.message_bytes.max(1),
            row_bytes: limits.row_bytes,
            client_stall,
        }
    }
}

/// Starts sending. Waits for the first batch, so that what fails before it is the call's own error,
/// and a small result leaves in one piece. The first message is the schema, also of an empty result.
pub(crate) async fn start(result: ResultStream, limits: OutgoingLimits) -> Result<MessageStream, Status> {
    let schema = wire::result_schema(&result.schema);
    let mut messages = vec![WireMessage::of_schema(&schema).map_err(|e| status_of(&e))?];
    let encoder = BatchEncoder::new(&schema).map_err(|e| status_of(&e))?;
    let mut source = Source { batches: result.batches, ends: result.ends, encoder, schema, limits };
    // Like a task's panic, one in here ends this result alone.
    let ready = catch_unwind(AssertUnwindSafe(|| source.take_ready(&mut messages)));
    match ready.unwrap_or_else(|_| Some(Err(broken_off()))) {
        Some(Ok(())) => Ok(futures::stream::iter(messages.into_iter().map(Ok)).boxed()),
        // Nothing but the schema was made: the call itself fails.
        Some(Err(error)) if messages.len() == 1 => Err(status_of(&error)),
        Some(Err(error)) => Ok(futures::stream::iter(messages.into_iter().map(Ok).chain([Err(status_of(&error))])).boxed()),
        None => {
            let mut rest = source.spawn();
            let first = match messages.len() {
                1 => rest.next().await.transpose()?,
                _ => None,
            };
            Ok(futures::stream::iter(messages.into_iter().chain(first).map(Ok)).chain(rest).boxed())
        }
    }
}

/// One batch that is there already, for metadata.
pub(crate) fn of_batch(batch: RecordBatch, limits: OutgoingLimits) -> Result<MessageStream, Status> {
    let messages = messages_of(batch, &limits).map_err(|e| status_of(&e))?;
    Ok(futures::stream::iter(messages.into_iter().map(Ok)).boxed())
}

struct Outgoing {
    receiver: mpsc::Receiver<WireMessage>,
    end: Arc<Mutex<Option<Result<()>>>>,
    task: JoinHandle<()>,
    done: bool,
}

impl Stream for Outgoing {
    type Item = Result<WireMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Some(message) = ready!(self.receiver.poll_recv(context)) {
            return Poll::Ready(Some(Ok(message)));
        }
        self.done = true;
        let outcome = self.end.lock().take();
        Poll::Ready(match outcome {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(Err(status_of(&error))),
            None => Some(Err(status_of(&broken_off()))),
        })
    }
}

fn broken_off() -> Error {
    Error::internal("the result broke off: its encoder ended early")
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // Ends the query, even while it waits for its next batch.
        self.task.abort();
    }
}

/// What a result's messages are made from.
struct Source {
    batches: BoxStream<'static, Result<RecordBatch>>,
    ends: Ends,
    encoder: BatchEncoder,
    schema: SchemaRef,
    limits: OutgoingLimits,
}

impl Source {
    /// Adds messages of the batches that needn't be waited for, up to what may wait anyway. `None`
    /// unless the result has ended with them: a small one that is there needs no task of its own.
    fn take_ready(&mut self, messages: &mut Vec<WireMessage>) -> Option<Result<()>> {
        while messages.len() <= CHANNEL_MESSAGES {
            match self.batches.next().now_or_never()? {
                None => return Some(Ok(())),
                Some(batch) => match batch.and_then(|batch| self.encode(batch)) {
                    Ok(more) => messages.extend(more),
                    Err(error) => return Some(Err(error)),
                },
            }
        }
        None
    }

    fn encode(&mut self, batch: RecordBatch) -> Result<Vec<WireMessage>> {
        let batch = wire::to_wire(batch, &self.schema)?;
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        pieces(batch, &self.limits)?.iter().map(|piece| self.encoder.encode(piece)).collect()
    }

    fn spawn(self) -> Outgoing {
        let (sender, receiver) = mpsc::channel(CHANNEL_MESSAGES);
        let end = Arc::new(Mutex::new(None));
        let task_end = end.clone();
        let task = tokio::spawn(async move {
            let outcome = self.send_all(&sender).await;
            *task_end.lock() = Some(outcome);
            // Only now: the receiver looks for the outcome once the channel is closed.
            drop(sender);
        });
        Outgoing { receiver, end, task, done: false }
    }

    async fn send_all(mut self, sender: &mpsc::Sender<WireMessage>) -> Result<()> {
        while let Some(batch) = self.next().await? {
            let batch = wire::to_wire(batch, &self.schema)?;
            if batch.num_rows() == 0 {
                continue;
            }
            for piece in pieces(batch, &self.limits)? {
                let message = self.encoder.encode(&piece)?;
                self.send(message, sender).await?;
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let early = tokio::select! {
            biased;
            batch = self.batches.next() => return batch.transpose(),
            early = self.ends.reached() => early,
        };
        Err(self.ended(early).await)
    }

    async fn send(&mut self, message: WireMessage, sender: &mpsc::Sender<WireMessage>) -> Result<()> {
        let sending = tokio::time::timeout(self.limits.client_stall, sender.send(message));
        let early = tokio::select! {
            biased;
            sent = sending => return taken(sent.map(|sent| sent.is_ok()), self.limits.client_stall),
            early = self.ends.reached() => early,
        };
        Err(self.ended(early).await)
    }

    /// Asked once more, the pipeline's stream ends by itself, so that its record says how. Its own clock may be
    /// a moment behind.
    async fn ended(&mut self, early: Error) -> Error {
        for _ in 0..ENDS_WITHIN {
            match tokio::time::timeout(A_MOMENT, self.batches.next()).await {
                Ok(Some(Err(error))) => return error,
                Ok(None) => break,
                Ok(Some(Ok(_))) => tokio::time::sleep(A_MOMENT).await,
                Err(_) => {}
            }
        }
        early
    }
}

/// What became of a message: taken by the connection or not, or it waited for too long.
fn taken(sent: Result<bool, Elapsed>, client_stall: Duration) -> Result<()> {
    match sent {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(ErrorKind::Cancelled, "the client went away")),
        Err(_) => {
            let seconds = client_stall.as_secs();
            let message = format!("the client took nothing of its result for {seconds} seconds");
            Err(Error::new(ErrorKind::ResourceExhausted, message))
        }
    }
}

fn messages_of(batch: RecordBatch, limits: &OutgoingLimits) -> Result<Vec<WireMessage>> {
    let schema = batch.schema();
    let mut messages = vec![WireMessage::of_schema(&schema)?];
    let mut encoder = BatchEncoder::new(&schema)?;
    for piece in pieces(batch, limits)? {
        messages.push(encoder.encode(&piece)?);
    }
    Ok(messages)
}

/// Slices of at most so many rows and bytes, by halving; one row stays whole, up to a limit.
fn pieces(batch: RecordBatch, limits: &OutgoingLimits) -> Result<Vec<RecordBatch>> {
    let mut done = Vec::new();
    let mut open = vec![batch];
    while let Some(batch) = open.pop() {
        let rows = batch.num_rows();
        let bytes = batch_bytes(&batch);
        if rows <= limits.message_rows && (bytes <= limits.message_bytes || rows <= 1) {
            if bytes > limits.row_bytes {
                return Err(Error::new(
                    ErrorKind::ResourceExhausted,
                    format!("one row of the result takes {} MB; at most {} MB can be sent", bytes >> 20, limits.row_bytes >> 20),
                ));
            }
            done.push(batch);
            continue;
        }
        let middle = if rows > 2 * limits.message_rows { limits.message_rows } else { rows / 2 };
        open.push(batch.slice(middle, rows - middle));
        open.push(batch.slice(0, middle));
    }
    Ok(done)
}

#[cfg(test)]
mod tests;
