//! What was learned outlives a restart and is shared: the predictor's state is kept in the log's database,
//! where every router adds what it has learned to what the others have, and what profiles have spent today
//! is read from it, other routers' queries included. What was kept is never overwritten unread.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flightpath_pipeline::Pipeline;
use flightpath_querylog::{KeptModel, MODEL_BYTES_MAX, ModelStore, Recorder, Store};
use flightpath_router::{Predictor, PredictorSnapshot, Restored};
use flightpath_types::{Error, Result};
use tokio::sync::Mutex;

/// The predictor's name among the models.
const NAME: &str = "predictor";
/// How often it is saved, what others have saved is taken in, and spending is read.
const INTERVAL: Duration = Duration::from_secs(30);
/// Other routers may save in between so often before the next interval is waited for.
const TRIES: usize = 4;
/// A database that doesn't answer by then isn't waited for at the start.
const LOAD_MAX: Duration = Duration::from_secs(5);
/// Saves that what is kept names: a router whose save was committed without an answer looks for it there
/// when it next reads.
const SAVES_NAMED: usize = 64;
/// Saves without an answer that are remembered until one has an answer.
const UNANSWERED_MAX: usize = 2;
const DAY_MS: i64 = 86_400_000;
/// Longest wait for the log to have what this router recorded.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// The predictor and where it is kept. What an earlier run, or another router, has learned is read before
/// anything is written: a database that was down at the start must not lose it.
pub(crate) struct Learned {
    store: Arc<dyn ModelStore>,
    predictor: Arc<Predictor>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The database was asked at least once.
    asked: bool,
    /// The revision of what is kept that was taken in last; `None` where nothing was kept.
    taken_in: Option<u64>,
    /// The predictor's revision that the database has.
    saved: u64,
    /// The latest saves whose lessons are in what was taken in.
    names: Vec<u64>,
    /// They may have been committed or not.
    unanswered: Vec<Attempt>,
}

/// A save, with what was exported for it.
struct Attempt {
    name: u64,
    /// The predictor's.
    revision: u64,
    snapshot: PredictorSnapshot,
}

impl Learned {
    pub fn new(store: Arc<dyn ModelStore>, predictor: Arc<Predictor>) -> Self {
        Self { store, predictor, state: Mutex::default() }
    }

    /// Takes over what an earlier run has learned. A database that is down means worse predictions
    /// until it answers: it is asked again before each save.
    pub async fn restore(&self) {
        if let Err(error) = self.take_in(&mut *self.state.lock().await).await {
            tracing::warn!(%error, "what was learned can't be read yet; predictions begin anew until it can");
        }
    }

    /// Takes in what is kept, if it's another than last time.
    async fn take_in(&self, state: &mut State) -> Result<()> {
        let late = || Error::unavailable("the log's database doesn't answer in time");
        let changed = async {
            let revision = self.store.revision(NAME).await?;
            match revision {
                Some(_) if !state.asked || revision != state.taken_in => self.store.load(NAME).await,
                _ => Ok(None),
            }
        };
        let changed = tokio::time::timeout(LOAD_MAX, changed).await.map_err(|_| late())??;
        let first = !std::mem::replace(&mut state.asked, true);
        let Some(KeptModel { contents, revision }) = changed else { return Ok(()) };
        let read = tokio::task::spawn_blocking(move || serde_json::from_slice::<PredictorSnapshot>(&contents));
        match read.await.map_err(|e| Error::internal(format!("reading what was learned: {e}")))? {
            Ok(snapshot) => {
                // Committed after all: its lessons are in there, and must not be added again.
                let committed = state.unanswered.iter().position(|attempt| snapshot.saves.contains(&attempt.name));
                let committed = committed.map(|index| state.unanswered.swap_remove(index));
                if let Some(attempt) = &committed {
                    state.saved = attempt.revision;
                }
                state.names.clone_from(&snapshot.saves);
                let predictor = self.predictor.clone();
                let taken = tokio::task::spawn_blocking(move || {
                    if let Some(attempt) = committed {
                        predictor.saved(&attempt.snapshot);
                    }
                    predictor.restore(snapshot)
                });
                let Restored { shapes, models, left_out } =
                    taken.await.map_err(|e| Error::internal(format!("taking in what was learned: {e}")))?;
                if first {
                    tracing::info!(shapes, models, left_out, "predictions go on");
                } else {
                    tracing::debug!(shapes, models, left_out, "what was kept, by this router or another, was taken in");
                }
            }
            Err(_) => tracing::warn!("what was learned is damaged; predictions go on without it"),
        }
        state.taken_in = Some(revision);
        Ok(())
    }

