//! One table of the local catalog: its newest snapshot, read once however many ask, and a few old
//! versions. Never shows a snapshot that isn't whole, and never goes on showing an old one when
//! the newest can't be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use flightpath_types::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::delta::{self, DeltaReader, LogStamp, Root};
use crate::discover::{Found, Source};
use crate::{AsOf, CommitInfo, Limits, TableFormat, TableName, TableSnapshot, errors, parquet_files};

/// What all tables of a catalog share.
pub(crate) struct Shared {
    pub reader: DeltaReader,
    pub limits: Limits,
    pub loads: Arc<Semaphore>,
    /// A failed table isn't read again sooner than this.
    pub retry_after: Duration,
}

pub(crate) struct Table {
    pub name: TableName,
    pub source: Source,
    pub place: PathBuf,
    /// How long a look at the log counts where nothing cheaper than a look tells whether it grew.
    pub looks_last: Option<Duration>,
    looked: Mutex<Option<Instant>>,
    /// Whether anybody asked for it since [`Table::take_used`].
    used: AtomicBool,
    state: ArcSwapOption<State>,
    gate: Arc<tokio::sync::Mutex<()>>,
    failure: Mutex<Option<(Instant, Error)>>,
    versions: moka::sync::Cache<u64, Arc<TableSnapshot>>,
}

enum State {
    Delta { root: Root, loaded: delta::Loaded, stamp: Option<LogStamp> },
    Parquet { root: PathBuf, loaded: parquet_files::Loaded },
}

impl State {
    fn snapshot(&self) -> &Arc<TableSnapshot> {
        match self {
            State::Delta { loaded, .. } => &loaded.snapshot,
            State::Parquet { loaded, .. } => &loaded.snapshot,
        }
    }
}

impl Table {
    pub fn new(found: Found, limits: &Limits) -> Self {
        Self {
            name: found.name,
            source: found.source,
            place: found.place,
            looks_last: None,
            looked: Mutex::new(None),
            used: AtomicBool::new(true),
            state: ArcSwapOption::empty(),
            gate: Arc::default(),
            failure: Mutex::new(None),
            versions: moka::sync::Cache::new(limits.versions_kept),
        }
    }

    pub fn format(&self) -> TableFormat {
        match self.source {
            Source::Parquet(_) => TableFormat::Parquet,
            Source::Delta(_) | Source::Cloud(_) | Source::Broken(_) => TableFormat::Delta,
        }
    }

    /// The newest snapshot known, without waiting.
    pub fn cached(&self) -> Option<Arc<TableSnapshot>> {
        if let Some(last) = self.looks_last {
            self.looked.lock().filter(|at| at.elapsed() < last)?;
        }
        self.state.load().as_ref().map(|state| state.snapshot().clone())
    }

