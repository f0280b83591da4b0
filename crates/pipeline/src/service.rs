//! The way of a query, top to bottom: prepare or submit (plan, decide), fetch (admit, run, fail
//! over, stream), cancel, drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dashmap::DashMap;
use flightpath_catalog::Catalog;
use flightpath_engine::{Engine, Execution};
use flightpath_plan::{LocalResult, PlannedQuery, Statement};
use flightpath_planner::{PlanRequest, Planned as PlannedStatement, Planner};
use flightpath_querylog::{Recorder, ShadowLog};
use flightpath_router::{Contender, Policy, Strategy, route};
use flightpath_types::{
    CandidateNumbers, Decision, EngineFacts, EngineId, Error, ErrorKind, Principal, QueryId, RefusalClass, Result, SecretToken, Session,
};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tracing::Instrument;

use crate::admission::{Admission, AdmissionConfig};
use crate::explain_route;
use crate::lifecycle::{PlanSummary, Planned, QueryToken, micros};
use crate::port::{Prepared, QueryService, Request, ResultStream, SessionHandle, Submitted};
use crate::run::{Started, Tries, run_until_first_batch, wait_for_any};
use crate::shadow::{Shadow, ShadowConfig};
use crate::stream::{Registered, Registry, StampedStream};
use crate::trace;

#[derive(Debug, Clone)]
pub struct PipelineConfig {
    pub strategy: Strategy,
    pub admission: AdmissionConfig,
    /// Limit for queries whose session sets none.
    pub timeout: Option<Duration>,
    /// How long a submitted query can be fetched, and fetched again.
    pub ticket_lifetime: Duration,
    /// Submitted queries kept; beyond it the oldest are forgotten.
    pub submitted_max: usize,
    pub shadow: ShadowConfig,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::Rules,
            admission: AdmissionConfig::default(),
            timeout: None,
            ticket_lifetime: Duration::from_secs(600),
            submitted_max: 10_000,
            shadow: ShadowConfig::default(),
        }
    }
}

/// The program behind every front door.
pub struct Pipeline {
    planner: Planner,
    engines: Vec<Arc<dyn Engine>>,
    recorder: Recorder,
    catalog: Arc<dyn Catalog>,
    config: PipelineConfig,
    admission: Admission,
    submitted: DashMap<QueryId, Arc<SubmittedQuery>>,
    running: Registry,
    shadow: Arc<Shadow>,
    draining: AtomicBool,
}

/// A query between its ticket's making and its last fetch.
struct SubmittedQuery {
    text: String,
    statement: Statement,
    decision: Option<Decision>,
    session: SessionHandle,
    settings: Session,
    caller_token: Option<SecretToken>,
    traceparent: Option<String>,
    submitted: Instant,
    /// Taken by the first fetch.
    token: Mutex<Token>,
}

enum Token {
    Fresh(QueryToken<Planned>),
    Used,
}

impl Pipeline {
    pub fn new(
        planner: Planner,
        catalog: Arc<dyn Catalog>,
        engines: Vec<Arc<dyn Engine>>,
        recorder: Recorder,
        shadow_log: Arc<dyn ShadowLog>,
        config: PipelineConfig,
    ) -> Self {
        let shadow = Shadow::new(config.shadow.clone(), engines.clone(), shadow_log);
        let slots = engines.iter().map(|engine| (engine.id().clone(), engine.facts().slots));
        let admission = Admission::new(slots, config.admission.clone());
        Self {
            planner,
            engines,
            recorder,
            catalog,
            config,
            admission,
            submitted: DashMap::new(),
            running: Registry::default(),
            shadow,
            draining: AtomicBool::new(false),
        }
    }

    /// What every engine is now, for `system.engines`.
    pub fn engine_facts(&self) -> Vec<EngineFacts> {
        self.engines.iter().map(|engine| engine.facts()).collect()
    }

    pub fn running_queries(&self) -> usize {
        self.running.len()
    }

    /// Queries that wait for each engine's slot now.
    pub fn queued(&self) -> Vec<(EngineId, usize)> {
        self.admission.waiting()
    }

