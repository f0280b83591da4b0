//! A database of an earlier version keeps what it has.

use std::path::Path;

use flightpath_querylog::Baseline;
use flightpath_types::QueryId;
use sqlx::migrate::Migrator;

use crate::postgres::Postgres;

/// Brings a database to where it was before the flat columns, with one query in it.
macro_rules! make_old {
    ($pool:expr, $folder:literal) => {{
        let dir = tempfile::tempdir().unwrap();
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join($folder);
        for file in ["0001_query_log.sql", "0002_shadow.sql"] {
            std::fs::copy(migrations.join(file), dir.path().join(file)).unwrap();
        }
        Migrator::new(dir.path()).await.unwrap().run(&$pool).await.unwrap();
        let id = QueryId::generate();
        let query = format!(
            "INSERT INTO queries VALUES ('{id}', 86400000, 'SELECT 1', NULL, 'query', NULL, 'ann', 'lake', 'default', 'databricks', NULL, NULL, \
             'duckdb', 'success', NULL, NULL, true, 1, 2, 3, 4, 5, 6, 7, 8, '{}', NULL, '[]')",
            r#"{"tables":[],"files":0,"files_total":0,"file_bytes":0,"scan_bytes":0,"scan_rows":null,"result_rows":null,"scans":0,"columns_read":0,"joins":0,"cross_joins":0,"aggregates":0,"group_keys":0,"windows":0,"distincts":0,"sorts":0,"limits":0,"unions":0,"subqueries":0,"filters":0,"depth":0,"deleted_rows":0}"#
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(query)).execute(&$pool).await.unwrap();
        for (position, engine, rank, usd) in [(0, "duckdb", "1", 0.5), (1, "databricks", "2", 2.0), (2, "datafusion", "NULL", 9.0)] {
            let eligible = rank != "NULL";
            let candidate = format!(
                "INSERT INTO candidates VALUES ('{id}', {position}, '{engine}', {eligible}, {}, {rank}, 'because', 1.5, {usd}, 10, 20)",
                position == 0
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(candidate)).execute(&$pool).await.unwrap();
        }
        $pool.close().await;
        id
    }};
}

async fn check(url: &str, id: QueryId) {
    let store = flightpath_log_store::open(url).await.unwrap();
    assert_eq!(store.query(id, Some("ann")).await.unwrap().unwrap().text, "SELECT 1");
    let baseline = Baseline { usd_per_hour: 3.6, auto_stop_ms: 600_000.0, storage_usd_per_gb: 0.0, egress_usd_per_gb: 0.0 };
    let days: Vec<_> =
        store.savings(Some("ann"), 0, &baseline).await.unwrap().iter().map(|d| (d.day, d.queries, d.usd, d.databricks_usd)).collect();
    assert_eq!(days, [(1, 1, 0.5, baseline.usd(600_001.5, 0.0, 0.0))]);
}

#[tokio::test]
async fn an_older_sqlite_database_is_filled_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let id = make_old!(pool, "sqlite");
    check(path.to_str().unwrap(), id).await;
}

#[tokio::test]
async fn an_older_postgres_database_is_filled_in() {
    let server = Postgres::start();
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let id = make_old!(pool, "postgres");
    check(&server.url(), id).await;
}
