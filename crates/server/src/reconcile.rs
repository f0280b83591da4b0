//! Checks what queries cost on a Databricks warehouse against the warehouse's own query history, and
//! puts the result into the record. In the background, one round at a time, with bounded calls; it
//! never wakes the warehouse, never runs a statement, and never holds a query up. While the history
//! or the log's database doesn't answer, the record keeps what was reckoned when the query ended.
//!
//! Bills aren't read: they stand in tables that only a warehouse can read, which would have to be woken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use flightpath_engine_databricks::{DatabricksEngine, Past, PastRun, PastStatement};
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
/// Queries read from the log at once.
const QUERIES_MAX: usize = 5_000;
/// Costs noted in one transaction.
const NOTED_MAX: usize = 500;
/// Queries that came within this time are priced together.
const TOGETHER_MS: i64 = 600_000;
/// Time of the past that is asked for at once, at first and at the least.
const SPAN_MAX_MS: i64 = 4 * 3_600_000;
const SPAN_MIN_MS: i64 = 60_000;
/// Before the first query, and the idle tail before it, what ran is known: it decides what the query met.
const BEFORE_MS: f64 = 600_000.0;
/// What had begun so long before that and still ran is known too.
const LONG_MS: i64 = 3_600_000;
/// A statement reaches the warehouse some time after its query came.
const AFTER_MS: i64 = 600_000;
/// A query that the history doesn't know is let go after so many looks, when it's this old.
const MISSES_MAX: u32 = 5;
const MISSED_AFTER_MS: i64 = 600_000;
/// A cost that isn't checked by then is worth a warning, now and then.
const LATE_MS: i64 = 6 * 3_600_000;
const WARN_EVERY: Duration = Duration::from_secs(3600);

/// Between two pieces of the history.
const PIECE_PAUSE: Duration = Duration::from_millis(250);

/// What is asked of a warehouse.
#[async_trait]
trait Warehouse: Send + Sync {
    /// Whether its size, which decides the price, is known.
    fn was_seen(&self) -> bool;

    /// Statements that came between these times, in milliseconds since the Unix epoch.
    async fn past(&self, from_ms: i64, until_ms: i64) -> Result<Past>;

    /// With its prices, as a statement of the past met it.
    fn facts(&self, run: Option<&PastRun>) -> EngineFacts;
}

struct Watched {
    engine: Arc<DatabricksEngine>,
    /// For what moving data costs now.
    pipeline: Arc<Pipeline>,
}

#[async_trait]
impl Warehouse for Watched {
    fn was_seen(&self) -> bool {
        self.engine.was_seen()
    }

    async fn past(&self, from_ms: i64, until_ms: i64) -> Result<Past> {
        // An account has ten calls a second, and others want some of them.
        tokio::time::sleep(PIECE_PAUSE).await;
        self.engine.past(from_ms, until_ms).await
    }

    fn facts(&self, run: Option<&PastRun>) -> EngineFacts {
        let facts = self.engine.priced(run);
        EngineFacts { pricing: self.pipeline.data_prices().on(facts.pricing), ..facts }
    }
}

pub(crate) struct Reconciler {
    warehouse: Arc<dyn Warehouse>,
    store: Arc<dyn Store>,
    every: Duration,
    /// [`QUERIES_MAX`]
    batch: usize,
    /// Of queries that the history didn't know when it was asked.
    misses: HashMap<QueryId, Miss>,
    /// Between [`SPAN_MIN_MS`] and [`SPAN_MAX_MS`]: what the history is read whole of.
    span_ms: i64,
    /// When it was last said that costs are checked late.
    warned: Option<Instant>,
}

struct Miss {
    started_unix_ms: i64,
    looks: u32,
}

impl Reconciler {
    /// `None` where there is nothing to ask, or nothing to ask with.
    pub fn new(parts: &Parts, every: Option<Duration>) -> Option<Self> {
        let (engine, every) = (parts.databricks.clone()?, every?);
        if !engine.is_watched() {
            tracing::info!("costs aren't checked against the warehouse's history: set databricks.monitor_token to have that");
            return None;
        }
        let warehouse = Arc::new(Watched { engine, pipeline: parts.pipeline.clone() });
        Some(Self::of(warehouse, parts.store.clone(), every))
    }

