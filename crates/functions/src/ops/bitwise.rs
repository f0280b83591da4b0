//! `& | ^ ~ << >> >>>`, unary minus, and the canonical form of floats.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::arithmetic::operator_bind;
use super::kernel::{all_null, binary, unary};
use super::rules;
use crate::cast::Mode;
use crate::def::{Invocation, ScalarDef};
use crate::errors;

macro_rules! defs {
    ($($id:ident $name:literal $eval:expr, $rule:expr, $proof:literal;)*) => {
        $(pub(crate) static $id: ScalarDef = ScalarDef {
            name: $name,
            aliases: &[],
            bind: operator_bind,
            eval: $eval,
            duckdb: $rule,
            proof: $proof,
            deterministic: true,
        };)*
    };
}

defs! {
    BIT_AND "bitwise_and" |call| bits(call, Bits::And), |call| rules::infix(call, "&"), "slt: operators";
    BIT_OR "bitwise_or" |call| bits(call, Bits::Or), |call| rules::infix(call, "|"), "slt: operators";
    BIT_XOR "bitwise_xor" |call| bits(call, Bits::Xor), rules::bit_xor, "slt: operators";
    BIT_NOT "bitwise_not" bit_not, rules::bit_not, "slt: operators";
    SHIFT_LEFT "shiftleft" |call| shift(call, Shift::Left), rules::shift_left, "slt: operators";
    SHIFT_RIGHT "shiftright" |call| shift(call, Shift::Right), rules::shift_right, "slt: operators";
    SHIFT_RIGHT_UNSIGNED "shiftrightunsigned" |call| shift(call, Shift::RightUnsigned), rules::shift_right_unsigned, "slt: operators";
    NEGATE "negative" negate, rules::negate, "corpus: arith-019";
    NULLABLE "nullable" |call| same(call), rules::same, "corpus: subquery-025";
    COMPARED_FLOAT "compared_float" canonical_float, rules::compared_float, "corpus: hard-085, hard-086, decimal-008";
    NORMALIZED_FLOAT "normalized_float" canonical_float, rules::normalized_float, "corpus: agg-040, window-032";
}

#[derive(Clone, Copy)]
enum Bits {
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy)]
enum Shift {
    Left,
    Right,
    RightUnsigned,
}

fn same(call: &Invocation<'_>) -> Result<ColumnarValue> {
    call.args.first().cloned().ok_or_else(|| Error::internal("an operator was called without operands"))
}

fn first_type(call: &Invocation<'_>) -> Result<DataType> {
    call.args.first().map(ColumnarValue::data_type).ok_or_else(|| Error::internal("an operator was called without operands"))
}

fn unexpected(ty: &DataType) -> Error {
    Error::internal(format!("an operator was called with an operand of type {ty}"))
}

fn bits(call: &Invocation<'_>, op: Bits) -> Result<ColumnarValue> {
    macro_rules! run {
        ($t:ty) => {{
            let never = |_, _| Error::internal("a bit operation failed");
            match op {
                Bits::And => binary::<$t, $t, $t>(call, Mode::Ansi, |a, b| (a & b, false), never),
                Bits::Or => binary::<$t, $t, $t>(call, Mode::Ansi, |a, b| (a | b, false), never),
                Bits::Xor => binary::<$t, $t, $t>(call, Mode::Ansi, |a, b| (a ^ b, false), never),
            }
        }};
    }
    match first_type(call)? {
        DataType::Int8 => run!(Int8Type),
        DataType::Int16 => run!(Int16Type),
        DataType::Int32 => run!(Int32Type),
        DataType::Int64 => run!(Int64Type),
        DataType::Null => all_null(call),
        other => Err(unexpected(&other)),
    }
}

fn bit_not(call: &Invocation<'_>) -> Result<ColumnarValue> {
    macro_rules! run {
        ($t:ty) => {
            unary::<$t, $t>(call, Mode::Ansi, |a| (!a, false), |_| Error::internal("a bit operation failed"))
        };
    }
    match first_type(call)? {
        DataType::Int8 => run!(Int8Type),
        DataType::Int16 => run!(Int16Type),
        DataType::Int32 => run!(Int32Type),
        DataType::Int64 => run!(Int64Type),
        DataType::Null => all_null(call),
        other => Err(unexpected(&other)),
    }
}

