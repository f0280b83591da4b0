//! Records as rows to be written, each value as its column takes it. How many rows go into one
//! statement, and in which form, is each database's own.

use flightpath_types::{QueryRecord, Result};

use crate::history::DATABRICKS;
use crate::rows::{json, signed, storable};

/// Gives a macro the columns of `queries`, which are the fields of [`NewQuery`], with PostgreSQL's
/// names of their types: whatever is written is written in this order.
macro_rules! query_columns {
    ($with:ident $($before:tt)*) => {
        $with! { $($before)*
            query_id: text, started_unix_ms: int8, text: text, fingerprint: text, statement_kind: text, session_id: text,
            principal: text, catalog: text, schema_name: text, dialect: text, profile: text, tag: text, engine: text,
            outcome: text, error_kind: text, error_message: text, plan_cache_hit: bool, plan_us: int8, decide_us: int8,
            queue_us: int8, first_batch_us: int8, stream_us: int8, total_us: int8, result_rows: int8, result_bytes: int8,
            features: text, decision: text, failovers: text, usd_actual: float8, engine_us: int8, predicted_ms: float8,
            predicted_usd: float8, predicted_bytes: int8, predicted_memory_bytes: int8, databricks_ms: float8,
            databricks_usd: float8, predicted_p95_ms: float8, memory_bytes: int8, statement_id: text, warehouse_ms: float8,
            reconciled_unix_ms: int8, predicted_usd_p95: float8, read_bytes: int8, predicted_p95_bytes: int8
        }
    };
}

/// The same for `candidates` and [`NewCandidate`].
macro_rules! candidate_columns {
    ($with:ident $($before:tt)*) => {
        $with! { $($before)*
            query_id: text, position: int4, engine: text, eligible: bool, chosen: bool, rank: int4, reason: text,
            predicted_ms: float8, predicted_usd: float8, predicted_bytes: int8, predicted_memory_bytes: int8,
            predicted_p95_ms: float8, predicted_memory_p95_bytes: int8, source: text, observations: int4,
            predicted_usd_p95: float8, predicted_p95_bytes: int8
        }
    };
}

/// `a, b, c`
macro_rules! names {
    ($first:ident: $first_type:ident $(, $field:ident: $type:ident)*) => {
        concat!(stringify!($first) $(, ", ", stringify!($field))*)
    };
}

/// A row of `queries`.
#[derive(Default)]
pub(crate) struct NewQuery {
    pub query_id: String,
    pub started_unix_ms: i64,
    pub text: String,
    pub fingerprint: Option<String>,
    pub statement_kind: String,
    pub session_id: Option<String>,
    pub principal: String,
    pub catalog: String,
    pub schema_name: String,
    pub dialect: String,
    pub profile: Option<String>,
    pub tag: Option<String>,
    pub engine: Option<String>,
    pub outcome: String,
    pub error_kind: Option<String>,
    pub error_message: Option<String>,
    pub plan_cache_hit: bool,
    pub plan_us: i64,
    pub decide_us: i64,
    pub queue_us: i64,
    pub first_batch_us: i64,
    pub stream_us: i64,
    pub total_us: i64,
    pub result_rows: i64,
    pub result_bytes: i64,
    pub features: String,
    pub decision: Option<String>,
    pub failovers: String,
    pub usd_actual: Option<f64>,
    pub engine_us: i64,
    pub predicted_ms: Option<f64>,
    pub predicted_usd: Option<f64>,
    pub predicted_bytes: Option<i64>,
    pub predicted_memory_bytes: Option<i64>,
    pub databricks_ms: Option<f64>,
    pub databricks_usd: Option<f64>,
    pub predicted_p95_ms: Option<f64>,
    pub memory_bytes: Option<i64>,
    pub statement_id: Option<String>,
    pub warehouse_ms: Option<f64>,
    pub reconciled_unix_ms: Option<i64>,
    pub predicted_usd_p95: Option<f64>,
    pub read_bytes: Option<i64>,
    pub predicted_p95_bytes: Option<i64>,
}

