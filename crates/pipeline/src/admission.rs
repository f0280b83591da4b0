//! How many queries an engine runs at once, who waits, whose turn is next, and for how long.
//!
//! An engine gives out slots and memory. When there is none left, queries wait, and the turn goes
//! to the principal with the fewest queries running there, and among equals to who had their last
//! turn longest ago: somebody who sends a thousand at once delays themselves, not the others. The queue is bounded; when it is full, a newcomer takes the
//! place of the newest query of whoever waits with the most, if that leaves them no worse off than
//! the newcomer. Nobody is passed over for needing much memory: while the next in turn doesn't fit,
//! nobody behind is let past.
//!
//! What the server does for itself, shadow runs, takes what nobody wants ([`Admission::spare`]), and gives
//! it back when somebody does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_engine::Engine;
use flightpath_types::{EngineFacts, EngineId, Error, ErrorKind, Principal, Result};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::usage::{Machines, Usage};

#[derive(Debug, Clone, Copy)]
pub struct AdmissionConfig {
    /// Queries waiting per engine; more are refused at once.
    pub queue_max: usize,
    /// Longest wait for a slot.
    pub wait_max: Duration,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self { queue_max: 256, wait_max: Duration::from_secs(60) }
    }
}

/// What an engine has to give out, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub slots: u32,
    pub memory_bytes: u64,
    /// Of the kind that it has fewer places for; `None` where it has none such, or can't tell how many.
    pub narrow_slots: Option<u32>,
}

impl Capacity {
    /// Places that other routers' queries have taken aren't there to be given out; but half of them are this
    /// router's in any case, whatever others do.
    pub fn of(engine: &dyn Engine, facts: &EngineFacts) -> Self {
        let free = facts.slots.saturating_sub(engine.others_running());
        Self {
            slots: free.max(facts.slots.div_ceil(2)),
            memory_bytes: engine.memory_bytes_total(),
            narrow_slots: engine.narrow_slots_total(),
        }
    }

    /// Of the gate in front, which knows no memory.
    fn in_front(slots: u32) -> Self {
        Self { slots, memory_bytes: 0, narrow_slots: None }
    }
}

/// What one query asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand<'a> {
    pub principal: &'a Principal,
    /// Predicted; a query that needs more than the engine has gets the whole engine.
    pub memory_bytes: u64,
}

pub(crate) struct Admission {
    gates: HashMap<EngineId, Arc<Gate>>,
    /// In front of these, for kinds of queries that an engine has fewer places for.
    narrow: HashMap<EngineId, Arc<Gate>>,
    config: RwLock<AdmissionConfig>,
}

impl Admission {
    pub fn new(engines: impl IntoIterator<Item = EngineId>, config: AdmissionConfig) -> Self {
        let gates: HashMap<EngineId, Arc<Gate>> = engines.into_iter().map(|id| (id, Arc::default())).collect();
        let narrow = gates.keys().map(|id| (id.clone(), Arc::default())).collect();
        Self { gates, narrow, config: RwLock::new(config) }
    }

    /// New limits, for whoever comes from now on.
    pub fn configure(&self, config: AdmissionConfig) {
        *self.config.write() = config;
    }

    /// Queries that wait for this engine now, at either gate.
    pub fn waiting(&self, engine: &EngineId) -> u32 {
        let at = |gates: &HashMap<EngineId, Arc<Gate>>| gates.get(engine).map_or(0, |gate| gate.state.lock().queue.len());
        u32::try_from(at(&self.gates) + at(&self.narrow)).unwrap_or(u32::MAX)
    }

    /// Queries that ran on each machine at once, on average, of late; `None` until it was watched for a
    /// while. Queries that ran side by side shared the machine, and its price. `machines` are those from now on.
    pub fn utilisation(&self, engine: &EngineId, machines: Machines) -> Option<f64> {
        let mut state = self.gates.get(engine)?.state.lock();
        let now = Instant::now();
        state.note_usage(now);
        state.usage.on(machines);
        state.usage.mean(now)
    }

    /// The engine has this now: who waits at either gate is let in where it has grown.
    pub fn resize(&self, engine: &EngineId, capacity: Capacity) {
        if let Some(gate) = self.gates.get(engine) {
            gate.resize(capacity);
        }
        if let (Some(gate), Some(slots)) = (self.narrow.get(engine), capacity.narrow_slots) {
            gate.resize(Capacity::in_front(slots));
        }
    }

