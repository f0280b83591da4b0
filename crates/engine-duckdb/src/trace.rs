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

/// What the worker is told: the call, or, where nothing is traced, what the client sent.
pub(crate) fn traceparent(call: &Span, incoming: Option<&str>) -> String {
    trace::hand_on(call, incoming).unwrap_or_default()
}
