//! Settings: one table of what can be set, read from TOML and overridden by the environment.
//! Every mistake is reported at once, with its line and a suggestion; nothing is ignored.

mod auth;
mod databricks;
mod door;
mod fleet;
mod profiles;
mod table;
mod telemetry;
mod value;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flightpath_pipeline::{AdmissionConfig, DataPrices, EscalationConfig, LiveConfig, ShadowConfig};
use flightpath_router::{DEFAULT_PROFILE, OverBudget, Profile, Profiles, Strategy};
use flightpath_types::Principal;
use toml_edit::{Document, Item, TableLike};

pub use auth::{TokenSetting, UserSetting};
pub use databricks::DatabricksSettings;
pub use fleet::FleetSettings;
pub use profiles::ProfileSetting;
use table::SETTINGS;
pub use table::documentation;
pub use telemetry::TelemetrySettings;
use value::Given;

/// What environment variables of settings begin with.
const PREFIX: &str = "FLIGHTPATH_";

/// Environment variables that begin like a setting's but belong to the command line, or hold a secret.
const CLI_VARIABLES: [&str; 7] = [
    "FLIGHTPATH_URI",
    "FLIGHTPATH_CONFIG",
    "FLIGHTPATH_USER",
    "FLIGHTPATH_PASSWORD",
    "FLIGHTPATH_TOKEN",
    "FLIGHTPATH_FLEET_KEY",
    "FLIGHTPATH_WORKER_KEY",
];

/// Sections that are read as one.
const WHOLE: [&str; 3] = ["auth.users", "auth.tokens", "profiles"];

/// What takes effect at SIGHUP; anything else needs a restart.
const LIVE: [&str; 20] = [
    "auth.tokens",
    "auth.users",
    "databricks.usd_per_dbu",
    "engines.datafusion.usd_per_hour",
    "engines.duckdb.usd_per_hour",
    "limits.queue_max",
    "limits.queue_wait_seconds",
    "limits.timeout_seconds",
    "log.retention_days",
    "log_level",
    "prices.egress_usd_per_gb",
    "prices.storage_usd_per_gb",
    "profiles",
    "routing.escalation_factor",
    "routing.escalation_min_seconds",
    "routing.profile",
    "routing.strategy",
    "shadow.rows_max",
    "shadow.share",
    "shadow.timeout_seconds",
];

/// Everything `serve` and `worker` can be told.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub data: Vec<PathBuf>,
    /// The query log's file and spool, and temporary files, unless set apart.
    pub state_dir: PathBuf,
    pub log_level: String,
    pub log_format: flightpath_telemetry::LogFormat,

    pub users: Vec<UserSetting>,
    pub tokens: Vec<TokenSetting>,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// Authorities one of which has to have signed a client's certificate.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether the workspace is asked about bearer tokens that aren't listed.
    pub databricks_tokens: bool,
    /// The workspace's groups whose members are administrators.
    pub admin_groups: Vec<String>,
    pub session_idle: Duration,

    /// `postgres://...` or a SQLite file; the file `log.sqlite` in `state_dir` by default.
    pub log_url: Option<String>,
    pub log_spool_bytes_max: u64,
    /// Records that one scan of `system.queries` or `system.decisions` may go through.
    pub log_read_rows_max: u64,
    /// Older records are deleted; `None` keeps them for ever.
    pub log_retention: Option<Duration>,

    /// Of profile `default`.
    pub strategy: Strategy,
    /// The profile of whoever has none.
    pub default_profile: Option<String>,
    pub profiles: Vec<ProfileSetting>,
    pub escalation: EscalationConfig,
    pub hold_bytes_max: u64,
    pub hold_total_bytes_max: u64,
    pub timeout: Option<Duration>,
    pub queue_max: u64,
    pub queue_wait: Duration,
    pub drain: Duration,
    pub connections_max: u64,

    pub catalog_refresh: Duration,
    pub partition_time_zone: Option<chrono_tz::Tz>,

    pub data_prices: DataPrices,
    pub shadow_share: f64,
    pub shadow_rows_max: u64,
    pub shadow_timeout: Duration,
    pub shadow_runs_max: u64,

    pub datafusion: EngineSettings,
    pub duckdb: EngineSettings,
    pub databricks: DatabricksSettings,
    pub telemetry: TelemetrySettings,
    pub fleet: FleetSettings,

    /// What the file and the environment said of each setting, hashed: some of it is secret.
    given: BTreeMap<String, u64>,
}

