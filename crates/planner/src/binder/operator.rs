//! Operators: which are native over operands of one type, and which are functions of the table.

use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use flightpath_functions::ops::{self, BinaryOp};
use flightpath_functions::{FunctionDef, Typed, lookup, types};
use flightpath_types::{Error, Result};

use super::error;
use super::expr::Bound;
use super::names;
use super::query::State;
use crate::parse::{DIV, SHIFT_RIGHT_UNSIGNED};

impl State<'_> {
    /// Any binary operator but AND and OR.
    pub fn operator(&mut self, left: Bound, op: &BinaryOperator, right: Bound) -> Result<Bound> {
        let (op, sign) = match op {
            BinaryOperator::Eq => (BinaryOp::Eq, "="),
            BinaryOperator::NotEq => (BinaryOp::NotEq, "="),
            BinaryOperator::Lt => (BinaryOp::Lt, "<"),
            BinaryOperator::LtEq => (BinaryOp::LtEq, "<="),
            BinaryOperator::Gt => (BinaryOp::Gt, ">"),
            BinaryOperator::GtEq => (BinaryOp::GtEq, ">="),
            BinaryOperator::Spaceship => (BinaryOp::NullSafeEq, "<=>"),
            BinaryOperator::Plus => (BinaryOp::Add, "+"),
            BinaryOperator::Minus => (BinaryOp::Subtract, "-"),
            BinaryOperator::Multiply => (BinaryOp::Multiply, "*"),
            BinaryOperator::Divide => (BinaryOp::Divide, "/"),
            BinaryOperator::Modulo => (BinaryOp::Modulo, "%"),
            BinaryOperator::Custom(div) if div == DIV => (BinaryOp::IntegralDivide, "div"),
            BinaryOperator::Custom(shift) if shift == SHIFT_RIGHT_UNSIGNED => (BinaryOp::ShiftRightUnsigned, ">>>"),
            BinaryOperator::StringConcat => (BinaryOp::Concat, "||"),
            BinaryOperator::BitwiseAnd => (BinaryOp::BitAnd, "&"),
            BinaryOperator::BitwiseOr => (BinaryOp::BitOr, "|"),
            BinaryOperator::BitwiseXor => (BinaryOp::BitXor, "^"),
            BinaryOperator::PGBitwiseShiftLeft => (BinaryOp::ShiftLeft, "<<"),
            BinaryOperator::PGBitwiseShiftRight => (BinaryOp::ShiftRight, ">>"),
            other => return Err(Error::not_eligible(format!("operator {other} isn't part of Databricks SQL"))),
        };
        let plain = names::operator(&left, sign, &right);
        let name = if op == BinaryOp::NotEq { format!("(NOT {plain})") } else { plain };
        let (left, right) = match integer_bound(&left.t, op, &right.t) {
            Some((left, right)) => (left, right),
            None => self.typed_placeholders(op, left.t, right.t)?,
        };
        let comparison = matches!(
            op,
            BinaryOp::Eq | BinaryOp::NotEq | BinaryOp::Lt | BinaryOp::LtEq | BinaryOp::Gt | BinaryOp::GtEq | BinaryOp::NullSafeEq
        );
        let right = if comparison { self.like_named(&left.ty.clone(), right)? } else { right };
        Ok(Bound::new(ops::binary(&self.ctx, op, left, right)?, name))
    }

    /// An open parameter takes the type of the operand beside it; beside a date that is moved it counts days.
    fn typed_placeholders(&mut self, op: BinaryOp, left: Typed, right: Typed) -> Result<(Typed, Typed)> {
        let open = |t: &Typed| t.ty == DataType::Null && matches!(t.expr, Expr::Placeholder(_));
        let beside = |ty: &DataType, moves: bool| if moves && *ty == DataType::Date32 { DataType::Int32 } else { ty.clone() };
        Ok(match (open(&left), open(&right)) {
            (true, false) => (self.coerce(left, &beside(&right.ty, op == BinaryOp::Add))?, right),
            (false, true) => {
                let ty = beside(&left.ty, op == BinaryOp::Add);
                (left, self.coerce(right, &ty)?)
            }
            _ => (left, right),
        })
    }

    /// A comparison over operands of one type.
    pub fn compare(&mut self, left: Typed, op: Operator, right: Typed) -> Result<Typed> {
        let op = match op {
            Operator::Eq => BinaryOp::Eq,
            Operator::NotEq => BinaryOp::NotEq,
            Operator::Lt => BinaryOp::Lt,
            Operator::LtEq => BinaryOp::LtEq,
            Operator::Gt => BinaryOp::Gt,
            Operator::GtEq => BinaryOp::GtEq,
            Operator::IsNotDistinctFrom => BinaryOp::NullSafeEq,
            other => return Err(Error::internal(format!("{other} isn't a comparison"))),
        };
        let (left, right) = self.typed_placeholders(op, left, right)?;
        let right = self.like_named(&left.ty.clone(), right)?;
        ops::binary(&self.ctx, op, left, right)
    }

    /// A struct with the field names of another: structs are compared by position.
    pub fn like_named(&mut self, model: &DataType, t: Typed) -> Result<Typed> {
        let (DataType::Struct(names), DataType::Struct(fields)) = (model, &t.ty) else { return Ok(t) };
        if names.len() != fields.len() || names.iter().zip(fields).all(|(n, f)| n.name().eq_ignore_ascii_case(f.name())) {
            return Ok(t);
        }
        let renamed: Vec<Field> = names.iter().zip(fields).map(|(n, f)| f.as_ref().clone().with_name(n.name())).collect();
        self.coerce(t, &DataType::Struct(renamed.into()))
    }

    pub fn negative(&mut self, x: Bound) -> Result<Bound> {
        let name = format!("(- {})", x.name);
        ops::negate(&self.ctx, x.t).map(|t| Bound::new(t, name))
    }

    pub fn positive(&mut self, x: Bound) -> Result<Bound> {
        let name = format!("(+ {})", x.name);
        ops::positive(&self.ctx, x.t).map(|t| Bound::new(t, name))
    }

    /// A call of the table by name, of arguments that are typed already.
    pub fn function(&mut self, name: &str, args: Vec<Typed>) -> Result<Typed> {
        match lookup(name) {
            Some(FunctionDef::Scalar(def)) => def.call(&self.ctx, args),
            Some(FunctionDef::Rewrite(def)) => (def.bind)(&self.ctx, args),
            Some(FunctionDef::Aggregate(_) | FunctionDef::Window(_) | FunctionDef::Higher(_)) | None => {
                Err(Error::not_eligible(format!("`{name}` isn't known yet")))
            }
        }
    }
}

/// An integer is less than 1.5 where it's less than 2: compared as integers, files and rows can be
/// skipped, and no cast is needed.
fn integer_bound(left: &Typed, op: BinaryOp, right: &Typed) -> Option<(Typed, Typed)> {
    let up_when_left = match op {
        BinaryOp::Gt | BinaryOp::LtEq => true,
        BinaryOp::GtEq | BinaryOp::Lt => false,
        _ => return None,
    };
    let long = |t: &Typed, up: bool| match names::next_integer(t, up) {
        Some(n) => i64::try_from(n).ok().map(|n| Typed::literal(ScalarValue::Int64(Some(n)))),
        None => None,
    };
    if types::is_integral(&right.ty) {
        return long(left, up_when_left).map(|n| (n, right.clone()));
    }
    if types::is_integral(&left.ty) {
        return long(right, !up_when_left).map(|n| (left.clone(), n));
    }
    None
}

pub(super) fn check_comparable(ty: &DataType, op: &str, ordering: bool) -> Result<()> {
    if types::is_orderable(ty) || (*ty == DataType::Null && !ordering) {
        return Ok(());
    }
    Err(error::mismatch("INVALID_ORDERING_TYPE", format!("{op} does not support ordering on type {}.", types::sql_name(ty))))
}
