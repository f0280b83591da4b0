//! What the program says, as messages.

use flightpath_pipeline::{Routed, Watched};
use flightpath_proto::v1;
use flightpath_types::{Candidate, Decision, EngineFacts, EngineState, Features, Outcome, PhaseTimes, QueryRecord};

/// Of a statement's text, what a watcher is sent.
const WATCHED_TEXT_BYTES_MAX: usize = 1_024;

pub(crate) fn routed(routed: Routed) -> v1::RouteResponse {
    let column = |field: &arrow::datatypes::FieldRef| v1::Column {
        name: field.name().clone(),
        r#type: flightpath_functions::types::name(field.data_type()),
        nullable: field.is_nullable(),
    };
    v1::RouteResponse {
        statement_kind: routed.statement_kind.to_string(),
        features: routed.decision.is_some().then(|| features(&routed.features)),
        decision: routed.decision.as_ref().map(decision),
        fingerprint: routed.fingerprint.map(|f| f.to_string()),
        columns: routed.schema.fields().iter().map(column).collect(),
        plan_cache_hit: routed.plan_cache_hit,
        plan_us: routed.plan_us,
        decide_us: routed.decide_us,
    }
}

pub(crate) fn decision(decision: &Decision) -> v1::Decision {
    v1::Decision {
        strategy: decision.strategy.clone(),
        engine: decision.chosen().map(|c| c.engine.to_string()),
        reason: decision.reason.clone(),
        candidates: decision.candidates.iter().map(candidate).collect(),
        profile: decision.profile.clone(),
        propensity: decision.propensity,
        arm: decision.arm.clone(),
    }
}

fn candidate(candidate: &Candidate) -> v1::Candidate {
    let eligible = candidate.refusal.is_none();
    let numbers = &candidate.numbers;
    v1::Candidate {
        engine: candidate.engine.to_string(),
        eligible,
        rank: candidate.rank,
        reason: candidate.reason.clone(),
        refusal_class: candidate.refusal.as_ref().map(|r| r.class.as_str().to_string()),
        predicted_ms: eligible.then_some(numbers.latency_ms),
        predicted_usd: eligible.then_some(numbers.usd),
        predicted_bytes: eligible.then_some(numbers.scan_bytes),
        predicted_memory_bytes: eligible.then_some(numbers.memory_bytes),
        predicted_p95_ms: eligible.then_some(numbers.latency_p95_ms),
        predicted_memory_p95_bytes: eligible.then_some(numbers.memory_p95_bytes),
        predicted_wait_ms: eligible.then_some(numbers.wait_ms),
        prediction_source: eligible.then(|| numbers.source.as_str().to_string()),
        observations: eligible.then_some(numbers.observations),
        predicted_usd_p95: eligible.then_some(numbers.usd_p95),
        predicted_p95_bytes: eligible.then_some(numbers.scan_bytes_p95),
    }
}

pub(crate) fn features(features: &Features) -> v1::Features {
    let table = |table: &flightpath_types::TableUse| v1::TableUse {
        name: table.name.clone(),
        version: table.version,
        files: table.files,
        files_total: table.files_total,
        bytes: table.bytes,
    };
    v1::Features {
        tables: features.tables.iter().map(table).collect(),
        files: features.files,
        files_total: features.files_total,
        scan_bytes: features.scan_bytes,
        scan_rows: features.scan_rows,
        joins: features.joins,
        aggregates: features.aggregates,
        windows: features.windows,
        sorts: features.sorts,
    }
}

/// With at most `text_bytes_max` of the text.
pub(crate) fn query(record: QueryRecord, text_bytes_max: usize) -> v1::Query {
    let predicted = record.predicted().copied();
    v1::Query {
        query_id: record.query_id.to_string(),
        started_unix_ms: record.started_unix_ms,
        text_bytes: record.text.len() as u64,
        text: clipped(&record.text, text_bytes_max).to_string(),
        fingerprint: record.fingerprint.map(|f| f.to_string()),
        statement_kind: record.statement_kind,
        principal: record.principal,
        catalog: record.catalog,
        schema: record.schema,
        dialect: record.dialect,
        profile: record.profile,
        tag: record.tag,
        engine: record.engine,
        reason: record.decision.map(|d| d.reason),
        outcome: outcome(record.outcome).into(),
        error_kind: record.error_kind.map(|k| k.as_str().to_string()),
        error_message: record.error_message,
        failovers: record.failovers,
        result_rows: record.rows,
        result_bytes: record.bytes,
        times: Some(times(&record.times)),
        predicted_ms: predicted.map(|n| n.latency_ms),
        predicted_usd: predicted.map(|n| n.usd),
        actual_usd: record.usd_actual,
        plan_cache_hit: record.plan_cache_hit,
        memory_bytes: record.memory_bytes,
        statement_id: record.statement_id,
        warehouse_ms: record.warehouse_ms,
        reconciled_unix_ms: record.reconciled_unix_ms,
        predicted_p95_ms: predicted.map(|n| n.latency_p95_ms),
        predicted_usd_p95: predicted.map(|n| n.usd_p95),
        predicted_bytes: predicted.map(|n| n.scan_bytes),
        predicted_p95_bytes: predicted.map(|n| n.scan_bytes_p95),
        read_bytes: record.read_bytes,
    }
}

fn times(times: &PhaseTimes) -> v1::Times {
    v1::Times {
        plan_us: times.plan_us,
        decide_us: times.decide_us,
        queue_us: times.queue_us,
        first_batch_us: times.first_batch_us,
        stream_us: times.stream_us,
        total_us: times.total_us,
        engine_us: times.engine_us,
    }
}

fn outcome(outcome: Outcome) -> v1::Outcome {
    match outcome {
        Outcome::Success => v1::Outcome::Success,
        Outcome::Error => v1::Outcome::Error,
        Outcome::Cancelled => v1::Outcome::Cancelled,
        Outcome::Refused => v1::Outcome::Refused,
    }
}

pub(crate) fn engine(facts: EngineFacts) -> v1::Engine {
    let (state, detail) = match facts.state {
        EngineState::Ready => (v1::EngineState::Ready, None),
        EngineState::Down(why) => (v1::EngineState::Down, Some(why)),
        EngineState::Draining => (v1::EngineState::Draining, None),
    };
    v1::Engine {
        name: facts.id.to_string(),
        state: state.into(),
        detail,
        slots: facts.slots,
        running: facts.running,
        cores: facts.cores,
        memory_bytes: facts.memory_bytes_max,
        usd_per_hour: facts.pricing.usd_per_hour(),
        shape: facts.shape,
        queued: facts.queued,
    }
}

pub(crate) fn watched(watched: &Watched, lost: u64) -> v1::WatchDecisionsResponse {
    let event = &watched.event;
    v1::WatchDecisionsResponse {
        query_id: event.query_id.to_string(),
        decided_unix_ms: event.decided_unix_ms,
        text: clipped(&event.text, WATCHED_TEXT_BYTES_MAX).to_string(),
        text_bytes: event.text_bytes,
        statement_kind: event.statement_kind.to_string(),
        fingerprint: event.fingerprint.map(|f| f.to_string()),
        tag: event.tag.clone(),
        decision: Some(decision(&event.decision)),
        lost,
        principal: event.principal.to_string(),
    }
}

/// At most so many bytes, whole characters.
fn clipped(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_clipped_between_characters() {
        assert_eq!(clipped("aäa", 2), "a");
        assert_eq!(clipped("aäa", 3), "aä");
        assert_eq!(clipped("aäa", 9), "aäa");
        assert_eq!(clipped("ä", 0), "");
    }
}