    /// Somebody asked for it.
    pub fn note_use(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether it has been read, and somebody asked since the last call of this.
    pub fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed) && self.state.load().is_some()
    }

    /// The newest snapshot, read now if there's none.
    pub async fn latest(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<Arc<TableSnapshot>> {
        if let Some(snapshot) = self.cached() {
            return Ok(snapshot);
        }
        let failed = self.failure.lock().clone();
        if let Some((at, error)) = failed
            && at.elapsed() < shared.retry_after
        {
            return Err(error);
        }
        let asked = Instant::now();
        let (table, for_load) = (self.clone(), shared.clone());
        self.blocking(shared, move || {
            if let Some(snapshot) = table.cached() {
                return Ok(snapshot);
            }
            // Whoever held the gate before may have failed on our behalf.
            let failed = table.failure.lock().clone();
            if let Some((at, error)) = failed
                && at >= asked
            {
                return Err(error);
            }
            table.load(&for_load)
        })
        .await
    }

    /// Looks at the disk and reads what's new.
    pub async fn refresh(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<Arc<TableSnapshot>> {
        let (table, for_load) = (self.clone(), shared.clone());
        self.blocking(shared, move || match table.cached() {
            Some(snapshot) if table.is_current(&for_load) => Ok(snapshot),
            _ => table.load(&for_load),
        })
        .await
    }

    pub async fn at(self: &Arc<Self>, shared: &Arc<Shared>, as_of: AsOf) -> Result<Arc<TableSnapshot>> {
        if let AsOf::Latest = as_of {
            return self.latest(shared).await;
        }
        if !matches!(self.source, Source::Delta(_) | Source::Cloud(_)) {
            self.latest(shared).await?;
            return Err(Error::invalid(format!("table {} has no versions to travel to: only Delta tables do", self.name)));
        }
        // A version or an instant past what is cached may have been committed since.
        let snapshot = self.refresh(shared).await?;
        if as_of == AsOf::Version(snapshot.version) {
            return Ok(snapshot);
        }
        if let AsOf::Version(version) = as_of
            && let Some(kept) = self.versions.get(&version)
        {
            return Ok(kept);
        }
        let (table, for_load) = (self.clone(), shared.clone());
        self.blocking(shared, move || {
            let state = table.state.load_full();
            let Some(State::Delta { root, loaded, .. }) = state.as_deref() else {
                return Err(Error::unavailable(format!("table {} changed while it was read; try again", table.name)));
            };
            let version = match as_of {
                AsOf::Latest => loaded.snapshot.version,
                AsOf::Version(version) => version,
                AsOf::TimestampMicros(micros) => for_load.reader.version_at(&table.name, loaded, micros)?,
            };
            if let Some(kept) = table.versions.get(&version) {
                return Ok(kept);
            }
            let old = for_load.reader.at_version(&table.name, root, loaded, version)?;
            table.versions.insert(version, old.clone());
            Ok(old)
        })
        .await
    }

    pub async fn history(self: &Arc<Self>, shared: &Arc<Shared>, limit: usize) -> Result<Vec<CommitInfo>> {
        if !matches!(self.source, Source::Delta(_) | Source::Cloud(_)) {
            self.latest(shared).await?;
            return Err(Error::invalid(format!("table {} has no history: only Delta tables do", self.name)));
        }
        let (table, for_load) = (self.clone(), shared.clone());
        self.blocking(shared, move || {
            let root = match &table.source {
                Source::Delta(place) => Root::Folder(canonical(place)?),
                Source::Cloud(location) => Root::Cloud(location.clone()),
                Source::Parquet(_) | Source::Broken(_) => return Ok(Vec::new()),
            };
            for_load.reader.history(&table.name, &root, limit)
        })
        .await
    }

    /// One piece of work for this table at a time, off the runtime, where a panic is caught.
    async fn blocking<T: Send + 'static>(&self, shared: &Shared, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let guard: OwnedMutexGuard<()> = self.gate.clone().lock_owned().await;
        let permit = shared.loads.clone().acquire_owned().await.map_err(|_| Error::unavailable("the catalog is shutting down"))?;
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work, not by the caller, who may go away.
            let (_guard, _permit) = (guard, permit);
            work()
        });
        match done.await {
            Ok(result) => result,
            Err(panic) => {
                tracing::error!(table = %self.name, %panic, "reading a table's metadata panicked");
                let error =
                    errors::data_loss(&self.name, "its metadata is damaged in a way that made the reader fail", errors::RESTORE_LOG);
                self.fail(&error);
                Err(error)
            }
        }
    }

    fn fail(&self, error: &Error) {
        self.state.store(None);
        *self.failure.lock() = Some((Instant::now(), error.clone()));
    }

    fn load(&self, shared: &Shared) -> Result<Arc<TableSnapshot>> {
        let previous = self.state.load_full();
        let now = Instant::now();
        match self.read(shared, previous.as_deref()) {
            Ok(state) => {
                let replaced = previous.is_some_and(|p| p.snapshot().table_id != state.snapshot().table_id);
                if replaced {
                    self.versions.invalidate_all();
                }
                let snapshot = state.snapshot().clone();
                self.state.store(Some(Arc::new(state)));
                *self.looked.lock() = Some(now);
                *self.failure.lock() = None;
                Ok(snapshot)
            }
            Err(error) => {
                tracing::warn!(table = %self.name, %error, "a table can't be read");
                self.fail(&error);
                Err(error)
            }
        }
    }

    fn read(&self, shared: &Shared, previous: Option<&State>) -> Result<State> {
        match &self.source {
            Source::Broken(error) => Err(error.clone()),
            Source::Delta(place) => {
                let folder = canonical(place)?;
                let root = Root::Folder(folder.clone());
                let known = match previous {
                    Some(State::Delta { root: old_root, loaded, stamp: Some(stamp) }) if *old_root == root => {
                        let now = LogStamp::take(&folder, loaded.snapshot.version);
                        now.filter(|now| !stamp.replaced(now)).map(|_| loaded)
                    }
                    _ => None,
                };
                if known.is_none() {
                    self.versions.invalidate_all();
                }
                let loaded = shared.reader.latest(&self.name, &root, known)?;
                let stamp = LogStamp::take(&folder, loaded.snapshot.version);
                Ok(State::Delta { root, loaded, stamp })
            }
            Source::Cloud(location) => {
                let known = match previous {
                    Some(State::Delta { loaded, .. }) => Some(loaded),
                    _ => None,
                };
                let loaded = shared.reader.latest(&self.name, &Root::Cloud(location.clone()), known)?;
                Ok(State::Delta { root: Root::Cloud(location.clone()), loaded, stamp: None })
            }
            Source::Parquet(place) => {
                let root = canonical(place)?;
                let known = match previous {
                    Some(State::Parquet { root: old_root, loaded }) if *old_root == root => Some(loaded),
                    _ => None,
                };
                let loaded = parquet_files::load(&self.name, &root, &shared.limits, known)?;
                Ok(State::Parquet { root, loaded })
            }
        }
    }

    fn is_current(&self, shared: &Shared) -> bool {
        let state = self.state.load();
        match (state.as_deref(), &self.source) {
            (Some(State::Delta { root: Root::Folder(root), loaded, stamp: Some(stamp) }), Source::Delta(place)) => {
                let same_place = canonical(place).is_ok_and(|now| now == *root);
                same_place && LogStamp::take(root, loaded.snapshot.version).is_some_and(|now| !now.has_next() && !stamp.replaced(&now))
            }
            (Some(State::Parquet { root, loaded }), Source::Parquet(place)) => {
                let same_place = canonical(place).is_ok_and(|now| now == *root);
                same_place && loaded.is_current(&self.name, root, &shared.limits).unwrap_or(false)
            }
            _ => false,
        }
    }
}

fn canonical(place: &Path) -> Result<PathBuf> {
    place.canonicalize().map_err(|e| {
        let error = errors::io("can't find the table's folder", place, &e);
        if error.kind() == ErrorKind::NotFound { error.context("the table was removed") } else { error }
    })
}
