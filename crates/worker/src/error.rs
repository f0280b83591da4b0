//! What a failure inside DuckDB means to the client, by DuckDB's own type of error, and how an
//! error travels to the router.

use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read, Seek, SeekFrom};

use flightpath_proto::v1::{FileBinding, SqlOrigin, WorkerError};
use flightpath_types::{Error, ErrorKind, RAISED_PREFIX};
use prost::Message;
use tonic::{Code, Status};

use crate::duck::{DuckError, ErrorType};

/// Errors travel in HTTP/2 headers, which are limited.
const MESSAGE_BYTES_MAX: usize = 4096;
const STATUS_TEXT_BYTES_MAX: usize = 512;
/// Files that are looked at to tell why a query failed.
const FILES_CHECKED_MAX: usize = 10_000;
/// Databricks' classes for files that can't be read: it isn't there, or something else keeps it from being
/// looked at. Either may be this worker's trouble alone, so the router asks another one.
const FILE_MISSING: &str = "FAILED_READ_FILE.FILE_NOT_EXIST";
const FILE_UNREADABLE: &str = "FAILED_READ_FILE.NO_HINT";
const FILE_STATE: &str = "KD001";

/// Whether the instance can't be used any more after such an error.
pub fn invalidates(error: &DuckError) -> bool {
    matches!(error.kind, ErrorType::Fatal | ErrorType::Internal)
}

/// A failure while binding, before the statement: ours, or out of a resource.
pub fn of_binding(error: &DuckError) -> Error {
    of_duck(error, SqlOrigin::Compiled)
}

/// The meaning of a failure. Compiled SQL that DuckDB doesn't understand is our own defect; a
/// user's text is the user's.
pub fn of_duck(error: &DuckError, origin: SqlOrigin) -> Error {
    let user = origin == SqlOrigin::User;
    let message = describe(error);
    if error.kind == ErrorType::InvalidInput
        && !user
        && let Some(raised) = raised(&error.message)
    {
        return raised;
    }
    // A file whose columns aren't what its table says: no mistake of the statement's.
    if message.contains("failed to cast column") && message.contains("while reading file") {
        let what = message.split("failed to cast").nth(1).unwrap_or_default().lines().next().unwrap_or_default().trim();
        let message =
            format!("a data file holds other types than its table says: can't read{}", what.strip_prefix("column").unwrap_or(what));
        return Error::new(ErrorKind::DataLoss, message);
    }
    let ours_or = |kind: ErrorKind| Error::new(if user { kind } else { ErrorKind::Internal }, message.clone());
    // At its beginning, where no value of the query's stands.
    if !user && ["Date out of range", "Timestamp out of range"].iter().any(|said| error.message.starts_with(said)) {
        return Error::raised("DATETIME_OVERFLOW", "22008", "Datetime operation overflow.");
    }
    // Beyond DuckDB's calendar, which ends before Databricks' does: what the answer is, others know.
    let calendar = |message: &str| {
        // A number of 32 bits always fits 64: it is a date that has no timestamp.
        let date = message.starts_with("Type INT32 with value ") && message.contains("can't be cast to the destination type INT64");
        date || message.starts_with("Date and time not in timestamp range")
    };
    if !user && error.kind == ErrorType::Conversion && calendar(&error.message) {
        return Error::not_eligible("a date or time beyond DuckDB's calendar");
    }
    match error.kind {
        // A text or a list that would be larger than any vector may be.
        ErrorType::OutOfRange if message.contains("maximum allowed vector size") => {
            Error::new(ErrorKind::ResourceExhausted, format!("{message}; make smaller values"))
        }
        ErrorType::OutOfRange => Error::raised("ARITHMETIC_OVERFLOW", "22003", message),
        ErrorType::Decimal => Error::raised("NUMERIC_VALUE_OUT_OF_RANGE", "22003", message),
        ErrorType::DivideByZero => Error::raised("DIVIDE_BY_ZERO", "22012", message),
        ErrorType::Conversion => Error::raised("CAST_INVALID_INPUT", "22018", message),
        ErrorType::OutOfMemory | ErrorType::ObjectSize => {
            // DuckDB goes on with advice about settings that nobody can change here.
            let what = message.lines().next().unwrap_or_default().trim_end_matches('.');
            let advice = "ask for less, or raise engines.duckdb.memory or engines.duckdb.temp and the disk below them";
            Error::new(ErrorKind::ResourceExhausted, format!("the query needs more memory or disk than its worker has: {what}; {advice}"))
        }
        ErrorType::Interrupt => Error::new(ErrorKind::Cancelled, "the query was cancelled"),
        ErrorType::Fatal | ErrorType::Internal => Error::internal(format!("DuckDB failed inside; its database was replaced: {message}")),
        ErrorType::NotImplemented | ErrorType::MissingExtension | ErrorType::Autoload => {
            Error::not_eligible(format!("DuckDB doesn't support this: {message}"))
        }
        ErrorType::Io | ErrorType::Network | ErrorType::Http => Error::unavailable(format!("reading or writing failed: {message}")),
        ErrorType::Permission => ours_or(ErrorKind::PermissionDenied),
        ErrorType::Catalog => ours_or(ErrorKind::NotFound),
        ErrorType::Parser
        | ErrorType::Syntax
        | ErrorType::Binder
        | ErrorType::Planner
        | ErrorType::Expression
        | ErrorType::UnknownType
        | ErrorType::MismatchType
        | ErrorType::InvalidType
        | ErrorType::InvalidInput
        | ErrorType::ParameterNotResolved
        | ErrorType::ParameterNotAllowed
        | ErrorType::Constraint
        | ErrorType::Sequence
        | ErrorType::Settings => ours_or(ErrorKind::InvalidArgument),
        ErrorType::Invalid
        | ErrorType::Serialization
        | ErrorType::Transaction
        | ErrorType::Scheduler
        | ErrorType::Executor
        | ErrorType::Index
        | ErrorType::Stat
        | ErrorType::Connection
        | ErrorType::Optimizer
        | ErrorType::NullPointer
        | ErrorType::Dependency
        | ErrorType::InvalidConfiguration => {
            // Its reader of Parquet files has no words of its own for bytes that are none.
            if ["TType", "TProtocol", "thrift", "Thrift", "Snappy", "snappy", "ZSTD"].iter().any(|said| message.contains(said)) {
                return Error::new(ErrorKind::DataLoss, format!("a data file can't be read as Parquet: {message}"));
            }
            Error::internal(format!("DuckDB failed: {message}"))
        }
    }
}

