//! `flightpath check`: tries everything that the settings name.

use flightpath_catalog::{AsOf, Catalog, TableFormat};
use flightpath_engine_duckdb::DuckdbEngine;
use flightpath_flight::{StaticUser, StaticUsers};
use flightpath_types::{Principal, Result};
use std::time::Duration;

use crate::compose::{duckdb_config, open_catalog};
use crate::settings::Settings;
use crate::state::StateDir;

/// Tables named one by one in a failed check; beyond it they are counted.
const NAMED_MAX: usize = 10;
const COLLECTOR_MAX: Duration = Duration::from_secs(5);
const WORKER_START_MAX: Duration = Duration::from_secs(20);

/// One thing that was tried.
pub struct Finding {
    pub what: String,
    pub result: Result<String, String>,
}

/// Tries them all; a failure doesn't stop the others.
pub async fn check(settings: Settings) -> Vec<Finding> {
    let mut findings = vec![Finding { what: "settings".into(), result: Ok("valid".into()) }];
    let mut add = |what: &str, result: Result<String, String>| findings.push(Finding { what: what.to_string(), result });
    add("listen", check_listen(&settings).await);
    add("auth", check_auth(&settings));
    add("data", check_data(&settings).await);
    if let Some(found) = check_telemetry(&settings).await {
        add("telemetry", found);
    }
    if let Some(found) = crate::databricks::check(&settings).await {
        add("databricks", found);
    }
    match StateDir::open(&settings.state_dir) {
        Ok(state) => {
            add("state_dir", Ok(settings.state_dir.display().to_string()));
            let url = settings.log_url.clone().unwrap_or_else(|| state.log_file().display().to_string());
            let shown = if url.contains("://") { url.split("://").next().unwrap_or_default().to_string() } else { "sqlite".into() };
            add("log", flightpath_log_store::open(&url).await.map(|_| format!("{shown}, schema up to date")).map_err(|e| e.to_string()));
            if settings.fleet.listen.is_some() || !settings.fleet.routers.is_empty() {
                add("fleet", crate::fleet::key(&settings).map(|_| "the key can be used".to_string()).map_err(|e| e.to_string()));
            }
            if settings.duckdb.enabled && settings.fleet.local_workers > 0 {
                add("engine duckdb", check_duckdb(&settings, &state).await);
            }
        }
        Err(e) => add("state_dir", Err(e.to_string())),
    }
    findings
}

async fn check_listen(settings: &Settings) -> Result<String, String> {
    match tokio::net::TcpListener::bind(settings.listen).await {
        Ok(_) => Ok(format!("{} is free", settings.listen)),
        Err(e) => Err(format!("{}: {e}", settings.listen)),
    }
}

/// Whether the page's port is free and something listens where the collector should be; `None`
/// where nothing is told to anybody.
async fn check_telemetry(settings: &Settings) -> Option<Result<String, String>> {
    let config = match settings.telemetry.config() {
        Ok(config) if !config.is_on() => return None,
        Ok(config) => config,
        Err(mistake) => return Some(Err(mistake)),
    };
    let mut good = Vec::new();
    if let Some(page) = &config.page {
        match tokio::net::TcpListener::bind(page.listen).await {
            Ok(_) => good.push(format!("{} is free", page.listen)),
            Err(e) => return Some(Err(format!("{}: {e}", page.listen))),
        }
    }
    if let Some(otlp) = &config.otlp {
        let address =
            url::Url::parse(&otlp.endpoint).ok().and_then(|url| Some((url.host_str()?.to_string(), url.port_or_known_default()?)));
        let Some((host, port)) = address else { return Some(Err(format!("{} names no host", otlp.endpoint))) };
        let host = host.trim_matches(['[', ']']).to_string();
        match tokio::time::timeout(COLLECTOR_MAX, tokio::net::TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => good.push(format!("{} takes connections", otlp.endpoint)),
            Ok(Err(e)) => return Some(Err(format!("{} can't be reached: {e}", otlp.endpoint))),
            Err(_) => return Some(Err(format!("{} doesn't answer", otlp.endpoint))),
        }
    }
    Some(Ok(good.join("; ")))
}

fn check_auth(settings: &Settings) -> Result<String, String> {
    if settings.users.is_empty() && settings.tokens.is_empty() {
        return Ok("none; only this machine can connect".into());
    }
    let users: Vec<StaticUser> = settings
        .users
        .iter()
        .map(|u| StaticUser { name: u.name.clone(), password_hash: Some(u.password_hash.clone()), tokens: Vec::new() })
        .collect();
    StaticUsers::new(&users).map(drop).map_err(|e| e.to_string())?;
    Ok(format!("{} users, {} tokens", settings.users.len(), settings.tokens.len()))
}

async fn check_data(settings: &Settings) -> Result<String, String> {
    let principal = Principal::new("anonymous");
    let tables = async {
        let catalog = open_catalog(settings).await?;
        let (mut good, mut bad) = (0usize, Vec::new());
        for name in catalog.catalogs(&principal).await? {
            for schema in catalog.schemas(&principal, &name).await? {
                for table in catalog.tables(&principal, &name, &schema).await? {
                    match catalog.snapshot(&principal, &table.name, &AsOf::Latest).await {
                        Ok(snapshot) => good += usize::from(snapshot.format != TableFormat::System),
                        Err(e) => bad.push(format!("{}: {e}", table.name)),
                    }
                }
            }
        }
        Ok::<_, flightpath_types::Error>((good, bad))
    };
    let (good, bad) = tables.await.map_err(|e| e.to_string())?;
    if bad.is_empty() && good == 0 && settings.databricks.host.is_none() {
        let folders: Vec<String> = settings.data.iter().map(|path| path.display().to_string()).collect();
        return Err(match folders.as_slice() {
            [] => "no folder of tables is named: give --data, or set `data`".into(),
            _ => format!("no table in {}: a table is a folder with a _delta_log, or with Parquet files", folders.join(", ")),
        });
    }
    if bad.is_empty() {
        return Ok(format!("{good} tables can be read"));
    }
    let more = bad.len().saturating_sub(NAMED_MAX);
    let mut named = bad.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join("\n        ");
    if more > 0 {
        named.push_str(&format!("\n        and {more} more"));
    }
    Err(format!("{good} tables can be read, these can't:\n        {named}"))
}

async fn check_duckdb(settings: &Settings, state: &StateDir) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let engine = DuckdbEngine::start(duckdb_config(settings, program, &state.temporary()));
    let ready = tokio::time::timeout(WORKER_START_MAX, engine.ready()).await;
    flightpath_engine::Engine::shutdown(&engine).await;
    match ready {
        Ok(Ok(())) => Ok("the worker starts".into()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("the worker didn't start within {} s", WORKER_START_MAX.as_secs())),
    }
}
