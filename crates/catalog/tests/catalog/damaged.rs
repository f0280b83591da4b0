//! Logs that are damaged, or need what isn't supported: a typed error for that table, and the
//! others go on.

use std::fs;
use std::os::unix::fs::symlink;

use flightpath_catalog::{Catalog, Config, Limits, LocalCatalog};
use flightpath_types::{Error, ErrorKind};

use crate::support::{INT_SCHEMA, Lake, PROTOCOL_1, add, anyone, latest, metadata, name, protocol, quiet};

fn is_data_loss(error: &Error, says: &str) {
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
    assert!(error.message().contains("lake.default.t") && error.message().contains(says), "{error}");
}

#[tokio::test]
async fn a_truncated_or_empty_commit_is_data_loss() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    log.append(1);
    let whole = fs::read(log.commit_file(1)).unwrap();
    for cut in [0, 1, whole.len() / 3, whole.len() - 5] {
        fs::write(log.commit_file(1), &whole[..cut]).unwrap();
        is_data_loss(&lake.fails("t").await, "Restore");
    }
    fs::write(log.commit_file(1), b"\xff\xfe not json\n").unwrap();
    is_data_loss(&lake.fails("t").await, "Restore");
    fs::write(log.commit_file(1), &whole).unwrap();
    assert_eq!(lake.reads("t").await.files().len(), 2);
}

#[tokio::test]
async fn missing_parts_of_a_log_are_data_loss() {
    let lake = Lake::new();
    lake.table("t");
    is_data_loss(&lake.fails("t").await, "_delta_log");
    let log = lake.table("t").simple();
    log.append(1);
    log.append(2);
    fs::remove_file(log.commit_file(1)).unwrap();
    is_data_loss(&lake.fails("t").await, "Restore");
    fs::remove_file(log.commit_file(0)).unwrap();
    is_data_loss(&lake.fails("t").await, "Restore");
}

#[tokio::test]
async fn a_log_without_its_beginning_is_data_loss_although_the_rest_looks_whole() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    log.commit(1, &[PROTOCOL_1, &metadata(INT_SCHEMA, &[], ""), &add("b.parquet", "{\"numRecords\":1}")]);
    assert_eq!(lake.reads("t").await.files().len(), 2);
    fs::remove_file(log.commit_file(0)).unwrap();
    is_data_loss(&lake.fails("t").await, "what was committed before is gone");
}

#[tokio::test]
async fn logs_without_metadata_or_protocol_are_data_loss() {
    let lake = Lake::new();
    let log = lake.table("t");
    log.commit(0, &[&metadata(INT_SCHEMA, &[], "")]);
    is_data_loss(&lake.fails("t").await, "protocol");
    log.commit(0, &[PROTOCOL_1]);
    is_data_loss(&lake.fails("t").await, "metadata");
    log.commit(0, &[PROTOCOL_1, &metadata("{\"type\":\"strukt\"}", &[], "")]);
    is_data_loss(&lake.fails("t").await, "Restore");
    log.commit(0, &[PROTOCOL_1, &metadata(INT_SCHEMA, &["nope"], "")]);
    is_data_loss(&lake.fails("t").await, "nope");
}

#[tokio::test]
async fn a_damaged_checkpoint_is_data_loss() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    log.append(1);
    fs::write(log.file("00000000000000000001.checkpoint.parquet"), b"PAR1 but not really").unwrap();
    fs::remove_file(log.commit_file(0)).unwrap();
    log.append(2);
    is_data_loss(&lake.fails("t").await, "Restore");
}