/// One local engine's share of the machine.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    pub enabled: bool,
    pub memory_bytes: u64,
    pub temp_bytes: u64,
    pub threads: u64,
    /// Queries at once.
    pub slots: u64,
    pub usd_per_hour: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let machine = Machine::of_this_process();
        let engine = |memory_share: f64| EngineSettings {
            enabled: true,
            memory_bytes: ((machine.memory_bytes as f64 * memory_share) as u64).max(256 << 20),
            temp_bytes: 32 << 30,
            threads: machine.cores,
            slots: (machine.cores * 4).max(8),
            // A 4 vCPU, 16 GB on-demand cloud machine is about 0.20 USD an hour in 2026.
            usd_per_hour: 0.05 * machine.cores as f64,
        };
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 31337)),
            data: Vec::new(),
            state_dir: default_state_dir(),
            log_level: "info".into(),
            log_format: Default::default(),
            users: Vec::new(),
            tokens: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            databricks_tokens: false,
            admin_groups: Vec::new(),
            session_idle: Duration::from_secs(8 * 3600),
            log_url: None,
            log_spool_bytes_max: 512 << 20,
            log_read_rows_max: 10_000_000,
            log_retention: Some(Duration::from_secs(90 * 86_400)),
            strategy: Strategy::Rules,
            default_profile: None,
            profiles: Vec::new(),
            escalation: EscalationConfig::default(),
            hold_bytes_max: 32 << 20,
            hold_total_bytes_max: 512 << 20,
            timeout: None,
            queue_max: 256,
            queue_wait: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            connections_max: 1024,
            catalog_refresh: Duration::from_secs(1),
            partition_time_zone: None,
            data_prices: DataPrices::default(),
            shadow_share: 0.0,
            shadow_rows_max: 1_000_000,
            shadow_timeout: Duration::from_secs(60),
            shadow_runs_max: 1,
            datafusion: engine(0.25),
            duckdb: engine(0.4),
            databricks: DatabricksSettings::default(),
            telemetry: TelemetrySettings::default(),
            fleet: FleetSettings::default(),
            given: BTreeMap::new(),
        }
    }
}

/// What this process may use: a container's limit where there is one.
struct Machine {
    cores: u64,
    memory_bytes: u64,
}

impl Machine {
    fn of_this_process() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, |n| n.get() as u64);
        let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
        let physical = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| {
                let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
                line.split_whitespace().nth(1)?.parse::<u64>().ok()
            })
            .map_or(4 << 30, |kib| kib << 10);
        Self { cores, memory_bytes: limit.map_or(physical, |l| l.min(physical)) }
    }
}