    /// Takes no new queries, waits for the running ones up to `limit`, cancels what is left then.
    /// True when none had to be cancelled.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.draining.store(true, Ordering::SeqCst);
        self.shadow.stop();
        self.submitted.clear();
        let until = Instant::now() + limit;
        while !self.running.is_empty() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let finished = self.running.is_empty();
        for query in self.running.iter() {
            query.cancel.cancel();
        }
        // Cancelled streams still have to be polled once by their connections.
        let grace = Instant::now() + Duration::from_secs(2);
        while !self.running.is_empty() && Instant::now() < grace {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        finished
    }

    /// Forgets submitted queries whose tickets have expired; called now and then.
    pub fn expire(&self) {
        let lifetime = self.config.ticket_lifetime;
        self.submitted.retain(|_, query| query.submitted.elapsed() < lifetime);
    }

    /// Brings the quarantine in line with the log's database: what others found, what was lifted.
    pub async fn synchronize_quarantine(&self) -> Result<()> {
        self.shadow.synchronize().await
    }

    fn check_open(&self) -> Result<()> {
        match self.draining.load(Ordering::SeqCst) {
            true => Err(Error::unavailable("the server is shutting down; connect to another one or try again shortly")),
            false => Ok(()),
        }
    }

    async fn plan(&self, request: &Request) -> Result<PlannedStatement> {
        let plan = PlanRequest {
            text: request.text.as_str().into(),
            session: request.settings.clone(),
            params: request.params.clone(),
            token: request.token.clone(),
        };
        let planning = self.planner.plan(&plan);
        match request.deadline {
            None => planning.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), planning)
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::DeadlineExceeded, "the deadline passed while the query was planned"))),
        }
    }

    /// The decision on a query, waiting a little for engines that are being restarted when they
    /// alone could run it.
    async fn decide(&self, query: &PlannedQuery, settings: &Session, deadline: Option<Instant>) -> Decision {
        let decision = self.route(query, settings);
        let recovering: Vec<EngineId> = decision
            .candidates
            .iter()
            .filter(|c| c.refusal.as_ref().is_some_and(|r| r.class == RefusalClass::Health))
            .map(|c| c.engine.clone())
            .collect();
        if decision.chosen().is_none() && wait_for_any(&self.engines, &recovering, deadline).await {
            return self.route(query, settings);
        }
        decision
    }

    fn route(&self, query: &PlannedQuery, settings: &Session) -> Decision {
        let refusal = |engine: &Arc<dyn Engine>| engine.eligible(query).err().or_else(|| self.shadow.refusal(query, engine.id()));
        let contenders: Vec<Contender> =
            self.engines.iter().map(|engine| Contender { facts: engine.facts(), refusal: refusal(engine) }).collect();
        let policy = Policy { strategy: self.config.strategy.clone(), pinned: settings.engine.clone() };
        route(&query.features, &contenders, &policy)
    }

    fn remember(&self, query_id: QueryId, query: SubmittedQuery) {
        if self.submitted.len() >= self.config.submitted_max {
            self.expire();
        }
        if self.submitted.len() >= self.config.submitted_max {
            self.forget_some();
        }
        self.submitted.insert(query_id, Arc::new(query));
    }

    /// Makes room for a while: what was fetched already goes first, then the oldest.
    fn forget_some(&self) {
        let used = |q: &SubmittedQuery| matches!(*q.token.lock(), Token::Used);
        let mut order: Vec<(bool, Instant, QueryId)> = self.submitted.iter().map(|q| (!used(&q), q.submitted, *q.key())).collect();
        order.sort_unstable();
        for (_, _, id) in order.iter().take(self.config.submitted_max / 10 + 1) {
            self.submitted.remove(id);
        }
    }

    fn find(&self, query_id: QueryId, principal: &Principal) -> Result<Arc<SubmittedQuery>> {
        let found = self.submitted.get(&query_id).map(|q| q.clone());
        found
            .filter(|q| q.settings.principal == *principal && q.submitted.elapsed() < self.config.ticket_lifetime)
            .ok_or_else(|| Error::not_found(format!("query {query_id} isn't known or its ticket has expired; execute it again")))
    }

    async fn start(
        &self,
        query_id: QueryId,
        ticket: QueryId,
        query: &SubmittedQuery,
        mut token: QueryToken<Planned>,
        deadline: Option<Instant>,
    ) -> Result<ResultStream> {
        let registered = Registered::enter(&self.running, query_id, ticket, query.settings.principal.clone());
        let cancelled = registered.cancel.clone();
        let schema = query.statement.schema();
        let span = token.span().clone();
        let work = async {
            match (&query.statement, &query.decision) {
                (Statement::Query(planned) | Statement::PassThrough(planned) | Statement::Write(planned), Some(decision)) => {
                    let execution = Execution {
                        query_id,
                        principal: query.settings.principal.clone(),
                        token: query.caller_token.clone(),
                        deadline,
                        traceparent: query.traceparent.clone(),
                    };
                    let tries = match &query.statement {
                        Statement::Write(_) => Tries::Once,
                        _ => Tries::UntilAnswered,
                    };
                    let running = run_until_first_batch(&self.engines, &self.admission, planned, decision, &execution, &mut token, tries);
                    let mut started = running.await?;
                    if tries == Tries::Once {
                        started = self.complete_write(started).await?;
                    }
                    let observed = self.shadow.observe(planned, decision, &started.engine, &execution);
                    Ok(Some((started, observed)))
                }
                (Statement::SetSession { assignments, .. }, _) => {
                    for (name, value) in assignments {
                        self.check_setting(&query.settings, name, value)?;
                        query.session.set(name, value)?;
                    }
                    Ok(None)
                }
                (Statement::ExplainRoute(_) | Statement::Local(_), _) => Ok(None),
                (Statement::Query(_) | Statement::PassThrough(_) | Statement::Write(_), None) => {
                    Err(Error::internal("a query without a decision"))
                }
            }
        };
        let work = work.instrument(span);
        let started = tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the query was cancelled")),
            () = sleep_until(deadline) => Err(Error::new(ErrorKind::DeadlineExceeded, "the query's deadline passed")),
            started = work => started,
        };
        let (first, rest, permit, waited_us, observed): (_, flightpath_engine::BatchStream, _, _, _) = match started {
            Ok(Some((Started { first, rest, permit, waited_us, engine: _ }, observed))) => (first, rest, Some(permit), waited_us, observed),
            Ok(None) => match local_batches(query) {
                Ok(batches) => (None, stream::iter(batches.into_iter().map(Ok)).boxed(), None, 0, None),
                Err(error) => {
                    token.fail(&error);
                    return Err(error);
                }
            },
            Err(error) => {
                token.fail(&error);
                return Err(error);
            }
        };
        let token = token.running(waited_us);
        let batches = StampedStream::new(schema.clone(), first, rest, token, deadline, registered, permit, observed);
        Ok(ResultStream { schema, batches: Box::pin(batches) })
    }
}

