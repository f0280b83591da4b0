//! The worker's Flight endpoint: DoGet with a signed ticket, and the signed actions `cancel`,
//! `status` and `describe`. Everything else of Flight is unimplemented on purpose.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage,
    PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use flightpath_proto::v1::{CancelAnswer, DescribeAnswer, ResultEnd, SqlOrigin, WorkerStatus, WorkerTicket};
use flightpath_types::{Error, ErrorKind, Result};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::cancel::{Cancel, Reason, Watchdog};
use crate::duck;
use crate::error::status;
use crate::instance::Instances;
use crate::query::{Ended, Outlet, Output, Query};
use crate::sandbox;
use crate::threads::Threads;
use crate::ticket::{ACTION_CANCEL, ACTION_DESCRIBE, ACTION_STATUS, Gate, Grant, PURPOSE_QUERY, unix_ms};
use crate::trace::Trace;
use crate::{Config, Key};

/// Batches that may wait between a query's thread and the network.
const CHANNEL_BATCHES: usize = 2;
/// Larger batches are split; a row can be larger still.
const MESSAGE_BYTES: usize = 4 << 20;
/// What any reader's window has room for. Of a larger answer the rest may still be buffered for its connection
/// after it has ended here, for how long is up to its reader.
const WINDOW_BYTES: usize = 32 << 10;
const BUFFERED_MAX: Duration = Duration::from_secs(30);
/// Tables that are remembered as read lately, and how long the name of one may be.
const RECENT_TABLES_MAX: usize = 64;
const CACHE_KEY_BYTES_MAX: usize = 512;

/// One worker's state, shared by all calls.
pub struct Worker {
    config: Config,
    gate: Gate,
    instances: Arc<Instances>,
    threads: Threads,
    slots: Arc<Semaphore>,
    user_slots: Arc<Semaphore>,
    waiting: AtomicU32,
    running: Arc<Running>,
    watchdog: Arc<Watchdog>,
    draining: watch::Sender<bool>,
    /// Ends the answers that are left when a drain is over.
    over: CancellationToken,
    queries_total: AtomicU64,
    recent: Mutex<Recent>,
}

/// The queries that hold a slot, and the answers on their way.
#[derive(Default)]
struct Running {
    queries: Mutex<HashMap<u64, Arc<Cancel>>>,
    next: AtomicU64,
    /// Answers that haven't ended: a reader may be far behind its query's thread.
    answers: AtomicUsize,
    /// When the latest one ended that its reader may not have got yet.
    large_ended: Mutex<Option<Instant>>,
    ended: tokio::sync::Notify,
}

impl Running {
    fn add(self: &Arc<Self>, cancel: &Arc<Cancel>) -> Entry {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.queries.lock().insert(number, cancel.clone());
        Entry { running: self.clone(), number }
    }

    fn answer(self: &Arc<Self>) -> Open {
        self.answers.fetch_add(1, Ordering::AcqRel);
        Open { running: self.clone(), bytes: 0 }
    }

    fn len(&self) -> usize {
        self.queries.lock().len()
    }

    /// Whether a drain has nothing to wait for. A query that was given up ends with the process.
    fn is_done(&self) -> bool {
        self.answers.load(Ordering::Acquire) == 0 && self.queries.lock().values().all(|cancel| cancel.is_stuck())
    }

    fn cancel(&self, reason: Reason, which: impl Fn(&str) -> bool) -> bool {
        let chosen: Vec<Arc<Cancel>> = self.queries.lock().values().filter(|cancel| which(cancel.query_id())).cloned().collect();
        for cancel in &chosen {
            cancel.cancel(reason);
        }
        !chosen.is_empty()
    }
}

struct Entry {
    running: Arc<Running>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.running.queries.lock().remove(&self.number);
        self.running.ended.notify_waiters();
    }
}

/// An answer that hasn't ended.
struct Open {
    running: Arc<Running>,
    bytes: usize,
}

