//! Queries of which the planner has left nothing but one row of literals (`SELECT 1`, by which clients
//! see whether a connection lives): answered at once, without a physical plan or another thread.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The row, if the plan is one of literals.
pub(crate) fn row(plan: &LogicalPlan) -> Option<DfResult<RecordBatch>> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    match projection.input.as_ref() {
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => {}
        _ => return None,
    }
    let values: Option<Vec<_>> = projection.expr.iter().map(literal).collect();
    let columns: DfResult<Vec<ArrayRef>> = values?.into_iter().map(|value| value.to_array()).collect();
    let schema = Arc::new(projection.schema.as_arrow().clone());
    Some(
        columns.and_then(|columns| {
            Ok(RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(1)))?)
        }),
    )
}

fn literal(expr: &Expr) -> Option<&datafusion::common::ScalarValue> {
    match expr {
        Expr::Alias(alias) => literal(&alias.expr),
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;
    use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};

    #[test]
    fn literals_are_answered_at_once_and_nothing_else() {
        let one_row = || LogicalPlanBuilder::empty(true);
        let literals = one_row().project(vec![lit(7_i32), lit("x").alias("name").alias("again")]).unwrap().build().unwrap();
        let row = super::row(&literals).unwrap().unwrap();
        assert_eq!((row.num_rows(), row.num_columns()), (1, 2));
        assert_eq!(row.column(0).as_primitive::<Int32Type>().value(0), 7);
        assert_eq!(row.schema().field(1).name(), "again");

        let computed = one_row().project(vec![lit(7_i32) + lit(1_i32)]).unwrap().build().unwrap();
        let no_row = LogicalPlanBuilder::empty(false).project(vec![lit(7_i32)]).unwrap().build().unwrap();
        let of_rows = LogicalPlanBuilder::values(vec![vec![lit(1_i32)], vec![lit(2_i32)]]).unwrap();
        let of_rows = of_rows.project(vec![col("column1"), lit(7_i32)]).unwrap().build().unwrap();
        for plan in [computed, no_row, of_rows] {
            assert!(super::row(&plan).is_none(), "{plan}");
        }
    }
}
