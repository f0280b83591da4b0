//! Each aggregate over given values, against recorded answers: in one go, in two partial states
//! merged, by groups, and in a frame that has moved.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::ScalarValue as S;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, ColumnarValue, EmitTo, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use flightpath_types::{Error, Result};

use crate::def::{AggregateCall, BoundAggregate, FunctionDef, Typed};
use crate::recorded_tests::context;
use crate::{lookup, types};

/// Columns `c0`, `c1`... of the given values, and a call over them.
struct Given {
    columns: Vec<Vec<S>>,
    bound: BoundAggregate,
}

fn column(i: usize, ty: &DataType) -> Typed {
    Typed::new(Expr::Column(format!("c{i}").into()), ty.clone(), true)
}

fn bind(name: &str, args: Vec<Typed>, distinct: bool, order_by: Vec<(Typed, Sort)>) -> Result<BoundAggregate> {
    let Some(FunctionDef::Aggregate(def)) = lookup(name) else { panic!("{name} is no aggregate") };
    let within_group = !order_by.is_empty();
    (def.bind)(&context(), AggregateCall { args, distinct, order_by, within_group, ignore_nulls: false })
}

/// `name(c0, ..., literals)` over columns of values.
fn given(name: &str, columns: Vec<Vec<S>>, literals: Vec<S>, distinct: bool) -> Given {
    let mut args: Vec<Typed> = columns.iter().enumerate().map(|(i, c)| column(i, &c[0].data_type())).collect();
    args.extend(literals.into_iter().map(Typed::literal));
    let bound = bind(name, args, distinct, vec![]).unwrap_or_else(|e| panic!("{name}: {e}"));
    Given { columns, bound }
}

impl Given {
    fn schema(&self) -> Schema {
        Schema::new(self.columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c[0].data_type(), true)).collect::<Vec<_>>())
    }

    /// The call's arguments for rows `from..to`.
    fn rows(&self, from: usize, to: usize) -> Vec<ArrayRef> {
        let arrays: Vec<ArrayRef> = self.columns.iter().map(|c| S::iter_to_array(c.clone()).unwrap().slice(from, to - from)).collect();
        let batch = arrow::array::RecordBatch::try_new(Arc::new(self.schema()), arrays).unwrap();
        self.physical().iter().map(|e| e.evaluate(&batch).and_then(|v: ColumnarValue| v.into_array(to - from)).unwrap()).collect()
    }

    fn physical(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let schema = datafusion::common::DFSchema::try_from(self.schema()).unwrap();
        let planning = datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext::default();
        let props = datafusion::execution::context::ExecutionProps::new();
        self.bound
            .args
            .iter()
            .map(|a| datafusion::physical_expr::create_physical_expr(&a.expr, &schema, &props, &planning).unwrap())
            .collect()
    }

    fn with_args<T>(&self, f: impl FnOnce(AccumulatorArgs<'_>) -> T) -> T {
        let schema = self.schema();
        let exprs: Vec<Arc<dyn PhysicalExpr>> =
            (0..self.bound.args.len()).map(|i| Arc::new(Column::new("a", i)) as Arc<dyn PhysicalExpr>).collect();
        let fields: Vec<FieldRef> = self.bound.args.iter().map(|a| Arc::new(Field::new("a", a.ty.clone(), true))).collect();
        f(AccumulatorArgs {
            return_field: Arc::new(Field::new("r", self.bound.ret.clone(), true)),
            schema: &schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: "r",
            is_distinct: self.bound.distinct,
            exprs: &exprs,
            expr_fields: &fields,
        })
    }

    fn fresh(&self) -> Box<dyn Accumulator> {
        self.with_args(|args| self.bound.udf.accumulator(args)).unwrap()
    }

    fn len(&self) -> usize {
        self.columns[0].len()
    }

    fn once(&self) -> Result<S, String> {
        let mut acc = self.fresh();
        acc.update_batch(&self.rows(0, self.len())).map_err(class)?;
        acc.evaluate().map_err(class)
    }

    fn merged(&self) -> Result<S, String> {
        let half = self.len() / 2;
        let mut whole = self.fresh();
        for (from, to) in [(0, half), (half, self.len())] {
            let mut part = self.fresh();
            part.update_batch(&self.rows(from, to)).map_err(class)?;
            let state: Vec<ArrayRef> = part.state().map_err(class)?.iter().map(|s| s.to_array().unwrap()).collect();
            whole.merge_batch(&state).map_err(class)?;
        }
        whole.evaluate().map_err(class)
    }

    /// In group 1 of 2; the other group's rows are filtered away.
    fn grouped(&self) -> Option<Result<S, String>> {
        if !self.with_args(|args| self.bound.udf.groups_accumulator_supported(args)) {
            return None;
        }
        let mut groups = self.with_args(|args| self.bound.udf.create_groups_accumulator(args)).unwrap();
        let rows = self.rows(0, self.len());
        let keep = BooleanArray::from(vec![true; self.len()]);
        groups.update_batch(&rows, &vec![1; self.len()], Some(&keep), 2).unwrap();
        let drop = BooleanArray::from(vec![false; self.len()]);
        groups.update_batch(&rows, &vec![0; self.len()], Some(&drop), 2).unwrap();
        let state = groups.state(EmitTo::All).unwrap();
        let mut merged = self.with_args(|args| self.bound.udf.create_groups_accumulator(args)).unwrap();
        merged.merge_batch(&state, &[0, 1], 2).unwrap();
        Some(merged.evaluate(EmitTo::All).map_err(class).map(|array| {
            let none = S::try_from_array(&array, 0).unwrap();
            assert!(none.is_null() || none == S::Int64(Some(0)), "a group without values is NULL, or counted as 0");
            S::try_from_array(&array, 1).unwrap()
        }))
    }

    /// The frame grew by a first row that then left it.
    fn slid(&self) -> Result<S, String> {
        let mut acc = self.with_args(|args| self.bound.udf.create_sliding_accumulator(args)).unwrap();
        assert!(acc.supports_retract_batch());
        let first = self.rows(0, 1);
        acc.update_batch(&first).map_err(class)?;
        acc.update_batch(&self.rows(0, self.len())).map_err(class)?;
        acc.retract_batch(&first).map_err(class)?;
        acc.evaluate().map_err(class)
    }
}

