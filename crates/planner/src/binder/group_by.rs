//! GROUP BY: keys by expression, alias, ordinal or ALL, and GROUPING SETS, ROLLUP and CUBE written out.

use std::collections::HashSet;

use datafusion::common::Column;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast;
use flightpath_functions::{Typed, types};
use flightpath_types::{Error, Result};

use super::aggregate::Aggregates;
use super::cte::Ctes;
use super::error;
use super::place::Place;
use super::query::State;
use super::scope::Scope;
use super::select::Item;

/// Sets one GROUP BY may come to.
const SETS_MAX: usize = 4096;

/// GROUPING SETS, ROLLUP and CUBE, written out as sets of expressions.
#[derive(Debug, Clone)]
pub(super) struct Sets {
    pub exprs: Vec<Typed>,
    pub sets: Vec<Vec<usize>>,
}

/// What a SELECT groups by.
pub(super) enum Grouped {
    Plain(Vec<Typed>),
    Sets(Sets),
}

impl Sets {
    pub fn keys(&self) -> HashSet<Expr> {
        self.exprs.iter().map(|t| t.expr.clone()).collect()
    }

    /// What some set leaves out.
    pub fn nulled(&self) -> HashSet<Expr> {
        let left_out = |i: usize| self.sets.iter().any(|s| !s.contains(&i));
        self.exprs.iter().enumerate().filter(|(i, _)| left_out(*i)).map(|(_, t)| t.expr.clone()).collect()
    }

    fn index(&mut self, t: Typed) -> usize {
        match self.exprs.iter().position(|e| e.expr == t.expr) {
            Some(i) => i,
            None => {
                self.exprs.push(t);
                self.exprs.len() - 1
            }
        }
    }

    /// Each set joined with each of `others`.
    fn cross(&mut self, others: Vec<Vec<usize>>) -> Result<()> {
        let mut sets = Vec::new();
        for set in &self.sets {
            for other in &others {
                let mut joined = set.clone();
                joined.extend(other.iter().filter(|i| !set.contains(i)));
                sets.push(joined);
            }
        }
        if sets.len() > SETS_MAX {
            return Err(Error::invalid(format!("GROUP BY comes to {} grouping sets; the limit is {SETS_MAX}", sets.len())));
        }
        self.sets = sets;
        Ok(())
    }
}

impl Grouped {
    pub fn check(&self) -> Result<()> {
        let keys = match self {
            Grouped::Plain(keys) => keys,
            Grouped::Sets(sets) => &sets.exprs,
        };
        match keys.iter().any(|t| types::holds_map(&t.ty)) {
            true => Err(Error::not_eligible("grouping by a MAP isn't supported; group by map_entries of it")),
            false => Ok(()),
        }
    }

    pub fn new(sets: Sets) -> Self {
        Grouped::Sets(sets)
    }
}

