//! Recursive queries.

use arrow::datatypes::DataType;
use datafusion::logical_expr::logical_plan::RecursiveQuery;
use flightpath_functions::{DuckCall, FunctionDef, RECURSION_LEVEL, lookup};
use flightpath_types::{Refusal, RefusalClass};

use crate::block::{Block, Cell, FromItem};
use crate::relation::Printer;
use crate::{Printed, refuse};

impl Printer {
    /// Stands outside every query that encloses its uses, as a shared subplan does.
    pub fn recursive(&mut self, query: &RecursiveQuery) -> Printed<Block> {
        let name = self.alias();
        self.work.insert(query.name.clone(), name.clone());
        let outers = std::mem::take(&mut self.outers);
        let anchor = self.relation(&query.static_term);
        let step = self.relation(&query.recursive_term);
        self.outers = outers;
        let (anchor, step) = (anchor?.render(false), step?.render(false));
        let level = query.schema.fields().last().map(|f| f.data_type());
        if query.is_distinct && level != Some(&DataType::Int32) {
            return Err(refuse("a recursive query by UNION without the number of its step"));
        }
        self.with.push(if query.is_distinct {
            distinct_recursion(&name, &anchor, &step, query.schema.fields().len())?
        } else {
            format!("{name} AS (({anchor}) UNION ALL ({step}))")
        });
        let alias = self.alias();
        let cells = (0..query.schema.fields().len()).map(|i| Cell::column(format!("{alias}.c{i}"))).collect();
        Ok(Block::new(Some(FromItem { text: format!("{name} AS {alias}"), joined: false, derived: None }), cells))
    }
}

/// Steps by UNION: of a step's rows those remain that no step before has made. The last column is the
/// number of the step before, which takes no part in that.
fn distinct_recursion(name: &str, anchor: &str, step: &str, columns: usize) -> Printed<String> {
    let Some(FunctionDef::Scalar(level)) = lookup(RECURSION_LEVEL) else { return Err(refuse("the number of a recursive step")) };
    let last = columns.saturating_sub(1);
    let own: Vec<String> = (0..last).map(|i| format!("n.c{i}")).collect();
    let same: Vec<String> = (0..last).map(|i| format!("r.c{i} IS NOT DISTINCT FROM n.c{i}")).collect();
    let keys: Vec<String> = (0..last).map(|i| format!("c{i}")).collect();
    let all: Vec<String> = (0..columns).map(|i| format!("c{i}")).collect();
    if last == 0 {
        return Err(refuse("a recursive query without columns"));
    }
    let call =
        DuckCall { args: &[format!("n.c{last}")], types: &[DataType::Int32], literals: &[None], ret: &DataType::Int32, time_zone: "UTC" };
    let next = (level.duckdb)(&call).map_err(|reason| Refusal::new(RefusalClass::Semantics, reason))?;
    Ok(format!(
        "{name}({}) USING KEY ({}) AS (({anchor}) UNION (SELECT {}, {next} AS c{last} FROM ({step}) AS n WHERE NOT EXISTS (SELECT 1 FROM recurring.{name} AS r WHERE {})))",
        all.join(", "),
        keys.join(", "),
        own.join(", "),
        same.join(" AND ")
    ))
}
