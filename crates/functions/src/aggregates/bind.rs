//! How each call is typed, and which aggregate of DataFusion's or ours computes it.

mod collect;
mod percentile;
mod statistics;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::bit_and_or_xor::{bit_and_udaf, bit_or_udaf, bit_xor_udaf};
use datafusion::functions_aggregate::bool_and_or::{bool_and_udaf, bool_or_udaf};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{AggregateUDF, Expr};
use flightpath_types::{Error, ErrorKind, Result};

pub(super) use collect::{list, listagg};
pub(super) use percentile::{median, mode, ordered_percentile, percentile, percentile_approx};
pub(super) use statistics::{comoment, moment, regr_avg, regr_count};

use super::bitmaps::Bitmap;
use super::table;
use super::udaf::{FpAggregate, Kind};
use crate::cast::{Mode, implicit_cast};
use crate::def::{AggregateCall, BindContext, BoundAggregate, Typed};
use crate::ops::{canonical_float, comparable_float};
use crate::types;

/// `count(*)` arrives as `count(1)`; several count rows without any NULL.
pub(super) fn count(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("count", &call)?;
    if call.args.len() < 2 {
        let args = std::mem::take(&mut call.args);
        let arg = match args.into_iter().next() {
            Some(arg) if call.distinct && types::holds_map(&arg.ty) => {
                return Err(Error::not_eligible("count(DISTINCT) of a MAP isn't known: its entries have no order"));
            }
            Some(arg) if call.distinct => comparable_float(ctx, arg),
            Some(arg) => arg,
            None => return Err(wrong_arity("count", "> 0", 0)),
        };
        return Ok(bound(count_udaf(), vec![arg], &call, DataType::Int64, false));
    }
    let args: Vec<Typed> = std::mem::take(&mut call.args).into_iter().map(|a| comparable_float(ctx, a)).collect();
    let key = table::COUNT_KEY.call(ctx, args)?;
    Ok(bound(count_udaf(), vec![key], &call, DataType::Int64, false))
}

pub(super) fn count_if(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("count_if", &call)?;
    let [condition] = plain("count_if", &mut call)?;
    if !matches!(condition.ty, DataType::Boolean | DataType::Null) {
        return Err(unexpected("count_if", 1, "\"BOOLEAN\"", &condition.ty));
    }
    let condition = implicit_cast(ctx, condition, &DataType::Boolean)?;
    // DISTINCT sees TRUE once, as Databricks' rewrite to nullif(condition, false) does.
    let one = Box::new(Expr::Literal(ScalarValue::Int64(Some(1)), None));
    let case = Expr::Case(Case { expr: None, when_then_expr: vec![(Box::new(condition.expr), one)], else_expr: None });
    let arg = Typed::new(case, DataType::Int64, true);
    Ok(bound(count_udaf(), vec![arg], &call, DataType::Int64, false))
}

/// A number near enough: recorded answers of small groups are exact, as this is.
pub(super) fn approx_count_distinct(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("approx_count_distinct", &call)?;
    if call.args.len() == 2 {
        call.args.truncate(1);
    }
    let [arg] = plain("approx_count_distinct", &mut call)?;
    if matches!(arg.ty, DataType::Map(..)) {
        return Err(unexpected("approx_count_distinct", 1, "a type other than MAP", &arg.ty));
    }
    call.distinct = true;
    let arg = canonical_float(ctx, arg);
    Ok(bound(count_udaf(), vec![arg], &call, DataType::Int64, false))
}

/// A numeric or interval argument; strings and NULL count as doubles.
fn summand(ctx: &BindContext, name: &str, arg: Typed) -> Result<Typed> {
    match &arg.ty {
        DataType::Utf8 | DataType::Null => implicit_cast(ctx, arg, &DataType::Float64),
        ty if types::is_numeric(ty) || types::is_interval(ty) => Ok(arg),
        ty => Err(unexpected(name, 1, "(\"NUMERIC\" or \"ANSI INTERVAL\")", ty)),
    }
}

fn sum_as(ctx: &BindContext, mut call: AggregateCall, name: &'static str, mode: Mode) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [arg] = plain(name, &mut call)?;
    let arg = summand(ctx, name, arg)?;
    let arg = if call.distinct { canonical_float(ctx, arg) } else { arg };
    let ret = match &arg.ty {
        DataType::Decimal128(p, s) => {
            let (p, s) = types::decimal::bounded(i32::from(*p) + 10, i32::from(*s));
            DataType::Decimal128(p, s)
        }
        ty if types::is_integral(ty) => DataType::Int64,
        ty if types::is_float(ty) => DataType::Float64,
        ty => ty.clone(),
    };
    Ok(own(name, Kind::Sum(mode), vec![arg], &call, ret, true))
}

