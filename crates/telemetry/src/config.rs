//! Settings. The standard's environment variables fill in what the settings leave open.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use url::Url;

/// Longest endpoint, header or attribute that is taken.
const TEXT_BYTES_MAX: usize = 4096;
const ENTRIES_MAX: usize = 64;

/// Off, if neither `otlp` nor `page` is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub otlp: Option<Otlp>,
    pub page: Option<Page>,
    /// Share of traces that are recorded, of those that no caller has decided about. `None`: what
    /// `OTEL_TRACES_SAMPLER` says, or all.
    pub sample_ratio: Option<f64>,
    pub service_name: Option<String>,
    /// Attributes of everything that is sent.
    pub resource: BTreeMap<String, String>,
    /// Whether statements' texts, which may hold data, are put into spans.
    pub query_text: bool,
    /// Whether the log's lines, which may hold an error's message, are sent, too. `None`: what
    /// `OTEL_LOGS_EXPORTER` says, or not.
    #[serde(default)]
    pub logs: Option<bool>,
}

/// Where traces and metrics are sent, and the log's lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Otlp {
    /// `http://host:4317`; for HTTP without the path `/v1/...`, which is added.
    pub endpoint: String,
    pub protocol: Protocol,
    pub headers: Headers,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    #[default]
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

impl Protocol {
    /// `grpc`, `http`, or the standard's own names.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "grpc" => Ok(Protocol::Grpc),
            "http" | "http/protobuf" => Ok(Protocol::Http),
            _ => Err(format!("must be \"grpc\" or \"http\", not \"{text}\"")),
        }
    }
}

/// Sent with every export. They may hold credentials: printing shows their names alone.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers(pub BTreeMap<String, String>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The Prometheus page.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub listen: SocketAddr,
    /// SHA-256 of the bearer token that a reader must show, in hexadecimal digits. Beyond loopback
    /// there has to be one.
    pub token_sha256: Option<String>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("listen", &self.listen).field("with_token", &self.token_sha256.is_some()).finish()
    }
}

