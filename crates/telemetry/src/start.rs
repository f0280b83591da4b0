//! Puts the parts together, and ends them within a limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flightpath_types::{Error, Result};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{self, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use prometheus::Registry;
use tokio::sync::oneshot;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::collector::{Collector, CountedQueue, Guarded, QUEUE_MAX, Signals};
use crate::config::{Config, Otlp};
use crate::levels::{self, Levels};
use crate::log::LogConfig;
use crate::metrics::QueryMetrics;
use crate::page::{self, Serving};
use crate::{log, spans, transport};

/// How long the last spans, lines and metrics may take to be sent.
const FLUSH_MAX: Duration = Duration::from_secs(2);
const SCOPE: &str = "flightpath";

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Traces, metrics and logs.
    Router,
    /// Traces and logs: what a worker does is in its router's metrics.
    Worker,
}

/// Whatever was started. Ends with [`Telemetry::shutdown`]; dropped without it, what still waits
/// to be sent is lost.
#[derive(Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    meters: Option<SdkMeterProvider>,
    metrics: Option<Arc<QueryMetrics>>,
    page: Option<Serving>,
    set_levels: Vec<log::SetLevel>,
}

/// Starts the log, and what `config` asks for. Must be called inside a tokio runtime, once per
/// process: a second call's log and spans are ignored.
pub async fn start(config: &Config, log: &LogConfig, role: Role) -> Result<Telemetry> {
    let started = build(config, role).await;
    let (lines, set_level) = log::layer(log);
    let mut telemetry = match started {
        Ok(telemetry) => telemetry,
        Err(error) => {
            let _ = tracing_subscriber::registry().with(lines).try_init();
            return Err(error);
        }
    };
    telemetry.set_levels.push(set_level);
    let mut layers = vec![lines];
    if let Some(traces) = &telemetry.traces {
        spans::install(config.query_text);
        layers.push(spans::layer(traces.tracer(SCOPE)).boxed());
    }
    if let Some(logs) = &telemetry.logs {
        let (sent, set_level) = log::sent(log, logs, role);
        telemetry.set_levels.push(set_level);
        layers.push(sent);
    }
    let _ = tracing_subscriber::registry().with(layers).try_init();
    if let Some(page) = &telemetry.page {
        tracing::info!(target: "flightpath_telemetry", "metrics at http://{}/metrics", page.address);
    }
    Ok(telemetry)
}

async fn build(config: &Config, role: Role) -> Result<Telemetry> {
    if !config.is_on() {
        return Ok(Telemetry::default());
    }
    if let Some((setting, what)) = config.mistakes().into_iter().next() {
        return Err(Error::invalid(format!("telemetry.{setting}: {what}")));
    }
    let resource = resource(config);
    let mut telemetry = Telemetry::default();
    let mut meters = SdkMeterProvider::builder().with_resource(resource.clone());
    let mut collectors = None;
    if let Some(otlp) = &config.otlp {
        let sending = Sending::new(otlp)?;
        if role == Role::Router {
            meters = meters.with_reader(PeriodicReader::builder(sending.metrics).build());
        }
        let (of_spans, of_logs) = (sending.spans.collector.clone(), sending.logs.collector.clone());
        telemetry.traces = Some(traces(config, sending.spans, resource.clone()));
        telemetry.logs = config.sends_logs().then(|| lines(sending.logs, resource));
        collectors = Some((of_spans, telemetry.logs.as_ref().map(|_| of_logs)));
    }
    if role == Role::Worker {
        return Ok(telemetry);
    }
    if let Some(page) = &config.page {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false).build();
        meters = meters.with_reader(reader.map_err(|e| Error::internal(format!("the Prometheus page can't be made: {e}")))?);
        telemetry.page = Some(page::serve(page, registry).await?);
    }
    let meters = meters.build();
    let meter = meters.meter(SCOPE);
    telemetry.metrics = Some(Arc::new(QueryMetrics::new(&meter)));
    if let Some((spans, logs)) = &collectors {
        levels::watch_collectors(&meter, spans, logs.as_ref());
    }
    telemetry.meters = Some(meters);
    Ok(telemetry)
}

