//! Aggregates: how each call is typed, what DataFusion computes, and DuckDB's text. An aggregate's
//! udf carries the definition's name, by which the printer finds its rule.

mod bitmaps;
mod choice;
mod collected;
mod exact;
mod extremes;
mod moments;
mod rules;
mod table;
mod udaf;

#[cfg(test)]
mod tests;

pub(crate) use table::FAMILY;

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::bit_and_or_xor::{bit_and_udaf, bit_or_udaf, bit_xor_udaf};
use datafusion::functions_aggregate::bool_and_or::{bool_and_udaf, bool_or_udaf};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::expr::{Case, Sort};
use datafusion::logical_expr::{AggregateUDF, Expr};
use flightpath_types::{Error, ErrorKind, Result};

use self::bitmaps::Bitmap;
use self::collected::{Collect, Key, Shares};
use self::moments::{Comoment, Moment};
use self::udaf::{FpAggregate, Kind};
use crate::cast::{Mode, implicit_cast};
use crate::def::{AggregateCall, BindContext, BoundAggregate, Typed};
use crate::ops::{canonical_float, comparable_float};
use crate::types;

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

/// `count(*)` arrives as `count(1)`; several count rows without any NULL.
fn count(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
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

fn count_if(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
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
fn approx_count_distinct(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
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

fn sum(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    sum_as(ctx, call, "sum", Mode::Ansi)
}

fn try_sum(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    sum_as(ctx, call, "try_sum", Mode::Try)
}

fn avg(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    avg_as(ctx, call, "avg", Mode::Ansi)
}

fn try_avg(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
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

fn min(_: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    extreme(call, "min", min_udaf())
}

fn max(_: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
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

fn bool_and(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    booleans(ctx, call, "bool_and", bool_and_udaf())
}

fn bool_or(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
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

fn bit_and(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    bits(ctx, call, "bit_and", bit_and_udaf())
}

fn bit_or(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    bits(ctx, call, "bit_or", bit_or_udaf())
}

fn bit_xor(ctx: &BindContext, call: AggregateCall) -> Result<BoundAggregate> {
    bits(ctx, call, "bit_xor", bit_xor_udaf())
}

fn double(ctx: &BindContext, name: &str, position: usize, arg: Typed) -> Result<Typed> {
    match &arg.ty {
        ty if types::is_numeric(ty) || matches!(ty, DataType::Utf8 | DataType::Null) => implicit_cast(ctx, arg, &DataType::Float64),
        ty => Err(unexpected(name, position, "\"DOUBLE\"", ty)),
    }
}

fn moment(ctx: &BindContext, mut call: AggregateCall, name: &'static str, moment: Moment) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [arg] = plain(name, &mut call)?;
    let arg = double(ctx, name, 1, arg)?;
    Ok(own(name, Kind::Moments(moment), vec![arg], &call, DataType::Float64, true))
}

fn comoment(ctx: &BindContext, mut call: AggregateCall, name: &'static str, moment: Comoment) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let [x, y] = plain(name, &mut call)?;
    let args = vec![double(ctx, name, 1, x)?, double(ctx, name, 2, y)?];
    Ok(own(name, Kind::Comoments(moment), args, &call, DataType::Float64, true))
}

/// How many rows have both values.
fn regr_count(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("regr_count", &call)?;
    let [y, x] = plain("regr_count", &mut call)?;
    let args = vec![double(ctx, "regr_count", 1, y)?, double(ctx, "regr_count", 2, x)?];
    let key = table::COUNT_KEY.call(ctx, args)?;
    Ok(bound(count_udaf(), vec![key], &call, DataType::Int64, false))
}

/// The average of one of two values over the rows that have both.
fn regr_avg(ctx: &BindContext, mut call: AggregateCall, name: &'static str, pick: usize) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let pair: [Typed; 2] = plain(name, &mut call)?;
    let [y, x] = pair.map(|t| match t.ty {
        DataType::Utf8 | DataType::Null => implicit_cast(ctx, t, &DataType::Float64),
        _ => Ok(t),
    });
    let (y, x) = (y?, x?);
    let both = Expr::IsNotNull(Box::new(y.expr.clone())).and(Expr::IsNotNull(Box::new(x.expr.clone())));
    let picked = if pick == 0 { y } else { x };
    let case = Expr::Case(Case { expr: None, when_then_expr: vec![(Box::new(both), Box::new(picked.expr))], else_expr: None });
    call.args = vec![Typed::new(case, picked.ty, true)];
    avg(ctx, call)
}

fn bitmap(ctx: &BindContext, mut call: AggregateCall, name: &'static str, bitmap: Bitmap) -> Result<BoundAggregate> {
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
fn edge(mut call: AggregateCall, name: &'static str, last: bool) -> Result<BoundAggregate> {
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

fn by_key(ctx: &BindContext, mut call: AggregateCall, name: &'static str, max: bool) -> Result<BoundAggregate> {
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

fn list(mut call: AggregateCall, name: &'static str, distinct: bool, canonical: Option<&BindContext>) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    // Of an input that is sorted: its keys.
    let order = match distinct || call.distinct || call.within_group {
        true => Vec::new(),
        false => std::mem::take(&mut call.order_by),
    };
    let [arg] = plain(name, &mut call)?;
    if distinct && types::holds_map(&arg.ty) {
        return Err(types::mismatch(
            "UNSUPPORTED_INPUT_TYPE",
            format!("`{name}` doesn't take values of the type {}", types::sql_name(&arg.ty)),
        ));
    }
    let arg = match canonical {
        Some(ctx) => canonical_float(ctx, arg),
        None => arg,
    };
    let ret = collected::list_type(&arg.ty);
    let (keys, mut args) = ordered(order);
    args.insert(0, arg);
    let mut made = own(name, Kind::Collected(Collect::List { distinct, keys }), args, &call, ret, false);
    made.distinct &= !distinct;
    Ok(made)
}

/// `listagg(x [, separator]) [WITHIN GROUP (ORDER BY ...)]`. Its keys become arguments, each
/// followed by its direction, so that both engines see them.
fn listagg(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("listagg", &call)?;
    let mut args = std::mem::take(&mut call.args).into_iter();
    let got = args.len();
    let (Some(text), separator, None) = (args.next(), args.next(), args.next()) else { return Err(wrong_arity("listagg", "[1, 2]", got)) };
    let separator = match separator.as_ref().map(|s| (s.as_literal(), &s.ty)) {
        None => String::new(),
        Some((Some(value), ty)) if types::is_numeric(ty) && !value.is_null() => {
            match crate::cast::cast_literal(value, &DataType::Utf8, &ctx.time_zone) {
                Some(ScalarValue::Utf8(Some(s))) => s,
                _ => return Err(unexpected("listagg", 2, "a foldable \"STRING\"", ty)),
            }
        }
        Some((Some(ScalarValue::Utf8(Some(s))), _)) => s.clone(),
        Some((Some(value), _)) if value.is_null() => String::new(),
        Some((_, ty)) => return Err(unexpected("listagg", 2, "a foldable \"STRING\"", ty)),
    };
    if text.ty == DataType::Binary {
        return Err(Error::not_eligible("listagg of BINARY isn't known"));
    }
    let order = std::mem::take(&mut call.order_by);
    if call.distinct && order.iter().any(|(key, _)| key.expr != text.expr) {
        return Err(Error::classed(
            ErrorKind::InvalidArgument,
            "INVALID_WITHIN_GROUP_EXPRESSION.MISMATCH_WITH_DISTINCT_INPUT",
            "42K0K",
            "listagg(DISTINCT x) can be ordered by x only",
        ));
    }
    if !types::can_implicitly_cast(&text.ty, &DataType::Utf8) {
        return Err(unexpected("listagg", 1, "\"STRING\"", &text.ty));
    }
    let text = implicit_cast(ctx, text, &DataType::Utf8)?;
    let order = order.into_iter().map(|(key, sort)| (comparable_float(ctx, key), sort)).collect();
    let (keys, by) = ordered(order);
    let mut args = vec![text, Typed::literal(ScalarValue::Utf8(Some(separator.clone())))];
    args.extend(by);
    Ok(own("listagg", Kind::Collected(Collect::Text { separator, keys }), args, &call, DataType::Utf8, true))
}

/// Keys as arguments, and then the direction of each, so that both engines see them.
fn ordered(order: Vec<(Typed, Sort)>) -> (Vec<Key>, Vec<Typed>) {
    let keys: Vec<Key> = order.iter().map(|(_, sort)| Key { descending: !sort.asc, nulls_first: sort.nulls_first }).collect();
    let direction = keys.iter().map(|k| {
        let text = format!("{} NULLS {}", if k.descending { "DESC" } else { "ASC" }, if k.nulls_first { "FIRST" } else { "LAST" });
        Typed::literal(ScalarValue::Utf8(Some(text)))
    });
    let args = order.iter().map(|(key, _)| key.clone()).chain(direction).collect();
    (keys, args)
}

/// The shares that a percentile is asked for: a literal between 0 and 1, or an array of them.
fn shares(name: &str, arg: &Typed) -> Result<Shares> {
    let bad = || {
        types::mismatch(
            "VALUE_OUT_OF_RANGE",
            format!("the percentage of `{name}` must be a literal between 0.0 and 1.0, or an array of them"),
        )
    };
    let value = arg.as_literal().cloned().or_else(|| literal_array(arg)).ok_or_else(bad)?;
    let (values, many) = match &value {
        ScalarValue::List(list) if list.len() == 1 => {
            let items = list.value(0);
            let items: Option<Vec<f64>> =
                (0..items.len()).map(|i| ScalarValue::try_from_array(&items, i).ok().and_then(|v| share(&v))).collect();
            (items.ok_or_else(bad)?, true)
        }
        single => (vec![share(single).ok_or_else(bad)?], false),
    };
    if values.iter().any(|v| !(0.0..=1.0).contains(v)) {
        return Err(bad());
    }
    Ok(Shares { bits: values.into_iter().map(f64::to_bits).collect(), many })
}

/// `array(0.25, 0.75)` isn't folded by the binder: evaluated here.
fn literal_array(arg: &Typed) -> Option<ScalarValue> {
    use datafusion::logical_expr::ColumnarValue;
    let Expr::ScalarFunction(call) = &arg.expr else { return None };
    let udf = call.func.inner().downcast_ref::<crate::FpScalar>()?;
    let args: Option<Vec<ColumnarValue>> = call
        .args
        .iter()
        .map(|a| match a {
            Expr::Literal(v, _) => Some(ColumnarValue::Scalar(v.clone())),
            _ => None,
        })
        .collect();
    let args = args?;
    let invocation = crate::Invocation { args: &args, rows: 1, ret: &udf.ret, time_zone: &udf.time_zone };
    match (udf.def.eval)(&invocation).ok()? {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(array) if array.len() == 1 => ScalarValue::try_from_array(&array, 0).ok(),
        ColumnarValue::Array(_) => None,
    }
}

fn share(value: &ScalarValue) -> Option<f64> {
    match crate::cast::cast_literal(value, &DataType::Float64, "UTC")? {
        ScalarValue::Float64(v) => v,
        _ => None,
    }
}

/// The shares as an argument that both engines can print: a number, or numbers in a text.
fn shown(shares: &Shares) -> Typed {
    let values: Vec<f64> = shares.bits.iter().map(|b| f64::from_bits(*b)).collect();
    match values.as_slice() {
        [only] if !shares.many => Typed::literal(ScalarValue::Float64(Some(*only))),
        many => Typed::literal(ScalarValue::Utf8(Some(many.iter().map(f64::to_string).collect::<Vec<_>>().join(",")))),
    }
}

/// `percentile_approx(x, share [, accuracy])`: exact here, which no accuracy forbids.
fn percentile_approx(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("percentile_approx", &call)?;
    let mut args = std::mem::take(&mut call.args).into_iter();
    let got = args.len();
    let (Some(value), Some(share), accuracy, None) = (args.next(), args.next(), args.next(), args.next()) else {
        return Err(wrong_arity("percentile_approx", "[2, 3]", got));
    };
    let accurate = |v: &ScalarValue| matches!(crate::cast::cast_literal(v, &DataType::Int64, "UTC"), Some(ScalarValue::Int64(Some(1..))));
    if accuracy.as_ref().is_some_and(|a| !a.as_literal().is_some_and(accurate)) {
        return Err(types::mismatch("VALUE_OUT_OF_RANGE", "the accuracy of `percentile_approx` must be a positive literal"));
    }
    let value = match &value.ty {
        ty if types::is_numeric(ty) || types::is_datetime(ty) || types::is_interval(ty) => canonical_float(ctx, value),
        _ => double(ctx, "percentile_approx", 1, value)?,
    };
    let asked = shares("percentile_approx", &share)?;
    let ret = if asked.many { types::array(value.ty.clone(), false) } else { value.ty.clone() };
    let args = vec![value, shown(&asked)];
    Ok(own("percentile_approx", Kind::Collected(Collect::Nth { shares: asked }), args, &call, ret, true))
}

fn percentile_of(
    ctx: &BindContext,
    name: &'static str,
    value: Typed,
    rest: Vec<Typed>,
    shape: (Shares, bool, bool),
    call: &AggregateCall,
) -> Result<BoundAggregate> {
    let (shares, descending, discrete) = shape;
    let value = match &value.ty {
        ty if types::is_interval(ty) => value,
        _ => double(ctx, name, 1, value)?,
    };
    let element = value.ty.clone();
    let (ret, nullable) = if shares.many { (types::array(element, false), true) } else { (element, true) };
    let mut args = vec![value];
    args.extend(rest);
    Ok(own(name, Kind::Collected(Collect::Percentile { shares, descending, discrete }), args, call, ret, nullable))
}

/// `percentile(x, share [, frequency])`.
fn percentile(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("percentile", &call)?;
    let mut args = std::mem::take(&mut call.args).into_iter();
    let got = args.len();
    let (Some(value), Some(share), frequency, None) = (args.next(), args.next(), args.next(), args.next()) else {
        return Err(wrong_arity("percentile", "[2, 3]", got));
    };
    let asked = shares("percentile", &share)?;
    let mut rest = vec![shown(&asked)];
    if let Some(frequency) = frequency {
        if !types::is_integral(&frequency.ty) {
            return Err(unexpected("percentile", 3, "\"INTEGRAL\"", &frequency.ty));
        }
        rest.push(implicit_cast(ctx, frequency, &DataType::Int64)?);
    }
    percentile_of(ctx, "percentile", value, rest, (asked, false, false), &call)
}

fn median(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("median", &call)?;
    let [value] = plain("median", &mut call)?;
    let half = Shares { bits: vec![0.5_f64.to_bits()], many: false };
    let share = Typed::literal(ScalarValue::Float64(Some(0.5)));
    percentile_of(ctx, "median", value, vec![share], (half, false, false), &call)
}

/// `percentile_cont(share) WITHIN GROUP (ORDER BY x)` and `percentile_disc`.
fn ordered_percentile(ctx: &BindContext, mut call: AggregateCall, name: &'static str, discrete: bool) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    let (args, order) = (std::mem::take(&mut call.args), std::mem::take(&mut call.order_by));
    let got = args.len();
    let ([share], Ok([(value, sort)])) = (args.as_slice(), <[_; 1]>::try_from(order)) else {
        return Err(if got == 1 {
            Error::invalid(format!("`{name}` needs WITHIN GROUP (ORDER BY ...) with one key"))
        } else {
            wrong_arity(name, "1", got)
        });
    };
    let asked = shares(name, share)?;
    let direction = Typed::literal(ScalarValue::Utf8(Some(if sort.asc { "ASC" } else { "DESC" }.into())));
    percentile_of(ctx, name, value, vec![shown(&asked), direction], (asked, !sort.asc, discrete), &call)
}

/// `mode(x)`, `mode(x, deterministic)`, `mode() WITHIN GROUP (ORDER BY x)`.
fn mode(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("mode", &call)?;
    if call.distinct {
        return Err(Error::classed(
            ErrorKind::InvalidArgument,
            "INVALID_WITHIN_GROUP_EXPRESSION.DISTINCT_UNSUPPORTED",
            "42K0K",
            "Invalid function `mode`. The function does not support DISTINCT.",
        ));
    }
    let (args, order) = (std::mem::take(&mut call.args), std::mem::take(&mut call.order_by));
    let got = args.len();
    let mut args = args.into_iter();
    let (value, tie, greatest) = match (args.next(), args.next(), order.into_iter().next()) {
        (None, None, Some((value, sort))) => (value, if sort.asc { "ASC" } else { "DESC" }, !sort.asc),
        (Some(value), None, None) => (value, "ANY", false),
        (Some(value), Some(flag), None) => match flag.as_literal() {
            Some(ScalarValue::Boolean(Some(true))) => (value, "ASC", false),
            Some(ScalarValue::Boolean(Some(false))) => (value, "ANY", false),
            _ => return Err(unexpected("mode", 2, "a foldable \"BOOLEAN\"", &flag.ty)),
        },
        _ => return Err(wrong_arity("mode", "[0, 1, 2]", got)),
    };
    if !types::is_orderable(&value.ty) {
        return Err(unexpected("mode", 1, "a type other than MAP", &value.ty));
    }
    let value = canonical_float(ctx, value);
    let ret = value.ty.clone();
    let tie = Typed::literal(ScalarValue::Utf8(Some(tie.into())));
    Ok(own("mode", Kind::Collected(Collect::Mode { greatest }), vec![value, tie], &call, ret, true))
}
