//! Grouping: the aggregate calls of one SELECT, and the aggregation that computes them. An expression over
//! a grouped query is first typed over the query's input, then rewritten over the groups.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Case, Cast, InList, Sort};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, GroupingSet, LogicalPlan, Operator};
use flightpath_functions::Typed;
use flightpath_functions::ops::{self, canonical_float};
use flightpath_types::{Error, Result};

use super::error::{self, built};
use super::group_by::{Grouped, Sets};
use super::query::State;
use super::rebase::{Rewriter, alike};

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

    /// The columns that hold the calls' results.
    pub fn columns(&self) -> HashSet<Column> {
        self.calls.borrow().iter().map(|(_, c)| c.clone()).collect()
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

impl State<'_> {
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

fn holds_subquery(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)))).unwrap_or(true)
}
