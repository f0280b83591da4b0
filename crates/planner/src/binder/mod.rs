//! Syntax tree to typed plan: names resolved, every expression typed as Databricks types it, before
//! any engine or optimizer sees it. Never asks DataFusion for a type or a coercion, and never lets a
//! construct through whose meaning it doesn't know.

mod aggregate;
mod call;
mod cte;
mod error;
mod expr;
mod frame;
mod from;
mod generated;
mod generator;
mod group_by;
mod input_order;
mod interval;
mod lambda;
mod literal;
mod names;
mod operator;
mod order;
mod pipes;
mod pivot;
mod place;
mod predicate;
mod query;
mod rebase;
mod recursive;
mod reference;
mod scope;
mod select;
mod setop;
mod star;
mod subquery;
mod tables;
mod time_window;
mod typename;
mod unpivot;
mod window;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast;
use flightpath_catalog::{AsOf, TableSnapshot};
use flightpath_functions::BindContext;
use flightpath_types::{Result, Session};

pub use tables::referenced_tables;

/// A table as a statement names it: one to three parts in lower case, and the version it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableRequest {
    pub parts: Vec<String>,
    pub as_of: AsOf,
}

/// What the shell resolved a [`TableRequest`] to. The error is raised if the name is used as a table.
pub type ResolvedTables = HashMap<TableRequest, Result<Arc<TableSnapshot>>>;

/// Values for `?` (by position) and `:name`.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    pub positional: Vec<ScalarValue>,
    pub named: HashMap<String, ScalarValue>,
}

/// All that binding may know besides the syntax tree.
pub struct BindInput<'a> {
    pub session: &'a Session,
    /// The statement's start, microseconds since the Unix epoch.
    pub now_micros: i64,
    pub tables: &'a ResolvedTables,
    /// `None`: parameters stay placeholders and are typed by where they stand.
    pub parameters: Option<&'a Parameters>,
}

/// A query, typed.
#[derive(Debug)]
pub struct BoundQuery {
    /// Output columns have unique internal names, in the order of `schema`.
    pub plan: LogicalPlan,
    /// Databricks' names (which may repeat), types and nullability.
    pub schema: SchemaRef,
    /// Every snapshot that is scanned, once each.
    pub tables: Vec<Arc<TableSnapshot>>,
    /// Types of the parameters by position, when they were left open. Named ones are numbered in the order they appear.
    pub parameters: Vec<DataType>,
    /// Whether the order of rows is part of the answer.
    pub ordered: bool,
    /// False when the plan holds this run's time or the like.
    pub cacheable: bool,
    /// Whether the same text gives the same rows on the same versions.
    pub deterministic: bool,
}

/// Syntax tree to typed plan.
pub trait Binder: Send + Sync {
    fn bind(&self, query: &ast::Query, input: &BindInput<'_>) -> Result<BoundQuery>;
}

/// Databricks' semantics.
#[derive(Debug, Default)]
pub struct DatabricksBinder;

impl Binder for DatabricksBinder {
    fn bind(&self, query: &ast::Query, input: &BindInput<'_>) -> Result<BoundQuery> {
        crate::parse::with_stack(|| {
            crate::guard::check_query(query)?;
            bind_checked(query, input)
        })
    }
}

fn bind_checked(query: &ast::Query, input: &BindInput<'_>) -> Result<BoundQuery> {
    let mut state = query::State::new(input);
    let relation = state.bind_query(query, &cte::Ctes::none(), None)?;
    let fields: Vec<Field> = relation.visible().map(|c| Field::new(c.name.as_ref(), c.ty.clone(), c.nullable)).collect();
    let ordered = relation.ordered;
    let (plan, parameters) = state.finish(relation)?;
    let deterministic = state.is_deterministic(&plan)?;
    Ok(BoundQuery {
        plan,
        schema: Arc::new(Schema::new(fields)),
        tables: state.tables,
        parameters,
        ordered,
        cacheable: !state.ctx.uncacheable.load(std::sync::atomic::Ordering::Relaxed),
        deterministic,
    })
}

fn context(input: &BindInput<'_>) -> BindContext {
    BindContext {
        time_zone: Arc::from(input.session.time_zone.as_str()),
        now_micros: input.now_micros,
        catalog: input.session.catalog.clone(),
        schema: input.session.schema.clone(),
        principal: input.session.principal.to_string(),
        uncacheable: false.into(),
    }
}

#[cfg(test)]
mod tests;
