//! The calls, each read top to bottom: who asks, what for, the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_grpc::status_of;
use flightpath_pipeline::{Caller, DecisionWatch, QueryService};
use flightpath_proto::v1::query_api_server::QueryApi;
use flightpath_proto::v1::{
    GetQueryRequest, GetQueryResponse, ListEnginesRequest, ListEnginesResponse, ListQueriesRequest, ListQueriesResponse, RouteRequest,
    RouteResponse, WatchDecisionsRequest, WatchDecisionsResponse,
};
use flightpath_querylog::{PageKey, QueryHistory, Recorder};
use flightpath_types::{Error, ErrorKind, QueryId, Result};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::convert;
use crate::listing::{Listing, principal_in_scope, token};

/// A statement's text. Larger ones are for Flight SQL.
const SQL_BYTES_MAX: usize = 1 << 20;
const SETTINGS_MAX: usize = 32;
/// A query that has ended is in the record when it is read, unless the database is this far behind.
const CATCH_UP_MAX: Duration = Duration::from_millis(500);
/// Records read at once: each may hold 64 KiB of text.
const READ_MAX: usize = 100;
/// A page ends beyond this: clients take 4 MiB by default.
const PAGE_BYTES_MAX: usize = 2 << 20;

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct Service {
    queries: Arc<dyn QueryService>,
    history: Arc<dyn QueryHistory>,
    recorder: Recorder,
}

impl Service {
    pub fn new(queries: Arc<dyn QueryService>, history: Arc<dyn QueryHistory>, recorder: Recorder) -> Self {
        Self { queries, history, recorder }
    }

    async fn decide(&self, caller: &Caller, request: RouteRequest) -> Result<RouteResponse> {
        let RouteRequest { sql, settings } = request;
        if sql.len() > SQL_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("the statement has {} bytes; at most {SQL_BYTES_MAX} are taken here", sql.len()),
            ));
        }
        if settings.len() > SETTINGS_MAX {
            return Err(Error::invalid(format!("at most {SETTINGS_MAX} settings are taken, not {}", settings.len())));
        }
        let mut statement = caller.request(sql);
        let mut settings: Vec<(String, String)> = settings.into_iter().collect();
        // By name, so that `catalog` holds when `schema` is checked.
        settings.sort();
        for (name, value) in settings {
            for (name, value) in self.queries.resolve_setting(&statement.settings, &name, &value).await? {
                statement.settings.set(&name, &value)?;
            }
        }
        self.queries.route(&statement).await.map(convert::routed)
    }

    async fn one(&self, caller: &Caller, request: &GetQueryRequest) -> Result<GetQueryResponse> {
        let id = QueryId::parse(&request.query_id)
            .ok_or_else(|| Error::invalid(format!("`query_id` must be a query's id (a UUID), not '{}'", request.query_id)))?;
        self.recorder.flush(CATCH_UP_MAX).await;
        // Another's query and none are told alike.
        let found = self.history.query(id, self.queries.scope(&caller.principal)).await?;
        let record = found.ok_or_else(|| {
            Error::not_found(format!("there is no query {id} of yours in the record; one that still runs is there once it has ended"))
        })?;
        Ok(GetQueryResponse {
            decision: record.decision.as_ref().map(convert::decision),
            features: record.decision.is_some().then(|| convert::features(&record.features)),
            query: Some(convert::query(record, usize::MAX)),
        })
    }

    async fn page(&self, caller: &Caller, request: &ListQueriesRequest) -> Result<ListQueriesResponse> {
        let Listing { filter, mut after, page_size, text_bytes_max } = Listing::of(request, self.queries.scope(&caller.principal))?;
        // Later pages hold what was there when the first one was read.
        if after.is_none() {
            self.recorder.flush(CATCH_UP_MAX).await;
        }
        let (mut queries, mut bytes) = (Vec::new(), 0);
        loop {
            let wanted = (page_size - queries.len()).min(READ_MAX);
            let records = self.history.page(&filter, after, wanted).await?;
            let exhausted = records.len() < wanted;
            for record in records {
                if queries.len() == page_size || bytes > PAGE_BYTES_MAX {
                    break;
                }
                after = Some(PageKey::of(&record));
                let query = convert::query(record, text_bytes_max);
                bytes += query.encoded_len();
                queries.push(query);
            }
            if bytes <= PAGE_BYTES_MAX && exhausted {
                return Ok(ListQueriesResponse { queries, next_page_token: String::new() });
            }
            if bytes > PAGE_BYTES_MAX || queries.len() == page_size {
                let next_page_token = after.map(|key| token(key, &filter)).unwrap_or_default();
                return Ok(ListQueriesResponse { queries, next_page_token });
            }
        }
    }
}

