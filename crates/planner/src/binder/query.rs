//! A query: its CTEs, its body, ORDER BY, LIMIT; and the state that binding one statement has.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion::sql::sqlparser::ast;
use flightpath_catalog::TableSnapshot;
use flightpath_functions::{BindContext, FpScalar, Typed, fold};
use flightpath_types::{Error, ErrorKind, Result};

use super::cte::Ctes;
use super::error::{self, built};
use super::place::Place;
use super::scope::{Col, Relation, Scope};
use super::{BindInput, Parameters};

/// Syntax nodes one statement may have once CTEs and aliases are written out.
const WORK_MAX: usize = 3_000_000;

/// What binding one statement has made so far.
pub(super) struct State<'a> {
    pub ctx: BindContext,
    pub input: &'a BindInput<'a>,
    /// Every snapshot scanned, once each.
    pub tables: Vec<Arc<TableSnapshot>>,
    next_scan: u32,
    next_column: u64,
    work: usize,
    /// Open parameters: how each was written, and its type once known.
    placeholders: Vec<(String, DataType)>,
}

impl<'a> State<'a> {
    pub fn new(input: &'a BindInput<'a>) -> Self {
        Self { ctx: super::context(input), input, tables: Vec::new(), next_scan: 0, next_column: 0, work: 0, placeholders: Vec::new() }
    }

