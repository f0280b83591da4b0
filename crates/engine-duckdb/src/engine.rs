//! The `Engine` that runs queries on DuckDB workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use flightpath_engine::{BatchStream, Engine, Execution};
use flightpath_plan::{PlannedQuery, ScanBinding};
use flightpath_proto::v1::{TableBinding, WorkerStatus, WorkerTicket};
use flightpath_types::{EngineFacts, EngineId, EngineState, Error, ErrorKind, Pricing, QueryId, Refusal, RefusalClass, Result, Session};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::Config;
use crate::client::{Client, is_out_of_sight};
use crate::guarded::{self, Doubted};
use crate::member::{Candidate, Need, WorkerFacts};
use crate::roster::{Attempt, Roster, Seat};
use crate::supervisor::Supervisor;
use crate::ticket::{KEY_BYTES, Signer};
use crate::trace::Call;
use crate::{binding, ticket};

/// Describing a statement only plans it.
const DESCRIBE_MAX: Duration = Duration::from_secs(20);
const DESCRIBE_TRIES: u32 = 3;
/// How long a worker that registers may take to answer.
const REACH_MAX: Duration = Duration::from_secs(5);
/// Leases are looked at this often within one.
const LOOKS_PER_LEASE: u32 = 60;

pub struct DuckdbEngine {
    id: EngineId,
    config: Config,
    roster: Arc<Roster>,
    supervisors: Vec<Supervisor>,
    watch: Mutex<Option<JoinHandle<()>>>,
    /// Bits of a number.
    usd_per_hour: AtomicU64,
}

/// A worker that registers from elsewhere.
pub struct RemoteWorker {
    /// Unique in the fleet.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// `host:port`
    pub address: String,
    /// PEM text of its certificate's authority; `None` without TLS.
    pub ca_pem: Option<String>,
    /// Signs tickets for it.
    pub ticket_key: [u8; KEY_BYTES],
}

impl DuckdbEngine {
    /// Starts its own workers in the background; needs a tokio runtime. See [`DuckdbEngine::ready`].
    pub fn start(config: Config) -> Self {
        let roster = Roster::new(config.silence_down, config.workers_max.max(config.workers) as usize);
        let supervisors = (0..config.workers).map(|n| Supervisor::start(format!("local-{n}"), config.clone(), roster.clone())).collect();
        let watch = tokio::spawn(watch_leases(Arc::downgrade(&roster), config.silence_down));
        let usd_per_hour = AtomicU64::new(config.usd_per_hour.to_bits());
        Self { id: EngineId::new("duckdb"), config, roster, supervisors, watch: Mutex::new(Some(watch)), usd_per_hour }
    }

    /// Waits until a worker takes queries; the reason if none can be started. Doesn't wait for workers
    /// from elsewhere.
    pub async fn ready(&self) -> Result<()> {
        self.roster.ready(self.config.start_max).await
    }

    /// A new price of a worker's hour, for what is decided from now on.
    pub fn set_usd_per_hour(&self, usd: f64) {
        self.usd_per_hour.store(usd.to_bits(), Ordering::Relaxed);
    }

    /// The first own worker's process id; none while there is no such worker.
    pub fn pid(&self) -> Option<u32> {
        self.pids().first().copied()
    }

