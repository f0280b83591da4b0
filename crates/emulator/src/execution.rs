//! A statement's life: pending until its warehouse is up and has a place, running, then one of the
//! terminal states, which it never leaves but for CLOSED. Cancelling drops the engine's stream,
//! which ends the work.

use std::sync::Arc;
use std::time::Duration;

use flightpath_types::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::faults::Effect;
use crate::lakehouse::{Answer, Asked, Form};
use crate::results::{Chunk, ResultSet, Wanted, collect};
use crate::state::App;
use crate::warehouses::{Waited, Warehouse};
use crate::wire::now_ms;
use crate::writes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementState {
    Pending,
    Running,
    Succeeded,
    Failed,
    Canceled,
    Closed,
}

impl StatementState {
    pub fn as_str(self) -> &'static str {
        match self {
            StatementState::Pending => "PENDING",
            StatementState::Running => "RUNNING",
            StatementState::Succeeded => "SUCCEEDED",
            StatementState::Failed => "FAILED",
            StatementState::Canceled => "CANCELED",
            StatementState::Closed => "CLOSED",
        }
    }

    pub fn is_terminal(self) -> bool {
        !matches!(self, StatementState::Pending | StatementState::Running)
    }

    /// As the query history calls it.
    pub fn in_history(self) -> &'static str {
        match self {
            StatementState::Pending => "QUEUED",
            StatementState::Running => "RUNNING",
            StatementState::Succeeded | StatementState::Closed => "FINISHED",
            StatementState::Failed => "FAILED",
            StatementState::Canceled => "CANCELED",
        }
    }
}

/// Where a statement stands. Instants in milliseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub state: StatementState,
    pub error: Option<Error>,
    pub result: Option<Arc<ResultSet>>,
    pub waited: Waited,
    pub running_from: Option<i64>,
    pub ended: Option<i64>,
}

/// One statement of the workspace.
pub(crate) struct Entry {
    pub id: String,
    pub asked: Asked,
    pub wanted: Wanted,
    pub warehouse: String,
    pub tags: Vec<(String, String)>,
    pub received: i64,
    pub cancel: CancellationToken,
    pub progress: watch::Sender<Progress>,
}

impl Entry {
    pub fn now(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits for a terminal state, but not longer than this.
    pub async fn settled(&self, at_most: Duration) {
        let mut progress = self.progress.subscribe();
        // Ending in an error means that the statement is gone, which `now` tells.
        let _ = tokio::time::timeout(at_most, progress.wait_for(|p| p.state.is_terminal())).await;
    }

    fn end(&self, state: StatementState, error: Option<Error>, result: Option<Arc<ResultSet>>) {
        self.progress.send_modify(|p| {
            if !p.state.is_terminal() {
                (p.state, p.error, p.result, p.ended) = (state, error, result, Some(now_ms()));
            }
        });
    }

    /// Its result can't be fetched any more.
    pub fn close(&self) {
        self.progress.send_modify(|p| {
            if p.state == StatementState::Succeeded {
                (p.state, p.result) = (StatementState::Closed, None);
            }
        });
    }
}

/// Runs the statement to its end.
pub(crate) async fn run(app: App, entry: Arc<Entry>, warehouse: Arc<Warehouse>) {
    let cancelled = async {
        tokio::select! {
            () = entry.cancel.cancelled() => {}
            () = app.ending.cancelled() => {}
        }
    };
    let outcome = tokio::select! {
        outcome = work(&app, &entry, &warehouse) => outcome,
        () = cancelled => {
            entry.end(StatementState::Canceled, None, None);
            return;
        }
    };
    match outcome {
        Ok(result) => entry.end(StatementState::Succeeded, None, Some(Arc::new(result))),
        Err(error) => entry.end(StatementState::Failed, Some(error), None),
    }
}

async fn work(app: &App, entry: &Entry, warehouse: &Arc<Warehouse>) -> Result<ResultSet> {
    let mut waited = Waited::default();
    let _place = warehouse.admit(&mut waited).await;
    entry.progress.send_modify(|p| {
        (p.state, p.waited, p.running_from) = (StatementState::Running, waited, Some(now_ms()));
    });
    if app.faults.statement(Effect::NeverFinish, &entry.asked.text) {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_millis(warehouse.config.base_latency_ms)).await;
    let settings = app.settings();
    let answer: Answer = match Form::of(&entry.asked.text) {
        Form::Write => writes::run(&app.lake, &entry.asked).await?,
        Form::Query | Form::About { .. } | Form::Command => app.lake.answer(&entry.asked).await?,
    };
    let mut result = collect(answer, entry.wanted, &settings, &app.spool).await?;
    if app.faults.statement(Effect::WrongRowCount, &entry.asked.text) {
        promise_one_more(&mut result);
    }
    Ok(result)
}

fn promise_one_more(result: &mut ResultSet) {
    result.rows += 1;
    if let Some(Chunk { row_count, .. }) = result.chunks.last_mut() {
        *row_count += 1;
    }
}

/// The open string that `status.error.error_code` holds.
pub(crate) fn error_code(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidArgument
        | ErrorKind::NotFound
        | ErrorKind::NotEligible
        | ErrorKind::PermissionDenied
        | ErrorKind::Unauthenticated
        | ErrorKind::Raised => "BAD_REQUEST",
        ErrorKind::ResourceExhausted => "RESOURCE_EXHAUSTED",
        ErrorKind::DeadlineExceeded => "DEADLINE_EXCEEDED",
        ErrorKind::Cancelled => "CANCELLED",
        ErrorKind::Unavailable => "TEMPORARILY_UNAVAILABLE",
        ErrorKind::DataLoss => "IO_ERROR",
        ErrorKind::Internal => "INTERNAL_ERROR",
    }
}
