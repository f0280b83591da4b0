//! What is kept of a query after it ended: one row, and one row per candidate.

use serde::{Deserialize, Serialize};

use crate::{CandidateNumbers, Decision, ErrorKind, Features, Fingerprint, PredictionSource, QueryId, RefusalClass};

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Success,
    Error,
    Cancelled,
    /// No engine may run it.
    Refused,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Error => "error",
            Outcome::Cancelled => "cancelled",
            Outcome::Refused => "refused",
        }
    }

    /// Inverse of [`Outcome::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Outcome::Success, Outcome::Error, Outcome::Cancelled, Outcome::Refused].into_iter().find(|o| o.as_str() == text)
    }
}

/// Wall-clock times by phase, in microseconds; 0 for a phase that wasn't reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTimes {
    pub plan_us: u64,
    pub decide_us: u64,
    pub queue_us: u64,
    /// From submitting to the engine until the beginning of the result was here, over all tries.
    pub first_batch_us: u64,
    /// What the engine that answered took of it and was waited for afterwards: its own latency,
    /// whatever failed before and however slowly the client reads.
    #[serde(default)]
    pub engine_us: u64,
    /// From the first batch to the end of the stream; includes waiting for a slow client.
    pub stream_us: u64,
    pub total_us: u64,
}

/// One query, complete. The log's only input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryRecord {
    pub query_id: QueryId,
    /// Milliseconds since the Unix epoch, when the request arrived.
    pub started_unix_ms: i64,
    pub text: String,
    pub fingerprint: Option<Fingerprint>,
    /// `query`, `explain`, `show`, `set`...
    pub statement_kind: String,
    pub session_id: Option<String>,
    pub principal: String,
    pub catalog: String,
    pub schema: String,
    pub dialect: String,
    pub profile: Option<String>,
    pub tag: Option<String>,
    pub features: Features,
    pub decision: Option<Decision>,
    /// The engine that gave the answer, or was last tried.
    pub engine: Option<String>,
    pub plan_cache_hit: bool,
    pub times: PhaseTimes,
    pub rows: u64,
    /// Bytes of Arrow data handed to the client's stream.
    pub bytes: u64,
    pub outcome: Outcome,
    pub error_kind: Option<ErrorKind>,
    pub error_message: Option<String>,
    /// Engines that failed before the one that answered, in order, with the error.
    pub failovers: Vec<String>,
    /// US dollars it turned out to cost; `None` until that is known.
    #[serde(default)]
    pub usd_actual: Option<f64>,
    /// Peak of the memory that the engine held for it, in bytes; `None` where the engine doesn't say.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// What the engine really read of tables' files, caches' not counted, in bytes; `None` where that isn't known.
    #[serde(default)]
    pub read_bytes: Option<u64>,
    /// What a warehouse calls the statement.
    #[serde(default)]
    pub statement_id: Option<String>,
    /// Milliseconds that the warehouse worked on it, by the warehouse's own history; queues and starts excluded.
    #[serde(default)]
    pub warehouse_ms: Option<f64>,
    /// When its cost was checked against that history; milliseconds since the Unix epoch.
    #[serde(default)]
    pub reconciled_unix_ms: Option<i64>,
}

/// One candidate of one query, flattened for `system.decisions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateRecord {
    pub query_id: QueryId,
    pub engine: String,
    pub eligible: bool,
    pub chosen: bool,
    pub rank: Option<u32>,
    pub reason: String,
    pub predicted_ms: f64,
    pub predicted_usd: f64,
    pub predicted_bytes: u64,
    pub predicted_memory_bytes: u64,
    pub predicted_p95_ms: f64,
    pub predicted_memory_p95_bytes: u64,
    pub predicted_usd_p95: f64,
    pub predicted_p95_bytes: u64,
    pub source: PredictionSource,
    /// Runs that the prediction rests on.
    pub observations: u32,
}

impl QueryRecord {
    /// What was predicted for the engine that answered, or was tried last; for the chosen one as long as
    /// none was tried.
    pub fn predicted(&self) -> Option<&CandidateNumbers> {
        let decision = self.decision.as_ref()?;
        let ran = self.engine.as_deref().and_then(|engine| decision.candidates.iter().find(|c| c.engine.as_str() == engine));
        ran.or_else(|| decision.chosen()).map(|c| &c.numbers)
    }

    /// US dollars that its profile pays: what it cost or, where that isn't known, was predicted to; `None`
    /// where no engine was given it.
    pub fn spent_usd(&self) -> Option<f64> {
        self.engine.as_ref()?;
        self.usd_actual.or_else(|| self.predicted().map(|numbers| numbers.usd))
    }

    /// What was predicted for another engine, if it could have run the query or was left out by
    /// settings alone.
    pub fn predicted_on(&self, engine: &str) -> Option<&CandidateNumbers> {
        let candidate = self.decision.as_ref()?.candidates.iter().find(|c| c.engine.as_str() == engine)?;
        let by_settings = |class| matches!(class, RefusalClass::Policy | RefusalClass::Budget);
        candidate.refusal.as_ref().is_none_or(|r| by_settings(r.class)).then_some(&candidate.numbers)
    }

    /// The candidates as rows.
    pub fn candidates(&self) -> Vec<CandidateRecord> {
        let Some(decision) = &self.decision else { return Vec::new() };
        decision
            .candidates
            .iter()
            .map(|c| CandidateRecord {
                query_id: self.query_id,
                engine: c.engine.to_string(),
                eligible: c.refusal.is_none(),
                chosen: c.rank == Some(1),
                rank: c.rank,
                reason: c.reason.clone(),
                predicted_ms: c.numbers.latency_ms,
                predicted_usd: c.numbers.usd,
                predicted_bytes: c.numbers.scan_bytes,
                predicted_memory_bytes: c.numbers.memory_bytes,
                predicted_p95_ms: c.numbers.latency_p95_ms,
                predicted_memory_p95_bytes: c.numbers.memory_p95_bytes,
                predicted_usd_p95: c.numbers.usd_p95,
                predicted_p95_bytes: c.numbers.scan_bytes_p95,
                source: c.numbers.source,
                observations: c.numbers.observations,
            })
            .collect()
    }
}
