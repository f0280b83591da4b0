//! Checks what queries cost on a Databricks warehouse against the warehouse's own query history, and
//! puts the result into the record. In the background, one round at a time, with bounded calls; it
//! never wakes the warehouse, never runs a statement, and never holds a query up. While the history
//! or the log's database doesn't answer, the record keeps what was reckoned when the query ended.
//!
//! Bills aren't read: they stand in tables that only a warehouse can read, which would have to be woken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flightpath_engine_databricks::{DatabricksEngine, PastRun};
use flightpath_pipeline::Pipeline;
use flightpath_querylog::{Cost, Store, Unreconciled};
use flightpath_router::marginal_usd;
use flightpath_types::{ComputePrice, EngineFacts, QueryId, Result};
use tokio::time::MissedTickBehavior;

use crate::compose::Parts;

/// Older queries are left as they are.
const LOOK_BACK: Duration = Duration::from_secs(24 * 3600);
/// A statement appears in the history some time after its end.
const SETTLE_MAX: Duration = Duration::from_secs(30);
/// Queries checked in one round.
const QUERIES_MAX: usize = 5_000;
/// Time of the past that is read at once, at first and at the least.
const SPAN_MAX_MS: i64 = 3_600_000;
const SPAN_MIN_MS: i64 = 60_000;
/// What is read before the first query: what ran then decides what it met.
const BEFORE_MS: f64 = 600_000.0;
/// A statement reaches the warehouse some time after its query came.
const AFTER_MS: i64 = 600_000;
/// A query that the history doesn't know is let go after so many looks, when it's this old.
const MISSES_MAX: u32 = 5;
const MISSED_AFTER_MS: i64 = 600_000;

pub(crate) struct Reconciler {
    engine: Arc<DatabricksEngine>,
    store: Arc<dyn Store>,
    /// For what moving data costs now.
    pipeline: Arc<Pipeline>,
    every: Duration,
    /// Looks in vain, for queries that are still looked for.
    misses: HashMap<QueryId, u32>,
    span_ms: i64,
}

impl Reconciler {
    /// `None` where there is nothing to ask, or nothing to ask with.
    pub fn new(parts: &Parts, every: Option<Duration>) -> Option<Self> {
        let (engine, every) = (parts.databricks.clone()?, every?);
        if !engine.is_watched() {
            tracing::info!("costs aren't checked against the warehouse's history: set databricks.monitor_token to have that");
            return None;
        }
        let (store, pipeline) = (parts.store.clone(), parts.pipeline.clone());
        Some(Self { engine, store, pipeline, every, misses: HashMap::new(), span_ms: SPAN_MAX_MS })
    }

    /// Runs until it's dropped.
    pub async fn keep(mut self) {
        let mut interval = tokio::time::interval(self.every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            interval.tick().await;
            match self.round().await {
                Ok(0) => failing = false,
                Ok(checked) => {
                    failing = false;
                    tracing::debug!(checked, "costs checked against the warehouse's history");
                }
                // An outage is one line, however long it lasts.
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "costs can't be checked against the warehouse's history; tried again later");
                }
                Err(error) => tracing::debug!(%error, "costs can't be checked yet"),
            }
        }
    }

    /// The number of queries whose cost was found.
    async fn round(&mut self) -> Result<usize> {
        if !self.engine.was_seen() {
            // Its size decides the price.
            return Ok(0);
        }
        let now = unix_ms();
        let (from, until) = (now - millis(LOOK_BACK), now - millis(SETTLE_MAX.min(self.every)));
        let waiting = self.store.unreconciled(from, until, QUERIES_MAX).await?;
        self.misses.retain(|id, _| waiting.iter().any(|query| query.query_id == *id));
        let (mut rest, mut found) = (waiting.as_slice(), 0);
        while let Some(first) = rest.first() {
            let end = rest.partition_point(|query| query.started_unix_ms < first.started_unix_ms + self.span_ms);
            let (queries, later) = rest.split_at(end.max(1));
            let last = queries.last().map_or(first.started_unix_ms, |query| query.started_unix_ms);
            let past = self.engine.past(first.started_unix_ms - self.before_ms(), last + AFTER_MS).await?;
            if !past.whole && self.span_ms > SPAN_MIN_MS {
                self.span_ms = (self.span_ms / 2).max(SPAN_MIN_MS);
                continue;
            }
            if past.whole {
                self.span_ms = (self.span_ms * 2).min(SPAN_MAX_MS);
            } else {
                tracing::warn!("the warehouse's history is too long to be read whole; some costs stay unchecked");
            }
            let costs = self.costs(queries, &flightpath_engine_databricks::runs(&past.statements), now);
            found += costs.iter().filter(|cost| cost.usd.is_some()).count();
            if !costs.is_empty() {
                self.store.record_costs(&costs).await?;
            }
            rest = later;
        }
        Ok(found)
    }

    fn before_ms(&self) -> i64 {
        let tail = match self.engine.priced(None).pricing.compute {
            ComputePrice::Warehouse { auto_stop_ms, .. } => auto_stop_ms.unwrap_or(0.0),
            ComputePrice::Hourly { .. } => 0.0,
        };
        (tail + BEFORE_MS) as i64
    }

    /// What is to be noted: costs, and which queries the history doesn't know.
    fn costs(&mut self, queries: &[Unreconciled], runs: &[PastRun], now: i64) -> Vec<Cost> {
        let by_query: HashMap<QueryId, &PastRun> = runs.iter().filter_map(|run| Some((run.query_id?, run))).collect();
        let by_statement: HashMap<&str, &PastRun> = runs.iter().map(|run| (run.statement_id.as_str(), run)).collect();
        let (mut costs, mut unknown) = (Vec::new(), 0);
        for query in queries {
            let named = || by_statement.get(query.statement_id.as_deref()?);
            if let Some(run) = by_query.get(&query.query_id).or_else(named) {
                let facts = self.engine.priced(Some(run));
                let facts = EngineFacts { pricing: self.pipeline.data_prices().on(facts.pricing), ..facts };
                let usd = marginal_usd(run.run_ms, query.scan_bytes, query.result_bytes, &facts);
                costs.push(Cost { query_id: query.query_id, usd: Some(usd), warehouse_ms: Some(run.run_ms) });
                continue;
            }
            let misses = self.misses.entry(query.query_id).or_default();
            *misses += 1;
            if *misses >= MISSES_MAX && now - query.started_unix_ms > MISSED_AFTER_MS {
                costs.push(Cost { query_id: query.query_id, usd: None, warehouse_ms: None });
                unknown += 1;
            }
        }
        if unknown > 0 && unknown == costs.len() {
            tracing::warn!(
                unknown,
                "the warehouse's history shows none of these queries: whoever databricks.monitor_token belongs to needs CAN MONITOR on the warehouse"
            );
        }
        costs
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}
