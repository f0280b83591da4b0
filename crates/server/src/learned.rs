//! What was learned outlives a restart: the predictor's state is kept in the log's database, and
//! what profiles have spent today is read from it, other routers' queries included.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flightpath_pipeline::Pipeline;
use flightpath_querylog::{MODEL_BYTES_MAX, Store};
use flightpath_router::Predictor;
use flightpath_types::{Error, Result};

/// The predictor's name among the models.
const NAME: &str = "predictor";
/// How often it is saved, and spending is read.
const INTERVAL: Duration = Duration::from_secs(30);
/// A database that doesn't answer by then isn't waited for at the start.
const LOAD_MAX: Duration = Duration::from_secs(5);
const DAY_MS: i64 = 86_400_000;

/// Takes over what an earlier run has learned. A database that is down, or a state that can't be
/// read, means to begin anew: worse predictions for a while, nothing else.
pub(crate) async fn restore(store: &Arc<dyn Store>, predictor: &Predictor) {
    let loaded = tokio::time::timeout(LOAD_MAX, store.load(NAME)).await;
    let bytes = match loaded {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return tracing::warn!(%error, "what was learned can't be read; predictions begin anew"),
        Err(_) => return tracing::warn!("what was learned isn't there in time; predictions begin anew"),
    };
    match serde_json::from_slice(&bytes) {
        Ok(snapshot) => {
            let restored = predictor.restore(snapshot);
            tracing::info!(shapes = restored.shapes, models = restored.models, left_out = restored.left_out, "predictions go on");
        }
        Err(error) => tracing::warn!(%error, "what was learned is damaged; predictions begin anew"),
    }
}

/// Saves what was learned.
pub(crate) async fn save(store: &Arc<dyn Store>, predictor: &Arc<Predictor>) -> Result<()> {
    let exported = predictor.clone();
    let bytes = tokio::task::spawn_blocking(move || encode(&exported)).await.map_err(|e| Error::internal(format!("saving: {e}")))??;
    store.save(NAME, &bytes).await
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
pub(crate) async fn keep(store: Arc<dyn Store>, predictor: Arc<Predictor>, pipeline: Arc<Pipeline>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = read_spending(&store, &pipeline).await {
            tracing::debug!(%error, "what was spent today can't be read");
        }
        if !predictor.is_empty()
            && let Err(error) = save(&store, &predictor).await
        {
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
