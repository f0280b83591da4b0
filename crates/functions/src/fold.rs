//! The value of an expression that depends on no table, computed with the table's own kernels: what
//! DuckDB has no rule for can be told to it as a value. Folding happens while a statement is planned,
//! so its work is bounded: values stay small, and functions that make much of little aren't folded.

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{BinaryExpr, Case, ColumnarValue, Expr, Operator, ScalarFunctionArgs};
use datafusion::physical_expr::create_physical_expr;
use flightpath_types::{Error, ErrorKind};

use crate::def::{FpScalar, Invocation};
use crate::lambda::{FpHigher, raised};

/// A greater value isn't folded: nested calls could multiply it without end.
const VALUE_BYTES_MAX: usize = 8 << 10;

const MICROS_PER_DAY: i128 = 86_400_000_000;

/// What a growing function may make of numbers.
const COUNT_MAX: i128 = 4_096;

/// Whether the result may be far longer than the arguments are.
fn grows(name: &str, args: &[ScalarValue]) -> bool {
    let number = |index: usize| match args.get(index) {
        Some(ScalarValue::Int8(v)) => v.map(i128::from),
        Some(ScalarValue::Int16(v)) => v.map(i128::from),
        Some(ScalarValue::Int32(v) | ScalarValue::Date32(v)) => v.map(i128::from),
        Some(ScalarValue::Int64(v)) => v.map(i128::from),
        Some(ScalarValue::TimestampMicrosecond(v, _)) => v.map(|v| i128::from(v) / MICROS_PER_DAY),
        Some(ScalarValue::DurationMicrosecond(v)) => v.map(|v| i128::from(v) / MICROS_PER_DAY),
        _ => None,
    };
    let great = |value: Option<i128>| value.is_some_and(|n| n.abs() > COUNT_MAX);
    match name {
        "aggregate" | "reduce" => true,
        "array_insert" | "array_repeat" | "lpad" | "repeat" | "rpad" => great(number(1)),
        "space" => great(number(0)),
        // A step of more than days makes it shorter.
        "sequence" => {
            let step = number(2).map_or(1, i128::abs);
            let distance = number(0).zip(number(1)).map(|(start, stop)| (stop - start) / step.max(1));
            great(distance) || (step == 0 && distance != Some(0))
        }
        "format_string" => match args.first() {
            Some(ScalarValue::Utf8(Some(format))) => {
                let digits: Vec<&str> = format.split(|c: char| !c.is_ascii_digit()).collect();
                digits.iter().any(|run| run.len() > 3)
            }
            _ => false,
        },
        _ => false,
    }
}

/// Why there is no value.
#[derive(Debug, Clone)]
pub enum Unfolded {
    /// Not a constant, or not one that may be computed while planning.
    Unknown,
    /// Evaluating it raises this error.
    Raised(Error),
}

/// The value of `expr`, whose columns have the values that `column` gives.
pub fn fold(expr: &Expr, column: &dyn Fn(&Column) -> Result<ScalarValue, Unfolded>) -> Result<ScalarValue, Unfolded> {
    let value = stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || step(expr, column))?;
    if value.size() > VALUE_BYTES_MAX { Err(Unfolded::Unknown) } else { Ok(value) }
}

/// The value of an expression without columns.
pub fn constant(expr: &Expr) -> Result<ScalarValue, Unfolded> {
    fold(expr, &|_| Err(Unfolded::Unknown))
}

/// The value of a call without columns.
pub fn constant_call(call: &ScalarFunction) -> Result<ScalarValue, Unfolded> {
    let args = call.args.iter().map(constant).collect::<Result<Vec<_>, _>>()?;
    let value = invoke(call, args)?;
    if value.size() > VALUE_BYTES_MAX { Err(Unfolded::Unknown) } else { Ok(value) }
}