    fn of(warehouse: Arc<dyn Warehouse>, store: Arc<dyn Store>, every: Duration) -> Self {
        Self { warehouse, store, every, batch: QUERIES_MAX, misses: HashMap::new(), span_ms: SPAN_MAX_MS, warned: None }
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

    /// Looks at every query that waits, a batch after another: the next one begins behind the last, whatever
    /// came of it, so that queries which the history doesn't know hold up none that it does. The number of
    /// queries whose cost was found.
    async fn round(&mut self) -> Result<usize> {
        if !self.warehouse.was_seen() {
            return Ok(0);
        }
        let now = unix_ms();
        let (oldest, until) = (now - millis(LOOK_BACK), now - millis(SETTLE_MAX.min(self.every)));
        self.misses.retain(|_, miss| miss.started_unix_ms >= oldest);
        self.span_ms = (self.span_ms * 2).min(SPAN_MAX_MS);
        let (mut from, mut found, mut reading) = (oldest, 0, Reading::default());
        loop {
            let waiting = self.store.unreconciled(from, until, self.batch).await?;
            if from == oldest {
                self.warn_if_late(waiting.first(), now);
            }
            found += self.check(&waiting, &mut reading, now).await?;
            let Some(last) = waiting.last().filter(|_| waiting.len() >= self.batch) else { return Ok(found) };
            // Others of the same millisecond come in the next round.
            from = last.started_unix_ms + 1;
        }
    }

    /// The number of these queries, oldest first, whose cost was found.
    async fn check(&mut self, mut waiting: &[Unreconciled], reading: &mut Reading, now: i64) -> Result<usize> {
        let mut found = 0;
        while let Some(first) = waiting.first() {
            let end = waiting.partition_point(|query| query.started_unix_ms < first.started_unix_ms + TOGETHER_MS);
            let (queries, later) = waiting.split_at(end.max(1));
            waiting = later;
            let last = queries.last().map_or(first.started_unix_ms, |query| query.started_unix_ms);
            let (from, until) = (first.started_unix_ms - self.before_ms(), (last + AFTER_MS).min(unix_ms()));
            reading.read_on(self.warehouse.as_ref(), from, until, &mut self.span_ms).await?;
            let costs = self.costs(queries, &reading.runs(), now);
            for part in costs.chunks(NOTED_MAX) {
                self.store.record_costs(part).await?;
            }
            found += costs.iter().filter(|cost| cost.usd.is_some()).count();
        }
        Ok(found)
    }

    /// An outage of the history may be the cause, or more queries than can be looked up.
    fn warn_if_late(&mut self, oldest: Option<&Unreconciled>, now: i64) {
        let Some(late_ms) = oldest.map(|query| now - query.started_unix_ms).filter(|ms| *ms > LATE_MS) else { return };
        if self.warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        self.warned = Some(Instant::now());
        let hours = late_ms / 3_600_000;
        tracing::warn!(hours, "costs wait so long to be checked against the warehouse's history; after 24 hours they stay as they are");
    }

    fn before_ms(&self) -> i64 {
        let tail = match self.warehouse.facts(None).pricing.compute {
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
                let facts = self.warehouse.facts(Some(run));
                let usd = marginal_usd(run.run_ms, run.read_bytes.unwrap_or(query.scan_bytes), query.result_bytes, &facts);
                let read_bytes = run.read_bytes;
                costs.push(Cost { query_id: query.query_id, usd: Some(usd), warehouse_ms: Some(run.run_ms), read_bytes });
                continue;
            }
            let miss = self.misses.entry(query.query_id).or_insert(Miss { started_unix_ms: query.started_unix_ms, looks: 0 });
            miss.looks += 1;
            if miss.looks >= MISSES_MAX && now - query.started_unix_ms > MISSED_AFTER_MS {
                costs.push(Cost { query_id: query.query_id, usd: None, warehouse_ms: None, read_bytes: None });
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

/// The warehouse's past as far as one round has read it: onwards in the order of time, each part once.
#[derive(Default)]
struct Reading {
    until_ms: i64,
    /// By id: pieces share their ends.
    statements: HashMap<String, PastStatement>,
    /// Some piece couldn't be read whole.
    cut: bool,
}

impl Reading {
    /// Reads on, in pieces that can be read whole, and forgets what had ended before `from_ms`. From then on
    /// everything is known; of what had begun before, what still ran and wasn't older than [`LONG_MS`].
    async fn read_on(&mut self, warehouse: &dyn Warehouse, from_ms: i64, until_ms: i64, span_ms: &mut i64) -> Result<()> {
        self.statements.retain(|_, statement| runs_after(statement, from_ms));
        self.until_ms = self.until_ms.max(from_ms - LONG_MS);
        while self.until_ms < until_ms {
            let end = until_ms.min(self.until_ms + *span_ms);
            let past = warehouse.past(self.until_ms, end).await?;
            let length = end - self.until_ms;
            if !past.whole && length > SPAN_MIN_MS {
                *span_ms = (length / 2).max(SPAN_MIN_MS);
                continue;
            }
            if !past.whole && !self.cut {
                self.cut = true;
                tracing::warn!("the warehouse's history is too long to be read whole; some costs stay unchecked");
            }
            let known = past.statements.into_iter().filter(|statement| runs_after(statement, from_ms));
            self.statements.extend(known.map(|statement| (statement.statement_id.clone(), statement)));
            self.until_ms = end;
        }
        Ok(())
    }

    fn runs(&self) -> Vec<PastRun> {
        let statements: Vec<PastStatement> = self.statements.values().cloned().collect();
        flightpath_engine_databricks::runs(&statements)
    }
}

fn runs_after(statement: &PastStatement, unix_ms: i64) -> bool {
    statement.ended_ms.is_none_or(|ended| ended >= unix_ms)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

#[cfg(test)]
pub(crate) mod tests;
