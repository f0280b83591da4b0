//! System tables that are read in parts: how far, in what order, and what they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::count::count;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use flightpath_catalog::{
    Comparison, SystemCondition, SystemRows, SystemScan, SystemTable, SystemValue, TableContents, TableFormat, TableSnapshot,
};
use flightpath_engine::conformance::{column, planned, scan, snapshot};
use flightpath_engine::{Engine, Execution};
use flightpath_engine_datafusion::{Config, DataFusionEngine};
use flightpath_types::{Error, ErrorKind, Principal, QueryId};
use futures::{StreamExt, stream};
use parking_lot::Mutex;

const PARTS: i64 = 500;
const ROWS: i64 = 10;

/// Rows `(n microseconds, n)`, in parts; fails after the last one when told to.
#[derive(Default)]
struct Parts {
    fails: bool,
    read: AtomicUsize,
    asked: Mutex<Vec<SystemScan>>,
}

#[async_trait]
impl SystemTable for Parts {
    fn schema(&self) -> SchemaRef {
        let at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![Field::new("at", at, false), Field::new("n", DataType::Int64, false)]))
    }

    fn ordered_by(&self) -> Option<usize> {
        Some(0)
    }

    fn scan(self: Arc<Self>, _: Principal, wanted: SystemScan) -> SystemRows {
        let oldest_first = wanted.oldest_first;
        self.asked.lock().push(wanted);
        let last = stream::iter(self.fails.then(|| Err(Error::unavailable("the last part is gone"))));
        let parts = stream::iter(0..PARTS).map(move |part| {
            self.read.fetch_add(1, Ordering::SeqCst);
            let numbers = (0..ROWS).map(|row| part * ROWS + row).map(|n| if oldest_first { n } else { PARTS * ROWS - 1 - n });
            let numbers: Vec<i64> = numbers.collect();
            let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(numbers.clone()).with_timezone("UTC"));
            Ok(RecordBatch::try_new(self.schema(), vec![at, Arc::new(Int64Array::from(numbers))]).unwrap())
        });
        parts.chain(last).boxed()
    }
}

fn table(parts: &Arc<Parts>) -> Arc<TableSnapshot> {
    let mut table = Arc::into_inner(snapshot("parts", parts.schema(), vec![column("at"), column("n")], Vec::new(), Vec::new())).unwrap();
    table.format = TableFormat::System;
    table.contents = TableContents::System(parts.clone());
    Arc::new(table)
}

async fn run(plan: LogicalPlan, table: &Arc<TableSnapshot>) -> Result<Vec<i64>, Error> {
    let engine = DataFusionEngine::new(Config { cores: 2, ..Config::default() }).unwrap();
    let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
    let query = planned(plan, String::new(), schema, &[table]).unwrap();
    let execution = Execution {
        query_id: QueryId::generate(),
        principal: Principal::new("someone"),
        token: None,
        deadline: None,
        traceparent: None,
        findings: Default::default(),
    };
    let mut stream = engine.execute(query, execution).await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch?);
    }
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let all = concat_batches(&first.schema(), &batches).unwrap();
    Ok(all.column(0).as_primitive::<Int64Type>().values().to_vec())
}

fn at(us: i64) -> Expr {
    Expr::Literal(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())), None)
}

/// `SELECT n FROM parts ORDER BY at LIMIT 5`, with a filter perhaps.
fn five(table: &Arc<TableSnapshot>, oldest_first: bool, filter: Option<Expr>) -> LogicalPlan {
    let plan = scan(0, table).unwrap();
    let plan = match filter {
        Some(filter) => plan.filter(filter).unwrap(),
        None => plan,
    };
    let sorted = plan.sort_with_limit(vec![col("s0.at").sort(oldest_first, oldest_first)], Some(5)).unwrap();
    sorted.project(vec![col("s0.n").alias("c0")]).unwrap().build().unwrap()
}

#[tokio::test]
async fn a_limit_in_the_tables_own_order_reads_no_further_than_it_needs() {
    for (oldest_first, expected) in [(false, [4_999, 4_998, 4_997, 4_996, 4_995]), (true, [0, 1, 2, 3, 4])] {
        let parts = Arc::new(Parts::default());
        let table = table(&parts);
        assert_eq!(run(five(&table, oldest_first, None), &table).await.unwrap(), expected);
        let read = parts.read.load(Ordering::SeqCst);
        assert!(read < 20, "{read} parts were read");
        assert_eq!(parts.asked.lock()[0].oldest_first, oldest_first);
    }
}

#[tokio::test]
async fn conditions_are_told_and_hold_all_the_same() {
    let parts = Arc::new(Parts::default());
    let table = table(&parts);
    // The table leaves nothing out by itself.
    let filter = col("s0.at").lt(at(1_003)).and(col("s0.n").gt(lit(1_000_i64)));
    assert_eq!(run(five(&table, false, Some(filter)), &table).await.unwrap(), [1_002, 1_001]);
    let asked = parts.asked.lock()[0].clone();
    let condition = SystemCondition { column: 0, comparison: Comparison::Less, value: SystemValue::Instant(1_003) };
    assert_eq!((asked.conditions, asked.columns), (vec![condition], vec![0, 1]));
}

#[tokio::test]
async fn all_of_it_is_counted_and_a_part_that_fails_fails_the_query() {
    let counted = |table: &Arc<TableSnapshot>| -> LogicalPlan {
        scan(0, table).unwrap().aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64)).alias("n")]).unwrap().build().unwrap()
    };
    let parts = Arc::new(Parts::default());
    let whole = table(&parts);
    assert_eq!(run(counted(&whole), &whole).await.unwrap(), [PARTS * ROWS]);
    assert!(parts.asked.lock()[0].columns.is_empty(), "no column is looked at");

    let broken = table(&Arc::new(Parts { fails: true, ..Parts::default() }));
    let error = run(counted(&broken), &broken).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the last part is gone"));
    // Another order needs all of them, too.
    let other = scan(0, &broken).unwrap().sort_with_limit(vec![col("s0.n").sort(true, true)], Some(5)).unwrap();
    let other: LogicalPlanBuilder = other.project(vec![col("s0.n").alias("c0")]).unwrap();
    assert_eq!(run(other.build().unwrap(), &broken).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
