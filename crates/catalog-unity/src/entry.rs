//! What is known of one table for one principal, and since when. An answer counts from the moment
//! it was asked for; an older one never takes the place of a newer one, and none is used past its
//! time.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use flightpath_catalog::{
    AccessRules, DeltaLog, Home, StorageAccess, StorageCredentials, TableContents, TableFormat, TableName, TableSnapshot,
};
use flightpath_types::{Error, Principal, Result};
use parking_lot::Mutex;

use crate::answers::TableInfo;
use crate::columns;

/// Who asks, and for what. The table's name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub principal: Principal,
    pub table: TableName,
}

impl Key {
    pub fn new(principal: &Principal, name: &TableName) -> Self {
        let table = TableName::new(&name.catalog.to_lowercase(), &name.schema.to_lowercase(), &name.table.to_lowercase());
        Self { principal: principal.clone(), table }
    }
}

pub(crate) struct Entry {
    pub key: Key,
    /// Held by whoever asks Unity Catalog, so that one asks for all.
    pub gate: tokio::sync::Mutex<()>,
    pub everybody: Arc<Everybody>,
    /// Whether anybody looked since the last renewal in the background.
    pub used: AtomicBool,
    known: ArcSwapOption<Known>,
    failure: Mutex<Option<(Instant, Error)>>,
}

impl Entry {
    pub fn new(key: Key, everybody: Arc<Everybody>) -> Self {
        Self { key, gate: Default::default(), everybody, used: AtomicBool::new(true), known: Default::default(), failure: Mutex::default() }
    }

    /// What is known and may be used at `now`.
    pub fn fresh(&self, now: Instant) -> Option<Arc<Known>> {
        let known = self.known.load();
        known.as_ref().filter(|known| self.is_fresh(known, now)).cloned()
    }

    pub fn is_fresh(&self, known: &Known, now: Instant) -> bool {
        now < known.valid_until && self.everybody.admits(known)
    }

    /// What is known, however old.
    pub fn last(&self) -> Option<Arc<Known>> {
        self.known.load_full()
    }

    /// Takes `known` over, unless what is there was asked for later.
    pub fn store(&self, known: Known) {
        let known = Arc::new(known);
        self.known.rcu(|there| match there {
            Some(there) if there.order > known.order => Some(there.clone()),
            _ => Some(known.clone()),
        });
        *self.failure.lock() = None;
    }

    pub fn forget(&self) {
        self.known.store(None);
    }

    pub fn fail(&self, at: Instant, error: &Error) {
        *self.failure.lock() = Some((at, error.clone()));
    }

    pub fn failure(&self) -> Option<(Instant, Error)> {
        self.failure.lock().clone()
    }
}

/// What is known of a table whoever asks: since when answers may be used at all.
#[derive(Default)]
pub(crate) struct Everybody {
    order_min: AtomicU64,
    /// Answers up to this one let nobody out of Databricks.
    free_after: AtomicU64,
    /// Whether a rule was seen, and no newer answer without one.
    ruled: Mutex<bool>,
}

impl Everybody {
    fn admits(&self, known: &Known) -> bool {
        known.order >= self.order_min.load(Ordering::Acquire)
            && (known.free().is_none() || known.order > self.free_after.load(Ordering::Acquire))
    }

    /// From now on only answers asked for as `order` or later count, for every principal.
    pub fn require(&self, order: u64) {
        self.order_min.fetch_max(order, Ordering::AcqRel);
    }

    /// One principal's answer, asked for as `order`; `newest`: the last question asked by now. When
    /// a rule appears, every answer without it that was asked for before is void, whoever asked.
    pub fn note(&self, order: u64, clear: bool, newest: u64) {
        let mut ruled = self.ruled.lock();
        if !clear && !*ruled {
            *ruled = true;
            self.free_after.fetch_max(newest, Ordering::AcqRel);
        } else if clear && order > self.free_after.load(Ordering::Acquire) {
            *ruled = false;
        }
    }
}

/// One answer.
pub(crate) struct Known {
    /// The place of its question among all questions.
    pub order: u64,
    pub asked: Instant,
    pub valid_until: Instant,
    /// When its columns were asked for: they may be older than the rest.
    pub described: Instant,
    pub access: AccessRules,
    pub table: Arc<Description>,
    pub reading: Reading,
}

/// How a table is read.
pub(crate) enum Reading {
    /// Here, too. Only where access is `Free`.
    Free(Free),
    /// In Databricks alone; the error says which column has no type here.
    Remote(Result<Arc<TableSnapshot>>),
}

/// A table's columns and what else is shown of it, without files.
pub(crate) struct Description {
    pub name: TableName,
    /// Governed, with an empty reason; the error says which column has no type here.
    template: Result<TableSnapshot>,
}

/// What it takes to read a table here.
pub(crate) struct Free {
    pub log: Arc<DeltaLog>,
    pub storage: Arc<dyn StorageAccess>,
    pub credentials: StorageCredentials,
    view: ArcSwapOption<View>,
}

