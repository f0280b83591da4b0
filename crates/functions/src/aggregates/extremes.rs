//! `min` and `max` of FLOAT and DOUBLE. NaN is greatest: DataFusion's own accumulators for groups
//! and moving frames compare it with nothing, and leave it out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

pub(super) fn accumulator(max: bool, ty: &DataType) -> Box<dyn Accumulator> {
    match ty {
        DataType::Float32 => Box::new(One::<Float32Type> { max, best: None }),
        _ => Box::new(One::<Float64Type> { max, best: None }),
    }
}

pub(super) fn groups(max: bool, ty: &DataType) -> Box<dyn GroupsAccumulator> {
    match ty {
        DataType::Float32 => Box::new(Groups::<Float32Type> { max, best: Vec::new() }),
        _ => Box::new(Groups::<Float64Type> { max, best: Vec::new() }),
    }
}

/// The better of two values; of equal ones the first. NaN equals NaN, and zeros are equal.
fn better<F: Copy + Into<f64>>(max: bool, have: Option<F>, new: F) -> F {
    let Some(have) = have else { return new };
    let (old, candidate): (f64, f64) = (have.into(), new.into());
    let wins = match (old.is_nan(), candidate.is_nan()) {
        (true, true) => false,
        (false, true) => max,
        (true, false) => !max,
        (false, false) => (max && candidate > old) || (!max && candidate < old),
    };
    if wins { new } else { have }
}

#[derive(Debug)]
struct One<T: ArrowPrimitiveType> {
    max: bool,
    best: Option<T::Native>,
}

impl<T> Accumulator for One<T>
where
    T: ArrowPrimitiveType + std::fmt::Debug + Send + Sync,
    T::Native: Into<f64>,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        for value in values[0].as_primitive::<T>().iter().flatten() {
            self.best = Some(better(self.max, self.best, value));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let array: ArrayRef = Arc::new(PrimitiveArray::<T>::from_iter([self.best]));
        ScalarValue::try_from_array(&array, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.update_batch(states)
    }
}

#[derive(Debug)]
struct Groups<T: ArrowPrimitiveType> {
    max: bool,
    best: Vec<Option<T::Native>>,
}

impl<T> GroupsAccumulator for Groups<T>
where
    T: ArrowPrimitiveType + std::fmt::Debug + Send + Sync,
    T::Native: Into<f64>,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DfResult<()> {
        self.best.resize(total_num_groups, None);
        for (row, (value, group)) in values[0].as_primitive::<T>().iter().zip(group_indices).enumerate() {
            if let Some(value) = value
                && opt_filter.is_none_or(|f| f.is_valid(row) && f.value(row))
            {
                self.best[*group] = Some(better(self.max, self.best[*group], value));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        Ok(Arc::new(PrimitiveArray::<T>::from_iter(emit_to.take_needed(&mut self.best))))
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> DfResult<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let Some(filter) = opt_filter else { return Ok(vec![values[0].clone()]) };
        let kept = values[0].as_primitive::<T>().iter().enumerate();
        let kept = kept.map(|(row, value)| value.filter(|_| filter.is_valid(row) && filter.value(row)));
        Ok(vec![Arc::new(PrimitiveArray::<T>::from_iter(kept))])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.best.capacity() * size_of::<Option<T::Native>>()
    }
}
