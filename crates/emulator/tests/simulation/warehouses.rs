//! Warehouses and the query history.

use serde_json::{Value, json};

use crate::fixture::{Simulation, fast_warehouse};

async fn state(simulation: &Simulation) -> String {
    simulation.get_as("ann", "/api/2.0/sql/warehouses/w").await.1["state"].as_str().expect("a state").to_string()
}

async fn history(simulation: &Simulation, user: &str, query: &str) -> Vec<Value> {
    let (status, answer) = simulation.get_as(user, &format!("/api/2.0/sql/history/queries?{query}")).await;
    assert_eq!(status, 200, "{answer}");
    answer["res"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_statement_wakes_a_warehouse_and_looking_does_not() {
    let asleep = |c: &mut flightpath_emulator::Config| c.warehouses[0].running = false;
    let simulation = Simulation::start_with(asleep).await;
    for _ in 0..3 {
        assert_eq!(state(&simulation).await, "STOPPED");
    }
    simulation.rows("ann", "SELECT 1").await;
    assert_eq!(state(&simulation).await, "RUNNING");
    let (_, list) = simulation.get_as("ann", "/api/2.0/sql/warehouses").await;
    assert_eq!(
        (list["warehouses"][0]["num_clusters"].clone(), list["warehouses"][0]["cluster_size"].clone()),
        (json!(1), json!("2X-Small"))
    );
    simulation.post_as("ann", "/api/2.0/sql/warehouses/w/stop", json!({})).await;
    assert_eq!(state(&simulation).await, "STOPPED");
}

#[tokio::test]
async fn an_idle_warehouse_stops_by_itself() {
    let short = |c: &mut flightpath_emulator::Config| c.warehouses[0].auto_stop_mins = 0.0001;
    let simulation = Simulation::start_with(short).await;
    simulation.rows("ann", "SELECT 1").await;
    simulation.until(|| async { (state(&simulation).await == "STOPPED").then_some(()) }).await;
}

#[tokio::test]
async fn what_has_no_place_queues_and_the_history_counts_it() {
    let narrow = |c: &mut flightpath_emulator::Config| {
        c.settings.history_calls_per_second = 0;
        c.warehouses = vec![flightpath_emulator::WarehouseConfig { concurrency_per_cluster: 1, ..fast_warehouse() }];
    };
    let simulation = Simulation::start_with(narrow).await;
    simulation.simulate("faults", json!({"never_finish": true, "statement_contains": "first"})).await;
    let first = simulation.execute("ann", "SELECT 'first'", json!({"wait_timeout": "0s"})).await;
    simulation.until(|| async { (history(&simulation, "ann", "filter_by.statuses=RUNNING").await.len() == 1).then_some(()) }).await;
    let second = simulation.execute("ann", "SELECT 'second'", json!({"wait_timeout": "0s"})).await;
    assert_eq!(second["status"]["state"], "PENDING");
    let queued = history(&simulation, "ann", "filter_by.statuses=QUEUED&filter_by.warehouse_ids=w").await;
    assert_eq!((queued.len(), queued[0]["query_id"].clone()), (1, second["statement_id"].clone()));
    assert!(history(&simulation, "bob", "").await.is_empty());
    assert_eq!(history(&simulation, "admin", "").await.len(), 2);

    let id = first["statement_id"].as_str().expect("an id");
    simulation.post_as("ann", &format!("/api/2.0/sql/statements/{id}/cancel"), json!({})).await;
    let second = simulation.end("ann", second["statement_id"].as_str().expect("an id")).await;
    assert_eq!(second["status"]["state"], "SUCCEEDED");
    let finished = history(&simulation, "ann", "filter_by.statuses=FINISHED&include_metrics=true").await;
    assert!(finished[0]["metrics"]["overloading_queue_start_timestamp"].is_number(), "{finished:?}");
}

#[tokio::test]
async fn the_history_pages_and_limits_its_calls() {
    let simulation = Simulation::start().await;
    for i in 0..3 {
        simulation.execute("ann", &format!("SELECT {i}"), json!({"query_tags": [{"key": "k", "value": "v"}]})).await;
    }
    let (_, page) = simulation.get_as("ann", "/api/2.0/sql/history/queries?max_results=2").await;
    assert_eq!((page["res"].as_array().expect("a list").len(), page["has_next_page"].clone()), (2, json!(true)));
    assert_eq!(page["res"][0]["query_tags"], json!([{"key": "k", "value": "v"}]));
    let token = page["next_page_token"].as_str().expect("a token");
    let rest = history(&simulation, "ann", &format!("max_results=2&page_token={token}")).await;
    assert_eq!((rest.len(), rest[0]["query_text"].clone()), (1, json!("SELECT 0")));
    simulation.simulate("settings", json!({"history_calls_per_second": 1})).await;
    simulation.until(|| async { (simulation.get_as("ann", "/api/2.0/sql/history/queries").await.0 == 429).then_some(()) }).await;
}