impl Config {
    /// Fills in what isn't set from the environment variables of OpenTelemetry's specification.
    /// A variable that makes no sense is a mistake, as a setting would be.
    pub fn with_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let named = |name: &str, error: String| format!("{name} {error}");
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            self.otlp = None;
            return Ok(self);
        }
        if self.otlp.is_none()
            && let Some(endpoint) = variable("OTEL_EXPORTER_OTLP_ENDPOINT")
        {
            let protocol = match variable("OTEL_EXPORTER_OTLP_PROTOCOL") {
                Some(text) => Protocol::parse(&text).map_err(|e| named("OTEL_EXPORTER_OTLP_PROTOCOL", e))?,
                None => Protocol::default(),
            };
            self.otlp = Some(Otlp { endpoint, protocol, headers: Headers::default() });
        }
        if let (Some(otlp), Some(text)) = (&mut self.otlp, variable("OTEL_EXPORTER_OTLP_HEADERS")) {
            for (name, value) in pairs(&text).map_err(|e| named("OTEL_EXPORTER_OTLP_HEADERS", e))? {
                otlp.headers.0.entry(name.to_ascii_lowercase()).or_insert(value);
            }
        }
        if let Some(text) = variable("OTEL_RESOURCE_ATTRIBUTES") {
            for (name, value) in pairs(&text).map_err(|e| named("OTEL_RESOURCE_ATTRIBUTES", e))? {
                self.resource.entry(name).or_insert(value);
            }
        }
        if let (None, Some(exporters)) = (self.logs, variable("OTEL_LOGS_EXPORTER")) {
            self.logs = Some(exporters.split(',').any(|exporter| exporter.trim() == "otlp"));
        }
        self.service_name = self.service_name.or_else(|| variable("OTEL_SERVICE_NAME")).or_else(|| self.resource.remove("service.name"));
        Ok(self)
    }

    /// Everything that is wrong, as `(setting, what)`.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if let Some(otlp) = &self.otlp {
            if let Err(error) = check_endpoint(&otlp.endpoint) {
                mistakes.push(("otlp_endpoint", error));
            }
            for (name, value) in &otlp.headers.0 {
                let sound = http::HeaderName::from_bytes(name.as_bytes()).is_ok() && http::HeaderValue::from_str(value).is_ok();
                // The value is a secret: it isn't repeated.
                if !sound || name.starts_with("grpc-") || name.ends_with("-bin") {
                    mistakes.push(("otlp_headers", format!("`{name}` isn't a header that can be sent")));
                }
            }
        }
        if let Some(page) = &self.page {
            if !page.listen.ip().is_loopback() && page.token_sha256.is_none() {
                mistakes.push((
                    "prometheus",
                    format!("{} can be reached from other machines: set prometheus_token_sha256, or listen on 127.0.0.1", page.listen),
                ));
            }
            if let Some(hash) = &page.token_sha256
                && hex::decode(hash).map(|bytes| bytes.len()) != Ok(32)
            {
                mistakes.push(("prometheus_token_sha256", "must be the 64 hexadecimal digits of a SHA-256".into()));
            }
        }
        if self.sample_ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
            mistakes.push(("sample_ratio", "must be a number from 0 to 1".into()));
        }
        if self.resource.len() > ENTRIES_MAX {
            mistakes.push(("resource_attributes", format!("there may be at most {ENTRIES_MAX}")));
        }
        mistakes
    }

    /// Whether anything is told to anybody.
    pub fn is_on(&self) -> bool {
        self.otlp.is_some() || self.page.is_some()
    }

    /// What a worker of this program is told: its spans go the same way; it has no page.
    #[must_use]
    pub fn of_worker(&self) -> Self {
        let service_name = Some(format!("{}-worker", self.service_name()));
        // Whether a trace is recorded was decided before it came to the worker.
        Self { page: None, sample_ratio: None, service_name, ..self.clone() }
    }

    pub(crate) fn sends_logs(&self) -> bool {
        self.otlp.is_some() && self.logs == Some(true)
    }

    pub(crate) fn service_name(&self) -> &str {
        self.service_name.as_deref().unwrap_or("flightpath")
    }

    /// For handing on to another process. Holds the headers.
    pub fn to_text(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|e| format!("the telemetry's settings can't be written: {e}"))
    }

    /// Inverse of [`Config::to_text`].
    pub fn from_text(text: &str) -> Result<Self, String> {
        // The error isn't repeated: it may quote a header.
        serde_json::from_str(text).map_err(|_| "the telemetry's settings can't be read".to_string())
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match url {
        None => Err("must be a URL such as \"http://127.0.0.1:4317\"".into()),
        Some(url) if !url.username().is_empty() || url.password().is_some() => {
            Err("must hold no credentials; put them into otlp_headers".into())
        }
        Some(url) if url.query().is_some() || url.fragment().is_some() => Err("must be a URL without ? and #".into()),
        Some(_) => Ok(()),
    }
}

/// `name=value,name=value`, percent-encoded: how the standard writes headers and attributes.
pub(crate) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            return Err("must be a list such as name=value,other=value".into());
        };
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().map_err(|_| "holds a value that isn't text")?;
        if name.trim().is_empty() || part.len() > TEXT_BYTES_MAX {
            return Err("holds an entry without a name, or one that is too long".into());
        }
        found.push((name.trim().to_string(), value.into_owned()));
        if found.len() > ENTRIES_MAX {
            return Err(format!("holds more than {ENTRIES_MAX} entries"));
        }
    }
    Ok(found)
}

impl Headers {
    /// `name=value,name=value`, values percent-encoded.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(pairs(text)?.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()))
    }
}

