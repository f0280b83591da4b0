//! The workers there are, local and remote alike: who is in the fleet, how each is, and which one a
//! query is given to. Never gives work to a worker that is silent, draining or failing, and knows
//! a worker that comes back as a new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flightpath_engine::{Findings, RetryBudget, RetryRates};
use flightpath_proto::v1::WorkerStatus;
use flightpath_types::{EngineState, Error, ErrorKind, QueryId, Result};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::breaker::Breaker;
use crate::client::Spoke;
use crate::member::{Candidate, Member, Need, WorkerFacts};
use crate::placement::{Choice, choose};

/// Queries of which it is known where they have failed.
const FAILED_MAX: usize = 4096;
/// A query is tried again within this time or not at all.
const FAILED_KEPT: Duration = Duration::from_secs(120);
/// Names of tables that one worker may tell.
const CACHED_MAX: usize = 64;
/// How long, and for how many workers that have left, it's known how their breakers stood: one that crashes
/// again and again mustn't come back as good as new.
const LEFT_KEPT: Duration = Duration::from_secs(60);
const LEFT_MAX: usize = 1024;

/// What the ready workers can do together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    pub slots: u32,
    /// Of these, for users' own SQL.
    pub user_slots: u32,
    pub running: u32,
    /// Of the smallest, where a query may land.
    pub cores_min: u32,
    pub cores: u32,
    pub memory_bytes_min: u64,
    pub memory_bytes: u64,
}

/// How a worker that this router keeps alive itself is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    Starting,
    Up,
    Down(String),
}

/// Tries beyond the first on the fleet: one of ten queries, and all that a dying worker leaves behind,
/// which must find another at once.
const RETRIES: RetryRates = RetryRates { share: 0.1, per_second: 2.0, saved_max: 128.0 };

#[derive(Default)]
struct State {
    members: Vec<Arc<Member>>,
    locals: BTreeMap<String, Local>,
    failed: HashMap<QueryId, (Instant, Vec<u64>)>,
    left: HashMap<String, (Instant, Arc<Mutex<Breaker>>)>,
    stopped: bool,
}

impl State {
    /// A worker that comes and goes as it likes has left.
    fn leaves(&mut self, member: &Member, now: Instant) {
        self.left.retain(|_, (at, _)| now.saturating_duration_since(*at) < LEFT_KEPT);
        if member.is_shared() && self.left.len() < LEFT_MAX {
            self.left.insert(member.name.clone(), (now, member.breaker.clone()));
        }
    }

    /// The breaker of whoever had this name lately, or a new one.
    fn breaker(&mut self, name: &str, now: Instant) -> Arc<Mutex<Breaker>> {
        let left = self.left.remove(name).filter(|(at, _)| now.saturating_duration_since(*at) < LEFT_KEPT);
        left.map(|(_, breaker)| breaker).unwrap_or_default()
    }
}

pub struct Roster {
    state: Mutex<State>,
    budget: Mutex<RetryBudget>,
    epochs: AtomicU64,
    /// Grows with every change, for those who wait for one.
    changes: watch::Sender<u64>,
    lease: Duration,
    members_max: usize,
}

