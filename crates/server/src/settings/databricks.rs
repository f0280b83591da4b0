//! `[databricks]`: the workspace, the warehouse, and in whose name it is asked.

use std::path::PathBuf;
use std::time::Duration;

use flightpath_catalog::CloudConfig;
use flightpath_databricks::{AZURE_LOGIN_HOST, Auth};
use flightpath_types::SecretToken;
use secrecy::SecretString;
use url::Url;

use super::table::Setting;

const DAY_SECONDS: f64 = 86_400.0;
/// Ways to log in there.
const AUTHS: [&str; 5] = ["pass_through", "token_exchange", "pat", "oauth_m2m", "azure"];

#[derive(Debug, Clone)]
pub struct DatabricksSettings {
    pub host: Option<Url>,
    pub warehouse_id: Option<String>,
    /// Unity Catalog's catalogs that are offered.
    pub catalogs: Vec<String>,
    /// `pass_through`, `token_exchange`, `pat`, `oauth_m2m` or `azure`.
    pub auth: String,
    pub token: Option<SecretToken>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretToken>,
    pub tenant_id: Option<String>,
    /// Whose rights hold where everybody is served as one principal.
    pub principal: String,
    /// The operator has said that everybody here may see what the one principal sees.
    pub shared_principal: bool,
    /// For looking at the warehouse, where users' own tokens are used for queries.
    pub monitor_token: Option<SecretToken>,
    pub monitor_interval: Duration,
    /// How often costs are checked against the warehouse's history; `None`: never.
    pub reconcile_interval: Option<Duration>,
    pub writes: bool,
    pub usd_per_dbu: Option<f64>,
    /// The zone of the warehouse's sessions.
    pub time_zone: String,
    pub access_lifetime: Duration,
    pub metadata_lifetime: Duration,
    /// Folders in which `file:///` locations may be read: a simulated workspace's.
    pub local_roots: Vec<PathBuf>,
    /// How S3 and what is compatible with it is reached.
    pub storage: CloudConfig,
}

/// What is needed at the least, all there.
#[derive(Clone)]
pub(crate) struct Configured {
    pub host: Url,
    pub warehouse_id: String,
    pub auth: Auth,
}

impl Default for DatabricksSettings {
    fn default() -> Self {
        Self {
            host: None,
            warehouse_id: None,
            catalogs: Vec::new(),
            auth: "pass_through".into(),
            token: None,
            client_id: None,
            client_secret: None,
            tenant_id: None,
            principal: String::new(),
            shared_principal: false,
            monitor_token: None,
            monitor_interval: Duration::from_secs(10),
            reconcile_interval: Some(Duration::from_secs(300)),
            writes: false,
            usd_per_dbu: None,
            time_zone: "UTC".into(),
            access_lifetime: Duration::from_secs(300),
            metadata_lifetime: Duration::from_secs(1_800),
            local_roots: Vec::new(),
            storage: CloudConfig::default(),
        }
    }
}

impl DatabricksSettings {
    /// `None` when no workspace is named, or something that it needs is missing: `mistakes` says what.
    pub(crate) fn configured(&self) -> Option<Configured> {
        let auth = self.auth()?;
        Some(Configured { host: self.host.clone()?, warehouse_id: self.warehouse_id.clone()?, auth })
    }

    /// `None` while something that it needs is missing.
    fn auth(&self) -> Option<Auth> {
        let secret = |value: &Option<SecretToken>| value.as_ref().map(|value| SecretString::from(value.expose()));
        match self.auth.as_str() {
            "pass_through" => Some(Auth::PassThrough),
            "token_exchange" => Some(Auth::TokenExchange),
            "pat" => Some(Auth::Pat(secret(&self.token)?)),
            "oauth_m2m" => Some(Auth::OAuthM2m { client_id: self.client_id.clone()?, client_secret: secret(&self.client_secret)? }),
            "azure" => Some(Auth::AzureServicePrincipal {
                tenant_id: self.tenant_id.clone()?,
                client_id: self.client_id.clone()?,
                client_secret: secret(&self.client_secret)?,
                login_host: Url::parse(AZURE_LOGIN_HOST).ok()?,
            }),
            _ => None,
        }
    }

