//! Finds subplans that a plan holds more than once, as the references to one CTE are: they are
//! printed once, in WITH, so that the text stays linear and DuckDB computes them once.

use std::collections::HashSet;

use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use flightpath_types::Refusal;

/// Addresses of the shared nodes; valid as long as the plan is borrowed.
#[derive(Default)]
pub(crate) struct Shared {
    nodes: HashSet<usize>,
}

impl Shared {
    pub fn find(plan: &LogicalPlan) -> Result<Self, Refusal> {
        let mut seen = HashSet::new();
        let mut nodes = HashSet::new();
        let walked = plan.apply_with_subqueries(|node| {
            let address = address(node);
            if !is_passing(node) && !seen.insert(address) {
                if !nodes.contains(&address) && worth_sharing(node) {
                    nodes.insert(address);
                }
                // What is below has been visited already.
                return Ok(TreeNodeRecursion::Jump);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        walked.map_err(|e| crate::refuse(format!("a plan that can't be walked ({e})")))?;
        Ok(Self { nodes })
    }

    pub fn contains(&self, node: &LogicalPlan) -> bool {
        self.nodes.contains(&address(node))
    }
}

/// The walk makes a `Subquery` node in passing for each subquery of an expression: its address
/// means nothing.
pub(crate) fn is_passing(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Subquery(_))
}

fn address(node: &LogicalPlan) -> usize {
    std::ptr::from_ref(node) as usize
}

/// Scans with filters and projections are cheaper read twice, each with its own pushdown. What
/// refers to an outer query can't stand outside of it.
fn worth_sharing(node: &LogicalPlan) -> bool {
    let mut costly = false;
    let mut outer: Vec<Column> = Vec::new();
    let mut visited = HashSet::new();
    let mut schemas = Vec::new();
    let walked = node.apply_with_subqueries(|n| {
        if !is_passing(n) && !visited.insert(address(n)) {
            return Ok(TreeNodeRecursion::Jump);
        }
        costly |= is_costly(n);
        schemas.push(n.schema().clone());
        n.apply_expressions(|e| {
            e.apply(|e| {
                if let Expr::OuterReferenceColumn(_, column) = e {
                    outer.push(column.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    // Names are unique in a plan: what some node inside has is not a reference to the outside.
    let closed = outer.iter().all(|c| schemas.iter().any(|s| s.maybe_index_of_column(c).is_some()));
    walked.is_ok() && costly && closed
}

fn is_costly(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Window(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Join(_) | LogicalPlan::Union(_) => true,
        LogicalPlan::Distinct(Distinct::All(_) | Distinct::On(_)) | LogicalPlan::Unnest(_) | LogicalPlan::RecursiveQuery(_) => true,
        LogicalPlan::Limit(_) | LogicalPlan::Sort(_) | LogicalPlan::Extension(_) => true,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_) => false,
    }
}
