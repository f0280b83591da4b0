//! The planner from outside: text in, planned statement out, over a catalog held in memory.

mod cardinality;
mod catalog;
mod commands;
mod golden;
mod passing;
mod planning;
mod pruning;
mod remote;

use std::sync::Arc;

use arrow::array::AsArray;
use datafusion::common::ScalarValue;
use flightpath_plan::{LocalResult, PlannedQuery, Statement};
use flightpath_planner::{Config, PlanRequest, Planned, Planner};
use flightpath_types::{Error, Principal, Session};

use catalog::FakeCatalog;

fn session() -> Session {
    Session::new(Principal::new("ada"))
}

fn planner(catalog: &Arc<FakeCatalog>) -> Planner {
    Planner::new(catalog.clone(), Config::default())
}

fn request(text: &str) -> PlanRequest {
    PlanRequest { text: text.into(), session: session(), params: None, token: None }
}

fn with_params(text: &str, params: Vec<ScalarValue>) -> PlanRequest {
    PlanRequest { params: Some(params), ..request(text) }
}

async fn plan(planner: &Planner, text: &str) -> Planned {
    planner.plan(&request(text)).await.unwrap_or_else(|e| panic!("{text}: {e}"))
}

async fn failure(planner: &Planner, text: &str) -> Error {
    match planner.plan(&request(text)).await {
        Ok(planned) => panic!("{text} was planned: {:?}", planned.statement),
        Err(error) => error,
    }
}

async fn query(planner: &Planner, text: &str) -> Arc<PlannedQuery> {
    match plan(planner, text).await.statement {
        Statement::Query(query) => query,
        other => panic!("{text} isn't a query: {other:?}"),
    }
}

async fn local(planner: &Planner, text: &str) -> LocalResult {
    match plan(planner, text).await.statement {
        Statement::Local(result) => result,
        other => panic!("{text} isn't answered by the planner: {other:?}"),
    }
}

/// The rows of a result of strings; other types show as what they are called.
fn rows(result: &LocalResult) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for batch in &result.batches {
        for i in 0..batch.num_rows() {
            let cell = |c: &arrow::array::ArrayRef| match c.as_string_opt::<i32>() {
                Some(_) if c.is_null(i) => "NULL".to_string(),
                Some(texts) => texts.value(i).to_string(),
                None => arrow::util::display::array_value_to_string(c, i).expect("a value"),
            };
            rows.push(batch.columns().iter().map(cell).collect());
        }
    }
    rows
}
