//! Queries between their tickets' making and their last fetch: bounded in number and in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use datafusion::common::ScalarValue;
use flightpath_plan::{LocalResult, PlannedQuery, Statement};
use flightpath_router::ProfileLimits;
use flightpath_types::{CandidateNumbers, Decision, Error, Principal, QueryId, Result, SecretToken, Session};
use parking_lot::Mutex;

use crate::explain_route;
use crate::lifecycle::{Planned, QueryToken};
use crate::port::{SessionHandle, Submitted};

/// One submitted query.
pub(crate) struct SubmittedQuery {
    pub text: String,
    /// Values of its parameters.
    pub params: Option<Vec<ScalarValue>>,
    pub statement: Statement,
    pub decision: Option<Decision>,
    pub session: SessionHandle,
    pub settings: Session,
    pub caller_token: Option<SecretToken>,
    pub traceparent: Option<String>,
    /// Its profile's.
    pub limits: ProfileLimits,
    pub submitted: Instant,
    /// What planning and deciding took of its time limit. The time until it's fetched is the client's.
    pub spent: Duration,
    token: Mutex<Token>,
}

enum Token {
    /// Boxed: a used one should cost little.
    Fresh(Box<QueryToken<Planned>>),
    Used,
}

impl SubmittedQuery {
    pub fn new(
        text: String,
        params: Option<Vec<ScalarValue>>,
        statement: Statement,
        decision: Option<Decision>,
        session: SessionHandle,
        settings: Session,
        caller_token: Option<SecretToken>,
        traceparent: Option<String>,
        limits: ProfileLimits,
        spent: Duration,
        token: QueryToken<Planned>,
    ) -> Self {
        let token = Mutex::new(Token::Fresh(Box::new(token)));
        Self {
            text,
            params,
            statement,
            decision,
            session,
            settings,
            caller_token,
            traceparent,
            limits,
            submitted: Instant::now(),
            spent,
            token,
        }
    }

    /// The record in the making, for the first fetch; `None` for a later one.
    pub fn take_token(&self) -> Option<QueryToken<Planned>> {
        match std::mem::replace(&mut *self.token.lock(), Token::Used) {
            Token::Fresh(token) => Some(*token),
            Token::Used => None,
        }
    }

    pub fn is_fresh(&self) -> bool {
        matches!(*self.token.lock(), Token::Fresh(_))
    }

    /// What engines would run; `None` for what the router answers itself.
    pub fn planned(&self) -> Option<&Arc<PlannedQuery>> {
        planned_of(&self.statement)
    }
}

/// The planned query of a statement that has one.
pub(crate) fn planned_of(statement: &Statement) -> Option<&Arc<PlannedQuery>> {
    match statement {
        Statement::Query(q) | Statement::ExplainRoute(q) | Statement::PassThrough(q) | Statement::Write(q) => Some(q),
        Statement::Local(_) | Statement::SetSession { .. } => None,
    }
}

pub(crate) struct SubmittedQueries {
    queries: DashMap<QueryId, Arc<SubmittedQuery>>,
    lifetime: Duration,
    max: usize,
}

impl SubmittedQueries {
    pub fn new(lifetime: Duration, max: usize) -> Self {
        Self { queries: DashMap::new(), lifetime, max }
    }

    pub fn insert(&self, query_id: QueryId, query: SubmittedQuery) {
        if self.queries.len() >= self.max {
            self.expire();
        }
        if self.queries.len() >= self.max {
            self.forget_some();
        }
        self.queries.insert(query_id, Arc::new(query));
    }

    /// Forgets those whose tickets have expired.
    pub fn expire(&self) {
        self.queries.retain(|_, query| query.submitted.elapsed() < self.lifetime);
    }

    /// Whether some query was submitted within this time and hasn't been fetched.
    pub fn waits_for_fetch(&self, within: Duration) -> bool {
        self.queries.iter().any(|query| query.submitted.elapsed() < within && query.is_fresh())
    }

    pub fn clear(&self) {
        self.queries.clear();
    }

    /// Makes room for a while: what was fetched already goes first, then the oldest.
    fn forget_some(&self) {
        let mut order: Vec<(bool, Instant, QueryId)> = self.queries.iter().map(|q| (q.is_fresh(), q.submitted, *q.key())).collect();
        order.sort_unstable();
        for (_, _, id) in order.iter().take(self.max / 10 + 1) {
            self.queries.remove(id);
        }
    }

    pub fn find(&self, query_id: QueryId, principal: &Principal) -> Result<Arc<SubmittedQuery>> {
        let found = self.queries.get(&query_id).map(|q| q.clone());
        found
            .filter(|q| q.settings.principal == *principal && q.submitted.elapsed() < self.lifetime)
            .ok_or_else(|| Error::not_found(format!("query {query_id} isn't known or its ticket has expired; execute it again")))
    }

    /// Takes back a query; true when it was this principal's and nobody had fetched it yet.
    pub fn withdraw(&self, query_id: QueryId, principal: &Principal) -> bool {
        let fresh = self.queries.get(&query_id).is_some_and(|q| q.settings.principal == *principal && q.is_fresh());
        self.queries.remove_if(&query_id, |_, q| q.settings.principal == *principal);
        fresh
    }
}

/// What the client is told of a statement before it fetches.
pub(crate) fn describe(query_id: QueryId, statement: &Statement, decision: Option<&Decision>) -> Submitted {
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

/// The result of a statement that no engine runs.
pub(crate) fn local_batches(query: &SubmittedQuery) -> Result<Vec<arrow::record_batch::RecordBatch>> {
    match (&query.statement, &query.decision) {
        (Statement::Local(LocalResult { batches, .. }), _) | (Statement::SetSession { shows: LocalResult { batches, .. }, .. }, _) => {
            Ok(batches.clone())
        }
        (Statement::ExplainRoute(_), Some(decision)) => Ok(vec![explain_route::rows(decision)?]),
        _ => Err(Error::internal("a statement without a result of its own")),
    }
}
