//! `flightpath explain`: the decision in a few lines.

use std::io::Write;
use std::path::PathBuf;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use flightpath_server::OfflineRouter;
use futures::TryStreamExt;

use crate::client::{Client, Connection, failure};
use crate::{Failure, commands};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Plan and decide in this process, without a server; needs --data or --config. A workspace in the
    /// settings is asked about tables and its warehouse's state, with FLIGHTPATH_TOKEN where it goes by users' rights.
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
        let explained = runtime.block_on(async {
            let session = [("engine", args.engine.as_deref().unwrap_or_default())];
            let opened = OfflineRouter::open(settings, &session, commands::workspace_token()).await;
            let mut router = opened.map_err(|e| commands::not_opened(&e))?;
            router.explain(&args.query).await.map_err(|e| commands::not_decided(&e))
        });
        vec![explained?]
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
    let mut chosen = false;
    for batch in &batches {
        chosen |= print(&mut out, batch)?;
    }
    match chosen {
        true => Ok(()),
        false => Err(Failure { code: 4, message: "no engine may run this query".into() }),
    }
}

/// One engine a line: the chosen one marked, then the others in order, then who refused and why. In the end,
/// what decided. True if there's a chosen one.
fn print(out: &mut impl Write, batch: &RecordBatch) -> Result<bool, Failure> {
    let column =
        |name: &str| batch.column_by_name(name).cloned().ok_or_else(|| Failure::failed(format!("the server's answer lacks `{name}`")));
    let (engine, eligible, chosen, reason) = (column("engine")?, column("eligible")?, column("chosen")?, column("reason")?);
    let (ms, p95, usd) = (column("predicted_ms")?, column("predicted_p95_ms")?, column("predicted_usd")?);
    let bytes = column("predicted_bytes")?;
    let number = |column: &ArrayRef, row| column.as_primitive::<Float64Type>().value(row);
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
            let (ms, p95, usd) = (number(&ms, row), format!("(95%: {:.1})", number(&p95, row)), number(&usd, row));
            let bytes = megabytes(bytes.as_primitive::<Int64Type>().value(row));
            write!(out, "{ms:>9.1} ms {p95:<14}  ${usd:<11.9}  {bytes:>9}  ")?;
        }
        writeln!(out, "{}", reason.value(row))?;
    }
    if let Some(decided) = decided(batch) {
        writeln!(out, "{decided}")?;
    }
    Ok(chosen.as_boolean().true_count() > 0)
}

/// `None` for a server of before, which didn't say.
fn decided(batch: &RecordBatch) -> Option<String> {
    let said = |name: &str| {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        (!column.is_empty() && column.is_valid(0)).then(|| column.value(0).to_string())
    };
    let strategy = said("strategy")?;
    let profile = said("profile").map(|profile| format!(" of profile `{profile}`")).unwrap_or_default();
    Some(format!("decided by strategy `{strategy}`{profile}"))
}

fn megabytes(bytes: i64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn printed(columns: Vec<(&str, ArrayRef)>) -> String {
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let mut out = Vec::new();
        assert!(print(&mut out, &RecordBatch::try_from_iter_with_nullable(columns).unwrap()).is_ok_and(|chosen| chosen));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_engine_has_a_line_and_the_last_one_says_what_decided() {
        let text = |values: [&str; 2]| Arc::new(StringArray::from_iter_values(values)) as ArrayRef;
        let number = |value: f64| Arc::new(Float64Array::from(vec![Some(value), None])) as ArrayRef;
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("engine", text(["duckdb", "datafusion"])),
            ("eligible", Arc::new(BooleanArray::from(vec![true, false]))),
            ("chosen", Arc::new(BooleanArray::from(vec![true, false]))),
            ("reason", text(["fastest scan", "isn't used"])),
            ("predicted_ms", number(12.34)),
            ("predicted_p95_ms", number(40.06)),
            ("predicted_usd", number(0.000000377)),
            ("predicted_bytes", Arc::new(Int64Array::from(vec![Some(5_290_000), None]))),
        ];
        let engines = "→ duckdb           12.3 ms (95%: 40.1)     $0.000000377    5.29 MB  fastest scan\n✗ datafusion  isn't used\n";
        assert_eq!(printed(columns.clone()), engines);
        columns.extend([("strategy", text(["cost", "cost"])), ("profile", text(["interactive", "interactive"]))]);
        assert_eq!(printed(columns), format!("{engines}decided by strategy `cost` of profile `interactive`\n"));
    }
}
