//! The catalog of `--data`: folders of Delta and Parquet tables on this machine, and the tables
//! that the server makes itself. Snapshots are cached and refreshed in the background; a cached
//! answer touches neither disk nor lock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use flightpath_types::{Error, ErrorKind, Principal, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::delta::DeltaReader;
use crate::discover::{self, Listing, SYSTEM_SCHEMA};
use crate::errors::{NEAREST_MAX, NEAREST_SCORE_MIN};
use crate::table::{Shared, Table};
use crate::{
    AccessRules, AsOf, Catalog, Column, CommitInfo, Config, Home, SystemTable, TableContents, TableFormat, TableKind, TableName,
    TableSnapshot, TableSummary, errors,
};

/// A background round takes at most this share of the time.
const REFRESH_DUTY: u32 = 20;

pub struct LocalCatalog {
    inner: Arc<Inner>,
    refresher: JoinHandle<()>,
}

struct Inner {
    config: Config,
    shared: Arc<Shared>,
    directory: ArcSwap<Directory>,
    walking: tokio::sync::Mutex<Instant>,
    system: ArcSwap<BTreeMap<String, Arc<TableSnapshot>>>,
}

/// All names, as of one look at the folders.
#[derive(Default)]
struct Directory {
    schemas: BTreeMap<String, SchemaTables>,
    unreadable: Option<Error>,
}

struct SchemaTables {
    name: String,
    tables: BTreeMap<String, Arc<Table>>,
}

impl LocalCatalog {
    /// Looks at the folders and starts the background refresh on the current runtime. Fails when a
    /// folder can't be listed or two places claim one table; a table that can't be read fails only
    /// when it's asked for.
    pub async fn open(config: Config) -> Result<Self> {
        let allowed: Vec<PathBuf> = config.data.iter().filter_map(|dir| dir.canonicalize().ok()).collect();
        let shared = Shared {
            reader: DeltaReader::new(config.limits.clone(), config.partition_time_zone, allowed),
            limits: config.limits.clone(),
            loads: Arc::new(Semaphore::new(config.limits.loads_max.max(1))),
            retry_after: config.refresh_interval,
        };
        let inner = Arc::new(Inner {
            shared: Arc::new(shared),
            directory: ArcSwap::default(),
            walking: tokio::sync::Mutex::new(Instant::now()),
            system: ArcSwap::default(),
            config,
        });
        let listing = inner.walk().await?;
        if let Some(error) = listing.clashes.first().or(listing.unreadable.first()) {
            return Err(error.clone());
        }
        inner.take_over(listing);
        let weak = Arc::downgrade(&inner);
        let interval = inner.config.refresh_interval;
        let refresher = tokio::spawn(async move {
            if let Some(inner) = weak.upgrade() {
                inner.preload().await;
            }
            let mut pause = interval;
            loop {
                tokio::time::sleep(pause).await;
                let Some(inner) = weak.upgrade() else { return };
                let started = Instant::now();
                inner.refresh_all().await;
                pause = interval.max(started.elapsed().saturating_mul(REFRESH_DUTY)).min(interval.max(Duration::from_secs(60)));
            }
        });
        Ok(Self { inner, refresher })
    }

    /// Makes `name` readable as `system.<name>`.
    pub fn register_system(&self, name: &str, table: Arc<dyn SystemTable>) {
        let snapshot = Arc::new(system_snapshot(&self.inner.config.catalog, name, table));
        self.inner.system.rcu(|tables| {
            let mut tables = BTreeMap::clone(tables);
            tables.insert(name.to_lowercase(), snapshot.clone());
            tables
        });
    }
}

impl Drop for LocalCatalog {
    fn drop(&mut self) {
        self.refresher.abort();
    }
}

fn system_snapshot(catalog: &str, name: &str, table: Arc<dyn SystemTable>) -> TableSnapshot {
    let schema = table.schema();
    let column = |name: &String| Column { physical_name: name.clone(), field_id: None, comment: None, widened: false };
    TableSnapshot {
        name: TableName::new(catalog, SYSTEM_SCHEMA, name),
        format: TableFormat::System,
        version: 0,
        committed_unix_ms: None,
        columns: schema.fields().iter().map(|f| column(f.name())).collect(),
        schema,
        partition_columns: Vec::new(),
        contents: TableContents::System(table),
        access: AccessRules::Free,
        home: Home::Local,
        storage: None,
        location: String::new(),
        properties: BTreeMap::new(),
        min_reader_version: 0,
        min_writer_version: 0,
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        table_id: None,
        description: None,
        created_unix_ms: None,
    }
}

/// Where a name leads.
enum Target {
    Table(Arc<Table>),
    System(Arc<TableSnapshot>),
}

