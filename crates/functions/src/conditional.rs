//! Functions that choose: they are CASE expressions, whose branches both engines evaluate only
//! where they're taken. Also `assert_true`, `raise_error` and `typeof`.

use std::sync::Arc;

use arrow::array::{Array, AsArray, NullArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, Expr};
use flightpath_types::{Error, Result};

use crate::cast::implicit_cast;
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, ScalarDef, Typed};
use crate::lazy::case;
use crate::ops::{self, BinaryOp, coerce_all, interval_units};
use crate::sig::{arity, rewrite, unexpected_input};
use crate::types;

pub(crate) static FAMILY: &[FunctionDef] = &[
    rewrite!("if", ["iff"], bind: choose, proof: "corpus: conditional-003, cast-042, cast-043"),
    rewrite!("coalesce", [], bind: |x, a| coalesce(x, "coalesce", a), proof: "corpus: decimal-001, cast-042, conditional-021, conditional-023"),
    rewrite!("nvl", ["ifnull"], bind: |x, a| {
        arity("nvl", a.len(), 2, Some(2))?;
        coalesce(x, "nvl", a)
    }, proof: "corpus: decimal-001, cast-042, conditional-021"),
    rewrite!("nvl2", [], bind: nvl2, proof: "slt: conditional"),
    rewrite!("nullif", [], bind: nullif, proof: "corpus: cast-042, conditional-008, conditional-021"),
    rewrite!("nullifzero", [], bind: |x, mut a| {
        arity("nullifzero", a.len(), 1, Some(1))?;
        a.push(zero());
        nullif(x, a)
    }, proof: "slt: conditional"),
    rewrite!("zeroifnull", [], bind: |x, mut a| {
        arity("zeroifnull", a.len(), 1, Some(1))?;
        a.push(zero());
        coalesce(x, "zeroifnull", a)
    }, proof: "slt: conditional"),
    rewrite!("typeof", [], bind: type_of, proof: "corpus: arith-038, decimal-002, times-007"),
    rewrite!("isnull", [], bind: |_, a| null_test("isnull", a, true), proof: "slt: conditional"),
    rewrite!("isnotnull", [], bind: |_, a| null_test("isnotnull", a, false), proof: "slt: conditional"),
    rewrite!("equal_null", [], bind: equal_null, proof: "slt: conditional"),
    rewrite!("assert_true", [], bind: assert_true, proof: "slt: conditional"),
    rewrite!("raise_error", [], bind: |x, a| RAISE.call(x, a), proof: "slt: conditional"),
];

fn zero() -> Typed {
    Typed::literal(ScalarValue::Int32(Some(0)))
}

fn is_not_null(expr: &Expr) -> Expr {
    Expr::IsNotNull(Box::new(expr.clone()))
}

fn three(name: &str, args: Vec<Typed>) -> Result<[Typed; 3]> {
    arity(name, args.len(), 3, Some(3))?;
    args.try_into().map_err(|_| Error::internal("arity was checked"))
}

fn choose(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    let [condition, yes, no] = three("if", args)?;
    // A NULL without a type is a BOOLEAN here, though not in CASE WHEN.
    let condition = match condition.as_literal() {
        Some(ScalarValue::Null) => Typed::null(&DataType::Boolean)?,
        _ => condition,
    };
    if condition.ty != DataType::Boolean {
        return Err(unexpected_input("if", 0, "BOOLEAN", &condition.ty));
    }
    let (values, ty) = coerce_all(ctx, vec![yes, no], "function if")?;
    let nullable = values.iter().any(|v| v.nullable);
    let mut values = values.into_iter().map(|v| v.expr);
    let (Some(yes), no) = (values.next(), values.next()) else { return Err(Error::internal("two values were coerced")) };
    Ok(Typed::new(case(vec![(condition.expr, yes)], no, &ty), ty, nullable))
}

