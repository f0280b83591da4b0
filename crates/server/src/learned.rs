//! What was learned outlives a restart and is shared: the predictor's state is kept in the log's database,
//! where every router adds what it has learned to what the others have, and what profiles have spent today
//! is read from it, other routers' queries included. What was kept is never overwritten unread.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flightpath_pipeline::Pipeline;
use flightpath_querylog::{KeptModel, MODEL_BYTES_MAX, Store};
use flightpath_router::{Predictor, PredictorSnapshot};
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
const DAY_MS: i64 = 86_400_000;

/// The predictor and where it is kept. What an earlier run, or another router, has learned is read before
/// anything is written: a database that was down at the start must not lose it.
pub(crate) struct Learned {
    store: Arc<dyn Store>,
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
}

impl Learned {
    pub fn new(store: Arc<dyn Store>, predictor: Arc<Predictor>) -> Self {
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
        let predictor = self.predictor.clone();
        let taken = move || serde_json::from_slice(&contents).map(|snapshot| predictor.restore(snapshot));
        match tokio::task::spawn_blocking(taken).await.map_err(|e| Error::internal(format!("reading what was learned: {e}")))? {
            Ok(restored) if first => {
                tracing::info!(shapes = restored.shapes, models = restored.models, left_out = restored.left_out, "predictions go on");
            }
            Ok(restored) => {
                tracing::debug!(shapes = restored.shapes, models = restored.models, "what other routers have learned was taken in");
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
            let exported = self.predictor.clone();
            let encoded = tokio::task::spawn_blocking(move || encode(&exported));
            let (bytes, snapshot) = encoded.await.map_err(|e| Error::internal(format!("saving: {e}")))??;
            if let Some(now) = self.store.save(NAME, &bytes, state.taken_in).await? {
                (state.saved, state.taken_in) = (revision, Some(now));
                let predictor = self.predictor.clone();
                let told = tokio::task::spawn_blocking(move || predictor.saved(&snapshot));
                return told.await.map_err(|e| Error::internal(format!("saving: {e}")));
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
fn encode(predictor: &Predictor) -> Result<(Vec<u8>, PredictorSnapshot)> {
    let mut snapshot = predictor.export();
    loop {
        let bytes = serde_json::to_vec(&snapshot).map_err(|e| Error::internal(format!("saving what was learned: {e}")))?;
        if bytes.len() <= MODEL_BYTES_MAX || snapshot.shapes.is_empty() {
            return Ok((bytes, snapshot));
        }
        snapshot.keep_newest(snapshot.shapes.len() / 2);
    }
}

/// Saves what was learned, and reads what was spent, now and then.
pub(crate) async fn keep(learned: Arc<Learned>, pipeline: Arc<Pipeline>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = read_spending(&learned.store, &pipeline).await {
            tracing::debug!(%error, "what was spent today can't be read");
        }
        if let Err(error) = learned.save().await {
            tracing::debug!(%error, "what was learned can't be saved");
        }
    }
}

pub(crate) async fn read_spending(store: &Arc<dyn Store>, pipeline: &Pipeline) -> Result<()> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let day = now_ms / DAY_MS;
    let spent = store.spending(day).await?;
    pipeline.learn_spending(u64::try_from(day).unwrap_or(0), spent);
    Ok(())
}

#[cfg(test)]
mod tests;
