//! `system.savings`: by day, what queries cost against one warehouse that had run all of them.

use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, Date32Array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use flightpath_catalog::SystemTable;
use flightpath_engine::Engine;
use flightpath_querylog::Baseline;
use flightpath_types::{EngineFacts, Principal, Result};

use super::{CATCH_UP_MAX, LogSource, batch, double, long, schema};

pub(super) struct Savings {
    log: Arc<LogSource>,
    /// The one that everything would have run on; without it there's nothing to save.
    warehouse: Option<Weak<dyn Engine>>,
}

impl Savings {
    pub fn new(log: Arc<LogSource>, engines: &[Arc<dyn Engine>]) -> Self {
        let warehouse = engines.iter().find(|engine| baseline(&engine.facts()).is_some());
        Self { log, warehouse: warehouse.map(Arc::downgrade) }
    }
}

/// How far back `system.savings` goes.
const SAVINGS_DAYS: i64 = 366;
const DAY_MS: i64 = 86_400_000;

/// One cluster's price: what is told is that of all that happen to run now.
fn baseline(facts: &EngineFacts) -> Option<Baseline> {
    let baseline = Baseline::of(&facts.pricing)?;
    let clusters = (facts.cores_total / facts.cores.max(1)).max(1);
    Some(Baseline { usd_per_hour: baseline.usd_per_hour / f64::from(clusters), ..baseline })
}

#[async_trait]
impl SystemTable for Savings {
    fn schema(&self) -> SchemaRef {
        use DataType::{Date32, Float64, Int64};
        schema(&[
            ("day", Date32, false),
            ("queries", Int64, false),
            ("usd", Float64, false),
            ("databricks_usd", Float64, false),
            ("saved_usd", Float64, false),
        ])
    }

    async fn read(&self, principal: &Principal) -> Result<Vec<RecordBatch>> {
        self.log.recorder.flush(CATCH_UP_MAX).await;
        let baseline = self.warehouse.as_ref().and_then(Weak::upgrade).and_then(|engine| baseline(&engine.facts()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        let since = (now / DAY_MS - SAVINGS_DAYS) * DAY_MS;
        let rows = match baseline {
            Some(baseline) => self.log.store.savings(self.log.administrators.scope(principal), since, &baseline).await?,
            None => Vec::new(),
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|r| Some(i32::try_from(r.day).unwrap_or(i32::MAX))).collect::<Date32Array>()),
            long(&rows, |r| Some(r.queries)),
            double(&rows, |r| r.usd),
            double(&rows, |r| r.databricks_usd),
            double(&rows, |r| r.databricks_usd - r.usd),
        ];
        batch(self.schema(), columns)
    }
}

#[cfg(test)]
mod tests {
    use flightpath_types::{ComputePrice, EngineId, EngineState, Pricing, WarehouseActivity};

    use super::*;

    #[test]
    fn the_baseline_is_one_cluster_however_many_run_now() {
        let facts = |compute, clusters: u32| EngineFacts {
            id: EngineId::new("databricks"),
            state: EngineState::Ready,
            shape: String::new(),
            memory_bytes_max: 1 << 40,
            slots: 10,
            running: 0,
            queued: 0,
            cores: 8,
            cores_total: 8 * clusters,
            overhead_ms: 250.0,
            scan_bytes_per_second_per_core: 1e8,
            pricing: Pricing { compute, ..Pricing::default() },
        };
        let (activity, start_ms) = (WarehouseActivity::Busy, 4_000.0);
        let three = ComputePrice::Warehouse { usd_per_hour: 8.4, activity, start_ms, auto_stop_ms: Some(600_000.0) };
        let found = baseline(&facts(three, 3)).unwrap();
        assert!((found.usd_per_hour - 2.8).abs() < 1e-9 && found.auto_stop_ms == 600_000.0, "{found:?}");
        let never = ComputePrice::Warehouse { usd_per_hour: 2.8, activity, start_ms, auto_stop_ms: None };
        assert!(baseline(&facts(never, 0)).is_some_and(|b| b.usd_per_hour == 2.8 && b.auto_stop_ms > 0.0));
        let nan = ComputePrice::Warehouse { usd_per_hour: f64::NAN, activity, start_ms, auto_stop_ms: None };
        assert!(baseline(&facts(nan, 1)).is_none() && baseline(&facts(ComputePrice::default(), 1)).is_none());
    }
}
