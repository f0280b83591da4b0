//! Takes records from queries and brings them to the store, at its pace.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flightpath_types::{Error, ErrorKind, QueryRecord, Result};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::LogStore;
use crate::spool::{self, AppendError, Cursor, Spool};

/// Records per write to the store.
const BATCH_RECORDS_MAX: usize = 500;

#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// A folder of the recorder's own.
    pub spool_dir: PathBuf,
    /// Records beyond this are dropped and counted: a log must not fill the disk.
    pub spool_bytes_max: u64,
    /// Records per write to the store.
    pub batch_records_max: usize,
    /// First pause after the store failed; doubles up to `retry_pause_max`.
    pub retry_pause: Duration,
    pub retry_pause_max: Duration,
}

impl RecorderConfig {
    pub fn new(spool_dir: PathBuf) -> Self {
        Self {
            spool_dir,
            spool_bytes_max: 512 << 20,
            batch_records_max: BATCH_RECORDS_MAX,
            retry_pause: Duration::from_millis(100),
            retry_pause_max: Duration::from_secs(10),
        }
    }
}

/// Told of each record as it is taken, also of one that the spool can't keep. Runs in the query's own
/// task: must be quick and never block.
pub type RecordObserver = Arc<dyn Fn(&QueryRecord) + Send + Sync>;

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecorderStats {
    pub taken: u64,
    pub stored: u64,
    /// Lost: the spool was full or its disk failed.
    pub dropped: u64,
    pub pending_bytes: u64,
}

/// Handle to the recorder; clones share it.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
    drain: Arc<Mutex<Option<JoinHandle<()>>>>,
    stop: Arc<watch::Sender<bool>>,
    observer: Option<RecordObserver>,
}

struct Shared {
    spool: Mutex<Spool>,
    appended: Notify,
    /// Records have reached the store, or nothing was left to bring there.
    advanced: Notify,
    taken: AtomicU64,
    stored: AtomicU64,
    dropped: AtomicU64,
}

impl Shared {
    fn open(spool_dir: &Path, spool_bytes_max: u64) -> Result<Self> {
        let spool = Spool::open(spool_dir, spool_bytes_max)
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("can't open the query log's spool in {}: {e}", spool_dir.display())))?;
        Ok(Self {
            spool: Mutex::new(spool),
            appended: Notify::new(),
            advanced: Notify::new(),
            taken: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    /// Reading goes on from `cursor`, which was kept. Counted only now: before, the same records may be
    /// read and stored once more.
    fn advance(&self, cursor: Cursor, stored: u64, dropped: u64) -> std::io::Result<()> {
        let mut spool = self.spool.lock();
        spool.advance(cursor)?;
        self.stored.fetch_add(stored, Ordering::Relaxed);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        Ok(())
    }
}

impl Recorder {
    /// Opens the spool (records of an earlier run are brought to the store first) and starts the
    /// task that drains it. Must be called inside a tokio runtime.
    pub fn start(store: Arc<dyn LogStore>, config: RecorderConfig) -> Result<Self> {
        let shared = Arc::new(Shared::open(&config.spool_dir, config.spool_bytes_max)?);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(drain(shared.clone(), store, config, stopped));
        Ok(Self { shared, drain: Arc::new(Mutex::new(Some(task))), stop: Arc::new(stop), observer: None })
    }

    /// The same recorder with somebody who is told what it and clones of it take.
    #[must_use]
    pub fn observed_by(self, observer: RecordObserver) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Takes a record. Never waits for the store and never fails a query: a record that can't be
    /// kept is counted and reported in this process's own log.
    pub fn record(&self, record: &QueryRecord) {
        if let Some(observer) = &self.observer {
            observer(record);
        }
        // Made into text before the lock is taken: other queries wait for it.
        let appended = spool::line(record).map_err(AppendError::Io).and_then(|line| self.shared.spool.lock().append(&line));
        match appended {
            Ok(()) => {
                self.shared.taken.fetch_add(1, Ordering::Relaxed);
                self.shared.appended.notify_one();
            }
            Err(why) => {
                // The first of a series says it; the count tells how many.
                let dropped = self.shared.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                if dropped.is_power_of_two() {
                    match why {
                        AppendError::Full => tracing::warn!(dropped, "the query log's spool is full; records are dropped"),
                        AppendError::Io(error) => {
                            tracing::warn!(dropped, %error, "the query log's spool can't be written; records are dropped")
                        }
                    }
                }
            }
        }
    }

    pub fn stats(&self) -> RecorderStats {
        RecorderStats {
            taken: self.shared.taken.load(Ordering::Relaxed),
            stored: self.shared.stored.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            pending_bytes: self.shared.spool.lock().pending_bytes(),
        }
    }

    /// Waits until all records that were taken before are in the store, however many come meanwhile;
    /// false when `limit` passes first (they stay in the spool for the next start).
    pub async fn flush(&self, limit: Duration) -> bool {
        let taken = self.shared.spool.lock().end();
        let stored = async {
            loop {
                let advanced = self.shared.advanced.notified();
                if self.shared.spool.lock().is_read_up_to(taken) {
                    return;
                }
                advanced.await;
            }
        };
        tokio::time::timeout(limit, stored).await.is_ok()
    }

    /// Flushes within `limit` and ends the task.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        let flushed = self.flush(limit).await;
        let _ = self.stop.send(true);
        let task = self.drain.lock().take();
        if let Some(task) = task {
            // In the middle of a write to a database that doesn't answer: its records are in the spool.
            task.abort();
            let _ = task.await;
        }
        flushed
    }
}

