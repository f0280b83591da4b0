//! Projections move below filters and into joins only where they compute nothing.
//!
//! DataFusion's own rule also moves computed ones: `SELECT b, a / b * c FROM t WHERE b <> 0` would
//! divide before it filters, and raise for rows that the query left out.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::projection_pushdown::ProjectionPushdown;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, remove_unnecessary_projections};

/// DataFusion's rules, with this one in its own one's place.
pub(crate) fn rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let replaced = ProjectionPushdown::new();
    let rules = PhysicalOptimizer::new().rules.into_iter();
    rules.map(|rule| if rule.name() == replaced.name() { Arc::new(ColumnsPushdown) as _ } else { rule }).collect()
}

#[derive(Debug)]
struct ColumnsPushdown;

impl PhysicalOptimizerRule for ColumnsPushdown {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|node| match node.downcast_ref::<ProjectionExec>() {
            Some(projection) if projection.expr().iter().any(|column| !column.expr.is::<Column>()) => Ok(Transformed::no(node)),
            _ => remove_unnecessary_projections(node),
        })
        .data()
    }

    fn name(&self) -> &str {
        "ColumnsPushdown"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
