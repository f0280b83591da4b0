//! Subqueries inside expressions. Columns of enclosing queries are printed as what they are there;
//! aliases are unique in a statement, so that no inner relation can capture them.

use std::rc::Rc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{Distinct, Expr, FetchType, LogicalPlan, Subquery};
use flightpath_functions::duckdb;

use crate::block::{Block, Cell, CellKind, Stage};
use crate::operator::check_comparable;
use crate::relation::{Env, Printer};
use crate::sql::Sql;
use crate::{Printed, refuse};

impl Printer {
    fn subquery(&mut self, plan: &LogicalPlan, env: &Env) -> Printed<Block> {
        refuse_outer_aggregates(plan)?;
        self.outers.push(env.clone());
        let printed = self.relation(plan);
        self.outers.pop();
        printed
    }

    pub fn exists(&mut self, exists: &Exists, env: &Env) -> Printed<Sql> {
        let mut block = self.subquery(existence(&exists.subquery.subquery), env)?;
        if block.stage <= Stage::Where {
            block.cells = Rc::new(vec![Cell { text: "1".into(), kind: CellKind::Literal }]);
        }
        let not = if exists.negated { "NOT " } else { "" };
        Ok(Sql::boolean(format!("{not}EXISTS ({})", block.render(false))))
    }

    pub fn in_subquery(&mut self, in_subquery: &InSubquery, env: &Env) -> Printed<Sql> {
        let value = self.expr(&in_subquery.expr, env)?;
        let schema = in_subquery.subquery.subquery.schema();
        if schema.fields().len() != 1 {
            return Err(refuse("IN with a subquery of several columns"));
        }
        check_comparable(&value.ty, schema.field(0).data_type(), false)?;
        let block = self.subquery(&in_subquery.subquery.subquery, env)?;
        let not = if in_subquery.negated { "NOT " } else { "" };
        let text = format!("{} {not}IN ({})", value.operand(), block.render(false));
        Ok(Sql::boolean(text))
    }

    pub fn scalar_subquery(&mut self, subquery: &Subquery, env: &Env) -> Printed<Sql> {
        let schema = subquery.subquery.schema();
        if schema.fields().len() != 1 {
            return Err(refuse("a scalar subquery of several columns"));
        }
        let ty = schema.field(0).data_type().clone();
        if !subquery.outer_ref_columns.is_empty() {
            refuse_lost_values(&subquery.subquery)?;
        }
        let block = self.subquery(&subquery.subquery, env)?;
        if gives_one_row_at_most(&subquery.subquery) {
            return Ok(Sql::atom(format!("({})", block.render(false)), ty));
        }
        // DuckDB's own error for a second row has no SQL state.
        let wrapped = self.wrap(block)?;
        let cell = wrapped.cells.first().map(|c| c.text.clone()).ok_or_else(|| refuse("a scalar subquery without columns"))?;
        let from = wrapped.from.map(|f| f.text).unwrap_or_default();
        let message = duckdb::string("More than one row returned by a subquery used as an expression.");
        let raise = duckdb::raise("SCALAR_SUBQUERY_TOO_MANY_ROWS", "21000", &message);
        Ok(Sql::atom(format!("(SELECT CASE WHEN count(*) > 1 THEN {raise} ELSE first({cell}) END FROM {from})"), ty))
    }
}

/// What decides whether a subquery has rows: what it selects doesn't.
pub(crate) fn existence(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Projection(projection) => existence(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => existence(&alias.input),
        other => other,
    }
}

