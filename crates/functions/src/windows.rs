//! Window functions proper. DataFusion computes them; the binder casts its unsigned ranks to
//! Databricks' INT.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions_window::cume_dist::cume_dist_udwf;
use datafusion::functions_window::lead_lag::{lag_udwf, lead_udwf};
use datafusion::functions_window::nth_value::nth_value_udwf;
use datafusion::functions_window::ntile::ntile_udwf;
use datafusion::functions_window::rank::{dense_rank_udwf, percent_rank_udwf, rank_udwf};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::{WindowFunctionDefinition, WindowUDF};
use flightpath_types::{Error, Result};

use crate::cast::implicit_cast;
use crate::def::{BindContext, DuckCall, FunctionDef, Typed, WindowDef};
use crate::sig::{arity, unexpected_input};
use crate::types;

type Bound = (WindowFunctionDefinition, Vec<Typed>, DataType, DataType, bool);

macro_rules! windows {
    ($($name:literal $bind:expr, $rule:expr, $proof:literal;)*) => {
        &[$(FunctionDef::Window(WindowDef { name: $name, aliases: &[], bind: $bind, duckdb: $rule, proof: $proof })),*]
    };
}

pub(crate) static FAMILY: &[FunctionDef] = windows! {
    "row_number" |_, a, n| rank("row_number", a, n, row_number_udwf()), |c, _| text("row_number", c, false), "corpus: hard-001, window-011";
    "rank" |_, a, n| rank("rank", a, n, rank_udwf()), |c, _| text("rank", c, false), "corpus: window-016, window-032, window-034";
    "dense_rank" |_, a, n| rank("dense_rank", a, n, dense_rank_udwf()), |c, _| text("dense_rank", c, false), "corpus: window-005, window-016, window-034";
    "percent_rank" |_, a, n| share("percent_rank", a, n, percent_rank_udwf()), |c, _| text("percent_rank", c, false), "corpus: window-014";
    "cume_dist" |_, a, n| share("cume_dist", a, n, cume_dist_udwf()), |c, _| text("cume_dist", c, false), "corpus: window-014";
    "ntile" ntile, |c, _| text("ntile", c, false), "corpus: window-023";
    "lag" |x, a, _| offset(x, "lag", a, lag_udwf()), |c, n| text("lag", c, n), "corpus: window-006, window-015, window-028";
    "lead" |x, a, _| offset(x, "lead", a, lead_udwf()), |c, n| text("lead", c, n), "corpus: window-015, window-028";
    "nth_value" nth_value, |c, n| text("nth_value", c, n), "corpus: window-027, window-033";
};

fn udwf(udf: Arc<WindowUDF>) -> WindowFunctionDefinition {
    WindowFunctionDefinition::WindowUDF(udf)
}

fn no_ignore_nulls(name: &str, ignore_nulls: bool) -> Result<()> {
    match ignore_nulls {
        true => Err(Error::invalid(format!("function `{name}` does not support IGNORE NULLS"))),
        false => Ok(()),
    }
}

/// Arguments of the rank functions are taken and mean nothing: they rank by the window's order.
fn rank(name: &str, args: Vec<Typed>, ignore_nulls: bool, udf: Arc<WindowUDF>) -> Result<Bound> {
    let args = if name == "row_number" { args } else { Vec::new() };
    arity(name, args.len(), 0, Some(0))?;
    no_ignore_nulls(name, ignore_nulls)?;
    Ok((udwf(udf), args, DataType::UInt64, DataType::Int32, false))
}

fn share(name: &str, args: Vec<Typed>, ignore_nulls: bool, udf: Arc<WindowUDF>) -> Result<Bound> {
    let args = if name == "percent_rank" { Vec::new() } else { args };
    arity(name, args.len(), 0, Some(0))?;
    no_ignore_nulls(name, ignore_nulls)?;
    Ok((udwf(udf), args, DataType::Float64, DataType::Float64, false))
}

