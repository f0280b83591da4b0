//! The planner's front: a request becomes a planned statement, from the cache when nothing that
//! matters has changed. Never runs a query and never waits for an engine, but for the one that
//! alone can type a text passed through.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;
use flightpath_catalog::{AsOf, Catalog, TableName, TableSnapshot};
use flightpath_plan::{BoundTable, CompiledSql, PlannedQuery, ScanBinding, ScanId, Statement};
use flightpath_types::{Dialect, Error, ErrorKind, Fingerprint, Refusal, RefusalClass, Result, SecretToken, Session};
use futures::stream::{StreamExt, iter};
use tracing::Instrument;

use crate::binder::{BindInput, Parameters, ResolvedTables, TableRequest, referenced_tables};
use crate::cache::{CacheKey, CachedPlan, PlanCache};
use crate::optimize::PlanOptimizer;
use crate::parse::Parsed;
use crate::pool::PlanningPool;
use crate::query::{Compile, Compiled, parameter_schema};
use crate::remote::RemoteDescriber;
use crate::statements::{self, Asking, Command};
use crate::{eligible, features, fingerprint, parse, passthrough, remote, trace};

/// Tables that are resolved at the same time.
const RESOLVING_MAX: usize = 32;

/// Texts from this size on aren't read on the thread that serves their connection either.
const BIG_TEXT_BYTES: usize = 16 << 10;

/// Limits and what the planner may offer.
#[derive(Debug, Clone)]
pub struct Config {
    /// Longest statement, in bytes.
    pub text_bytes_max: usize,
    /// Plans kept, and an estimate of the bytes they take together.
    pub cached_plans_max: u64,
    pub cached_bytes_max: u64,
    /// Nodes of a plan once its common table expressions are written out.
    pub plan_nodes_max: usize,
    /// Tables that one statement may name.
    pub tables_max: usize,
    /// Statements planned at once, those that wait for it, and how long each may take. A plan that is
    /// cached needs none of it.
    pub planning_threads: usize,
    pub planning_queue_max: usize,
    pub planning_time_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            text_bytes_max: 4 << 20,
            cached_plans_max: 2_000,
            cached_bytes_max: 256 << 20,
            plan_nodes_max: 20_000,
            tables_max: 1_000,
            planning_threads: std::thread::available_parallelism().map_or(2, |n| n.get()).max(2),
            planning_queue_max: 1_000,
            planning_time_max: Duration::from_secs(120),
        }
    }
}

/// A statement as it came, and what it came with.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    pub text: Arc<str>,
    pub session: Session,
    /// Values for `?` in their order; `None` leaves them open, as preparing does.
    pub params: Option<Vec<ScalarValue>>,
    /// The credential the client showed, for asking a warehouse in its name.
    pub token: Option<SecretToken>,
}

/// A planned statement and what planning it took.
#[derive(Debug, Clone)]
pub struct Planned {
    pub statement: Statement,
    /// One field per parameter, in order: `$1`, `$2`...
    pub parameters: SchemaRef,
    pub cache_hit: bool,
    pub plan_us: u64,
}

/// Asks the engine that passes text through what a text would give: the planner knows no types of
/// that dialect.
#[async_trait]
pub trait PassThroughDescriber: Send + Sync {
    /// The result's schema. `sql` is the user's text, which names its tables as the user does.
    async fn describe(&self, sql: &CompiledSql, scans: &BTreeMap<ScanId, ScanBinding>, session: &Session) -> Result<SchemaRef>;
}

/// Shared by all sessions.
pub struct Planner {
    catalog: Arc<dyn Catalog>,
    config: Config,
    cache: PlanCache,
    pool: PlanningPool,
    optimizer: Arc<PlanOptimizer>,
    describer: Option<Arc<dyn PassThroughDescriber>>,
    remote: Option<Arc<dyn RemoteDescriber>>,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
}

/// What planning gives before its time is taken.
struct Outcome {
    statement: Statement,
    parameters: SchemaRef,
    cache_hit: bool,
}

impl Outcome {
    fn fresh(statement: Statement) -> Self {
        Self { statement, parameters: Arc::new(Schema::empty()), cache_hit: false }
    }
}

impl Planner {
    pub fn new(catalog: Arc<dyn Catalog>, config: Config) -> Self {
        let (cache, pool) = (PlanCache::new(&config), PlanningPool::new(&config));
        Self {
            catalog,
            config,
            cache,
            pool,
            optimizer: Arc::new(PlanOptimizer::new()),
            describer: None,
            remote: None,
            cache_hits: AtomicU64::new(0),
            cache_misses: AtomicU64::new(0),
        }
    }

