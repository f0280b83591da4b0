//! Constants that raise. Databricks computes constants while it plans, so that `1 / 0` is an error
//! of the statement though no row may ever reach it; only the branches of a CASE wait for their rows.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use flightpath_functions::fold::{self, Unfolded};
use flightpath_types::{Error, Result};

/// The error of the first constant that raises.
pub(crate) fn check(plan: &LogicalPlan) -> Result<()> {
    let mut raised: Option<Error> = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                let Expr::ScalarFunction(call) = e else {
                    return Ok(if matches!(e, Expr::Case(_)) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue });
                };
                Ok(match fold::constant_call(call) {
                    Ok(_) => TreeNodeRecursion::Jump,
                    Err(Unfolded::Unknown) => TreeNodeRecursion::Continue,
                    Err(Unfolded::Raised(error)) => {
                        raised = Some(error);
                        TreeNodeRecursion::Stop
                    }
                })
            })
        })
    });
    match (raised, walked) {
        (Some(error), _) => Err(error),
        (None, Ok(_)) => Ok(()),
        (None, Err(e)) => Err(Error::internal(format!("the plan can't be walked: {}", e.strip_backtrace()))),
    }
}
