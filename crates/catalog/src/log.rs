//! One Delta log in a local folder, for a catalog that learns of tables elsewhere: its snapshots
//! are cached and read as the local catalog's are. Who may read them isn't decided here: they come
//! out `Free`, and a catalog with rules puts its own in place of that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use delta_kernel_default_engine::executor::tokio::TokioBackgroundExecutor;
use flightpath_types::Result;
use tokio::sync::Semaphore;

use crate::delta::{DeltaReader, Executor};
use crate::discover::{Found, Source};
use crate::table::{Shared, Table};
use crate::{AsOf, CommitInfo, Limits, TableName, TableSnapshot, TableStore};

/// What the logs of one catalog share: limits, and how many are read at once.
#[derive(Clone)]
pub struct DeltaLogs {
    shared: Arc<Shared>,
    cloud: Arc<Cloud>,
}

/// What logs in cloud storage share.
struct Cloud {
    executor: Executor,
    loads: Arc<Semaphore>,
    partition_zone: Option<chrono_tz::Tz>,
}

/// Logs in cloud storage that are read at once: they wait for answers, not for a disk.
const CLOUD_LOADS_MAX: usize = 16;

impl DeltaLogs {
    /// A log that failed isn't read again before `retry_after`. Data files must lie in the table's
    /// own folder.
    pub fn new(limits: Limits, partition_time_zone: Option<chrono_tz::Tz>, retry_after: Duration) -> Self {
        let shared = Shared {
            reader: DeltaReader::new(limits.clone(), partition_time_zone, Vec::new()),
            loads: Arc::new(Semaphore::new(limits.loads_max.max(1))),
            limits,
            retry_after,
        };
        let cloud = Cloud {
            executor: Arc::new(TokioBackgroundExecutor::new()),
            loads: Arc::new(Semaphore::new(CLOUD_LOADS_MAX)),
            partition_zone: partition_time_zone,
        };
        Self { shared: Arc::new(shared), cloud: Arc::new(cloud) }
    }

    /// The log under `root`, not read yet. `name` stands in snapshots and errors.
    pub fn open(&self, name: TableName, root: &Path) -> DeltaLog {
        let place: PathBuf = root.to_path_buf();
        let found = Found { name, source: Source::Delta(place.clone()), place };
        DeltaLog { table: Arc::new(Table::new(found, &self.shared.limits)), shared: self.shared.clone() }
    }

    /// The log in the folder that `store` opens, for the one whose store it is. Whether it grew only
    /// a look at the storage tells: one counts for `looks_last`.
    pub fn open_cloud(&self, name: TableName, store: &TableStore, looks_last: Duration) -> DeltaLog {
        let limits = self.shared.limits.clone();
        let shared = Shared {
            reader: DeltaReader::of_store(store, limits.clone(), self.cloud.partition_zone, self.cloud.executor.clone()),
            loads: self.cloud.loads.clone(),
            retry_after: self.shared.retry_after,
            limits,
        };
        let found = Found { name, source: Source::Cloud(store.location().clone()), place: PathBuf::new() };
        let mut table = Table::new(found, &shared.limits);
        table.looks_last = Some(looks_last);
        DeltaLog { table: Arc::new(table), shared: Arc::new(shared) }
    }
}

/// A cached Delta log.
pub struct DeltaLog {
    table: Arc<Table>,
    shared: Arc<Shared>,
}

impl DeltaLog {
    /// Whether a look in the background is due: always where it costs nothing, else where somebody
    /// asked since the last call of this.
    pub fn is_worth_a_look(&self) -> bool {
        match self.table.looks_last {
            None => self.table.cached().is_some(),
            Some(_) => self.table.take_used(),
        }
    }

    /// The newest snapshot known, without waiting.
    pub fn cached(&self) -> Option<Arc<TableSnapshot>> {
        self.table.note_use();
        self.table.cached()
    }

    /// The newest snapshot known, read now if there's none.
    pub async fn latest(&self) -> Result<Arc<TableSnapshot>> {
        self.table.note_use();
        self.table.latest(&self.shared).await
    }

    /// Reads what was committed since.
    pub async fn refresh(&self) -> Result<Arc<TableSnapshot>> {
        self.table.refresh(&self.shared).await
    }

    pub async fn at(&self, as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
        self.table.at(&self.shared, as_of.clone()).await
    }

    /// Commits newest first, at most `limit`.
    pub async fn history(&self, limit: usize) -> Result<Vec<CommitInfo>> {
        self.table.history(&self.shared, limit).await
    }
}
