//! What a session has set: the same names as Flight SQL session options, `SET` and headers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{EngineId, Error, Principal, Result};

/// How a statement's text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Databricks SQL in ANSI mode.
    #[default]
    Databricks,
    /// The text goes to DuckDB as it is.
    Duckdb,
}

/// A session's settings. Plans are cached by those that planning depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Session {
    pub principal: Principal,
    /// Where one- and two-part names are looked up; default `lake`.
    pub catalog: String,
    /// Where one-part names are looked up; default `default`.
    pub schema: String,
    /// The one engine that may run queries; it refuses with its reason, it is never replaced.
    pub engine: Option<EngineId>,
    pub profile: Option<String>,
    pub dialect: Dialect,
    /// Limit of the time that the server works on a statement, in seconds: planning, waiting for a
    /// slot, running, up to the last byte. The time between a client's asking and its fetching isn't
    /// the server's and doesn't count.
    pub timeout_seconds: Option<u64>,
    pub tag: Option<String>,
    /// IANA name or fixed offset; what TIMESTAMP values are shown and parsed in. Default `UTC`.
    pub time_zone: String,
}

impl Session {
    pub fn new(principal: Principal) -> Self {
        Self {
            principal,
            catalog: "lake".into(),
            schema: "default".into(),
            engine: None,
            profile: None,
            dialect: Dialect::Databricks,
            timeout_seconds: None,
            tag: None,
            time_zone: "UTC".into(),
        }
    }

    /// Names that [`Session::set`] and [`Session::get`] know.
    pub const NAMES: [&'static str; 8] = ["engine", "profile", "dialect", "timeout_seconds", "tag", "catalog", "schema", "time_zone"];

    /// Longest tag: it is kept with every query's record.
    pub const TAG_BYTES_MAX: usize = 1_024;

    /// 30 days.
    pub const TIMEOUT_SECONDS_MAX: u64 = 30 * 86_400;

    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_seconds.map(Duration::from_secs)
    }

    /// Sets one setting from text; an empty value unsets it. Unknown names and bad values are errors
    /// that list what is possible. Whether an engine or profile exists is checked by who knows them.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let value = value.trim();
        let optional = |v: &str| (!v.is_empty()).then(|| v.to_string());
        match name.trim().to_ascii_lowercase().as_str() {
            "engine" => {
                self.engine = (!value.is_empty() && !value.eq_ignore_ascii_case("auto")).then(|| EngineId::new(value.to_ascii_lowercase()))
            }
            "profile" => self.profile = optional(value),
            "dialect" => {
                self.dialect = match value.to_ascii_lowercase().as_str() {
                    "" | "databricks" => Dialect::Databricks,
                    "duckdb" => Dialect::Duckdb,
                    _ => return Err(Error::invalid(format!("dialect must be 'databricks' or 'duckdb', not '{value}'"))),
                }
            }
            "timeout_seconds" => {
                self.timeout_seconds = match value {
                    "" | "0" => None,
                    v => Some(v.parse().ok().filter(|s| *s <= Self::TIMEOUT_SECONDS_MAX).ok_or_else(|| {
                        let most = Self::TIMEOUT_SECONDS_MAX;
                        Error::invalid(format!("timeout_seconds must be a whole number of seconds, at most {most}, not '{v}'"))
                    })?),
                }
            }
            "tag" if value.len() > Self::TAG_BYTES_MAX => {
                let (have, most) = (value.len(), Self::TAG_BYTES_MAX);
                return Err(Error::invalid(format!("tag has {have} bytes; at most {most} are kept")));
            }
            "tag" => self.tag = optional(value),
            "catalog" => self.catalog = optional(value).unwrap_or_else(|| "lake".into()),
            "schema" => self.schema = optional(value).unwrap_or_else(|| "default".into()),
            "time_zone" | "timezone" => self.time_zone = optional(value).unwrap_or_else(|| "UTC".into()),
            other => {
                return Err(Error::invalid(format!("unknown setting '{other}'; settings are {}", Self::NAMES.join(", "))));
            }
        }
        Ok(())
    }

    /// The setting as text, empty when unset; `None` for an unknown name.
    pub fn get(&self, name: &str) -> Option<String> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "engine" => self.engine.as_ref().map(|e| e.to_string()).unwrap_or_default(),
            "profile" => self.profile.clone().unwrap_or_default(),
            "dialect" => match self.dialect {
                Dialect::Databricks => "databricks".into(),
                Dialect::Duckdb => "duckdb".into(),
            },
            "timeout_seconds" => self.timeout_seconds.map(|s| s.to_string()).unwrap_or_default(),
            "tag" => self.tag.clone().unwrap_or_default(),
            "catalog" => self.catalog.clone(),
            "schema" => self.schema.clone(),
            "time_zone" | "timezone" => self.time_zone.clone(),
            _ => return None,
        })
    }
}
