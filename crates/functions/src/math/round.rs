//! `round`, `bround`, `ceil`, `floor`, `abs`, `sign`: numbers to fewer digits.

use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalYearMonthType,
};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, ErrorKind, Result};

use crate::cast::{Mode, implicit_cast, in_precision, power_of_ten};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::errors::duck;
use crate::ops::kernel::unary;
use crate::sig::{arity, scalar, unexpected_input};
use crate::{duckdb, errors, ops, types};

pub(crate) static ROUND: &[FunctionDef] = &[
    scalar!("round", [], bind: |x, a| bind_round(x, "round", a), eval: |c| round(c, Rounding::HalfUp), duckdb: |c| round_text(c, Rounding::HalfUp),
        proof: "corpus: arith-032, arith-040, arith-042, decimal-006"),
    scalar!("bround", [], bind: |x, a| bind_round(x, "bround", a), eval: |c| round(c, Rounding::HalfEven), duckdb: |c| round_text(c, Rounding::HalfEven),
        proof: "corpus: arith-032, hard-009, decimal-006"),
    scalar!("ceil", ["ceiling"], bind: |x, a| bind_whole(x, "ceil", a), eval: |c| whole(c, Rounding::Up), duckdb: |c| whole_text(c, "ceil"),
        proof: "corpus: arith-024, arith-036, hard-036"),
    scalar!("floor", [], bind: |x, a| bind_whole(x, "floor", a), eval: |c| whole(c, Rounding::Down), duckdb: |c| whole_text(c, "floor"),
        proof: "corpus: arith-024, arith-036, arith-030"),
    scalar!("abs", [], bind: bind_abs, eval: abs, duckdb: abs_text, proof: "corpus: arith-023, arith-049, hard-049, times-032"),
    scalar!("sign", ["signum"], bind: bind_sign, eval: sign, duckdb: sign_text, proof: "corpus: arith-004, arith-049"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounding {
    HalfUp,
    HalfEven,
    Up,
    Down,
}

/// The scale argument: a literal, 0 when left out.
fn scale_of(name: &str, args: &[Typed]) -> Result<i32> {
    match args.get(1).map(|a| (a.as_literal(), &a.ty)) {
        None => Ok(0),
        Some((_, ty)) if !types::is_numeric(ty) && !matches!(ty, DataType::Utf8 | DataType::Null) => {
            Err(unexpected_input(name, 1, "INT", ty))
        }
        Some((Some(value), ty)) => match crate::cast::cast_literal(value, &DataType::Int32, "UTC") {
            Some(ScalarValue::Int32(Some(n))) => Ok(n),
            Some(ScalarValue::Int32(None)) => Err(Error::not_eligible(format!("`{name}` with a NULL scale isn't known"))),
            _ => Err(unexpected_input(name, 1, "INT", ty)),
        },
        Some((None, _)) => Err(types::mismatch("NON_FOLDABLE_INPUT", format!("the scale of `{name}` must be a literal"))),
    }
}

fn scale_literal(scale: i32) -> Typed {
    Typed::literal(ScalarValue::Int32(Some(scale)))
}

/// The result of rounding a decimal to `scale` places, which may need one more whole digit.
fn rounded_type(p: u8, s: i8, scale: i32) -> DataType {
    let whole = i32::from(p) - i32::from(s) + 1;
    let max = i32::from(types::MAX_PRECISION);
    if scale < 0 {
        return DataType::Decimal128(whole.max(1 - scale).min(max) as u8, 0);
    }
    let kept = i32::from(s).min(scale);
    // Both are within 0..=38.
    DataType::Decimal128((whole + kept).min(max) as u8, kept as i8)
}

fn numeric(ctx: &BindContext, name: &str, arg: Typed) -> Result<Typed> {
    match &arg.ty {
        ty if types::is_numeric(ty) => Ok(arg),
        DataType::Utf8 | DataType::Null => implicit_cast(ctx, arg, &DataType::Float64),
        ty => Err(unexpected_input(name, 0, "NUMERIC", ty)),
    }
}

fn first(args: Vec<Typed>) -> Result<Typed> {
    args.into_iter().next().ok_or_else(|| Error::internal("arity was checked"))
}

fn bind_round(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<Bound> {
    arity(name, args.len(), 1, Some(2))?;
    let scale = scale_of(name, &args)?;
    let arg = numeric(ctx, name, first(args)?)?;
    let ret = match &arg.ty {
        DataType::Decimal128(p, s) => rounded_type(*p, *s, scale),
        ty => ty.clone(),
    };
    Ok(Bound { args: vec![arg, scale_literal(scale)], ret, nullable: true })
}

fn bind_whole(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<Bound> {
    arity(name, args.len(), 1, Some(2))?;
    let two = args.len() == 2;
    if let Some(scale) = args.get(1).filter(|scale| scale.ty != DataType::Int32 || scale.as_literal().is_none()) {
        return Err(Error::classed(
            ErrorKind::InvalidArgument,
            "NON_FOLDABLE_ARGUMENT",
            "42K08",
            format!(
                "the function `{name}` requires the parameter `scale` to be a foldable expression of the type \"INT\", not \"{}\"",
                types::sql_name(&scale.ty)
            ),
        ));
    }
    let scale = scale_of(name, &args)?;
    let arg = numeric(ctx, name, first(args)?)?;
    if two {
        // With a scale everything is a decimal.
        let (p, s) = match &arg.ty {
            DataType::Float32 => (14, 7),
            DataType::Float64 => (30, 15),
            ty => types::decimal_of(ty).unwrap_or((10, 0)),
        };
        let arg = implicit_cast(ctx, arg, &DataType::Decimal128(p, s))?;
        return Ok(Bound { args: vec![arg, scale_literal(scale)], ret: rounded_type(p, s, scale), nullable: true });
    }
    let (arg, ret) = match &arg.ty {
        DataType::Decimal128(_, 0) => {
            let ret = arg.ty.clone();
            (arg, ret)
        }
        DataType::Decimal128(p, s) => {
            let (p, s) = types::decimal::bounded(i32::from(*p) - i32::from(*s) + 1, 0);
            (arg, DataType::Decimal128(p, s))
        }
        ty if types::is_integral(ty) => (implicit_cast(ctx, arg, &DataType::Int64)?, DataType::Int64),
        _ => (implicit_cast(ctx, arg, &DataType::Float64)?, DataType::Int64),
    };
    Ok(Bound { args: vec![arg, scale_literal(0)], ret, nullable: true })
}

fn given_scale(call: &Invocation<'_>) -> Result<i32> {
    match call.args.get(1) {
        Some(ColumnarValue::Scalar(ScalarValue::Int32(Some(n)))) => Ok(*n),
        Some(ColumnarValue::Array(array)) if !array.is_empty() => match ScalarValue::try_from_array(array, 0) {
            Ok(ScalarValue::Int32(Some(n))) => Ok(n),
            _ => Err(Error::internal("rounding without a scale")),
        },
        Some(ColumnarValue::Array(_)) => Ok(0),
        _ => Err(Error::internal("rounding without a scale")),
    }
}

fn first_type(call: &Invocation<'_>) -> Result<DataType> {
    call.args.first().map(ColumnarValue::data_type).ok_or_else(|| Error::internal("a function was called without arguments"))
}

fn unexpected(ty: &DataType) -> Error {
    Error::internal(format!("a rounding function was called with {ty}"))
}

/// `value` of scale `from` at scale `to` (which may be negative), still in units of `10^-max(to,0)`.
fn rounded(value: i128, from: i32, to: i32, how: Rounding) -> Option<i128> {
    let drop = from - to;
    if drop <= 0 {
        return Some(value);
    }
    // More digits than 128 bits have: what is left is nothing, or one unit by direction.
    let unit = if drop > 38 { i128::MAX } else { power_of_ten(drop as i8)? };
    let (quotient, rest) = (value / unit, value % unit);
    let twice = rest.unsigned_abs() >= unit.unsigned_abs() - rest.unsigned_abs();
    let exact_half = rest.unsigned_abs() == unit.unsigned_abs() - rest.unsigned_abs();
    let away = match how {
        Rounding::HalfUp => twice && drop <= 38,
        Rounding::HalfEven => drop <= 38 && twice && !(exact_half && quotient % 2 == 0),
        Rounding::Up => rest > 0,
        Rounding::Down => rest < 0,
    };
    let step = if away { if value < 0 { -1 } else { 1 } } else { 0 };
    let quotient = quotient + step;
    if to >= 0 { Some(quotient) } else { quotient.checked_mul(power_of_ten(i8::try_from(-to).ok()?)?) }
}

fn round(call: &Invocation<'_>, how: Rounding) -> Result<ColumnarValue> {
    let scale = given_scale(call)?;
    match first_type(call)? {
        DataType::Decimal128(_, s) => decimal(call, s, scale, how),
        DataType::Float64 => {
            unary::<Float64Type, Float64Type>(call, Mode::Ansi, |v| (round_double(v, scale, how), false), |_| unexpected(call.ret))
        }
        DataType::Float32 => unary::<Float32Type, Float32Type>(
            call,
            Mode::Ansi,
            |v| (round_double(f64::from(v), scale, how) as f32, false),
            |_| unexpected(call.ret),
        ),
        DataType::Int8 => integers::<Int8Type>(call, scale, how),
        DataType::Int16 => integers::<Int16Type>(call, scale, how),
        DataType::Int32 => integers::<Int32Type>(call, scale, how),
        DataType::Int64 => integers::<Int64Type>(call, scale, how),
        ty => Err(unexpected(&ty)),
    }
}

fn integers<T: ArrowPrimitiveType>(call: &Invocation<'_>, scale: i32, how: Rounding) -> Result<ColumnarValue>
where
    T::Native: Into<i64> + TryFrom<i128>,
{
    let f = |v: T::Native| match rounded(i128::from(v.into()), 0, scale.min(0), how).and_then(|r| T::Native::try_from(r).ok()) {
        Some(r) => (r, false),
        None => (T::Native::default(), true),
    };
    unary::<T, T>(call, Mode::Ansi, f, |_| errors::arithmetic_overflow(&types::name(call.ret)))
}

fn decimal(call: &Invocation<'_>, s: i8, scale: i32, how: Rounding) -> Result<ColumnarValue> {
    let DataType::Decimal128(precision, _) = call.ret else { return Err(unexpected(call.ret)) };
    let f = |v: i128| match rounded(v, i32::from(s), scale, how).filter(|r| in_precision(*r, *precision)) {
        Some(r) => (r, false),
        None => (0, true),
    };
    unary::<Decimal128Type, Decimal128Type>(call, Mode::Ansi, f, |v| {
        errors::numeric_out_of_range(&duckdb::decimal_text(v, s.max(0) as usize), *precision, scale.max(0) as i8)
    })
}

/// By the shortest decimal text of the value, as `BigDecimal.valueOf(x).setScale(...)`.
fn round_double(v: f64, scale: i32, how: Rounding) -> f64 {
    if !v.is_finite() || v == 0.0 {
        return if v.is_nan() { f64::NAN } else { v + 0.0 };
    }
    let text = format!("{:e}", v.abs());
    let Some((mantissa, exponent)) = text.split_once('e') else { return v };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    // At most 17 digits.
    let (Ok(value), Ok(exponent)) = (digits.parse::<i128>(), exponent.parse::<i32>()) else { return v };
    let places = digits.len() as i32 - 1 - exponent;
    if places <= scale {
        return v;
    }
    let drop = places - scale;
    if drop > digits.len() as i32 + 1 {
        return 0.0;
    }
    let Some(kept) = rounded(value, drop, 0, how) else { return v };
    let rounded: f64 = format!("{kept}e{}", -scale).parse().unwrap_or(v);
    // A zero is positive, whatever it was rounded from.
    if v < 0.0 && rounded != 0.0 { -rounded } else { rounded }
}

fn whole(call: &Invocation<'_>, how: Rounding) -> Result<ColumnarValue> {
    let scale = given_scale(call)?;
    match first_type(call)? {
        DataType::Decimal128(_, s) => decimal(call, s, scale, how),
        DataType::Int64 => unary::<Int64Type, Int64Type>(call, Mode::Ansi, |v| (v, false), |_| unexpected(call.ret)),
        // NaN becomes 0, as in Java's conversion to long.
        DataType::Float64 => {
            let f = |v: f64| {
                let whole = if how == Rounding::Up { v.ceil() } else { v.floor() };
                // 2^63 and beyond: the bound itself isn't a BIGINT.
                (whole as i64, !(whole.is_nan() || (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole)))
            };
            unary::<Float64Type, Int64Type>(call, Mode::Ansi, f, |_| errors::arithmetic_overflow("bigint"))
        }
        ty => Err(unexpected(&ty)),
    }
}

fn literal_scale(call: &DuckCall<'_>) -> Result<i32, String> {
    match call.literals.get(1) {
        Some(Some(ScalarValue::Int32(Some(n)))) => Ok(*n),
        _ => Err("rounding to a scale that isn't a literal isn't known on DuckDB".into()),
    }
}

fn operand<'a>(call: &'a DuckCall<'_>) -> Result<(&'a str, &'a DataType), String> {
    match (call.args.first(), call.types.first()) {
        (Some(x), Some(ty)) => Ok((x, ty)),
        _ => Err("a function called without arguments".into()),
    }
}

fn round_text(call: &DuckCall<'_>, how: Rounding) -> Result<String, String> {
    let (x, ty) = operand(call)?;
    let scale = literal_scale(call)?;
    if how != Rounding::HalfUp {
        return half_even_text(x, ty, scale);
    }
    match ty {
        DataType::Decimal128(..) if scale >= 0 => Ok(format!("round({x}, {scale})")),
        // DuckDB rounds to 0 where the unit is wider than the type, NULL too.
        DataType::Decimal128(p, s) if i32::from(*p) - i32::from(*s) < 38 => {
            Ok(format!("CASE WHEN {x} IS NOT NULL THEN round(CAST({x} AS DECIMAL(38,{s})), {scale}) END"))
        }
        ty if types::is_integral(ty) && scale >= 0 => Ok(x.to_owned()),
        ty if types::is_integral(ty) && scale >= -18 => {
            // DuckDB's own wraps around on overflow.
            let (unit, half) = (10_i128.pow(scale.unsigned_abs()), 10_i128.pow(scale.unsigned_abs()) / 2);
            let value = format!("(CAST({x} AS HUGEINT) + CASE WHEN {x} < 0 THEN -{half} ELSE {half} END) // {unit} * {unit}");
            let raise = duck::arithmetic_overflow(&types::name(ty));
            Ok(format!("coalesce(TRY_CAST({value} AS {}), CASE WHEN {x} IS NOT NULL THEN {raise} END)", duckdb::type_name(ty)?))
        }
        DataType::Float32 | DataType::Float64 if (0..=20).contains(&scale) => {
            let name = duckdb::type_name(ty)?;
            // Too great for the decimal means that there's nothing behind the point. DuckDB misreads
            // numbers that are too small for it.
            let decimal = format!("TRY_CAST(CAST(CAST({x} AS DOUBLE) AS VARCHAR) AS DECIMAL(38,{scale}))");
            Ok(format!(
                "CASE WHEN abs({x}) < CAST('1e-{}' AS DOUBLE) THEN CAST(0 AS {name}) ELSE coalesce(CAST(CAST({decimal} AS VARCHAR) AS {name}), {x}) END",
                scale + 1
            ))
        }
        ty => Err(format!("rounding {} to {scale} places isn't known on DuckDB", types::name(ty))),
    }
}

/// In whole numbers: of two that are equally near the even one.
pub(crate) fn half_even_text(x: &str, ty: &DataType, scale: i32) -> Result<String, String> {
    let digits = match ty {
        DataType::Decimal128(p, s) if *p <= 36 && scale >= 0 => {
            if scale >= i32::from(*s) {
                return Ok(x.to_owned());
            }
            i32::from(*s) - scale
        }
        ty if types::is_integral(ty) && scale >= 0 => return Ok(x.to_owned()),
        ty if types::is_integral(ty) && scale >= -18 => -scale,
        ty => return Err(format!("rounding {} half to even to {scale} places isn't known on DuckDB", types::name(ty))),
    };
    let unit = 10_i128.pow(digits.unsigned_abs());
    let number = match ty {
        DataType::Decimal128(_, s) => {
            format!("CAST(CAST({x} AS DECIMAL(38,{s})) * CAST('1{}' AS DECIMAL({},0)) AS HUGEINT)", "0".repeat(*s as usize), s + 1)
        }
        _ => format!("CAST({x} AS HUGEINT)"),
    };
    // The half of an even quotient doesn't count.
    let rounded = format!(
        "fp_v // {unit} + CASE WHEN abs(fp_v % {unit}) * 2 > {unit} OR (abs(fp_v % {unit}) * 2 = {unit} AND (fp_v // {unit}) % 2 <> 0) THEN CASE WHEN fp_v < 0 THEN -1 ELSE 1 END ELSE 0 END"
    );
    let value = format!("list_transform([{number}], lambda fp_v: {rounded})[1]");
    if types::is_integral(ty) {
        let raise = duck::arithmetic_overflow(&types::name(ty));
        return Ok(format!(
            "coalesce(TRY_CAST({value} * {unit} AS {}), CASE WHEN {x} IS NOT NULL THEN {raise} END)",
            duckdb::type_name(ty)?
        ));
    }
    if scale == 0 {
        return Ok(format!("CAST({value} AS DECIMAL(38,0))"));
    }
    let one = duckdb::decimal_text(1, scale as usize);
    Ok(format!("(CAST({value} AS DECIMAL(38,0)) * CAST('{one}' AS DECIMAL({scale},{scale})))"))
}

fn whole_text(call: &DuckCall<'_>, name: &str) -> Result<String, String> {
    let (x, ty) = operand(call)?;
    let scale = literal_scale(call)?;
    match (ty, call.ret) {
        (DataType::Int64, DataType::Int64) => Ok(x.to_owned()),
        (DataType::Float64, DataType::Int64) => Ok(format!(
            "coalesce(TRY_CAST({name}({x}) AS BIGINT), CASE WHEN isnan({x}) THEN CAST(0 AS BIGINT) WHEN {x} IS NOT NULL THEN {} END)",
            duck::arithmetic_overflow("bigint")
        )),
        (DataType::Decimal128(_, 0), _) if scale >= 0 => Ok(x.to_owned()),
        (DataType::Decimal128(..), _) if scale == 0 => Ok(format!("{name}({x})")),
        (DataType::Decimal128(p, s), _) if scale > 0 && *p < 38 => {
            if scale >= i32::from(*s) {
                return Ok(x.to_owned());
            }
            // Rounded, and a unit back where that was the wrong way.
            let (sign, wrong) = if name == "ceil" { ("+", "<") } else { ("-", ">") };
            let unit = format!("CAST('{}' AS DECIMAL({scale},{scale}))", duckdb::decimal_text(1, scale as usize));
            Ok(format!("(round({x}, {scale}) {sign} CASE WHEN round({x}, {scale}) {wrong} {x} THEN {unit} ELSE 0 END)"))
        }
        (ty, _) => Err(format!("{name} of {} to {scale} places isn't known on DuckDB", types::name(ty))),
    }
}

fn bind_abs(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    arity("abs", args.len(), 1, Some(1))?;
    let arg = first(args)?;
    let arg = if types::is_interval(&arg.ty) { arg } else { numeric(ctx, "abs", arg)? };
    let (ret, nullable) = (arg.ty.clone(), arg.nullable);
    Ok(Bound { args: vec![arg], ret, nullable })
}

fn abs(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let ty = first_type(call)?;
    macro_rules! run {
        ($t:ty, $native:ty, $error:expr) => {
            unary::<$t, $t>(call, Mode::Ansi, |v: $native| v.checked_abs().map_or((0, true), |v| (v, false)), |_| $error)
        };
    }
    let overflow = || errors::arithmetic_overflow(&types::name(&ty));
    match ty {
        DataType::Int8 => run!(Int8Type, i8, overflow()),
        DataType::Int16 => run!(Int16Type, i16, overflow()),
        DataType::Int32 => run!(Int32Type, i32, overflow()),
        DataType::Int64 => run!(Int64Type, i64, overflow()),
        DataType::Decimal128(..) => run!(Decimal128Type, i128, overflow()),
        DataType::Interval(_) => run!(IntervalYearMonthType, i32, errors::interval_overflow()),
        DataType::Duration(_) => run!(DurationMicrosecondType, i64, errors::interval_overflow()),
        DataType::Float32 => unary::<Float32Type, Float32Type>(call, Mode::Ansi, |v| (v.abs(), false), |_| overflow()),
        DataType::Float64 => unary::<Float64Type, Float64Type>(call, Mode::Ansi, |v| (v.abs(), false), |_| overflow()),
        other => Err(unexpected(&other)),
    }
}

fn abs_text(call: &DuckCall<'_>) -> Result<String, String> {
    let (x, ty) = operand(call)?;
    if let Some(Some(
        ScalarValue::Int8(Some(i8::MIN))
        | ScalarValue::Int16(Some(i16::MIN))
        | ScalarValue::Int32(Some(i32::MIN))
        | ScalarValue::Int64(Some(i64::MIN)),
    )) = call.literals.first()
    {
        // DuckDB computes it beforehand, in branches that are never taken too.
        return Err("`abs` of its type's least value isn't known on DuckDB".into());
    }
    if !types::is_interval(ty) {
        return Ok(format!("abs({x})"));
    }
    let made = ops::rules::interval_of(ty, "fp_v", &ops::rules::interval_overflow());
    let value = ops::rules::interval_number(ty, x);
    Ok(format!("list_transform([abs(CAST({value} AS HUGEINT))], lambda fp_v: {made})[1]"))
}

fn bind_sign(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    arity("sign", args.len(), 1, Some(1))?;
    let arg = first(args)?;
    let arg = match &arg.ty {
        ty if types::is_interval(ty) => arg,
        _ => {
            let arg = numeric(ctx, "sign", arg)?;
            implicit_cast(ctx, arg, &DataType::Float64)?
        }
    };
    Ok(Bound { args: vec![arg], ret: DataType::Float64, nullable: true })
}

fn sign(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let never = || Error::internal("sign failed");
    match first_type(call)? {
        DataType::Float64 => {
            // Zeros keep their sign, NaN stays.
            let f = |v: f64| (if v.is_nan() || v == 0.0 { v } else { v.signum() }, false);
            unary::<Float64Type, Float64Type>(call, Mode::Ansi, f, |_| never())
        }
        DataType::Interval(_) => {
            unary::<IntervalYearMonthType, Float64Type>(call, Mode::Ansi, |v| (f64::from(v.signum()), false), |_| never())
        }
        DataType::Duration(_) => {
            unary::<DurationMicrosecondType, Float64Type>(call, Mode::Ansi, |v| (v.signum() as f64, false), |_| never())
        }
        ty => Err(unexpected(&ty)),
    }
}

fn sign_text(call: &DuckCall<'_>) -> Result<String, String> {
    let (x, ty) = operand(call)?;
    match ty {
        DataType::Float64 => Ok(format!(
            "CASE WHEN isnan({x}) THEN {x} WHEN {x} > 0 THEN CAST(1 AS DOUBLE) WHEN {x} < 0 THEN CAST(-1 AS DOUBLE) ELSE {x} END"
        )),
        ty if types::is_interval(ty) => Ok(format!("CAST(sign({}) AS DOUBLE)", ops::rules::interval_number(ty, x))),
        ty => Err(format!("sign of {} isn't known on DuckDB", types::name(ty))),
    }
}
