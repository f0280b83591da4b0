//! How much memory a query holds at its peak. DuckDB counts memory by instance, not by query, and
//! its own profiling counts cached files in; so an instance is asked now and then, from a thread
//! beside the queries, while one query runs on it alone. And how much it reads: DuckDB's own count
//! leaves most reads of local files out, the system's is by process; so it is known of a query that
//! runs in the process alone, unless it has spilled: what it then reads back can't be told apart.
//!
//! Never asked in a query's own time, never for queries that share their instance, whose shares
//! nobody knows, and ever more rarely the longer a query runs. What wasn't seen is unknown.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::instance::Instance;

/// What is kept for later queries isn't this one's.
const HELD_SQL: &str = "SELECT CAST(coalesce(sum(memory_usage_bytes), 0) AS BIGINT) AS held FROM duckdb_memory() WHERE tag NOT IN ('EXTERNAL_FILE_CACHE', 'OBJECT_CACHE')";
/// The first look, and the shortest pause between two.
const PAUSE_MIN: Duration = Duration::from_millis(40);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// A pause is this part of the time that the query has run.
const PAUSE_PART: u32 = 4;
/// Without queries for so long the thread sleeps until it's woken.
const REST_AFTER: Duration = Duration::from_secs(1);

/// Watches the queries of one worker.
pub struct MemoryWatch {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queries: Vec<Arc<Entry>>,
    resting: bool,
    closed: bool,
}

struct Entry {
    instance: Weak<Instance>,
    began: Instant,
    /// No other query has run on its instance meanwhile.
    alone: AtomicBool,
    /// No other query has run in the process meanwhile.
    only: AtomicBool,
    /// What the process had read before.
    read_before: Option<u64>,
    /// When the instance had last spilled before.
    spilled_before: Option<SystemTime>,
    /// One more than the peak; 0: never seen.
    peak: AtomicU64,
    next: Mutex<Instant>,
}

/// One query, watched until this is dropped.
pub struct Watched {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
}