    /// Waits until a slot and memory are free that nobody waits for. Who holds them has to stop when it's
    /// told to ([`Spare::wanted`]): a query of a client's wants them.
    pub async fn spare(&self, engine: &EngineId, capacity: Capacity, memory_bytes: u64) -> Result<Spare> {
        let gate = self.gates.get(engine).ok_or_else(|| Error::internal(format!("engine `{engine}` has no slots")))?;
        loop {
            // Before looking: what changes in between is told, too.
            let changed = gate.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(spare) = gate.spare(capacity, memory_bytes) {
                return Ok(spare);
            }
            changed.await;
        }
    }

    /// Waits for this query's turn. `capacity` is what the engine has now: it may have grown or
    /// shrunk since the last query, and while this one waited in front. A query of a kind that the engine has few places for waits for one of these
    /// first, so that nobody takes a place of the others' to wait in. Both waits together have one limit.
    pub async fn admit(
        &self,
        engine: &EngineId,
        narrow_slots: Option<u32>,
        capacity: impl Fn() -> Capacity,
        demand: Demand<'_>,
        deadline: Option<Instant>,
    ) -> Result<Permit> {
        let config = *self.config.read();
        let limit = Limit { until: Instant::now() + config.wait_max, config, deadline };
        let narrow = match narrow_slots {
            Some(slots) => {
                let demand = Demand { memory_bytes: 0, ..demand };
                Some(pass(&self.narrow, engine, Capacity::in_front(slots), demand, &limit).await?)
            }
            None => None,
        };
        Ok(pass(&self.gates, engine, capacity(), demand, &limit).await?.behind(narrow))
    }
}

/// How long a query may wait.
struct Limit {
    config: AdmissionConfig,
    until: Instant,
    deadline: Option<Instant>,
}

async fn pass(
    gates: &HashMap<EngineId, Arc<Gate>>,
    engine: &EngineId,
    capacity: Capacity,
    demand: Demand<'_>,
    limit: &Limit,
) -> Result<Permit> {
    let gate = gates.get(engine).ok_or_else(|| Error::internal(format!("engine `{engine}` has no slots")))?;
    let AdmissionConfig { queue_max, wait_max } = limit.config;
    let (place, mut turn) = match gate.enter(capacity, demand, queue_max) {
        Entered::Admitted(permit) => return Ok(permit),
        Entered::Full => return Err(queue_full(engine, queue_max)),
        Entered::Waiting(place, turn) => (place, turn),
    };
    let until = limit.deadline.map_or(limit.until, |d| d.min(limit.until));
    let waited = tokio::time::timeout_at(until.into(), &mut turn).await;
    drop(place);
    match waited {
        Ok(Ok(permit)) => Ok(permit),
        // Its sender is gone: a newcomer took the place.
        Ok(Err(_)) => Err(queue_full(engine, queue_max)),
        Err(_) if limit.deadline.is_some_and(|d| d <= limit.until) => {
            Err(Error::new(ErrorKind::DeadlineExceeded, format!("the deadline passed while the query waited for engine `{engine}`")))
        }
        Err(_) => Err(Error::new(ErrorKind::ResourceExhausted, format!("engine `{engine}` had no free slot for {} s", wait_max.as_secs()))),
    }
}

fn queue_full(engine: &EngineId, queue_max: usize) -> Error {
    Error::new(
        ErrorKind::ResourceExhausted,
        format!("engine `{engine}` is busy and {queue_max} queries wait for it already; try again later"),
    )
}

/// A slot and its memory; dropping it gives them on.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    principal: Principal,
    memory_bytes: u64,
    since: Instant,
    billed: Duration,
    /// Of the gate in front.
    narrow: Option<Box<Permit>>,
}

impl Permit {
    fn new(gate: &Arc<Gate>, principal: Principal, memory_bytes: u64) -> Self {
        Self { gate: gate.clone(), principal, memory_bytes, since: Instant::now(), billed: Duration::ZERO, narrow: None }
    }

    /// Ends together with the one of the gate in front.
    pub fn behind(mut self, narrow: Option<Permit>) -> Self {
        self.narrow = narrow.map(Box::new);
        self
    }

