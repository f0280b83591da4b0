//! Operators: how each is typed, which casts Databricks inserts, and what the plan holds for it.
//! Comparisons, AND, OR and NOT stay DataFusion's own, so that pruning and pushdown see them;
//! arithmetic is ours, because overflow, zero divisors and decimals are Databricks' there, and `||`
//! is our `concat`: DataFusion's own isn't computed beside a NULL, whatever the other side raises.

mod arithmetic;
mod bitwise;
mod decimal;
mod interval;
pub(crate) mod kernel;
pub(crate) mod rules;
mod temporal;

#[cfg(test)]
mod tests;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use flightpath_types::{Error, Result};

pub(crate) use arithmetic::Op;
pub(crate) use interval::cast_literal_interval;
pub use interval::{IntervalField, IntervalUnits, interval_literal, interval_units};
pub(crate) use temporal::{add_months, timestamp_plus_micros, timestamp_plus_months};

use crate::cast::{self, Mode, implicit_cast};
use crate::def::{BindContext, Bound, ScalarDef, Typed};
use crate::lazy;
use crate::types::{self, DAY_TIME, YEAR_MONTH};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// `div`
    IntegralDivide,
    Modulo,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
    ShiftRightUnsigned,
    /// `||`
    Concat,
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
    /// `<=>`
    NullSafeEq,
    And,
    Or,
}

impl BinaryOp {
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Subtract => "-",
            BinaryOp::Multiply => "*",
            BinaryOp::Divide => "/",
            BinaryOp::IntegralDivide => "div",
            BinaryOp::Modulo => "%",
            BinaryOp::BitAnd => "&",
            BinaryOp::BitOr => "|",
            BinaryOp::BitXor => "^",
            BinaryOp::ShiftLeft => "<<",
            BinaryOp::ShiftRight => ">>",
            BinaryOp::ShiftRightUnsigned => ">>>",
            BinaryOp::Concat => "||",
            BinaryOp::Eq => "=",
            BinaryOp::NotEq => "<>",
            BinaryOp::Lt => "<",
            BinaryOp::LtEq => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::GtEq => ">=",
            BinaryOp::NullSafeEq => "<=>",
            BinaryOp::And => "AND",
            BinaryOp::Or => "OR",
        }
    }
}

/// `left op right`.
pub fn binary(ctx: &BindContext, op: BinaryOp, left: Typed, right: Typed) -> Result<Typed> {
    match op {
        BinaryOp::Add => arithmetic(ctx, Op::Add, Mode::Ansi, left, right),
        BinaryOp::Subtract => arithmetic(ctx, Op::Subtract, Mode::Ansi, left, right),
        BinaryOp::Multiply => arithmetic(ctx, Op::Multiply, Mode::Ansi, left, right),
        BinaryOp::Divide => arithmetic(ctx, Op::Divide, Mode::Ansi, left, right),
        BinaryOp::IntegralDivide => arithmetic(ctx, Op::Integral, Mode::Ansi, left, right),
        BinaryOp::Modulo => arithmetic(ctx, Op::Remainder, Mode::Ansi, left, right),
        BinaryOp::BitAnd => bits(ctx, op, &bitwise::BIT_AND, left, right),
        BinaryOp::BitOr => bits(ctx, op, &bitwise::BIT_OR, left, right),
        BinaryOp::BitXor => bits(ctx, op, &bitwise::BIT_XOR, left, right),
        BinaryOp::ShiftLeft => shift(ctx, op, &bitwise::SHIFT_LEFT, left, right),
        BinaryOp::ShiftRight => shift(ctx, op, &bitwise::SHIFT_RIGHT, left, right),
        BinaryOp::ShiftRightUnsigned => shift(ctx, op, &bitwise::SHIFT_RIGHT_UNSIGNED, left, right),
        BinaryOp::Concat => concat(ctx, left, right),
        BinaryOp::Eq => comparison(ctx, op, Operator::Eq, left, right),
        BinaryOp::NotEq => comparison(ctx, op, Operator::NotEq, left, right),
        BinaryOp::Lt => comparison(ctx, op, Operator::Lt, left, right),
        BinaryOp::LtEq => comparison(ctx, op, Operator::LtEq, left, right),
        BinaryOp::Gt => comparison(ctx, op, Operator::Gt, left, right),
        BinaryOp::GtEq => comparison(ctx, op, Operator::GtEq, left, right),
        BinaryOp::NullSafeEq => comparison(ctx, op, Operator::IsNotDistinctFrom, left, right),
        BinaryOp::And => logical(ctx, op, Operator::And, left, right),
        BinaryOp::Or => logical(ctx, op, Operator::Or, left, right),
    }
}

