//! How workers on other machines join a router: both ends of one long call, in which each proves to
//! the other that it knows the fleet's key, and the worker then tells every second how it is.
//!
//! The key itself never travels and is never printed. Nobody who doesn't know it learns anything,
//! is given work, or can speak for a worker; and what was signed for one stay of a worker means
//! nothing to the next. This crate knows no engine and no DuckDB: who takes workers in implements
//! [`Roster`], who lends one out implements [`Worker`].
//!
//! | file | what |
//! |---|---|
//! | `handshake` | the key, proofs, and the keys that are made of them |
//! | `door`, `incoming` | the router's end |
//! | `agent` | the worker's end |

#![forbid(unsafe_code)]

mod agent;
mod door;
mod handshake;
mod incoming;

use std::collections::BTreeMap;

use async_trait::async_trait;
use flightpath_proto::v1::WorkerStatus;
use flightpath_types::{Error, Result};
use futures::future::BoxFuture;

pub use agent::{AgentConfig, keep_registered};
pub use door::{DoorConfig, Tls, serve};
pub use handshake::{FleetKey, KEY_BYTES};

const PROTOCOL_VERSION: u32 = 1;
const NAME_BYTES_MAX: usize = 128;
const ADDRESS_BYTES_MAX: usize = 256;
const LABELS_MAX: usize = 32;
const LABEL_BYTES_MAX: usize = 128;
/// One message of either end; a status with all its tables' names is far smaller.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
const PURPOSE_REGISTRATION: &str = "registration";
const PURPOSE_HEARTBEAT: &str = "heartbeat";

/// A worker that has proved that it belongs to the fleet.
pub struct Joining {
    pub name: String,
    /// `host:port`
    pub address: String,
    pub tls: bool,
    pub labels: BTreeMap<String, String>,
    pub status: WorkerStatus,
    /// Signs this stay's tickets.
    pub ticket_key: [u8; KEY_BYTES],
}

/// Takes workers in, at the router.
#[async_trait]
pub trait Roster: Send + Sync {
    /// Fails when the worker can't be reached, its name is taken, or there are too many: the reason
    /// is told to the worker, which tries again.
    async fn join(&self, joining: Joining) -> Result<Box<dyn Seat>>;
}

/// A worker's place. Dropping it ends its stay.
pub trait Seat: Send {
    /// It has told how it is.
    fn report(&self, status: &WorkerStatus);
}

/// A worker that can be lent out, at its own end.
pub trait Worker: Send + Sync {
    fn status(&self) -> WorkerStatus;

    /// Takes tickets under this key for as long as what is returned lives.
    fn grant(&self, ticket_key: &[u8; KEY_BYTES]) -> Result<Box<dyn Send + Sync>>;

    /// Completes once the worker takes no more queries.
    fn draining(&self) -> BoxFuture<'static, ()>;
}

/// Whether a worker may go by this name.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        return Err(Error::invalid(format!("a worker's name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_`, `.` and `:`")));
    }
    Ok(())
}

/// Whether routers may be told this of a worker.
pub fn check_description(address: &str, labels: &BTreeMap<String, String>) -> Result<()> {
    let printable = |text: &str| text.len() <= LABEL_BYTES_MAX && text.chars().all(|c| !c.is_control());
    let port = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
    if !port || address.len() > ADDRESS_BYTES_MAX || !address.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:[]".contains(c)) {
        return Err(Error::invalid(format!("a worker's address is host:port, not `{}`", address.chars().take(64).collect::<String>())));
    }
    if labels.len() > LABELS_MAX || labels.iter().any(|(key, value)| key.is_empty() || !printable(key) || !printable(value)) {
        return Err(Error::invalid(format!("a worker has at most {LABELS_MAX} labels of {LABEL_BYTES_MAX} printable characters")));
    }
    Ok(())
}

/// rustls can't choose by itself when the tree has two providers, and panics. Whoever chose before
/// has chosen.
fn choose_cryptography() {
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    if CryptoProvider::get_default().is_none() && aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("another thread chose the cryptography provider first");
    }
}
