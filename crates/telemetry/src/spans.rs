//! From `tracing` to OpenTelemetry: which spans are taken, and how contexts cross processes.
//! Events aren't: a log line's message may hold what a trace's readers may not see.

use flightpath_types::trace::{self, Propagation, SPANS, TraceContext};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::SdkTracer;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, layer};

fn is_traced(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == SPANS
}

/// Takes the spans of queries' traces and nothing else.
pub(crate) fn layer<S>(tracer: SdkTracer) -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_traced).with_max_level_hint(LevelFilter::INFO))
}

/// Keeps queries' spans out of the log, whatever its directives say.
pub(crate) fn not_traced<S>() -> impl layer::Filter<S> {
    // Without the hint, what libraries trace would be looked at one by one.
    filter_fn(|metadata: &Metadata<'_>| metadata.target() != SPANS).with_max_level_hint(LevelFilter::TRACE)
}

pub(crate) fn install(query_text: bool) {
    trace::install(Propagation { continue_from, link, context_of, query_text });
}

fn continue_from(span: &Span, from: &TraceContext, state: &str) {
    // It fails where no spans are taken, and then there's nothing to continue.
    let _ = span.set_parent(Context::new().with_remote_span_context(remote(from, state)));
}

fn link(span: &Span, to: &TraceContext, state: &str) {
    span.add_link(remote(to, state));
}

fn remote(context: &TraceContext, state: &str) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let (trace_id, span_id) = (TraceId::from_bytes(context.trace_id.to_be_bytes()), SpanId::from_bytes(context.span_id.to_be_bytes()));
    SpanContext::new(trace_id, span_id, flags, true, state.parse().unwrap_or(TraceState::NONE))
}

fn context_of(span: &Span) -> Option<(TraceContext, String)> {
    let context = span.context();
    Some((read(&context)?, context.span().span_context().trace_state().header()))
}

/// The context that the current thread works in.
pub(crate) fn current() -> Option<TraceContext> {
    Context::map_current(read)
}

fn read(context: &Context) -> Option<TraceContext> {
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| TraceContext {
        trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(context.span_id().to_bytes()),
        sampled: context.is_sampled(),
    })
}
