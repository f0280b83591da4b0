//! How many rows a query's batches may have. A long constant is repeated in each row of a batch, and
//! `explode` makes one batch of all that it makes out of one: no memory pool sees either, so such
//! queries go in smaller steps.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use flightpath_functions::fold::{self, Unfolded};

/// Bytes that one constant may take in a batch.
const CONSTANT_BYTES_MAX: usize = 64 << 20;
/// Shorter constants don't matter.
const CONSTANT_BYTES_MIN: usize = 4 << 10;
/// Rows beside a computed constant that was too long to be known beforehand.
const ROWS_BESIDE_UNKNOWN: usize = 8;
/// Rows of a batch that is exploded.
const EXPLODED_ROWS: usize = 512;

/// The rows of a batch of `plan`, `most` at most.
pub(crate) fn of(plan: &LogicalPlan, most: usize) -> usize {
    let mut rows = most;
    // The walk itself doesn't fail.
    let _ = plan.apply_with_subqueries(|node| {
        if matches!(node, LogicalPlan::Unnest(_)) {
            rows = rows.min(EXPLODED_ROWS);
        }
        node.apply_expressions(|expr| {
            rows = rows.min(beside(expr, false, most));
            Ok(TreeNodeRecursion::Continue)
        })
    });
    rows.max(1)
}

/// The rows beside the constants that are repeated for `expr`. A kernel of our own is `given` its
/// constants once; whatever else evaluates them may repeat them.
fn beside(expr: &Expr, given: bool, most: usize) -> usize {
    match expr {
        Expr::Literal(_, _) if given => most,
        Expr::Literal(value, _) => match value.size() {
            bytes if bytes < CONSTANT_BYTES_MIN => most,
            bytes => (CONSTANT_BYTES_MAX / bytes).clamp(1, most),
        },
        Expr::ScalarFunction(call) => {
            let unknown = !given && varies(expr) && is_constant(call) && matches!(fold::constant(expr), Err(Unfolded::Unknown));
            let known = if unknown { ROWS_BESIDE_UNKNOWN.min(most) } else { most };
            call.args.iter().map(|arg| beside(arg, true, most)).fold(known, usize::min)
        }
        other => {
            let mut rows = most;
            // Neither does this one.
            let _ = other.apply_children(|child| {
                rows = rows.min(beside(child, false, most));
                Ok(TreeNodeRecursion::Continue)
            });
            rows
        }
    }
}

/// Whether its values differ in length.
fn varies(expr: &Expr) -> bool {
    use DataType::{Binary, LargeBinary, LargeUtf8, List, Map, Struct, Utf8};
    fold::type_of(expr).is_none_or(|ty| matches!(ty, Utf8 | Binary | LargeUtf8 | LargeBinary | List(_) | Map(..) | Struct(_)))
}

fn is_constant(call: &ScalarFunction) -> bool {
    let of_rows = |expr: &Expr| Ok(matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_)));
    call.args.iter().all(|arg| !arg.exists(of_rows).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::{LogicalPlanBuilder, Operator, binary_expr, col, lit, when};

    use super::*;

    #[test]
    fn long_constants_make_batches_small() {
        let shown = |expr: Expr| {
            let values = LogicalPlanBuilder::values(vec![vec![lit(1_i32), lit("a")], vec![lit(2_i32), lit("b")]]).unwrap();
            of(&values.project(vec![expr]).unwrap().build().unwrap(), 8192)
        };
        let long = || lit("x".repeat(1 << 20));
        assert_eq!(shown(col("column1")), 8192);
        assert_eq!(shown(lit("x")), 8192);
        assert!((60..=64).contains(&shown(long().alias("a"))));
        assert!(shown(when(col("column1").eq(lit(1_i32)), long()).otherwise(lit("")).unwrap()) <= 64);
        assert!(shown(binary_expr(col("column2"), Operator::StringConcat, long())) <= 64);
        assert_eq!(shown(lit("x".repeat(200 << 20))), 1);
    }

    #[test]
    fn what_is_exploded_goes_in_small_steps() {
        let values = LogicalPlanBuilder::values(vec![vec![lit(list(3))]]).unwrap();
        let plan = values.unnest_column("column1").unwrap().build().unwrap();
        assert_eq!(of(&plan, 8192), EXPLODED_ROWS);
    }

    fn list(length: i32) -> ScalarValue {
        let items: Vec<_> = (0..length).map(|n| ScalarValue::Int32(Some(n))).collect();
        ScalarValue::List(ScalarValue::new_list(&items, &DataType::Int32, true))
    }
}
