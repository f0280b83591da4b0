use flightpath_router::{Observation, Observed};
use flightpath_types::{EngineFacts, EngineId, EngineState, Features, Fingerprint, Pricing};

use super::*;
use crate::lazy_log::LazyLog;

/// A log's database as a file that isn't there while it is down.
struct Database {
    folder: tempfile::TempDir,
}

impl Database {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(LazyLog::new(self.folder.path().join("log/log.sqlite").display().to_string()))
    }

    /// A file where the folder should be: nothing opens below it.
    fn down(&self) {
        std::fs::rename(self.folder.path().join("log"), self.folder.path().join("away")).unwrap();
        std::fs::write(self.folder.path().join("log"), "").unwrap();
    }

    fn up(&self) {
        std::fs::remove_file(self.folder.path().join("log")).unwrap();
        std::fs::rename(self.folder.path().join("away"), self.folder.path().join("log")).unwrap();
    }
}

fn see(predictor: &Predictor, shapes: std::ops::Range<u64>) {
    let facts = EngineFacts {
        id: EngineId::new("duckdb"),
        state: EngineState::Ready,
        shape: "2c".into(),
        memory_bytes_max: 1 << 30,
        slots: 4,
        running: 0,
        queued: 0,
        cores: 2,
        overhead_ms: 2.0,
        scan_bytes_per_second_per_core: 2e8,
        pricing: Pricing::hourly(0.1),
    };
    for shape in shapes {
        let features = Features { scans: 1, scan_bytes: 1_000 * shape, ..Features::default() };
        predictor.observe(&Observation {
            fingerprint: Some(Fingerprint::from_u64(shape)),
            features: &features,
            facts: &facts,
            latency_ms: Some(Observed::Exactly(10.0)),
            memory_bytes: None,
        });
    }
}

fn learned(database: &Database) -> (Learned, Arc<Predictor>) {
    let predictor = Arc::new(Predictor::default());
    (Learned::new(database.store(), predictor.clone()), predictor)
}

async fn kept(database: &Database) -> usize {
    let (again, predictor) = learned(database);
    again.restore().await;
    predictor.len().0
}

#[tokio::test]
async fn what_was_learned_outlives_a_start_without_the_database() {
    let database = Database::new();
    let (first, predictor) = learned(&database);
    first.restore().await;
    see(&predictor, 0..50);
    first.save().await.unwrap();
    assert_eq!(kept(&database).await, 50);

    database.down();
    let (second, predictor) = learned(&database);
    second.restore().await;
    see(&predictor, 50..53);
    assert!(second.save().await.is_err());
    assert_eq!(predictor.len().0, 3);
    database.up();
    // The late one is added to what was learned meanwhile, and then both are kept.
    second.save().await.unwrap();
    assert_eq!((predictor.len().0, kept(&database).await), (53, 53));
}

#[tokio::test]
async fn nothing_new_isnt_saved_again() {
    let database = Database::new();
    let (first, predictor) = learned(&database);
    first.restore().await;
    see(&predictor, 0..5);
    first.save().await.unwrap();
    let store = database.store();
    // Taken away behind its back: it comes back only with something new.
    store.save(NAME, b"{}").await.unwrap();
    first.save().await.unwrap();
    assert_eq!(store.load(NAME).await.unwrap(), Some(b"{}".to_vec()));
    see(&predictor, 5..6);
    first.save().await.unwrap();
    assert_eq!(kept(&database).await, 6);
    // Nor what was just read.
    let (second, _predictor) = learned(&database);
    second.restore().await;
    store.save(NAME, b"{}").await.unwrap();
    second.save().await.unwrap();
    assert_eq!(store.load(NAME).await.unwrap(), Some(b"{}".to_vec()));
}
