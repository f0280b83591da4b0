//! `array_sort` by a comparison of the query's own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type};
use flightpath_types::{Error, Result};

use super::arrays::{element_of, higher, list_at};
use super::{HigherInvocation, Lambda, Parameter};
use crate::cast::implicit_cast;
use crate::def::{BindContext, FunctionDef, Typed};
use crate::nested::{Gather, element, range};
use crate::rows::internal;
use crate::sig;

/// `array_sort(a)` has a row of its own.
pub const ARRAY_SORT_BY: &str = "array_sort by a comparison";

fn parameters(_: &BindContext, values: &[Typed], _: &[Lambda]) -> Result<(Vec<Parameter>, usize)> {
    let item = element_of("array_sort", values, 0)?;
    Ok((vec![item.clone(), item], 2))
}

fn finish(ctx: &BindContext, values: &[Typed], lambdas: &mut [Lambda]) -> Result<(DataType, bool)> {
    match lambdas[0].ty {
        DataType::Int32 => {}
        DataType::Null => {
            let cast = implicit_cast(ctx, lambdas[0].typed(), &DataType::Int32)?;
            lambdas[0].replace(cast);
        }
        _ => return Err(sig::unexpected_input("array_sort", 1, "INT", &lambdas[0].ty)),
    }
    Ok((values[0].ty.clone(), values[0].nullable))
}

/// One array on its way to being sorted: a run from the front, then each element inserted into it
/// by binary search. Equal elements keep their order, and each comparison is asked for by itself, so
/// that those of all arrays are answered together.
struct Sorting {
    /// Elements by their place in the array; those before `done` are sorted.
    order: Vec<usize>,
    done: usize,
    run: Run,
    low: usize,
    high: usize,
}

/// How the elements in front go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Unknown,
    Ascending,
    Descending,
    Ended,
}

impl Sorting {
    fn new(len: usize) -> Self {
        Self { order: (0..len).collect(), done: 1, run: Run::Unknown, low: 0, high: 1 }
    }

    /// The elements to compare next; `None` when sorted.
    fn question(&self) -> Option<(usize, usize)> {
        if self.done >= self.order.len() {
            return None;
        }
        let pivot = self.order[self.done];
        Some(match self.run {
            Run::Ended => (pivot, self.order[(self.low + self.high) / 2]),
            Run::Unknown | Run::Ascending | Run::Descending => (pivot, self.order[self.done - 1]),
        })
    }

    fn answer(&mut self, comparison: i32) {
        if self.run != Run::Ended {
            let descends = comparison < 0;
            let goes_on = match self.run {
                Run::Unknown => {
                    self.run = if descends { Run::Descending } else { Run::Ascending };
                    true
                }
                Run::Ascending => !descends,
                Run::Descending | Run::Ended => descends,
            };
            if goes_on {
                self.done += 1;
            }
            if !goes_on || self.done == self.order.len() {
                if self.run == Run::Descending {
                    self.order[..self.done].reverse();
                }
                self.run = Run::Ended;
                (self.low, self.high) = (0, self.done);
            }
            return;
        }
        let middle = (self.low + self.high) / 2;
        if comparison < 0 {
            self.high = middle
        } else {
            self.low = middle + 1
        }
        if self.low == self.high {
            self.order[self.low..=self.done].rotate_right(1);
            self.done += 1;
            (self.low, self.high) = (0, self.done);
        }
    }
}

fn sort(call: &HigherInvocation<'_>) -> Result<ArrayRef> {
    let list = list_at(call, 0)?;
    let ranges: Vec<_> = (0..list.len()).map(|row| range(&list, row)).collect();
    let mut sortings: Vec<Sorting> = ranges.iter().map(|r| Sorting::new(r.as_ref().map_or(0, |r| r.len()))).collect();
    loop {
        let (mut owners, mut lefts, mut rights) = (Vec::new(), Vec::new(), Vec::new());
        for (row, sorting) in sortings.iter().enumerate() {
            if let (Some((left, right)), Some(range)) = (sorting.question(), &ranges[row]) {
                owners.push(row as u32);
                lefts.push((range.start + left) as u32);
                rights.push((range.start + right) as u32);
            }
        }
        if owners.is_empty() {
            break;
        }
        let side = |positions: Vec<u32>| take(list.values(), &UInt32Array::from(positions), None).map_err(internal);
        let compared = call.apply(0, &[side(lefts)?, side(rights)?], &owners)?;
        let compared = compared.as_primitive::<Int32Type>();
        for (i, row) in owners.iter().enumerate() {
            if compared.is_null(i) {
                return Err(Error::raised(
                    "COMPARATOR_RETURNS_NULL",
                    "22004",
                    "The comparator has returned a NULL for a comparison. It should return a positive integer for \"greater than\", 0 for \"equal\" and a negative integer for \"less than\".",
                ));
            }
            sortings[*row as usize].answer(compared.value(i));
        }
    }
    let (item, _) = element(call.ret()).ok_or_else(|| Error::internal("array_sort() without an element type"))?;
    let mut out = Gather::new(item, &[Arc::clone(list.values())])?;
    for (sorting, range) in sortings.iter().zip(&ranges) {
        match range {
            Some(range) => {
                sorting.order.iter().for_each(|i| out.push(0, range.start + i));
                out.end_row()?;
            }
            None => out.null_row()?,
        }
    }
    out.finish(call.ret())
}

pub(crate) static SORT: &[FunctionDef] =
    &[higher!("array_sort by a comparison", [], 1 values, 1 to 1, parameters: parameters, finish: finish,
        eval: sort, duckdb: |_| Err("sorting by a comparison isn't known on DuckDB".into()), raises: true, proof: "nested-004")];
