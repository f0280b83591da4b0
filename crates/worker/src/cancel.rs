//! Ending a query from outside: by its client, its deadline, an operator or the worker's shutdown. One
//! that goes on all the same is given up, and its worker with it: nothing else ends such a query.

use std::sync::Arc;
use std::time::Duration;

use flightpath_types::{Error, ErrorKind};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::duck::Interrupter;
use crate::service::resident_bytes;

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

/// Learns of queries that don't hear that they were told to end.
pub struct Watchdog {
    patience: Duration,
    /// How many there were.
    given_up: watch::Sender<u32>,
}

impl Watchdog {
    /// `patience`: how long a query may go on.
    pub fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self { patience, given_up: watch::Sender::new(0) })
    }

    /// Changes with each query that is given up.
    pub fn subscribe(&self) -> watch::Receiver<u32> {
        self.given_up.subscribe()
    }

    /// Completes once a query has been given up.
    pub fn bitten(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut given_up = self.subscribe();
        async move {
            if given_up.wait_for(|count| *count > 0).await.is_err() {
                // Nobody is left who could give one up.
                std::future::pending::<()>().await;
            }
        }
    }

    /// How often a query is interrupted before it's given up. Counted, not timed: where the process stood
    /// still, or got no processor, the query had no time to hear of it either.
    fn interrupts_max(&self) -> u128 {
        (self.patience.as_millis() / INTERRUPT_AGAIN.as_millis()).max(1)
    }

    fn give_up(&self, query_id: &str, reason: Reason) {
        tracing::error!(
            query_id,
            ?reason,
            after_ms = self.patience.as_millis() as u64,
            "a query goes on after it was told to end: the worker takes no more, finishes the others, and ends"
        );
        self.given_up.send_modify(|count| *count = count.saturating_add(1));
    }
}

/// One query's flag and what it interrupts. The flag stays set, as DuckDB forgets an interrupt that
/// comes before the query has started.
pub struct Cancel {
    query_id: Arc<str>,
    state: Arc<Mutex<State>>,
    token: CancellationToken,
    /// Set when it's given up.
    stuck: CancellationToken,
    watchdog: Arc<Watchdog>,
}

#[derive(Default)]
struct State {
    reason: Option<Reason>,
    interrupter: Option<Interrupter>,
    /// Nothing runs any more that could be interrupted.
    idle: bool,
    finished: bool,
}

/// An interrupt that comes between a query's last look at its flag and its start is forgotten by
/// DuckDB, so that one is followed by others until the query has ended.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);
/// A query that has heard of its end may take long to give its memory back: who frees as much within the
/// watchdog's patience is given another one, up to so many.
const FREED_BYTES: u64 = 64 << 20;
const PATIENCES_MAX: u128 = 20;

impl Cancel {
    pub fn new(query_id: &str, watchdog: Arc<Watchdog>) -> Self {
        let (token, stuck) = (CancellationToken::new(), CancellationToken::new());
        Self { query_id: query_id.into(), state: Arc::default(), token, stuck, watchdog }
    }

    pub fn query_id(&self) -> &str {
        &self.query_id
    }

    /// The first reason counts; nothing happens to a query that has ended.
    pub fn cancel(&self, reason: Reason) {
        let (interrupter, follow) = {
            let mut state = self.state.lock();
            if state.finished {
                return;
            }
            let first = state.reason.is_none();
            state.reason.get_or_insert(reason);
            (state.interrupter.clone(), first && !state.idle)
        };
        self.token.cancel();
        if let Some(interrupter) = interrupter {
            interrupter.interrupt();
        }
        if follow {
            self.follow_up(reason);
        }
    }

    /// Interrupts again and again, and gives the query up in the end. On a thread of its own: what is to be
    /// stopped may hold every other.
    fn follow_up(&self, reason: Reason) {
        let (state, watchdog, stuck) = (Arc::downgrade(&self.state), self.watchdog.clone(), self.stuck.clone());
        let query_id = self.query_id.clone();
        let interrupts_max = watchdog.interrupts_max();
        // At a shutdown the process ends in any case.
        let mut give_up_at = (reason != Reason::Shutdown).then_some(interrupts_max);
        let repeat = move || {
            let mut held = resident_bytes();
            for count in 1u128.. {
                std::thread::sleep(INTERRUPT_AGAIN);
                let Some(state) = state.upgrade() else { return };
                let state = state.lock();
                if state.idle {
                    return;
                }
                if let Some(interrupter) = &state.interrupter {
                    interrupter.interrupt();
                }
                drop(state);
                if give_up_at != Some(count) {
                    continue;
                }
                let held_before = std::mem::replace(&mut held, resident_bytes());
                if held_before.saturating_sub(held) >= FREED_BYTES && count < interrupts_max * PATIENCES_MAX {
                    give_up_at = Some(count + interrupts_max);
                    continue;
                }
                stuck.cancel();
                watchdog.give_up(&query_id, reason);
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
        let mut state = self.state.lock();
        state.interrupter = None;
        state.idle = true;
    }

    pub fn finish(&self) {
        let mut state = self.state.lock();
        state.finished = true;
        state.interrupter = None;
        state.idle = true;
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

    /// Whether it was given up: it may never end.
    pub fn is_stuck(&self) -> bool {
        self.stuck.is_cancelled()
    }

    /// Completes once it is given up.
    pub async fn stuck(&self) {
        self.stuck.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So long that nothing is given up while a test looks.
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_query_that_does_not_end_is_given_up_and_nothing_else_is() {
        let watchdog = Watchdog::new(INTERRUPT_AGAIN * 3);
        let [deaf, shut_down, reading, ended] = ["deaf", "shut down", "reading", "ended"].map(|id| Cancel::new(id, watchdog.clone()));
        shut_down.cancel(Reason::Shutdown);
        // All that is left of it waits for its reader.
        reading.detach();
        reading.cancel(Reason::ClientGone);
        ended.cancel(Reason::Asked);
        ended.finish();
        // Nothing ever says that it has ended.
        deaf.cancel(Reason::Deadline);
        deaf.cancel(Reason::Asked);
        deaf.stuck().await;
        watchdog.bitten().await;
        assert!(deaf.is_stuck() && deaf.reason() == Some(Reason::Deadline));
        // It is counted once, however long it goes on.
        tokio::time::sleep(INTERRUPT_AGAIN * 6).await;
        assert_eq!(*watchdog.subscribe().borrow(), 1);
        assert!(!shut_down.is_stuck() && !reading.is_stuck() && !ended.is_stuck());
    }

    #[tokio::test]
    async fn a_query_that_ends_in_time_leaves_no_trace() {
        let watchdog = Watchdog::new(LONG);
        let cancel = Cancel::new("q", watchdog.clone());
        cancel.cancel(Reason::Asked);
        cancel.cancelled().await;
        assert!(cancel.check().is_err());
        cancel.finish();
        assert!(!cancel.is_stuck());
        assert_eq!(*watchdog.subscribe().borrow(), 0);
    }
}
