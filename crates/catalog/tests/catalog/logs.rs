//! Shapes of logs that the golden tables lack: checkpoints in parts and of version 2, compacted
//! commits, inline and lying deletion vectors, checksums, type widening, and writers in a hurry.

use std::fs::{self, File};
use std::sync::Arc;

use arrow::array::RecordBatch;
use delta_kernel::Snapshot;
use delta_kernel_default_engine::DefaultEngineBuilder;
use flightpath_catalog::Catalog;
use flightpath_types::ErrorKind;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::{INT_SCHEMA, Lake, Log, PROTOCOL_1, add, anyone, latest, metadata, name, protocol};

const LAST: u64 = 20;

/// Commits up to [`LAST`], then a checkpoint by the kernel, then the commits removed but the last.
fn checkpointed(log: &Log) {
    for version in 1..=LAST {
        log.append(version);
    }
    let engine = DefaultEngineBuilder::new(Arc::new(object_store::local::LocalFileSystem::new())).build();
    let url = format!("file://{}/", log.root.canonicalize().unwrap().display());
    Snapshot::builder_for(url).build(&engine).unwrap().checkpoint(&engine, None).unwrap();
    for version in 0..LAST {
        fs::remove_file(log.commit_file(version)).unwrap();
    }
}

fn checkpoint_file(log: &Log) -> std::path::PathBuf {
    let mut found = fs::read_dir(log.root.join("_delta_log")).unwrap().map(|e| e.unwrap().path());
    found.find(|p| p.to_str().unwrap().contains(".checkpoint.")).unwrap()
}

#[tokio::test]
async fn checkpoints_are_read_whole_or_not_at_all() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    checkpointed(&log);
    let snapshot = lake.reads("t").await;
    assert_eq!((snapshot.version, snapshot.files().len()), (LAST, LAST as usize + 1));
    assert!(snapshot.files().iter().all(|f| f.rows == Some(10)));

    // The same in two parts, as old writers of big tables did.
    let single = checkpoint_file(&log);
    let batches: Vec<RecordBatch> =
        ParquetRecordBatchReaderBuilder::try_new(File::open(&single).unwrap()).unwrap().build().unwrap().map(Result::unwrap).collect();
    let whole = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    let half = whole.num_rows() / 2;
    for (part, rows) in [(1, whole.slice(0, half)), (2, whole.slice(half, whole.num_rows() - half))] {
        let file = File::create(log.file(&format!("{LAST:020}.checkpoint.{part:010}.{:010}.parquet", 2))).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
    }
    fs::remove_file(&single).unwrap();
    fs::remove_file(log.file("_last_checkpoint")).unwrap();
    assert_eq!(lake.reads("t").await.files().len(), LAST as usize + 1);
    fs::remove_file(log.file(&format!("{LAST:020}.checkpoint.{:010}.{:010}.parquet", 2, 2))).unwrap();
    assert_eq!(lake.fails("t").await.kind(), ErrorKind::DataLoss);
}

#[tokio::test]
async fn a_truncated_checkpoint_is_data_loss() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    checkpointed(&log);
    let path = checkpoint_file(&log);
    let bytes = fs::read(&path).unwrap();
    for cut in [bytes.len() / 2, bytes.len() - 1, 4, 0] {
        fs::write(&path, &bytes[..cut]).unwrap();
        assert_eq!(lake.fails("t").await.kind(), ErrorKind::DataLoss, "cut to {cut}");
    }
}

#[tokio::test]
async fn version_2_checkpoints_are_read() {
    let lake = Lake::new();
    let log = lake.table("t");
    log.commit(
        0,
        &[
            &protocol(&["v2Checkpoint"], &["v2Checkpoint"]),
            &metadata(INT_SCHEMA, &[], r#""delta.checkpointPolicy":"v2""#),
            &add("f0.parquet", r#"{"numRecords":10}"#),
        ],
    );
    checkpointed(&log);
    let snapshot = lake.reads("t").await;
    assert_eq!((snapshot.version, snapshot.files().len()), (LAST, LAST as usize + 1));
}

#[tokio::test]
async fn compacted_commits_are_read() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    for version in 1..=4 {
        log.append(version);
    }
    let actions: String = (1..=3).map(|v| fs::read_to_string(log.commit_file(v)).unwrap()).collect();
    fs::write(log.file("00000000000000000001.00000000000000000003.compacted.json"), actions).unwrap();
    let snapshot = lake.reads("t").await;
    assert_eq!((snapshot.version, snapshot.files().len()), (4, 5));
}

/// ZeroMQ's base 85.
fn z85(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    let mut text = String::new();
    for chunk in bytes.chunks_exact(4) {
        let mut value = u32::from_be_bytes(chunk.try_into().unwrap());
        let mut digits = [0u8; 5];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(value % 85) as usize];
            value /= 85;
        }
        text.push_str(std::str::from_utf8(&digits).unwrap());
    }
    text
}

