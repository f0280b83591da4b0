//! What a pipeline is made with, and what of it can change while it runs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use flightpath_router::Profiles;
use flightpath_types::{ComputePrice, Pricing, Principal};

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
    pub data_prices: DataPrices,
    /// Who may see what everybody did, by name.
    pub administrators: HashSet<Principal>,
    /// Limit for queries whose session and profile set none.
    pub timeout: Option<Duration>,
}

/// What moving data costs, beside the time of engines. Nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DataPrices {
    /// US dollars for a GB that an engine reads from tables.
    pub storage_usd_per_gb: f64,
    /// US dollars for a GB of results that leaves a warehouse's cloud.
    pub egress_usd_per_gb: f64,
}

impl DataPrices {
    /// These on top of what an engine's time costs.
    pub fn on(&self, pricing: Pricing) -> Pricing {
        let egress_usd_per_gb = match pricing.compute {
            ComputePrice::Warehouse { .. } => self.egress_usd_per_gb,
            ComputePrice::Hourly { .. } => 0.0,
        };
        Pricing { storage_usd_per_gb: self.storage_usd_per_gb, egress_usd_per_gb, ..pricing }
    }
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
