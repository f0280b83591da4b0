//! The shared log: Postgres.

use std::time::Duration;

use flightpath_types::{Error, Result};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

/// How long a connection may take; the spool keeps records that have to wait longer.
const CONNECT_MAX: Duration = Duration::from_secs(3);

pub struct PostgresLog {
    pool: PgPool,
}

impl PostgresLog {
    /// Connects and brings the schema up to date; several routers may do so at once.
    pub async fn open(url: &str) -> Result<Self> {
        // The URL may hold a password: the error says nothing of it.
        let options: PgConnectOptions = url.parse().map_err(|_| {
            Error::invalid("the query log's url isn't a valid postgres:// url (postgres://user:password@host:5432/database)")
        })?;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(CONNECT_MAX)
            .connect_with(options.application_name("flightpath"))
            .await
            .map_err(|e| crate::database_error("connecting", &e))?;
        sqlx::migrate!("migrations/postgres").run(&pool).await.map_err(|e| crate::migration_error(&e))?;
        Ok(Self { pool })
    }
}

impl_log_store!(PostgresLog, sqlx::Postgres);
impl_shadow_log!(PostgresLog, sqlx::Postgres);
impl_query_history!(PostgresLog, sqlx::Postgres);
impl_model_store!(PostgresLog, sqlx::Postgres);