fn with_deletions(deleted: &[u64], cardinality: usize, rows: u64) -> String {
    let mut bytes = 1_681_511_377u32.to_le_bytes().to_vec();
    deleted.iter().copied().collect::<roaring::RoaringTreemap>().serialize_into(&mut bytes).unwrap();
    assert_eq!(bytes.len() % 4, 0);
    let vector = serde_json::json!({"storageType":"i","pathOrInlineDv":z85(&bytes),"sizeInBytes":bytes.len(),"cardinality":cardinality});
    let stats = format!(r#"{{"numRecords":{rows}}}"#);
    serde_json::json!({"add":{"path":"d.parquet","partitionValues":{},"size":9,"modificationTime":1,"dataChange":true,"stats":stats,"deletionVector":vector}}).to_string()
}

#[tokio::test]
async fn inline_deletion_vectors_are_read_and_checked() {
    let lake = Lake::new();
    let log = lake.table("t");
    let head = [protocol(&["deletionVectors"], &["deletionVectors"]), metadata(INT_SCHEMA, &[], "")];
    log.commit(0, &[&head[0], &head[1], &with_deletions(&[3, 4, 7, 11], 4, 20)]);
    let snapshot = lake.reads("t").await;
    assert_eq!(*snapshot.files()[0].deletion_vector.as_ref().unwrap().rows, [3, 4, 7, 11]);

    log.commit(0, &[&head[0], &head[1], &with_deletions(&[3, 4, 7, 11], 5, 20)]);
    assert_eq!(lake.fails("t").await.kind(), ErrorKind::DataLoss, "another cardinality");
    log.commit(0, &[&head[0], &head[1], &with_deletions(&[3, 4, 7, 11], 4, 11)]);
    assert_eq!(lake.fails("t").await.kind(), ErrorKind::DataLoss, "a row beyond the file's end");
    let missing = r#"{"add":{"path":"d.parquet","partitionValues":{},"size":9,"modificationTime":1,"dataChange":true,"deletionVector":{"storageType":"u","pathOrInlineDv":"ab^-aqEH.-t@S}K{vb[*k^","offset":1,"sizeInBytes":36,"cardinality":2}}}"#;
    log.commit(0, &[&head[0], &head[1], missing]);
    assert_eq!(lake.fails("t").await.kind(), ErrorKind::DataLoss, "no such file");
    log.commit(0, &[&head[0], &head[1], &missing.replace("\"u\"", "\"i\"").replace("ab^-aqEH.-t@S}K{vb[*k^", "")]);
    assert_eq!(lake.fails("t").await.kind(), ErrorKind::DataLoss, "an empty inline vector");
}

#[tokio::test]
async fn widened_columns_are_marked_and_their_old_float_bounds_ignored() {
    let lake = Lake::new();
    let log = lake.table("t");
    let changed = |from: &str, to: &str| format!(r#""metadata":{{"delta.typeChanges":[{{"toType":"{to}","fromType":"{from}"}}]}}"#);
    let schema = format!(
        r#"{{"type":"struct","fields":[{{"name":"a","type":"long","nullable":true,{}}},{{"name":"b","type":"double","nullable":true,{}}},{{"name":"c","type":"integer","nullable":true,"metadata":{{}}}}]}}"#,
        changed("integer", "long"),
        changed("float", "double")
    );
    let stats = r#"{"numRecords":2,"minValues":{"a":1,"b":0.7,"c":3},"maxValues":{"a":2,"b":0.7,"c":4},"nullCount":{"a":0,"b":0,"c":0}}"#;
    log.commit(
        0,
        &[
            &protocol(&["typeWidening"], &["typeWidening"]),
            &metadata(&schema, &[], r#""delta.enableTypeWidening":"true""#),
            &add("f.parquet", stats),
        ],
    );
    let snapshot = lake.reads("t").await;
    assert_eq!(snapshot.columns.iter().map(|c| c.widened).collect::<Vec<_>>(), [true, true, false]);
    let stats = &snapshot.files()[0].stats;
    assert!(stats[0].min.is_some() && stats[1].min.is_none() && stats[2].max.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_taken_while_a_writer_commits_are_each_one_version() {
    const COMMITS: u64 = 60;
    let lake = Lake::new();
    let log = Arc::new(lake.table("t").simple());
    let catalog = Arc::new(lake.catalog().await);
    let writer = {
        let log = log.clone();
        tokio::task::spawn_blocking(move || (1..=COMMITS).for_each(|version| log.append(version)))
    };
    let readers = (0..4).map(|_| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < COMMITS {
                catalog.refresh(&anyone(), &name("t")).await.unwrap();
                let snapshot = latest(&catalog, "t").await.unwrap();
                assert_eq!(snapshot.files().len() as u64, snapshot.version + 1);
                assert!(snapshot.version >= seen, "versions never go back");
                seen = snapshot.version;
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_share_one_load() {
    let lake = Lake::new();
    lake.table("t").simple();
    let catalog = Arc::new(lake.catalog().await);
    assert!(catalog.cached_snapshot(&anyone(), &name("t")).is_none(), "nothing is read ahead here");
    let asked = (0..32).map(|_| {
        let catalog = catalog.clone();
        tokio::spawn(async move { latest(&catalog, "t").await.unwrap() })
    });
    let snapshots: Vec<_> = futures::future::join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert!(snapshots.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
    assert!(Arc::ptr_eq(&snapshots[0], &catalog.cached_snapshot(&anyone(), &name("t")).unwrap()));
}

#[tokio::test]
async fn a_checksum_that_disagrees_with_the_log_is_data_loss() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    let checksum = |files: u64, bytes: u64| {
        let protocol: serde_json::Value = serde_json::from_str(PROTOCOL_1).unwrap();
        let table: serde_json::Value = serde_json::from_str(&metadata(INT_SCHEMA, &[], "")).unwrap();
        let crc = serde_json::json!({"tableSizeBytes":bytes,"numFiles":files,"numMetadata":1,"numProtocol":1,"metadata":table["metaData"],"protocol":protocol["protocol"]});
        fs::write(log.file("00000000000000000000.crc"), crc.to_string()).unwrap();
    };
    checksum(1, 100);
    assert_eq!(lake.reads("t").await.files().len(), 1);
    checksum(2, 200);
    let error = lake.fails("t").await;
    assert!(error.kind() == ErrorKind::DataLoss && error.message().contains("checksum"), "{error}");
}
