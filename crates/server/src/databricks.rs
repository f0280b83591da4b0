//! A Databricks workspace's part in the composition: its warehouse as an engine, its Unity Catalog,
//! and in whose name each call is made.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use dashmap::DashMap;
use flightpath_catalog_unity::{Identities, UnityCatalog};
use flightpath_databricks::{Auth, Client, ClientConfig, Identity};
use flightpath_engine::Engine;
use flightpath_engine_databricks::{DatabricksEngine, MonitorAccess, Prices};
use flightpath_flight::TokenCheck;
use flightpath_pipeline::{Administrators, Pipeline, Question};
use flightpath_plan::DatabricksText;
use flightpath_planner::RemoteDescriber;
use flightpath_types::{Error, ErrorKind, Principal, Result, SecretToken, Session};
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::settings::{DatabricksSettings, Settings};

/// How long learning a statement's columns may take; a sleeping warehouse starts within it.
const DESCRIBE_MAX: Duration = Duration::from_secs(300);
/// Statements whose columns are learned at once: they take the warehouse's places beside queries, and
/// nobody admits them as those are.
const DESCRIBED_AT_ONCE: usize = 16;
const CHECK_MAX: Duration = Duration::from_secs(20);
/// How long a call waits to learn whose its token is.
const TOKEN_CHECK_MAX: Duration = Duration::from_secs(10);
/// The user that a call is made as, by SCIM.
const ME_PATH: &str = "/api/2.0/preview/scim/v2/Me";

/// What a configured workspace adds to the program.
pub(crate) struct Databricks {
    pub engine: Arc<DatabricksEngine>,
    pub catalog: Arc<UnityCatalog>,
    pub callers: Arc<Callers>,
    pub describer: Arc<WarehouseDescriber>,
    /// Where bearer tokens that settings don't list are asked about.
    pub tokens: Option<Arc<WorkspaceTokens>>,
}

/// Whose token it is, where the workspace goes by its users' own rights; `None` where one principal asks for
/// everybody.
pub(crate) async fn user_of(settings: &Settings, token: &SecretToken) -> Result<Option<Principal>> {
    let Some(own) = settings.databricks.configured().filter(|own| own.auth.is_per_user()) else { return Ok(None) };
    let client = Arc::new(Client::new(ClientConfig::new(own.host.clone(), own.auth.clone()))?);
    WorkspaceTokens { client, administrators: Arc::default(), admin_groups: Vec::new() }.principal(token).await.map(Some)
}

/// `None` where no workspace is configured.
pub(crate) fn open(settings: &Settings, administrators: &Arc<Administrators>) -> Result<Option<Databricks>> {
    let Some(own) = &settings.databricks.configured() else { return Ok(None) };
    let client = Arc::new(Client::new(ClientConfig::new(own.host.clone(), own.auth.clone()))?);
    let service = Principal::new(&settings.databricks.principal);
    let callers = Arc::new(Callers { shared: (!own.auth.is_per_user()).then(|| service.clone()), tokens: DashMap::new() });
    let monitor = monitor(&settings.databricks, own.host.clone(), &client, &callers, &service)?;
    let mut config = flightpath_engine_databricks::Config::new(&own.warehouse_id);
    config.prices = Prices { usd_per_dbu: settings.databricks.usd_per_dbu, ..Prices::default() };
    config.monitor.state_every = settings.databricks.monitor_interval;
    config.time_zone = settings.databricks.time_zone.clone();
    let engine = Arc::new(DatabricksEngine::new(client.clone(), monitor, config)?);

    let unity = flightpath_catalog_unity::Config {
        access_lifetime: settings.databricks.access_lifetime,
        metadata_lifetime: settings.databricks.metadata_lifetime,
        log_refresh_interval: settings.catalog_refresh,
        local_roots: settings.databricks.local_roots.clone(),
        cloud: settings.databricks.storage.clone(),
        partition_time_zone: settings.partition_time_zone,
        ..flightpath_catalog_unity::Config::new(settings.databricks.catalogs.clone())
    };
    let tokens = settings.databricks_tokens.then(|| {
        let (administrators, admin_groups) = (administrators.clone(), settings.admin_groups.clone());
        Arc::new(WorkspaceTokens { client: client.clone(), administrators, admin_groups })
    });
    let catalog = Arc::new(UnityCatalog::open(unity, client, callers.clone())?);
    let describer = Arc::new(WarehouseDescriber {
        engine: engine.clone(),
        callers: callers.clone(),
        catalogs: settings.databricks.catalogs.clone(),
        writes: settings.databricks.writes,
        turns: Turns(Semaphore::new(DESCRIBED_AT_ONCE)),
        pipeline: OnceLock::new(),
    });
    Ok(Some(Databricks { engine, catalog, callers, describer, tokens }))
}

