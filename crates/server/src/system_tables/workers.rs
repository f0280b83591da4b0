//! `system.workers`: the DuckDB workers that belong to this router now. Everybody sees all of it: it
//! tells names, shapes and load, nothing of queries.

use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use flightpath_catalog::{LocalCatalog, SystemTable};
use flightpath_engine_duckdb::{DuckdbEngine, WorkerFacts};
use flightpath_types::{Principal, Result};

use super::{batch, long, schema, text};

struct Workers {
    engine: Weak<DuckdbEngine>,
}

/// `engine` is weak so that the table can't keep it from ending.
pub(crate) fn register(catalog: &Arc<LocalCatalog>, engine: Option<&Arc<DuckdbEngine>>) {
    catalog.register_system("workers", Arc::new(Workers { engine: engine.map(Arc::downgrade).unwrap_or_default() }));
}

#[async_trait]
impl SystemTable for Workers {
    fn schema(&self) -> SchemaRef {
        use DataType::{Int32, Int64, Utf8};
        schema(&[
            ("worker", Utf8, false),
            ("engine", Utf8, false),
            ("state", Utf8, false),
            ("slots", Int32, false),
            ("running", Int32, false),
            ("running_there", Int32, false),
            ("waiting", Int32, false),
            ("cores", Int32, false),
            ("memory_bytes", Int64, false),
            ("memory_used_bytes", Int64, false),
            ("cached_tables", Int32, false),
            ("heartbeat_age_ms", Int64, false),
            ("labels", Utf8, false),
        ])
    }

    async fn read(&self, _: &Principal) -> Result<Vec<RecordBatch>> {
        let rows: Vec<WorkerFacts> = self.engine.upgrade().map(|engine| engine.workers()).unwrap_or_default();
        let labels: Vec<String> =
            rows.iter().map(|r| r.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")).collect();
        let count = |get: fn(&WorkerFacts) -> u32| {
            Arc::new(rows.iter().map(|r| Some(i32::try_from(get(r)).unwrap_or(i32::MAX))).collect::<Int32Array>()) as ArrayRef
        };
        let columns: Vec<ArrayRef> = vec![
            text(&rows, |r| Some(&r.name)),
            text(&rows, |_| Some("duckdb")),
            text(&rows, |r| Some(r.state)),
            count(|r| r.slots),
            count(|r| r.running),
            count(|r| r.running_there),
            count(|r| r.waiting),
            count(|r| r.cores),
            long(&rows, |r| Some(r.memory_bytes_max)),
            long(&rows, |r| Some(r.memory_bytes_used)),
            count(|r| u32::try_from(r.cached_tables).unwrap_or(u32::MAX)),
            long(&rows, |r| Some(u64::try_from(r.heartbeat_age.as_millis()).unwrap_or(u64::MAX))),
            text(&labels, |l| Some(l.as_str())),
        ];
        batch(self.schema(), columns)
    }
}
