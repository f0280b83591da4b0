//! A query's record in the making. The stages are types, so that a stage can't be skipped; the
//! record is written exactly once: by `finish`, or by `Drop`, which means the client went away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flightpath_engine::Findings;
use flightpath_querylog::Recorder;
use flightpath_types::{
    Decision, Dialect, EngineId, Error, ErrorKind, Features, Fingerprint, Outcome, PhaseTimes, QueryId, QueryRecord, Session,
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
pub(crate) struct Running;

pub(crate) struct QueryToken<Stage> {
    draft: Draft,
    _stage: Stage,
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
    /// What engines raise may hold values that the log's readers may not see.
    governed: bool,
    /// Since its first batch was there.
    first_batch: Option<Instant>,
    /// Of the engine that answers.
    findings: Option<Arc<Findings>>,
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

    /// The engine hasn't taken it all the same.
    pub fn turned_away(&self) {
        self.0.admitted.store(false, Ordering::Relaxed);
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
    /// What engines raise may hold values that the log's readers may not see.
    pub governed: bool,
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
            text: shortened(text, TEXT_BYTES_MAX),
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
            read_bytes: None,
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
            governed: false,
            first_batch: None,
            findings: None,
        };
        Self { draft, _stage: Received }
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
        self.draft.governed = summary.governed;
        QueryToken { draft: self.draft, _stage: Planned }
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
        let why = self.draft.recorded(error);
        if let Some(record) = &mut self.draft.record {
            record.failovers.push(format!("{engine}: {why}"));
        }
    }

    /// Planned and decided once more, for the reason that `error` gives.
    pub fn replanned(&mut self, error: &Error, features: &Features, decision: &Decision, governed: bool) {
        self.draft.governed |= governed;
        let why = self.draft.recorded(error);
        if let Some(record) = &mut self.draft.record {
            let engine = record.engine.as_deref().unwrap_or("?");
            record.failovers.push(format!("{engine}: {why}; planned again"));
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
    pub fn running(mut self, waited_us: u64, engine_us: u64, findings: Option<Arc<Findings>>) -> QueryToken<Running> {
        if let Some(record) = &mut self.draft.record {
            record.times.first_batch_us = waited_us;
            record.times.engine_us = engine_us;
            self.draft.trace.streaming(record.engine.as_deref());
        }
        (self.draft.first_batch, self.draft.findings) = (Some(Instant::now()), findings);
        QueryToken { draft: self.draft, _stage: Running }
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
        if let Some(record) = &mut self.draft.record {
            record.times.engine_us = record.times.engine_us.saturating_add(micros(waited));
            if let Some(bill) = bill {
                let (usd, time) = bill.settle(record.times.engine_us, record.bytes);
                (record.usd_actual, billed) = (Some(usd), time);
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
    /// What is kept of an error. One that an engine gave for a query over governed tables may hold a value that
    /// its asker may see and the log's readers may not: of it, kind, class and SQL state are kept.
    fn recorded(&self, error: &Error) -> String {
        let told_by_engine = match error.kind() {
            ErrorKind::Raised | ErrorKind::InvalidArgument | ErrorKind::Internal | ErrorKind::DataLoss => true,
            ErrorKind::NotFound
            | ErrorKind::NotEligible
            | ErrorKind::PermissionDenied
            | ErrorKind::Unauthenticated
            | ErrorKind::ResourceExhausted
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Cancelled
            | ErrorKind::Unavailable => false,
        };
        if !self.governed || !told_by_engine {
            return shortened(&error.to_string(), ERROR_BYTES_MAX);
        }
        let class = error.class().unwrap_or(error.kind().as_str());
        let state = error.sql_state().map(|state| format!(" SQLSTATE: {state}")).unwrap_or_default();
        format!("[{class}] the message isn't kept: the query read governed tables{state}")
    }

    fn finish(&mut self, result: Result<(), &Error>) {
        let Some(mut record) = self.record.take() else { return };
        record.times.total_us = micros(self.started.elapsed());
        record.times.queue_us = self.queue.micros();
        record.times.stream_us = self.first_batch.map_or(0, |at| micros(at.elapsed()));
        if let Some(findings) = &self.findings {
            record.memory_bytes = findings.memory_bytes_peak();
            record.read_bytes = findings.read_bytes();
            record.statement_id = findings.statement_id().map(str::to_string);
        }
        if record.engine.is_some() && !self.queue.0.admitted.load(Ordering::Relaxed) {
            // It has waited in vain: nothing ran that anybody pays for.
            record.usd_actual = Some(0.0);
        }
        record.outcome = match result {
            Ok(()) => Outcome::Success,
            Err(error) => {
                record.error_kind = Some(error.kind());
                record.error_message = Some(self.recorded(error));
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
            self.finish(Err(&client_gone()));
        }
    }
}

/// How a query ends whose client has left.
pub(crate) fn client_gone() -> Error {
    Error::new(ErrorKind::Cancelled, "the client went away")
}

/// Longer statements are cut in the record; their length is kept.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// And errors, which may quote a statement.
const ERROR_BYTES_MAX: usize = 4 << 10;

fn shortened(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_string();
    }
    format!("{}... ({} bytes in all)", &text[..text.floor_char_boundary(bytes_max)], text.len())
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