fn class(e: datafusion::error::DataFusionError) -> String {
    match e.find_root() {
        datafusion::error::DataFusionError::External(e) => match e.downcast_ref::<Error>() {
            Some(e) => e.class().unwrap_or("no class").to_owned(),
            None => e.to_string(),
        },
        other => other.to_string(),
    }
}

fn close(a: &S, b: &S) -> bool {
    match (a, b) {
        (S::Float64(Some(a)), S::Float64(Some(b))) => a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * b.abs(),
        _ => a == b,
    }
}

fn check(case: &Given, name: &str, wanted: Result<S, &str>) {
    let wanted = wanted.map_err(str::to_owned);
    let agree = |how: &str, got: Result<S, String>| match (&got, &wanted) {
        (Ok(a), Ok(b)) => assert!(close(a, b), "{name} {how}: {a:?}, wanted {b:?}"),
        _ => assert_eq!(got, wanted, "{name} {how}"),
    };
    agree("at once", case.once());
    agree("merged", case.merged());
    if let Some(got) = case.grouped() {
        agree("in groups", got);
    }
    agree("slid", case.slid());
    if let Ok(value) = &wanted {
        assert!(types::same(&value.data_type(), &case.bound.ret), "{name} is {}, not {}", value.data_type(), case.bound.ret);
    }
}

fn longs(values: &[i64]) -> Vec<S> {
    values.iter().map(|v| S::Int64(Some(*v))).collect()
}

fn ints(values: &[Option<i32>]) -> Vec<S> {
    values.iter().map(|v| S::Int32(*v)).collect()
}

fn doubles(values: &[f64]) -> Vec<S> {
    values.iter().map(|v| S::Float64(Some(*v))).collect()
}

fn decimals(values: &[i128], p: u8, s: i8) -> Vec<S> {
    values.iter().map(|v| S::Decimal128(Some(*v), p, s)).collect()
}

fn texts(values: &[&str]) -> Vec<S> {
    values.iter().map(|v| S::Utf8(Some((*v).to_owned()))).collect()
}

