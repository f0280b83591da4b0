//! What stands between the exporters and a collector that may be slow, down, or gone. An outage is
//! told once; while it lasts the collector is asked ever more rarely, and what was to be sent is
//! dropped and counted. An exporter is never told of a failure: it would only write its own log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchLogProcessor, LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use parking_lot::Mutex;
use tokio::runtime::Handle;

/// Longest export; a collector that takes longer counts as down.
const EXPORT_MAX: Duration = Duration::from_secs(5);
/// First pause after a failure; doubles up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Spans, or lines of the log, that wait to be sent; about a kilobyte each.
pub(crate) const QUEUE_MAX: usize = 4096;

/// What a collector takes, or doesn't: one for traces needn't know logs, and mustn't lose its traces
/// for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signals {
    SpansAndMetrics,
    Logs,
}

/// A collector's health, as far as these signals go.
#[derive(Debug)]
pub(crate) struct Collector {
    endpoint: String,
    signals: Signals,
    runtime: Handle,
    outage: Mutex<Option<Outage>>,
    /// Spans or lines, ever and now.
    dropped: AtomicU64,
    queued: AtomicUsize,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    ask_again: Instant,
    pause: Duration,
    dropped_before: u64,
}

impl Collector {
    /// Exports run on the current tokio runtime.
    pub fn new(endpoint: &str, signals: Signals) -> Arc<Self> {
        Arc::new(Self {
            endpoint: endpoint.to_string(),
            signals,
            runtime: Handle::current(),
            outage: Mutex::new(None),
            dropped: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
        })
    }

    /// Spans, or lines of the log.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether there's a place for one more; it's counted then. Without one it's dropped, and counted as that.
    fn enter_queue(&self) -> bool {
        let entered = self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < QUEUE_MAX).then_some(n + 1)).is_ok();
        if !entered {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    /// So many have left the queue, and were sent or not.
    fn left_queue(&self, count: usize, sent: bool) {
        self.queued.fetch_sub(count, Ordering::AcqRel);
        if !sent {
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Whether an export is worth a try now.
    fn may_ask(&self) -> bool {
        self.outage.lock().as_ref().is_none_or(|outage| Instant::now() >= outage.ask_again)
    }

    async fn export(&self, export: impl Future<Output = OTelSdkResult> + Send) -> bool {
        if !self.may_ask() {
            return false;
        }
        let export = async { tokio::time::timeout(EXPORT_MAX, export).await };
        let ended = InRuntime { runtime: &self.runtime, inner: Box::pin(export) };
        match ended.await {
            Ok(Ok(())) => self.recovered(),
            Ok(Err(error)) => return self.failed(&error.to_string()),
            Err(_) => return self.failed("it doesn't answer"),
        }
        true
    }

    fn failed(&self, why: &str) -> bool {
        let now = Instant::now();
        let mut outage = self.outage.lock();
        match outage.as_mut() {
            Some(outage) => {
                outage.pause = (outage.pause * 2).min(PAUSE_MAX);
                outage.ask_again = now + outage.pause;
            }
            None => {
                *outage = Some(Outage { since: now, ask_again: now + PAUSE_MIN, pause: PAUSE_MIN, dropped_before: self.dropped() });
                match self.signals {
                    Signals::SpansAndMetrics => {
                        tracing::warn!(endpoint = %self.endpoint, why, "the telemetry collector takes nothing; what is to be sent is dropped until it does");
                    }
                    Signals::Logs => {
                        tracing::warn!(endpoint = %self.endpoint, why, "the telemetry collector takes no logs; they are dropped until it does");
                    }
                }
            }
        }
        false
    }

    fn recovered(&self) {
        if let Some(outage) = self.outage.lock().take() {
            let (seconds, dropped) = (outage.since.elapsed().as_secs(), self.dropped() - outage.dropped_before);
            match self.signals {
                Signals::SpansAndMetrics => {
                    tracing::info!(endpoint = %self.endpoint, seconds, dropped_spans = dropped, "the telemetry collector is back");
                }
                Signals::Logs => {
                    tracing::info!(endpoint = %self.endpoint, seconds, dropped_logs = dropped, "the telemetry collector takes logs again");
                }
            }
        }
    }
}

/// Timers and sockets belong to this runtime, whatever thread polls.
struct InRuntime<'a, F> {
    runtime: &'a Handle,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for InRuntime<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _inside = self.runtime.enter();
        self.inner.as_mut().poll(cx)
    }
}

/// An exporter that reports to the collector's health instead of to its caller.
#[derive(Debug)]
pub(crate) struct Guarded<E> {
    pub exporter: E,
    pub collector: Arc<Collector>,
}

impl<E: SpanExporter> SpanExporter for Guarded<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let sent = self.collector.export(self.exporter.export(batch)).await;
        self.collector.left_queue(count, sent);
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Guarded<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        let sent = self.collector.export(self.exporter.export(batch)).await;
        self.collector.left_queue(count, sent);
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Guarded<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        // Sums are cumulative: what isn't sent now is in what is sent next.
        self.collector.export(self.exporter.export(metrics)).await;
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// A queue whose end is counted: the processor behind it drops without telling.
#[derive(Debug)]
pub(crate) struct CountedQueue<Q> {
    pub queue: Q,
    pub collector: Arc<Collector>,
}

impl SpanProcessor for CountedQueue<BatchSpanProcessor> {
    fn on_start(&self, span: &mut Span, cx: &opentelemetry::Context) {
        self.queue.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.collector.enter_queue() {
            self.queue.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.queue.set_resource(resource);
    }
}

impl LogProcessor for CountedQueue<BatchLogProcessor> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.collector.enter_queue() {
            self.queue.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.queue.set_resource(resource);
    }
}
