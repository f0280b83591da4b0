//! AND and OR whose right side is evaluated only where the left side leaves the answer open.
//!
//! `b <> 0 AND a / b > 1` raises nothing on Databricks. DataFusion evaluates both sides on whole
//! batches; where the right side may raise, this keeps it to the rows that it is asked about.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{and_kleene, is_null, not, or_kleene};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

/// The same node with its conditions made lazy.
pub(crate) fn lazy_conditions(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let predicate = lazy(filter.predicate())?;
        if predicate.transformed {
            return Ok(Arc::new(FilterExecBuilder::from(filter).with_predicate(predicate.data).build()?));
        }
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let mut changed = false;
        let mut columns = Vec::with_capacity(projection.expr().len());
        for column in projection.expr() {
            let expr = lazy(&column.expr)?;
            changed |= expr.transformed;
            columns.push(ProjectionExpr::new(expr.data, column.alias.clone()));
        }
        if changed {
            return Ok(Arc::new(ProjectionExec::try_new_with_schema_metadata(columns, projection.input().clone(), &projection.schema())?));
        }
    }
    Ok(plan)
}

/// The same expression with each AND and OR made lazy whose right side may raise.
pub(crate) fn lazy(expr: &Arc<dyn PhysicalExpr>) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    expr.clone().transform_up(|expr| {
        let lazy = expr.downcast_ref::<BinaryExpr>().and_then(|binary| match binary.op() {
            Operator::And => Some((false, binary)),
            Operator::Or => Some((true, binary)),
            _ => None,
        });
        match lazy {
            Some((decides, binary)) if may_raise(binary.right())? => {
                let lazy = LazyLogic { decides, left: binary.left().clone(), right: binary.right().clone() };
                Ok(Transformed::yes(Arc::new(lazy) as _))
            }
            _ => Ok(Transformed::no(expr)),
        }
    })
}

fn may_raise(expr: &Arc<dyn PhysicalExpr>) -> Result<bool> {
    let mut found = false;
    expr.apply(|expr| {
        found = expr.is::<ScalarFunctionExpr>() || expr.is::<CastExpr>();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

#[derive(Debug)]
struct LazyLogic {
    /// The value of the left side that makes the right side irrelevant: false for AND, true for OR.
    decides: bool,
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
}

impl PartialEq for LazyLogic {
    fn eq(&self, other: &Self) -> bool {
        self.decides == other.decides && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Eq for LazyLogic {}

impl Hash for LazyLogic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.decides.hash(state);
        self.left.hash(state);
        self.right.hash(state);
    }
}

impl fmt::Display for LazyLogic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, if self.decides { "OR" } else { "AND" }, self.right)
    }
}

impl PhysicalExpr for LazyLogic {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(input_schema)? || self.right.nullable(input_schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let left = self.left.evaluate(batch)?;
        if let ColumnarValue::Scalar(ScalarValue::Boolean(Some(value))) = &left
            && *value == self.decides
        {
            return Ok(left);
        }
        let left = left.into_array(batch.num_rows())?;
        let left = left.as_boolean();
        let open = if self.decides { or_kleene(&not(left)?, &is_null(left)?)? } else { or_kleene(left, &is_null(left)?)? };
        let right = self.right.evaluate_selection(batch, &open)?.into_array(batch.num_rows())?;
        let both = if self.decides { or_kleene(left, right.as_boolean())? } else { and_kleene(left, right.as_boolean())? };
        Ok(ColumnarValue::Array(Arc::new(both)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Self { decides: self.decides, left, right })),
            Err(_) => datafusion::common::internal_err!("AND and OR have two sides"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