#[async_trait]
impl QueryService for Pipeline {
    async fn prepare(&self, request: &Request) -> Result<Prepared> {
        self.check_open()?;
        // A statement that can't be planned is never submitted: its record is written here.
        let traceparent = request.traceparent.as_deref();
        let planned = self.plan(request).instrument(trace::prepare(traceparent)).await.inspect_err(|error| {
            let id = QueryId::generate();
            QueryToken::receive(&self.recorder, id, &request.text, request.session.id.as_str(), &request.settings, traceparent).fail(error);
        })?;
        let changes_session = matches!(planned.statement, Statement::SetSession { .. });
        Ok(Prepared {
            schema: planned.statement.schema(),
            parameters: planned.parameters,
            is_query: !matches!(planned.statement, Statement::Write(_)),
            changes_session,
        })
    }

    async fn submit(&self, request: Request) -> Result<Submitted> {
        self.check_open()?;
        let query_id = QueryId::generate();
        let (session_id, traceparent) = (request.session.id.as_str(), request.traceparent.as_deref());
        let token = QueryToken::receive(&self.recorder, query_id, &request.text, session_id, &request.settings, traceparent);
        let planned = match self.plan(&request).instrument(token.span().clone()).await {
            Ok(planned) => planned,
            Err(error) => {
                token.fail(&error);
                return Err(error);
            }
        };
        let deciding = Instant::now();
        let query = match &planned.statement {
            Statement::Query(q) | Statement::ExplainRoute(q) | Statement::PassThrough(q) | Statement::Write(q) => Some(q.clone()),
            Statement::Local(_) | Statement::SetSession { .. } => None,
        };
        let span = trace::decide(token.span());
        let decision = match &query {
            Some(query) => Some(self.decide(query, &request.settings, request.deadline).instrument(span.clone()).await),
            None => None,
        };
        trace::decided(&span, decision.as_ref());
        drop(span);
        let token = token.planned(PlanSummary {
            statement_kind: planned.statement.kind().as_str(),
            fingerprint: query.as_ref().map(|q| q.fingerprint),
            features: query.as_ref().map(|q| q.features.clone()).unwrap_or_default(),
            cache_hit: planned.cache_hit,
            plan_us: planned.plan_us,
            decide_us: micros(deciding.elapsed()),
            decision: decision.clone(),
        });
        let runs = matches!(planned.statement, Statement::Query(_) | Statement::PassThrough(_) | Statement::Write(_));
        if let Some(error) = decision.as_ref().filter(|_| runs).and_then(refused) {
            token.fail(&error);
            return Err(error);
        }
        let submitted = describe(query_id, &planned.statement, decision.as_ref().filter(|_| runs));
        self.remember(
            query_id,
            SubmittedQuery {
                text: request.text,
                statement: planned.statement,
                decision,
                session: request.session,
                settings: request.settings,
                caller_token: request.token,
                traceparent: request.traceparent,
                submitted: Instant::now(),
                token: Mutex::new(Token::Fresh(token)),
            },
        );
        Ok(submitted)
    }

