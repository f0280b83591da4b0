//! Rows that order an array's elements, or keep some of them: sorts, `reverse`, the greatest and the least,
//! `array_distinct`, `array_compact`.

use std::cmp::Ordering;
use std::collections::HashSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::Result;

use super::arrays::{bind_same, rebuild};
use super::combine::element;
use super::gather::{Gather, keys, range};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::rows::Frame;
use crate::sig::{self, P, mismatch, scalar};
use crate::strings::duck;
use crate::{order, types};

pub(crate) fn reverse_arrays(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    rebuild(invocation, |_, _, _, range, out| {
        range.rev().for_each(|i| out.push(0, i));
        Ok(())
    })
}

fn distinct(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let keys = keys(&[frame.array(0)?.as_list::<i32>().values().clone()])?;
    rebuild(invocation, |_, _, _, range, out| {
        let mut seen: HashSet<&[u8]> = HashSet::new();
        range.filter(|i| seen.insert(keys[0].row(*i).data())).for_each(|i| out.push(0, i));
        Ok(())
    })
}

fn compact(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    rebuild(invocation, |_, list, _, range, out| {
        // Elements of no type are NULL without a bitmap that says so.
        let untyped = *list.values().data_type() == DataType::Null;
        range.filter(|i| !untyped && list.values().is_valid(*i)).for_each(|i| out.push(0, i));
        Ok(())
    })
}

/// Ascending; NULLs first or last.
fn sort(invocation: &Invocation<'_>, nulls_last: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let ascending = if frame.len() > 1 { Some(frame.boolean(1)?.get(0).unwrap_or(true)) } else { None }.unwrap_or(true);
    let keys = keys(&[frame.array(0)?.as_list::<i32>().values().clone()])?;
    rebuild(invocation, |_, list, _, range, out| {
        let values = list.values();
        let mut order: Vec<usize> = range.collect();
        order.sort_by(|a, b| match (values.is_null(*a), values.is_null(*b)) {
            (true, true) => Ordering::Equal,
            (true, false) if nulls_last => Ordering::Greater,
            (false, true) if nulls_last => Ordering::Less,
            _ => {
                let natural = keys[0].row(*a).cmp(&keys[0].row(*b));
                if ascending { natural } else { natural.reverse() }
            }
        });
        order.into_iter().for_each(|i| out.push(0, i));
        Ok(())
    })
}

fn bind_sort_array(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    sig::arity("sort_array", args.len(), 1, Some(2))?;
    let order = if args.len() == 2 { Some(args.remove(1)) } else { None };
    let mut bound = bind_same(ctx, "sort_array", args, true)?;
    if let Some(order) = order {
        if order.as_literal().is_none() {
            return Err(mismatch("NON_FOLDABLE_INPUT", "sort_array", "the order must be a literal BOOLEAN"));
        }
        bound.args.push(sig::cast(ctx, "sort_array", 1, order, P::Bool)?);
    }
    Ok(bound)
}

/// The greatest or least element that isn't NULL.
fn extreme(invocation: &Invocation<'_>, wanted: Ordering) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let list = frame.array(0)?.as_list::<i32>();
    let keys = keys(&[list.values().clone()])?;
    let mut out = Gather::new(frame.ret(), &[list.values().clone()])?;
    for row in 0..frame.rows() {
        let mut best: Option<usize> = None;
        for i in range(list, frame.index(0, row)).into_iter().flatten().filter(|i| list.values().is_valid(*i)) {
            if best.is_none_or(|b| keys[0].row(i).cmp(&keys[0].row(b)) == wanted) {
                best = Some(i);
            }
        }
        match best {
            Some(i) => out.push(0, i),
            None => out.push_null(),
        }
    }
    frame.finish(out.values()?)
}

fn bind_extreme(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<Bound> {
    let mut bound = bind_same(ctx, name, args, true)?;
    bound.ret = element(&bound.ret).map_or(DataType::Null, |(item, _)| item.clone());
    bound.nullable = true;
    Ok(bound)
}

/// Whether the first argument's elements are simple values.
fn flat(c: &DuckCall<'_>) -> bool {
    element(&c.types[0]).is_some_and(|(item, _)| types::is_atomic(item))
}

fn extreme_duckdb(c: &DuckCall<'_>, name: &str, direction: &str) -> Result<String, String> {
    if flat(c) {
        return Ok(format!("{name}({})", c.args[0]));
    }
    let present = format!("list_filter({}, lambda fp_x: fp_x IS NOT NULL)", c.args[0]);
    Ok(format!("({})[1]", sorted_duckdb(c, &present, direction, false)?))
}

/// The list sorted; of simple elements by DuckDB's own order.
fn sorted_duckdb(c: &DuckCall<'_>, list: &str, direction: &str, nulls_first: bool) -> Result<String, String> {
    let (item, _) = element(&c.types[0]).ok_or("an array without an element type")?;
    if types::is_atomic(item) {
        return Ok(format!("list_sort({list}, '{direction}', 'NULLS {}')", if nulls_first { "FIRST" } else { "LAST" }));
    }
    order::sorted(item, list, direction, nulls_first)
}

/// Elements of `list` without those that stand further in front.
pub(super) fn distinct_duckdb(list: &str) -> String {
    duck::once(list, |l| format!("list_filter({l}, lambda fp_x, fp_i: list_position({l}, fp_x) = fp_i)"))
}

pub(crate) static SORT: &[FunctionDef] = &[
    scalar!("array_max", [], bind: |ctx, args| bind_extreme(ctx, "array_max", args), eval: |i| extreme(i, Ordering::Greater),
        duckdb: |c| extreme_duckdb(c, "list_max", "DESC"), proof: "nested-023, nested-028"),
    scalar!("array_min", [], bind: |ctx, args| bind_extreme(ctx, "array_min", args), eval: |i| extreme(i, Ordering::Less),
        duckdb: |c| extreme_duckdb(c, "list_min", "ASC"), proof: "nested-023, nested-028"),
    scalar!("array_distinct", [], bind: |ctx, args| bind_same(ctx, "array_distinct", args, true), eval: distinct,
        duckdb: |c| Ok(distinct_duckdb(&c.args[0])), proof: "nested-030, hard-043, slt: nested_order"),
    scalar!("array_compact", [],
        bind: |ctx, args| { let mut b = bind_same(ctx, "array_compact", args, false)?; if let Some((item, _)) = element(&b.ret) { b.ret = types::array(item.clone(), false); } Ok(b) },
        eval: compact, duckdb: |c| Ok(format!("list_filter({}, lambda fp_x: fp_x IS NOT NULL)", c.args[0])), proof: "nested-030, hard-076"),
    scalar!("sort_array", [], bind: bind_sort_array, eval: |i| sort(i, false),
        duckdb: |c| match c.literals.get(1) {
            None => sorted_duckdb(c, &c.args[0], "ASC", true),
            Some(Some(datafusion::common::ScalarValue::Boolean(Some(true)))) => sorted_duckdb(c, &c.args[0], "ASC", true),
            Some(Some(datafusion::common::ScalarValue::Boolean(Some(false)))) => sorted_duckdb(c, &c.args[0], "DESC", false),
            _ => Err("`sort_array` with a computed order isn't known on DuckDB".into()),
        },
        proof: "nested-004, nested-043"),
    scalar!("array_sort", [], bind: |ctx, args| bind_same(ctx, "array_sort", args, true), eval: |i| sort(i, true),
        duckdb: |c| sorted_duckdb(c, &c.args[0], "ASC", false), proof: "nested-004, nested-041, nested-043, slt: nested_order"),
];
