//! Results as they should be: whole, in order, within memory, in the promised types.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use flightpath_databricks::Identity;
use flightpath_engine::Engine;
use flightpath_engine_databricks::{Config, DatabricksEngine};
use flightpath_types::{Principal, RefusalClass};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use super::fake::{Fake, Plan, TOKEN};
use super::*;

#[tokio::test]
async fn chunks_come_whole_and_in_order_by_links() {
    let plan = Plan { chunks: chunks(&[3, 1, 4, 1, 5, 9]), polls: 3, links_per_answer: 2, ..Default::default() };
    let fake = Fake::start(plan).await;
    let engine = engine(&fake);
    assert_eq!(ids(&engine).await.unwrap(), (0..23).collect::<Vec<_>>());
    assert_eq!(fake.executed(), 1);
    assert_eq!(fake.link_answers.load(Ordering::SeqCst), 2, "each answer brings two links");
    for headers in fake.storage_headers.lock().iter() {
        assert!(!headers.contains_key("authorization") && !headers.contains_key("cookie"));
    }
    let asked = fake.bodies.lock()[0].clone();
    assert_eq!((&asked["statement"], &asked["warehouse_id"]), (&json!("SELECT * FROM t"), &json!("wh1")));
    assert_eq!((&asked["catalog"], &asked["schema"]), (&json!("main"), &json!("sales")));
    assert_eq!((&asked["format"], &asked["on_wait_timeout"]), (&json!("ARROW_STREAM"), &json!("CONTINUE")));
    assert_eq!(asked["query_tags"][0]["key"], "flightpath_query_id");
    assert_eq!(asked["query_tags"][1], json!({"key": "flightpath_trace_id", "value": "0af7651916cd43dd8448eb211c80319c"}));
}

#[tokio::test]
async fn a_small_result_comes_within_the_answer() {
    let fake = Fake::start(Plan { chunks: chunks(&[7]), polls: 0, inline: true, ..Default::default() }).await;
    assert_eq!(ids(&engine(&fake)).await.unwrap(), (0..7).collect::<Vec<_>>());
    assert!(fake.fetched.lock().is_empty() && fake.polls.load(Ordering::SeqCst) == 0, "one call for everything");
}

#[tokio::test]
async fn what_is_refused_of_a_form_is_not_asked_for_again() {
    let fake = Fake::start(Plan { refuse_inline: true, refuse_compression: true, ..Default::default() }).await;
    let engine = engine(&fake);
    assert_eq!(ids(&engine).await.unwrap().len(), 5);
    assert_eq!((fake.bodies.lock().len(), fake.executed()), (3, 1));
    assert_eq!(ids(&engine).await.unwrap().len(), 5);
    assert_eq!((fake.bodies.lock().len(), fake.executed()), (4, 2));
}

#[tokio::test]
async fn types_are_the_promised_ones() {
    let fake = Fake::start(Plan::default()).await;
    let batches: Vec<RecordBatch> = execute(&engine(&fake), query()).await.unwrap().try_collect().await.unwrap();
    let types = |schema: &arrow::datatypes::Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    assert_eq!(types(&batches[0].schema()), types(&promised()));
}

#[tokio::test]
async fn empty_results_and_definitions_are_no_error() {
    let fake = Fake::start(Plan { chunks: Vec::new(), ..Default::default() }).await;
    let engine = engine(&fake);
    assert!(ids(&engine).await.unwrap().is_empty());
    let batches: Vec<RecordBatch> = execute(&engine, write()).await.unwrap().try_collect().await.unwrap();
    assert!(batches.is_empty());
}

#[tokio::test]
async fn a_write_answers_with_its_count_even_when_it_is_closed_already() {
    let counts: [(&str, arrow::array::ArrayRef); 2] =
        [("num_inserted_rows", Arc::new(Int64Array::from(vec![1]))), ("num_affected_rows", Arc::new(Int64Array::from(vec![42])))];
    let chunk = vec![RecordBatch::try_from_iter(counts).unwrap()];
    let fake = Fake::start(Plan { chunks: vec![chunk], ..Default::default() }).await;
    let engine = engine(&fake);
    let batches: Vec<RecordBatch> = execute(&engine, write()).await.unwrap().try_collect().await.unwrap();
    assert_eq!((batches[0].num_columns(), batches[0].column(0).as_primitive::<Int64Type>().value(0)), (1, 42));
    {
        let mut plan = fake.plan.lock();
        (plan.state, plan.no_result) = ("CLOSED", true);
    }
    let batches: Vec<RecordBatch> = execute(&engine, write()).await.unwrap().try_collect().await.unwrap();
    assert!(batches.is_empty());
    let failed = failure(&engine, query()).await;
    assert_eq!(failed.kind(), flightpath_types::ErrorKind::Unavailable, "a query without its rows isn't empty");
}