impl Open {
    fn sent(&mut self, data: &FlightData) {
        self.bytes = self.bytes.saturating_add(data.data_body.len());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.bytes > WINDOW_BYTES {
            *self.running.large_ended.lock() = Some(Instant::now());
        }
        self.running.answers.fetch_sub(1, Ordering::AcqRel);
        self.running.ended.notify_waiters();
    }
}

/// Cancels the query when its reader goes away, wherever that happens.
struct ReaderGuard(Arc<Cancel>);

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.0.cancel(Reason::ClientGone);
    }
}

/// What the reader's side of a query is made of.
struct Started {
    reading: Reading,
    schema: SchemaRef,
    open: Open,
}

struct Reading {
    outputs: mpsc::Receiver<Output>,
    guard: ReaderGuard,
    trace: Trace,
}

impl Worker {
    pub fn new(config: Config) -> Result<Arc<Self>> {
        config.validate()?;
        let worker = Arc::new(Self {
            gate: Gate::new(&config)?,
            instances: Arc::new(sandbox::within(&config.temp_dir, || Instances::open(&config))?),
            threads: Threads::new(config.temp_dir.clone()),
            slots: Arc::new(Semaphore::new(config.slots as usize)),
            user_slots: Arc::new(Semaphore::new(config.user_slots as usize)),
            waiting: AtomicU32::new(0),
            running: Arc::default(),
            watchdog: Watchdog::new(config.cancel_max),
            draining: watch::Sender::new(false),
            over: CancellationToken::new(),
            queries_total: AtomicU64::new(0),
            recent: Mutex::default(),
            config,
        });
        let instances = worker.instances.clone();
        worker.threads.run(move || instances.refill())?;
        Ok(worker)
    }

    /// Takes no more queries, lets the running ones finish within the limit, then ends them.
    pub async fn drain(&self) {
        self.draining.send_replace(true);
        if tokio::time::timeout(self.config.drain_max, self.idle()).await.is_err() {
            self.end_all();
            // An interrupt is heard within milliseconds; a query that doesn't hear it ends with
            // the process.
            let _ = tokio::time::timeout(Duration::from_secs(2), self.idle()).await;
        }
    }

    /// Ends all queries at once, and the answers whose queries have ended before.
    pub fn end_all(&self) {
        self.draining.send_replace(true);
        self.running.cancel(Reason::Shutdown, |_| true);
        self.over.cancel();
    }

    /// Whether a reader may be behind with an answer that hadn't ended, or had only just, when the drain began.
    pub fn may_be_behind(&self, drain_began: Instant) -> bool {
        let ended = *self.running.large_ended.lock();
        ended.is_some_and(|ended| ended + BUFFERED_MAX > drain_began)
    }

    async fn idle(&self) {
        let mut given_up = self.watchdog.subscribe();
        loop {
            let ended = self.running.ended.notified();
            given_up.borrow_and_update();
            if self.running.is_done() {
                return;
            }
            tokio::select! {
                () = ended => {}
                _ = given_up.changed() => {}
            }
        }
    }