impl Inner {
    fn knows_catalog(&self, catalog: &str) -> bool {
        catalog.eq_ignore_ascii_case(&self.config.catalog)
    }

    /// `system.system.t` is what a binder may complete `system.t` to.
    fn is_system(&self, name: &TableName) -> bool {
        name.schema.eq_ignore_ascii_case(SYSTEM_SCHEMA)
            && (self.knows_catalog(&name.catalog) || name.catalog.eq_ignore_ascii_case(SYSTEM_SCHEMA))
    }

    fn lookup(&self, name: &TableName) -> Option<Target> {
        if self.is_system(name) {
            return self.system.load().get(&name.table.to_lowercase()).cloned().map(Target::System);
        }
        if !self.knows_catalog(&name.catalog) {
            return None;
        }
        let directory = self.directory.load();
        let schema = directory.schemas.get(&name.schema.to_lowercase())?;
        schema.tables.get(&name.table.to_lowercase()).cloned().map(Target::Table)
    }

    /// Like `lookup`, looking at the folders anew when the name isn't known.
    async fn find(&self, name: &TableName) -> Result<Target> {
        if let Some(target) = self.lookup(name) {
            return Ok(target);
        }
        let system = self.is_system(name);
        if !system && !self.knows_catalog(&name.catalog) {
            return Err(errors::catalog_not_found(&name.catalog, &self.config.catalog));
        }
        if !system {
            self.look_again().await?;
            if let Some(target) = self.lookup(name) {
                return Ok(target);
            }
            // Not known to be missing while a folder can't be seen.
            if let Some(error) = &self.directory.load().unreadable {
                return Err(error.clone());
            }
        }
        Err(errors::table_not_found(name, &self.nearest(name)))
    }

    async fn walk(&self) -> Result<Listing> {
        let (catalog, folders) = (self.config.catalog.clone(), self.config.data.clone());
        let walked = tokio::task::spawn_blocking(move || discover::walk(&catalog, &folders)).await;
        walked.map_err(|e| Error::internal(format!("looking through the data folders failed: {e}")))
    }

    /// One look serves everyone who asked before it began.
    async fn look_again(&self) -> Result<()> {
        let asked = Instant::now();
        let mut last = self.walking.lock().await;
        if *last >= asked {
            return Ok(());
        }
        let started = Instant::now();
        let listing = self.walk().await?;
        self.take_over(listing);
        *last = started;
        Ok(())
    }

    fn take_over(&self, listing: Listing) {
        for clash in &listing.clashes {
            tracing::warn!(error = %clash, "a table in the data folders can't be used");
        }
        let old = self.directory.load();
        let known = |schema: &str, table: &str| old.schemas.get(schema).and_then(|s| s.tables.get(table));
        let mut schemas = BTreeMap::new();
        for (schema_key, found) in listing.schemas {
            let mut tables = BTreeMap::new();
            for (table_key, found) in found.tables {
                let kept = known(&schema_key, &table_key)
                    .filter(|t| t.source == found.source && t.place == found.place && t.name == found.name)
                    .cloned();
                let table = kept.unwrap_or_else(|| Arc::new(Table::new(found, &self.config.limits)));
                tables.insert(table_key, table);
            }
            schemas.insert(schema_key, SchemaTables { name: found.name, tables });
        }
        self.directory.store(Arc::new(Directory { schemas, unreadable: listing.unreadable.into_iter().next() }));
    }

    fn all_tables(&self) -> Vec<Arc<Table>> {
        self.directory.load().schemas.values().flat_map(|s| s.tables.values().cloned()).collect()
    }

    async fn preload(&self) {
        let loads = self.all_tables().into_iter().take(self.config.preload_tables_max).map(|table| {
            let shared = self.shared.clone();
            // A failure is logged where it happens and told to whoever asks for the table.
            async move { drop(table.latest(&shared).await) }
        });
        futures::future::join_all(loads).await;
    }

    async fn refresh_all(&self) {
        if let Err(error) = self.look_again().await {
            tracing::warn!(%error, "the data folders can't be looked through");
        }
        let cached = self.all_tables().into_iter().filter(|table| table.cached().is_some());
        let refreshes = cached.map(|table| {
            let shared = self.shared.clone();
            async move { drop(table.refresh(&shared).await) }
        });
        futures::future::join_all(refreshes).await;
    }

