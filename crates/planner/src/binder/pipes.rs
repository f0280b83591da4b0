//! The pipe operators `|>`: each step is the part of a SELECT that it stands for, over the relation
//! that the steps before it made.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::logical_expr::{Distinct, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, PipeOperator, SelectItem, SetQuantifier, Visit, Visitor};
use flightpath_functions::ops::canonical_float;
use flightpath_functions::{FunctionDef, lookup};
use flightpath_types::{Error, Result};

use super::call::function_name;
use super::cte::Ctes;
use super::error;
use super::pivot::plain_select;
use super::place::Place;
use super::query::State;
use super::scope::{Col, Qualifier, Relation, Scope};
use super::select::filter;
use crate::parse::steps::{self, own_step};

/// Qualifies columns that only the binder itself names.
const OWN: &str = "\u{1}piped";

impl State<'_> {
    /// One `|>` step.
    pub fn pipe(&mut self, relation: Relation, pipe: &PipeOperator, ctes: &Ctes<'_>, outer: Option<&Scope<'_>>) -> Result<Relation> {
        match pipe {
            PipeOperator::Where { expr } => {
                let condition = {
                    let scope = Scope::new(&relation.cols, outer);
                    self.condition(&Place::new(&scope, ctes, "WHERE"), expr)?
                };
                Ok(Relation { plan: filter(relation.plan, condition.t.expr)?, ..relation })
            }
            PipeOperator::Select { exprs } => self.pipe_select(relation, exprs, ctes, outer),
            PipeOperator::Extend { exprs } => {
                if exprs.iter().any(aggregates) {
                    return Err(error::classed(
                        "PIPE_OPERATOR_CONTAINS_AGGREGATE_FUNCTION",
                        "0A000",
                        "Aggregate functions are not allowed behind |> EXTEND; use |> AGGREGATE.",
                    ));
                }
                let mut items = vec![star()];
                items.extend(exprs.iter().cloned());
                let before: Vec<Col> = relation.visible().cloned().collect();
                Ok(still_of(&before, self.pipe_select(relation, &items, ctes, outer)?))
            }
            PipeOperator::OrderBy { exprs } => {
                let order = ast::OrderBy { kind: ast::OrderByKind::Expressions(exprs.clone()), interpolate: None };
                let before: Vec<Col> = relation.visible().cloned().collect();
                Ok(still_of(&before, self.piped(relation, vec![star()], Vec::new(), Some(order), ctes, outer)?))
            }
            PipeOperator::Limit { expr, offset } => {
                let offset = offset.clone().map(|value| ast::Offset { value, rows: ast::OffsetRows::None });
                self.limit(relation, &ast::LimitClause::LimitOffset { limit: Some(expr.clone()), offset, limit_by: Vec::new() }, ctes)
            }
            PipeOperator::As { alias } => relation.aliased(&alias.value, &[]),
            PipeOperator::Drop { columns } => drop_columns(relation, columns),
            PipeOperator::Set { assignments } => {
                assignments.iter().try_fold(relation, |relation, assignment| self.pipe_set(relation, assignment, ctes, outer))
            }
            PipeOperator::Aggregate { full_table_exprs, group_by_expr } => {
                self.pipe_aggregate(relation, full_table_exprs, group_by_expr, ctes, outer)
            }
            PipeOperator::Join(join) => self.join_clause(relation, join, ctes, outer),
            PipeOperator::Union { set_quantifier, queries } => {
                let all = is_all(*set_quantifier)?;
                self.fold_queries(relation, queries, ctes, outer, |state, left, right| state.union(vec![left, right], all))
            }
            PipeOperator::Intersect { set_quantifier, queries } => {
                let all = is_all(*set_quantifier)?;
                self.fold_queries(relation, queries, ctes, outer, |state, left, right| {
                    state.keep_matching(vec![left, right], JoinType::LeftSemi, "INTERSECT", all)
                })
            }
            PipeOperator::Except { set_quantifier, queries } => {
                let all = is_all(*set_quantifier)?;
                self.fold_queries(relation, queries, ctes, outer, |state, left, right| {
                    state.keep_matching(vec![left, right], JoinType::LeftAnti, "EXCEPT", all)
                })
            }
            PipeOperator::Pivot { aggregate_functions, value_column, value_source, alias } => {
                let column = match value_column.as_slice() {
                    [only] => Expr::Identifier(only.clone()),
                    several => Expr::CompoundIdentifier(several.to_vec()),
                };
                let pivoted = self.pivot(relation, aggregate_functions, &[column], value_source, ctes, outer)?;
                named(pivoted, alias.as_ref())
            }
            PipeOperator::Unpivot { value_column, name_column, unpivot_columns, alias } => {
                let value = Expr::Identifier(value_column.clone());
                let columns: Vec<ast::ExprWithAlias> =
                    unpivot_columns.iter().map(|c| ast::ExprWithAlias { expr: Expr::Identifier(c.clone()), alias: None }).collect();
                let unpivoted = self.unpivot(relation, &value, name_column, &columns, false, ctes, outer)?;
                named(unpivoted, alias.as_ref())
            }
            PipeOperator::Call { function, alias: None } => self.pipe_step(relation, function, ctes, outer),
            other => Err(Error::not_eligible(format!("the pipe operator |> {other} isn't supported"))),
        }
    }

    fn pipe_select(&mut self, relation: Relation, items: &[SelectItem], ctes: &Ctes<'_>, outer: Option<&Scope<'_>>) -> Result<Relation> {
        let mut relation = relation;
        let generated = self.select_generator(&mut relation, items, ctes, outer)?;
        let items = generated.unwrap_or_else(|| items.to_vec());
        self.piped(relation, items, Vec::new(), None, ctes, outer)
    }

    /// A step that the parser has no operator for: `|> OFFSET n`, `|> SELECT DISTINCT`, `|> EXCEPT ALL`.
    fn pipe_step(&mut self, mut relation: Relation, call: &ast::Function, ctes: &Ctes<'_>, outer: Option<&Scope<'_>>) -> Result<Relation> {
        let Some((step, argument)) = own_step(call) else {
            return Err(Error::not_eligible(format!("the pipe operator |> CALL {call} isn't supported")));
        };
        match (step, argument) {
            (steps::OFFSET, Some(value)) => {
                let offset = Some(ast::Offset { value: value.clone(), rows: ast::OffsetRows::None });
                self.limit(relation, &ast::LimitClause::LimitOffset { limit: None, offset, limit_by: Vec::new() }, ctes)
            }
            (steps::DISTINCT, _) => {
                relation.cols.retain(|c| !c.hidden);
                super::setop::check_maps(&relation.cols)?;
                let exprs = relation.cols.iter().map(|c| canonical_float(&self.ctx, c.typed()).expr).collect();
                let (plan, columns) = self.project(relation.plan, exprs)?;
                relation.cols.iter_mut().zip(columns).for_each(|(col, column)| col.column = column);
                let plan = LogicalPlan::Distinct(Distinct::All(Arc::new(plan)));
                Ok(Relation { plan, cols: relation.cols, ordered: false })
            }
            (steps::EXCEPT_ALL | steps::INTERSECT_ALL, Some(Expr::Subquery(query))) => {
                let (kind, op) = match step {
                    steps::EXCEPT_ALL => (JoinType::LeftAnti, "EXCEPT"),
                    _ => (JoinType::LeftSemi, "INTERSECT"),
                };
                let queries = std::slice::from_ref(query.as_ref());
                self.fold_queries(relation, queries, ctes, outer, |state, left, right| {
                    state.keep_matching(vec![left, right], kind, op, true)
                })
            }
            _ => Err(Error::internal("a pipe step without its argument")),
        }
    }

    /// `SET column = expr`: the column keeps its place and its name.
    fn pipe_set(
        &mut self,
        relation: Relation,
        assignment: &ast::Assignment,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let ast::AssignmentTarget::ColumnName(target) = &assignment.target else {
            return Err(Error::not_eligible("|> SET of several columns at once isn't supported"));
        };
        let parts = super::from::identifiers(target)?;
        let [name] = parts.as_slice() else {
            return Err(error::classed("PARSE_SYNTAX_ERROR", "42601", format!("|> SET takes plain column names, not {target}.")));
        };
        let mut relation = relation;
        let mut found = false;
        let visible: Vec<Col> = relation.visible().cloned().collect();
        let mut items = Vec::with_capacity(visible.len());
        for (i, col) in visible.iter().enumerate() {
            if col.name.eq_ignore_ascii_case(&name.value) {
                found = true;
                items.push(SelectItem::ExprWithAlias { expr: assignment.value.clone(), alias: name.clone() });
            } else {
                items.push(own_item(&mut relation, col, i));
            }
        }
        if !found {
            return Err(error::unresolved_column(&format!("`{}`", name.value), &names_of(&relation), name.span));
        }
        let mut result = still_of(&visible, self.piped(relation, items, Vec::new(), None, ctes, outer)?);
        result.cols.iter_mut().filter(|c| c.name.eq_ignore_ascii_case(&name.value)).for_each(|c| c.qualifier = None);
        Ok(result)
    }

    /// The grouping expressions' columns, then the aggregates'.
    fn pipe_aggregate(
        &mut self,
        relation: Relation,
        aggregates: &[ast::ExprWithAliasAndOrderBy],
        groups: &[ast::ExprWithAliasAndOrderBy],
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        if let Some(plain) = aggregates.iter().map(|a| item(&a.expr)).find(|a| !self::aggregates(a)) {
            return Err(error::classed(
                "PIPE_OPERATOR_AGGREGATE_EXPRESSION_CONTAINS_NO_AGGREGATE_FUNCTION",
                "0A000",
                format!("|> AGGREGATE takes aggregate functions, but `{plain}` has none."),
            ));
        }
        let mut relation = relation;
        let visible: Vec<Col> = relation.visible().cloned().collect();
        let mut items = Vec::with_capacity(aggregates.len() + groups.len());
        let mut keys = Vec::with_capacity(groups.len());
        for group in groups {
            // A number is the place of a column of the input.
            if let Some(place) = ordinal(&group.expr.expr) {
                let Some((at, col)) = place.checked_sub(1).and_then(|at| visible.get(at).map(|c| (at, c))) else {
                    return Err(error::classed(
                        "GROUP_BY_POS_OUT_OF_RANGE",
                        "42805",
                        format!("GROUP BY position {place} is not in select list (valid range is [1, {}]).", visible.len()),
                    ));
                };
                let item = own_item(&mut relation, col, at);
                if let SelectItem::ExprWithAlias { expr, .. } = &item {
                    keys.push(expr.clone());
                }
                items.push(item);
                continue;
            }
            items.push(item(&group.expr));
            keys.push(group.expr.expr.clone());
        }
        items.extend(aggregates.iter().map(|a| item(&a.expr)));
        let result = self.piped(relation, items, keys, None, ctes, outer)?;
        Ok(Relation { ordered: false, ..result })
    }

    fn fold_queries(
        &mut self,
        relation: Relation,
        queries: &[ast::Query],
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
        combine: impl Fn(&mut Self, Relation, Relation) -> Result<Relation>,
    ) -> Result<Relation> {
        let mut left = relation;
        for query in queries {
            left.cols.retain(|c| !c.hidden);
            let mut right = self.bind_query(query, ctes, outer)?;
            right.cols.retain(|c| !c.hidden);
            left = combine(self, left, right)?;
        }
        Ok(left)
    }

    fn piped(
        &mut self,
        relation: Relation,
        items: Vec<SelectItem>,
        keys: Vec<Expr>,
        order_by: Option<ast::OrderBy>,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let select = plain_select(items.clone(), keys);
        let scope = Scope::new(&relation.cols, outer);
        self.select_over(&select, &items, order_by.as_ref(), relation.plan.clone(), &scope, ctes)
    }
}

