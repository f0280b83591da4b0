//! `flightpath sql`: statements from the command line or standard input.

use std::io::{IsTerminal, Read, Write};

use futures::StreamExt;

use crate::client::{Client, Connection, failure};
use crate::output::{Format, Printer};
use crate::{Failure, commands, statements};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Pin one engine: it runs the query or refuses with its reason.
    #[arg(long)]
    engine: Option<String>,
    /// `databricks`, or `duckdb` to pass the text through as it is.
    #[arg(long)]
    dialect: Option<String>,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// One or more statements parted by `;`. Read from standard input when absent or `-`.
    statement: Option<String>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let text = match args.statement.as_deref() {
        Some(text) if text != "-" => text.to_string(),
        _ => {
            if std::io::stdin().is_terminal() {
                return Err(Failure::usage("give a statement, or pipe one into standard input"));
            }
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    let statements = statements::split(&text);
    if statements.is_empty() {
        return Err(Failure::usage("there is no statement to run"));
    }
    let mut settings = Vec::new();
    settings.extend(args.engine.as_deref().map(|v| ("engine", v)));
    settings.extend(args.dialect.as_deref().map(|v| ("dialect", v)));
    commands::block_on(async {
        let mut client = Client::connect(&args.connection, &settings).await?;
        let several = statements.len() > 1;
        for statement in statements {
            let outcome = run_one(&mut client, statement.text, args.format).await;
            // An error's own line counts from where its statement begins.
            outcome.map_err(|failure| match several && failure.code != 0 {
                true => {
                    Failure { message: format!("in the statement that begins on line {}: {}", statement.line, failure.message), ..failure }
                }
                false => failure,
            })?;
        }
        Ok(())
    })
}

async fn run_one(client: &mut Client, statement: &str, format: Format) -> Result<(), Failure> {
    let executed = client.execute(statement).await?;
    let mut batches = client.fetch(&executed).await?;
    let out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut printer = Printer::new(format, executed.schema.clone(), out)?;
    while let Some(batch) = batches.next().await {
        printer.batch(&batch.map_err(|e| failure(&e))?)?;
    }
    let rows = printer.rows;
    let elapsed_ms = executed.submitted.elapsed().as_secs_f64() * 1000.0;
    printer.finish()?;
    if format == Format::Table {
        let plural = if rows == 1 { "row" } else { "rows" };
        let by = match (executed.decision["engine"].as_str(), executed.decision["reason"].as_str()) {
            (Some(engine), Some(reason)) => format!(" on {engine} ({})", reason.strip_prefix(&format!("{engine}: ")).unwrap_or(reason)),
            _ => String::new(),
        };
        writeln!(std::io::stdout(), "{rows} {plural} in {elapsed_ms:.1} ms{by}")?;
    }
    Ok(())
}
