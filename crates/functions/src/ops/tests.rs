//! What the recorded statements don't reach: edges of decimal arithmetic, clocks that jump, and
//! what stays native in a plan.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue as S;
use datafusion::logical_expr::{ColumnarValue, Expr};
use flightpath_types::Result;

use super::{BinaryOp, IntervalField, IntervalUnits, Op, binary, canonical_float, coerce_comparison, interval_literal};
use crate::cast::Mode;
use crate::def::{FpScalar, Invocation, Typed};
use crate::recorded_tests::{context, context_in};
use crate::types;

fn evaluate(typed: &Typed, zone: &str) -> Result<S> {
    match &typed.expr {
        Expr::Literal(value, _) => Ok(value.clone()),
        Expr::Cast(cast) => {
            let inner = evaluate(&Typed::new((*cast.expr).clone(), cast.field.data_type().clone(), true), zone)?;
            Ok(inner.cast_to(cast.field.data_type()).expect("a native cast"))
        }
        Expr::ScalarFunction(call) => {
            let udf = call.func.inner().downcast_ref::<FpScalar>().expect("a function of the table");
            let args: Result<Vec<ColumnarValue>> =
                call.args.iter().map(|a| evaluate(&Typed::new(a.clone(), DataType::Null, true), zone).map(ColumnarValue::Scalar)).collect();
            match (udf.def.eval)(&Invocation { args: &args?, rows: 1, ret: &udf.ret, time_zone: zone })? {
                ColumnarValue::Scalar(value) => Ok(value),
                ColumnarValue::Array(array) => Ok(S::try_from_array(&array, 0).expect("one row")),
            }
        }
        other => panic!("{other} isn't evaluated here"),
    }
}

fn compute(left: S, op: BinaryOp, right: S) -> Result<S> {
    let ctx = context();
    evaluate(&binary(&ctx, op, Typed::literal(left), Typed::literal(right))?, "UTC")
}

fn decimal(v: i128, p: u8, s: i8) -> S {
    S::Decimal128(Some(v), p, s)
}

#[test]
fn decimals_round_half_up_to_the_promised_type() {
    use BinaryOp::{Add, Divide, IntegralDivide, Modulo, Multiply, Subtract};
    let nines = 10_i128.pow(38) - 1;
    let cases = [
        // Exact sums of too many digits lose the last ones.
        (decimal(7_454_948_576_973_160_448, 38, 10), Add, decimal(382_834_911, 18, 6), Ok(decimal(745_495_240_532_227_045, 38, 9))),
        (decimal(nines, 38, 0), Add, decimal(1, 1, 0), Err("NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION")),
        (decimal(-nines, 38, 0), Subtract, decimal(1, 1, 0), Err("NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION")),
        (decimal(123_456_789_012_345_678, 38, 18), Multiply, decimal(123_456_789_012_345_678, 38, 18), Ok(decimal(15_242, 38, 6))),
        (decimal(2, 38, 0), Divide, decimal(3, 38, 0), Ok(decimal(666_667, 38, 6))),
        (decimal(-2, 38, 0), Divide, decimal(3, 38, 0), Ok(decimal(-666_667, 38, 6))),
        (decimal(nines, 38, 0), Divide, decimal(1, 38, 38), Err("NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION")),
        (decimal(1, 38, 20), Divide, decimal(3, 1, 0), Ok(decimal(0, 38, 20))),
        (decimal(100, 38, 1), Modulo, decimal(3, 1, 1), Ok(decimal(1, 1, 1))),
        (decimal(-105, 3, 1), Modulo, decimal(32, 2, 1), Ok(decimal(-9, 2, 1))),
        (decimal(75, 2, 1), IntegralDivide, decimal(2, 1, 0), Ok(S::Int64(Some(3)))),
        (decimal(1, 1, 0), Divide, decimal(0, 2, 1), Err("DIVIDE_BY_ZERO")),
        (decimal(1, 1, 0), Modulo, decimal(0, 2, 1), Err("REMAINDER_BY_ZERO")),
    ];
    for (left, op, right, wanted) in cases {
        let got = compute(left.clone(), op, right.clone());
        match (&got, &wanted) {
            (Ok(value), Ok(wanted)) => assert_eq!(value, wanted, "{left} {op:?} {right}"),
            (Err(e), Err(class)) => assert_eq!(e.class(), Some(*class), "{left} {op:?} {right}"),
            _ => panic!("{left} {op:?} {right}: {got:?}, wanted {wanted:?}"),
        }
    }
}

