//! Joins the planner's question about a user's DuckDB text to the engine that can answer it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use flightpath_engine_duckdb::DuckdbEngine;
use flightpath_plan::{CompiledSql, ScanBinding, ScanId};
use flightpath_planner::PassThroughDescriber;
use flightpath_types::{Result, Session};

pub(crate) struct DuckdbDescriber {
    pub engine: Arc<DuckdbEngine>,
}

#[async_trait]
impl PassThroughDescriber for DuckdbDescriber {
    async fn describe(&self, sql: &CompiledSql, scans: &BTreeMap<ScanId, ScanBinding>, session: &Session) -> Result<SchemaRef> {
        let tables: Vec<ScanBinding> = scans.values().cloned().collect();
        self.engine.describe(&sql.sql, &tables, session).await
    }
}
