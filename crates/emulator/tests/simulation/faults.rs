//! Failures on demand, and the counters that tell what was really done.

use serde_json::json;

use crate::fixture::{NUMBERS, Simulation};

#[tokio::test]
async fn a_refused_call_runs_nothing_and_one_whose_answer_is_lost_does() {
    let simulation = Simulation::start().await;
    let body = json!({"statement": "SELECT 1", "warehouse_id": "w", "query_tags": [{"key": "id", "value": "7"}]});
    simulation.simulate("faults", json!({"match": "execute", "status": 503, "retry_after": "2"})).await;
    let request = simulation.http.post(format!("{}/api/2.0/sql/statements", simulation.url)).bearer_auth("token-ann").json(&body);
    let refused = request.send().await.expect("answers");
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].clone()), (503, "2".parse().expect("a value")));
    assert_eq!(simulation.counters().await["executions"], 0);
    simulation.simulate("faults", json!({"match": "execute", "status": 500, "after_execution": true})).await;
    assert_eq!(simulation.post_as("ann", "/api/2.0/sql/statements", body.clone()).await.0, 500);
    assert_eq!(simulation.post_as("ann", "/api/2.0/sql/statements", body).await.0, 200);
    let counters = simulation.counters().await;
    assert_eq!((counters["executions_by_tag"]["id=7"].clone(), counters["executions_by_text"]["SELECT 1"].clone()), (json!(2), json!(2)));
    assert_eq!(counters["calls"]["execute"], 3);
}

#[tokio::test]
async fn downloads_break_shrink_and_expire_on_demand() {
    let simulation = Simulation::start().await;
    let wanted = json!({"disposition": "EXTERNAL_LINKS", "format": "ARROW_STREAM"});
    let query = "SELECT n FROM numbers";
    let answer = simulation.execute("ann", query, wanted.clone()).await;
    let link = &answer["result"]["external_links"][0];
    let whole = simulation.download(link).await.expect("downloads").len();
    simulation.simulate("faults", json!({"match": "storage", "drop_connection_mid_body": true})).await;
    assert!(simulation.download(link).await.is_err());
    simulation.simulate("faults", json!({"match": "storage", "truncate_body": true})).await;
    assert_eq!(simulation.download(link).await.expect("looks whole").len(), whole / 2);
    simulation.simulate("faults", json!({"expire_links": true})).await;
    let answer = simulation.execute("ann", query, wanted).await;
    let id = answer["statement_id"].as_str().expect("an id");
    assert_eq!(simulation.download(&answer["result"]["external_links"][0]).await.expect_err("expired").status().expect("a status"), 403);
    let (_, again) = simulation.get_as("ann", &format!("/api/2.0/sql/statements/{id}/result/chunks/0")).await;
    simulation.download(&again["external_links"][0]).await.expect("a new link works");
}

#[tokio::test]
async fn statements_lie_and_cancels_get_lost_on_demand() {
    let simulation = Simulation::start().await;
    simulation.simulate("faults", json!({"wrong_row_count": true})).await;
    let answer = simulation.execute("ann", "SELECT n FROM numbers", json!({"disposition": "EXTERNAL_LINKS"})).await;
    assert_eq!(answer["manifest"]["total_row_count"], NUMBERS + 1);
    simulation.simulate("faults", json!({"never_finish": true})).await;
    simulation.simulate("faults", json!({"lose_cancel": true})).await;
    let answer = simulation.execute("ann", "SELECT 1", json!({"wait_timeout": "0s"})).await;
    let path = format!("/api/2.0/sql/statements/{}", answer["statement_id"].as_str().expect("an id"));
    simulation.until(|| async { (simulation.get_as("ann", &path).await.1["status"]["state"] == "RUNNING").then_some(()) }).await;
    assert_eq!(simulation.post_as("ann", &format!("{path}/cancel"), json!({})).await.0, 200);
    assert_eq!(simulation.get_as("ann", &path).await.1["status"]["state"], "RUNNING");
    simulation.post_as("ann", &format!("{path}/cancel"), json!({})).await;
    simulation.until(|| async { (simulation.get_as("ann", &path).await.1["status"]["state"] == "CANCELED").then_some(()) }).await;
    assert_eq!(simulation.counters().await["cancels"], 2);
}

#[tokio::test]
async fn a_result_may_close_behind_its_last_chunk() {
    let simulation = Simulation::start_with(|c| c.settings.close_after_last_chunk = true).await;
    let answer = simulation.execute("ann", "SELECT 1", json!({"disposition": "EXTERNAL_LINKS"})).await;
    let path = format!("/api/2.0/sql/statements/{}", answer["statement_id"].as_str().expect("an id"));
    let (_, chunk) = simulation.get_as("ann", &format!("{path}/result/chunks/0")).await;
    assert_eq!(simulation.get_as("ann", &path).await.1["status"]["state"], "CLOSED");
    simulation.download(&chunk["external_links"][0]).await.expect("the link still works");
}
