//! The way of a query, top to bottom: prepare or submit (plan, decide), fetch (admit, run, fail
//! over, stream), cancel, drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use flightpath_catalog::Catalog;
use flightpath_engine::{Engine, Execution};
use flightpath_plan::Statement;
use flightpath_planner::{PlanRequest, Planned as PlannedStatement, Planner};
use flightpath_querylog::{Recorder, ShadowLog};
use flightpath_router::{DEFAULT_PROFILE, Predictor, Profile};
use flightpath_types::{EngineFacts, Error, ErrorKind, Principal, QueryId, Result, Session};
use futures::{StreamExt, stream};
use parking_lot::RwLock;
use tracing::Instrument;

use crate::administrators::Administrators;
use crate::admission::Admission;
use crate::config::{DataPrices, LiveConfig, PipelineConfig};
use crate::decide::{is_governed, refused};
use crate::learn::{Bill, Lesson};
use crate::lifecycle::{PlanSummary, Planned, QueryToken, micros};
use crate::places::Places;
use crate::policy::Policies;
use crate::port::{Ends, Prepared, QueryService, Request, ResultStream, Routed, Submitted};
use crate::run::{Runner, Started, Tries};
use crate::shadow::Shadow;
use crate::stream::{Begun, Registered, Registry, StampedStream};
use crate::submitted::{SubmittedQueries, SubmittedQuery, describe, local_batches, planned_of};
use crate::trace;
use crate::watch::{DecisionHub, DecisionWatch};

/// How long a drain waits for clients to fetch what they have just submitted.
const FETCH_GRACE: Duration = Duration::from_secs(1);

/// The program behind every front door.
pub struct Pipeline {
    planner: Planner,
    pub(crate) runner: Runner,
    recorder: Recorder,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) policies: Policies,
    pub(crate) predictor: Arc<Predictor>,
    timeout: RwLock<Option<Duration>>,
    submitted: SubmittedQueries,
    running: Registry,
    pub(crate) shadow: Arc<Shadow>,
    watchers: Arc<DecisionHub>,
    administrators: Arc<Administrators>,
    places: Places,
    draining: AtomicBool,
    /// Statements that are being planned and decided on.
    submitting: AtomicUsize,
}

/// Counts a statement for as long as it is being submitted.
struct Submitting<'a>(&'a AtomicUsize);

