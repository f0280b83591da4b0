//! Aggregates that pick one row: `first`, `last`, `any_value`, `max_by`, `min_by`.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{SortOptions, is_not_null};
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Accumulator;

use super::udaf::filtered;

/// The first or last value, with or without NULLs.
#[derive(Debug)]
pub(super) struct Edge {
    last: bool,
    ignore_nulls: bool,
    ty: DataType,
    value: Option<ScalarValue>,
}

impl Edge {
    pub(super) fn new(last: bool, ignore_nulls: bool, ty: DataType) -> Self {
        Self { last, ignore_nulls, ty, value: None }
    }

    fn take(&mut self, values: &ArrayRef) -> DfResult<()> {
        if values.is_empty() || (!self.last && self.value.is_some()) {
            return Ok(());
        }
        let counts = |row: &usize| !self.ignore_nulls || values.is_valid(*row);
        let row = if self.last { (0..values.len()).rev().find(counts) } else { (0..values.len()).find(counts) };
        if let Some(row) = row {
            self.value = Some(compacted(ScalarValue::try_from_array(values, row)?));
        }
        Ok(())
    }
}

/// Nested values hold a slice of their whole batch otherwise.
fn compacted(mut value: ScalarValue) -> ScalarValue {
    value.compact();
    value
}

impl Accumulator for Edge {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.take(&values[0])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        match &self.value {
            Some(value) => Ok(value.clone()),
            None => ScalarValue::try_from(&self.ty),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.as_ref().map_or(0, ScalarValue::size)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let seen = self.value.is_some();
        Ok(vec![self.evaluate()?, ScalarValue::Boolean(Some(seen))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let seen = states[1].as_boolean();
        let values = filtered(&states[..1], seen)?;
        self.take(&values[0])
    }
}

/// The value beside the greatest or least key. Rows without a key don't count; of equal keys the
/// last wins.
#[derive(Debug)]
pub(super) struct ByKey {
    max: bool,
    value_type: DataType,
    key_type: DataType,
    best: Option<(OwnedRow, ScalarValue, ScalarValue)>,
}

impl ByKey {
    pub(super) fn new(max: bool, value_type: DataType, key_type: DataType) -> Self {
        Self { max, value_type, key_type, best: None }
    }

    fn take(&mut self, values: &ArrayRef, keys: &ArrayRef) -> DfResult<()> {
        // NULLs inside of arrays and structs are the least.
        let options = SortOptions { descending: !self.max, nulls_first: self.max };
        let converter = RowConverter::new(vec![SortField::new_with_options(self.key_type.clone(), options)])?;
        let rows = converter.convert_columns(std::slice::from_ref(keys))?;
        let mut best: Option<usize> = None;
        for row in (0..keys.len()).filter(|row| keys.is_valid(*row)) {
            if best.is_none_or(|b| rows.row(row) >= rows.row(b)) {
                best = Some(row);
            }
        }
        let Some(row) = best else { return Ok(()) };
        let wins = self.best.as_ref().is_none_or(|(known, ..)| rows.row(row) >= known.row());
        if wins {
            let value = compacted(ScalarValue::try_from_array(values, row)?);
            let key = compacted(ScalarValue::try_from_array(keys, row)?);
            self.best = Some((rows.row(row).owned(), value, key));
        }
        Ok(())
    }
}

impl Accumulator for ByKey {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        if *values[1].data_type() == DataType::Null {
            return Ok(());
        }
        self.take(&values[0], &values[1])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        match &self.best {
            Some((_, value, _)) => Ok(value.clone()),
            None => ScalarValue::try_from(&self.value_type),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.best.as_ref().map_or(0, |(row, value, key)| row.row().as_ref().len() + value.size() + key.size())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let (value, key) = match &self.best {
            Some((_, value, key)) => (value.clone(), key.clone()),
            None => (ScalarValue::try_from(&self.value_type)?, ScalarValue::try_from(&self.key_type)?),
        };
        Ok(vec![value, key, ScalarValue::Boolean(Some(self.best.is_some()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        if *states[1].data_type() == DataType::Null {
            return Ok(());
        }
        let keep: BooleanArray = is_not_null(&states[1])?;
        let rows = filtered(&states[..2], &keep)?;
        self.take(&rows[0], &rows[1])
    }
}
