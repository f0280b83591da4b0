//! The shared log: Postgres.

use std::sync::LazyLock;
use std::time::Duration;

use flightpath_types::{Error, QueryRecord, Result};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Postgres};

use crate::InsertError;
use crate::insert::{self, NewQuery};
use crate::lease::Lease;
use crate::spending::{self, Spent};

/// How long a connection may take; the spool keeps records that have to wait longer.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// What one statement may take. Nobody waits longer for an answer: a server whose client has vanished would
/// go on with it, and keep what it has locked.
/// A client that vanished between two statements of a transaction holds its locks no longer either.
const LIMITS_SQL: &str = "SET statement_timeout = 30000; SET idle_in_transaction_session_timeout = 30000";

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
        // Tried by itself first: a pool tells only that it waited in vain.
        let first = tokio::time::timeout(CONNECT_MAX, PgConnection::connect_with(&options)).await;
        let connected = first.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut)).map_err(|e| unreachable(&options, &e))?;
        // Whatever a goodbye may fail for is no concern of the pool.
        let _ = connected.close().await;
        let pool = |connections| PgPoolOptions::new().max_connections(connections).acquire_timeout(CONNECT_MAX);
        // A migration takes the time that it takes.
        let migrating = pool(1).connect_with(options.clone()).await.map_err(|e| crate::database_error("connecting", &e))?;
        sqlx::migrate!("migrations/postgres").run(&migrating).await.map_err(|e| crate::migration_error(&e))?;
        let limited = |connections| {
            pool(connections).after_connect(|connection, _| {
                // By a statement: poolers in between refuse such parameters of a connection.
                Box::pin(async move { connection.execute(LIMITS_SQL).await.map(drop) })
            })
        };
        Ok(Self { pool: limited(2).connect_lazy_with(options.clone()), readers: limited(4).connect_lazy_with(options) })
    }
}

/// Names the server, not the password.
fn unreachable(options: &PgConnectOptions, error: &sqlx::Error) -> Error {
    let database = options.get_database().unwrap_or(options.get_username());
    let place = format!("{}:{}", options.get_host(), options.get_port());
    match error {
        sqlx::Error::PoolTimedOut => {
            let seconds = CONNECT_MAX.as_secs();
            Error::unavailable(format!("query log: PostgreSQL at {place} (database {database}) doesn't answer within {seconds} s"))
        }
        other => crate::database_error(&format!("connecting to PostgreSQL at {place} (database {database})"), other),
    }
}

/// Binds each field of all rows as one array: PostgreSQL reads a short statement, however many rows
/// there are. The rows are left empty.
macro_rules! bind_arrays {
    ($statement:expr, $rows:expr; $($field:ident: $type:ident),+) => {
        $statement$(.bind($rows.iter_mut().map(|row| std::mem::take(&mut row.$field)).collect::<Vec<_>>()))+
    };
}

/// `$1::text[], $2::int8[]`
macro_rules! arrays {
    ($($field:ident: $type:ident),+) => {
        [$(stringify!($type)),+].iter().zip(1..).map(|(ty, number)| format!("${number}::{ty}[]")).collect::<Vec<String>>().join(", ")
    };
}

/// What the macros' columns become.
static INSERT_QUERIES: LazyLock<String> = LazyLock::new(|| {
    let (names, arrays) = (query_columns!(names), query_columns!(arrays));
    format!("INSERT INTO queries ({names}) SELECT * FROM UNNEST({arrays}) ON CONFLICT DO NOTHING RETURNING query_id")
});
static INSERT_CANDIDATES: LazyLock<String> = LazyLock::new(|| {
    let (names, arrays) = (candidate_columns!(names), candidate_columns!(arrays));
    format!("INSERT INTO candidates ({names}) SELECT * FROM UNNEST({arrays}) ON CONFLICT DO NOTHING")
});

impl PostgresLog {
    /// What a transaction begins with whose statements may take longer, on a large database.
    pub(crate) const MORE_TIME: Option<&'static str> = Some("SET LOCAL statement_timeout = 300000");

    pub(crate) async fn insert(&self, records: &[QueryRecord]) -> Result<(), InsertError> {
        let mut lease = Lease::of(&self.pool).await?;
        write(&mut lease, records).await?;
        lease.give_back();
        Ok(())
    }
}

async fn write(connection: &mut PgConnection, records: &[QueryRecord]) -> Result<(), InsertError> {
    let mut queries = records.iter().map(NewQuery::of).collect::<Result<Vec<_>>>()?;
    let mut candidates = insert::candidates(records);
    let spent = queries.iter().filter_map(Spent::of).collect();
    let mut transaction = connection.begin().await?;
    let insert = query_columns!(bind_arrays sqlx::query_as(AssertSqlSafe(INSERT_QUERIES.as_str())), queries;);
    let written: Vec<(String,)> = insert.fetch_all(&mut *transaction).await?;
    let insert = candidate_columns!(bind_arrays sqlx::query(AssertSqlSafe(INSERT_CANDIDATES.as_str())), candidates;);
    insert.execute(&mut *transaction).await?;
    add_spending!(Postgres, transaction, spending::of_written(spent, written.into_iter().map(|(id,)| id).collect()));
    Ok(transaction.commit().await?)
}

impl_log_store!(PostgresLog, sqlx::Postgres);
impl_shadow_log!(PostgresLog, sqlx::Postgres);
impl_query_history!(PostgresLog, sqlx::Postgres);
impl_model_store!(PostgresLog, sqlx::Postgres);
