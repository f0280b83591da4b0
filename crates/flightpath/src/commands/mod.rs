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

/// Whether nobody may run the statement: what [`crate::client::failure`] tells by a server's answer.
pub(crate) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotEligible | ErrorKind::PermissionDenied)
}

/// The user's own token, for what asks a workspace without a server in between.
pub(crate) fn workspace_token() -> Option<flightpath_types::SecretToken> {
    std::env::var("FLIGHTPATH_TOKEN").ok().filter(|token| !token.is_empty()).map(flightpath_types::SecretToken::new)
}
