//! Conditions that are evaluated only as far as they decide. Databricks evaluates AND and OR from
//! the left and stops early, so that `b <> 0 AND a / b > 1` never raises; the engines evaluate
//! both sides over whole batches. Only CASE is lazy in all of them.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::def::FpScalar;
use crate::lambda::FpHigher;
use crate::types;

/// More operands in one chain that may raise aren't guarded one from the other: each is a level of
/// nesting.
const GUARDED_MAX: usize = 32;

/// Functions whose value never raises, whatever their arguments. One that is missing here costs
/// speed only.
const NEVER_RAISE: &[&str] = &[
    "ascii",
    "btrim",
    "char_length",
    "compared_float",
    "concat",
    "contains",
    "date_diff",
    "datediff",
    "day",
    "dayofmonth",
    "dayofweek",
    "dayofyear",
    "endswith",
    "hour",
    "initcap",
    "instr",
    "isnan",
    "left",
    "length",
    "like",
    "lower",
    "ltrim",
    "minute",
    "month",
    "normalized_float",
    "nullable",
    "position",
    "quarter",
    "replace",
    "right",
    "rtrim",
    "second",
    "size",
    "sqrt",
    "startswith",
    "substring",
    "trim",
    "upper",
    "weekday",
    "year",
];

/// A remainder by a constant other than zero.
fn is_safe_remainder(function: &FpScalar, args: &[Expr]) -> bool {
    let zero = |v: &ScalarValue| ScalarValue::new_zero(&v.data_type()).map_or(true, |zero| zero == *v);
    function.def.name == "mod"
        && types::is_integral(&function.ret)
        && matches!(args, [_, Expr::Literal(divisor, _)] if !divisor.is_null() && !zero(divisor))
}

fn is_float_arithmetic(function: &FpScalar) -> bool {
    types::is_float(&function.ret) && matches!(function.def.name, "add" | "subtract" | "multiply" | "negative")
}

