//! What this engine does besides what every engine must do.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::error::Result as DfResult;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions_aggregate::count::count;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SortExpr, Subquery,
    TypeSignature, Volatility, col, lit, scalar_subquery,
};
use flightpath_catalog::{AccessRules, DataFile, SystemTable, TableContents, TableFormat, TableSnapshot};
use flightpath_engine::conformance::{column, planned, scan, snapshot, write_file};
use flightpath_engine::{Engine, Execution};
use flightpath_engine_datafusion::{Config, DataFusionEngine};
use flightpath_plan::PlannedQuery;
use flightpath_types::{Error, ErrorKind, Principal, QueryId, RefusalClass};
use futures::StreamExt;

fn engine() -> DataFusionEngine {
    DataFusionEngine::new(Config { cores: 2, ..Config::default() }).unwrap()
}

async fn run(engine: &DataFusionEngine, query: &Arc<PlannedQuery>) -> Result<RecordBatch, Error> {
    engine.eligible(query).map_err(|refusal| Error::not_eligible(refusal.reason))?;
    let execution = Execution {
        query_id: QueryId::generate(),
        principal: Principal::new("someone"),
        token: None,
        deadline: None,
        traceparent: None,
        findings: Default::default(),
    };
    let mut stream = engine.execute(query.clone(), execution).await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch?);
    }
    let schema = batches.first().map_or_else(|| query.schema.clone(), |batch| batch.schema());
    Ok(concat_batches(&schema, &batches).unwrap())
}

fn table(folder: &Path, name: &str, batch: &RecordBatch, row_group_rows: usize) -> Arc<TableSnapshot> {
    let file = write_file(folder.join(format!("{name}.parquet")), batch, row_group_rows).unwrap();
    let columns = batch.schema().fields().iter().map(|f| column(f.name())).collect();
    snapshot(name, batch.schema(), columns, Vec::new(), vec![file])
}

fn integers(folder: &Path) -> Arc<TableSnapshot> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    table(folder, "integers", &RecordBatch::try_from_iter_with_nullable(vec![("id", ids, true)]).unwrap(), 4)
}

fn query(plan: LogicalPlan, tables: &[&Arc<TableSnapshot>]) -> Arc<PlannedQuery> {
    let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
    planned(plan, String::new(), schema, tables).unwrap()
}

#[tokio::test]
async fn rows_with_nan_are_not_pruned_by_bounds_that_leave_nan_out() {
    let folder = tempfile::tempdir().unwrap();
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, 2.0, 3.0]));
    let table = table(folder.path(), "floats", &RecordBatch::try_from_iter(vec![("x", values)]).unwrap(), 2);
    let plan = scan(0, &table).unwrap().filter(col("s0.x").gt(lit(100.0))).unwrap().build().unwrap();

    let rows = run(&engine(), &query(plan, &[&table])).await.unwrap();

    assert_eq!(rows.num_rows(), 1);
    assert!(rows.column(0).as_primitive::<Float64Type>().value(0).is_nan());
}

#[tokio::test]
async fn there_is_one_nan_whatever_its_bits() {
    let folder = tempfile::tempdir().unwrap();
    let values: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 1.0, -f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001)]));
    let table = table(folder.path(), "nans", &RecordBatch::try_from_iter(vec![("x", values)]).unwrap(), 100);
    let groups = scan(0, &table).unwrap().aggregate(vec![col("s0.x")], vec![count(lit(1_i64)).alias("n")]).unwrap();
    let plan = groups.sort(vec![SortExpr::new(col("s0.x"), true, true)]).unwrap().project(vec![col("n")]).unwrap().build().unwrap();

    let rows = run(&engine(), &query(plan, &[&table])).await.unwrap();

    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 3]);
}

