//! The threads that call DuckDB. A call blocks for as long as the query takes, and its planner
//! recurses deeply, so these are threads of their own with a large stack, kept for reuse.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use flightpath_types::{Error, Result};
use parking_lot::{Condvar, Mutex};

use crate::sandbox;

/// Address space, not memory: pages are only taken when they're used.
const STACK_BYTES: usize = 256 << 20;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// All that its threads may write to.
    temp_dir: PathBuf,
}

/// Grows to as many threads as jobs run at once; who submits jobs limits how many these are.
pub struct Threads {
    shared: Arc<Shared>,
}

impl Threads {
    pub fn new(temp_dir: PathBuf) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), temp_dir }) }
    }

    /// Runs `job` on a thread of its own. A panic in it ends the job alone.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut state = self.shared.state.lock();
        state.jobs.push_back(Box::new(job));
        if state.idle >= state.jobs.len() {
            self.shared.wake.notify_one();
            return Ok(());
        }
        drop(state);
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new().name("duckdb".into()).stack_size(STACK_BYTES).spawn(move || work(&shared));
        // Without this thread the job waits for another to become free, if there is any.
        spawned.map(drop).map_err(|e| Error::unavailable(format!("the worker can't start a thread: {e}")))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

fn work(shared: &Shared) {
    sandbox::enter(&shared.temp_dir);
    let mut state = shared.state.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a query's thread panicked");
            }
            state = shared.state.lock();
        } else if state.closed {
            return;
        } else {
            state.idle += 1;
            shared.wake.wait(&mut state);
            state.idle -= 1;
        }
    }
}
