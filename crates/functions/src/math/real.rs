//! Functions of doubles.

use arrow::datatypes::{DataType, Float64Type};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::cast::Mode;
use crate::def::{DuckCall, FunctionDef, Invocation, ScalarDef};
use crate::ops::kernel;
use crate::sig::{P, call, maybe, strict};

/// One NaN, which sorts last.
fn canonical(v: f64) -> f64 {
    if v.is_nan() { f64::NAN } else { v }
}

fn never() -> Error {
    Error::internal("a function of doubles failed")
}

/// `f` of each value; its `None` is NULL.
fn unary(call: &Invocation<'_>, f: impl Fn(f64) -> Option<f64>) -> Result<ColumnarValue> {
    let total = |v: f64| match f(v) {
        Some(v) => (canonical(v), false),
        None => (0.0, true),
    };
    kernel::unary::<Float64Type, Float64Type>(call, Mode::Try, total, |_| never())
}

fn binary(call: &Invocation<'_>, f: impl Fn(f64, f64) -> Option<f64>) -> Result<ColumnarValue> {
    let total = |a: f64, b: f64| match f(a, b) {
        Some(v) => (canonical(v), false),
        None => (0.0, true),
    };
    kernel::binary::<Float64Type, Float64Type, Float64Type>(call, Mode::Try, total, |_, _| never())
}

/// `{}` is the argument.
fn template(call: &DuckCall<'_>, text: &str) -> Result<String, String> {
    match call.args {
        [x] => Ok(format!("({})", text.replace("{}", x))),
        _ => Err("a function of one double called with another number of arguments".into()),
    }
}

fn unknown(_: &DuckCall<'_>) -> Result<String, String> {
    Err("isn't known to answer as Databricks does on DuckDB".into())
}

macro_rules! doubles {
    ($($name:literal [$($alias:literal),*] $f:expr, $duck:expr, $proof:literal;)*) => {
        &[$(FunctionDef::Scalar(ScalarDef {
            name: $name,
            aliases: &[$($alias),*],
            bind: |ctx, args| call(ctx, $name, args, &[P::Double], maybe(DataType::Float64)),
            eval: |c| unary(c, $f),
            duckdb: $duck,
            proof: $proof,
            deterministic: true,
        }),)*
        FunctionDef::Scalar(POWER), FunctionDef::Scalar(ATAN2), FunctionDef::Scalar(HYPOT), FunctionDef::Scalar(LOG)]
    };
}

pub(crate) static REAL: &[FunctionDef] = doubles! {
    "sqrt" [] |x| Some(x.sqrt()), |c| template(c, "CASE WHEN {} < 0 THEN CAST('nan' AS DOUBLE) ELSE sqrt({}) END"), "corpus: hard-087, cast-027";
    "cbrt" [] |x| Some(x.cbrt()), unknown, "slt: math";
    "exp" [] |x| Some(x.exp()), |c| template(c, "exp({})"), "corpus: arith-018, arith-027";
    "expm1" [] |x| Some(x.exp_m1()), unknown, "corpus: arith-027";
    "ln" [] |x| (x.is_nan() || x > 0.0).then(|| x.ln()), |c| template(c, "CASE WHEN {} > 0 THEN ln({}) END"), "corpus: arith-027, hard-087";
    "log10" [] |x| (x.is_nan() || x > 0.0).then(|| x.log10()), |c| template(c, "CASE WHEN {} > 0 THEN log10({}) END"), "corpus: arith-027";
    "log2" [] |x| (x.is_nan() || x > 0.0).then(|| x.ln() / std::f64::consts::LN_2), |c| template(c, "CASE WHEN {} > 0 THEN ln({}) / ln(CAST(2 AS DOUBLE)) END"), "corpus: arith-027";
    "log1p" [] |x| (x.is_nan() || x > -1.0).then(|| x.ln_1p()), unknown, "corpus: arith-027";
    "sin" [] |x| Some(x.sin()), |c| template(c, "CASE WHEN isinf({}) THEN CAST('nan' AS DOUBLE) ELSE sin({}) END"), "corpus: arith-013";
    "cos" [] |x| Some(x.cos()), |c| template(c, "CASE WHEN isinf({}) THEN CAST('nan' AS DOUBLE) ELSE cos({}) END"), "corpus: arith-013";
    "tan" [] |x| Some(x.tan()), |c| template(c, "CASE WHEN isinf({}) THEN CAST('nan' AS DOUBLE) ELSE tan({}) END"), "corpus: arith-013";
    "cot" [] |x| Some(1.0 / x.tan()), |c| template(c, "CASE WHEN isinf({}) THEN CAST('nan' AS DOUBLE) ELSE 1.0::DOUBLE / tan({}) END"), "corpus: arith-013, slt: math";
    "sec" [] |x| Some(1.0 / x.cos()), |c| template(c, "CASE WHEN isinf({}) THEN CAST('nan' AS DOUBLE) ELSE 1.0::DOUBLE / cos({}) END"), "corpus: arith-002, slt: math";
    "csc" [] |x| Some(1.0 / x.sin()), |c| template(c, "CASE WHEN isinf({}) THEN CAST('nan' AS DOUBLE) ELSE 1.0::DOUBLE / sin({}) END"), "corpus: arith-002, slt: math";
    "asin" [] |x| Some(x.asin()), |c| template(c, "CASE WHEN abs({}) > 1 THEN CAST('nan' AS DOUBLE) ELSE asin({}) END"), "corpus: arith-013";
    "acos" [] |x| Some(x.acos()), |c| template(c, "CASE WHEN abs({}) > 1 THEN CAST('nan' AS DOUBLE) ELSE acos({}) END"), "corpus: arith-013";
    "atan" [] |x| Some(x.atan()), |c| template(c, "atan({})"), "slt: math";
    "sinh" [] |x| Some(x.sinh()), |c| template(c, "sinh({})"), "corpus: arith-002";
    "cosh" [] |x| Some(x.cosh()), |c| template(c, "cosh({})"), "corpus: arith-002";
    "tanh" [] |x| Some(x.tanh()), |c| template(c, "tanh({})"), "corpus: arith-002";
    "asinh" [] |x| Some(x.asinh()), unknown, "corpus: arith-002";
    "acosh" [] |x| Some(x.acosh()), unknown, "corpus: arith-002";
    "atanh" [] |x| Some(x.atanh()), unknown, "corpus: arith-002";
    "degrees" [] |x| Some(x * 57.295_779_513_082_32), |c| template(c, "degrees({})"), "corpus: arith-013";
    "radians" [] |x| Some(x * 0.017_453_292_519_943_295), |c| template(c, "radians({})"), "corpus: arith-013";
    "rint" [] |x| Some(x.round_ties_even()), |c| template(c, "round_even({}, 0)"), "slt: math";
};

