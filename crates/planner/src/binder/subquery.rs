//! Subqueries in expressions: scalar, EXISTS, IN. They stay native, so that the optimizer decorrelates them.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, LogicalPlan, Operator, Subquery};
use datafusion::sql::sqlparser::ast;
use flightpath_functions::{Typed, ops, types};
use flightpath_types::{Error, Result};

use super::error::{self, built};
use super::expr::{Bound, balanced, negated};
use super::place::Place;
use super::query::State;
use super::scope::Relation;

impl State<'_> {
    fn subquery(&mut self, place: &Place<'_>, query: &ast::Query) -> Result<Relation> {
        if !place.variables.is_empty() {
            return Err(error::classed(
                "UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.HIGHER_ORDER_FUNCTION",
                "0A000",
                "Subqueries are not supported inside lambda functions.",
            ));
        }
        let mut relation = self.bind_query(query, place.ctes, Some(place.scope))?;
        relation.cols.retain(|c| !c.hidden);
        Ok(relation)
    }

    pub fn scalar_subquery(&mut self, place: &Place<'_>, query: &ast::Query) -> Result<Bound> {
        let mut relation = self.one_column(place, query, "a scalar subquery")?;
        let ty = relation.cols[0].ty.clone();
        if !relation.plan.schema().field(0).is_nullable() && !gives_one_row(&relation.plan) {
            // Without a row it's NULL; DataFusion takes the column's word that it never is.
            let value = ops::nullable(&self.ctx, relation.cols[0].typed());
            relation.plan = self.project(relation.plan, vec![value.expr])?.0;
        }
        if place.clause == "ORDER BY" && !relation.plan.all_out_ref_exprs().is_empty() {
            return Err(error::classed(
                "UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.UNSUPPORTED_CORRELATED_SCALAR_SUBQUERY",
                "0A000",
                "A subquery that reads the outer query's row isn't supported in ORDER BY. Give it an alias in the SELECT list, and sort by that.",
            ));
        }
        let name = format!("scalarsubquery({})", outer_names(place, &relation.plan));
        Ok(Bound::new(Typed::new(Expr::ScalarSubquery(node(relation)), ty, true), name))
    }

    pub fn exists(&mut self, place: &Place<'_>, query: &ast::Query, negate: bool) -> Result<Bound> {
        check_sorted(place)?;
        let relation = self.subquery(place, query)?;
        let plain = format!("exists({})", outer_names(place, &relation.plan));
        let name = if negate { format!("(NOT {plain})") } else { plain };
        if !place.drops_rows {
            let some = self.any_row(relation.plan)?;
            let expr = if negate { Expr::Not(Box::new(some)) } else { some };
            return Ok(Bound::new(Typed::new(expr, DataType::Boolean, false), name));
        }
        let expr = Expr::Exists(Exists { subquery: node(relation), negated: negate });
        Ok(Bound::new(Typed::new(expr, DataType::Boolean, false), name))
    }

    pub fn in_subquery(&mut self, place: &Place<'_>, x: &ast::Expr, query: &ast::Query, negate: bool) -> Result<Bound> {
        if let ast::Expr::Tuple(values) = x
            && values.len() > 1
        {
            return self.tuple_in_subquery(place, values, query, negate);
        }
        check_sorted(place)?;
        let x = self.expr(&Place { drops_rows: false, variables: place.variables.clone(), ..*place }, x)?;
        let mut relation = self.one_column(place, query, "IN")?;
        let col = relation.cols[0].clone();
        let Some(ty) = types::least_common_type([&x.t.ty, &col.ty]) else {
            return Err(error::mismatch(
                "IN_SUBQUERY_DATA_TYPE_MISMATCH",
                format!("The data types of IN's sides don't match: {} and {}.", types::sql_name(&x.t.ty), types::sql_name(&col.ty)),
            ));
        };
        let nullable = x.t.nullable || col.nullable;
        let left = self.coerce(x.t, &ty)?;
        let plain = format!("({} IN (listquery({})))", x.name, outer_names(place, &relation.plan));
        let name = if negate { format!("(NOT {plain})") } else { plain };
        let floats = types::holds_float(&ty);
        if floats && negate && place.drops_rows {
            return Err(Error::not_eligible("NOT IN with a subquery over FLOAT or DOUBLE: Databricks tells its zeros apart there"));
        }
        if col.ty != ty || floats {
            let right = self.coerce(col.typed(), &ty)?;
            let right = ops::comparable_float(&self.ctx, right);
            let (plan, _) = self.project(relation.plan, vec![right.expr])?;
            relation.plan = plan;
        } else if relation.plan.schema().fields().len() != 1 {
            let (plan, _) = self.project(relation.plan, vec![col.typed().expr])?;
            relation.plan = plan;
        }
        if !place.drops_rows {
            let expr = self.in_as_counts(left, relation, nullable, negate)?;
            return Ok(Bound::new(Typed::new(expr, DataType::Boolean, nullable), name));
        }
        let left = ops::comparable_float(&self.ctx, left);
        let expr = Expr::InSubquery(InSubquery { expr: Box::new(left.expr), subquery: node(relation), negated: negate });
        Ok(Bound::new(Typed::new(expr, DataType::Boolean, nullable), name))
    }

    /// `(SELECT count(1) FROM plan) > 0`: where no row is dropped by it, a test for rows has to be a value.
    fn any_row(&mut self, plan: LogicalPlan) -> Result<Expr> {
        let name = self.column();
        let one = Expr::Literal(ScalarValue::Int64(Some(1)), None);
        let count = datafusion::functions_aggregate::count::count_udaf().call(vec![one]).alias(name);
        let counted = LogicalPlan::Aggregate(built(Aggregate::try_new(Arc::new(plan), Vec::new(), vec![count]))?);
        let outer_ref_columns = counted.all_out_ref_exprs();
        let subquery = Expr::ScalarSubquery(Subquery { subquery: Arc::new(counted), outer_ref_columns, spans: Default::default() });
        let zero = Expr::Literal(ScalarValue::Int64(Some(0)), None);
        Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(subquery), Operator::Gt, Box::new(zero))))
    }

    /// IN as a value: TRUE with a match, FALSE otherwise, even where a NULL leaves it open. NOT IN is
    /// FALSE there too: Databricks makes a join of either.
    fn in_as_counts(&mut self, left: Typed, relation: Relation, nullable: bool, negate: bool) -> Result<Expr> {
        let Some(column) = relation.plan.schema().columns().into_iter().next() else { return Err(Error::internal("IN over no column")) };
        let right = Typed::new(Expr::Column(column.clone()), left.ty.clone(), true);
        let outside = as_outer(left.clone())?;
        let matches = self.compare(right, Operator::Eq, outside)?.expr;
        let found = self.any_row(super::select::filter(relation.plan.clone(), matches)?)?;
        if !negate {
            return Ok(found);
        }
        if !nullable {
            return Ok(negated(found));
        }
        let nulls = self.any_row(super::select::filter(relation.plan.clone(), Expr::IsNull(Box::new(Expr::Column(column))))?)?;
        let rows = self.any_row(relation.plan)?;
        let no_value = balanced(vec![Expr::IsNull(Box::new(left.expr)), rows], Operator::And);
        Ok(negated(balanced(vec![found, no_value, nulls], Operator::Or)))
    }

    /// `(a, b) IN (SELECT c, d ...)`: whether a row has all of them. For NOT IN a comparison that a NULL
    /// leaves open counts as a match.
    fn tuple_in_subquery(&mut self, place: &Place<'_>, values: &[ast::Expr], query: &ast::Query, negate: bool) -> Result<Bound> {
        let fields: Vec<String> = values.iter().enumerate().map(|(i, v)| super::call::field_name(v, i)).collect();
        let values: Vec<Bound> = values.iter().map(|v| self.expr(place, v)).collect::<Result<_>>()?;
        let relation = self.subquery(place, query)?;
        if relation.cols.len() != values.len() {
            return Err(error::mismatch(
                "IN_SUBQUERY_LENGTH_MISMATCH",
                format!("The left side of IN has {} columns, its subquery {}.", values.len(), relation.cols.len()),
            ));
        }
        let outer = outer_names(place, &relation.plan);
        let mut nullable = false;
        let mut tests = Vec::with_capacity(values.len());
        let mut names = Vec::with_capacity(values.len());
        for (value, col) in values.into_iter().zip(&relation.cols) {
            nullable |= value.t.nullable || col.nullable;
            names.push(value.name);
            let open = value.t.nullable || col.nullable;
            let test = self.compare(col.typed(), Operator::Eq, as_outer(value.t)?)?.expr;
            tests.push(if negate && open { balanced(vec![test.clone(), Expr::IsNull(Box::new(test))], Operator::Or) } else { test });
        }
        let plan = super::select::filter(relation.plan, balanced(tests, Operator::And))?;
        let expr = if place.drops_rows {
            Expr::Exists(Exists { subquery: node(Relation { plan, cols: Vec::new(), ordered: false }), negated: negate })
        } else {
            let found = self.any_row(plan)?;
            if negate { negated(found) } else { found }
        };
        let shown: Vec<String> = fields.iter().zip(&names).map(|(field, n)| format!("'{field}', {n}")).collect();
        let plain = format!("(named_struct({}) IN (listquery({outer})))", shown.join(", "));
        let name = if negate { format!("(NOT {plain})") } else { plain };
        Ok(Bound::new(Typed::new(expr, DataType::Boolean, nullable), name))
    }

    fn one_column(&mut self, place: &Place<'_>, query: &ast::Query, what: &str) -> Result<Relation> {
        let mut relation = self.subquery(place, query)?;
        if relation.cols.len() != 1 {
            return Err(error::classed(
                "INVALID_SUBQUERY_EXPRESSION.SCALAR_SUBQUERY_RETURN_MORE_THAN_ONE_OUTPUT_COLUMN",
                "42823",
                format!("{what} must return only one column, but returned {}.", relation.cols.len()),
            ));
        }
        if relation.plan.schema().fields().len() != 1 {
            let (plan, columns) = self.project(relation.plan, vec![relation.cols[0].typed().expr])?;
            relation.plan = plan;
            relation.cols[0].column = columns[0].clone();
        }
        Ok(relation)
    }
}

