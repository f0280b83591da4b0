//! Calls with lambdas: each lambda's body is typed over its parameters and over the columns around
//! it, then closed over what it takes from outside.

use datafusion::common::Column;
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArguments};
use flightpath_functions::lambda::{HigherDef, Lambda, Parameter, enclose};
use flightpath_functions::{FunctionDef, Typed, lookup};
use flightpath_types::{Error, Result};

use super::error;
use super::expr::Bound;
use super::names;
use super::place::Place;
use super::query::State;

/// What a lambda's parameter is called in names.
const VARIABLE: &str = "namedlambdavariable()";

impl State<'_> {
    /// The row for a call that is given a lambda, where one function has forms with and without.
    pub fn sorted_by(f: &ast::Function, name: &str) -> Option<&'static HigherDef> {
        let FunctionArguments::List(list) = &f.args else { return None };
        let lambda = |a: &FunctionArg| matches!(a, FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Lambda(_))));
        match lookup(flightpath_functions::lambda::ARRAY_SORT_BY) {
            Some(FunctionDef::Higher(def)) if name == "array_sort" && list.args.iter().any(lambda) => Some(def),
            _ => None,
        }
    }

    pub fn higher_call(&mut self, place: &Place<'_>, f: &ast::Function, name: &str, def: &'static HigherDef) -> Result<Bound> {
        let list = match &f.args {
            FunctionArguments::List(list) => list,
            FunctionArguments::None | FunctionArguments::Subquery(_) => return Err(wrong_arity(name, def, 0)),
        };
        let plain = f.filter.is_none()
            && f.within_group.is_empty()
            && f.null_treatment.is_none()
            && list.duplicate_treatment.is_none()
            && list.clauses.is_empty();
        if !plain {
            return Err(Error::invalid(format!("`{name}` takes neither DISTINCT nor FILTER, WITHIN GROUP or IGNORE NULLS")));
        }
        let least = def.values + def.lambdas.0;
        if list.args.len() < least || list.args.len() > def.values + def.lambdas.1 {
            return Err(wrong_arity(name, def, list.args.len()));
        }
        let mut values = Vec::with_capacity(def.values);
        let mut texts = Vec::with_capacity(list.args.len());
        let mut lambdas = Vec::new();
        let mut captures = Vec::new();
        for (i, arg) in list.args.iter().enumerate() {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = arg else {
                return Err(Error::not_eligible(format!("the argument `{arg}` isn't supported")));
            };
            match (e, i < def.values) {
                (ast::Expr::Lambda(lambda), false) => {
                    let (parameters, least) = (def.parameters)(&self.ctx, &values, &lambdas)?;
                    let (lambda, text) = self.lambda(place, lambda, (parameters, least), &mut captures)?;
                    lambdas.push(lambda);
                    texts.push(text);
                }
                (_, true) => {
                    let bound = self.expr(place, e)?;
                    texts.push(bound.name);
                    values.push(bound.t);
                }
                (_, false) => {
                    return Err(Error::not_eligible(format!("`{name}` with anything but a lambda for a function isn't supported")));
                }
            }
        }
        if name == "aggregate" || name == "reduce" {
            texts.extend((lambdas.len() == 1).then(|| format!("lambdafunction({VARIABLE}, {VARIABLE})")));
        }
        let t = def.call(&self.ctx, values, captures, lambdas)?;
        Ok(Bound::new(t, format!("{name}({})", texts.join(", "))))
    }

    fn lambda(
        &mut self,
        place: &Place<'_>,
        lambda: &ast::LambdaFunction,
        (mut parameters, least): (Vec<Parameter>, usize),
        captures: &mut Vec<Expr>,
    ) -> Result<(Lambda, String)> {
        let written: Vec<String> = lambda.params.iter().map(|p| p.name.value.to_lowercase()).collect();
        if written.len() < least || written.len() > parameters.len() {
            return Err(error::classed(
                "INVALID_LAMBDA_FUNCTION_CALL.NUM_ARGS_MISMATCH",
                "42K0D",
                format!(
                    "Invalid lambda function call. A higher order function expects {} arguments, but got {}.",
                    written.len(),
                    parameters.len()
                ),
            ));
        }
        if (1..written.len()).any(|i| written[..i].contains(&written[i])) {
            return Err(error::classed(
                "INVALID_LAMBDA_FUNCTION_CALL.DUPLICATE_ARG_NAMES",
                "42K0D",
                format!("Invalid lambda function call. The lambda function has duplicate arguments {}.", written.join(", ")),
            ));
        }
        parameters.truncate(written.len());
        let names: Vec<String> = written.iter().map(|_| self.column()).collect();
        let mut variables = place.variables.clone();
        for ((name, (ty, nullable)), column) in written.into_iter().zip(&parameters).zip(&names) {
            let variable = Expr::Column(Column::new_unqualified(column.clone()));
            variables.push((name, Typed::new(variable, ty.clone(), *nullable)));
        }
        let inside = Place { aggregates: None, windows: None, clause: names::LAMBDA, variables, ..*place };
        let body = self.expr(&inside, &lambda.body)?;
        let text = format!("lambdafunction({}{})", body.name, format!(", {VARIABLE}").repeat(parameters.len()));
        let closed = enclose(body.t.expr, &names, captures)?;
        Ok((Lambda { parameters, body: closed, ty: body.t.ty, nullable: body.t.nullable }, text))
    }
}

fn wrong_arity(name: &str, def: &HigherDef, got: usize) -> Error {
    let (least, most) = (def.values + def.lambdas.0, def.values + def.lambdas.1);
    let wanted = if least == most { least.to_string() } else { format!("[{least}, {most}]") };
    error::classed(
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        "42605",
        format!("The `{name}` requires {wanted} parameters but the actual number is {got}."),
    )
}