impl<'a> Submitting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Submitting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Pipeline {
    pub fn new(
        planner: Planner,
        catalog: Arc<dyn Catalog>,
        engines: Vec<Arc<dyn Engine>>,
        recorder: Recorder,
        shadow_log: Arc<dyn ShadowLog>,
        predictor: Arc<Predictor>,
        config: PipelineConfig,
    ) -> Self {
        let submitted = SubmittedQueries::new(config.ticket_lifetime, config.submitted_max);
        let LiveConfig { profiles, admission, escalation, shadow, timeout, data_prices, administrators: named } = config.live;
        let admission = Arc::new(Admission::new(engines.iter().map(|engine| engine.id().clone()), admission));
        let shadow = Shadow::new(shadow, engines.clone(), admission.clone(), shadow_log, predictor.clone());
        let administrators = config.administrators;
        administrators.replace(named);
        let runner = Runner::new(engines, predictor.clone(), admission, config.hold, escalation, data_prices);
        Self {
            planner,
            runner,
            recorder,
            catalog,
            policies: Policies::new(profiles),
            predictor,
            timeout: RwLock::new(timeout),
            submitted,
            running: Registry::default(),
            shadow,
            watchers: Arc::new(DecisionHub::new(administrators.clone())),
            administrators,
            places: Places::default(),
            draining: AtomicBool::new(false),
            submitting: AtomicUsize::new(0),
        }
    }

    /// Takes on new settings, already checked, for whoever comes from now on.
    pub fn configure(&self, live: LiveConfig) {
        self.policies.replace(live.profiles);
        self.runner.configure(live.admission, live.escalation, live.data_prices);
        self.shadow.configure(live.shadow);
        *self.timeout.write() = live.timeout;
        self.administrators.replace(live.administrators);
    }

    /// What every engine is now, for `system.engines`.
    pub fn engine_facts(&self) -> Vec<EngineFacts> {
        self.runner.engines.iter().map(|engine| self.runner.facts(engine.as_ref())).collect()
    }

    /// What the log says every profile has spent on a day (since the epoch, in UTC), by all routers. It has
    /// all that was recorded here before `recorded`, where that's known.
    pub fn learn_spending(&self, day: u64, spent: impl IntoIterator<Item = (String, f64)>, recorded: Option<Instant>) {
        self.policies.learn(day, spent, recorded);
    }

    /// What moving data costs, as the settings say now.
    pub fn data_prices(&self) -> DataPrices {
        self.runner.data_prices()
    }

    /// Planned queries whose plan was remembered, and the others.
    pub fn plan_cache_lookups(&self) -> (u64, u64) {
        self.planner.cache_lookups()
    }

    pub fn running_queries(&self) -> usize {
        self.running.len()
    }

    /// Takes no new queries, waits for the running ones up to `limit`, cancels what is left then.
    /// True when none had to be cancelled.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.draining.store(true, Ordering::SeqCst);
        self.shadow.stop();
        self.watchers.close();
        let until = Instant::now() + limit;
        // What was taken before is planned and answered.
        while self.submitting.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A client between its two calls: its query was taken, and its answer is on the way to be fetched.
        let fetching = (Instant::now() + FETCH_GRACE).min(until);
        while self.submitted.waits_for_fetch(FETCH_GRACE) && Instant::now() < fetching {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.submitted.clear();
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

    /// Forgets submitted queries whose tickets have expired, and looks at the engines, after which nobody
    /// may have asked; called every second or so.
    pub fn look_around(&self) {
        self.submitted.expire();
        self.runner.look();
        self.runner.health.forget();
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

    /// The most time that the server may work on a statement of this session: a session may ask for less than
    /// its profile allows, but for no more.
    fn time_limit(&self, settings: &Session) -> Option<Duration> {
        let of_profile = self.policies.profile(settings).ok().and_then(|profile| profile.limits.timeout);
        [settings.timeout(), of_profile].into_iter().flatten().min().or(*self.timeout.read())
    }

    /// Until when a statement that begins now may be worked on.
    pub(crate) fn limit_of(&self, request: &Request) -> Option<Instant> {
        let limit = self.time_limit(&request.settings).and_then(|limit| Instant::now().checked_add(limit));
        [request.deadline, limit].into_iter().flatten().min()
    }

    pub(crate) async fn plan(&self, request: &Request) -> Result<PlannedStatement> {
        let plan = PlanRequest {
            text: request.text.as_str().into(),
            session: request.settings.clone(),
            params: request.params.clone(),
            token: request.token.clone(),
        };
        let planning = self.planner.plan(&plan);
        match self.limit_of(request) {
            None => planning.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), planning)
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::DeadlineExceeded, "the deadline passed while the query was planned"))),
        }
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
                        findings: Arc::default(),
                    };
                    let tries = match &query.statement {
                        Statement::Write(_) => Tries::Once,
                        _ => Tries::UntilAnswered,
                    };
                    // Of what only Databricks understands nothing is known to learn from.
                    let learns = matches!(query.statement, Statement::Query(_));
                    let run = self.runner.run(planned, decision, &execution, &mut token, tries, learns).await;
                    let renewed = match &run {
                        Err(error) => self.replanned(query_id, query, planned, error).await,
                        Ok(_) => None,
                    };
                    let (mut started, planned, decision) = match (&renewed, run) {
                        (Some((planned, decision)), Err(error)) => {
                            token.replanned(&error, &planned.features, decision, is_governed(planned));
                            (self.runner.run(planned, decision, &execution, &mut token, tries, learns).await?, planned, decision)
                        }
                        (_, run) => (run?, planned, decision),
                    };
                    if tries == Tries::Once {
                        started = self.complete_write(started).await?;
                    }
                    let observed = self.shadow.observe(planned, decision, &started.facts.id, &execution);
                    let lesson = Lesson::of(&self.predictor, planned, started.facts.clone(), started.took, started.findings.clone());
                    let lesson = lesson.filter(|_| learns);
                    Ok(Some((started, observed, lesson)))
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
        let scan_bytes = query.planned().map_or(0, |planned| planned.features.scan_bytes);
        let begun = match started {
            Ok(Some((started, observed, lesson))) => {
                let bill = Bill { facts: started.facts, scan_bytes, findings: started.findings };
                // An engine that has nothing more to do for it has room for others, however slowly it is read.
                let permit = match started.ended {
                    true => {
                        started.permit.give_back(bill.settle(micros(started.took), 0).1);
                        None
                    }
                    false => Some(started.permit),
                };
                Ok(Begun {
                    first: started.first,
                    rest: started.rest,
                    permit,
                    observed,
                    lesson,
                    bill: Some(bill),
                    waited_us: started.waited_us,
                    took: started.took,
                })
            }
            Ok(None) => local_batches(query).map(Begun::local),
            Err(error) => Err(error),
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(error) => {
                token.fail(&error);
                return Err(error);
            }
        };
        let findings = begun.bill.as_ref().map(|bill| bill.findings.clone());
        let token = token.running(begun.waited_us, micros(begun.took), findings);
        let batches = StampedStream::new(schema.clone(), begun, token, deadline, registered, query.limits.rows_max);
        Ok(ResultStream { schema, batches: Box::pin(batches), ends: Ends { cancelled, deadline } })
    }
}

