//! A result on its way from a worker: watched, so that a worker that has fallen silent is an error
//! and never an endless wait, and counted until it's dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_engine::BatchStream;
use flightpath_types::{Error, ErrorKind, Result};
use futures::{StreamExt, stream};

use crate::member::Member;
use crate::roster::Attempt;

/// Waits for a worker's answer to a call, as long as the worker is heard of.
pub async fn answer<T>(attempt: &mut Attempt, call: impl Future<Output = Result<T>>) -> Result<T> {
    let member = attempt.member().clone();
    let outcome = tokio::select! {
        outcome = call => outcome.map_err(known),
        () = member.lost() => Err(silent(&member)),
    };
    match &outcome {
        Ok(_) => attempt.succeeded(),
        Err(error) => attempt.failed(error, Instant::now()),
    }
    outcome
}

/// The rest of an answer.
pub fn watched(batches: BatchStream, attempt: Attempt) -> BatchStream {
    let watched = Watched { batches, attempt, last: Instant::now() };
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
        self.last = Instant::now();
        if let Some(Err(error)) = &next {
            self.attempt.failed(error, Instant::now());
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