/// As Java: only the low five or six bits of the distance count.
fn shift(call: &Invocation<'_>, op: Shift) -> Result<ColumnarValue> {
    macro_rules! run {
        ($t:ty, $unsigned:ty, $signed:ty) => {{
            let never = |_, _| Error::internal("a shift failed");
            match op {
                Shift::Left => binary::<$t, Int32Type, $t>(call, Mode::Ansi, |a, n| (a.wrapping_shl(n as u32), false), never),
                Shift::Right => binary::<$t, Int32Type, $t>(call, Mode::Ansi, |a, n| (a.wrapping_shr(n as u32), false), never),
                Shift::RightUnsigned => {
                    binary::<$t, Int32Type, $t>(call, Mode::Ansi, |a, n| ((a as $unsigned).wrapping_shr(n as u32) as $signed, false), never)
                }
            }
        }};
    }
    match first_type(call)? {
        DataType::Int32 => run!(Int32Type, u32, i32),
        DataType::Int64 => run!(Int64Type, u64, i64),
        other => Err(unexpected(&other)),
    }
}

fn negate(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let ty = first_type(call)?;
    macro_rules! run {
        ($t:ty, $native:ty) => {
            unary::<$t, $t>(call, Mode::Ansi, <$native>::overflowing_neg, |_| errors::arithmetic_overflow(&crate::types::name(&ty)))
        };
    }
    let never = || Error::internal("a negation failed");
    match ty {
        DataType::Int8 => run!(Int8Type, i8),
        DataType::Int16 => run!(Int16Type, i16),
        DataType::Int32 => run!(Int32Type, i32),
        DataType::Int64 => run!(Int64Type, i64),
        DataType::Decimal128(..) => run!(Decimal128Type, i128),
        DataType::Float32 => unary::<Float32Type, Float32Type>(call, Mode::Ansi, |a| (if a.is_nan() { a } else { -a }, false), |_| never()),
        DataType::Float64 => unary::<Float64Type, Float64Type>(call, Mode::Ansi, |a| (if a.is_nan() { a } else { -a }, false), |_| never()),
        DataType::Null => all_null(call),
        other => Err(unexpected(&other)),
    }
}

/// One NaN, and 0.0 for both zeros.
fn canonical_f32(a: f32) -> f32 {
    if a.is_nan() { f32::NAN } else { a + 0.0 }
}

fn canonical_f64(a: f64) -> f64 {
    if a.is_nan() { f64::NAN } else { a + 0.0 }
}

/// One NaN and one zero, so that Arrow's total order and hashing agree with Databricks' comparison.
fn canonical_float(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let never = || Error::internal("a float comparison failed");
    match first_type(call)? {
        DataType::List(_) | DataType::Struct(_) => match same(call)? {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(canonical_within(&array)?)),
            ColumnarValue::Scalar(value) => {
                let array = value.to_array().map_err(|e| Error::internal(format!("a constant: {e}")))?;
                let canonical = ScalarValue::try_from_array(&canonical_within(&array)?, 0);
                Ok(ColumnarValue::Scalar(canonical.map_err(|e| Error::internal(format!("a constant: {e}")))?))
            }
        },
        // Adding zero turns -0.0 into 0.0 and changes nothing else.
        DataType::Float32 => unary::<Float32Type, Float32Type>(call, Mode::Ansi, |a| (canonical_f32(a), false), |_| never()),
        DataType::Float64 => unary::<Float64Type, Float64Type>(call, Mode::Ansi, |a| (canonical_f64(a), false), |_| never()),
        other => Err(unexpected(&other)),
    }
}

/// The same of what arrays and structs hold.
fn canonical_within(array: &ArrayRef) -> Result<ArrayRef> {
    let failed = |e: arrow::error::ArrowError| Error::internal(format!("floats of a nested value: {e}"));
    Ok(match array.data_type() {
        DataType::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical_f32)),
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical_f64)),
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = canonical_within(list.values())?;
            Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned()).map_err(failed)?)
        }
        DataType::Struct(fields) if !fields.is_empty() => {
            let structure = array.as_struct();
            let columns = structure.columns().iter().map(canonical_within).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, structure.nulls().cloned()).map_err(failed)?)
        }
        _ => array.clone(),
    })
}
