//! Decisions as they are made, for whoever watches. A watcher sees its own principal's alone, unless
//! that is an administrator, holds a bounded number of them, and when it is slow it loses the oldest and is told how many: a query
//! never waits for one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flightpath_types::{Decision, Error, ErrorKind, Fingerprint, Principal, QueryId, Result, Session};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::administrators::Administrators;

const WATCHERS_MAX: usize = 64;
const WATCHERS_PER_PRINCIPAL_MAX: usize = 8;
/// Decisions that wait for one watcher.
const WAITING_MAX: usize = 256;
/// Of a statement's text, what is kept for watchers.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// One decision.
#[derive(Debug, Clone)]
pub struct DecisionEvent {
    pub query_id: QueryId,
    pub principal: Principal,
    /// Milliseconds since the Unix epoch.
    pub decided_unix_ms: i64,
    /// The beginning of the statement's text.
    pub text: String,
    pub text_bytes: u64,
    pub statement_kind: &'static str,
    pub fingerprint: Option<Fingerprint>,
    pub tag: Option<String>,
    pub decision: Decision,
}

/// What a watcher gets next.
#[derive(Debug, Clone)]
pub struct Watched {
    pub event: Arc<DecisionEvent>,
    /// Decisions lost since the last one, because this watcher was slow.
    pub lost: u64,
}

/// The watchers there are.
#[derive(Default)]
pub(crate) struct DecisionHub {
    watchers: Mutex<Vec<Arc<Watcher>>>,
    /// So that a query that nobody watches takes no lock.
    count: AtomicUsize,
    administrators: Arc<Administrators>,
}

struct Watcher {
    principal: Principal,
    queue: Mutex<Queue>,
    ready: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<DecisionEvent>>,
    lost: u64,
    closed: bool,
}

/// One watcher's end. Dropping it ends the watch.
pub struct DecisionWatch {
    watcher: Arc<Watcher>,
    hub: Arc<DecisionHub>,
}

impl DecisionHub {
    pub fn new(administrators: Arc<Administrators>) -> Self {
        Self { administrators, ..Default::default() }
    }

    /// `ResourceExhausted` when there are too many watchers.
    pub fn watch(self: &Arc<Self>, principal: &Principal) -> Result<DecisionWatch> {
        let watcher = Arc::new(Watcher { principal: principal.clone(), queue: Mutex::default(), ready: Notify::new() });
        let mut watchers = self.watchers.lock();
        let own = watchers.iter().filter(|w| w.principal == *principal).count();
        if own >= WATCHERS_PER_PRINCIPAL_MAX || watchers.len() >= WATCHERS_MAX {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "too many watches: there may be {WATCHERS_PER_PRINCIPAL_MAX} for each user and {WATCHERS_MAX} in all; end one first"
                ),
            ));
        }
        watchers.push(watcher.clone());
        self.count.store(watchers.len(), Ordering::Release);
        Ok(DecisionWatch { watcher, hub: self.clone() })
    }

    /// Tells the watchers that may see this principal's, if there are any.
    pub fn publish(
        &self,
        query_id: QueryId,
        text: &str,
        statement_kind: &'static str,
        fingerprint: Option<Fingerprint>,
        settings: &Session,
        decision: &Decision,
    ) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let watchers = self.watchers.lock();
        let mut watching =
            watchers.iter().filter(|w| w.principal == settings.principal || self.administrators.includes(&w.principal)).peekable();
        if watching.peek().is_none() {
            return;
        }
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let event = Arc::new(DecisionEvent {
            query_id,
            principal: settings.principal.clone(),
            decided_unix_ms: crate::lifecycle::unix_ms(),
            text: text[..end].to_string(),
            text_bytes: text.len() as u64,
            statement_kind,
            fingerprint,
            tag: settings.tag.clone(),
            decision: decision.clone(),
        });
        for watcher in watching {
            watcher.push(event.clone());
        }
    }

    /// Ends every watch, at shutdown.
    pub fn close(&self) {
        for watcher in self.watchers.lock().drain(..) {
            watcher.queue.lock().closed = true;
            watcher.ready.notify_one();
        }
        self.count.store(0, Ordering::Release);
    }
}

