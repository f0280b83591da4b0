//! Keeps one worker process alive: starts it, hands it its key, watches it, restarts it with
//! growing waits when it dies, and ends it at shutdown. Never leaves a process behind: a worker
//! ends when its standard input does, which is when this process is gone.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flightpath_proto::v1::{WorkerLaunch, WorkerStatus};
use flightpath_types::{Error, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::Client;
use crate::member::Candidate;
use crate::roster::{Local, Roster, Seat};
use crate::ticket::{KEY_BYTES, Signer};
use crate::{Config, Transport};

/// All that a worker inherits: it needs no credentials.
const ENVIRONMENT: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "RUST_LOG", "RUST_BACKTRACE", "TZ"];
/// The system's limit for a socket's path, less its end; loopback serves where a folder lies deeper.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const ANNOUNCEMENT: &str = "listening on ";
const PING_EVERY: Duration = Duration::from_secs(1);
/// Lines of a worker's standard error that are kept to explain its end.
const LAST_LINES: usize = 5;
/// A worker that lived this long starts its back-off anew.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// No process has this id.
const NO_PROCESS: u32 = 0;

pub struct Supervisor {
    pid: Arc<AtomicU32>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Supervisor {
    /// Starts a worker that belongs to the roster, under this name, whenever it runs.
    pub fn start(name: String, config: Config, roster: Arc<Roster>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let pid = Arc::new(AtomicU32::new(NO_PROCESS));
        roster.local(&name, Some(Local::Starting));
        let supervised = Supervised { name, config, roster, pid: pid.clone() };
        let task = tokio::spawn(supervised.run(stopped));
        Self { pid, stop, task: Mutex::new(Some(task)) }
    }

    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Acquire)).filter(|pid| *pid != NO_PROCESS)
    }

    /// Ends the worker and waits for it.
    pub async fn shutdown(&self) {
        let _ = self.stop.send(true);
        let task = self.task.lock().take();
        if let Some(task) = task {
            // The task ends within the drain's limit by itself.
            let _ = task.await;
        }
    }
}

/// What the task that keeps one worker alive works with.
struct Supervised {
    name: String,
    config: Config,
    roster: Arc<Roster>,
    pid: Arc<AtomicU32>,
}

impl Supervised {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let config = &self.config;
        let mut backoff = config.backoff_min;
        loop {
            let started = Instant::now();
            let launched = tokio::select! {
                launched = launch(config) => launched,
                // The launch is dropped, and its child killed.
                () = stopped(&mut stop) => break,
            };
            let reason = match launched {
                Ok((mut worker, status)) => {
                    let ended = self.serve(&mut worker, status, &mut stop).await;
                    self.pid.store(NO_PROCESS, Ordering::Release);
                    let Some(reason) = ended else { break };
                    reason
                }
                Err(error) => error.message().to_string(),
            };
            if started.elapsed() >= STABLE_AFTER {
                backoff = config.backoff_min;
            }
            tracing::warn!(worker = self.name, reason, backoff_ms = backoff.as_millis() as u64, "the DuckDB worker is down");
            // Until it is ready again the last reason stands: nobody should wait for it.
            self.roster.local(&self.name, Some(Local::Down(reason)));
            tokio::select! {
                () = sleep(backoff) => {}
                () = stopped(&mut stop) => break,
            }
            backoff = (backoff * 2).min(config.backoff_max);
        }
        self.roster.local(&self.name, None);
    }

    /// The worker's stay in the fleet. Returns why it is no more, or `None` when it was to be stopped.
    async fn serve(&self, worker: &mut Worker, status: WorkerStatus, stop: &mut watch::Receiver<bool>) -> Option<String> {
        tracing::info!(worker = self.name, pid = worker.pid, "the DuckDB worker is ready");
        self.pid.store(worker.pid, Ordering::Release);
        let candidate =
            Candidate { name: self.name.clone(), labels: BTreeMap::new(), client: worker.client.clone(), status, shared: false };
        let seat = match self.roster.join(candidate, Instant::now().into_std()) {
            Ok(seat) => seat,
            Err(error) => return Some(error.message().to_string()),
        };
        self.roster.local(&self.name, Some(Local::Up));
        let reason = watch_over(&self.config, worker, &seat, stop).await;
        if reason.is_none() {
            worker.end(&self.config, &seat).await;
        }
        reason
    }
}

/// Completes when the worker is to be stopped, also when nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A running worker. Dropping it kills the process.
struct Worker {
    child: Child,
    pid: u32,
    client: Arc<Client>,
    /// Its end is the worker's end.
    stdin: Option<ChildStdin>,
    errors: Arc<Mutex<VecDeque<String>>>,
    _folder: Folder,
}

impl Worker {
    /// Lets it finish what it runs; it keeps its place meanwhile, so that nobody gives its queries up.
    async fn end(&mut self, config: &Config, seat: &Seat) {
        let _ = kill(Pid::from_raw(self.pid as i32), Signal::SIGTERM);
        let limit = Instant::now() + config.drain_max + Duration::from_secs(4);
        loop {
            let ping = async {
                sleep(PING_EVERY).await;
                timeout(config.silence_down, self.client.status()).await
            };
            tokio::select! {
                _ = self.child.wait() => return,
                answer = ping => if let Ok(Ok(status)) = answer {
                    seat.report(&status, Instant::now().into_std());
                },
                () = sleep_until(limit) => break,
            }
        }
        tracing::warn!(pid = self.pid, "the DuckDB worker didn't end in time and is killed");
        self.stdin.take();
        let _ = self.child.kill().await;
    }
}

