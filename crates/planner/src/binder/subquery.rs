//! Subqueries in expressions: scalar, EXISTS, IN. They stay native, so that the optimizer decorrelates them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{Expr, Subquery};
use datafusion::sql::sqlparser::ast;
use flightpath_functions::{Typed, types};
use flightpath_types::{Error, Result};

use super::error;
use super::expr::{Bound, Place};
use super::query::State;
use super::scope::Relation;

impl State<'_> {
    fn subquery(&mut self, place: &Place<'_>, query: &ast::Query) -> Result<Relation> {
        if !place.variables.is_empty() {
            return Err(error::classed("UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.HIGHER_ORDER_FUNCTION", "0A000", "Subqueries are not supported inside lambda functions."));
        }
        let mut relation = self.bind_query(query, place.ctes, Some(place.scope))?;
        relation.cols.retain(|c| !c.hidden);
        Ok(relation)
    }

    pub fn scalar_subquery(&mut self, place: &Place<'_>, query: &ast::Query) -> Result<Bound> {
        let relation = self.one_column(place, query, "a scalar subquery")?;
        let ty = relation.cols[0].ty.clone();
        Ok(Bound::new(Typed::new(Expr::ScalarSubquery(node(relation)), ty, true), "scalarsubquery()"))
    }

    pub fn exists(&mut self, place: &Place<'_>, query: &ast::Query, negate: bool) -> Result<Bound> {
        let relation = self.subquery(place, query)?;
        let expr = Expr::Exists(Exists { subquery: node(relation), negated: negate });
        let name = if negate { "(NOT exists())" } else { "exists()" };
        Ok(Bound::new(Typed::new(expr, DataType::Boolean, false), name))
    }

    pub fn in_subquery(&mut self, place: &Place<'_>, x: &ast::Expr, query: &ast::Query, negate: bool) -> Result<Bound> {
        if matches!(x, ast::Expr::Tuple(values) if values.len() > 1) {
            return Err(Error::not_eligible("IN over several columns with a subquery isn't supported; use EXISTS"));
        }
        let x = self.expr(place, x)?;
        let mut relation = self.one_column(place, query, "IN")?;
        let col = relation.cols[0].clone();
        let Some(ty) = types::least_common_type([&x.t.ty, &col.ty]) else {
            return Err(error::mismatch("IN_SUBQUERY_DATA_TYPE_MISMATCH", format!("The data types of IN's sides don't match: {} and {}.", types::sql_name(&x.t.ty), types::sql_name(&col.ty))));
        };
        let nullable = x.t.nullable || col.nullable;
        let left = self.coerce(x.t, &ty)?;
        if col.ty != ty {
            let right = self.coerce(col.typed(), &ty)?;
            let (plan, _) = self.project(relation.plan, vec![right.expr])?;
            relation.plan = plan;
        } else if relation.plan.schema().fields().len() != 1 {
            let (plan, _) = self.project(relation.plan, vec![col.typed().expr])?;
            relation.plan = plan;
        }
        let expr = Expr::InSubquery(InSubquery { expr: Box::new(left.expr), subquery: node(relation), negated: negate });
        let plain = format!("({} IN (listquery()))", x.name);
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

fn node(relation: Relation) -> Subquery {
    let outer_ref_columns = relation.plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(relation.plan), outer_ref_columns, spans: Default::default() }
}