fn describe(error: &DuckError) -> String {
    match error.position {
        Some(position) => format!("{} (at offset {position})", error.message),
        None => error.message.clone(),
    }
}

/// `FLIGHTPATH_RAISED|CLASS|SQLSTATE|message`
fn raised(message: &str) -> Option<Error> {
    let mut parts = message.strip_prefix(RAISED_PREFIX)?.splitn(3, '|');
    let (class, state, text) = (parts.next()?, parts.next()?, parts.next()?);
    if class.starts_with("UNSUPPORTED_FEATURE") {
        // A value that this engine can't answer for: another one may.
        return Some(Error::not_eligible(text));
    }
    Some(Error::raised(class.to_string(), state.to_string(), text))
}

/// Whether a failure could come from damaged files, so that they are worth a look.
pub fn may_be_damage(error: &DuckError) -> bool {
    matches!(
        error.kind,
        ErrorType::Io
            | ErrorType::InvalidInput
            | ErrorType::Serialization
            | ErrorType::Invalid
            | ErrorType::Internal
            | ErrorType::Fatal
            | ErrorType::OutOfRange
            | ErrorType::Conversion
            // A confined instance takes a missing file with brackets in its name for a pattern.
            | ErrorType::Permission
    )
}

/// What is wrong with the first file that isn't as its table says, if any: gone, cut short, replaced, or out
/// of this worker's reach. Looks until nobody wants to know any more.
pub fn damage<'a>(files: impl Iterator<Item = &'a FileBinding>, unwanted: impl Fn() -> bool) -> Option<Error> {
    files.take(FILES_CHECKED_MAX).take_while(|_| !unwanted()).find_map(file_damage)
}

fn file_damage(binding: &FileBinding) -> Option<Error> {
    let path = &binding.path;
    match flaw(binding) {
        Ok(flaw) => flaw.map(|flaw| Error::new(ErrorKind::DataLoss, format!("data file {path} {flaw}"))),
        Err(e) if e.kind() == IoErrorKind::NotFound => {
            Some(Error::classed(ErrorKind::DataLoss, FILE_MISSING, FILE_STATE, format!("data file {path} is missing")))
        }
        // Rights that this worker's user lacks, too many open files, a mount that has gone stale: others may read it,
        // while this one won't a moment later, as one that is unavailable might.
        Err(e) => {
            let message = format!("the worker can't read data file {path}: {e}");
            Some(Error::classed(ErrorKind::Internal, FILE_UNREADABLE, FILE_STATE, message))
        }
    }
}

