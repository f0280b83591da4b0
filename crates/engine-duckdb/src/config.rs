//! Settings of the engine and of the worker it supervises.

use std::path::PathBuf;
use std::time::Duration;

/// How router and worker talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A socket in a folder that only this user can enter; TCP where its path would be too long.
    Unix,
    /// A port on loopback, chosen by the system.
    Tcp,
}

#[derive(Debug, Clone)]
pub struct Config {
    /// The worker's program and its arguments; it is to call `flightpath_worker::run_supervised`.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Given to the worker beside the few variables that it inherits.
    pub environment: Vec<(String, String)>,
    pub transport: Transport,
    /// Workers that are started and kept alive here; 0 where all register from elsewhere. The settings
    /// below are each one's.
    pub workers: u32,
    /// Workers there may be, those from elsewhere included.
    pub workers_max: u32,
    pub slots: u32,
    /// Of these, for SQL in the `duckdb` dialect; 0 refuses it.
    pub user_slots: u32,
    pub queue_max: u32,
    pub queue_wait_max: Duration,
    pub memory_bytes_max: u64,
    pub threads: u32,
    /// Folder in which each worker gets one of its own for its socket and what it spills.
    pub temp_dir: PathBuf,
    pub temp_bytes_max: u64,
    pub ticket_bytes_max: u64,
    pub files_max: u32,
    /// From spawning a worker until it answers.
    pub start_max: Duration,
    /// Waits between restarts grow from the first to the second.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// How long a worker may finish its queries at shutdown.
    pub drain_max: Duration,
    /// A worker that hasn't answered for this long gets no more queries until it does...
    pub silence_down: Duration,
    /// ...and is replaced after this long.
    pub silence_kill: Duration,
    /// Priors for the router; see `EngineFacts`.
    pub overhead_ms: f64,
    pub scan_bytes_per_second_per_core: f64,
    pub usd_per_hour: f64,
}

impl Config {
    pub const MEMORY_BYTES_MIN: u64 = 64 << 20;

    pub fn new(program: PathBuf, memory_bytes_max: u64, threads: u32) -> Self {
        Self {
            program,
            arguments: vec!["worker".into(), "--supervised".into()],
            environment: Vec::new(),
            transport: Transport::Unix,
            workers: 1,
            workers_max: 64,
            slots: 8,
            user_slots: 2,
            queue_max: 64,
            queue_wait_max: Duration::from_secs(30),
            memory_bytes_max,
            threads,
            temp_dir: std::env::temp_dir(),
            temp_bytes_max: 16 << 30,
            ticket_bytes_max: 64 << 20,
            files_max: 50_000,
            start_max: Duration::from_secs(15),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(10),
            drain_max: Duration::from_secs(20),
            silence_down: Duration::from_secs(3),
            silence_kill: Duration::from_secs(30),
            overhead_ms: 2.0,
            scan_bytes_per_second_per_core: 400e6,
            usd_per_hour: 0.0,
        }
    }
}
