//! What a pipeline is made with, and what of it can change while it runs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use flightpath_router::Profiles;
use flightpath_types::Principal;

use crate::administrators::Administrators;
use crate::admission::AdmissionConfig;
use crate::run::{EscalationConfig, HoldConfig};
use crate::shadow::ShadowConfig;

#[derive(Debug, Clone)]
pub struct PipelineConfig {
    pub live: LiveConfig,
    pub hold: HoldConfig,
    /// How long a submitted query can be fetched, and fetched again.
    pub ticket_lifetime: Duration,
    /// Submitted queries kept; beyond it the oldest are forgotten.
    pub submitted_max: usize,
    pub administrators: Arc<Administrators>,
}

/// What can change while the program runs: it holds for whoever comes from then on.
#[derive(Debug, Clone, Default)]
pub struct LiveConfig {
    pub profiles: Profiles,
    pub admission: AdmissionConfig,
    pub escalation: EscalationConfig,
    pub shadow: ShadowConfig,
    /// Who may see what everybody did, by name.
    pub administrators: HashSet<Principal>,
    /// Limit for queries whose session and profile set none.
    pub timeout: Option<Duration>,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            live: LiveConfig::default(),
            hold: HoldConfig::default(),
            ticket_lifetime: Duration::from_secs(600),
            submitted_max: 10_000,
            administrators: Arc::default(),
        }
    }
}
