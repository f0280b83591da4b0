//! `flightpath populate`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use flightpath_datagen::{Bars, Benchmark, Options};

use crate::Failure;

#[derive(clap::Args)]
pub struct Args {
    /// `tpch` or `tpcds`.
    #[arg(value_parser = ["tpch", "tpcds"])]
    benchmark: String,
    /// 1 is about a gigabyte of text; fractions are fine.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Folder for the tables; each becomes a folder in it.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace tables of the same names.
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let benchmark = Benchmark::parse(&args.benchmark).ok_or_else(|| Failure::usage("populate tpch or tpcds"))?;
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    let options = Options { force: args.force, threads, ..Options::new(benchmark, args.scale, args.out.clone()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let summary = runtime.block_on(async {
        tokio::select! {
            // Dropping the work leaves nothing that looks like a table.
            _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted; tables that were finished stay")),
            summary = flightpath_datagen::populate(options, Arc::new(Bars::default())) => summary.map_err(Failure::failed),
        }
    })?;
    writeln!(
        std::io::stdout(),
        "{} tables, {} rows, {:.1} MB in {}",
        summary.tables.len(),
        summary.rows(),
        summary.bytes() as f64 / 1e6,
        args.out.display()
    )?;
    Ok(())
}