/// `-x`.
pub fn negate(ctx: &BindContext, arg: Typed) -> Result<Typed> {
    let arg = match &arg.ty {
        DataType::Utf8 | DataType::Null => implicit_cast(ctx, arg, &DataType::Float64)?,
        _ => arg,
    };
    if let Some(folded) = arg.as_literal().and_then(negated) {
        let metadata = interval_units(&arg).map(interval::units_metadata);
        return Ok(Typed::new(Expr::Literal(folded, metadata), arg.ty, arg.nullable));
    }
    let def = match &arg.ty {
        ty if types::is_numeric(ty) => &bitwise::NEGATE,
        ty if types::is_interval(ty) => &temporal::INTERVAL_NEGATE,
        ty => return Err(wrong_operand("-", ty, "NUMERIC or INTERVAL")),
    };
    let (ret, nullable) = (arg.ty.clone(), arg.nullable);
    Ok(def.expression(ctx, Bound { args: vec![arg], ret, nullable }))
}

/// `+x`.
pub fn positive(ctx: &BindContext, arg: Typed) -> Result<Typed> {
    match &arg.ty {
        DataType::Utf8 | DataType::Null => implicit_cast(ctx, arg, &DataType::Float64),
        ty if types::is_numeric(ty) || types::is_interval(ty) => Ok(arg),
        ty => Err(wrong_operand("+", ty, "NUMERIC or INTERVAL")),
    }
}

/// `~x`.
pub fn bit_not(ctx: &BindContext, arg: Typed) -> Result<Typed> {
    let arg = match &arg.ty {
        DataType::Null => implicit_cast(ctx, arg, &DataType::Int32)?,
        DataType::Utf8 => implicit_cast(ctx, arg, &DataType::Int64)?,
        _ => arg,
    };
    if !types::is_integral(&arg.ty) {
        return Err(wrong_operand("~", &arg.ty, "INTEGRAL"));
    }
    let (ret, nullable) = (arg.ty.clone(), arg.nullable);
    Ok(bitwise::BIT_NOT.expression(ctx, Bound { args: vec![arg], ret, nullable }))
}

/// `NOT x`.
pub fn not(ctx: &BindContext, arg: Typed) -> Result<Typed> {
    let arg = condition(ctx, arg, "NOT")?;
    Ok(Typed::new(Expr::Not(Box::new(arg.expr)), DataType::Boolean, arg.nullable))
}

/// `arg` where a condition is wanted: AND, OR, NOT, WHERE, CASE WHEN.
pub fn condition(ctx: &BindContext, arg: Typed, place: &str) -> Result<Typed> {
    match &arg.ty {
        DataType::Boolean => Ok(arg),
        DataType::Null | DataType::Utf8 => implicit_cast(ctx, arg, &DataType::Boolean),
        ty => Err(wrong_operand(place, ty, "BOOLEAN")),
    }
}

