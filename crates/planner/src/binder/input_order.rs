//! The order of a query's input, for aggregates whose value depends on it: `collect_list` and `listagg`
//! over a sorted subquery give its order, whatever an engine does with rows that nobody limits.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, Limit, LogicalPlan, Projection};
use datafusion::sql::sqlparser::ast;
use flightpath_functions::Typed;

use super::call::function_name;

/// Whether a SELECT calls an aggregate that collects values in their order.
pub(super) fn matters(select: &ast::Select, projection: &[ast::SelectItem]) -> bool {
    let collects = |e: &ast::Expr| {
        matches!(e, ast::Expr::Function(f) if f.over.is_none() && f.within_group.is_empty()
            && function_name(f).is_ok_and(|(name, _)| matches!(name.as_str(), "collect_list" | "array_agg" | "listagg" | "string_agg")))
    };
    let mut found = false;
    let mut look = |e: &ast::Expr| {
        found |= collects(e);
        if found { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    };
    for item in projection {
        let (ast::SelectItem::UnnamedExpr(e) | ast::SelectItem::ExprWithAlias { expr: e, .. }) = item else { continue };
        let _ = ast::visit_expressions(e, &mut look);
    }
    if let Some(having) = &select.having {
        let _ = ast::visit_expressions(having, &mut look);
    }
    found
}

/// The plan with the keys it is sorted by among its columns, and those keys; none where it isn't sorted.
pub(super) fn of(plan: LogicalPlan) -> (LogicalPlan, Vec<(Typed, Sort)>) {
    let (plan, sorts) = keyed(plan);
    let typed = |sort: &Sort| -> Option<(Typed, Sort)> {
        let (ty, nullable) = (sort.expr.get_type(plan.schema()).ok()?, sort.expr.nullable(plan.schema()).ok()?);
        Some((Typed::new(sort.expr.clone(), ty, nullable), sort.clone()))
    };
    let keys: Option<Vec<(Typed, Sort)>> = sorts.iter().map(typed).collect();
    (plan, keys.unwrap_or_default())
}

fn keyed(plan: LogicalPlan) -> (LogicalPlan, Vec<Sort>) {
    match plan {
        LogicalPlan::Sort(sort) => {
            let keys = sort.expr.clone();
            (LogicalPlan::Sort(sort), keys)
        }
        LogicalPlan::Filter(filter) => {
            let (input, keys) = keyed(Arc::unwrap_or_clone(filter.input.clone()));
            match Filter::try_new(filter.predicate.clone(), Arc::new(input)) {
                Ok(made) => (LogicalPlan::Filter(made), keys),
                Err(_) => (LogicalPlan::Filter(filter), Vec::new()),
            }
        }
        LogicalPlan::Limit(limit) => {
            let (input, keys) = keyed(Arc::unwrap_or_clone(limit.input));
            (LogicalPlan::Limit(Limit { skip: limit.skip, fetch: limit.fetch, input: Arc::new(input) }), keys)
        }
        LogicalPlan::Projection(projection) => through(projection),
        other => (other, Vec::new()),
    }
}

/// The keys as the projection gives them; those it leaves out are added to it.
fn through(projection: Projection) -> (LogicalPlan, Vec<Sort>) {
    let (input, keys) = keyed(Arc::unwrap_or_clone(projection.input.clone()));
    if keys.is_empty() {
        return (LogicalPlan::Projection(projection), keys);
    }
    let mut exprs = projection.expr.clone();
    let mut names: Vec<Column> = projection.schema.columns();
    let mut output = |inner: &Column| -> Column {
        let is_it = |e: &Expr| matches!(e.clone().unalias(), Expr::Column(c) if c == *inner);
        if let Some(i) = exprs.iter().position(is_it) {
            return names[i].clone();
        }
        exprs.push(Expr::Column(inner.clone()));
        names.push(inner.clone());
        inner.clone()
    };
    let moved = keys.into_iter().map(|key| {
        let expr = key.expr.transform(|e| match e {
            Expr::Column(c) => Ok(Transformed::yes(Expr::Column(output(&c)))),
            other => Ok(Transformed::no(other)),
        });
        expr.map(|expr| Sort { expr: expr.data, ..key })
    });
    let moved: Result<Vec<Sort>, _> = moved.collect();
    match (moved, Projection::try_new(exprs, Arc::new(input))) {
        (Ok(moved), Ok(made)) => (LogicalPlan::Projection(made), moved),
        _ => (LogicalPlan::Projection(projection), Vec::new()),
    }
}
