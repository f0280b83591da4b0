//! One statement from its text to its end. Runs as a task of its own: when the caller is gone, the
//! statement still has to be ended, and its id may not be known yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use flightpath_databricks::{ApiError, Call, Client, Idempotency, Identity, segment};
use flightpath_engine::Findings;
use flightpath_types::{Error, ErrorKind, QueryId, Result};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cancel::cancel;
use crate::config::Config;
use crate::result::deadline_passed;
use crate::sql_error;
use crate::statement::StatementRequest;
use crate::wire::{Answer, ExecuteBody, STATEMENTS, State, Tag};

/// The name under which our query id stands in Databricks' own query history.
pub(crate) const TAG: &str = "flightpath_query_id";
/// And the trace that it's part of.
const TRACE_TAG: &str = "flightpath_trace_id";

/// What statements are run with.
pub(crate) struct Runner {
    pub client: Arc<Client>,
    pub config: Arc<Config>,
    /// How many of the forms of a result Databricks has refused.
    pub form: AtomicU8,
    pub tracker: TaskTracker,
    pub closing: CancellationToken,
}

/// One statement and whose it is.
#[derive(Clone)]
pub(crate) struct Work {
    pub statement: StatementRequest,
    pub who: Identity,
    pub query_id: QueryId,
    /// 32 hexadecimal digits.
    pub trace_id: Option<String>,
    pub deadline: Option<Instant>,
    /// Whether it's a query. What isn't may have changed data once it was sent.
    pub returns_rows: bool,
    pub findings: Arc<Findings>,
}

/// A statement that ended well.
pub(crate) struct Finished {
    pub statement_id: String,
    pub answer: Answer,
}

/// The forms in which a result may be asked for, best first.
#[derive(Clone, Copy)]
struct Form {
    disposition: &'static str,
    compression: Option<&'static str>,
}

const LINKS: &str = "EXTERNAL_LINKS";
const EITHER: &str = "INLINE_OR_EXTERNAL_LINKS";
const LZ4: Option<&str> = Some("LZ4_FRAME");

impl Runner {
    fn forms(&self) -> Vec<Form> {
        let mut forms = Vec::new();
        if self.config.inline_results {
            forms.push(Form { disposition: EITHER, compression: LZ4.filter(|_| self.config.compressed_results) });
        }
        if self.config.compressed_results {
            forms.push(Form { disposition: LINKS, compression: LZ4 });
        }
        forms.push(Form { disposition: LINKS, compression: None });
        forms
    }

