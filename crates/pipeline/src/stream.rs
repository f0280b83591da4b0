//! A running result as the client's stream. It owns everything the query holds: dropping it
//! frees the slot, cancels the work and writes the record.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use dashmap::DashMap;
use flightpath_engine::BatchStream;
use flightpath_types::{Error, ErrorKind, Principal, QueryId, Result};
use futures::{Stream, StreamExt, stream};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::admission::Permit;
use crate::learn::{Bill, Lesson};
use crate::lifecycle::{QueryToken, Running, client_gone};
use crate::restamp::restamp;
use crate::shadow::Observed;
use crate::size::batch_bytes;

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

/// A result whose beginning is here, with all that it holds.
pub(crate) struct Begun {
    pub first: Option<RecordBatch>,
    pub rest: BatchStream,
    pub permit: Option<Permit>,
    pub observed: Option<Observed>,
    pub lesson: Option<Lesson>,
    pub bill: Option<Bill>,
    pub waited_us: u64,
    /// What the engine took before the beginning was here.
    pub took: Duration,
}

impl Begun {
    /// What the router itself answers.
    pub fn local(batches: Vec<RecordBatch>) -> Self {
        let rest = stream::iter(batches.into_iter().map(Ok)).boxed();
        Self { first: None, rest, permit: None, observed: None, lesson: None, bill: None, waited_us: 0, took: Duration::ZERO }
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
    lesson: Option<Lesson>,
    bill: Option<Bill>,
    /// Rows that may still leave; `None` for no limit.
    rows_left: Option<u64>,
    rows_max: u64,
    /// Time that the engine was waited for, and since when it is now.
    engine_time: Duration,
    waiting_since: Option<Instant>,
    _registered: Registered,
    permit: Option<Permit>,
}

impl StampedStream {
    pub fn new(
        schema: SchemaRef,
        begun: Begun,
        token: QueryToken<Running>,
        deadline: Option<Instant>,
        registered: Registered,
        rows_max: Option<u64>,
    ) -> Self {
        Self {
            schema,
            first: begun.first,
            running: Some((begun.rest, token)),
            cancelled: Box::pin(registered.cancel.clone().cancelled_owned()),
            deadline: deadline.map(|d| Box::pin(tokio::time::sleep_until(d.into()))),
            observed: begun.observed,
            lesson: begun.lesson,
            bill: begun.bill,
            rows_left: rows_max,
            rows_max: rows_max.unwrap_or(u64::MAX),
            engine_time: Duration::ZERO,
            waiting_since: None,
            _registered: registered,
            permit: begun.permit,
        }
    }

