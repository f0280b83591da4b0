//! What the same shape of query took before, by engine and by how much it read. Bounded: the
//! entries that were seen longest ago are forgotten.

use std::collections::HashMap;

use flightpath_types::{Features, PredictionSource};
use parking_lot::RwLock;

use super::samples::Samples;
use super::snapshot::{ClassState, ShapeState};
use super::{Estimate, Z_95};
use crate::number::clamped;

const SHARDS: usize = 16;
/// Sizes of one shape that are told apart: the same text with other literals, or a table that grew.
const CLASSES_MAX: usize = 4;
/// Runs that read up to half as much again count as the same size.
const SAME_LN: f64 = 0.405;
/// Times are scaled up to an eightfold change; beyond it, they say too little.
const SCALED_LN: f64 = 2.08;
/// Added standard deviation per e-fold of scaling.
const SCALED_SD: f64 = 0.25;
/// Differences among smaller scans don't matter.
const BYTES_FLOOR: f64 = 65_536.0;
/// What is forgotten at once when a shard is full: one entry in so many.
const FORGET_SHARE: usize = 8;

#[derive(Debug)]
pub(crate) struct Shapes {
    shards: Vec<RwLock<HashMap<u64, Seen>>>,
    shard_max: usize,
}

/// One shape on one engine.
#[derive(Debug, Clone)]
struct Seen {
    tick: u64,
    classes: Vec<Class>,
}

/// One size of it.
#[derive(Debug, Clone)]
struct Class {
    tick: u64,
    ln_bytes: f64,
    /// The engine's then: what doesn't grow with the bytes.
    overhead_ms: f64,
    latency: Samples,
    memory: Samples,
    /// Of these, the database has so many.
    base: Base,
}

/// Runs seen, of each quantity.
#[derive(Debug, Clone, Copy, Default)]
struct Base {
    latency: u32,
    memory: u32,
}

fn ln_bytes(features: &Features) -> f64 {
    (features.scan_bytes as f64 + BYTES_FLOOR).ln()
}

impl Seen {
    fn nearest(&self, ln_bytes: f64, has: impl Fn(&Class) -> bool) -> Option<&Class> {
        let near = |class: &&Class| (class.ln_bytes - ln_bytes).abs();
        self.classes.iter().filter(|class| has(class)).min_by(|a, b| near(a).total_cmp(&near(b)))
    }
}

impl Seen {
    fn like(&mut self, ln_bytes: f64) -> Option<&mut Class> {
        self.classes.iter_mut().find(|class| (class.ln_bytes - ln_bytes).abs() <= SAME_LN)
    }

    fn rebase(&mut self, tick: u64, classes: Vec<Class>) {
        self.tick = self.tick.max(tick);
        for kept in classes {
            let full = self.classes.len() >= CLASSES_MAX;
            match self.like(kept.ln_bytes) {
                Some(class) => {
                    class.latency.rebase(&kept.latency, class.base.latency);
                    class.memory.rebase(&kept.memory, class.base.memory);
                    class.base = kept.base;
                }
                None if full => {}
                None => self.classes.push(kept),
            }
        }
    }
}