    /// What is wrong with these settings taken together; `given`: whether any of them was.
    pub(super) fn mistakes(&self, given: bool) -> Vec<(&'static str, String)> {
        if self.host.is_none() && !given {
            return Vec::new();
        }
        let mut mistakes = Vec::new();
        if self.host.is_none() {
            mistakes.push(("databricks.host", "databricks.host is missing: the workspace's URL".into()));
        }
        let mut wrong = |path, message: &str| mistakes.push((path, message.to_string()));
        let here = |host: &Url| matches!(host.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if self.host.as_ref().is_some_and(|host| host.scheme() == "http" && !here(host)) {
            wrong("databricks.host", "databricks.host is http://: tokens would travel unencrypted; make it https://");
        }
        if self.warehouse_id.is_none() {
            wrong("databricks.warehouse_id", "databricks.warehouse_id is missing: the SQL warehouse that runs queries");
        }
        if self.catalogs.is_empty() {
            wrong("databricks.catalogs", "databricks.catalogs is empty: name the catalogs of Unity Catalog to offer, such as [\"main\"]");
        }
        if self.storage.endpoint.as_ref().is_some_and(|url| url.scheme() == "http") && !self.storage.allow_http {
            wrong(
                "databricks.storage_endpoint",
                "databricks.storage_endpoint is http://, unencrypted; make it https, or set databricks.storage_allow_http = true",
            );
        }
        if !AUTHS.contains(&self.auth.as_str()) {
            wrong("databricks.auth", &format!("databricks.auth must be one of {}, not \"{}\"", AUTHS.join(", "), self.auth));
        }
        for path in self.missing() {
            wrong(path, &format!("databricks.auth = \"{}\" needs {path}", self.auth));
        }
        if matches!(self.auth.as_str(), "pat" | "oauth_m2m" | "azure") {
            if !self.shared_principal {
                wrong(
                    "databricks.shared_principal",
                    &format!(
                        "with databricks.auth = \"{}\" everybody is served with one principal's rights, and row filters see that principal; \
                         set databricks.shared_principal = true if everybody here may see what it sees, or use pass_through or token_exchange",
                        self.auth
                    ),
                );
            }
            if self.principal.is_empty() {
                wrong(
                    "databricks.principal",
                    "databricks.principal is missing: the name of that principal in Databricks, whose permissions hold",
                );
            }
        }
        mistakes
    }

    /// Settings that this way to log in needs and that aren't there.
    fn missing(&self) -> Vec<&'static str> {
        let token = ("databricks.token", self.token.is_some());
        let client_id = ("databricks.client_id", self.client_id.is_some());
        let client_secret = ("databricks.client_secret", self.client_secret.is_some());
        let tenant_id = ("databricks.tenant_id", self.tenant_id.is_some());
        let needed = match self.auth.as_str() {
            "pat" => vec![token],
            "oauth_m2m" => vec![client_id, client_secret],
            "azure" => vec![tenant_id, client_id, client_secret],
            _ => Vec::new(),
        };
        needed.into_iter().filter(|(_, there)| !there).map(|(path, _)| path).collect()
    }
}

