//! The shared log: Postgres.

use std::time::Duration;

use flightpath_types::{Error, Result};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

/// How long a connection may take; the spool keeps records that have to wait longer.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// What one question may take.
const READ_MAX_MS: &str = "30000";

pub struct PostgresLog {
    /// For writing. Readers have connections of their own, so that no question keeps a record waiting.
    pool: PgPool,
    readers: PgPool,
}

impl PostgresLog {
    /// Connects and brings the schema up to date; several routers may do so at once.
    pub async fn open(url: &str) -> Result<Self> {
        // The URL may hold a password: the error says nothing of it.
        let options: PgConnectOptions = url.parse().map_err(|_| {
            Error::invalid("the query log's url isn't a valid postgres:// url (postgres://user:password@host:5432/database)")
        })?;
        let options = options.application_name("flightpath");
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(CONNECT_MAX)
            .connect_with(options.clone())
            .await
            .map_err(|e| crate::database_error("connecting", &e))?;
        sqlx::migrate!("migrations/postgres").run(&pool).await.map_err(|e| crate::migration_error(&e))?;
        let readers = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(CONNECT_MAX)
            .connect_lazy_with(options.options([("statement_timeout", READ_MAX_MS)]));
        Ok(Self { pool, readers })
    }
}

impl_log_store!(PostgresLog, sqlx::Postgres);
impl_shadow_log!(PostgresLog, sqlx::Postgres);
impl_query_history!(PostgresLog, sqlx::Postgres);
impl_model_store!(PostgresLog, sqlx::Postgres);
