//! UNION, INTERSECT, EXCEPT, with or without ALL: columns by position, at their least common types.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality};
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Distinct, Expr, Join, LogicalPlan, Projection, Union, Window, WindowFrame};
use datafusion::sql::sqlparser::ast::{SetExpr, SetOperator, SetQuantifier};
use flightpath_functions::ops::canonical_float;
use flightpath_functions::{FunctionDef, cast, lookup, types};
use flightpath_types::{Error, Result};

use super::cte::Ctes;
use super::error::{self, built};
use super::query::State;
use super::scope::{Col, Relation, Scope};

impl State<'_> {
    pub fn set_operation(
        &mut self,
        left: &SetExpr,
        op: SetOperator,
        quantifier: SetQuantifier,
        right: &SetExpr,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::Distinct | SetQuantifier::None => false,
            SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName => {
                return Err(error::classed("PARSE_SYNTAX_ERROR", "42601", "UNION BY NAME isn't part of Databricks SQL"));
            }
        };
        // A chain of one operation is bound at once, however long it is.
        let mut branches = vec![right];
        let mut first = left;
        if op == SetOperator::Union {
            while let SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier, right } = first
                && matches!(set_quantifier, SetQuantifier::All) == all
                && matches!(set_quantifier, SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None)
            {
                branches.push(right);
                first = left;
            }
        }
        branches.push(first);
        let mut relations = Vec::with_capacity(branches.len());
        for branch in branches.into_iter().rev() {
            let mut relation = self.bind_set_expr(branch, ctes, outer)?;
            relation.cols.retain(|c| !c.hidden);
            relations.push(relation);
        }
        match op {
            SetOperator::Union => self.union(relations, all),
            SetOperator::Intersect => self.keep_matching(relations, JoinType::LeftSemi, "INTERSECT", all),
            SetOperator::Except | SetOperator::Minus => self.keep_matching(relations, JoinType::LeftAnti, "EXCEPT", all),
        }
    }

    pub fn union(&mut self, relations: Vec<Relation>, all: bool) -> Result<Relation> {
        let (inputs, cols) = self.aligned(relations, "UNION", !all)?;
        if !all {
            check_maps(&cols)?;
        }
        let union = LogicalPlan::Union(built(Union::try_new(inputs.into_iter().map(Arc::new).collect()))?);
        let plan = if all { union } else { LogicalPlan::Distinct(Distinct::All(Arc::new(union))) };
        Ok(Relation { plan, cols, ordered: false })
    }

    /// The inputs with the same column names and types; names and nullability of the result.
    fn aligned(&mut self, relations: Vec<Relation>, op: &str, compared: bool) -> Result<(Vec<LogicalPlan>, Vec<Col>)> {
        let width = relations.first().map_or(0, |r| r.cols.len());
        for (i, relation) in relations.iter().enumerate() {
            if relation.cols.len() != width {
                return Err(error::classed(
                    "NUM_COLUMNS_MISMATCH",
                    "42826",
                    format!(
                        "{op} can only be performed on inputs with the same number of columns, but the first input has {width} columns and input {} has {} columns.",
                        i + 1,
                        relation.cols.len()
                    ),
                ));
            }
        }
        let mut cols = Vec::with_capacity(width);
        for at in 0..width {
            // Structs that differ in their fields' names alone take the first one's.
            let first = &relations[0].cols[at].ty;
            let alike = relations.iter().all(|r| alike(&r.cols[at].ty, first)).then(|| first.clone());
            let common = types::least_common_type(relations.iter().map(|r| &r.cols[at].ty)).or(alike);
            let Some(ty) = common else {
                let given: Vec<String> = relations.iter().map(|r| types::sql_name(&r.cols[at].ty)).collect();
                return Err(error::classed(
                    "INCOMPATIBLE_COLUMN_TYPE",
                    "42825",
                    format!(
                        "{op} can only be performed on tables with compatible column types. Column {} has the types {}.",
                        at + 1,
                        given.join(", ")
                    ),
                ));
            };
            let name = self.column();
            cols.push(Col {
                name: relations[0].cols[at].name.clone(),
                qualifier: None,
                column: Column::new_unqualified(name),
                nullable: relations.iter().any(|r| r.cols[at].nullable || types::cast_is_nullable(&r.cols[at].ty, &ty)),
                ty,
                hidden: false,
            });
        }
        let mut plans = Vec::with_capacity(relations.len());
        for relation in relations {
            let mut exprs = Vec::with_capacity(width);
            for (theirs, col) in relation.cols.iter().zip(&cols) {
                let t = match types::least_common_type([&theirs.ty, &col.ty]) {
                    Some(_) => self.coerce(theirs.typed(), &col.ty)?,
                    None => cast::cast(&self.ctx, theirs.typed(), &col.ty)?,
                };
                let t = if compared { canonical_float(&self.ctx, t) } else { t };
                exprs.push(t.expr.alias(col.column.name.clone()));
            }
            plans.push(LogicalPlan::Projection(built(Projection::try_new(exprs, Arc::new(relation.plan)))?));
        }
        Ok((plans, cols))
    }

    /// INTERSECT and EXCEPT as joins in which NULL equals NULL. With ALL, each row's copies are
    /// numbered, so that they match one by one.
    pub fn keep_matching(&mut self, relations: Vec<Relation>, kind: JoinType, op: &str, all: bool) -> Result<Relation> {
        let given: Vec<Vec<(DataType, bool)>> =
            relations.iter().map(|r| r.cols.iter().map(|c| (c.ty.clone(), c.nullable)).collect()).collect();
        let (inputs, mut cols) = self.aligned(relations, op, true)?;
        check_maps(&cols)?;
        for (at, col) in cols.iter_mut().enumerate() {
            // A row of INTERSECT is one of each side's, one of EXCEPT the first side's.
            let nullable =
                |side: &Vec<(DataType, bool)>| side.get(at).is_none_or(|(ty, nullable)| *nullable || types::cast_is_nullable(ty, &col.ty));
            col.nullable = match kind {
                JoinType::LeftSemi => given.iter().all(nullable),
                _ => given.first().is_none_or(nullable),
            };
        }
        let mut inputs = inputs.into_iter();
        let (Some(left), Some(right)) = (inputs.next(), inputs.next()) else { return Err(Error::internal("a set operation of one input")) };
        // Both sides have the same names: the right ones are renamed.
        let right_exprs: Vec<Expr> = cols.iter().map(|c| Expr::Column(c.column.clone())).collect();
        let (right, right_columns) = self.project(right, right_exprs)?;
        let left_columns: Vec<Column> = cols.iter().map(|c| c.column.clone()).collect();
        let (left, right, keys) = if all {
            let (left, l) = self.numbered(left, &left_columns)?;
            let (right, r) = self.numbered(right, &right_columns)?;
            let keys = left_columns.iter().cloned().chain([l]).zip(right_columns.into_iter().chain([r])).collect::<Vec<_>>();
            (left, right, keys)
        } else {
            (LogicalPlan::Distinct(Distinct::All(Arc::new(left))), right, left_columns.iter().cloned().zip(right_columns).collect())
        };
        let on = keys.into_iter().map(|(l, r)| (Expr::Column(l), Expr::Column(r))).collect();
        let join =
            built(Join::try_new(Arc::new(left), Arc::new(right), on, None, kind, JoinConstraint::On, NullEquality::NullEqualsNull, false))?;
        let mut plan = LogicalPlan::Join(join);
        if all {
            let (projected, columns) = self.project(plan, left_columns.into_iter().map(Expr::Column).collect())?;
            plan = projected;
            cols.iter_mut().zip(columns).for_each(|(c, column)| c.column = column);
        }
        Ok(Relation { plan, cols, ordered: false })
    }

    /// Adds the number of each row among its equals.
    fn numbered(&mut self, plan: LogicalPlan, columns: &[Column]) -> Result<(LogicalPlan, Column)> {
        let Some(FunctionDef::Window(def)) = lookup("row_number") else { return Err(Error::not_eligible("`row_number` isn't known yet")) };
        let (fun, args, _, _, _) = (def.bind)(&self.ctx, Vec::new(), false)?;
        let params = WindowFunctionParams {
            args: args.into_iter().map(|a| a.expr).collect(),
            partition_by: columns.iter().cloned().map(Expr::Column).collect(),
            order_by: Vec::new(),
            window_frame: WindowFrame::new(None),
            filter: None,
            null_treatment: None,
            distinct: false,
        };
        let name = self.column();
        let call = Expr::WindowFunction(Box::new(WindowFunction { fun, params })).alias(name.clone());
        let plan = LogicalPlan::Window(built(Window::try_new(vec![call], Arc::new(plan)))?);
        Ok((plan, Column::new_unqualified(name)))
    }
}

/// The same types but for the names of structs' fields.
fn alike(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a.data_type(), b.data_type()))
        }
        (DataType::List(a), DataType::List(b)) => alike(a.data_type(), b.data_type()),
        (a, b) => types::same(a, b),
    }
}

pub(super) fn check_maps(cols: &[Col]) -> Result<()> {
    match cols.iter().find(|c| types::holds_map(&c.ty)) {
        None => Ok(()),
        Some(col) => Err(error::classed(
            "UNSUPPORTED_FEATURE.SET_OPERATION_ON_MAP_TYPE",
            "0A000",
            format!("Cannot have MAP type columns in set operations, but the type of column `{}` is a map.", col.name),
        )),
    }
}
