//! The span of one call to a worker, which the worker's own spans are part of.

use flightpath_types::trace::{self, SPANS};
use tracing::{Span, info_span};

/// Part of the current span.
pub(crate) fn call() -> Span {
    info_span!(
        target: SPANS,
        "arrow.flight.protocol.FlightService/DoGet",
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = "arrow.flight.protocol.FlightService",
        rpc.method = "DoGet",
    )
}

/// What the worker is told, `traceparent` and `tracestate`: the call, or, where nothing is traced, what
/// the client sent.
pub(crate) fn context(call: &Span, incoming: Option<&str>) -> (String, String) {
    let context = trace::hand_on(call, incoming).unwrap_or_default();
    let (parent, state) = trace::parts(&context);
    (parent.to_string(), state.to_string())
}