pub(super) fn settings() -> Vec<Setting> {
    macro_rules! optional {
        ($path:literal, $help:literal, $field:ident, $make:expr) => {
            Setting {
                path: $path,
                help: $help,
                set: |s, v| {
                    s.databricks.$field = v.optional_text()?.map($make);
                    Ok(())
                },
            }
        };
    }
    vec![
        Setting {
            path: "databricks.host",
            help: "the workspace's URL; everything below is for it",
            set: |s, v| {
                let text = v.text()?;
                let url = Url::parse(&text).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.host().is_some());
                s.databricks.host = Some(url.ok_or("must be a URL such as \"https://adb-1.1.azuredatabricks.net\"")?);
                Ok(())
            },
        },
        optional!("databricks.warehouse_id", "the SQL warehouse that runs queries", warehouse_id, |t| t),
        Setting {
            path: "databricks.catalogs",
            help: "catalogs of Unity Catalog that are offered",
            set: |s, v| {
                s.databricks.catalogs = v.list()?;
                Ok(())
            },
        },
        Setting {
            path: "databricks.auth",
            help: "pass_through or token_exchange (as the user), or pat, oauth_m2m, azure (as one principal)",
            set: |s, v| {
                s.databricks.auth = v.text()?;
                Ok(())
            },
        },
        optional!("databricks.token", "personal access token, for auth = \"pat\"", token, SecretToken::new),
        optional!("databricks.client_id", "for oauth_m2m and azure", client_id, |t| t),
        optional!("databricks.client_secret", "for oauth_m2m and azure", client_secret, SecretToken::new),
        optional!("databricks.tenant_id", "for azure", tenant_id, |t| t),
        Setting {
            path: "databricks.principal",
            help: "name in Databricks of the one principal that serves everybody",
            set: |s, v| {
                s.databricks.principal = v.optional_text()?.unwrap_or_default();
                Ok(())
            },
        },
        Setting {
            path: "databricks.shared_principal",
            help: "true: everybody may see what the one principal sees",
            set: |s, v| {
                s.databricks.shared_principal = v.boolean()?;
                Ok(())
            },
        },
        optional!("databricks.monitor_token", "token for looking at the warehouse's state", monitor_token, SecretToken::new),
        Setting {
            path: "databricks.monitor_seconds",
            help: "how often the warehouse's state is looked at",
            set: |s, v| {
                s.databricks.monitor_interval = v.seconds(0.1, DAY_SECONDS)?;
                Ok(())
            },
        },
        Setting {
            path: "databricks.reconcile_seconds",
            help: "how often costs in the record are checked against the warehouse's query history; 0: never",
            set: |s, v| {
                s.databricks.reconcile_interval = Some(v.seconds(0.0, DAY_SECONDS)?).filter(|every| !every.is_zero());
                Ok(())
            },
        },
        Setting {
            path: "databricks.writes",
            help: "whether statements that change something are sent to the warehouse",
            set: |s, v| {
                s.databricks.writes = v.boolean()?;
                Ok(())
            },
        },
        Setting {
            path: "databricks.usd_per_dbu",
            help: "price of a DBU; the list price of the warehouse's kind by default",
            set: |s, v| {
                s.databricks.usd_per_dbu = Some(v.number(0.0, 1e6)?);
                Ok(())
            },
        },
        Setting {
            path: "databricks.time_zone",
            help: "time zone of the warehouse's sessions",
            set: |s, v| {
                let text = v.text()?;
                flightpath_planner::check_time_zone(&text).map_err(|e| e.to_string())?;
                s.databricks.time_zone = text;
                Ok(())
            },
        },
        Setting {
            path: "databricks.access_seconds",
            help: "how old an answer about access may be",
            set: |s, v| {
                s.databricks.access_lifetime = v.seconds(0.1, DAY_SECONDS)?;
                Ok(())
            },
        },
        Setting {
            path: "databricks.metadata_seconds",
            help: "how long sizes and columns may be used while Unity Catalog doesn't answer",
            set: |s, v| {
                s.databricks.metadata_lifetime = v.seconds(0.1, 30.0 * DAY_SECONDS)?;
                Ok(())
            },
        },
        Setting {
            path: "databricks.local_roots",
            help: "folders in which file:/// locations are read, as a simulated workspace names them",
            set: |s, v| {
                s.databricks.local_roots = v.list()?.into_iter().map(PathBuf::from).collect();
                Ok(())
            },
        },
        Setting {
            path: "databricks.storage_endpoint",
            help: "URL of an S3-compatible store that tables lie in; without it, Amazon's own",
            set: |s, v| {
                let text = v.text()?;
                let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
                let url = url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none());
                s.databricks.storage.endpoint =
                    Some(url.ok_or("must be a URL such as \"https://minio.example.com\", without credentials")?);
                Ok(())
            },
        },
        Setting {
            path: "databricks.storage_region",
            help: "region of the S3 buckets that tables lie in; without it, us-east-1",
            set: |s, v| {
                s.databricks.storage.region = v.optional_text()?;
                Ok(())
            },
        },
        Setting {
            path: "databricks.storage_allow_http",
            help: "lets storage_endpoint be an http:// URL: what is read then travels unencrypted",
            set: |s, v| {
                s.databricks.storage.allow_http = v.boolean()?;
                Ok(())
            },
        },
    ]
}
