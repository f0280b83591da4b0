//! New settings without a restart: read again on SIGHUP, checked whole before any of it is taken.
//! Profiles, strategies, budgets, limits of time and queue change at once; what is bound to a
//! socket, a file or a process at the start stays as it was, and the log says so.

use std::sync::Arc;

use flightpath_pipeline::Pipeline;
use tokio::signal::unix::Signal;

use crate::settings::{Mistakes, Settings};

/// Reads the settings as the start did: file, environment, command line.
pub type Load = Arc<dyn Fn() -> Result<Settings, Mistakes> + Send + Sync>;

/// Takes on new settings at each signal. Mistakes leave everything as it is.
pub(crate) async fn on_signal(mut hangup: Signal, load: Load, mut current: Settings, pipeline: Arc<Pipeline>) {
    while hangup.recv().await.is_some() {
        let load = load.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let settings = load()?;
            let live = settings.live()?;
            Ok::<_, Mistakes>((settings, live))
        });
        match loaded.await {
            Ok(Ok((settings, live))) => {
                pipeline.configure(live);
                match settings.differs_at_start(&current) {
                    false => tracing::info!("settings taken on"),
                    true => tracing::warn!("settings taken on; some that changed take effect at the next start"),
                }
                current = settings;
            }
            Ok(Err(mistakes)) => tracing::error!(%mistakes, "the settings stay as they were"),
            Err(error) => tracing::error!(%error, "the settings can't be read; they stay as they were"),
        }
    }
}