    /// Lets `dialect=duckdb` statements be typed.
    #[must_use]
    pub fn with_describer(mut self, describer: Arc<dyn PassThroughDescriber>) -> Self {
        self.describer = Some(describer);
        self
    }

    /// Lets statements go to a Databricks warehouse as they are.
    #[must_use]
    pub fn with_remote(mut self, remote: Arc<dyn RemoteDescriber>) -> Self {
        self.remote = Some(remote);
        self
    }

    /// Queries whose plan was in the cache, and those that were planned anew.
    pub fn cache_lookups(&self) -> (u64, u64) {
        (self.cache_hits.load(Ordering::Relaxed), self.cache_misses.load(Ordering::Relaxed))
    }

    pub async fn plan(&self, request: &PlanRequest) -> Result<Planned> {
        let span = trace::plan();
        let planned = self.plan_timed(request).instrument(span.clone()).await;
        trace::planned(&span, &planned);
        planned
    }

    async fn plan_timed(&self, request: &PlanRequest) -> Result<Planned> {
        let started = Instant::now();
        let outcome = match self.cached(&request.text, request) {
            Some(outcome) => outcome,
            None => match self.plan_text(request).await {
                Err(error) if self.may_go_remote(request, &error) => self.plan_remote(request, error).await?,
                outcome => outcome?,
            },
        };
        let plan_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if matches!(outcome.statement, Statement::Query(_) | Statement::ExplainRoute(_)) {
            let count = if outcome.cache_hit { &self.cache_hits } else { &self.cache_misses };
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Planned { statement: outcome.statement, parameters: outcome.parameters, cache_hit: outcome.cache_hit, plan_us })
    }

    /// What a session setting comes to, for whoever sets it without a statement: its name and value
    /// as they are stored, and what goes with them. `NotFound` where it names a place that isn't there.
    pub async fn setting(&self, session: &Session, name: &str, value: &str) -> Result<Vec<(String, String)>> {
        statements::assignments(&Asking { catalog: self.catalog.as_ref(), session }, name, value).await
    }

    fn cached(&self, text: &Arc<str>, request: &PlanRequest) -> Option<Outcome> {
        let key = CacheKey::new(text, &request.session, request.params.as_ref());
        let plan = self.cache.get(&key, self.catalog.as_ref(), &request.session.principal)?;
        Some(Outcome { statement: plan.statement.clone(), parameters: plan.parameters.clone(), cache_hit: true })
    }

    async fn plan_text(&self, request: &PlanRequest) -> Result<Outcome> {
        let text = &request.text;
        if text.len() > self.config.text_bytes_max {
            let (have, most) = (text.len(), self.config.text_bytes_max);
            return Err(Error::new(ErrorKind::ResourceExhausted, format!("the statement is {have} bytes long; the limit is {most}")));
        }
        let tokens = match (self.tokens(text).await, request.session.dialect) {
            (Ok(tokens), _) => tokens,
            (Err(error), Dialect::Databricks) => return Err(error),
            // DuckDB's lexical rules are others: what can't be read as ours can't be one of our commands.
            (Err(_), Dialect::Duckdb) => Vec::new(),
        };
        let command = match request.session.dialect {
            Dialect::Databricks => statements::read(&tokens)?,
            Dialect::Duckdb => own_command(statements::read(&tokens).unwrap_or(Command::Other)),
        };
        let inner = |start| -> Arc<str> { statements::blank_before(text, start).into() };
        match command {
            Command::Other => self.plan_query(text, &tokens, request).await,
            Command::ExplainRoute(start) => {
                let inner = self.plan_explained(inner(start), request).await?;
                match inner.statement {
                    Statement::Query(query) | Statement::PassThrough(query) | Statement::Write(query) => {
                        Ok(Outcome { statement: Statement::ExplainRoute(query), ..inner })
                    }
                    _ => Err(Error::invalid("EXPLAIN ROUTE takes a query, or a statement that changes something")),
                }
            }
            Command::Explain { extended, query } => {
                let inner = self.plan_inner(inner(query), request).await?;
                let Statement::Query(query) = &inner.statement else {
                    return Err(Error::invalid("EXPLAIN takes a query; with dialect=duckdb use EXPLAIN ROUTE"));
                };
                Ok(Outcome { statement: Statement::Local(statements::explain_result(query, extended)?), ..inner })
            }
            Command::DescribeQuery(start) => {
                let inner = self.plan_inner(inner(start), request).await?;
                Ok(Outcome { statement: Statement::Local(statements::describe_query(&inner.statement.schema())?), ..inner })
            }
            command => {
                let asking = Asking { catalog: self.catalog.as_ref(), session: &request.session };
                statements::answer(command, &asking).await.map(Outcome::fresh)
            }
        }
    }

