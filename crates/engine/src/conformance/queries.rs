//! The suite's queries, each as a typed plan and as the DuckDB SQL that means the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::functions_aggregate::count::count;
use datafusion::logical_expr::{
    ColumnarValue, Expr, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, SortExpr, TypeSignature, Volatility, binary_expr, col, lit,
};
use datafusion::optimizer::{Optimizer, OptimizerContext};
use flightpath_catalog::TableSnapshot;
use flightpath_plan::{BoundTable, CompiledSql, PlannedQuery, ScanBinding, ScanId, SnapshotSource};
use flightpath_types::{Error, Features, Fingerprint, Principal, RAISED_PREFIX, Refusal, RefusalClass, Session};

use super::fixture::{Fixture, Outcome};

impl Fixture {
    /// Every column of `table`, all rows.
    pub(super) fn whole(table: &Arc<TableSnapshot>) -> Outcome<Arc<PlannedQuery>> {
        let columns: Vec<String> =
            table.schema.fields().iter().enumerate().map(|(i, f)| format!("s0.\"{}\" AS c{i}", f.name().replace('"', "\"\""))).collect();
        let plan =
            numbered(scan(0, table)?, table.schema.fields().iter().map(|f| Expr::Column(Column::new(Some("s0"), f.name()))))?.build()?;
        planned(plan, format!("SELECT {} FROM s0", columns.join(", ")), table.schema.clone(), &[table])
    }

