//! Calls that nobody waits for any longer.

use sqlx::{Connection, PgConnection};

use crate::postgres::Postgres;
use crate::record;

/// As many as write at once.
const CONNECTIONS: i64 = 2;

/// What a database that doesn't answer does to those who have given up must not touch the others.
#[tokio::test]
async fn a_call_that_is_given_up_takes_no_connection_with_it() {
    let server = Postgres::start();
    let store = flightpath_log_store::open(&server.url()).await.unwrap();
    let mut holder = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE queries IN ACCESS EXCLUSIVE MODE").execute(&mut holder).await.unwrap();
    let write = |number| {
        let store = store.clone();
        tokio::spawn(async move { store.append(&[record("SELECT 1", number)]).await })
    };
    let given_up: Vec<_> = (0..CONNECTIONS).map(write).collect();
    while waiting(&mut holder).await < CONNECTIONS {
        tokio::task::yield_now().await;
    }
    for call in given_up {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    // The lock is still held: what was given up has no answer yet.
    assert_eq!(store.save("given up", &[1], None).await.unwrap(), Some(1));
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    store.append(&[record("SELECT 2", 9)]).await.unwrap();
    assert_eq!(store.queries(None, 1).await.unwrap()[0].text, "SELECT 2");
}

/// Those that wait for a lock.
async fn waiting(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM pg_locks WHERE NOT granted").fetch_one(connection).await.unwrap()
}