/// A positive literal.
fn position(name: &str, index: usize, arg: &Typed) -> Result<i64> {
    let literal = arg.as_literal().and_then(|v| crate::cast::cast_literal(v, &DataType::Int64, "UTC"));
    match literal {
        Some(ScalarValue::Int64(Some(n))) if n > 0 => Ok(n),
        Some(_) if types::is_integral(&arg.ty) => {
            Err(types::mismatch("VALUE_OUT_OF_RANGE", format!("parameter {} of `{name}` must be in the range (0, 2147483647]", index + 1)))
        }
        _ => Err(unexpected_input(name, index, "a foldable INT", &arg.ty)),
    }
}

fn ntile(_: &BindContext, args: Vec<Typed>, ignore_nulls: bool) -> Result<Bound> {
    arity("ntile", args.len(), 0, Some(1))?;
    no_ignore_nulls("ntile", ignore_nulls)?;
    let buckets = match args.first() {
        Some(arg) if !matches!(arg.ty, DataType::Int32 | DataType::Null) => return Err(unexpected_input("ntile", 0, "INT", &arg.ty)),
        Some(arg) => position("ntile", 0, arg)?,
        None => 1,
    };
    let args = vec![Typed::literal(ScalarValue::Int64(Some(buckets)))];
    Ok((udwf(ntile_udwf()), args, DataType::UInt64, DataType::Int32, false))
}

/// `lag(x [, offset [, default]])`, the default in the type of `x`.
fn offset(ctx: &BindContext, name: &str, args: Vec<Typed>, udf: Arc<WindowUDF>) -> Result<Bound> {
    arity(name, args.len(), 1, Some(3))?;
    let mut args = args.into_iter();
    let Some(value) = args.next() else { return Err(Error::internal("arity was checked")) };
    let distance = match args.next() {
        None => 1,
        Some(arg) => match arg.as_literal().and_then(|v| crate::cast::cast_literal(v, &DataType::Int64, "UTC")) {
            Some(ScalarValue::Int64(Some(n))) if arg.ty == DataType::Int32 => n,
            _ => return Err(unexpected_input(name, 1, "a foldable INT", &arg.ty)),
        },
    };
    let ret = value.ty.clone();
    let (default, nullable) = match args.next() {
        None => (None, true),
        Some(default) => {
            if !types::can_implicitly_cast(&default.ty, &ret) && !narrows(&default.ty, &ret) {
                return Err(unexpected_input(name, 2, &types::name(&ret), &default.ty));
            }
            if default.as_literal().is_none() {
                return Err(Error::not_eligible(format!("`{name}` with a default that isn't a literal isn't known")));
            }
            let nullable = value.nullable || default.nullable || types::cast_is_nullable(&default.ty, &ret);
            (Some(implicit_cast(ctx, default, &ret)?), nullable)
        }
    };
    let mut made = vec![value, Typed::literal(ScalarValue::Int64(Some(distance)))];
    made.extend(default);
    Ok((udwf(udf), made, ret.clone(), ret, nullable))
}

/// `lag(decimal, 1, 0)`: the literal is a decimal of just its digits.
fn narrows(from: &DataType, to: &DataType) -> bool {
    types::is_numeric(from) && types::is_numeric(to) && types::can_cast(from, to)
}

fn nth_value(_: &BindContext, mut args: Vec<Typed>, _: bool) -> Result<Bound> {
    arity("nth_value", args.len(), 2, Some(2))?;
    let n = position("nth_value", 1, &args[1])?;
    args[1] = Typed::literal(ScalarValue::Int64(Some(n)));
    let ret = args[0].ty.clone();
    Ok((udwf(nth_value_udwf()), args, ret.clone(), ret, true))
}

/// DuckDB has the same functions under the same names.
fn text(name: &str, call: &DuckCall<'_>, ignore_nulls: bool) -> Result<String, String> {
    let nulls = if ignore_nulls { " IGNORE NULLS" } else { "" };
    Ok(format!("{name}({}{nulls})", call.args.join(", ")))
}