impl Config {
    /// `name=value,name=value`, values percent-encoded.
    pub fn parse_attributes(text: &str) -> Result<BTreeMap<String, String>, String> {
        Ok(pairs(text)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn otlp(endpoint: &str) -> Otlp {
        Otlp { endpoint: endpoint.into(), protocol: Protocol::Grpc, headers: Headers::default() }
    }

    #[test]
    fn the_standards_variables_fill_in_what_is_open_and_no_more() {
        let variable = |name: &str| {
            let value = match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => "http://collector:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL" => "http/protobuf",
                "OTEL_EXPORTER_OTLP_HEADERS" => "Authorization=Basic%20abc, x-org=1",
                "OTEL_RESOURCE_ATTRIBUTES" => "deployment.environment.name=test,service.name=from-attributes",
                "OTEL_SERVICE_NAME" => "from-variable",
                _ => return None,
            };
            Some(value.to_string())
        };
        let config = Config::default().with_environment(variable).unwrap();
        let filled = config.otlp.as_ref().unwrap();
        assert_eq!((filled.endpoint.as_str(), filled.protocol), ("http://collector:4318", Protocol::Http));
        assert_eq!(filled.headers.0["authorization"], "Basic abc");
        assert_eq!(config.service_name.as_deref(), Some("from-variable"));
        assert_eq!(config.resource["deployment.environment.name"], "test");

        assert!(!config.sends_logs());
        let wanted = |name: &str| if name == "OTEL_LOGS_EXPORTER" { Some("console,otlp".into()) } else { variable(name) };
        assert!(Config::default().with_environment(wanted).unwrap().sends_logs());
        assert!(!Config { logs: Some(false), ..Config::default() }.with_environment(wanted).unwrap().sends_logs());

        let set = Config { otlp: Some(otlp("http://mine:4317")), service_name: Some("mine".into()), ..Config::default() };
        let set = set.with_environment(variable).unwrap();
        assert_eq!(set.otlp.as_ref().unwrap().endpoint, "http://mine:4317");
        assert_eq!(set.service_name.as_deref(), Some("mine"));
        let off = |name: &str| if name == "OTEL_SDK_DISABLED" { Some("true".into()) } else { variable(name) };
        assert_eq!(set.with_environment(off).unwrap().otlp, None);
    }

    #[test]
    fn mistakes_are_told_all_at_once_and_secrets_never() {
        let mut wrong = otlp("collector:4317");
        wrong.headers.0.insert("bad name".into(), "hush-hush".into());
        let page = Page { listen: "0.0.0.0:9464".parse().unwrap(), token_sha256: None };
        let config = Config { otlp: Some(wrong), page: Some(page), sample_ratio: Some(2.0), ..Config::default() };
        let mistakes = config.mistakes();
        let settings: Vec<&str> = mistakes.iter().map(|(setting, _)| *setting).collect();
        assert_eq!(settings, ["otlp_endpoint", "otlp_headers", "prometheus", "sample_ratio"]);
        assert!(!format!("{mistakes:?} {config:?}").contains("hush-hush"));
        let good = Config { otlp: Some(otlp("https://collector.example:4317")), ..Config::default() };
        assert_eq!(good.mistakes(), []);
        assert_eq!(otlp_mistakes("http://user:secret@host:1"), ["must hold no credentials; put them into otlp_headers"]);
    }

    fn otlp_mistakes(endpoint: &str) -> Vec<String> {
        Config { otlp: Some(otlp(endpoint)), ..Config::default() }.mistakes().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn a_workers_settings_survive_the_way_to_it() {
        let mut sent =
            Config { otlp: Some(otlp("http://c:1")), sample_ratio: Some(0.5), logs: Some(true), ..Config::default() }.of_worker();
        if let Some(otlp) = &mut sent.otlp {
            otlp.headers.0.insert("k".into(), "v".into());
        }
        assert!(sent.sends_logs());
        assert_eq!(sent.service_name.as_deref(), Some("flightpath-worker"));
        assert_eq!(Config::from_text(&sent.to_text().unwrap()).unwrap(), sent);
    }
}