/// `NOT e` with the NOT inside, where AND, OR or NOT stand over an IN with a subquery.
pub(super) fn not_within(e: &ast::Expr) -> Option<ast::Expr> {
    match e {
        ast::Expr::InSubquery { expr, subquery, negated } => {
            Some(ast::Expr::InSubquery { expr: expr.clone(), subquery: subquery.clone(), negated: !negated })
        }
        ast::Expr::Nested(inner) => not_within(inner),
        ast::Expr::BinaryOp { left, op: op @ (ast::BinaryOperator::And | ast::BinaryOperator::Or), right } => {
            let (l, r) = (not_within(left), not_within(right));
            if l.is_none() && r.is_none() {
                return None;
            }
            let other = if *op == ast::BinaryOperator::And { ast::BinaryOperator::Or } else { ast::BinaryOperator::And };
            let plain =
                |e: &ast::Expr| ast::Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(ast::Expr::Nested(Box::new(e.clone()))) };
            let side =
                |negated: Option<ast::Expr>, e: &ast::Expr| Box::new(ast::Expr::Nested(Box::new(negated.unwrap_or_else(|| plain(e)))));
            Some(ast::Expr::BinaryOp { left: side(l, left), op: other, right: side(r, right) })
        }
        _ => None,
    }
}

/// A sort takes no IN and no EXISTS.
fn check_sorted(place: &Place<'_>) -> Result<()> {
    match place.clause {
        "ORDER BY" => Err(error::classed(
            "UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.UNSUPPORTED_IN_EXISTS_SUBQUERY",
            "0A000",
            "IN and EXISTS with a subquery are not supported in ORDER BY.",
        )),
        _ => Ok(()),
    }
}

