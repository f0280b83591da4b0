//! Grouping: what is grouped by, the aggregate calls, and expressions over them. An expression over
//! a grouped query is first typed over the query's input, then rewritten over the groups.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Case, Cast, Exists, InList, InSubquery, Placeholder, Sort};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, GroupingSet, LogicalPlan, Operator, Subquery};
use datafusion::sql::sqlparser::ast;
use flightpath_functions::ops::{self, canonical_float};
use flightpath_functions::{Typed, types};
use flightpath_types::{Error, Result};

use super::cte::Ctes;
use super::error::{self, built};
use super::place::Place;
use super::query::State;
use super::scope::Scope;
use super::select::Item;

/// The aggregate calls of one SELECT, each once.
#[derive(Debug, Default)]
pub(super) struct Aggregates {
    calls: RefCell<Vec<(Expr, Column)>>,
    known: RefCell<HashMap<Expr, usize>>,
    grouping: RefCell<Option<GroupingIds>>,
    pub used: Cell<bool>,
    /// The keys that the input is sorted by.
    order: RefCell<Vec<(Typed, Sort)>>,
    /// What only its type was asked of, and what that came to: groups must have it nevertheless.
    asked: RefCell<Vec<(Expr, Expr)>>,
}

/// What grouping() and grouping_id() need.
#[derive(Debug, Clone)]
struct GroupingIds {
    /// The column that says which set a row is of, as BIGINT.
    column: Column,
    exprs: Vec<Expr>,
    sets: Vec<Vec<usize>>,
}

impl Aggregates {
    /// The column that holds the call's result.
    pub fn column(&self, state: &mut State<'_>, call: Expr) -> Column {
        self.used.set(true);
        if let Some(i) = self.known.borrow().get(&call) {
            return self.calls.borrow()[*i].1.clone();
        }
        let column = Column::new_unqualified(state.column());
        let mut calls = self.calls.borrow_mut();
        self.known.borrow_mut().insert(call.clone(), calls.len());
        calls.push((call, column.clone()));
        column
    }

    pub fn set_order(&self, keys: Vec<(Typed, Sort)>) {
        *self.order.borrow_mut() = keys;
    }

    pub fn order(&self) -> Vec<(Typed, Sort)> {
        self.order.borrow().clone()
    }

    pub fn set_grouping(&self, sets: &Sets, state: &mut State<'_>) -> Result<()> {
        *self.grouping.borrow_mut() = Some(GroupingIds {
            column: Column::new_unqualified(state.column()),
            exprs: sets.exprs.iter().map(|t| t.expr.clone()).collect(),
            sets: sets.sets.clone(),
        });
        Ok(())
    }

    /// `typeof(x)` came to a constant.
    pub fn asked(&self, x: Expr, constant: Expr) {
        self.asked.borrow_mut().push((x, constant));
    }

    /// Whether the groups have all that only its type was asked of.
    pub fn check_asked(&self, rewriter: &Rewriter) -> Result<()> {
        for (x, constant) in self.asked.take() {
            if !rewriter.groups.contains_key(&constant) {
                rewriter.rewrite(x)?;
            }
        }
        Ok(())
    }

    /// `grouping(x)`: 1 where the row's set leaves `x` out.
    pub fn grouping(&self, x: &Typed) -> Result<Typed> {
        self.used.set(true);
        let known = self.grouping.borrow();
        let ids = known.as_ref().ok_or_else(not_grouped)?;
        let at = ids.exprs.iter().position(|e| alike(e, &x.expr)).ok_or_else(|| {
            error::classed("GROUPING_COLUMN_MISMATCH", "42803", "Column of grouping can't be found in the grouping columns.")
        })?;
        let missing: Vec<Expr> = ids.values().into_iter().filter(|v| v >> (ids.exprs.len() - 1 - at) & 1 == 1).map(long).collect();
        let left_out = Expr::InList(InList { expr: Box::new(Expr::Column(ids.column.clone())), list: missing.clone(), negated: false });
        let bit = |b: i8| Expr::Literal(ScalarValue::Int8(Some(b)), None);
        let expr = if missing.is_empty() { bit(0) } else { choose(vec![(left_out, bit(1))], bit(0)) };
        Ok(Typed::new(expr, DataType::Int8, false))
    }