/// Both operands in the type in which Databricks compares them.
pub fn coerce_comparison(ctx: &BindContext, left: Typed, right: Typed) -> Result<(Typed, Typed)> {
    let (left, right) = minimal_literals(ctx, left, right)?;
    let common = match left.ty.is_nested() && right.ty.is_nested() {
        true => types::compared_nested_type(&left.ty, &right.ty),
        false => types::least_common_type([&left.ty, &right.ty]),
    };
    let Some(common) = common else {
        return Err(types::mismatch(
            "BINARY_OP_DIFF_TYPES",
            format!("cannot compare {} with {}; cast one of them", types::sql_name(&left.ty), types::sql_name(&right.ty)),
        ));
    };
    if !types::is_orderable(&common) {
        return Err(types::mismatch(
            "INVALID_ORDERING_TYPE",
            format!("values of the type {} cannot be compared", types::sql_name(&common)),
        ));
    }
    Ok((implicit_cast(ctx, left, &common)?, implicit_cast(ctx, right, &common)?))
}

/// All values in their least common type: CASE, COALESCE, IN, UNION, array(...).
pub fn coerce_all(ctx: &BindContext, args: Vec<Typed>, place: &str) -> Result<(Vec<Typed>, DataType)> {
    let Some(common) = types::least_common_type(args.iter().map(|a| &a.ty)) else {
        let names: Vec<String> = args.iter().map(|a| types::sql_name(&a.ty)).collect();
        return Err(types::mismatch(
            "DATA_DIFF_TYPES",
            format!("input to {place} should all be of one type, but they are {}; cast them", names.join(", ")),
        ));
    };
    let args: Result<Vec<Typed>> = args.into_iter().map(|a| implicit_cast(ctx, a, &common)).collect();
    Ok((args?, common))
}

/// A FLOAT or DOUBLE with one NaN and one zero, also within arrays and structs, for grouping, joining and
/// DISTINCT; anything else as it is.
pub fn canonical_float(ctx: &BindContext, arg: Typed) -> Typed {
    canonical(ctx, arg, &bitwise::NORMALIZED_FLOAT)
}

/// The same for what is only compared, and isn't shown: keys of sorts and windows, sides of IN.
pub fn comparable_float(ctx: &BindContext, arg: Typed) -> Typed {
    let def = if types::is_float(&arg.ty) { &bitwise::NORMALIZED_FLOAT } else { &bitwise::COMPARED_FLOAT };
    canonical(ctx, arg, def)
}

/// `arg` as a value that may be NULL: a scalar subquery gives NULL where it has no row, whatever
/// its column says, and DataFusion asks the column.
pub fn nullable(ctx: &BindContext, arg: Typed) -> Typed {
    let ret = arg.ty.clone();
    bitwise::NULLABLE.expression(ctx, Bound { args: vec![arg], ret, nullable: true })
}

fn canonical(ctx: &BindContext, arg: Typed, def: &'static ScalarDef) -> Typed {
    if !types::holds_float(&arg.ty) || matches!(arg.ty, DataType::Map(..)) {
        return arg;
    }
    if let Some(folded) = arg.as_literal().and_then(canonical_literal) {
        return Typed::new(Expr::Literal(folded, None), arg.ty, arg.nullable);
    }
    let (ret, nullable) = (arg.ty.clone(), arg.nullable);
    def.expression(ctx, Bound { args: vec![arg], ret, nullable })
}

fn canonical_literal(value: &ScalarValue) -> Option<ScalarValue> {
    Some(match value {
        ScalarValue::Float32(Some(v)) => ScalarValue::Float32(Some(if v.is_nan() { f32::NAN } else { v + 0.0 })),
        ScalarValue::Float64(Some(v)) => ScalarValue::Float64(Some(if v.is_nan() { f64::NAN } else { v + 0.0 })),
        ScalarValue::Float32(None) | ScalarValue::Float64(None) => value.clone(),
        _ => return None,
    })
}

