//! Prints a typed plan as DuckDB SQL. Every plan node and expression is matched by name: what
//! isn't known to give Databricks' answer on DuckDB is refused with a reason, never guessed, and
//! nothing is printed from a type or a function that the compile table doesn't know.
//!
//! Shape of the text: relations are numbered (`s<scan id>` for scans, `t<n>` for derived tables,
//! `w<n>` for shared subplans) and derived columns are positional (`c0`, `c1`...), so that no name
//! of the user's can capture another and a correlated reference means one thing wherever it stands.

#![forbid(unsafe_code)]

mod aggregate;
mod block;
mod cast;
mod columns;
mod constant;
mod expr;
mod join;
mod lambda;
mod operator;
mod recursive;
mod relation;
mod shared;
mod sql;
mod subquery;
mod unnest;
mod uses;

use std::collections::{BTreeMap, BTreeSet};

pub use columns::scan_columns;
use datafusion::logical_expr::LogicalPlan;
use flightpath_plan::ScanId;
use flightpath_types::{Refusal, RefusalClass};

/// Longest text that is sent to DuckDB, in bytes. Rules that repeat an argument can double the
/// text at each level of nesting.
const SQL_BYTES_MAX: usize = 4 << 20;

/// Deepest nesting of parentheses in the text. DuckDB refuses expressions deeper than 1,000.
const NESTING_MAX: usize = 600;

type Printed<T> = Result<T, Refusal>;

/// A plan's text for DuckDB.
#[derive(Debug, Clone)]
pub struct DuckdbSql {
    pub sql: String,
    /// The scans that the text names. Where subplans that compute the same are printed once, a scan
    /// of the text has a number that no scan of the plan has, and stands for all of these.
    pub scans: BTreeMap<ScanId, BTreeSet<ScanId>>,
}

/// DuckDB SQL for a typed plan that hasn't been optimized. Columns of its result stand in the
/// plan's order and are named `c0`, `c1`...
pub fn to_duckdb(plan: &LogicalPlan) -> Result<DuckdbSql, Refusal> {
    let shared = shared::Shared::find(plan)?;
    let referenced = columns::Referenced::of(plan, &shared)?;
    let mut printer = relation::Printer::new(shared, referenced);
    let sql = printer.statement(plan)?;
    check_size(&sql)?;
    if nesting(&sql) > NESTING_MAX {
        return Err(refuse("an expression nested this deep"));
    }
    Ok(DuckdbSql { sql, scans: printer.scans() })
}

/// The refusal of a construct; `what` opens the sentence.
fn refuse(what: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalClass::Semantics, format!("{what} isn't known to answer as Databricks does on DuckDB"))
}

fn check_size(text: &str) -> Printed<()> {
    if text.len() > SQL_BYTES_MAX {
        return Err(Refusal::new(RefusalClass::Resources, "the statement's text for DuckDB would be longer than 4 MB"));
    }
    Ok(())
}

/// Deepest level of parentheses outside quotes.
fn nesting(sql: &str) -> usize {
    let (mut depth, mut deepest, mut quote) = (0usize, 0usize, None);
    for byte in sql.bytes() {
        match (quote, byte) {
            (Some(q), b) if b == q => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'(') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (None, b')') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    deepest
}
