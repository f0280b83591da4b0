//! Ending a query from outside: by its client, its deadline, an operator or the worker's shutdown.

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
    state: Mutex<State>,
    token: CancellationToken,
}

#[derive(Default)]
struct State {
    reason: Option<Reason>,
    interrupter: Option<Interrupter>,
    finished: bool,
}

impl Cancel {
    /// The first reason counts; nothing happens to a query that has ended.
    pub fn cancel(&self, reason: Reason) {
        let interrupter = {
            let mut state = self.state.lock();
            if state.finished {
                return;
            }
            state.reason.get_or_insert(reason);
            state.interrupter.clone()
        };
        self.token.cancel();
        if let Some(interrupter) = interrupter {
            interrupter.interrupt();
        }
    }

    /// What to interrupt from now on.
    pub fn attach(&self, interrupter: Interrupter) {
        self.state.lock().interrupter = Some(interrupter);
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