/// What is wrong with a file that can be looked at.
fn flaw(binding: &FileBinding) -> std::io::Result<Option<String>> {
    let no_parquet = || Some("isn't a whole Parquet file".to_string());
    let mut file = File::open(&binding.path)?;
    let size = file.metadata()?.len();
    if binding.size_bytes != 0 && size != binding.size_bytes {
        return Ok(Some(format!("has {size} bytes instead of the {} its table says: cut short or overwritten", binding.size_bytes)));
    }
    let mut tail = [0u8; 4];
    if size < tail.len() as u64 {
        return Ok(no_parquet());
    }
    file.seek(SeekFrom::End(-4))?;
    match file.read_exact(&mut tail) {
        Ok(()) if &tail == b"PAR1" => Ok(None),
        Ok(()) => Ok(no_parquet()),
        // Cut short meanwhile.
        Err(e) if e.kind() == IoErrorKind::UnexpectedEof => Ok(no_parquet()),
        Err(e) => Err(e),
    }
}

/// The status with the whole error in its details, so that nobody has to read its text.
pub fn status(error: &Error) -> Status {
    let details = WorkerError {
        kind: error.kind().as_str().into(),
        class: error.class().unwrap_or_default().into(),
        sql_state: error.sql_state().unwrap_or_default().into(),
        message: cut(error.message(), MESSAGE_BYTES_MAX).into(),
    };
    Status::with_details(code(error.kind()).0, cut(error.message(), STATUS_TEXT_BYTES_MAX), details.encode_to_vec().into())
}

/// The name of an error's status, as traces have it.
pub fn code_name(kind: ErrorKind) -> &'static str {
    code(kind).1
}

fn code(kind: ErrorKind) -> (Code, &'static str) {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::Raised => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        ErrorKind::NotFound => (Code::NotFound, "NOT_FOUND"),
        ErrorKind::NotEligible => (Code::Unimplemented, "UNIMPLEMENTED"),
        ErrorKind::PermissionDenied => (Code::PermissionDenied, "PERMISSION_DENIED"),
        ErrorKind::Unauthenticated => (Code::Unauthenticated, "UNAUTHENTICATED"),
        ErrorKind::ResourceExhausted => (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        ErrorKind::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        ErrorKind::Cancelled => (Code::Cancelled, "CANCELLED"),
        ErrorKind::Unavailable => (Code::Unavailable, "UNAVAILABLE"),
        ErrorKind::DataLoss => (Code::DataLoss, "DATA_LOSS"),
        ErrorKind::Internal => (Code::Internal, "INTERNAL"),
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_or_cut_short_is_lost_and_one_out_of_reach_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            FileBinding { path: path.to_str().unwrap().into(), size_bytes: bytes.len() as u64, ..FileBinding::default() }
        };
        let whole = file("whole.parquet", b"PAR1 and so on PAR1");
        let short = FileBinding { size_bytes: 100, ..whole.clone() };
        // Nobody can look below a file.
        let unreachable = FileBinding { path: format!("{}/f.parquet", whole.path), ..whole.clone() };
        let missing = FileBinding { path: format!("{}.gone", whole.path), ..whole.clone() };
        let found = |binding: &FileBinding| damage([binding].into_iter(), || false).map(|e| (e.kind(), e.class().map(str::to_string)));
        assert_eq!(found(&whole), None);
        for lost in [&short, &file("tail.parquet", b"PAR1 and so on"), &file("tiny.parquet", b"PAR"), &file("empty.parquet", b"")] {
            assert_eq!(found(lost), Some((ErrorKind::DataLoss, None)), "{}", lost.path);
        }
        assert_eq!(found(&missing), Some((ErrorKind::DataLoss, Some(FILE_MISSING.into()))));
        assert_eq!(found(&unreachable), Some((ErrorKind::Internal, Some(FILE_UNREADABLE.into()))));
        assert!(damage([&missing].into_iter(), || true).is_none(), "nobody looks for a query that was cancelled");
    }
}
