//! Decisions without a server: the same planner and router over the same tables, engines as the
//! settings describe them, those of this machine idle. A workspace that the settings name is asked
//! about its tables and its warehouse's state; nothing is sent to the warehouse, and it isn't woken.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use flightpath_catalog::{Catalog, CatalogSet};
use flightpath_engine::Engine;
use flightpath_engine_databricks::DatabricksEngine;
use flightpath_engine_datafusion::DataFusionEngine;
use flightpath_pipeline::explain_route_rows;
use flightpath_plan::{DatabricksText, PlannedQuery, Statement};
use flightpath_planner::{PlanRequest, Planner, RemoteDescriber};
use flightpath_router::{Contender, Predictor, Profiles, RouteInput, route};
use flightpath_types::{
    CandidateNumbers, ComputePrice, Decision, EngineFacts, EngineId, EngineState, Error, Pricing, Principal, QueryId, Result, SecretToken,
    Session, WarehouseActivity, WarehouseKind, WarehouseSize,
};

use crate::compose::{LOCAL_CATALOG, datafusion_config, duckdb_config, open_catalog};
use crate::databricks;
use crate::settings::Settings;

/// How long the first look at a warehouse is waited for; without it, its list prices hold.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What became of one statement.
pub enum Offline {
    Decided {
        decision: Box<Decision>,
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
    token: Option<SecretToken>,
    datafusion: Option<DataFusionEngine>,
    databricks: Option<Arc<DatabricksEngine>>,
    profiles: Arc<Profiles>,
    /// Nothing was learned here: priors.
    predictor: Predictor,
    warehouse_size: Option<String>,
}

impl OfflineRouter {
    /// `session` are settings by the names of `SET`. A workspace that goes by its users' own rights is asked
    /// with `token`.
    pub async fn open(settings: Settings, session: &[(&str, &str)], token: Option<SecretToken>) -> Result<Self> {
        let mut catalog: Arc<dyn Catalog> = open_catalog(&settings).await?;
        let user = match &token {
            Some(token) => databricks::user_of(&settings, token).await?,
            None => None,
        };
        let of_caller = Session::new(user.unwrap_or_else(|| Principal::new("anonymous")));
        let datafusion = match settings.datafusion.enabled {
            true => Some(DataFusionEngine::new(datafusion_config(&settings.datafusion, &std::env::temp_dir()))?),
            false => None,
        };
        let profiles = Arc::new(settings.live().map_err(|mistakes| Error::invalid(mistakes.to_string()))?.profiles);
        let workspace = databricks::open(&settings, &Default::default())?;
        if let Some(workspace) = &workspace {
            if let Some(token) = &token {
                workspace.callers.seen(&of_caller.principal, token);
            }
            let names = workspace.catalog.names().iter();
            let remote = names.map(|name| (name.clone(), workspace.catalog.clone() as Arc<dyn Catalog>));
            catalog = Arc::new(CatalogSet::new(std::iter::once((LOCAL_CATALOG.to_string(), catalog)).chain(remote).collect())?);
        }
        let mut planner = Planner::new(catalog, Default::default());
        if workspace.is_some() {
            let (catalogs, writes) = (settings.databricks.catalogs.clone(), settings.databricks.writes);
            planner = planner.with_remote(Arc::new(NotAsked { catalogs, writes, profiles: profiles.clone() }));
        }
        let databricks = workspace.map(|workspace| workspace.engine);
        if let Some(engine) = databricks.as_ref().filter(|engine| engine.is_watched()) {
            let seen = async {
                while !engine.was_seen() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            // A warehouse that can't be looked at is taken to be asleep, as by a server.
            let _ = tokio::time::timeout(LOOK_MAX, seen).await;
        }
        let (predictor, warehouse_size) = (Predictor::default(), None);
        let mut router = Self { settings, planner, session: of_caller, token, datafusion, databricks, profiles, predictor, warehouse_size };
        for (name, value) in session {
            router.set(name, value)?;
        }
        Ok(router)
    }

    /// A session setting for what comes from now on, checked as a server checks it.
    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let mut trial = self.session.clone();
        trial.set(name, value)?;
        let engines = self.settings.engines();
        if let Some(engine) = trial.engine.as_ref().filter(|engine| !engines.contains(&engine.as_str())) {
            return Err(Error::invalid(format!("there is no engine `{engine}`; engines are {} (or `auto`)", engines.join(", "))));
        }
        if name == "profile" {
            self.profiles.choose(trial.profile.as_deref(), &trial.principal, trial.tag.as_deref()).map_err(Error::invalid)?;
        }
        flightpath_planner::check_time_zone(&trial.time_zone)?;
        self.session = trial;
        Ok(())
    }

    /// Predicts each query on a warehouse of this size too, for comparison.
    #[must_use]
    pub fn warehouse(mut self, size: impl Into<String>) -> Self {
        self.warehouse_size = Some(size.into());
        self
    }

    /// What `EXPLAIN ROUTE` would answer on an idle server with these settings.
    pub async fn explain(&mut self, query: &str) -> Result<RecordBatch> {
        match self.decide(query).await? {
            Offline::Decided { decision, .. } => explain_route_rows(&decision),
            Offline::SessionChanged | Offline::Local => {
                Err(Error::invalid("only queries are routed; this statement is answered by the server itself"))
            }
        }
    }

    pub async fn decide(&mut self, statement: &str) -> Result<Offline> {
        let request = PlanRequest { text: statement.into(), session: self.session.clone(), params: None, token: self.token.clone() };
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
                Ok(Offline::Decided { decision: Box::new(decision), warehouse })
            }
            Statement::SetSession { assignments, .. } => {
                for (name, value) in assignments {
                    self.set(&name, &value)?;
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
        if let Some(engine) = &self.databricks {
            contenders.push(Contender { facts: engine.facts(), refusal: engine.eligible(query).err() });
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

/// Knows what goes to a warehouse, and asks none: describing a statement could wake it.
struct NotAsked {
    catalogs: Vec<String>,
    writes: bool,
    profiles: Arc<Profiles>,
}

#[async_trait]
impl RemoteDescriber for NotAsked {
    fn has_catalog(&self, catalog: &str) -> bool {
        self.catalogs.iter().any(|known| known.eq_ignore_ascii_case(catalog))
    }

    fn writes_allowed(&self, session: &Session) -> bool {
        let profile = self.profiles.choose(session.profile.as_deref(), &session.principal, session.tag.as_deref());
        profile.is_ok_and(|profile| profile.writes.unwrap_or(self.writes))
    }

    async fn describe(&self, _text: &DatabricksText, _session: &Session, _token: Option<&SecretToken>) -> Result<SchemaRef> {
        Err(Error::not_eligible("only Databricks understands this statement, and offline nothing is sent to a warehouse; ask a server"))
    }

    async fn try_out(&self, text: &DatabricksText, session: &Session, token: Option<&SecretToken>) -> Result<SchemaRef> {
        self.describe(text, session, token).await
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
