//! Rows that put a value into an array, or take it out.

use arrow::array::{Array, AsArray};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::arrays::{bind_with_value, rebuild_with};
use super::combine::element;
use super::gather::{Gather, keys, range};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::limit;
use crate::rows::Frame;
use crate::sig::{self, P, scalar};
use crate::strings::duck;
use crate::types;

/// More elements than any array may have.
const ELEMENTS_MAX: i64 = i32::MAX as i64 - 15;

fn remove(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (list, value) = (frame.array(0)?.as_list::<i32>().clone(), frame.array(1)?.clone());
    let keys = keys(&[list.values().clone(), value.clone()])?;
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("array_remove() without an element type"))?;
    let mut out = Gather::new(item, &[list.values().clone()])?;
    for row in 0..frame.rows() {
        let at = frame.index(1, row);
        match range(&list, frame.index(0, row)).filter(|_| value.is_valid(at)) {
            Some(range) => {
                range.filter(|i| list.values().is_null(*i) || keys[0].row(*i) != keys[1].row(at)).for_each(|i| out.push(0, i));
                out.end_row()?;
            }
            None => out.null_row()?,
        }
    }
    frame.finish(out.finish(frame.ret())?)
}

/// `array_append` and `array_prepend`; the result's elements are always declared nullable.
fn bind_add(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<Bound> {
    let (args, ty, _) = bind_with_value(ctx, name, args)?;
    let nullable = args[0].nullable;
    Ok(Bound { args, ret: types::array(ty, true), nullable })
}

fn add(invocation: &Invocation<'_>, front: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let list = frame.array(0)?.as_list::<i32>().clone();
    let sources = [list.values().clone(), frame.array(1)?.clone()];
    rebuild_with(&frame, &list, &sources, |frame, _, row, range, out| {
        if front {
            out.push(1, frame.index(1, row));
        }
        range.for_each(|i| out.push(0, i));
        if !front {
            out.push(1, frame.index(1, row));
        }
        Ok(())
    })
}

fn bind_insert(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "array_insert";
    sig::arity(NAME, args.len(), 3, Some(3))?;
    let position = args.remove(1);
    let position = sig::cast(ctx, NAME, 1, position, P::Int)?;
    let (mut args, ty, _) = bind_with_value(ctx, NAME, args)?;
    args.insert(1, position);
    let nullable = args[0].nullable || args[1].nullable;
    Ok(Bound { args, ret: types::array(ty, true), nullable })
}

fn insert(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let list = frame.array(0)?.as_list::<i32>().clone();
    let position = frame.int(1)?;
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("array_insert() without an element type"))?;
    let mut out = Gather::new(item, &[list.values().clone(), frame.array(2)?.clone()])?;
    for row in 0..frame.rows() {
        let Some((range, position)) = range(&list, frame.index(0, row)).zip(position.get(row)) else {
            out.null_row()?;
            continue;
        };
        if position == 0 {
            return Err(crate::strings::index_of_zero());
        }
        let (len, position) = (range.len() as i64, i64::from(position));
        if position.abs() > ELEMENTS_MAX {
            return Err(Error::raised(
                "COLLECTION_SIZE_LIMIT_EXCEEDED.FUNCTION",
                "54000",
                "`array_insert` would make an array that is too long.",
            ));
        }
        limit::allow((position.unsigned_abs() as usize).saturating_mul(size_of::<(usize, usize)>()))?;
        if position < 0 && -position > len + 1 {
            // Before the array: NULLs fill the gap between the value and the first element.
            out.push(1, frame.index(2, row));
            (0..-position - len - 1).for_each(|_| out.push_null());
            range.for_each(|i| out.push(0, i));
        } else {
            let at = if position > 0 { position - 1 } else { len + position + 1 };
            for i in 0..at.max(len) {
                if i == at {
                    out.push(1, frame.index(2, row));
                }
                if i < len { out.push(0, range.start + i as usize) } else { out.push_null() }
            }
            if at >= len {
                out.push(1, frame.index(2, row));
            }
        }
        out.end_row()?;
    }
    frame.finish(out.finish(frame.ret())?)
}

/// `array_insert`: NULLs fill a gap before or behind the array.
fn insert_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let name = crate::duckdb::type_name(c.ret)?;
    let zero = crate::strings::index_of_zero();
    let zero = crate::duckdb::raise(
        zero.class().unwrap_or_default(),
        zero.sql_state().unwrap_or_default(),
        &crate::duckdb::string(zero.message()),
    );
    let long = crate::duckdb::raise(
        "COLLECTION_SIZE_LIMIT_EXCEEDED.FUNCTION",
        "54000",
        &crate::duckdb::string("`array_insert` would make an array that is too long."),
    );
    let most = ELEMENTS_MAX;
    Ok(duck::once_all(c.args, |a| {
        let (l, p, v) = (&a[0], format!("CAST({} AS BIGINT)", a[1]), format!("CAST([{}] AS {name})", a[2]));
        let gap = |n: String| format!("CAST(list_transform(range({n}), lambda fp_i: NULL) AS {name})");
        let put = |at: &str| format!("list_concat(list_concat(list_slice({l}, 1, {at}), {v}), list_slice({l}, {at} + 1, len({l})))");
        format!(
            "CASE WHEN {l} IS NULL OR {p} IS NULL THEN NULL WHEN {p} = 0 THEN {zero} WHEN abs({p}) > {most} THEN {long} \
             WHEN {p} > len({l}) THEN list_concat(list_concat({l}, {}), {v}) WHEN {p} > 0 THEN {} \
             WHEN -{p} > len({l}) + 1 THEN list_concat(list_concat({v}, {}), {l}) ELSE {} END",
            gap(format!("{p} - 1 - len({l})")),
            put(&format!("({p} - 1)")),
            gap(format!("-{p} - len({l}) - 1")),
            put(&format!("(len({l}) + {p} + 1)")),
        )
    }))
}

pub(crate) static INSERT: &[FunctionDef] = &[
    scalar!("array_remove", [],
        bind: |ctx, args| { let (args, ty, nulls) = bind_with_value(ctx, "array_remove", args)?; Ok(sig::bound(args, sig::strict(types::array(ty, nulls)))) },
        eval: remove,
        duckdb: |c| Ok(duck::once2(&c.args[0], &c.args[1], |l, v| format!("CASE WHEN {v} IS NULL THEN NULL ELSE list_filter({l}, lambda fp_x: fp_x IS DISTINCT FROM {v}) END"))),
        proof: "nested-030, hard-076, slt: nested_order"),
    scalar!("array_append", [], bind: |ctx, args| bind_add(ctx, "array_append", args), eval: |i| add(i, false),
        duckdb: |c| Ok(duck::once(&c.args[0], |l| format!("CASE WHEN {l} IS NULL THEN NULL ELSE list_append({l}, {}) END", c.args[1]))), proof: "nested-024, hard-076"),
    scalar!("array_prepend", [], bind: |ctx, args| bind_add(ctx, "array_prepend", args), eval: |i| add(i, true),
        duckdb: |c| Ok(duck::once(&c.args[0], |l| format!("CASE WHEN {l} IS NULL THEN NULL ELSE list_prepend({}, {l}) END", c.args[1]))), proof: "nested-024"),
    scalar!("array_insert", [], bind: bind_insert, eval: insert, duckdb: insert_duckdb, proof: "nested-024, hard-076, slt: nested_order"),
];