#[test]
fn integers_overflow_in_their_own_width() {
    use BinaryOp::{Add, IntegralDivide, Modulo, Multiply};
    let cases = [
        (S::Int8(Some(127)), Add, S::Int8(Some(1)), Err("BINARY_ARITHMETIC_OVERFLOW")),
        (S::Int32(Some(i32::MAX)), Add, S::Int32(Some(1)), Err("ARITHMETIC_OVERFLOW")),
        (S::Int32(Some(i32::MAX)), Add, S::Int64(Some(1)), Ok(S::Int64(Some(2_147_483_648)))),
        (S::Int64(Some(i64::MAX)), Multiply, S::Int32(Some(2)), Err("ARITHMETIC_OVERFLOW")),
        (S::Int64(Some(i64::MIN)), Modulo, S::Int64(Some(-1)), Ok(S::Int64(Some(0)))),
        (S::Int64(Some(i64::MIN)), IntegralDivide, S::Int64(Some(-1)), Err("ARITHMETIC_OVERFLOW")),
        (S::Int32(None), Modulo, S::Int32(Some(0)), Ok(S::Int32(None))),
    ];
    for (left, op, right, wanted) in cases {
        match (compute(left.clone(), op, right.clone()), wanted) {
            (Ok(value), Ok(wanted)) => assert_eq!(value, wanted, "{left} {op:?} {right}"),
            (Err(e), Err(class)) => assert_eq!(e.class(), Some(class), "{left} {op:?} {right}"),
            (got, wanted) => panic!("{left} {op:?} {right}: {got:?}, wanted {wanted:?}"),
        }
    }
}

#[test]
fn days_are_the_calendars_and_hours_elapse() {
    // New York, 2024-03-09 12:00 local: the next day has 23 hours.
    let zone = "America/New_York";
    let ctx = context_in(zone);
    let noon = S::TimestampMicrosecond(Some(1_710_003_600_000_000), Some("UTC".into()));
    let plus = |amount: i64, field: IntervalField| {
        let interval = interval_literal(amount, IntervalUnits { start: field, end: field }).unwrap();
        let moved = binary(&ctx, BinaryOp::Add, Typed::literal(noon.clone()), interval).unwrap();
        let S::TimestampMicrosecond(Some(v), _) = evaluate(&moved, zone).unwrap() else { panic!("a timestamp") };
        (v - 1_710_003_600_000_000) / 3_600_000_000
    };
    let hour = 3_600_000_000;
    assert_eq!(plus(24 * hour, IntervalField::Day), 23, "one day later it is noon again");
    assert_eq!(plus(24 * hour, IntervalField::Hour), 23, "24 hours are a day in Databricks");
    assert_eq!(plus(23 * hour, IntervalField::Hour), 23);
}

#[test]
fn a_date_and_days_make_a_date_and_hours_a_timestamp() {
    let ctx = context();
    let date = || Typed::new(Expr::Column("d".into()), DataType::Date32, true);
    let interval = |field| interval_literal(86_400_000_000, IntervalUnits { start: field, end: field }).unwrap();
    assert_eq!(binary(&ctx, BinaryOp::Add, date(), interval(IntervalField::Day)).unwrap().ty, DataType::Date32);
    assert_eq!(binary(&ctx, BinaryOp::Add, date(), interval(IntervalField::Hour)).unwrap().ty, types::timestamp());
    let unknown = Typed::new(Expr::Column("i".into()), types::DAY_TIME, true);
    assert!(binary(&ctx, BinaryOp::Add, date(), unknown).is_err(), "the fields of a column's interval aren't known");
    let folded = binary(&ctx, BinaryOp::Subtract, Typed::literal(S::Date32(Some(10))), interval(IntervalField::Day)).unwrap();
    assert_eq!(folded.as_literal(), Some(&S::Date32(Some(9))), "literals fold, so that files are pruned");
}