#[test]
fn sums_and_averages_are_exact_and_overflow_as_recorded() {
    let max = i64::MAX;
    let wide = 10_i128.pow(38) - 1;
    let cases: Vec<(&str, Vec<S>, bool, Result<S, &str>)> = vec![
        ("sum", ints(&[Some(1), Some(2), None]), false, Ok(S::Int64(Some(3)))),
        ("sum", ints(&[Some(2), Some(2), Some(1)]), true, Ok(S::Int64(Some(3)))),
        ("sum", ints(&[None]), false, Ok(S::Int64(None))),
        ("sum", longs(&[max, 1]), false, Err("ARITHMETIC_OVERFLOW")),
        // Only the total counts, in whatever order the rows come.
        ("sum", longs(&[max, 1, -1]), false, Ok(S::Int64(Some(max)))),
        ("try_sum", longs(&[max, 1]), false, Ok(S::Int64(None))),
        ("avg", longs(&[max, max]), false, Ok(S::Float64(Some(9.223_372_036_854_776e18)))),
        ("sum", decimals(&[100, 51], 10, 2), false, Ok(S::Decimal128(Some(151), 20, 2))),
        ("sum", decimals(&[wide, 1], 38, 0), false, Err("ARITHMETIC_OVERFLOW")),
        ("try_sum", decimals(&[wide, wide], 38, 0), false, Ok(S::Decimal128(None, 38, 0))),
        ("avg", decimals(&[100, 51, 1], 5, 2), false, Ok(S::Decimal128(Some(506_667), 9, 6))),
        ("avg", decimals(&[-100, -51, -1], 5, 2), false, Ok(S::Decimal128(Some(-506_667), 9, 6))),
        ("avg", decimals(&[wide, wide], 38, 0), false, Err("ARITHMETIC_OVERFLOW")),
        ("try_avg", decimals(&[wide, wide], 38, 0), false, Ok(S::Decimal128(None, 38, 4))),
        ("sum", doubles(&[f64::INFINITY, f64::NEG_INFINITY]), false, Ok(S::Float64(Some(f64::NAN)))),
        ("avg", doubles(&[f64::NAN, 1.0]), false, Ok(S::Float64(Some(f64::NAN)))),
        ("sum", texts(&["1", "2.25"]), false, Ok(S::Float64(Some(3.25)))),
        ("sum", vec![S::IntervalYearMonth(Some(12)), S::IntervalYearMonth(Some(5))], false, Ok(S::IntervalYearMonth(Some(17)))),
        ("avg", vec![S::IntervalYearMonth(Some(12)), S::IntervalYearMonth(Some(5))], false, Ok(S::IntervalYearMonth(Some(9)))),
    ];
    for (name, values, distinct, wanted) in cases {
        check(&given(name, vec![values], vec![], distinct), name, wanted);
    }
}

#[test]
fn a_frame_forgets_nan_and_infinity_once_they_left() {
    let case = given("sum", vec![doubles(&[f64::NAN, 1.0, 2.0])], vec![], false);
    let mut acc = case.with_args(|args| case.bound.udf.create_sliding_accumulator(args)).unwrap();
    acc.update_batch(&case.rows(0, 3)).unwrap();
    assert!(matches!(acc.evaluate().unwrap(), S::Float64(Some(v)) if v.is_nan()));
    acc.retract_batch(&case.rows(0, 1)).unwrap();
    assert_eq!(acc.evaluate().unwrap(), S::Float64(Some(3.0)));
}

#[test]
fn moments_are_a_populations_and_undefined_ones_null() {
    let (same, powers) = (doubles(&[3.0, 3.0, 3.0]), doubles(&[1.0, 2.0, 4.0, 8.0]));
    let cases: Vec<(&str, Vec<Vec<S>>, Option<f64>)> = vec![
        ("kurtosis", vec![powers.clone()], Some(-1.098_979_206_049_15)),
        ("skewness", vec![powers.clone()], Some(0.656_807_734_499_699)),
        ("skewness", vec![same.clone()], None),
        ("kurtosis", vec![same.clone()], None),
        ("stddev", vec![doubles(&[2.0])], None),
        ("stddev", vec![doubles(&[2.0, 4.0])], Some(std::f64::consts::SQRT_2)),
        ("var_pop", vec![doubles(&[4.0, 8.0])], Some(4.0)),
        ("variance", vec![doubles(&[4.0, 8.0])], Some(8.0)),
        ("corr", vec![same.clone(), same.clone()], None),
        ("covar_pop", vec![same.clone(), same.clone()], Some(0.0)),
        ("covar_samp", vec![powers.clone(), powers.clone()], Some(9.583_333_333_333_334)),
        ("corr", vec![powers.clone(), powers], Some(1.0)),
    ];
    for (name, columns, wanted) in cases {
        check(&given(name, columns, vec![], false), name, Ok(S::Float64(wanted)));
    }
}

