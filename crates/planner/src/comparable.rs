//! Whether a plan has one right answer: the same rows in some order, floats within rounding. What
//! depends on which of several rows comes first, or is approximate, hasn't. Says no when in doubt.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, WindowFrameUnits, WindowFunctionDefinition};

/// Aggregates whose value depends on the set of their inputs alone.
const AGGREGATES: [&str; 27] = [
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "count_if",
    "covar_pop",
    "covar_samp",
    "grouping",
    "kurtosis",
    "max",
    "median",
    "min",
    "percentile",
    "percentile_cont",
    "percentile_disc",
    "skewness",
    "stddev_pop",
    "stddev_samp",
    "sum",
    "try_avg",
    "try_sum",
    "var_pop",
    "var_samp",
];
/// Window functions that give peers the same value.
const WINDOWS: [&str; 4] = ["rank", "dense_rank", "percent_rank", "cume_dist"];

pub(crate) fn has_one_answer(plan: &LogicalPlan) -> bool {
    let mut one = true;
    let walked = plan.apply_with_subqueries(|node| {
        if matches!(node, LogicalPlan::Limit(_) | LogicalPlan::RecursiveQuery(_) | LogicalPlan::Distinct(Distinct::On(_))) {
            one = false;
        }
        if one {
            node.apply_expressions(|expr| {
                expr.apply(|e| {
                    one &= settled(e);
                    Ok(if one { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
                })
            })?;
        }
        Ok(if one { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    one && walked.is_ok()
}

fn settled(expr: &Expr) -> bool {
    match expr {
        Expr::AggregateFunction(call) => is_known(call.func.name()),
        Expr::WindowFunction(call) => match &call.fun {
            // A frame of rows depends on the order of peers.
            WindowFunctionDefinition::AggregateUDF(function) => {
                let frame = &call.params.window_frame;
                let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
                is_known(function.name()) && (frame.units == WindowFrameUnits::Range || whole)
            }
            WindowFunctionDefinition::WindowUDF(function) => WINDOWS.contains(&function.name()),
        },
        _ => true,
    }
}

fn is_known(aggregate: &str) -> bool {
    AGGREGATES.contains(&aggregate)
}
