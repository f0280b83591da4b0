//! Runs `slt/*.slt` through a real server, once on each engine. The answers in those files are
//! Databricks'; they must never be taken from a run of ours.
//!
//! A record labelled `skipif duckdb` or `onlyif datafusion` may be refused by the other engine.
//! Refused is all it may be: a wrong answer fails there too.
//!
//! How values are written, one row a line, columns between ` | `:
//!
//! | value | as |
//! |---|---|
//! | NULL, booleans, integers | `NULL`, `true`, `12` |
//! | decimals | all digits of their scale: `1.50` |
//! | DOUBLE | the shortest text of its first 12 digits: `0.3`, `1e16`, `-0.0`, `NaN`, `Infinity` |
//! | FLOAT | the shortest text that reads as the same FLOAT |
//! | strings | `'it\'s'`, with `\\`, `\n`, `\t`, `\r` and `\x01` for control characters |
//! | binary | `X'0aff'` |
//! | dates, timestamps | `2024-01-31`, `2024-01-31T10:00:00.000000Z`, without `Z` for TIMESTAMP_NTZ |
//! | intervals | `14 months`, `86400000000 us` |
//! | arrays, structs, maps | `[1, NULL]`, `{a: 1, b: 'x'}`, `{'k' -> 1}`, entries in the order of their text |
//!
//! The letters of a query's column types are those of [`Kind::of`].

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::*;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use async_trait::async_trait;
use futures::TryStreamExt;
use sqllogictest::{AsyncDB, ColumnType, Condition, DBOutput, Record, Runner, TestErrorKind};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for the server's first line.
const START: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program under test: FLIGHTPATH_BINARY, or the one built next to this test.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("FLIGHTPATH_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test's own path");
    let path = test.ancestors().nth(2).expect("a target folder").join("flightpath");
    assert!(path.exists(), "{} isn't there: `cargo build -p flightpath`, or set FLIGHTPATH_BINARY", path.display());
    path
}

/// A server over the golden tables, `-` in their names as `_`; it's killed when this is dropped.
struct Server {
    process: Child,
    address: String,
    _folders: TempDir,
}

impl Server {
    fn start() -> Self {
        let folders = TempDir::new().expect("a temporary folder");
        let data = folders.path().join("data");
        std::fs::create_dir(&data).expect("data folder");
        for table in std::fs::read_dir(root().join("data/delta-golden")).expect("golden tables") {
            let table = table.expect("golden table").path();
            if table.join("delta").is_dir() {
                let name = table.file_name().expect("name").to_string_lossy().replace('-', "_").to_lowercase();
                std::os::unix::fs::symlink(table.join("delta"), data.join(name)).expect("link");
            }
        }
        let log = std::fs::File::create(folders.path().join("log")).expect("log");
        let mut process = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .env("FLIGHTPATH_STATE_DIR", folders.path().join("state"))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("start the server");
        let mut output = BufReader::new(process.stdout.take().expect("standard output"));
        let (found, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|n| n > 0) {
                if let Some(address) = line.trim().strip_prefix("listening on grpc://") {
                    // Nobody may be listening any more, which is fine.
                    let _ = found.send(address.to_string());
                }
                line.clear();
            }
        });
        let Ok(address) = first_line.recv_timeout(START) else {
            // It may have ended already, which is fine.
            let _ = process.kill();
            let mut log = String::new();
            std::fs::File::open(folders.path().join("log")).and_then(|mut f| f.read_to_string(&mut log)).expect("read the log");
            panic!("the server didn't start:\n{log}");
        };
        Self { process, address, _folders: folders }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The worker ends with its router; the log of a test isn't worth a drain.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A column's type, as one letter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind(char);