    fn end(&mut self, result: Result<()>) -> Poll<Option<Result<RecordBatch>>> {
        // Up to now the engine was waited for.
        if let Some(since) = self.waiting_since.take() {
            self.engine_time += since.elapsed();
        }
        if let Some((stream, token)) = self.running.take() {
            drop(stream);
            let billed = token.finish(result.as_ref().copied(), self.engine_time, self.bill.take());
            if let Some(permit) = &mut self.permit {
                permit.bill(billed);
            }
        }
        if let (Some(observed), Ok(())) = (self.observed.take(), &result) {
            observed.finish();
        }
        match (self.lesson.take(), &result) {
            (Some(lesson), Ok(())) => lesson.finished(self.engine_time),
            (Some(lesson), Err(error)) if error.kind() == ErrorKind::DeadlineExceeded => lesson.cut_short(self.engine_time),
            (_, _) => {}
        }
        self.permit = None;
        match result {
            Ok(()) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

impl StampedStream {
    /// Ends a result that has more rows than its profile allows: as an error, never as a short one.
    fn count(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let Some(left) = &mut self.rows_left else { return Ok(batch) };
        match left.checked_sub(batch.num_rows() as u64) {
            Some(fewer) => {
                *left = fewer;
                Ok(batch)
            }
            None => Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "the result has more rows than this profile allows ({}, `rows_max`): add a LIMIT, aggregate, or use a profile that allows more",
                    self.rows_max
                ),
            )),
        }
    }
}

impl Drop for StampedStream {
    /// Its client has left. The run costs what it took until now, however little of it was read.
    fn drop(&mut self) {
        let Some((rest, token)) = self.running.take() else { return };
        drop(rest);
        if let Some(since) = self.waiting_since.take() {
            self.engine_time += since.elapsed();
        }
        let billed = token.finish(Err(&client_gone()), self.engine_time, self.bill.take());
        if let Some(permit) = &mut self.permit {
            permit.bill(billed);
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
            None => {
                let asked = *this.waiting_since.get_or_insert_with(Instant::now);
                match this.running.as_mut().map(|(stream, _)| span.in_scope(|| stream.poll_next_unpin(cx))) {
                    Some(Poll::Ready(next)) => {
                        this.waiting_since = None;
                        this.engine_time += asked.elapsed();
                        next
                    }
                    Some(Poll::Pending) | None => return Poll::Pending,
                }
            }
        };
        drop(span);
        match next {
            None => this.end(Ok(())),
            Some(Err(error)) => this.end(Err(error)),
            Some(Ok(batch)) => match restamp(&batch, &this.schema).and_then(|batch| this.count(batch)) {
                Ok(batch) => {
                    if let Some((_, token)) = this.running.as_mut() {
                        token.sent(batch.num_rows() as u64, batch_bytes(&batch) as u64);
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

#[cfg(test)]
mod tests {
    use flightpath_querylog::{Recorder, RecorderConfig};
    use flightpath_router::Predictor;
    use flightpath_types::{CandidateNumbers, EngineFacts, EngineId, Features, Outcome, Pricing};

    use super::*;
    use crate::fixtures::{self, MemoryLog};
    use crate::lifecycle::{PlanSummary, micros};

    #[tokio::test]
    async fn whoever_leaves_a_result_that_is_held_whole_has_cancelled_it_and_pays_for_its_run() {
        let (dir, log) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::default()));
        let recorder = Recorder::start(log.clone(), RecorderConfig::new(dir.path().into())).unwrap();
        let (query, engine, query_id) = (fixtures::query(), EngineId::new("duckdb"), QueryId::generate());
        let predicted = CandidateNumbers { usd: 5.0, ..CandidateNumbers::default() };
        let mut token = QueryToken::receive(&recorder, query_id, "SELECT n", "s", &query.session, None).planned(PlanSummary {
            statement_kind: "query",
            fingerprint: Some(query.fingerprint),
            features: Features::default(),
            cache_hit: false,
            plan_us: 0,
            decide_us: 0,
            decision: Some(fixtures::decision([&engine], predicted)),
            governed: false,
        });
        token.trying(&engine);
        token.queue_clock().admitted();
        let facts = EngineFacts { pricing: Pricing::hourly(3.6), ..fixtures::facts(&engine) };
        let (predictor, took) = (Arc::<Predictor>::default(), Duration::from_secs(1));
        let batch = || fixtures::rows(&query, vec![1, 2]);
        let begun = Begun {
            first: Some(batch()),
            rest: stream::iter([Ok(batch())]).boxed(),
            permit: None,
            observed: None,
            lesson: Lesson::of(&predictor, &query, facts.clone(), took, Arc::default()),
            bill: Some(Bill { facts, scan_bytes: 0, findings: Arc::default() }),
            waited_us: 0,
            took,
        };
        let token = token.running(0, micros(took), None);
        let registered = Registered::enter(&Registry::default(), query_id, query_id, query.session.principal.clone());
        let mut batches = StampedStream::new(query.schema.clone(), begun, token, None, registered, None);
        assert_eq!(batches.next().await.unwrap().unwrap().num_rows(), 2);
        drop(batches);
        assert!(recorder.shutdown(Duration::from_secs(60)).await);
        let records = log.0.lock();
        assert_eq!((records.len(), records[0].outcome, records[0].rows), (1, Outcome::Cancelled, 2));
        // A second of a machine at 3.60 dollars an hour.
        assert!(records[0].usd_actual.is_some_and(|usd| usd > 0.0 && usd < 0.1), "{:?}", records[0].usd_actual);
        assert!(predictor.is_empty(), "nothing is learned of what wasn't read to its end");
    }
}
