//! The warehouse as it's seen from here, without being woken.

use std::sync::atomic::Ordering;
use std::time::Duration;

use flightpath_databricks::Identity;
use flightpath_engine::Engine;
use flightpath_engine_databricks::{Config, DatabricksEngine, MonitorAccess, MonitorConfig, WarehousePhase};
use flightpath_types::{EngineState, Principal};
use serde_json::json;

use super::fake::{Fake, Plan, TOKEN};
use super::*;

#[tokio::test]
async fn the_warehouses_state_is_followed_and_never_changed() {
    let asleep = json!({"state": "STOPPED", "num_clusters": 0, "min_num_clusters": 1, "cluster_size": "2X-Small",
        "enable_serverless_compute": true, "warehouse_type": "PRO", "health": {"status": "HEALTHY"}});
    let fake = Fake::start(Plan { warehouse: asleep, ..Default::default() }).await;
    let often = Duration::from_millis(5);
    let config = Config { monitor: MonitorConfig { state_every: often, queue_every: often }, ..config() };
    let access = MonitorAccess { client: client(&fake), identity: Identity::new(Principal::new("monitor"), Some(TOKEN.into())) };
    let engine = DatabricksEngine::new(client(&fake), Some(access), config).unwrap();
    let phase = |wanted: WarehousePhase| {
        let engine = &engine;
        move || engine.warehouse().phase == wanted
    };

    eventually("asleep", phase(WarehousePhase::Asleep)).await;
    let facts = engine.facts();
    assert_eq!((facts.slots, facts.cores, facts.overhead_ms), (10, 8, 250.0));
    assert_eq!((facts.shape.as_str(), facts.pricing.wait_ms()), ("databricks:2X-Small:serverless", 4_000.0));
    assert!((facts.pricing.usd_per_hour() - 2.8).abs() < 1e-9);

    fake.plan.lock().warehouse["state"] = json!("STARTING");
    eventually("starting", phase(WarehousePhase::Starting)).await;
    {
        let mut plan = fake.plan.lock();
        plan.warehouse["state"] = json!("RUNNING");
        plan.warehouse["num_clusters"] = json!(2);
        plan.history = vec!["RUNNING", "QUEUED", "QUEUED", "FINISHED"];
    }
    eventually("queued", phase(WarehousePhase::Queued)).await;
    let seen = engine.warehouse();
    assert_eq!((seen.queued, seen.running, seen.clusters), (2, 1, 2));
    assert!(seen.start_ms.is_some(), "its start was timed");

    fake.plan.lock().history.clear();
    eventually("warm", phase(WarehousePhase::Warm)).await;
    fake.plan.lock().warehouse["state"] = json!("DELETED");
    eventually("gone", || matches!(engine.facts().state, EngineState::Down(_))).await;
    assert_eq!((fake.starts.load(Ordering::SeqCst), fake.executed()), (0, 0));
    engine.shutdown().await;
    assert_eq!(engine.facts().state, EngineState::Draining);
}