fn comparison(ctx: &BindContext, op: BinaryOp, operator: Operator, left: Typed, right: Typed) -> Result<Typed> {
    let (left, right) = coerce_comparison(ctx, left, right)?;
    let nullable = op != BinaryOp::NullSafeEq && (left.nullable || right.nullable);
    let compared = |arg| canonical(ctx, arg, &bitwise::COMPARED_FLOAT);
    let (left, right) = (compared(left), compared(right));
    Ok(Typed::new(native(left, operator, right), DataType::Boolean, nullable))
}

fn logical(ctx: &BindContext, op: BinaryOp, operator: Operator, left: Typed, right: Typed) -> Result<Typed> {
    let (left, right) = (condition(ctx, left, op.symbol())?, condition(ctx, right, op.symbol())?);
    let nullable = left.nullable || right.nullable;
    Ok(Typed::new(native(left, operator, right), DataType::Boolean, nullable))
}

fn native(left: Typed, operator: Operator, right: Typed) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left.expr), operator, Box::new(right.expr)))
}

fn concat(ctx: &BindContext, left: Typed, right: Typed) -> Result<Typed> {
    let plain = |ty: &DataType| types::is_atomic(ty) && *ty != DataType::Binary || *ty == DataType::Null;
    if !(plain(&left.ty) && plain(&right.ty)) {
        return concat_function()?.call(ctx, vec![left, right]);
    }
    let (left, right) = (implicit_cast(ctx, left, &DataType::Utf8)?, implicit_cast(ctx, right, &DataType::Utf8)?);
    let nullable = left.nullable || right.nullable;
    // DuckDB would forget that this NULL is a text.
    if [&left, &right].iter().any(|a| a.as_literal().is_some_and(ScalarValue::is_null)) {
        return Typed::null(&DataType::Utf8);
    }
    // A chain is one call: it nests no deeper the longer it is.
    let mut args = match left.expr {
        Expr::ScalarFunction(call) if call.func.name() == CONCAT && !call.args.is_empty() => {
            call.args.into_iter().map(|arg| Typed::new(arg, DataType::Utf8, left.nullable)).collect()
        }
        expr => vec![Typed { expr, ..left }],
    };
    args.push(right);
    Ok(concat_function()?.expression(ctx, Bound { args, ret: DataType::Utf8, nullable }))
}

const CONCAT: &str = "concat";

fn concat_function() -> Result<&'static ScalarDef> {
    match crate::registry::lookup(CONCAT) {
        Some(crate::FunctionDef::Scalar(def)) => Ok(def),
        _ => Err(Error::internal("the table has no `concat`")),
    }
}

fn bits(ctx: &BindContext, op: BinaryOp, def: &'static ScalarDef, left: Typed, right: Typed) -> Result<Typed> {
    let common = types::least_common_type([&left.ty, &right.ty]).filter(|t| types::is_integral(t) || *t == DataType::Null);
    let Some(common) = common else { return Err(wrong_operands(op.symbol(), &left.ty, &right.ty, "INTEGRAL")) };
    let common = if common == DataType::Null { DataType::Int32 } else { common };
    let args = vec![implicit_cast(ctx, left, &common)?, implicit_cast(ctx, right, &common)?];
    let nullable = args.iter().any(|a| a.nullable);
    Ok(def.expression(ctx, Bound { args, ret: common, nullable }))
}

/// Also `shiftleft` and its kind by name.
pub(crate) fn shift(ctx: &BindContext, op: BinaryOp, def: &'static ScalarDef, left: Typed, right: Typed) -> Result<Typed> {
    let base = match &left.ty {
        DataType::Int64 => DataType::Int64,
        ty if types::is_numeric(ty) || *ty == DataType::Null || *ty == DataType::Utf8 => DataType::Int32,
        ty => return Err(wrong_operand(op.symbol(), ty, "INT or BIGINT")),
    };
    if !types::is_numeric(&right.ty) && !types::can_implicitly_cast(&right.ty, &DataType::Int32) {
        return Err(wrong_operand(op.symbol(), &right.ty, "INT"));
    }
    let args = vec![implicit_cast(ctx, left, &base)?, implicit_cast(ctx, right, &DataType::Int32)?];
    let nullable = args.iter().any(|a| a.nullable);
    Ok(def.expression(ctx, Bound { args, ret: base, nullable }))
}

