//! The sessions that live in this process: which call belongs to which, and how many there may be.
//! A session with changed settings is never dropped to make room; one without is free to go, since
//! it comes back the same.
//!
//! A call's session is, first that applies:
//! 1. the signed cookie `arrow_flight_session_id`;
//! 2. the token a handshake gave (each handshake opens a session);
//! 3. any other bearer token: calls with the same static token share a session, on any connection;
//! 4. the connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use flightpath_pipeline::SessionHandle;
use flightpath_types::{Error, ErrorKind, Principal, Result, SecretToken, Session, SessionId};
use moka::sync::Cache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::config::{Config, Limits};
use crate::sign::fixed;

/// The 16 bytes behind a [`SessionId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey(pub [u8; 16]);

impl SessionKey {
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The session of a static bearer token.
    pub fn of_token(token: &str) -> Self {
        Self(fixed(&Sha256::digest(token.as_bytes())[..16]))
    }
}

struct Held {
    handle: SessionHandle,
    principal: Principal,
    used: Instant,
}

pub(crate) struct Sessions {
    held: DashMap<SessionKey, Held>,
    /// Sessions that were closed and whose token is still unexpired.
    closed: Cache<SessionKey, ()>,
    /// Sessions that were dropped for not being used, with settings that their clients believe in.
    lost: Cache<SessionKey, ()>,
    /// The bearer tokens that sessions were opened with, for asking outside systems in the caller's
    /// name. In this process only: a token that another replica issued comes without.
    credentials: Cache<SessionKey, SecretToken>,
    limits: Limits,
    idle: Duration,
    swept: Mutex<Instant>,
}

const SWEEP_EVERY: Duration = Duration::from_secs(60);

impl Sessions {
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            held: DashMap::new(),
            closed: Cache::builder().max_capacity(100_000).time_to_live(config.lifetimes.token).build(),
            lost: Cache::builder().max_capacity(100_000).time_to_live(config.lifetimes.token).build(),
            credentials: Cache::builder().max_capacity(config.limits.sessions as u64).time_to_live(config.lifetimes.token).build(),
            limits: config.limits.clone(),
            idle: config.lifetimes.session_idle,
            swept: Mutex::new(Instant::now()),
        })
    }

    /// The session, made when it isn't there. One key never serves two principals.
    pub fn get(&self, key: SessionKey, principal: &Principal) -> Result<SessionHandle> {
        if let Some(mut held) = self.held.get_mut(&key) {
            return touch(&mut held, principal);
        }
        self.make_room(principal)?;
        match self.held.entry(key) {
            Entry::Occupied(mut held) => touch(held.get_mut(), principal),
            Entry::Vacant(vacant) => {
                let handle = SessionHandle::new(SessionId::new(hex::encode(key.0)), Session::new(principal.clone()));
                vacant.insert(Held { handle: handle.clone(), principal: principal.clone(), used: Instant::now() });
                Ok(handle)
            }
        }
    }

    pub fn is_closed(&self, key: SessionKey) -> bool {
        self.closed.contains_key(&key)
    }

    /// Whether this session had settings that aren't kept any more.
    pub fn is_lost(&self, key: SessionKey) -> bool {
        self.lost.contains_key(&key) && !self.held.contains_key(&key)
    }

    /// The next call begins the session anew.
    pub fn forget_loss(&self, key: SessionKey) {
        self.lost.invalidate(&key);
    }

    pub fn keep_credential(&self, key: SessionKey, token: SecretToken) {
        self.credentials.insert(key, token);
    }

    pub fn credential(&self, key: SessionKey) -> Option<SecretToken> {
        self.credentials.get(&key)
    }

    /// Sessions that are held now.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Forgets the settings. With `for_good` the key is refused from now on.
    pub fn close(&self, key: SessionKey, for_good: bool) {
        self.held.remove(&key);
        self.credentials.invalidate(&key);
        if for_good {
            self.closed.insert(key, ());
        }
    }

    fn make_room(&self, principal: &Principal) -> Result<()> {
        let due = {
            let mut swept = self.swept.lock();
            let due = swept.elapsed() > SWEEP_EVERY || self.held.len() >= self.limits.sessions;
            if due {
                *swept = Instant::now();
            }
            due
        };
        if due {
            self.sweep();
        }
        if self.held.len() >= self.limits.sessions {
            return Err(Error::new(ErrorKind::ResourceExhausted, "too many sessions on this server; close some or wait"));
        }
        // Counting is only worth its cost once the server holds more than one principal may.
        if self.held.len() >= self.limits.sessions_per_principal {
            let own = self.held.iter().filter(|held| held.principal == *principal).count();
            if own >= self.limits.sessions_per_principal {
                return Err(Error::new(
                    ErrorKind::ResourceExhausted,
                    format!("user '{principal}' has too many sessions; close some or wait"),
                ));
            }
        }
        Ok(())
    }

    /// Drops what is idle for too long, and what nobody uses and nobody would miss.
    fn sweep(&self) {
        let crowded = self.held.len() >= self.limits.sessions.min(self.limits.sessions_per_principal);
        self.held.retain(|key, held| {
            if held.handle.is_in_use() {
                return true;
            }
            let unchanged = held.handle.settings() == Session::new(held.principal.clone());
            let expired = held.used.elapsed() > self.idle;
            if expired && !unchanged {
                self.lost.insert(*key, ());
            }
            let dispensable = (crowded || held.used.elapsed() > SWEEP_EVERY) && unchanged;
            !(expired || dispensable)
        });
    }
}