    /// Queries that cost next to nothing, by name: for measuring what an engine adds to each.
    pub fn small(&self) -> Outcome<Vec<(&'static str, Arc<PlannedQuery>)>> {
        let one = numbered(LogicalPlanBuilder::empty(true), [lit(1_i64)])?.build()?;
        let point =
            numbered(scan(0, &self.numbers)?.filter(col("s0.id").eq(lit(77_777_i64)))?, [col("s0.id"), col("s0.divisor")])?.build()?;
        let point_schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("divisor", DataType::Int64, false)]);
        let point_sql = "SELECT s0.id AS c0, s0.divisor AS c1 FROM s0 WHERE s0.id = 77777";
        Ok(vec![
            ("SELECT 1", planned(one, "SELECT 1::BIGINT AS c0".into(), bigint_schema("1"), &[])?),
            ("one row of four files", planned(point, point_sql.into(), Arc::new(point_schema), &[&self.numbers])?),
            ("17 rows, partitions, deleted rows", Self::whole(&self.evolved)?),
        ])
    }

    /// `id` of the rows that no row is.
    pub(super) fn nothing(&self) -> Outcome<Arc<PlannedQuery>> {
        let plan = numbered(scan(0, &self.numbers)?.filter(col("s0.id").lt(lit(0_i64)))?, [col("s0.id")])?.build()?;
        planned(plan, "SELECT s0.id AS c0 FROM s0 WHERE s0.id < 0".into(), bigint_schema("id"), &[&self.numbers])
    }

    /// The product of `numbers` with itself: far more than any limit of the suite.
    pub(super) fn huge(&self) -> Outcome<Arc<PlannedQuery>> {
        let plan = numbered(self.product()?, [col("s0.id"), col("s1.payload")])?.build()?;
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("payload", DataType::Utf8, false)]);
        let sql = "SELECT s0.id AS c0, s1.payload AS c1 FROM s0 CROSS JOIN s1";
        planned(plan, sql.into(), Arc::new(schema), &[&self.numbers, &self.numbers])
    }

    /// How many rows `evolved` has in each partition: a query that reads no column of its files.
    pub(super) fn partition_counts(&self) -> Outcome<Arc<PlannedQuery>> {
        let counted = scan(0, &self.evolved)?.aggregate(vec![col("s0.part")], vec![count(lit(1_i64)).alias("n")])?;
        let plan = numbered(counted, [col("s0.part"), col("n")])?.build()?;
        let schema = Schema::new(vec![Field::new("part", DataType::Utf8, true), Field::new("n", DataType::Int64, false)]);
        planned(plan, "SELECT s0.part AS c0, count(*) AS c1 FROM s0 GROUP BY s0.part".into(), Arc::new(schema), &[&self.evolved])
    }

    /// `id` of the `limit` highest rows of `evolved` below `below`.
    pub(super) fn top(&self, below: i64, limit: usize) -> Outcome<Arc<PlannedQuery>> {
        let filtered = scan(0, &self.evolved)?.filter(col("s0.id").lt(lit(below)))?;
        let keys = vec![SortExpr::new(col("c0"), false, true)];
        let plan = numbered(filtered, [col("s0.id")])?.sort_with_limit(keys, Some(limit))?.limit(0, Some(limit))?.build()?;
        let sql = format!("SELECT s0.id AS c0 FROM s0 WHERE s0.id < {below} ORDER BY c0 DESC NULLS FIRST LIMIT {limit}");
        planned(plan, sql, bigint_schema("id"), &[&self.evolved])
    }

    /// `id` of any `limit` rows of `evolved`.
    pub(super) fn some(&self, limit: usize) -> Outcome<Arc<PlannedQuery>> {
        let plan = numbered(scan(0, &self.evolved)?, [col("s0.id")])?.limit(0, Some(limit))?.build()?;
        planned(plan, format!("SELECT s0.id AS c0 FROM s0 LIMIT {limit}"), bigint_schema("id"), &[&self.evolved])
    }

    /// The same sorted: needs more memory and temporary space than any limit of the suite.
    pub(super) fn sorted(&self) -> Outcome<Arc<PlannedQuery>> {
        let keys = vec![SortExpr::new(col("c1"), false, true), SortExpr::new(col("c0"), false, true)];
        let plan = numbered(self.product()?, [col("s0.id"), col("s1.payload")])?.sort(keys)?.build()?;
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("payload", DataType::Utf8, false)]);
        let sql = "SELECT s0.id AS c0, s1.payload AS c1 FROM s0 CROSS JOIN s1 ORDER BY c1 DESC NULLS FIRST, c0 DESC NULLS FIRST";
        planned(plan, sql.into(), Arc::new(schema), &[&self.numbers, &self.numbers])
    }

    /// Minutes of work for one row.
    pub(super) fn endless(&self) -> Outcome<Arc<PlannedQuery>> {
        let product = binary_expr(col("s0.id"), Operator::Multiply, col("s1.id"));
        let odd = binary_expr(product, Operator::Modulo, lit(7_i64)).eq(lit(3_i64));
        let counted = self.product()?.filter(odd)?.aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64)).alias("n")])?;
        let plan = numbered(counted, [col("n")])?.build()?;
        let sql = "SELECT count(*) AS c0 FROM s0 CROSS JOIN s1 WHERE s0.id * s1.id % 7 = 3";
        planned(plan, sql.into(), bigint_schema("n"), &[&self.numbers, &self.numbers])
    }

    /// Minutes of work for no row at all: no pair ever matches the join's condition.
    pub(super) fn barren(&self) -> Outcome<Arc<PlannedQuery>> {
        let product = binary_expr(col("s0.id"), Operator::Multiply, col("s1.id"));
        let never = binary_expr(product, Operator::Modulo, lit(7_i64)).eq(lit(99_i64));
        let joined = scan(0, &self.numbers)?.join_on(scan(1, &self.numbers)?.build()?, JoinType::Inner, [never])?;
        let plan = numbered(joined, [col("s0.id")])?.build()?;
        let sql = "SELECT s0.id AS c0 FROM s0 JOIN s1 ON s0.id * s1.id % 7 = 99";
        planned(plan, sql.into(), bigint_schema("id"), &[&self.numbers, &self.numbers])
    }

    /// `id` divided by `divisor`, which raises where that is 0.
    pub(super) fn quotients(&self, table: &Arc<TableSnapshot>) -> Outcome<Arc<PlannedQuery>> {
        let quotient = ScalarUDF::new_from_impl(Quotient::new()).call(vec![col("s0.id"), col("s0.divisor")]);
        let plan = numbered(scan(0, table)?, [quotient])?.build()?;
        let error = format!("error('{RAISED_PREFIX}DIVIDE_BY_ZERO|22012|Division by zero.')");
        let sql = format!("SELECT CASE WHEN s0.divisor = 0 THEN {error} ELSE s0.id // s0.divisor END AS c0 FROM s0");
        planned(plan, sql, bigint_schema("quotient"), &[table])
    }

    /// Quotients of `numbers` behind a condition that keeps them from raising: AND, or OR.
    pub(super) fn guarded(&self, and: bool) -> Outcome<Arc<PlannedQuery>> {
        let quotient = ScalarUDF::new_from_impl(Quotient::new()).call(vec![col("s0.id"), col("s0.divisor")]);
        let (condition, sql) = if and {
            (col("s0.divisor").not_eq(lit(0_i64)).and(quotient.gt_eq(lit(0_i64))), "s0.divisor <> 0 AND")
        } else {
            (col("s0.divisor").eq(lit(0_i64)).or(quotient.gt_eq(lit(0_i64))), "s0.divisor = 0 OR")
        };
        let plan = numbered(scan(0, &self.numbers)?.filter(condition)?, [col("s0.id")])?.build()?;
        let error = format!("error('{RAISED_PREFIX}DIVIDE_BY_ZERO|22012|Division by zero.')");
        let quotient = format!("CASE WHEN s0.divisor = 0 THEN {error} ELSE s0.id // s0.divisor END");
        planned(plan, format!("SELECT s0.id AS c0 FROM s0 WHERE {sql} {quotient} >= 0"), bigint_schema("id"), &[&self.numbers])
    }

    fn product(&self) -> Outcome<LogicalPlanBuilder> {
        Ok(scan(0, &self.numbers)?.cross_join(scan(1, &self.numbers)?.build()?)?)
    }
}

