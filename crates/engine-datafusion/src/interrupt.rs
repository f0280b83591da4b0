//! Makes a physical plan stoppable wherever little input makes much work.
//!
//! A Tokio task can be aborted only where it yields, and DataFusion's own rule lets it yield where
//! data enters the plan. A join or a sort can then compute for minutes on one batch of input. So
//! what such operators put out counts against the task's budget too; and join conditions, which a
//! join may evaluate without end while nothing matches, ask whether the query is still wanted.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use flightpath_types::{Error, ErrorKind};

use crate::lazy_logic::{lazy, lazy_conditions};
use crate::single_row;

/// Whether a query is still wanted.
#[derive(Debug)]
pub(crate) struct Signal {
    dropped: AtomicBool,
    deadline: Option<Instant>,
}

impl Signal {
    pub(crate) fn new(deadline: Option<Instant>) -> Arc<Self> {
        Arc::new(Self { dropped: AtomicBool::new(false), deadline })
    }

    /// The client has gone.
    pub(crate) fn drop_query(&self) {
        self.dropped.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> DfResult<()> {
        let stopped = if self.dropped.load(Ordering::Relaxed) {
            Error::new(ErrorKind::Cancelled, "the client has gone")
        } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            late()
        } else {
            return Ok(());
        };
        Err(DataFusionError::External(Box::new(stopped)))
    }
}

/// What a client is told whose query took too long.
pub(crate) fn late() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the query ran past its time limit; raise `timeout_seconds` or make it smaller")
}

/// The same plan, stoppable; on the same walk scalar subqueries are guarded and conditions made lazy.
pub(crate) fn stoppable(plan: Arc<dyn ExecutionPlan>, signal: &Arc<Signal>) -> DfResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let mut changed = lazy_conditions(single_row::guarded(watched_join(plan.clone(), signal)?)?)?;
        if multiplies(changed.as_ref()) {
            changed = Arc::new(CooperativeExec::new(changed));
        }
        // A parent is rebuilt only over a child that says so.
        Ok(if Arc::ptr_eq(&plan, &changed) { Transformed::no(plan) } else { Transformed::yes(changed) })
    })
    .data()
}

fn watched_join(plan: Arc<dyn ExecutionPlan>, signal: &Arc<Signal>) -> DfResult<Arc<dyn ExecutionPlan>> {
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        return Ok(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(Some(watched(filter, signal)?)).build()?));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return HashJoinExecBuilder::from(join).with_filter(Some(watched(filter, signal)?)).build_exec();
    }
    Ok(plan)
}

fn watched(filter: &JoinFilter, signal: &Arc<Signal>) -> DfResult<JoinFilter> {
    let expression = Arc::new(Watched { inner: lazy(filter.expression())?.data, signal: signal.clone() });
    Ok(JoinFilter::new(expression, filter.column_indices().to_vec(), filter.schema().clone()))
}

fn multiplies(plan: &dyn ExecutionPlan) -> bool {
    plan.is::<CrossJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<SortMergeJoinExec>()
        || plan.is::<UnnestExec>()
        || plan.is::<SortExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<AggregateExec>()
        || plan.is::<WindowAggExec>()
        || plan.is::<BoundedWindowAggExec>()
}

/// A condition that is an error once the query isn't wanted any more.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    signal: Arc<Signal>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, input_schema: &Schema) -> DfResult<DataType> {
        self.inner.data_type(input_schema)
    }

    fn nullable(&self, input_schema: &Schema) -> DfResult<bool> {
        self.inner.nullable(input_schema)
    }

    fn return_field(&self, input_schema: &Schema) -> DfResult<FieldRef> {
        self.inner.return_field(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        self.signal.check()?;
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(inner), true) => Ok(Arc::new(Self { inner, signal: self.signal.clone() })),
            _ => datafusion::common::internal_err!("a watched condition has one child"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