impl Shapes {
    pub fn new(max: usize) -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), shard_max: (max / SHARDS).max(1) }
    }

    fn shard(&self, key: u64) -> &RwLock<HashMap<u64, Seen>> {
        // Keys are mixed: any bits do.
        &self.shards[(key >> 32) as usize % SHARDS]
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// How often this size of it was timed.
    pub fn times(&self, key: u64, features: &Features) -> u32 {
        let at = ln_bytes(features);
        let shard = self.shard(key).read();
        let nearest = shard.get(&key).and_then(|seen| seen.nearest(at, |class| !class.latency.is_empty()));
        nearest.filter(|class| (class.ln_bytes - at).abs() <= SAME_LN).map_or(0, |class| class.latency.seen)
    }

    pub fn latency(&self, key: u64, features: &Features, z: f64) -> Option<Estimate> {
        let at = ln_bytes(features);
        let shard = self.shard(key).read();
        let class = shard.get(&key)?.nearest(at, |class| !class.latency.is_empty())?;
        let scale = scale(at - class.ln_bytes)?;
        let (median, sd) = class.latency.summary();
        let ms = median.exp();
        let fixed = clamped(class.overhead_ms, 0.0, ms);
        let ln_p50 = (fixed + (ms - fixed) * scale.exp()).max(super::LATENCY_MS_MIN).ln();
        let ln_p95 = ln_p50 + Samples::reach(sd.hypot(SCALED_SD * scale), z);
        Some(Estimate { ln_p50, ln_p95, observations: class.latency.seen, source: PredictionSource::Shape })
    }

    pub fn memory(&self, key: u64, features: &Features) -> Option<Estimate> {
        let at = ln_bytes(features);
        let shard = self.shard(key).read();
        let class = shard.get(&key)?.nearest(at, |class| !class.memory.is_empty())?;
        let scale = scale(at - class.ln_bytes)?;
        let (median, sd) = class.memory.summary();
        // Buffers stay when there's less to read.
        let ln_p50 = median + scale.max(0.0);
        let ln_p95 = ln_p50 + Samples::reach(sd.hypot(SCALED_SD * scale), Z_95);
        Some(Estimate { ln_p50, ln_p95, observations: class.memory.seen, source: PredictionSource::Shape })
    }

    pub fn learn_latency(&self, key: u64, features: &Features, overhead_ms: f64, value: f64, tick: u64) {
        self.learn(key, features, overhead_ms, tick, |class| class.latency.push(value));
    }

    pub fn learn_memory(&self, key: u64, features: &Features, overhead_ms: f64, value: f64, tick: u64) {
        self.learn(key, features, overhead_ms, tick, |class| class.memory.push(value));
    }

    fn learn(&self, key: u64, features: &Features, overhead_ms: f64, tick: u64, push: impl FnOnce(&mut Class)) {
        let at = ln_bytes(features);
        let mut shard = self.shard(key).write();
        if shard.len() >= self.shard_max && !shard.contains_key(&key) {
            forget_oldest(&mut shard);
        }
        let seen = shard.entry(key).or_insert_with(|| Seen { tick, classes: Vec::with_capacity(1) });
        seen.tick = tick;
        let near = |class: &Class| (class.ln_bytes - at).abs();
        let nearest = (0..seen.classes.len()).min_by(|a, b| near(&seen.classes[*a]).total_cmp(&near(&seen.classes[*b])));
        let index = match nearest.filter(|index| near(&seen.classes[*index]) <= SAME_LN) {
            Some(index) => index,
            None => {
                if seen.classes.len() == CLASSES_MAX {
                    let oldest = (0..CLASSES_MAX).min_by_key(|index| seen.classes[*index].tick).unwrap_or(0);
                    seen.classes.swap_remove(oldest);
                }
                let (latency, memory) = Default::default();
                seen.classes.push(Class { tick, ln_bytes: at, overhead_ms, latency, memory, base: Base::default() });
                seen.classes.len() - 1
            }
        };
        let class = &mut seen.classes[index];
        // A table that grows a little every day takes its class along.
        class.ln_bytes += (at - class.ln_bytes) / 4.0;
        class.overhead_ms = clamped(overhead_ms, 0.0, super::LATENCY_MS_MAX);
        class.tick = tick;
        push(class);
    }

    pub fn export(&self) -> Vec<ShapeState> {
        let state = |(key, seen): (&u64, &Seen)| ShapeState {
            key: *key,
            tick: seen.tick,
            classes: seen
                .classes
                .iter()
                .map(|class| ClassState {
                    tick: class.tick,
                    ln_bytes: class.ln_bytes,
                    overhead_ms: class.overhead_ms,
                    latency: class.latency.values().to_vec(),
                    latency_seen: class.latency.seen,
                    memory: class.memory.values().to_vec(),
                    memory_seen: class.memory.seen,
                })
                .collect(),
        };
        let mut all: Vec<ShapeState> = self.shards.iter().flat_map(|shard| shard.read().iter().map(state).collect::<Vec<_>>()).collect();
        all.sort_by_key(|state| state.key);
        all
    }

    /// Takes in what the database has: what was seen here since the last time comes behind it. False for an
    /// entry that is damaged.
    pub fn rebase(&self, state: &ShapeState) -> bool {
        let class = |class: &ClassState| {
            let fit = (0.0..50.0).contains(&class.ln_bytes) && (0.0..=super::LATENCY_MS_MAX).contains(&class.overhead_ms);
            Some(Class {
                tick: class.tick,
                ln_bytes: fit.then_some(class.ln_bytes)?,
                overhead_ms: class.overhead_ms,
                latency: Samples::restore(&class.latency, class.latency_seen)?,
                memory: Samples::restore(&class.memory, class.memory_seen)?,
                base: Base { latency: class.latency_seen, memory: class.memory_seen },
            })
        };
        let classes: Option<Vec<Class>> = state.classes.iter().map(class).collect();
        let Some(classes) = classes.filter(|classes| !classes.is_empty() && classes.len() <= CLASSES_MAX) else { return false };
        let mut shard = self.shard(state.key).write();
        if shard.len() >= self.shard_max && !shard.contains_key(&state.key) {
            forget_oldest(&mut shard);
        }
        match shard.get_mut(&state.key) {
            Some(seen) => seen.rebase(state.tick, classes),
            None => {
                shard.insert(state.key, Seen { tick: state.tick, classes });
            }
        }
        true
    }

    /// The database has this now.
    pub fn saved(&self, state: &ShapeState) {
        let mut shard = self.shard(state.key).write();
        let Some(seen) = shard.get_mut(&state.key) else { return };
        for kept in &state.classes {
            if let Some(class) = seen.like(kept.ln_bytes) {
                // Never more than there is: the class may be another by now.
                let base = |seen: u32, kept: u32| seen.min(kept);
                class.base =
                    Base { latency: base(class.latency.seen, kept.latency_seen), memory: base(class.memory.seen, kept.memory_seen) };
            }
        }
    }
}

/// The change of size as a logarithm, 0 for none; `None` when it is too big to scale by.
fn scale(change: f64) -> Option<f64> {
    match change.abs() {
        size if size <= SAME_LN => Some(0.0),
        size if size <= SCALED_LN => Some(change),
        _ => None,
    }
}

fn forget_oldest(shard: &mut HashMap<u64, Seen>) {
    let mut ticks: Vec<u64> = shard.values().map(|seen| seen.tick).collect();
    let count = (ticks.len() / FORGET_SHARE).max(1);
    let (_, limit, _) = ticks.select_nth_unstable(count - 1);
    let limit = *limit;
    shard.retain(|_, seen| seen.tick > limit);
}