impl State<'_> {
    /// The grouping sets of a SELECT that has some.
    pub fn grouping_sets(&mut self, select: &ast::Select, scope: &Scope<'_>, ctes: &Ctes<'_>) -> Result<Option<Sets>> {
        let ast::GroupByExpr::Expressions(exprs, modifiers) = &select.group_by else { return Ok(None) };
        let is_set = |e: &ast::Expr| matches!(e, ast::Expr::GroupingSets(_) | ast::Expr::Rollup(_) | ast::Expr::Cube(_));
        if modifiers.is_empty() && !exprs.iter().any(is_set) {
            return Ok(None);
        }
        let place = Place::new(scope, ctes, "GROUP BY");
        let mut sets = Sets { exprs: Vec::new(), sets: vec![Vec::new()] };
        let mut plain = Vec::new();
        for e in exprs {
            let groups = match e {
                ast::Expr::GroupingSets(sets) | ast::Expr::Rollup(sets) | ast::Expr::Cube(sets) => Some(sets),
                _ => None,
            };
            let Some(groups) = groups else {
                let t = self.group_key(&place, e, select)?;
                let i = sets.index(t);
                plain.push(i);
                sets.cross(vec![vec![i]])?;
                continue;
            };
            let mut members: Vec<Vec<usize>> = Vec::with_capacity(groups.len());
            for group in groups {
                members.extend(self.grouping_members(&place, group, select, &mut sets)?);
            }
            let expanded = match e {
                ast::Expr::Rollup(_) => rollup(&members),
                ast::Expr::Cube(_) => cube(&members)?,
                _ => members,
            };
            sets.cross(expanded)?;
        }
        for modifier in modifiers {
            let members: Vec<Vec<usize>> = plain.iter().map(|i| vec![*i]).collect();
            sets.sets = match modifier {
                ast::GroupByWithModifier::Rollup => rollup(&members),
                ast::GroupByWithModifier::Cube => cube(&members)?,
                ast::GroupByWithModifier::Totals => return Err(Error::not_eligible("WITH TOTALS isn't part of Databricks SQL")),
                ast::GroupByWithModifier::GroupingSets(ast::Expr::GroupingSets(groups)) => {
                    let mut members = Vec::with_capacity(groups.len());
                    for group in groups {
                        members.extend(self.grouping_members(&place, group, select, &mut sets)?);
                    }
                    members
                }
                ast::GroupByWithModifier::GroupingSets(other) => {
                    return Err(Error::not_eligible(format!("GROUP BY ... {other} isn't supported")));
                }
            };
        }
        if sets.exprs.len() > 60 {
            return Err(Error::invalid("grouping sets over more than 60 columns aren't supported"));
        }
        Ok(Some(sets))
    }

    /// One element of GROUPING SETS: a set, or the sets that a ROLLUP or CUBE inside comes to.
    fn grouping_members(
        &mut self,
        place: &Place<'_>,
        group: &[ast::Expr],
        select: &ast::Select,
        sets: &mut Sets,
    ) -> Result<Vec<Vec<usize>>> {
        if let [ast::Expr::Function(f)] = group
            && let Ok((name, _)) = super::call::function_name(f)
            && let ("rollup" | "cube", ast::FunctionArguments::List(list)) = (name.as_str(), &f.args)
        {
            let mut members = Vec::with_capacity(list.args.len());
            for arg in &list.args {
                let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) = arg else {
                    return Err(Error::invalid(format!("{name} takes expressions, not `{arg}`")));
                };
                let keys = match e {
                    ast::Expr::Tuple(keys) => keys.as_slice(),
                    e => std::slice::from_ref(e),
                };
                let indices: Result<Vec<usize>> = keys.iter().map(|e| Ok(sets.index(self.group_key(place, e, select)?))).collect();
                members.push(indices?);
            }
            return if name == "rollup" { Ok(rollup(&members)) } else { cube(&members) };
        }
        let indices: Result<Vec<usize>> = group.iter().map(|e| Ok(sets.index(self.group_key(place, e, select)?))).collect();
        Ok(vec![indices?])
    }

    /// One GROUP BY expression: an ordinal, an input expression, or a select alias.
    fn group_key(&mut self, place: &Place<'_>, e: &ast::Expr, select: &ast::Select) -> Result<Typed> {
        if let ast::Expr::Nested(inner) = e {
            return self.group_key(place, inner, select);
        }
        if let ast::Expr::Value(v) = e
            && let ast::Value::Number(text, _) = &v.value
            && let Ok(n) = text.parse::<usize>()
        {
            let item = n.checked_sub(1).and_then(|n| select.projection.get(n));
            return match item {
                Some(ast::SelectItem::UnnamedExpr(e) | ast::SelectItem::ExprWithAlias { expr: e, .. }) => Ok(self.expr(place, e)?.t),
                _ => Err(error::classed(
                    "GROUP_BY_POS_OUT_OF_RANGE",
                    "42805",
                    format!("GROUP BY position {n} is not in select list (valid range is [1, {}]).", select.projection.len()),
                )),
            };
        }
        if let ast::Expr::Identifier(ident) = e
            && place.scope.find(std::slice::from_ref(ident))?.is_none()
        {
            let aliased = select.projection.iter().find_map(|item| match item {
                ast::SelectItem::ExprWithAlias { expr, alias } if alias.value.eq_ignore_ascii_case(&ident.value) => Some(expr),
                _ => None,
            });
            if let Some(expr) = aliased {
                return Ok(self.expr(place, expr)?.t);
            }
        }
        Ok(self.expr(place, e)?.t)
    }

    /// What the GROUP BY of a SELECT without grouping sets says; `None` where there is none.
    pub fn grouping_keys(&mut self, select: &ast::Select, base: &Place<'_>, items: &[Item]) -> Result<Option<Vec<Typed>>> {
        let keys = match &select.group_by {
            ast::GroupByExpr::All(modifiers) if !modifiers.is_empty() => {
                return Err(Error::not_eligible("GROUP BY ALL WITH ... isn't supported"));
            }
            // Every item that holds no aggregate.
            ast::GroupByExpr::All(_) => {
                let aggregates = base.aggregates.map(Aggregates::columns).unwrap_or_default();
                let plain: Vec<Typed> =
                    items.iter().filter(|i| !mentions(&i.t.expr, &aggregates) && !has_window(&i.t.expr)).map(|i| i.t.clone()).collect();
                return Ok(Some(plain));
            }
            ast::GroupByExpr::Expressions(exprs, _) => exprs,
        };
        if keys.is_empty() {
            return Ok(None);
        }
        let place =
            Place { aggregates: None, windows: None, aliases: None, nulled: None, clause: "GROUP BY", variables: Vec::new(), ..*base };
        let mut typed = Vec::with_capacity(keys.len());
        for e in keys {
            // Ordinals count the columns that stars have become.
            if let ast::Expr::Value(v) = e
                && let ast::Value::Number(text, _) = &v.value
                && let Ok(n) = text.parse::<usize>()
            {
                let Some(item) = n.checked_sub(1).and_then(|n| items.get(n)) else {
                    return Err(error::classed(
                        "GROUP_BY_POS_OUT_OF_RANGE",
                        "42805",
                        format!("GROUP BY position {n} is not in select list (valid range is [1, {}]).", items.len()),
                    ));
                };
                let aggregates = base.aggregates.map(Aggregates::columns).unwrap_or_default();
                if mentions(&item.t.expr, &aggregates) || has_window(&item.t.expr) {
                    return Err(error::classed(
                        "GROUP_BY_POS_AGGREGATE",
                        "42903",
                        format!(
                            "GROUP BY {n} refers to an expression that contains an aggregate function. Aggregate functions are not allowed in GROUP BY."
                        ),
                    ));
                }
                typed.push(item.t.clone());
                continue;
            }
            if let Some(n) = super::order::negative_ordinal(e) {
                return Err(error::classed(
                    "GROUP_BY_POS_OUT_OF_RANGE",
                    "42805",
                    format!("GROUP BY position {n} is not in select list (valid range is [1, {}]).", items.len()),
                ));
            }
            // `GROUP BY ()` groups everything into one.
            if matches!(e, ast::Expr::Tuple(values) if values.is_empty()) {
                continue;
            }
            typed.push(self.group_key(&place, e, select)?);
        }
        Ok(Some(typed))
    }
}

/// All prefixes, the longest first.
fn rollup(members: &[Vec<usize>]) -> Vec<Vec<usize>> {
    (0..=members.len()).rev().map(|n| members[..n].iter().flatten().copied().collect()).collect()
}

/// All subsets, the fullest first.
fn cube(members: &[Vec<usize>]) -> Result<Vec<Vec<usize>>> {
    if members.len() > 12 {
        return Err(Error::invalid("CUBE of more than 12 columns isn't supported"));
    }
    let n = members.len();
    Ok((0..1usize << n)
        .map(|left_out| (0..n).filter(|i| left_out >> (n - 1 - i) & 1 == 0).flat_map(|i| members[i].iter().copied()).collect())
        .collect())
}

/// Whether an expression uses a window call's result.
fn has_window(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::Column(c) if c.relation.is_none() && c.name.starts_with(super::window::PREFIX)))).unwrap_or(true)
}

/// Whether an expression uses one of the columns.
fn mentions(expr: &Expr, columns: &HashSet<Column>) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::Column(c) if columns.contains(c)))).unwrap_or(true)
}