    /// Its own workers' process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.supervisors.iter().filter_map(Supervisor::pid).collect()
    }

    /// Every worker that belongs to the fleet now, by name.
    pub fn workers(&self) -> Vec<WorkerFacts> {
        self.roster.facts(Instant::now())
    }

    /// Takes in a worker from elsewhere, once it has answered, until its seat is dropped.
    pub async fn join(&self, worker: RemoteWorker) -> Result<Seat> {
        let address = format!("tcp:{}", worker.address);
        let client = Arc::new(Client::new(&address, worker.ca_pem.as_deref(), Signer::new(&worker.ticket_key)?, self.config.silence_down)?);
        let unreachable = |why: &str| {
            Error::unavailable(format!(
                "the router can't reach the worker at {}: {why}; set worker.advertise to where it can",
                worker.address
            ))
        };
        let status = match tokio::time::timeout(REACH_MAX, client.status()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(unreachable(error.message())),
            Err(_) => return Err(unreachable("no answer")),
        };
        check_shape(&status)?;
        let candidate = Candidate { name: worker.name, labels: worker.labels, client, status, shared: true };
        self.roster.join(candidate, Instant::now())
    }

    /// Ends a query by its id; whether there was one. Dropping its stream does the same.
    pub async fn cancel(&self, query_id: QueryId) -> Result<bool> {
        self.ready().await?;
        let id = query_id.to_string();
        let members = self.roster.members();
        let answers = futures::future::join_all(members.iter().filter(|m| !m.is_lost()).map(|m| m.client.cancel(&id))).await;
        let mut failure = None;
        for answer in answers {
            match answer {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(false), Err)
    }

    /// The schema that a user's DuckDB text would give over these tables, without running it.
    /// Types are DuckDB's own in Arrow's form.
    pub async fn describe(&self, text: &str, tables: &[ScanBinding], session: &Session) -> Result<SchemaRef> {
        let mut bound = Vec::with_capacity(tables.len());
        for scan in tables {
            let refused = |refusal: Refusal| Error::not_eligible(refusal.reason);
            binding::check(scan).map_err(refused)?;
            let mut table = binding::table(scan, String::new()).map_err(refused)?;
            ticket::name_for_user(&mut table, scan);
            bound.push(table);
        }
        // A worker that dies meanwhile is no reason to refuse the statement.
        let query_id = QueryId::generate();
        for _ in 1..DESCRIBE_TRIES {
            match self.describe_once(query_id, text, bound.clone(), session).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {}
                outcome => return outcome,
            }
        }
        self.describe_once(query_id, text, bound, session).await
    }

    async fn describe_once(&self, query_id: QueryId, text: &str, tables: Vec<TableBinding>, session: &Session) -> Result<SchemaRef> {
        // Each try has a ticket of its own: one is good for one use.
        let mut ticket = ticket::base(text.to_string(), tables);
        ticket::make_user(&mut ticket, &session.catalog, &session.schema);
        let files = ticket.tables.iter().map(|t| t.files.len()).sum();
        let need = Need { query_id: Some(query_id), table: "", files, user: true, not_on: None };
        let mut first = self.begin(&need).await?;
        let doubted = match described(&mut first, &mut ticket).await {
            Err(error) if is_out_of_sight(&error) => Doubted::new(first, error),
            outcome => return outcome,
        };
        let Some(mut second) = self.another(&doubted, &need) else { return Err(doubted.into_error()) };
        let schema = described(&mut second, &mut ticket).await?;
        doubted.belied();
        Ok(schema)
    }

    /// A worker for a query; waits for one that is starting, not for one that is down.
    async fn begin(&self, need: &Need<'_>) -> Result<Attempt> {
        if self.roster.state(Instant::now()) != EngineState::Ready {
            self.ready().await?;
        }
        self.roster.begin(need, Instant::now())
    }

    /// Another worker for a query whose files the first one can't read, if one takes work.
    fn another(&self, first: &Doubted, need: &Need<'_>) -> Option<Attempt> {
        self.roster.begin(&Need { not_on: Some(first.epoch()), ..*need }, Instant::now()).ok()
    }
}

/// One worker's try at a query: its answer from the first rows on.
async fn asked(attempt: &mut Attempt, ticket: &mut WorkerTicket, execution: &Execution) -> Result<(BatchStream, Call)> {
    let client = attempt.member().client.clone();
    let (address, port) = client.server();
    let mut call = Call::begin(address, port);
    (ticket.traceparent, ticket.tracestate) = call.context(execution.traceparent.as_deref());
    attempt.tell(execution.findings.clone());
    let spoke = attempt.spoke();
    let deadline = execution.deadline.map(tokio::time::Instant::from_std);
    let query = client.query(ticket, deadline, &spoke, execution.findings.clone()).instrument(call.span().clone());
    match guarded::answer(attempt, query).await {
        Ok(stream) => Ok((stream, call)),
        Err(error) => {
            call.fail(&error);
            Err(error)
        }
    }
}

