use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use flightpath_engine::BatchStream;
use flightpath_querylog::{ShadowFilter, ShadowKey};
use flightpath_types::{EngineFacts, Fingerprint};
use futures::stream;
use parking_lot::Mutex;

use super::*;
use crate::admission::{AdmissionConfig, Demand};
use crate::fixtures::{self, query};

/// Answers one row: a constant, or what it has answered before plus one.
struct Answers {
    id: EngineId,
    value: Option<i64>,
    count: AtomicI64,
    metered: bool,
}

impl Answers {
    fn engine(id: &str, value: Option<i64>) -> Arc<dyn Engine> {
        Arc::new(Self { id: EngineId::new(id), value, count: AtomicI64::new(1_000), metered: id == "databricks" })
    }
}

#[async_trait]
impl Engine for Answers {
    fn id(&self) -> &EngineId {
        &self.id
    }

    fn facts(&self) -> EngineFacts {
        fixtures::facts(&self.id)
    }

    fn eligible(&self, _query: &PlannedQuery) -> Result<(), Refusal> {
        Ok(())
    }

    fn is_metered(&self) -> bool {
        self.metered
    }

    async fn execute(&self, query: Arc<PlannedQuery>, _execution: Execution) -> Result<BatchStream> {
        assert!(!self.metered, "a metered engine is never asked for a second opinion");
        let value = self.value.unwrap_or_else(|| self.count.fetch_add(1, Ordering::SeqCst));
        if value < 0 {
            return Err(Error::unavailable("down"));
        }
        Ok(stream::iter([Ok(row(&query, value))]).boxed())
    }
}

#[derive(Default)]
struct Log {
    runs: Mutex<Vec<ShadowRun>>,
    quarantine: Mutex<Vec<Quarantined>>,
}

#[async_trait]
impl ShadowLog for Log {
    async fn append_shadow(&self, run: &ShadowRun) -> Result<()> {
        self.runs.lock().push(run.clone());
        Ok(())
    }

    async fn shadow_runs(&self, _: &ShadowFilter, _: Option<&ShadowKey>, _: usize) -> Result<Vec<ShadowRun>> {
        Ok(self.runs.lock().clone())
    }

    async fn quarantine(&self) -> Result<Vec<Quarantined>> {
        Ok(self.quarantine.lock().clone())
    }

    async fn add_quarantine(&self, entry: &Quarantined) -> Result<()> {
        self.quarantine.lock().push(entry.clone());
        Ok(())
    }

    async fn lift_quarantine(&self, _fingerprint: Fingerprint, _engine: Option<&EngineId>) -> Result<u64> {
        Ok(0)
    }
}

fn row(query: &PlannedQuery, value: i64) -> RecordBatch {
    fixtures::rows(query, vec![value])
}

fn shadow(engines: &[Arc<dyn Engine>], log: &Arc<Log>) -> Arc<Shadow> {
    let admission = Admission::new(engines.iter().map(|e| e.id().clone()), AdmissionConfig::default());
    Shadow::new(ShadowConfig { share: 1.0, ..Default::default() }, engines.to_vec(), Arc::new(admission), log.clone(), Arc::default())
}

/// The first engine answers the client; what is logged, and who is in quarantine then.
async fn compared(engines: &[(&str, Option<i64>)]) -> (Vec<ShadowRun>, Vec<String>) {
    let (query, log) = (query(), Arc::new(Log::default()));
    let all: Vec<Arc<dyn Engine>> = engines.iter().map(|(id, value)| Answers::engine(id, *value)).collect();
    let shadow = shadow(&all, &log);
    let ids: Vec<EngineId> = all.iter().map(|e| e.id().clone()).collect();
    let (decision, execution) = (fixtures::decision(&ids, Default::default()), fixtures::execution());
    let Some(mut observed) = shadow.observe(&query, &decision, all[0].id(), &execution) else { return (Vec::new(), Vec::new()) };
    assert!(observed.add(&row(&query, engines[0].1.unwrap_or(0))));
    shadow.compare(&observed).await;
    let quarantined = all.iter().filter(|e| shadow.refusal(&query, e.id()).is_some()).map(|e| e.id().to_string()).collect();
    assert_eq!(log.quarantine.lock().len(), all.iter().filter(|e| shadow.refusal(&query, e.id()).is_some()).count());
    let runs = log.runs.lock().clone();
    (runs, quarantined)
}

