//! Aggregates over all values of a group at once: percentiles, `mode`, `collect_list`, `listagg`.
//! They keep the group's rows and compute when asked.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, PrimitiveArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{SortOptions, cast, concat, is_not_null, sort};
use arrow::datatypes::{DataType, Decimal128Type, DurationMicrosecondType, Field, Float64Type, Int64Type, IntervalYearMonthType};
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::Accumulator;
use flightpath_types::Error;

use super::udaf::{filtered, rows_to_state, state_to_rows, taken};
use crate::cast::decimal_to_double;

/// Shares of 1, by their bits, so that a plan with them can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shares {
    pub bits: Vec<u64>,
    /// The result is an array.
    pub many: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Collect {
    /// Rows `(value, share [, frequency])`.
    Percentile { shares: Shares, descending: bool, discrete: bool },
    /// Values themselves at given shares: rows `(value, share, accuracy)`.
    Nth { shares: Shares },
    /// The most frequent value; of several the least, or the greatest.
    Mode { greatest: bool },
    /// `collect_list`, and `collect_set` with `distinct`: rows `(value, key...)`, in the order of the keys.
    List { distinct: bool, keys: Vec<Key> },
    /// Rows `(text, separator, key...)`: texts with a separator, in the order of the keys.
    Text { separator: String, keys: Vec<Key> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Debug)]
pub(super) struct Collected {
    collect: Collect,
    types: Vec<DataType>,
    ret: DataType,
    chunks: Vec<Vec<ArrayRef>>,
}

/// Chunks are put together when there are this many, so that many small batches stay cheap.
const CHUNKS_MAX: usize = 64;

impl Collected {
    pub(super) fn new(collect: Collect, types: Vec<DataType>, ret: DataType) -> Self {
        Self { collect, types, ret, chunks: Vec::new() }
    }

    fn add(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        if *values[0].data_type() == DataType::Null {
            return Ok(());
        }
        let keep = is_not_null(&values[0])?;
        let values = if keep.true_count() == keep.len() { values.to_vec() } else { filtered(values, &keep)? };
        if values[0].is_empty() {
            return Ok(());
        }
        self.chunks.push(values);
        if self.chunks.len() >= CHUNKS_MAX {
            let all = self.all()?;
            self.chunks = vec![all];
        }
        Ok(())
    }

    fn all(&self) -> DfResult<Vec<ArrayRef>> {
        (0..self.types.len())
            .map(|i| {
                let parts: Vec<&dyn Array> = self.chunks.iter().map(|c| c[i].as_ref()).collect();
                if parts.is_empty() {
                    Ok(arrow::array::new_empty_array(&self.types[i]))
                } else {
                    concat(&parts).map_err(DataFusionError::from)
                }
            })
            .collect()
    }
}

