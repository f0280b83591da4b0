//! Waiting for engines that are being restarted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_engine::Engine;
use flightpath_types::{EngineId, EngineState};

use super::Runner;

/// How long a query waits for an engine that is being restarted.
const RECOVERY_WAIT_MAX: Duration = Duration::from_secs(10);
const RECOVERY_POLL: Duration = Duration::from_millis(20);

/// True once one of the candidates takes work again, `pause` from now at the earliest.
pub(super) async fn wait_for_recovery(candidates: &[&Arc<dyn Engine>], pause: Duration, deadline: Option<Instant>) -> bool {
    wait_until(candidates, |engine| engine.facts().state == EngineState::Ready, pause, deadline).await
}

async fn wait_until(
    candidates: &[&Arc<dyn Engine>],
    ready: impl Fn(&dyn Engine) -> bool,
    pause: Duration,
    deadline: Option<Instant>,
) -> bool {
    let limit = Instant::now() + RECOVERY_WAIT_MAX;
    let until = deadline.map_or(limit, |d| d.min(limit));
    tokio::time::sleep_until((Instant::now() + pause).min(until).into()).await;
    loop {
        if candidates.iter().any(|engine| ready(engine.as_ref())) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(RECOVERY_POLL).await;
    }
}

impl Runner {
    /// Waits until one of these engines takes work again; false when none does in time.
    pub async fn wait_for_any(&self, wanted: &[EngineId], deadline: Option<Instant>) -> bool {
        let candidates: Vec<&Arc<dyn Engine>> = self.engines.iter().filter(|engine| wanted.contains(engine.id())).collect();
        let ready = |engine: &dyn Engine| self.facts(engine).state == EngineState::Ready;
        !candidates.is_empty() && wait_until(&candidates, ready, Duration::ZERO, deadline).await
    }
}
