//! A row that was damaged, by a disk or an earlier version, is read for what is left of it.

use std::sync::Arc;

use flightpath_querylog::Store;
use flightpath_types::*;

use crate::postgres::Postgres;
use crate::record;

/// What an earlier version made of a text with a backslash and `u0000`, one that ends early, and nothing at all.
const DAMAGED: [&str; 3] = ["[\"\\\u{FFFD}\"]", "{\"tables\": [", ""];

/// Puts this into the JSON columns of one row.
macro_rules! damage {
    ($connection:expr, $id:expr, $json:expr) => {
        for column in ["features", "decision", "failovers"] {
            let update = format!("UPDATE queries SET {column} = '{}' WHERE query_id = '{}'", $json, $id);
            sqlx::raw_sql(sqlx::AssertSqlSafe(update)).execute($connection).await.unwrap();
        }
    };
}

async fn filled(store: &dyn Store) -> Vec<QueryRecord> {
    let records: Vec<QueryRecord> = (0..DAMAGED.len() as i64 + 1).map(|i| QueryRecord { bytes: 1, ..record("SELECT 1", i) }).collect();
    store.append(&records).await.unwrap();
    records
}

async fn check(store: Arc<dyn Store>, records: Vec<QueryRecord>) {
    let mut expected = records;
    for record in &mut expected[..DAMAGED.len()] {
        (record.features, record.decision, record.failovers) = (Features::default(), None, Vec::new());
    }
    expected.reverse();
    assert_eq!(store.queries(None, 10).await.unwrap(), expected);
    assert_eq!(store.page(&Default::default(), None, 10).await.unwrap(), expected);
}

#[tokio::test]
async fn damaged_json_in_sqlite_costs_its_column_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.sqlite");
    let store = flightpath_log_store::open(path.to_str().unwrap()).await.unwrap();
    let records = filled(store.as_ref()).await;
    let pool = sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(&path)).await.unwrap();
    for (record, json) in records.iter().zip(DAMAGED) {
        damage!(&pool, record.query_id, json);
    }
    check(store, records).await;
}

#[tokio::test]
async fn damaged_json_in_postgres_costs_its_column_alone() {
    let server = Postgres::start();
    let store = flightpath_log_store::open(&server.url()).await.unwrap();
    let records = filled(store.as_ref()).await;
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    for (record, json) in records.iter().zip(DAMAGED) {
        damage!(&pool, record.query_id, json);
    }
    check(store, records).await;
}
