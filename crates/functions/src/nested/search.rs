//! Rows that ask something of an array: how many elements it has, whether and where a value is one of them.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType::{self, Boolean, Int32, Int64};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::Result;

use super::arrays::{array_argument, bind_with_value, list_of_call};
use super::gather::{keys, range};
use crate::def::{BindContext, Bound, FunctionDef, Invocation, Typed};
use crate::rows::Frame;
use crate::sig::{self, mismatch, scalar};
use crate::strings::duck;
use crate::types;

fn bind_size(ctx: &BindContext, name: &str, mut args: Vec<Typed>, maps: bool) -> Result<Bound> {
    sig::arity(name, args.len(), 1, Some(1))?;
    if !(maps && matches!(args[0].ty, DataType::Map(..))) {
        let (item, nulls) = list_of_call(name, &args)?;
        array_argument(ctx, &mut args, &item, nulls)?;
    }
    let nullable = args[0].nullable;
    Ok(Bound { args, ret: Int32, nullable })
}

fn size(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let array = frame.array(0)?;
    frame.ints(|row| {
        let row = frame.index(0, row);
        if array.is_null(row) {
            return Ok(None);
        }
        Ok(Some(match array.data_type() {
            DataType::Map(..) => array.as_map().value_length(row),
            _ => array.as_list::<i32>().value_length(row),
        }))
    })
}

fn bind_search(ctx: &BindContext, name: &str, args: Vec<Typed>, ret: DataType, nulls_open: bool) -> Result<Bound> {
    let (args, ty, nulls) = bind_with_value(ctx, name, args)?;
    if !types::is_orderable(&ty) {
        return Err(mismatch("INVALID_ORDERING_TYPE", name, format!("elements of type {} can't be compared", types::sql_name(&ty))));
    }
    let nullable = args.iter().any(|a| a.nullable) || (nulls_open && nulls);
    Ok(Bound { args, ret, nullable })
}

fn contains(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (list, value) = (frame.array(0)?.as_list::<i32>(), frame.array(1)?);
    let keys = keys(&[list.values().clone(), value.clone()])?;
    frame.booleans(|row| {
        let at = frame.index(1, row);
        let Some(range) = range(list, frame.index(0, row)).filter(|_| value.is_valid(at)) else { return Ok(None) };
        if range.clone().any(|i| list.values().is_valid(i) && keys[0].row(i) == keys[1].row(at)) {
            return Ok(Some(true));
        }
        Ok(if range.clone().any(|i| list.values().is_null(i)) { None } else { Some(false) })
    })
}

fn position(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (list, value) = (frame.array(0)?.as_list::<i32>(), frame.array(1)?);
    let keys = keys(&[list.values().clone(), value.clone()])?;
    frame.longs(|row| {
        let at = frame.index(1, row);
        let Some(mut range) = range(list, frame.index(0, row)).filter(|_| value.is_valid(at)) else { return Ok(None) };
        Ok(Some(range.position(|i| list.values().is_valid(i) && keys[0].row(i) == keys[1].row(at)).map_or(0, |p| p as i64 + 1)))
    })
}

pub(crate) static SEARCH: &[FunctionDef] = &[
    scalar!("size", ["cardinality"], bind: |ctx, args| bind_size(ctx, "size", args, true), eval: size,
        duckdb: |c| Ok(format!("CAST({}({}) AS INTEGER)", if matches!(c.types[0], DataType::Map(..)) { "cardinality" } else { "len" }, c.args[0])),
        proof: "nested-008, nested-043, nested-015"),
    scalar!("array_size", [], bind: |ctx, args| bind_size(ctx, "array_size", args, false), eval: size,
        duckdb: |c| Ok(format!("CAST(len({}) AS INTEGER)", c.args[0])), proof: "nested-008"),
    scalar!("array_contains", [], bind: |ctx, args| bind_search(ctx, "array_contains", args, Boolean, true), eval: contains,
        duckdb: |c| Ok(duck::once2(&c.args[0], &c.args[1], |l, v| format!(
            "CASE WHEN {l} IS NULL OR {v} IS NULL THEN NULL WHEN list_contains({l}, {v}) THEN TRUE WHEN list_count({l}) < len({l}) THEN NULL ELSE FALSE END"))),
        proof: "nested-023, hard-017"),
    scalar!("array_position", [], bind: |ctx, args| bind_search(ctx, "array_position", args, Int64, false), eval: position,
        duckdb: |c| Ok(duck::once2(&c.args[0], &c.args[1], |l, v| format!(
            "CASE WHEN {l} IS NULL OR {v} IS NULL THEN NULL ELSE CAST(coalesce(list_position({l}, {v}), 0) AS BIGINT) END"))),
        proof: "nested-023, nested-040, hard-017"),
];
