//! A query's trace: one span from arrival to the end of its result, and one for each phase. What
//! they say comes from the query's record. Statements' texts only where that's wanted; of an error
//! its kind and SQL state, never its message.

use flightpath_engine::Execution;
use flightpath_types::trace::{self, SPANS, number};
use flightpath_types::{Decision, EngineId, Error, Outcome, QueryId, QueryRecord, Result, Session};
use tracing::field::Empty;
use tracing::{Span, info_span};

/// The spans that live as long as the query does.
pub(crate) struct QueryTrace {
    query: Span,
    stream: Span,
}

impl QueryTrace {
    /// `traceparent`: the client's own.
    pub fn begin(query_id: QueryId, text: &str, settings: &Session, traceparent: Option<&str>) -> Self {
        let query = info_span!(
            target: SPANS,
            parent: None,
            "query",
            otel.kind = "server",
            otel.status_code = Empty,
            otel.status_description = Empty,
            db.system.name = "flightpath",
            db.namespace = Empty,
            db.operation.name = Empty,
            db.query.text = Empty,
            db.response.returned_rows = Empty,
            db.response.status_code = Empty,
            error.type = Empty,
            flightpath.query_id = Empty,
            flightpath.fingerprint = Empty,
            flightpath.engine = Empty,
            flightpath.strategy = Empty,
            flightpath.outcome = Empty,
            flightpath.plan_cache_hit = Empty,
            flightpath.failovers = Empty,
            flightpath.scan_bytes = Empty,
            flightpath.rows = Empty,
            flightpath.bytes = Empty,
        );
        if !query.is_disabled() {
            trace::continue_from(&query, traceparent);
            query.record("flightpath.query_id", query_id.to_string());
            query.record("db.namespace", format!("{}.{}", settings.catalog, settings.schema));
            if trace::with_query_text() {
                query.record("db.query.text", text);
            }
        }
        Self { query, stream: Span::none() }
    }

    /// What the query's phases are part of.
    pub fn span(&self) -> &Span {
        &self.query
    }

    /// The first batch is there.
    pub fn streaming(&mut self, engine: Option<&str>) {
        self.stream = info_span!(
            target: SPANS,
            parent: &self.query,
            "stream",
            flightpath.engine = engine,
            flightpath.rows = Empty,
            flightpath.bytes = Empty,
            flightpath.outcome = Empty,
            error.type = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
    }

    /// What batches are handed out under.
    pub fn stream_span(&self) -> &Span {
        &self.stream
    }

    /// Ends both spans. A query whose client went away is `cancelled` and no error.
    pub fn end(&mut self, record: &QueryRecord, result: Result<(), &Error>) {
        if self.query.is_disabled() {
            return;
        }
        for span in [&self.stream, &self.query] {
            span.record("flightpath.rows", number(record.rows));
            span.record("flightpath.bytes", number(record.bytes));
            span.record("flightpath.outcome", record.outcome.as_str());
            if let Err(error) = result {
                failed(span, error, record.outcome);
            }
        }
        let span = &self.query;
        span.record("db.operation.name", record.statement_kind.as_str());
        span.record("db.response.returned_rows", number(record.rows));
        span.record("flightpath.plan_cache_hit", record.plan_cache_hit);
        span.record("flightpath.failovers", number(record.failovers.len() as u64));
        span.record("flightpath.scan_bytes", number(record.features.scan_bytes));
        if let Some(fingerprint) = record.fingerprint {
            span.record("flightpath.fingerprint", fingerprint.to_string());
        }
        if let Some(engine) = record.engine.as_deref() {
            span.record("flightpath.engine", engine);
        }
        if let Some(decision) = &record.decision {
            span.record("flightpath.strategy", decision.strategy.as_str());
        }
        if let Some(state) = result.err().and_then(Error::sql_state) {
            span.record("db.response.status_code", state);
        }
        // A span's end is the last time it was entered.
        self.stream.in_scope(|| ());
        self.query.in_scope(|| ());
        self.stream = Span::none();
        self.query = Span::none();
    }
}

fn failed(span: &Span, error: &Error, outcome: Outcome) {
    span.record("error.type", error.kind().as_str());
    if outcome != Outcome::Cancelled {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", error.kind().as_str());
    }
}

/// Planning for a client that only prepares.
pub(crate) fn prepare(traceparent: Option<&str>) -> Span {
    let span = info_span!(
        target: SPANS,
        parent: None,
        "prepare",
        otel.kind = "server",
        otel.status_code = Empty,
        otel.status_description = Empty,
        db.system.name = "flightpath",
        error.type = Empty,
    );
    trace::continue_from(&span, traceparent);
    span
}

/// What a query that runs the prepared statement continues from; `None` where nothing is recorded.
pub(crate) fn context_of(prepare: &Span) -> Option<String> {
    if prepare.is_disabled() { None } else { trace::hand_on(prepare, None) }
}

/// The statement was prepared in another trace.
pub(crate) fn prepared_in(query: &Span, context: Option<&str>) {
    trace::link(query, context);
}

pub(crate) fn decide(query: &Span) -> Span {
    info_span!(
        target: SPANS,
        parent: query,
        "decide",
        flightpath.engine = Empty,
        flightpath.strategy = Empty,
        flightpath.refusals = Empty,
    )
}

/// Engines that were refused are told with the class of the reason alone: its text may name columns.
pub(crate) fn decided(span: &Span, decision: Option<&Decision>) {
    let Some(decision) = decision.filter(|_| !span.is_disabled()) else { return };
    span.record("flightpath.strategy", decision.strategy.as_str());
    if let Some(chosen) = decision.chosen() {
        span.record("flightpath.engine", chosen.engine.as_str());
    }
    let refused = decision.candidates.iter().filter_map(|c| c.refusal.as_ref().map(|r| format!("{}:{}", c.engine, r.class.as_str())));
    let refused: Vec<String> = refused.collect();
    if !refused.is_empty() {
        span.record("flightpath.refusals", refused.join(","));
    }
}

/// Waiting for an engine's slot; part of the current span.
pub(crate) fn queue(engine: &EngineId) -> Span {
    info_span!(target: SPANS, "queue", flightpath.engine = engine.as_str())
}

/// One engine's try, up to its first batch; part of the current span.
pub(crate) fn execute(engine: &EngineId) -> Span {
    info_span!(
        target: SPANS,
        "execute",
        otel.kind = "client",
        db.system.name = engine.as_str(),
        flightpath.engine = engine.as_str(),
        server.address = Empty,
        error.type = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

/// The same execution as part of `span`, wherever it goes from here.
pub(crate) fn carried_by(span: &Span, execution: &Execution) -> Execution {
    Execution { traceparent: trace::hand_on(span, execution.traceparent.as_deref()), ..execution.clone() }
}

/// `None`: it was taken from the engine for being slow.
pub(crate) fn executed<T>(span: &Span, outcome: Option<&Result<T>>) {
    match outcome {
        Some(Ok(_)) => {}
        Some(Err(error)) => failed(span, error, Outcome::Error),
        None => {
            span.record("error.type", "too_slow").record("otel.status_code", "ERROR").record("otel.status_description", "too_slow");
        }
    }
}
