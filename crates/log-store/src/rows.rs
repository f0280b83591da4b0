//! A record as a row and back; the same for every database.

use flightpath_querylog::RecordParts;
use flightpath_types::{
    CandidateRecord, Error, ErrorKind, Fingerprint, Outcome, PhaseTimes, PredictionSource, QueryId, QueryRecord, Result,
};

/// What is read of these parts; some of what is written beside them, the decision holds too.
pub(crate) fn query_columns(parts: RecordParts) -> String {
    let part = |wanted: bool, name: &str, else_is: &str| if wanted { name.to_string() } else { format!("{else_is} AS {name}") };
    let (text, features) = (part(parts.text, "text", "''"), part(parts.features, "features", "CAST(NULL AS TEXT)"));
    let decision = part(parts.decision, "decision", "CAST(NULL AS TEXT)");
    format!(
        "query_id, started_unix_ms, {text}, fingerprint, statement_kind, session_id, principal, catalog, schema_name, dialect, profile, \
         tag, engine, outcome, error_kind, error_message, plan_cache_hit, plan_us, decide_us, queue_us, first_batch_us, stream_us, \
         total_us, result_rows, result_bytes, {features}, {decision}, failovers, usd_actual, engine_us, memory_bytes, statement_id, \
         warehouse_ms, reconciled_unix_ms, read_bytes"
    )
}

pub(crate) const CANDIDATE_COLUMNS: &str = "query_id, position, engine, eligible, chosen, rank, reason, predicted_ms, predicted_usd, \
     predicted_bytes, predicted_memory_bytes, predicted_p95_ms, predicted_memory_p95_bytes, source, observations, predicted_usd_p95, \
     predicted_p95_bytes";

#[derive(sqlx::FromRow)]
pub(crate) struct QueryRow {
    query_id: String,
    started_unix_ms: i64,
    text: String,
    fingerprint: Option<String>,
    statement_kind: String,
    session_id: Option<String>,
    principal: String,
    catalog: String,
    schema_name: String,
    dialect: String,
    profile: Option<String>,
    tag: Option<String>,
    engine: Option<String>,
    outcome: String,
    error_kind: Option<String>,
    error_message: Option<String>,
    plan_cache_hit: bool,
    plan_us: i64,
    decide_us: i64,
    queue_us: i64,
    first_batch_us: i64,
    stream_us: i64,
    total_us: i64,
    result_rows: i64,
    result_bytes: i64,
    features: Option<String>,
    decision: Option<String>,
    failovers: String,
    usd_actual: Option<f64>,
    engine_us: i64,
    memory_bytes: Option<i64>,
    statement_id: Option<String>,
    warehouse_ms: Option<f64>,
    reconciled_unix_ms: Option<i64>,
    read_bytes: Option<i64>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct CandidateRow {
    query_id: String,
    engine: String,
    eligible: bool,
    chosen: bool,
    rank: Option<i32>,
    reason: String,
    predicted_ms: f64,
    predicted_usd: f64,
    predicted_bytes: i64,
    predicted_memory_bytes: i64,
    predicted_p95_ms: f64,
    predicted_memory_p95_bytes: i64,
    source: String,
    observations: i32,
    predicted_usd_p95: f64,
    predicted_p95_bytes: i64,
}

/// Databases' integers are signed; a count beyond 2^63 stands as 2^63 - 1.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Postgres' text can't hold NUL; it is kept as U+FFFD there and everywhere, so that stores agree.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|e| Error::internal(format!("query log: {e}")))?;
    Ok(storable_json(text))
}

/// An escaped NUL becomes U+FFFD too: the column would take it, Postgres' own JSON functions don't. A text
/// that only looks like one, its backslash being escaped, stays as it is.
fn storable_json(json: String) -> String {
    const NUL: &str = "\\u0000";
    if !json.contains(NUL) {
        return json;
    }
    let mut kept = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        kept.push_str(before);
        if let Some(after) = escape.strip_prefix(NUL) {
            kept.push('\u{FFFD}');
            rest = after;
        } else {
            // The second character belongs to it, another backslash perhaps.
            let (pair, after) = escape.split_at(2);
            kept.push_str(pair);
            rest = after;
        }
    }
    kept.push_str(rest);
    kept
}

