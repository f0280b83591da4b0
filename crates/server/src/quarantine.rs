//! The quarantine seen from the command line: straight from the log's database.

use std::sync::Arc;

use flightpath_querylog::Store;
use flightpath_types::{EngineId, Fingerprint, Quarantined, Result};

use crate::settings::Settings;
use crate::state;

pub(crate) async fn open(settings: &Settings) -> Result<Arc<dyn Store>> {
    let url = settings.log_url.clone().unwrap_or_else(|| state::log_file(&settings.state_dir).display().to_string());
    flightpath_log_store::open(&url).await
}

/// Everything in quarantine, oldest first.
pub async fn quarantine(settings: &Settings) -> Result<Vec<Quarantined>> {
    open(settings).await?.quarantine().await
}

/// Lifts a shape on one engine, or on all; the number of engines it was lifted on.
pub async fn lift_quarantine(settings: &Settings, fingerprint: Fingerprint, engine: Option<&EngineId>) -> Result<u64> {
    open(settings).await?.lift_quarantine(fingerprint, engine).await
}
