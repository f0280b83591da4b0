//! Watching that engines agree: a share of the queries is run again in the background on another
//! engine that may run them, and the two answers are compared. A disagreement that repeats itself
//! puts that shape of query in quarantine. Never holds up a query: it takes slots that nobody wants, and
//! gives them back when somebody does. Never changes an answer, and never runs where a query costs money by
//! itself.

mod digest;
mod quarantine;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::record_batch::RecordBatch;
use flightpath_engine::{Engine, Execution};
use flightpath_plan::PlannedQuery;
use flightpath_querylog::ShadowLog;
use flightpath_router::Predictor;
use flightpath_types::{
    Decision, EngineFacts, EngineId, Error, ErrorKind, Principal, Quarantined, QueryId, Refusal, Result, SecretToken, ShadowOutcome,
    ShadowRun,
};
use futures::StreamExt;
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Capacity};
use crate::learn::Lesson;
use crate::restamp::restamp;
use digest::ResultDigest;
use quarantine::Quarantine;

/// How often a run that confirms a difference gives way.
const YIELDS_MAX: usize = 50;

#[derive(Debug, Clone)]
pub struct ShadowConfig {
    /// Of the queries that can be compared, 0 to 1.
    pub share: f64,
    /// Results of more rows than this aren't compared.
    pub rows_max: u64,
    /// For one run again.
    pub timeout: Duration,
    /// Runs at once; what comes while all are busy isn't compared.
    pub runs_max: usize,
}

impl Default for ShadowConfig {
    fn default() -> Self {
        Self { share: 0.0, rows_max: 1_000_000, timeout: Duration::from_secs(60), runs_max: 1 }
    }
}

/// Shared by all queries.
pub(crate) struct Shadow {
    config: RwLock<ShadowConfig>,
    engines: Vec<Arc<dyn Engine>>,
    admission: Arc<Admission>,
    log: Arc<dyn ShadowLog>,
    quarantine: Quarantine,
    predictor: Arc<Predictor>,
    runs: Arc<Semaphore>,
    stopped: CancellationToken,
}

/// A query that is being compared, while its answer passes on the way to the client.
pub(crate) struct Observed {
    shadow: Arc<Shadow>,
    query: Arc<PlannedQuery>,
    query_id: QueryId,
    principal: Principal,
    token: Option<SecretToken>,
    engine: EngineId,
    /// Other engines that may run it, best first.
    others: Vec<EngineId>,
    digest: ResultDigest,
}

impl Shadow {
    pub fn new(
        config: ShadowConfig,
        engines: Vec<Arc<dyn Engine>>,
        admission: Arc<Admission>,
        log: Arc<dyn ShadowLog>,
        predictor: Arc<Predictor>,
    ) -> Arc<Self> {
        let runs = Arc::new(Semaphore::new(config.runs_max));
        let (quarantine, stopped) = (Quarantine::default(), CancellationToken::new());
        Arc::new(Self { config: RwLock::new(config), engines, admission, log, quarantine, predictor, runs, stopped })
    }

    /// New settings for whoever comes from now on; how many runs there are at once stays.
    pub fn configure(&self, config: ShadowConfig) {
        *self.config.write() = config;
    }

    /// Why this engine may not run queries of this shape.
    pub fn refusal(&self, query: &PlannedQuery, engine: &EngineId) -> Option<Refusal> {
        self.quarantine.refusal(query.fingerprint, engine)
    }

    /// Brings the quarantine and its table together.
    pub async fn synchronize(&self) -> Result<()> {
        self.quarantine.synchronize(self.log.as_ref()).await
    }

    /// Ends the runs that are under way.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// Whether to compare this query, which `engine` answers.
    pub fn observe(
        self: &Arc<Self>,
        query: &Arc<PlannedQuery>,
        decision: &Decision,
        engine: &EngineId,
        execution: &Execution,
    ) -> Option<Observed> {
        let others: Vec<EngineId> =
            decision.candidates.iter().map(|c| c.engine.clone()).filter(|id| id != engine && self.may_run(id, query)).collect();
        let (ran, first) = (self.engine(engine)?.facts(), self.engine(others.first()?)?.facts());
        if !query.comparable || !self.drawn(execution.query_id, query, &ran, &first) {
            return None;
        }
        Some(Observed {
            shadow: self.clone(),
            query: query.clone(),
            query_id: execution.query_id,
            principal: execution.principal.clone(),
            token: execution.token.clone(),
            engine: engine.clone(),
            others,
            digest: ResultDigest::new(&query.schema),
        })
    }

