//! The query log in a database: an embedded SQLite file, or Postgres. Applies its migrations when
//! it opens. Never called while a query runs: the recorder's spool stands between.

#![forbid(unsafe_code)]

#[macro_use]
mod insert;
#[macro_use]
mod lease;
mod rows;
#[macro_use]
mod spending;
#[macro_use]
mod history;
#[macro_use]
mod models;
#[macro_use]
mod shadow;
#[macro_use]
mod store;
mod postgres;
mod sqlite;

use std::path::Path;
use std::sync::Arc;

use flightpath_querylog::Store;
use flightpath_types::{Error, ErrorKind, Result};

pub use postgres::PostgresLog;
pub use sqlite::SqliteLog;

/// Opens the store that a URL names: `postgres://...` or `sqlite://PATH` (or a bare path).
/// The database is made to fit: migrations run here, and a database of a newer version is refused.
pub async fn open(url: &str) -> Result<Arc<dyn Store>> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Arc::new(PostgresLog::open(url).await?));
    }
    let path = url.strip_prefix("sqlite://").unwrap_or(url);
    if path.contains("://") {
        return Err(Error::invalid("the log's url must begin with postgres:// or sqlite://"));
    }
    Ok(Arc::new(SqliteLog::open(Path::new(path)).await?))
}

/// Why records weren't written.
pub(crate) enum InsertError {
    /// A record can't be put into columns.
    Record(Error),
    Database(sqlx::Error),
}

impl From<Error> for InsertError {
    fn from(error: Error) -> Self {
        Self::Record(error)
    }
}

impl From<sqlx::Error> for InsertError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// What a database error means for the recorder: connections and locks heal, the rest doesn't.
/// The URL (it may hold a password) never gets into the message.
fn database_error(action: &str, error: &sqlx::Error) -> Error {
    let kind = match error {
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::TypeNotFound { .. } => {
            ErrorKind::Internal
        }
        // Data the database itself refuses: SQLSTATE class 22 (data exception), 23 (integrity).
        sqlx::Error::Database(db)
            if db.code().is_some_and(|code| code.len() == 5 && (code.starts_with("22") || code.starts_with("23"))) =>
        {
            ErrorKind::InvalidArgument
        }
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("query log: {action}: {error}"))
}

/// A migration's failure says what a person can do.
fn migration_error(error: &sqlx::migrate::MigrateError) -> Error {
    match error {
        sqlx::migrate::MigrateError::VersionMissing(version) => Error::invalid(format!(
            "the query log's database has migration {version}, which this version doesn't know: it was used by a newer version"
        )),
        sqlx::migrate::MigrateError::Execute(e) => database_error("migrating", e),
        other => Error::unavailable(format!("query log: migrating: {other}")),
    }
}
