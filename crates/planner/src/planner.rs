//! The planner's front: a request becomes a planned statement, from the cache when nothing that
//! matters has changed. Never runs anything and never waits for an engine.

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use flightpath_catalog::{Catalog, TableSnapshot};
use flightpath_plan::Statement;
use flightpath_types::{Result, Session};

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
}

impl Default for Config {
    fn default() -> Self {
        Self { text_bytes_max: 4 << 20, cached_plans_max: 2_000, cached_bytes_max: 256 << 20, plan_nodes_max: 20_000 }
    }
}

/// A statement as it came, and what it came with.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    pub text: Arc<str>,
    pub session: Session,
    /// Values for `?` in their order; `None` leaves them open, as preparing does.
    pub params: Option<Vec<ScalarValue>>,
}

/// A planned statement and what planning it took.
#[derive(Debug, Clone)]
pub struct Planned {
    pub statement: Statement,
    /// One field per parameter, in order: `$1`, `$2`... or the names.
    pub parameters: SchemaRef,
    pub cache_hit: bool,
    pub plan_us: u64,
}

/// Asks the engine that passes text through what a text would give. The planner knows no types of
/// that dialect.
#[async_trait]
pub trait PassThroughDescriber: Send + Sync {
    /// The result's schema, with `tables` visible under the names that the text uses.
    async fn describe(&self, text: &str, tables: &[(String, Arc<TableSnapshot>)]) -> Result<SchemaRef>;
}

pub struct Planner {
    catalog: Arc<dyn Catalog>,
    config: Config,
    describer: Option<Arc<dyn PassThroughDescriber>>,
}

impl Planner {
    pub fn new(catalog: Arc<dyn Catalog>, config: Config) -> Self {
        Self { catalog, config, describer: None }
    }

    /// Lets `dialect=duckdb` statements be typed.
    #[must_use]
    pub fn with_describer(mut self, describer: Arc<dyn PassThroughDescriber>) -> Self {
        self.describer = Some(describer);
        self
    }

    pub async fn plan(&self, request: &PlanRequest) -> Result<Planned> {
        let started = Instant::now();
        let _ = (&self.catalog, &self.config, &self.describer, started, request);
        Err(flightpath_types::Error::internal("the planner isn't complete"))
    }
}