/// A row of `candidates`.
#[derive(Default)]
pub(crate) struct NewCandidate {
    pub query_id: String,
    pub position: i32,
    pub engine: String,
    pub eligible: bool,
    pub chosen: bool,
    pub rank: Option<i32>,
    pub reason: String,
    pub predicted_ms: f64,
    pub predicted_usd: f64,
    pub predicted_bytes: i64,
    pub predicted_memory_bytes: i64,
    pub predicted_p95_ms: f64,
    pub predicted_memory_p95_bytes: i64,
    pub source: String,
    pub observations: i32,
    pub predicted_usd_p95: f64,
    pub predicted_p95_bytes: i64,
}

impl NewQuery {
    pub fn of(r: &QueryRecord) -> Result<Self> {
        let (predicted, databricks) = (r.predicted(), r.predicted_on(DATABRICKS));
        Ok(Self {
            query_id: r.query_id.to_string(),
            started_unix_ms: r.started_unix_ms,
            text: storable(&r.text),
            fingerprint: r.fingerprint.map(|f| f.to_string()),
            statement_kind: storable(&r.statement_kind),
            session_id: r.session_id.as_deref().map(storable),
            principal: storable(&r.principal),
            catalog: storable(&r.catalog),
            schema_name: storable(&r.schema),
            dialect: storable(&r.dialect),
            profile: r.profile.as_deref().map(storable),
            tag: r.tag.as_deref().map(storable),
            engine: r.engine.as_deref().map(storable),
            outcome: r.outcome.as_str().to_string(),
            error_kind: r.error_kind.map(|k| k.as_str().to_string()),
            error_message: r.error_message.as_deref().map(storable),
            plan_cache_hit: r.plan_cache_hit,
            plan_us: signed(r.times.plan_us),
            decide_us: signed(r.times.decide_us),
            queue_us: signed(r.times.queue_us),
            first_batch_us: signed(r.times.first_batch_us),
            stream_us: signed(r.times.stream_us),
            total_us: signed(r.times.total_us),
            result_rows: signed(r.rows),
            result_bytes: signed(r.bytes),
            features: json(&r.features)?,
            decision: r.decision.as_ref().map(json).transpose()?,
            failovers: json(&r.failovers)?,
            usd_actual: r.usd_actual,
            engine_us: signed(r.times.engine_us),
            predicted_ms: predicted.map(|n| n.latency_ms),
            predicted_usd: predicted.map(|n| n.usd),
            predicted_bytes: predicted.map(|n| signed(n.scan_bytes)),
            predicted_memory_bytes: predicted.map(|n| signed(n.memory_bytes)),
            databricks_ms: databricks.map(|n| n.latency_ms),
            databricks_usd: databricks.map(|n| n.usd),
            predicted_p95_ms: predicted.map(|n| n.latency_p95_ms),
            memory_bytes: r.memory_bytes.map(signed),
            statement_id: r.statement_id.as_deref().map(storable),
            warehouse_ms: r.warehouse_ms,
            reconciled_unix_ms: r.reconciled_unix_ms,
            predicted_usd_p95: predicted.map(|n| n.usd_p95),
            read_bytes: r.read_bytes.map(signed),
            predicted_p95_bytes: predicted.map(|n| signed(n.scan_bytes_p95)),
        })
    }
}

/// The candidates of all these records.
pub(crate) fn candidates(records: &[QueryRecord]) -> Vec<NewCandidate> {
    let of_record = |r: &QueryRecord| {
        r.candidates().into_iter().zip(0..).map(|(c, position)| NewCandidate {
            query_id: c.query_id.to_string(),
            position,
            engine: storable(&c.engine),
            eligible: c.eligible,
            chosen: c.chosen,
            rank: c.rank.map(|rank| i32::try_from(rank).unwrap_or(i32::MAX)),
            reason: storable(&c.reason),
            predicted_ms: c.predicted_ms,
            predicted_usd: c.predicted_usd,
            predicted_bytes: signed(c.predicted_bytes),
            predicted_memory_bytes: signed(c.predicted_memory_bytes),
            predicted_p95_ms: c.predicted_p95_ms,
            predicted_memory_p95_bytes: signed(c.predicted_memory_p95_bytes),
            source: c.source.as_str().to_string(),
            observations: i32::try_from(c.observations).unwrap_or(i32::MAX),
            predicted_usd_p95: c.predicted_usd_p95,
            predicted_p95_bytes: signed(c.predicted_p95_bytes),
        })
    };
    records.iter().flat_map(of_record).collect()
}