impl Accumulator for Collected {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.add(values)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let rows = self.all()?;
        match &self.collect {
            Collect::Percentile { shares, descending, discrete } => percentile(&rows, shares, *descending, *discrete, &self.ret),
            Collect::Nth { shares } => nth(&rows[0], shares, &self.ret),
            Collect::Mode { greatest } => mode(&rows[0], *greatest, &self.ret),
            Collect::List { distinct, keys } => list(&rows, *distinct, keys, &self.ret),
            Collect::Text { separator, keys } => text(&rows, separator, keys),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.chunks.iter().flatten().map(|a| a.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![rows_to_state(&self.types, self.all()?)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        for rows in state_to_rows(&states[0])? {
            self.add(&rows)?;
        }
        Ok(())
    }
}

/// Numbers as doubles; intervals as their months or microseconds.
fn doubles(values: &ArrayRef) -> DfResult<Vec<f64>> {
    Ok(match values.data_type() {
        DataType::Decimal128(_, s) => values.as_primitive::<Decimal128Type>().values().iter().map(|v| decimal_to_double(*v, *s)).collect(),
        DataType::Interval(_) => values.as_primitive::<IntervalYearMonthType>().values().iter().map(|v| f64::from(*v)).collect(),
        DataType::Duration(_) => values.as_primitive::<DurationMicrosecondType>().values().iter().map(|v| *v as f64).collect(),
        _ => cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().values().to_vec(),
    })
}

/// NaN is the greatest.
fn order(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

fn percentile(rows: &[ArrayRef], shares: &Shares, descending: bool, discrete: bool, ret: &DataType) -> DfResult<ScalarValue> {
    let mut values = doubles(&rows[0])?;
    if let Some(frequencies) = rows.get(2).filter(|f| *f.data_type() == DataType::Int64) {
        let frequencies: &Int64Array = frequencies.as_primitive::<Int64Type>();
        if let Some(negative) = frequencies.iter().flatten().find(|n| *n < 0) {
            let message = format!("Negative values found in the frequency expression of percentile: {negative}.");
            return Err(DataFusionError::External(Box::new(Error::raised("NEGATIVE_VALUES_IN_FREQUENCY_EXPRESSION", "22003", message))));
        }
        let repeated =
            values.iter().zip(frequencies.iter()).flat_map(|(v, n)| std::iter::repeat_n(*v, usize::try_from(n.unwrap_or(0)).unwrap_or(0)));
        values = repeated.collect();
    }
    if values.is_empty() {
        return ScalarValue::try_from(ret);
    }
    values.sort_unstable_by(|a, b| if descending { order(*b, *a) } else { order(*a, *b) });
    let at = |share: f64| if discrete { discrete_at(&values, share) } else { interpolated_at(&values, share) };
    let results: Vec<f64> = shares.bits.iter().map(|b| at(f64::from_bits(*b))).collect();
    if shares.many {
        let DataType::List(item) = ret else { return Err(DataFusionError::Internal("percentiles are an array".into())) };
        let lengths = OffsetBuffer::from_lengths([results.len()]);
        let items: ArrayRef = match item.data_type() {
            DataType::Interval(_) => Arc::new(results.iter().map(|r| Some(*r as i32)).collect::<PrimitiveArray<IntervalYearMonthType>>()),
            DataType::Duration(_) => Arc::new(results.iter().map(|r| Some(*r as i64)).collect::<PrimitiveArray<DurationMicrosecondType>>()),
            _ => Arc::new(Float64Array::from(results)),
        };
        let made = ListArray::try_new(item.clone(), lengths, items, None)?;
        return Ok(ScalarValue::List(Arc::new(made)));
    }
    let result = results[0];
    Ok(match ret {
        // What is between two intervals is cut.
        DataType::Interval(_) => ScalarValue::IntervalYearMonth(Some(result as i32)),
        DataType::Duration(_) => ScalarValue::DurationMicrosecond(Some(result as i64)),
        _ => ScalarValue::Float64(Some(result)),
    })
}

fn interpolated_at(sorted: &[f64], share: f64) -> f64 {
    let position = (sorted.len() - 1) as f64 * share;
    let (lower, higher) = (position.floor(), position.ceil());
    let (low, high) = (sorted[lower as usize], sorted[higher as usize]);
    if lower == higher || low == high { low } else { (higher - position) * low + (position - lower) * high }
}

fn discrete_at(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.saturating_sub(1).min(sorted.len() - 1)]
}

/// The first value that is not less than the given share of all.
fn nth(values: &ArrayRef, shares: &Shares, ret: &DataType) -> DfResult<ScalarValue> {
    if values.is_empty() {
        return ScalarValue::try_from(ret);
    }
    let sorted = sort(values, None)?;
    let rank = |bits: &u64| (sorted.len() as f64 * f64::from_bits(*bits)).ceil() as usize;
    let picked: Vec<u32> = shares.bits.iter().map(|b| rank(b).saturating_sub(1).min(sorted.len() - 1) as u32).collect();
    let picked = taken(std::slice::from_ref(&sorted), &picked)?.remove(0);
    if shares.many { list(std::slice::from_ref(&picked), false, &[], ret) } else { ScalarValue::try_from_array(&picked, 0) }
}

fn mode(values: &ArrayRef, greatest: bool, ret: &DataType) -> DfResult<ScalarValue> {
    if values.is_empty() {
        return ScalarValue::try_from(ret);
    }
    let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(values))?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
    let mut best = (0, order[0]);
    for run in order.chunk_by(|a, b| rows.row(*a) == rows.row(*b)) {
        if run.len() > best.0 || (greatest && run.len() == best.0) {
            best = (run.len(), run[0]);
        }
    }
    ScalarValue::try_from_array(values, best.1)
}

fn list(rows: &[ArrayRef], distinct: bool, keys: &[Key], ret: &DataType) -> DfResult<ScalarValue> {
    let values = &rows[0];
    let values = if !keys.is_empty() && !values.is_empty() {
        let order: Vec<u32> = in_order(values.len(), keys, &rows[1..=keys.len()])?.into_iter().map(|i| i as u32).collect();
        taken(std::slice::from_ref(values), &order)?.remove(0)
    } else if distinct && !values.is_empty() {
        let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
        let rows = converter.convert_columns(std::slice::from_ref(values))?;
        let mut seen = std::collections::HashSet::new();
        let kept: Vec<u32> = (0..values.len()).filter(|i| seen.insert(rows.row(*i))).map(|i| i as u32).collect();
        taken(std::slice::from_ref(values), &kept)?.remove(0)
    } else {
        values.clone()
    };
    let DataType::List(item) = ret else { return Err(DataFusionError::Internal("a list is an array".into())) };
    let made = ListArray::try_new(item.clone(), OffsetBuffer::from_lengths([values.len()]), values, None)?;
    Ok(ScalarValue::List(Arc::new(made)))
}

/// The rows by their keys; equal ones as they came.
fn in_order(rows: usize, keys: &[Key], columns: &[ArrayRef]) -> DfResult<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows).collect();
    if !keys.is_empty() {
        let fields = keys.iter().zip(columns).map(|(k, c)| {
            SortField::new_with_options(c.data_type().clone(), SortOptions { descending: k.descending, nulls_first: k.nulls_first })
        });
        let converter = RowConverter::new(fields.collect())?;
        let sortable = converter.convert_columns(columns)?;
        order.sort_by(|a, b| sortable.row(*a).cmp(&sortable.row(*b)));
    }
    Ok(order)
}

fn text(rows: &[ArrayRef], separator: &str, keys: &[Key]) -> DfResult<ScalarValue> {
    let texts: &StringArray = rows[0].as_string::<i32>();
    if texts.is_empty() {
        return Ok(ScalarValue::Utf8(None));
    }
    let order = in_order(texts.len(), keys, &rows[2..2 + keys.len()])?;
    let parts: Vec<&str> = order.into_iter().map(|i| texts.value(i)).collect();
    Ok(ScalarValue::Utf8(Some(parts.join(separator))))
}

/// The type of a collected list: its NULLs are dropped.
pub(super) fn list_type(element: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element.clone(), false)))
}
