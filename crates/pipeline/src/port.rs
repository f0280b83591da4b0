//! What a front door may ask of the program. A front door speaks a protocol and knows who asks;
//! everything a query means is behind this trait.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use flightpath_catalog::Catalog;
use flightpath_types::{
    Decision, EngineFacts, Error, ErrorKind, Features, Fingerprint, Principal, QueryId, Result, SecretToken, Session, SessionId,
};
use futures::Stream;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::watch::DecisionWatch;

/// What a front door may ask.
#[async_trait]
pub trait QueryService: Send + Sync {
    /// Plans without running: for prepare and schema.
    async fn prepare(&self, request: &Request) -> Result<Prepared>;

    /// Plans, decides and registers a query to be fetched: its id goes into a ticket.
    async fn submit(&self, request: Request) -> Result<Submitted>;

    /// Runs a submitted query; again, if its ticket is replayed within its lifetime. Only the
    /// principal who submitted it may. The first batch has been seen when this returns.
    async fn fetch(&self, query_id: QueryId, principal: &Principal, deadline: Option<Instant>) -> Result<ResultStream>;

    /// Cancels one query of this principal; false when it isn't known or has ended.
    async fn cancel(&self, query_id: QueryId, principal: &Principal) -> Result<bool>;

    /// Keeps a submitted query for another lifetime, so that its ticket may be renewed.
    async fn renew(&self, _query_id: QueryId, _principal: &Principal) -> Result<()> {
        Err(Error::not_eligible("results are kept for one lifetime only: run the statement again"))
    }

    /// Checks a session setting before it is stored: the engine and time zone exist...
    fn check_setting(&self, session: &Session, name: &str, value: &str) -> Result<()>;

    /// What a setting comes to, for a front door that sets it without a statement: names and values
    /// as they are to be stored, in order. `NotFound` where it names a place that isn't there.
    async fn resolve_setting(&self, session: &Session, name: &str, value: &str) -> Result<Vec<(String, String)>> {
        self.check_setting(session, name, value)?;
        Ok(vec![(name.to_string(), value.to_string())])
    }

    fn catalog(&self) -> Arc<dyn Catalog>;

    /// Plans and decides, runs nothing and keeps no record. That every engine refuses is a decision,
    /// not an error.
    async fn route(&self, _request: &Request) -> Result<Routed> {
        Err(Error::not_eligible("decisions can't be asked for here"))
    }

    /// What every engine is now.
    fn engines(&self) -> Vec<EngineFacts> {
        Vec::new()
    }

    /// Whose queries this principal may see: its own name, or everybody's for `None`.
    fn scope<'a>(&self, principal: &'a Principal) -> Option<&'a str> {
        Some(principal.as_str())
    }

    /// Decisions on the queries that this principal may see, from now on. `ResourceExhausted` when too many are watching.
    fn watch(&self, _principal: &Principal) -> Result<DecisionWatch> {
        Err(Error::not_eligible("decisions can't be watched here"))
    }
}

/// A session that outlives one call; `SET` and `USE` change it. Clones share it.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    pub id: SessionId,
    settings: Arc<RwLock<Session>>,
}

impl SessionHandle {
    pub fn new(id: SessionId, session: Session) -> Self {
        Self { id, settings: Arc::new(RwLock::new(session)) }
    }

    /// The settings now.
    pub fn settings(&self) -> Session {
        self.settings.read().clone()
    }

    /// Whether anyone holds a clone of this handle.
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.settings) > 1
    }

    /// Sets one setting for all later calls.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.settings.write().set(name, value)
    }
}

/// One statement as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub text: String,
    /// One value per `?`, in order; `None` before they are bound.
    pub params: Option<Vec<ScalarValue>>,
    pub session: SessionHandle,
    /// The session's settings with this call's own on top.
    pub settings: Session,
    /// The credential the caller showed, for engines that act in its name.
    pub token: Option<SecretToken>,
    pub deadline: Option<Instant>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The trace context in which the statement was prepared, where the query isn't a child of that.
    pub prepared_in: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Prepared {
    /// What the client is promised.
    pub schema: SchemaRef,
    /// One field per parameter.
    pub parameters: SchemaRef,
    pub is_query: bool,
    /// `SET` and `USE`: may be executed as an update too.
    pub changes_session: bool,
    /// The trace context of its planning, for those who run it; `None` where none is recorded.
    pub trace: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Submitted {
    pub query_id: QueryId,
    pub schema: SchemaRef,
    /// `None` for statements that no engine runs (`SET`, `SHOW`).
    pub engine: Option<String>,
    pub reason: String,
    pub predicted_ms: Option<f64>,
    pub predicted_usd: Option<f64>,
    /// Rows have an order that is part of the answer.
    pub ordered: bool,
}

/// A decision that was only asked for.
#[derive(Debug, Clone)]
pub struct Routed {
    /// `query`, `show`, `set`...
    pub statement_kind: &'static str,
    /// What the client would be promised.
    pub schema: SchemaRef,
    pub fingerprint: Option<Fingerprint>,
    pub features: Features,
    /// `None` for statements that no engine runs (`SET`, `SHOW`).
    pub decision: Option<Decision>,
    pub plan_cache_hit: bool,
    pub plan_us: u64,
    pub decide_us: u64,
}

/// Batches of exactly `schema`. Dropping it cancels the query.
pub struct ResultStream {
    pub schema: SchemaRef,
    pub batches: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
    pub ends: Ends,
}

/// What ends a result before its time. Its stream looks at these only when it is asked for a batch: whoever
/// waits for the client meanwhile has to look for itself.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// Somebody cancelled the query, or the server's drain is over.
    pub cancelled: CancellationToken,
    /// The soonest of what caller, session, profile and server allow.
    pub deadline: Option<Instant>,
}

impl Ends {
    /// Resolves once the result has to end, to the reason.
    pub async fn reached(&self) -> Error {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Error::new(ErrorKind::Cancelled, "the query was cancelled"),
            () = deadline => Error::new(ErrorKind::DeadlineExceeded, "the query's deadline passed"),
        }
    }
}
