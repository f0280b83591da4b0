//! Tables of Unity Catalog: looked up once for each principal, renewed before they grow old, and
//! pinned for a query with the rules that were in force when it was planned.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use dashmap::DashMap;
use flightpath_catalog::{
    AccessRules, AsOf, Catalog, CloudLocation, CloudStores, CommitInfo, DeltaLog, DeltaLogs, StorageCredentials, TableKind, TableName,
    TableSnapshot, TableSummary, schema_not_found, table_not_found,
};
use flightpath_databricks::{Client, segment};
use flightpath_types::{Error, ErrorKind, Principal, Result};
use futures::StreamExt;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::api::{ClientApi, Identities, UnityApi};
use crate::ask::Place;
use crate::config::Config;
use crate::credentials::Vended;
use crate::entry::{Entry, Everybody, Key, Known, Reading};
use crate::listing::{Pager, names};

/// Questions asked anew when the answer was void by the time it came.
const ATTEMPTS_MAX: usize = 4;
/// Renewals and logs read at the same time in the background.
const BACKGROUND_MAX: usize = 8;
/// Share of its time after which an answer in use is renewed.
const RENEW_AT: f64 = 0.7;
/// Credentials are renewed when less than this is left of them.
pub(crate) const CREDENTIALS_LEFT_MIN: Duration = Duration::from_secs(60);
/// Intervals of the background for which a look at a log in cloud storage counts: while it's in use
/// it is looked at in each of them, and after a pause before it's used again.
const CLOUD_LOOKS_LAST: u32 = 3;
const NEAREST_MAX: usize = 3;
const NEAREST_SCORE_MIN: f64 = 0.75;

pub struct UnityCatalog {
    pub(crate) inner: Arc<Inner>,
    background: Vec<JoinHandle<()>>,
}

/// Whose log a log is, and where.
#[derive(PartialEq, Eq, Hash)]
enum LogKey {
    Folder(PathBuf),
    Cloud(Principal, TableName, Arc<CloudLocation>),
}

pub(crate) type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

pub(crate) struct Inner {
    pub config: Config,
    pub api: Arc<dyn UnityApi>,
    /// Canonical.
    pub local_roots: Vec<PathBuf>,
    pub this: Weak<Inner>,
    clock: Clock,
    logs: DeltaLogs,
    /// Logs that a known table reads; others are let go.
    open_logs: DashMap<LogKey, Weak<DeltaLog>>,
    pub stores: CloudStores,
    entries: moka::sync::Cache<Key, Arc<Entry>>,
    everybody: DashMap<TableName, Weak<Everybody>>,
    order: AtomicU64,
}

impl UnityCatalog {
    /// Starts the renewal in the background on the current runtime. Asks nothing yet: a workspace
    /// that's down now may be up when it's needed.
    pub fn open(config: Config, client: Arc<Client>, identities: Arc<dyn Identities>) -> Result<Self> {
        if config.catalogs.is_empty() {
            return Err(Error::invalid("no catalog of Unity Catalog is named in the settings"));
        }
        let inner = Inner::new(config, Arc::new(ClientApi { client, identities }), Box::new(Instant::now));
        let background = vec![
            repeat(&inner, inner.config.access_lifetime / 60, |inner| async move { inner.renew_ahead().await }),
            repeat(&inner, inner.config.log_refresh_interval, |inner| async move { inner.refresh_logs().await }),
        ];
        Ok(Self { inner, background })
    }

    /// Without a background.
    #[cfg(test)]
    pub(crate) fn with_api(config: Config, api: Arc<dyn UnityApi>, clock: Clock) -> Self {
        Self { inner: Inner::new(config, api, clock), background: Vec::new() }
    }

    /// The catalogs that are shown, as configured.
    pub fn names(&self) -> &[String] {
        &self.inner.config.catalogs
    }
}

impl Drop for UnityCatalog {
    fn drop(&mut self) {
        self.background.iter().for_each(JoinHandle::abort);
    }
}

fn repeat<F: Future<Output = ()> + Send + 'static>(
    inner: &Arc<Inner>,
    interval: Duration,
    work: impl Fn(Arc<Inner>) -> F + Send + Sync + 'static,
) -> JoinHandle<()> {
    let (weak, interval) = (Arc::downgrade(inner), interval.max(Duration::from_millis(10)));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(inner) = weak.upgrade() else { return };
            work(inner).await;
        }
    })
}

