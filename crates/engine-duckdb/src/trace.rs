//! The span of one call to a worker, which the worker's own spans are part of.

use flightpath_types::trace::{self, SPANS};
use flightpath_types::{Error, ErrorKind};
use tracing::field::Empty;
use tracing::{Span, info_span};

/// From the ticket's sending to the last row. Dropped before its end: nobody wants the answer any more.
pub struct Call {
    span: Span,
    ended: bool,
}

impl Call {
    /// Part of the current span. `address` is where the worker listens, a host or a socket's path.
    pub fn begin(address: &str, port: Option<u16>) -> Self {
        let span = info_span!(
            target: SPANS,
            "arrow.flight.protocol.FlightService/DoGet",
            otel.kind = "client",
            otel.status_code = Empty,
            otel.status_description = Empty,
            rpc.system.name = "grpc",
            rpc.method = "arrow.flight.protocol.FlightService/DoGet",
            rpc.response.status_code = Empty,
            server.address = address,
            server.port = port.map(i64::from),
            error.type = Empty,
        );
        Self { span, ended: false }
    }

    /// What the call is made under.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// What the worker is told, `traceparent` and `tracestate`: the call, or, where nothing is traced, what
    /// the client sent.
    pub fn context(&self, incoming: Option<&str>) -> (String, String) {
        let context = trace::hand_on(&self.span, incoming).unwrap_or_default();
        let (parent, state) = trace::parts(&context);
        (parent.to_string(), state.to_string())
    }

    /// The answer is whole.
    pub fn finish(&mut self) {
        self.end("OK");
    }

    pub fn fail(&mut self, error: &Error) {
        let kind = error.kind().as_str();
        self.span.record("error.type", kind).record("otel.status_code", "ERROR").record("otel.status_description", kind);
        self.end(code_name(error.kind()));
    }

    fn end(&mut self, code: &'static str) {
        self.ended = true;
        self.span.record("rpc.response.status_code", code);
        // A span's end is the last time it was entered.
        self.span.in_scope(|| ());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.end("CANCELLED");
        }
    }
}

/// The name of the status that an error comes as, or would.
fn code_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::Raised => "INVALID_ARGUMENT",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::NotEligible => "UNIMPLEMENTED",
        ErrorKind::PermissionDenied => "PERMISSION_DENIED",
        ErrorKind::Unauthenticated => "UNAUTHENTICATED",
        ErrorKind::ResourceExhausted => "RESOURCE_EXHAUSTED",
        ErrorKind::DeadlineExceeded => "DEADLINE_EXCEEDED",
        ErrorKind::Cancelled => "CANCELLED",
        ErrorKind::Unavailable => "UNAVAILABLE",
        ErrorKind::DataLoss => "DATA_LOSS",
        ErrorKind::Internal => "INTERNAL",
    }
}
