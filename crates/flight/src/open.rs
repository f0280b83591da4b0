//! How many client connections, and sessions, are open.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::session::Sessions;

/// Clones share one count.
#[derive(Debug, Clone, Default)]
pub struct OpenConnections(Arc<AtomicUsize>);

impl OpenConnections {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self) -> Open {
        self.0.fetch_add(1, Ordering::Relaxed);
        Open(self.0.clone())
    }
}

/// Clones share one count, which is that of the front door's sessions from its start on.
#[derive(Clone, Default)]
pub struct OpenSessions(Arc<OnceLock<Weak<Sessions>>>);

impl OpenSessions {
    pub fn count(&self) -> usize {
        self.0.get().and_then(Weak::upgrade).map_or(0, |sessions| sessions.len())
    }

    pub(crate) fn follow(&self, sessions: &Arc<Sessions>) {
        let _ = self.0.set(Arc::downgrade(sessions));
    }
}

impl std::fmt::Debug for OpenSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenSessions(..)")
    }
}

/// One connection, counted while it lives.
pub(crate) struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
