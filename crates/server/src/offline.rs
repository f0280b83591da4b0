//! A decision without a server: the same planner and router over the same tables, engines as the
//! settings describe them.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use flightpath_catalog::Catalog;
use flightpath_engine::Engine;
use flightpath_engine_datafusion::DataFusionEngine;
use flightpath_pipeline::explain_route_rows;
use flightpath_plan::Statement;
use flightpath_planner::{PlanRequest, Planner};
use flightpath_router::{Contender, Policy, Predictor, RouteInput, route};
use flightpath_types::{EngineState, Error, Principal, QueryId, Result, Session};

use crate::compose::{datafusion_config, duckdb_config, open_catalog};
use crate::settings::Settings;

/// What `EXPLAIN ROUTE` would answer on an idle server with these settings.
pub async fn explain_offline(settings: Settings, query: &str, engine: Option<&str>) -> Result<RecordBatch> {
    let catalog: Arc<dyn Catalog> = open_catalog(&settings).await?;
    let planner = Planner::new(catalog, Default::default());
    let mut session = Session::new(Principal::new("anonymous"));
    session.set("engine", engine.unwrap_or_default())?;
    let planned = planner.plan(&PlanRequest { text: query.into(), session: session.clone(), params: None, token: None }).await?;
    let (Statement::Query(query) | Statement::ExplainRoute(query) | Statement::PassThrough(query)) = planned.statement else {
        return Err(Error::invalid("only queries are routed; this statement is answered by the server itself"));
    };
    let temporary = std::env::temp_dir();
    let mut contenders = Vec::new();
    if settings.datafusion.enabled {
        let engine = DataFusionEngine::new(datafusion_config(&settings.datafusion, &temporary))?;
        contenders.push(Contender { facts: engine.facts(), refusal: engine.eligible(&query).err() });
        // Its threads may not be joined from within a runtime.
        tokio::task::spawn_blocking(move || drop(engine));
    }
    if settings.duckdb.enabled {
        let config = duckdb_config(&settings, Default::default(), &temporary);
        let facts = flightpath_engine_duckdb::facts(&config, EngineState::Ready, 0);
        contenders.push(Contender { facts, refusal: flightpath_engine_duckdb::eligible(&config, &query).err() });
    }
    let policy = Policy { pinned: session.engine.clone(), ..Policy::with_strategy(settings.strategy.clone()) };
    explain_route_rows(&route(&RouteInput {
        features: &query.features,
        fingerprint: Some(query.fingerprint),
        query_id: QueryId::generate(),
        principal: &session.principal,
        contenders: &contenders,
        policy: &policy,
        predictor: &Predictor::default(),
    }))
}
