//! `sum` and `avg`. Integers, decimals and intervals are added up exactly in 128 bits and checked
//! once at the end; floats are added in the order they come.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, PrimitiveBuilder};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalYearMonthType, i256,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use flightpath_types::{Error, Result};

use super::udaf::external;
use crate::cast::{Mode, in_precision, power_of_ten};
use crate::{errors, types};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finish {
    average: bool,
    mode: Mode,
}

impl Finish {
    pub(super) fn sum(mode: Mode) -> Self {
        Self { average: false, mode }
    }

    pub(super) fn avg(mode: Mode) -> Self {
        Self { average: true, mode }
    }
}

pub(super) fn accumulator(finish: Finish, args: &[DataType], ret: &DataType) -> Box<dyn Accumulator> {
    let input = args.first().cloned().unwrap_or(DataType::Null);
    let plan = Plan { finish, ret: ret.clone(), input };
    if types::is_float(&plan.input) { Box::new(Running::<f64>::new(plan)) } else { Box::new(Running::<i128>::new(plan)) }
}

pub(super) fn groups(finish: Finish, args: &[DataType], ret: &DataType) -> Box<dyn GroupsAccumulator> {
    let input = args.first().cloned().unwrap_or(DataType::Null);
    let plan = Plan { finish, ret: ret.clone(), input };
    if types::is_float(&plan.input) { Box::new(Groups::<f64>::new(plan)) } else { Box::new(Groups::<i128>::new(plan)) }
}

/// The total so far and how many values went into it.
pub(super) fn state_fields(args: &[DataType]) -> Vec<Field> {
    let total = match args.first() {
        Some(ty) if types::is_float(ty) => DataType::Float64,
        // 128 bits without regard to digits.
        _ => DataType::Decimal128(types::MAX_PRECISION, 0),
    };
    vec![Field::new("", total, true), Field::new("", DataType::Int64, true)]
}

#[derive(Debug, Clone)]
struct Plan {
    finish: Finish,
    ret: DataType,
    input: DataType,
}

/// Marks a total that left 128 bits: no total is this small otherwise.
const LOST: i128 = i128::MIN;

trait Total: Copy + Default + Send + Sync + std::fmt::Debug + 'static {
    type State: ArrowPrimitiveType<Native = Self>;
    const RETRACTS: bool;
    fn add(&mut self, other: Self);
    fn subtract(&mut self, other: Self);
    /// Each value that is there, by row.
    fn each(array: &ArrayRef, f: impl FnMut(usize, Self)) -> Result<()>;
    fn finish(self, count: i64, plan: &Plan) -> Result<Option<Finished>>;
}

enum Finished {
    Exact(i128),
    Float(f64),
}

fn rows<T: ArrowPrimitiveType, V>(array: &ArrayRef, convert: impl Fn(T::Native) -> V, mut f: impl FnMut(usize, V)) {
    let array = array.as_primitive::<T>();
    match array.nulls().filter(|n| n.null_count() > 0) {
        None => array.values().iter().enumerate().for_each(|(row, v)| f(row, convert(*v))),
        Some(nulls) => nulls.valid_indices().for_each(|row| f(row, convert(array.value(row)))),
    }
}

fn unexpected(array: &ArrayRef) -> Error {
    Error::internal(format!("sum of values of type {}", array.data_type()))
}

impl Total for i128 {
    type State = Decimal128Type;
    const RETRACTS: bool = true;

    #[inline]
    fn add(&mut self, other: Self) {
        match self.checked_add(other) {
            Some(sum) if *self != LOST && other != LOST => *self = sum,
            _ => *self = LOST,
        }
    }

    fn subtract(&mut self, other: Self) {
        match self.checked_sub(other) {
            Some(sum) if *self != LOST => *self = sum,
            _ => *self = LOST,
        }
    }

    fn each(array: &ArrayRef, f: impl FnMut(usize, Self)) -> Result<()> {
        match array.data_type() {
            DataType::Int8 => rows::<Int8Type, _>(array, i128::from, f),
            DataType::Int16 => rows::<Int16Type, _>(array, i128::from, f),
            DataType::Int32 => rows::<Int32Type, _>(array, i128::from, f),
            DataType::Int64 => rows::<Int64Type, _>(array, i128::from, f),
            DataType::Decimal128(..) => rows::<Decimal128Type, _>(array, |v| v, f),
            DataType::Interval(_) => rows::<IntervalYearMonthType, _>(array, i128::from, f),
            DataType::Duration(_) => rows::<DurationMicrosecondType, _>(array, i128::from, f),
            DataType::Null => {}
            _ => return Err(unexpected(array)),
        }
        Ok(())
    }

