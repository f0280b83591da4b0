//! Running an operator over two columns of values, either of which may be one value for all rows.
//! Operators are total functions that also say whether they failed, so that the usual pass, in
//! which nothing fails, has no branches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::cast::Mode;
use crate::def::Invocation;

/// One operand: a value per row, or one for all (`None` is NULL).
enum Side<T: ArrowPrimitiveType> {
    Rows(PrimitiveArray<T>),
    One(Option<T::Native>),
}

fn internal(e: impl std::fmt::Display) -> Error {
    Error::internal(e.to_string())
}

impl<T: ArrowPrimitiveType> Side<T> {
    fn of(call: &Invocation<'_>, index: usize) -> Result<Self> {
        let wrong = |ty: &DataType| Error::internal(format!("an operator was called with an operand of type {ty}"));
        let typed = |array: &ArrayRef| array.as_primitive_opt::<T>().cloned().ok_or_else(|| wrong(array.data_type()));
        match call.args.get(index) {
            Some(ColumnarValue::Array(array)) => typed(array).map(Side::Rows),
            Some(ColumnarValue::Scalar(value)) => {
                let array = typed(&value.to_array().map_err(internal)?)?;
                Ok(Side::One(array.is_valid(0).then(|| array.value(0))))
            }
            None => Err(Error::internal("an operator was called with too few operands")),
        }
    }

    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Side::Rows(array) => array.nulls(),
            Side::One(_) => None,
        }
    }
}

/// `f` on every row, those with NULL operands too; it returns a value and whether it failed. A
/// failure on a row that counts raises `error` of its operands, or gives NULL in [`Mode::Try`].
pub(crate) fn binary<A, B, O>(
    call: &Invocation<'_>,
    mode: Mode,
    f: impl Fn(A::Native, B::Native) -> (O::Native, bool),
    error: impl Fn(A::Native, B::Native) -> Error,
) -> Result<ColumnarValue>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let (left, right) = (Side::<A>::of(call, 0)?, Side::<B>::of(call, 1)?);
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let mut failed = false;
    let mut step = |a: A::Native, b: B::Native| {
        let (value, bad) = f(a, b);
        failed |= bad;
        value
    };
    let values: Vec<O::Native> = match (&left, &right) {
        (Side::One(None), _) | (_, Side::One(None)) => return all_null(call),
        (Side::One(Some(a)), Side::One(Some(b))) => {
            return match (f(*a, *b), mode) {
                ((value, false), _) => one::<O>(call, Some(value)),
                (_, Mode::Try) => one::<O>(call, None),
                (_, Mode::Ansi) => Err(error(*a, *b)),
            };
        }
        (Side::Rows(a), Side::Rows(b)) => a.values().iter().zip(b.values()).map(|(a, b)| step(*a, *b)).collect(),
        (Side::Rows(a), Side::One(Some(b))) => a.values().iter().map(|a| step(*a, *b)).collect(),
        (Side::One(Some(a)), Side::Rows(b)) => b.values().iter().map(|b| step(*a, *b)).collect(),
    };
    if !failed {
        return finish::<O>(call, values, nulls);
    }
    let operands = |row: usize| match (&left, &right) {
        (Side::Rows(a), Side::Rows(b)) => Some((a.value(row), b.value(row))),
        (Side::Rows(a), Side::One(Some(b))) => Some((a.value(row), *b)),
        (Side::One(Some(a)), Side::Rows(b)) => Some((*a, b.value(row))),
        _ => None,
    };
    let fails = |row: usize| operands(row).filter(|(a, b)| f(*a, *b).1);
    let nulls = settle(mode, nulls, values.len(), |row| fails(row).map(|(a, b)| error(a, b)))?;
    finish::<O>(call, values, nulls)
}

/// As [`binary`], of one operand.
pub(crate) fn unary<A: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    call: &Invocation<'_>,
    mode: Mode,
    f: impl Fn(A::Native) -> (O::Native, bool),
    error: impl Fn(A::Native) -> Error,
) -> Result<ColumnarValue> {
    let a = match Side::<A>::of(call, 0)? {
        Side::One(None) => return all_null(call),
        Side::One(Some(a)) => {
            return match (f(a), mode) {
                ((value, false), _) => one::<O>(call, Some(value)),
                (_, Mode::Try) => one::<O>(call, None),
                (_, Mode::Ansi) => Err(error(a)),
            };
        }
        Side::Rows(a) => a,
    };
    let mut failed = false;
    let values: Vec<O::Native> = a
        .values()
        .iter()
        .map(|a| {
            let (value, bad) = f(*a);
            failed |= bad;
            value
        })
        .collect();
    let mut nulls = a.nulls().cloned();
    if failed {
        nulls = settle(mode, nulls, values.len(), |row| f(a.value(row)).1.then(|| error(a.value(row))))?;
    }
    finish::<O>(call, values, nulls)
}

/// Looks at the failures of rows that count: raises the first, or makes them NULL.
fn settle(mode: Mode, nulls: Option<NullBuffer>, len: usize, failure: impl Fn(usize) -> Option<Error>) -> Result<Option<NullBuffer>> {
    let mut valid = Vec::with_capacity(len);
    for row in 0..len {
        let counts = nulls.as_ref().is_none_or(|n| n.is_valid(row));
        let error = if counts { failure(row) } else { None };
        match (error, mode) {
            (Some(error), Mode::Ansi) => return Err(error),
            (Some(_), Mode::Try) => valid.push(false),
            (None, _) => valid.push(counts),
        }
    }
    Ok(Some(NullBuffer::new(BooleanBuffer::from(valid))))
}

fn finish<O: ArrowPrimitiveType>(call: &Invocation<'_>, values: Vec<O::Native>, nulls: Option<NullBuffer>) -> Result<ColumnarValue> {
    let array = PrimitiveArray::<O>::try_new(values.into(), nulls).map_err(internal)?;
    Ok(ColumnarValue::Array(Arc::new(array.with_data_type(call.ret.clone()))))
}

fn one<O: ArrowPrimitiveType>(call: &Invocation<'_>, value: Option<O::Native>) -> Result<ColumnarValue> {
    ScalarValue::new_primitive::<O>(value, call.ret).map(ColumnarValue::Scalar).map_err(internal)
}

pub(crate) fn all_null(call: &Invocation<'_>) -> Result<ColumnarValue> {
    ScalarValue::try_from(call.ret).map(ColumnarValue::Scalar).map_err(internal)
}
