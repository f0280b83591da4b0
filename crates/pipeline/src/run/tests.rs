use std::collections::VecDeque;

use async_trait::async_trait;
use flightpath_querylog::{Recorder, RecorderConfig};
use flightpath_types::{EngineFacts, Refusal};
use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::*;
use crate::fixtures::{MemoryLog, decision, execution, query, rows};
use crate::lifecycle::PlanSummary;

const LIMIT: Duration = Duration::from_millis(20);

/// What an engine does with the next query it's given.
enum Step {
    Answer(i64),
    /// Some rows, then this error.
    Break(usize, ErrorKind),
    Fail(ErrorKind),
    /// It is lost with the query.
    Die,
    /// After more time than the limit.
    Late(i64),
    Stall,
}

struct Scripted {
    id: EngineId,
    metered: bool,
    steps: Mutex<VecDeque<Step>>,
}

fn engine(id: &str, steps: impl IntoIterator<Item = Step>) -> Arc<dyn Engine> {
    Arc::new(Scripted { id: EngineId::new(id), metered: id == "metered", steps: Mutex::new(steps.into_iter().collect()) })
}

#[async_trait]
impl Engine for Scripted {
    fn id(&self) -> &EngineId {
        &self.id
    }

    fn facts(&self) -> EngineFacts {
        crate::fixtures::facts(&self.id)
    }

    fn eligible(&self, _query: &PlannedQuery) -> Result<(), Refusal> {
        Ok(())
    }

    fn is_metered(&self) -> bool {
        self.metered
    }

    async fn execute(&self, query: Arc<PlannedQuery>, execution: Execution) -> Result<BatchStream> {
        let step = self.steps.lock().pop_front();
        let failed = |kind| Error::new(kind, "as the script says");
        match step.expect("a query more than the script knows") {
            Step::Answer(n) => Ok(stream::iter([Ok(rows(&query, vec![n]))]).boxed()),
            Step::Break(count, kind) => {
                let batches: Vec<_> = (0..count).map(|_| Ok(rows(&query, vec![7; 1_000]))).collect();
                Ok(stream::iter(batches).chain(stream::iter([Err(failed(kind))])).boxed())
            }
            Step::Late(n) => {
                tokio::time::sleep(LIMIT * 2).await;
                Ok(stream::iter([Ok(rows(&query, vec![n]))]).boxed())
            }
            Step::Fail(kind) => Err(failed(kind)),
            Step::Die => {
                execution.findings.died();
                Err(failed(ErrorKind::Unavailable))
            }
            Step::Stall => Ok(stream::pending().boxed()),
        }
    }
}

struct Ran {
    /// What the client sees: values, or the error and how many batches came before it.
    outcome: Result<Vec<i64>, (ErrorKind, usize)>,
    engine: Option<String>,
    failovers: Vec<String>,
    /// Engines that were lost under the query.
    lost: Vec<String>,
}

async fn run(engines: Vec<Arc<dyn Engine>>) -> Ran {
    run_with_share(engines, 1.0).await
}

async fn run_with_share(engines: Vec<Arc<dyn Engine>>, share: f64) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(Arc::new(MemoryLog::default()), RecorderConfig::new(dir.path().into())).unwrap();
    let query = query();
    let execution = execution();
    let ids: Vec<EngineId> = engines.iter().map(|e| e.id().clone()).collect();
    let decision = decision(&ids, CandidateNumbers { latency_p95_ms: 1.0, ..Default::default() });
    let hold = HoldConfig { bytes_max: 30_000, total_bytes_max: 1 << 20 };
    let escalation = EscalationConfig { factor: 3.0, after_min: LIMIT, share };
    let admission = Arc::new(Admission::new(engines.iter().map(|engine| engine.id().clone()), AdmissionConfig::default()));
    let runner = Runner::new(engines, Arc::default(), admission, hold, escalation, DataPrices::default());
    let token = QueryToken::receive(&recorder, execution.query_id, "SELECT n", "s", &query.session, None);
    let mut token = token.planned(PlanSummary {
        statement_kind: "query",
        fingerprint: None,
        features: Default::default(),
        cache_hit: false,
        plan_us: 0,
        decide_us: 0,
        decision: None,
        governed: false,
    });
    let started = runner.run(&query, &decision, &execution, &mut token, Tries::UntilAnswered, true).await;
    let failovers = token.failovers().to_vec();
    let lost = ids.iter().filter(|id| runner.health.losses(id, query.fingerprint) > 0).map(ToString::to_string).collect();
    match started {
        Err(error) => Ran { outcome: Err((error.kind(), 0)), engine: None, failovers, lost },
        Ok(started) => {
            let engine = Some(started.facts.id.to_string());
            let batches: Vec<Result<RecordBatch>> = stream::iter(started.first.map(Ok)).chain(started.rest).collect().await;
            let mut values = Vec::new();
            for (at, batch) in batches.iter().enumerate() {
                match batch {
                    Ok(batch) => values
                        .extend_from_slice(arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(0)).values()),
                    Err(error) => return Ran { outcome: Err((error.kind(), at)), engine, failovers, lost },
                }
            }
            Ran { outcome: Ok(values), engine, failovers, lost }
        }
    }
}

#[tokio::test]
async fn a_query_far_slower_than_predicted_moves_on() {
    let ran = run(vec![engine("a", [Step::Stall]), engine("b", [Step::Answer(2)])]).await;
    assert_eq!((ran.outcome, ran.engine.as_deref()), (Ok(vec![2]), Some("b")));
    assert!(ran.failovers[0].contains("predicted"), "{:?}", ran.failovers);
}