fn default_state_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home).unwrap_or_else(std::env::temp_dir).join("flightpath")
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// `FILE:LINE`, or the environment variable.
    pub place: String,
    pub message: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "mistake" } else { "mistakes" };
        write!(f, "{} {plural} in the settings:", self.0.len())?;
        for mistake in &self.0 {
            write!(f, "\n  {}: {}", mistake.place, mistake.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl Settings {
    /// Defaults, then the file, then the environment.
    /// `overrides` are the command line's; they win.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: impl FnOnce(&mut Self),
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let mut settings = Settings::default();
        if let Some(file) = file {
            match std::fs::read_to_string(file) {
                Ok(text) => settings.read_toml(&text, &file.display().to_string(), &mut mistakes),
                Err(e) => mistakes.push(Mistake { place: file.display().to_string(), message: format!("can't be read: {e}") }),
            }
        }
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        settings.telemetry.read_environment(&environment);
        settings.read_environment(environment, &mut mistakes);
        overrides(&mut settings);
        settings.check_together(&mut mistakes);
        if mistakes.is_empty() { Ok(settings) } else { Err(Mistakes(mistakes)) }
    }

    fn read_toml(&mut self, text: &str, name: &str, mistakes: &mut Vec<Mistake>) {
        let lines = Lines::new(text);
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(e) => {
                let line = e.span().map_or(1, |span| lines.line_of(span.start));
                mistakes.push(Mistake { place: format!("{name}:{line}"), message: e.message().to_string() });
                return;
            }
        };
        let mut reader = TomlReader { settings: self, name, lines: &lines, mistakes };
        reader.table("", document.as_table(), 1);
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>, mistakes: &mut Vec<Mistake>) {
        let by_variable: BTreeMap<String, &table::Setting> = SETTINGS.iter().map(|s| (s.variable(), s)).collect();
        for (name, value) in environment {
            if !name.starts_with(PREFIX) || CLI_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let outcome = match by_variable.get(&name) {
                Some(setting) => {
                    self.given.insert(setting.path.into(), hash_of(&value));
                    (setting.set)(self, Given::Text(&value))
                }
                // Other programs may have variables of this prefix; only what looks misspelt is a mistake.
                None => match nearest(&name[PREFIX.len()..], by_variable.keys().map(|v| &v[PREFIX.len()..])) {
                    Some(near) => Err(format!("no setting has this name; did you mean {PREFIX}{near}?")),
                    None => Ok(()),
                },
            };
            if let Err(message) = outcome {
                mistakes.push(Mistake { place: format!("environment variable {name}"), message });
            }
        }
    }

    /// The profiles that there are, with whom they are for.
    fn routing(&self) -> Result<Profiles, Vec<String>> {
        let assignments = profiles::assignments(&self.profiles, self.default_profile.clone()).map_err(|mistake| vec![mistake])?;
        let mut own: Vec<Profile> = self.profiles.iter().map(|setting| setting.profile.clone()).collect();
        if own.iter().all(|profile| profile.name != DEFAULT_PROFILE) {
            own.push(Profile { strategy: self.strategy.clone(), ..Profile::named(DEFAULT_PROFILE) });
        }
        Profiles::new(own, assignments)
    }

    /// What takes effect without a restart.
    pub fn live(&self) -> Result<LiveConfig, Mistakes> {
        let mistake = |message| Mistake { place: "profiles".into(), message };
        Ok(LiveConfig {
            profiles: self.routing().map_err(|all| Mistakes(all.into_iter().map(mistake).collect()))?,
            admission: AdmissionConfig { queue_max: usize::try_from(self.queue_max).unwrap_or(usize::MAX), wait_max: self.queue_wait },
            escalation: self.escalation,
            timeout: self.timeout,
            data_prices: self.data_prices,
            shadow: ShadowConfig {
                share: self.shadow_share,
                rows_max: self.shadow_rows_max,
                timeout: self.shadow_timeout,
                runs_max: usize::try_from(self.shadow_runs_max).unwrap_or(1),
            },
            administrators: self.administrators(),
        })
    }

    /// Who may see what everybody did, by name.
    fn administrators(&self) -> HashSet<Principal> {
        let users = self.users.iter().filter(|user| user.admin).map(|user| &user.name);
        users.chain(self.tokens.iter().filter(|token| token.admin).map(|token| &token.principal)).map(Principal::new).collect()
    }

    /// Names of what was written differently in `other`, and whether each takes effect without a restart.
    pub fn changes(&self, other: &Self) -> Vec<(String, bool)> {
        let names: BTreeSet<&String> = self.given.keys().chain(other.given.keys()).collect();
        let changed = names.into_iter().filter(|name| self.given.get(*name) != other.given.get(*name));
        changed.map(|name| (name.clone(), LIVE.contains(&name.as_str()))).collect()
    }

    /// Engines that are switched on, by the names they go by.
    fn engines(&self) -> Vec<&'static str> {
        let all =
            [("datafusion", self.datafusion.enabled), ("duckdb", self.duckdb.enabled), ("databricks", self.databricks.host.is_some())];
        all.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
    }

    /// Engines that profiles name and that aren't there.
    fn unknown_engines(&self) -> Vec<String> {
        let engines = self.engines();
        let own = self.profiles.iter().map(|setting| &setting.profile);
        let in_profiles = own.flat_map(|profile| {
            let over = match profile.budget.as_ref().map(|budget| &budget.over) {
                Some(OverBudget::Engines(engines)) => engines.iter().collect(),
                Some(OverBudget::Profile(_) | OverBudget::Refuse) | None => Vec::new(),
            };
            profile.strategy.engines().into_iter().chain(profile.engines.iter().flatten()).chain(over)
        });
        let named = self.strategy.engines().into_iter().chain(in_profiles).filter(|engine| !engines.contains(&engine.as_str()));
        named.map(|engine| format!("there is no engine `{engine}`; engines that are on: {}", engines.join(", "))).collect()
    }

    /// What no single setting can tell.
    fn check_together(&self, mistakes: &mut Vec<Mistake>) {
        let mut wrong = |place: &str, message: String| mistakes.push(Mistake { place: place.to_string(), message });
        if !self.listen.ip().is_loopback() && self.users.is_empty() && self.tokens.is_empty() && !self.databricks_tokens {
            wrong(
                "listen",
                format!(
                    "{} can be reached from other machines, and nobody has to log in; add [[auth.users]] or [[auth.tokens]], or listen on 127.0.0.1",
                    self.listen
                ),
            );
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            wrong("tls", "tls.certificate and tls.key are set together or not at all".into());
        }
        if self.tls_client_ca.is_some() && self.tls_certificate.is_none() {
            wrong("tls.client_ca", "clients show certificates over TLS only: set tls.certificate and tls.key too".into());
        }
        if self.databricks_tokens && (self.databricks.host.is_none() || self.databricks.auth != "pass_through") {
            wrong(
                "auth.databricks_tokens",
                "needs [databricks] with auth = \"pass_through\": the tokens are asked about there, and used there in their owners' names"
                    .into(),
            );
        }
        if !self.admin_groups.is_empty() && !self.databricks_tokens {
            wrong("auth.admin_groups", "names groups of Databricks, which are asked for with auth.databricks_tokens = true only".into());
        }
        let files = [("tls.certificate", &self.tls_certificate), ("tls.key", &self.tls_key), ("tls.client_ca", &self.tls_client_ca)];
        for (setting, path) in files {
            if let Some(path) = path.as_ref().filter(|p| !p.is_file()) {
                wrong(setting, format!("there is no file {}", path.display()));
            }
        }
        for path in &self.data {
            if !path.exists() {
                wrong("data", format!("there is no folder {}", path.display()));
            }
        }
        for mistake in self.routing().err().unwrap_or_default() {
            wrong("profiles", mistake);
        }
        for mistake in self.unknown_engines() {
            wrong("profiles", mistake);
        }
        for setting in self.profiles.iter().filter(|setting| setting.profile.writes == Some(true) && self.databricks.host.is_none()) {
            let name = &setting.profile.name;
            wrong("profiles", format!("profiles.{name}: `writes = true` needs [databricks]: nothing else takes what changes something"));
        }
        for mistake in self.databricks.mistakes() {
            wrong("databricks", mistake);
        }
        for mistake in self.telemetry.mistakes() {
            wrong("telemetry", mistake);
        }
        for (setting, mistake) in self.fleet.mistakes(self.duckdb.enabled, self.tls_certificate.is_some()) {
            wrong(setting, mistake);
        }
        if !self.datafusion.enabled && !self.duckdb.enabled && self.databricks.host.is_none() {
            wrong("engines", "every engine is switched off; leave at least one on".into());
        }
    }
}

