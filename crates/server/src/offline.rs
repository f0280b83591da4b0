//! Decisions without a server: the same planner and router over the same tables, engines as the
//! settings describe them, all of them idle.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use flightpath_catalog::Catalog;
use flightpath_engine::Engine;
use flightpath_engine_datafusion::DataFusionEngine;
use flightpath_pipeline::explain_route_rows;
use flightpath_plan::{PlannedQuery, Statement};
use flightpath_planner::{PlanRequest, Planner};
use flightpath_router::{Contender, Predictor, Profiles, RouteInput, route};
use flightpath_types::{
    CandidateNumbers, ComputePrice, Decision, EngineFacts, EngineId, EngineState, Error, Pricing, Principal, QueryId, Result, Session,
    WarehouseActivity, WarehouseKind, WarehouseSize,
};

use crate::compose::{datafusion_config, duckdb_config, open_catalog};
use crate::settings::Settings;

/// What `EXPLAIN ROUTE` would answer on an idle server with these settings.
pub async fn explain_offline(settings: Settings, query: &str, engine: Option<&str>) -> Result<RecordBatch> {
    let mut router = OfflineRouter::open(settings, &[("engine", engine.unwrap_or_default())]).await?;
    match router.decide(query).await? {
        Offline::Decided { decision, .. } => explain_route_rows(&decision),
        Offline::SessionChanged | Offline::Local => {
            Err(Error::invalid("only queries are routed; this statement is answered by the server itself"))
        }
    }
}

/// What became of one statement.
pub enum Offline {
    Decided {
        decision: Decision,
        /// What a warm serverless warehouse would take, alone with it; see [`OfflineRouter::warehouse`].
        warehouse: Option<CandidateNumbers>,
    },
    /// `SET`, `USE`: holds for the statements after it.
    SessionChanged,
    /// The server answers it by itself.
    Local,
}

/// Plans and decides in this process. Must be dropped inside a runtime.
pub struct OfflineRouter {
    settings: Settings,
    planner: Planner,
    session: Session,
    datafusion: Option<DataFusionEngine>,
    profiles: Profiles,
    /// Nothing was learned here: priors.
    predictor: Predictor,
    warehouse_size: Option<String>,
}

impl OfflineRouter {
    /// `session` are settings by the names of `SET`.
    pub async fn open(settings: Settings, session: &[(&str, &str)]) -> Result<Self> {
        let catalog: Arc<dyn Catalog> = open_catalog(&settings).await?;
        let mut of_caller = Session::new(Principal::new("anonymous"));
        for (name, value) in session {
            of_caller.set(name, value)?;
        }
        let datafusion = match settings.datafusion.enabled {
            true => Some(DataFusionEngine::new(datafusion_config(&settings.datafusion, &std::env::temp_dir()))?),
            false => None,
        };
        let profiles = settings.live().map_err(|mistakes| Error::invalid(mistakes.to_string()))?.profiles;
        let planner = Planner::new(catalog, Default::default());
        Ok(Self { settings, planner, session: of_caller, datafusion, profiles, predictor: Predictor::default(), warehouse_size: None })
    }

    /// Predicts each query on a warehouse of this size too, for comparison.
    #[must_use]
    pub fn warehouse(mut self, size: impl Into<String>) -> Self {
        self.warehouse_size = Some(size.into());
        self
    }

    pub async fn decide(&mut self, statement: &str) -> Result<Offline> {
        let request = PlanRequest { text: statement.into(), session: self.session.clone(), params: None, token: None };
        match self.planner.plan(&request).await?.statement {
            Statement::Query(query) | Statement::ExplainRoute(query) | Statement::PassThrough(query) | Statement::Write(query) => {
                let contenders = self.contenders(&query);
                let warehouse = self.on_warehouse(&query, &contenders);
                let chosen = self.profiles.choose(self.session.profile.as_deref(), &self.session.principal, self.session.tag.as_deref());
                let profile = chosen.map_err(Error::invalid)?;
                let decision = route(&RouteInput {
                    features: &query.features,
                    fingerprint: Some(query.fingerprint),
                    query_id: QueryId::generate(),
                    principal: &self.session.principal,
                    contenders: &contenders,
                    policy: &self.profiles.policy(&profile, self.session.engine.clone(), |_| 0.0),
                    predictor: &self.predictor,
                });
                Ok(Offline::Decided { decision, warehouse })
            }
            Statement::SetSession { assignments, .. } => {
                for (name, value) in assignments {
                    self.session.set(&name, &value)?;
                }
                Ok(Offline::SessionChanged)
            }
            Statement::Local(_) => Ok(Offline::Local),
        }
    }

    fn contenders(&self, query: &PlannedQuery) -> Vec<Contender> {
        let mut contenders = Vec::new();
        if let Some(engine) = &self.datafusion {
            contenders.push(Contender { facts: engine.facts(), refusal: engine.eligible(query).err() });
        }
        if self.settings.duckdb.enabled {
            let config = duckdb_config(&self.settings, Default::default(), &std::env::temp_dir());
            let facts = flightpath_engine_duckdb::facts(&config, EngineState::Ready, 0);
            contenders.push(Contender { facts, refusal: flightpath_engine_duckdb::eligible(&config, query).err() });
        }
        contenders
    }

    fn on_warehouse(&self, query: &PlannedQuery, contenders: &[Contender]) -> Option<CandidateNumbers> {
        /// The fastest query of public benchmarks takes 216 ms on a warehouse of any size.
        const WARM_MS: f64 = 250.0;
        let size = WarehouseSize::named(self.warehouse_size.as_deref()?);
        let kind = WarehouseKind::Serverless;
        let compute = ComputePrice::Warehouse {
            usd_per_hour: size.dbu_per_hour * kind.usd_per_dbu(),
            activity: WarehouseActivity::Busy,
            start_ms: 0.0,
            auto_stop_ms: Some(f64::from(kind.auto_stop_minutes()) * 60_000.0),
        };
        let facts = EngineFacts {
            id: EngineId::new("databricks"),
            shape: format!("databricks:{}", size.name),
            state: EngineState::Ready,
            memory_bytes_max: u64::MAX,
            cores: size.cores(),
            cores_total: size.cores(),
            overhead_ms: WARM_MS,
            // It has the whole warehouse.
            slots: 1,
            running: 0,
            queued: 0,
            pricing: Pricing { compute, ..Pricing::default() },
            ..contenders.first()?.facts.clone()
        };
        Some(self.predictor.predict(Some(query.fingerprint), &query.features, &facts))
    }
}

impl Drop for OfflineRouter {
    fn drop(&mut self) {
        // Its threads may not be joined from within a runtime.
        if let (Some(engine), Ok(runtime)) = (self.datafusion.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(engine));
        }
    }
}
