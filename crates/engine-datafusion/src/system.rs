//! System tables as scans: what is asked of them is told to the table, and their rows come as they are
//! read, on the runtime that their connections belong to. A scan that isn't read any further reads no
//! more; nothing is ever left out that isn't left out by the plan above it, too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, TableScan};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use flightpath_catalog::{Comparison, SystemCondition, SystemScan, SystemTable, SystemValue, TableContents};
use flightpath_plan::{PlannedQuery, ScanId, SnapshotSource};
use flightpath_types::{Error, Principal};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Parts that are read ahead of who reads them.
const PARTS_WAITING_MAX: usize = 1;

/// Whose system tables, and where they are read.
pub(crate) struct SystemReader {
    principal: Principal,
    runtime: Handle,
    oldest_first: BTreeMap<ScanId, bool>,
}

impl SystemReader {
    /// Must be called on the runtime on which system tables are to be read.
    pub fn new(query: &PlannedQuery, principal: &Principal) -> DfResult<Self> {
        Ok(Self { principal: principal.clone(), runtime: Handle::current(), oldest_first: ordered_scans(&query.optimized)? })
    }

    pub fn scan(&self, scan: &TableScan, source: &SnapshotSource, table: &Arc<dyn SystemTable>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let schema = source.snapshot.schema.clone();
        let ordered_by = table.ordered_by();
        let oldest_first = ordered_by.is_some() && self.oldest_first.get(&source.scan).copied().unwrap_or(false);
        let columns = scan.projection.clone().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let ordering = ordered_by.and_then(|index| {
            let position = columns.iter().position(|column| *column == index)?;
            let column = PhysicalColumn::new(schema.field(index).name(), position);
            let options = SortOptions { descending: !oldest_first, nulls_first: false };
            LexOrdering::new([PhysicalSortExpr::new(Arc::new(column), options)])
        });
        let conditions = scan.filters.iter().flat_map(|filter| split_conjunction(filter)).flat_map(|e| conditions(e, &schema)).collect();
        let part = Part {
            schema: schema.clone(),
            table: table.clone(),
            name: source.snapshot.name.to_string(),
            principal: self.principal.clone(),
            wanted: SystemScan { columns, conditions, oldest_first },
            runtime: self.runtime.clone(),
        };
        // A filter above may need more rows than it lets through.
        let limit = scan.fetch.filter(|_| scan.filters.is_empty());
        let plan = StreamingTableExec::try_new(schema, vec![Arc::new(part)], scan.projection.as_ref(), ordering, false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// Whose rows are wanted in the order of a column, and whether from its beginning.
fn ordered_scans(plan: &LogicalPlan) -> DfResult<BTreeMap<ScanId, bool>> {
    let mut ordered = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Sort(sort) = node
            && let Some(first) = sort.expr.first()
            && let Expr::Column(column) = &first.expr
            && let Some(scan) = ordered_scan(&sort.input, column.clone())
        {
            ordered.insert(scan, first.asc);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(ordered)
}

/// The system table right below whose own order this column is.
fn ordered_scan(plan: &LogicalPlan, column: Column) -> Option<ScanId> {
    match plan {
        LogicalPlan::Filter(filter) => ordered_scan(&filter.input, column),
        LogicalPlan::Projection(projection) => {
            let at = projection.schema.maybe_index_of_column(&column)?;
            match projection.expr.get(at)? {
                Expr::Column(inner) => ordered_scan(&projection.input, inner.clone()),
                Expr::Alias(alias) => match alias.expr.as_ref() {
                    Expr::Column(inner) => ordered_scan(&projection.input, inner.clone()),
                    _ => None,
                },
                _ => None,
            }
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let at = alias.schema.maybe_index_of_column(&column)?;
            let (relation, field) = alias.input.schema().qualified_field(at);
            ordered_scan(&alias.input, Column::new(relation.cloned(), field.name()))
        }
        LogicalPlan::TableScan(scan) => {
            let source = scan.source.downcast_ref::<SnapshotSource>()?;
            let TableContents::System(table) = &source.snapshot.contents else { return None };
            let ordered_by = table.ordered_by()?;
            (source.snapshot.schema.field(ordered_by).name() == &column.name).then_some(source.scan)
        }
        _ => None,
    }
}

/// What a conjunct says of single columns; nothing, where it can't be told plainly.
fn conditions(filter: &Expr, schema: &SchemaRef) -> Vec<SystemCondition> {
    match filter {
        Expr::BinaryExpr(binary) => {
            let found = match (comparison(binary.op), binary.left.as_ref(), binary.right.as_ref()) {
                (Some(comparison), Expr::Column(column), Expr::Literal(value, _)) => condition(column, comparison, value, schema),
                (Some(comparison), Expr::Literal(value, _), Expr::Column(column)) => condition(column, turned(comparison), value, schema),
                _ => None,
            };
            found.into_iter().collect()
        }
        Expr::Between(between) if !between.negated => match (between.expr.as_ref(), between.low.as_ref(), between.high.as_ref()) {
            (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) => {
                let bounds = [(Comparison::GreaterOrEqual, low), (Comparison::LessOrEqual, high)];
                bounds.into_iter().filter_map(|(comparison, value)| condition(column, comparison, value, schema)).collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn comparison(operator: Operator) -> Option<Comparison> {
    match operator {
        Operator::Eq => Some(Comparison::Equal),
        Operator::Lt => Some(Comparison::Less),
        Operator::LtEq => Some(Comparison::LessOrEqual),
        Operator::Gt => Some(Comparison::Greater),
        Operator::GtEq => Some(Comparison::GreaterOrEqual),
        _ => None,
    }
}

/// With its sides exchanged.
fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal => Comparison::Equal,
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
    }
}

fn condition(column: &Column, comparison: Comparison, value: &ScalarValue, schema: &SchemaRef) -> Option<SystemCondition> {
    let (index, field) = schema.column_with_name(&column.name)?;
    let value = match (field.data_type(), value) {
        (DataType::Utf8, ScalarValue::Utf8(Some(text))) => SystemValue::Text(text.clone()),
        (DataType::Timestamp(TimeUnit::Microsecond, Some(_)), ScalarValue::TimestampMicrosecond(Some(us), Some(_))) => {
            SystemValue::Instant(*us)
        }
        _ => return None,
    };
    Some(SystemCondition { column: index, comparison, value })
}

/// A system table's rows, all of them in one partition.
struct Part {
    schema: SchemaRef,
    table: Arc<dyn SystemTable>,
    name: String,
    principal: Principal,
    wanted: SystemScan,
    runtime: Handle,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("table", &self.name).field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (sender, receiver) = mpsc::channel(PARTS_WAITING_MAX);
        let (table, principal, wanted) = (self.table.clone(), self.principal.clone(), self.wanted.clone());
        let reading = self.runtime.spawn(async move {
            let mut rows = table.scan(principal, wanted);
            while let Some(part) = rows.next().await {
                let failed = part.is_err();
                if sender.send(part.map(Some)).await.is_err() || failed {
                    return;
                }
            }
            // Without it, the end of the channel isn't the end of the table.
            let _ = sender.send(Ok(None)).await;
        });
        let reading = Reading { receiver, task: reading.abort_handle(), schema: self.schema.clone(), name: self.name.clone() };
        let parts = futures::stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(batch)) => Some((Ok(batch), Some(reading))),
                Ok(None) => None,
                Err(error) => Some((Err(DataFusionError::External(Box::new(error))), None)),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), parts))
    }
}

/// Ends the reading with itself.
struct Reading {
    receiver: mpsc::Receiver<Result<Option<RecordBatch>, Error>>,
    task: AbortHandle,
    schema: SchemaRef,
    name: String,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let ended = || Error::unavailable(format!("reading system table {} was broken off", self.name));
        let Some(batch) = self.receiver.recv().await.ok_or_else(ended)?? else { return Ok(None) };
        let promised = RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec());
        promised.map(Some).map_err(|e| Error::internal(format!("system table {} doesn't hold what it promises: {e}", self.name)))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn only_plain_comparisons_with_values_are_told() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = vec![Field::new("who", DataType::Utf8, false), Field::new("at", time, false), Field::new("n", DataType::Int64, true)];
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let at = |us: i64| Expr::Literal(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())), None);
        let told = |filter: &Expr| conditions(filter, &schema);
        let of = |column, comparison, value| SystemCondition { column, comparison, value };

        let text = |text: &str| SystemValue::Text(text.into());
        assert_eq!(told(&col("s0.who").eq(lit("ana"))), [of(0, Comparison::Equal, text("ana"))]);
        assert_eq!(told(&lit("ana").eq(col("s0.who"))), [of(0, Comparison::Equal, text("ana"))]);
        assert_eq!(told(&at(5).lt(col("s0.at"))), [of(1, Comparison::Greater, SystemValue::Instant(5))]);
        let between = [of(1, Comparison::GreaterOrEqual, SystemValue::Instant(5)), of(1, Comparison::LessOrEqual, SystemValue::Instant(7))];
        assert_eq!(told(&col("s0.at").between(at(5), at(7))), between);

        let none = ScalarValue::TimestampMicrosecond(None, Some("UTC".into()));
        let local = ScalarValue::TimestampMicrosecond(Some(5), None);
        for untold in [
            col("s0.who").not_eq(lit("ana")),
            col("s0.who").eq(lit("ana")).or(col("s0.who").eq(lit("bob"))),
            col("s0.at").not_between(at(5), at(7)),
            col("s0.at").gt(Expr::Literal(none, None)),
            col("s0.at").gt(Expr::Literal(local, None)),
            col("s0.n").eq(lit(5_i64)),
            col("s0.elsewhere").eq(lit("ana")),
            col("s0.who").eq(col("s0.who")),
        ] {
            assert_eq!(told(&untold), [], "{untold}");
        }
    }
}
