//! A query's record in the making. The stages are types, so that a stage can't be skipped; the
//! record is written exactly once: by `finish`, or by `Drop`, which means the client went away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flightpath_querylog::Recorder;
use flightpath_types::{
    Candidate, Decision, Dialect, EngineId, Error, ErrorKind, Features, Fingerprint, Outcome, PhaseTimes, QueryId, QueryRecord,
    RefusalClass, Session,
};
use tracing::Span;

use crate::learn::Bill;
use crate::policy::Charge;
use crate::trace::QueryTrace;

/// Arrived, nothing known yet.
pub(crate) struct Received;
/// Planned and decided.
pub(crate) struct Planned;
/// Its first batch is there.
pub(crate) struct Running {
    first_batch: Instant,
}

pub(crate) struct QueryToken<Stage> {
    draft: Draft,
    stage: Stage,
}

/// Writes itself when dropped.
struct Draft {
    record: Option<QueryRecord>,
    started: Instant,
    recorder: Recorder,
    trace: QueryTrace,
    queue: QueueClock,
    /// What its profile pays for it.
    charge: Option<Charge>,
    /// The decision chose nobody.
    refused: bool,
}

/// The time that a query waits for engines' slots, counted however each wait ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueueClock(Arc<Waits>);

#[derive(Debug, Default)]
struct Waits {
    micros: AtomicU64,
    /// One of them ended with a slot.
    admitted: AtomicBool,
}

/// One wait.
pub(crate) struct QueueWait {
    clock: QueueClock,
    since: Instant,
}

impl QueueClock {
    pub fn begin(&self) -> QueueWait {
        QueueWait { clock: self.clone(), since: Instant::now() }
    }

    pub fn micros(&self) -> u64 {
        self.0.micros.load(Ordering::Relaxed)
    }

    pub fn admitted(&self) {
        self.0.admitted.store(true, Ordering::Relaxed);
    }
}

impl Drop for QueueWait {
    fn drop(&mut self) {
        self.clock.0.micros.fetch_add(micros(self.since.elapsed()), Ordering::Relaxed);
    }
}

/// What planning found out.
pub(crate) struct PlanSummary {
    pub statement_kind: &'static str,
    pub fingerprint: Option<Fingerprint>,
    pub features: Features,
    pub cache_hit: bool,
    pub plan_us: u64,
    pub decide_us: u64,
    pub decision: Option<Decision>,
}

impl QueryToken<Received> {
    pub fn receive(
        recorder: &Recorder,
        query_id: QueryId,
        text: &str,
        session_id: &str,
        settings: &Session,
        traceparent: Option<&str>,
    ) -> Self {
        let trace = QueryTrace::begin(query_id, text, settings, traceparent);
        let record = QueryRecord {
            query_id,
            started_unix_ms: unix_ms(),
            text: recorded_text(text),
            fingerprint: None,
            statement_kind: "unknown".into(),
            session_id: Some(session_id.to_string()),
            principal: settings.principal.to_string(),
            catalog: settings.catalog.clone(),
            schema: settings.schema.clone(),
            dialect: match settings.dialect {
                Dialect::Databricks => "databricks".into(),
                Dialect::Duckdb => "duckdb".into(),
            },
            profile: settings.profile.clone(),
            tag: settings.tag.clone(),
            features: Features::default(),
            decision: None,
            engine: None,
            plan_cache_hit: false,
            times: PhaseTimes::default(),
            rows: 0,
            bytes: 0,
            outcome: Outcome::Cancelled,
            error_kind: None,
            error_message: None,
            failovers: Vec::new(),
            usd_actual: None,
            memory_bytes: None,
            statement_id: None,
            warehouse_ms: None,
            reconciled_unix_ms: None,
        };
        let draft = Draft {
            record: Some(record),
            started: Instant::now(),
            recorder: recorder.clone(),
            trace,
            queue: QueueClock::default(),
            charge: None,
            refused: false,
        };
        Self { draft, stage: Received }
    }

    /// It arrived before this record of it was begun.
    pub fn begun(mut self, at: Instant) -> Self {
        self.draft.started = at;
        self
    }

    pub fn planned(mut self, summary: PlanSummary) -> QueryToken<Planned> {
        if let Some(record) = &mut self.draft.record {
            record.statement_kind = summary.statement_kind.to_string();
            record.fingerprint = summary.fingerprint;
            record.features = summary.features;
            record.plan_cache_hit = summary.cache_hit;
            record.times.plan_us = summary.plan_us;
            record.times.decide_us = summary.decide_us;
            // What was asked for, or assigned; a budget may have handed it down.
            if let Some(profile) = summary.decision.as_ref().and_then(|d| d.profile.clone()) {
                record.profile = Some(profile);
            }
            record.decision = summary.decision;
        }
        QueryToken { draft: self.draft, stage: Planned }
    }
}

impl QueryToken<Planned> {
    pub fn queue_clock(&self) -> &QueueClock {
        &self.draft.queue
    }

    /// Its profile pays: what it cost once that's known, what was predicted where it isn't, and nothing
    /// where no engine was given it.
    pub fn charged(&mut self, charge: Option<Charge>) {
        self.draft.charge = charge;
    }

    /// The decision chose nobody.
    pub fn refuse(mut self, error: &Error) {
        self.draft.refused = true;
        self.draft.finish(Err(error));
    }

    pub fn trying(&mut self, engine: &EngineId) {
        if let Some(record) = &mut self.draft.record {
            record.engine = Some(engine.to_string());
        }
    }