#[tokio::test]
async fn fields_of_a_struct_are_found_by_their_physical_names() {
    let folder = tempfile::tempdir().unwrap();
    let inner = Fields::from(vec![Field::new("p1", DataType::Int32, true), Field::new("p2", DataType::Utf8, true)]);
    let values: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(StringArray::from(vec!["one", "two"]))];
    let batch = RecordBatch::try_from_iter(vec![("col-s", Arc::new(StructArray::new(inner, values, None)) as ArrayRef)]).unwrap();
    let file = write_file(folder.path().join("nested.parquet"), &batch, 10).unwrap();
    let physical = |name: &str| HashMap::from([("delta.columnMapping.physicalName".to_string(), name.to_string())]);
    // The names have been swapped since, and the number widened.
    let logical = Fields::from(vec![
        Field::new("p2", DataType::Int64, true).with_metadata(physical("p1")),
        Field::new("p1", DataType::Utf8, true).with_metadata(physical("p2")),
    ]);
    let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::Struct(logical), true).with_metadata(physical("col-s"))]));
    let table = snapshot("nested", schema, vec![column("col-s")], Vec::new(), vec![file]);
    let number = || get_field(col("s0.s"), "p2");
    let plan = scan(0, &table).unwrap().filter(number().eq(lit(2_i64))).unwrap();
    let plan = plan.project(vec![number().alias("c0"), get_field(col("s0.s"), "p1").alias("c1")]).unwrap().build().unwrap();

    let rows = run(&engine(), &query(plan, &[&table])).await.unwrap();

    assert_eq!(rows.num_rows(), 1);
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 2);
    assert_eq!(rows.column(1).as_string::<i32>().value(0), "two");
}

#[tokio::test]
async fn a_column_found_by_id_in_a_file_without_ids_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let plain = integers(folder.path());
    let mut by_id = column("id");
    by_id.field_id = Some(1);
    let files: Vec<DataFile> = plain.files().iter().map(|file| file.as_ref().clone()).collect();
    let table = snapshot("by_id", plain.schema.clone(), vec![by_id], Vec::new(), files);
    let plan = scan(0, &table).unwrap().build().unwrap();

    let error = run(&engine(), &query(plan, &[&table])).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
}

#[tokio::test]
async fn a_sort_larger_than_its_memory_spills_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..200_000).map(|id| id * 7_919 % 200_003)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..200_000).map(|id| format!("{id:0100}"))));
    let table = table(folder.path(), "wide", &RecordBatch::try_from_iter(vec![("id", ids), ("text", texts)]).unwrap(), 50_000);
    let keys = vec![SortExpr::new(col("s0.id"), true, false)];
    let plan = scan(0, &table).unwrap().sort(keys).unwrap().build().unwrap();
    let config = Config { cores: 1, query_memory_bytes_max: 14 << 20, temp_dir: Some(folder.path().join("temp")), ..Config::default() };
    let engine = DataFusionEngine::new(config).unwrap();

    let rows = run(&engine, &query(plan, &[&table])).await.unwrap();

    let sorted = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(sorted.len(), 200_000);
    assert!(sorted.is_sorted());
    assert_eq!((engine.memory_bytes_used(), engine.temp_bytes_used()), (0, 0));
    // The same without room for temporary files: that it had spilled, and a typed error.
    let config = Config { cores: 1, query_memory_bytes_max: 14 << 20, temp_bytes_max: 1 << 10, ..Config::default() };
    let plan = scan(0, &table).unwrap().sort(vec![SortExpr::new(col("s0.id"), true, false)]).unwrap().build().unwrap();
    let error = run(&DataFusionEngine::new(config).unwrap(), &query(plan, &[&table])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
}

#[tokio::test]
async fn a_panic_ends_its_own_query_only() {
    let folder = tempfile::tempdir().unwrap();
    let table = integers(folder.path());
    let panics = ScalarUDF::new_from_impl(Panics { signature: Signature::new(TypeSignature::Any(1), Volatility::Volatile) });
    let plan = scan(0, &table).unwrap().project(vec![panics.call(vec![col("s0.id")]).alias("c0")]).unwrap().build().unwrap();
    let engine = engine();

    let error = run(&engine, &query(plan, &[&table])).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    let rows = run(&engine, &query(scan(0, &table).unwrap().build().unwrap(), &[&table])).await.unwrap();
    assert_eq!((rows.num_rows(), engine.facts().running), (10, 0));
}

