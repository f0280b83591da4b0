//! Who may use the worker, and for what: signatures, expiry, single use and size limits. Nothing
//! of a body is decoded before its signature holds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use flightpath_proto::v1::{CancelQuery, SignedTicket, SqlOrigin, StatusRequest, WorkerTicket};
use flightpath_types::{Error, ErrorKind, Result};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use sha2::Sha256;

use crate::{Config, Key};

/// The version of [`WorkerTicket`] that this worker understands.
pub const TICKET_VERSION: u32 = 1;
/// What a ticket for DoGet is signed for; an action's body is signed for the action's type.
pub const PURPOSE_QUERY: &str = "query";
pub const ACTION_CANCEL: &str = "flightpath.cancel";
pub const ACTION_STATUS: &str = "flightpath.status";
pub const ACTION_DESCRIBE: &str = "flightpath.describe";

/// A ticket may not be valid for longer than this, so that remembering nonces stays bounded.
const VALIDITY_MS_MAX: u64 = 10 * 60 * 1000;
const NONCES_MAX: usize = 1 << 20;
const NONCE_BYTES: usize = 16;
/// Routers that one worker works for at once; each has a key of its own.
const KEYS_MAX: usize = 16;

/// The keys whose signatures count now, each with the number of its grant.
#[derive(Default)]
struct Keys {
    macs: RwLock<Vec<(u64, Hmac<Sha256>)>>,
    next: AtomicU64,
}

/// A key that counts until this is dropped.
pub struct Grant {
    keys: Arc<Keys>,
    number: u64,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.keys.macs.write().retain(|(number, _)| *number != self.number);
    }
}

/// Checks what callers present. Remembers the tickets taken until they expire.
pub struct Gate {
    keys: Arc<Keys>,
    /// Holds the key that came with the settings.
    _own: Option<Grant>,
    ticket_bytes_max: u64,
    files_max: u32,
    nonces: Mutex<HashMap<[u8; NONCE_BYTES], u64>>,
}

impl Gate {
    pub fn new(config: &Config) -> Result<Self> {
        let keys = Arc::default();
        let own = config.key.as_ref().map(|key| grant(&keys, key)).transpose()?;
        Ok(Self { keys, _own: own, ticket_bytes_max: config.ticket_bytes_max, files_max: config.files_max, nonces: Mutex::default() })
    }

    /// Takes tickets under this key too, for as long as the grant lives.
    pub fn grant(&self, key: &Key) -> Result<Grant> {
        grant(&self.keys, key)
    }

    /// A ticket for `purpose`, taken: a second try with the same one is refused.
    pub fn ticket(&self, purpose: &str, bytes: &[u8]) -> Result<WorkerTicket> {
        let body = self.body(purpose, bytes)?;
        let ticket = WorkerTicket::decode(body.as_slice()).map_err(|e| Error::invalid(format!("malformed ticket: {e}")))?;
        if ticket.version != TICKET_VERSION {
            return Err(Error::invalid(format!(
                "this worker understands tickets of version {TICKET_VERSION}, not {}; router and worker must be of one release",
                ticket.version
            )));
        }
        check_expiry(ticket.expires_unix_ms)?;
        self.take(&ticket)?;
        self.check_limits(&ticket)?;
        Ok(ticket)
    }

    pub fn cancel(&self, bytes: &[u8]) -> Result<CancelQuery> {
        let request = CancelQuery::decode(self.body(ACTION_CANCEL, bytes)?.as_slice())
            .map_err(|e| Error::invalid(format!("malformed cancel request: {e}")))?;
        check_expiry(request.expires_unix_ms)?;
        Ok(request)
    }

    pub fn status(&self, bytes: &[u8]) -> Result<()> {
        let request = StatusRequest::decode(self.body(ACTION_STATUS, bytes)?.as_slice())
            .map_err(|e| Error::invalid(format!("malformed status request: {e}")))?;
        check_expiry(request.expires_unix_ms)
    }

