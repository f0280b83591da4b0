//! `flightpath ab-report`: what the two sides of an `ab` strategy did. Works on the query log's
//! database itself: who may reach that is an operator.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{SecondsFormat, TimeZone};
use clap::ValueEnum;
use flightpath_server::{AbComparison, AbFindings, AbInterval, AbQuestion, AbSide, AbTestReport, AbTestStrategy};

use crate::{Failure, commands};

const DAY_MS: f64 = 86_400_000.0;

#[derive(clap::Args)]
pub struct Args {
    /// Settings file (TOML): its `log.url` or `state_dir` say where the record is.
    #[arg(long, env = "FLIGHTPATH_CONFIG")]
    config: Option<PathBuf>,
    /// Queries of the last so many days.
    #[arg(long, default_value = "7", value_parser = days)]
    days: f64,
    /// This test only, as the settings write it: `ab:rules|cost:0.5:query`.
    #[arg(long, value_parser = AbTestStrategy::parse)]
    strategy: Option<AbTestStrategy>,
    /// The newest so many queries of that time, those of no test among them.
    #[arg(long, default_value = "200000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    queries_max: u32,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn days(text: &str) -> Result<f64, String> {
    let days = text.parse::<f64>().ok().filter(|days| *days > 0.0 && *days <= 36_500.0);
    days.ok_or_else(|| "must be a number of days above 0".into())
}

pub fn run(args: Args) -> Result<(), Failure> {
    let settings = commands::serve::load_settings(args.config.as_deref(), None, &[])?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let question = AbQuestion {
        from_unix_ms: now - (args.days * DAY_MS) as i64,
        strategy: args.strategy.clone(),
        queries_max: usize::try_from(args.queries_max).unwrap_or(usize::MAX),
    };
    let findings = commands::block_on(async { flightpath_server::ab_report(&settings, &question).await.map_err(Failure::failed) })?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match args.format {
        Format::Table => print(&mut out, &findings, args.strategy.as_ref())?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &findings).map_err(|e| Failure::from(std::io::Error::from(e)))?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn print(out: &mut impl Write, findings: &AbFindings, wanted: Option<&AbTestStrategy>) -> std::io::Result<()> {
    if findings.cut {
        writeln!(out, "only the newest {} queries were read (--queries-max)", findings.queries_read)?;
    }
    if let Some(wanted) = wanted.filter(|_| findings.tests.is_empty()) {
        return writeln!(out, "none of {} queries was part of the test `{wanted}`", findings.queries_read);
    }
    if findings.tests.is_empty() {
        return writeln!(
            out,
            "none of {} queries was part of a test: a profile's strategy starts one, such as `ab:rules|cost:0.5:query`",
            findings.queries_read
        );
    }
    findings.tests.iter().try_for_each(|test| print_test(out, test))
}

fn print_test(out: &mut impl Write, test: &AbTestReport) -> std::io::Result<()> {
    let date =
        |ms| chrono::Utc.timestamp_millis_opt(ms).single().map_or_else(String::new, |t| t.to_rfc3339_opts(SecondsFormat::Secs, true));
    writeln!(out, "{}  {} to {}", test.strategy, date(test.from_unix_ms), date(test.until_unix_ms))?;
    let side = |out: &mut dyn Write, name: &str, side: &AbSide| {
        writeln!(out, "  {name}  {}: {} queries, {} failed", side.strategy, side.queries, side.failed)
    };
    side(out, "a", &test.a)?;
    side(out, "b", &test.b)?;
    print_comparison(out, "latency", test.latency_ms.as_ref(), |ms| format!("{ms:.1} ms"))?;
    print_comparison(out, "dollars", test.usd.as_ref(), |usd| format!("${usd:.9}"))
}

fn print_comparison(out: &mut impl Write, what: &str, comparison: Option<&AbComparison>, text: fn(f64) -> String) -> std::io::Result<()> {
    let Some(c) = comparison else {
        return writeln!(out, "  {what}: too few runs to compare; each side needs two that succeeded");
    };
    let rests_on = match c.method {
        "paired" => format!("paired over {} shapes", c.compared),
        _ => format!("over {} runs, not paired", c.compared),
    };
    writeln!(out, "  {what}: a {}, b {} on average", text(c.mean_a), text(c.mean_b))?;
    let AbInterval { estimate, low, high } = c.difference;
    writeln!(out, "    b - a  {}  [{}, {}]  95%, {rests_on}", text(estimate), text(low), text(high))?;
    if let Some(AbInterval { estimate, low, high }) = c.ratio {
        writeln!(out, "    b / a  {estimate:.3}  [{low:.3}, {high:.3}]")?;
    }
    writeln!(out, "    {}", c.better.map_or_else(|| "no difference that is sure".to_string(), |side| format!("{side} is better")))
}