impl Roster {
    pub fn new(lease: Duration, members_max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            budget: Mutex::new(RetryBudget::new(RETRIES, Instant::now())),
            epochs: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            lease,
            members_max,
        })
    }

    /// Takes a worker in until the seat is dropped. One that comes from elsewhere finds its breaker as it was
    /// a minute ago; this router's own are kept back by their supervisor.
    pub fn join(self: &Arc<Self>, candidate: Candidate, now: Instant) -> Result<Seat> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(Error::unavailable("the router is shutting down"));
        }
        if let Some(at) = state.members.iter().position(|m| m.name == candidate.name) {
            if !state.members[at].is_lost() {
                return Err(Error::unavailable(format!(
                    "another worker named `{}` belongs to the fleet; names are unique: set worker.name",
                    candidate.name
                )));
            }
            // The one that fell silent is replaced by the one that speaks.
            let old = state.members.swap_remove(at);
            old.lost.send_replace(true);
            state.leaves(&old, now);
        }
        if state.members.len() >= self.members_max {
            return Err(Error::new(ErrorKind::ResourceExhausted, format!("the fleet has {} workers already", self.members_max)));
        }
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
        let breaker = if candidate.shared { state.breaker(&candidate.name, now) } else { Arc::default() };
        let member = Arc::new(Member::new(candidate, epoch, breaker, now));
        state.members.push(member.clone());
        drop(state);
        self.changed();
        Ok(Seat { roster: self.clone(), member })
    }

    /// How a worker of this router's own is doing; `None`: it is no more.
    pub fn local(&self, name: &str, local: Option<Local>) {
        let mut state = self.state.lock();
        match local {
            Some(local) => state.locals.insert(name.to_string(), local),
            None => state.locals.remove(name),
        };
        drop(state);
        self.changed();
    }

    /// Takes no more workers and gives out none.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed();
    }

    /// Marks who has been silent for longer than the lease, and closes what nobody has used for long; called
    /// several times within it.
    pub fn expire(&self, now: Instant) {
        let members = self.state.lock().members.clone();
        for member in members {
            member.client.close_idle(now);
            let silent = now.saturating_duration_since(member.now.lock().heard) > self.lease;
            if silent && !member.lost.send_replace(true) {
                tracing::warn!(
                    worker = member.name,
                    lease_ms = self.lease.as_millis() as u64,
                    "a DuckDB worker is silent: no new work for it"
                );
                self.changed();
            }
        }
    }

    /// Gives a query to a worker.
    pub fn begin(self: &Arc<Self>, need: &Need<'_>, now: Instant) -> Result<Attempt> {
        let mut state = self.state.lock();
        let failed_at = need.query_id.and_then(|id| state.failed.get(&id)).map(|(_, epochs)| epochs.clone()).unwrap_or_default();
        let ready: Vec<Arc<Member>> = state.members.iter().filter(|m| !state.stopped && m.is_ready(now)).cloned().collect();
        if ready.is_empty() {
            return Err(Error::unavailable(why_down(&state)));
        }
        let fits = |m: &Arc<Member>| need.not_on != Some(m.epoch) && need.fits(&m.now.lock().status);
        let fitting: Vec<Arc<Member>> = ready.into_iter().filter(fits).collect();
        if fitting.is_empty() {
            return Err(need.unfit());
        }
        let choices: Vec<Choice<'_>> = fitting
            .iter()
            .map(|m| {
                let condition = m.now.lock();
                Choice {
                    name: &m.name,
                    slots: condition.status.slots,
                    load: m.load(&condition),
                    cached: condition.status.cached.iter().any(|t| t == need.table),
                    failed_here: failed_at.contains(&m.epoch),
                }
            })
            .collect();
        let member = choose(&choices, need.table).and_then(|at| fitting.get(at).cloned());
        let member = member.ok_or_else(|| Error::internal("no DuckDB worker was chosen"))?;
        // Whoever looks elsewhere for a file does so once, and takes nothing of what is saved for workers' deaths.
        if need.not_on.is_none() {
            let mut budget = self.budget.lock();
            if failed_at.is_empty() {
                budget.first_try();
            } else if !budget.take(now) {
                return Err(Error::unavailable("too many queries are being tried again already: the DuckDB workers are in trouble"));
            }
        }
        member.breaker.lock().begin(now);
        member.enter();
        if state.failed.len() >= FAILED_MAX {
            state.failed.retain(|_, (at, _)| now.saturating_duration_since(*at) < FAILED_KEPT);
        }
        let (spoke, findings) = (Spoke::default(), Arc::default());
        Ok(Attempt { roster: self.clone(), member, query_id: need.query_id, spoke, findings, decided: false, left: false })
    }

    pub fn members(&self) -> Vec<Arc<Member>> {
        self.state.lock().members.clone()
    }

    pub fn state(&self, now: Instant) -> EngineState {
        let state = self.state.lock();
        if state.stopped {
            EngineState::Draining
        } else if state.members.iter().any(|m| m.is_ready(now)) {
            EngineState::Ready
        } else {
            EngineState::Down(why_down(&state))
        }
    }

    /// `None` when no worker is ready.
    pub fn totals(&self, now: Instant) -> Option<Totals> {
        let ready: Vec<Arc<Member>> = self.state.lock().members.iter().filter(|m| m.is_ready(now)).cloned().collect();
        let mut totals: Option<Totals> = None;
        for member in ready {
            let condition = member.now.lock();
            let (slots, load, status) = (condition.status.slots, member.load(&condition), &condition.status);
            totals = Some(match totals {
                None => Totals {
                    slots,
                    user_slots: status.user_slots,
                    running: load,
                    cores_min: status.threads,
                    cores: status.threads,
                    memory_bytes_min: status.memory_bytes_max,
                    memory_bytes: status.memory_bytes_max,
                },
                Some(t) => Totals {
                    slots: t.slots.saturating_add(slots),
                    user_slots: t.user_slots.saturating_add(status.user_slots),
                    running: t.running.saturating_add(load),
                    cores_min: t.cores_min.min(status.threads),
                    cores: t.cores.saturating_add(status.threads),
                    memory_bytes_min: t.memory_bytes_min.min(status.memory_bytes_max),
                    memory_bytes: t.memory_bytes.saturating_add(status.memory_bytes_max),
                },
            });
        }
        totals
    }

    /// Queries of this router that run on workers.
    pub fn in_flight(&self) -> u32 {
        self.state.lock().members.iter().map(|m| m.in_flight()).sum()
    }

    /// Workers that are heard of, whether they take queries or not.
    pub fn present(&self) -> u32 {
        u32::try_from(self.members().iter().filter(|m| !m.is_lost()).count()).unwrap_or(u32::MAX)
    }

    /// Queries of other routers that run on workers.
    pub fn others_running(&self) -> u32 {
        self.members().iter().filter(|m| !m.is_lost()).map(|m| m.now.lock().others).fold(0, u32::saturating_add)
    }

    pub fn facts(&self, now: Instant) -> Vec<WorkerFacts> {
        let mut facts: Vec<WorkerFacts> = self.members().iter().map(|member| member.facts(now)).collect();
        facts.sort_by(|a, b| a.name.cmp(&b.name));
        facts
    }

    /// Waits until a worker takes queries, while one is starting. Fails when none is, or after `max`.
    pub async fn ready(&self, max: Duration) -> Result<()> {
        let mut changes = self.changes.subscribe();
        let settled = async {
            loop {
                changes.borrow_and_update();
                match self.state(Instant::now()) {
                    EngineState::Ready => return Ok(()),
                    EngineState::Draining => return Err(Error::unavailable("the DuckDB workers were shut down")),
                    EngineState::Down(why) if !self.is_starting() => return Err(Error::unavailable(why)),
                    EngineState::Down(_) => {}
                }
                if changes.changed().await.is_err() {
                    return Err(Error::unavailable("the DuckDB workers were shut down"));
                }
            }
        };
        tokio::time::timeout(max, settled).await.unwrap_or_else(|_| Err(Error::unavailable("the DuckDB worker is still starting")))
    }

    fn is_starting(&self) -> bool {
        self.state.lock().locals.values().any(|local| *local == Local::Starting)
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn failed_there(&self, query_id: Option<QueryId>, epoch: u64) {
        let Some(id) = query_id else { return };
        let mut state = self.state.lock();
        // Beyond the bound a query may meet the same worker twice.
        if state.failed.len() < FAILED_MAX || state.failed.contains_key(&id) {
            let (at, epochs) = state.failed.entry(id).or_insert_with(|| (Instant::now(), Vec::new()));
            *at = Instant::now();
            epochs.push(epoch);
        }
    }
}