#[test]
fn comparisons_leave_columns_bare_where_they_can() {
    let ctx = context();
    let column = |ty: DataType| Typed::new(Expr::Column("c".into()), ty, true);
    for (ty, literal) in [
        (DataType::Decimal128(15, 2), S::Int32(Some(24))),
        (DataType::Decimal128(15, 2), decimal(5, 2, 2)),
        (DataType::Int64, S::Int32(Some(24))),
        (DataType::Date32, S::Utf8(Some("2024-01-01".into()))),
        (types::timestamp(), S::Date32(Some(1))),
    ] {
        let (left, right) = coerce_comparison(&ctx, column(ty.clone()), Typed::literal(literal.clone())).unwrap();
        assert!(matches!(left.expr, Expr::Column(_)), "{ty} beside {literal} stays a column");
        assert_eq!((left.ty, right.as_literal().map(S::data_type)), (ty.clone(), Some(ty)));
    }
    assert!(coerce_comparison(&ctx, column(DataType::Boolean), column(DataType::Int32)).is_err());
}

#[test]
fn floats_compare_with_one_nan_and_one_zero() {
    let negative_nan = f64::from_bits(f64::NAN.to_bits() | (1 << 63));
    for (v, wanted) in [(-0.0, 0.0_f64), (negative_nan, f64::NAN), (1.5, 1.5)] {
        let canonical = canonical_float(&context(), Typed::literal(S::Float64(Some(v))));
        let Some(S::Float64(Some(got))) = canonical.as_literal() else { panic!("a literal stays one") };
        assert_eq!(got.to_bits(), wanted.to_bits());
    }
}

#[test]
fn literal_intervals_are_written_by_their_fields() {
    use IntervalField::{Day, Hour, Minute, Month, Second, Year};
    let ctx = context();
    let cast = |amount: i64, start, end, to: &DataType| {
        let literal = interval_literal(amount, IntervalUnits { start, end }).unwrap();
        crate::cast::cast(&ctx, literal, to).map(|t| t.as_literal().cloned().expect("a literal"))
    };
    for (amount, start, end, wanted) in [
        (14, Year, Month, "INTERVAL '1-2' YEAR TO MONTH"),
        (-1, Month, Month, "INTERVAL '-1' MONTH"),
        (273_906_789_000, Day, Second, "INTERVAL '3 04:05:06.789' DAY TO SECOND"),
        (5_400_000_000, Minute, Minute, "INTERVAL '90' MINUTE"),
        (3_600_000_000, Hour, Hour, "INTERVAL '01' HOUR"),
    ] {
        assert_eq!(cast(amount, start, end, &DataType::Utf8).unwrap(), S::Utf8(Some(wanted.into())));
    }
    assert_eq!(cast(129_600_000_000, Hour, Hour, &DataType::Int64).unwrap(), S::Int64(Some(36)));
    assert!(cast(129_600_000_000, Day, Second, &DataType::Int64).is_err());
}

#[test]
fn what_try_would_have_to_catch_of_its_operands_is_refused() -> Result<()> {
    let ctx = context();
    let column = || Typed::new(datafusion::prelude::col("x"), DataType::Int32, true);
    let text = || Typed::literal(S::Utf8(Some("1".to_string())));
    let raising = binary(&ctx, BinaryOp::Divide, Typed::literal(S::Int32(Some(1))), column())?;
    let refused = super::arithmetic(&ctx, Op::Add, Mode::Try, text(), raising.clone()).expect_err("raises for some x");
    assert!(refused.to_string().contains("catches what its operands raise"), "{refused}");
    // Of numbers `try_` catches its own overflow alone, and a bare column raises nothing.
    super::arithmetic(&ctx, Op::Add, Mode::Try, column(), raising)?;
    super::arithmetic(&ctx, Op::Add, Mode::Try, text(), column())?;
    Ok(())
}