    /// `grouping_id(a, b)`: the bits of `grouping(a)`, `grouping(b)`; of all columns without arguments.
    pub fn grouping_id(&self, args: &[Typed]) -> Result<Typed> {
        self.used.set(true);
        let known = self.grouping.borrow();
        let ids = known.as_ref().ok_or_else(not_grouped)?;
        let column = Expr::Column(ids.column.clone());
        let same = args.is_empty() || (args.len() == ids.exprs.len() && args.iter().zip(&ids.exprs).all(|(a, e)| alike(&a.expr, e)));
        if !same {
            return Err(error::classed("GROUPING_ID_COLUMN_MISMATCH", "42803", "Columns of grouping_id don't match the grouping columns."));
        }
        Ok(Typed::new(column, DataType::Int64, false))
    }
}

impl GroupingIds {
    /// Each set's number: a bit for each column it leaves out, the first column's highest.
    fn values(&self) -> Vec<i64> {
        let width = self.exprs.len();
        let all = (1i64 << width) - 1;
        let mut values: Vec<i64> = self.sets.iter().map(|set| set.iter().fold(all, |v, i| v & !(1 << (width - 1 - i)))).collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

fn not_grouped() -> Error {
    error::classed("UNSUPPORTED_GROUPING_EXPRESSION", "42K0E", "grouping()/grouping_id() can only be used with GroupingSets/Cube/Rollup.")
}

fn long(value: i64) -> Expr {
    Expr::Literal(ScalarValue::Int64(Some(value)), None)
}

fn choose(whens: Vec<(Expr, Expr)>, otherwise: Expr) -> Expr {
    let when_then_expr = whens.into_iter().map(|(w, t)| (Box::new(w), Box::new(t))).collect();
    Expr::Case(Case { expr: None, when_then_expr, else_expr: Some(Box::new(otherwise)) })
}

/// GROUPING SETS, ROLLUP and CUBE, written out as sets of expressions.
#[derive(Debug, Clone)]
pub(super) struct Sets {
    exprs: Vec<Typed>,
    sets: Vec<Vec<usize>>,
}

/// Sets one GROUP BY may come to.
const SETS_MAX: usize = 4096;

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

/// What a SELECT groups by.
pub(super) enum Grouped {
    Plain(Vec<Typed>),
    Sets(Sets),
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
                let aggregates: HashSet<Column> =
                    base.aggregates.map(|a| a.calls.borrow().iter().map(|(_, c)| c.clone()).collect()).unwrap_or_default();
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
                let aggregates: HashSet<Column> =
                    base.aggregates.map(|a| a.calls.borrow().iter().map(|(_, c)| c.clone()).collect()).unwrap_or_default();
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

    /// The aggregation, and what rewrites expressions over its input into expressions over its output.
    pub fn aggregate(&mut self, input: LogicalPlan, grouped: Grouped, aggregates: &Aggregates) -> Result<(LogicalPlan, Rewriter)> {
        let mut calls = aggregates.calls.take();
        let mut grouped = grouped;
        let mut written: Vec<Expr> = Vec::new();
        let input = self.subqueries_below(input, &mut grouped, &mut calls, &mut written)?;
        let mut kept: HashSet<Column> = calls.iter().map(|(_, c)| c.clone()).collect();
        let mut groups: HashMap<Expr, Column> = HashMap::new();
        let calls = |state: &mut Self, none: bool| -> Vec<Expr> {
            let mut exprs: Vec<Expr> = calls.iter().map(|(call, c)| call.clone().alias(c.name.clone())).collect();
            // Without keys and calls there is still one group: `SELECT 1 FROM t HAVING true`.
            if exprs.is_empty() && none {
                let count = datafusion::functions_aggregate::count::count_udaf();
                exprs.push(count.call(vec![long(1)]).alias(state.column()));
            }
            exprs
        };
        match grouped {
            Grouped::Plain(keys) => {
                let mut group_exprs = Vec::with_capacity(keys.len());
                for (key, raw) in keys.into_iter().zip(written) {
                    // A constant groups nothing; kept out, it stays a constant.
                    if groups.contains_key(&raw) {
                        continue;
                    }
                    let name = self.column();
                    group_exprs.push(canonical_float(&self.ctx, key).expr.alias(name.clone()));
                    groups.insert(raw, Column::new_unqualified(name));
                }
                let calls = calls(self, group_exprs.is_empty());
                let plan = built(Aggregate::try_new(Arc::new(input), group_exprs, calls))?;
                Ok((LogicalPlan::Aggregate(plan), Rewriter::new(groups, kept)))
            }
            Grouped::Sets(sets) => {
                // Keys become columns first, so that each set is a list of columns.
                let width = input.schema().fields().len();
                let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
                let mut keys = Vec::with_capacity(sets.exprs.len());
                for t in &sets.exprs {
                    let name = self.column();
                    exprs.push(canonical_float(&self.ctx, t.clone()).expr.alias(name.clone()));
                    keys.push(Column::new_unqualified(name));
                }
                debug_assert_eq!(exprs.len(), width + keys.len());
                let projected = built(datafusion::logical_expr::Projection::try_new(exprs, Arc::new(input)))?;
                for (raw, key) in written.into_iter().zip(&keys) {
                    groups.insert(raw, key.clone());
                }
                // Every key is in the first-seen order of the sets' columns: a set of all fixes it.
                let lists: Vec<Vec<Expr>> =
                    sets.sets.iter().map(|set| set.iter().map(|i| Expr::Column(keys[*i].clone())).collect()).collect();
                let group = Expr::GroupingSet(GroupingSet::GroupingSets(lists));
                let order = distinct_order(&sets.sets);
                let mut calls = calls(self, false);
                // Of no rows Databricks makes no group, not even that of all: but for `GROUPING SETS (())` alone.
                let rows = (!order.is_empty() && sets.sets.iter().any(Vec::is_empty)).then(|| Column::new_unqualified(self.column()));
                if let Some(rows) = &rows {
                    let count = datafusion::functions_aggregate::count::count_udaf();
                    calls.push(count.call(vec![long(1)]).alias(rows.name.clone()));
                }
                let plan = built(Aggregate::try_new(Arc::new(LogicalPlan::Projection(projected)), vec![group], calls))?;
                let plan = LogicalPlan::Aggregate(plan);
                let plan = match rows {
                    Some(rows) => super::select::filter(plan, positive(rows))?,
                    None => plan,
                };
                let Some(ids) = aggregates.grouping.borrow().clone() else {
                    return Err(Error::internal("grouping sets without their ids"));
                };
                kept.insert(ids.column.clone());
                let plan = self.with_grouping_id(plan, &ids, &order, sets.exprs.len())?;
                Ok((plan, Rewriter::new(groups, kept)))
            }
        }
    }

    /// Keys and arguments that hold subqueries, computed in a projection below: only there and in filters
    /// can every engine run them. `written` gets the keys as they were.
    fn subqueries_below(
        &mut self,
        input: LogicalPlan,
        grouped: &mut Grouped,
        calls: &mut [(Expr, Column)],
        written: &mut Vec<Expr>,
    ) -> Result<LogicalPlan> {
        let mut below: Vec<(Expr, Column)> = Vec::new();
        let mut moved = |state: &mut Self, e: &mut Expr| {
            if holds_subquery(e) {
                let column = Column::new_unqualified(state.column());
                below.push((std::mem::replace(e, Expr::Column(column.clone())), column));
            }
        };
        let keys = match grouped {
            Grouped::Plain(keys) => keys,
            Grouped::Sets(sets) => &mut sets.exprs,
        };
        for key in keys {
            written.push(key.expr.clone());
            moved(self, &mut key.expr);
        }
        for (call, _) in calls {
            if let Expr::AggregateFunction(call) = call {
                call.params.args.iter_mut().for_each(|arg| moved(self, arg));
                call.params.filter.iter_mut().for_each(|filter| moved(self, filter));
            }
        }
        if below.is_empty() {
            return Ok(input);
        }
        let own = input.schema().columns().into_iter().map(Expr::Column);
        let exprs: Vec<Expr> = own.chain(below.into_iter().map(|(e, column)| e.alias(column.name))).collect();
        Ok(LogicalPlan::Projection(built(datafusion::logical_expr::Projection::try_new(exprs, Arc::new(input)))?))
    }

    /// Adds Databricks' number of each row's set: DataFusion numbers by its own order of the columns.
    fn with_grouping_id(&mut self, plan: LogicalPlan, ids: &GroupingIds, order: &[usize], width: usize) -> Result<LogicalPlan> {
        let field = Arc::new(arrow::datatypes::Field::new("", DataType::Int64, true));
        let internal = Column::new_unqualified(Aggregate::INTERNAL_GROUPING_ID);
        let raw = Expr::Cast(Cast { expr: Box::new(Expr::Column(internal.clone())), field });
        // Where a set is listed twice, the copy's number stands above the columns' bits.
        let raw = match has_copies(&ids.sets) {
            true => {
                let bits = Typed::new(long((1i64 << order.len()) - 1), DataType::Int64, false);
                ops::binary(&self.ctx, ops::BinaryOp::BitAnd, Typed::new(raw, DataType::Int64, false), bits)?.expr
            }
            false => raw,
        };
        let mut exprs: Vec<Expr> = plan.schema().columns().into_iter().filter(|c| *c != internal).map(Expr::Column).collect();
        let in_order = order.len() == width && order.iter().enumerate().all(|(i, at)| i == *at);
        let number = if in_order {
            raw
        } else {
            let all = (1i64 << order.len()) - 1;
            let whens = ids.sets.iter().map(|set| {
                let theirs =
                    order.iter().enumerate().filter(|(_, at)| set.contains(at)).fold(all, |v, (i, _)| v & !(1 << (order.len() - 1 - i)));
                let ours = set.iter().fold((1i64 << width) - 1, |v, i| v & !(1 << (width - 1 - i)));
                let test = Expr::BinaryExpr(BinaryExpr::new(Box::new(raw.clone()), Operator::Eq, Box::new(long(theirs))));
                (test, long(ours))
            });
            choose(whens.collect(), long(0))
        };
        exprs.push(number.alias(ids.column.name.clone()));
        let plan = built(datafusion::logical_expr::Projection::try_new(exprs, Arc::new(plan)))?;
        Ok(LogicalPlan::Projection(plan))
    }
}

fn positive(count: Column) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(Expr::Column(count)), Operator::Gt, Box::new(long(0))))
}