/// Why no worker takes queries, for a person.
fn why_down(state: &State) -> String {
    if state.stopped {
        return "the DuckDB workers were shut down".into();
    }
    let several = state.members.len() + state.locals.len() > 1;
    if !state.members.is_empty() {
        let now = Instant::now();
        let states: Vec<String> = state.members.iter().map(|m| format!("`{}` is {}", m.name, m.state(now))).collect();
        let text = if several { states.join(", ") } else { format!("it is {}", states[0].rsplit(' ').next().unwrap_or_default()) };
        return format!("no DuckDB worker takes queries: {text}");
    }
    let reasons: Vec<&str> =
        state.locals.values().filter_map(|l| if let Local::Down(why) = l { Some(why.as_str()) } else { None }).collect();
    match reasons.first() {
        Some(reason) => format!("the DuckDB worker is down: {reason}"),
        None if state.locals.is_empty() => "no DuckDB worker has registered yet".into(),
        None => "the DuckDB worker is starting".into(),
    }
}

/// A worker's place in the fleet, until it's dropped.
pub struct Seat {
    roster: Arc<Roster>,
    member: Arc<Member>,
}

impl Seat {
    /// The worker has told how it is.
    pub fn report(&self, status: &WorkerStatus, now: Instant) {
        let was_ready = self.member.is_ready(now);
        {
            let mut condition = self.member.now.lock();
            condition.others = self.member.of_others(status.running.saturating_add(status.waiting));
            condition.status = status.clone();
            condition.status.cached.truncate(CACHED_MAX);
            condition.heard = now;
        }
        if self.member.lost.send_replace(false) {
            tracing::info!(worker = self.member.name, "a DuckDB worker is heard of again");
        }
        if self.member.is_ready(now) != was_ready {
            self.roster.changed();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.roster.state.lock();
        let before = state.members.len();
        state.members.retain(|m| m.epoch != self.member.epoch);
        // Whose place another has taken has left before.
        if state.members.len() < before {
            state.leaves(&self.member, Instant::now());
        }
        drop(state);
        self.member.lost.send_replace(true);
        self.roster.changed();
    }
}

/// A query that was given to a worker; counts there until it's dropped or leaves.
pub struct Attempt {
    roster: Arc<Roster>,
    member: Arc<Member>,
    query_id: Option<QueryId>,
    spoke: Spoke,
    findings: Arc<Findings>,
    decided: bool,
    left: bool,
}

impl Attempt {
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Learns from the client whether the worker has the ticket, and has told of a failure itself.
    pub fn spoke(&self) -> Spoke {
        self.spoke.clone()
    }

