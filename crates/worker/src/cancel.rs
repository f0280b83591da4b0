//! Ending a query from outside: by its client, its deadline, an operator or the worker's shutdown.

use std::sync::Arc;
use std::time::Duration;

use flightpath_types::{Error, ErrorKind};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::duck::Interrupter;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    ClientGone,
    Asked,
    Deadline,
    Shutdown,
}

impl Reason {
    pub fn error(self) -> Error {
        match self {
            Reason::ClientGone | Reason::Asked => Error::new(ErrorKind::Cancelled, "the query was cancelled"),
            Reason::Deadline => Error::new(ErrorKind::DeadlineExceeded, "the query's deadline has passed"),
            Reason::Shutdown => Error::unavailable("the DuckDB worker is shutting down"),
        }
    }
}

/// One query's flag and what it interrupts. The flag stays set, as DuckDB forgets an interrupt that
/// comes before the query has started.
#[derive(Default)]
pub struct Cancel {
    state: Arc<Mutex<State>>,
    token: CancellationToken,
}

#[derive(Default)]
struct State {
    reason: Option<Reason>,
    interrupter: Option<Interrupter>,
    finished: bool,
}

/// An interrupt that comes between a query's last look at its flag and its start is forgotten by
/// DuckDB, so that one is followed by others until the query has ended.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);

impl Cancel {
    /// The first reason counts; nothing happens to a query that has ended.
    pub fn cancel(&self, reason: Reason) {
        let (interrupter, first) = {
            let mut state = self.state.lock();
            if state.finished {
                return;
            }
            let first = state.reason.is_none();
            state.reason.get_or_insert(reason);
            (state.interrupter.clone(), first)
        };
        self.token.cancel();
        let Some(interrupter) = interrupter else { return };
        interrupter.interrupt();
        if first {
            self.keep_interrupting();
        }
    }

    /// On a thread of its own: what is to be stopped may hold every other.
    fn keep_interrupting(&self) {
        let state = Arc::downgrade(&self.state);
        let repeat = move || {
            loop {
                std::thread::sleep(INTERRUPT_AGAIN);
                let Some(state) = state.upgrade() else { return };
                let state = state.lock();
                let Some(interrupter) = &state.interrupter else { return };
                interrupter.interrupt();
            }
        };
        if let Err(error) = std::thread::Builder::new().name("interrupt".into()).spawn(repeat) {
            tracing::warn!(%error, "no thread to repeat an interrupt on");
        }
    }

    /// What to interrupt from now on. To be followed by a look at the flag: an earlier reason has
    /// interrupted nothing.
    pub fn attach(&self, interrupter: Interrupter) {
        self.state.lock().interrupter = Some(interrupter);
    }

    /// Nothing runs any more that could be interrupted; what is left may have to wait for its reader.
    pub fn detach(&self) {
        self.state.lock().interrupter = None;
    }

    pub fn finish(&self) {
        let mut state = self.state.lock();
        state.finished = true;
        state.interrupter = None;
    }

    pub fn reason(&self) -> Option<Reason> {
        self.state.lock().reason
    }

    pub fn check(&self) -> Result<(), Error> {
        self.reason().map_or(Ok(()), |reason| Err(reason.error()))
    }

    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}