/// The snapshot last handed out, and what it was made of.
struct View {
    made_of: MadeOf,
    snapshot: Arc<TableSnapshot>,
}

enum MadeOf {
    Log(Arc<TableSnapshot>),
    /// The log couldn't be read; not tried again before this.
    Unreadable {
        until: Instant,
    },
}

impl Free {
    pub fn new(log: Arc<DeltaLog>, storage: Arc<dyn StorageAccess>, credentials: StorageCredentials) -> Self {
        Self { log, storage, credentials, view: ArcSwapOption::empty() }
    }
}

impl Known {
    pub fn free(&self) -> Option<&Free> {
        match &self.reading {
            Reading::Free(free) => Some(free),
            Reading::Remote(_) => None,
        }
    }

    /// The newest snapshot, without waiting.
    pub fn cached(&self, now: Instant) -> Option<Arc<TableSnapshot>> {
        let free = match &self.reading {
            Reading::Free(free) => free,
            Reading::Remote(snapshot) => return snapshot.as_ref().ok().cloned(),
        };
        let base = free.log.cached();
        if let Some(view) = free.view.load().as_ref() {
            match (&view.made_of, &base) {
                (MadeOf::Log(of), Some(base)) if Arc::ptr_eq(of, base) => return Some(view.snapshot.clone()),
                (MadeOf::Unreadable { until }, None) if now < *until => return Some(view.snapshot.clone()),
                _ => {}
            }
        }
        let base = base?;
        let snapshot = self.of_log(free, &base);
        free.view.store(Some(Arc::new(View { made_of: MadeOf::Log(base), snapshot: snapshot.clone() })));
        Some(snapshot)
    }

    /// The newest snapshot, with the log read if it hasn't been. A log that can't be read here leaves
    /// the table to Databricks, and isn't tried again before `retry`.
    pub async fn snapshot(&self, now: Instant, retry: Instant) -> Result<Arc<TableSnapshot>> {
        let free = match &self.reading {
            Reading::Free(free) => free,
            Reading::Remote(snapshot) => return snapshot.clone(),
        };
        if let Some(cached) = self.cached(now) {
            return Ok(cached);
        }
        match free.log.latest().await {
            Ok(base) => Ok(self.cached(now).unwrap_or_else(|| self.of_log(free, &base))),
            Err(error) => {
                tracing::warn!(table = %self.table.name, %error, "a free table's log can't be read here");
                let reason = format!("its Delta log can't be read here: {}", error.message());
                let snapshot = self.table.governed(&AccessRules::Governed(reason))?;
                let made_of = MadeOf::Unreadable { until: retry };
                free.view.store(Some(Arc::new(View { made_of, snapshot: snapshot.clone() })));
                Ok(snapshot)
            }
        }
    }

    /// A snapshot of the log as this principal's.
    pub fn of_log(&self, free: &Free, base: &TableSnapshot) -> Arc<TableSnapshot> {
        Arc::new(TableSnapshot {
            name: self.table.name.clone(),
            access: self.access.clone(),
            home: Home::Databricks,
            storage: Some(free.storage.clone()),
            ..base.clone()
        })
    }
}

impl Description {
    /// `asked` stands in for the name where the answer has none.
    pub fn of(info: &TableInfo, asked: &TableName) -> Self {
        let name = info.name.clone().unwrap_or_else(|| asked.clone());
        Self { template: template(info, &name), name }
    }

    /// The table as Databricks alone may read it.
    pub fn governed(&self, access: &AccessRules) -> Result<Arc<TableSnapshot>> {
        let template = self.template.as_ref().map_err(Clone::clone)?;
        Ok(Arc::new(TableSnapshot { access: access.clone(), ..template.clone() }))
    }
}

fn template(info: &TableInfo, name: &TableName) -> Result<TableSnapshot> {
    let infos = info.columns.as_deref().unwrap_or_default();
    let converted = columns::convert(name, infos)?;
    let mut hasher = DefaultHasher::new();
    (&info.table_id, info.updated_unix_ms).hash(&mut hasher);
    for column in infos {
        (&column.name, &column.type_text, &column.type_json, column.nullable).hash(&mut hasher);
    }
    Ok(TableSnapshot {
        name: name.clone(),
        format: TableFormat::Remote,
        // Changes with the columns, so that plans made on others aren't used again.
        version: hasher.finish(),
        committed_unix_ms: info.updated_unix_ms,
        schema: converted.schema,
        columns: converted.columns,
        partition_columns: converted.partition_columns,
        contents: TableContents::Remote,
        access: AccessRules::Governed(String::new()),
        home: Home::Databricks,
        storage: None,
        location: info.storage_location.clone().unwrap_or_default(),
        properties: info.properties.clone(),
        min_reader_version: 0,
        min_writer_version: 0,
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        table_id: info.table_id.clone(),
        description: info.comment.clone(),
        created_unix_ms: info.created_unix_ms,
    })
}
