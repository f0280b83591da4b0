//! `+ - * / % div` and their `try_` forms on numbers: typing is done, operands are two integers or
//! floats of one type, or two decimals each of its own type.

use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::decimal;
use super::kernel::{all_null, binary};
use super::rules;
use crate::cast::Mode;
use crate::def::{BindContext, Bound, Invocation, ScalarDef, Typed};
use crate::errors;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    /// The remainder with the divisor's sign made positive where it can be.
    Pmod,
    /// `div`: towards zero, BIGINT.
    Integral,
}

impl Op {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Op::Add => "+",
            Op::Subtract => "-",
            Op::Multiply => "*",
            Op::Divide => "/",
            Op::Remainder => "%",
            Op::Pmod => "pmod",
            Op::Integral => "div",
        }
    }

    fn zero_divisor(self) -> Error {
        match self {
            Op::Remainder | Op::Pmod => errors::remainder_by_zero(),
            _ => errors::divide_by_zero(),
        }
    }
}

macro_rules! operators {
    ($($id:ident $name:literal $op:ident $mode:ident $proof:literal;)*) => {
        $(pub(crate) static $id: ScalarDef = ScalarDef {
            name: $name,
            aliases: &[],
            bind: operator_bind,
            eval: |call| evaluate(call, Op::$op, Mode::$mode),
            duckdb: |call| rules::arithmetic(call, Op::$op, Mode::$mode),
            proof: $proof,
            deterministic: true,
        };)*
    };
}

operators! {
    ADD "add" Add Ansi "corpus: areas arith, decimal";
    SUBTRACT "subtract" Subtract Ansi "corpus: areas arith, decimal";
    MULTIPLY "multiply" Multiply Ansi "corpus: areas arith, decimal";
    DIVIDE "divide" Divide Ansi "corpus: arith-017, decimal-004";
    REMAINDER "mod" Remainder Ansi "corpus: arith-044, arith-048, decimal-020";
    PMOD "pmod" Pmod Ansi "corpus: arith-020, decimal-020";
    INTEGRAL "div" Integral Ansi "corpus: arith-044";
    TRY_ADD "try_add" Add Try "corpus: arith-028";
    TRY_SUBTRACT "try_subtract" Subtract Try "corpus: arith-028";
    TRY_MULTIPLY "try_multiply" Multiply Try "corpus: arith-028";
    TRY_DIVIDE "try_divide" Divide Try "corpus: arith-028, arith-047";
    TRY_REMAINDER "try_mod" Remainder Try "corpus: arith-028";
}

/// Operators are made by `ops`, which types them; none is called by name.
pub(crate) fn operator_bind(_: &BindContext, _: Vec<Typed>) -> Result<Bound> {
    Err(Error::internal("an operator was bound by name"))
}

pub(crate) fn definition(op: Op, mode: Mode) -> &'static ScalarDef {
    match (op, mode) {
        (Op::Add, Mode::Ansi) => &ADD,
        (Op::Subtract, Mode::Ansi) => &SUBTRACT,
        (Op::Multiply, Mode::Ansi) => &MULTIPLY,
        (Op::Divide, Mode::Ansi) => &DIVIDE,
        (Op::Remainder, Mode::Ansi) => &REMAINDER,
        (Op::Pmod, _) => &PMOD,
        (Op::Integral, _) => &INTEGRAL,
        (Op::Add, Mode::Try) => &TRY_ADD,
        (Op::Subtract, Mode::Try) => &TRY_SUBTRACT,
        (Op::Multiply, Mode::Try) => &TRY_MULTIPLY,
        (Op::Divide, Mode::Try) => &TRY_DIVIDE,
        (Op::Remainder, Mode::Try) => &TRY_REMAINDER,
    }
}

fn evaluate(call: &Invocation<'_>, op: Op, mode: Mode) -> Result<ColumnarValue> {
    let (Some(left), Some(right)) = (call.args.first(), call.args.get(1)) else {
        return Err(Error::internal("an operator was called with too few operands"));
    };
    match (left.data_type(), right.data_type()) {
        (DataType::Null, _) | (_, DataType::Null) => all_null(call),
        (DataType::Int8, DataType::Int8) => int8(call, op, mode),
        (DataType::Int16, DataType::Int16) => int16(call, op, mode),
        (DataType::Int32, DataType::Int32) => int32(call, op, mode),
        (DataType::Int64, DataType::Int64) => int64(call, op, mode),
        (DataType::Float32, DataType::Float32) => float32(call, op, mode),
        (DataType::Float64, DataType::Float64) => float64(call, op, mode),
        (DataType::Decimal128(_, s1), DataType::Decimal128(_, s2)) => {
            let (s1, s2) = (s1, s2);
            decimal_op(call, op, mode, &left.data_type(), &right.data_type(), s1, s2)
        }
        (l, r) => Err(Error::internal(format!("{l} {} {r} was evaluated", op.symbol()))),
    }
}

