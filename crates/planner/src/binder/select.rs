//! One SELECT: FROM, WHERE, grouping, HAVING, windows, QUALIFY, the select list, DISTINCT, ORDER BY.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;
use flightpath_functions::ops::{canonical_float, comparable_float};
use flightpath_functions::{Typed, lazy, types};
use flightpath_types::{Error, Result};

use super::aggregate::Aggregates;
use super::cte::Ctes;
use super::error::{self, built};
use super::expr::Bound;
use super::generator::OWN as GENERATED;
use super::group_by::Grouped;
use super::input_order;
use super::order::SortKey;
use super::pipes::aggregates;
use super::place::{Alias, Aliases, Names, Place};
use super::query::State;
use super::rebase::alike;
use super::scope::{Col, Relation, Scope};
use super::window::Windows;

/// One column of the select list.
pub(super) struct Item {
    pub name: Arc<str>,
    pub t: Typed,
}

impl State<'_> {
    pub fn bind_select(
        &mut self,
        select: &ast::Select,
        order_by: Option<&ast::OrderBy>,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        if super::generated::generates_of_groups(select)? {
            return self.generated_of_groups(select, order_by, ctes, outer);
        }
        let mut input = self.from(&select.from, ctes, outer)?;
        for view in &select.lateral_views {
            input = self.lateral_view(input, view, ctes, outer)?;
        }
        if let Some(selection) = &select.selection {
            let scope = Scope::new(&input.cols, outer);
            let condition = self.condition(&Place::new(&scope, ctes, "WHERE"), selection)?;
            input.plan = filter(input.plan, condition.t.expr)?;
        }
        if matches!(select.flavor, ast::SelectFlavor::FromFirstNoSelect) {
            return Ok(input);
        }
        let windowed = self.time_windows(&mut input, select, order_by, ctes, outer)?;
        let (select, order_by) = match &windowed {
            Some((select, order_by)) => (select, order_by.as_ref()),
            None => (select, order_by),
        };
        let generated;
        let projection = match self.select_generator(&mut input, &select.projection, ctes, outer)? {
            Some(rewritten) => {
                generated = rewritten;
                generated.as_slice()
            }
            None => select.projection.as_slice(),
        };
        let cols = std::mem::take(&mut input.cols);
        let scope = Scope::new(&cols, outer);
        self.select_over(select, projection, order_by, input.plan, &scope, ctes)
    }

    pub fn select_over(
        &mut self,
        select: &ast::Select,
        projection: &[ast::SelectItem],
        order_by: Option<&ast::OrderBy>,
        plan: LogicalPlan,
        scope: &Scope<'_>,
        ctes: &Ctes<'_>,
    ) -> Result<Relation> {
        let aggregates = Aggregates::default();
        let windows = Windows::new(&select.named_window);
        windows.check()?;
        let aliases: Aliases = RefCell::new(HashMap::new());
        let plan = match input_order::matters(select, projection) {
            true => {
                let (plan, order) = input_order::of(plan);
                aggregates.set_order(order);
                plan
            }
            false => plan,
        };
        let base =
            Place { aggregates: Some(&aggregates), windows: Some(&windows), aliases: Some(&aliases), ..Place::new(scope, ctes, "SELECT") };
        // Grouping sets make their columns nullable before the select list is typed.
        let sets = self.grouping_sets(select, scope, ctes)?;
        let nulled: HashSet<Expr> = sets.as_ref().map(|s| s.nulled()).unwrap_or_default();
        let base = Place { nulled: (!nulled.is_empty()).then_some(&nulled), ..base };
        if let Some(sets) = &sets {
            aggregates.set_grouping(sets, self)?;
        }
        let items = self.items(&base, projection)?;
        if order_by.is_some() || select.having.is_some() || select.qualify.is_some() {
            declare_outputs(&aliases, &items);
        }

        let keys = match &sets {
            Some(_) => None,
            None => self.grouping_keys(select, &base, &items)?,
        };
        let grouped_by = match (&sets, &keys) {
            (Some(sets), _) => sets.keys(),
            (None, Some(keys)) => keys.iter().map(|t| t.expr.clone()).collect(),
            (None, None) => HashSet::new(),
        };
        let names = Names::OutputUnless(&grouped_by);
        let having_place = Place { names, clause: "HAVING", windows: None, variables: Vec::new(), ..base };
        let having = select.having.as_ref().map(|h| self.condition(&having_place, h)).transpose()?;
        let late_place = Place { names: Names::InputThenAnyOutput, clause: "QUALIFY", variables: Vec::new(), ..base };
        let qualify = select.qualify.as_ref().map(|q| self.condition(&late_place, q)).transpose()?;
        if select.qualify.is_some() && windows.is_empty() {
            return Err(error::classed(
                "QUALIFY_REQUIRES_WINDOW_FUNCTION",
                "42903",
                "QUALIFY needs a window function in the SELECT list or in the QUALIFY clause itself.",
            ));
        }
        let order_place = Place { names: Names::Output, clause: "ORDER BY", windows: None, variables: Vec::new(), ..base };
        let sort_by = order_keys(select, order_by)?;
        let aggregated = aggregates.used.get();
        let mut sorted_by = match &sort_by {
            Some(order) => self.sort_keys(&order_place, order, &items)?,
            None => Vec::new(),
        };
        if let (true, None, None, false, Some(key)) =
            (aggregates.used.get(), &sets, &keys, aggregated || having.is_some(), sort_by.as_ref().and_then(aggregate_key))
        {
            return Err(unsortable(key, "in a SELECT that doesn't aggregate"));
        }
        // Only the select list is left of the groups there.
        let distinct = select.distinct.as_ref().filter(|distinct| !matches!(distinct, ast::Distinct::All));
        let left_behind = distinct.is_some() || having.as_ref().is_some_and(|having| !made_of(&having.t.expr, &items));
        if left_behind && let Some(key) = sort_by.as_ref().and_then(aggregate_key) {
            return Err(unsortable(key, "behind DISTINCT, nor behind a HAVING of what the SELECT list doesn't have"));
        }

        let grouped = match (sets, keys) {
            (Some(sets), _) => Some(Grouped::new(sets)),
            (None, Some(keys)) => Some(Grouped::Plain(keys)),
            // All rows are one group.
            (None, None) => (aggregates.used.get() || having.is_some()).then(|| Grouped::Plain(Vec::new())),
        };
        grouped.as_ref().map_or(Ok(()), Grouped::check)?;
        let mut plan = plan;
        let mut exprs: Vec<Expr> = items.iter().map(|i| i.t.expr.clone()).collect();
        let mut having = having.map(|h| h.t.expr);
        let mut qualify = qualify.map(|q| q.t.expr);
        let mut window_calls = windows.take();
        if let Some(grouped) = grouped {
            let (aggregated, rewriter) = self.aggregate(plan, grouped, &aggregates)?;
            aggregates.check_asked(&rewriter)?;
            plan = aggregated;
            for expr in exprs
                .iter_mut()
                .chain(having.iter_mut())
                .chain(qualify.iter_mut())
                .chain(sorted_by.iter_mut().map(|k| &mut k.expr))
                .chain(window_calls.iter_mut().map(|(call, _)| call))
            {
                *expr = rewriter.rewrite(std::mem::take(expr))?;
            }
        }
        if let Some(having) = having {
            plan = filter(plan, having)?;
        }
        plan = self.window_plan(plan, window_calls)?;
        if let Some(qualify) = qualify {
            plan = filter(plan, qualify)?;
        }
        self.output(plan, items, exprs, sorted_by, distinct)
    }

    /// The projection, DISTINCT, the sort, and the projection that takes hidden sort keys off again.
    fn output(
        &mut self,
        plan: LogicalPlan,
        items: Vec<Item>,
        exprs: Vec<Expr>,
        keys: Vec<SortKey>,
        distinct: Option<&ast::Distinct>,
    ) -> Result<Relation> {
        let width = exprs.len();
        let mut all = exprs;
        let mut positions = Vec::with_capacity(keys.len());
        let by_expr: HashMap<Expr, usize> =
            if keys.is_empty() { HashMap::new() } else { all.iter().enumerate().rev().map(|(i, e)| (e.clone(), i)).collect() };
        for key in &keys {
            let position = match (key.position, by_expr.get(&key.expr)) {
                (Some(position), _) => position,
                (None, Some(position)) => *position,
                (None, None) => {
                    if distinct.is_some()
                        && let Some(position) = all.iter().take(width).position(|e| alike(e, &key.expr))
                    {
                        positions.push(position);
                        continue;
                    }
                    if distinct.is_some() {
                        return Err(error::classed(
                            "UNSUPPORTED_FEATURE.ORDER_BY_NOT_IN_DISTINCT",
                            "0A000",
                            format!("ORDER BY {} must be in the select list of SELECT DISTINCT.", key.name),
                        ));
                    }
                    all.push(key.expr.clone());
                    all.len() - 1
                }
            };
            positions.push(position);
        }
        if distinct.is_some() {
            // NaNs are one value, and so are the zeros.
            for (expr, item) in all.iter_mut().zip(&items) {
                *expr = canonical_float(&self.ctx, Typed { expr: std::mem::take(expr), ..item.t.clone() }).expr;
            }
        }
        let (mut plan, columns) = self.project(plan, all)?;
        if matches!(distinct, Some(ast::Distinct::Distinct)) {
            check_distinct(&items)?;
            plan = LogicalPlan::Distinct(Distinct::All(Arc::new(plan)));
        }
        let ordered = !keys.is_empty();
        let mut columns = columns;
        if ordered {
            let sorts = keys
                .iter()
                .zip(positions)
                .flat_map(|(key, position)| {
                    let t = Typed::new(Expr::Column(columns[position].clone()), key.ty.clone(), true);
                    key.over(comparable_float(&self.ctx, t).expr)
                })
                .collect::<Vec<_>>();
            plan = built(LogicalPlanBuilder::from(plan).sort(sorts).and_then(LogicalPlanBuilder::build))?;
            if columns.len() > width {
                let visible = columns[..width].iter().cloned().map(Expr::Column).collect();
                (plan, columns) = self.project(plan, visible)?;
            }
        }
        let cols = items
            .into_iter()
            .zip(columns)
            .map(|(item, column)| Col { name: item.name, qualifier: None, column, ty: item.t.ty, nullable: item.t.nullable, hidden: false })
            .collect();
        Ok(Relation { plan, cols, ordered })
    }

    /// The select list, stars expanded. Each alias is known to the items after it.
    fn items(&mut self, place: &Place<'_>, projection: &[ast::SelectItem]) -> Result<Vec<Item>> {
        let mut items = Vec::with_capacity(projection.len());
        for item in projection {
            match item {
                ast::SelectItem::UnnamedExpr(e) => {
                    let bound = self.expr(place, e)?;
                    let name = super::names::output(e, &bound.name);
                    items.push(Item { name: Arc::from(name), t: bound.t });
                }
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    let bound = self.expr(place, expr)?;
                    let made = matches!(expr, ast::Expr::CompoundIdentifier(parts) if parts.first().is_some_and(|p| p.value == GENERATED));
                    declare(place, alias, &bound, made);
                    items.push(Item { name: Arc::from(alias.value.as_str()), t: bound.t });
                }
                ast::SelectItem::ExprWithAliases { expr, aliases: _ } => {
                    return Err(Error::invalid(format!("`{expr}` gives one column; it can't have several names")));
                }
                ast::SelectItem::Wildcard(options) => self.star(place, None, options, &mut items)?,
                ast::SelectItem::QualifiedWildcard(kind, options) => self.star(place, Some(kind), options, &mut items)?,
            }
        }
        Ok(items)
    }
}