impl Kind {
    fn of(ty: &DataType) -> Self {
        Self(match ty {
            DataType::Null => 'v',
            DataType::Boolean => 'b',
            DataType::Int8 => 'y',
            DataType::Int16 => 's',
            DataType::Int32 => 'i',
            DataType::Int64 => 'l',
            DataType::Float32 => 'f',
            DataType::Float64 => 'd',
            DataType::Decimal128(_, _) => 'n',
            DataType::Utf8 => 't',
            DataType::Binary => 'x',
            DataType::Date32 => 'D',
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => 'Z',
            DataType::Timestamp(TimeUnit::Microsecond, None) => 'N',
            DataType::Interval(IntervalUnit::YearMonth) => 'M',
            DataType::Duration(TimeUnit::Microsecond) => 'U',
            DataType::List(_) => 'a',
            DataType::Struct(_) => 'r',
            DataType::Map(_, _) => 'm',
            _ => '?',
        })
    }
}

impl ColumnType for Kind {
    fn from_char(value: char) -> Option<Self> {
        "vbysilfdntxDZNMUarm".contains(value).then_some(Self(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failed {
    refused: bool,
    sql_state: Option<String>,
    message: String,
}

impl Failed {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(e) = cause {
            let status = match e.downcast_ref::<FlightError>() {
                Some(FlightError::Tonic(status)) => Some(status.as_ref()),
                _ => e.downcast_ref::<tonic::Status>(),
            };
            if let Some(status) = status {
                let message = status.message().to_string();
                let sql_state = message.rsplit_once("SQLSTATE: ").map(|(_, state)| state.to_string());
                return Self { refused: status.code() == tonic::Code::Unimplemented, sql_state, message };
            }
            cause = e.source();
        }
        Self { refused: false, sql_state: None, message: error.to_string() }
    }
}

struct Session {
    client: FlightSqlServiceClient<Channel>,
    engine: &'static str,
}

impl Session {
    async fn connect(address: String, engine: &'static str) -> Result<Self, Failed> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| Failed::of(&e))?;
        let channel = endpoint.connect().await.map_err(|e| Failed::of(&e))?;
        let mut client = FlightSqlServiceClient::new(channel);
        client.set_header("flightpath-engine", engine);
        Ok(Self { client, engine })
    }
}

#[async_trait]
impl AsyncDB for Session {
    type Error = Failed;
    type ColumnType = Kind;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Kind>, Failed> {
        let info = self.client.execute(sql.to_string(), None).await.map_err(|e| Failed::of(&e))?;
        let schema = info.clone().try_decode_schema().map_err(|e| Failed::of(&e))?;
        let types = schema.fields().iter().map(|f| Kind::of(f.data_type())).collect();
        let mut rows = Vec::new();
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.unwrap_or_default();
            let stream = self.client.do_get(ticket).await.map_err(|e| Failed::of(&e))?;
            let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|e| Failed::of(&e))?;
            for batch in batches {
                for row in 0..batch.num_rows() {
                    let values: Vec<String> = batch.columns().iter().map(|column| text(column, row)).collect();
                    // One cell, so that a row is compared and sorted as its line.
                    rows.push(vec![values.join(" | ")]);
                }
            }
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.engine
    }

    fn error_sql_state(error: &Failed) -> Option<String> {
        error.sql_state.clone()
    }
}

fn text(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return "NULL".into();
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            float(f64::from(value), format!("{value:?}"))
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let digits: f64 = format!("{value:.11e}").parse().unwrap_or(value);
            float(value, format!("{digits:?}"))
        }
        DataType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Utf8 => string(array.as_string::<i32>().value(row)),
        DataType::Binary => {
            let hex: String = array.as_binary::<i32>().value(row).iter().map(|b| format!("{b:02x}")).collect();
            format!("X'{hex}'")
        }
        DataType::Date32 => date(i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            instant(micros, zone.is_some())
        }
        DataType::Interval(IntervalUnit::YearMonth) => format!("{} months", array.as_primitive::<IntervalYearMonthType>().value(row)),
        DataType::Duration(TimeUnit::Microsecond) => format!("{} us", array.as_primitive::<DurationMicrosecondType>().value(row)),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items: Vec<String> = (0..items.len()).map(|i| text(&items, i)).collect();
            format!("[{}]", items.join(", "))
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let values: Vec<String> = fields.iter().zip(columns).map(|(f, c)| format!("{}: {}", f.name(), text(c, row))).collect();
            format!("{{{}}}", values.join(", "))
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let mut pairs: Vec<String> = (0..entries.len()).map(|i| format!("{} -> {}", text(keys, i), text(values, i))).collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(", "))
        }
        other => panic!("a column of type {other}, which Databricks hasn't"),
    }
}