fn avg_as(ctx: &BindContext, mut call: AggregateCall, name: &'static str, mode: Mode) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [arg] = plain(name, &mut call)?;
    let arg = summand(ctx, name, arg)?;
    let (arg, ret) = match &arg.ty {
        DataType::Decimal128(p, s) => {
            let (p, s) = types::decimal::bounded(i32::from(*p) + 4, i32::from(*s) + 4);
            (arg, DataType::Decimal128(p, s))
        }
        ty if types::is_interval(ty) => {
            let ret = ty.clone();
            (arg, ret)
        }
        _ => (implicit_cast(ctx, arg, &DataType::Float64)?, DataType::Float64),
    };
    let arg = if call.distinct { canonical_float(ctx, arg) } else { arg };
    Ok(own(name, Kind::Avg(mode), vec![arg], &call, ret, true))
}

pub(super) fn sum(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    sum_as(ctx, call, "sum", Mode::Ansi)
}

pub(super) fn try_sum(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    sum_as(ctx, call, "try_sum", Mode::Try)
}

pub(super) fn avg(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    avg_as(ctx, call, "avg", Mode::Ansi)
}

pub(super) fn try_avg(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    avg_as(ctx, call, "try_avg", Mode::Try)
}

fn extreme(mut call: AggregateCall, name: &'static str, udf: Arc<AggregateUDF>) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [arg] = plain(name, &mut call)?;
    if !types::is_orderable(&arg.ty) {
        return Err(types::mismatch(
            "INVALID_ORDERING_TYPE",
            format!("`{name}` doesn't take values of the type {}", types::sql_name(&arg.ty)),
        ));
    }
    let ret = arg.ty.clone();
    if types::is_float(&ret) {
        // Each value counts as often as it likes.
        call.distinct = false;
        return Ok(own(name, Kind::Extreme { max: name == "max" }, vec![arg], &call, ret, true));
    }
    // DataFusion's own don't order the NULLs inside of arrays and structs.
    if ret.is_nested() {
        call.distinct = false;
        return Ok(own(name, Kind::ByKey { max: name == "max" }, vec![arg.clone(), arg], &call, ret, true));
    }
    Ok(bound(udf, vec![arg], &call, ret, true))
}

pub(super) fn min(_: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    extreme(call, "min", min_udaf())
}

pub(super) fn max(_: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    extreme(call, "max", max_udaf())
}

fn booleans(ctx: &BindContext, mut call: AggregateCall, name: &'static str, udf: Arc<AggregateUDF>) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [arg] = plain(name, &mut call)?;
    if !matches!(arg.ty, DataType::Boolean | DataType::Null | DataType::Utf8) {
        return Err(unexpected(name, 1, "\"BOOLEAN\"", &arg.ty));
    }
    let arg = implicit_cast(ctx, arg, &DataType::Boolean)?;
    Ok(bound(udf, vec![arg], &call, DataType::Boolean, true))
}

pub(super) fn bool_and(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    booleans(ctx, call, "bool_and", bool_and_udaf())
}

pub(super) fn bool_or(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    booleans(ctx, call, "bool_or", bool_or_udaf())
}

fn bits(ctx: &BindContext, mut call: AggregateCall, name: &'static str, udf: Arc<AggregateUDF>) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [arg] = plain(name, &mut call)?;
    let arg = match &arg.ty {
        DataType::Null => implicit_cast(ctx, arg, &DataType::Int32)?,
        DataType::Utf8 => implicit_cast(ctx, arg, &DataType::Int64)?,
        ty if types::is_integral(ty) => arg,
        ty => return Err(unexpected(name, 1, "\"INTEGRAL\"", ty)),
    };
    let ret = arg.ty.clone();
    Ok(bound(udf, vec![arg], &call, ret, true))
}

pub(super) fn bit_and(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    bits(ctx, call, "bit_and", bit_and_udaf())
}

pub(super) fn bit_or(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    bits(ctx, call, "bit_or", bit_or_udaf())
}

pub(super) fn bit_xor(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    bits(ctx, call, "bit_xor", bit_xor_udaf())
}