/// Proved by the plan's shape alone.
fn gives_one_row_at_most(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Limit(limit) => matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1)))),
        LogicalPlan::Values(values) => values.values.len() <= 1,
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Projection(p) => gives_one_row_at_most(&p.input),
        LogicalPlan::Filter(f) => gives_one_row_at_most(&f.input),
        LogicalPlan::Sort(s) => gives_one_row_at_most(&s.input),
        LogicalPlan::SubqueryAlias(a) => gives_one_row_at_most(&a.input),
        LogicalPlan::Window(w) => gives_one_row_at_most(&w.input),
        LogicalPlan::Subquery(s) => gives_one_row_at_most(&s.subquery),
        LogicalPlan::Distinct(Distinct::All(input)) => gives_one_row_at_most(input),
        LogicalPlan::Join(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::Distinct(Distinct::On(_))
        | LogicalPlan::Unnest(_)
        | LogicalPlan::RecursiveQuery(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Extension(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_) => false,
    }
}

/// DuckDB makes a join of a correlated aggregation without GROUP BY. For an outer row without a partner it
/// takes everything for NULL there that doesn't rest on an aggregate, as the 1 of
/// `(SELECT 1 FROM t WHERE t.x = a HAVING max(t.y) IS NULL)`, but where no aggregate is read at all.
pub(crate) fn refuse_lost_values(plan: &LogicalPlan) -> Printed<()> {
    match rest_on_aggregates(plan) {
        Some(Made { of_aggregates, read }) if of_aggregates.contains(&false) && (read || of_aggregates.contains(&true)) => {
            Err(refuse("a correlated subquery over an aggregation without GROUP BY, whose value rests on no aggregate"))
        }
        _ => Ok(()),
    }
}

/// What a correlated aggregation without GROUP BY gives.
struct Made {
    /// Of each column, whether it's made of an aggregate.
    of_aggregates: Vec<bool>,
    /// Whether something between reads the aggregates, or may.
    read: bool,
}

/// `None` where there is no such aggregation.
fn rest_on_aggregates(plan: &LogicalPlan) -> Option<Made> {
    let ungrouped = |node: &LogicalPlan| {
        matches!(node, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty()) && !node.all_out_ref_exprs().is_empty()
    };
    match plan {
        _ if !plan.exists(|node| Ok(ungrouped(node))).unwrap_or(true) => None,
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            Some(Made { of_aggregates: vec![true; aggregate.aggr_expr.len()], read: false })
        }
        LogicalPlan::Projection(projection) => {
            let input = rest_on_aggregates(&projection.input)?;
            let schema = projection.input.schema();
            let made = |e: &Expr| {
                let of = |column| schema.maybe_index_of_column(column).and_then(|at| input.of_aggregates.get(at).copied());
                e.column_refs().into_iter().any(|column| of(column).unwrap_or(false))
            };
            Some(Made { of_aggregates: projection.expr.iter().map(made).collect(), ..input })
        }
        LogicalPlan::Filter(filter) => rest_on_aggregates(&filter.input).map(|made| Made { read: true, ..made }),
        LogicalPlan::Sort(sort) => rest_on_aggregates(&sort.input),
        LogicalPlan::Limit(limit) => rest_on_aggregates(&limit.input),
        LogicalPlan::SubqueryAlias(alias) => rest_on_aggregates(&alias.input),
        other => Some(Made { of_aggregates: vec![false; other.schema().fields().len()], read: true }),
    }
}

/// `(SELECT sum(outer.x) FROM t)`: in standard SQL and DuckDB that is an aggregate of the *outer* query.
fn refuse_outer_aggregates(plan: &LogicalPlan) -> Printed<()> {
    let mut found = false;
    let walked = plan.apply(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            found |= aggregate.aggr_expr.iter().any(only_outer_columns);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match walked {
        Ok(_) if !found => Ok(()),
        _ => Err(refuse("an aggregate over nothing but columns of an outer query")),
    }
}

fn only_outer_columns(aggregate: &Expr) -> bool {
    let (mut outer, mut own) = (false, false);
    let walked = aggregate.apply(|e| {
        outer |= matches!(e, Expr::OuterReferenceColumn(..));
        own |= matches!(e, Expr::Column(_));
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_err() || (outer && !own)
}