fn float(value: f64, digits: String) -> String {
    if value.is_finite() {
        return digits;
    }
    match (value.is_nan(), value > 0.0) {
        (true, _) => "NaN".into(),
        (false, true) => "Infinity".into(),
        (false, false) => "-Infinity".into(),
    }
}

fn string(value: &str) -> String {
    let mut out = String::from("'");
    for c in value.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`. Years
/// have at least four digits.
fn date(days: i64) -> String {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let sign = if year < 0 { "-" } else { "" };
    format!("{sign}{:04}-{month:02}-{day:02}", year.abs())
}

fn instant(micros: i64, zoned: bool) -> String {
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let zone = if zoned { "Z" } else { "" };
    format!("{}T{:02}:{:02}:{:02}.{micros:06}{zone}", date(days), second / 3_600, second / 60 % 60, second % 60)
}

// The signature is sqllogictest's.
#[allow(clippy::ptr_arg)]
fn unchanged(line: &String) -> String {
    line.clone()
}

fn was_refused(kind: &TestErrorKind) -> bool {
    match kind {
        TestErrorKind::Fail { err, .. } | TestErrorKind::ErrorMismatch { err, .. } => {
            err.downcast_ref::<Failed>().is_some_and(|e| e.refused)
        }
        _ => false,
    }
}

fn excludes(condition: &Condition, engine: &str) -> bool {
    match condition {
        Condition::SkipIf { label } => label == engine,
        Condition::OnlyIf { label } => label != engine,
    }
}

/// What went over the files on one engine.
#[derive(Default)]
struct Outcome {
    answered: usize,
    refused: usize,
    /// Labelled as refused, and answered right: the label can go.
    stale: Vec<String>,
    wrong: Vec<String>,
}

async fn run_all(address: &str, engine: &'static str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("slt"))
        .expect("slt folder")
        .map(|f| f.expect("file").path())
        .filter(|f| f.extension().is_some_and(|e| e == "slt"))
        .collect();
    files.sort();
    for file in files {
        let mut runner = Runner::new(|| Session::connect(address.to_string(), engine));
        runner.with_normalizer(unchanged);
        runner.with_column_validator(sqllogictest::strict_column_validator);
        let records = sqllogictest::parse_file::<Kind>(&file).unwrap_or_else(|e| panic!("{e}"));
        for mut record in records {
            let (conditions, loc) = match &mut record {
                Record::Query { conditions, loc, .. } | Record::Statement { conditions, loc, .. } => (conditions, loc.clone()),
                Record::Halt { .. } => break,
                _ => continue,
            };
            // Run all the same: what may be refused may not be answered wrongly.
            let may_be_refused = std::mem::take(conditions).iter().any(|c| excludes(c, engine));
            match runner.run_async(record).await {
                Ok(_) => {
                    outcome.answered += 1;
                    if may_be_refused {
                        outcome.stale.push(format!("{}:{}", loc.file(), loc.line()));
                    }
                }
                Err(error) if may_be_refused && was_refused(&error.kind()) => outcome.refused += 1,
                Err(error) => outcome.wrong.push(format!("on {engine}: {error}")),
            }
        }
    }
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_engine_gives_the_recorded_answers() {
    let server = Server::start();
    let (duckdb, datafusion) = tokio::join!(run_all(&server.address, "duckdb"), run_all(&server.address, "datafusion"));
    for (engine, outcome) in [("duckdb", &duckdb), ("datafusion", &datafusion)] {
        println!("{engine}: {} answered, {} refused; labels that can go: {:?}", outcome.answered, outcome.refused, outcome.stale);
        assert!(outcome.answered > 100, "only {} records ran on {engine}", outcome.answered);
    }
    let wrong: Vec<String> = duckdb.wrong.into_iter().chain(datafusion.wrong).collect();
    assert!(wrong.is_empty(), "{} records:\n{}", wrong.len(), wrong.join("\n"));
}
