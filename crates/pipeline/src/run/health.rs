//! Engines that fail one query after the other are left alone for a while, and shapes of query that kill
//! an engine whenever they come aren't given to it. Engines that look after their own parts (workers,
//! a workspace's API) do that too, sooner; this holds for every engine.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use flightpath_types::{EngineId, EngineState, Error, ErrorKind, Fingerprint};
use parking_lot::Mutex;

/// An engine isn't judged by one shape of query: failures of so many, and no answer in between.
const SHAPES_MIN: usize = 3;
/// An engine that was lost this often under queries of one shape, and answered none of them in between, isn't
/// given such a query...
const LOSSES_MAX: u32 = 3;
/// ...for so long.
const KEPT_OFF: Duration = Duration::from_secs(600);
/// What is lost within so short a time was lost at once: all queries of a worker end with it, whichever of
/// them was to blame.
const ONE_LOSS: Duration = Duration::from_secs(2);
/// Shapes remembered; what is beyond isn't counted.
const SHAPES_MAX: usize = 10_000;

/// How long an engine is left alone; doubles while it goes on failing.
const ALONE_MIN: Duration = Duration::from_secs(1);
const ALONE_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Health {
    /// Of engines that don't guard themselves.
    engines: HashMap<EngineId, Mutex<Record>>,
    /// How often an engine was lost under a shape, and when last.
    losses: DashMap<(EngineId, Fingerprint), (u32, Instant)>,
}

#[derive(Default)]
struct Record {
    /// Shapes that failed since the last answer.
    failed: Vec<Fingerprint>,
    /// Until when it's left alone, and for how long that was. After it queries are given to it, and the first
    /// failure is enough.
    alone: Option<(Instant, Duration)>,
}

impl Record {
    fn failed(&mut self, shape: Fingerprint, now: Instant) {
        if self.failed.len() < SHAPES_MIN && !self.failed.contains(&shape) {
            self.failed.push(shape);
        }
        let again = match self.alone {
            // Of queries that had begun before.
            Some((until, _)) if now < until => return,
            Some((_, before)) => (before * 2).min(ALONE_MAX),
            None => ALONE_MIN,
        };
        if self.failed.len() >= SHAPES_MIN {
            self.alone = Some((now + again, again));
        }
    }
}

impl Health {
    pub fn new(engines: impl IntoIterator<Item = EngineId>) -> Self {
        Self { engines: engines.into_iter().map(|id| (id, Mutex::default())).collect(), losses: DashMap::new() }
    }

    /// Whether the engine takes queries, as far as its answers tell.
    pub fn state(&self, engine: &EngineId, now: Instant) -> EngineState {
        let alone = self.engines.get(engine).and_then(|record| record.lock().alone);
        match alone.filter(|(until, _)| now < *until) {
            None => EngineState::Ready,
            Some(_) => EngineState::Down("it has failed one query after the other; it's tried again shortly".into()),
        }
    }

    pub fn answered(&self, engine: &EngineId, shape: Fingerprint) {
        if let Some(record) = self.engines.get(engine) {
            *record.lock() = Record::default();
        }
        self.losses.remove(&(engine.clone(), shape));
    }

    /// A try failed. What has a class isn't the engine's own: storage, places, the query itself.
    pub fn failed(&self, engine: &EngineId, shape: Fingerprint, error: &Error) {
        let own = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Internal) && error.class().is_none();
        if let Some(record) = self.engines.get(engine).filter(|_| own) {
            record.lock().failed(shape, Instant::now());
        }
    }

    /// The engine was lost while it worked on a query of this shape.
    pub fn lost(&self, engine: &EngineId, shape: Fingerprint, now: Instant) {
        let key = (engine.clone(), shape);
        if self.losses.len() >= SHAPES_MAX && !self.losses.contains_key(&key) {
            return;
        }
        let mut losses = self.losses.entry(key).or_insert((0, now));
        if losses.0 == 0 || now.saturating_duration_since(losses.1) >= ONE_LOSS {
            *losses = (losses.0.saturating_add(1), now);
        }
    }

    #[cfg(test)]
    pub fn losses(&self, engine: &EngineId, shape: Fingerprint) -> u32 {
        self.losses.get(&(engine.clone(), shape)).map_or(0, |losses| losses.0)
    }

    /// Why this shape isn't given to the engine now, if it isn't.
    pub fn keeps_off(&self, engine: &EngineId, shape: Fingerprint) -> Option<String> {
        let (times, last) = *self.losses.get(&(engine.clone(), shape))?;
        (times >= LOSSES_MAX && last.elapsed() < KEPT_OFF).then(|| {
            let minutes = KEPT_OFF.saturating_sub(last.elapsed()).as_secs().div_ceil(60);
            format!("it died {times} times while it ran such a query; tried again in {minutes} min")
        })
    }

    /// Forgets deaths of long ago.
    pub fn forget(&self) {
        self.losses.retain(|_, (_, last)| last.elapsed() < KEPT_OFF);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(number: u64) -> Fingerprint {
        Fingerprint::from_u64(number)
    }

    #[test]
    fn failures_of_several_shapes_in_a_row_take_an_engine_out_until_one_is_answered() {
        let id = EngineId::new("datafusion");
        let health = Health::new([id.clone()]);
        let ready = |after: u64| health.state(&id, Instant::now() + Duration::from_secs(after)) == EngineState::Ready;
        let broken = Error::internal("a defect");
        (0..20).for_each(|_| health.failed(&id, shape(1), &broken));
        assert!(ready(0), "one shape says nothing of the others");
        (2..8).for_each(|number| health.failed(&id, shape(number), &Error::new(ErrorKind::ResourceExhausted, "full")));
        let storage = Error::classed(ErrorKind::Unavailable, "FAILED_READ_FILE.NO_HINT", "KD001", "no answer");
        (2..8).for_each(|number| health.failed(&id, shape(number), &storage));
        assert!(ready(0), "what a query lacks is its own, and storage is somebody else's");
        (2..6).for_each(|number| health.failed(&id, shape(number), &broken));
        assert!(!ready(0) && ready(2));
        health.engines[&id].lock().failed(shape(2), Instant::now() + Duration::from_secs(2));
        assert!(!ready(3) && ready(5), "longer, the second time");
        health.answered(&id, shape(9));
        assert!(ready(0));
        assert_eq!(health.state(&EngineId::new("unknown"), Instant::now()), EngineState::Ready);
    }

    #[test]
    fn what_is_lost_at_once_is_one_loss() {
        let id = EngineId::new("duckdb");
        let health = Health::new([]);
        let now = Instant::now();
        (0..20).for_each(|_| health.lost(&id, shape(1), now));
        assert_eq!(health.keeps_off(&id, shape(1)), None, "twenty queries of one worker");
    }

    #[test]
    fn a_shape_that_kills_is_kept_off_its_engine_alone() {
        let (one, other) = (EngineId::new("duckdb"), EngineId::new("datafusion"));
        let health = Health::new([one.clone(), other.clone()]);
        for time in 0..LOSSES_MAX {
            assert_eq!(health.keeps_off(&one, shape(1)), None);
            health.lost(&one, shape(1), Instant::now() + ONE_LOSS * time);
        }
        assert!(health.keeps_off(&one, shape(1)).unwrap().contains("died 3 times"));
        assert_eq!((health.keeps_off(&one, shape(2)), health.keeps_off(&other, shape(1))), (None, None));
        health.answered(&one, shape(1));
        assert_eq!(health.keeps_off(&one, shape(1)), None);
    }
}
