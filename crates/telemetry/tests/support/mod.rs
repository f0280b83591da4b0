//! A collector that keeps what it is sent, and a reader of the Prometheus page.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_telemetry::{Config, LogConfig, LogFormat, Role, Telemetry};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{MetricsService, MetricsServiceServer};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

pub const WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
pub struct Received {
    pub traces: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    pub metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    pub logs: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
    /// The header `x-secret` of each call.
    pub secrets: Arc<Mutex<Vec<String>>>,
}

#[allow(dead_code)]
impl Received {
    pub fn spans(&self) -> Vec<Span> {
        let traces = self.traces.lock();
        traces.iter().flat_map(|t| &t.resource_spans).flat_map(|r| &r.scope_spans).flat_map(|s| s.spans.clone()).collect()
    }

    /// The log's lines: who wrote each, its text, and the rest.
    pub fn lines(&self) -> Vec<(String, String, LogRecord)> {
        let logs = self.logs.lock();
        let scopes = logs.iter().flat_map(|l| &l.resource_logs).flat_map(|r| &r.scope_logs);
        let line = |record: &LogRecord| match record.body.as_ref().and_then(|body| body.value.clone()) {
            Some(Value::StringValue(text)) => text,
            other => format!("{other:?}"),
        };
        let of_scope = |scope: &opentelemetry_proto::tonic::logs::v1::ScopeLogs| {
            let target = scope.scope.as_ref().map(|s| s.name.clone()).unwrap_or_default();
            scope.log_records.iter().map(|record| (target.clone(), line(record), record.clone())).collect::<Vec<_>>()
        };
        scopes.flat_map(of_scope).collect()
    }

    pub fn resource(&self, key: &str) -> Option<String> {
        let traces = self.traces.lock();
        let resource = traces.first()?.resource_spans.first()?.resource.as_ref()?;
        text_of(&resource.attributes, key)
    }

    pub fn metric_names(&self) -> Vec<String> {
        let metrics = self.metrics.lock();
        let scopes = metrics.iter().flat_map(|m| &m.resource_metrics).flat_map(|r| &r.scope_metrics);
        scopes.flat_map(|s| s.metrics.iter().map(|m| m.name.clone())).collect()
    }
}

pub fn text_of(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(n) => n.to_string(),
        Value::BoolValue(b) => b.to_string(),
        Value::DoubleValue(d) => d.to_string(),
        other => format!("{other:?}"),
    })
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let secret = request.metadata().get("x-secret").and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
        self.secrets.lock().push(secret);
        self.traces.lock().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(&self, request: Request<ExportMetricsServiceRequest>) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Received {
    async fn export(&self, request: Request<ExportLogsServiceRequest>) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs.lock().push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

/// One for spans and metrics that doesn't know logs.
#[allow(dead_code)]
pub async fn collector_without_logs(listener: TcpListener) -> Received {
    let received = Received::default();
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(received.clone()))
        .add_service(MetricsServiceServer::new(received.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    received
}

#[allow(dead_code)]
pub async fn collector(listener: TcpListener) -> Received {
    let received = Received::default();
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(received.clone()))
        .add_service(MetricsServiceServer::new(received.clone()))
        .add_service(LogsServiceServer::new(received.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    received
}

#[allow(dead_code)]
pub async fn start(config: Config) -> Telemetry {
    start_at("info", config).await
}

#[allow(dead_code)]
pub async fn start_at(level: &str, config: Config) -> Telemetry {
    let log = LogConfig { level: level.into(), format: LogFormat::Text };
    flightpath_telemetry::start(&config, &log, Role::Router).await.unwrap()
}

/// Status line and body.
#[allow(dead_code)]
pub async fn read_page(address: SocketAddr, path: &str, authorization: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_string(), body.to_string())
}

#[allow(dead_code)]
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let limit = Instant::now() + WAIT_MAX;
    while !condition().await {
        assert!(Instant::now() < limit, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
