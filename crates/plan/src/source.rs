//! The plan's leaf: a scan of one pinned snapshot.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};
use flightpath_catalog::TableSnapshot;

/// Numbers the scans of one plan in the order they were bound, from 0. Kept by the optimizer, so
/// that what was pruned there can be told back to the plan before optimization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScanId(pub u32);

/// A `TableSource` that only names data: engines put their own reader in its place.
/// The plan's `TableScan` is named `s<scan id>`, and so are its columns' qualifiers.
#[derive(Debug)]
pub struct SnapshotSource {
    pub scan: ScanId,
    pub snapshot: Arc<TableSnapshot>,
}

impl TableSource for SnapshotSource {
    fn schema(&self) -> SchemaRef {
        self.snapshot.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Inexact: the filter stays above the scan, the scan may use it to skip files and rows.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
