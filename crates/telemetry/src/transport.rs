//! OTLP over gRPC or HTTP. Connections are made when something is to be sent, never at the start:
//! a collector may come later.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use flightpath_types::{Error, Result};
use futures::StreamExt;
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::config::{Otlp, Protocol};

const CONNECT_MAX: Duration = Duration::from_secs(3);
/// An answer is a few bytes; a proxy's page may be more.
const ANSWER_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Exporters {
    pub spans: SpanExporter,
    pub metrics: MetricExporter,
    pub logs: LogExporter,
}

/// Must be called inside a tokio runtime.
pub(crate) fn exporters(otlp: &Otlp) -> Result<Exporters> {
    let failed = |e: &dyn std::fmt::Display| Error::invalid(format!("telemetry.otlp_endpoint {} can't be used: {e}", otlp.endpoint));
    match otlp.protocol {
        Protocol::Grpc => {
            let channel = channel(&otlp.endpoint)?;
            let metadata = MetadataMap::from_headers(headers(otlp)?);
            let spans = SpanExporter::builder().with_tonic().with_channel(channel.clone()).with_metadata(metadata.clone());
            let metrics = MetricExporter::builder().with_tonic().with_channel(channel.clone()).with_metadata(metadata.clone());
            let logs = LogExporter::builder().with_tonic().with_channel(channel).with_metadata(metadata);
            Ok(Exporters {
                spans: spans.build().map_err(|e| failed(&e))?,
                metrics: metrics.build().map_err(|e| failed(&e))?,
                logs: logs.build().map_err(|e| failed(&e))?,
            })
        }
        Protocol::Http => {
            let client = Http::new(&otlp.endpoint).map_err(|e| failed(&e))?;
            let headers: HashMap<String, String> = otlp.headers.0.clone().into_iter().collect();
            let url = |signal: &str| format!("{}/v1/{signal}", otlp.endpoint.trim_end_matches('/'));
            let spans = SpanExporter::builder().with_http().with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
            let spans = spans.with_http_client(client.clone()).with_endpoint(url("traces")).with_headers(headers.clone());
            let metrics = MetricExporter::builder().with_http().with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
            let metrics = metrics.with_http_client(client.clone()).with_endpoint(url("metrics")).with_headers(headers.clone());
            let logs = LogExporter::builder().with_http().with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
            let logs = logs.with_http_client(client).with_endpoint(url("logs")).with_headers(headers);
            Ok(Exporters {
                spans: spans.build().map_err(|e| failed(&e))?,
                metrics: metrics.build().map_err(|e| failed(&e))?,
                logs: logs.build().map_err(|e| failed(&e))?,
            })
        }
    }
}

fn headers(otlp: &Otlp) -> Result<http::HeaderMap> {
    let mut headers = http::HeaderMap::new();
    for (name, value) in &otlp.headers.0 {
        let pair = (http::HeaderName::from_bytes(name.as_bytes()).ok(), http::HeaderValue::from_str(value).ok());
        let (Some(name), Some(mut value)) = pair else {
            return Err(Error::invalid(format!("telemetry.otlp_headers: `{name}` isn't a header that can be sent")));
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn channel(endpoint: &str) -> Result<Channel> {
    let failed = |e: &dyn std::fmt::Display| Error::invalid(format!("telemetry.otlp_endpoint {endpoint} can't be used: {e}"));
    let mut target = Endpoint::from_shared(endpoint.to_string()).map_err(|e| failed(&e))?.connect_timeout(CONNECT_MAX);
    if endpoint.starts_with("https:") {
        // The system's own authorities; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
        let found = rustls_native_certs::load_native_certs();
        let certificates = found.certs.iter().map(|der| Certificate::from_pem(pem(der.as_ref())));
        target = target.tls_config(ClientTlsConfig::new().ca_certificates(certificates)).map_err(|e| failed(&e))?;
    }
    Ok(target.connect_lazy())
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[derive(Debug, Clone)]
struct Http(reqwest::Client);

impl Http {
    fn new(endpoint: &str) -> std::result::Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().connect_timeout(CONNECT_MAX).redirect(reqwest::redirect::Policy::none());
        // A proxy reaches another machine's loopback, not this one's.
        let local = url::Url::parse(endpoint).is_ok_and(|url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")));
        if local { client.no_proxy() } else { client }.build().map(Self)
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> std::result::Result<http::Response<Bytes>, HttpError> {
        let answer = self.0.execute(request.try_into()?).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = BytesMut::new();
        let mut parts = answer.bytes_stream();
        while let Some(part) = parts.next().await {
            let part = part?;
            if body.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(Box::new(ResponseBodyTooLarge::new()));
            }
            body.extend_from_slice(&part);
        }
        let mut response = http::Response::builder().status(status).body(body.freeze())?;
        *response.headers_mut() = headers;
        Ok(response)
    }
}