fn touch(held: &mut Held, principal: &Principal) -> Result<SessionHandle> {
    if held.principal != *principal {
        return Err(Error::new(ErrorKind::PermissionDenied, "this session belongs to another user"));
    }
    held.used = Instant::now();
    Ok(held.handle.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(limit: usize) -> Arc<Sessions> {
        let limits = Limits { sessions: limit, ..Limits::default() };
        Sessions::new(&Config { limits, ..Config::default() })
    }

    #[test]
    fn a_key_keeps_its_settings_and_its_principal() {
        let sessions = sessions(10);
        let (ann, key) = (Principal::new("ann"), SessionKey::random());
        sessions.get(key, &ann).unwrap().set("engine", "duckdb").unwrap();
        assert_eq!(sessions.get(key, &ann).unwrap().settings().get("engine").unwrap(), "duckdb");
        assert_eq!(sessions.get(key, &Principal::new("bob")).unwrap_err().kind(), ErrorKind::PermissionDenied);
        sessions.close(key, true);
        assert!(sessions.is_closed(key));
    }

    #[test]
    fn what_was_dropped_with_settings_is_known_to_be_lost() {
        let lifetimes = crate::config::Lifetimes { session_idle: Duration::ZERO, ..Default::default() };
        let limits = Limits { sessions: 2, ..Limits::default() };
        let sessions = Sessions::new(&Config { limits, lifetimes, ..Config::default() });
        let (ann, changed, plain) = (Principal::new("ann"), SessionKey::random(), SessionKey::random());
        sessions.get(changed, &ann).unwrap().set("tag", "x").unwrap();
        drop(sessions.get(plain, &ann).unwrap());
        assert!(!sessions.is_lost(changed));
        // The server is full: idle ones go.
        drop(sessions.get(SessionKey::random(), &ann).unwrap());
        assert!(sessions.is_lost(changed));
        assert!(!sessions.is_lost(plain));
        sessions.forget_loss(changed);
        assert_eq!(sessions.get(changed, &ann).unwrap().settings().get("tag").unwrap(), "");
    }

    #[test]
    fn only_sessions_without_settings_make_room() {
        let sessions = sessions(2);
        let ann = Principal::new("ann");
        let kept = SessionKey::random();
        sessions.get(kept, &ann).unwrap().set("tag", "x").unwrap();
        for _ in 0..5 {
            let changed = sessions.get(SessionKey::random(), &ann).unwrap();
            drop(changed);
        }
        assert_eq!(sessions.get(kept, &ann).unwrap().settings().get("tag").unwrap(), "x");
        sessions.get(SessionKey::random(), &ann).unwrap().set("tag", "y").unwrap();
        assert_eq!(sessions.get(SessionKey::random(), &ann).unwrap_err().kind(), ErrorKind::ResourceExhausted);
    }
}