/// Whether evaluating `expr` for a row may raise. Constants don't count: they are folded.
pub fn may_raise(expr: &Expr) -> bool {
    let mut raises = false;
    let walked = expr.apply(|e| {
        if let Expr::ScalarFunction(call) = e {
            if let Some(higher) = FpHigher::of(call) {
                raises |= higher.may_raise();
                return Ok(if raises { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue });
            }
            let safe = call.func.inner().downcast_ref::<FpScalar>().is_some_and(|f| {
                NEVER_RAISE.contains(&f.def.name)
                    || f.def.name.starts_with("try_")
                    || is_float_arithmetic(f)
                    || is_safe_remainder(f, &call.args)
            });
            if !safe && !is_constant(e) {
                raises = true;
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    raises || walked.is_err()
}

fn is_deterministic(call: &ScalarFunction) -> bool {
    match call.func.inner().downcast_ref::<FpScalar>() {
        Some(function) => function.def.deterministic,
        None => FpHigher::of(call).is_some_and(FpHigher::is_deterministic),
    }
}

fn is_constant(expr: &Expr) -> bool {
    let mut constant = true;
    let walked = expr.apply(|e| {
        let deterministic = match e {
            Expr::ScalarFunction(call) => is_deterministic(call),
            Expr::Literal(..) | Expr::Cast(_) | Expr::Case(_) | Expr::BinaryExpr(_) | Expr::Alias(_) => true,
            _ => false,
        };
        constant &= deterministic;
        Ok(if constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    constant && walked.is_ok()
}

/// Whether `expr` may stand twice, and inside a CASE: subqueries there can't become joins, and
/// what is random would differ.
fn is_repeatable(expr: &Expr) -> bool {
    let mut repeatable = true;
    let walked = expr.apply(|e| {
        repeatable &= match e {
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => false,
            Expr::ScalarFunction(call) => is_deterministic(call),
            _ => true,
        };
        Ok(if repeatable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    repeatable && walked.is_ok()
}

fn boolean(value: bool) -> Expr {
    Expr::Literal(ScalarValue::Boolean(Some(value)), None)
}

/// A CASE of values of type `ty`. DataFusion makes ANDs and ORs of `CASE WHEN ...` over BOOLEAN,
/// which evaluate every branch; of `CASE TRUE WHEN ...` it makes none.
pub fn case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>, ty: &DataType) -> Expr {
    let raising = *ty == DataType::Boolean
        && (branches.iter().skip(1).any(|(when, _)| may_raise(when))
            || branches.iter().any(|(_, then)| may_raise(then))
            || otherwise.as_ref().is_some_and(may_raise));
    let when_then_expr = branches.into_iter().map(|(when, then)| (Box::new(when), Box::new(then))).collect();
    Expr::Case(Case { expr: raising.then(|| Box::new(boolean(true))), when_then_expr, else_expr: otherwise.map(Box::new) })
}

/// The operands of AND (or OR) such that none that may raise is evaluated where an earlier one has
/// decided. Their conjunction (or disjunction) is the value.
pub fn operands(exprs: Vec<Expr>, op: Operator) -> Vec<Expr> {
    let guards = |e: &Expr| is_repeatable(e);
    let mut raising: Vec<usize> = (1..exprs.len()).filter(|i| may_raise(&exprs[*i]) && is_repeatable(&exprs[*i])).collect();
    raising.truncate(GUARDED_MAX);
    let Some(first) = raising.first().copied() else { return exprs };
    // From the last one inwards: each is guarded by what stands between it and the one before.
    let mut inner: Option<Expr> = None;
    for (n, at) in raising.iter().enumerate().rev() {
        let from = if n == 0 { 0 } else { raising[n - 1] };
        let guard: Vec<Expr> = exprs[from..*at].iter().filter(|e| guards(e)).cloned().collect();
        let mut body = vec![exprs[*at].clone()];
        body.extend(inner.take());
        let body = joined(body, op);
        inner = Some(if guard.is_empty() {
            body
        } else {
            let guard = Box::new(joined(guard, op));
            let decided = if op == Operator::And { Expr::IsFalse(guard) } else { Expr::IsTrue(guard) };
            Expr::Case(Case {
                expr: Some(Box::new(boolean(true))),
                when_then_expr: vec![(Box::new(decided), Box::new(boolean(op != Operator::And)))],
                else_expr: Some(Box::new(body)),
            })
        });
    }
    let mut out = Vec::with_capacity(exprs.len());
    for (i, expr) in exprs.into_iter().enumerate() {
        if i == first {
            out.extend(inner.take());
        }
        if !raising.contains(&i) {
            out.push(expr);
        }
    }
    out
}

fn joined(exprs: Vec<Expr>, op: Operator) -> Expr {
    let joined = exprs.into_iter().reduce(|left, right| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))));
    joined.unwrap_or_else(|| boolean(op == Operator::And))
}

/// A filter's condition without the guards between its conjuncts: the engines apply those in
/// order, and can push each down for itself.
pub fn conjuncts(condition: Expr) -> Expr {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            Expr::BinaryExpr(BinaryExpr::new(Box::new(conjuncts(*left)), Operator::And, Box::new(conjuncts(*right))))
        }
        Expr::Case(case) if is_guard(&case) => case.else_expr.map_or_else(|| boolean(true), |body| conjuncts(*body)),
        other => other,
    }
}

/// `CASE TRUE WHEN ... IS FALSE THEN FALSE ELSE ... END`.
fn is_guard(case: &Case) -> bool {
    let [(when, then)] = case.when_then_expr.as_slice() else { return false };
    let truth = |e: &Expr, value: bool| matches!(e, Expr::Literal(ScalarValue::Boolean(Some(v)), _) if *v == value);
    case.expr.as_deref().is_some_and(|e| truth(e, true)) && matches!(when.as_ref(), Expr::IsFalse(_)) && truth(then, false)
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::col;
    use flightpath_types::Result;

    use super::*;
    use crate::def::{BindContext, Typed};
    use crate::ops::{BinaryOp, binary};

    fn quotient() -> Result<Expr> {
        let ctx = BindContext {
            time_zone: "UTC".into(),
            now_micros: 0,
            catalog: String::new(),
            schema: String::new(),
            principal: String::new(),
            uncacheable: Default::default(),
        };
        let column = |name: &str| Typed::new(col(name), DataType::Float64, false);
        let divided = binary(&ctx, BinaryOp::Divide, column("a"), column("b"))?;
        Ok(binary(&ctx, BinaryOp::Gt, divided, column("c"))?.expr)
    }

    #[test]
    fn an_operand_that_may_raise_is_guarded_by_those_before_it() -> Result<()> {
        let (plain, raising) = (col("b").eq(col("d")), quotient()?);
        assert!(may_raise(&raising) && !may_raise(&plain));
        let guarded = operands(vec![plain.clone(), raising.clone()], Operator::And);
        assert_eq!(guarded.len(), 2);
        assert_eq!(guarded[0], plain);
        assert!(matches!(&guarded[1], Expr::Case(case) if is_guard(case)), "{}", guarded[1]);
        assert_eq!(conjuncts(joined(guarded, Operator::And)), joined(vec![plain.clone(), raising.clone()], Operator::And));
        // What comes first needs no guard.
        assert_eq!(operands(vec![raising.clone(), plain.clone()], Operator::Or), vec![raising, plain]);
        Ok(())
    }
}
