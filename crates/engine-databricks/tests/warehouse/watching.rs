//! The warehouse as it's seen from here, without being woken.

use std::sync::atomic::Ordering;
use std::time::Duration;

use flightpath_databricks::Identity;
use flightpath_engine::Engine;
use flightpath_engine_databricks::{Config, DatabricksEngine, MonitorAccess, MonitorConfig, WarehousePhase};
use flightpath_types::{ComputePrice, EngineState, Principal, WarehouseActivity};
use futures::FutureExt;
use serde_json::json;

use super::fake::{Fake, Plan, TOKEN};
use super::*;

fn access(fake: &Fake) -> MonitorAccess {
    MonitorAccess { client: client(fake), identity: Identity::new(Principal::new("monitor"), Some(TOKEN.into())) }
}

fn activity(engine: &DatabricksEngine) -> WarehouseActivity {
    match engine.facts().pricing.compute {
        ComputePrice::Warehouse { activity, .. } => activity,
        ComputePrice::Hourly { .. } => panic!("a warehouse isn't paid like a machine"),
    }
}

#[tokio::test]
async fn the_warehouses_state_is_followed_and_never_changed() {
    let asleep = json!({"state": "STOPPED", "num_clusters": 0, "min_num_clusters": 1, "cluster_size": "2X-Small",
        "enable_serverless_compute": true, "warehouse_type": "PRO", "health": {"status": "HEALTHY"}});
    let fake = Fake::start(Plan { warehouse: asleep, ..Default::default() }).await;
    let often = Duration::from_millis(5);
    let config = Config { monitor: MonitorConfig { state_every: often, queue_every: often }, ..config() };
    let engine = DatabricksEngine::new(client(&fake), Some(access(&fake)), config).unwrap();
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
        plan.warehouse["max_num_clusters"] = json!(4);
        plan.history = vec!["RUNNING", "QUEUED", "QUEUED", "FINISHED"];
    }
    eventually("queued", phase(WarehousePhase::Queued)).await;
    let seen = engine.warehouse();
    assert_eq!((seen.queued, seen.running, seen.clusters), (2, 1, 2));
    assert!(seen.start_ms.is_some(), "its start was timed");
    let facts = engine.facts();
    assert_eq!((facts.slots, facts.cores_total), (30, 16), "one cluster more than runs is filled");
    assert_eq!(activity(&engine), WarehouseActivity::Queued { wait_ms: 200.0 });

    fake.plan.lock().history.clear();
    eventually("warm", phase(WarehousePhase::Warm)).await;
    fake.plan.lock().warehouse["state"] = json!("DELETED");
    eventually("gone", || matches!(engine.facts().state, EngineState::Down(_))).await;
    assert_eq!((fake.starts.load(Ordering::SeqCst), fake.executed()), (0, 0));
    engine.shutdown().await;
    assert_eq!(engine.facts().state, EngineState::Draining);
}

#[tokio::test]
async fn a_warehouse_that_a_query_wakes_is_known_to_be_up_before_anybody_looks_again() {
    let asleep = json!({"state": "STOPPED", "cluster_size": "2X-Small", "enable_serverless_compute": true});
    let fake = Fake::start(Plan { warehouse: asleep, never_ends: true, ..Default::default() }).await;
    let seldom = Duration::from_secs(3_600);
    let config = Config { monitor: MonitorConfig { state_every: seldom, queue_every: seldom }, ..config() };
    let engine = DatabricksEngine::new(client(&fake), Some(access(&fake)), config).unwrap();
    eventually("asleep", || engine.warehouse().phase == WarehousePhase::Asleep).await;
    assert_eq!(activity(&engine), WarehouseActivity::Asleep);

    let mut waking = Box::pin(execute(&engine, query()));
    while fake.polls.load(Ordering::SeqCst) == 0 {
        assert!(waking.as_mut().now_or_never().is_none());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(activity(&engine), WarehouseActivity::Starting { .. }));
    fake.plan.lock().never_ends = false;
    let stream = waking.await.unwrap();
    assert_eq!(activity(&engine), WarehouseActivity::Busy);
    drop(stream);
    assert!(matches!(activity(&engine), WarehouseActivity::Idle { .. }));
    engine.shutdown().await;
}
