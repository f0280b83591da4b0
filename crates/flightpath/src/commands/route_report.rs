//! `flightpath route-report`: where a whole workload would run, and what that would cost.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Field, Float64Type, Schema};
use arrow::record_batch::RecordBatch;
use flightpath_server::{Offline, OfflineRouter};
use flightpath_types::Decision;
use futures::TryStreamExt;

use crate::client::{Client, Connection, failure};
use crate::output::{Format, Printer};
use crate::statements::{self, Statement};
use crate::{Failure, commands};

const FILE_BYTES_MAX: u64 = 64 << 20;
const STATEMENTS_MAX: usize = 100_000;
/// Of a statement, what the report holds.
const TEXT_CHARS_MAX: usize = 2_000;
/// The engine that everything is compared with.
const DATABRICKS: &str = "databricks";

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
    /// Size of the warm serverless warehouse to compare with, with --offline.
    #[arg(long, value_name = "SIZE", default_value = "Small", value_parser = size)]
    warehouse: String,
    /// Pin one engine.
    #[arg(long)]
    engine: Option<String>,
    /// Where short names are looked up.
    #[arg(long)]
    catalog: Option<String>,
    #[arg(long)]
    schema: Option<String>,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Files of statements parted by `;`. `USE` and `SET` hold for the statements behind them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn size(text: &str) -> Result<String, String> {
    match flightpath_types::WarehouseSize::is_known(text) {
        true => Ok(text.to_string()),
        false => Err("sizes are 2X-Small, X-Small, Small, Medium, Large, X-Large, 2X-Large to 5X-Large".into()),
    }
}

/// What became of one statement.
enum Outcome {
    Routed {
        engine: String,
        numbers: Numbers,
    },
    Refused,
    Failed,
    /// The router answers it by itself.
    Local,
    /// The router may answer it, or the warehouse, and only running it would tell.
    NotAsked,
}

#[derive(Clone, Copy)]
struct Numbers {
    ms: f64,
    usd: f64,
}

struct Row {
    file: String,
    line: usize,
    text: String,
    outcome: Outcome,
    /// Why it runs where it does, or what is wrong.
    reason: String,
    databricks: Option<Numbers>,
}

impl Row {
    fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Routed { .. } => "routed",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Local => "local",
            Outcome::NotAsked => "not_asked",
        }
    }

    fn routed(&self) -> Option<(&str, Numbers)> {
        match &self.outcome {
            Outcome::Routed { engine, numbers } => Some((engine, *numbers)),
            Outcome::Refused | Outcome::Failed | Outcome::Local | Outcome::NotAsked => None,
        }
    }
}

pub fn run(args: Args) -> Result<(), Failure> {
    let texts = args.files.iter().map(|file| read(file)).collect::<Result<Vec<String>, Failure>>()?;
    let files: Vec<(String, Vec<Statement<'_>>)> =
        args.files.iter().zip(&texts).map(|(file, text)| (file.display().to_string(), statements::split(text))).collect();
    let count: usize = files.iter().map(|(_, statements)| statements.len()).sum();
    match count {
        0 => return Err(Failure::usage("there is no statement in these files")),
        count if count > STATEMENTS_MAX => {
            return Err(Failure::usage(format!("{count} statements are too many for one report; at most {STATEMENTS_MAX} are taken")));
        }
        _ => {}
    }
    let settings: Vec<(&str, &str)> = [("engine", &args.engine), ("catalog", &args.catalog), ("schema", &args.schema)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
        .collect();
    let rows = if args.offline {
        let loaded = commands::serve::load_settings(args.config.as_deref(), None, &args.data)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(decided_here(loaded, &settings, &args.warehouse, &files))?
    } else {
        commands::block_on(decided_by_server(&args.connection, &settings, &files))?
    };
    print(&rows, &args)
}

fn read(file: &Path) -> Result<String, Failure> {
    let unreadable = |e: &dyn std::fmt::Display| Failure::usage(format!("{} can't be read: {e}", file.display()));
    let length = std::fs::metadata(file).map_err(|e| unreadable(&e))?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(&format!("it has {length} bytes; at most {FILE_BYTES_MAX} are taken")));
    }
    std::fs::read_to_string(file).map_err(|e| unreadable(&e))
}