    /// The statement that EXPLAIN ROUTE is about, one that only Databricks understands included.
    async fn plan_explained(&self, text: Arc<str>, request: &PlanRequest) -> Result<Outcome> {
        let explained = PlanRequest { text: text.clone(), ..request.clone() };
        match self.plan_inner(text, request).await {
            Err(error) if self.may_go_remote(&explained, &error) => self.plan_remote(&explained, error).await,
            outcome => outcome,
        }
    }

    /// The query that an EXPLAIN is about; `text` is blank where the EXPLAIN stood.
    async fn plan_inner(&self, text: Arc<str>, request: &PlanRequest) -> Result<Outcome> {
        if let Some(outcome) = self.cached(&text, request) {
            return Ok(outcome);
        }
        let tokens = match self.tokens(&text).await {
            Ok(tokens) => tokens,
            Err(error) if request.session.dialect == Dialect::Databricks => return Err(error),
            Err(_) => Vec::new(),
        };
        if request.session.dialect == Dialect::Databricks && statements::read(&tokens)? != Command::Other {
            return Err(Error::invalid("EXPLAIN and DESCRIBE QUERY take a query"));
        }
        self.plan_query(&text, &tokens, request).await
    }

    async fn plan_query(&self, text: &Arc<str>, tokens: &[TokenWithSpan], request: &PlanRequest) -> Result<Outcome> {
        let fingerprint = if tokens.is_empty() { fingerprint::of_text(text) } else { fingerprint::of_tokens(tokens) };
        match request.session.dialect {
            Dialect::Databricks => self.plan_databricks(text, fingerprint, request).await,
            Dialect::Duckdb => self.plan_passthrough(text, fingerprint, request).await,
        }
    }

    async fn plan_databricks(&self, text: &Arc<str>, fingerprint: Fingerprint, request: &PlanRequest) -> Result<Outcome> {
        let (parsed, requests) = self.parsed(text, &request.session.time_zone).await?;
        if requests.len() > self.config.tables_max {
            let (have, most) = (requests.len(), self.config.tables_max);
            return Err(Error::new(ErrorKind::ResourceExhausted, format!("the statement names {have} tables; the limit is {most}")));
        }
        let tables = self.resolve(requests, &request.session).await;
        let (latest, pinned) = tables_by_kind(&tables);
        let work = Work {
            text: text.clone(),
            fingerprint,
            session: request.session.clone(),
            params: request.params.clone(),
            parsed,
            tables,
            optimizer: self.optimizer.clone(),
            plan_nodes_max: self.config.plan_nodes_max,
            remote: self.remote.clone(),
        };
        let compiled = self.pool.run(move || work.run()).await?;
        if compiled.cacheable {
            let plan = CachedPlan {
                statement: Statement::Query(compiled.query.clone()),
                parameters: compiled.parameters.clone(),
                latest,
                pinned,
                bytes: compiled.bytes,
                expires: None,
            };
            self.cache.put(CacheKey::new(text, &request.session, request.params.as_ref()), Arc::new(plan));
        }
        Ok(Outcome { statement: Statement::Query(compiled.query), parameters: compiled.parameters, cache_hit: false })
    }

    async fn tokens(&self, text: &Arc<str>) -> Result<Vec<TokenWithSpan>> {
        if text.len() < BIG_TEXT_BYTES {
            return parse::tokens(text);
        }
        let text = text.clone();
        self.pool.run(move || parse::tokens(&text)).await
    }

    /// The syntax tree, and the tables that it names.
    async fn parsed(&self, text: &Arc<str>, time_zone: &str) -> Result<(Parsed, Vec<TableRequest>)> {
        let (text, time_zone) = (text.clone(), time_zone.to_string());
        self.pool
            .run(move || {
                let parsed = trace::parse(text.len()).in_scope(|| parse::parse(&text))?;
                let requests = referenced_tables(as_query(&parsed)?, &time_zone)?;
                Ok((parsed, requests))
            })
            .await
    }

    /// Every table once, side by side. A failure is kept: the name may turn out not to be a table's.
    async fn resolve(&self, requests: Vec<TableRequest>, session: &Session) -> ResolvedTables {
        let resolving = requests.into_iter().map(|request| async move {
            let snapshot = match statements::complete(&request.parts, session) {
                Ok(name) => self.catalog.snapshot(&session.principal, &name, &request.as_of).await,
                Err(error) => Err(error),
            };
            (request, snapshot)
        });
        iter(resolving).buffer_unordered(RESOLVING_MAX).collect::<HashMap<_, _>>().await
    }

