//! The spans of planning. They tell how much there was to do, never of what the statement says.

use flightpath_types::Features;
use flightpath_types::trace::{SPANS, number};
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::planner::Planned;

/// Part of the current span.
pub(crate) fn plan() -> Span {
    info_span!(
        target: SPANS,
        "plan",
        flightpath.statement = Empty,
        flightpath.plan_cache_hit = Empty,
        error.type = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

pub(crate) fn planned(span: &Span, planned: &flightpath_types::Result<Planned>) {
    match planned {
        Ok(planned) => {
            span.record("flightpath.statement", planned.statement.kind().as_str());
            span.record("flightpath.plan_cache_hit", planned.cache_hit);
        }
        Err(error) => {
            let kind = error.kind().as_str();
            span.record("error.type", kind).record("otel.status_code", "ERROR").record("otel.status_description", kind);
        }
    }
}

pub(crate) fn parse(bytes: usize) -> Span {
    info_span!(target: SPANS, "parse", flightpath.statement_bytes = number(bytes as u64))
}

/// Ends it.
pub(crate) fn pruned(span: Span, features: &Features) {
    span.record("flightpath.files", number(features.files)).record("flightpath.files_total", number(features.files_total));
}

pub(crate) fn prune() -> Span {
    info_span!(target: SPANS, "prune", flightpath.files = Empty, flightpath.files_total = Empty)
}

pub(crate) fn bind() -> Span {
    info_span!(target: SPANS, "bind")
}

pub(crate) fn optimize() -> Span {
    info_span!(target: SPANS, "optimize")
}

pub(crate) fn print() -> Span {
    info_span!(target: SPANS, "print")
}
