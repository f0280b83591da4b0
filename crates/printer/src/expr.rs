//! Expressions. Native DataFusion operators are printed only where DuckDB's operator is the same;
//! everything with semantics of its own is a call of the compile table.

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Case, Expr};
use flightpath_functions::lambda::FpHigher;
use flightpath_functions::{DuckCall, FpScalar, duckdb, fold};
use flightpath_types::{Refusal, RefusalClass};

use crate::block::{Cell, CellKind};
use crate::operator::{check_comparable, shielded};
use crate::relation::{Env, Printer, same_type, strip_alias};
use crate::sql::Sql;
use crate::{Printed, refuse};

impl Printer {
    pub fn expr(&mut self, expr: &Expr, env: &Env) -> Printed<Sql> {
        let printed = stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || self.expr_here(expr, env));
        match printed {
            Err(refusal) if refusal.class == RefusalClass::Semantics => crate::constant::expression(expr).unwrap_or(Err(refusal)),
            printed => printed,
        }
    }

    fn expr_here(&mut self, expr: &Expr, env: &Env) -> Printed<Sql> {
        match expr {
            Expr::Alias(alias) => self.expr(&alias.expr, env),
            Expr::Column(column) => {
                let (cell, ty) = self.column_cell(column, env)?;
                Ok(cell_sql(cell, ty))
            }
            Expr::OuterReferenceColumn(_, column) => self.outer_column(column),
            Expr::Literal(value, _) => literal(value),
            Expr::BinaryExpr(binary) => self.binary(binary, env),
            Expr::Like(like) => self.like(like, env),
            Expr::Not(inner) => {
                let inner = self.boolean_operand(inner, env, "NOT")?;
                Ok(Sql::boolean(format!("NOT {inner}")))
            }
            Expr::IsNull(inner) => Ok(Sql::boolean(format!("{} IS NULL", self.expr(inner, env)?.operand()))),
            Expr::IsNotNull(inner) => Ok(Sql::boolean(format!("{} IS NOT NULL", self.expr(inner, env)?.operand()))),
            Expr::IsTrue(inner) => Ok(Sql::boolean(format!("{} IS TRUE", self.boolean_operand(inner, env, "IS TRUE")?))),
            Expr::IsFalse(inner) => Ok(Sql::boolean(format!("{} IS FALSE", self.boolean_operand(inner, env, "IS FALSE")?))),
            Expr::IsUnknown(inner) => Ok(Sql::boolean(format!("{} IS NULL", self.boolean_operand(inner, env, "IS UNKNOWN")?))),
            Expr::IsNotTrue(inner) => Ok(Sql::boolean(format!("{} IS NOT TRUE", self.boolean_operand(inner, env, "IS NOT TRUE")?))),
            Expr::IsNotFalse(inner) => Ok(Sql::boolean(format!("{} IS NOT FALSE", self.boolean_operand(inner, env, "IS NOT FALSE")?))),
            Expr::IsNotUnknown(inner) => Ok(Sql::boolean(format!("{} IS NOT NULL", self.boolean_operand(inner, env, "IS NOT UNKNOWN")?))),
            Expr::Between(between) => self.between(between, env),
            Expr::Case(case) => self.case(case, env),
            Expr::Cast(cast) => {
                let inner = self.expr(&cast.expr, env)?;
                crate::cast::lossless(inner, cast.field.data_type())
            }
            Expr::ScalarFunction(call) => self.scalar_function(call, env),
            Expr::InList(list) => self.in_list(list, env),
            Expr::Exists(exists) => self.exists(exists, env),
            Expr::InSubquery(in_subquery) => self.in_subquery(in_subquery, env),
            Expr::ScalarSubquery(subquery) => self.scalar_subquery(subquery, env),
            Expr::AggregateFunction(call) => Err(refuse(format!("aggregate `{}` outside of an aggregation", call.func.name()))),
            Expr::WindowFunction(call) => Err(refuse(format!("window function `{}` outside of a window", call.fun.name()))),
            Expr::SimilarTo(_) => Err(refuse("SIMILAR TO")),
            Expr::Negative(_) => Err(refuse("the native operator `-`")),
            Expr::TryCast(cast) => Err(refuse(format!("a native TRY_CAST to {}", cast.field.data_type()))),
            Expr::ScalarVariable(_, names) => Err(refuse(format!("variable `{}`", names.join(".")))),
            Expr::SetComparison(_) => Err(refuse("a comparison with ANY or ALL of a subquery")),
            Expr::GroupingSet(_) => Err(refuse("a grouping set outside of GROUP BY")),
            Expr::Placeholder(placeholder) => Err(refuse(format!("parameter {} without a value", placeholder.id))),
            Expr::Unnest(_) => Err(refuse("UNNEST inside an expression")),
            Expr::HigherOrderFunction(call) => Err(refuse(format!("higher-order function `{}`", call.name()))),
            Expr::Lambda(_) => Err(refuse("a lambda")),
            Expr::LambdaVariable(variable) => Err(refuse(format!("lambda variable `{}`", variable.name))),
            #[expect(deprecated, reason = "the variant exists, so it needs a decision")]
            Expr::Wildcard { .. } => Err(refuse("`*` that wasn't expanded")),
        }
    }

    /// The cell that a column refers to, and its type.
    pub fn column_cell<'e>(&self, column: &Column, env: &'e Env) -> Printed<(&'e Cell, &'e DataType)> {
        for (schema, cells) in &env.parts {
            if let Some(index) = schema.maybe_index_of_column(column) {
                let cell = &cells[index];
                if cell.kind == CellKind::Absent {
                    return Err(internal(column));
                }
                return Ok((cell, schema.field(index).data_type()));
            }
        }
        Err(internal(column))
    }

    fn outer_column(&mut self, column: &Column) -> Printed<Sql> {
        for env in self.outers.iter().rev() {
            if let Ok((cell, ty)) = self.column_cell(column, env) {
                if cell.kind == CellKind::Computed {
                    return Err(refuse(format!("a reference to the computed column `{column}` of an outer query")));
                }
                return Ok(cell_sql(cell, ty));
            }
        }
        Err(internal(column))
    }

    fn boolean_operand(&mut self, expr: &Expr, env: &Env, operator: &str) -> Printed<String> {
        let printed = self.expr(expr, env)?;
        match printed.ty {
            DataType::Boolean | DataType::Null => Ok(printed.operand()),
            ty => Err(refuse(format!("{operator} on a value of type {ty}"))),
        }
    }

    fn case(&mut self, case: &Case, env: &Env) -> Printed<Sql> {
        let mut text = String::from("CASE");
        let operand = match &case.expr {
            Some(expr) => {
                let printed = shielded(expr, self.expr(expr, env)?);
                let ty = printed.ty.clone();
                text.push_str(&format!(" {}", printed.operand()));
                Some(ty)
            }
            None => None,
        };
        let mut ty = DataType::Null;
        let mut unify = |branch: &DataType| match (&ty, branch) {
            (_, DataType::Null) => Ok(()),
            (DataType::Null, _) => {
                ty = branch.clone();
                Ok(())
            }
            (have, branch) if same_type(have, branch) => Ok(()),
            (have, branch) => Err(refuse(format!("CASE with branches of {have} and {branch}"))),
        };
        for (when, then) in &case.when_then_expr {
            let when = self.expr(when, env)?;
            match &operand {
                Some(ty) => check_comparable(ty, &when.ty, false)?,
                None if matches!(when.ty, DataType::Boolean | DataType::Null) => {}
                None => return Err(refuse(format!("CASE WHEN on a value of type {}", when.ty))),
            }
            let then = self.expr(then, env)?;
            unify(&then.ty)?;
            text.push_str(&format!(" WHEN {} THEN {}", when.text, then.text));
        }
        if let Some(otherwise) = &case.else_expr {
            let otherwise = self.expr(otherwise, env)?;
            unify(&otherwise.ty)?;
            text.push_str(&format!(" ELSE {}", otherwise.text));
        }
        text.push_str(" END");
        crate::check_size(&text)?;
        Ok(Sql::atom(text, ty))
    }

    fn scalar_function(&mut self, call: &ScalarFunction, env: &Env) -> Printed<Sql> {
        if let Some(higher) = FpHigher::of(call) {
            return self.higher_function(call, higher, env);
        }
        let Some(function) = call.func.inner().downcast_ref::<FpScalar>() else {
            return Err(refuse(format!("the native function `{}`", call.name())));
        };
        // DuckDB's decimals overflow where Databricks' don't: those of constants are computed here.
        if function.def.deterministic
            && (function.ret.is_decimal() || call.args.iter().any(|arg| fold::type_of(arg).is_some_and(|ty| ty.is_decimal())))
            && let Ok(value) = fold::constant_call(call)
        {
            return literal(&value);
        }
        let args = self.arguments(&call.args, env)?;
        let duck_call = DuckCall {
            args: &args.texts,
            types: &args.types,
            literals: &args.literals,
            ret: &function.ret,
            time_zone: &function.time_zone,
        };
        let text = (function.def.duckdb)(&duck_call).map_err(|reason| by_rule(function.def.name, &args.types, reason))?;
        crate::check_size(&text)?;
        // A rule that leaves some values to other engines isn't asked about known ones.
        if crate::constant::refuses_values(&text)
            && let Ok(value) = fold::constant_call(call)
        {
            return literal(&value);
        }
        Ok(Sql::of_rule(text, function.ret.clone()))
    }

    pub fn arguments(&mut self, exprs: &[Expr], env: &Env) -> Printed<Arguments> {
        let mut args = Arguments::default();
        for expr in exprs {
            let printed = self.expr(expr, env)?;
            args.types.push(printed.ty.clone());
            args.literals.push(match strip_alias(expr) {
                Expr::Literal(value, _) => Some(value.clone()),
                // A rule that asks for a literal may as well have a constant's value.
                call @ Expr::ScalarFunction(_) => fold::constant(call).ok(),
                _ => None,
            });
            args.texts.push(printed.operand());
        }
        Ok(args)
    }
}