/// A scan as the binder makes it: relation `s<id>` with the table's columns.
pub fn scan(id: u32, table: &Arc<TableSnapshot>) -> Outcome<LogicalPlanBuilder> {
    let source = SnapshotSource { scan: ScanId(id), snapshot: table.clone() };
    Ok(LogicalPlanBuilder::scan(format!("s{id}"), Arc::new(source), None)?)
}

/// A projection to `c0`, `c1`...
fn numbered(input: LogicalPlanBuilder, columns: impl IntoIterator<Item = Expr>) -> Outcome<LogicalPlanBuilder> {
    let columns: Vec<Expr> = columns.into_iter().enumerate().map(|(index, column)| column.alias(format!("c{index}"))).collect();
    Ok(input.project(columns)?)
}

fn bigint_schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, true)]))
}

/// A query over all files of `tables`, the n-th of which is scan n; `sql` is what DuckDB gets.
pub fn planned(plan: LogicalPlan, sql: String, schema: SchemaRef, tables: &[&Arc<TableSnapshot>]) -> Outcome<Arc<PlannedQuery>> {
    let optimized = Optimizer::new().optimize(plan.clone(), &OptimizerContext::new(), |_, _| {})?;
    let scans: BTreeMap<ScanId, ScanBinding> = tables
        .iter()
        .enumerate()
        .map(|(id, table)| {
            let binding = ScanBinding {
                snapshot: Arc::clone(table),
                files: Arc::new(table.files().to_vec()),
                columns: (0..table.schema.fields().len()).collect(),
            };
            (ScanId(id as u32), binding)
        })
        .collect();
    Ok(Arc::new(PlannedQuery {
        text: sql.as_str().into(),
        fingerprint: Fingerprint::of(&sql),
        session: Session::new(Principal::new("conformance")),
        plan,
        optimized,
        schema,
        tables: tables.iter().map(|table| BoundTable { snapshot: Arc::clone(table) }).collect(),
        duckdb: Ok(CompiledSql { sql, scans: scans.keys().copied().collect() }),
        scans,
        features: Features::default(),
        databricks: Err(Refusal::new(RefusalClass::Policy, "no warehouse")),
        datafusion: Ok(()),
        ordered: false,
        deterministic: true,
        comparable: true,
    }))
}

/// Division that raises as Databricks' does, standing in for the functions of real plans.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quotient {
    signature: Signature,
}

impl Quotient {
    fn new() -> Self {
        Self { signature: Signature::new(TypeSignature::Any(2), Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Quotient {
    fn name(&self) -> &str {
        "conformance_quotient"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Int64)
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Int64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (dividends, divisors) = (arrays[0].as_primitive::<Int64Type>(), arrays[1].as_primitive::<Int64Type>());
        let quotients: Result<Vec<Option<i64>>, Error> = dividends
            .iter()
            .zip(divisors.iter())
            .map(|pair| match pair {
                (Some(_), Some(0)) => Err(Error::raised("DIVIDE_BY_ZERO", "22012", "Division by zero.")),
                (Some(dividend), Some(divisor)) => Ok(Some(dividend.wrapping_div(divisor))),
                _ => Ok(None),
            })
            .collect();
        let quotients = quotients.map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from(quotients)) as ArrayRef))
    }
}