    async fn fetch(&self, query_id: QueryId, principal: &Principal, deadline: Option<Instant>) -> Result<ResultStream> {
        self.check_open()?;
        let query = self.find(query_id, principal)?;
        let limit = query.settings.timeout().or(self.config.timeout).and_then(|timeout| Instant::now().checked_add(timeout));
        let deadline = [deadline, limit].into_iter().flatten().min();
        let token = {
            let mut token = query.token.lock();
            match std::mem::replace(&mut *token, Token::Used) {
                Token::Fresh(fresh) => Some(fresh),
                Token::Used => None,
            }
        };
        let (execution_id, token) = match token {
            Some(token) => (query_id, token),
            None if matches!(query.statement, Statement::Write(_)) => {
                return Err(Error::invalid(
                    "this statement was run already and isn't run twice; execute it again if that's what is wanted",
                ));
            }
            None => self.replay_token(&query),
        };
        self.start(execution_id, query_id, &query, token, deadline).await
    }

    async fn cancel(&self, query_id: QueryId, principal: &Principal) -> Result<bool> {
        let waiting = |q: &SubmittedQuery| q.settings.principal == *principal && matches!(*q.token.lock(), Token::Fresh(_));
        let submitted = self.submitted.get(&query_id).is_some_and(|q| waiting(&q));
        self.submitted.remove_if(&query_id, |_, q| q.settings.principal == *principal);
        // The ticket may have been fetched more than once.
        let mut running = false;
        for query in self.running.iter().filter(|q| q.ticket == query_id && q.principal == *principal) {
            query.cancel.cancel();
            running = true;
        }
        Ok(submitted || running)
    }