/// Whether the workspace answers and has the warehouse; `None` where none is configured.
pub(crate) async fn check(settings: &Settings) -> Option<Result<String, String>> {
    let own = settings.databricks.configured()?;
    let asked = async {
        // Without a credential of the server's own, that it is turned away shows that somebody is there.
        let (auth, known) = match &settings.databricks.monitor_token {
            Some(token) => (Auth::Pat(SecretString::from(token.expose())), true),
            None if !own.auth.is_per_user() => (own.auth.clone(), true),
            None => (Auth::Pat(SecretString::from("none")), false),
        };
        let client = Client::new(ClientConfig { tries_max: 1, ..ClientConfig::new(own.host.clone(), auth) })?;
        let who = Identity::new(Principal::new(&settings.databricks.principal), None);
        let path = format!("/api/2.0/sql/warehouses/{}", flightpath_databricks::segment(&own.warehouse_id));
        let found = client.get::<serde_json::Value>(&who, &path, &[], Instant::now().checked_add(CHECK_MAX)).await;
        match found {
            Ok(warehouse) => Ok(format!("warehouse {} is {}", own.warehouse_id, warehouse["state"].as_str().unwrap_or("there"))),
            Err(error) if !known && matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => {
                Ok("the workspace answers; set databricks.monitor_token to see its warehouse".to_string())
            }
            Err(error) => Err(error),
        }
    };
    Some(asked.await.map_err(|e: flightpath_types::Error| e.to_string()))
}

/// Looking at the warehouse needs a credential of the server's own: the shared one, or one set for it.
fn monitor(
    settings: &DatabricksSettings,
    host: url::Url,
    client: &Arc<Client>,
    callers: &Callers,
    service: &Principal,
) -> Result<Option<MonitorAccess>> {
    if let Some(token) = &settings.monitor_token {
        let auth = Auth::Pat(SecretString::from(token.expose()));
        let client = Arc::new(Client::new(ClientConfig::new(host, auth))?);
        return Ok(Some(MonitorAccess { client, identity: Identity::new(service.clone(), None) }));
    }
    let shared = callers.shared.as_ref().map(|who| Identity::new(who.clone(), None));
    Ok(shared.map(|identity| MonitorAccess { client: client.clone(), identity }))
}

/// Who this server's principals are in Databricks: themselves, with the token they last showed, or
/// one service principal for everybody where the operator has said so.
pub(crate) struct Callers {
    shared: Option<Principal>,
    tokens: DashMap<Principal, SecretToken>,
}

impl Callers {
    /// A caller was authenticated with this token.
    pub fn seen(&self, principal: &Principal, token: &SecretToken) {
        if self.shared.is_some() || self.tokens.get(principal).is_some_and(|known| *known == *token) {
            return;
        }
        self.tokens.insert(principal.clone(), token.clone());
    }

    fn identity_with(&self, principal: &Principal, token: Option<&SecretToken>) -> Identity {
        match &self.shared {
            Some(service) => Identity::new(service.clone(), None),
            None => Identity::new(principal.clone(), token.map(|t| SecretString::from(t.expose()))),
        }
    }
}

impl Identities for Callers {
    fn identity(&self, principal: &Principal) -> Identity {
        let token = self.tokens.get(principal).map(|t| t.clone());
        self.identity_with(principal, token.as_ref())
    }

    fn databricks_name(&self, principal: &Principal) -> String {
        self.shared.as_ref().unwrap_or(principal).as_str().to_string()
    }
}

/// Asks the workspace whose a token is.
pub(crate) struct WorkspaceTokens {
    /// One that calls with the token it's given.
    client: Arc<Client>,
    administrators: Arc<Administrators>,
    /// Groups of the workspace whose members are administrators.
    admin_groups: Vec<String>,
}

#[async_trait]
impl TokenCheck for WorkspaceTokens {
    async fn principal(&self, token: &SecretToken) -> Result<Principal> {
        let nobody = || Error::new(ErrorKind::Unauthenticated, "the workspace knows no active user of this token");
        let who = Identity::new(Principal::new("unknown"), Some(SecretString::from(token.expose())));
        let me: serde_json::Value = self.client.get(&who, ME_PATH, &[], Instant::now().checked_add(TOKEN_CHECK_MAX)).await?;
        match me["userName"].as_str().filter(|name| !name.is_empty()) {
            Some(name) if me["active"] != serde_json::Value::Bool(false) => {
                let principal = Principal::new(name);
                self.administrators.note_member(&principal, self.is_admin(&me));
                Ok(principal)
            }
            _ => Err(nobody()),
        }
    }
}

