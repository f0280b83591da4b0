//! Settings: one table of what can be set, read from TOML and overridden by the environment.
//! Every mistake is reported at once, with its line and a suggestion; nothing is ignored.

mod auth;
mod databricks;
mod door;
mod file;
mod fleet;
mod mistake;
mod profiles;
mod table;
mod telemetry;
mod value;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flightpath_pipeline::{AdmissionConfig, DataPrices, EscalationConfig, LiveConfig, ShadowConfig};
use flightpath_router::{DEFAULT_PROFILE, Profile, ProfileMistake, Profiles, Strategy};
use flightpath_types::{EngineId, Principal};

pub use auth::{TokenSetting, UserSetting};
pub use databricks::DatabricksSettings;
use file::SettingsFile;
pub use fleet::FleetSettings;
use mistake::{About, Report, nearest};
pub use mistake::{Mistake, Mistakes};
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

/// What takes effect at SIGHUP; anything else needs a restart.
const LIVE: [&str; 21] = [
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
    "routing.escalation_share",
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
    pub drain_delay: Duration,
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
            drain_delay: Duration::ZERO,
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

impl Settings {
    /// Defaults, then the file, then the environment.
    /// `overrides` are the command line's; they win.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: impl FnOnce(&mut Self),
    ) -> Result<Self, Mistakes> {
        let mut report = Report::default();
        let mut settings = Settings::default();
        if let Some(file) = file {
            let name = file.display().to_string();
            match std::fs::read_to_string(file) {
                Ok(text) => SettingsFile::new(&name, &text, &mut report).read(&text, &mut settings),
                Err(e) => report.broken("", name, Some(format!("can't be read: {e}"))),
            }
        }
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        settings.telemetry.read_environment(&environment);
        settings.read_environment(environment, &mut report);
        let before = (settings.listen, settings.data.clone());
        overrides(&mut settings);
        if settings.listen != before.0 {
            report.replaced("listen");
        }
        if settings.data != before.1 {
            report.replaced("data");
        }
        settings.check_together(&mut report);
        let mistakes = report.into_mistakes();
        if mistakes.is_empty() { Ok(settings) } else { Err(Mistakes(mistakes)) }
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>, report: &mut Report) {
        let by_variable: BTreeMap<String, &table::Setting> = SETTINGS.iter().map(|s| (s.variable(), s)).collect();
        for (name, value) in environment {
            if !name.starts_with(PREFIX) || CLI_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let place = format!("environment variable {name}");
            match by_variable.get(&name) {
                Some(setting) => {
                    self.given.insert(setting.path.into(), hash_of(&value));
                    report.given(setting.path, place.clone());
                    if let Err(message) = (setting.set)(self, Given::Text(&value)) {
                        report.broken(setting.path, place, Some(message));
                    }
                }
                // Other programs may have variables of this prefix; only what looks misspelt is a mistake.
                None => {
                    if let Some(near) = nearest(&name[PREFIX.len()..], by_variable.keys().map(|v| &v[PREFIX.len()..])) {
                        report.broken("", place, Some(format!("no setting has this name; did you mean {PREFIX}{near}?")));
                    }
                }
            }
        }
    }

    /// The profiles that there are, with whom they are for.
    fn routing(&self) -> Result<Profiles, Vec<About>> {
        let (assignments, mut mistakes) = profiles::assignments(&self.profiles, self.default_profile.clone());
        let strategy = |setting: &ProfileSetting| match setting.decides || setting.profile.name != DEFAULT_PROFILE {
            true => setting.profile.strategy.clone(),
            false => self.strategy.clone(),
        };
        let mut own: Vec<Profile> =
            self.profiles.iter().map(|setting| Profile { strategy: strategy(setting), ..setting.profile.clone() }).collect();
        if own.iter().all(|profile| profile.name != DEFAULT_PROFILE) {
            own.push(Profile { strategy: self.strategy.clone(), ..Profile::named(DEFAULT_PROFILE) });
        }
        mistakes.extend(profiles::unresolved(&self.profiles));
        let path = |wrong: &ProfileMistake| match (&wrong.profile, wrong.setting) {
            (Some(name), Some(setting)) => format!("profiles.{name}.{setting}"),
            (Some(name), None) => format!("profiles.{name}"),
            (None, _) => "routing.profile".to_string(),
        };
        match Profiles::new(own, assignments) {
            Ok(profiles) if mistakes.is_empty() => return Ok(profiles),
            Ok(_) => {}
            Err(wrong) => mistakes.extend(wrong.into_iter().map(|wrong| (path(&wrong), wrong.message))),
        }
        Err(mistakes)
    }

    /// What takes effect without a restart.
    pub fn live(&self) -> Result<LiveConfig, Mistakes> {
        let mistake = |(place, message)| Mistake { place, message };
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
    pub(crate) fn engines(&self) -> Vec<&'static str> {
        let all =
            [("datafusion", self.datafusion.enabled), ("duckdb", self.duckdb.enabled), ("databricks", self.databricks.host.is_some())];
        all.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
    }

    /// What of these settings names an engine that doesn't run: one that was switched on since, and comes with
    /// the next start.
    pub fn name_only(&self, running: &[&str]) -> Result<(), Mistakes> {
        let missing = self.unknown_engines(running);
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Mistakes(missing.into_iter().map(|(place, message)| Mistake { place, message }).collect())),
        }
    }

    /// Engines that strategies and profiles name and that aren't there.
    fn unknown_engines(&self, engines: &[&str]) -> Vec<About> {
        let missing = |engine: &&EngineId| !engines.contains(&engine.as_str());
        let there_are = engines.join(", ");
        let of_default = self.strategy.engines().into_iter().filter(missing);
        let message = |engine: &EngineId| format!("there is no engine `{engine}`; engines that are on: {there_are}");
        let mut mistakes: Vec<About> = of_default.map(|engine| ("routing.strategy".to_string(), message(engine))).collect();
        for setting in &self.profiles {
            let name = &setting.profile.name;
            let named = [
                ("strategy", setting.profile.strategy.engines()),
                ("engines", setting.profile.engines.iter().flatten().collect()),
                ("over_budget_engines", setting.over_budget_engines.iter().collect()),
            ];
            for (key, named) in named {
                let wrong = named.into_iter().filter(missing);
                mistakes.extend(wrong.map(|engine| (format!("profiles.{name}.{key}"), format!("profile `{name}`: {}", message(engine)))));
            }
        }
        mistakes
    }

    /// What no single setting can tell.
    fn check_together(&self, report: &mut Report) {
        let nobody = self.users.is_empty() && self.tokens.is_empty() && !self.databricks_tokens && !report.is_broken("auth");
        let certificate_pair = report.is_broken("tls") || self.tls_certificate.is_some() == self.tls_key.is_some();
        let mut wrong = |path: &str, message: String| report.about(path, message);
        if !self.listen.ip().is_loopback() && nobody {
            wrong(
                "listen",
                format!(
                    "{} can be reached from other machines, and nobody has to log in; add [[auth.users]] or [[auth.tokens]], or listen on 127.0.0.1",
                    self.listen
                ),
            );
        }
        if !certificate_pair {
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
        for (path, mistake) in self.routing().err().unwrap_or_default().into_iter().chain(self.unknown_engines(&self.engines())) {
            wrong(&path, mistake);
        }
        for setting in self.profiles.iter().filter(|setting| setting.profile.writes == Some(true) && self.databricks.host.is_none()) {
            let name = &setting.profile.name;
            wrong(
                &format!("profiles.{name}.writes"),
                format!("profiles.{name}: `writes = true` needs [databricks]: nothing else takes what changes something"),
            );
        }
        let workspace = self.given.keys().any(|path| path.starts_with("databricks."));
        for (path, mistake) in self.databricks.mistakes(workspace) {
            wrong(path, mistake);
        }
        for (path, mistake) in self.telemetry.mistakes() {
            wrong(&path, mistake);
        }
        for (setting, mistake) in self.fleet.mistakes(self.duckdb.enabled, self.tls_certificate.is_some()) {
            wrong(setting, mistake);
        }
        if !self.datafusion.enabled && !self.duckdb.enabled && self.databricks.host.is_none() {
            wrong("engines", "every engine is switched off; leave at least one on".into());
        }
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
