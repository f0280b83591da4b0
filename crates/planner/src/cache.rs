//! Plans kept by text, session and parameters, and handed out as long as the tables they pinned
//! are what the catalog would pin now. Never keeps a plan that holds its own time or chance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use flightpath_catalog::{AccessRules, Catalog, TableName, TableSnapshot};
use flightpath_plan::Statement;
use flightpath_types::{Dialect, Principal, Session};
use moka::sync::Cache;

use crate::planner::Config;

/// Plans pin snapshots and their file lists: one that nobody asks for is let go.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// Everything besides the tables that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    text: Arc<str>,
    principal: Principal,
    catalog: String,
    schema: String,
    time_zone: String,
    dialect: Dialect,
    params: Option<Vec<ScalarValue>>,
}

impl CacheKey {
    pub fn new(text: &Arc<str>, session: &Session, params: Option<&Vec<ScalarValue>>) -> Self {
        Self {
            text: text.clone(),
            principal: session.principal.clone(),
            catalog: session.catalog.clone(),
            schema: session.schema.clone(),
            time_zone: session.time_zone.clone(),
            dialect: session.dialect,
            params: params.cloned(),
        }
    }
}

/// A plan that may be handed out again.
#[derive(Debug)]
pub(crate) struct CachedPlan {
    pub statement: Statement,
    pub parameters: SchemaRef,
    /// Tables read at their latest version: they must still be at it.
    pub latest: Vec<Arc<TableSnapshot>>,
    /// Tables read at a version of the past: they must still be free to read.
    pub pinned: Vec<TableName>,
    pub bytes: u32,
    /// Until when it may be handed out, where nothing else tells that it has aged.
    pub expires: Option<Instant>,
}

pub(crate) struct PlanCache {
    plans: Cache<CacheKey, Arc<CachedPlan>>,
}

impl PlanCache {
    pub fn new(config: &Config) -> Self {
        // A plan weighs at least its share of the bytes, so that both limits hold.
        let weight_min = u32::try_from(config.cached_bytes_max / config.cached_plans_max.max(1)).unwrap_or(u32::MAX);
        let plans = Cache::builder()
            .max_capacity(config.cached_bytes_max)
            .weigher(move |key: &CacheKey, plan: &Arc<CachedPlan>| plan.bytes.saturating_add(key.text.len() as u32).max(weight_min))
            .time_to_idle(IDLE_MAX)
            .build();
        Self { plans }
    }

    /// The plan, if all its tables are as they were.
    pub fn get(&self, key: &CacheKey, catalog: &dyn Catalog, principal: &Principal) -> Option<Arc<CachedPlan>> {
        let plan = self.plans.get(key)?;
        if plan.expires.is_some_and(|at| at <= Instant::now()) {
            self.plans.invalidate(key);
            return None;
        }
        let fresh = plan.latest.iter().all(|pinned| {
            catalog.cached_snapshot(principal, &pinned.name).is_some_and(|now| Arc::ptr_eq(&now, pinned) || is_same(&now, pinned))
        });
        let free = |name: &TableName| catalog.cached_snapshot(principal, name).is_some_and(|now| now.access == AccessRules::Free);
        if !fresh || !plan.pinned.iter().all(free) {
            self.plans.invalidate(key);
            return None;
        }
        Some(plan)
    }

    pub fn put(&self, key: CacheKey, plan: Arc<CachedPlan>) {
        self.plans.insert(key, plan);
    }
}

fn is_same(now: &TableSnapshot, pinned: &TableSnapshot) -> bool {
    now.version == pinned.version && now.table_id == pinned.table_id && now.access == pinned.access && now.location == pinned.location
}
