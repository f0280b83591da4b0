//! Speaking to a server as any Flight SQL client does.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow_flight::FlightInfo;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use clap::Args;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::Failure;

/// Where the server is and who asks.
#[derive(Args, Clone)]
pub struct Connection {
    /// `grpc://HOST:PORT`, or `grpc+tls://HOST:PORT`.
    #[arg(long, env = "FLIGHTPATH_URI", default_value = "grpc://127.0.0.1:31337")]
    uri: String,
    /// Log in as this user; the password comes from FLIGHTPATH_PASSWORD.
    #[arg(long, env = "FLIGHTPATH_USER")]
    user: Option<String>,
    /// PEM file of the authority that signed the server's certificate.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// PEM file of a certificate to show, for servers that ask clients for one; with --tls-key.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the key to --tls-cert.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Connection {
    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let read = |option: &str, path: &Path| std::fs::read(path).map_err(|e| Failure::usage(format!("{option} {}: {e}", path.display())));
        let mut config = ClientTlsConfig::new();
        if let Some(path) = &self.tls_ca {
            config = config.ca_certificate(Certificate::from_pem(read("--tls-ca", path)?));
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            config = config.identity(Identity::from_pem(read("--tls-cert", certificate)?, read("--tls-key", key)?));
        }
        Ok(config)
    }
}

pub struct Client {
    inner: FlightSqlServiceClient<Channel>,
}

/// A statement that the server took.
pub struct Executed {
    pub info: FlightInfo,
    /// What the server said of its decision: `query_id`, `engine`, `reason`, predictions.
    pub decision: serde_json::Value,
    pub schema: SchemaRef,
    pub submitted: Instant,
}

impl Client {
    /// Connects; `settings` are sent with every call as `flightpath-<name>`.
    pub async fn connect(connection: &Connection, settings: &[(&str, &str)]) -> Result<Self, Failure> {
        let unreachable = |e: &dyn std::fmt::Display| Failure {
            code: 3,
            message: format!("can't reach {}: {e} (is `flightpath serve` running there?)", connection.uri),
        };
        let (scheme, rest) = connection.uri.split_once("://").ok_or_else(|| Failure::usage("--uri must look like grpc://HOST:PORT"))?;
        let tls = match scheme {
            "grpc" | "grpc+tcp" | "http" => false,
            "grpc+tls" | "grpcs" | "https" => true,
            other => return Err(Failure::usage(format!("--uri must begin with grpc:// or grpc+tls://, not {other}://"))),
        };
        let address = format!("{}://{rest}", if tls { "https" } else { "http" });
        let mut endpoint = Endpoint::from_shared(address)
            .map_err(|e| Failure::usage(format!("--uri: {e}")))?
            .connect_timeout(Duration::from_secs(10))
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(32 << 20);
        if tls {
            endpoint = endpoint.tls_config(connection.tls()?).map_err(|e| Failure::usage(format!("TLS: {}", chain(&e))))?;
        }
        let channel = endpoint.connect().await.map_err(|e| unreachable(&chain(&e)))?;
        let service = arrow_flight::flight_service_client::FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut inner = FlightSqlServiceClient::new_from_inner(service);
        for (name, value) in settings {
            inner.set_header(format!("flightpath-{name}"), (*value).to_string());
        }
        if let Ok(token) = std::env::var("FLIGHTPATH_TOKEN") {
            inner.set_token(token);
        } else if let Some(user) = &connection.user {
            let password = std::env::var("FLIGHTPATH_PASSWORD")
                .map_err(|_| Failure::usage("--user needs the password in the environment variable FLIGHTPATH_PASSWORD"))?;
            inner.handshake(user, &password).await.map_err(|e| Failure { code: 3, message: format!("login failed: {e}") })?;
        }
        Ok(Self { inner })
    }

    pub async fn execute(&mut self, sql: &str) -> Result<Executed, Failure> {
        let submitted = Instant::now();
        let info = self.inner.execute(sql.to_string(), None).await.map_err(|e| failure(&e.into()))?;
        let decision = serde_json::from_slice(&info.app_metadata).unwrap_or(serde_json::Value::Null);
        let schema = info.clone().try_decode_schema().map_err(|e| Failure::failed(format!("the server's schema can't be read: {e}")))?;
        Ok(Executed { info, decision, schema: schema.into(), submitted })
    }

    pub async fn fetch(&mut self, executed: &Executed) -> Result<FlightRecordBatchStream, Failure> {
        let ticket = executed.info.endpoint.first().and_then(|e| e.ticket.clone());
        let ticket = ticket.ok_or_else(|| Failure::failed("the server gave no ticket"))?;
        self.inner.do_get(ticket).await.map_err(|e| failure(&e.into()))
    }
}

/// What the server said, and the exit code that goes with it.
pub fn failure(error: &FlightError) -> Failure {
    let status = match error {
        FlightError::Tonic(status) => Some(status.as_ref()),
        FlightError::ExternalError(e) => e.downcast_ref::<tonic::Status>(),
        FlightError::Arrow(arrow::error::ArrowError::ExternalError(e)) => e.downcast_ref::<tonic::Status>(),
        _ => None,
    };
    let Some(status) = status else { return Failure::failed(error) };
    // A status with a cause isn't the server's answer: the connection gave none.
    if let Some(cause) = std::error::Error::source(status) {
        let cause = chain(cause);
        let message = format!("the connection to the server broke: {cause} (over TLS, a server may ask for a certificate: --tls-cert)");
        return Failure { code: 3, message };
    }
    let code = match status.code() {
        tonic::Code::Unauthenticated => 3,
        tonic::Code::Unimplemented | tonic::Code::PermissionDenied => 4,
        _ => 1,
    };
    Failure { code, message: status.message().to_string() }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