    /// Where it is told that the worker was lost under the query.
    pub fn tell(&mut self, findings: Arc<Findings>) {
        self.findings = findings;
    }

    pub fn lease(&self) -> Duration {
        self.roster.lease
    }

    /// Counts there no more, though what it says of the worker may not be known yet.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.member.leave();
        }
    }

    /// The worker has answered to the end, be it with an error of the query's own.
    pub fn succeeded(&mut self) {
        self.decided = true;
        self.member.breaker.lock().success();
    }

    /// The failure is the worker's.
    pub fn at_fault(&mut self, now: Instant) {
        self.decided = true;
        self.member.breaker.lock().failure(now);
    }

    /// The error as it is told. A worker that drains takes what is left of its answers with it, and a reader who
    /// is behind may never get to its last word: that is no lost connection, and nobody's crash.
    pub fn explained(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Unavailable || self.spoke.heard() || !self.member.is_draining() {
            return error;
        }
        let name = &self.member.name;
        Error::unavailable(format!("the DuckDB worker `{name}` was shutting down, and ended before its answer did: {}", error.message()))
    }

    /// What this failure says of the worker.
    pub fn failed(&mut self, error: &Error, now: Instant) {
        match error.kind() {
            ErrorKind::Unavailable => {
                let lost = !self.spoke.heard() && !self.member.is_draining();
                // One that says what's wrong is alive, and one that drains ends in any case.
                if lost {
                    self.at_fault(now);
                }
                if lost && self.spoke.has_ticket() {
                    self.findings.died();
                }
                self.roster.failed_there(self.query_id, self.member.epoch);
                self.roster.changed();
            }
            // A query that DuckDB can't digest mustn't take its worker out of service, nor may files that are gone or
            // that nobody can read. But none says that the worker is well: whoever sees no files at all answers like
            // that.
            ErrorKind::Internal
            | ErrorKind::ResourceExhausted
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Cancelled
            | ErrorKind::DataLoss => {}
            ErrorKind::InvalidArgument
            | ErrorKind::NotFound
            | ErrorKind::NotEligible
            | ErrorKind::PermissionDenied
            | ErrorKind::Unauthenticated
            | ErrorKind::Raised => self.succeeded(),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.decided {
            self.member.breaker.lock().undecided(Instant::now());
        }
        self.leave();
    }
}

#[cfg(test)]
#[path = "roster/tests.rs"]
mod tests;