/// What a failed question means.
enum Failure {
    /// There's no such thing, or not for this principal.
    Gone,
    /// Nothing is known by it: asked again, it may be answered.
    Down,
}

impl Failure {
    fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::Unauthenticated
            | ErrorKind::InvalidArgument
            | ErrorKind::NotEligible
            | ErrorKind::Raised => Failure::Gone,
            ErrorKind::Unavailable
            | ErrorKind::ResourceExhausted
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Cancelled
            | ErrorKind::DataLoss
            | ErrorKind::Internal => Failure::Down,
        }
    }
}

pub(crate) fn is_down(error: &Error) -> bool {
    matches!(Failure::of(error), Failure::Down)
}

impl Inner {
    fn new(config: Config, api: Arc<dyn UnityApi>, clock: Clock) -> Arc<Self> {
        let local_roots = config.local_roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
        let entries = moka::sync::Cache::builder().max_capacity(config.entries_max).time_to_idle(config.idle_max).build();
        let stores = CloudStores::new(config.cloud.clone(), tokio::runtime::Handle::current());
        let logs = DeltaLogs::new(config.limits.clone(), config.partition_time_zone, config.retry_after);
        Arc::new_cyclic(|this| Self {
            config,
            api,
            local_roots,
            this: this.clone(),
            clock,
            logs,
            open_logs: DashMap::new(),
            stores,
            entries,
            everybody: DashMap::new(),
            order: AtomicU64::new(0),
        })
    }

    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// The place of a question that is asked now.
    fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub fn newest_order(&self) -> u64 {
        self.order.load(Ordering::Acquire)
    }

    fn knows_catalog(&self, catalog: &str) -> bool {
        self.config.catalogs.iter().any(|known| known.eq_ignore_ascii_case(catalog))
    }

    /// The log of a table. One in a folder is everybody's; one in cloud storage belongs to the
    /// principal whose credentials open it.
    pub fn log(&self, name: &TableName, place: Place, storage: &Vended) -> Result<Arc<DeltaLog>> {
        let key = match &place {
            Place::Folder(root) => LogKey::Folder(root.clone()),
            Place::Cloud(location) => LogKey::Cloud(storage.principal.clone(), name.clone(), location.clone()),
        };
        let mut slot = self.open_logs.entry(key).or_default();
        if let Some(open) = slot.upgrade() {
            return Ok(open);
        }
        let opened = match &place {
            Place::Folder(root) => self.logs.open(name.clone(), root),
            Place::Cloud(location) => {
                let store = self.stores.open(location, Arc::new(storage.clone()))?;
                self.logs.open_cloud(name.clone(), &store, self.config.log_refresh_interval.saturating_mul(CLOUD_LOOKS_LAST))
            }
        };
        let opened = Arc::new(opened);
        *slot = Arc::downgrade(&opened);
        Ok(opened)
    }

    fn everybody(&self, table: &TableName) -> Arc<Everybody> {
        let mut slot = self.everybody.entry(table.clone()).or_default();
        if let Some(found) = slot.upgrade() {
            return found;
        }
        let made = Arc::<Everybody>::default();
        *slot = Arc::downgrade(&made);
        made
    }

    fn entry(&self, principal: &Principal, name: &TableName) -> Result<Arc<Entry>> {
        // What can't be a name there isn't asked about.
        let nameable = |part: &str| !part.is_empty() && !part.contains(['.', '/', ' ']) && !part.chars().any(char::is_control);
        let known = self.knows_catalog(&name.catalog);
        if !known || ![&name.catalog, &name.schema, &name.table].iter().all(|part| nameable(part)) {
            return Err(table_not_found(name, &[]));
        }
        let key = Key::new(principal, name);
        let entry = self.entries.get_with_by_ref(&key, || Arc::new(Entry::new(key.clone(), self.everybody(&key.table))));
        entry.used.store(true, Ordering::Relaxed);
        Ok(entry)
    }