    /// Takes in what others have learned since the last time, and saves what was learned here; nothing, as
    /// long as what was kept can't be read.
    pub async fn save(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        for _ in 0..TRIES {
            self.take_in(&mut state).await?;
            let revision = self.predictor.revision();
            if state.saved == revision {
                return Ok(());
            }
            let name = rand::random::<u64>();
            let mut names = state.names.clone();
            names.push(name);
            names.drain(..names.len().saturating_sub(SAVES_NAMED));
            let (exported, named) = (self.predictor.clone(), names.clone());
            let encoded = tokio::task::spawn_blocking(move || encode(&exported, named));
            let (bytes, snapshot) = encoded.await.map_err(|e| Error::internal(format!("saving: {e}")))??;
            // Noted before it is known how it ends: whoever waits for it may be gone by then.
            if state.unanswered.len() == UNANSWERED_MAX {
                state.unanswered.remove(0);
            }
            state.unanswered.push(Attempt { name, revision, snapshot });
            match self.store.save(NAME, &bytes, state.taken_in).await? {
                Some(now) => {
                    // The others replace a revision that is no more: they can't be committed now.
                    let attempt = state.unanswered.pop();
                    state.unanswered.clear();
                    (state.saved, state.taken_in, state.names) = (revision, Some(now), names);
                    let predictor = self.predictor.clone();
                    let told = tokio::task::spawn_blocking(move || attempt.iter().for_each(|attempt| predictor.saved(&attempt.snapshot)));
                    return told.await.map_err(|e| Error::internal(format!("saving: {e}")));
                }
                // Somebody was there first, perhaps this router's own save that had no answer.
                None => {
                    state.unanswered.pop();
                }
            }
            if self.store.revision(NAME).await?.is_none() {
                // Somebody has deleted it: it's made anew.
                state.taken_in = None;
            }
        }
        Err(Error::unavailable("other routers save what they learned all the time"))
    }
}

/// As much as may be kept: the shapes seen last.
fn encode(predictor: &Predictor, saves: Vec<u64>) -> Result<(Vec<u8>, PredictorSnapshot)> {
    let mut snapshot = PredictorSnapshot { saves, ..predictor.export() };
    loop {
        let bytes = serde_json::to_vec(&snapshot).map_err(|e| Error::internal(format!("saving what was learned: {e}")))?;
        if bytes.len() <= MODEL_BYTES_MAX || snapshot.shapes.is_empty() {
            return Ok((bytes, snapshot));
        }
        snapshot.keep_newest(snapshot.shapes.len() / 2);
    }
}

/// Saves what was learned, and reads what was spent, now and then.
pub(crate) async fn keep(learned: Arc<Learned>, store: Arc<dyn Store>, recorder: Recorder, pipeline: Arc<Pipeline>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = read_spending(&store, &recorder, &pipeline).await {
            tracing::debug!(%error, "what was spent today can't be read");
        }
        if let Err(error) = learned.save().await {
            tracing::debug!(%error, "what was learned can't be saved");
        }
    }
}

pub(crate) async fn read_spending(store: &Arc<dyn Store>, recorder: &Recorder, pipeline: &Pipeline) -> Result<()> {
    let recorded = Instant::now();
    let caught_up = recorder.flush(CATCH_UP_MAX).await;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let day = now_ms / DAY_MS;
    let spent = store.spending(day).await?;
    pipeline.learn_spending(u64::try_from(day).unwrap_or(0), spent, caught_up.then_some(recorded));
    Ok(())
}

#[cfg(test)]
mod tests;