#[tokio::test]
async fn malformed_partition_values_and_paths_are_data_loss() {
    let lake = Lake::new();
    let log = lake.table("t");
    let file = |path: &str, value: &str| {
        format!(r#"{{"add":{{"path":"{path}","partitionValues":{{"id":"{value}"}},"size":100,"modificationTime":1,"dataChange":true}}}}"#)
    };
    log.commit(0, &[PROTOCOL_1, &metadata(INT_SCHEMA, &["id"], ""), &file("f", "seven")]);
    is_data_loss(&lake.fails("t").await, "`seven`");
    log.commit(0, &[PROTOCOL_1, &metadata(INT_SCHEMA, &["id"], ""), &file("f%FF", "7")]);
    is_data_loss(&lake.fails("t").await, "malformed path");
    log.commit(0, &[PROTOCOL_1, &metadata(INT_SCHEMA, &["id"], ""), &file("/etc/f.parquet", "7")]);
    assert_eq!(lake.fails("t").await.kind(), ErrorKind::NotEligible);
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let lake = Lake::new();
    let log = lake.table("t");
    let column = |data_type: &str, metadata: &str| {
        format!(r#"{{"type":"struct","fields":[{{"name":"v","type":{data_type},"nullable":true,"metadata":{{{metadata}}}}}]}}"#)
    };
    let cases = [
        (protocol(&["fancyNewThing"], &["fancyNewThing"]), INT_SCHEMA.to_string(), "fancyNewThing"),
        (protocol(&["variantType"], &["variantType"]), column("\"variant\"", ""), "variant"),
        (PROTOCOL_1.to_string(), column("\"string\"", r#""__COLLATIONS":{"v":"icu.UNICODE_CI"}"#), "collation"),
        (PROTOCOL_1.to_string(), r#"{"type":"struct","fields":[]}"#.to_string(), "no columns"),
        (r#"{"protocol":{"minReaderVersion":9,"minWriterVersion":9}}"#.to_string(), INT_SCHEMA.to_string(), "9"),
    ];
    for (protocol, schema, says) in cases {
        log.commit(0, &[&protocol, &metadata(&schema, &[], "")]);
        let error = lake.fails("t").await;
        assert!(error.message().contains("not eligible") && error.message().contains(says), "{says}: {error}");
        assert_eq!(error.kind(), ErrorKind::NotEligible);
    }
}

#[tokio::test]
async fn limits_are_errors_that_name_them() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    log.append(1);
    let limited = async |limits: Limits| {
        let config = Config { limits, ..quiet(vec![lake.path().into()]) };
        latest(&LocalCatalog::open(config).await.unwrap(), "t").await
    };
    let error = limited(Limits { files_max: 1, ..Limits::default() }).await.unwrap_err();
    assert!(error.kind() == ErrorKind::ResourceExhausted && error.message().contains("more than 1 files"), "{error}");
    let error = limited(Limits { log_bytes_max: 100, ..Limits::default() }).await.unwrap_err();
    assert!(error.kind() == ErrorKind::ResourceExhausted && error.message().contains("limit of 100"), "{error}");
    let without = limited(Limits { stats_columns_max: 0, ..Limits::default() }).await.unwrap();
    assert!(without.files().iter().all(|f| f.stats.is_empty() && f.rows == Some(10)), "row counts are always kept");
}

/// Whatever bytes a log holds, asking for its table gives a snapshot or a typed error.
#[tokio::test]
async fn logs_with_flipped_bytes_never_bring_the_catalog_down() {
    let lake = Lake::new();
    lake.table("good").simple();
    let log = lake.table("t");
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../integration-tests/data/delta-golden/dv-with-columnmapping/delta/_delta_log");
    let files: Vec<_> = fs::read_dir(&golden).unwrap().map(|e| e.unwrap().path()).collect();
    for file in &files {
        fs::copy(file, log.file(file.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    let mut seed: u64 = 7;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for _ in 0..60 {
        let file = &files[next(files.len())];
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut bytes = fs::read(file).unwrap();
        for _ in 0..3 {
            let at = next(bytes.len());
            bytes[at] = next(256) as u8;
        }
        fs::write(log.file(name), bytes).unwrap();
        let catalog = lake.catalog().await;
        if let Err(error) = latest(&catalog, "t").await {
            assert!(matches!(error.kind(), ErrorKind::DataLoss | ErrorKind::NotEligible), "{name}: {error}");
        }
        latest(&catalog, "good").await.unwrap();
        fs::copy(file, log.file(name)).unwrap();
    }
}

#[tokio::test]
async fn broken_tables_leave_the_others_alone() {
    let lake = Lake::new();
    lake.table("good").simple();
    lake.table("t");
    fs::write(lake.path().join("bad.parquet"), b"PAR1").unwrap();
    symlink(lake.path().join("nothing"), lake.path().join("dangling")).unwrap();
    // A folder that loops can't be read by anyone, root included.
    symlink(lake.path().join("loop"), lake.path().join("loop")).unwrap();
    fs::create_dir_all(lake.path().join("hive/year=2024")).unwrap();
    let catalog = lake.catalog().await;
    assert_eq!(latest(&catalog, "good").await.unwrap().files().len(), 1);
    is_data_loss(&latest(&catalog, "t").await.unwrap_err(), "_delta_log");
    assert_eq!(latest(&catalog, "bad").await.unwrap_err().kind(), ErrorKind::DataLoss);
    assert!(latest(&catalog, "dangling").await.unwrap_err().message().contains("dangling"));
    assert_eq!(latest(&catalog, "loop").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(latest(&catalog, "hive").await.unwrap_err().kind(), ErrorKind::NotEligible);
    assert_eq!(catalog.tables(&anyone(), "lake", "default").await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_broken_new_commit_is_an_error_not_the_old_version() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    let catalog = lake.catalog().await;
    latest(&catalog, "t").await.unwrap();
    fs::write(log.commit_file(1), b"{\"add\":{").unwrap();
    catalog.refresh(&anyone(), &name("t")).await.unwrap_err();
    assert!(catalog.cached_snapshot(&anyone(), &name("t")).is_none());
    is_data_loss(&latest(&catalog, "t").await.unwrap_err(), "Restore");
    log.append(1);
    catalog.refresh(&anyone(), &name("t")).await.unwrap();
    assert_eq!(latest(&catalog, "t").await.unwrap().version, 1);
}

#[tokio::test]
async fn missing_and_changed_data_files_are_told_apart_from_engine_faults() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    log.commit(1, &[&add("f1.parquet", "{}")]);
    fs::write(log.root.join("f0.parquet"), [0; 100]).unwrap();
    let snapshot = lake.reads("t").await;
    is_data_loss(&snapshot.damaged_file(snapshot.files()).unwrap(), "f1.parquet");
    fs::write(log.root.join("f1.parquet"), [0; 99]).unwrap();
    is_data_loss(&snapshot.damaged_file(snapshot.files()).unwrap(), "99 bytes");
    fs::write(log.root.join("f1.parquet"), [0; 100]).unwrap();
    assert!(snapshot.damaged_file(snapshot.files()).is_none());
}
