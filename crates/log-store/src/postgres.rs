//! The shared log: Postgres.

use std::time::Duration;

use flightpath_types::{Error, QueryRecord, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::InsertError;
use crate::insert::{self, NewQuery};
use crate::rows::{CANDIDATE_COLUMNS, FLAT_COLUMNS, QUERY_COLUMNS};

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

/// One array per column: PostgreSQL reads a short statement, however many rows there are.
const QUERY_ARRAYS: &str = "$1::text[], $2::int8[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], \
    $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::bool[], $18::int8[], $19::int8[], \
    $20::int8[], $21::int8[], $22::int8[], $23::int8[], $24::int8[], $25::int8[], $26::text[], $27::text[], $28::text[], \
    $29::float8[], $30::int8[], $31::float8[], $32::float8[], $33::int8[], $34::int8[], $35::float8[], $36::float8[], $37::float8[]";
const CANDIDATE_ARRAYS: &str = "$1::text[], $2::int4[], $3::text[], $4::bool[], $5::bool[], $6::int4[], $7::text[], $8::float8[], $9::float8[], $10::int8[], \
    $11::int8[], $12::float8[], $13::int8[], $14::text[], $15::int4[]";

/// Binds each of these fields of all rows as one array; the rows are left empty.
macro_rules! bind_arrays {
    ($statement:expr, $rows:expr, $($field:ident)+) => {
        $statement$(.bind($rows.iter_mut().map(|row| std::mem::take(&mut row.$field)).collect::<Vec<_>>()))+
    };
}

impl PostgresLog {
    pub(crate) async fn insert(&self, records: &[QueryRecord]) -> Result<(), InsertError> {
        let mut queries = records.iter().map(NewQuery::of).collect::<Result<Vec<_>>>()?;
        let mut candidates = insert::candidates(records);
        let mut transaction = self.pool.begin().await?;
        let statement =
            format!("INSERT INTO queries ({QUERY_COLUMNS}, {FLAT_COLUMNS}) SELECT * FROM UNNEST({QUERY_ARRAYS}) ON CONFLICT DO NOTHING");
        let insert = bind_arrays!(sqlx::query(AssertSqlSafe(statement)), queries,
            query_id started_unix_ms text fingerprint statement_kind session_id principal catalog schema_name dialect profile tag engine outcome error_kind error_message plan_cache_hit plan_us decide_us queue_us first_batch_us stream_us total_us result_rows result_bytes features decision failovers usd_actual engine_us predicted_ms predicted_usd predicted_bytes predicted_memory_bytes databricks_ms databricks_usd predicted_p95_ms);
        insert.execute(&mut *transaction).await?;
        let statement =
            format!("INSERT INTO candidates ({CANDIDATE_COLUMNS}) SELECT * FROM UNNEST({CANDIDATE_ARRAYS}) ON CONFLICT DO NOTHING");
        let insert = bind_arrays!(sqlx::query(AssertSqlSafe(statement)), candidates,
            query_id position engine eligible chosen rank reason predicted_ms predicted_usd predicted_bytes predicted_memory_bytes predicted_p95_ms predicted_memory_p95_bytes source observations);
        insert.execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }
}

impl_log_store!(PostgresLog, sqlx::Postgres);
impl_shadow_log!(PostgresLog, sqlx::Postgres);
impl_query_history!(PostgresLog, sqlx::Postgres);
impl_model_store!(PostgresLog, sqlx::Postgres);
