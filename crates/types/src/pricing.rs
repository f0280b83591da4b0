//! What an engine's time costs, and the published prices that stand in where none are set.
//! Plain figures with their sources; never how they're added up for one query, which is the router's.

use serde::{Deserialize, Serialize};

/// What an engine charges.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pricing {
    pub compute: ComputePrice,
    /// US dollars per GB (10^9 bytes) of a result that leaves for the client.
    #[serde(default)]
    pub egress_usd_per_gb: f64,
    /// US dollars per GB that the engine reads from storage.
    #[serde(default)]
    pub storage_usd_per_gb: f64,
}

/// How compute is paid for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputePrice {
    /// A machine that is paid by the hour whether it works or not.
    Hourly {
        usd_per_hour: f64,
        /// Queries that ran on it at once, on average, idle hours included: what one of them costs by
        /// the hour is the price divided by it. Above 1 where they run side by side.
        /// [`UTILISATION_DEFAULT`] until measured.
        utilisation: f64,
    },
    /// A warehouse that is paid while it is up, starts when asked and stops by itself.
    Warehouse {
        /// Of all its clusters that run: DBU per hour, times dollars per DBU, times clusters.
        usd_per_hour: f64,
        activity: WarehouseActivity,
        /// How long a start takes, in milliseconds.
        start_ms: f64,
        /// Idle time after which it stops, in milliseconds; `None` when it never does.
        auto_stop_ms: Option<f64>,
    },
}

/// What a warehouse does now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarehouseActivity {
    /// Runs other queries and has places left.
    Busy,
    /// Up, and nothing has run for so long.
    Idle { idle_ms: f64 },
    /// A query wakes it.
    Asleep,
    /// Somebody woke it.
    Starting { remaining_ms: f64 },
    /// Every place is taken; how long a query that comes now waits for one.
    Queued { wait_ms: f64 },
    /// Not seen lately.
    Unknown,
}

impl Default for ComputePrice {
    fn default() -> Self {
        ComputePrice::Hourly { usd_per_hour: 0.0, utilisation: UTILISATION_DEFAULT }
    }
}

impl Pricing {
    /// A machine by the hour, its utilisation not measured yet.
    pub fn hourly(usd_per_hour: f64) -> Self {
        Self { compute: ComputePrice::Hourly { usd_per_hour, utilisation: UTILISATION_DEFAULT }, ..Self::default() }
    }

    /// The same machine with a measured utilisation; a warehouse has none and stays as it is.
    pub fn with_utilisation(mut self, measured: f64) -> Self {
        if let ComputePrice::Hourly { utilisation, .. } = &mut self.compute {
            *utilisation = measured;
        }
        self
    }

    /// The list price of an hour, whatever it is used for.
    pub fn usd_per_hour(&self) -> f64 {
        match self.compute {
            ComputePrice::Hourly { usd_per_hour, .. } | ComputePrice::Warehouse { usd_per_hour, .. } => usd_per_hour,
        }
    }

    /// How long a query that comes now waits before it starts, in milliseconds: for the warehouse's
    /// start or for a place on it.
    pub fn wait_ms(&self) -> f64 {
        match &self.compute {
            ComputePrice::Hourly { .. } => 0.0,
            ComputePrice::Warehouse { activity, start_ms, .. } => match activity {
                WarehouseActivity::Asleep => *start_ms,
                WarehouseActivity::Starting { remaining_ms } => *remaining_ms,
                WarehouseActivity::Queued { wait_ms } => *wait_ms,
                WarehouseActivity::Busy | WarehouseActivity::Idle { .. } | WarehouseActivity::Unknown => 0.0,
            },
        }
    }
}

/// Servers are busy 10 to 50% of the time in the field (Barroso and Hölzle, "The Case for
/// Energy-Proportional Computing", IEEE Computer 2007); the middle of it.
pub const UTILISATION_DEFAULT: f64 = 0.3;

/// How a warehouse is run, which decides what its DBU costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarehouseKind {
    Serverless,
    Pro,
    Classic,
}

impl WarehouseKind {
    pub fn parse(text: &str) -> Option<Self> {
        let all = [WarehouseKind::Serverless, WarehouseKind::Pro, WarehouseKind::Classic];
        all.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            WarehouseKind::Serverless => "serverless",
            WarehouseKind::Pro => "pro",
            WarehouseKind::Classic => "classic",
        }
    }

    /// List price of a DBU in US dollars, AWS US East, premium tier (databricks.com/product/pricing).
    /// Serverless includes the machines, the others don't: see [`WarehouseSize::machines_usd_per_hour`].
    pub fn usd_per_dbu(self) -> f64 {
        match self {
            WarehouseKind::Serverless => 0.70,
            WarehouseKind::Pro => 0.55,
            WarehouseKind::Classic => 0.22,
        }
    }

    /// Idle minutes after which a warehouse made in the console stops
    /// (docs.databricks.com, "Create a SQL warehouse").
    pub fn auto_stop_minutes(self) -> u32 {
        match self {
            WarehouseKind::Serverless => 10,
            WarehouseKind::Pro | WarehouseKind::Classic => 45,
        }
    }
}

