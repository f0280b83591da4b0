//! Traces as everybody but the crate `telemetry` sees them: spans of the crate `tracing` under one
//! target, and W3C's trace context as text: a `traceparent` and, behind a space where there is one, the
//! `tracestate` that came with it, which is handed on as it is. Whoever is to export them installs a [`Propagation`];
//! until then spans are disabled and cost nothing.

use std::fmt;
use std::sync::OnceLock;

use tracing::Span;

/// The target of every span that is part of a query's trace. The logs' filter never enables it.
pub const SPANS: &str = "query_trace";

/// Longer ones aren't handed on; the standard asks for no more.
const STATE_BYTES_MAX: usize = 512;

/// The context as this program carries it. A `tracestate` without a good `traceparent` means nothing,
/// and one that is malformed is left out, as the standard says.
pub fn joined(traceparent: Option<&str>, tracestate: Option<&str>) -> Option<String> {
    let parent = traceparent?.trim();
    let state = tracestate.map(str::trim).filter(|state| is_state(state) && TraceContext::parse(parent).is_some());
    Some(match state {
        Some(state) => format!("{parent} {state}"),
        None => parent.to_string(),
    })
}

/// The `traceparent` and the `tracestate` of a context; the latter is empty for none.
pub fn parts(context: &str) -> (&str, &str) {
    let (parent, state) = context.trim().split_once(' ').unwrap_or((context.trim(), ""));
    (parent, if is_state(state) { state } else { "" })
}

fn is_state(text: &str) -> bool {
    (1..=STATE_BYTES_MAX).contains(&text.len()) && text.contains('=') && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

/// W3C trace context: <https://www.w3.org/TR/trace-context/#traceparent-header>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Never 0.
    pub trace_id: u128,
    /// The parent of what is done under it; never 0.
    pub span_id: u64,
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`, whatever stands behind it. `None` for one that is malformed, which the standard says to ignore.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, _) = parts(text);
        let mut parts = text.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = hex(version, 2)?;
        // A later version may add parts behind those that are known; version 255 is forbidden.
        if version == 255 || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let context =
            Self { trace_id: hex(trace_id, 32)?, span_id: u64::try_from(hex(span_id, 16)?).ok()?, sampled: hex(flags, 2)? & 1 == 1 };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }

    /// 32 hexadecimal digits.
    pub fn trace_id_text(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let valid = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if valid { u128::from_str_radix(text, 16).ok() } else { None }
}

/// What an exporter of spans offers to those who make them.
#[derive(Debug, Clone, Copy)]
pub struct Propagation {
    /// Makes a span that hasn't been entered yet a child of a span elsewhere, with its `tracestate`.
    pub continue_from: fn(&Span, &TraceContext, &str),
    /// Makes a span point to a span elsewhere that it isn't a child of.
    pub link: fn(&Span, &TraceContext, &str),
    /// A span's own context, which another process can continue from, and its `tracestate`.
    pub context_of: fn(&Span) -> Option<(TraceContext, String)>,
    /// Whether statements' texts, which may hold data, belong in spans.
    pub query_text: bool,
}

static PROPAGATION: OnceLock<Propagation> = OnceLock::new();

/// Once per process; later calls change nothing.
pub fn install(propagation: Propagation) {
    let _ = PROPAGATION.set(propagation);
}

/// Makes `span` a child of the span that the context names, if it names one.
pub fn continue_from(span: &Span, context: Option<&str>) {
    if let Some(installed) = PROPAGATION.get().filter(|_| !span.is_disabled())
        && let Some(text) = context
        && let Some(context) = TraceContext::parse(text)
    {
        (installed.continue_from)(span, &context, parts(text).1);
    }
}

/// Makes `span` point to the span that the context names, if it names one.
pub fn link(span: &Span, context: Option<&str>) {
    if let Some(installed) = PROPAGATION.get().filter(|_| !span.is_disabled())
        && let Some(text) = context
        && let Some(context) = TraceContext::parse(text)
    {
        (installed.link)(span, &context, parts(text).1);
    }
}

/// The context to hand on from within `span`: the span's own, or, where it has none, the one
/// that came in, if that is well-formed.
pub fn hand_on(span: &Span, incoming: Option<&str>) -> Option<String> {
    let own = PROPAGATION.get().filter(|_| !span.is_disabled()).and_then(|installed| (installed.context_of)(span));
    let (context, state) = match own {
        Some((context, state)) => (context, state),
        None => incoming.and_then(|text| Some((TraceContext::parse(text)?, parts(text).1.to_string())))?,
    };
    joined(Some(&context.to_string()), Some(&state))
}

/// A count as a span's field: OpenTelemetry's numbers have a sign, others become text.
pub fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Whether statements' texts belong in spans.
pub fn with_query_text() -> bool {
    PROPAGATION.get().is_some_and(|installed| installed.query_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert_eq!(context.trace_id_text(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id, 0xb7ad_6b71_6920_3331);
        assert!(context.sampled);
        assert_eq!(context.to_string(), GOOD);
        assert!(!TraceContext::parse(&GOOD.replace("-01", "-00")).unwrap().sampled);
        assert!(TraceContext::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-may-come").is_some());
    }

    #[test]
    fn a_malformed_one_is_none() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    #[test]
    fn without_an_exporter_a_good_context_is_passed_on_and_a_bad_one_is_not() {
        assert_eq!(hand_on(&Span::none(), Some(GOOD)).as_deref(), Some(GOOD));
        assert_eq!(hand_on(&Span::none(), Some("junk\r\nx: y")), None);
        assert_eq!(hand_on(&Span::none(), None), None);
    }

    #[test]
    fn a_tracestate_goes_where_its_traceparent_goes() {
        let both = joined(Some(GOOD), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")).unwrap();
        assert_eq!(parts(&both), (GOOD, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        assert_eq!(TraceContext::parse(&both), TraceContext::parse(GOOD));
        assert_eq!(hand_on(&Span::none(), Some(&both)), Some(both));
        for state in ["", "nothing", "a=b\r\nx: y", &format!("a={}", "b".repeat(600))] {
            assert_eq!(joined(Some(GOOD), Some(state)).as_deref(), Some(GOOD), "{state}");
        }
        assert_eq!(joined(Some("junk"), Some("a=b")).as_deref(), Some("junk"));
        assert_eq!(joined(None, Some("a=b")), None);
    }
}