const POWER: ScalarDef = ScalarDef {
    name: "power",
    aliases: &["pow"],
    bind: |ctx, args| call(ctx, "power", args, &[P::Double, P::Double], strict(DataType::Float64)),
    eval: |c| binary(c, |a, b| Some(power(a, b))),
    duckdb: |c| match c.args {
        // Java gives NaN for one to the power of NaN, and for one or minus one to infinity.
        [a, b] => Ok(format!("(CASE WHEN abs({a}) = 1 AND NOT isfinite({b}) THEN CAST('nan' AS DOUBLE) ELSE pow({a}, {b}) END)")),
        _ => Err("power of other than two values".into()),
    },
    proof: "corpus: arith-011, arith-018, cast-027",
    deterministic: true,
};

/// C's `pow` with Java's two exceptions.
fn power(a: f64, b: f64) -> f64 {
    if a.abs() == 1.0 && !b.is_finite() { f64::NAN } else { a.powf(b) }
}

const ATAN2: ScalarDef = ScalarDef {
    name: "atan2",
    aliases: &[],
    bind: |ctx, args| call(ctx, "atan2", args, &[P::Double, P::Double], strict(DataType::Float64)),
    // Databricks adds 0.0 to both, which makes a zero positive.
    eval: |c| binary(c, |a, b| Some((a + 0.0).atan2(b + 0.0))),
    duckdb: |c| match c.args {
        [a, b] => Ok(format!("atan2({a} + 0, {b} + 0)")),
        _ => Err("atan2 of other than two values".into()),
    },
    proof: "corpus: arith-013",
    deterministic: true,
};

const HYPOT: ScalarDef = ScalarDef {
    name: "hypot",
    aliases: &[],
    bind: |ctx, args| call(ctx, "hypot", args, &[P::Double, P::Double], strict(DataType::Float64)),
    eval: |c| binary(c, |a, b| Some(a.hypot(b))),
    duckdb: unknown,
    proof: "slt: math",
    deterministic: true,
};

/// `log(x)` is natural; `log(base, x)`.
const LOG: ScalarDef = ScalarDef {
    name: "log",
    aliases: &[],
    bind: |ctx, args| match args.len() {
        1 => call(ctx, "log", args, &[P::Double], maybe(DataType::Float64)),
        _ => call(ctx, "log", args, &[P::Double, P::Double], maybe(DataType::Float64)),
    },
    eval: |c| match c.args.len() {
        1 => unary(c, |x| (x.is_nan() || x > 0.0).then(|| x.ln())),
        _ => binary(c, |base, x| (!(base <= 0.0 || x <= 0.0)).then(|| x.ln() / base.ln())),
    },
    duckdb: |c| match c.args {
        [x] => Ok(format!("(CASE WHEN {x} > 0 THEN ln({x}) END)")),
        [base, x] => Ok(format!("(CASE WHEN {base} > 0 AND {x} > 0 THEN ln({x}) / ln({base}) END)")),
        _ => Err("log of other than one or two values".into()),
    },
    proof: "corpus: arith-018, arith-027, hard-087",
    deterministic: true,
};