/// One worker's try at describing a statement.
async fn described(attempt: &mut Attempt, ticket: &mut WorkerTicket) -> Result<SchemaRef> {
    ticket::renew(ticket, None);
    let (client, spoke) = (attempt.member().client.clone(), attempt.spoke());
    let answer = tokio::time::timeout(DESCRIBE_MAX, guarded::answer(attempt, client.describe(ticket, &spoke))).await;
    let schema = answer.unwrap_or_else(|_| Err(Error::unavailable("the DuckDB worker didn't describe the statement in time")))?;
    attempt.succeeded();
    Ok(schema)
}

impl Drop for DuckdbEngine {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.lock().take() {
            watch.abort();
        }
    }
}

/// What no worker may tell of itself.
fn check_shape(status: &WorkerStatus) -> Result<()> {
    if status.slots == 0 || status.threads == 0 || status.memory_bytes_max == 0 {
        return Err(Error::invalid("a worker has at least one slot, one thread and some memory"));
    }
    Ok(())
}

async fn watch_leases(roster: std::sync::Weak<Roster>, lease: Duration) {
    let mut interval = tokio::time::interval(lease / LOOKS_PER_LEASE);
    loop {
        interval.tick().await;
        let Some(roster) = roster.upgrade() else { return };
        roster.expire(Instant::now());
    }
}

/// What the router is told of an engine with these settings and nothing but its own workers.
pub fn facts(config: &Config, state: EngineState, running: u32) -> EngineFacts {
    EngineFacts {
        id: EngineId::new("duckdb"),
        state,
        shape: shape(config.threads, config.memory_bytes_max),
        memory_bytes_max: if config.user_slots == 0 { config.memory_bytes_max } else { config.memory_bytes_max / 4 * 3 },
        slots: config.slots.saturating_mul(config.workers.max(1)),
        running,
        queued: 0,
        cores: config.threads,
        cores_total: config.threads,
        overhead_ms: config.overhead_ms,
        scan_bytes_per_second_per_core: config.scan_bytes_per_second_per_core,
        pricing: Pricing::hourly(config.usd_per_hour),
    }
}

/// What a worker is, as far as speed depends on it. What is learned of it goes by this, and mustn't be gone
/// with a new kernel, or another machine, that has some MiB more or less: two digits of its memory count.
fn shape(cores: u32, memory_bytes: u64) -> String {
    format!("duckdb:{cores}c:{}MiB", two_digits(memory_bytes >> 20))
}

/// The nearest number that has zeros behind its first two digits.
fn two_digits(number: u64) -> u64 {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    (number + unit / 2) / unit * unit
}

/// Whether an engine with these settings may run the query; needs no worker.
pub fn eligible(config: &Config, query: &PlannedQuery) -> Result<(), Refusal> {
    let compiled = query.duckdb.as_ref().map_err(Clone::clone)?;
    let mut files = 0;
    for scan in compiled.scans.iter().filter_map(|id| query.scans.get(id)) {
        binding::check(scan)?;
        files += scan.files.len();
    }
    if files > config.files_max as usize {
        let reason = format!("it reads {files} files; the DuckDB worker takes at most {}", config.files_max);
        return Err(Refusal::new(RefusalClass::Resources, reason));
    }
    Ok(())
}

#[async_trait]
impl Engine for DuckdbEngine {
    fn id(&self) -> &EngineId {
        &self.id
    }