/// An arithmetic operator or its `try_` form.
pub(crate) fn arithmetic(ctx: &BindContext, op: Op, mode: Mode, left: Typed, right: Typed) -> Result<Typed> {
    let numbers = types::is_numeric(&left.ty) && types::is_numeric(&right.ty);
    // Databricks tries the operands too then: `try_add('1', 1 / x)` is NULL where x is 0.
    if mode == Mode::Try && !numbers && (lazy::may_raise(&left.expr) || lazy::may_raise(&right.expr)) {
        return Err(Error::not_eligible(format!(
            "`try_` of `{}` beside {} catches what its operands raise; cast them to numbers, or use `try_cast`",
            op.symbol(),
            types::sql_name(if types::is_numeric(&left.ty) { &right.ty } else { &left.ty })
        )));
    }
    if is_temporal(&left.ty) || is_temporal(&right.ty) {
        return interval::arithmetic(ctx, op, mode, left, right);
    }
    let (left, right) = numeric_operands(ctx, op, mode, left, right)?;
    let nullable = left.nullable || right.nullable || mode == Mode::Try || !matches!(op, Op::Add | Op::Subtract | Op::Multiply);
    let ret = match (op, &left.ty, &right.ty) {
        (Op::Integral, ..) => DataType::Int64,
        (_, DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)) => {
            let (a, b) = ((*p1, *s1), (*p2, *s2));
            let (p, s) = match op {
                Op::Add | Op::Subtract => types::decimal::add(a, b),
                Op::Multiply => types::decimal::multiply(a, b),
                Op::Divide => types::decimal::divide(a, b),
                Op::Remainder | Op::Pmod | Op::Integral => types::decimal::remainder(a, b),
            };
            DataType::Decimal128(p, s)
        }
        (_, ty, _) => ty.clone(),
    };
    Ok(arithmetic::definition(op, mode).expression(ctx, Bound { args: vec![left, right], ret, nullable }))
}

fn is_temporal(ty: &DataType) -> bool {
    types::is_datetime(ty) || *ty == DAY_TIME || *ty == YEAR_MONTH
}

/// Operands as the kernels take them: one integral or float type, or two decimals.
fn numeric_operands(ctx: &BindContext, op: Op, mode: Mode, left: Typed, right: Typed) -> Result<(Typed, Typed)> {
    use DataType::{Float64, Int64, Null, Utf8};
    let valid = |ty: &DataType| types::is_numeric(ty) || matches!(ty, Null | Utf8);
    if !valid(&left.ty) || !valid(&right.ty) || (left.ty == Utf8 && right.ty == Utf8) {
        return Err(wrong_operands(op.symbol(), &left.ty, &right.ty, "NUMERIC or INTERVAL"));
    }
    let (left, right) = minimal_literals(ctx, left, right)?;
    let target = match (&left.ty, &right.ty) {
        (Null, Null) => Float64,
        (Null | Utf8, Null | Utf8) => Float64,
        // A NULL is divided as a DOUBLE.
        (Null, t) if op == Op::Divide && types::is_decimal(t) && !matches!(left.expr, Expr::Placeholder(_)) => Float64,
        (Null, t) | (t, Null) => t.clone(),
        (Utf8, t) | (t, Utf8) => {
            if types::is_integral(t) {
                Int64
            } else {
                Float64
            }
        }
        (a, b) if types::is_decimal(a) && types::is_decimal(b) => return Ok((left, right)),
        (a, b) => match (types::decimal_of(a), types::decimal_of(b)) {
            (Some((p1, s1)), Some((p2, s2))) if types::is_decimal(a) || types::is_decimal(b) => {
                let left = implicit_cast(ctx, left, &DataType::Decimal128(p1, s1))?;
                let right = implicit_cast(ctx, right, &DataType::Decimal128(p2, s2))?;
                return Ok((left, right));
            }
            _ => types::least_common_type([a, b]).unwrap_or(Float64),
        },
    };
    let target = match op {
        Op::Divide if !types::is_decimal(&target) => Float64,
        Op::Integral if types::is_integral(&target) || left.ty == Null && right.ty == Null => Int64,
        Op::Integral if !types::is_decimal(&target) => {
            return Err(wrong_operands(op.symbol(), &left.ty, &right.ty, "BIGINT, DECIMAL or INTERVAL"));
        }
        _ => target,
    };
    // `try_add(1, 'a')` is NULL: what makes a number of the text is tried too.
    let operand =
        |t: Typed| if mode == Mode::Try && t.ty == Utf8 { cast::try_cast(ctx, t, &target) } else { implicit_cast(ctx, t, &target) };
    Ok((operand(left)?, operand(right)?))
}