fn step(expr: &Expr, column: &dyn Fn(&Column) -> Result<ScalarValue, Unfolded>) -> Result<ScalarValue, Unfolded> {
    match expr {
        Expr::Literal(value, _) => Ok(value.clone()),
        Expr::Alias(alias) => fold(&alias.expr, column),
        Expr::Column(named) => column(named),
        Expr::ScalarFunction(call) => {
            let args = call.args.iter().map(|arg| fold(arg, column)).collect::<Result<Vec<_>, _>>()?;
            invoke(call, args)
        }
        Expr::Case(case) => branch(case, column),
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => logic(binary, column),
        Expr::BinaryExpr(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::Like(_)
        | Expr::Cast(_) => native(expr, column),
        _ => Err(Unfolded::Unknown),
    }
}

/// A call of the table with its arguments' values.
fn invoke(call: &ScalarFunction, args: Vec<ScalarValue>) -> Result<ScalarValue, Unfolded> {
    if grows(call.name(), &args) {
        return Err(Unfolded::Unknown);
    }
    let args: Vec<ColumnarValue> = args.into_iter().map(ColumnarValue::Scalar).collect();
    let value = if let Some(function) = call.func.inner().downcast_ref::<FpScalar>() {
        if !function.def.deterministic {
            return Err(Unfolded::Unknown);
        }
        let invocation = Invocation { args: &args, rows: 1, ret: &function.ret, time_zone: &function.time_zone };
        (function.def.eval)(&invocation).map_err(unfolded)?
    } else if let Some(higher) = FpHigher::of(call) {
        // Lambdas within lambdas are loops within loops.
        if !higher.is_deterministic() || higher.lambdas.iter().any(|l| has_lambda(&l.body)) {
            return Err(Unfolded::Unknown);
        }
        let field = |ty: DataType| Arc::new(arrow::datatypes::Field::new("value", ty, true));
        let call = ScalarFunctionArgs {
            arg_fields: args.iter().map(|a| field(a.data_type())).collect(),
            args,
            number_rows: 1,
            return_field: field(higher.ret.clone()),
            config_options: Arc::default(),
        };
        datafusion::logical_expr::ScalarUDFImpl::invoke_with_args(higher, call).map_err(|e| unfolded(raised(e)))?
    } else {
        return Err(Unfolded::Unknown);
    };
    one(value)
}

fn has_lambda(body: &Expr) -> bool {
    let mut found = false;
    let walked = body.apply(|e| {
        found |= matches!(e, Expr::ScalarFunction(call) if FpHigher::of(call).is_some());
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || walked.is_err()
}

fn unfolded(error: Error) -> Unfolded {
    match error.kind() {
        ErrorKind::Raised => Unfolded::Raised(error),
        _ => Unfolded::Unknown,
    }
}

fn one(value: ColumnarValue) -> Result<ScalarValue, Unfolded> {
    match value {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0).map_err(|_| Unfolded::Unknown),
    }
}

/// Only the branch that is taken is evaluated.
fn branch(case: &Case, column: &dyn Fn(&Column) -> Result<ScalarValue, Unfolded>) -> Result<ScalarValue, Unfolded> {
    let operand = case.expr.as_ref().map(|e| fold(e, column)).transpose()?;
    for (when, then) in &case.when_then_expr {
        let when = fold(when, column)?;
        let taken = match &operand {
            None => truth(&when)?,
            Some(operand) => {
                let equal = Expr::BinaryExpr(BinaryExpr::new(literal(operand.clone()), Operator::Eq, literal(when)));
                truth(&native(&equal, column)?)?
            }
        };
        if taken == Some(true) {
            return fold(then, column);
        }
    }
    match &case.else_expr {
        Some(otherwise) => fold(otherwise, column),
        None => {
            let ty = case.when_then_expr.iter().find_map(|(_, then)| type_of(then)).ok_or(Unfolded::Unknown)?;
            ScalarValue::try_from(&ty).map_err(|_| Unfolded::Unknown)
        }
    }
}

/// The type of an expression that says it by itself.
pub fn type_of(expr: &Expr) -> Option<DataType> {
    match expr {
        Expr::Literal(ScalarValue::Null, _) => None,
        Expr::Literal(value, _) => Some(value.data_type()),
        Expr::Alias(alias) => type_of(&alias.expr),
        Expr::Cast(cast) => Some(cast.field.data_type().clone()),
        Expr::ScalarFunction(call) => match call.func.inner().downcast_ref::<FpScalar>() {
            Some(function) => Some(function.ret.clone()),
            None => FpHigher::of(call).map(|higher| higher.ret.clone()),
        },
        _ => None,
    }
}

/// AND and OR end at the left side that decides.
fn logic(binary: &BinaryExpr, column: &dyn Fn(&Column) -> Result<ScalarValue, Unfolded>) -> Result<ScalarValue, Unfolded> {
    let decides = binary.op == Operator::Or;
    let left = truth(&fold(&binary.left, column)?)?;
    if left == Some(decides) {
        return Ok(ScalarValue::Boolean(left));
    }
    let right = truth(&fold(&binary.right, column)?)?;
    Ok(ScalarValue::Boolean(match (left, right) {
        (_, Some(r)) if r == decides => right,
        (None, _) | (_, None) => None,
        _ => Some(!decides),
    }))
}

fn truth(value: &ScalarValue) -> Result<Option<bool>, Unfolded> {
    match value {
        ScalarValue::Boolean(b) => Ok(*b),
        ScalarValue::Null => Ok(None),
        _ => Err(Unfolded::Unknown),
    }
}

fn literal(value: ScalarValue) -> Box<Expr> {
    Box::new(Expr::Literal(value, None))
}

/// An operator of DataFusion's own over its operands' values.
fn native(expr: &Expr, column: &dyn Fn(&Column) -> Result<ScalarValue, Unfolded>) -> Result<ScalarValue, Unfolded> {
    let mut stop = None;
    let over_values = expr.clone().map_children(|operand| match fold(&operand, column) {
        Ok(value) => Ok(Transformed::yes(Expr::Literal(value, None))),
        Err(reason) => {
            stop.get_or_insert(reason);
            Ok(Transformed::no(operand))
        }
    });
    if let Some(reason) = stop {
        return Err(reason);
    }
    let expr = over_values.map_err(|_| Unfolded::Unknown)?.data;
    let physical = create_physical_expr(&expr, &DFSchema::empty(), &ExecutionProps::new(), &PhysicalPlanningContext::default());
    let physical = physical.map_err(|_| Unfolded::Unknown)?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::empty()), Vec::new(), &options);
    let value = physical.evaluate(&batch.map_err(|_| Unfolded::Unknown)?);
    one(value.map_err(|e| unfolded(raised(e)))?)
}