    /// By the query's id, so that a query's fate can be told afterwards. What `other` has never
    /// run is drawn more often: a comparison is also how the router learns of it.
    fn drawn(&self, query_id: QueryId, query: &PlannedQuery, ran: &EngineFacts, other: &EngineFacts) -> bool {
        let mut last = [0u8; 8];
        last.copy_from_slice(&query_id.as_bytes()[8..]);
        // The top two bits of these eight bytes are fixed in every UUID.
        let share = (u64::from_be_bytes(last) << 2) as f64 / u64::MAX as f64;
        share < self.predictor.shadow_share(self.config.read().share, Some(query.fingerprint), &query.features, ran, other)
    }

    fn engine(&self, id: &EngineId) -> Option<&Arc<dyn Engine>> {
        self.engines.iter().find(|e| e.id() == id)
    }

    /// Whatever the session pinned or the strategy prefers: a comparison is the server's own affair.
    fn may_run(&self, id: &EngineId, query: &PlannedQuery) -> bool {
        self.engine(id).is_some_and(|e| !e.is_metered() && e.eligible(query).is_ok()) && self.refusal(query, id).is_none()
    }

    /// On what of the engine nobody wants. `Yielded` when somebody has wanted it, or nothing was free in time.
    async fn digest_on(&self, engine: &EngineId, observed: &Observed) -> Result<ResultDigest, Left> {
        let engine = self.engine(engine).ok_or_else(|| Error::internal("an engine is gone"))?;
        let timeout = self.config.read().timeout;
        let facts = engine.facts();
        let memory_bytes = self.predictor.predict(Some(observed.query.fingerprint), &observed.query.features, &facts).memory_bytes;
        let spare = self.admission.spare(engine.id(), Capacity::of(engine.as_ref(), &facts), memory_bytes);
        let spare = tokio::time::timeout(timeout, spare).await.map_err(|_| Left::Yielded)??;
        tokio::select! {
            biased;
            () = spare.wanted() => Err(Left::Yielded),
            digest = self.digest_now(engine, observed, timeout) => Ok(digest?),
        }
    }

    /// What differs once is looked into, however often clients come between.
    async fn digest_patiently(&self, engine: &EngineId, observed: &Observed) -> Result<ResultDigest, Left> {
        for _ in 1..YIELDS_MAX {
            match self.digest_on(engine, observed).await {
                Err(Left::Yielded) => {}
                told => return told,
            }
        }
        self.digest_on(engine, observed).await
    }

    async fn digest_now(&self, engine: &Arc<dyn Engine>, observed: &Observed, timeout: Duration) -> Result<ResultDigest> {
        let execution = Execution {
            query_id: QueryId::generate(),
            principal: observed.principal.clone(),
            token: observed.token.clone(),
            deadline: Instant::now().checked_add(timeout),
            traceparent: None,
            findings: Arc::default(),
        };
        let findings = execution.findings.clone();
        let (facts, begun) = (engine.facts(), Instant::now());
        let mut stream = engine.execute(observed.query.clone(), execution).await?;
        let mut digest = ResultDigest::new(&observed.query.schema);
        while let Some(batch) = stream.next().await {
            digest.add(&restamp(&batch?, &observed.query.schema)?)?;
            if digest.rows() > self.config.read().rows_max {
                return Err(Error::new(ErrorKind::ResourceExhausted, "the answer has more rows than are compared"));
            }
        }
        if let Some(lesson) = Lesson::of(&self.predictor, &observed.query, facts, begun.elapsed(), findings) {
            lesson.finished(Duration::ZERO);
        }
        Ok(digest)
    }