pub(super) fn bitmap(ctx: &BindContext, mut call: AggregateCall, name: &'static str, bitmap: Bitmap) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [arg] = plain(name, &mut call)?;
    let wanted = if bitmap == Bitmap::Construct { DataType::Int64 } else { DataType::Binary };
    let fits = match wanted {
        DataType::Int64 => types::is_integral(&arg.ty) || arg.ty == DataType::Null,
        _ => arg.ty == DataType::Binary || arg.ty == DataType::Null,
    };
    if !fits {
        return Err(unexpected(name, 1, &types::sql_name(&wanted), &arg.ty));
    }
    let arg = implicit_cast(ctx, arg, &wanted)?;
    // Each bit counts once.
    call.distinct = false;
    Ok(own(name, Kind::Bitmap(bitmap), vec![arg], &call, DataType::Binary, false))
}

/// `first(x)`, `first(x, true)`, `first(x) IGNORE NULLS`.
pub(super) fn edge(mut call: AggregateCall, name: &'static str, last: bool) -> Result<BoundAggregate> {
    let mut ignore_nulls = call.ignore_nulls;
    if call.args.len() == 2 {
        match call.args[1].as_literal() {
            Some(ScalarValue::Boolean(Some(flag))) => ignore_nulls |= *flag,
            _ => return Err(unexpected(name, 2, "a foldable \"BOOLEAN\"", &call.args[1].ty)),
        }
        call.args.truncate(1);
    }
    let [arg] = plain(name, &mut call)?;
    let (ret, nullable) = (arg.ty.clone(), true);
    let mut made = own(name, Kind::Edge { last, ignore_nulls }, vec![arg], &call, ret, nullable);
    made.ignore_nulls = ignore_nulls;
    Ok(made)
}

pub(super) fn by_key(ctx: &BindContext, mut call: AggregateCall, name: &'static str, max: bool) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [value, key] = plain(name, &mut call)?;
    if !types::is_orderable(&key.ty) {
        return Err(types::mismatch(
            "INVALID_ORDERING_TYPE",
            format!("`{name}` can't order values of the type {}", types::sql_name(&key.ty)),
        ));
    }
    let key = comparable_float(ctx, key);
    let ret = value.ty.clone();
    Ok(own(name, Kind::ByKey { max }, vec![value, key], &call, ret, true))
}

fn wrong_arity(name: &str, wanted: &str, got: usize) -> Error {
    Error::classed(
        ErrorKind::InvalidArgument,
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        "42605",
        format!("the `{name}` requires {wanted} parameters but the actual number is {got}"),
    )
}

fn unexpected(name: &str, position: usize, wanted: &str, ty: &DataType) -> Error {
    types::mismatch(
        "UNEXPECTED_INPUT_TYPE",
        format!("parameter {position} of `{name}` requires the type {wanted}, but it has {}", types::sql_name(ty)),
    )
}

/// The call's arguments when there are `N` and no WITHIN GROUP.
fn plain<const N: usize>(name: &str, call: &mut AggregateCall) -> Result<[Typed; N]> {
    if call.within_group || !call.order_by.is_empty() {
        return Err(Error::invalid(format!("`{name}` takes no ORDER BY")));
    }
    let args = std::mem::take(&mut call.args);
    let got = args.len();
    args.try_into().map_err(|_| wrong_arity(name, &N.to_string(), got))
}

fn no_ignore_nulls(name: &str, call: &AggregateCall) -> Result<()> {
    match call.ignore_nulls {
        true => Err(Error::invalid(format!("function `{name}` does not support IGNORE NULLS"))),
        false => Ok(()),
    }
}

fn bound(udf: Arc<AggregateUDF>, args: Vec<Typed>, call: &AggregateCall, ret: DataType, nullable: bool) -> BoundAggregate {
    BoundAggregate { udf, args, order_by: Vec::new(), distinct: call.distinct, ignore_nulls: false, ret, nullable }
}

fn own(name: &'static str, kind: Kind, args: Vec<Typed>, call: &AggregateCall, ret: DataType, nullable: bool) -> BoundAggregate {
    let types = args.iter().map(|a| a.ty.clone()).collect();
    bound(FpAggregate::udaf(name, kind, types, ret.clone(), nullable), args, call, ret, nullable)
}

fn double(ctx: &BindContext, name: &str, position: usize, arg: Typed) -> Result<Typed> {
    match &arg.ty {
        ty if types::is_numeric(ty) || matches!(ty, DataType::Utf8 | DataType::Null) => implicit_cast(ctx, arg, &DataType::Float64),
        ty => Err(unexpected(name, position, "\"DOUBLE\"", ty)),
    }
}
