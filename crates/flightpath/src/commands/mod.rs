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

use crate::Failure;

/// Runs a client command's future on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}