#[test]
fn rows_are_picked_and_collected_as_recorded() {
    let (names, salaries) = (texts(&["ann", "bob", "cy"]), ints(&[Some(10), Some(30), None]));
    let text = |t: Option<&str>| Ok(S::Utf8(t.map(str::to_owned)));
    check(&given("max_by", vec![names.clone(), salaries.clone()], vec![], false), "max_by", text(Some("bob")));
    check(&given("min_by", vec![names.clone(), salaries.clone()], vec![], false), "min_by", text(Some("ann")));
    // The value beside the greatest key may itself be NULL.
    check(&given("max_by", vec![ints(&[None, Some(1)]), ints(&[Some(20), Some(10)])], vec![], false), "max_by", Ok(S::Int32(None)));
    check(&given("first", vec![ints(&[None, Some(1)])], vec![S::Boolean(Some(true))], false), "first", Ok(S::Int32(Some(1))));
    check(&given("last", vec![ints(&[Some(1), None])], vec![], false), "last", Ok(S::Int32(None)));
    check(&given("mode", vec![ints(&[Some(1), Some(2), Some(2), Some(3)])], vec![], false), "mode", Ok(S::Int32(Some(2))));
    check(&given("listagg", vec![texts(&["a", "b"])], vec![S::Utf8(Some(",".into()))], false), "listagg", text(Some("a,b")));
    check(&given("count", vec![ints(&[Some(1), None])], vec![], false), "count", Ok(S::Int64(Some(1))));
}

#[test]
fn lists_drop_nulls_and_sets_repetitions() {
    let values = ints(&[Some(1), None, Some(1), Some(2)]);
    let items = |name: &str| {
        let S::List(list) = given(name, vec![values.clone()], vec![], false).merged().unwrap() else { panic!("{name} is no list") };
        let items = list.value(0);
        (0..items.len()).map(|i| S::try_from_array(&items, i).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(items("collect_list"), ints(&[Some(1), Some(1), Some(2)]));
    assert_eq!(items("collect_set"), ints(&[Some(1), Some(2)]));
    let empty = given("collect_list", vec![ints(&[None])], vec![], false);
    assert!(matches!(empty.once().unwrap(), S::List(list) if list.is_valid(0) && list.value(0).is_empty()));
    assert!(!empty.bound.nullable);
}

#[test]
fn percentiles_interpolate_from_either_end() {
    let values = ints(&[Some(1), Some(2), Some(3), Some(10)]);
    let ordered = |name: &str, share: f64, asc: bool| {
        let key = column(0, &DataType::Int32);
        let sort = Sort { expr: key.expr.clone(), asc, nulls_first: asc };
        let bound = bind(name, vec![Typed::literal(S::Float64(Some(share)))], false, vec![(key, sort)]).unwrap();
        Given { columns: vec![values.clone()], bound }
    };
    for (name, share, asc, wanted) in [
        ("percentile_cont", 0.25, false, 4.75),
        ("percentile_disc", 0.25, false, 10.0),
        ("percentile_cont", 0.25, true, 1.75),
        ("percentile_disc", 0.5, true, 2.0),
    ] {
        check(&ordered(name, share, asc), name, Ok(S::Float64(Some(wanted))));
    }
    check(&given("median", vec![values.clone()], vec![], false), "median", Ok(S::Float64(Some(2.5))));
    check(&given("percentile", vec![values], vec![S::Decimal128(Some(5), 1, 1)], false), "percentile", Ok(S::Float64(Some(2.5))));
}

#[test]
fn calls_of_wrong_types_are_refused_with_databricks_classes() {
    let class = |r: Result<BoundAggregate>| r.err().and_then(|e| e.class().map(str::to_owned)).unwrap_or_default();
    assert_eq!(class(bind("avg", vec![column(0, &DataType::Date32)], false, vec![])), "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE");
    let map = types::map(DataType::Utf8, DataType::Int32);
    assert_eq!(class(bind("max", vec![column(0, &map)], false, vec![])), "DATATYPE_MISMATCH.INVALID_ORDERING_TYPE");
    assert_eq!(class(bind("sum", vec![], false, vec![])), "WRONG_NUM_ARGS.WITHOUT_SUGGESTION");
    let share = Typed::literal(S::Float64(Some(1.5)));
    assert_eq!(class(bind("percentile", vec![column(0, &DataType::Int32), share], false, vec![])), "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE");
}
