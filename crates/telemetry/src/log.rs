//! The log on standard error, as text or as JSON lines, each with the ids of the trace that it
//! belongs to, and the same lines on their way to a collector. Standard output is for a server's
//! address.

use std::fmt;
use std::io::IsTerminal;

use chrono::{SecondsFormat, Utc};
use flightpath_types::trace::TraceContext;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::spans;
use crate::start::Role;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or directives as [`check_level`] takes them.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    /// One object a line: `timestamp`, `level`, `target`, `message`, the event's fields, and
    /// `trace_id` and `span_id` where there are.
    Json,
}

impl LogFormat {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("must be \"text\" or \"json\", not \"{text}\"")),
        }
    }
}

/// Whether `text` is a level or a list of directives.
pub fn check_level(text: &str) -> Result<(), String> {
    text.parse::<Targets>().map(drop).map_err(|_| {
        format!("must be error, warn, info, debug, trace or directives such as \"info,flightpath_worker=debug\", not \"{text}\"")
    })
}

/// A bare level is this program's own; libraries then tell warnings only.
fn filter(level: &str) -> EnvFilter {
    let directives = match level.parse::<Level>() {
        Ok(level) => format!("warn,flightpath={level}"),
        Err(_) => level.to_string(),
    };
    EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("warn"))
}

/// Changes what is written from then on.
pub(crate) type SetLevel = Box<dyn Fn(&str) + Send + Sync>;

pub(crate) type Lines<S> = Box<dyn Layer<S> + Send + Sync>;

pub(crate) fn layer<S>(config: &LogConfig) -> (Lines<S>, SetLevel)
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let colours = config.format == LogFormat::Text && std::io::stderr().is_terminal();
    layer_to(config, std::io::stderr, colours)
}

fn layer_to<S, W>(config: &LogConfig, writer: W, colours: bool) -> (Lines<S>, SetLevel)
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    let (level, handle) = reload::Layer::new(filter(&config.level));
    let filter = level.and(spans::not_traced());
    let lines = match config.format {
        LogFormat::Text => lines.event_format(Text(tracing_subscriber::fmt::format().with_ansi(colours))).with_filter(filter).boxed(),
        LogFormat::Json => lines.event_format(Json).with_filter(filter).boxed(),
    };
    // Fails only when the subscriber is gone, and with it the log.
    let set = move |level: &str| drop(handle.reload(self::filter(level)));
    (lines, Box::new(set))
}

/// Crates that sending a line may make write: sent too, each line would make more of them.
const SENDERS: [&str; 13] = [
    "flightpath_telemetry",
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry_otlp",
    "tonic",
    "h2",
    "hyper",
    "hyper_util",
    "reqwest",
    "tower",
    "rustls",
    "rustls_native_certs",
    "mio",
];
/// Under which a router passes on what its workers write; they send it themselves.
const WORKERS_WORDS: &str = "flightpath_worker";

/// Lines for a collector: what the log tells, but for what sending them writes.
pub(crate) fn sent<S>(config: &LogConfig, logs: &SdkLoggerProvider, role: Role) -> (Lines<S>, SetLevel)
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let (level, handle) = reload::Layer::new(filter(&config.level));
    let wanted = filter_fn(move |metadata| metadata.is_event() && is_sent(metadata.target(), role)).with_max_level_hint(LevelFilter::TRACE);
    let lines = OpenTelemetryTracingBridge::new(logs).with_filter(level.and(wanted)).boxed();
    let set = move |level: &str| drop(handle.reload(self::filter(level)));
    (lines, Box::new(set))
}

fn is_sent(target: &str, role: Role) -> bool {
    let written_by = target.split("::").next().unwrap_or_default();
    let is_a_workers = role == Role::Router && target == WORKERS_WORDS;
    !is_a_workers && !SENDERS.contains(&written_by)
}

/// The usual line, and behind it the ids.
struct Text(Format<Full, SystemTime>);

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(trace) = spans::current() else { return self.0.format_event(ctx, writer, event) };
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let (trace_id, span_id) = ids(&trace);
        writeln!(writer, "{} trace_id={trace_id} span_id={span_id}", line.trim_end())
    }
}

fn ids(trace: &TraceContext) -> (String, String) {
    (trace.trace_id_text(), format!("{:016x}", trace.span_id))
}

struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = fields.0;
        line.insert("timestamp".into(), Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true).into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("target".into(), metadata.target().into());
        if let Some(trace) = spans::current() {
            let (trace_id, span_id) = ids(&trace);
            line.insert("trace_id".into(), trace_id.into());
            line.insert("span_id".into(), span_id.into());
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    /// What is written of one event outside of a query and one inside.
    fn written(level: &str, format: LogFormat) -> (Vec<String>, TraceContext) {
        let lines = Lines::default();
        let writer = lines.clone();
        let config = LogConfig { level: level.into(), format };
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let subscriber = tracing_subscriber::registry().with(layer_to(&config, move || writer.clone(), false).0).with(spans::layer(tracer));
        let mut context = None;
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "flightpath_test", rows = 3u64, "outside");
            let span = tracing::info_span!(target: flightpath_types::trace::SPANS, "query", secret = "in a span");
            span.in_scope(|| {
                tracing::warn!(target: "flightpath_test", why = "because", "inside");
                context = spans::current();
            });
            tracing::info!(target: "a_library", "not wanted");
        });
        (lines.text().lines().map(str::to_string).collect(), context.unwrap())
    }

    #[test]
    fn a_line_of_text_ends_with_the_ids_of_its_trace_and_holds_no_spans_fields() {
        for level in ["info", "warn,flightpath=trace"] {
            let (lines, context) = written(level, LogFormat::Text);
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(lines[0].contains("outside rows=3") && !lines[0].contains("trace_id"), "{}", lines[0]);
            let ids = format!("inside why=\"because\" trace_id={} span_id={:016x}", context.trace_id_text(), context.span_id);
            assert!(lines[1].ends_with(&ids) && !lines[1].contains("in a span"), "{}", lines[1]);
        }
        // Directives for everything don't let spans in either.
        let (lines, _) = written("trace", LogFormat::Text);
        assert!(lines.iter().all(|line| !line.contains("in a span")), "{lines:?}");
    }

    #[test]
    fn a_line_of_json_is_an_object_with_its_fields_and_ids() {
        let (lines, context) = written("info", LogFormat::Json);
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["message"], "outside");
        assert_eq!(lines[0]["rows"], 3);
        assert_eq!(lines[0].get("trace_id"), None);
        assert_eq!((&lines[1]["level"], &lines[1]["why"]), (&"WARN".into(), &"because".into()));
        assert_eq!(lines[1]["trace_id"], context.trace_id_text());
        assert!(lines[1]["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn where_nobody_takes_spans_they_are_disabled_whatever_the_log_tells() {
        let config = LogConfig { level: "trace".into(), format: LogFormat::Text };
        let subscriber = tracing_subscriber::registry().with(layer_to(&config, std::io::sink, false).0);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: flightpath_types::trace::SPANS, "query");
            assert!(span.is_disabled());
            assert!(!tracing::info_span!(target: "flightpath_test", "another").is_disabled());
        });
    }

    #[test]
    fn what_nobody_takes_is_passed_over_by_its_level_alone() {
        use tracing::Subscriber;
        let config = LogConfig { level: "info".into(), format: LogFormat::Text };
        let log = || tracing_subscriber::registry().with(layer_to(&config, std::io::sink, false).0);
        assert_eq!(log().max_level_hint(), Some(tracing::level_filters::LevelFilter::INFO));
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let both = log().with(spans::layer(tracer));
        assert_eq!(both.max_level_hint(), Some(tracing::level_filters::LevelFilter::INFO));
    }

    #[test]
    fn what_sending_writes_isnt_sent_nor_a_workers_words_twice() {
        for target in ["flightpath_telemetry", "flightpath_telemetry::collector", "h2::codec", "hyper_util::client", "reqwest::connect"] {
            assert!(!is_sent(target, Role::Router) && !is_sent(target, Role::Worker), "{target}");
        }
        assert!(is_sent("flightpath_server::serve", Role::Router) && is_sent("sqlx::query", Role::Router));
        assert!(!is_sent("flightpath_worker", Role::Router) && is_sent("flightpath_worker", Role::Worker));
        assert!(is_sent("flightpath_worker::service", Role::Worker));
    }

    #[test]
    fn directives_are_checked() {
        assert!(check_level("info").is_ok() && check_level("info,flightpath_worker=debug").is_ok());
        assert!(check_level("flightpath=loud").unwrap_err().contains("must be error"));
    }
}