/// One cluster of a warehouse's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarehouseSize {
    pub name: &'static str,
    pub dbu_per_hour: f64,
    pub workers: u32,
}

/// Queries that one cluster runs at once (docs.databricks.com, "SQL warehouse sizing, scaling, and
/// queuing behavior").
pub const QUERIES_PER_CLUSTER: u32 = 10;
/// Cores of one worker, an i3.2xlarge by the same page.
const CORES_PER_WORKER: u32 = 8;
/// On-demand price of that machine, AWS US East, US dollars an hour.
const MACHINE_USD_PER_HOUR: f64 = 0.624;

/// DBU per hour by size from the Databricks pricing calculator, workers by the sizing page.
const SIZES: [WarehouseSize; 10] = [
    WarehouseSize { name: "2X-Small", dbu_per_hour: 4.0, workers: 1 },
    WarehouseSize { name: "X-Small", dbu_per_hour: 6.0, workers: 2 },
    WarehouseSize { name: "Small", dbu_per_hour: 12.0, workers: 4 },
    WarehouseSize { name: "Medium", dbu_per_hour: 24.0, workers: 8 },
    WarehouseSize { name: "Large", dbu_per_hour: 40.0, workers: 16 },
    WarehouseSize { name: "X-Large", dbu_per_hour: 80.0, workers: 32 },
    WarehouseSize { name: "2X-Large", dbu_per_hour: 144.0, workers: 64 },
    WarehouseSize { name: "3X-Large", dbu_per_hour: 272.0, workers: 128 },
    WarehouseSize { name: "4X-Large", dbu_per_hour: 528.0, workers: 256 },
    // Not published; in line with the doubling before it.
    WarehouseSize { name: "5X-Large", dbu_per_hour: 1056.0, workers: 512 },
];

impl WarehouseSize {
    /// A size by its name; of one that isn't known, the middle's.
    pub fn named(name: &str) -> Self {
        SIZES.iter().find(|size| size.name.eq_ignore_ascii_case(name)).copied().unwrap_or(SIZES[3])
    }

    /// Whether this is the name of a size.
    pub fn is_known(name: &str) -> bool {
        SIZES.iter().any(|size| size.name.eq_ignore_ascii_case(name))
    }

    pub fn cores(self) -> u32 {
        self.workers * CORES_PER_WORKER
    }

    /// What the cloud charges for one cluster's machines, driver included, where the price of a
    /// DBU doesn't cover them.
    pub fn machines_usd_per_hour(self, kind: WarehouseKind) -> f64 {
        match kind {
            WarehouseKind::Serverless => 0.0,
            WarehouseKind::Pro | WarehouseKind::Classic => f64::from(self.workers + 1) * MACHINE_USD_PER_HOUR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_found_by_name_in_any_case() {
        assert_eq!(WarehouseSize::named("2x-small").dbu_per_hour, 4.0);
        assert_eq!(WarehouseSize::named("Small").cores(), 32);
        assert_eq!(WarehouseSize::named("???").name, "Medium");
        assert_eq!(WarehouseSize::named("Small").machines_usd_per_hour(WarehouseKind::Serverless), 0.0);
        assert!((WarehouseSize::named("Small").machines_usd_per_hour(WarehouseKind::Pro) - 3.12).abs() < 1e-9);
    }

    #[test]
    fn only_a_warehouse_that_isnt_ready_makes_a_query_wait() {
        let warehouse = |activity| Pricing {
            compute: ComputePrice::Warehouse { usd_per_hour: 8.4, activity, start_ms: 4_000.0, auto_stop_ms: Some(600_000.0) },
            ..Pricing::default()
        };
        assert_eq!(warehouse(WarehouseActivity::Asleep).wait_ms(), 4_000.0);
        assert_eq!(warehouse(WarehouseActivity::Starting { remaining_ms: 1_500.0 }).wait_ms(), 1_500.0);
        assert_eq!(warehouse(WarehouseActivity::Queued { wait_ms: 800.0 }).wait_ms(), 800.0);
        assert_eq!(warehouse(WarehouseActivity::Idle { idle_ms: 60_000.0 }).wait_ms(), 0.0);
        assert_eq!(Pricing::hourly(0.2).with_utilisation(0.9).usd_per_hour(), 0.2);
    }
}
