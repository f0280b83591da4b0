//! ORDER BY: keys by alias, ordinal, expression or ALL, with Databricks' place for NULLs written out.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;
use flightpath_functions::ops::comparable_float;
use flightpath_functions::{Typed, types};
use flightpath_types::{Error, Result};

use super::cte::Ctes;
use super::error::{self, built};
use super::place::Place;
use super::query::State;
use super::scope::{Relation, Scope};
use super::select::Item;

/// One key of a sort.
pub(super) struct SortKey {
    pub expr: Expr,
    /// Set for ordinals and ALL: the output column itself.
    pub position: Option<usize>,
    pub ty: DataType,
    pub asc: bool,
    pub nulls_first: bool,
    pub name: String,
}

impl SortKey {
    pub fn over(&self, expr: Expr) -> Vec<Sort> {
        sorts(expr, &self.ty, self.asc, self.nulls_first)
    }
}

/// A key's sort. The place of NULLs is that of whole values: inside of arrays and structs they are always
/// the least, which DataFusion knows for the default places only.
fn sorts(expr: Expr, ty: &DataType, asc: bool, nulls_first: bool) -> Vec<Sort> {
    if !ty.is_nested() || nulls_first == asc {
        return vec![Sort { expr, asc, nulls_first }];
    }
    let absent = Expr::IsNull(Box::new(expr.clone()));
    vec![Sort { expr: absent, asc: !nulls_first, nulls_first: !nulls_first }, Sort { expr, asc, nulls_first: asc }]
}

/// NULLs come first ascending and last descending unless it's said otherwise.
pub(super) fn direction(options: &ast::OrderByOptions) -> (bool, bool) {
    let asc = options.asc.unwrap_or(true);
    (asc, options.nulls_first.unwrap_or(asc))
}

impl State<'_> {
    pub fn sort_keys(&mut self, place: &Place<'_>, order_by: &ast::OrderBy, items: &[Item]) -> Result<Vec<SortKey>> {
        match &order_by.kind {
            ast::OrderByKind::All(options) => {
                let (asc, nulls_first) = direction(options);
                let key = |(i, item): (usize, &Item)| SortKey {
                    expr: item.t.expr.clone(),
                    position: Some(i),
                    ty: item.t.ty.clone(),
                    asc,
                    nulls_first,
                    name: item.name.to_string(),
                };
                Ok(items.iter().enumerate().map(key).collect())
            }
            ast::OrderByKind::Expressions(exprs) => exprs.iter().map(|e| self.sort_key(place, e, items)).collect(),
        }
    }

    fn sort_key(&mut self, place: &Place<'_>, key: &ast::OrderByExpr, items: &[Item]) -> Result<SortKey> {
        let (asc, nulls_first) = direction(&key.options);
        let bound = self.expr(place, &key.expr)?;
        if let Some(n) = negative_ordinal(&key.expr) {
            return Err(out_of_range(&n, items.len()));
        }
        if let (ast::Expr::Value(_), Expr::Literal(ScalarValue::Int32(Some(n)), _)) = (bare(&key.expr), &bound.t.expr) {
            let position = usize::try_from(*n).ok().and_then(|n| n.checked_sub(1)).filter(|n| *n < items.len());
            let Some(position) = position else {
                return Err(out_of_range(n, items.len()));
            };
            check_sortable(&items[position].t.ty)?;
            return Ok(SortKey {
                expr: items[position].t.expr.clone(),
                position: Some(position),
                ty: items[position].t.ty.clone(),
                asc,
                nulls_first,
                name: bound.name,
            });
        }
        check_sortable(&bound.t.ty)?;
        if bound.t.expr.contains_outer() {
            return Err(super::subquery::outer_reference("ORDER BY"));
        }
        Ok(SortKey { expr: bound.t.expr, position: None, ty: bound.t.ty, asc, nulls_first, name: bound.name })
    }

    /// ORDER BY over a set operation or VALUES: only its output columns can be named.
    pub fn sort_output(
        &mut self,
        relation: Relation,
        order_by: &ast::OrderBy,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let scope = Scope::new(&relation.cols, outer);
        let items: Vec<Item> = relation.cols.iter().map(|c| Item { name: c.name.clone(), t: c.typed() }).collect();
        let keys = self.sort_keys(&Place::new(&scope, ctes, "ORDER BY"), order_by, &items)?;
        let sorts: Vec<Sort> =
            keys.iter().flat_map(|k| k.over(comparable_float(&self.ctx, Typed::new(k.expr.clone(), k.ty.clone(), true)).expr)).collect();
        let plan = built(LogicalPlanBuilder::from(relation.plan.clone()).sort(sorts).and_then(LogicalPlanBuilder::build))?;
        Ok(Relation { plan, ordered: true, ..relation })
    }
}

fn out_of_range(n: &dyn std::fmt::Display, items: usize) -> Error {
    error::classed(
        "ORDER_BY_POS_OUT_OF_RANGE",
        "42805",
        format!("ORDER BY position {n} is not in select list (valid range is [1, {items}])."),
    )
}

/// Without its parentheses.
fn bare(e: &ast::Expr) -> &ast::Expr {
    match e {
        ast::Expr::Nested(inner) => bare(inner),
        e => e,
    }
}

/// `-1`, which is no column's place either.
pub(super) fn negative_ordinal(e: &ast::Expr) -> Option<String> {
    let ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } = bare(e) else { return None };
    match expr.as_ref() {
        ast::Expr::Value(v) => match &v.value {
            ast::Value::Number(text, _) if text.parse::<u32>().is_ok_and(|n| n <= i32::MIN.unsigned_abs()) => Some(format!("-{text}")),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn check_sortable(ty: &DataType) -> Result<()> {
    if types::is_orderable(ty) || *ty == DataType::Null {
        return Ok(());
    }
    Err(error::mismatch("INVALID_ORDERING_TYPE", format!("The sort order does not support ordering on type {}.", types::sql_name(ty))))
}

/// A window's ORDER BY.
pub(super) fn window_sort(state: &mut State<'_>, place: &Place<'_>, key: &ast::OrderByExpr) -> Result<(Vec<Sort>, String, DataType)> {
    if key.with_fill.is_some() {
        return Err(Error::not_eligible("WITH FILL isn't supported"));
    }
    let (asc, nulls_first) = direction(&key.options);
    let bound = state.expr(place, &key.expr)?;
    check_sortable(&bound.t.ty)?;
    let text = format!("{} {} NULLS {}", bound.name, if asc { "ASC" } else { "DESC" }, if nulls_first { "FIRST" } else { "LAST" });
    let ty = bound.t.ty.clone();
    let key = constant(comparable_float(&state.ctx, bound.t).expr);
    Ok((sorts(key, &ty, asc, nulls_first), text, ty))
}

/// The value of `(SELECT 1)`, which orders nothing: DataFusion can't sort by the subquery where no column is
/// read.
fn constant(key: Expr) -> Expr {
    if let Expr::ScalarSubquery(subquery) = &key
        && let LogicalPlan::Projection(projection) = subquery.subquery.as_ref()
        && let LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, .. }) = projection.input.as_ref()
        && let [only] = projection.expr.as_slice()
        && let value @ Expr::Literal(..) = only.clone().unalias()
    {
        return value;
    }
    key
}
