//! A result on its way from a worker: watched, so that a worker that has fallen silent is an error
//! and never an endless wait, and counted until it's dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_engine::BatchStream;
use flightpath_types::{Error, ErrorKind, Result};
use futures::{StreamExt, stream};

use crate::member::Member;
use crate::roster::Attempt;
use crate::trace::Call;

/// Waits for the beginning of a worker's answer to a call, as long as the worker is heard of. It says
/// nothing of the worker yet: one that cuts every answer short begins them all.
pub async fn answer<T>(attempt: &mut Attempt, call: impl Future<Output = Result<T>>) -> Result<T> {
    let member = attempt.member().clone();
    let outcome = tokio::select! {
        outcome = call => outcome.map_err(known),
        () = member.lost() => Err(silent(&member)),
    };
    let outcome = outcome.map_err(|error| attempt.explained(error));
    if let Err(error) = &outcome {
        attempt.failed(error, Instant::now());
    }
    outcome
}

/// A worker that couldn't read a file, with what it said. Whether that is its fault shows once another one has
/// read all of them.
pub struct Doubted {
    attempt: Attempt,
    said: Error,
}

impl Doubted {
    pub fn new(mut attempt: Attempt, said: Error) -> Self {
        // It has answered.
        attempt.leave();
        Self { attempt, said }
    }

    /// The worker's stay.
    pub fn epoch(&self) -> u64 {
        self.attempt.member().epoch
    }

    pub fn into_error(self) -> Error {
        self.said
    }

    /// Another worker has read all of it.
    pub fn belied(mut self) {
        let worker = &self.attempt.member().name;
        let said = &self.said;
        tracing::warn!(
            worker,
            %said,
            "a DuckDB worker can't read a file that another one reads: are the same folders mounted there, with the same rights?"
        );
        self.attempt.at_fault(Instant::now());
    }
}

/// The rest of an answer. Its end clears up who is to blame for what another worker couldn't read before.
pub fn watched(batches: BatchStream, attempt: Attempt, call: Call, doubted: Option<Doubted>) -> BatchStream {
    let watched = Watched { batches, attempt, call, doubted, last: Instant::now() };
    stream::unfold(Some(watched), |state| async move {
        let mut watched = state?;
        match watched.next().await {
            Some(Ok(batch)) => Some((Ok(batch), Some(watched))),
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    })
    .boxed()
}

struct Watched {
    batches: BatchStream,
    attempt: Attempt,
    call: Call,
    doubted: Option<Doubted>,
    /// When something came last.
    last: Instant,
}

impl Watched {
    async fn next(&mut self) -> Option<Result<arrow::record_batch::RecordBatch>> {
        let member = self.attempt.member().clone();
        // What is here already comes first, however late the client asks for it.
        let next = tokio::select! {
            biased;
            next = self.batches.next() => next.map(|batch| batch.map_err(known)),
            () = stalled(&member, self.last, self.attempt.lease()) => Some(Err(silent(&member))),
        };
        let next = next.map(|batch| batch.map_err(|error| self.attempt.explained(error)));
        self.last = Instant::now();
        match &next {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                self.attempt.failed(error, Instant::now());
                self.call.fail(error);
            }
            None => {
                self.attempt.succeeded();
                self.call.finish();
                if let Some(doubted) = self.doubted.take() {
                    doubted.belied();
                }
            }
        }
        next
    }
}

/// Completes when the worker isn't heard of and nothing has come for as long as a lease. Rows are a
/// sign of life too: a machine that is too busy to tell how it is may still be answering.
async fn stalled(member: &Arc<Member>, last: Instant, lease: Duration) {
    loop {
        member.lost().await;
        tokio::time::sleep_until((last + lease).max(Instant::now() + lease / 8).into()).await;
        if member.is_lost() {
            return;
        }
    }
}

fn silent(member: &Member) -> Error {
    Error::unavailable(format!("the DuckDB worker `{}` doesn't answer", member.name))
}

/// A worker that has forgotten this router, because it was started anew, can be reached again soon.
fn known(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unauthenticated => {
            Error::unavailable(format!("the DuckDB worker doesn't know this router any more: {}", error.message()))
        }
        _ => error,
    }
}