    /// The signed body, once its signature holds. The envelope's own decoding only copies two
    /// byte strings, and is bounded by the size limit.
    fn body(&self, purpose: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        if bytes.len() as u64 > self.ticket_bytes_max {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("the ticket has {} bytes; the worker takes at most {}", bytes.len(), self.ticket_bytes_max),
            ));
        }
        let refused = || Error::new(ErrorKind::Unauthenticated, "the worker only serves its router: no valid signature");
        let signed = SignedTicket::decode(bytes).map_err(|_| refused())?;
        let holds = |mac: &Hmac<Sha256>| {
            let mut mac = mac.clone();
            mac.update(purpose.as_bytes());
            mac.update(&[0]);
            mac.update(&signed.body);
            // Compares in constant time.
            mac.verify_slice(&signed.mac).is_ok()
        };
        if self.keys.macs.read().iter().any(|(_, mac)| holds(mac)) { Ok(signed.body) } else { Err(refused()) }
    }

    fn take(&self, ticket: &WorkerTicket) -> Result<()> {
        let nonce: [u8; NONCE_BYTES] =
            ticket.nonce.as_slice().try_into().map_err(|_| Error::invalid(format!("a ticket's nonce has {NONCE_BYTES} bytes")))?;
        let now = unix_ms();
        let mut nonces = self.nonces.lock();
        if nonces.len() >= 1024 && nonces.len().is_power_of_two() {
            nonces.retain(|_, expires| *expires > now);
        }
        if nonces.len() >= NONCES_MAX {
            return Err(Error::classed(ErrorKind::ResourceExhausted, "WORKER_BUSY", "53400", "too many tickets at once"));
        }
        if nonces.insert(nonce, ticket.expires_unix_ms).is_some() {
            return Err(Error::new(ErrorKind::Unauthenticated, "the ticket was used before"));
        }
        Ok(())
    }

    fn check_limits(&self, ticket: &WorkerTicket) -> Result<()> {
        let files: usize = ticket.tables.iter().map(|t| t.files.len()).sum();
        if files > self.files_max as usize {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("the query reads {files} files; the worker takes at most {}", self.files_max),
            ));
        }
        if ticket.origin() == SqlOrigin::Unspecified {
            return Err(Error::invalid("the ticket doesn't say where its SQL comes from"));
        }
        for table in &ticket.tables {
            let partitions = table.columns.iter().filter(|c| c.partition).count();
            for file in &table.files {
                if !file.path.starts_with('/') || file.path.contains('\0') {
                    return Err(Error::not_eligible(format!("the DuckDB worker reads local files only, not {}", file.path)));
                }
                if file.partition_values.len() != partitions {
                    return Err(Error::invalid(format!("file {} lacks partition values", file.path)));
                }
            }
        }
        Ok(())
    }
}

fn grant(keys: &Arc<Keys>, key: &Key) -> Result<Grant> {
    let mac = Hmac::new_from_slice(key.as_bytes()).map_err(|_| Error::internal("the worker's key can't be used"))?;
    let mut macs = keys.macs.write();
    if macs.len() >= KEYS_MAX {
        return Err(Error::new(ErrorKind::ResourceExhausted, format!("a worker works for {KEYS_MAX} routers at most")));
    }
    let number = keys.next.fetch_add(1, Ordering::Relaxed);
    macs.push((number, mac));
    Ok(Grant { keys: keys.clone(), number })
}

fn check_expiry(expires_unix_ms: u64) -> Result<()> {
    let now = unix_ms();
    if expires_unix_ms <= now {
        return Err(Error::new(ErrorKind::Unauthenticated, "the ticket has expired"));
    }
    if expires_unix_ms > now + VALIDITY_MS_MAX {
        return Err(Error::new(ErrorKind::Unauthenticated, "the ticket is valid for longer than this worker allows"));
    }
    Ok(())
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