    /// Names that look like the one that wasn't found, best first.
    fn nearest(&self, name: &TableName) -> Vec<String> {
        let wanted = name.table.to_lowercase();
        let mut scored: Vec<(f64, String)> = Vec::new();
        let mut consider = |schema: &str, table: &str| {
            let score = strsim::jaro_winkler(&wanted, &table.to_lowercase());
            let same_schema = schema.eq_ignore_ascii_case(&name.schema);
            let shown = if same_schema { table.to_string() } else { format!("{schema}`.`{table}") };
            if score >= NEAREST_SCORE_MIN {
                scored.push((score + if same_schema { 0.1 } else { 0.0 }, shown));
            }
        };
        for schema in self.directory.load().schemas.values() {
            schema.tables.values().for_each(|table| consider(&schema.name, &table.name.table));
        }
        self.system.load().values().for_each(|table| consider(SYSTEM_SCHEMA, &table.name.table));
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        scored.into_iter().take(NEAREST_MAX).map(|(_, name)| name).collect()
    }

    fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.directory.load().schemas.values().map(|s| s.name.clone()).collect();
        names.push(SYSTEM_SCHEMA.into());
        names.sort();
        names
    }
}

#[async_trait]
impl Catalog for LocalCatalog {
    async fn snapshot(&self, _principal: &Principal, name: &TableName, as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
        match self.inner.find(name).await? {
            Target::System(_) if *as_of != AsOf::Latest => {
                Err(Error::invalid(format!("table {name} has no versions to travel to: only Delta tables do")))
            }
            Target::System(snapshot) => Ok(snapshot),
            Target::Table(table) => {
                let result = table.at(&self.inner.shared, as_of.clone()).await;
                match result {
                    // Removed since the folders were last looked at; or moved, and then it's found again.
                    Err(e) if e.kind() == ErrorKind::NotFound => match self.inner.look_again().await.map(|()| self.inner.lookup(name))? {
                        Some(Target::Table(moved)) if !Arc::ptr_eq(&moved, &table) => moved.at(&self.inner.shared, as_of.clone()).await,
                        Some(_) => Err(e),
                        None => Err(errors::table_not_found(name, &self.inner.nearest(name))),
                    },
                    other => other,
                }
            }
        }
    }

    fn cached_snapshot(&self, _principal: &Principal, name: &TableName) -> Option<Arc<TableSnapshot>> {
        match self.inner.lookup(name)? {
            Target::System(snapshot) => Some(snapshot),
            Target::Table(table) => table.cached(),
        }
    }

    async fn catalogs(&self, _principal: &Principal) -> Result<Vec<String>> {
        Ok(vec![self.inner.config.catalog.clone()])
    }

    async fn schemas(&self, _principal: &Principal, catalog: &str) -> Result<Vec<String>> {
        if !self.inner.knows_catalog(catalog) {
            return Err(errors::catalog_not_found(catalog, &self.inner.config.catalog));
        }
        self.inner.look_again().await?;
        Ok(self.inner.schema_names())
    }

    async fn tables(&self, _principal: &Principal, catalog: &str, schema: &str) -> Result<Vec<TableSummary>> {
        if !self.inner.knows_catalog(catalog) {
            return Err(errors::catalog_not_found(catalog, &self.inner.config.catalog));
        }
        if schema.eq_ignore_ascii_case(SYSTEM_SCHEMA) {
            let summary =
                |t: &Arc<TableSnapshot>| TableSummary { name: t.name.clone(), kind: TableKind::System, format: t.format.as_str() };
            return Ok(self.inner.system.load().values().map(summary).collect());
        }
        self.inner.look_again().await?;
        let directory = self.inner.directory.load();
        let Some(found) = directory.schemas.get(&schema.to_lowercase()) else {
            let mut names = self.inner.schema_names();
            names.retain(|n| strsim::jaro_winkler(&n.to_lowercase(), &schema.to_lowercase()) >= NEAREST_SCORE_MIN);
            names.truncate(NEAREST_MAX);
            return Err(errors::schema_not_found(&self.inner.config.catalog, schema, &names));
        };
        let summary = |t: &Arc<Table>| TableSummary { name: t.name.clone(), kind: TableKind::Table, format: t.format().as_str() };
        Ok(found.tables.values().map(summary).collect())
    }

    async fn history(&self, _principal: &Principal, name: &TableName, limit: usize) -> Result<Vec<CommitInfo>> {
        match self.inner.find(name).await? {
            Target::System(_) => Err(Error::invalid(format!("table {name} has no history: only Delta tables do"))),
            Target::Table(table) => table.history(&self.inner.shared, limit).await,
        }
    }

    async fn refresh(&self, _principal: &Principal, name: &TableName) -> Result<()> {
        match self.inner.find(name).await? {
            Target::System(_) => Ok(()),
            Target::Table(table) => table.refresh(&self.inner.shared).await.map(|_| ()),
        }
    }
}
