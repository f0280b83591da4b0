//! The adapter against a fake warehouse on 127.0.0.1, made from the recorded facts of the wire: it
//! is not Databricks. It fails on demand, counts what it executes, and remembers what storage was
//! shown.

mod fake;
mod faults;
mod results;
mod watching;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::LogicalPlanBuilder;
use flightpath_databricks::{Auth, Client, ClientConfig};
use flightpath_engine::{BatchStream, Engine, Execution, conformance};
use flightpath_engine_databricks::{Config, DatabricksEngine};
use flightpath_plan::{DatabricksText, PlannedQuery};
use flightpath_types::{Error, Principal, QueryId, Result, SecretToken};
use futures::TryStreamExt;

use fake::{Fake, TOKEN};

/// `id, at, name`: what the client is promised.
fn promised() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

/// Rows as the warehouse has them: its timestamps bear its own zone.
fn rows(from: i64, count: i64) -> RecordBatch {
    let ids: Vec<i64> = (from..from + count).collect();
    let names: Vec<String> = ids.iter().map(|id| format!("name {id}")).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids.clone())) as ArrayRef, false),
        ("at", Arc::new(TimestampMicrosecondArray::from(ids).with_timezone("Etc/UTC")) as ArrayRef, true),
        ("name", Arc::new(StringArray::from(names)) as ArrayRef, true),
    ])
    .unwrap()
}

/// One batch a chunk, numbered on.
fn chunks(sizes: &[i64]) -> Vec<Vec<RecordBatch>> {
    let mut from = 0;
    let chunk = |size: &i64| {
        let chunk = vec![rows(from, *size)];
        from += size;
        chunk
    };
    sizes.iter().map(chunk).collect()
}

fn config() -> Config {
    Config {
        poll_min: Duration::from_millis(1),
        poll_max: Duration::from_millis(5),
        chunk_backoff_min: Duration::from_millis(1),
        chunk_backoff_max: Duration::from_millis(2),
        cancel_again: Duration::from_millis(10),
        wait: Duration::ZERO,
        ..Config::new("wh1")
    }
}

fn client(fake: &Fake) -> Arc<Client> {
    let config = ClientConfig {
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        ..ClientConfig::new(fake.url.clone(), Auth::PassThrough)
    };
    Arc::new(Client::new(config).unwrap())
}

fn engine(fake: &Fake) -> DatabricksEngine {
    DatabricksEngine::new(client(fake), None, config()).unwrap()
}

fn text(sql: &str, returns_rows: bool) -> DatabricksText {
    DatabricksText { sql: sql.into(), parameters: Vec::new(), returns_rows, catalog: Some("main".into()), schema: Some("sales".into()) }
}

fn planned(text: DatabricksText, schema: SchemaRef) -> Arc<PlannedQuery> {
    let plan = LogicalPlanBuilder::empty(false).build().unwrap();
    let query = conformance::planned(plan, text.sql.to_string(), schema, &[]).unwrap();
    let mut query = Arc::into_inner(query).unwrap();
    query.databricks = Ok(text);
    Arc::new(query)
}

fn query() -> Arc<PlannedQuery> {
    planned(text("SELECT * FROM t", true), promised())
}

fn write() -> Arc<PlannedQuery> {
    let schema = Schema::new(vec![Field::new("num_affected_rows", DataType::Int64, true)]);
    planned(text("DELETE FROM t", false), Arc::new(schema))
}

fn execution(deadline: Option<Duration>) -> Execution {
    Execution {
        query_id: QueryId::generate(),
        principal: Principal::new("ann"),
        token: Some(SecretToken::new(TOKEN)),
        deadline: deadline.map(|after| Instant::now() + after),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        findings: Default::default(),
    }
}

async fn execute(engine: &DatabricksEngine, query: Arc<PlannedQuery>) -> Result<BatchStream> {
    engine.execute(query, execution(None)).await
}

/// All of a query's ids, in the order they came.
async fn ids(engine: &DatabricksEngine) -> Result<Vec<i64>> {
    let batches: Vec<RecordBatch> = execute(engine, query()).await?.try_collect().await?;
    let column = |batch: &RecordBatch| batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
    Ok(batches.iter().flat_map(column).collect())
}

async fn failure(engine: &DatabricksEngine, query: Arc<PlannedQuery>) -> Error {
    let outcome = async { execute(engine, query).await?.try_collect::<Vec<_>>().await };
    outcome.await.expect_err("it must fail")
}

/// Waits for a condition with a deadline far beyond what it takes.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "{what} didn't come about");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
