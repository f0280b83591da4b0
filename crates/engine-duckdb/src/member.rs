//! One worker as the roster knows it: what it says of itself, when it was heard of last, what it
//! runs, and how its breaker stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use flightpath_proto::v1::WorkerStatus;
use flightpath_types::{Error, ErrorKind, QueryId};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::breaker::Breaker;
use crate::client::Client;

/// A worker as `system.workers` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerFacts {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// `ready`, `silent`, `draining` or `failing`.
    pub state: &'static str,
    pub slots: u32,
    /// As this router counts: its own, and what the worker told of others'.
    pub running: u32,
    /// As the worker itself told last: queries that hold a slot there.
    pub running_there: u32,
    pub waiting: u32,
    pub cores: u32,
    pub memory_bytes_max: u64,
    pub memory_bytes_used: u64,
    pub cached_tables: usize,
    pub heartbeat_age: Duration,
}

/// Who joins.
pub struct Candidate {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub client: Arc<Client>,
    pub status: WorkerStatus,
    /// Whether other routers may use it too.
    pub shared: bool,
}

/// What a query needs of its worker.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    pub query_id: Option<QueryId>,
    /// Its largest table.
    pub table: &'a str,
    pub files: usize,
    /// SQL in the `duckdb` dialect.
    pub user: bool,
    /// The stay of the worker that has been asked already: it's to be another's.
    pub not_on: Option<u64>,
}

impl Need<'_> {
    /// A worker of another shape than the engine's settings may not take what others do.
    pub fn fits(&self, status: &WorkerStatus) -> bool {
        self.files <= status.files_max as usize && (!self.user || status.user_slots > 0)
    }

    /// Why no worker will do.
    pub fn unfit(&self) -> Error {
        if self.user {
            return Error::new(ErrorKind::PermissionDenied, "no DuckDB worker runs SQL written by users");
        }
        let message = format!("the query reads {} files; no DuckDB worker takes as many", self.files);
        Error::classed(ErrorKind::ResourceExhausted, "TOO_MANY_FILES", "53400", message)
    }
}

/// One worker during one stay.
pub struct Member {
    pub name: String,
    labels: BTreeMap<String, String>,
    pub client: Arc<Client>,
    pub epoch: u64,
    shared: bool,
    in_flight: AtomicU32,
    /// Most of this router's queries at once since the last report.
    peak: AtomicU32,
    /// True while it is silent, and once it has left.
    pub lost: watch::Sender<bool>,
    pub now: Mutex<Condition>,
    /// Outlives a stay: see [`crate::roster::Roster::join`].
    pub breaker: Arc<Mutex<Breaker>>,
}

/// What is known of it now.
pub struct Condition {
    pub status: WorkerStatus,
    /// Queries of other routers.
    pub others: u32,
    pub heard: Instant,
}

impl Member {
    pub fn new(candidate: Candidate, epoch: u64, breaker: Arc<Mutex<Breaker>>, now: Instant) -> Self {
        let Candidate { name, labels, client, status, shared } = candidate;
        Self {
            name,
            labels,
            client,
            epoch,
            shared,
            in_flight: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            lost: watch::Sender::new(false),
            now: Mutex::new(Condition { status, others: 0, heard: now }),
            breaker,
        }
    }

    /// Whether it may belong to several routers, and comes and goes as it likes.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// A query of this router's is given to it.
    pub fn enter(&self) {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Of so many that it told of, those of other routers. It may have told of queries that have ended
    /// by now: none of what this router has had since the last report is somebody else's.
    pub fn of_others(&self, told: u32) -> u32 {
        let now = self.in_flight();
        let own = self.peak.swap(now, Ordering::Relaxed).max(now);
        if self.shared { told.saturating_sub(own) } else { 0 }
    }

    /// Completes once the worker is silent or gone.
    pub async fn lost(&self) {
        let mut lost = self.lost.subscribe();
        let _ = lost.wait_for(|lost| *lost).await;
    }

    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Whether it has told that it takes no more queries, and is about to end.
    pub fn is_draining(&self) -> bool {
        self.now.lock().status.draining
    }

    pub fn load(&self, condition: &Condition) -> u32 {
        self.in_flight().saturating_add(condition.others)
    }

    pub fn state(&self, now: Instant) -> &'static str {
        let condition = self.now.lock();
        if self.is_lost() {
            "silent"
        } else if condition.status.draining {
            "draining"
        } else if !self.breaker.lock().allows(now) {
            "failing"
        } else {
            "ready"
        }
    }

    pub fn is_ready(&self, now: Instant) -> bool {
        self.state(now) == "ready"
    }

    pub fn facts(&self, now: Instant) -> WorkerFacts {
        let state = self.state(now);
        let condition = self.now.lock();
        let status = &condition.status;
        WorkerFacts {
            name: self.name.clone(),
            labels: self.labels.clone(),
            state,
            slots: status.slots,
            running: self.load(&condition),
            running_there: status.running,
            waiting: status.waiting,
            cores: status.threads,
            memory_bytes_max: status.memory_bytes_max,
            memory_bytes_used: status.memory_bytes_used,
            cached_tables: status.cached.len(),
            heartbeat_age: now.saturating_duration_since(condition.heard),
        }
    }
}
