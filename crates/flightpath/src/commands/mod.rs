//! One module per subcommand.

pub mod ab_report;
pub mod audit;
pub mod check;
pub mod emulate;
pub mod explain;
pub mod hash_password;
pub mod populate;
pub mod quarantine;
pub mod route_report;
pub mod serve;
pub mod sql;
pub mod worker;

use std::future::Future;

use flightpath_types::{Error, ErrorKind};

use crate::Failure;

/// Runs a client command's future on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// Why a statement can't be decided on in this process, with the exit code that a server's answer would have.
pub(crate) fn not_decided(error: &Error) -> Failure {
    let code = match error.kind() {
        ErrorKind::Unauthenticated => 3,
        ErrorKind::NotEligible | ErrorKind::PermissionDenied => 4,
        ErrorKind::InvalidArgument
        | ErrorKind::NotFound
        | ErrorKind::Raised
        | ErrorKind::ResourceExhausted
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Cancelled
        | ErrorKind::Unavailable
        | ErrorKind::DataLoss
        | ErrorKind::Internal => 1,
    };
    Failure { code, message: error.to_string() }
}

/// Why nothing can be decided in this process. No statement was looked at yet: what isn't permitted is to come
/// with this token, and what is invalid was given on the command line.
pub(crate) fn not_opened(error: &Error) -> Failure {
    let code = match error.kind() {
        ErrorKind::InvalidArgument => 2,
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => 3,
        ErrorKind::NotFound
        | ErrorKind::NotEligible
        | ErrorKind::Raised
        | ErrorKind::ResourceExhausted
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Cancelled
        | ErrorKind::Unavailable
        | ErrorKind::DataLoss
        | ErrorKind::Internal => 1,
    };
    Failure { code, message: error.to_string() }
}

/// Whether nobody may run the statement: what [`crate::client::failure`] tells by a server's answer.
pub(crate) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotEligible | ErrorKind::PermissionDenied)
}

/// The user's own token, for what asks a workspace without a server in between.
pub(crate) fn workspace_token() -> Option<flightpath_types::SecretToken> {
    std::env::var("FLIGHTPATH_TOKEN").ok().filter(|token| !token.is_empty()).map(flightpath_types::SecretToken::new)
}