    /// Completes, with what its process ends with, once a query doesn't hear that it was told to end.
    pub fn given_up(&self) -> impl Future<Output = Error> + Send + 'static {
        let bitten = self.watchdog.bitten();
        async move {
            bitten.await;
            Error::unavailable("a query went on after it was told to end; only another process can take this worker's place")
        }
    }

    /// Completes once the worker takes no more queries.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut draining = self.draining.subscribe();
        async move {
            // A worker that is gone takes no queries either.
            let _ = draining.wait_for(|draining| *draining).await;
        }
    }

    pub fn grant(&self, key: &Key) -> Result<Grant> {
        self.gate.grant(key)
    }

    fn check_open(&self) -> Result<()> {
        if *self.draining.borrow() { Err(Reason::Shutdown.error()) } else { Ok(()) }
    }

    async fn start(&self, ticket: WorkerTicket, describe: bool) -> Result<Started> {
        let mut trace = Trace::begin(&ticket);
        let started = self.start_traced(ticket, describe, &trace).await;
        let (outputs, guard, schema, open) = started.inspect_err(|error| trace.fail(error))?;
        trace.streaming();
        Ok(Started { reading: Reading { outputs, guard, trace }, schema, open })
    }

    async fn start_traced(
        &self,
        ticket: WorkerTicket,
        describe: bool,
        trace: &Trace,
    ) -> Result<(mpsc::Receiver<Output>, ReaderGuard, SchemaRef, Open)> {
        self.check_open()?;
        let deadline = deadline(&ticket);
        let permits = self.permits(ticket.origin(), deadline).instrument(trace.queue()).await?;
        // What waited for its slot until now runs elsewhere sooner.
        self.check_open()?;
        self.recent.lock().add(&ticket);
        let cancel = Arc::new(Cancel::new(&ticket.query_id, self.watchdog.clone()));
        let guard = ReaderGuard(cancel.clone());
        // Its answer may outlive its thread, never the other way round.
        let open = self.running.answer();
        let entry = self.running.add(&cancel);
        self.queries_total.fetch_add(1, Ordering::Relaxed);
        let mut alarm = None;
        if let Some(deadline) = deadline {
            let cancel = Arc::downgrade(&cancel);
            alarm = Some(Alarm(tokio::spawn(async move {
                tokio::time::sleep_until(deadline).await;
                if let Some(cancel) = cancel.upgrade() {
                    cancel.cancel(Reason::Deadline);
                }
            })));
        }
        let (sender, mut outputs) = mpsc::channel(CHANNEL_BATCHES);
        let outlet = Outlet { sender, runtime: Handle::current() };
        let query = Query { ticket, cancel, instances: self.instances.clone(), describe };
        let span = trace.span().clone();
        self.threads.run(move || {
            // Held until the thread is done with DuckDB, not only until the reader is gone.
            let _held = (permits, entry, alarm);
            span.in_scope(|| query.run(&outlet));
        })?;
        let first = tokio::select! {
            biased;
            first = next(&mut outputs, &guard).instrument(trace.execute()) => first,
            // What doesn't hear that it was told to end would keep its caller waiting until the process is gone.
            () = self.over.cancelled() => Output::Failed(Reason::Shutdown.error()),
        };
        match first {
            Output::Schema(schema) => Ok((outputs, guard, schema, open)),
            Output::Failed(error) => Err(error),
            Output::Batch(_) | Output::End(_) => Err(Error::internal("a query's thread sent rows before their schema")),
        }
    }

    /// A slot, after a bounded wait in a bounded queue.
    async fn permits(&self, origin: SqlOrigin, deadline: Option<tokio::time::Instant>) -> Result<Vec<OwnedSemaphorePermit>> {
        let mut wanted = vec![&self.slots];
        if origin == SqlOrigin::User {
            if self.config.user_slots == 0 {
                return Err(Error::new(ErrorKind::PermissionDenied, "this worker runs no SQL written by users"));
            }
            wanted.insert(0, &self.user_slots);
        }
        let mut permits = Vec::with_capacity(wanted.len());
        let give_up = tokio::time::Instant::now() + self.config.queue_wait_max;
        for slots in wanted {
            permits.push(match slots.clone().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => self.queue(slots, give_up, deadline).await?,
            });
        }
        Ok(permits)
    }

    async fn queue(
        &self,
        slots: &Arc<Semaphore>,
        give_up: tokio::time::Instant,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<OwnedSemaphorePermit> {
        let exhausted = |what: &str| {
            let message = format!("the DuckDB worker runs {} queries already and {what}", self.config.slots);
            Error::classed(ErrorKind::ResourceExhausted, "WORKER_BUSY", "53400", message)
        };
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.config.queue_max {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(exhausted("its queue is full"));
        }
        let _waiting = Waiting(&self.waiting);
        let until = deadline.map_or(give_up, |d| d.min(give_up));
        let acquired = tokio::select! {
            acquired = tokio::time::timeout_at(until, slots.clone().acquire_owned()) => acquired,
            // Whoever has the slots may never give them back.
            () = self.draining() => return Err(Reason::Shutdown.error()),
        };
        match acquired {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Reason::Shutdown.error()),
            Err(_) if deadline.is_some_and(|d| d <= give_up) => Err(Reason::Deadline.error()),
            Err(_) => Err(exhausted("none ended in time")),
        }
    }

    pub fn status(&self) -> WorkerStatus {
        WorkerStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            duckdb_version: duck::library_version(),
            running: self.running.len() as u32,
            slots: self.config.slots,
            memory_bytes_max: self.config.shared_memory_bytes_max(),
            temp_bytes_max: self.config.temp_bytes_max,
            threads: self.config.threads,
            queries_total: self.queries_total.load(Ordering::Relaxed),
            instances_recycled: self.instances.recycled(),
            pid: std::process::id(),
            waiting: self.waiting.load(Ordering::Relaxed),
            memory_bytes_used: resident_bytes(),
            draining: *self.draining.borrow(),
            cached: self.recent.lock().tables.iter().cloned().collect(),
            user_slots: self.config.user_slots,
            files_max: self.config.files_max,
        }
    }
}

