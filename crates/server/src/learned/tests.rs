use async_trait::async_trait;
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

    fn store(&self) -> Arc<dyn ModelStore> {
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

fn duckdb() -> EngineFacts {
    EngineFacts {
        id: EngineId::new("duckdb"),
        state: EngineState::Ready,
        shape: "2c".into(),
        memory_bytes_max: 1 << 30,
        slots: 4,
        running: 0,
        queued: 0,
        cores: 2,
        cores_total: 2,
        overhead_ms: 2.0,
        scan_bytes_per_second_per_core: 2e8,
        pricing: Pricing::hourly(0.1),
    }
}

fn see(predictor: &Predictor, shapes: std::ops::Range<u64>) {
    let facts = duckdb();
    for shape in shapes {
        let features = Features { scans: 1, scan_bytes: 1_000 * shape, ..Features::default() };
        predictor.observe(&Observation {
            fingerprint: Some(Fingerprint::from_u64(shape)),
            features: &features,
            facts: &facts,
            latency_ms: Some(Observed::Exactly(10.0)),
            memory_bytes: None,
            read_bytes: None,
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
    damage(&store).await;
    first.save().await.unwrap();
    assert!(is_damaged(&store).await);
    see(&predictor, 5..6);
    first.save().await.unwrap();
    assert_eq!(kept(&database).await, 6);
    // Nor what was just read.
    let (second, _predictor) = learned(&database);
    second.restore().await;
    damage(&store).await;
    second.save().await.unwrap();
    assert!(is_damaged(&store).await);
}

async fn damage(store: &Arc<dyn ModelStore>) {
    let revision = store.revision(NAME).await.unwrap();
    assert!(store.save(NAME, b"{}", revision).await.unwrap().is_some());
}

async fn is_damaged(store: &Arc<dyn ModelStore>) -> bool {
    store.load(NAME).await.unwrap().is_some_and(|kept| kept.contents == b"{}")
}

/// Several routers on one database: none takes from the others what they have learned, and each gets it.
#[tokio::test]
async fn several_routers_share_what_they_learn() {
    let database = Database::new();
    let (first, of_first) = learned(&database);
    let (second, of_second) = learned(&database);
    first.restore().await;
    second.restore().await;
    see(&of_first, 0..10);
    see(&of_second, 10..25);
    first.save().await.unwrap();
    second.save().await.unwrap();
    assert_eq!((of_second.len().0, kept(&database).await), (25, 25));
    // Who has learned nothing since takes in what others have, and writes nothing.
    let store = database.store();
    let before = store.revision(NAME).await.unwrap();
    first.save().await.unwrap();
    assert_eq!((of_first.len().0, store.revision(NAME).await.unwrap()), (25, before));
    // Both at once, again and again.
    for round in 0..5 {
        see(&of_first, 100 + round * 10..105 + round * 10);
        see(&of_second, 105 + round * 10..110 + round * 10);
        let (one, other) = tokio::join!(first.save(), second.save());
        one.unwrap();
        other.unwrap();
    }
    first.save().await.unwrap();
    assert_eq!((of_first.len().0, kept(&database).await), (75, 75));
    // A restart begins with all of it; what is deleted is made anew from what the others know.
    see(&of_second, 200..201);
    second.save().await.unwrap();
    let (third, of_third) = learned(&database);
    third.restore().await;
    assert_eq!(of_third.len().0, 76);
}

/// Commits what it is told to, or not, and says that the connection was lost.
struct Silent {
    store: Arc<dyn ModelStore>,
    commits: bool,
}

#[async_trait]
impl ModelStore for Silent {
    async fn load(&self, name: &str) -> Result<Option<KeptModel>> {
        self.store.load(name).await
    }

    async fn revision(&self, name: &str) -> Result<Option<u64>> {
        self.store.revision(name).await
    }

    async fn save(&self, name: &str, contents: &[u8], replaces: Option<u64>) -> Result<Option<u64>> {
        if self.commits {
            self.store.save(name, contents, replaces).await?;
        }
        Err(Error::unavailable("the connection was lost"))
    }
}

/// Runs that the engine's model is known to have seen.
fn runs(predictor: &Predictor) -> u64 {
    let features = Features { scans: 1, scan_bytes: 5_000, ..Features::default() };
    predictor.predict(None, &features, &duckdb()).observations.into()
}

#[tokio::test]
async fn a_save_that_was_committed_without_an_answer_counts_once() {
    for (commits, another) in [(true, false), (true, true), (false, false), (false, true)] {
        let database = Database::new();
        let predictor = Arc::new(Predictor::default());
        let silent = Silent { store: database.store(), commits };
        let mut first = Learned::new(Arc::new(silent), predictor.clone());
        first.restore().await;
        see(&predictor, 0..10);
        assert!(first.save().await.is_err());
        // More is learned meanwhile, here and perhaps by somebody else, whose save is the last.
        see(&predictor, 10..15);
        if another {
            let (second, of_second) = learned(&database);
            second.restore().await;
            see(&of_second, 20..24);
            second.save().await.unwrap();
        }
        first.store = database.store();
        first.save().await.unwrap();
        let (third, of_third) = learned(&database);
        third.restore().await;
        let expected = if another { 19 } else { 15 };
        assert_eq!((runs(&predictor), runs(&of_third)), (expected, expected), "commits: {commits}, another: {another}");
    }
}
