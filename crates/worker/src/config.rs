//! A worker's settings. Plain values; who starts the worker decides where they come from.

use std::path::PathBuf;
use std::time::Duration;

use flightpath_proto::v1::WorkerLaunch;
use flightpath_types::{Error, Result};
use prost::Message;

/// The worker has ended two seconds after a cancel that isn't heard, if nothing else runs there: less than
/// that, as ending takes its time.
const CANCEL_MAX: Duration = Duration::from_millis(1500);

/// The key that router and worker share. Never printed.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    pub const BYTES_MIN: usize = 32;

    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() < Self::BYTES_MIN {
            return Err(Error::invalid(format!("the worker's key must have at least {} bytes", Self::BYTES_MIN)));
        }
        Ok(Self(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// PEM texts of the certificate that the worker shows to routers.
#[derive(Clone)]
pub struct Tls {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

#[derive(Debug, Clone)]
pub struct Config {
    /// Good for as long as the worker runs. `None`: it takes tickets under keys that were granted alone.
    pub key: Option<Key>,
    /// Needed to listen beyond loopback.
    pub tls: Option<Tls>,
    /// Queries that run at once.
    pub slots: u32,
    /// Of those, queries whose text a user wrote; each has an instance of its own. 0 refuses them.
    pub user_slots: u32,
    /// Queries that may wait for a slot.
    pub queue_max: u32,
    pub queue_wait_max: Duration,
    /// Memory of all DuckDB instances together: three quarters for the shared one, the rest
    /// divided among the users' slots.
    pub memory_bytes_max: u64,
    /// Threads of the shared instance; a user's instance has the same number.
    pub threads: u32,
    /// Where DuckDB spills. Must exist, and belong to this worker alone.
    pub temp_dir: PathBuf,
    pub temp_bytes_max: u64,
    pub ticket_bytes_max: u64,
    /// Files that one ticket may name.
    pub files_max: u32,
    /// How long running queries may go on once a shutdown was asked for.
    pub drain_max: Duration,
    /// How long a query may go on once it was told to end. After that the worker takes no more queries,
    /// finishes the others, and ends with an error: nothing else ends such a query.
    pub cancel_max: Duration,
}

impl Config {
    /// Defaults for everything but what only the caller can know.
    pub fn new(key: impl Into<Option<Key>>, temp_dir: PathBuf, memory_bytes_max: u64, threads: u32) -> Self {
        Self {
            key: key.into(),
            tls: None,
            slots: 8,
            user_slots: 2,
            queue_max: 64,
            queue_wait_max: Duration::from_secs(30),
            memory_bytes_max,
            threads: threads.max(1),
            temp_dir,
            temp_bytes_max: 16 << 30,
            ticket_bytes_max: 64 << 20,
            files_max: 50_000,
            drain_max: Duration::from_secs(20),
            cancel_max: CANCEL_MAX,
        }
    }

    /// All mistakes at once.
    pub fn validate(&self) -> Result<()> {
        let mut mistakes = Vec::new();
        if self.slots == 0 {
            mistakes.push("slots must be at least 1".to_string());
        }
        if self.user_slots > self.slots {
            mistakes.push(format!("user_slots ({}) can't exceed slots ({})", self.user_slots, self.slots));
        }
        if self.threads == 0 {
            mistakes.push("threads must be at least 1".to_string());
        }
        if self.memory_bytes_max < 64 << 20 {
            mistakes.push("memory_bytes_max must be at least 64 MiB".to_string());
        }
        if !self.temp_dir.is_dir() {
            mistakes.push(format!("temp_dir {} isn't a folder", self.temp_dir.display()));
        }
        if mistakes.is_empty() { Ok(()) } else { Err(Error::invalid(mistakes.join("; "))) }
    }

    /// Memory of the shared instance: what one compiled query may use.
    pub fn shared_memory_bytes_max(&self) -> u64 {
        if self.user_slots == 0 { self.memory_bytes_max } else { self.memory_bytes_max / 4 * 3 }
    }

    pub(crate) fn user_memory_bytes_max(&self) -> u64 {
        (self.memory_bytes_max - self.shared_memory_bytes_max()) / u64::from(self.user_slots.max(1))
    }
}

/// Where a supervised worker listens, with its settings: one line on its standard input.
pub(crate) fn decode_launch(line: &str) -> Result<(Config, String)> {
    let malformed = || Error::invalid("the launch line isn't a WorkerLaunch message in hexadecimal digits");
    let bytes = hex::decode(line.trim()).map_err(|_| malformed())?;
    let launch = WorkerLaunch::decode(bytes.as_slice()).map_err(|_| malformed())?;
    let config = Config {
        key: Some(Key::new(launch.key)?),
        tls: None,
        slots: launch.slots,
        user_slots: launch.user_slots,
        queue_max: launch.queue_max,
        queue_wait_max: Duration::from_millis(launch.queue_wait_ms_max),
        memory_bytes_max: launch.memory_bytes_max,
        threads: launch.threads,
        temp_dir: PathBuf::from(launch.temp_dir),
        temp_bytes_max: launch.temp_bytes_max,
        ticket_bytes_max: launch.ticket_bytes_max,
        files_max: launch.files_max,
        drain_max: Duration::from_millis(launch.drain_ms_max),
        cancel_max: CANCEL_MAX,
    };
    config.validate()?;
    Ok((config, launch.listen))
}
