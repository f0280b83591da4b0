//! From DataFusion's, Arrow's and Parquet's errors to the one error that crosses crates: by
//! variant and by what is wrapped inside, never by text.

use std::error::Error as StdError;
use std::io;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use flightpath_types::{Error, ErrorKind};
use parquet::errors::ParquetError;

/// The client's error for whatever ended a query.
pub(crate) fn of_datafusion(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => of_boxed(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => of_arrow(inner),
        DataFusionError::ParquetError(inner) => of_parquet(inner),
        DataFusionError::ObjectStore(inner) => of_object_store(inner),
        DataFusionError::IoError(inner) => of_io(inner),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => of_datafusion(inner),
        DataFusionError::Shared(inner) => of_datafusion(inner),
        DataFusionError::Collection(all) => match all.first() {
            Some(first) => of_datafusion(first),
            None => Error::internal("DataFusion reported an empty list of errors"),
        },
        DataFusionError::ResourcesExhausted(message) => Error::new(
            ErrorKind::ResourceExhausted,
            format!("the query needs more memory or temporary space than it may use on engine datafusion: {message}"),
        ),
        DataFusionError::NotImplemented(message) => Error::not_eligible(format!("datafusion: {message}")),
        DataFusionError::ExecutionJoin(join) if join.is_panic() => panicked(&join.to_string()),
        other => Error::internal(format!("DataFusion: {other}")),
    }
}

/// The same of an error before anything ran. What DataFusion's planner makes and then finds to be wrong
/// itself is left to other engines.
pub(crate) fn unplanned(error: &DataFusionError) -> Error {
    match of_datafusion(error) {
        defect if defect.kind() == ErrorKind::Internal => {
            tracing::warn!(%error, "DataFusion's planner failed on a query");
            Error::not_eligible("datafusion: its planner fails on this query")
        }
        error => error,
    }
}

/// What a client is told of a panic; the panic's own text goes to the log.
pub(crate) fn panicked(message: &str) -> Error {
    // Arrow panics where a column's offsets or a buffer's size pass what their numbers can hold.
    if ["offset overflow", "capacity overflow", "offsets overflow"].iter().any(|known| message.contains(known)) {
        let message = "one column of a batch grew larger than its type can hold; make smaller values";
        return Error::classed(ErrorKind::ResourceExhausted, "VALUE_TOO_LARGE", "54000", message);
    }
    Error::internal("a defect in engine datafusion ended this query; other queries aren't affected")
}

/// An I/O error met while reading or writing what isn't a table's file: temporary files.
pub(crate) fn of_io(error: &io::Error) -> Error {
    if let Some(known) = error.get_ref().and_then(|inner| of_known(inner)) {
        return known;
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
            let message = format!("no space left for the query's temporary files: {error}");
            Error::classed(ErrorKind::ResourceExhausted, "NO_TEMPORARY_SPACE", "53100", message)
        }
        _ => Error::internal(format!("input or output failed: {error}")),
    }
}

fn of_arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => of_boxed(inner.as_ref()),
        ArrowError::DivideByZero => Error::raised("DIVIDE_BY_ZERO", "22012", "Division by zero."),
        ArrowError::ArithmeticOverflow(_) => Error::raised("ARITHMETIC_OVERFLOW", "22003", "Arithmetic overflow."),
        ArrowError::ParquetError(message) => undecodable(message),
        ArrowError::IoError(_, inner) => of_io(inner),
        ArrowError::MemoryError(message) => Error::new(ErrorKind::ResourceExhausted, format!("out of memory: {message}")),
        ArrowError::OffsetOverflowError(bytes) => {
            let message = format!("one column of a batch grew to {bytes} bytes, more than its type can hold");
            Error::classed(ErrorKind::ResourceExhausted, "VALUE_TOO_LARGE", "54000", message)
        }
        other => Error::internal(format!("Arrow: {other}")),
    }
}

fn of_parquet(error: &ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => of_boxed(inner.as_ref()),
        ParquetError::NYI(message) => Error::not_eligible(format!("datafusion can't read this Parquet file: {message}")),
        other => undecodable(other),
    }
}

fn of_object_store(error: &object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { path, .. } => Error::new(ErrorKind::DataLoss, format!("data file {path} is missing")),
        other => Error::unavailable(format!("storage failed: {other}")),
    }
}

fn undecodable(detail: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::DataLoss, format!("a data file of the query's tables can't be decoded: {detail}"))
}

fn of_boxed(error: &(dyn StdError + Send + Sync + 'static)) -> Error {
    of_known(error).unwrap_or_else(|| Error::internal(format!("engine datafusion: {error}")))
}

/// The client's error if `error` or what it wraps is of a known type.
fn of_known(error: &(dyn StdError + 'static)) -> Option<Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let known = None
            .or_else(|| error.downcast_ref::<Error>().cloned())
            .or_else(|| error.downcast_ref::<DataFusionError>().map(of_datafusion))
            .or_else(|| error.downcast_ref::<ArrowError>().map(of_arrow))
            .or_else(|| error.downcast_ref::<ParquetError>().map(of_parquet))
            .or_else(|| error.downcast_ref::<object_store::Error>().map(of_object_store))
            .or_else(|| error.downcast_ref::<io::Error>().map(of_io));
        if known.is_some() {
            return known;
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn raised() -> Error {
        Error::raised("CAST_INVALID_INPUT", "22018", "bad")
    }

    #[test]
    fn an_own_error_keeps_its_kind_through_every_wrapping() {
        let wrapped = [
            DataFusionError::External(Box::new(raised())),
            DataFusionError::Context("a".into(), Box::new(DataFusionError::External(Box::new(raised())))),
            DataFusionError::ArrowError(Box::new(ArrowError::ExternalError(Box::new(raised()))), None),
            DataFusionError::ArrowError(Box::new(ArrowError::ExternalError(Box::new(DataFusionError::External(Box::new(raised()))))), None),
            DataFusionError::ParquetError(Box::new(ParquetError::External(Box::new(raised())))),
            DataFusionError::Shared(Arc::new(DataFusionError::External(Box::new(raised())))),
            DataFusionError::IoError(io::Error::other(raised())),
        ];
        for error in wrapped {
            assert_eq!(of_datafusion(&error), raised(), "{error:?}");
        }
    }

    #[test]
    fn foreign_errors_get_the_kind_of_their_variant() {
        let cases = [
            (DataFusionError::ResourcesExhausted("m".into()), ErrorKind::ResourceExhausted),
            (DataFusionError::NotImplemented("m".into()), ErrorKind::NotEligible),
            (DataFusionError::Execution("Divide by zero".into()), ErrorKind::Internal),
            (DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None), ErrorKind::Raised),
            (DataFusionError::ArrowError(Box::new(ArrowError::ArithmeticOverflow("m".into())), None), ErrorKind::Raised),
            (DataFusionError::ParquetError(Box::new(ParquetError::EOF("m".into()))), ErrorKind::DataLoss),
            (DataFusionError::IoError(io::Error::from(io::ErrorKind::StorageFull)), ErrorKind::ResourceExhausted),
            (DataFusionError::Internal("m".into()), ErrorKind::Internal),
        ];
        for (error, kind) in cases {
            assert_eq!(of_datafusion(&error).kind(), kind, "{error:?}");
        }
        let zero = of_datafusion(&DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None));
        assert_eq!((zero.class(), zero.sql_state()), (Some("DIVIDE_BY_ZERO"), Some("22012")));
    }
}
