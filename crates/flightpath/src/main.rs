//! The `flightpath` command: one file per subcommand.

#![forbid(unsafe_code)]

mod client;
mod commands;
mod output;
mod statements;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  all well
  1  a statement, a check or a job failed
  2  wrong usage or settings
  3  the server can't be reached, or refuses the credentials
  4  no engine may run the query";

/// One Arrow Flight SQL endpoint in front of a lakehouse; every query takes the cheapest path that
/// gives the same answer.
#[derive(Parser)]
#[command(name = "flightpath", version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server: Flight SQL in front of the tables in --data.
    Serve(commands::serve::Args),
    /// Start a DuckDB worker; `serve` does this by itself.
    Worker(commands::worker::Args),
    /// Run statements on a server and print what comes back.
    Sql(commands::sql::Args),
    /// Say which engine would run a query, and why, without running it.
    Explain(commands::explain::Args),
    /// Show where every statement of a workload would run and what that would cost, without running it.
    RouteReport(commands::route_report::Args),
    /// Say from exported Databricks query history what would have been saved; needs no server.
    Audit(commands::audit::Args),
    /// Compare the two sides of an `ab` strategy, from the record of what ran.
    AbReport(commands::ab_report::Args),
    /// Check settings, and that everything they name can be reached.
    Check(commands::check::Args),
    /// Write benchmark tables as Delta tables.
    Populate(commands::populate::Args),
    /// Stand in for an outside system: a simulated Databricks workspace.
    Emulate(commands::emulate::Args),
    /// Show or lift the quarantine of query shapes that two engines disagreed on.
    Quarantine(commands::quarantine::Args),
    /// Read a password from standard input and print its hash for [[auth.users]].
    HashPassword,
}

/// Ends with one of [`EXIT_CODES`].
fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(args) => commands::serve::run(args),
        Command::Worker(args) => commands::worker::run(args),
        Command::Sql(args) => commands::sql::run(args),
        Command::Explain(args) => commands::explain::run(args),
        Command::RouteReport(args) => commands::route_report::run(args),
        Command::Audit(args) => commands::audit::run(args),
        Command::AbReport(args) => commands::ab_report::run(args),
        Command::Check(args) => commands::check::run(args),
        Command::Populate(args) => commands::populate::run(args),
        Command::Emulate(args) => commands::emulate::run(args),
        Command::Quarantine(args) => commands::quarantine::run(args),
        Command::HashPassword => commands::hash_password::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A reader that went away (`| head`) isn't a failure worth a message.
            if !failure.message.is_empty() {
                eprintln!("flightpath: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Why a command ends, with its exit code.
pub(crate) struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn failed(message: impl std::fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self { code: 0, message: String::new() },
            _ => Self::failed(error),
        }
    }
}
