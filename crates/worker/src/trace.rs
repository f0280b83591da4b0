//! The spans of one query in the worker: part of the trace that its ticket names, and none where it
//! names none. Never a word of the statement or of an error's message.

use flightpath_proto::v1::WorkerTicket;
use flightpath_types::Error;
use flightpath_types::trace::{self, SPANS, number};
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::error::code_name;

/// From the ticket's arrival until the last row is handed to the network. Dropped before its end:
/// the reader is gone, and the query was cancelled.
pub(crate) struct Trace {
    call: Span,
    stream: Span,
    ended: bool,
}

impl Trace {
    pub fn begin(ticket: &WorkerTicket) -> Self {
        if ticket.traceparent.is_empty() {
            return Self { call: Span::none(), stream: Span::none(), ended: false };
        }
        let call = info_span!(
            target: SPANS,
            parent: None,
            "arrow.flight.protocol.FlightService/DoGet",
            otel.kind = "server",
            otel.status_code = Empty,
            otel.status_description = Empty,
            rpc.system.name = "grpc",
            rpc.method = "arrow.flight.protocol.FlightService/DoGet",
            rpc.response.status_code = Empty,
            db.system.name = "duckdb",
            db.response.returned_rows = Empty,
            error.type = Empty,
            flightpath.query_id = ticket.query_id.as_str(),
            flightpath.outcome = Empty,
        );
        trace::continue_from(&call, trace::joined(Some(&ticket.traceparent), Some(&ticket.tracestate)).as_deref());
        Self { call, stream: Span::none(), ended: false }
    }

    /// What the query's thread works under.
    pub fn span(&self) -> &Span {
        &self.call
    }

    /// Waiting for a slot.
    pub fn queue(&self) -> Span {
        info_span!(target: SPANS, parent: &self.call, "queue")
    }

    /// Checking, binding and preparing.
    pub fn execute(&self) -> Span {
        info_span!(target: SPANS, parent: &self.call, "execute")
    }

    /// Rows begin to come.
    pub fn streaming(&mut self) {
        self.stream = info_span!(target: SPANS, parent: &self.call, "stream", flightpath.rows = Empty);
    }

    pub fn finish(&mut self, rows: u64) {
        self.call.record("db.response.returned_rows", number(rows));
        self.stream.record("flightpath.rows", number(rows));
        self.end("success", "OK");
    }

    pub fn fail(&mut self, error: &Error) {
        let kind = error.kind().as_str();
        self.call.record("error.type", kind).record("otel.status_code", "ERROR").record("otel.status_description", kind);
        self.end("error", code_name(error.kind()));
    }

    fn end(&mut self, outcome: &'static str, code: &'static str) {
        self.ended = true;
        self.call.record("flightpath.outcome", outcome).record("rpc.response.status_code", code);
        // A span's end is the last time it was entered.
        self.stream.in_scope(|| ());
        self.call.in_scope(|| ());
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if !self.ended {
            self.end("cancelled", "CANCELLED");
        }
    }
}
