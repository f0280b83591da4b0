//! `flightpath emulate`: stands in for an outside system. A process of its own, never the router's.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use flightpath_emulator::{CatalogConfig, Config, Emulator, PrincipalConfig};

use crate::Failure;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Simulate a Databricks workspace over the tables in --data.
    Databricks(DatabricksArgs),
}

#[derive(clap::Args)]
struct DatabricksArgs {
    /// The simulated workspace (JSON): catalogs, principals, warehouses, table rules, settings.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder of tables, as `serve` takes it; they appear as main.default.<table>. May be given more than once.
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Address and port; port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Adds a principal and its access token, as name=token; may be given more than once.
    #[arg(long, value_name = "NAME=TOKEN")]
    principal: Vec<String>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let What::Databricks(args) = args.what;
    let config = load(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("simulation").build()?;
    runtime.block_on(async {
        let running = Emulator::start(config).await.map_err(Failure::failed)?;
        // Who starts it waits for this line to learn the port.
        let mut out = std::io::stdout();
        writeln!(out, "simulated Databricks (not the real one) listening on {}", running.url)?;
        out.flush()?;
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        running.shutdown().await;
        Ok(())
    })
}

/// The file, then the command line.
fn load(args: &DatabricksArgs) -> Result<Config, Failure> {
    let mut config = match &args.config {
        None => Config::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
            serde_json::from_str(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?
        }
    };
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if !args.data.is_empty() {
        match config.catalogs.first_mut() {
            Some(first) => first.data.extend(args.data.iter().cloned()),
            None => config.catalogs.push(CatalogConfig { name: "main".into(), data: args.data.clone() }),
        }
    }
    for given in &args.principal {
        let Some((name, token)) = given.split_once('=').filter(|(name, token)| !name.is_empty() && !token.is_empty()) else {
            // Not repeated: it may hold a token.
            return Err(Failure::usage("--principal takes name=token"));
        };
        match config.principals.iter_mut().find(|p| p.name == name) {
            Some(known) => known.tokens.push(token.into()),
            None => config.principals.push(PrincipalConfig { name: name.into(), tokens: vec![token.into()], ..Default::default() }),
        }
    }
    if config.catalogs.is_empty() {
        return Err(Failure::usage("the simulation needs tables: give --data or catalogs in --config"));
    }
    if config.principals.is_empty() {
        return Err(Failure::usage("the simulation needs somebody who may ask: give --principal or principals in --config"));
    }
    Ok(config)
}
