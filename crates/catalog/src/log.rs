//! One Delta log in a local folder, for a catalog that learns of tables elsewhere: its snapshots
//! are cached and read as the local catalog's are. Who may read them isn't decided here: they come
//! out `Free`, and a catalog with rules puts its own in place of that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flightpath_types::Result;
use tokio::sync::Semaphore;

use crate::delta::DeltaReader;
use crate::discover::{Found, Source};
use crate::table::{Shared, Table};
use crate::{AsOf, CommitInfo, Limits, TableName, TableSnapshot};

/// What the logs of one catalog share: limits, and how many are read at once.
#[derive(Clone)]
pub struct DeltaLogs {
    shared: Arc<Shared>,
}

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
        Self { shared: Arc::new(shared) }
    }

    /// The log under `root`, not read yet. `name` stands in snapshots and errors.
    pub fn open(&self, name: TableName, root: &Path) -> DeltaLog {
        let place: PathBuf = root.to_path_buf();
        let found = Found { name, source: Source::Delta(place.clone()), place };
        DeltaLog { table: Arc::new(Table::new(found, &self.shared.limits)), shared: self.shared.clone() }
    }
}

/// A cached Delta log.
pub struct DeltaLog {
    table: Arc<Table>,
    shared: Arc<Shared>,
}

impl DeltaLog {
    /// The newest snapshot known, without waiting.
    pub fn cached(&self) -> Option<Arc<TableSnapshot>> {
        self.table.cached()
    }

    /// The newest snapshot known, read now if there's none.
    pub async fn latest(&self) -> Result<Arc<TableSnapshot>> {
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
