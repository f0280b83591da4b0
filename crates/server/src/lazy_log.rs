//! A log database that may be down when the server starts: opened at the first use, and tried
//! again at the next. Meanwhile records wait in the spool. One that vanishes later, without so much as
//! a reset, isn't waited for longer than an answer may take.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flightpath_querylog::{
    Baseline, Cost, DaySavings, KeptModel, LogStore, ModelStore, PageRequest, QueryHistory, ShadowFilter, ShadowKey, ShadowLog, Store,
    Unreconciled,
};
use flightpath_types::{CandidateRecord, EngineId, Error, Fingerprint, Quarantined, QueryId, QueryRecord, Result, ShadowRun};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The same for what goes through much of a large database.
const LONG_ANSWER_MAX: Duration = Duration::from_secs(300);
/// Opening may bring a large database's tables up to date.
const OPEN_MAX: Duration = Duration::from_secs(3600);

pub(crate) struct LazyLog {
    url: String,
    /// The attempt to open it that is under way, or was the latest.
    opening: Mutex<Option<Shared<BoxFuture<'static, Result<Arc<dyn Store>>>>>>,
}

impl LazyLog {
    pub fn new(url: String) -> Self {
        Self { url, opening: Mutex::new(None) }
    }

    /// The open store; an attempt that fails is made again by the next caller. It is opened in a task of its
    /// own: who asks doesn't wait as long as that may take.
    pub async fn store(&self) -> Result<Arc<dyn Store>> {
        let opening = {
            let mut latest = self.opening.lock();
            match latest.as_ref().filter(|opening| opening.peek().is_none_or(Result::is_ok)) {
                Some(opening) => opening.clone(),
                None => latest.insert(open(self.url.clone())).clone(),
            }
        };
        within(ANSWER_MAX, opening).await
    }
}

fn open(url: String) -> Shared<BoxFuture<'static, Result<Arc<dyn Store>>>> {
    let task = tokio::spawn(async move { within(OPEN_MAX, flightpath_log_store::open(&url)).await });
    let opened = async { task.await.unwrap_or_else(|e| Err(Error::internal(format!("opening the query log's database: {e}")))) };
    opened.boxed().shared()
}

async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::unavailable(format!("the query log's database didn't answer within {} s", limit.as_secs()));
    tokio::time::timeout(limit, answer).await.map_err(late)?
}

#[async_trait]
impl LogStore for LazyLog {
    async fn append(&self, records: &[QueryRecord]) -> Result<()> {
        // Whatever keeps the database from opening may heal; the records must outlast it.
        let store = self.store().await.map_err(|e| Error::unavailable(e.to_string()))?;
        within(ANSWER_MAX, store.append(records)).await
    }

    async fn queries(&self, principal: Option<&str>, limit: usize) -> Result<Vec<QueryRecord>> {
        within(ANSWER_MAX, self.store().await?.queries(principal, limit)).await
    }

    async fn candidates(&self, limit: usize) -> Result<Vec<CandidateRecord>> {
        within(ANSWER_MAX, self.store().await?.candidates(limit)).await
    }
}

#[async_trait]
impl QueryHistory for LazyLog {
    async fn read_page(&self, request: &PageRequest<'_>) -> Result<Vec<QueryRecord>> {
        within(ANSWER_MAX, self.store().await?.read_page(request)).await
    }

    async fn query(&self, query_id: QueryId, principal: Option<&str>) -> Result<Option<QueryRecord>> {
        within(ANSWER_MAX, self.store().await?.query(query_id, principal)).await
    }

    async fn savings(&self, principal: Option<&str>, since_unix_ms: i64, baseline: &Baseline) -> Result<Vec<DaySavings>> {
        within(LONG_ANSWER_MAX, self.store().await?.savings(principal, since_unix_ms, baseline)).await
    }

    async fn spending(&self, day: i64) -> Result<Vec<(String, f64)>> {
        within(ANSWER_MAX, self.store().await?.spending(day)).await
    }

    async fn unreconciled(&self, from_unix_ms: i64, until_unix_ms: i64, limit: usize) -> Result<Vec<Unreconciled>> {
        within(ANSWER_MAX, self.store().await?.unreconciled(from_unix_ms, until_unix_ms, limit)).await
    }

    async fn record_costs(&self, costs: &[Cost]) -> Result<u64> {
        within(ANSWER_MAX, self.store().await?.record_costs(costs)).await
    }

    async fn delete_before(&self, unix_ms: i64, limit: usize) -> Result<u64> {
        within(LONG_ANSWER_MAX, self.store().await?.delete_before(unix_ms, limit)).await
    }
}

#[async_trait]
impl ModelStore for LazyLog {
    async fn load(&self, name: &str) -> Result<Option<KeptModel>> {
        within(ANSWER_MAX, self.store().await?.load(name)).await
    }

    async fn revision(&self, name: &str) -> Result<Option<u64>> {
        within(ANSWER_MAX, self.store().await?.revision(name)).await
    }

    async fn save(&self, name: &str, contents: &[u8], replaces: Option<u64>) -> Result<Option<u64>> {
        within(ANSWER_MAX, self.store().await?.save(name, contents, replaces)).await
    }
}

#[async_trait]
impl ShadowLog for LazyLog {
    async fn append_shadow(&self, run: &ShadowRun) -> Result<()> {
        within(ANSWER_MAX, self.store().await?.append_shadow(run)).await
    }

    async fn shadow_runs(&self, filter: &ShadowFilter, after: Option<&ShadowKey>, limit: usize) -> Result<Vec<ShadowRun>> {
        within(ANSWER_MAX, self.store().await?.shadow_runs(filter, after, limit)).await
    }

    async fn quarantine(&self) -> Result<Vec<Quarantined>> {
        within(ANSWER_MAX, self.store().await?.quarantine()).await
    }

    async fn add_quarantine(&self, entry: &Quarantined) -> Result<()> {
        within(ANSWER_MAX, self.store().await?.add_quarantine(entry)).await
    }

    async fn lift_quarantine(&self, fingerprint: Fingerprint, engine: Option<&EngineId>) -> Result<u64> {
        within(ANSWER_MAX, self.store().await?.lift_quarantine(fingerprint, engine)).await
    }
}

#[cfg(test)]
mod tests {
    use flightpath_types::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_never_comes_is_an_outage() {
        let error = within(Duration::ZERO, std::future::pending::<Result<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(within(ANSWER_MAX, std::future::ready(Ok(1))).await.unwrap(), 1);
        let own = within(ANSWER_MAX, std::future::ready(Err::<(), _>(Error::invalid("no")))).await.unwrap_err();
        assert_eq!(own.kind(), ErrorKind::InvalidArgument);
    }

    /// A database that takes connections and says nothing.
    #[tokio::test]
    async fn records_outlast_a_database_that_says_nothing() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let log = LazyLog::new(format!("postgres://nobody@{}/log", silent.local_addr().unwrap()));
        assert_eq!(log.append(&[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