    fn check_setting(&self, session: &Session, name: &str, value: &str) -> Result<()> {
        let mut trial = session.clone();
        trial.set(name, value)?;
        if let Some(engine) = trial.engine.as_ref().filter(|e| self.engines.iter().all(|known| known.id() != *e)) {
            let known: Vec<&str> = self.engines.iter().map(|e| e.id().as_str()).collect();
            return Err(Error::invalid(format!("there is no engine `{engine}`; engines are {} (or `auto`)", known.join(", "))));
        }
        if let Some(profile) = trial.profile.as_deref().filter(|p| *p != "default") {
            return Err(Error::invalid(format!("there is no profile `{profile}`; the only one is `default`")));
        }
        flightpath_planner::check_time_zone(&trial.time_zone)
    }

    fn catalog(&self) -> Arc<dyn Catalog> {
        self.catalog.clone()
    }
}

impl Pipeline {
    /// Waits for the end of a statement that changes something. Success is reported once every
    /// engine reads what it wrote.
    async fn complete_write(&self, mut started: Started) -> Result<Started> {
        let mut rest = Vec::new();
        while let Some(batch) = started.rest.next().await {
            rest.push(batch?);
        }
        self.catalog.refresh_all().await;
        started.rest = stream::iter(rest.into_iter().map(Ok)).boxed();
        Ok(started)
    }

    /// A record of its own for a ticket that is fetched again.
    fn replay_token(&self, query: &SubmittedQuery) -> (QueryId, QueryToken<Planned>) {
        let planned = match &query.statement {
            Statement::Query(q) | Statement::ExplainRoute(q) | Statement::PassThrough(q) | Statement::Write(q) => Some(q),
            Statement::Local(_) | Statement::SetSession { .. } => None,
        };
        let query_id = QueryId::generate();
        let token = QueryToken::receive(
            &self.recorder,
            query_id,
            &query.text,
            query.session.id.as_str(),
            &query.settings,
            query.traceparent.as_deref(),
        )
        .planned(PlanSummary {
            statement_kind: query.statement.kind().as_str(),
            fingerprint: planned.map(|q| q.fingerprint),
            features: planned.map(|q| q.features.clone()).unwrap_or_default(),
            cache_hit: true,
            plan_us: 0,
            decide_us: 0,
            decision: query.decision.clone(),
        });
        (query_id, token)
    }
}

/// The error of a decision that chose nobody.
fn refused(decision: &Decision) -> Option<Error> {
    if decision.chosen().is_some() {
        return None;
    }
    let has = |class| decision.candidates.iter().any(|c| c.refusal.as_ref().is_some_and(|r| r.class == class));
    let message = format!("not eligible: no engine may run this query: {}", decision.refusals_text());
    let kind = if has(RefusalClass::Health) {
        ErrorKind::Unavailable
    } else if has(RefusalClass::Governance) {
        ErrorKind::PermissionDenied
    } else {
        ErrorKind::NotEligible
    };
    Some(Error::new(kind, message))
}

fn describe(query_id: QueryId, statement: &Statement, decision: Option<&Decision>) -> Submitted {
    let chosen = decision.and_then(Decision::chosen);
    let numbers: Option<CandidateNumbers> = chosen.map(|c| c.numbers);
    let ordered = match statement {
        Statement::Query(q) => q.ordered,
        Statement::PassThrough(_)
        | Statement::Write(_)
        | Statement::ExplainRoute(_)
        | Statement::Local(_)
        | Statement::SetSession { .. } => true,
    };
    Submitted {
        query_id,
        schema: statement.schema(),
        engine: chosen.map(|c| c.engine.to_string()),
        reason: decision.map_or_else(|| "answered by the router itself".to_string(), |d| d.reason.clone()),
        predicted_ms: numbers.map(|n| n.latency_ms),
        predicted_usd: numbers.map(|n| n.usd),
        ordered,
    }
}

fn local_batches(query: &SubmittedQuery) -> Result<Vec<arrow::record_batch::RecordBatch>> {
    match (&query.statement, &query.decision) {
        (Statement::Local(LocalResult { batches, .. }), _) | (Statement::SetSession { shows: LocalResult { batches, .. }, .. }, _) => {
            Ok(batches.clone())
        }
        (Statement::ExplainRoute(_), Some(decision)) => Ok(vec![explain_route::rows(decision)?]),
        _ => Err(Error::internal("a statement without a result of its own")),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
