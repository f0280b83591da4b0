//! What a planned query is: the one typed plan every engine starts from, the tables it pinned,
//! the schema the client is promised, and what each engine would be sent. Made by the planner,
//! read by engines, router (its features) and pipeline; nobody changes it.

#![forbid(unsafe_code)]

mod planned;
mod source;

pub use planned::{
    BoundTable, CompiledSql, DatabricksText, LocalResult, PlannedQuery, ScanBinding, Statement, StatementKind, explain_route_schema,
};
pub use source::{ScanId, SnapshotSource};
