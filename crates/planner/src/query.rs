//! One query from its syntax tree to a plan that every engine can be asked about.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast;
use flightpath_plan::{BoundTable, CompiledSql, DatabricksText, PlannedQuery, ScanBinding, ScanId};
use flightpath_printer::DuckdbSql;
use flightpath_types::{Error, ErrorKind, Features, Fingerprint, Refusal, RefusalClass, Result, Session};

use crate::binder::{BindInput, Binder, BoundQuery, DatabricksBinder};
use crate::optimize::PlanOptimizer;
use crate::remote::RemoteDescriber;
use crate::{comparable, constants, eligible, features, prune, remote, trace};

pub(crate) struct Compiled {
    pub query: Arc<PlannedQuery>,
    pub parameters: SchemaRef,
    pub cacheable: bool,
    /// A rough size of the plan, for the cache.
    pub bytes: u32,
}

pub(crate) struct Compile<'a> {
    pub text: &'a Arc<str>,
    pub fingerprint: Fingerprint,
    pub session: &'a Session,
    pub optimizer: &'a PlanOptimizer,
    pub plan_nodes_max: usize,
    /// Set where there's a Databricks warehouse.
    pub remote: Option<&'a dyn RemoteDescriber>,
}

impl Compile<'_> {
    pub fn run(&self, query: &ast::Query, input: &BindInput<'_>) -> Result<Compiled> {
        let compiled = catch_unwind(AssertUnwindSafe(|| crate::parse::with_stack(|| self.compile(query, input))));
        compiled.unwrap_or_else(|_| Err(Error::internal("planning failed on this statement; it is a defect of the planner")))
    }

    fn compile(&self, query: &ast::Query, input: &BindInput<'_>) -> Result<Compiled> {
        let bound = trace::bind().in_scope(|| DatabricksBinder.bind(query, input))?;
        let nodes = self.count_nodes(&bound.plan)?;
        constants::check(&bound.plan)?;
        let parameters = parameter_schema(&bound.parameters);
        let open = !parameters.fields().is_empty() && input.parameters.is_none();
        // Without its parameters' values a plan is typed, and that's all that is asked of it.
        let optimized = if open { Ok(bound.plan.clone()) } else { trace::optimize().in_scope(|| self.optimizer.optimize(&bound.plan)) };
        let (optimized, failed) = match optimized {
            Ok(optimized) => (optimized, None),
            Err(reason) => {
                tracing::warn!(fingerprint = %self.fingerprint, reason, "a plan couldn't be optimized");
                (bound.plan.clone(), Some(Refusal::new(RefusalClass::Semantics, reason)))
            }
        };
        let span = trace::prune();
        let scans = span.in_scope(|| prune::bind_scans(&bound.plan, &optimized))?;
        let features = features::extract(&optimized, &scans);
        trace::pruned(span, &features);
        let (cacheable, query) = (bound.cacheable, self.planned(bound, optimized, failed, scans, features, input));
        let bytes = nodes.saturating_mul(4_096).saturating_add(query.duckdb.as_ref().map_or(0, |c| c.sql.len()));
        Ok(Compiled { query: Arc::new(query), parameters, cacheable, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) })
    }

    fn planned(
        &self,
        bound: BoundQuery,
        optimized: LogicalPlan,
        failed: Option<Refusal>,
        mut scans: BTreeMap<ScanId, ScanBinding>,
        features: Features,
        input: &BindInput<'_>,
    ) -> PlannedQuery {
        let tables: Vec<BoundTable> = bound.tables.into_iter().map(|snapshot| BoundTable { snapshot }).collect();
        let (duckdb, datafusion) = match eligible::governed(&tables) {
            Some(refusal) => (Err(refusal.clone()), Err(refusal)),
            None => {
                let duckdb = match eligible::in_process_only(&tables) {
                    Some(refusal) => Err(refusal),
                    None => {
                        trace::print().in_scope(|| flightpath_printer::to_duckdb(&bound.plan)).map(|printed| compiled(printed, &mut scans))
                    }
                };
                (duckdb, failed.map_or_else(|| eligible::on_datafusion(&bound.plan, &optimized), Err))
            }
        };
        let databricks = self.on_databricks(&tables, input);
        let comparable = bound.deterministic && comparable::has_one_answer(&bound.plan);
        PlannedQuery {
            text: self.text.clone(),
            fingerprint: self.fingerprint,
            session: self.session.clone(),
            plan: bound.plan,
            optimized,
            schema: bound.schema,
            tables,
            scans,
            features,
            duckdb,
            databricks,
            datafusion,
            ordered: bound.ordered,
            deterministic: bound.deterministic,
            comparable,
        }
    }

    fn on_databricks(&self, tables: &[BoundTable], input: &BindInput<'_>) -> Result<DatabricksText, Refusal> {
        let Some(warehouse) = self.remote else {
            return Err(Refusal::new(RefusalClass::Policy, "no Databricks warehouse is configured"));
        };
        if let Some(refusal) = eligible::not_in_databricks(tables) {
            return Err(refusal);
        }
        let params = input.parameters.map(|p| p.positional.as_slice());
        let mut text = remote::text(self.text, params, true).map_err(|e| Refusal::new(RefusalClass::Semantics, e.to_string()))?;
        remote::place(&mut text, self.session, warehouse);
        Ok(text)
    }

    /// Counts nodes as often as they are reached: the optimizer rewrites each copy of a shared subplan.
    fn count_nodes(&self, plan: &LogicalPlan) -> Result<usize> {
        let mut nodes = 0usize;
        plan.apply_with_subqueries(|_| {
            nodes += 1;
            Ok(if nodes > self.plan_nodes_max { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
        .map_err(|e| Error::internal(format!("the plan can't be walked: {}", e.strip_backtrace())))?;
        if nodes > self.plan_nodes_max {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("the plan has more than {} steps once its common table expressions are written out", self.plan_nodes_max),
            ));
        }
        Ok(nodes)
    }
}

pub(crate) fn parameter_schema(types: &[DataType]) -> SchemaRef {
    let fields: Vec<Field> = types.iter().enumerate().map(|(i, ty)| Field::new(format!("${}", i + 1), ty.clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

/// The text with its scans bound; a scan that stands for several of the plan's reads what any of them needs.
fn compiled(printed: DuckdbSql, scans: &mut BTreeMap<ScanId, ScanBinding>) -> CompiledSql {
    for (id, stands_for) in &printed.scans {
        if scans.contains_key(id) {
            continue;
        }
        let merged = prune::union_of_bindings(stands_for.iter().filter_map(|scan| scans.get(scan)));
        scans.extend(merged.map(|binding| (*id, binding)));
    }
    CompiledSql { sql: printed.sql, scans: printed.scans.into_keys().collect() }
}

/// Text for `EXPLAIN`.
pub(crate) fn sql_or_reason(duckdb: &Result<CompiledSql, Refusal>) -> String {
    match duckdb {
        Ok(compiled) => compiled.sql.clone(),
        Err(refusal) => format!("not eligible: {}", refusal.reason),
    }
}