fn declare(place: &Place<'_>, alias: &ast::Ident, bound: &Bound, made: bool) {
    if let Some(aliases) = place.aliases {
        aliases
            .borrow_mut()
            .entry(alias.value.to_lowercase())
            .and_modify(|a| *a = Alias::Ambiguous)
            .or_insert_with(|| if made { Alias::Made(bound.clone()) } else { Alias::One(bound.clone()) });
    }
}

/// Names of items without an alias: `SELECT c.address.city ... ORDER BY city`. An alias goes before.
fn declare_outputs(aliases: &Aliases, items: &[Item]) {
    let mut aliases = aliases.borrow_mut();
    for item in items {
        aliases
            .entry(item.name.to_lowercase())
            .and_modify(|known| match known {
                Alias::Output(bound) if bound.t.expr != item.t.expr => *known = Alias::Ambiguous,
                _ => {}
            })
            .or_insert_with(|| Alias::Output(Bound::new(item.t.clone(), item.name.as_ref())));
    }
}

fn check_distinct(items: &[Item]) -> Result<()> {
    match items.iter().find(|i| types::holds_map(&i.t.ty)) {
        None => Ok(()),
        Some(item) => Err(error::classed(
            "UNSUPPORTED_FEATURE.SET_OPERATION_ON_MAP_TYPE",
            "0A000",
            format!(
                "Cannot have MAP type columns in DataFrame which calls set operations (INTERSECT, EXCEPT, etc.), but the type of column `{}` is a map.",
                item.name
            ),
        )),
    }
}

