//! What a query needs, as plain numbers: the router's only view of a plan.

use serde::{Deserialize, Serialize};

/// Counted on the optimized plan; bytes and rows are what is left after file pruning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Features {
    pub tables: Vec<TableUse>,
    /// Files left after pruning, over all scans.
    pub files: u64,
    pub files_total: u64,
    /// Bytes of the files left.
    pub file_bytes: u64,
    /// Share of `file_bytes` that the projected columns take, estimated.
    pub scan_bytes: u64,
    /// Rows in the files left; `None` when a file lacks statistics.
    pub scan_rows: Option<u64>,
    /// Rows expected in the result, a rough estimate.
    pub result_rows: Option<u64>,
    pub scans: u32,
    pub columns_read: u32,
    pub joins: u32,
    pub cross_joins: u32,
    pub aggregates: u32,
    pub group_keys: u32,
    pub windows: u32,
    pub distincts: u32,
    pub sorts: u32,
    pub limits: u32,
    pub unions: u32,
    pub subqueries: u32,
    pub filters: u32,
    /// Nesting of the plan tree.
    pub depth: u32,
    /// Rows marked deleted in the files left.
    pub deleted_rows: u64,
    /// Rows, or pairs of rows to be looked at, that joins without keys and generators are expected to
    /// make: work that no file's size tells of.
    #[serde(default)]
    pub produced_rows: u64,
    /// Nodes that make several rows of one: `explode`, `range`.
    #[serde(default)]
    pub generators: u32,
    /// Elements of arrays made from constants that are held at once.
    #[serde(default)]
    pub array_elements: u64,
    /// Aggregates whose state grows with what they are given: `collect_list`, `percentile`, DISTINCT.
    #[serde(default)]
    pub collects: u32,
    /// Groups that aggregations and DISTINCTs are expected to make, all together. This and the next three are
    /// estimated from what files' statistics and partitions tell; `None` where not even rows are known.
    #[serde(default)]
    pub groups: Option<u64>,
    /// Rows that are grouped.
    #[serde(default)]
    pub grouped_rows: Option<u64>,
    /// Rows that come out of joins with keys.
    #[serde(default)]
    pub joined_rows: Option<u64>,
    /// Rows that are sorted and kept, for windows too; of a sort with a limit those that it lets through.
    #[serde(default)]
    pub sorted_rows: Option<u64>,
}

/// One table as one query uses it; a table scanned twice is one entry with its numbers added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableUse {
    /// `catalog.schema.table`
    pub name: String,
    /// The pinned version; `None` for tables without versions.
    pub version: Option<u64>,
    pub files: u64,
    pub files_total: u64,
    pub bytes: u64,
    pub rows: Option<u64>,
    pub columns: Vec<String>,
}
