//! The engine: its threads, its limits and the session prepared once for all queries.
//!
//! Queries run on a Tokio runtime of their own. A sort or a hash table keeps its thread busy for
//! milliseconds between two awaits; on the runtime that serves gRPC, that would delay every other
//! client's messages, keep-alives and cancellations. The two meet only in a bounded channel.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use async_trait::async_trait;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::prelude::SessionConfig;
use flightpath_catalog::{AccessRules, TableContents};
use flightpath_engine::{BatchStream, Engine, Execution};
use flightpath_plan::{PlannedQuery, SnapshotSource};
use flightpath_types::{EngineFacts, EngineId, EngineState, Error, Pricing, Refusal, RefusalClass, Result};
use futures::StreamExt;

use crate::constant;
use crate::files::Footers;
use crate::memory::{QueryMemory, SharedMemory};
use crate::run::{self, Running, Work};
use crate::scan::ScanPlanner;
use crate::spill::{TempFiles, TempSpace};
use crate::system::SystemReader;

/// The engine's limits. Sizes in bytes.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads that execute queries, and partitions of each query.
    pub cores: usize,
    /// Over all queries together.
    pub memory_bytes_max: usize,
    pub query_memory_bytes_max: usize,
    /// What the process may hold when an expression makes large values; 0: not looked at.
    pub process_memory_bytes_max: usize,
    /// Temporary files of all queries together.
    pub temp_bytes_max: u64,
    /// Where temporary files go; the system's temporary folder when not set.
    pub temp_dir: Option<PathBuf>,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Queries it is meant to run at once; who admits queries keeps to it.
    pub slots: u32,
    /// Cached Parquet footers.
    pub footer_cache_bytes_max: u64,
    /// US dollars for an hour of this engine, all of it busy.
    pub usd_per_hour: f64,
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Self {
            cores,
            memory_bytes_max: 2 << 30,
            query_memory_bytes_max: 1 << 30,
            process_memory_bytes_max: 0,
            temp_bytes_max: 20 << 30,
            temp_dir: None,
            batch_rows: 8192,
            slots: u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(2).max(4),
            footer_cache_bytes_max: 128 << 20,
            usd_per_hour: 0.0,
        }
    }
}

/// Cost of planning and starting a query that reads nothing, measured with the `overhead` example.
const OVERHEAD_MS: f64 = 0.2;
/// Bytes of compressed Parquet that one core scans in a second; a prior until measured.
const SCAN_BYTES_PER_SECOND_PER_CORE: f64 = 150e6;
/// Reads of files that block at once, over all queries.
const BLOCKING_THREADS_MAX: usize = 64;
/// Deep plans recurse while they are planned.
const THREAD_STACK_BYTES: usize = 8 << 20;