fn coalesce(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<Typed> {
    arity(name, args.len(), 1, None)?;
    let (mut args, ty) = coerce_all(ctx, args, &format!("function {name}"))?;
    let nullable = args.iter().all(|a| a.nullable);
    // What stands behind a value that is never NULL is never reached.
    if let Some(certain) = args.iter().position(|a| a.as_literal().is_some_and(|v| !v.is_null())) {
        args.truncate(certain + 1);
    }
    let Some(last) = args.pop() else { return Err(Error::internal("arity was checked")) };
    let args: Vec<Typed> = args.into_iter().filter(|a| !a.as_literal().is_some_and(ScalarValue::is_null)).collect();
    if args.is_empty() {
        return Ok(Typed::new(last.expr, ty, nullable));
    }
    let branches = args.into_iter().map(|a| (is_not_null(&a.expr), a.expr)).collect();
    Ok(Typed::new(case(branches, Some(last.expr), &ty), ty, nullable))
}

fn nvl2(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    let [tested, there, missing] = three("nvl2", args)?;
    let condition = Typed::new(is_not_null(&tested.expr), DataType::Boolean, false);
    choose(ctx, vec![condition, there, missing])
}

/// The first value, unless both are equal.
fn nullif(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    arity("nullif", args.len(), 2, Some(2))?;
    let mut args = args.into_iter();
    let (Some(value), Some(other)) = (args.next(), args.next()) else { return Err(Error::internal("arity was checked")) };
    let equal = ops::binary(ctx, BinaryOp::Eq, value.clone(), other)?;
    let null = Typed::null(&value.ty)?;
    Ok(Typed::new(case(vec![(equal.expr, null.expr)], Some(value.expr), &value.ty), value.ty, true))
}

fn type_of(_: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    arity("typeof", args.len(), 1, Some(1))?;
    let Some(arg) = args.into_iter().next() else { return Err(Error::internal("arity was checked")) };
    let name = match (interval_units(&arg), types::is_interval(&arg.ty)) {
        (Some(units), _) => units.type_name(),
        (None, true) => return Err(Error::not_eligible("the fields of an interval's type are known of literals only")),
        (None, false) => types::name(&arg.ty),
    };
    Ok(Typed::literal(ScalarValue::Utf8(Some(name))))
}

fn null_test(name: &str, args: Vec<Typed>, wanted: bool) -> Result<Typed> {
    arity(name, args.len(), 1, Some(1))?;
    let Some(arg) = args.into_iter().next() else { return Err(Error::internal("arity was checked")) };
    let expr = if wanted { Expr::IsNull(Box::new(arg.expr)) } else { Expr::IsNotNull(Box::new(arg.expr)) };
    Ok(Typed::new(expr, DataType::Boolean, false))
}

fn equal_null(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    arity("equal_null", args.len(), 2, Some(2))?;
    let mut args = args.into_iter();
    match (args.next(), args.next()) {
        (Some(a), Some(b)) => ops::binary(ctx, BinaryOp::NullSafeEq, a, b),
        _ => Err(Error::internal("arity was checked")),
    }
}

/// NULL, or an error where the condition isn't true.
fn assert_true(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    arity("assert_true", args.len(), 1, Some(2))?;
    let mut args = args.into_iter();
    let Some(condition) = args.next() else { return Err(Error::internal("arity was checked")) };
    let condition = ops::condition(ctx, condition, "assert_true")?;
    let message = match args.next() {
        Some(message) => message,
        None => Typed::literal(ScalarValue::Utf8(Some("The condition is not true!".into()))),
    };
    let raised = RAISE.call(ctx, vec![message])?;
    let null = Typed::literal(ScalarValue::Null);
    Ok(Typed::new(case(vec![(condition.expr, null.expr)], Some(raised.expr), &DataType::Null), DataType::Null, true))
}

static RAISE: ScalarDef = ScalarDef {
    name: "raise_error",
    aliases: &[],
    bind: bind_raise,
    eval: raise,
    duckdb: raise_text,
    proof: "slt: conditional",
    // So that no optimizer evaluates it before its row is reached.
    deterministic: false,
};

fn bind_raise(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    arity("raise_error", args.len(), 1, Some(1))?;
    let args: Result<Vec<Typed>> = args.into_iter().map(|a| implicit_cast(ctx, a, &DataType::Utf8)).collect();
    Ok(Bound { args: args?, ret: DataType::Null, nullable: true })
}

fn raise(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let error = |message: Option<&str>| Error::raised("USER_RAISED_EXCEPTION", "P0001", message.unwrap_or("null"));
    match call.args.first() {
        _ if call.rows == 0 => Ok(ColumnarValue::Array(Arc::new(NullArray::new(0)))),
        Some(ColumnarValue::Scalar(ScalarValue::Utf8(message))) => Err(error(message.as_deref())),
        Some(ColumnarValue::Array(array)) => {
            let texts = array.as_string::<i32>();
            Err(error(texts.is_valid(0).then(|| texts.value(0))))
        }
        _ => Err(error(None)),
    }
}

fn raise_text(call: &DuckCall<'_>) -> Result<String, String> {
    match call.args {
        [message] => Ok(crate::duckdb::raise("USER_RAISED_EXCEPTION", "P0001", &format!("coalesce({message}, 'null')"))),
        _ => Err("raise_error of other than one value".into()),
    }
}