    /// Counts work against the statement's limit.
    pub fn spend(&mut self, amount: usize) -> Result<()> {
        self.work = self.work.saturating_add(amount);
        if self.work > WORK_MAX {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                "the statement is too large once its common table expressions and aliases are written out",
            ));
        }
        Ok(())
    }

    pub fn scan_id(&mut self) -> u32 {
        let id = self.next_scan;
        self.next_scan += 1;
        id
    }

    /// A fresh internal column name: `#17`, which clashes with no table's column.
    pub fn column(&mut self) -> String {
        let id = self.next_column;
        self.next_column += 1;
        format!("#{id}")
    }

    pub fn parameters(&self) -> Option<&'a Parameters> {
        self.input.parameters
    }

    /// The plan's name of an open parameter: `$1`, ...; a name twice is one. Those without a name are
    /// numbered as they stand in the text, where `place` is from 1.
    pub fn placeholder(&mut self, written: &str, place: Option<usize>) -> String {
        for earlier in 1..place.unwrap_or(1) {
            self.known_placeholder(format!("?{earlier}"));
        }
        format!("${}", self.known_placeholder(written.to_string()) + 1)
    }

    fn known_placeholder(&mut self, written: String) -> usize {
        self.placeholders.iter().position(|(known, _)| *known == written).unwrap_or_else(|| {
            self.placeholders.push((written, DataType::Null));
            self.placeholders.len() - 1
        })
    }

    pub fn note_parameter(&mut self, id: &str, ty: &DataType) {
        let index = id.trim_start_matches('$').parse::<usize>().ok().and_then(|i| i.checked_sub(1));
        if let Some((_, known)) = index.and_then(|i| self.placeholders.get_mut(i))
            && *known == DataType::Null
        {
            *known = ty.clone();
        }
    }

    pub fn bind_query(&mut self, query: &ast::Query, ctes: &Ctes<'_>, outer: Option<&Scope<'_>>) -> Result<Relation> {
        self.spend(1)?;
        let inner;
        let ctes = match &query.with {
            Some(with) => {
                inner = Ctes::declared(with, ctes, outer)?;
                &inner
            }
            None => ctes,
        };
        let order_by = query.order_by.as_ref();
        let mut relation = match query.body.as_ref() {
            ast::SetExpr::Select(select) => self.bind_select(select, order_by, ctes, outer)?,
            body => {
                let relation = self.bind_set_expr(body, ctes, outer)?;
                match order_by {
                    Some(order_by) => self.sort_output(relation, order_by, ctes, outer)?,
                    None => relation,
                }
            }
        };
        if let Some(limit) = &query.limit_clause {
            relation = self.limit(relation, limit, ctes)?;
        }
        for pipe in &query.pipe_operators {
            relation = self.pipe(relation, pipe, ctes, outer)?;
        }
        Ok(relation)
    }

    pub fn bind_set_expr(&mut self, body: &ast::SetExpr, ctes: &Ctes<'_>, outer: Option<&Scope<'_>>) -> Result<Relation> {
        match body {
            ast::SetExpr::Select(select) => self.bind_select(select, None, ctes, outer),
            ast::SetExpr::Query(query) => {
                let mut relation = self.bind_query(query, ctes, outer)?;
                relation.cols.retain(|c| !c.hidden);
                Ok(relation)
            }
            ast::SetExpr::SetOperation { left, op, set_quantifier, right } => {
                self.set_operation(left, *op, *set_quantifier, right, ctes, outer)
            }
            ast::SetExpr::Values(values) => self.values(values, ctes, outer),
            ast::SetExpr::Table(table) => self.whole_table(table, ctes),
            ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_) | ast::SetExpr::Merge(_) => {
                Err(Error::not_eligible("flightpath is read-only"))
            }
        }
    }

    fn whole_table(&mut self, table: &ast::Table, ctes: &Ctes<'_>) -> Result<Relation> {
        let parts: Vec<String> = [&table.schema_name, &table.table_name].into_iter().flatten().cloned().collect();
        let idents: Vec<ast::Ident> = parts.into_iter().map(ast::Ident::new).collect();
        self.named_relation(&idents, None, ctes)
    }

    /// `VALUES (...), (...)`: columns `col1`..., of their rows' least common types.
    fn values(&mut self, values: &ast::Values, ctes: &Ctes<'_>, outer: Option<&Scope<'_>>) -> Result<Relation> {
        let scope = Scope::new(&[], outer);
        let place = Place::new(&scope, ctes, "VALUES");
        let width = values.rows.first().map_or(0, |row| row.content.len());
        let mut columns: Vec<Vec<Typed>> = vec![Vec::with_capacity(values.rows.len()); width];
        for row in &values.rows {
            if let [only] = row.content.as_slice()
                && is_struct(only)
            {
                return Err(Error::not_eligible("a row of VALUES that is one struct(...), whose fields Databricks takes for columns"));
            }
            if row.content.len() != width {
                return Err(error::classed(
                    "INVALID_INLINE_TABLE.NUM_COLUMNS_MISMATCH",
                    "42000",
                    format!("Inline table expected {width} columns but found {} columns in a row.", row.content.len()),
                ));
            }
            for (column, e) in columns.iter_mut().zip(&row.content) {
                let t = match e {
                    ast::Expr::Named { expr, name: _ } => self.expr(&place, expr)?.t,
                    e => self.expr(&place, e)?.t,
                };
                column.push(t);
            }
        }
        let mut rows: Vec<Vec<Expr>> = vec![Vec::with_capacity(width); values.rows.len()];
        let mut cols = Vec::with_capacity(width);
        let mut fields = Vec::with_capacity(width);
        for (i, column) in columns.into_iter().enumerate() {
            let nullable = column.iter().any(|t| t.nullable);
            let Some(ty) = flightpath_functions::types::inline_table_type(column.iter().map(|t| &t.ty)) else {
                return Err(error::classed(
                    "INVALID_INLINE_TABLE.INCOMPATIBLE_TYPES_IN_INLINE_TABLE",
                    "42000",
                    format!("Found incompatible types in the column `col{}` for inline table.", i + 1),
                ));
            };
            for (row, t) in rows.iter_mut().zip(column) {
                row.push(self.coerce(t, &ty)?.expr);
            }
            let name = self.column();
            fields.push(Field::new(&name, ty.clone(), nullable));
            cols.push(Col {
                name: Arc::from(format!("col{}", i + 1)),
                qualifier: None,
                column: Column::new_unqualified(name),
                ty,
                nullable,
                hidden: false,
            });
        }
        let schema = built(datafusion::common::DFSchema::from_unqualified_fields(fields.into(), HashMap::new()))?;
        let plan = LogicalPlan::Values(datafusion::logical_expr::Values { schema: Arc::new(schema), values: rows });
        Ok(Relation { plan, cols, ordered: false })
    }

    pub fn limit(&mut self, relation: Relation, limit: &ast::LimitClause, ctes: &Ctes<'_>) -> Result<Relation> {
        let ast::LimitClause::LimitOffset { limit, offset, limit_by: _ } = limit else {
            return Err(Error::invalid("LIMIT a, b isn't part of Databricks SQL; use LIMIT ... OFFSET ..."));
        };
        let fetch = limit.as_ref().map(|e| self.row_count(e, ctes, "LIMIT")).transpose()?;
        let skip = offset.as_ref().map(|o| self.row_count(&o.value, ctes, "OFFSET")).transpose()?;
        let plan = built(LogicalPlanBuilder::from(relation.plan).limit_by_expr(skip, fetch).and_then(LogicalPlanBuilder::build))?;
        Ok(Relation { plan, ..relation })
    }

    /// A number of rows: a constant or a parameter.
    fn row_count(&mut self, e: &ast::Expr, ctes: &Ctes<'_>, clause: &'static str) -> Result<Expr> {
        let scope = Scope::new(&[], None);
        let bound = self.expr(&Place::new(&scope, ctes, clause), e)?;
        let invalid = |sub: &str, why: &str| {
            error::classed(
                format!("INVALID_LIMIT_LIKE_EXPRESSION.{sub}"),
                "42K0E",
                format!("The {clause} expression {} {why}.", bound.name),
            )
        };
        // A client binds what type it has.
        let parameter = super::subquery::has_parameter(e);
        let t = match bound.t.ty {
            DataType::Int32 | DataType::Null => self.coerce(bound.t.clone(), &DataType::Int64)?,
            DataType::Int8 | DataType::Int16 | DataType::Int64 if parameter => self.coerce(bound.t.clone(), &DataType::Int64)?,
            _ => return Err(invalid("DATA_TYPE", "must be an integer")),
        };
        if matches!(t.expr, Expr::Placeholder(_)) {
            return Ok(t.expr);
        }
        match fold::constant(&t.expr) {
            Ok(ScalarValue::Int64(Some(n))) if n >= 0 => Ok(Expr::Literal(ScalarValue::Int64(Some(n)), None)),
            Ok(ScalarValue::Int64(Some(_))) => Err(invalid("IS_NEGATIVE", "must be equal to or greater than 0")),
            Ok(_) => Err(invalid("IS_NULL", "must not be NULL")),
            Err(fold::Unfolded::Raised(error)) => Err(error),
            Err(fold::Unfolded::Unknown) => Err(Error::not_eligible(format!("{clause} takes a number or a parameter"))),
        }
    }

    /// A projection of typed expressions under fresh names; the names parallel `exprs`.
    pub fn project(&mut self, input: LogicalPlan, exprs: Vec<Expr>) -> Result<(LogicalPlan, Vec<Column>)> {
        let names: Vec<String> = exprs.iter().map(|_| self.column()).collect();
        let columns = names.iter().map(|n| Column::new_unqualified(n.clone())).collect();
        let aliased = exprs.into_iter().zip(names).map(|(e, n)| e.alias(n)).collect();
        let plan = built(Projection::try_new(aliased, Arc::new(input)))?;
        flightpath_functions::types::check_size(plan.schema.fields().iter().map(|field| field.data_type()))?;
        Ok((LogicalPlan::Projection(plan), columns))
    }

    /// The statement's plan: its visible columns only, each open parameter with its type.
    pub fn finish(&mut self, relation: Relation) -> Result<(LogicalPlan, Vec<DataType>)> {
        let wanted: Vec<&Col> = relation.visible().collect();
        let same = relation.plan.schema().fields().len() == wanted.len()
            && relation.plan.schema().columns().iter().zip(&wanted).all(|(have, want)| have == &want.column && have.relation.is_none());
        let types: Vec<DataType> = wanted.iter().map(|c| c.ty.clone()).collect();
        let exprs: Vec<Expr> = wanted.iter().map(|c| Expr::Column(c.column.clone())).collect();
        let plan = relation.plan.clone();
        let plan = if same { plan } else { self.project(plan, exprs)?.0 };
        for (field, ty) in plan.schema().fields().iter().zip(&types) {
            if !flightpath_functions::types::same(field.data_type(), ty) {
                return Err(Error::internal(format!("column {} was typed {ty} but the plan gives {}", field.name(), field.data_type())));
            }
        }
        if self.placeholders.is_empty() {
            return Ok((plan, Vec::new()));
        }
        let plan = self.type_placeholders(plan)?;
        Ok((plan, self.placeholders.iter().map(|(_, ty)| ty.clone()).collect()))
    }

    /// A cast around an open parameter says what the parameter's type is.
    fn type_placeholders(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let mut seen: Vec<(String, DataType)> = Vec::new();
        let rewritten = plan.transform_up_with_subqueries(|node| {
            node.map_expressions(|e| {
                e.transform_up(|e| {
                    let (id, ty) = match &e {
                        Expr::ScalarFunction(ScalarFunction { func, args }) => {
                            match (func.inner().downcast_ref::<FpScalar>(), args.as_slice()) {
                                (Some(f), [Expr::Placeholder(p)]) if f.def.name == "cast" && p.field.is_none() => {
                                    (p.id.clone(), f.ret.clone())
                                }
                                _ => return Ok(Transformed::no(e)),
                            }
                        }
                        Expr::Cast(cast) => match cast.expr.as_ref() {
                            Expr::Placeholder(p) if p.field.is_none() => (p.id.clone(), cast.field.data_type().clone()),
                            _ => return Ok(Transformed::no(e)),
                        },
                        _ => return Ok(Transformed::no(e)),
                    };
                    seen.push((id.clone(), ty.clone()));
                    let field = Some(Arc::new(Field::new("", ty, true)));
                    Ok(Transformed::yes(Expr::Placeholder(Placeholder { id, field })))
                })
            })
        });
        let rewritten = built(rewritten)?.data;
        for (id, ty) in seen {
            self.note_parameter(&id, &ty);
        }
        Ok(rewritten)
    }

    /// Whether nothing in the plan differs from run to run.
    pub fn is_deterministic(&self, plan: &LogicalPlan) -> Result<bool> {
        let mut deterministic = true;
        let walked = plan.apply_with_subqueries(|node| {
            node.apply_expressions(|e| {
                deterministic &= !e.is_volatile();
                Ok(if deterministic { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        });
        built(walked)?;
        Ok(deterministic && !self.ctx.uncacheable.load(std::sync::atomic::Ordering::Relaxed))
    }
}

/// `struct(...)`, under no other name.
fn is_struct(e: &ast::Expr) -> bool {
    match e {
        ast::Expr::Struct { .. } => true,
        ast::Expr::Function(f) => f.name.to_string().eq_ignore_ascii_case("struct"),
        ast::Expr::Nested(inner) => is_struct(inner),
        _ => false,
    }
}