impl Watcher {
    fn push(&self, event: Arc<DecisionEvent>) {
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= WAITING_MAX {
            queue.waiting.pop_front();
            queue.lost += 1;
        }
        queue.waiting.push_back(event);
        drop(queue);
        self.ready.notify_one();
    }
}

impl DecisionWatch {
    /// The next decision; `None` when the server shuts down.
    pub async fn next(&mut self) -> Option<Watched> {
        loop {
            {
                let mut queue = self.watcher.queue.lock();
                if let Some(event) = queue.waiting.pop_front() {
                    return Some(Watched { event, lost: std::mem::take(&mut queue.lost) });
                }
                if queue.closed {
                    return None;
                }
            }
            // One that was notified between the look and here isn't missed: the permit is kept.
            self.watcher.ready.notified().await;
        }
    }
}

impl Drop for DecisionWatch {
    fn drop(&mut self) {
        let mut watchers = self.hub.watchers.lock();
        watchers.retain(|w| !Arc::ptr_eq(w, &self.watcher));
        self.hub.count.store(watchers.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(hub: &DecisionHub, principal: &str, text: &str) {
        let decision = Decision {
            strategy: "rules".into(),
            candidates: Vec::new(),
            reason: "none".into(),
            profile: None,
            propensity: None,
            arm: None,
        };
        hub.publish(QueryId::generate(), text, "query", None, &Session::new(Principal::new(principal)), &decision);
    }

    #[tokio::test]
    async fn a_watcher_sees_its_own_principals_decisions_in_order() {
        let hub = Arc::new(DecisionHub::default());
        let mut ann = hub.watch(&Principal::new("ann")).unwrap();
        decide(&hub, "bob", "SELECT 0");
        decide(&hub, "ann", "SELECT 1");
        decide(&hub, "ann", &"ä".repeat(TEXT_BYTES_MAX));
        let first = ann.next().await.unwrap();
        assert_eq!((first.event.text.as_str(), first.lost), ("SELECT 1", 0));
        let second = ann.next().await.unwrap();
        assert_eq!((second.event.text.len(), second.event.text_bytes), (TEXT_BYTES_MAX, 2 * TEXT_BYTES_MAX as u64));
        hub.close();
        assert!(ann.next().await.is_none());
    }

    #[tokio::test]
    async fn an_administrator_sees_everybodys_for_as_long_as_it_is_one() {
        let ann = Principal::new("ann");
        let administrators = Arc::new(Administrators::new([ann.clone()].into()));
        let hub = Arc::new(DecisionHub::new(administrators.clone()));
        let mut watch = hub.watch(&ann).unwrap();
        decide(&hub, "bob", "SELECT 0");
        administrators.replace(Default::default());
        decide(&hub, "bob", "SELECT 1");
        decide(&hub, "ann", "SELECT 2");
        for expected in ["SELECT 0", "SELECT 2"] {
            assert_eq!(watch.next().await.unwrap().event.text, expected);
        }
    }

    #[tokio::test]
    async fn a_slow_watcher_loses_the_oldest_and_is_told() {
        let hub = Arc::new(DecisionHub::default());
        let mut slow = hub.watch(&Principal::new("ann")).unwrap();
        for number in 0..WAITING_MAX + 3 {
            decide(&hub, "ann", &number.to_string());
        }
        let next = slow.next().await.unwrap();
        assert_eq!((next.event.text.as_str(), next.lost), ("3", 3));
        assert_eq!(slow.next().await.unwrap().lost, 0);
    }

    #[test]
    fn watchers_are_limited_and_make_room_when_they_go() {
        let hub = Arc::new(DecisionHub::default());
        let ann = Principal::new("ann");
        let mut watches: Vec<_> = (0..WATCHERS_PER_PRINCIPAL_MAX).map(|_| hub.watch(&ann).unwrap()).collect();
        assert_eq!(hub.watch(&ann).err().unwrap().kind(), ErrorKind::ResourceExhausted);
        assert!(hub.watch(&Principal::new("bob")).is_ok());
        watches.pop();
        assert!(hub.watch(&ann).is_ok());
    }
}