/// What becomes of lines that aren't records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    PassOver,
    /// A newer server may have written them, and may read them yet.
    LeaveIt,
}

/// Brings what a recorder that is gone has left in `spool_dir` to the store; the number of records stored.
/// The folder must be the caller's alone until this ends. What isn't stored stays there, also when this is
/// dropped midway.
pub async fn drain_left(store: &dyn LogStore, spool_dir: &Path) -> Result<u64> {
    // Nothing is taken here: there's nothing to bound.
    let shared = Shared::open(spool_dir, u64::MAX)?;
    while bring(&shared, store, BATCH_RECORDS_MAX, Damage::LeaveIt).await? {}
    Ok(shared.stored.load(Ordering::Relaxed))
}

async fn drain(shared: Arc<Shared>, store: Arc<dyn LogStore>, config: RecorderConfig, mut stopped: watch::Receiver<bool>) {
    let mut pause = config.retry_pause;
    loop {
        match bring(&shared, store.as_ref(), config.batch_records_max, Damage::PassOver).await {
            Ok(true) => {
                shared.advanced.notify_waiters();
                pause = config.retry_pause;
            }
            Ok(false) => {
                shared.advanced.notify_waiters();
                tokio::select! {
                    () = shared.appended.notified() => {}
                    _ = stopped.changed() => return,
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the query log can't be written; its records stay in the spool");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stopped.changed() => return,
                }
                pause = (pause * 2).min(config.retry_pause_max);
            }
        }
    }
}

/// Brings the next records to the store; false when there are none.
async fn bring(shared: &Shared, store: &dyn LogStore, records_max: usize, damage: Damage) -> Result<bool> {
    let reader = shared.spool.lock().reader();
    let (records, cursor, damaged) = reader.read(records_max).map_err(|e| Error::unavailable(format!("the spool can't be read: {e}")))?;
    if records.is_empty() && damaged == 0 {
        return Ok(false);
    }
    if damaged > 0 && damage == Damage::LeaveIt {
        return Err(Error::new(ErrorKind::DataLoss, "a spool holds lines that this server can't read as records"));
    }
    let refused = store_batch(store, &records).await?;
    let (stored, dropped) = (records.len() as u64 - refused, damaged as u64 + refused);
    // The files are written and deleted without the lock, which queries wait for.
    let kept = reader.keep(cursor).and_then(|()| shared.advance(cursor, stored, dropped));
    let cleared = kept.and_then(|()| reader.delete_before(cursor));
    cleared.map_err(|e| Error::unavailable(format!("the spool's cursor can't be written: {e}")))?;
    if damaged > 0 {
        tracing::warn!(damaged, "the query log's spool held lines that aren't records; passed over");
    }
    Ok(true)
}

/// One write; the number of records that the store will never take. When it says that a record itself is
/// the trouble, the records are tried one by one, so that one bad record can't block all behind it.
async fn store_batch(store: &dyn LogStore, records: &[QueryRecord]) -> Result<u64> {
    match store.append(records).await {
        Ok(()) => return Ok(0),
        Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
        Err(_) => {}
    }
    let mut refused = 0;
    for record in records {
        match store.append(std::slice::from_ref(record)).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) => {
                tracing::warn!(query_id = %record.query_id, %error, "a query's record can't be stored; dropped");
                refused += 1;
            }
        }
    }
    Ok(refused)
}
