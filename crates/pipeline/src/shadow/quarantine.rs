//! Shapes of queries that an engine may not run, because it and another one disagreed. Held in
//! memory, kept in the log's database, lifted there by a person.

use std::collections::HashMap;

use flightpath_querylog::ShadowLog;
use flightpath_types::{EngineId, Fingerprint, Quarantined, Refusal, RefusalClass, Result};
use parking_lot::RwLock;

type Key = (Fingerprint, EngineId);

#[derive(Default)]
pub(crate) struct Quarantine {
    entries: RwLock<HashMap<Key, Entry>>,
}

struct Entry {
    quarantined: Quarantined,
    /// Whether the database has it: only then does its absence there mean that it was lifted.
    saved: bool,
}

impl Quarantine {
    pub fn refusal(&self, fingerprint: Fingerprint, engine: &EngineId) -> Option<Refusal> {
        let entries = self.entries.read();
        if entries.is_empty() {
            return None;
        }
        let entry = entries.get(&(fingerprint, engine.clone()))?;
        let reason = format!(
            "queries of this shape ({fingerprint}) are in quarantine here: {}; `flightpath quarantine lift {fingerprint}` lifts it",
            entry.quarantined.reason
        );
        Some(Refusal::new(RefusalClass::Quarantine, reason))
    }

    /// In force at once; in the database at the next [`Quarantine::synchronize`].
    pub fn add(&self, quarantined: Quarantined) {
        let key = (quarantined.fingerprint, quarantined.engine.clone());
        self.entries.write().entry(key).or_insert(Entry { quarantined, saved: false });
    }

    /// Saves what isn't saved, and takes over what others saved and a person lifted. Fails without
    /// a change when the database is down.
    pub async fn synchronize(&self, log: &dyn ShadowLog) -> Result<()> {
        let unsaved: Vec<Quarantined> = self.entries.read().values().filter(|e| !e.saved).map(|e| e.quarantined.clone()).collect();
        for entry in &unsaved {
            log.add_quarantine(entry).await?;
        }
        let stored = log.quarantine().await?;
        let mut entries = self.entries.write();
        let saved_now = |key: &Key| unsaved.iter().any(|e| e.fingerprint == key.0 && e.engine == key.1);
        entries.retain(|key, entry| !entry.saved && !saved_now(key));
        for quarantined in stored {
            let key = (quarantined.fingerprint, quarantined.engine.clone());
            entries.insert(key, Entry { quarantined, saved: true });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use flightpath_querylog::{ShadowFilter, ShadowKey};
    use flightpath_types::{Error, QueryId, ShadowRun};
    use parking_lot::Mutex;

    use super::*;

    /// A database in memory that can be down.
    #[derive(Default)]
    struct Fake {
        down: Mutex<bool>,
        rows: Mutex<Vec<Quarantined>>,
    }

    impl Fake {
        fn check(&self) -> Result<()> {
            if *self.down.lock() { Err(Error::unavailable("down")) } else { Ok(()) }
        }
    }

    #[async_trait]
    impl ShadowLog for Fake {
        async fn append_shadow(&self, _run: &ShadowRun) -> Result<()> {
            self.check()
        }

        async fn shadow_runs(&self, _: &ShadowFilter, _: Option<&ShadowKey>, _: usize) -> Result<Vec<ShadowRun>> {
            Ok(Vec::new())
        }

        async fn quarantine(&self) -> Result<Vec<Quarantined>> {
            self.check().map(|()| self.rows.lock().clone())
        }

        async fn add_quarantine(&self, entry: &Quarantined) -> Result<()> {
            self.check().map(|()| self.rows.lock().push(entry.clone()))
        }

        async fn lift_quarantine(&self, fingerprint: Fingerprint, _engine: Option<&EngineId>) -> Result<u64> {
            self.rows.lock().retain(|e| e.fingerprint != fingerprint);
            Ok(1)
        }
    }

    fn entry(fingerprint: u64) -> Quarantined {
        Quarantined {
            fingerprint: Fingerprint::from_u64(fingerprint),
            engine: EngineId::new("duckdb"),
            since_unix_ms: 1,
            query_id: QueryId::generate(),
            reason: "1 rows against 2".into(),
        }
    }

    #[tokio::test]
    async fn an_entry_holds_while_the_database_is_down_and_until_it_is_lifted() {
        let (quarantine, log, engine) = (Quarantine::default(), Fake::default(), EngineId::new("duckdb"));
        let shape = Fingerprint::from_u64(7);
        quarantine.add(entry(7));
        *log.down.lock() = true;
        assert!(quarantine.synchronize(&log).await.is_err());
        assert!(quarantine.refusal(shape, &engine).unwrap().reason.contains("1 rows against 2"));
        *log.down.lock() = false;
        quarantine.synchronize(&log).await.unwrap();
        assert_eq!(log.rows.lock().len(), 1);
        assert!(quarantine.refusal(shape, &engine).is_some());
        assert!(quarantine.refusal(shape, &EngineId::new("datafusion")).is_none());
        log.lift_quarantine(shape, None).await.unwrap();
        quarantine.synchronize(&log).await.unwrap();
        assert!(quarantine.refusal(shape, &engine).is_none());
    }

    #[tokio::test]
    async fn what_another_router_saved_holds_here_too() {
        let (quarantine, log) = (Quarantine::default(), Fake::default());
        log.rows.lock().push(entry(9));
        quarantine.synchronize(&log).await.unwrap();
        assert!(quarantine.refusal(Fingerprint::from_u64(9), &EngineId::new("duckdb")).is_some());
    }
}