#[tokio::test]
async fn a_scalar_subquery_of_several_rows_raises() {
    let folder = tempfile::tempdir().unwrap();
    let table = integers(folder.path());
    let with = |subquery: LogicalPlan| {
        let plan = scan(0, &table).unwrap().project(vec![scalar_subquery(Arc::new(subquery)).alias("c0")]).unwrap().build().unwrap();
        query(plan, &[&table, &table])
    };
    let engine = engine();

    let error = run(&engine, &with(scan(1, &table).unwrap().build().unwrap())).await.unwrap_err();
    assert_eq!((error.kind(), error.class(), error.sql_state()), (ErrorKind::Raised, Some("SCALAR_SUBQUERY_TOO_MANY_ROWS"), Some("21000")));

    let one = scan(1, &table).unwrap().filter(col("s1.id").eq(lit(3_i64))).unwrap().build().unwrap();
    let rows = run(&engine, &with(one)).await.unwrap();
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[3; 10]);
    let none = scan(1, &table).unwrap().filter(col("s1.id").eq(lit(33_i64))).unwrap().build().unwrap();
    assert_eq!(run(&engine, &with(none)).await.unwrap().column(0).null_count(), 10);
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let table = integers(folder.path());
    let engine = engine();
    let refusal = |query: &Arc<PlannedQuery>| engine.eligible(query).unwrap_err();

    let outer = Subquery {
        subquery: Arc::new(scan(1, &table).unwrap().build().unwrap()),
        outer_ref_columns: vec![col("s0.id")],
        spans: Default::default(),
    };
    let optimized = scan(0, &table).unwrap().project(vec![Expr::ScalarSubquery(outer).alias("c0")]).unwrap().build().unwrap();
    let mut correlated = Arc::into_inner(query(scan(0, &table).unwrap().build().unwrap(), &[&table, &table])).unwrap();
    correlated.optimized = optimized;
    assert_eq!(refusal(&Arc::new(correlated)).class, RefusalClass::Semantics);

    let mut governed = Arc::into_inner(snapshot("governed", table.schema.clone(), vec![column("id")], Vec::new(), Vec::new())).unwrap();
    governed.access = AccessRules::Governed("it has a row filter".into());
    let governed = Arc::new(governed);
    assert_eq!(refusal(&query(scan(0, &governed).unwrap().build().unwrap(), &[&governed])).class, RefusalClass::Governance);

    let mut remote = table.files()[0].as_ref().clone();
    remote.path = "s3://bucket/key.parquet".into();
    let remote = snapshot("remote", table.schema.clone(), vec![column("id")], Vec::new(), vec![remote]);
    assert_eq!(refusal(&query(scan(0, &remote).unwrap().build().unwrap(), &[&remote])).class, RefusalClass::TableFeature);
}

#[tokio::test]
async fn system_tables_are_read_as_their_principal_and_joined_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let integers = integers(folder.path());
    let mut system =
        Arc::into_inner(snapshot("whoami", Principals.schema(), vec![column("n"), column("principal")], Vec::new(), Vec::new())).unwrap();
    system.format = TableFormat::System;
    system.contents = TableContents::System(Arc::new(Principals));
    let system = Arc::new(system);
    let joined = scan(0, &integers).unwrap().cross_join(scan(1, &system).unwrap().build().unwrap()).unwrap();
    let joined = joined.filter(col("s0.id").eq(col("s1.n"))).unwrap();
    let plan = joined.project(vec![col("s1.principal").alias("c0")]).unwrap().build().unwrap();

    let rows = run(&engine(), &query(plan, &[&integers, &system])).await.unwrap();

    assert_eq!(rows.num_rows(), 1);
    assert_eq!(rows.column(0).as_string::<i32>().value(0), "someone");
}

#[tokio::test]
async fn a_table_without_files_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let table = integers(folder.path());
    let empty = snapshot("empty", table.schema.clone(), vec![column("id")], Vec::new(), Vec::new());
    let counted = scan(0, &empty).unwrap().aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64)).alias("n")]).unwrap().build().unwrap();

    let rows = run(&engine(), &query(counted, &[&empty])).await.unwrap();

    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 0);
    let nothing = run(&engine(), &query(LogicalPlanBuilder::empty(false).build().unwrap(), &[])).await.unwrap();
    assert_eq!(nothing.num_rows(), 0);
}

struct Principals;

#[async_trait]
impl SystemTable for Principals {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("principal", DataType::Utf8, true)]))
    }

    async fn read(&self, principal: &Principal) -> flightpath_types::Result<Vec<RecordBatch>> {
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![5])), Arc::new(StringArray::from(vec![principal.as_str()]))];
        Ok(vec![RecordBatch::try_new(self.schema(), columns).unwrap()])
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Panics {
    signature: Signature,
}

impl ScalarUDFImpl for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        panic!("on purpose")
    }
}