fn has_copies(sets: &[Vec<usize>]) -> bool {
    let columns = |set: &Vec<usize>| set.iter().copied().collect::<BTreeSet<usize>>();
    let mut seen = HashSet::new();
    sets.iter().any(|set| !seen.insert(columns(set)))
}

/// The order in which columns first appear in the sets.
fn distinct_order(sets: &[Vec<usize>]) -> Vec<usize> {
    let mut order = Vec::new();
    for i in sets.iter().flatten() {
        if !order.contains(i) {
            order.push(*i);
        }
    }
    order
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

fn holds_subquery(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)))).unwrap_or(true)
}

/// Whether an expression uses a window call's result.
fn has_window(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::Column(c) if c.relation.is_none() && c.name.starts_with(super::window::PREFIX)))).unwrap_or(true)
}

/// Whether an expression uses one of the columns.
fn mentions(expr: &Expr, columns: &HashSet<Column>) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::Column(c) if columns.contains(c)))).unwrap_or(true)
}

/// The expression with its open parameters made one; `None` without any.
fn any_parameters(expr: &Expr) -> Option<Expr> {
    let made = expr.clone().transform_up(|e| match e {
        Expr::Placeholder(Placeholder { id: _, field }) => Ok(Transformed::yes(Expr::Placeholder(Placeholder { id: "$0".into(), field }))),
        other => Ok(Transformed::no(other)),
    });
    made.ok().and_then(|made| made.transformed.then_some(made.data))
}

