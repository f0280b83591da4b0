//! From a decision to the first batch: candidates are tried in order until one answers. Until then
//! nothing has reached the client, so another try is safe; after that there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use flightpath_engine::{BatchStream, Engine, Execution};
use flightpath_plan::PlannedQuery;
use flightpath_types::{Decision, EngineId, EngineState, Error, ErrorKind, Result};
use futures::StreamExt;

use crate::admission::{Admission, Permit};
use crate::lifecycle::{Planned, QueryToken, micros};

/// How often the whole list is gone through again when every candidate died under the query.
const ROUNDS_MAX: u32 = 8;
/// Pause before the second round; doubles. A worker's death is noticed within the first ones.
const ROUND_PAUSE: Duration = Duration::from_millis(25);
/// How long a query waits for an engine that is being restarted.
pub(crate) const RECOVERY_WAIT_MAX: Duration = Duration::from_secs(10);
const RECOVERY_POLL: Duration = Duration::from_millis(20);

/// A query whose first batch is here (or that ended without one).
pub(crate) struct Started {
    pub first: Option<RecordBatch>,
    pub rest: BatchStream,
    pub permit: Permit,
    /// Microseconds from the first try to the first batch, slots' queues excluded.
    pub waited_us: u64,
}

pub(crate) async fn run_until_first_batch(
    engines: &[Arc<dyn Engine>],
    admission: &Admission,
    query: &Arc<PlannedQuery>,
    decision: &Decision,
    execution: &Execution,
    token: &mut QueryToken<Planned>,
) -> Result<Started> {
    let begun = Instant::now();
    let mut queued = Duration::ZERO;
    let candidates: Vec<&Arc<dyn Engine>> =
        decision.ranked().filter_map(|c| engines.iter().find(|engine| *engine.id() == c.engine)).collect();
    let mut last_error = Error::not_eligible(decision.refusals_text());
    for round in 0..ROUNDS_MAX {
        if round > 0 && !wait_for_recovery(&candidates, ROUND_PAUSE * (1 << (round - 1)), execution.deadline).await {
            break;
        }
        for engine in &candidates {
            token.trying(engine.id());
            match try_engine(engine, admission, query, execution, &mut queued).await {
                Ok((first, rest, permit)) => {
                    token.queued(micros(queued));
                    return Ok(Started { first, rest, permit, waited_us: micros(begun.elapsed().saturating_sub(queued)) });
                }
                // An engine may find out only at a value that it can't answer as Databricks does.
                Err(error) if error.kind().may_fail_over() || error.kind() == ErrorKind::NotEligible => {
                    tracing::warn!(query_id = %execution.query_id, engine = %engine.id(), %error, "an engine failed before its first batch");
                    token.failed_over(engine.id(), &error);
                    last_error = error;
                }
                Err(error) => return Err(error),
            }
        }
        // Only an engine that died may be alive again; out of memory stays out of memory.
        if last_error.kind() != ErrorKind::Unavailable {
            break;
        }
    }
    Err(last_error)
}

async fn try_engine(
    engine: &Arc<dyn Engine>,
    admission: &Admission,
    query: &Arc<PlannedQuery>,
    execution: &Execution,
    queued: &mut Duration,
) -> Result<(Option<RecordBatch>, BatchStream, Permit)> {
    let arrived = Instant::now();
    let permit = admission.admit(engine.id(), execution.deadline).await?;
    *queued += arrived.elapsed();
    let mut stream = engine.execute(query.clone(), execution.clone()).await?;
    match stream.next().await {
        Some(first) => Ok((Some(first?), stream, permit)),
        // A stream that has ended may not be polled again.
        None => Ok((None, futures::stream::empty().boxed(), permit)),
    }
}

/// True once one of the candidates takes work again, `pause` from now at the earliest.
async fn wait_for_recovery(candidates: &[&Arc<dyn Engine>], pause: Duration, deadline: Option<Instant>) -> bool {
    let limit = Instant::now() + RECOVERY_WAIT_MAX;
    let until = deadline.map_or(limit, |d| d.min(limit));
    tokio::time::sleep_until((Instant::now() + pause).min(until).into()).await;
    loop {
        if candidates.iter().any(|engine| engine.facts().state == EngineState::Ready) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(RECOVERY_POLL).await;
    }
}

/// Waits until one of these engines takes work again; false when none does in time.
pub(crate) async fn wait_for_any(engines: &[Arc<dyn Engine>], wanted: &[EngineId], deadline: Option<Instant>) -> bool {
    let candidates: Vec<&Arc<dyn Engine>> = engines.iter().filter(|engine| wanted.contains(engine.id())).collect();
    !candidates.is_empty() && wait_for_recovery(&candidates, Duration::ZERO, deadline).await
}
