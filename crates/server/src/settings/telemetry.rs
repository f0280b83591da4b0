//! `[telemetry]`: what is told to whom. The standard's own variables (`OTEL_...`) fill in what isn't set.

use flightpath_telemetry::{Config, Headers, Otlp, Page, Protocol};

use super::mistake::About;
use super::table::Setting;

/// As given; [`TelemetrySettings::config`] is what it means.
#[derive(Debug, Clone, Default)]
pub struct TelemetrySettings {
    otlp_endpoint: Option<String>,
    otlp_protocol: Protocol,
    otlp_headers: Headers,
    prometheus: Option<std::net::SocketAddr>,
    prometheus_token_sha256: Option<String>,
    rest: Config,
    environment: Variables,
}

/// One of them holds headers: printing shows the names alone.
#[derive(Clone, Default)]
struct Variables(Vec<(String, String)>);

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl TelemetrySettings {
    /// Keeps the variables that the standard names.
    pub(crate) fn read_environment(&mut self, environment: &[(String, String)]) {
        self.environment = Variables(environment.iter().filter(|(name, _)| name.starts_with("OTEL_")).cloned().collect());
    }

    pub fn config(&self) -> Result<Config, String> {
        let otlp =
            self.otlp_endpoint.clone().map(|endpoint| Otlp { endpoint, protocol: self.otlp_protocol, headers: self.otlp_headers.clone() });
        let page = self.prometheus.map(|listen| Page { listen, token_sha256: self.prometheus_token_sha256.clone() });
        let config = Config { otlp, page, ..self.rest.clone() };
        let variable = |wanted: &str| self.environment.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        config.with_environment(variable)
    }

    /// What the standard lets operators say about batches, for the worker, too.
    pub(crate) fn batch_variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let of_batches = |name: &str| name.starts_with("OTEL_BSP_") || name.starts_with("OTEL_BLRP_");
        self.environment.0.iter().filter(move |(name, _)| of_batches(name)).cloned()
    }

    pub(super) fn mistakes(&self) -> Vec<About> {
        match self.config() {
            Ok(config) => {
                let about = |(setting, what)| (format!("telemetry.{setting}"), format!("telemetry.{setting} {what}"));
                config.mistakes().into_iter().map(about).collect()
            }
            Err(mistake) => vec![("telemetry".into(), mistake)],
        }
    }
}

pub(crate) fn settings() -> [Setting; 10] {
    [
        Setting {
            path: "telemetry.otlp_endpoint",
            help: "collector for traces, metrics and logs, such as http://127.0.0.1:4317; off where it isn't set",
            set: |s, v| {
                s.telemetry.otlp_endpoint = v.optional_text()?;
                Ok(())
            },
        },
        Setting {
            path: "telemetry.otlp_protocol",
            help: "`grpc` or `http` (protobuf)",
            set: |s, v| {
                s.telemetry.otlp_protocol = Protocol::parse(&v.text()?)?;
                Ok(())
            },
        },
        Setting {
            path: "telemetry.otlp_headers",
            help: "headers for the collector: name=value,name=value, values percent-encoded; never logged",
            set: |s, v| {
                s.telemetry.otlp_headers = Headers::parse(&v.text()?)?;
                Ok(())
            },
        },
        Setting {
            path: "telemetry.otlp_logs",
            help: "whether the log's lines, which may hold an error's message, are sent to the collector, too",
            set: |s, v| {
                s.telemetry.rest.logs = Some(v.boolean()?);
                Ok(())
            },
        },
        Setting {
            path: "telemetry.prometheus",
            help: "address and port of the page /metrics, such as 127.0.0.1:9464; off where it isn't set",
            set: |s, v| {
                s.telemetry.prometheus = match v.optional_text()? {
                    None => None,
                    Some(text) => {
                        Some(text.parse().map_err(|_| format!("must be an address and port such as \"127.0.0.1:9464\", not \"{text}\""))?)
                    }
                };
                Ok(())
            },
        },
        Setting {
            path: "telemetry.prometheus_token_sha256",
            help: "SHA-256 of the bearer token that readers of /metrics show; needed beyond loopback",
            set: |s, v| {
                s.telemetry.prometheus_token_sha256 = v.optional_text()?;
                Ok(())
            },
        },
        Setting {
            path: "telemetry.sample_ratio",
            help: "share of traces (0 to 1) that are recorded where the client hasn't decided",
            set: |s, v| {
                s.telemetry.rest.sample_ratio = Some(v.number(0.0, 1.0)?);
                Ok(())
            },
        },
        Setting {
            path: "telemetry.service_name",
            help: "service.name of what is sent; `flightpath`",
            set: |s, v| {
                s.telemetry.rest.service_name = v.optional_text()?;
                Ok(())
            },
        },
        Setting {
            path: "telemetry.resource_attributes",
            help: "further resource attributes: name=value,name=value, values percent-encoded",
            set: |s, v| {
                s.telemetry.rest.resource = Config::parse_attributes(&v.text()?)?;
                Ok(())
            },
        },
        Setting {
            path: "telemetry.query_text",
            help: "whether spans hold statements' texts, which may hold data",
            set: |s, v| {
                s.telemetry.rest.query_text = v.boolean()?;
                Ok(())
            },
        },
    ]
}
