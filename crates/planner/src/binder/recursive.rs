//! Recursive common table expressions: an anchor, and a step that sees the rows of the step before
//! it. A hidden column counts the steps, since Databricks raises where they don't end.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::{Column, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::logical_plan::RecursiveQuery;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion::sql::sqlparser::ast::{self, Ident};
use flightpath_functions::{RECURSION_LEVEL, RECURSION_ROW, Typed, types};
use flightpath_types::{Error, Result};

use super::cte::{FoundCte, refers_to};
use super::error::built;
use super::query::State;
use super::scope::{Col, LEVEL, Relation};

/// The rows of the step before, as the step's FROM names them.
pub(super) struct Work {
    pub name: String,
    pub relation: Relation,
}

impl State<'_> {
    pub fn recursive(&mut self, found: &FoundCte<'_>) -> Result<Relation> {
        let cte = found.cte;
        let name = cte.alias.name.value.as_str();
        let Members { anchor, step } = members(cte)?;
        let columns: Vec<Ident> = cte.alias.columns.iter().map(|c| c.name.clone()).collect();
        let anchor = self.bind_set_expr(anchor, &found.sees, found.outer_scope)?.aliased(name, &columns)?;
        let mut exprs: Vec<Expr> = anchor.cols.iter().map(|c| Expr::Column(c.column.clone())).collect();
        exprs.push(Expr::Literal(ScalarValue::Int32(Some(0)), None));
        let (first, names) = self.project(anchor.plan, exprs)?;

        let table = self.column();
        let work = work_relation(&table, name, &anchor.cols, &names)?;
        let work = Work { name: name.to_string(), relation: work };
        let sees = found.sees.stepping(&work);
        let next = self.bind_select(&step, None, &sees, found.outer_scope)?;
        check_place(&next.plan, &table)?;
        if next.cols.len() != names.len() {
            return Err(super::error::classed(
                "NUM_COLUMNS_MISMATCH",
                "42826",
                format!(
                    "UNION can only be performed on inputs with the same number of columns, but the first input has {} columns and the second input has {} columns.",
                    anchor.cols.len(),
                    next.cols.len().saturating_sub(1)
                ),
            ));
        }
        if let Some((have, want)) = next.cols.iter().zip(&anchor.cols).find(|(n, a)| !types::same(&n.ty, &a.ty)) {
            return Err(Error::not_eligible(format!(
                "a recursive step that gives {} where its anchor gives {} isn't known",
                types::name(&have.ty),
                types::name(&want.ty)
            )));
        }
        let aliased = next.cols.iter().zip(&names).map(|(c, n)| Expr::Column(c.column.clone()).alias(n.name.clone())).collect();
        let step = LogicalPlan::Projection(built(Projection::try_new(aliased, Arc::new(next.plan)))?);
        let query = built(RecursiveQuery::try_new(table, Arc::new(first), Arc::new(step), false))?;
        let kept = names.iter().take(anchor.cols.len()).cloned().map(Expr::Column).collect();
        let plan = self.count_rows(LogicalPlan::RecursiveQuery(query))?;
        let (plan, out) = self.project(plan, kept)?;
        let mut cols = anchor.cols;
        for ((col, step), column) in cols.iter_mut().zip(&next.cols).zip(out) {
            col.nullable |= step.nullable;
            col.column = column;
        }
        Ok(Relation { plan, cols, ordered: false })
    }
}

impl State<'_> {
    /// Databricks raises where a recursion makes more rows than it allows.
    fn count_rows(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let name = self.column();
        let number = row_number_udwf().call(Vec::new()).alias(name.clone());
        let plan = built(LogicalPlanBuilder::from(plan).window(vec![number]).and_then(LogicalPlanBuilder::build))?;
        let field = Arc::new(Field::new("", DataType::Int64, true));
        let number = Expr::Cast(Cast { expr: Box::new(Expr::Column(Column::new_unqualified(name))), field });
        let allowed = self.function(RECURSION_ROW, vec![Typed::new(number, DataType::Int64, false)])?;
        super::select::filter(plan, allowed.expr)
    }
}

struct Members<'c> {
    anchor: &'c ast::SetExpr,
    step: ast::Select,
}