    /// What is known now, asked for if need be; asked for as `order_min` or later.
    async fn current(&self, entry: &Entry, order_min: u64) -> Result<Arc<Known>> {
        let waiting_since = self.now();
        let usable = || entry.fresh(self.now()).filter(|known| known.order >= order_min);
        for _ in 0..ATTEMPTS_MAX {
            if let Some(known) = usable() {
                return Ok(known);
            }
            let _gate = entry.gate.lock().await;
            if let Some(known) = usable() {
                return Ok(known);
            }
            if let Some((at, error)) = entry.failure() {
                // Whoever held the gate failed for those who waited,
                if at >= waiting_since {
                    return Err(error);
                }
                // and for those who come a little later.
                if order_min == 0 && is_down(&error) && self.now() < at + self.config.retry_after {
                    self.go_on_without(entry, self.next_order(), at, error)?;
                    continue;
                }
            }
            self.renew(entry).await?;
        }
        // Void each time it came: nothing is known of who may read the table.
        let last = entry.last().ok_or_else(|| Error::unavailable(format!("table {} keeps changing; try again", entry.key.table)))?;
        let reason = format!("access rules of {} keep changing", entry.key.table);
        Ok(Arc::new(last.governed(last.order, last.asked, last.asked, reason)))
    }

    /// Asks anew; the caller holds the gate.
    async fn renew(&self, entry: &Entry) -> Result<()> {
        let (order, asked) = (self.next_order(), self.now());
        let error = match self.ask(entry, order, asked).await {
            Ok(known) => {
                entry.store(known);
                return Ok(());
            }
            Err(error) => error,
        };
        let now = self.now();
        match Failure::of(&error) {
            Failure::Gone => {
                entry.forget();
                entry.fail(now, &error);
                self.entries.invalidate(&entry.key);
                Err(error)
            }
            Failure::Down => {
                tracing::warn!(table = %entry.key.table, principal = %entry.key.principal, %error, "access rules couldn't be refreshed");
                self.go_on_without(entry, order, self.now(), error)
            }
        }
    }

    /// The catalog was down at `failed`: columns may be old, rules may not.
    fn go_on_without(&self, entry: &Entry, order: u64, failed: Instant, error: Error) -> Result<()> {
        let now = self.now();
        let last = entry.last();
        if last.as_ref().is_some_and(|last| entry.is_fresh(last, now)) {
            entry.fail(failed, &error);
            return Ok(());
        }
        match last.filter(|last| now.saturating_duration_since(last.described) < self.config.metadata_lifetime) {
            Some(last) => {
                let reason = format!("access rules of {} couldn't be refreshed ({})", last.table.name, error.message());
                entry.store(last.governed(order, now, failed + self.config.retry_after, reason));
                entry.fail(failed, &error);
                Ok(())
            }
            None => {
                entry.forget();
                entry.fail(failed, &error);
                Err(error.context(format!("table {} can't be looked up", entry.key.table)))
            }
        }
    }

    fn pager<'a>(&'a self, principal: &'a Principal) -> Pager<'a> {
        Pager { api: self.api.as_ref(), principal, pages_max: self.config.pages_max, deadline: Instant::now() + self.config.call_timeout }
    }

    async fn snapshot(&self, principal: &Principal, name: &TableName, as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
        let entry = self.entry(principal, name)?;
        for _ in 0..ATTEMPTS_MAX {
            let known = self.current(&entry, 0).await?;
            let snapshot = match as_of {
                AsOf::Latest => known.snapshot(self.now(), self.now() + self.config.retry_after).await?,
                AsOf::Version(_) | AsOf::TimestampMicros(_) => at(&known, as_of).await?,
            };
            // Reading a log takes its time, and the rules may have changed or grown old meanwhile.
            if snapshot.access != AccessRules::Free || entry.is_fresh(&known, self.now()) {
                return Ok(snapshot);
            }
        }
        Err(Error::unavailable(format!("access rules of table {name} keep changing while it's read; try again")))
    }