#[derive(Default)]
pub(crate) struct Arguments {
    pub texts: Vec<String>,
    pub types: Vec<DataType>,
    pub literals: Vec<Option<ScalarValue>>,
}

/// What a definition's rule says against a call, with the call named.
pub(crate) fn by_rule(name: &str, types: &[DataType], reason: String) -> Refusal {
    let types: Vec<String> = types.iter().map(|t| t.to_string().to_lowercase()).collect();
    Refusal::new(RefusalClass::Semantics, format!("`{name}({})` on DuckDB: {reason}", types.join(", ")))
}

fn internal(column: &Column) -> Refusal {
    refuse(format!("the column reference `{column}`, which isn't in scope there and"))
}

fn cell_sql(cell: &Cell, ty: &DataType) -> Sql {
    match cell.kind {
        CellKind::Column => Sql::atom(cell.text.clone(), ty.clone()),
        CellKind::Literal | CellKind::Computed | CellKind::Absent => Sql::of_rule(cell.text.clone(), ty.clone()),
    }
}

pub(crate) fn literal(value: &ScalarValue) -> Printed<Sql> {
    if matches!(value, ScalarValue::Null) {
        return Ok(Sql::atom("NULL".into(), DataType::Null));
    }
    let text = duckdb::literal(value).map_err(|reason| Refusal::new(RefusalClass::Semantics, reason))?;
    Ok(Sql::of_rule(text, value.data_type()))
}