/// Which tables were read lately, the last one first: of these, footers and files are likely in memory.
#[derive(Default)]
struct Recent {
    tables: VecDeque<String>,
}

impl Recent {
    fn add(&mut self, ticket: &WorkerTicket) {
        for table in &ticket.tables {
            let key = &table.cache_key;
            if key.is_empty() || key.len() > CACHE_KEY_BYTES_MAX {
                continue;
            }
            if let Some(at) = self.tables.iter().position(|t| t == key) {
                self.tables.remove(at);
            }
            self.tables.push_front(key.clone());
            self.tables.truncate(RECENT_TABLES_MAX);
        }
    }
}

/// Memory of this process; 0 where the system doesn't tell.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// When a ticket's query is to be interrupted: counted from now, so that the clocks of router and worker
/// needn't agree. Routers of before tell an instant alone.
fn deadline(ticket: &WorkerTicket) -> Option<tokio::time::Instant> {
    let left_ms = match (ticket.time_left_ms, ticket.deadline_unix_ms) {
        (Some(left), _) => left,
        (None, 0) => return None,
        (None, at) => at.saturating_sub(unix_ms()),
    };
    // What lies beyond all clocks never comes.
    tokio::time::Instant::now().checked_add(Duration::from_millis(left_ms))
}

/// The next output. A thread that ends without its last word was cancelled, or has panicked; one that was
/// given up may never say it.
async fn next(outputs: &mut mpsc::Receiver<Output>, guard: &ReaderGuard) -> Output {
    let output = tokio::select! {
        biased;
        output = outputs.recv() => output,
        () = guard.0.stuck() => None,
    };
    output.unwrap_or_else(|| {
        let error = guard.0.reason().map_or_else(|| Error::internal("a query's thread ended without an answer"), Reason::error);
        Output::Failed(error)
    })
}