    fn finish(self, count: i64, plan: &Plan) -> Result<Option<Finished>> {
        if count == 0 {
            return Ok(None);
        }
        let value = if plan.finish.average { average(self, count, plan) } else { Some(self).filter(|v| *v != LOST) };
        match (value.filter(|v| fits(*v, &plan.ret)), plan.finish.mode) {
            (Some(value), _) => Ok(Some(Finished::Exact(value))),
            (None, Mode::Try) => Ok(None),
            (None, Mode::Ansi) if types::is_interval(&plan.ret) => Err(errors::interval_overflow()),
            (None, Mode::Ansi) => Err(errors::arithmetic_overflow(&types::name(&plan.ret))),
        }
    }
}

/// HALF_UP to the result's scale. The sum itself must be one that `sum` could return.
fn average(total: i128, count: i64, plan: &Plan) -> Option<i128> {
    let shift = match (&plan.input, &plan.ret) {
        (DataType::Decimal128(p, s), DataType::Decimal128(_, to)) => {
            let (sum_precision, _) = types::decimal::bounded(i32::from(*p) + 10, i32::from(*s));
            if total == LOST || !in_precision(total, sum_precision) {
                return None;
            }
            to - s
        }
        _ => 0,
    };
    if total == LOST {
        return None;
    }
    let scaled = i256::from_i128(total).checked_mul(i256::from_i128(power_of_ten(shift)?))?;
    let count = i256::from_i128(i128::from(count));
    let (quotient, rest) = (scaled.checked_div(count)?, scaled.checked_rem(count)?.checked_abs()?);
    let rounded = if rest >= count.checked_sub(rest)? { quotient.checked_add(scaled.signum())? } else { quotient };
    rounded.to_i128()
}

fn fits(value: i128, ty: &DataType) -> bool {
    match ty {
        DataType::Decimal128(p, _) => in_precision(value, *p),
        DataType::Interval(_) => i32::try_from(value).is_ok(),
        _ => i64::try_from(value).is_ok(),
    }
}

impl Total for f64 {
    type State = Float64Type;
    const RETRACTS: bool = false;

    #[inline]
    fn add(&mut self, other: Self) {
        *self += other;
    }

    fn subtract(&mut self, _: Self) {
        // Never asked for: `RETRACTS` is false.
        *self = f64::NAN;
    }

    fn each(array: &ArrayRef, f: impl FnMut(usize, Self)) -> Result<()> {
        match array.data_type() {
            DataType::Float32 => rows::<Float32Type, _>(array, f64::from, f),
            DataType::Float64 => rows::<Float64Type, _>(array, |v| v, f),
            _ => return Err(unexpected(array)),
        }
        Ok(())
    }

    fn finish(self, count: i64, plan: &Plan) -> Result<Option<Finished>> {
        if count == 0 {
            return Ok(None);
        }
        let value = if plan.finish.average { self / count as f64 } else { self };
        Ok(Some(Finished::Float(if value.is_nan() { f64::NAN } else { value })))
    }
}

/// Results as an array of the promised type.
fn results(values: Vec<Option<Finished>>, ret: &DataType) -> Result<ArrayRef> {
    fn build<T: ArrowPrimitiveType>(
        values: Vec<Option<Finished>>,
        ret: &DataType,
        convert: impl Fn(Finished) -> Option<T::Native>,
    ) -> ArrayRef {
        let mut out = PrimitiveBuilder::<T>::with_capacity(values.len());
        for value in values {
            out.append_option(value.and_then(&convert));
        }
        Arc::new(out.finish().with_data_type(ret.clone()))
    }
    let exact = |v: Finished| match v {
        Finished::Exact(v) => v,
        Finished::Float(v) => v as i128,
    };
    Ok(match ret {
        DataType::Int64 => build::<Int64Type>(values, ret, |v| i64::try_from(exact(v)).ok()),
        DataType::Decimal128(..) => build::<Decimal128Type>(values, ret, |v| Some(exact(v))),
        DataType::Interval(_) => build::<IntervalYearMonthType>(values, ret, |v| i32::try_from(exact(v)).ok()),
        DataType::Duration(_) => build::<DurationMicrosecondType>(values, ret, |v| i64::try_from(exact(v)).ok()),
        DataType::Float64 => build::<Float64Type>(values, ret, |v| match v {
            Finished::Float(v) => Some(v),
            Finished::Exact(v) => Some(v as f64),
        }),
        other => return Err(Error::internal(format!("sum returns {other}"))),
    })
}