impl WorkspaceTokens {
    fn is_admin(&self, me: &serde_json::Value) -> bool {
        let groups = me["groups"].as_array().into_iter().flatten();
        groups.filter_map(|group| group["display"].as_str()).any(|name| self.admin_groups.iter().any(|admins| admins == name))
    }
}

/// Answers the planner's questions about statements that only Databricks understands.
pub(crate) struct WarehouseDescriber {
    engine: Arc<DatabricksEngine>,
    callers: Arc<Callers>,
    catalogs: Vec<String>,
    writes: bool,
    turns: Turns,
    /// Knows the profiles; set once it is there.
    pipeline: OnceLock<Weak<Pipeline>>,
}

/// So many ask at once; the others wait for their turn.
struct Turns(Semaphore);

impl Turns {
    async fn take(&self, deadline: Option<Instant>) -> Result<SemaphorePermit<'_>> {
        let turn = async { self.0.acquire().await.map_err(|_| Error::internal("no more turns to ask Databricks are given")) };
        let Some(deadline) = deadline else { return turn.await };
        tokio::time::timeout_at(deadline.into(), turn).await.unwrap_or_else(|_| {
            let message = "too many statements that only Databricks understands wait for it to tell their columns; try again later";
            Err(Error::classed(ErrorKind::ResourceExhausted, "TOO_MANY_REQUESTS", "53400", message))
        })
    }
}

impl WarehouseDescriber {
    pub fn with_profiles_of(&self, pipeline: &Arc<Pipeline>) {
        // Set twice by nobody.
        let _ = self.pipeline.set(Arc::downgrade(pipeline));
    }

    fn pipeline(&self) -> Option<Arc<Pipeline>> {
        self.pipeline.get().and_then(Weak::upgrade)
    }

    /// It isn't known what holds while the pipeline isn't there.
    fn open(&self) -> Result<Arc<Pipeline>> {
        self.pipeline().ok_or_else(|| Error::unavailable("the server is starting or shutting down"))
    }

    /// Once it's this question's turn: whoever wakes the warehouse by it pays.
    fn question(&self, session: &Session) -> Result<Question> {
        self.open()?.question(session, self.engine.id())
    }
}

#[async_trait]
impl RemoteDescriber for WarehouseDescriber {
    fn has_catalog(&self, catalog: &str) -> bool {
        self.catalogs.iter().any(|c| c.eq_ignore_ascii_case(catalog))
    }

    fn writes_allowed(&self, session: &Session) -> bool {
        let Some(pipeline) = self.pipeline() else { return false };
        pipeline.profile_writes(session).unwrap_or(self.writes)
    }

    fn may_ask(&self, session: &Session) -> Result<()> {
        self.open()?.profile_uses(session, self.engine.id())
    }

    async fn describe(&self, text: &DatabricksText, session: &Session, token: Option<&SecretToken>) -> Result<SchemaRef> {
        let deadline = Instant::now().checked_add(DESCRIBE_MAX);
        let _turn = self.turns.take(deadline).await?;
        let question = self.question(session)?;
        let who = self.callers.identity_with(&session.principal, token);
        self.engine.describe(text, who, deadline, question.findings()).await
    }

    async fn try_out(&self, text: &DatabricksText, session: &Session, token: Option<&SecretToken>) -> Result<SchemaRef> {
        let deadline = Instant::now().checked_add(DESCRIBE_MAX);
        let _turn = self.turns.take(deadline).await?;
        let question = self.question(session)?;
        let who = self.callers.identity_with(&session.principal, token);
        self.engine.try_out(text, who, deadline, question.findings()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_are_waited_for_until_the_deadline() {
        let turns = Turns(Semaphore::new(1));
        let first = turns.take(None).await.unwrap();
        let late = turns.take(Some(Instant::now())).await.err().unwrap();
        assert_eq!((late.kind(), late.class()), (ErrorKind::ResourceExhausted, Some("TOO_MANY_REQUESTS")));
        let (second, ()) = tokio::join!(turns.take(Instant::now().checked_add(DESCRIBE_MAX)), async { drop(first) });
        assert!(second.is_ok());
    }
}