    async fn plan_passthrough(&self, text: &Arc<str>, fingerprint: Fingerprint, request: &PlanRequest) -> Result<Outcome> {
        let session = &request.session;
        if request.params.as_ref().is_some_and(|p| !p.is_empty()) {
            return Err(Error::not_eligible("parameters aren't passed on with dialect=duckdb; write the values into the text"));
        }
        if !session.time_zone.eq_ignore_ascii_case("UTC") {
            return Err(Error::not_eligible("dialect=duckdb runs in UTC only; SET time_zone = 'UTC'"));
        }
        let own = text.clone();
        let tables = self.pool.run(move || passthrough::tables(&own)).await?;
        let names: Result<BTreeSet<TableName>> = tables.iter().map(|parts| statements::complete(parts, session)).collect();
        let mut snapshots: BTreeMap<TableName, Arc<TableSnapshot>> = BTreeMap::new();
        for name in names? {
            let snapshot = self.catalog.snapshot(&session.principal, &name, &AsOf::Latest).await?;
            snapshots.insert(snapshot.name.clone(), snapshot);
        }
        let mut scans = BTreeMap::new();
        let mut tables = Vec::with_capacity(snapshots.len());
        for (i, snapshot) in (0u32..).zip(snapshots.into_values()) {
            let files = Arc::new(snapshot.files().to_vec());
            let columns = (0..snapshot.schema.fields().len()).collect();
            scans.insert(ScanId(i), ScanBinding { snapshot: snapshot.clone(), files, columns });
            tables.push(BoundTable { snapshot });
        }
        let governed = eligible::governed(&tables).or_else(|| eligible::in_process_only(&tables));
        if let Some(refusal) = governed {
            return Err(Error::not_eligible(refusal.reason));
        }
        let sql = CompiledSql { sql: text.to_string(), scans: scans.keys().copied().collect() };
        let Some(describer) = &self.describer else {
            return Err(Error::not_eligible("dialect=duckdb needs a DuckDB worker, and none is configured"));
        };
        let schema = describer.describe(&sql, &scans, session).await?;
        let unplanned = passthrough::unplanned(schema);
        // Of what it does with what it reads nothing is known.
        let features = flightpath_types::Features {
            result_rows: None,
            groups: None,
            grouped_rows: None,
            joined_rows: None,
            sorted_rows: None,
            ..features::extract(&unplanned.plan, &scans)
        };
        let refusal = Refusal::new(RefusalClass::Policy, "the text is in DuckDB's dialect (dialect=duckdb)");
        let latest: Vec<Arc<TableSnapshot>> = tables.iter().map(|t| t.snapshot.clone()).collect();
        let bytes = u32::try_from(sql.sql.len() + 8_192).unwrap_or(u32::MAX);
        let query = Arc::new(PlannedQuery {
            text: text.clone(),
            fingerprint,
            session: session.clone(),
            tables,
            scans,
            features,
            duckdb: Ok(sql),
            databricks: Err(refusal.clone()),
            datafusion: Err(refusal),
            ..unplanned
        });
        let parameters = Arc::new(Schema::empty());
        let statement = Statement::PassThrough(query);
        let plan =
            CachedPlan { statement: statement.clone(), parameters: parameters.clone(), latest, pinned: Vec::new(), bytes, expires: None };
        self.cache.put(CacheKey::new(text, session, request.params.as_ref()), Arc::new(plan));
        Ok(Outcome { statement, parameters, cache_hit: false })
    }

    fn may_go_remote(&self, request: &PlanRequest, error: &Error) -> bool {
        // EXPLAIN ROUTE is this server's own.
        let explains_route = || matches!(statements::read(&parse::tokens(&request.text).unwrap_or_default()), Ok(Command::ExplainRoute(_)));
        self.remote.is_some() && request.session.dialect == Dialect::Databricks && remote::not_understood(error) && !explains_route()
    }