    /// Ends it now.
    pub fn give_back(mut self, billed: Duration) {
        self.bill(billed);
    }

    /// Of the time that the slot was held, the query pays for this much.
    pub fn bill(&mut self, billed: Duration) {
        self.billed = billed;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let turns = {
            let mut state = self.gate.state.lock();
            state.leave(&self.principal, self.memory_bytes);
            state.usage.correct(self.since.elapsed(), self.billed);
            state.next_turns()
        };
        self.gate.give(turns);
    }
}

/// A slot and its memory that nobody else wants.
#[derive(Debug)]
pub(crate) struct Spare {
    gate: Arc<Gate>,
    number: u64,
    memory_bytes: u64,
    wanted: CancellationToken,
}

impl Spare {
    /// Completes when somebody waits for it: it has to be dropped then.
    pub async fn wanted(&self) {
        self.wanted.cancelled().await;
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let turns = {
            let mut state = self.gate.state.lock();
            state.spares.remove(&self.number);
            state.memory_used = state.memory_used.saturating_sub(self.memory_bytes);
            state.next_turns()
        };
        self.gate.give(turns);
    }
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    /// For whoever waits for what is spare.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    slots_max: u32,
    memory_max: u64,
    /// By queries of clients.
    slots_used: u32,
    /// By whomever.
    memory_used: u64,
    /// Slots that are taken because nobody wanted them.
    spares: HashMap<u64, CancellationToken>,
    spares_given: u64,
    /// Of everybody who runs or waits.
    principals: HashMap<Principal, Share>,
    turns: u64,
    usage: Usage,
    /// In order of arrival.
    queue: Vec<Waiter>,
    arrivals: u64,
}

#[derive(Debug, Default)]
struct Share {
    running: u32,
    waiting: u32,
    /// When its last query got a slot, counted in turns.
    last_turn: u64,
}

#[derive(Debug)]
struct Waiter {
    arrival: u64,
    principal: Principal,
    memory_bytes: u64,
    turn: oneshot::Sender<Permit>,
}

enum Entered {
    Admitted(Permit),
    Waiting(Place, oneshot::Receiver<Permit>),
    Full,
}

/// A place in the queue, left however the wait ends.
struct Place {
    gate: Arc<Gate>,
    arrival: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let turns = {
            let mut state = self.gate.state.lock();
            if let Some(at) = state.queue.iter().position(|waiter| waiter.arrival == self.arrival) {
                state.unqueue(at);
            }
            // Who waited behind it may fit where it didn't.
            state.next_turns()
        };
        self.gate.give(turns);
    }
}

impl Gate {
    fn enter(self: &Arc<Self>, capacity: Capacity, demand: Demand<'_>, queue_max: usize) -> Entered {
        let mut state = self.state.lock();
        state.resize(capacity);
        // An engine that has grown takes those in who wait already.
        let turns = state.next_turns();
        let memory_bytes = demand.memory_bytes.min(state.memory_max);
        let entered = if state.queue.is_empty() && state.fits(memory_bytes) {
            state.join(demand.principal, memory_bytes);
            Entered::Admitted(Permit::new(self, demand.principal.clone(), memory_bytes))
        } else if state.queue.len() < queue_max || state.make_room(demand.principal) {
            let (turn, receiver) = oneshot::channel();
            let arrival = state.enqueue(demand.principal.clone(), memory_bytes, turn);
            // Whoever waits isn't to wait for what the server does for itself.
            state.spares.values().for_each(CancellationToken::cancel);
            Entered::Waiting(Place { gate: self.clone(), arrival }, receiver)
        } else {
            Entered::Full
        };
        drop(state);
        self.give(turns);
        entered
    }

    fn resize(self: &Arc<Self>, capacity: Capacity) {
        let turns = {
            let mut state = self.state.lock();
            state.resize(capacity);
            state.next_turns()
        };
        self.give(turns);
    }

    /// Outside the lock: a permit whose receiver has gone is dropped here and takes it again.
    fn give(self: &Arc<Self>, turns: Vec<Waiter>) {
        for Waiter { principal, memory_bytes, turn, .. } in turns {
            drop(turn.send(Permit::new(self, principal, memory_bytes)));
        }
        self.changed.notify_waiters();
    }