#[tokio::test]
async fn engines_that_agree_are_left_alone() {
    let (runs, quarantined) = compared(&[("duckdb", Some(1)), ("datafusion", Some(1))]).await;
    assert_eq!((runs[0].outcome, runs[0].digest == runs[0].shadow_digest), (ShadowOutcome::Same, true));
    assert!(quarantined.is_empty());
}

#[tokio::test]
async fn of_two_that_disagree_neither_is_trusted() {
    let (runs, quarantined) = compared(&[("duckdb", Some(1)), ("datafusion", Some(2))]).await;
    assert_eq!(runs[0].outcome, ShadowOutcome::Mismatch);
    assert_ne!(runs[0].digest, runs[0].shadow_digest);
    assert_eq!(quarantined, ["duckdb", "datafusion"]);
}

#[tokio::test]
async fn a_third_engine_decides_between_two() {
    let (_, quarantined) = compared(&[("duckdb", Some(1)), ("datafusion", Some(2)), ("trino", Some(1))]).await;
    assert_eq!(quarantined, ["datafusion"]);
    let (_, quarantined) = compared(&[("duckdb", Some(1)), ("datafusion", Some(2)), ("trino", Some(2))]).await;
    assert_eq!(quarantined, ["duckdb"]);
}

#[tokio::test]
async fn an_engine_that_contradicts_itself_shows_that_the_query_has_several_answers() {
    let (runs, quarantined) = compared(&[("duckdb", Some(1)), ("datafusion", None)]).await;
    assert_eq!(runs[0].outcome, ShadowOutcome::Unstable);
    assert!(quarantined.is_empty());
}

#[tokio::test]
async fn a_second_engine_that_fails_proves_nothing() {
    let (runs, quarantined) = compared(&[("duckdb", Some(1)), ("datafusion", Some(-1))]).await;
    assert_eq!((runs[0].outcome, runs[0].detail.contains("down")), (ShadowOutcome::Failed, true));
    assert!(quarantined.is_empty());
}

#[tokio::test]
async fn what_costs_money_by_itself_is_never_asked() {
    let (runs, _) = compared(&[("duckdb", Some(1)), ("databricks", Some(1))]).await;
    assert!(runs.is_empty());
}

/// Answers nothing until it is dropped.
struct Endless {
    id: EngineId,
    running: Arc<AtomicI64>,
}

struct Counted(Arc<AtomicI64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Engine for Endless {
    fn id(&self) -> &EngineId {
        &self.id
    }

    fn facts(&self) -> EngineFacts {
        fixtures::facts(&self.id)
    }

    fn eligible(&self, _query: &PlannedQuery) -> Result<(), Refusal> {
        Ok(())
    }

    async fn execute(&self, _query: Arc<PlannedQuery>, _execution: Execution) -> Result<BatchStream> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(self.running.clone());
        Ok(stream::pending().map(move |batch| (batch, &counted).0).boxed())
    }
}

#[tokio::test]
async fn a_run_gives_way_to_a_clients_query_and_proves_nothing() {
    let (query, log, running) = (query(), Arc::new(Log::default()), Arc::new(AtomicI64::new(0)));
    let second = Arc::new(Endless { id: EngineId::new("datafusion"), running: running.clone() });
    let all: Vec<Arc<dyn Engine>> = vec![Answers::engine("duckdb", Some(1)), second.clone()];
    let shadow = shadow(&all, &log);
    let ids: Vec<EngineId> = all.iter().map(|e| e.id().clone()).collect();
    let (decision, execution) = (fixtures::decision(&ids, Default::default()), fixtures::execution());
    let mut observed = shadow.observe(&query, &decision, all[0].id(), &execution).unwrap();
    assert!(observed.add(&row(&query, 1)));
    // The engine's only slot is a client's: the run waits for it.
    let (facts, principal) = (second.facts(), Principal::new("ann"));
    let capacity = Capacity::of(second.as_ref(), &facts);
    let demand = Demand { principal: &principal, memory_bytes: 0 };
    let clients = shadow.admission.admit(second.id(), None, || capacity, demand, None).await.unwrap();
    observed.finish();
    tokio::task::yield_now().await;
    assert_eq!(running.load(Ordering::SeqCst), 0);
    drop(clients);
    while running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // Another client comes, and has it.
    drop(shadow.admission.admit(second.id(), None, || capacity, demand, None).await.unwrap());
    assert_eq!(running.load(Ordering::SeqCst), 0);
    while shadow.runs.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(log.runs.lock().is_empty());
}