/// Whether two expressions are one, or may be once open parameters have values.
pub(super) fn alike(a: &Expr, b: &Expr) -> bool {
    a == b || any_parameters(a).is_some_and(|a| any_parameters(b) == Some(a))
}

/// Expressions over an aggregation's input, made expressions over its output.
pub(super) struct Rewriter {
    groups: HashMap<Expr, Column>,
    /// Keys with open parameters, of which any two may turn out equal: `SELECT n + ? ... GROUP BY n + ?`.
    /// Only types are asked of such a plan; the statement is bound again once values are known.
    open: HashMap<Expr, Column>,
    /// Columns that come out of the aggregation, or of the windows above it.
    kept: HashSet<Column>,
}

impl Rewriter {
    fn new(groups: HashMap<Expr, Column>, kept: HashSet<Column>) -> Self {
        let open = groups.iter().filter_map(|(key, column)| Some((any_parameters(key)?, column.clone()))).collect();
        Self { groups, open, kept }
    }

    fn group(&self, e: &Expr) -> Option<&Column> {
        self.groups.get(e).or_else(|| if self.open.is_empty() { None } else { self.open.get(&any_parameters(e)?) })
    }

    pub fn rewrite(&self, expr: Expr) -> Result<Expr> {
        let mut missing = None;
        let rewritten = expr.transform_down(|e| {
            if let Some(column) = self.group(&e) {
                return Ok(Transformed::new(Expr::Column(column.clone()), true, TreeNodeRecursion::Jump));
            }
            match e {
                Expr::Column(c) if c.relation.is_none() && (self.kept.contains(&c) || self.is_window(&c)) => {
                    Ok(Transformed::no(Expr::Column(c)))
                }
                Expr::Column(c) => {
                    missing = Some(c.name.clone());
                    Err(DataFusionError::Plan("missing aggregation".into()))
                }
                Expr::ScalarSubquery(s) => Ok(Transformed::yes(Expr::ScalarSubquery(self.subquery(s, &mut missing)?))),
                Expr::Exists(Exists { subquery, negated }) => {
                    let subquery = self.subquery(subquery, &mut missing)?;
                    Ok(Transformed::yes(Expr::Exists(Exists { subquery, negated })))
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    let subquery = self.subquery(subquery, &mut missing)?;
                    Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated })))
                }
                other => Ok(Transformed::no(other)),
            }
        });
        match (rewritten, missing) {
            (Ok(t), _) => Ok(t.data),
            (Err(_), Some(name)) => Err(error::missing_aggregation(&format!("\"{name}\""))),
            (Err(e), None) => built(Err(e)),
        }
    }

    /// Window columns aren't of the input: they are made above the aggregation.
    fn is_window(&self, column: &Column) -> bool {
        column.name.starts_with(super::window::PREFIX)
    }

    /// A subquery's references to this query's input become references to its groups.
    fn subquery(&self, s: Subquery, missing: &mut Option<String>) -> datafusion::error::Result<Subquery> {
        let plan = Arc::unwrap_or_clone(s.subquery).transform_down(|node| {
            node.map_expressions(|e| {
                e.transform_down(|e| match e {
                    Expr::OuterReferenceColumn(field, column) => match self.groups.get(&Expr::Column(column.clone())) {
                        Some(group) => Ok(Transformed::yes(Expr::OuterReferenceColumn(field, group.clone()))),
                        None if self.kept.contains(&column) => Ok(Transformed::no(Expr::OuterReferenceColumn(field, column))),
                        None => {
                            *missing = Some(column.name.clone());
                            Err(DataFusionError::Plan("missing aggregation".into()))
                        }
                    },
                    other => Ok(Transformed::no(other)),
                })
            })
        })?;
        let plan = plan.data;
        let outer_ref_columns = plan.all_out_ref_exprs();
        Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: s.spans })
    }
}