    fn spare(self: &Arc<Self>, capacity: Capacity, memory_bytes: u64) -> Option<Spare> {
        let mut state = self.state.lock();
        state.resize(capacity);
        let memory_bytes = memory_bytes.min(state.memory_max);
        if !state.queue.is_empty() || !state.fits(memory_bytes) {
            return None;
        }
        let (number, wanted) = (state.spares_given, CancellationToken::new());
        state.spares_given += 1;
        state.memory_used = state.memory_used.saturating_add(memory_bytes);
        state.spares.insert(number, wanted.clone());
        Some(Spare { gate: self.clone(), number, memory_bytes, wanted })
    }
}

impl State {
    fn resize(&mut self, capacity: Capacity) {
        self.slots_max = capacity.slots.max(1);
        self.memory_max = capacity.memory_bytes;
    }

    fn fits(&self, memory_bytes: u64) -> bool {
        let memory = self.memory_used.saturating_add(memory_bytes) <= self.memory_max;
        let taken = self.slots_used.saturating_add(u32::try_from(self.spares.len()).unwrap_or(u32::MAX));
        taken < self.slots_max && (memory || taken == 0)
    }

    fn note_usage(&mut self, now: Instant) {
        self.usage.note(self.slots_used, now);
    }

    fn join(&mut self, principal: &Principal, memory_bytes: u64) {
        self.note_usage(Instant::now());
        self.slots_used += 1;
        self.memory_used = self.memory_used.saturating_add(memory_bytes);
        self.turns += 1;
        let share = self.principals.entry(principal.clone()).or_default();
        share.running += 1;
        share.last_turn = self.turns;
    }

    fn leave(&mut self, principal: &Principal, memory_bytes: u64) {
        self.note_usage(Instant::now());
        self.slots_used = self.slots_used.saturating_sub(1);
        self.memory_used = self.memory_used.saturating_sub(memory_bytes);
        self.change_share(principal, |share| share.running = share.running.saturating_sub(1));
    }

    fn enqueue(&mut self, principal: Principal, memory_bytes: u64, turn: oneshot::Sender<Permit>) -> u64 {
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.principals.entry(principal.clone()).or_default().waiting += 1;
        self.queue.push(Waiter { arrival, principal, memory_bytes, turn });
        arrival
    }

    fn unqueue(&mut self, at: usize) -> Waiter {
        let waiter = self.queue.remove(at);
        self.change_share(&waiter.principal, |share| share.waiting = share.waiting.saturating_sub(1));
        waiter
    }

    /// Whoever neither runs nor waits is forgotten.
    fn change_share(&mut self, principal: &Principal, change: impl FnOnce(&mut Share)) {
        if let Some(share) = self.principals.get_mut(principal) {
            change(share);
            if share.running == 0 && share.waiting == 0 {
                self.principals.remove(principal);
            }
        }
    }

    /// Takes those out of the queue whose turn it is and counts them as running.
    fn next_turns(&mut self) -> Vec<Waiter> {
        let mut turns = Vec::new();
        while let Some(next) = self.next() {
            if !self.fits(self.queue[next].memory_bytes) {
                break;
            }
            let (principal, memory_bytes) = (self.queue[next].principal.clone(), self.queue[next].memory_bytes);
            self.join(&principal, memory_bytes);
            turns.push(self.unqueue(next));
        }
        turns
    }

    /// Whose turn is next.
    fn next(&self) -> Option<usize> {
        let share = |w: &Waiter| self.principals.get(&w.principal).map_or((0, 0), |share| (share.running, share.last_turn));
        (0..self.queue.len()).min_by_key(|at| (share(&self.queue[*at]), self.queue[*at].arrival))
    }

    /// Sends away the newest query of whoever waits with the most, if `newcomer` has fewer even
    /// with one more.
    fn make_room(&mut self, newcomer: &Principal) -> bool {
        let waiting = |principal: &Principal| self.principals.get(principal).map_or(0, |share| share.waiting);
        let most = self.queue.iter().map(|w| waiting(&w.principal)).max().unwrap_or(0);
        if waiting(newcomer) + 1 >= most {
            return false;
        }
        let Some(newest) = self.queue.iter().rposition(|w| waiting(&w.principal) == most) else { return false };
        self.unqueue(newest);
        true
    }
}

#[cfg(test)]
mod tests;
