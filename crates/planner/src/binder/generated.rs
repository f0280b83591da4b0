//! Generators in the select list of a grouped query: the groups come first, with the generators'
//! arguments among their columns, and what is generated is made of those.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{self, Expr, Ident, SelectItem};
use flightpath_types::{Error, Result};

use super::cte::Ctes;
use super::generator::as_generator;
use super::pipes::aggregates;
use super::pivot::plain_select;
use super::query::State;
use super::scope::{Col, Qualifier, Relation, Scope};

/// Qualifies columns that only the binder itself names.
const OWN: &str = "\u{1}grouped";

/// Whether a SELECT makes rows of what it groups.
pub(super) fn generates_of_groups(select: &ast::Select) -> Result<bool> {
    let mut generators = false;
    for item in &select.projection {
        generators |= match expression(item) {
            Some(e) => as_generator(e)?.is_some(),
            None => false,
        };
    }
    let plain = matches!(&select.group_by, ast::GroupByExpr::Expressions(keys, modifiers) if keys.is_empty() && modifiers.is_empty());
    Ok(generators && (!plain || select.having.is_some() || select.projection.iter().any(aggregates)))
}

fn expression(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(e) => Some(e),
        SelectItem::ExprWithAlias { expr, alias: _ } | SelectItem::ExprWithAliases { expr, aliases: _ } => Some(expr),
        SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => None,
    }
}

impl State<'_> {
    pub fn generated_of_groups(
        &mut self,
        select: &ast::Select,
        order_by: Option<&ast::OrderBy>,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        if select.qualify.is_some() || !select.sort_by.is_empty() || !select.cluster_by.is_empty() {
            return Err(Error::not_eligible("a generator over groups with QUALIFY, SORT BY or CLUSTER BY isn't supported"));
        }
        let mut inner = select.clone();
        inner.distinct = None;
        inner.projection = Vec::new();
        // What the select list is over the groups' columns; a name of `None` is the column's own.
        let mut items: Vec<(Expr, Option<Vec<Ident>>)> = Vec::new();
        // Where each item stands among the groups' columns, generators nowhere.
        let mut places: Vec<Option<usize>> = Vec::new();
        for item in &select.projection {
            let Some(e) = expression(item) else {
                return Err(Error::not_eligible("`*` beside a generator over groups isn't supported"));
            };
            match as_generator(e)? {
                None => {
                    places.push(Some(inner.projection.len()));
                    items.push((own_column(inner.projection.len()), None));
                    inner.projection.push(item.clone());
                }
                Some((call, _, _)) => {
                    places.push(None);
                    let mut call = call.clone();
                    if let ast::FunctionArguments::List(list) = &mut call.args {
                        for arg in &mut list.args {
                            let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(arg)) = arg else {
                                return Err(Error::not_eligible(format!("the argument `{arg}` isn't supported")));
                            };
                            let own = own_column(inner.projection.len());
                            inner.projection.push(SelectItem::UnnamedExpr(std::mem::replace(arg, own)));
                        }
                    }
                    let aliases = match item {
                        SelectItem::ExprWithAlias { alias, .. } => vec![alias.clone()],
                        SelectItem::ExprWithAliases { aliases, .. } => aliases.clone(),
                        _ => Vec::new(),
                    };
                    items.push((Expr::Function(call), Some(aliases)));
                }
            }
        }
        renumber(&mut inner.group_by, &places)?;
        let mut relation = self.bind_select(&inner, None, ctes, outer)?;
        let qualifier: Qualifier = Arc::from(vec![OWN.to_string()]);
        let visible: Vec<Col> = relation.visible().cloned().collect();
        let projection: Vec<SelectItem> = items
            .into_iter()
            .map(|(expr, names)| match names {
                None => SelectItem::ExprWithAlias { alias: Ident::new(name_of(&expr, &visible)), expr },
                Some(names) => match <[Ident; 1]>::try_from(names) {
                    Ok([alias]) => SelectItem::ExprWithAlias { expr, alias },
                    Err(aliases) if aliases.is_empty() => SelectItem::UnnamedExpr(expr),
                    Err(aliases) => SelectItem::ExprWithAliases { expr, aliases },
                },
            })
            .collect();
        relation.cols = visible
            .into_iter()
            .enumerate()
            .map(|(i, col)| Col { name: Arc::from(i.to_string()), qualifier: Some(qualifier.clone()), hidden: true, ..col })
            .collect();
        let projection = self.select_generator(&mut relation, &projection, ctes, outer)?.unwrap_or(projection);
        let mut over = plain_select(projection.clone(), Vec::new());
        over.distinct = select.distinct.clone();
        let scope = Scope::new(&relation.cols, outer);
        self.select_over(&over, &projection, order_by, relation.plan.clone(), &scope, ctes)
    }
}

/// Numbers in GROUP BY count the written select list.
fn renumber(group_by: &mut ast::GroupByExpr, places: &[Option<usize>]) -> Result<()> {
    let ast::GroupByExpr::Expressions(keys, _) = group_by else { return Ok(()) };
    for key in keys {
        let Expr::Value(v) = key else { continue };
        let ast::Value::Number(text, _) = &mut v.value else { continue };
        let written = text.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).and_then(|n| places.get(n).copied());
        match written {
            Some(Some(place)) => *text = (place + 1).to_string(),
            _ => {
                return Err(super::error::classed(
                    "GROUP_BY_POS_OUT_OF_RANGE",
                    "42805",
                    format!("GROUP BY position {text} is not in select list (valid range is [1, {}]).", places.len()),
                ));
            }
        }
    }
    Ok(())
}

fn own_column(at: usize) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::new(OWN), Ident::new(at.to_string())])
}

fn name_of(own: &Expr, cols: &[Col]) -> String {
    let at = match own {
        Expr::CompoundIdentifier(parts) => parts.last().and_then(|p| p.value.parse::<usize>().ok()),
        _ => None,
    };
    at.and_then(|at| cols.get(at)).map_or_else(String::new, |c| c.name.to_string())
}
