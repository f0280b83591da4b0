//! Joins the planner's question about a user's DuckDB text to the engine that can answer it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use flightpath_catalog::TableSnapshot;
use flightpath_engine_duckdb::DuckdbEngine;
use flightpath_plan::ScanBinding;
use flightpath_planner::PassThroughDescriber;
use flightpath_types::{Principal, Result, Session};

pub(crate) struct DuckdbDescriber {
    pub engine: Arc<DuckdbEngine>,
}

#[async_trait]
impl PassThroughDescriber for DuckdbDescriber {
    async fn describe(&self, text: &str, tables: &[(String, Arc<TableSnapshot>)]) -> Result<SchemaRef> {
        let bindings: Vec<ScanBinding> = tables
            .iter()
            .map(|(_, snapshot)| ScanBinding {
                snapshot: snapshot.clone(),
                files: Arc::new(snapshot.files().to_vec()),
                columns: (0..snapshot.schema.fields().len()).collect(),
            })
            .collect();
        self.engine.describe(text, &bindings, &Session::new(Principal::new("describe"))).await
    }
}