#[cfg(test)]
mod tests {
    use flightpath_types::Result;

    use super::*;
    use crate::def::{BindContext, Typed};
    use crate::sig::call_by_name;

    fn ctx() -> BindContext {
        BindContext {
            time_zone: "UTC".into(),
            now_micros: 0,
            catalog: String::new(),
            schema: String::new(),
            principal: String::new(),
            uncacheable: Default::default(),
        }
    }

    fn text(value: &str) -> Typed {
        Typed::literal(ScalarValue::Utf8(Some(value.into())))
    }

    #[test]
    fn calls_of_constants_are_computed_and_growth_is_not() -> Result<()> {
        let initcap = call_by_name(&ctx(), "initcap", vec![text("ab CD")])?;
        assert_eq!(constant(&initcap.expr).ok(), Some(ScalarValue::Utf8(Some("Ab Cd".into()))));
        let number = Typed::literal(ScalarValue::Int32(Some(1 << 20)));
        let repeat = call_by_name(&ctx(), "repeat", vec![text("ab"), number])?;
        assert!(matches!(constant(&repeat.expr), Err(Unfolded::Unknown)));
        Ok(())
    }

    #[test]
    fn only_what_is_reached_is_evaluated() -> Result<()> {
        let raise = call_by_name(&ctx(), "raise_error", vec![text("no")])?.expr;
        let raise = crate::cast::cast(&ctx(), Typed::new(raise, DataType::Null, true), &DataType::Boolean)?.expr;
        let bool_of = |b| Expr::Literal(ScalarValue::Boolean(Some(b)), None);
        let and = |left: Expr, right: Expr| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Operator::And, Box::new(right)));
        assert_eq!(constant(&and(bool_of(false), raise.clone())).ok(), Some(ScalarValue::Boolean(Some(false))));
        let bad = crate::cast::cast(&ctx(), text("x"), &DataType::Int32)?;
        let bad = crate::ops::binary(&ctx(), crate::ops::BinaryOp::Eq, bad.clone(), bad)?.expr;
        assert!(matches!(constant(&and(bool_of(true), bad.clone())), Err(Unfolded::Raised(_))));
        assert_eq!(constant(&and(bool_of(false), bad)).ok(), Some(ScalarValue::Boolean(Some(false))));
        let case = crate::lazy::case(vec![(bool_of(true), bool_of(true))], Some(raise), &DataType::Boolean);
        assert_eq!(constant(&case).ok(), Some(ScalarValue::Boolean(Some(true))));
        Ok(())
    }
}