    async fn compare(&self, observed: &Observed) {
        let Some(second) = observed.others.first() else { return };
        let shadowed = self.digest_on(second, observed).await;
        let found = match &shadowed {
            // What gave way to a client's query says nothing.
            Err(Left::Yielded) => None,
            Err(Left::Failed(error)) => Some((ShadowOutcome::Failed, error.to_string())),
            Ok(digest) => match observed.digest.difference(digest) {
                None => Some((ShadowOutcome::Same, String::new())),
                Some(difference) => Some(self.look_again(observed, digest, difference).await),
            },
        };
        let Some((outcome, detail)) = found else { return };
        let run = ShadowRun {
            query_id: observed.query_id,
            ended_unix_ms: unix_ms(),
            fingerprint: observed.query.fingerprint,
            principal: observed.principal.to_string(),
            engine: observed.engine.clone(),
            digest: observed.digest.to_string(),
            shadow_engine: second.clone(),
            shadow_digest: shadowed.map(|d| d.to_string()).unwrap_or_default(),
            outcome,
            detail,
        };
        if outcome == ShadowOutcome::Mismatch {
            tracing::error!(
                query_id = %run.query_id, fingerprint = %run.fingerprint, engine = %run.engine, digest = %run.digest,
                shadow_engine = %run.shadow_engine, shadow_digest = %run.shadow_digest, detail = %run.detail,
                "two engines gave different answers to one query"
            );
        }
        if let Err(error) = self.log.append_shadow(&run).await {
            tracing::warn!(%error, query_id = %run.query_id, outcome = outcome.as_str(), "a shadow run couldn't be logged");
        }
        if outcome == ShadowOutcome::Mismatch
            && let Err(error) = self.synchronize().await
        {
            tracing::warn!(%error, "the quarantine couldn't be saved; it holds in this server and is saved later");
        }
    }

    /// Two answers differ. An engine that doesn't agree with itself shows that the query has more
    /// than one right answer; else whoever a third engine doesn't side with is put in quarantine,
    /// and both are where there is no third.
    async fn look_again(&self, observed: &Observed, shadowed: &ResultDigest, difference: String) -> (ShadowOutcome, String) {
        let second = &observed.others[0];
        for (engine, before) in [(&observed.engine, &observed.digest), (second, shadowed)] {
            match self.digest_patiently(engine, observed).await {
                Ok(again) if before.difference(&again).is_none() => {}
                Ok(_) => return (ShadowOutcome::Unstable, format!("{difference}, and {engine} doesn't agree with itself")),
                Err(Left::Failed(error)) => {
                    return (ShadowOutcome::Failed, format!("{difference}; asked again, {engine} failed: {error}"));
                }
                Err(Left::Yielded) => {
                    return (ShadowOutcome::Failed, format!("{difference}; {engine} was too busy to be asked again"));
                }
            }
        }
        let mut suspects = vec![&observed.engine, second];
        if let Some(third) = observed.others.get(1)
            && let Ok(digest) = self.digest_patiently(third, observed).await
        {
            let sides_with = [&observed.digest, shadowed].map(|d| d.difference(&digest).is_none());
            match sides_with {
                [true, false] => suspects.retain(|e| *e == second),
                [false, true] => suspects.retain(|e| **e == observed.engine),
                _ => {}
            }
        }
        for engine in suspects {
            let other = if *engine == observed.engine { second } else { &observed.engine };
            self.quarantine.add(Quarantined {
                fingerprint: observed.query.fingerprint,
                engine: engine.clone(),
                since_unix_ms: unix_ms(),
                query_id: observed.query_id,
                reason: format!("its answer and that of {other} differ ({difference}), seen with query {}", observed.query_id),
            });
        }
        (ShadowOutcome::Mismatch, difference)
    }
}

/// Why an engine gave no answer to compare.
enum Left {
    /// For a client's query.
    Yielded,
    Failed(Error),
}

impl From<Error> for Left {
    fn from(error: Error) -> Self {
        Left::Failed(error)
    }
}

impl Observed {
    /// False when the answer has become too large to compare.
    pub fn add(&mut self, batch: &RecordBatch) -> bool {
        self.digest.rows() + batch.num_rows() as u64 <= self.shadow.config.read().rows_max && self.digest.add(batch).is_ok()
    }

    /// The client has the whole answer: compares it in the background, if there's room.
    pub fn finish(self) {
        let Ok(permit) = self.shadow.runs.clone().try_acquire_owned() else { return };
        tokio::spawn(async move {
            let shadow = self.shadow.clone();
            tokio::select! {
                () = shadow.stopped.cancelled() => {}
                () = shadow.compare(&self) => {}
            }
            drop(permit);
        });
    }
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
