//! One query's work on the engine's own threads, and the stream through which its batches leave.
//!
//! The work sends into a bounded channel: a client that doesn't read stops it after a few batches.
//! Dropping the stream aborts the work; DataFusion's operators own their tasks, so they end with it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use flightpath_plan::PlannedQuery;
use flightpath_types::{Error, ErrorKind, QueryId, Result};
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::error::{of_datafusion, panicked, unplanned};
use crate::interrupt::{Signal, late, stoppable};
use crate::scan::ScanPlanner;

/// Batches that may wait for the client; each operator holds one or two of its own besides.
const BATCHES_WAITING_MAX: usize = 2;

/// Counts a running query for as long as its work lives.
pub(crate) struct Running(Arc<AtomicU32>);

impl Running {
    pub(crate) fn start(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Everything one execution needs.
pub(crate) struct Work {
    pub(crate) query: Arc<PlannedQuery>,
    pub(crate) query_id: QueryId,
    pub(crate) deadline: Option<Instant>,
    pub(crate) state: Arc<SessionState>,
    pub(crate) task: Arc<TaskContext>,
    pub(crate) scans: Arc<ScanPlanner>,
    pub(crate) running: Running,
}

enum Message {
    Batch(RecordBatch),
    Failed(Error),
    /// All batches were sent. Without it, the end of the channel isn't the end of the result.
    Complete,
}

/// Starts the work on `runtime`.
pub(crate) fn start(runtime: &tokio::runtime::Handle, work: Work) -> QueryStream {
    let (sender, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    let signal = Signal::new(work.deadline);
    let task = runtime.spawn(drive(work, signal.clone(), sender));
    QueryStream { receiver, signal, task: task.abort_handle(), ended: false }
}

async fn drive(work: Work, signal: Arc<Signal>, sender: mpsc::Sender<Message>) {
    let Work { query, query_id, deadline, state, task, scans, running } = work;
    let produced = async {
        let plan = physical_plan(&query, &state, scans, &signal).await?;
        produce(&query, plan, task, &sender).await
    };
    let outcome = match until(deadline, AssertUnwindSafe(produced).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(payload)) => {
            tracing::error!(%query_id, "a query panicked in engine datafusion");
            let message = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
            Err(panicked(message.unwrap_or_default()))
        }
        Err(late) => Err(late),
    };
    // The work is over here, whether or not the client reads its last word.
    drop((state, query, running));
    let last = match outcome {
        Ok(()) => Message::Complete,
        Err(e) => Message::Failed(e),
    };
    // A client that is gone needs no last word.
    let _ = sender.send(last).await;
}

async fn produce(query: &PlannedQuery, plan: Arc<dyn ExecutionPlan>, task: Arc<TaskContext>, sender: &mpsc::Sender<Message>) -> Result<()> {
    let mut batches = execute_stream(plan, task).map_err(|e| of_datafusion(&e))?;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|e| of_datafusion(&e))?;
        if batch.num_columns() != query.schema.fields().len() {
            return Err(Error::internal(format!(
                "engine datafusion made {} columns where {} are promised",
                batch.num_columns(),
                query.schema.fields().len()
            )));
        }
        if batch.num_rows() > 0 && sender.send(Message::Batch(batch)).await.is_err() {
            return Err(Error::new(ErrorKind::Cancelled, "the client has gone"));
        }
    }
    Ok(())
}

async fn physical_plan(
    query: &PlannedQuery,
    state: &SessionState,
    scans: Arc<ScanPlanner>,
    signal: &Arc<Signal>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let planner = DefaultPhysicalPlanner::with_extension_planners(vec![scans]);
    let plan = planner.create_physical_plan(&query.optimized, state).await.map_err(|e| unplanned(&e))?;
    stoppable(plan, signal).map_err(|e| of_datafusion(&e))
}

/// `work`, or an error once the deadline has passed; `work` is dropped by then.
pub(crate) async fn until<F: Future>(deadline: Option<Instant>, work: F) -> Result<F::Output> {
    match deadline {
        None => Ok(work.await),
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| late()),
    }
}

/// The batches of one query.
pub(crate) struct QueryStream {
    receiver: mpsc::Receiver<Message>,
    signal: Arc<Signal>,
    task: AbortHandle,
    ended: bool,
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = futures::ready!(self.receiver.poll_recv(context));
        let item = match message {
            Some(Message::Batch(batch)) => return Poll::Ready(Some(Ok(batch))),
            Some(Message::Complete) => None,
            Some(Message::Failed(e)) => Some(Err(e)),
            None => Some(Err(Error::unavailable("engine datafusion shut down while the query ran"))),
        };
        self.ended = true;
        Poll::Ready(item)
    }
}

impl Drop for QueryStream {
    fn drop(&mut self) {
        self.signal.drop_query();
        self.task.abort();
    }
}
