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

#[derive(Debug, Clone)]
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
}

impl Capacity {
    pub fn of(engine: &dyn Engine, facts: &EngineFacts) -> Self {
        Self { slots: facts.slots, memory_bytes: engine.memory_bytes_total() }
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
    config: RwLock<AdmissionConfig>,
}

impl Admission {
    pub fn new(engines: impl IntoIterator<Item = EngineId>, config: AdmissionConfig) -> Self {
        Self { gates: engines.into_iter().map(|id| (id, Arc::default())).collect(), config: RwLock::new(config) }
    }

    /// New limits, for whoever comes from now on.
    pub fn configure(&self, config: AdmissionConfig) {
        *self.config.write() = config;
    }

    /// Queries that wait for this engine now.
    pub fn waiting(&self, engine: &EngineId) -> u32 {
        self.gates.get(engine).map_or(0, |gate| u32::try_from(gate.state.lock().queue.len()).unwrap_or(u32::MAX))
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

    /// The engine has this now: who waits is let in where it has grown.
    pub fn resize(&self, engine: &EngineId, capacity: Capacity) {
        if let Some(gate) = self.gates.get(engine) {
            let turns = {
                let mut state = gate.state.lock();
                state.resize(capacity);
                state.next_turns()
            };
            gate.give(turns);
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
    /// shrunk since the last query.
    pub async fn admit(&self, engine: &EngineId, capacity: Capacity, demand: Demand<'_>, deadline: Option<Instant>) -> Result<Permit> {
        let gate = self.gates.get(engine).ok_or_else(|| Error::internal(format!("engine `{engine}` has no slots")))?;
        let AdmissionConfig { queue_max, wait_max } = self.config.read().clone();
        let (place, mut turn) = match gate.enter(capacity, demand, queue_max) {
            Entered::Admitted(permit) => return Ok(permit),
            Entered::Full => return Err(queue_full(engine, queue_max)),
            Entered::Waiting(place, turn) => (place, turn),
        };
        let limit = Instant::now() + wait_max;
        let until = deadline.map_or(limit, |d| d.min(limit));
        let waited = tokio::time::timeout_at(until.into(), &mut turn).await;
        drop(place);
        match waited {
            Ok(Ok(permit)) => Ok(permit),
            // Its sender is gone: a newcomer took the place.
            Ok(Err(_)) => Err(queue_full(engine, queue_max)),
            Err(_) if deadline.is_some_and(|d| d <= limit) => {
                Err(Error::new(ErrorKind::DeadlineExceeded, format!("the deadline passed while the query waited for engine `{engine}`")))
            }
            Err(_) => {
                Err(Error::new(ErrorKind::ResourceExhausted, format!("engine `{engine}` had no free slot for {} s", wait_max.as_secs())))
            }
        }
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
}

impl Permit {
    fn new(gate: &Arc<Gate>, principal: Principal, memory_bytes: u64) -> Self {
        Self { gate: gate.clone(), principal, memory_bytes, since: Instant::now(), billed: Duration::ZERO }
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
mod tests {
    use futures::FutureExt;

    use super::*;

    const ONE: Capacity = Capacity { slots: 1, memory_bytes: 100 };

    fn admission(queue_max: usize, wait_ms: u64) -> (Arc<Admission>, EngineId) {
        let id = EngineId::new("e");
        let config = AdmissionConfig { queue_max, wait_max: Duration::from_millis(wait_ms) };
        (Arc::new(Admission::new([id.clone()], config)), id)
    }

    /// A query of `who` that waits in the background; its permit comes through the handle.
    async fn wait_as(admission: &Arc<Admission>, id: &EngineId, who: &str, memory_bytes: u64) -> tokio::task::JoinHandle<Result<Permit>> {
        let before = admission.waiting(id);
        let task = tokio::spawn({
            let (admission, id, who) = (admission.clone(), id.clone(), Principal::new(who));
            async move { admission.admit(&id, ONE, Demand { principal: &who, memory_bytes }, None).await }
        });
        while admission.waiting(id) == before && !task.is_finished() {
            tokio::task::yield_now().await;
        }
        task
    }

    async fn admit(admission: &Admission, id: &EngineId, capacity: Capacity, who: &str, memory_bytes: u64) -> Result<Permit> {
        admission.admit(id, capacity, Demand { principal: &Principal::new(who), memory_bytes }, None).await
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_a_freed_slot_is_given_on() {
        let (admission, id) = admission(1, 60_000);
        let first = admit(&admission, &id, ONE, "a", 0).await.unwrap();
        let waiter = wait_as(&admission, &id, "a", 0).await;
        let refused = admit(&admission, &id, ONE, "a", 0).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
        drop(first);
        let second = waiter.await.unwrap().unwrap();
        assert_eq!(admission.waiting(&id), 0);
        drop(second);
        assert_eq!(admission.gates[&id].state.lock().slots_used, 0);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_deadline_or_the_limit_and_leaves_nothing_behind() {
        let (admission, id) = admission(4, 5);
        let held = admit(&admission, &id, ONE, "a", 0).await.unwrap();
        assert_eq!(admit(&admission, &id, ONE, "a", 0).await.err().unwrap().kind(), ErrorKind::ResourceExhausted);
        let principal = Principal::new("a");
        let demand = Demand { principal: &principal, memory_bytes: 0 };
        let late = admission.admit(&id, ONE, demand, Some(Instant::now())).await;
        assert_eq!(late.err().unwrap().kind(), ErrorKind::DeadlineExceeded);
        assert_eq!(admission.waiting(&id), 0);
        drop(held);
        admit(&admission, &id, ONE, "a", 0).await.unwrap();
    }

    #[tokio::test]
    async fn a_flood_delays_itself_not_the_others() {
        let (admission, id) = admission(16, 60_000);
        let running = admit(&admission, &id, ONE, "flood", 0).await.unwrap();
        let flood = [wait_as(&admission, &id, "flood", 0).await, wait_as(&admission, &id, "flood", 0).await];
        let other = wait_as(&admission, &id, "other", 0).await;
        drop(running);
        let permit = other.await.unwrap().unwrap();
        assert!(flood.iter().all(|task| !task.is_finished()));
        drop(permit);
        for task in flood {
            drop(task.await.unwrap().unwrap());
        }
    }

    #[tokio::test]
    async fn a_full_queue_of_one_principal_makes_room_for_another() {
        let (admission, id) = admission(3, 60_000);
        let held = admit(&admission, &id, ONE, "flood", 0).await.unwrap();
        let mut flood = Vec::new();
        for _ in 0..3 {
            flood.push(wait_as(&admission, &id, "flood", 0).await);
        }
        let other = tokio::spawn({
            let (admission, id) = (admission.clone(), id.clone());
            async move { admit(&admission, &id, ONE, "other", 0).await }
        });
        let evicted = flood.pop().unwrap().await.unwrap().err().unwrap();
        assert_eq!(evicted.kind(), ErrorKind::ResourceExhausted);
        drop(held);
        drop(other.await.unwrap().unwrap());
        for task in flood {
            drop(task.await.unwrap().unwrap());
        }
    }

    #[tokio::test]
    async fn room_that_appears_is_given_to_who_waits() {
        let (admission, id) = admission(4, 60_000);
        let _held = admit(&admission, &id, ONE, "a", 0).await.unwrap();
        let waiter = wait_as(&admission, &id, "b", 0).await;
        admission.resize(&id, ONE);
        assert_eq!(admission.waiting(&id), 1);
        admission.resize(&id, Capacity { slots: 2, ..ONE });
        drop(waiter.await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn memory_is_given_out_too_and_a_query_larger_than_the_engine_runs_alone() {
        let (admission, id) = admission(4, 60_000);
        let many = Capacity { slots: 8, memory_bytes: 100 };
        let large = admit(&admission, &id, many, "a", 1_000).await.unwrap();
        let small = tokio::spawn({
            let (admission, id) = (admission.clone(), id.clone());
            async move { admit(&admission, &id, many, "b", 1).await }
        });
        while admission.waiting(&id) == 0 {
            tokio::task::yield_now().await;
        }
        drop(large);
        let small = small.await.unwrap().unwrap();
        let beside = admit(&admission, &id, many, "a", 99).await.unwrap();
        drop((small, beside));
        assert_eq!(admission.gates[&id].state.lock().memory_used, 0);
        assert!(admission.gates[&id].state.lock().principals.is_empty());
    }

    #[tokio::test]
    async fn what_is_spare_is_given_back_when_a_query_wants_it() {
        let (admission, id) = admission(4, 60_000);
        let spare = admission.spare(&id, ONE, 10).await.unwrap();
        assert!(admission.spare(&id, ONE, 10).now_or_never().is_none(), "there's no other");
        assert!(spare.wanted().now_or_never().is_none(), "nobody waits yet");
        let waiter = wait_as(&admission, &id, "a", 0).await;
        spare.wanted().await;
        drop(spare);
        let permit = waiter.await.unwrap().unwrap();
        // Who waits for something spare gets it when nobody else does, and not before.
        let background = tokio::spawn({
            let (admission, id) = (admission.clone(), id.clone());
            async move { admission.spare(&id, ONE, 10).await }
        });
        let next = wait_as(&admission, &id, "b", 0).await;
        drop(permit);
        let permit = next.await.unwrap().unwrap();
        assert!(!background.is_finished());
        drop(permit);
        let spare = background.await.unwrap().unwrap();
        drop(spare);
        let state = admission.gates[&id].state.lock();
        assert_eq!((state.slots_used, state.memory_used, state.spares.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn memory_that_is_spare_is_given_back_too() {
        let (admission, id) = admission(4, 60_000);
        let many = Capacity { slots: 8, memory_bytes: 100 };
        let spare = admission.spare(&id, many, 60).await.unwrap();
        let beside = admit(&admission, &id, many, "a", 40).await.unwrap();
        assert!(spare.wanted().now_or_never().is_none(), "there was room for both");
        let waiter = tokio::spawn({
            let (admission, id) = (admission.clone(), id.clone());
            async move { admit(&admission, &id, many, "a", 1).await }
        });
        spare.wanted().await;
        drop(spare);
        drop((waiter.await.unwrap().unwrap(), beside));
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_at_its_turn_passes_it_on() {
        let (admission, id) = admission(4, 60_000);
        let held = admit(&admission, &id, ONE, "a", 0).await.unwrap();
        let gone = wait_as(&admission, &id, "b", 0).await;
        let next = wait_as(&admission, &id, "c", 0).await;
        gone.abort();
        drop(held);
        next.await.unwrap().unwrap();
    }
}