/// Whether a part of a statement calls an aggregate function outside of subqueries and windows.
pub(super) fn aggregates<T: Visit>(part: &T) -> bool {
    let mut finder = AggregateFinder { depth: 0, found: false };
    let _ = part.visit(&mut finder);
    finder.found
}

struct AggregateFinder {
    /// How many subqueries deep.
    depth: usize,
    found: bool,
}

impl Visitor for AggregateFinder {
    type Break = ();

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, e: &Expr) -> ControlFlow<()> {
        if let Expr::Function(f) = e
            && self.depth == 0
            && f.over.is_none()
            && let Ok((name, _)) = function_name(f)
        {
            self.found |= matches!(lookup(&name), Some(FunctionDef::Aggregate(_)));
        }
        ControlFlow::Continue(())
    }
}

fn named(relation: Relation, alias: Option<&Ident>) -> Result<Relation> {
    match alias {
        Some(alias) => relation.aliased(&alias.value, &[]),
        None => Ok(relation),
    }
}

/// The first columns stay those of the relations that they came from.
fn still_of(before: &[Col], mut relation: Relation) -> Relation {
    relation.cols.iter_mut().zip(before).for_each(|(col, was)| col.qualifier = was.qualifier.clone());
    relation
}

fn drop_columns(mut relation: Relation, columns: &[Ident]) -> Result<Relation> {
    for column in columns {
        let before = relation.cols.len();
        relation.cols.retain(|c| !c.name.eq_ignore_ascii_case(&column.value));
        if relation.cols.len() == before {
            return Err(error::unresolved_column(&format!("`{}`", column.value), &names_of(&relation), column.span));
        }
    }
    if relation.visible().next().is_none() {
        return Err(Error::not_eligible("a relation without columns isn't supported"));
    }
    Ok(relation)
}