async fn decided_here(
    loaded: flightpath_server::settings::Settings,
    session: &[(&str, &str)],
    warehouse: &str,
    files: &[(String, Vec<Statement<'_>>)],
) -> Result<Vec<Row>, Failure> {
    let opened = OfflineRouter::open(loaded, session, commands::workspace_token()).await;
    let mut router = opened.map_err(|e| commands::not_opened(&e))?.warehouse(warehouse);
    let mut rows = Vec::new();
    for (file, statements) in files {
        for statement in statements {
            let (outcome, reason, databricks) = match router.decide(statement.text).await {
                Ok(Offline::Decided { decision, warehouse }) => {
                    let (outcome, reason) = of_decision(&decision);
                    (outcome, reason, warehouse.map(|n| Numbers { ms: n.latency_ms, usd: n.usd }))
                }
                Ok(Offline::SessionChanged) => (Outcome::Local, "holds for the statements behind it".to_string(), None),
                Ok(Offline::Local) => (Outcome::Local, "answered by the router itself".to_string(), None),
                Err(error) if commands::is_refusal(&error) => (Outcome::Refused, error.to_string(), None),
                Err(error) => (Outcome::Failed, error.to_string(), None),
            };
            rows.push(row(file, statement, outcome, reason, databricks));
        }
    }
    Ok(rows)
}

fn of_decision(decision: &Decision) -> (Outcome, String) {
    match decision.chosen() {
        Some(chosen) => {
            let numbers = Numbers { ms: chosen.numbers.latency_ms, usd: chosen.numbers.usd };
            (Outcome::Routed { engine: chosen.engine.to_string(), numbers }, chosen.reason.clone())
        }
        None => (Outcome::Refused, decision.refusals_text()),
    }
}

async fn decided_by_server(
    connection: &Connection,
    settings: &[(&str, &str)],
    files: &[(String, Vec<Statement<'_>>)],
) -> Result<Vec<Row>, Failure> {
    let mut server = Server { client: Client::connect(connection, settings).await?, has_warehouse: None };
    let mut rows = Vec::new();
    for (file, statements) in files {
        for statement in statements {
            let (outcome, reason, databricks) = match server.ask(statement).await {
                Ok(answer) => answer,
                // Nobody will answer the rest either.
                Err(failure) if failure.code == 3 => return Err(failure),
                Err(failure) if failure.code == 4 => (Outcome::Refused, failure.message, None),
                Err(failure) => (Outcome::Failed, failure.message, None),
            };
            rows.push(row(file, statement, outcome, reason, databricks));
        }
    }
    Ok(rows)
}

/// A server that is asked about statements.
struct Server {
    client: Client,
    /// Whether it may send statements to Databricks, once that's known.
    has_warehouse: Option<bool>,
}

impl Server {
    async fn ask(&mut self, statement: &Statement<'_>) -> Result<(Outcome, String, Option<Numbers>), Failure> {
        match statement.first_word().as_str() {
            // A token's session is shared by everybody who shows the token: it isn't ours to change.
            "USE" | "SET" if std::env::var_os("FLIGHTPATH_TOKEN").is_some() => {
                let reason = "not applied: sessions of a token are shared; --catalog, --schema and --engine hold for all statements";
                return Ok((Outcome::Failed, reason.into(), None));
            }
            "USE" | "SET" => {
                self.run(statement).await?;
                return Ok((Outcome::Local, "holds for the statements behind it".into(), None));
            }
            "SHOW" | "DESCRIBE" | "DESC" | "EXPLAIN" => {
                if !is_the_routers_own(statement) {
                    if self.has_warehouse().await? {
                        let reason = "answered by the router itself if it understands it, else by the warehouse; not asked, because the \
                                      server might have to run it there to tell";
                        return Ok((Outcome::NotAsked, reason.into(), None));
                    }
                    // No engine runs any of these: the router answers or refuses.
                    self.run(statement).await?;
                }
                return Ok((Outcome::Local, "answered by the router itself".into(), None));
            }
            _ => {}
        }
        let mut answer = (Outcome::Refused, String::new(), None);
        let mut refusals = Vec::new();
        for candidate in self.explain(statement.text).await? {
            let engine = candidate.engine;
            match candidate.numbers {
                Some(numbers) if engine == DATABRICKS => answer.2 = Some(numbers),
                Some(_) | None => {}
            }
            match candidate.numbers.filter(|_| candidate.chosen) {
                Some(numbers) => (answer.0, answer.1) = (Outcome::Routed { engine, numbers }, candidate.reason),
                None => refusals.push(format!("{engine}: {}", candidate.reason)),
            }
        }
        if let Outcome::Refused = answer.0 {
            answer.1 = refusals.join("; ");
        }
        Ok(answer)
    }

    async fn run(&mut self, statement: &Statement<'_>) -> Result<(), Failure> {
        self.rows(statement.text).await.map(|_| ())
    }

    async fn rows(&mut self, text: &str) -> Result<Vec<RecordBatch>, Failure> {
        let executed = self.client.execute(text).await?;
        self.client.fetch(&executed).await?.try_collect().await.map_err(|e| failure(&e))
    }

    async fn explain(&mut self, text: &str) -> Result<Vec<Candidate>, Failure> {
        let mut all = Vec::new();
        for batch in self.rows(&format!("EXPLAIN ROUTE {text}")).await? {
            all.extend(candidates(&batch)?);
        }
        Ok(all)
    }

    async fn has_warehouse(&mut self) -> Result<bool, Failure> {
        if let Some(known) = self.has_warehouse {
            return Ok(known);
        }
        let found = self.explain("SELECT 1").await?.iter().any(|candidate| candidate.engine == DATABRICKS);
        self.has_warehouse = Some(found);
        Ok(found)
    }
}

/// Whether a SHOW, DESCRIBE or EXPLAIN is one that the router surely answers itself. What it doesn't understand,
/// and what a governed table's files would tell, it passes on to a warehouse.
fn is_the_routers_own(statement: &Statement<'_>) -> bool {
    const SHOWN: [&str; 7] = ["CATALOGS", "SCHEMAS", "DATABASES", "TABLES", "COLUMNS", "TBLPROPERTIES", "FUNCTIONS"];
    let words: Vec<String> = statement.code().split_whitespace().map(str::to_ascii_uppercase).collect();
    let Some((first, rest)) = words.split_first() else { return false };
    match first.as_str() {
        "SHOW" => rest.first().is_some_and(|what| SHOWN.contains(&what.as_str())),
        "EXPLAIN" => rest.first().is_some_and(|what| what == "ROUTE"),
        // A table's columns.
        "DESCRIBE" | "DESC" => rest.iter().filter(|word| !matches!(word.as_str(), "TABLE" | "EXTENDED" | "FORMATTED")).count() == 1,
        _ => false,
    }
}

/// One row of `EXPLAIN ROUTE`.
struct Candidate {
    engine: String,
    chosen: bool,
    reason: String,
    numbers: Option<Numbers>,
}

fn candidates(batch: &RecordBatch) -> Result<Vec<Candidate>, Failure> {
    let column =
        |name: &str| batch.column_by_name(name).cloned().ok_or_else(|| Failure::failed(format!("the server's answer lacks `{name}`")));
    let (engine, chosen, reason) = (column("engine")?, column("chosen")?, column("reason")?);
    let (ms, usd) = (column("predicted_ms")?, column("predicted_usd")?);
    let number = |column: &ArrayRef, row| (!column.is_null(row)).then(|| column.as_primitive::<Float64Type>().value(row));
    Ok((0..batch.num_rows())
        .map(|row| Candidate {
            engine: engine.as_string::<i32>().value(row).to_string(),
            chosen: chosen.as_boolean().value(row),
            reason: reason.as_string::<i32>().value(row).to_string(),
            numbers: number(&ms, row).zip(number(&usd, row)).map(|(ms, usd)| Numbers { ms, usd }),
        })
        .collect())
}

fn row(file: &str, statement: &Statement<'_>, outcome: Outcome, reason: String, databricks: Option<Numbers>) -> Row {
    let words: Vec<&str> = statement.code().split_whitespace().collect();
    let text = words.join(" ").chars().take(TEXT_CHARS_MAX).collect();
    Row { file: file.to_string(), line: statement.line, text, outcome, reason, databricks }
}

/// Rows in any format; the totals behind a table, and beside the other formats.
fn print(rows: &[Row], args: &Args) -> Result<(), Failure> {
    let several = args.files.len() > 1;
    let batch = batch(rows, several)?;
    let mut printer = Printer::new(args.format, batch.schema(), std::io::BufWriter::new(std::io::stdout().lock()))?;
    printer.batch(&batch)?;
    printer.finish()?;
    let totals = totals(rows, args.offline.then_some(args.warehouse.as_str()));
    match args.format {
        Format::Table => writeln!(std::io::stdout(), "{totals}")?,
        Format::Json | Format::Csv | Format::Arrow => writeln!(std::io::stderr(), "{totals}")?,
    }
    Ok(())
}

/// Four digits tell a prediction well enough.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn batch(rows: &[Row], several: bool) -> Result<RecordBatch, Failure> {
    let text = |get: &dyn Fn(&Row) -> Option<String>| Arc::new(rows.iter().map(get).collect::<StringArray>()) as ArrayRef;
    let number =
        |get: &dyn Fn(&Row) -> Option<f64>| Arc::new(rows.iter().map(|r| get(r).map(rounded)).collect::<Float64Array>()) as ArrayRef;
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    if several {
        columns.push(("file", text(&|r| Some(r.file.clone()))));
    }
    columns.extend([
        ("line", Arc::new(rows.iter().map(|r| Some(r.line as i64)).collect::<Int64Array>()) as ArrayRef),
        ("statement", text(&|r| Some(r.text.clone()))),
        ("outcome", text(&|r| Some(r.word().to_string()))),
        ("engine", text(&|r| r.routed().map(|(engine, _)| engine.to_string()))),
        ("predicted_ms", number(&|r| r.routed().map(|(_, n)| n.ms))),
        ("predicted_usd", number(&|r| r.routed().map(|(_, n)| n.usd))),
        ("databricks_ms", number(&|r| r.databricks.map(|n| n.ms))),
        ("databricks_usd", number(&|r| r.databricks.map(|n| n.usd))),
        ("reason", text(&|r| Some(r.reason.clone()))),
    ]);
    let field = |(name, column): &(&str, ArrayRef)| {
        let certain = matches!(*name, "file" | "line" | "statement" | "outcome" | "reason");
        Field::new(*name, column.data_type().clone(), !certain)
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());

    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, column)| column).collect()).map_err(Failure::failed)
}

