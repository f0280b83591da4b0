//! At most one row, or the error that Databricks raises for a scalar subquery with more.
//! DataFusion's own error for it can be told from others by its text only.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, replace_children_if_necessary};
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, ReplaceChildrenOptions,
};
use flightpath_types::Error;
use futures::StreamExt;

/// The same plan with its scalar subqueries guarded, if it is the node that runs them.
pub(crate) fn guarded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if !plan.is::<ScalarSubqueryExec>() {
        return Ok(plan);
    }
    let children = plan.children().into_iter().cloned().enumerate();
    // The first child is the query itself.
    let children = children.map(|(index, child)| if index == 0 { child } else { Arc::new(SingleRowExec::new(child)) as _ }).collect();
    replace_children_if_necessary(plan, children)
}

#[derive(Debug)]
struct SingleRowExec {
    input: Arc<dyn ExecutionPlan>,
}

impl SingleRowExec {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let input = match input.output_partitioning().partition_count() {
            0 | 1 => input,
            _ => Arc::new(CoalescePartitionsExec::new(input)),
        };
        Self { input }
    }
}

impl DisplayAs for SingleRowExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SingleRowExec")
    }
}

impl ExecutionPlan for SingleRowExec {
    fn name(&self) -> &str {
        "SingleRowExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input))),
            _ => datafusion::common::internal_err!("SingleRowExec has one child"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut rows = 0;
        let counted = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            rows += batch.num_rows();
            if rows > 1 {
                let error = Error::raised(
                    "SCALAR_SUBQUERY_TOO_MANY_ROWS",
                    "21000",
                    "More than one row returned by a subquery used as an expression.",
                );
                return Err(DataFusionError::External(Box::new(error)));
            }
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }
}