impl MemoryWatch {
    /// The thread is bound by the limits of the caller's. A system without one to spare watches nothing.
    pub fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let own = shared.clone();
        if let Err(error) = std::thread::Builder::new().name("memory-watch".into()).spawn(move || watch(&own)) {
            tracing::warn!(%error, "no thread watches queries' memory");
        }
        Self { shared }
    }

    pub fn enter(&self, instance: &Arc<Instance>) -> Watched {
        let began = Instant::now();
        let known = Arc::downgrade(instance);
        // Before the lock: it looks at files.
        let spilled_before = instance.last_spilled();
        let mut state = self.shared.state.lock();
        let (mut alone, only) = (true, state.queries.is_empty());
        for other in &state.queries {
            other.only.store(false, Ordering::Relaxed);
            if other.instance.ptr_eq(&known) {
                other.alone.store(false, Ordering::Relaxed);
                alone = false;
            }
        }
        let entry = Arc::new(Entry {
            instance: known,
            began,
            alone: AtomicBool::new(alone),
            only: AtomicBool::new(only),
            read_before: if only { process_read_bytes() } else { None },
            spilled_before: spilled_before.filter(|_| only),
            peak: AtomicU64::new(0),
            next: Mutex::new(began + PAUSE_MIN),
        });
        state.queries.push(entry.clone());
        if state.resting {
            self.shared.wake.notify_one();
        }
        Watched { shared: self.shared.clone(), entry }
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Watched {
    /// The most that the query was seen to hold, in bytes; `None` where it can't be told.
    pub fn peak(&self) -> Option<u64> {
        let alone = self.entry.alone.load(Ordering::Relaxed);
        self.entry.peak.load(Ordering::Relaxed).checked_sub(1).filter(|_| alone)
    }

    /// Bytes that it has read of files until now, whether from a disk or from the system's cache; `None` where it
    /// can't be told.
    pub fn read_bytes(&self) -> Option<u64> {
        let spilled_before = self.entry.spilled_before?;
        if self.entry.instance.upgrade()?.last_spilled() != Some(spilled_before) {
            return None;
        }
        let now = process_read_bytes()?;
        // Looked at last: a query that has begun meanwhile counts.
        let read = now.checked_sub(self.entry.read_before?);
        read.filter(|_| self.entry.only.load(Ordering::Relaxed))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shared.state.lock().queries.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
    }
}

fn watch(shared: &Shared) {
    let mut state = shared.state.lock();
    let mut busy = Instant::now();
    while !state.closed {
        let now = Instant::now();
        let due: Vec<Arc<Entry>> = state.queries.iter().filter(|entry| entry.is_due(now)).cloned().collect();
        if !state.queries.is_empty() {
            busy = now;
        }
        if !due.is_empty() {
            MutexGuard::unlocked(&mut state, || due.iter().for_each(|entry| entry.look()));
            continue;
        }
        if now.duration_since(busy) >= REST_AFTER {
            state.resting = true;
            shared.wake.wait(&mut state);
            state.resting = false;
        } else {
            shared.wake.wait_for(&mut state, PAUSE_MIN);
        }
    }
}

impl Entry {
    fn is_due(&self, now: Instant) -> bool {
        self.alone.load(Ordering::Relaxed) && *self.next.lock() <= now
    }

    fn look(&self) {
        // One whose instance is gone, or is broken, is over.
        if let Some(held) = self.instance.upgrade().and_then(|instance| held_bytes(&instance)) {
            self.peak.fetch_max(held.saturating_add(1), Ordering::Relaxed);
        }
        let now = Instant::now();
        let pause = (now.duration_since(self.began) / PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX);
        *self.next.lock() = now + pause;
    }
}

static PROCESS_IO: OnceLock<Option<File>> = OnceLock::new();

/// Opens what [`Watched::read_bytes`] looks at. To be called before the process gives up its rights to look at
/// itself; without it, or where the system has no such file, what is read isn't known.
pub fn open_process_io() {
    PROCESS_IO.get_or_init(|| File::open("/proc/self/io").ok());
}

/// What this process has read by `read` and the like: files, but no sockets.
fn process_read_bytes() -> Option<u64> {
    open_process_io();
    let mut text = [0; 1024];
    let length = PROCESS_IO.get()?.as_ref()?.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    text.lines().find_map(|line| line.strip_prefix("rchar:"))?.trim().parse().ok()
}

fn held_bytes(instance: &Instance) -> Option<u64> {
    let connection = instance.connect().ok()?;
    let prepared = connection.prepare_select(HELD_SQL).ok()?;
    let mut rows = prepared.stream(prepared.schema().ok()?, || false).ok()?;
    let batch = rows.next_chunk().ok()??;
    let held = batch.column(0).as_primitive_opt::<Int64Type>()?;
    (!held.is_empty() && held.is_valid(0)).then(|| u64::try_from(held.value(0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Instances;
    use crate::{Config, Key};

    const SORT: &str = "SELECT range AS i FROM range(2000000) ORDER BY hash(range)";

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_query_alone_on_its_instance_is_seen_and_two_together_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let instances = Instances::open(&Config::new(Key::new(vec![7; 32]).unwrap(), folder.path().into(), 1 << 30, 2)).unwrap();
        let memory = MemoryWatch::start();
        let instance = instances.shared().unwrap();
        let connection = instance.connect().unwrap();
        let watched = memory.enter(&instance);
        let prepared = connection.prepare_select(SORT).unwrap();
        let mut rows = prepared.stream(prepared.schema().unwrap(), || false).unwrap();
        assert!(rows.next_chunk().unwrap().is_some());
        // Two million rows of eight bytes are sorted and wait to be taken.
        until("the sort's memory isn't seen", || watched.peak().is_some_and(|bytes| bytes > 8_000_000));
        let second = memory.enter(&instance);
        assert_eq!((watched.peak(), second.peak()), (None, None));
        assert_eq!((watched.read_bytes(), second.read_bytes()), (None, None));
        // Elsewhere it is alone.
        let private = instances.private().unwrap();
        let third = memory.enter(&private);
        until("an instance of its own isn't seen", || third.peak().is_some());
        drop((watched, second, third));
        assert!(memory.shared.state.lock().queries.is_empty());
    }

    #[test]
    fn what_a_query_reads_is_known_where_it_is_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("read.bin");
        std::fs::write(&file, vec![7; 300_000]).unwrap();
        let instances = Instances::open(&Config::new(Key::new(vec![7; 32]).unwrap(), folder.path().into(), 1 << 30, 2)).unwrap();
        let (memory, instance) = (MemoryWatch::start(), instances.shared().unwrap());
        let watched = memory.enter(&instance);
        assert_eq!(std::fs::read(&file).unwrap().len(), 300_000);
        // Other tests of this process read, too.
        assert!(watched.read_bytes().unwrap() >= 300_000);
        let private = instances.private().unwrap();
        let second = memory.enter(&private);
        assert_eq!((watched.read_bytes(), second.read_bytes()), (None, None));
    }

    #[test]
    fn what_a_query_reads_is_not_known_once_it_has_spilled() {
        let folder = tempfile::tempdir().unwrap();
        // Of these, three quarters are for such queries: less than what is sorted.
        let config = Config::new(Key::new(vec![7; 32]).unwrap(), folder.path().into(), 128 << 20, 2);
        let instances = Instances::open(&config).unwrap();
        let (memory, instance) = (MemoryWatch::start(), instances.shared().unwrap());
        let connection = instance.connect().unwrap();
        let run = |sql: &str| {
            let watched = memory.enter(&instance);
            let prepared = connection.prepare_select(sql).unwrap();
            let mut rows = prepared.stream(prepared.schema().unwrap(), || false).unwrap();
            while rows.next_chunk().unwrap().is_some() {}
            drop(rows);
            drop(prepared);
            watched.read_bytes()
        };
        assert!(run("SELECT 1 AS one").is_some());
        assert_eq!(run("SELECT range AS i FROM range(10000000) ORDER BY hash(range)"), None);
        // What others spilled before it is their own.
        until("the next query's reads aren't known", || run("SELECT 1 AS one").is_some());
    }
}
