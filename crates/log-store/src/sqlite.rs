//! The embedded default: one SQLite file beside the spool.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use flightpath_types::{Error, ErrorKind, QueryRecord, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, QueryBuilder, Sqlite, SqliteConnection};

use crate::InsertError;
use crate::insert::{self, NewQuery};
use crate::lease::Lease;
use crate::spending::{self, Spent};

pub struct SqliteLog {
    /// For writing, which SQLite does one at a time. Readers don't wait for it, nor it for them.
    pool: SqlitePool,
    readers: SqlitePool,
}

impl SqliteLog {
    /// Opens or creates the file and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(|e| Error::new(ErrorKind::Unavailable, format!("can't make the query log's folder {}: {e}", parent.display())))?;
        }
        make_private(path);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on the disk when it returns: the spool's cursor moves behind it, and a power cut must not
            // take what no spool holds any more. One sync for up to 500 records.
            .synchronous(SqliteSynchronous::Full)
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

/// The log holds the texts of statements: where it is made here, this process's user alone reads it, and where it
/// was, whoever its group is, if somebody let that in; nobody else. SQLite makes the files beside it (`-wal`,
/// `-shm`) as it finds the file itself. Whatever fails here fails in SQLite too, which says so, or is somebody
/// else's file, which stays as it is.
fn make_private(path: &Path) {
    // A file that is there isn't opened: closing it again would drop the locks of all this process's connections.
    let _ = fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    for beside in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(beside);
        let mode = fs::metadata(&file).map_or(0, |m| m.permissions().mode());
        if mode & 0o007 != 0 {
            let _ = fs::set_permissions(&file, fs::Permissions::from_mode(mode & 0o770));
        }
    }
}

/// Rows per INSERT: some 40 columns each, under SQLite's limit of bound parameters.
const ROWS_PER_INSERT: usize = 500;

macro_rules! bind_row {
    ($row:expr, $values:expr; $($field:ident: $type:ident),+) => {
        $row$(.push_bind($values.$field))+
    };
}

impl SqliteLog {
    /// No statement is cut short here.
    pub(crate) const MORE_TIME: Option<&'static str> = None;

    pub(crate) async fn insert(&self, records: &[QueryRecord]) -> Result<(), InsertError> {
        let mut lease = Lease::of(&self.pool).await?;
        write(&mut lease, records).await?;
        lease.give_back();
        Ok(())
    }
}

async fn write(connection: &mut SqliteConnection, records: &[QueryRecord]) -> Result<(), InsertError> {
    let mut transaction = connection.begin().await?;
    let (mut spent, mut written) = (Vec::new(), HashSet::new());
    for chunk in records.chunks(ROWS_PER_INSERT) {
        let queries = chunk.iter().map(NewQuery::of).collect::<Result<Vec<_>>>()?;
        spent.extend(queries.iter().filter_map(Spent::of));
        let mut insert = QueryBuilder::<Sqlite>::new(format!("INSERT INTO queries ({}) ", query_columns!(names)));
        insert.push_values(queries, |mut row, values| {
            query_columns!(bind_row row, values;);
        });
        insert.push(" ON CONFLICT DO NOTHING RETURNING query_id");
        let rows: Vec<(String,)> = insert.build_query_as().fetch_all(&mut *transaction).await?;
        written.extend(rows.into_iter().map(|(id,)| id));
    }
    let mut candidates = insert::candidates(records);
    while !candidates.is_empty() {
        let part = candidates.drain(..candidates.len().min(ROWS_PER_INSERT));
        let mut insert = QueryBuilder::<Sqlite>::new(format!("INSERT INTO candidates ({}) ", candidate_columns!(names)));
        insert.push_values(part, |mut row, values| {
            candidate_columns!(bind_row row, values;);
        });
        insert.push(" ON CONFLICT DO NOTHING").build().execute(&mut *transaction).await?;
    }
    add_spending!(Sqlite, transaction, spending::of_written(spent, written));
    Ok(transaction.commit().await?)
}

impl_log_store!(SqliteLog, sqlx::Sqlite);
impl_shadow_log!(SqliteLog, sqlx::Sqlite);
impl_query_history!(SqliteLog, sqlx::Sqlite);
impl_model_store!(SqliteLog, sqlx::Sqlite);
