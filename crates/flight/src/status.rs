//! Errors as gRPC statuses, as every front door words them.

use flightpath_types::Error;
use tonic::Status;

pub use flightpath_grpc::{code_of, status_of};

/// A failure of Arrow's own encoding or decoding of what *we* made.
pub(crate) fn internal(context: &str, error: impl std::fmt::Display) -> Status {
    status_of(&Error::internal(format!("{context}: {error}")))
}
