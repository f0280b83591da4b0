//! A statement once planned.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use flightpath_catalog::{AccessRules, DataFile, TableSnapshot};
use flightpath_types::{Features, Fingerprint, Refusal, Session};

use crate::ScanId;

/// What a text turned out to be.
#[derive(Debug, Clone)]
pub enum Statement {
    /// Runs on an engine.
    Query(Arc<PlannedQuery>),
    /// `EXPLAIN ROUTE <statement>`: the pipeline decides on it, runs nothing, and shows the decision.
    ExplainRoute(Arc<PlannedQuery>),
    /// Answered by the planner itself: SHOW, DESCRIBE, EXPLAIN.
    Local(LocalResult),
    /// `SET` and `USE`: the pipeline applies these to the session. Pairs of name and value.
    SetSession { assignments: Vec<(String, String)>, shows: LocalResult },
    /// The user's own text, which one engine alone understands and types: `dialect=duckdb`, or a
    /// query that only Databricks can plan.
    PassThrough(Arc<PlannedQuery>),
    /// Changes something, on the one engine that may: run at most once.
    Write(Arc<PlannedQuery>),
}

impl Statement {
    /// The schema that the client is promised.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Statement::Query(q) | Statement::PassThrough(q) | Statement::Write(q) => q.schema.clone(),
            Statement::ExplainRoute(_) => explain_route_schema(),
            Statement::Local(result) | Statement::SetSession { shows: result, .. } => result.schema.clone(),
        }
    }

    pub fn kind(&self) -> StatementKind {
        match self {
            Statement::Query(_) | Statement::PassThrough(_) => StatementKind::Query,
            Statement::Write(_) => StatementKind::Write,
            Statement::ExplainRoute(_) => StatementKind::ExplainRoute,
            Statement::Local(result) => result.kind,
            Statement::SetSession { .. } => StatementKind::Set,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatementKind {
    Query,
    Explain,
    ExplainRoute,
    Show,
    Describe,
    Set,
    Write,
}

impl StatementKind {
    pub fn as_str(self) -> &'static str {
        match self {
            StatementKind::Query => "query",
            StatementKind::Explain => "explain",
            StatementKind::ExplainRoute => "explain_route",
            StatementKind::Show => "show",
            StatementKind::Describe => "describe",
            StatementKind::Set => "set",
            StatementKind::Write => "write",
        }
    }
}

/// One row per engine. `strategy` and `profile` are what decided, the same on each; new columns come last.
pub fn explain_route_schema() -> SchemaRef {
    use arrow::datatypes::{DataType, Field, Schema};
    Arc::new(Schema::new(vec![
        Field::new("engine", DataType::Utf8, false),
        Field::new("eligible", DataType::Boolean, false),
        Field::new("chosen", DataType::Boolean, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("predicted_ms", DataType::Float64, true),
        Field::new("predicted_usd", DataType::Float64, true),
        Field::new("predicted_bytes", DataType::Int64, true),
        Field::new("rank", DataType::Int32, true),
        Field::new("predicted_p95_ms", DataType::Float64, true),
        Field::new("predicted_usd_p95", DataType::Float64, true),
        Field::new("predicted_memory_bytes", DataType::Int64, true),
        Field::new("predicted_memory_p95_bytes", DataType::Int64, true),
        Field::new("source", DataType::Utf8, true),
        Field::new("observations", DataType::Int64, true),
        Field::new("predicted_p95_bytes", DataType::Int64, true),
        Field::new("strategy", DataType::Utf8, false),
        Field::new("profile", DataType::Utf8, true),
    ]))
}

#[derive(Debug, Clone)]
pub struct LocalResult {
    pub kind: StatementKind,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// A query, typed as Databricks types it, over pinned snapshots.
#[derive(Debug)]
pub struct PlannedQuery {
    pub text: Arc<str>,
    pub fingerprint: Fingerprint,
    /// The settings it was planned under.
    pub session: Session,
    /// Typed, before optimization. Its output columns have unique internal names; their order is
    /// `schema`'s.
    pub plan: LogicalPlan,
    /// The same after DataFusion's optimizer.
    pub optimized: LogicalPlan,
    /// What the client is promised: Databricks' names (duplicates are possible), types, nullability.
    pub schema: SchemaRef,
    pub tables: Vec<BoundTable>,
    /// What each scan reads after pruning.
    pub scans: BTreeMap<ScanId, ScanBinding>,
    pub features: Features,
    /// What DuckDB would be sent, or why it may not run this.
    pub duckdb: Result<CompiledSql, Refusal>,
    /// What a Databricks warehouse would be sent, or why it may not run this.
    pub databricks: Result<DatabricksText, Refusal>,
    /// Why in-process DataFusion may not run this.
    pub datafusion: Result<(), Refusal>,
    /// Whether a total order of rows is part of the answer.
    pub ordered: bool,
    /// Whether the same text gives the same rows on the same versions.
    pub deterministic: bool,
    /// Whether every right answer to it has the same rows, in any order and floats within rounding.
    pub comparable: bool,
}

/// A table that a query names, pinned.
#[derive(Debug, Clone)]
pub struct BoundTable {
    pub snapshot: Arc<TableSnapshot>,
}

impl BoundTable {
    pub fn access(&self) -> &AccessRules {
        &self.snapshot.access
    }
}

/// One scan: the files left of its snapshot after pruning, and the columns read.
#[derive(Debug, Clone)]
pub struct ScanBinding {
    pub snapshot: Arc<TableSnapshot>,
    pub files: Arc<Vec<Arc<DataFile>>>,
    /// Indices into the snapshot's schema, ascending: what any engine needs of it.
    pub columns: Vec<usize>,
}

/// SQL for an engine that takes text. Scans appear in it as relations named `s<scan id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledSql {
    pub sql: String,
    /// The scans that the text names, keys of [`PlannedQuery::scans`]. Not all of them: where subplans
    /// that compute the same are written once, one scan stands for several.
    pub scans: Vec<ScanId>,
}

/// The client's own statement for a Databricks warehouse, which plans it by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabricksText {
    /// The client's text; where it has `?`, markers named by [`DatabricksText::parameter_name`]
    /// stand, because the wire knows named ones only.
    pub sql: Arc<str>,
    /// The markers' values in their order.
    pub parameters: Vec<ScalarValue>,
    /// Whether it is a query. Anything else may change data: it is run once and answers with a count.
    pub returns_rows: bool,
    /// Where its short names are looked up; `None`: the warehouse's own default.
    pub catalog: Option<String>,
    pub schema: Option<String>,
}

impl DatabricksText {
    /// The name of the `position`-th marker, from 0.
    pub fn parameter_name(position: usize) -> String {
        format!("flightpath_{}", position + 1)
    }
}
