//! The embedded default: one SQLite file beside the spool.

use std::path::Path;
use std::time::Duration;

use flightpath_types::{Error, ErrorKind, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

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
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options.clone())
            .await
            .map_err(|e| crate::database_error(&format!("opening {}", path.display()), &e))?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await.map_err(|e| crate::migration_error(&e))?;
        let readers =
            SqlitePoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(10)).connect_lazy_with(options.read_only(true));
        Ok(Self { pool, readers })
    }
}

impl_log_store!(SqliteLog, sqlx::Sqlite);
impl_shadow_log!(SqliteLog, sqlx::Sqlite);
impl_query_history!(SqliteLog, sqlx::Sqlite);
impl_model_store!(SqliteLog, sqlx::Sqlite);
