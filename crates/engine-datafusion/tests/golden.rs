//! Tables that Spark wrote must read as Spark reads them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono_tz::America::Los_Angeles;
use chrono_tz::UTC;
use flightpath_engine::Engine;
use flightpath_engine::conformance::{Reading, golden};
use flightpath_engine_datafusion::{Config, DataFusionEngine};

/// Tables whose TIMESTAMP partition values don't tell their zone, and the zone that the expected
/// rows take them in.
const ZONELESS: [(&str, chrono_tz::Tz); 4] = [
    ("data-reader-partition-values", Los_Angeles),
    ("kernel-timestamp-int96", UTC),
    ("kernel-timestamp-pst", UTC),
    ("kernel-timestamp-timestamp_micros", UTC),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_tables_read_as_spark_reads_them_or_are_refused() {
    let engine: Arc<dyn Engine> = Arc::new(DataFusionEngine::new(Config::default()).unwrap());

    let readings = golden(&engine, &folder(), None).await.unwrap();

    assert!(!readings.is_empty(), "no tables in {}", folder().display());
    for (name, reading) in &readings {
        match reading {
            Reading::Refused(_) => assert!(ZONELESS.iter().any(|(zoneless, _)| zoneless == name), "{name}: {reading:?}"),
            Reading::Same => assert!(!ZONELESS.iter().any(|(zoneless, _)| zoneless == name), "{name} was guessed"),
            Reading::Wrong(_) => panic!("{name}: {reading:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_that_name_partitions_are_taken_in_the_zone_that_was_set() {
    let engine: Arc<dyn Engine> = Arc::new(DataFusionEngine::new(Config::default()).unwrap());
    for zone in [Los_Angeles, UTC] {
        let readings = golden(&engine, &folder(), Some(zone)).await.unwrap();
        for (name, _) in ZONELESS.iter().filter(|(_, theirs)| *theirs == zone) {
            let reading = readings.iter().find(|(read, _)| read == name).map(|(_, reading)| reading);
            assert_eq!(reading, Some(&Reading::Same), "{name}");
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/data/delta-golden")
}