#[tonic::async_trait]
impl QueryApi for Service {
    type WatchDecisionsStream = BoxStream<'static, Result<WatchDecisionsResponse, Status>>;

    async fn route(&self, request: Request<RouteRequest>) -> Answer<RouteResponse> {
        let (caller, request) = parts(request)?;
        self.decide(&caller, request).await.map(Response::new).map_err(|e| status_of(&e))
    }

    async fn get_query(&self, request: Request<GetQueryRequest>) -> Answer<GetQueryResponse> {
        let (caller, request) = parts(request)?;
        self.one(&caller, &request).await.map(Response::new).map_err(|e| status_of(&e))
    }

    async fn list_queries(&self, request: Request<ListQueriesRequest>) -> Answer<ListQueriesResponse> {
        let (caller, request) = parts(request)?;
        self.page(&caller, &request).await.map(Response::new).map_err(|e| status_of(&e))
    }

    async fn list_engines(&self, request: Request<ListEnginesRequest>) -> Answer<ListEnginesResponse> {
        parts(request)?;
        let engines = self.queries.engines().into_iter().map(convert::engine).collect();
        Ok(Response::new(ListEnginesResponse { engines }))
    }

    async fn watch_decisions(&self, request: Request<WatchDecisionsRequest>) -> Answer<Self::WatchDecisionsStream> {
        let (caller, request) = parts(request)?;
        principal_in_scope(&request.principal, self.queries.scope(&caller.principal)).map_err(|e| status_of(&e))?;
        let watch = self.queries.watch(&caller.principal).map_err(|e| status_of(&e))?;
        let watching = Watching { watch, wanted: request, deadline: caller.deadline, lost: 0 };
        Ok(Response::new(stream::unfold(Some(watching), next_decision).boxed()))
    }
}

/// One stream of decisions.
struct Watching {
    watch: DecisionWatch,
    wanted: WatchDecisionsRequest,
    deadline: Option<Instant>,
    /// Lost before decisions that weren't wanted.
    lost: u64,
}

/// `None` for the state after the last message.
async fn next_decision(state: Option<Watching>) -> Option<(Result<WatchDecisionsResponse, Status>, Option<Watching>)> {
    let mut watching = state?;
    loop {
        let next = match watching.deadline {
            None => watching.watch.next().await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), watching.watch.next()).await {
                Ok(next) => next,
                Err(_) => {
                    let error = Error::new(ErrorKind::DeadlineExceeded, "the watch's deadline passed");
                    return Some((Err(status_of(&error)), None));
                }
            },
        };
        let Some(watched) = next else {
            let error = Error::unavailable("the server is shutting down; watch another one or try again shortly");
            return Some((Err(status_of(&error)), None));
        };
        watching.lost += watched.lost;
        let WatchDecisionsRequest { engine, tag, principal } = &watching.wanted;
        let decided = watched.event.decision.chosen().map(|c| c.engine.as_str());
        let wanted = (engine.is_empty() || decided == Some(engine))
            && (tag.is_empty() || watched.event.tag.as_ref() == Some(tag))
            && (principal.is_empty() || watched.event.principal.as_str() == principal);
        if wanted {
            let message = convert::watched(&watched, std::mem::take(&mut watching.lost));
            return Some((Ok(message), Some(watching)));
        }
    }
}

/// The caller that the listener found, and the message.
fn parts<T>(mut request: Request<T>) -> Result<(Caller, T), Status> {
    match request.extensions_mut().remove::<Caller>() {
        Some(caller) => Ok((caller, request.into_inner())),
        None => Err(status_of(&Error::new(ErrorKind::Unauthenticated, "the call wasn't authenticated"))),
    }
}