#[tokio::test]
async fn a_closed_statement_whose_result_is_at_hand_is_a_success() {
    let fake = Fake::start(Plan { state: "CLOSED", links_per_answer: 9, ..Default::default() }).await;
    assert_eq!(ids(&engine(&fake)).await.unwrap().len(), 5);
}

#[tokio::test]
async fn fetching_ahead_stays_within_memory() {
    let fake = Fake::start(Plan { chunks: chunks(&[1_000; 20]), links_per_answer: 30, ..Default::default() }).await;
    // Two and a half chunks of some 32 kB, each held twice for being compressed.
    let config = Config { query_memory_bytes_max: 160 << 10, ..config() };
    let engine = DatabricksEngine::new(client(&fake), None, config).unwrap();
    let mut stream = execute(&engine, query()).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.num_rows(), 1_000);
    let ahead = || fake.fetched.lock().iter().max().copied().unwrap_or(0);
    assert!(ahead() <= 2, "chunk {} was fetched with the first in hand", ahead());
    let rest: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    assert_eq!(rest.iter().map(RecordBatch::num_rows).sum::<usize>(), 19_000);
}

#[tokio::test]
async fn parameters_travel_by_name() {
    let fake = Fake::start(Plan::default()).await;
    let mut statement = text("SELECT * FROM t WHERE id < :flightpath_1 AND name = :flightpath_2", true);
    statement.parameters = vec![ScalarValue::Decimal128(Some(150), 5, 1), ScalarValue::Utf8(None)];
    let stream = execute(&engine(&fake), planned(statement, promised())).await.unwrap();
    stream.try_collect::<Vec<_>>().await.unwrap();
    let expected = json!([
        {"name": "flightpath_1", "value": "15.0", "type": "DECIMAL(5,1)"},
        {"name": "flightpath_2", "type": "STRING"},
    ]);
    assert_eq!(fake.bodies.lock()[0]["parameters"], expected);
}

#[tokio::test]
async fn what_the_wire_or_the_warehouse_cannot_do_is_refused() {
    let fake = Fake::start(Plan::default()).await;
    let engine = engine(&fake);
    assert!(engine.eligible(&query()).is_ok());
    let mut elsewhere = Arc::into_inner(query()).unwrap();
    elsewhere.session.time_zone = "Europe/Berlin".into();
    assert_eq!(engine.eligible(&elsewhere).unwrap_err().class, RefusalClass::Semantics);
    let mut interval = text("SELECT :flightpath_1", true);
    interval.parameters = vec![ScalarValue::IntervalYearMonth(Some(1))];
    assert_eq!(engine.eligible(&planned(interval, promised())).unwrap_err().class, RefusalClass::Semantics);
}

#[tokio::test]
async fn a_query_is_described_without_being_run() {
    let described: [(&str, arrow::array::ArrayRef); 3] = [
        ("col_name", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("data_type", Arc::new(StringArray::from(vec!["decimal(10,2)", "array<struct<x:int>>"]))),
        ("comment", Arc::new(StringArray::from(vec![None::<&str>, None]))),
    ];
    let chunk = vec![RecordBatch::try_from_iter(described).unwrap()];
    let fake = Fake::start(Plan { chunks: vec![chunk], inline: true, ..Default::default() }).await;
    let who = Identity::new(Principal::new("ann"), Some(TOKEN.into()));
    let schema = engine(&fake).describe(&text("SELECT a, b FROM t;", true), who, None, Arc::default()).await.unwrap();
    assert_eq!(schema.field(0).data_type(), &DataType::Decimal128(10, 2));
    assert!(matches!(schema.field(1).data_type(), DataType::List(item) if item.name() == "element"));
    assert_eq!(fake.bodies.lock()[0]["statement"], "DESCRIBE QUERY\nSELECT a, b FROM t");
}
