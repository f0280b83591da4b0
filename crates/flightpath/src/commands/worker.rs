//! `flightpath worker`.

use std::path::PathBuf;

use crate::{Failure, commands};

#[derive(clap::Args)]
pub struct Args {
    /// Settings file (TOML); the worker reads `worker`, `fleet`, `tls` and `engines.duckdb`.
    #[arg(long, env = "FLIGHTPATH_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port, or `unix:/path`; port 0 takes a free one. Beyond loopback it needs TLS.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Started by `serve`: settings and key come on standard input.
    #[arg(long, hide = true)]
    supervised: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("worker").build()?;
    if args.supervised {
        return runtime.block_on(flightpath_server::run_supervised_worker()).map_err(Failure::failed);
    }
    // The key isn't a setting: it must not end up in a file.
    let environment = std::env::vars().filter(|(name, _)| name != "FLIGHTPATH_WORKER_KEY");
    let settings = commands::serve::load_settings_from(environment, args.config.as_deref(), None, &[])?;
    runtime.block_on(flightpath_server::run_worker(settings, &args.listen)).map_err(Failure::failed)
}
