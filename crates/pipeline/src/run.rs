//! From a decision to the first batch: candidates are tried in order until one answers. Until then
//! nothing has reached the client, so another try is safe; after that there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use flightpath_engine::{BatchStream, Engine, Execution};
use flightpath_plan::PlannedQuery;
use flightpath_types::{Decision, EngineId, EngineState, Error, ErrorKind, Result};
use futures::StreamExt;
use tracing::Instrument;

use crate::admission::{Admission, Permit};
use crate::lifecycle::{Planned, QueryToken, micros};
use crate::trace;

/// How often the whole list is gone through again when every candidate died under the query.
const ROUNDS_MAX: u32 = 8;
/// A query under which an engine died this often isn't given to it again: it may be the cause.
const DEATHS_MAX: u32 = 3;
/// Pause before the second round; doubles. A worker's death is noticed within the first ones.
const ROUND_PAUSE: Duration = Duration::from_millis(25);
/// Bytes of a result that are here before any of them leaves.
const HELD_BYTES: usize = 1 << 20;
/// How long a query waits for an engine that is being restarted.
pub(crate) const RECOVERY_WAIT_MAX: Duration = Duration::from_secs(10);
const RECOVERY_POLL: Duration = Duration::from_millis(20);

/// How often a statement may be given to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    /// It only reads: elsewhere or again, until one answers.
    UntilAnswered,
    /// It changes something: an engine that fails may have carried it out.
    Once,
}

/// A query whose first batch is here (or that ended without one).
pub(crate) struct Started {
    pub first: Option<RecordBatch>,
    pub rest: BatchStream,
    pub permit: Permit,
    /// Who answers.
    pub engine: EngineId,
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
    tries: Tries,
) -> Result<Started> {
    let begun = Instant::now();
    let mut queued = Duration::ZERO;
    let mut candidates: Vec<Attempts<'_>> = decision
        .ranked()
        .filter_map(|c| engines.iter().find(|engine| *engine.id() == c.engine))
        .map(|engine| Attempts { engine, deaths: 0, may_retry: true })
        .collect();
    let mut failure = Error::not_eligible(decision.refusals_text());
    let rounds = match tries {
        Tries::UntilAnswered => ROUNDS_MAX,
        Tries::Once => {
            candidates.truncate(1);
            1
        }
    };
    for round in 0..rounds {
        if round > 0 {
            candidates.retain(|c| c.may_retry);
            let engines: Vec<&Arc<dyn Engine>> = candidates.iter().map(|c| c.engine).collect();
            if engines.is_empty() || !wait_for_recovery(&engines, ROUND_PAUSE * (1 << (round - 1)), execution.deadline).await {
                break;
            }
        }
        let count = candidates.len();
        for (position, candidate) in candidates.iter_mut().enumerate() {
            token.trying(candidate.engine.id());
            let error = match candidate.try_once(admission, query, execution, &mut queued).await {
                Ok((first, rest, permit)) => {
                    token.queued(micros(queued));
                    let engine = candidate.engine.id().clone();
                    return Ok(Started { first, rest, permit, engine, waited_us: micros(begun.elapsed().saturating_sub(queued)) });
                }
                Err(error) => error,
            };
            if !may_try_another(&error, position + 1 < count) {
                // A second opinion that isn't one doesn't replace what the first engine raised.
                return Err(if failure.kind() == ErrorKind::Raised { failure } else { error });
            }
            tracing::warn!(query_id = %execution.query_id, engine = %candidate.engine.id(), %error, "an engine failed before its first batch");
            token.failed_over(candidate.engine.id(), &error);
            failure = graver(failure, error);
        }
        if failure.kind() == ErrorKind::Raised {
            break;
        }
    }
    Err(failure)
}

/// Whether this failure leaves the query to other candidates.
fn may_try_another(error: &Error, others: bool) -> bool {
    match error.kind() {
        // An engine may find out only at a value that it can't answer as Databricks does.
        ErrorKind::NotEligible => true,
        // Engines compute in their own widths: an overflow counts once no other engine can tell.
        ErrorKind::Raised => others && error.class() == Some("ARITHMETIC_OVERFLOW"),
        kind => kind.may_fail_over(),
    }
}

/// What the client hears when nobody answered: an error of the query's own, else that an engine
/// died, else the latest.
fn graver(before: Error, now: Error) -> Error {
    match (before.kind(), now.kind()) {
        (ErrorKind::Raised, _) => before,
        (ErrorKind::Unavailable, kind) if kind != ErrorKind::Raised => before,
        _ => now,
    }
}

/// One candidate's tries at one query.
struct Attempts<'a> {
    engine: &'a Arc<dyn Engine>,
    /// Times it died while it ran this query, which may be the query's own doing.
    deaths: u32,
    may_retry: bool,
}

impl Attempts<'_> {
    async fn try_once(
        &mut self,
        admission: &Admission,
        query: &Arc<PlannedQuery>,
        execution: &Execution,
        queued: &mut Duration,
    ) -> Result<(Option<RecordBatch>, BatchStream, Permit)> {
        let arrived = Instant::now();
        let permit = admission
            .admit(self.engine.id(), execution.deadline)
            .instrument(trace::queue(self.engine.id()))
            .await
            .inspect_err(|_| self.may_retry = false)?;
        *queued += arrived.elapsed();
        let mut reached = false;
        let span = trace::execute(self.engine.id());
        let execution = trace::carried_by(&span, execution);
        let outcome: Result<(Option<RecordBatch>, BatchStream)> = async {
            let stream = self.engine.execute(query.clone(), execution).await?;
            reached = true;
            hold(stream).await
        }
        .instrument(span.clone())
        .await;
        trace::executed(&span, &outcome);
        if let Err(error) = &outcome {
            self.deaths += u32::from(reached);
            // Only an engine that was down or died may be alive again; out of memory stays out of memory.
            // What costs money by itself may have been carried out and isn't carried out twice.
            self.may_retry = error.kind() == ErrorKind::Unavailable && self.deaths < DEATHS_MAX && !self.engine.is_metered();
        }
        outcome.map(|(first, rest)| (first, rest, permit))
    }
}

/// Keeps the beginning of a result back: one that is small is here as a whole before any of it
/// leaves, so that an engine's death in its midst can still be made good.
async fn hold(mut stream: BatchStream) -> Result<(Option<RecordBatch>, BatchStream)> {
    let (mut held, mut bytes) = (Vec::new(), 0);
    while bytes < HELD_BYTES {
        match stream.next().await {
            Some(batch) => {
                let batch = batch?;
                bytes += batch.get_array_memory_size();
                held.push(batch);
            }
            None => {
                // A stream that has ended may not be polled again.
                stream = futures::stream::empty().boxed();
                break;
            }
        }
    }
    let mut held = held.into_iter();
    let first = held.next();
    Ok((first, futures::stream::iter(held.map(Ok)).chain(stream).boxed()))
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