/// Where a subquery may not read the outer query's row.
pub(super) fn outer_reference(clause: &str) -> Error {
    error::classed(
        "UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.CORRELATED_REFERENCE",
        "0A000",
        format!("A column of the outer query is not supported in {clause} of a subquery."),
    )
}

/// The columns of the enclosing query that a subquery reads, as its name shows them: each as often as it's
/// read, those of the outer operators first.
fn outer_names(place: &Place<'_>, plan: &LogicalPlan) -> String {
    let mut names: Vec<String> = Vec::new();
    let _ = plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Expr::OuterReferenceColumn(_, column) = e
                    && let Some(col) = place.scope.cols().iter().find(|col| col.column == *column)
                {
                    names.push(col.name.to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    names.join(", ")
}

pub(super) fn has_parameter(e: &ast::Expr) -> bool {
    let found = ast::visit_expressions(e, |e: &ast::Expr| match e {
        ast::Expr::Value(v) if matches!(v.value, ast::Value::Placeholder(_)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Proved by the plan's shape: an aggregation without keys.
fn gives_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(projection) => gives_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => gives_one_row(&alias.input),
        _ => false,
    }
}

/// An expression of the enclosing query, seen from inside a subquery.
fn as_outer(t: Typed) -> Result<Typed> {
    let ty = t.ty.clone();
    let mut nested = false;
    let expr = t.expr.transform_up(|e| {
        Ok(match e {
            Expr::Column(column) => {
                let field = Arc::new(Field::new(column.name.clone(), ty.clone(), true));
                Transformed::yes(Expr::OuterReferenceColumn(field, column))
            }
            Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => {
                nested = true;
                Transformed::no(e)
            }
            other => Transformed::no(other),
        })
    });
    let expr = built(expr)?.data;
    // A reference carries its column's type: only a column itself is known to have this one.
    if nested || !matches!(expr, Expr::OuterReferenceColumn(..) | Expr::Literal(..)) {
        return Err(Error::not_eligible("IN with a subquery over an expression isn't supported in the select list"));
    }
    Ok(Typed { expr, ..t })
}

fn node(relation: Relation) -> Subquery {
    let outer_ref_columns = relation.plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(relation.plan), outer_ref_columns, spans: Default::default() }
}
