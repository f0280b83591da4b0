//! `flightpath quarantine`: shapes of queries that an engine may not run because two engines
//! disagreed on them. Works on the query log's database itself: who may reach that is an operator.

use std::io::Write;
use std::path::PathBuf;

use chrono::{SecondsFormat, TimeZone};
use clap::Subcommand;
use flightpath_types::{EngineId, Fingerprint};

use crate::{Failure, commands};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Settings file (TOML): its `log.url` or `state_dir` say where the quarantine is kept.
    #[arg(long, env = "FLIGHTPATH_CONFIG", global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// Show what is in quarantine, and why.
    List,
    /// Let an engine run queries of this shape again; running servers follow within seconds.
    Lift {
        /// As `list` shows it.
        #[arg(value_parser = fingerprint)]
        fingerprint: Fingerprint,
        /// On this engine only; on all by default.
        #[arg(long)]
        engine: Option<String>,
    },
}

fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    let digits = text.len() == 16 && text.chars().all(|c| c.is_ascii_hexdigit());
    let value = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    value
        .map(Fingerprint::from_u64)
        .ok_or_else(|| "a fingerprint is 16 hexadecimal digits, as `flightpath quarantine list` shows them".into())
}

pub fn run(args: Args) -> Result<(), Failure> {
    let settings = commands::serve::load_settings(args.config.as_deref(), None, &[])?;
    commands::block_on(async {
        match args.action {
            Action::List => list(&settings).await,
            Action::Lift { fingerprint, engine } => lift(&settings, fingerprint, engine).await,
        }
    })
}

async fn list(settings: &flightpath_server::settings::Settings) -> Result<(), Failure> {
    let entries = flightpath_server::quarantine(settings).await.map_err(Failure::failed)?;
    let mut out = std::io::stdout().lock();
    if entries.is_empty() {
        writeln!(out, "nothing is in quarantine")?;
    }
    for entry in entries {
        let since = chrono::Utc.timestamp_millis_opt(entry.since_unix_ms).single();
        let since = since.map_or_else(String::new, |t| t.to_rfc3339_opts(SecondsFormat::Secs, true));
        writeln!(out, "{}  {:<12} since {since}  {}", entry.fingerprint, entry.engine.as_str(), entry.reason)?;
    }
    Ok(())
}

async fn lift(settings: &flightpath_server::settings::Settings, fingerprint: Fingerprint, engine: Option<String>) -> Result<(), Failure> {
    let engine = engine.map(EngineId::new);
    let lifted = flightpath_server::lift_quarantine(settings, fingerprint, engine.as_ref()).await.map_err(Failure::failed)?;
    if lifted == 0 {
        return Err(Failure::failed(format!(
            "{fingerprint} isn't in quarantine{}",
            engine.map_or_else(String::new, |e| format!(" on {e}"))
        )));
    }
    writeln!(std::io::stdout(), "lifted {fingerprint} on {lifted} {}", if lifted == 1 { "engine" } else { "engines" })?;
    Ok(())
}