/// Walks a TOML document and collects what is wrong with it.
struct TomlReader<'a> {
    settings: &'a mut Settings,
    name: &'a str,
    lines: &'a Lines,
    mistakes: &'a mut Vec<Mistake>,
}

impl TomlReader<'_> {
    fn table(&mut self, prefix: &str, table: &dyn TableLike, line_above: usize) {
        for (key, item) in table.iter() {
            let path = if prefix.is_empty() { key.to_string() } else { format!("{prefix}.{key}") };
            let key_span = table.key(key).and_then(toml_edit::Key::span);
            let line = key_span.or_else(|| item.span()).map_or(line_above, |span| self.lines.line_of(span.start));
            if item.is_value() || WHOLE.contains(&path.as_str()) {
                self.settings.given.insert(path.clone(), hash_of(&written(item)));
            }
            let outcome = match path.as_str() {
                "auth.users" => auth::users(item).map(|users| self.settings.users = users),
                "auth.tokens" => auth::tokens(item).map(|tokens| self.settings.tokens = tokens),
                "profiles" => profiles::read(item).map(|profiles| self.settings.profiles = profiles),
                _ => match SETTINGS.iter().find(|s| s.path == path) {
                    Some(setting) => match item.as_value() {
                        Some(value) => (setting.set)(self.settings, Given::Toml(value)),
                        None => Err(format!("`{path}` is a value, not a section")),
                    },
                    None if is_section(&path) => match item.as_table_like() {
                        Some(inner) => {
                            self.table(&path, inner, line);
                            Ok(())
                        }
                        None => Err(format!("`{path}` is a section: write [{path}]")),
                    },
                    None => Err(unknown_key(&path)),
                },
            };
            if let Err(message) = outcome {
                self.mistakes.push(Mistake { place: format!("{}:{line}", self.name), message });
            }
        }
    }
}

/// A value without the space and the remarks around it; a section as it stands.
fn written(item: &Item) -> String {
    match item.as_value() {
        Some(value) => value.clone().decorated("", "").to_string(),
        None => item.to_string(),
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn is_section(path: &str) -> bool {
    let inside = format!("{path}.");
    path == "auth" || SETTINGS.iter().any(|s| s.path.starts_with(&inside))
}

fn unknown_key(path: &str) -> String {
    let known = SETTINGS.iter().map(|s| s.path).chain(["auth.users", "auth.tokens", "profiles"]);
    match nearest(path, known) {
        Some(near) => format!("unknown setting `{path}`; did you mean `{near}`?"),
        None => format!("unknown setting `{path}`"),
    }
}

/// The known name most like `name`, if any is alike.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A name that was cut short means the one it begins.
    let likeness = |k: &str| strsim::jaro_winkler(name, k) + f64::from(u8::from(k.starts_with(name)));
    known.map(|k| (likeness(k), k)).filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, k)| k)
}

/// Turns byte offsets into line numbers.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { starts }
    }

    /// From 1.
    fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }
}

/// Where a value stands in a message about it.
pub(crate) fn type_of(item: &Item) -> &'static str {
    item.type_name()
}

#[cfg(test)]
mod tests;
