//! `flightpath explain`: the decision in a few lines.

use std::io::Write;
use std::path::PathBuf;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;

use crate::client::{Client, Connection, failure};
use crate::{Failure, commands};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Plan and decide in this process, without a server; needs --data or --config.
    #[arg(long)]
    offline: bool,
    /// Folder of tables, with --offline.
    #[arg(long, value_name = "DIR", requires = "offline")]
    data: Vec<PathBuf>,
    /// Settings file, with --offline.
    #[arg(long, env = "FLIGHTPATH_CONFIG", requires = "offline")]
    config: Option<PathBuf>,
    /// Pin one engine.
    #[arg(long)]
    engine: Option<String>,
    /// The query.
    query: String,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let batches = if args.offline {
        let settings = commands::serve::load_settings(args.config.as_deref(), None, &args.data)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let explained = runtime.block_on(flightpath_server::explain_offline(settings, &args.query, args.engine.as_deref()));
        vec![explained.map_err(|e| Failure { code: if is_refusal(&e) { 4 } else { 1 }, message: e.to_string() })?]
    } else {
        let settings: Vec<(&str, &str)> = args.engine.as_deref().map(|v| ("engine", v)).into_iter().collect();
        commands::block_on(async {
            let mut client = Client::connect(&args.connection, &settings).await?;
            let executed = client.execute(&format!("EXPLAIN ROUTE {}", args.query)).await?;
            let stream = client.fetch(&executed).await?;
            stream.try_collect::<Vec<RecordBatch>>().await.map_err(|e| failure(&e))
        })?
    };
    let mut out = std::io::stdout().lock();
    for batch in &batches {
        print(&mut out, batch)?;
    }
    Ok(())
}

fn is_refusal(error: &flightpath_types::Error) -> bool {
    matches!(error.kind(), flightpath_types::ErrorKind::NotEligible | flightpath_types::ErrorKind::PermissionDenied)
}

/// One engine a line: the chosen one marked, then the others in order, then who refused and why.
fn print(out: &mut impl Write, batch: &RecordBatch) -> Result<(), Failure> {
    let column =
        |name: &str| batch.column_by_name(name).cloned().ok_or_else(|| Failure::failed(format!("the server's answer lacks `{name}`")));
    let (engine, eligible, chosen, reason) = (column("engine")?, column("eligible")?, column("chosen")?, column("reason")?);
    let (ms, usd, bytes) = (column("predicted_ms")?, column("predicted_usd")?, column("predicted_bytes")?);
    let (engine, reason) = (engine.as_string::<i32>(), reason.as_string::<i32>());
    let width = engine.iter().flatten().map(str::len).max().unwrap_or(0);
    for row in 0..batch.num_rows() {
        let mark = if chosen.as_boolean().value(row) {
            "→"
        } else if eligible.as_boolean().value(row) {
            " "
        } else {
            "✗"
        };
        write!(out, "{mark} {:<width$}  ", engine.value(row))?;
        if eligible.as_boolean().value(row) && !ms.is_null(row) {
            let usd = usd.as_primitive::<Float64Type>().value(row);
            write!(
                out,
                "{:>9.1} ms  ${usd:<11.9}  {:>9}  ",
                ms.as_primitive::<Float64Type>().value(row),
                megabytes(bytes.as_primitive::<Int64Type>().value(row))
            )?;
        }
        writeln!(out, "{}", reason.value(row))?;
    }
    Ok(())
}

fn megabytes(bytes: i64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
