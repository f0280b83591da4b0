//! A running result as the client's stream. It owns everything the query holds: dropping it
//! frees the slot, cancels the work and writes the record.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use dashmap::DashMap;
use flightpath_engine::BatchStream;
use flightpath_types::{Error, ErrorKind, Principal, QueryId, Result};
use futures::{Stream, StreamExt};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::admission::Permit;
use crate::lifecycle::{QueryToken, Running};
use crate::restamp::restamp;
use crate::shadow::Observed;

/// Queries that run now, so that they can be cancelled and drained.
pub(crate) type Registry = Arc<DashMap<QueryId, RunningQuery>>;

pub(crate) struct RunningQuery {
    /// The query id in the ticket it was fetched with.
    pub ticket: QueryId,
    pub principal: Principal,
    pub cancel: CancellationToken,
}

/// Keeps a query in the registry for as long as it lives.
pub(crate) struct Registered {
    registry: Registry,
    query_id: QueryId,
    pub cancel: CancellationToken,
}

impl Registered {
    pub fn enter(registry: &Registry, query_id: QueryId, ticket: QueryId, principal: Principal) -> Self {
        let cancel = CancellationToken::new();
        registry.insert(query_id, RunningQuery { ticket, principal, cancel: cancel.clone() });
        Self { registry: registry.clone(), query_id, cancel }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.remove(&self.query_id);
    }
}

pub(crate) struct StampedStream {
    schema: SchemaRef,
    first: Option<RecordBatch>,
    /// `None` once the stream has ended, whichever way: the engine's side is dropped by then.
    running: Option<(BatchStream, QueryToken<Running>)>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Option<Pin<Box<Sleep>>>,
    observed: Option<Observed>,
    _registered: Registered,
    _permit: Option<Permit>,
}

impl StampedStream {
    pub fn new(
        schema: SchemaRef,
        first: Option<RecordBatch>,
        rest: BatchStream,
        token: QueryToken<Running>,
        deadline: Option<Instant>,
        registered: Registered,
        permit: Option<Permit>,
        observed: Option<Observed>,
    ) -> Self {
        Self {
            schema,
            first,
            running: Some((rest, token)),
            cancelled: Box::pin(registered.cancel.clone().cancelled_owned()),
            deadline: deadline.map(|d| Box::pin(tokio::time::sleep_until(d.into()))),
            observed,
            _registered: registered,
            _permit: permit,
        }
    }

    fn end(&mut self, result: Result<()>) -> Poll<Option<Result<RecordBatch>>> {
        if let Some((stream, token)) = self.running.take() {
            drop(stream);
            token.finish(result.as_ref().map(|()| ()));
        }
        if let (Some(observed), Ok(())) = (self.observed.take(), &result) {
            observed.finish();
        }
        self._permit = None;
        match result {
            Ok(()) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

impl Stream for StampedStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(span) = this.running.as_ref().map(|(_, token)| token.stream_span().clone()) else {
            return Poll::Ready(None);
        };
        if this.cancelled.as_mut().poll(cx).is_ready() {
            return this.end(Err(Error::new(ErrorKind::Cancelled, "the query was cancelled")));
        }
        if this.deadline.as_mut().is_some_and(|d| d.as_mut().poll(cx).is_ready()) {
            return this.end(Err(Error::new(ErrorKind::DeadlineExceeded, "the query's deadline passed")));
        }
        let next = match this.first.take() {
            Some(batch) => Some(Ok(batch)),
            None => match this.running.as_mut().map(|(stream, _)| span.in_scope(|| stream.poll_next_unpin(cx))) {
                Some(Poll::Ready(next)) => next,
                Some(Poll::Pending) | None => return Poll::Pending,
            },
        };
        drop(span);
        match next {
            None => this.end(Ok(())),
            Some(Err(error)) => this.end(Err(error)),
            Some(Ok(batch)) => match restamp(&batch, &this.schema) {
                Ok(batch) => {
                    if let Some((_, token)) = this.running.as_mut() {
                        token.sent(batch.num_rows() as u64, batch.get_array_memory_size() as u64);
                    }
                    if !this.observed.as_mut().is_none_or(|observed| observed.add(&batch)) {
                        this.observed = None;
                    }
                    Poll::Ready(Some(Ok(batch)))
                }
                Err(error) => this.end(Err(error)),
            },
        }
    }
}
