//! `flightpath serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flightpath_server::settings::{Mistakes, Settings};

use crate::Failure;

#[derive(clap::Args)]
pub struct Args {
    /// Settings file (TOML).
    #[arg(long, env = "FLIGHTPATH_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port of the Flight SQL server; port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Folder of tables; may be given more than once.
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let load = move || read_settings(environment(), args.config.as_deref(), args.listen, &args.data);
    let settings = load().map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("io").build()?;
    let outcome = runtime.block_on(flightpath_server::serve(settings, Arc::new(load)));
    // A statement that is still being planned isn't waited for: nobody will hear of it.
    runtime.shutdown_background();
    outcome.map_err(Failure::failed)
}

/// The file, the environment, then the command line, all checked together.
pub(crate) fn load_settings(config: Option<&Path>, listen: Option<SocketAddr>, data: &[PathBuf]) -> Result<Settings, Failure> {
    load_settings_from(environment(), config, listen, data)
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

pub(crate) fn load_settings_from(
    environment: impl Iterator<Item = (String, String)>,
    config: Option<&Path>,
    listen: Option<SocketAddr>,
    data: &[PathBuf],
) -> Result<Settings, Failure> {
    read_settings(environment, config, listen, data).map_err(Failure::usage)
}

fn read_settings(
    environment: impl Iterator<Item = (String, String)>,
    config: Option<&Path>,
    listen: Option<SocketAddr>,
    data: &[PathBuf],
) -> Result<Settings, Mistakes> {
    let overrides = |settings: &mut Settings| {
        if let Some(listen) = listen {
            settings.listen = listen;
        }
        if !data.is_empty() {
            settings.data = data.to_vec();
        }
    };
    Settings::load(config, environment, overrides)
}