macro_rules! integral_kernel {
    ($name:ident, $t:ty, $native:ty, $wide:ty, $ty:expr) => {
        fn $name(call: &Invocation<'_>, op: Op, mode: Mode) -> Result<ColumnarValue> {
            let overflow = |a: $native, b: $native| errors::integral_overflow(&$ty, op.symbol(), &a.to_string(), &b.to_string());
            // Zero first: the least value by minus one has a remainder, 0, and only `div` overflows.
            let by_zero = |_: $native, _: $native| op.zero_divisor();
            match op {
                Op::Add => binary::<$t, $t, $t>(call, mode, <$native>::overflowing_add, overflow),
                Op::Subtract => binary::<$t, $t, $t>(call, mode, <$native>::overflowing_sub, overflow),
                Op::Multiply => binary::<$t, $t, $t>(call, mode, <$native>::overflowing_mul, overflow),
                Op::Remainder => {
                    binary::<$t, $t, $t>(call, mode, |a, b| if b == 0 { (0, true) } else { (a.wrapping_rem(b), false) }, by_zero)
                }
                Op::Pmod => binary::<$t, $t, $t>(
                    call,
                    mode,
                    |a, b| {
                        if b == 0 {
                            return (0, true);
                        }
                        let r = a.wrapping_rem(b);
                        // Java adds the divisor once and takes the remainder again, in wrapping
                        // arithmetic of at least 32 bits.
                        (if r >= 0 { r } else { ((r as $wide).wrapping_add(b as $wide).wrapping_rem(b as $wide)) as $native }, false)
                    },
                    by_zero,
                ),
                Op::Integral => binary::<$t, $t, Int64Type>(
                    call,
                    mode,
                    |a, b| {
                        if b == 0 {
                            (0, true)
                        } else {
                            let (q, o) = i64::from(a).overflowing_div(i64::from(b));
                            (q, o)
                        }
                    },
                    |a, b| if b == 0 { op.zero_divisor() } else { overflow(a, b) },
                ),
                Op::Divide => Err(Error::internal("integers are divided as doubles")),
            }
        }
    };
}

integral_kernel!(int8, Int8Type, i8, i32, DataType::Int8);
integral_kernel!(int16, Int16Type, i16, i32, DataType::Int16);
integral_kernel!(int32, Int32Type, i32, i32, DataType::Int32);
integral_kernel!(int64, Int64Type, i64, i64, DataType::Int64);

macro_rules! float_kernel {
    ($name:ident, $t:ty, $native:ty) => {
        fn $name(call: &Invocation<'_>, op: Op, mode: Mode) -> Result<ColumnarValue> {
            // The processor's own NaN is negative, which would sort as the least value.
            let canonical = |v: $native| if v.is_nan() { <$native>::NAN } else { v };
            let never = |_: $native, _: $native| Error::internal("a float operation failed");
            let by_zero = |_: $native, _: $native| op.zero_divisor();
            match op {
                Op::Add => binary::<$t, $t, $t>(call, mode, |a, b| (canonical(a + b), false), never),
                Op::Subtract => binary::<$t, $t, $t>(call, mode, |a, b| (canonical(a - b), false), never),
                Op::Multiply => binary::<$t, $t, $t>(call, mode, |a, b| (canonical(a * b), false), never),
                Op::Divide => binary::<$t, $t, $t>(call, mode, |a, b| (canonical(a / b), b == 0.0), by_zero),
                Op::Remainder => binary::<$t, $t, $t>(call, mode, |a, b| (canonical(a % b), b == 0.0), by_zero),
                Op::Pmod => binary::<$t, $t, $t>(
                    call,
                    mode,
                    |a, b| {
                        let r = a % b;
                        (canonical(if r < 0.0 { (r + b) % b } else { r }), b == 0.0)
                    },
                    by_zero,
                ),
                Op::Integral => Err(Error::internal("`div` takes no floats")),
            }
        }
    };
}

float_kernel!(float32, Float32Type, f32);
float_kernel!(float64, Float64Type, f64);

fn decimal_op(call: &Invocation<'_>, op: Op, mode: Mode, left: &DataType, right: &DataType, s1: i8, s2: i8) -> Result<ColumnarValue> {
    let shape = decimal::Shape::new(left, right, call.ret)?;
    let error = |a: i128, b: i128| match op {
        Op::Divide | Op::Remainder | Op::Pmod | Op::Integral if b == 0 => op.zero_divisor(),
        Op::Integral => errors::arithmetic_overflow("bigint"),
        _ => shape.out_of_range(op, a, s1, b, s2),
    };
    macro_rules! run {
        ($f:expr) => {
            binary::<Decimal128Type, Decimal128Type, Decimal128Type>(call, mode, $f, error)
        };
    }
    match op {
        Op::Add if shape.simple => run!(|a, b| (a.wrapping_mul(shape.left_unit).wrapping_add(b.wrapping_mul(shape.right_unit)), false)),
        Op::Add => run!(|a, b| flagged(shape.add(a, b))),
        Op::Subtract if shape.simple => {
            run!(|a, b| (a.wrapping_mul(shape.left_unit).wrapping_sub(b.wrapping_mul(shape.right_unit)), false))
        }
        Op::Subtract => run!(|a, b| flagged(b.checked_neg().and_then(|b| shape.add(a, b)))),
        Op::Multiply if shape.simple_product => run!(|a, b| (a.wrapping_mul(b), false)),
        Op::Multiply => run!(|a, b| flagged(shape.multiply(a, b))),
        Op::Divide => run!(|a, b| flagged(shape.divide(a, b))),
        Op::Remainder => run!(|a, b| flagged(shape.remainder(a, b))),
        Op::Pmod => run!(|a, b| flagged(shape.pmod(a, b))),
        Op::Integral => binary::<Decimal128Type, Decimal128Type, Int64Type>(
            call,
            mode,
            |a, b| match shape.integral(a, b) {
                Some(v) => (v, false),
                None => (0, true),
            },
            error,
        ),
    }
}

fn flagged(value: Option<i128>) -> (i128, bool) {
    match value {
        Some(v) => (v, false),
        None => (0, true),
    }
}
