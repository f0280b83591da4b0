//! Mathematical functions. Doubles follow Java's `StrictMath`, rounding goes by a double's decimal
//! text, and what overflows raises.

mod bits;
mod choose;
mod real;
mod round;

pub(crate) use bits::BITS;
pub(crate) use choose::CHOOSE;
pub(crate) use real::REAL;
pub(crate) use round::{ROUND, half_even_text};

use crate::cast::Mode;
use crate::def::{BindContext, FunctionDef, RewriteDef, Typed};
use crate::ops::{self, BinaryOp, Op};
use crate::sig::arity;
use datafusion::common::ScalarValue;
use flightpath_types::{Error, Result};

macro_rules! rewrites {
    ($($name:literal [$($alias:literal),*] $bind:expr, $proof:literal;)*) => {
        &[$(FunctionDef::Rewrite(RewriteDef { name: $name, aliases: &[$($alias),*], bind: $bind, proof: $proof })),*]
    };
}

fn two(name: &str, args: Vec<Typed>) -> Result<(Typed, Typed)> {
    arity(name, args.len(), 2, Some(2))?;
    let mut args = args.into_iter();
    match (args.next(), args.next()) {
        (Some(a), Some(b)) => Ok((a, b)),
        _ => Err(Error::internal("arity was checked")),
    }
}

fn one(name: &str, args: Vec<Typed>) -> Result<Typed> {
    arity(name, args.len(), 1, Some(1))?;
    args.into_iter().next().ok_or_else(|| Error::internal("arity was checked"))
}

fn operator(ctx: &BindContext, name: &str, args: Vec<Typed>, op: Op, mode: Mode) -> Result<Typed> {
    let (a, b) = two(name, args)?;
    ops::arithmetic(ctx, op, mode, a, b)
}

/// `try_divide` of integers is a double's; decimals beside doubles are doubles.
fn shift(ctx: &BindContext, name: &str, args: Vec<Typed>, op: BinaryOp) -> Result<Typed> {
    let (a, b) = two(name, args)?;
    ops::binary(ctx, op, a, b)
}

fn constant(name: &str, args: &[Typed], value: f64) -> Result<Typed> {
    arity(name, args.len(), 0, Some(0))?;
    Ok(Typed::literal(ScalarValue::Float64(Some(value))))
}

fn random(name: &str) -> Result<Typed> {
    Err(Error::not_eligible(format!("`{name}` gives other values on each engine")))
}

/// Functions that are operators under a name, and constants.
pub(crate) static OPERATORS: &[FunctionDef] = rewrites! {
    "mod" [] |x, a| operator(x, "mod", a, Op::Remainder, Mode::Ansi), "corpus: arith-044, hard-103";
    "pmod" [] |x, a| operator(x, "pmod", a, Op::Pmod, Mode::Ansi), "corpus: arith-020, decimal-020";
    "div" [] |x, a| operator(x, "div", a, Op::Integral, Mode::Ansi), "corpus: arith-044";
    "try_add" [] |x, a| operator(x, "try_add", a, Op::Add, Mode::Try), "corpus: arith-028, times-033";
    "try_subtract" [] |x, a| operator(x, "try_subtract", a, Op::Subtract, Mode::Try), "corpus: arith-028, times-033";
    "try_multiply" [] |x, a| operator(x, "try_multiply", a, Op::Multiply, Mode::Try), "corpus: arith-028, times-033";
    "try_divide" [] |x, a| operator(x, "try_divide", a, Op::Divide, Mode::Try), "corpus: arith-028, arith-047, times-033";
    "try_mod" [] |x, a| operator(x, "try_mod", a, Op::Remainder, Mode::Try), "corpus: arith-028";
    "shiftleft" [] |x, a| shift(x, "shiftleft", a, BinaryOp::ShiftLeft), "slt: math";
    "shiftright" [] |x, a| shift(x, "shiftright", a, BinaryOp::ShiftRight), "slt: math";
    "shiftrightunsigned" [] |x, a| shift(x, "shiftrightunsigned", a, BinaryOp::ShiftRightUnsigned), "slt: math";
    "negative" [] |x, a| ops::negate(x, one("negative", a)?), "corpus: arith-019";
    "positive" [] |x, a| ops::positive(x, one("positive", a)?), "corpus: arith-019";
    "e" [] |_, a| constant("e", &a, std::f64::consts::E), "corpus: arith-013";
    "pi" [] |_, a| constant("pi", &a, std::f64::consts::PI), "corpus: arith-013";
    "rand" ["random"] |_, _| random("rand"), "refused";
    "randn" [] |_, _| random("randn"), "refused";
};