/// Schema, batches and the end's mark, or an error, as once it is `over`; the query is cancelled when it's
/// dropped.
fn flight_data(started: Started, over: CancellationToken) -> BoxStream<'static, Result<FlightData, Status>> {
    let Started { reading, schema, mut open } = started;
    let end = Arc::<Mutex<ResultEnd>>::default();
    let end_seen = end.clone();
    let batches = stream::unfold(Some(reading), move |state| {
        let (end, over) = (end.clone(), over.clone());
        async move {
            let mut reading = state?;
            let output = tokio::select! {
                biased;
                // First, however much is here already: else a slow reader would never hear of it.
                () = over.cancelled() => Output::Failed(Reason::Shutdown.error()),
                output = next(&mut reading.outputs, &reading.guard) => output,
            };
            match output {
                Output::Batch(batch) => Some((Ok(batch), Some(reading))),
                Output::End(Ended { rows, memory_bytes_peak, read_bytes }) => {
                    reading.trace.finish(rows);
                    *end.lock() = ResultEnd { rows, complete: true, memory_bytes_peak, read_bytes };
                    None
                }
                Output::Failed(error) => {
                    reading.trace.fail(&error);
                    Some((Err(FlightError::Tonic(Box::new(status(&error)))), None))
                }
                Output::Schema(_) => Some((Err(FlightError::protocol("a query's thread sent a second schema")), None)),
            }
        }
    });
    let encoded = FlightDataEncoderBuilder::new().with_schema(schema).with_max_flight_data_size(MESSAGE_BYTES).build(batches);
    // The mark follows only what ended well: after an error the stream is over.
    let data = stream::unfold(Some((encoded, end_seen)), |state| async move {
        let (mut encoded, end) = state?;
        match encoded.next().await {
            Some(Ok(data)) => Some((Ok(data), Some((encoded, end)))),
            Some(Err(error)) => Some((Err(flight_status(error)), None)),
            None => {
                let mark = end.lock().encode_to_vec();
                Some((Ok(FlightData { app_metadata: mark.into(), ..FlightData::default() }), None))
            }
        }
    });
    // Counts until the network is done with it.
    data.inspect_ok(move |data| open.sent(data)).boxed()
}

fn flight_status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => status(&Error::internal(format!("the result can't be encoded: {other}"))),
    }
}

/// The service around a worker.
#[derive(Clone)]
pub struct Service(pub Arc<Worker>);

type Answer<T> = std::result::Result<Response<T>, Status>;
type Stream<T> = Pin<Box<dyn futures::Stream<Item = std::result::Result<T, Status>> + Send + 'static>>;

fn unsupported<T>(what: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("a worker has no {what}")))
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Stream<HandshakeResponse>;
    type ListFlightsStream = Stream<FlightInfo>;
    type DoGetStream = Stream<FlightData>;
    type DoPutStream = Stream<PutResult>;
    type DoExchangeStream = Stream<FlightData>;
    type DoActionStream = Stream<arrow_flight::Result>;
    type ListActionsStream = Stream<ActionType>;

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let ticket = self.0.gate.ticket(PURPOSE_QUERY, &request.into_inner().ticket).map_err(|e| status(&e))?;
        let started = self.0.start(ticket, false).await.map_err(|e| status(&e))?;
        Ok(Response::new(flight_data(started, self.0.over.clone())))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let action = request.into_inner();
        let answer = match action.r#type.as_str() {
            ACTION_CANCEL => self.0.gate.cancel(&action.body).map(|cancel| {
                let found = self.0.running.cancel(Reason::Asked, |id| id == cancel.query_id);
                CancelAnswer { found }.encode_to_vec()
            }),
            ACTION_STATUS => self.0.gate.status(&action.body).map(|()| self.0.status().encode_to_vec()),
            ACTION_DESCRIBE => match self.0.gate.ticket(ACTION_DESCRIBE, &action.body) {
                Ok(ticket) => self.0.start(ticket, true).await.and_then(|started| describe_answer(&started)),
                Err(error) => Err(error),
            },
            other => return unsupported(&format!("action '{other}'")),
        };
        let body = answer.map_err(|e| status(&e))?;
        Ok(Response::new(stream::iter([Ok(arrow_flight::Result { body: body.into() })]).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        unsupported("handshake")
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        unsupported("flights to list")
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        unsupported("flight info")
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        unsupported("flight info")
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        unsupported("schemas")
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        unsupported("uploads")
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        unsupported("exchange")
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        unsupported("actions to list")
    }
}

fn describe_answer(started: &Started) -> Result<Vec<u8>> {
    let message: IpcMessage = SchemaAsIpc::new(&started.schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|e| Error::internal(format!("the schema can't be encoded: {e}")))?;
    Ok(DescribeAnswer { ipc_schema: message.0.to_vec() }.encode_to_vec())
}

/// The task that ends a query at its deadline; ends with the query.
struct Alarm(tokio::task::JoinHandle<()>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}