fn is_all(quantifier: SetQuantifier) -> Result<bool> {
    match quantifier {
        SetQuantifier::All => Ok(true),
        SetQuantifier::Distinct | SetQuantifier::None => Ok(false),
        SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName => {
            Err(error::classed("PARSE_SYNTAX_ERROR", "42601", "UNION BY NAME isn't part of Databricks SQL"))
        }
    }
}

/// A column of the relation under a name that nothing else has, and so never ambiguous.
fn own_item(relation: &mut Relation, col: &Col, at: usize) -> SelectItem {
    let own = at.to_string();
    let qualifier: Qualifier = Arc::from(vec![OWN.to_string()]);
    relation.cols.push(Col { name: Arc::from(own.as_str()), qualifier: Some(qualifier), hidden: true, ..col.clone() });
    let expr = Expr::CompoundIdentifier(vec![Ident::new(OWN), Ident::new(own)]);
    SelectItem::ExprWithAlias { expr, alias: Ident::new(col.name.to_string()) }
}

fn item(e: &ast::ExprWithAlias) -> SelectItem {
    match &e.alias {
        Some(alias) => SelectItem::ExprWithAlias { expr: e.expr.clone(), alias: alias.clone() },
        None => SelectItem::UnnamedExpr(e.expr.clone()),
    }
}

fn ordinal(e: &Expr) -> Option<usize> {
    match e {
        Expr::Value(v) => match &v.value {
            ast::Value::Number(text, _) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn names_of(relation: &Relation) -> Vec<String> {
    relation.visible().map(|c| c.name.to_string()).collect()
}

fn star() -> SelectItem {
    SelectItem::Wildcard(ast::WildcardAdditionalOptions::default())
}
