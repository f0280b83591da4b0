//! Calls with lambdas. A body's columns are its lambda's parameters, under names that nothing else in
//! the text has, and what it captures, which is written out where it stands.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::ScalarFunction;
use flightpath_functions::lambda::{DuckHigher, DuckLambda, FpHigher, Lambda, capture_column, parameter_column};
use flightpath_functions::lazy;

use crate::block::Cell;
use crate::expr::{Arguments, by_rule};
use crate::relation::{Env, Printer};
use crate::sql::Sql;
use crate::{Printed, check_size, refuse};

impl Printer {
    pub fn higher_function(&mut self, call: &ScalarFunction, function: &FpHigher, env: &Env) -> Printed<Sql> {
        let name = function.def.name;
        let args = self.arguments(&call.args, env)?;
        let values = function.def.values.min(args.texts.len());
        if args.texts[values..].iter().any(|text| text.contains("SELECT")) {
            return Err(refuse("a lambda that uses the result of a subquery"));
        }
        let mut lambdas = Vec::with_capacity(function.lambdas.len());
        for lambda in &function.lambdas {
            lambdas.push(self.lambda(function, lambda, &args, values)?);
        }
        let duck = DuckHigher { args: &args.texts[..values], types: &args.types[..values], lambdas: &lambdas, ret: &function.ret };
        let text = (function.def.duckdb)(&duck).map_err(|reason| by_rule(name, &args.types[..values], reason))?;
        check_size(&text)?;
        Ok(Sql::of_rule(text, function.ret.clone()))
    }

    fn lambda(&mut self, function: &FpHigher, lambda: &Lambda, args: &Arguments, values: usize) -> Printed<DuckLambda> {
        if lambda.ty == DataType::Null {
            return Err(refuse("a lambda that gives nothing but NULL"));
        }
        let mut fields = Vec::new();
        let mut cells = Vec::new();
        let mut parameters = Vec::with_capacity(lambda.parameters.len());
        for (i, (ty, nullable)) in lambda.parameters.iter().enumerate() {
            let name = self.alias();
            let text = if function.def.is_index(i) { format!("CAST({name} - 1 AS INTEGER)") } else { name.clone() };
            cells.push(Cell::column(text));
            fields.push(Field::new(parameter_column(i).name, ty.clone(), *nullable));
            parameters.push(name);
        }
        for (i, (text, ty)) in args.texts.iter().zip(&args.types).skip(values).enumerate() {
            cells.push(Cell::column(text.clone()));
            fields.push(Field::new(capture_column(i).name, ty.clone(), true));
        }
        let schema = DFSchema::from_unqualified_fields(fields.into(), HashMap::new());
        let schema = Arc::new(schema.map_err(|e| refuse(format!("a lambda's columns ({e})")))?);
        let inside = Env { parts: vec![(schema, Rc::new(cells))] };
        let body = self.expr(&lambda.body, &inside)?;
        Ok(DuckLambda { parameters, body: body.operand(), raises: lazy::may_raise(&lambda.body) })
    }
}