/// DataFusion, in this process.
pub struct DataFusionEngine {
    id: EngineId,
    config: Config,
    state: Arc<SessionState>,
    environment: Arc<RuntimeEnv>,
    memory: Arc<SharedMemory>,
    temp_space: Arc<TempSpace>,
    footers: Footers,
    running: Arc<AtomicU32>,
    draining: AtomicBool,
    /// Bits of a number.
    usd_per_hour: AtomicU64,
    /// Taken when the engine is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl DataFusionEngine {
    pub fn new(config: Config) -> Result<Self> {
        if config.cores == 0 || config.batch_rows == 0 || config.slots == 0 {
            return Err(Error::invalid("engine datafusion needs at least one core, one slot and one row in a batch"));
        }
        if config.process_memory_bytes_max > 0 {
            flightpath_functions::limit::set_process_bytes_max(config.process_memory_bytes_max);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.cores)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("datafusion")
            .thread_stack_size(THREAD_STACK_BYTES)
            .enable_time()
            .build()
            .map_err(|e| Error::unavailable(format!("engine datafusion can't start its threads: {e}")))?;
        let temp_mode = match &config.temp_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let temp_space = TempSpace::new(config.temp_bytes_max);
        let environment = TempFiles::new(temp_mode, temp_space.clone())
            .and_then(|files| {
                let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Custom(Arc::new(files)));
                RuntimeEnvBuilder::new().with_disk_manager_builder(disk).build_arc()
            })
            .map_err(|e| crate::error::of_datafusion(&e).context("engine datafusion can't use its temporary folder"))?;
        let state = SessionStateBuilder::new()
            .with_config(session_config(&config))
            .with_runtime_env(environment.clone())
            .with_physical_optimizer_rules(crate::projections::rules())
            .build();
        Ok(Self {
            id: EngineId::new("datafusion"),
            state: Arc::new(state),
            environment,
            memory: SharedMemory::new(config.memory_bytes_max),
            temp_space,
            footers: Footers::new(config.footer_cache_bytes_max),
            running: Arc::new(AtomicU32::new(0)),
            draining: AtomicBool::new(false),
            usd_per_hour: AtomicU64::new(config.usd_per_hour.to_bits()),
            runtime: Some(runtime),
            config,
        })
    }

    /// A new price of an hour, for what is decided from now on.
    pub fn set_usd_per_hour(&self, usd: f64) {
        self.usd_per_hour.store(usd.to_bits(), Ordering::Relaxed);
    }

    /// Bytes that queries have reserved now.
    pub fn memory_bytes_used(&self) -> usize {
        self.memory.used_bytes()
    }

    /// Bytes of temporary files that queries hold now.
    pub fn temp_bytes_used(&self) -> u64 {
        self.temp_space.used_bytes()
    }

    /// What one query's operators run in: the common environment with a memory limit of its own.
    fn task(&self, query: &PlannedQuery, execution: &Execution) -> Arc<TaskContext> {
        let memory = QueryMemory::new(self.config.query_memory_bytes_max, self.memory.clone(), execution.findings.clone());
        let environment = RuntimeEnv { memory_pool: Arc::new(memory), ..self.environment.as_ref().clone() };
        Arc::new(TaskContext::new(
            Some(execution.query_id.to_string()),
            self.state.session_id().to_string(),
            self.state.config().clone().with_batch_size(crate::batch_rows::of(&query.optimized, self.config.batch_rows)),
            Default::default(),
            Default::default(),
            Default::default(),
            Default::default(),
            Arc::new(environment),
        ))
    }
}

#[async_trait]
impl Engine for DataFusionEngine {
    fn id(&self) -> &EngineId {
        &self.id
    }

    fn facts(&self) -> EngineFacts {
        EngineFacts {
            id: self.id.clone(),
            state: if self.draining.load(Ordering::Acquire) { EngineState::Draining } else { EngineState::Ready },
            shape: format!("datafusion:{}c:{}MiB", self.config.cores, self.config.query_memory_bytes_max >> 20),
            memory_bytes_max: self.config.query_memory_bytes_max as u64,
            slots: self.config.slots,
            running: self.running.load(Ordering::Acquire),
            queued: 0,
            cores: u32::try_from(self.config.cores).unwrap_or(u32::MAX),
            cores_total: u32::try_from(self.config.cores).unwrap_or(u32::MAX),
            overhead_ms: OVERHEAD_MS,
            scan_bytes_per_second_per_core: SCAN_BYTES_PER_SECOND_PER_CORE,
            pricing: Pricing::hourly(f64::from_bits(self.usd_per_hour.load(Ordering::Relaxed))),
        }
    }

    fn eligible(&self, query: &PlannedQuery) -> Result<(), Refusal> {
        query.datafusion.clone()?;
        for table in &query.tables {
            if let AccessRules::Governed(why) = table.access() {
                return Err(Refusal::new(RefusalClass::Governance, format!("table {} is governed: {why}", table.snapshot.name)));
            }
            if matches!(table.snapshot.contents, TableContents::Remote) {
                let reason = format!("the files of table {} can be read only where it lives", table.snapshot.name);
                return Err(Refusal::new(RefusalClass::TableFeature, reason));
            }
        }
        for binding in query.scans.values() {
            // With a store of its own a table is read where it lies.
            let anywhere = binding.snapshot.storage.is_some();
            if let Some(file) = binding.files.iter().find(|file| !(file.path.starts_with('/') || anywhere && file.path.contains("://"))) {
                let reason =
                    format!("table {} has files that aren't on this machine's disks ({})", binding.snapshot.name, scheme(&file.path));
                return Err(Refusal::new(RefusalClass::TableFeature, reason));
            }
        }
        executable(&query.optimized)
    }