#[derive(Debug)]
struct Running<T: Total> {
    plan: Plan,
    total: T,
    count: i64,
}

impl<T: Total> Running<T> {
    fn new(plan: Plan) -> Self {
        Self { plan, total: T::default(), count: 0 }
    }
}

impl<T: Total> Accumulator for Running<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let (mut total, mut count) = (self.total, self.count);
        T::each(&values[0], |_, v| {
            total.add(v);
            count += 1;
        })
        .map_err(external)?;
        (self.total, self.count) = (total, count);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let (mut total, mut count) = (self.total, self.count);
        T::each(&values[0], |_, v| {
            total.subtract(v);
            count -= 1;
        })
        .map_err(external)?;
        (self.total, self.count) = (total, count);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        T::RETRACTS
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let finished = self.total.finish(self.count, &self.plan).map_err(external)?;
        let array = results(vec![finished], &self.plan.ret).map_err(external)?;
        ScalarValue::try_from_array(&array, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let total = PrimitiveArray::<T::State>::from_iter_values([self.total]);
        let total: ArrayRef = Arc::new(total.with_data_type(state_type::<T>()));
        Ok(vec![ScalarValue::try_from_array(&total, 0)?, ScalarValue::Int64(Some(self.count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let totals = states[0].as_primitive::<T::State>();
        let counts = states[1].as_primitive::<Int64Type>();
        for row in 0..totals.len() {
            if totals.is_valid(row) && counts.is_valid(row) {
                self.total.add(totals.value(row));
                self.count += counts.value(row);
            }
        }
        Ok(())
    }
}

fn state_type<T: Total>() -> DataType {
    match T::State::DATA_TYPE {
        DataType::Decimal128(..) => DataType::Decimal128(types::MAX_PRECISION, 0),
        other => other,
    }
}

#[derive(Debug)]
struct Groups<T: Total> {
    plan: Plan,
    totals: Vec<T>,
    counts: Vec<i64>,
}

impl<T: Total> Groups<T> {
    fn new(plan: Plan) -> Self {
        Self { plan, totals: Vec::new(), counts: Vec::new() }
    }

    fn resize(&mut self, groups: usize) {
        self.totals.resize(groups, T::default());
        self.counts.resize(groups, 0);
    }
}

impl<T: Total> GroupsAccumulator for Groups<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DfResult<()> {
        self.resize(total_num_groups);
        let (totals, counts) = (&mut self.totals, &mut self.counts);
        let mut add = |row: usize, v: T| {
            let group = group_indices[row];
            totals[group].add(v);
            counts[group] += 1;
        };
        match opt_filter {
            None => T::each(&values[0], add),
            Some(filter) => T::each(&values[0], |row, v| {
                if filter.is_valid(row) && filter.value(row) {
                    add(row, v);
                }
            }),
        }
        .map_err(external)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let (totals, counts) = (emit_to.take_needed(&mut self.totals), emit_to.take_needed(&mut self.counts));
        let finished: Result<Vec<Option<Finished>>> = totals.into_iter().zip(counts).map(|(t, c)| t.finish(c, &self.plan)).collect();
        finished.and_then(|values| results(values, &self.plan.ret)).map_err(external)
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let (totals, counts) = (emit_to.take_needed(&mut self.totals), emit_to.take_needed(&mut self.counts));
        let totals = PrimitiveArray::<T::State>::from_iter_values(totals).with_data_type(state_type::<T>());
        Ok(vec![Arc::new(totals), Arc::new(PrimitiveArray::<Int64Type>::from(counts))])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> DfResult<()> {
        self.resize(total_num_groups);
        let totals = values[0].as_primitive::<T::State>();
        let counts = values[1].as_primitive::<Int64Type>();
        for (row, group) in group_indices.iter().enumerate() {
            if totals.is_valid(row) && counts.is_valid(row) {
                self.totals[*group].add(totals.value(row));
                self.counts[*group] += counts.value(row);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let len = values[0].len();
        let mut totals = vec![T::default(); len];
        let mut counts = vec![0_i64; len];
        T::each(&values[0], |row, v| {
            if opt_filter.is_none_or(|f| f.is_valid(row) && f.value(row)) {
                totals[row] = v;
                counts[row] = 1;
            }
        })
        .map_err(external)?;
        let totals = PrimitiveArray::<T::State>::from_iter_values(totals).with_data_type(state_type::<T>());
        Ok(vec![Arc::new(totals), Arc::new(PrimitiveArray::<Int64Type>::from(counts))])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.totals.capacity() * size_of::<T>() + self.counts.capacity() * size_of::<i64>()
    }
}