    /// Credentials for a free table that live for a while yet.
    pub async fn credentials(&self, principal: &Principal, name: &TableName) -> Result<StorageCredentials> {
        let entry = self.entry(principal, name)?;
        let mut known = self.current(&entry, 0).await?;
        let soon = SystemTime::now() + CREDENTIALS_LEFT_MIN;
        if known.free().is_some_and(|free| free.credentials.expires <= soon) {
            known = self.current(&entry, known.order + 1).await?;
        }
        match (known.free(), &known.access) {
            (Some(free), _) if free.credentials.expires > SystemTime::now() => Ok(free.credentials.clone()),
            (Some(_), _) => Err(Error::unavailable(format!("the credentials for table {name} expired and couldn't be renewed"))),
            (None, access) => Err(governed(name, access)),
        }
    }

    /// Renews what is in use before its time is over.
    pub async fn renew_ahead(&self) {
        self.everybody.retain(|_, shared| shared.strong_count() > 0);
        let now = self.now();
        let due = |entry: &Arc<Entry>| {
            let recently = entry.failure().is_some_and(|(at, _)| now.saturating_duration_since(at) < self.config.retry_after);
            let aged = entry.last().is_some_and(|known| now >= known.renew_at());
            aged && !recently && entry.used.swap(false, Ordering::Relaxed)
        };
        let due: Vec<Arc<Entry>> = self.entries.iter().map(|(_, entry)| entry).filter(due).collect();
        let renewals = due.into_iter().map(|entry| async move {
            // Somebody asks already.
            let Ok(_gate) = entry.gate.try_lock() else { return };
            // A failure is kept for those who look, and logged there.
            drop(self.renew(&entry).await);
        });
        futures::stream::iter(renewals).buffer_unordered(BACKGROUND_MAX).collect::<()>().await;
    }

    /// Reads what was committed to the logs in use.
    pub async fn refresh_logs(&self) {
        self.open_logs.retain(|_, log| log.strong_count() > 0);
        let open: Vec<Arc<DeltaLog>> = self.open_logs.iter().filter_map(|log| log.value().upgrade()).collect();
        // A failure is logged there and told to whoever asks for the table.
        let reading = open.into_iter().filter(|log| log.is_worth_a_look()).map(|log| async move { drop(log.refresh().await) });
        futures::stream::iter(reading).buffer_unordered(BACKGROUND_MAX).collect::<()>().await;
    }

    async fn schemas(&self, principal: &Principal, catalog: &str) -> Result<Vec<String>> {
        let query = [("catalog_name", catalog.to_string())];
        let mut found = names(&self.pager(principal).all("/schemas", &query, "schemas").await?);
        found.sort();
        Ok(found)
    }

    async fn table_entries(&self, principal: &Principal, catalog: &str, schema: &str) -> Result<Vec<Value>> {
        let query = [
            ("catalog_name", catalog.to_string()),
            ("schema_name", schema.to_string()),
            ("omit_columns", "true".to_string()),
            ("omit_properties", "true".to_string()),
        ];
        self.pager(principal).all("/tables", &query, "tables").await
    }

    /// Says what there is instead, where that can be learned.
    async fn not_found(&self, principal: &Principal, name: &TableName) -> Error {
        let there = self.table_entries(principal, &name.catalog, &name.schema).await.unwrap_or_default();
        table_not_found(name, &nearest(&name.table, names(&there)))
    }
}

impl Known {
    fn renew_at(&self) -> Instant {
        self.asked + self.valid_until.saturating_duration_since(self.asked).mul_f64(RENEW_AT)
    }

    /// The same table, closed.
    fn governed(&self, order: u64, asked: Instant, valid_until: Instant, reason: String) -> Known {
        let access = AccessRules::Governed(reason);
        let reading = Reading::Remote(self.table.governed(&access));
        Known { order, asked, valid_until, described: self.described, access, table: self.table.clone(), reading }
    }
}

async fn at(known: &Known, as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
    match known.free() {
        Some(free) => Ok(known.of_log(free, free.log.at(as_of).await?.as_ref())),
        None => {
            let why = governed(&known.table.name, &known.access);
            Err(Error::new(ErrorKind::PermissionDenied, format!("old versions of a governed table can't be read: {}", why.message())))
        }
    }
}

fn governed(name: &TableName, access: &AccessRules) -> Error {
    let reason = match access {
        AccessRules::Free => "it isn't known why",
        AccessRules::Governed(reason) => reason,
    };
    Error::new(ErrorKind::PermissionDenied, format!("table {name} is governed: {reason}"))
}

