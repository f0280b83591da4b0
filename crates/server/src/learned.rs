//! What was learned outlives a restart: the predictor's state is kept in the log's database, and
//! what profiles have spent today is read from it, other routers' queries included.
//! What was kept is never overwritten unread.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flightpath_pipeline::Pipeline;
use flightpath_querylog::{MODEL_BYTES_MAX, Store};
use flightpath_router::Predictor;
use flightpath_types::{Error, Result};
use tokio::sync::Mutex;

/// The predictor's name among the models.
const NAME: &str = "predictor";
/// How often it is saved, and spending is read.
const INTERVAL: Duration = Duration::from_secs(30);
/// A database that doesn't answer by then isn't waited for at the start.
const LOAD_MAX: Duration = Duration::from_secs(5);
const DAY_MS: i64 = 86_400_000;

/// The predictor and where it is kept. What an earlier run has learned is read before anything is
/// written: a database that was down at the start must not lose it.
pub(crate) struct Learned {
    store: Arc<dyn Store>,
    predictor: Arc<Predictor>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was kept has been added, or there was nothing.
    loaded: bool,
    /// The predictor's revision that the database has.
    saved: Option<u64>,
}

impl Learned {
    pub fn new(store: Arc<dyn Store>, predictor: Arc<Predictor>) -> Self {
        Self { store, predictor, state: Mutex::default() }
    }

    /// Takes over what an earlier run has learned. A database that is down means worse predictions
    /// until it answers: it is asked again before each save.
    pub async fn restore(&self) {
        if let Err(error) = self.load(&mut *self.state.lock().await).await {
            tracing::warn!(%error, "what was learned can't be read yet; predictions begin anew until it can");
        }
    }

    async fn load(&self, state: &mut State) -> Result<()> {
        if state.loaded {
            return Ok(());
        }
        let late = || Error::unavailable("the log's database doesn't answer in time");
        let bytes = tokio::time::timeout(LOAD_MAX, self.store.load(NAME)).await.map_err(|_| late())??;
        state.loaded = true;
        let Some(bytes) = bytes else { return Ok(()) };
        match serde_json::from_slice(&bytes) {
            Ok(snapshot) => {
                let fresh = self.predictor.is_empty();
                let restored = self.predictor.restore(snapshot);
                state.saved = fresh.then(|| self.predictor.revision());
                tracing::info!(shapes = restored.shapes, models = restored.models, left_out = restored.left_out, "predictions go on");
            }
            Err(error) => tracing::warn!(%error, "what was learned is damaged; predictions begin anew"),
        }
        Ok(())
    }

    /// Saves what was learned since the last time; nothing, as long as what was kept can't be read.
    pub async fn save(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        self.load(&mut state).await?;
        let revision = self.predictor.revision();
        if self.predictor.is_empty() || state.saved == Some(revision) {
            return Ok(());
        }
        let exported = self.predictor.clone();
        let bytes = tokio::task::spawn_blocking(move || encode(&exported)).await.map_err(|e| Error::internal(format!("saving: {e}")))??;
        self.store.save(NAME, &bytes).await?;
        state.saved = Some(revision);
        Ok(())
    }
}

/// As much as may be kept: the shapes seen last.
fn encode(predictor: &Predictor) -> Result<Vec<u8>> {
    let mut snapshot = predictor.export();
    loop {
        let bytes = serde_json::to_vec(&snapshot).map_err(|e| Error::internal(format!("saving what was learned: {e}")))?;
        if bytes.len() <= MODEL_BYTES_MAX || snapshot.shapes.is_empty() {
            return Ok(bytes);
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
    let spent = store.spending(day * DAY_MS).await?;
    pipeline.learn_spending(u64::try_from(day).unwrap_or(0), spent);
    Ok(())
}

#[cfg(test)]
mod tests;