#[tokio::test]
async fn a_slow_engine_gets_its_time_when_nobody_else_answers() {
    let ran = run(vec![engine("a", [Step::Stall, Step::Answer(1)]), engine("b", [Step::Fail(ErrorKind::ResourceExhausted)])]).await;
    assert_eq!((ran.outcome, ran.engine.as_deref()), (Ok(vec![1]), Some("a")));
}

#[tokio::test]
async fn a_slow_query_stays_when_too_many_have_moved() {
    let ran = run_with_share(vec![engine("a", [Step::Late(1)]), engine("b", [])], 0.0).await;
    assert_eq!((ran.outcome, ran.engine.as_deref()), (Ok(vec![1]), Some("a")));
    assert_eq!(ran.failovers, Vec::<String>::new());
}

#[tokio::test]
async fn the_last_candidate_is_never_taken_away() {
    // `slow` answers after its limit, which doesn't hold for the last one.
    let ran = run(vec![engine("a", [Step::Fail(ErrorKind::Unavailable)]), engine("slow", [Step::Late(3)])]).await;
    assert_eq!((ran.outcome, ran.engine.as_deref()), (Ok(vec![3]), Some("slow")));
}

#[tokio::test]
async fn out_of_memory_goes_to_the_elastic_engine_past_other_local_ones() {
    let engines = vec![engine("a", [Step::Fail(ErrorKind::Unavailable)]), engine("metered", [Step::Answer(9)])];
    assert_eq!(run(engines).await.outcome, Ok(vec![9]));
    let local = engine("local", []);
    let ran = run(vec![engine("a", [Step::Break(1, ErrorKind::ResourceExhausted)]), local, engine("metered", [Step::Answer(9)])]).await;
    assert_eq!((ran.outcome, ran.engine.as_deref()), (Ok(vec![9]), Some("metered")));
    assert_eq!(ran.failovers.len(), 1);
}

#[tokio::test]
async fn a_death_within_the_held_part_is_invisible_and_beyond_it_an_error() {
    let within = run(vec![engine("a", [Step::Break(2, ErrorKind::Unavailable)]), engine("b", [Step::Answer(4)])]).await;
    assert_eq!(within.outcome, Ok(vec![4]));
    let beyond = run(vec![engine("a", [Step::Break(20, ErrorKind::Unavailable)]), engine("b", [Step::Answer(4)])]).await;
    assert_eq!(beyond.outcome, Err((ErrorKind::Unavailable, 20)));
}

/// What may be the query's doing is noted; that an engine doesn't answer isn't.
#[tokio::test]
async fn only_an_engine_that_was_lost_under_the_query_counts_as_lost() {
    let ran = run(vec![engine("a", [Step::Die]), engine("b", [Step::Answer(5)])]).await;
    assert_eq!((ran.outcome, ran.lost), (Ok(vec![5]), vec!["a".to_string()]));
    let steps = [Step::Break(1, ErrorKind::Unavailable), Step::Fail(ErrorKind::Unavailable)];
    for step in steps {
        let ran = run(vec![engine("a", [step]), engine("b", [Step::Answer(5)])]).await;
        assert_eq!((ran.outcome, ran.lost), (Ok(vec![5]), vec![]));
    }
    // Alone it is asked again, but not for ever.
    let ran = run(vec![engine("a", [Step::Die, Step::Die, Step::Die])]).await;
    assert_eq!((ran.outcome, ran.lost), (Err((ErrorKind::Unavailable, 0)), vec!["a".to_string()]));
}

#[tokio::test]
async fn what_the_query_itself_raises_is_the_answer() {
    let ran = run(vec![engine("a", [Step::Fail(ErrorKind::Raised)]), engine("b", [])]).await;
    assert_eq!(ran.outcome, Err((ErrorKind::Raised, 0)));
}

#[test]
fn escalation_needs_a_factor_and_a_sane_prediction() {
    let config = EscalationConfig { factor: 3.0, after_min: Duration::from_secs(2), share: 0.1 };
    let numbers = |latency_p95_ms, leave_after_ms| CandidateNumbers { latency_p95_ms, leave_after_ms, ..Default::default() };
    let limit = |p95_ms| config.limit(&numbers(p95_ms, 0.0), None);
    assert_eq!(limit(10.0), Some(Duration::from_secs(2)));
    assert_eq!(limit(1_000.0), Some(Duration::from_secs(3)));
    assert_eq!(limit(f64::NAN), None);
    assert_eq!(limit(f64::INFINITY), None);
    assert_eq!(EscalationConfig { factor: 0.0, ..config }.limit(&numbers(1_000.0, 0.0), None), None);
    // What the next engine costs is waited for, but what hangs is left at any price.
    assert_eq!(config.limit(&numbers(10.0, 5_000.0), None), Some(Duration::from_secs(5)));
    assert_eq!(config.limit(&numbers(10.0, 3e9), None), Some(Duration::from_secs(8)));
    assert_eq!(config.limit(&CandidateNumbers { wait_ms: 9_000.0, ..numbers(10_000.0, 0.0) }, None), Some(Duration::from_secs(3)));
    // The next one needs time, too.
    for (left, limit) in [(100, 8), (10, 5), (2, 2)] {
        assert_eq!(config.limit(&numbers(10.0, 3e9), Some(Duration::from_secs(left))), Some(Duration::from_secs(limit)));
    }
}