/// All exporters to one collector.
struct Sending {
    spans: Guarded<SpanExporter>,
    metrics: Guarded<MetricExporter>,
    logs: Guarded<LogExporter>,
}

impl Sending {
    fn new(otlp: &Otlp) -> Result<Self> {
        let collector = Collector::new(&otlp.endpoint, Signals::SpansAndMetrics);
        let exporters = transport::exporters(otlp)?;
        Ok(Self {
            spans: Guarded { exporter: exporters.spans, collector: collector.clone() },
            metrics: Guarded { exporter: exporters.metrics, collector },
            logs: Guarded { exporter: exporters.logs, collector: Collector::new(&otlp.endpoint, Signals::Logs) },
        })
    }
}

// The rest of the batches' settings are the standard's variables.
fn traces(config: &Config, exporter: Guarded<SpanExporter>, resource: Resource) -> SdkTracerProvider {
    let collector = exporter.collector.clone();
    let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE_MAX).build();
    let queue = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let mut provider = SdkTracerProvider::builder().with_resource(resource).with_span_processor(CountedQueue { queue, collector });
    if let Some(ratio) = config.sample_ratio {
        provider = provider.with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))));
    }
    provider.build()
}

fn lines(exporter: Guarded<LogExporter>, resource: Resource) -> SdkLoggerProvider {
    let collector = exporter.collector.clone();
    let batches = logs::BatchConfigBuilder::default().with_max_queue_size(QUEUE_MAX).build();
    let queue = BatchLogProcessor::builder(exporter).with_batch_config(batches).build();
    SdkLoggerProvider::builder().with_resource(resource).with_log_processor(CountedQueue { queue, collector }).build()
}

fn resource(config: &Config) -> Resource {
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    let given = config.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder().with_attributes(own).with_attributes(given).with_service_name(config.service_name().to_string()).build()
}

impl Telemetry {
    /// To be told of each ended query; `None` when nobody asks.
    pub fn query_metrics(&self) -> Option<Arc<QueryMetrics>> {
        self.metrics.clone()
    }

    /// Changes what the log tells from now on: a level or directives, already checked.
    pub fn set_log_level(&self, level: &str) {
        for set in &self.set_levels {
            set(level);
        }
    }

    /// Where the Prometheus page is.
    pub fn page_address(&self) -> Option<SocketAddr> {
        self.page.as_ref().map(|page| page.address)
    }

    /// Has `levels` asked whenever metrics are collected.
    pub fn watch(&self, levels: Arc<dyn Levels>) {
        if let Some(meters) = &self.meters {
            levels::watch(&meters.meter(SCOPE), &levels);
        }
    }

    /// Sends what still waits, for at most two seconds; false when that wasn't enough.
    pub async fn shutdown(&self) -> bool {
        let (done, ended) = oneshot::channel();
        let (traces, logs, meters) = (self.traces.clone(), self.logs.clone(), self.meters.clone());
        // The SDK's shutdown blocks. A thread of its own, since a runtime waits for its blocking
        // tasks, and this may take as long as a collector that doesn't answer.
        let end = move || {
            let traces = traces.is_none_or(|traces| traces.shutdown_with_timeout(FLUSH_MAX).is_ok());
            let logs = logs.is_none_or(|logs| logs.shutdown_with_timeout(FLUSH_MAX).is_ok());
            let meters = meters.is_none_or(|meters| meters.shutdown_with_timeout(FLUSH_MAX).is_ok());
            let _ = done.send(traces && logs && meters);
        };
        let spawned = std::thread::Builder::new().name("telemetry-end".into()).spawn(end);
        let flushed = spawned.is_ok() && matches!(tokio::time::timeout(FLUSH_MAX, ended).await, Ok(Ok(true)));
        if !flushed {
            tracing::warn!(target: "flightpath_telemetry", "the telemetry collector didn't take everything in time; the rest is lost");
        }
        if let Some(page) = &self.page {
            page.stop();
        }
        flushed
    }
}