fn totals(rows: &[Row], assumed: Option<&str>) -> String {
    let count = |word: &str| rows.iter().filter(|r| r.word() == word).count();
    let mut lines = vec![format!(
        "{} statements: {} routed, {} refused, {} failed, {} answered by the router itself",
        rows.len(),
        count("routed"),
        count("refused"),
        count("failed"),
        count("local")
    )];
    if count("not_asked") > 0 {
        lines.push(format!("  {} may be the warehouse's to answer: what that costs isn't in these sums", count("not_asked")));
    }
    let mut engines: BTreeMap<&str, (usize, Numbers)> = BTreeMap::new();
    for (engine, numbers) in rows.iter().filter_map(Row::routed) {
        let (count, sum) = engines.entry(engine).or_insert((0, Numbers { ms: 0.0, usd: 0.0 }));
        *count += 1;
        *sum = Numbers { ms: sum.ms + numbers.ms, usd: sum.usd + numbers.usd };
    }
    for (engine, (count, sum)) in engines {
        lines.push(format!("  {engine}: {count}, {:.1} s, ${:.6}", sum.ms / 1e3, sum.usd));
    }
    let both: Vec<(Numbers, Numbers)> = rows.iter().filter_map(|r| Some((r.routed()?.1, r.databricks?))).collect();
    if both.is_empty() {
        lines.push("no statement has a prediction for Databricks to compare with".into());
        return lines.join("\n");
    }
    let sum = |get: fn(&(Numbers, Numbers)) -> f64| both.iter().map(get).sum::<f64>();
    let (usd, databricks_usd) = (sum(|(chosen, _)| chosen.usd), sum(|(_, databricks)| databricks.usd));
    let (ms, databricks_ms) = (sum(|(chosen, _)| chosen.ms), sum(|(_, databricks)| databricks.ms));
    let where_run = match assumed {
        Some(size) if usd > 0.0 => {
            format!("all on a warm {size} warehouse (assumed, alone with each query), {:.1} times as much", databricks_usd / usd)
        }
        Some(size) => format!("all on a warm {size} warehouse (assumed, alone with each query)"),
        // No ratio: one after the other they'd share a start and an idle time.
        None => "if each were alone on Databricks as it is now, with a start and an idle time of its own where it sleeps".into(),
    };
    lines.push(format!(
        "of {} that have both predictions: ${usd:.6} and {:.1} s as routed; ${databricks_usd:.6} and {:.1} s {where_run}",
        both.len(),
        ms / 1e3,
        databricks_ms / 1e3,
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_warehouse_may_have_to_answer_isnt_the_routers_own() {
        for (text, own) in [
            ("SHOW TABLES IN main.default", true),
            ("-- all of them\nshow\n catalogs", true),
            ("SHOW GRANTS ON TABLE main.default.nation", false),
            ("SHOW CREATE TABLE nation", false),
            ("DESCRIBE nation", true),
            ("DESC TABLE EXTENDED main.default.nation", true),
            ("DESCRIBE HISTORY nation", false),
            ("DESCRIBE DETAIL nation", false),
            ("DESCRIBE SCHEMA main.default", false),
            ("EXPLAIN ROUTE SELECT 1", true),
            ("EXPLAIN SELECT 1", false),
        ] {
            assert_eq!(is_the_routers_own(&statements::split(text)[0]), own, "{text}");
        }
    }
}