    /// A statement that only Databricks understands; `why`: what the planner said of it.
    async fn plan_remote(&self, request: &PlanRequest, why: Error) -> Result<Outcome> {
        let (Some(warehouse), session) = (&self.remote, &request.session) else { return Err(why) };
        let sort = remote::sort_of(&request.text);
        match sort {
            remote::Sort::Query | remote::Sort::Listing => {
                warehouse.may_ask(session).map_err(|refused| remote::not_asked(&why, refused))?;
            }
            remote::Sort::Write if warehouse.writes_allowed(session) => {}
            remote::Sort::Write => return Err(remote::write_refused(&why)),
        }
        let mut text = remote::text(&request.text, request.params.as_deref(), sort != remote::Sort::Write)?;
        remote::place(&mut text, session, warehouse.as_ref());
        let token = request.token.as_ref();
        let parameters = remote::parameters(&request.text)?;
        let described = remote::described(&text, parameters);
        let schema = match sort {
            remote::Sort::Query => warehouse.describe(&described, session, token).await,
            remote::Sort::Listing => warehouse.try_out(&described, session, token).await,
            remote::Sort::Write => Ok(remote::write_schema()),
        };
        let schema = schema.map_err(|error| remote::misplaced(error, session, warehouse.as_ref()))?;
        let tokens = parse::tokens(&request.text).unwrap_or_default();
        let fingerprint = if tokens.is_empty() { fingerprint::of_text(&request.text) } else { fingerprint::of_tokens(&tokens) };
        let refusal = Refusal::new(RefusalClass::Semantics, why.message().trim_start_matches("not eligible: ").to_string());
        let query = Arc::new(PlannedQuery {
            text: request.text.clone(),
            fingerprint,
            session: session.clone(),
            databricks: Ok(text),
            duckdb: Err(refusal.clone()),
            datafusion: Err(refusal),
            ..passthrough::unplanned(schema)
        });
        // Of what type they are only Databricks knows: any is taken.
        let parameters = parameter_schema(&vec![DataType::Null; parameters]);
        if sort == remote::Sort::Write {
            return Ok(Outcome { statement: Statement::Write(query), parameters, cache_hit: false });
        }
        let statement = Statement::PassThrough(query);
        let plan = CachedPlan {
            statement: statement.clone(),
            parameters: parameters.clone(),
            latest: Vec::new(),
            pinned: Vec::new(),
            bytes: u32::try_from(request.text.len() + 8_192).unwrap_or(u32::MAX),
            expires: Instant::now().checked_add(remote::LEARNED_LIFETIME),
        };
        self.cache.put(CacheKey::new(&request.text, session, request.params.as_ref()), Arc::new(plan));
        Ok(Outcome { statement, parameters, cache_hit: false })
    }
}

/// One statement's way from syntax tree to plan, with all it needs.
struct Work {
    text: Arc<str>,
    fingerprint: Fingerprint,
    session: Session,
    params: Option<Vec<ScalarValue>>,
    parsed: Parsed,
    tables: ResolvedTables,
    optimizer: Arc<PlanOptimizer>,
    plan_nodes_max: usize,
    remote: Option<Arc<dyn RemoteDescriber>>,
}

impl Work {
    fn run(self) -> Result<Compiled> {
        let parameters = self.params.clone().map(|positional| Parameters { positional, named: HashMap::new() });
        let now_micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
        let input = BindInput { session: &self.session, now_micros, tables: &self.tables, parameters: parameters.as_ref() };
        let compile = Compile {
            text: &self.text,
            fingerprint: self.fingerprint,
            session: &self.session,
            optimizer: &self.optimizer,
            plan_nodes_max: self.plan_nodes_max,
            remote: self.remote.as_deref(),
        };
        compile.run(as_query(&self.parsed)?, &input)
    }
}

fn as_query(parsed: &Parsed) -> Result<&ast::Query> {
    match parsed.statement() {
        ast::Statement::Query(query) => Ok(query),
        other => Err(crate::guard::refuse_statement(other)),
    }
}

/// With `dialect=duckdb` only what that dialect hasn't, or what steers the session, is ours.
fn own_command(command: Command) -> Command {
    match command {
        Command::ExplainRoute(_) | Command::Set { .. } | Command::ShowSettings(_) | Command::Reset(_) => command,
        Command::UseCatalog(_) | Command::UseSchema(_) => command,
        _ => Command::Other,
    }
}

/// The tables that are read at their latest version, by which a cached plan stands and falls, and
/// the names of those read at another one.
fn tables_by_kind(tables: &ResolvedTables) -> (Vec<Arc<TableSnapshot>>, Vec<TableName>) {
    let mut latest: BTreeMap<TableName, Arc<TableSnapshot>> = BTreeMap::new();
    let mut pinned = BTreeSet::new();
    for (request, snapshot) in tables {
        let Ok(snapshot) = snapshot else { continue };
        match request.as_of {
            AsOf::Latest => {
                latest.insert(snapshot.name.clone(), snapshot.clone());
            }
            AsOf::Version(_) | AsOf::TimestampMicros(_) => {
                pinned.insert(snapshot.name.clone());
            }
        }
    }
    (latest.into_values().collect(), pinned.into_iter().collect())
}