    async fn execute(&self, query: Arc<PlannedQuery>, execution: Execution) -> Result<BatchStream> {
        let Some(runtime) = self.runtime.as_ref().filter(|_| !self.draining.load(Ordering::Acquire)) else {
            return Err(Error::unavailable("engine datafusion is shutting down"));
        };
        if let Some(row) = constant::row(&query.optimized) {
            let row = row.map_err(|e| crate::error::of_datafusion(&e))?;
            return Ok(futures::stream::iter([Ok(row)]).boxed());
        }
        let running = Running::start(&self.running);
        // System tables are read on the caller's runtime, to which their connections belong.
        let system = SystemReader::new(&query, &execution.principal).map_err(|e| crate::error::of_datafusion(&e))?;
        let work = Work {
            query_id: execution.query_id,
            deadline: execution.deadline,
            state: self.state.clone(),
            task: self.task(&query, &execution),
            scans: Arc::new(ScanPlanner::new(query.clone(), system, self.footers.clone(), execution.findings.clone())),
            query,
            running,
        };
        Ok(Box::pin(run::start(runtime.handle(), work)))
    }

    async fn shutdown(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

impl Drop for DataFusionEngine {
    fn drop(&mut self) {
        // A runtime can't wait for its threads inside another runtime's task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn session_config(config: &Config) -> SessionConfig {
    let mut options = ConfigOptions::default();
    options.execution.target_partitions = config.cores;
    // Spark's INT96 are instants; read at once in TIMESTAMP's own unit they can't overflow.
    options.execution.parquet.coerce_int96 = Some("us".into());
    options.execution.parquet.coerce_int96_tz = Some("UTC".into());
    // Types are the snapshot's: Utf8, never views.
    options.execution.parquet.schema_force_view_types = false;
    // Filters stay above the scan, which uses them for pruning only: a predicate that a file's
    // adapted columns can't evaluate inside the reader would be dropped there.
    options.execution.parquet.pushdown_filters = false;
    // Nullability is the binder's word; physical expressions (`x IS TRUE`) may say less.
    options.execution.skip_physical_aggregate_schema_check = true;
    SessionConfig::from(options).with_batch_size(config.batch_rows)
}

/// Whether the physical planner can run the plan: no subquery is left that needs its outer row.
fn executable(plan: &LogicalPlan) -> Result<(), Refusal> {
    let mut refusal = None;
    let refuse = |reason: String| Some(Refusal::new(RefusalClass::Semantics, reason));
    let walked = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) if !scan.source.is::<SnapshotSource>() && !is_work_table(scan) => {
                refusal = refuse(format!("table {} isn't a snapshot", scan.table_name))
            }
            LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) | LogicalPlan::Extension(_) => {
                refusal = refuse(format!("datafusion can't run {}", node.display()));
            }
            _ => {}
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                let left = match expr {
                    Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => None,
                    Expr::ScalarSubquery(_) => Some("a correlated scalar subquery"),
                    Expr::Exists(_) => Some("an EXISTS"),
                    Expr::InSubquery(_) | Expr::SetComparison(_) => Some("an IN, ANY or ALL over a subquery"),
                    Expr::OuterReferenceColumn(_, _) => Some("a reference to an outer query"),
                    _ => None,
                };
                if let Some(what) = left {
                    refusal = refuse(format!("{what} couldn't be turned into a join for datafusion"));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (walked, refusal) {
        (_, Some(refusal)) => Err(refusal),
        (Ok(_), None) => Ok(()),
        (Err(e), None) => Err(Refusal::new(RefusalClass::Semantics, format!("datafusion can't walk the plan: {e}"))),
    }
}

/// The step before, inside a recursive query.
fn is_work_table(scan: &TableScan) -> bool {
    source_as_provider(&scan.source).is_ok_and(|table| table.is::<CteWorkTable>())
}

fn scheme(path: &str) -> &str {
    path.split_once("://").map_or("a relative path", |(scheme, _)| scheme)
}