/// Databricks sorts what the SELECT list has, or its groups.
fn unsortable(key: &ast::Expr, place: &str) -> Error {
    error::classed(
        "UNSUPPORTED_EXPR_FOR_OPERATOR",
        "42K0E",
        format!("ORDER BY {key}: an aggregate function can't be sorted by {place}. Give it an alias in the SELECT list, and sort by that."),
    )
}

/// Whether a condition rests on nothing but what the select list has.
fn made_of(condition: &Expr, items: &[Item]) -> bool {
    let mut made = true;
    let _ = condition.apply(|e| {
        Ok(match e {
            e if items.iter().any(|item| item.t.expr == *e) => TreeNodeRecursion::Jump,
            Expr::Column(_) => {
                made = false;
                TreeNodeRecursion::Stop
            }
            _ => TreeNodeRecursion::Continue,
        })
    });
    made
}

/// The first sort key that calls an aggregate function.
fn aggregate_key(order: &ast::OrderBy) -> Option<&ast::Expr> {
    match &order.kind {
        ast::OrderByKind::Expressions(keys) => keys.iter().map(|key| &key.expr).find(|key| aggregates(*key)),
        ast::OrderByKind::All(_) => None,
    }
}

/// ORDER BY, or SORT BY and CLUSTER BY, which order rows too.
fn order_keys(select: &ast::Select, order_by: Option<&ast::OrderBy>) -> Result<Option<ast::OrderBy>> {
    if order_by.is_some() {
        return Ok(order_by.cloned());
    }
    let expressions: Vec<ast::OrderByExpr> = select
        .sort_by
        .iter()
        .cloned()
        .chain(select.cluster_by.iter().map(|e| ast::OrderByExpr {
            expr: e.clone(),
            options: ast::OrderByOptions { asc: None, nulls_first: None },
            with_fill: None,
        }))
        .collect();
    Ok((!expressions.is_empty()).then_some(ast::OrderBy { kind: ast::OrderByKind::Expressions(expressions), interpolate: None }))
}

pub(super) fn filter(plan: LogicalPlan, condition: Expr) -> Result<LogicalPlan> {
    built(LogicalPlanBuilder::from(plan).filter(lazy::conjuncts(condition)).and_then(LogicalPlanBuilder::build))
}