#[async_trait]
impl QueryService for Pipeline {
    async fn prepare(&self, request: &Request) -> Result<Prepared> {
        self.check_open()?;
        // A statement that can't be planned is never submitted: its record is written here.
        let (begun, traceparent) = (Instant::now(), request.traceparent.as_deref());
        let span = trace::prepare(traceparent);
        let context = trace::context_of(&span);
        let planned = self.plan(request).instrument(span.clone()).await;
        trace::executed(&span, Some(&planned));
        drop(span);
        let planned = planned.inspect_err(|error| {
            let id = QueryId::generate();
            QueryToken::receive(&self.recorder, id, &request.text, request.session.id.as_str(), &request.settings, traceparent)
                .begun(begun)
                .fail(error);
        })?;
        let changes_session = matches!(planned.statement, Statement::SetSession { .. });
        Ok(Prepared {
            schema: planned.statement.schema(),
            parameters: planned.parameters,
            is_query: !matches!(planned.statement, Statement::Write(_)),
            changes_session,
            trace: context,
        })
    }

    async fn submit(&self, request: Request) -> Result<Submitted> {
        let _submitting = Submitting::begin(&self.submitting);
        // Only now: one that is let in is waited for by a drain.
        self.check_open()?;
        let begun = Instant::now();
        let query_id = QueryId::generate();
        let (session_id, traceparent) = (request.session.id.as_str(), request.traceparent.as_deref());
        let token = QueryToken::receive(&self.recorder, query_id, &request.text, session_id, &request.settings, traceparent);
        trace::prepared_in(token.span(), request.prepared_in.as_deref());
        let planned = match self.plan(&request).instrument(token.span().clone()).await {
            Ok(planned) => planned,
            Err(error) => {
                token.fail(&error);
                return Err(error);
            }
        };
        let query = planned_of(&planned.statement).cloned();
        let profile = match self.policies.profile(&request.settings) {
            Ok(profile) => profile,
            // Of a session whose profile was taken away: it may still choose another.
            Err(_) if query.is_none() => Arc::new(Profile::named("none")),
            Err(error) => {
                token.fail(&error);
                return Err(error);
            }
        };
        let deciding = Instant::now();
        let span = trace::decide(token.span());
        let runs = matches!(planned.statement, Statement::Query(_) | Statement::PassThrough(_) | Statement::Write(_));
        let (decision, charge) = match &query {
            Some(query) if runs => {
                let (decision, charge) = self.decide_and_charge(query_id, query, &request, &profile).instrument(span.clone()).await;
                (Some(decision), charge)
            }
            Some(query) => {
                let policy = self.policies.policy(&profile, &request.settings);
                (Some(self.decide(query_id, query, &request, &policy).instrument(span.clone()).await), None)
            }
            None => (None, None),
        };
        trace::decided(&span, decision.as_ref());
        drop(span);
        let mut token = token.planned(PlanSummary {
            statement_kind: planned.statement.kind().as_str(),
            fingerprint: query.as_ref().map(|q| q.fingerprint),
            features: query.as_ref().map(|q| q.features.clone()).unwrap_or_default(),
            cache_hit: planned.cache_hit,
            plan_us: planned.plan_us,
            decide_us: micros(deciding.elapsed()),
            decision: decision.clone(),
            governed: query.as_ref().is_some_and(|query| is_governed(query)),
        });
        if let (Some(query), Some(decision)) = (&query, &decision) {
            let kind = planned.statement.kind().as_str();
            self.watchers.publish(query_id, &request.text, kind, Some(query.fingerprint), &request.settings, decision);
        }
        token.charged(charge);
        if let Some(error) = decision.as_ref().filter(|_| runs).and_then(|d| refused(d, request.settings.engine.as_ref())) {
            token.refuse(&error);
            return Err(error);
        }
        let submitted = describe(query_id, &planned.statement, decision.as_ref().filter(|_| runs));
        let query = SubmittedQuery::new(
            request.text,
            request.params,
            planned.statement,
            decision,
            request.session,
            request.settings,
            request.token,
            request.traceparent,
            profile.limits,
            begun.elapsed(),
            token,
        );
        self.submitted.insert(query_id, query);
        Ok(submitted)
    }

