//! Percentiles, the median and the mode.

use arrow::array::Array;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use flightpath_types::{Error, ErrorKind, Result};

use super::{double, no_ignore_nulls, own, plain, unexpected, wrong_arity};
use crate::aggregates::collected::{Collect, Shares};
use crate::aggregates::udaf::Kind;
use crate::cast::implicit_cast;
use crate::def::{AggregateCall, BindContext, BoundAggregate, Typed};
use crate::ops::canonical_float;
use crate::types;

/// `percentile_approx(x, share [, accuracy])`: exact here, which no accuracy forbids.
pub(in crate::aggregates) fn percentile_approx(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
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
pub(in crate::aggregates) fn percentile(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
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

pub(in crate::aggregates) fn median(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("median", &call)?;
    let [value] = plain("median", &mut call)?;
    let half = Shares { bits: vec![0.5_f64.to_bits()], many: false };
    let share = Typed::literal(ScalarValue::Float64(Some(0.5)));
    percentile_of(ctx, "median", value, vec![share], (half, false, false), &call)
}

/// `percentile_cont(share) WITHIN GROUP (ORDER BY x)` and `percentile_disc`.
pub(in crate::aggregates) fn ordered_percentile(
    ctx: &BindContext,
    mut call: AggregateCall,
    name: &'static str,
    discrete: bool,
) -> Result<BoundAggregate> {
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
pub(in crate::aggregates) fn mode(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
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
