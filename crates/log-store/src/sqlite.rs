//! The embedded default: one SQLite file beside the spool.

use std::path::Path;
use std::time::Duration;

use flightpath_types::{Error, ErrorKind, QueryRecord, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{QueryBuilder, Sqlite};

use crate::InsertError;
use crate::insert::{self, NewQuery};
use crate::rows::{CANDIDATE_COLUMNS, FLAT_COLUMNS, QUERY_COLUMNS};

pub struct SqliteLog {
    /// For writing, which SQLite does one at a time. Readers don't wait for it, nor it for them.
    pool: SqlitePool,
    readers: SqlitePool,
}

impl SqliteLog {
    /// Opens or creates the file and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)
                .map_err(|e| Error::new(ErrorKind::Unavailable, format!("can't make the query log's folder {}: {e}", parent.display())))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // The spool keeps what a power cut takes from the last transactions.
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        // A checkpoint writes each changed page once, however often it changed since the last one.
        let writing = options.clone().pragma("wal_autocheckpoint", "8000").pragma("cache_size", "-32768");
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(writing)
            .await
            .map_err(|e| crate::database_error(&format!("opening {}", path.display()), &e))?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await.map_err(|e| crate::migration_error(&e))?;
        let readers =
            SqlitePoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(10)).connect_lazy_with(options.read_only(true));
        Ok(Self { pool, readers })
    }
}

/// Rows per INSERT: 37 columns each, under SQLite's limit of bound parameters.
const ROWS_PER_INSERT: usize = 500;

impl SqliteLog {
    pub(crate) async fn insert(&self, records: &[QueryRecord]) -> Result<(), InsertError> {
        let mut transaction = self.pool.begin().await?;
        for chunk in records.chunks(ROWS_PER_INSERT) {
            let queries = chunk.iter().map(NewQuery::of).collect::<Result<Vec<_>>>()?;
            let mut insert = QueryBuilder::<Sqlite>::new(format!("INSERT INTO queries ({QUERY_COLUMNS}, {FLAT_COLUMNS}) "));
            insert.push_values(queries, |mut row, r| {
                row.push_bind(r.query_id)
                    .push_bind(r.started_unix_ms)
                    .push_bind(r.text)
                    .push_bind(r.fingerprint)
                    .push_bind(r.statement_kind)
                    .push_bind(r.session_id)
                    .push_bind(r.principal)
                    .push_bind(r.catalog)
                    .push_bind(r.schema_name)
                    .push_bind(r.dialect)
                    .push_bind(r.profile)
                    .push_bind(r.tag)
                    .push_bind(r.engine)
                    .push_bind(r.outcome)
                    .push_bind(r.error_kind)
                    .push_bind(r.error_message)
                    .push_bind(r.plan_cache_hit)
                    .push_bind(r.plan_us)
                    .push_bind(r.decide_us)
                    .push_bind(r.queue_us)
                    .push_bind(r.first_batch_us)
                    .push_bind(r.stream_us)
                    .push_bind(r.total_us)
                    .push_bind(r.result_rows)
                    .push_bind(r.result_bytes)
                    .push_bind(r.features)
                    .push_bind(r.decision)
                    .push_bind(r.failovers)
                    .push_bind(r.usd_actual)
                    .push_bind(r.engine_us)
                    .push_bind(r.predicted_ms)
                    .push_bind(r.predicted_usd)
                    .push_bind(r.predicted_bytes)
                    .push_bind(r.predicted_memory_bytes)
                    .push_bind(r.databricks_ms)
                    .push_bind(r.databricks_usd)
                    .push_bind(r.predicted_p95_ms);
            });
            insert.push(" ON CONFLICT DO NOTHING").build().execute(&mut *transaction).await?;
        }
        let mut candidates = insert::candidates(records);
        while !candidates.is_empty() {
            let part = candidates.drain(..candidates.len().min(ROWS_PER_INSERT));
            let mut insert = QueryBuilder::<Sqlite>::new(format!("INSERT INTO candidates ({CANDIDATE_COLUMNS}) "));
            insert.push_values(part, |mut row, r| {
                row.push_bind(r.query_id)
                    .push_bind(r.position)
                    .push_bind(r.engine)
                    .push_bind(r.eligible)
                    .push_bind(r.chosen)
                    .push_bind(r.rank)
                    .push_bind(r.reason)
                    .push_bind(r.predicted_ms)
                    .push_bind(r.predicted_usd)
                    .push_bind(r.predicted_bytes)
                    .push_bind(r.predicted_memory_bytes)
                    .push_bind(r.predicted_p95_ms)
                    .push_bind(r.predicted_memory_p95_bytes)
                    .push_bind(r.source)
                    .push_bind(r.observations);
            });
            insert.push(" ON CONFLICT DO NOTHING").build().execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }
}

impl_log_store!(SqliteLog, sqlx::Sqlite);
impl_shadow_log!(SqliteLog, sqlx::Sqlite);
impl_query_history!(SqliteLog, sqlx::Sqlite);
impl_model_store!(SqliteLog, sqlx::Sqlite);
