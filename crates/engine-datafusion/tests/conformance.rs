//! The suite that every engine must pass. Alone in its binary: it measures this process's
//! processor time.

use std::sync::Arc;

use flightpath_engine::conformance::{Fixture, QUERY_MEMORY_BYTES_MAX, Subject, TEMP_BYTES_MAX, failures, run};
use flightpath_engine_datafusion::{Config, DataFusionEngine};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datafusion_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::write(folder.path()).unwrap();
    let config = Config {
        cores: 2,
        memory_bytes_max: QUERY_MEMORY_BYTES_MAX as usize,
        query_memory_bytes_max: QUERY_MEMORY_BYTES_MAX as usize,
        temp_bytes_max: TEMP_BYTES_MAX,
        temp_dir: Some(folder.path().to_path_buf()),
        ..Config::default()
    };
    let engine = Arc::new(DataFusionEngine::new(config).unwrap());
    let subject = Subject { engine: engine.clone(), processes: Box::new(|| vec![std::process::id()]) };

    let reports = run(&subject, &fixture).await;

    for report in &reports {
        println!("{:>8.0?} {} {}", report.took, report.name, report.failure.as_deref().unwrap_or("ok"));
    }
    assert_eq!(failures(&reports), "");
    assert_eq!((engine.memory_bytes_used(), engine.temp_bytes_used()), (0, 0), "a query left something behind");
}
