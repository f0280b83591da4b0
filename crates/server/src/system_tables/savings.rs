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
use flightpath_types::{Principal, Result};

use super::{CATCH_UP_MAX, LogSource, batch, double, long, schema};

pub(super) struct Savings {
    log: Arc<LogSource>,
    /// The one that everything would have run on; without it there's nothing to save.
    warehouse: Option<Weak<dyn Engine>>,
}

impl Savings {
    pub fn new(log: Arc<LogSource>, engines: &[Arc<dyn Engine>]) -> Self {
        let warehouse = engines.iter().find(|engine| Baseline::of(&engine.facts().pricing).is_some());
        Self { log, warehouse: warehouse.map(Arc::downgrade) }
    }
}

/// How far back `system.savings` goes.
const SAVINGS_DAYS: i64 = 366;
const DAY_MS: i64 = 86_400_000;

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
        let baseline = self.warehouse.as_ref().and_then(Weak::upgrade).and_then(|engine| Baseline::of(&engine.facts().pricing));
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