    async fn fetch(&self, query_id: QueryId, principal: &Principal, deadline: Option<Instant>) -> Result<ResultStream> {
        // While the server drains, what was taken before can still be fetched; then it's forgotten.
        let query = match self.submitted.find(query_id, principal) {
            Ok(query) => query,
            Err(error) => {
                self.check_open()?;
                return Err(error);
            }
        };
        let limit = self.time_limit(&query.settings).and_then(|limit| Instant::now().checked_add(limit.saturating_sub(query.spent)));
        let deadline = [deadline, limit].into_iter().flatten().min();
        let (execution_id, token) = match query.take_token() {
            Some(token) => (query_id, token),
            None if matches!(query.statement, Statement::Write(_)) => {
                return Err(Error::invalid(
                    "this statement was run already and isn't run twice; execute it again if that's what is wanted",
                ));
            }
            None => self.replay_token(&query)?,
        };
        self.start(execution_id, query_id, &query, token, deadline).await
    }

    async fn cancel(&self, query_id: QueryId, principal: &Principal) -> Result<bool> {
        let submitted = self.submitted.withdraw(query_id, principal);
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
        if let Some(engine) = trial.engine.as_ref().filter(|e| self.runner.engines.iter().all(|known| known.id() != *e)) {
            let known: Vec<&str> = self.runner.engines.iter().map(|e| e.id().as_str()).collect();
            return Err(Error::invalid(format!("there is no engine `{engine}`; engines are {} (or `auto`)", known.join(", "))));
        }
        if let Some(profile) = trial.profile.as_deref().filter(|_| name == "profile") {
            self.policies.check(profile)?;
            self.policies.profile(&trial)?;
        }
        flightpath_planner::check_time_zone(&trial.time_zone)
    }

    async fn resolve_setting(&self, session: &Session, name: &str, value: &str) -> Result<Vec<(String, String)>> {
        self.check_setting(session, name, value)?;
        if !matches!(name, "catalog" | "schema") || value.trim().is_empty() {
            return self.planner.setting(session, name, value).await;
        }
        self.places.resolve(&self.planner, session, name, value).await
    }

    fn catalog(&self) -> Arc<dyn Catalog> {
        self.catalog.clone()
    }

    async fn route(&self, request: &Request) -> Result<Routed> {
        self.check_open()?;
        let span = trace::prepare(request.traceparent.as_deref());
        let planned = self.plan(request).instrument(span.clone()).await;
        trace::executed(&span, Some(&planned));
        drop(span);
        let planned = planned?;
        let profile = self.policies.profile(&request.settings)?;
        let policy = self.policies.policy(&profile, &request.settings);
        let query = planned_of(&planned.statement).cloned();
        let deciding = Instant::now();
        let decision = query.as_ref().map(|query| self.candidates(QueryId::generate(), query, &request.settings, &policy));
        Ok(Routed {
            statement_kind: planned.statement.kind().as_str(),
            schema: planned.statement.schema(),
            fingerprint: query.as_ref().map(|q| q.fingerprint),
            features: query.map(|q| q.features.clone()).unwrap_or_default(),
            decision,
            plan_cache_hit: planned.cache_hit,
            plan_us: planned.plan_us,
            decide_us: micros(deciding.elapsed()),
        })
    }

    fn engines(&self) -> Vec<EngineFacts> {
        self.engine_facts()
    }

    fn scope<'a>(&self, principal: &'a Principal) -> Option<&'a str> {
        self.administrators.scope(principal)
    }

    fn watch(&self, principal: &Principal) -> Result<DecisionWatch> {
        let watch = self.watchers.watch(principal)?;
        // Only now: a watch that begins during the drain would never be ended.
        self.check_open()?;
        Ok(watch)
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

    /// A record of its own for a ticket that is fetched again, if its profile has something left for it.
    fn replay_token(&self, query: &SubmittedQuery) -> Result<(QueryId, QueryToken<Planned>)> {
        let planned = query.planned();
        let query_id = QueryId::generate();
        let mut token = QueryToken::receive(
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
            governed: planned.is_some_and(|query| is_governed(query)),
        });
        if let Some((decision, chosen)) = query.decision.as_ref().and_then(|d| Some((d, d.chosen()?))) {
            let profile = decision.profile.as_deref().unwrap_or(DEFAULT_PROFILE);
            match self.policies.charge_again(profile, &chosen.engine, &query.settings, chosen.numbers.usd) {
                Ok(charge) => token.charged(charge),
                Err(error) => {
                    token.refuse(&error);
                    return Err(error);
                }
            }
        }
        Ok((query_id, token))
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