    pub fn failed_over(&mut self, engine: &EngineId, error: &Error) {
        if let Some(record) = &mut self.draft.record {
            record.failovers.push(format!("{engine}: {error}"));
        }
    }

    /// Planned and decided once more, for the reason that `error` gives.
    pub fn replanned(&mut self, error: &Error, features: &Features, decision: &Decision) {
        if let Some(record) = &mut self.draft.record {
            let engine = record.engine.as_deref().unwrap_or("?");
            record.failovers.push(format!("{engine}: {error}; planned again"));
            record.features = features.clone();
            record.decision = Some(decision.clone());
        }
    }

    /// Who failed before, with the error.
    #[cfg(test)]
    pub fn failovers(&self) -> &[String] {
        self.draft.record.as_ref().map_or(&[], |record| &record.failovers)
    }

    /// `waited_us`: from the first try to the first batch, waiting for slots excluded; `engine_us`
    /// of it on the engine that answers.
    pub fn running(mut self, waited_us: u64, engine_us: u64) -> QueryToken<Running> {
        if let Some(record) = &mut self.draft.record {
            record.times.first_batch_us = waited_us;
            record.times.engine_us = engine_us;
            self.draft.trace.streaming(record.engine.as_deref());
        }
        QueryToken { draft: self.draft, stage: Running { first_batch: Instant::now() } }
    }
}

impl QueryToken<Running> {
    /// What batches are handed out under.
    pub fn stream_span(&self) -> &Span {
        self.draft.trace.stream_span()
    }

    pub fn sent(&mut self, rows: u64, bytes: u64) {
        if let Some(record) = &mut self.draft.record {
            record.rows += rows;
            record.bytes += bytes;
        }
    }

    /// `waited`: for the engine, after the first batch. A stream that is dropped before has no bill. The
    /// engine's time that the query pays for.
    pub fn finish(mut self, result: Result<(), &Error>, waited: Duration, bill: Option<Bill>) -> Duration {
        let mut billed = Duration::ZERO;
        let stream_us = micros(self.stage.first_batch.elapsed());
        if let Some(record) = &mut self.draft.record {
            record.times.stream_us = stream_us;
            record.times.engine_us = record.times.engine_us.saturating_add(micros(waited));
            if let Some(bill) = bill {
                let (usd, time) = bill.settle(record.times.engine_us, record.bytes);
                (record.usd_actual, billed) = (Some(usd), time);
                record.memory_bytes = bill.findings.memory_bytes_peak();
                record.statement_id = bill.findings.statement_id().map(str::to_string);
            }
        }
        self.draft.finish(result);
        billed
    }
}

impl<Stage> QueryToken<Stage> {
    /// What is done for the query is part of this.
    pub fn span(&self) -> &Span {
        self.draft.trace.span()
    }

    pub fn fail(mut self, error: &Error) {
        self.draft.finish(Err(error));
    }
}

impl Draft {
    fn finish(&mut self, result: Result<(), &Error>) {
        let Some(mut record) = self.record.take() else { return };
        record.times.total_us = micros(self.started.elapsed());
        record.times.queue_us = self.queue.micros();
        if record.engine.is_some() && !self.queue.0.admitted.load(Ordering::Relaxed) {
            // It has waited in vain: nothing ran that anybody pays for.
            record.usd_actual = Some(0.0);
        }
        record.outcome = match result {
            Ok(()) => Outcome::Success,
            Err(error) => {
                record.error_kind = Some(error.kind());
                record.error_message = Some(recorded_error(error, record.decision.as_ref()));
                match error.kind() {
                    ErrorKind::NotEligible | ErrorKind::PermissionDenied => Outcome::Refused,
                    // Its profile has nothing left to spend. Where engines are down, that's an error.
                    ErrorKind::ResourceExhausted if self.refused => Outcome::Refused,
                    ErrorKind::Cancelled => Outcome::Cancelled,
                    ErrorKind::InvalidArgument
                    | ErrorKind::NotFound
                    | ErrorKind::Unauthenticated
                    | ErrorKind::Raised
                    | ErrorKind::ResourceExhausted
                    | ErrorKind::DeadlineExceeded
                    | ErrorKind::Unavailable
                    | ErrorKind::DataLoss
                    | ErrorKind::Internal => Outcome::Error,
                }
            }
        };
        self.trace.end(&record, result);
        self.recorder.record(&record);
        if let Some(charge) = self.charge.take() {
            charge.settle(record.spent_usd());
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.record.is_some() {
            self.finish(Err(&Error::new(ErrorKind::Cancelled, "the client went away")));
        }
    }
}

/// What is kept of an error. One that a query over governed tables raised may hold a value that its
/// asker may see and the log's readers may not: of it, class and SQL state are kept.
fn recorded_error(error: &Error, decision: Option<&Decision>) -> String {
    let refused_for_rules = |c: &Candidate| c.refusal.as_ref().is_some_and(|r| r.class == RefusalClass::Governance);
    let governed = decision.is_some_and(|d| d.candidates.iter().any(refused_for_rules));
    if !governed || error.kind() != ErrorKind::Raised {
        return error.to_string();
    }
    let class = error.class().unwrap_or("error");
    let state = error.sql_state().map(|state| format!(" SQLSTATE: {state}")).unwrap_or_default();
    format!("[{class}] the message isn't kept: the query read governed tables{state}")
}

/// Longer statements are cut in the record; their length is kept.
const TEXT_BYTES_MAX: usize = 64 << 10;

fn recorded_text(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_string();
    }
    let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}... ({} bytes in all)", &text[..end], text.len())
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