/// `anchor UNION ALL step`, the step with the number of its level behind its columns.
fn members(cte: &ast::Cte) -> Result<Members<'_>> {
    let name = cte.alias.name.value.as_str();
    let no = |why: &str| Error::not_eligible(format!("the recursive common table expression `{name}` {why}"));
    let query = cte.query.as_ref();
    let plain = query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.pipe_operators.is_empty();
    let ast::SetExpr::SetOperation { left, op: ast::SetOperator::Union, set_quantifier, right } = query.body.as_ref() else {
        return Err(no("isn't `anchor UNION ALL step`"));
    };
    match set_quantifier {
        ast::SetQuantifier::All => {}
        ast::SetQuantifier::None | ast::SetQuantifier::Distinct => {
            return Err(super::error::classed(
                "UNION_NOT_SUPPORTED_IN_RECURSIVE_CTE",
                "42836",
                format!(
                    "The UNION operator is not supported within the recursive common table expression `{name}`. Use UNION ALL instead."
                ),
            ));
        }
        ast::SetQuantifier::ByName | ast::SetQuantifier::AllByName | ast::SetQuantifier::DistinctByName => {
            return Err(no("isn't `anchor UNION ALL step`"));
        }
    }
    let ast::SetExpr::Select(step) = right.as_ref() else { return Err(no("has a step that isn't a SELECT")) };
    if !plain || refers_to(left.as_ref(), name) > 0 {
        return Err(no("has more than an anchor and a step"));
    }
    let ungrouped = matches!(&step.group_by, ast::GroupByExpr::Expressions(keys, modifiers) if keys.is_empty() && modifiers.is_empty());
    if step.distinct.is_some() || !ungrouped || step.having.is_some() || step.qualify.is_some() || !step.lateral_views.is_empty() {
        return Err(no("has a step with DISTINCT, GROUP BY, HAVING, QUALIFY or LATERAL VIEW"));
    }
    let factors = step.from.iter().flat_map(|f| std::iter::once(&f.relation).chain(f.joins.iter().map(|j| &j.relation)));
    let own: Vec<&Ident> = factors.filter_map(|f| own_name(f, name)).collect();
    let ([known_as], 1) = (own.as_slice(), refers_to(right.as_ref(), name)) else {
        return Err(no("isn't named exactly once in the step's FROM"));
    };
    let mut step = step.as_ref().clone();
    step.projection.push(ast::SelectItem::ExprWithAlias { expr: next_level(known_as), alias: Ident::new(LEVEL) });
    Ok(Members { anchor: left, step })
}

/// What the step calls the rows of the step before, if `factor` is these.
fn own_name<'f>(factor: &'f ast::TableFactor, name: &str) -> Option<&'f Ident> {
    let ast::TableFactor::Table { name: written, alias, args: None, version: None, .. } = factor else { return None };
    let [ast::ObjectNamePart::Identifier(ident)] = written.0.as_slice() else { return None };
    ident.value.eq_ignore_ascii_case(name).then(|| alias.as_ref().map_or(ident, |a| &a.name))
}

fn next_level(relation: &Ident) -> ast::Expr {
    let level = ast::Expr::CompoundIdentifier(vec![Ident::new(relation.value.clone()), Ident::new(LEVEL)]);
    let args = ast::FunctionArgumentList {
        duplicate_treatment: None,
        args: vec![ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(level))],
        clauses: Vec::new(),
    };
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![Ident::new(RECURSION_LEVEL)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Databricks takes every column of the step before for nullable.
fn work_relation(table: &str, name: &str, anchor: &[Col], names: &[Column]) -> Result<Relation> {
    let types = anchor.iter().map(|c| c.ty.clone()).chain([DataType::Int32]);
    let fields: Vec<Field> = names.iter().zip(types).map(|(n, ty)| Field::new(n.name.clone(), ty, true)).collect();
    let reference = TableReference::bare(table);
    let source = provider_as_source(Arc::new(CteWorkTable::new(table, Arc::new(Schema::new_with_metadata(fields, HashMap::new())))));
    let plan = built(LogicalPlanBuilder::scan(reference.clone(), source, None).and_then(LogicalPlanBuilder::build))?;
    let qualifier: Arc<[String]> = Arc::from(vec![name.to_lowercase()]);
    let mut cols = anchor.to_vec();
    for (col, n) in cols.iter_mut().zip(names) {
        col.qualifier = Some(qualifier.clone());
        col.column = Column::new(Some(reference.clone()), n.name.clone());
        col.nullable = true;
    }
    if let Some(level) = names.last() {
        cols.push(Col {
            name: Arc::from(LEVEL),
            qualifier: Some(qualifier),
            column: Column::new(Some(reference), level.name.clone()),
            ty: DataType::Int32,
            nullable: true,
            hidden: true,
        });
    }
    Ok(Relation { plan, cols, ordered: false })
}

/// The step before may stand only where each of its rows counts by itself.
fn check_place(plan: &LogicalPlan, table: &str) -> Result<()> {
    fn reads(plan: &LogicalPlan, table: &str) -> bool {
        match plan {
            LogicalPlan::TableScan(scan) => scan.table_name.table() == table,
            other => other.inputs().iter().any(|input| reads(input, table)),
        }
    }
    let mut node = plan;
    loop {
        let allowed = match node {
            LogicalPlan::TableScan(_) => return Ok(()),
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Unnest(_) => true,
            LogicalPlan::Join(join) => match join.join_type {
                JoinType::Inner => true,
                JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => reads(&join.left, table),
                JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => reads(&join.right, table),
                JoinType::Full | JoinType::LeftMark | JoinType::RightMark => false,
            },
            _ => false,
        };
        let input = node.inputs().into_iter().find(|input| reads(input, table));
        match (allowed, input) {
            (true, Some(input)) => node = input,
            _ => {
                return Err(Error::not_eligible(
                    "a recursive reference under an aggregate, a window, an outer join or the like isn't known",
                ));
            }
        }
    }
}
