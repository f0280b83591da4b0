//! `flightpath check`: every setting valid, every outside system reachable.

use std::io::Write;
use std::path::PathBuf;

use crate::{Failure, commands};

#[derive(clap::Args)]
pub struct Args {
    /// Settings file (TOML).
    #[arg(long, env = "FLIGHTPATH_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of tables; may be given more than once.
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Print every setting with its environment variable and meaning, and check nothing.
    #[arg(long)]
    list_settings: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    if args.list_settings {
        let mut out = std::io::stdout().lock();
        for (path, variable, meaning) in flightpath_server::settings::documentation() {
            writeln!(out, "{path:<34} {variable:<46} {meaning}")?;
        }
        return Ok(());
    }
    let settings = commands::serve::load_settings(args.config.as_deref(), None, &args.data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let findings = runtime.block_on(flightpath_server::check(settings));
    let mut out = std::io::stdout().lock();
    let mut failed = 0;
    for finding in &findings {
        match &finding.result {
            Ok(detail) => writeln!(out, "ok    {}: {detail}", finding.what)?,
            Err(why) => {
                failed += 1;
                writeln!(out, "FAIL  {}: {why}", finding.what)?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::failed("1 check failed")),
        n => Err(Failure::failed(format!("{n} checks failed"))),
    }
}
