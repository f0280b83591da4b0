//! `flightpath audit`: what exported query history says would have been saved, before anything is
//! installed.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use chrono::{SecondsFormat, TimeZone};
use clap::ValueEnum;
use flightpath_audit::{Assumptions, Estimate, HeavyShape, History, Report, WarehouseEstimate, Warehouses, estimate};

use crate::Failure;

#[derive(clap::Args)]
pub struct Args {
    /// Answer of `GET /api/2.0/sql/warehouses`: sizes, auto-stops and kinds.
    #[arg(long, value_name = "FILE")]
    warehouses: Option<PathBuf>,
    /// `ID=SIZE[,AUTO_STOP_MINUTES[,KIND[,CLUSTERS_MAX]]]`, as `abc123=Small,10,serverless,4`; may be given more than once.
    #[arg(long, value_name = "WAREHOUSE")]
    warehouse: Vec<String>,
    /// Of the shapes of queries that read, the shares that may run elsewhere: low, expected, high.
    #[arg(long, value_name = "LOW,EXPECTED,HIGH", value_delimiter = ',', num_args = 1)]
    share: Vec<f64>,
    /// Price of an hour of a machine with 4 cores and 16 GB.
    #[arg(long, value_name = "USD")]
    machine_usd_per_hour: Option<f64>,
    /// Price of a DBU; the list price of each warehouse's kind by default.
    #[arg(long, value_name = "USD")]
    usd_per_dbu: Option<f64>,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Answers of `GET /api/2.0/sql/history/queries?include_metrics=true`: pages, arrays of pages or
    /// queries, or one query a line. `-` reads standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let mut assumptions = Assumptions { usd_per_dbu: args.usd_per_dbu, ..Default::default() };
    if let Some(usd) = args.machine_usd_per_hour {
        assumptions.machine_usd_per_hour = usd;
    }
    if !args.share.is_empty() {
        assumptions.share = args.share.try_into().map_err(|_| Failure::usage("--share wants three numbers, as 0.4,0.7,0.95"))?;
    }
    assumptions.check().map_err(Failure::usage)?;
    let mut warehouses = Warehouses::default();
    if let Some(path) = &args.warehouses {
        let file = File::open(path).map_err(|e| Failure::usage(format!("{} can't be read: {e}", path.display())))?;
        warehouses.read(file).map_err(|e| Failure::usage(format!("{} {e}", path.display())))?;
    }
    for one in &args.warehouse {
        warehouses.add(one).map_err(Failure::usage)?;
    }
    let mut history = History::default();
    for path in &args.files {
        let read = if path.as_os_str() == "-" {
            if std::io::stdin().is_terminal() {
                return Err(Failure::usage("`-` reads standard input: pipe an export into it"));
            }
            history.read(std::io::stdin().lock())
        } else {
            let file = File::open(path).map_err(|e| Failure::usage(format!("{} can't be read: {e}", path.display())))?;
            history.read(file)
        };
        read.map_err(|e| Failure::failed(format!("{} {e}", path.display())))?;
    }
    let report = estimate(&mut history, &warehouses, &assumptions).map_err(Failure::failed)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match args.format {
        Format::Table => print(&mut out, &report)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &report).map_err(|e| Failure::from(std::io::Error::from(e)))?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn print(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let date =
        |ms| chrono::Utc.timestamp_millis_opt(ms).single().map_or_else(String::new, |t| t.to_rfc3339_opts(SecondsFormat::Secs, true));
    writeln!(
        out,
        "{} queries in {:.1} days, {} to {}: {} read tables, {} ask about them, {} write or do something else",
        report.queries,
        report.days,
        date(report.from_unix_ms),
        date(report.until_unix_ms),
        report.selects,
        report.metadata,
        report.others
    )?;
    for (why, count) in &report.skipped {
        writeln!(out, "not counted: {count} {why}")?;
    }
    for error in &report.api_errors {
        writeln!(out, "the API answered with an error, so that queries may be missing: {error}")?;
    }
    if report.selects_of_unknown_size > 0 {
        writeln!(out, "how much they read isn't known of {} queries (export with include_metrics=true)", report.selects_of_unknown_size)?;
    }
    for warehouse in &report.warehouses {
        print_warehouse(out, warehouse)?;
    }
    writeln!(out, "\nall warehouses            {:>14} {:>14} {:>14}", "low", "expected", "high")?;
    let line = |out: &mut dyn Write, name: &str, get: &dyn Fn(&Estimate) -> f64| -> std::io::Result<()> {
        let values: Vec<String> = report.estimates.iter().map(|e| format!("{:>14.2}", get(e))).collect();
        writeln!(out, "  {name:<24}{}", values.join(" "))
    };
    line(out, "USD now", &|e| e.warehouses.usd_now)?;
    line(out, "USD of warehouses after", &|e| e.warehouses.usd_after)?;
    line(out, "USD of machines after", &|e| e.machines_usd)?;
    line(out, "USD saved", &|e| e.saved_usd)?;
    line(out, "USD saved in 30 days", &|e| e.saved_usd_per_30_days)?;
    print_heavy(out, &report.heavy_shapes)?;
    writeln!(out, "\nThis is an estimate. It assumes:")?;
    for assumption in &report.assumptions {
        writeln!(out, "- {assumption}")?;
    }
    Ok(())
}

fn print_heavy(out: &mut impl Write, shapes: &[HeavyShape]) -> std::io::Result<()> {
    if shapes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWARNING: this hangs on queries of which the history doesn't tell whether they may run elsewhere:")?;
    for shape in shapes {
        writeln!(
            out,
            "- {:.0}% of the queries that could leave, and {:.0}% of their time: {}",
            shape.share_of_queries * 100.0,
            shape.share_of_time * 100.0,
            shape.example.as_deref().unwrap_or("(exported without its text)")
        )?;
    }
    Ok(())
}

fn print_warehouse(out: &mut impl Write, warehouse: &WarehouseEstimate) -> std::io::Result<()> {
    let name = warehouse.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    let size = warehouse.size.as_deref().unwrap_or("size not known");
    let kind = warehouse.kind.unwrap_or("kind not known, taken as serverless");
    let stop = match warehouse.auto_stop_minutes {
        Some(minutes) if minutes > 0.0 => format!("stops after {minutes} minutes"),
        Some(_) => "never stops by itself".into(),
        None => "auto-stop not known".into(),
    };
    writeln!(out, "\nwarehouse {}{name}: {size}, {kind}, {stop}, {} queries", warehouse.id, warehouse.queries)?;
    writeln!(
        out,
        "  {:<10} {:>10} {:>12} {:>12} {:>12} {:>12} {:>8} {:>8}",
        "", "leave", "hours now", "hours after", "USD now", "USD after", "wakes", "after"
    )?;
    for l in &warehouse.levels {
        writeln!(
            out,
            "  {:<10} {:>10} {:>12.1} {:>12.1} {:>12.2} {:>12.2} {:>8} {:>8}",
            l.level, l.leaving, l.hours_now, l.hours_after, l.usd_now, l.usd_after, l.wakes_now, l.wakes_after
        )?;
    }
    if warehouse.starts_seen > 0 {
        writeln!(out, "  (the export shows {} queries that waited for it to start)", warehouse.starts_seen)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(warehouse: &str) -> String {
        let query = |id: usize, text: &str| {
            format!(
                r#"{{"query_id": "{id}", "statement_type": "SELECT", "query_text": "{text}", "warehouse_id": "w1",
                    "query_start_time_ms": {}, "duration": 1000, "metrics": {{"read_bytes": 1000}}}}"#,
                1_760_000_000_000_usize + id * 60_000
            )
        };
        let mut exported: Vec<String> = (0..9).map(|id| query(id, &format!("SELECT a FROM t WHERE b = {id}"))).collect();
        exported.push(query(9, "SELECT c FROM t"));
        let (mut history, mut warehouses, mut out) = (History::default(), Warehouses::default(), Vec::<u8>::new());
        history.read(exported.join("\n").as_bytes()).unwrap();
        warehouses.add(warehouse).unwrap();
        let report = estimate(&mut history, &warehouses, &Assumptions::default()).unwrap();
        print(&mut out, &report).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn queries_that_the_answer_hangs_on_are_named() {
        let table = printed("w1=Small,10,pro");
        let named = "WARNING: this hangs on queries of which the history doesn't tell whether they may run elsewhere:
- 90% of the queries that could leave, and 90% of their time: SELECT a FROM t WHERE b = 0
";
        assert!(table.contains(named) && !table.contains("SELECT c"), "{table}");
    }

    #[test]
    fn a_kind_is_taken_as_serverless_only_where_that_is_said() {
        let assumed = printed("w1=Small,10");
        assert!(assumed.contains("w1: Small, kind not known, taken as serverless, stops after 10 minutes, 10 queries"), "{assumed}");
        assert!(assumed.contains("- NOT KNOWN: kind of w1; taken as serverless\n"), "{assumed}");
        let known = printed("w1=Small,10,pro");
        assert!(known.contains("w1: Small, pro, stops after 10 minutes, 10 queries") && !known.contains("NOT KNOWN"), "{known}");
    }
}