/// Returns why the worker is no more, or `None` when it is to be stopped.
async fn watch_over(config: &Config, worker: &mut Worker, seat: &Seat, stop: &mut watch::Receiver<bool>) -> Option<String> {
    let mut heard = Instant::now();
    loop {
        let ping = async {
            sleep(PING_EVERY).await;
            timeout(config.silence_down, worker.client.status()).await
        };
        tokio::select! {
            status = worker.child.wait() => return Some(end_text(status, &worker.errors)),
            () = stopped(stop) => return None,
            answer = ping => {
                if let Ok(Ok(status)) = answer {
                    heard = Instant::now();
                    seat.report(&status, heard.into_std());
                } else if heard.elapsed() >= config.silence_kill {
                    // Also ends one that was stopped by a signal.
                    let _ = worker.child.kill().await;
                    return Some(format!("it didn't answer for {} s and was killed", heard.elapsed().as_secs()));
                }
            }
        }
    }
}

async fn launch(config: &Config) -> Result<(Worker, WorkerStatus)> {
    let folder = Folder::create(&config.temp_dir)?;
    let key: [u8; KEY_BYTES] = rand::random();
    let socket = folder.0.join("socket");
    let listen = match config.transport {
        Transport::Unix if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX => format!("unix:{}", socket.display()),
        Transport::Unix | Transport::Tcp => "tcp:127.0.0.1:0".to_string(),
    };
    let spill = folder.0.join("spill");
    std::fs::create_dir(&spill).map_err(|e| Error::unavailable(format!("{} can't be made: {e}", spill.display())))?;
    let message = launch_message(config, &key, listen, &spill);
    let mut child = spawn(config)?;
    let pid = child.id().ok_or_else(|| Error::unavailable("it ended at once"))?;
    let errors = Arc::new(Mutex::new(VecDeque::new()));
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(forward(stderr, errors.clone()));
    }
    let mut stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let hello = async {
        if let Some(stdin) = &mut stdin {
            // A worker that ended already is found out below.
            let _ = stdin.write_all(format!("{}\n", hex::encode(message.encode_to_vec())).as_bytes()).await;
            let _ = stdin.flush().await;
        }
        let mut lines = BufReader::new(stdout?).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some((_, address)) = line.split_once(ANNOUNCEMENT) {
                let address = address.to_string();
                // Whatever else it prints must not fill the pipe.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Some(address);
            }
        }
        None
    };
    let address = match timeout(config.start_max, hello).await {
        Ok(Some(address)) => address,
        Ok(None) => {
            let status = child.wait().await;
            return Err(Error::unavailable(end_text(status, &errors)));
        }
        Err(_) => return Err(Error::unavailable(format!("it didn't start within {} s", config.start_max.as_secs()))),
    };
    let client = Arc::new(Client::new(&address, None, Signer::new(&key)?, config.silence_down)?);
    match timeout(config.start_max, client.status()).await {
        Ok(Ok(status)) => Ok((Worker { child, pid, client, stdin, errors, _folder: folder }, status)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::unavailable("it started and doesn't answer")),
    }
}

fn launch_message(config: &Config, key: &[u8], listen: String, spill: &Path) -> WorkerLaunch {
    WorkerLaunch {
        key: key.to_vec(),
        listen,
        slots: config.slots,
        user_slots: config.user_slots,
        queue_max: config.queue_max,
        queue_wait_ms_max: config.queue_wait_max.as_millis() as u64,
        memory_bytes_max: config.memory_bytes_max,
        threads: config.threads,
        temp_dir: spill.display().to_string(),
        temp_bytes_max: config.temp_bytes_max,
        ticket_bytes_max: config.ticket_bytes_max,
        files_max: config.files_max,
        drain_ms_max: config.drain_max.as_millis() as u64,
    }
}

fn spawn(config: &Config) -> Result<Child> {
    let inherited = ENVIRONMENT.iter().filter_map(|name| std::env::var_os(name).map(|value| (*name, value)));
    Command::new(&config.program)
        .args(&config.arguments)
        .env_clear()
        .envs(inherited)
        .envs(config.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal's signals are for the router, which ends its worker in its own time.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Error::unavailable(format!("{} can't be started: {e}", config.program.display())))
}

/// Passes a worker's words on to the log and keeps the last ones.
async fn forward(stream: impl AsyncRead + Unpin, last: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::info!(target: "flightpath_worker", "{line}");
        let mut last = last.lock();
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
}

fn end_text(status: std::io::Result<ExitStatus>, errors: &Mutex<VecDeque<String>>) -> String {
    let how = match status {
        Ok(status) => format!("it ended with {status}"),
        Err(e) => format!("its end can't be learnt: {e}"),
    };
    let errors = errors.lock();
    if errors.is_empty() { how } else { format!("{how}: {}", errors.iter().cloned().collect::<Vec<_>>().join("; ")) }
}

/// A worker's own folder, gone with it, also when it was killed.
struct Folder(PathBuf);

impl Folder {
    fn create(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("flightpath-worker-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        let made = made.and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)));
        made.map_err(|e| Error::unavailable(format!("its folder {} can't be made: {e}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
