//! One candidate's tries at one query.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flightpath_catalog::TableContents;
use flightpath_engine::{Engine, Execution, Findings};
use flightpath_plan::{BoundTable, PlannedQuery};
use flightpath_types::{CandidateNumbers, EngineFacts, Error, ErrorKind, Result};
use tracing::Instrument;

use super::Runner;
use super::hold::Held;
use crate::admission::{Capacity, Demand, Permit};
use crate::learn::{CutShort, Lesson};
use crate::lifecycle::QueueClock;
use crate::trace;

/// A query under which an engine died this often isn't given to it again: it may be the cause.
const DEATHS_MAX: u32 = 3;

pub(super) struct Attempts<'a> {
    pub engine: &'a Arc<dyn Engine>,
    memory_bytes: u64,
    /// How long it may take while there is somebody else; once only.
    limit: Option<Duration>,
    /// Times it died while it ran this query, which may be the query's own doing.
    deaths: u32,
    may_retry: bool,
    /// Whether its runs teach the predictor.
    learns: bool,
}

/// The beginning of an answer.
pub(super) struct Answer {
    pub held: Held,
    pub permit: Permit,
    /// The engine as it was when it took the query.
    pub facts: EngineFacts,
    pub took: Duration,
    /// What the engine tells of the run.
    pub findings: Arc<Findings>,
}

/// A try that gave no answer.
pub(super) struct Failed {
    pub error: Error,
    /// The engine was running the query and had no memory for it.
    pub out_of_memory: bool,
    /// It was taken from the engine, which may yet have answered.
    pub too_slow: bool,
}

impl<'a> Attempts<'a> {
    pub fn new(engine: &'a Arc<dyn Engine>, numbers: &CandidateNumbers, limit: Option<Duration>, learns: bool) -> Self {
        Self { engine, memory_bytes: numbers.memory_bytes, limit, deaths: 0, may_retry: true, learns }
    }

    pub fn without_limit(self) -> Self {
        Self { limit: None, ..self }
    }

    pub fn may_retry(&self) -> bool {
        self.may_retry
    }

    /// Waits for a slot and runs the query up to the end of what is held. `others`: whether it may be taken away for being slow.
    pub async fn try_once(
        &mut self,
        runner: &Runner,
        query: &Arc<PlannedQuery>,
        execution: &Execution,
        others: bool,
        queued: &QueueClock,
    ) -> Result<Answer, Failed> {
        let capacity = || Capacity::of(self.engine.as_ref(), &self.engine.facts());
        // An engine that is paid by the query has no memory that queries here would share.
        let memory_bytes = if self.engine.is_metered() { 0 } else { self.memory_bytes };
        let demand = Demand { principal: &execution.principal, memory_bytes };
        let id = self.engine.id();
        let admitting = runner.admission.admit(id, self.engine.narrow_slots(query), capacity, demand, execution.deadline);
        let waiting = queued.begin();
        let admitted = admitting.instrument(trace::queue(self.engine.id())).await;
        drop(waiting);
        let permit = match admitted {
            Ok(permit) => {
                queued.admitted();
                permit
            }
            Err(error) => {
                self.may_retry = false;
                return Err(Failed { error, out_of_memory: false, too_slow: false });
            }
        };
        // As it is now: others may have woken it meanwhile.
        let facts = runner.facts(self.engine.as_ref());
        let begun = Instant::now();
        let mut reached = false;
        let span = trace::execute(self.engine.id());
        let findings = Arc::<Findings>::default();
        let learns = self.learns;
        let lesson = |facts, begun| Lesson::of(&runner.predictor, query, facts, begun, findings.clone()).filter(|_| learns);
        let cut_short = CutShort::new(lesson(facts.clone(), Duration::ZERO), execution.deadline);
        let execution = Execution { findings: findings.clone(), ..trace::carried_by(&span, execution) };
        let run = async {
            let stream = self.engine.execute(query.clone(), execution).await?;
            reached = true;
            runner.holds.hold(stream).await
        };
        let run = run.instrument(span.clone());
        // What costs money by itself has been paid for already.
        let limit = self.limit.filter(|_| others && !self.engine.is_metered());
        let outcome = match limit {
            None => Some(run.await),
            Some(limit) => {
                tokio::pin!(run);
                match tokio::time::timeout(limit, &mut run).await {
                    Ok(answer) => Some(answer),
                    // Others have moved before it: whatever slows it slows many, and it stays.
                    Err(_) if !runner.escalations.lock().take(Instant::now()) => Some(run.await),
                    Err(_) => None,
                }
            }
        };
        if !matches!(&outcome, Some(Err(error)) if error.kind() == ErrorKind::DeadlineExceeded) {
            cut_short.over();
        }
        trace::executed(&span, outcome.as_ref());
        drop(span);
        match outcome {
            Some(Ok(held)) => {
                runner.health.answered(self.engine.id(), query.fingerprint);
                Ok(Answer { held, permit, facts, took: begun.elapsed(), findings })
            }
            Some(Err(error)) => {
                if !findings.taken().load(Ordering::Relaxed) {
                    queued.turned_away();
                }
                let died = error.kind() == ErrorKind::Unavailable && (reached || findings.has_died());
                self.deaths += u32::from(died);
                if findings.has_died() {
                    runner.health.lost(self.engine.id(), query.fingerprint, Instant::now());
                }
                // A table that is read where it lies may be what didn't answer, or the log's database.
                let elsewhere =
                    |table: &BoundTable| table.snapshot.storage.is_some() || matches!(table.snapshot.contents, TableContents::System(_));
                if error.kind() == ErrorKind::Internal || !query.tables.iter().any(elsewhere) {
                    runner.health.failed(self.engine.id(), query.fingerprint, &error);
                }
                // Only an engine that was down or died may be alive again; out of memory stays out of memory.
                // What costs money by itself may have been carried out and isn't carried out twice.
                self.may_retry = error.kind() == ErrorKind::Unavailable && self.deaths < DEATHS_MAX && !self.engine.is_metered();
                // With a class it is something else that ran out: places in a worker's queue, files.
                let out_of_memory = error.kind() == ErrorKind::ResourceExhausted && error.class().is_none() && !self.engine.is_metered();
                if out_of_memory && let Some(lesson) = lesson(facts, begun.elapsed()) {
                    lesson.out_of_memory();
                }
                Err(Failed { error, out_of_memory, too_slow: false })
            }
            None => {
                if let Some(lesson) = lesson(facts, begun.elapsed()) {
                    lesson.too_slow();
                }
                // If nobody else answers either, it gets all the time it needs.
                let limit_ms = self.limit.take().unwrap_or_default().as_millis();
                let error = Error::unavailable(format!("took longer than {limit_ms} ms, far more than predicted"));
                Err(Failed { error, out_of_memory: false, too_slow: true })
            }
        }
    }
}
