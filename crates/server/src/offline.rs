//! Decisions without a server: the same planner and router over the same tables, engines as the
//! settings describe them, all of them idle.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use flightpath_catalog::Catalog;
use flightpath_databricks::sizes::{USD_PER_DBU_SERVERLESS, size};
use flightpath_engine::Engine;
use flightpath_engine_datafusion::DataFusionEngine;
use flightpath_pipeline::{Contender, Policy, explain_route_rows, route};
use flightpath_plan::{PlannedQuery, Statement};
use flightpath_planner::{PlanRequest, Planner};
use flightpath_types::{CandidateNumbers, Decision, EngineFacts, EngineId, EngineState, Error, Principal, Result, Session};

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
        Ok(Self { settings, planner: Planner::new(catalog, Default::default()), session: of_caller, datafusion, warehouse_size: None })
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
                let pinned = self.session.engine.as_ref().map(|e: &EngineId| e.clone());
                let policy = Policy { strategy: self.settings.strategy.clone(), pinned };
                Ok(Offline::Decided { decision: route(&query.features, &contenders, &policy), warehouse })
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
        let size = size(self.warehouse_size.as_deref()?);
        let facts = EngineFacts {
            id: EngineId::new("databricks"),
            state: EngineState::Ready,
            memory_bytes_max: u64::MAX,
            cores: size.cores,
            overhead_ms: WARM_MS,
            usd_per_hour: size.dbu_per_hour * USD_PER_DBU_SERVERLESS,
            ..contenders.first()?.facts.clone()
        };
        let decision = route(&query.features, &[Contender { facts, refusal: None }], &Policy::default());
        decision.chosen().map(|c| c.numbers)
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