fn nearest(wanted: &str, there: Vec<String>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(f64, String)> = there
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= NEAREST_SCORE_MIN)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.into_iter().take(NEAREST_MAX).map(|(_, name)| name).collect()
}

#[async_trait]
impl Catalog for UnityCatalog {
    async fn snapshot(&self, principal: &Principal, name: &TableName, as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
        match self.inner.snapshot(principal, name, as_of).await {
            Err(error) if error.kind() == ErrorKind::NotFound && self.inner.knows_catalog(&name.catalog) => {
                Err(self.inner.not_found(principal, name).await)
            }
            other => other,
        }
    }

    fn cached_snapshot(&self, principal: &Principal, name: &TableName) -> Option<Arc<TableSnapshot>> {
        let entry = self.inner.entries.get(&Key::new(principal, name))?;
        entry.used.store(true, Ordering::Relaxed);
        let now = self.inner.now();
        entry.fresh(now)?.cached(now)
    }

    async fn catalogs(&self, principal: &Principal) -> Result<Vec<String>> {
        let there = names(&self.inner.pager(principal).all("/catalogs", &[], "catalogs").await?);
        Ok(there.into_iter().filter(|name| self.inner.knows_catalog(name)).collect())
    }

    async fn schemas(&self, principal: &Principal, catalog: &str) -> Result<Vec<String>> {
        if !self.inner.knows_catalog(catalog) {
            let message = format!("Catalog '{catalog}' was not found. Please verify the catalog name and then retry the query.");
            return Err(Error::classed(ErrorKind::NotFound, "NO_SUCH_CATALOG_EXCEPTION", "42704", message));
        }
        self.inner.schemas(principal, catalog).await
    }

    async fn tables(&self, principal: &Principal, catalog: &str, schema: &str) -> Result<Vec<TableSummary>> {
        if !self.inner.knows_catalog(catalog) {
            return Err(schema_not_found(catalog, schema, &[]));
        }
        let entries = match self.inner.table_entries(principal, catalog, schema).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let there = self.inner.schemas(principal, catalog).await.unwrap_or_default();
                return Err(schema_not_found(catalog, schema, &nearest(schema, there)));
            }
            other => other?,
        };
        let text = |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).map(str::to_string);
        let summary = |entry: &Value| {
            let name = TableName::new(
                text(entry, "catalog_name").as_deref().unwrap_or(catalog),
                text(entry, "schema_name").as_deref().unwrap_or(schema),
                &text(entry, "name")?,
            );
            let kind = text(entry, "table_type").unwrap_or_default();
            let delta = matches!(kind.as_str(), "MANAGED" | "EXTERNAL") && text(entry, "data_source_format").as_deref() == Some("DELTA");
            Some(TableSummary { name, kind: TableKind::Table, format: if delta { "delta" } else { "remote" } })
        };
        let mut tables: Vec<TableSummary> = entries.iter().filter_map(summary).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    async fn history(&self, principal: &Principal, name: &TableName, limit: usize) -> Result<Vec<CommitInfo>> {
        let entry = self.inner.entry(principal, name)?;
        let known = self.inner.current(&entry, 0).await?;
        match known.free() {
            Some(free) => free.log.history(limit).await,
            None => Err(Error::not_eligible(format!("the history can't be read here: {}", governed(name, &known.access).message()))),
        }
    }

    /// For everybody: what was answered to others before this call is void too.
    async fn refresh(&self, principal: &Principal, name: &TableName) -> Result<()> {
        let entry = self.inner.entry(principal, name)?;
        let order = self.inner.next_order();
        entry.everybody.require(order);
        let known = self.inner.current(&entry, order).await?;
        match known.free() {
            Some(free) => free.log.refresh().await.map(|_| ()),
            None => Ok(()),
        }
    }

    async fn refresh_all(&self) {
        let order = self.inner.next_order();
        // Lookups under way hold entries of their own: what those were told is void, too.
        self.inner.everybody.iter().filter_map(|shared| shared.value().upgrade()).for_each(|shared| shared.require(order));
        self.inner.refresh_logs().await;
    }
}

/// The path of a table, a schema or a catalog behind a kind of question.
pub(crate) fn full_name(parts: &[&str]) -> String {
    segment(&parts.join("."))
}
