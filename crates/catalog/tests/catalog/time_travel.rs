//! Old versions by number and by instant, and history.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use flightpath_catalog::{AsOf, Catalog, LocalCatalog};
use flightpath_types::ErrorKind;

use crate::support::{INT_SCHEMA, Lake, Log, add, anyone, latest, metadata, name, protocol};

const BASE_MS: u64 = 1_700_000_000_000;

fn committed_at(log: &Log, version: u64, ms: u64) {
    File::options().write(true).open(log.commit_file(version)).unwrap().set_modified(UNIX_EPOCH + Duration::from_millis(ms)).unwrap();
}

async fn at(catalog: &LocalCatalog, as_of: AsOf) -> Result<u64, flightpath_types::Error> {
    let snapshot = catalog.snapshot(&anyone(), &name("t"), &as_of).await?;
    assert_eq!(snapshot.files().len() as u64, snapshot.version + 1);
    Ok(snapshot.version)
}

fn micros(ms: u64) -> AsOf {
    AsOf::TimestampMicros(ms as i64 * 1000)
}

#[tokio::test]
async fn versions_and_instants_choose_the_snapshot() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    for version in 1..=3 {
        log.append(version);
    }
    for version in 0..=3 {
        committed_at(&log, version, BASE_MS + version * 10_000);
    }
    let catalog = lake.catalog().await;
    assert_eq!(at(&catalog, AsOf::Version(2)).await, Ok(2));
    assert_eq!(at(&catalog, AsOf::Version(3)).await, Ok(3));
    assert_eq!(at(&catalog, micros(BASE_MS)).await, Ok(0));
    assert_eq!(at(&catalog, micros(BASE_MS + 19_999)).await, Ok(1));
    assert_eq!(at(&catalog, micros(BASE_MS + 20_000)).await, Ok(2));
    assert_eq!(at(&catalog, micros(BASE_MS + 30_000)).await, Ok(3));

    let early = at(&catalog, micros(BASE_MS - 1)).await.unwrap_err();
    assert_eq!((early.kind(), early.class()), (ErrorKind::InvalidArgument, Some("DELTA_TIMESTAMP_EARLIER_THAN_COMMIT_RETENTION")));
    assert!(early.message().contains("2023-11-14 22:13:20.000 UTC"), "{early}");
    let late = at(&catalog, micros(BASE_MS + 30_001)).await.unwrap_err();
    assert_eq!((late.kind(), late.class()), (ErrorKind::InvalidArgument, Some("DELTA_TIMESTAMP_GREATER_THAN_COMMIT")));
    let unknown = at(&catalog, AsOf::Version(9)).await.unwrap_err();
    assert!(unknown.message().contains("Available versions: [0, 3]"), "{unknown}");

    log.append(4);
    assert_eq!(at(&catalog, AsOf::Version(4)).await, Ok(4), "a version committed since the last look");
    let history = catalog.history(&anyone(), &name("t"), 2).await.unwrap();
    assert_eq!(history.iter().map(|c| c.version).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(history[1].timestamp_unix_ms, Some((BASE_MS + 30_000) as i64));
}

#[tokio::test]
async fn in_commit_timestamps_come_before_file_times() {
    let lake = Lake::new();
    let log = lake.table("t");
    let info = |ms: u64| {
        format!(
            r#"{{"commitInfo":{{"inCommitTimestamp":{ms},"timestamp":1,"operation":"WRITE","operationParameters":{{"mode":"Append","n":3}},"userName":"ada"}}}}"#
        )
    };
    let protocol = protocol(&[], &["inCommitTimestamp"]);
    let table = metadata(INT_SCHEMA, &[], r#""delta.enableInCommitTimestamps":"true""#);
    log.commit(0, &[&info(BASE_MS), &protocol, &table, &add("f0.parquet", "{}")]);
    log.commit(1, &[&info(BASE_MS + 5_000), &add("f1.parquet", "{}")]);
    let catalog = lake.catalog().await;
    assert_eq!(latest(&catalog, "t").await.unwrap().committed_unix_ms, Some((BASE_MS + 5_000) as i64));
    assert_eq!(at(&catalog, micros(BASE_MS + 4_999)).await, Ok(0));
    assert_eq!(at(&catalog, micros(BASE_MS + 5_000)).await, Ok(1));
    assert!(at(&catalog, micros(BASE_MS + 5_001)).await.is_err());
    let history = catalog.history(&anyone(), &name("t"), 10).await.unwrap();
    assert_eq!(history[1].timestamp_unix_ms, Some(BASE_MS as i64));
    assert_eq!((history[0].operation.as_deref(), history[0].user_name.as_deref()), (Some("WRITE"), Some("ada")));
    assert_eq!(history[0].operation_parameters["n"], "3");
}

#[tokio::test]
async fn plain_parquet_has_no_versions() {
    let lake = Lake::new();
    crate::parquet_tables::write(&lake.path().join("t.parquet"), &[1]);
    let catalog = lake.catalog().await;
    let error = catalog.snapshot(&anyone(), &name("t"), &AsOf::Version(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(catalog.history(&anyone(), &name("t"), 1).await.is_err());
}
