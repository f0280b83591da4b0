//! `[fleet]`, `[worker]` and `engines.duckdb.workers`: DuckDB workers here and on other machines.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::table::Setting;
use super::value::Given;

/// Workers that one router may have.
const WORKERS_MAX: u64 = 4096;

#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// Workers that `serve` starts and keeps alive itself.
    pub local_workers: u64,
    /// Where workers from elsewhere register; none unless it's set.
    pub listen: Option<SocketAddr>,
    pub key_file: Option<PathBuf>,
    /// Authority of the certificates of routers and workers, PEM.
    pub ca: Option<PathBuf>,
    pub workers_max: u64,

    /// A worker's: the routers that it registers with.
    pub routers: Vec<String>,
    pub name: Option<String>,
    pub advertise: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            local_workers: 1,
            listen: None,
            key_file: None,
            ca: None,
            workers_max: 64,
            routers: Vec::new(),
            name: None,
            advertise: None,
            labels: BTreeMap::new(),
        }
    }
}

impl FleetSettings {
    /// What no single setting can tell.
    pub(super) fn mistakes(&self, duckdb_enabled: bool, has_certificate: bool) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if let Some(listen) = self.listen.filter(|listen| !listen.ip().is_loopback())
            && !has_certificate
        {
            mistakes.push(("fleet.listen", format!("{listen} can be reached from other machines: set tls.certificate and tls.key")));
        }
        if duckdb_enabled && self.local_workers == 0 && self.listen.is_none() && self.routers.is_empty() {
            mistakes.push((
                "engines.duckdb.workers",
                "without workers of its own this server needs fleet.listen, where others register".into(),
            ));
        }
        for (setting, path) in [("fleet.key_file", &self.key_file), ("fleet.ca", &self.ca)] {
            if let Some(path) = path.as_ref().filter(|p| !p.is_file()) {
                mistakes.push((setting, format!("there is no file {}", path.display())));
            }
        }
        if self.ca.is_none() && self.routers.iter().any(|router| router.starts_with("grpc+tls://")) {
            mistakes.push(("worker.router", "over TLS a router is known by its certificate: set fleet.ca to its authority's".into()));
        }
        mistakes
    }
}

fn routers(given: Given<'_>) -> Result<Vec<String>, String> {
    let texts = match given {
        // An address has colons of its own.
        Given::Text(text) => text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_string).collect(),
        Given::Toml(_) => given.list()?,
    };
    match texts.iter().find(|t| !t.starts_with("grpc://") && !t.starts_with("grpc+tls://")) {
        Some(wrong) => Err(format!("a router is \"grpc://HOST:PORT\" or \"grpc+tls://HOST:PORT\", not \"{wrong}\"")),
        None => Ok(texts),
    }
}

fn labels(given: Given<'_>) -> Result<BTreeMap<String, String>, String> {
    let texts = given.list()?.into_iter().map(|text| {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("a label is \"name=value\", not \"{text}\""))?;
        Ok((key.trim().to_string(), value.trim().to_string()))
    });
    texts.collect()
}

pub(super) fn settings() -> Vec<Setting> {
    vec![
        Setting {
            path: "engines.duckdb.workers",
            help: "DuckDB workers on this machine, among which the engine's memory, disk, threads and slots are divided; 0 where all register from elsewhere",
            set: |s, v| {
                s.fleet.local_workers = v.whole(0, 64)?;
                Ok(())
            },
        },
        Setting {
            path: "fleet.listen",
            help: "address and port where workers on other machines register",
            set: |s, v| {
                let text = v.optional_text()?;
                let parsed = text.as_ref().map(|text| text.parse()).transpose();
                s.fleet.listen = parsed
                    .map_err(|_| format!("must be an address and port such as \"10.0.0.1:31338\", not \"{}\"", text.unwrap_or_default()))?;
                Ok(())
            },
        },
        Setting {
            path: "fleet.key_file",
            help: "file with the secret that routers and workers share, at least 64 hex digits; or FLIGHTPATH_FLEET_KEY",
            set: |s, v| {
                s.fleet.key_file = v.optional_text()?.map(PathBuf::from);
                Ok(())
            },
        },
        Setting {
            path: "fleet.ca",
            help: "PEM file with the authority of the certificates that routers and workers show each other",
            set: |s, v| {
                s.fleet.ca = v.optional_text()?.map(PathBuf::from);
                Ok(())
            },
        },
        Setting {
            path: "fleet.workers_max",
            help: "workers that may belong to this router",
            set: |s, v| {
                s.fleet.workers_max = v.whole(1, WORKERS_MAX)?;
                Ok(())
            },
        },
        Setting {
            path: "worker.router",
            help: "routers that `flightpath worker` registers with: grpc://HOST:PORT or grpc+tls://HOST:PORT, of their fleet.listen",
            set: |s, v| {
                s.fleet.routers = routers(v)?;
                Ok(())
            },
        },
        Setting {
            path: "worker.name",
            help: "the worker's name, unique in its fleet; host name and port by default",
            set: |s, v| {
                s.fleet.name = v.optional_text()?;
                Ok(())
            },
        },
        Setting {
            path: "worker.advertise",
            help: "host:port where routers reach the worker, if that isn't where it listens",
            set: |s, v| {
                s.fleet.advertise = v.optional_text()?;
                Ok(())
            },
        },
        Setting {
            path: "worker.labels",
            help: "what system.workers shows of the worker, as name=value",
            set: |s, v| {
                s.fleet.labels = labels(v)?;
                Ok(())
            },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.toml");
        std::fs::write(&file, toml).unwrap();
        let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        Settings::load(Some(&file), environment, |_| {}).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_fleet_is_read_from_both_places() {
        let toml = "[engines.duckdb]\nworkers = 3\n[fleet]\nlisten = \"127.0.0.1:0\"\n[worker]\nlabels = [\"zone=a\", \"shape = c4\"]\n";
        let environment = [("FLIGHTPATH_WORKER_ROUTER", "grpc://a:1, grpc://b:2"), ("FLIGHTPATH_FLEET_KEY", "never read as a setting")];
        let fleet = load(toml, &environment).unwrap().fleet;
        assert_eq!((fleet.local_workers, fleet.routers.len(), fleet.labels["shape"].as_str()), (3, 2, "c4"));
    }

    #[test]
    fn what_cannot_work_is_said_at_once() {
        let error = load("[fleet]\nlisten = \"0.0.0.0:1\"\n", &[]).unwrap_err();
        assert!(error.contains("tls.certificate"), "{error}");
        let error = load("[engines.duckdb]\nworkers = 0\n", &[]).unwrap_err();
        assert!(error.contains("fleet.listen"), "{error}");
        let error = load("[worker]\nrouter = \"grpc+tls://a:1\"\nlabels = [\"x\"]\n[fleet]\nkey_file = \"/nowhere\"\n", &[]).unwrap_err();
        assert!(error.contains("fleet.ca") && error.contains("name=value") && error.contains("/nowhere"), "{error}");
        let error = load("[worker]\nrouter = \"http://a:1\"\n", &[]).unwrap_err();
        assert!(error.contains("grpc://HOST:PORT"), "{error}");
    }
}