pub(crate) fn now_unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::DataLoss, format!("query log: a row holds a bad {what}"))
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl QueryRow {
    pub fn into_record(self) -> Result<QueryRecord> {
        Ok(QueryRecord {
            query_id: QueryId::parse(&self.query_id).ok_or_else(|| damaged("query_id"))?,
            started_unix_ms: self.started_unix_ms,
            text: self.text,
            fingerprint: match self.fingerprint {
                Some(text) => Some(Fingerprint::from_u64(u64::from_str_radix(&text, 16).map_err(|_| damaged("fingerprint"))?)),
                None => None,
            },
            statement_kind: self.statement_kind,
            session_id: self.session_id,
            principal: self.principal,
            catalog: self.catalog,
            schema: self.schema_name,
            dialect: self.dialect,
            profile: self.profile,
            tag: self.tag,
            // JSON that is damaged costs its own column, not the page that the row stands on.
            features: self.features.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default(),
            decision: self.decision.as_deref().and_then(|json| serde_json::from_str(json).ok()),
            engine: self.engine,
            plan_cache_hit: self.plan_cache_hit,
            times: PhaseTimes {
                plan_us: unsigned(self.plan_us),
                decide_us: unsigned(self.decide_us),
                queue_us: unsigned(self.queue_us),
                first_batch_us: unsigned(self.first_batch_us),
                engine_us: unsigned(self.engine_us),
                stream_us: unsigned(self.stream_us),
                total_us: unsigned(self.total_us),
            },
            rows: unsigned(self.result_rows),
            bytes: unsigned(self.result_bytes),
            outcome: Outcome::parse(&self.outcome).ok_or_else(|| damaged("outcome"))?,
            error_kind: match self.error_kind {
                Some(kind) => Some(ErrorKind::parse(&kind).ok_or_else(|| damaged("error_kind"))?),
                None => None,
            },
            error_message: self.error_message,
            failovers: serde_json::from_str(&self.failovers).unwrap_or_default(),
            usd_actual: self.usd_actual,
            memory_bytes: self.memory_bytes.map(unsigned),
            statement_id: self.statement_id,
            warehouse_ms: self.warehouse_ms,
            reconciled_unix_ms: self.reconciled_unix_ms,
            read_bytes: self.read_bytes.map(unsigned),
        })
    }
}

impl CandidateRow {
    pub fn into_record(self) -> Result<CandidateRecord> {
        Ok(CandidateRecord {
            query_id: QueryId::parse(&self.query_id).ok_or_else(|| damaged("query_id"))?,
            engine: self.engine,
            eligible: self.eligible,
            chosen: self.chosen,
            rank: self.rank.map(|rank| u32::try_from(rank).unwrap_or(0)),
            reason: self.reason,
            predicted_ms: self.predicted_ms,
            predicted_usd: self.predicted_usd,
            predicted_bytes: unsigned(self.predicted_bytes),
            predicted_memory_bytes: unsigned(self.predicted_memory_bytes),
            predicted_p95_ms: self.predicted_p95_ms,
            predicted_memory_p95_bytes: unsigned(self.predicted_memory_p95_bytes),
            source: PredictionSource::parse(&self.source).ok_or_else(|| damaged("source"))?,
            observations: u32::try_from(self.observations).unwrap_or(0),
            predicted_usd_p95: self.predicted_usd_p95,
            predicted_p95_bytes: unsigned(self.predicted_p95_bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_in_json_is_replaced_and_a_text_that_looks_like_one_is_kept() {
        for text in ["\0", "a\0b", "\\u0000", "\\\\u0000", "\\\0", "\\\\\0", "\"\\u0000\0\"\n\u{1}", "Zoë\0\u{1F980}", ""] {
            let kept: String = serde_json::from_str(&json(&text).unwrap()).unwrap();
            assert_eq!(kept, storable(text), "{text:?}");
        }
        // Nothing is left that Postgres' own JSON functions refuse.
        assert_eq!(json(&["\0", "\\u0000"]).unwrap(), "[\"\u{FFFD}\",\"\\\\u0000\"]");
    }
}