/// Beside a decimal, an integral literal counts as a decimal of just its digits.
fn minimal_literals(ctx: &BindContext, left: Typed, right: Typed) -> Result<(Typed, Typed)> {
    let minimal = |literal: &Typed, other: &Typed| {
        let (p, s) = literal.as_literal().filter(|_| types::is_decimal(&other.ty)).and_then(types::decimal_of_literal)?;
        Some(DataType::Decimal128(p, s))
    };
    let (to_left, to_right) = (minimal(&left, &right), minimal(&right, &left));
    let left = match to_left {
        Some(ty) => implicit_cast(ctx, left, &ty)?,
        None => left,
    };
    let right = match to_right {
        Some(ty) => implicit_cast(ctx, right, &ty)?,
        None => right,
    };
    Ok((left, right))
}

fn negated(value: &ScalarValue) -> Option<ScalarValue> {
    Some(match value {
        ScalarValue::Int8(Some(v)) => ScalarValue::Int8(Some(v.checked_neg()?)),
        ScalarValue::Int16(Some(v)) => ScalarValue::Int16(Some(v.checked_neg()?)),
        ScalarValue::Int32(Some(v)) => ScalarValue::Int32(Some(v.checked_neg()?)),
        ScalarValue::Int64(Some(v)) => ScalarValue::Int64(Some(v.checked_neg()?)),
        ScalarValue::Float32(Some(v)) if !v.is_nan() => ScalarValue::Float32(Some(-v)),
        ScalarValue::Float64(Some(v)) if !v.is_nan() => ScalarValue::Float64(Some(-v)),
        ScalarValue::Decimal128(Some(v), p, s) => ScalarValue::Decimal128(Some(v.checked_neg()?), *p, *s),
        ScalarValue::IntervalYearMonth(Some(v)) => ScalarValue::IntervalYearMonth(Some(v.checked_neg()?)),
        ScalarValue::DurationMicrosecond(Some(v)) => ScalarValue::DurationMicrosecond(Some(v.checked_neg()?)),
        _ => return None,
    })
}

pub(crate) fn wrong_operand(operator: &str, ty: &DataType, wanted: &str) -> Error {
    types::mismatch(
        "UNEXPECTED_INPUT_TYPE",
        format!("`{operator}` requires {wanted}, but its operand has the type {}", types::sql_name(ty)),
    )
}

pub(crate) fn wrong_operands(operator: &str, left: &DataType, right: &DataType, wanted: &str) -> Error {
    let sub = if types::same(left, right) { "BINARY_OP_WRONG_TYPE" } else { "BINARY_OP_DIFF_TYPES" };
    types::mismatch(
        sub,
        format!("`{operator}` requires {wanted}, but its operands have the types {} and {}", types::sql_name(left), types::sql_name(right)),
    )
}