    /// Slots and running queries of all ready workers; memory and cores of the smallest, where the
    /// query may land.
    fn facts(&self) -> EngineFacts {
        let now = Instant::now();
        let mut facts = facts(&self.config, self.roster.state(now), self.roster.in_flight());
        facts.pricing = Pricing::hourly(f64::from_bits(self.usd_per_hour.load(Ordering::Relaxed)));
        if let Some(totals) = self.roster.totals(now) {
            facts.slots = totals.slots;
            facts.running = totals.running;
            facts.cores = totals.cores_min;
            facts.cores_total = totals.cores;
            facts.memory_bytes_max = totals.memory_bytes_min;
            facts.shape = shape(totals.cores_min, totals.memory_bytes_min);
        }
        facts
    }

    /// Users' own SQL runs on few places of each worker. Where nobody runs any, the worker's refusal tells.
    fn narrow_slots(&self, query: &PlannedQuery) -> Option<u32> {
        if query.session.dialect == flightpath_types::Dialect::Duckdb { self.narrow_slots_total() } else { None }
    }

    fn narrow_slots_total(&self) -> Option<u32> {
        self.roster.totals(Instant::now()).map(|totals| totals.user_slots.max(1))
    }

    /// Each worker has a breaker.
    fn guards_itself(&self) -> bool {
        true
    }

    fn memory_bytes_total(&self) -> u64 {
        self.roster.totals(Instant::now()).map_or(self.config.memory_bytes_max, |totals| totals.memory_bytes)
    }

    /// Workers, ready or not. While none is heard of, as many as are started here.
    fn machines(&self) -> u32 {
        match self.roster.present() {
            0 => self.config.workers.max(1),
            workers => workers,
        }
    }

    fn others_running(&self) -> u32 {
        self.roster.others_running()
    }

    fn eligible(&self, query: &PlannedQuery) -> Result<(), Refusal> {
        eligible(&self.config, query)
    }

    async fn execute(&self, query: Arc<PlannedQuery>, execution: Execution) -> Result<BatchStream> {
        self.eligible(&query).map_err(|refusal| Error::not_eligible(refusal.reason))?;
        let compiled = query.duckdb.as_ref().map_err(|refusal| Error::not_eligible(&refusal.reason))?;
        let mut ticket = ticket::of_query(&query, &execution)?;
        let table = ticket::largest_table(&query, compiled);
        let need = Need {
            query_id: Some(execution.query_id),
            table: &table,
            files: ticket.tables.iter().map(|t| t.files.len()).sum(),
            user: query.session.dialect == flightpath_types::Dialect::Duckdb,
            not_on: None,
        };
        let mut first = self.begin(&need).await?;
        let doubted = match asked(&mut first, &mut ticket, &execution).await {
            Ok((stream, call)) => return Ok(guarded::watched(stream, first, call, None)),
            Err(error) if is_out_of_sight(&error) => Doubted::new(first, error),
            Err(error) => return Err(error),
        };
        // What another worker reads is the first one's trouble; what it doesn't read either is the file's.
        let Some(mut second) = self.another(&doubted, &need) else { return Err(doubted.into_error()) };
        let (stream, call) = asked(&mut second, &mut ticket, &execution).await?;
        Ok(guarded::watched(stream, second, call, Some(doubted)))
    }

    async fn shutdown(&self) {
        self.roster.stop();
        futures::future::join_all(self.supervisors.iter().map(Supervisor::shutdown)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_the_same_on_machines_whose_memory_is_about_the_same() {
        let shape = |mib: u64| shape(4, (mib << 20) + 12_345);
        for (mib, rounded) in [(64, 64), (99, 99), (100, 100), (787, 790), (995, 1000), (9216, 9200), (12_288, 12_000), (28_672, 29_000)] {
            assert_eq!(shape(mib), format!("duckdb:4c:{rounded}MiB"));
        }
        assert_eq!(shape(9216), shape(9216 - 7));
        assert_eq!(two_digits(0), 0);
        assert!(shape(u64::MAX >> 21).ends_with("MiB"));
    }
}