    /// Runs a statement to its end. Dropping the future cancels it.
    pub async fn run(self: &Arc<Self>, work: Work) -> Result<Finished> {
        let deadline = work.deadline;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(deadline_passed());
        }
        let (done, outcome) = oneshot::channel();
        self.tracker.spawn(self.clone().drive(work, done));
        let broke_off = |_| Error::internal("running a statement on Databricks broke off");
        match deadline {
            None => outcome.await.map_err(broke_off)?,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), outcome).await.map_err(|_| deadline_passed())?.map_err(broke_off)?,
        }
    }

    async fn drive(self: Arc<Self>, work: Work, mut done: oneshot::Sender<Result<Finished>>) {
        let answer = match self.submit(&work, &|| done.is_closed() || self.closing.is_cancelled()).await {
            Ok(answer) => answer,
            Err(error) => {
                let _ = done.send(Err(error));
                return;
            }
        };
        // A statement that ended at once may come without an id; any other can't be asked about.
        let statement_id = answer.statement_id.clone().unwrap_or_default();
        if answer.status.state.is_terminal() {
            let _ = done.send(self.settle(&work, statement_id, answer));
            return;
        }
        if statement_id.is_empty() {
            let _ = done.send(Err(lost(&work, Error::unavailable("Databricks took a statement without naming it"))));
            return;
        }
        let outcome = tokio::select! {
            outcome = self.wait(&work, &statement_id) => outcome,
            () = done.closed() => Err(Error::new(ErrorKind::Cancelled, "the query was cancelled")),
            () = self.closing.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the server is shutting down")),
        };
        match outcome {
            Ok(answer) => {
                let _ = done.send(self.settle(&work, statement_id, answer));
            }
            Err(error) => {
                let _ = done.send(Err(error));
                cancel(&self.client, &self.config, &work.who, &statement_id).await;
            }
        }
    }

    /// Sends the statement, once. A form of the result that is refused at the door wasn't run.
    async fn submit(&self, work: &Work, stop: &(dyn Fn() -> bool + Send + Sync)) -> Result<Answer> {
        let forms = self.forms();
        let from = usize::from(self.form.load(Ordering::Relaxed)).min(forms.len() - 1);
        let mut refused: Option<ApiError> = None;
        for (position, form) in forms.iter().enumerate().skip(from) {
            let body = self.body(work, *form);
            let mut call = Call::post(STATEMENTS, &body, Idempotency::ExecuteOnce)?.until(work.deadline);
            call.answer_grace = self.config.answer_grace;
            call.stop = Some(stop);
            call.taken = Some(work.findings.taken());
            match self.client.call::<Answer>(&work.who, call).await {
                Ok(answer) => {
                    self.form.fetch_max(u8::try_from(position).unwrap_or(u8::MAX), Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(failed) if failed.status() == Some(400) => {
                    refused.get_or_insert(failed);
                }
                Err(failed) if failed.outcome_unknown() => {
                    // A workspace that fails has most probably started nothing: its outage isn't paid for. Whoever
                    // stopped waiting pays for what it may have.
                    if failed.kind() != ErrorKind::DeadlineExceeded {
                        work.findings.taken().store(false, Ordering::Relaxed);
                    }
                    return Err(unknown(work, failed.into()));
                }
                Err(failed) => return Err(failed.into()),
            }
        }
        // The first refusal is of what was asked; the others may only be of how.
        Err(refused.map_or_else(|| Error::internal("no form of a result is left to ask for"), Error::from))
    }

    fn body<'a>(&'a self, work: &'a Work, form: Form) -> ExecuteBody<'a> {
        let left = work.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // An answer held back past the deadline would only come too late to cancel.
        let wait_seconds = match left {
            Some(left) if left < self.config.wait => 0,
            _ => self.config.wait.as_secs(),
        };
        ExecuteBody {
            statement: &work.statement.sql,
            warehouse_id: &self.config.warehouse_id,
            catalog: work.statement.catalog.as_deref(),
            schema: work.statement.schema.as_deref(),
            parameters: &work.statement.parameters,
            format: "ARROW_STREAM",
            disposition: form.disposition,
            result_compression: form.compression,
            wait_timeout: format!("{wait_seconds}s"),
            on_wait_timeout: "CONTINUE",
            query_tags: [(TAG, Some(work.query_id.to_string())), (TRACE_TAG, work.trace_id.clone())]
                .into_iter()
                .filter_map(|(key, value)| Some(Tag { key, value: value? }))
                .collect(),
        }
    }

    /// Polls until the statement has ended.
    async fn wait(&self, work: &Work, statement_id: &str) -> Result<Answer> {
        let path = format!("{STATEMENTS}/{}", segment(statement_id));
        let mut pause = self.config.poll_min;
        loop {
            if let Some(deadline) = work.deadline
                && deadline <= Instant::now() + pause
            {
                tokio::time::sleep_until(deadline.into()).await;
                return Err(deadline_passed());
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(1.5).min(self.config.poll_max);
            let answer: Answer = self.client.get(&work.who, &path, &[], work.deadline).await.map_err(|e| lost(work, e))?;
            match answer.status.state {
                State::Pending | State::Running => {}
                State::Unknown => return Err(lost(work, Error::unavailable("Databricks tells of a state that isn't known"))),
                State::Succeeded | State::Failed | State::Canceled | State::Closed => return Ok(answer),
            }
        }
    }

    fn settle(&self, work: &Work, statement_id: String, answer: Answer) -> Result<Finished> {
        match answer.status.state {
            // Closed: it succeeded, and what this answer holds is all there will be.
            State::Succeeded | State::Closed => Ok(Finished { statement_id, answer }),
            State::Failed | State::Canceled => Err(ended(work, sql_error::of_status(&answer.status))),
            State::Pending | State::Running | State::Unknown => {
                Err(lost(work, Error::internal("a statement is taken for ended that isn't")))
            }
        }
    }
}

/// A failure that leaves open whether the statement was taken. A query may run elsewhere, but not
/// here a second time; anything else may not be tried again at all.
fn unknown(work: &Work, error: Error) -> Error {
    if work.returns_rows && error.kind().may_fail_over() {
        return Error::new(ErrorKind::Internal, error.message()).context("it isn't known whether Databricks took the statement");
    }
    lost(work, error)
}

/// A failure that the statement itself ended with. Only a query is run again by who hears that the
/// warehouse couldn't just then.
fn ended(work: &Work, error: Error) -> Error {
    if work.returns_rows || error.kind() != ErrorKind::Unavailable {
        return error;
    }
    Error::new(ErrorKind::Internal, error.to_string())
}

/// A failure after the statement was taken. What isn't a query is never run again by whoever sees
/// its error: the kind says, as gRPC defines it, that it may have been carried out although its
/// answer didn't come.
pub(crate) fn lost(work: &Work, error: Error) -> Error {
    if work.returns_rows || !error.kind().may_fail_over() {
        return error;
    }
    Error::new(ErrorKind::DeadlineExceeded, format!("{error}; the statement may have been carried out and isn't tried again"))
}
