//! DataFusion's optimizer, set up once. Only its logical rules run: the binder's types are final,
//! so no analyzer and no coercion, and a plan whose types came out otherwise isn't used.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{Optimizer, OptimizerContext};

pub(crate) struct PlanOptimizer {
    optimizer: Optimizer,
    options: Arc<ConfigOptions>,
}

impl PlanOptimizer {
    pub fn new() -> Self {
        let mut options = ConfigOptions::default();
        options.optimizer.skip_failed_rules = false;
        options.optimizer.filter_null_join_keys = true;
        // Names are quoted already.
        options.sql_parser.enable_ident_normalization = false;
        Self { optimizer: Optimizer::new(), options: Arc::new(options) }
    }

    /// The plan optimized, or why it can't be.
    pub fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan, String> {
        let context = OptimizerContext::new_with_config_options(self.options.clone()).without_query_execution_start_time();
        let optimized = catch_unwind(AssertUnwindSafe(|| self.optimizer.optimize(plan.clone(), &context, |_, _| {})));
        let optimized = match optimized {
            Ok(Ok(optimized)) => optimized,
            Ok(Err(error)) => return Err(format!("DataFusion's optimizer refused the plan: {}", error.strip_backtrace())),
            Err(_) => return Err("DataFusion's optimizer failed on the plan".into()),
        };
        same_types(plan, &optimized)?;
        Ok(optimized)
    }
}

fn same_types(before: &LogicalPlan, after: &LogicalPlan) -> Result<(), String> {
    let (before, after) = (before.schema().fields(), after.schema().fields());
    if before.len() != after.len() {
        return Err(format!("DataFusion's optimizer made {} columns of {}", after.len(), before.len()));
    }
    for (promised, have) in before.iter().zip(after) {
        if promised.data_type() != have.data_type() {
            return Err(format!("DataFusion's optimizer made {} of {}", have.data_type(), promised.data_type()));
        }
    }
    Ok(())
}
