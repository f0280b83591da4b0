//! Rows that take one array: its size, its elements in another order, some of its elements.

use std::cmp::Ordering;
use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::datatypes::DataType::{self, Boolean, Int32, Int64, Utf8};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::combine::{common, element, meet_tightly};
use super::gather::{Gather, keys, range, retype};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::limit;
use crate::rows::Frame;
use crate::sig::{self, P, mismatch, scalar};
use crate::strings::duck;
use crate::{order, types};

/// Arrays and what else a call may take, by position.
fn list_of_call(name: &str, args: &[Typed]) -> Result<(DataType, bool)> {
    let first = args.first().ok_or_else(|| Error::internal("an array function without arguments"))?;
    match element(&first.ty) {
        Some((item, nulls)) => Ok((item.clone(), nulls)),
        // `array_size(NULL)` and its like are typed as an array of VOID.
        None if first.ty == DataType::Null => Ok((DataType::Null, true)),
        None => Err(sig::unexpected_input(name, 0, "ARRAY", &first.ty)),
    }
}

fn array_argument(ctx: &BindContext, args: &mut [Typed], item: &DataType, nulls: bool) -> Result<()> {
    if args[0].ty == DataType::Null {
        let arg = args[0].clone();
        args[0] = crate::cast::implicit_cast(ctx, arg, &types::array(item.clone(), nulls))?;
    }
    Ok(())
}

/// One array in, an array of the same type out.
fn bind_same(ctx: &BindContext, name: &str, mut args: Vec<Typed>, ordered: bool) -> Result<Bound> {
    sig::arity(name, args.len(), 1, Some(1))?;
    let (item, nulls) = list_of_call(name, &args)?;
    if ordered && !types::is_orderable(&item) {
        return Err(mismatch("INVALID_ORDERING_TYPE", name, format!("elements of type {} can't be ordered", types::sql_name(&item))));
    }
    array_argument(ctx, &mut args, &item, nulls)?;
    let (ret, nullable) = (args[0].ty.clone(), args[0].nullable);
    Ok(Bound { args, ret, nullable })
}

/// An array and a value that are brought to one element type.
fn bind_with_value(ctx: &BindContext, name: &str, mut args: Vec<Typed>) -> Result<(Vec<Typed>, DataType, bool)> {
    sig::arity(name, args.len(), 2, Some(2))?;
    if args[0].ty == DataType::Null {
        return Err(mismatch("NULL_TYPE", name, format!("Null typed values cannot be used as arguments of `{name}`.")));
    }
    let (item, nulls) = list_of_call(name, &args)?;
    let value = args.remove(1);
    if name == "array_contains" && value.ty == DataType::Null {
        return Err(mismatch("NULL_TYPE", name, "Null typed values cannot be used as arguments of `array_contains`."));
    }
    let text = |t: &DataType| *t == Utf8;
    let mixed = item != DataType::Null && value.ty != DataType::Null && text(&item) != text(&value.ty);
    if mixed || (name != "array_contains" && !meet_tightly(&item, &value.ty)) {
        return Err(mismatch(
            "ARRAY_FUNCTION_DIFF_TYPES",
            name,
            format!(
                "the array's elements and the value must have one type, not {} and {}",
                types::sql_name(&item),
                types::sql_name(&value.ty)
            ),
        ));
    }
    let (ty, mut pair) = common(ctx, name, vec![Typed::null(&item)?, value])?;
    let value = pair.remove(1);
    let list = args.remove(0);
    let list = crate::cast::implicit_cast(ctx, list, &types::array(ty.clone(), nulls))?;
    Ok((vec![list, value], ty, nulls))
}

fn bind_search(ctx: &BindContext, name: &str, args: Vec<Typed>, ret: DataType, nulls_open: bool) -> Result<Bound> {
    let (args, ty, nulls) = bind_with_value(ctx, name, args)?;
    if !types::is_orderable(&ty) {
        return Err(mismatch("INVALID_ORDERING_TYPE", name, format!("elements of type {} can't be compared", types::sql_name(&ty))));
    }
    let nullable = args.iter().any(|a| a.nullable) || (nulls_open && nulls);
    Ok(Bound { args, ret, nullable })
}

/// Calls `f` with each row's elements; it pushes what the result holds.
fn rebuild(
    invocation: &Invocation<'_>,
    f: impl FnMut(&Frame, &ListArray, usize, std::ops::Range<usize>, &mut Gather) -> Result<()>,
) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let list = frame.array(0)?.as_list::<i32>().clone();
    rebuild_with(&frame, &list, &[list.values().clone()], f)
}

fn rebuild_with(
    frame: &Frame,
    list: &ListArray,
    sources: &[ArrayRef],
    mut f: impl FnMut(&Frame, &ListArray, usize, std::ops::Range<usize>, &mut Gather) -> Result<()>,
) -> Result<ColumnarValue> {
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("an array function without an element type"))?;
    let mut out = Gather::new(item, sources)?;
    for row in 0..frame.rows() {
        match range(list, frame.index(0, row)) {
            Some(range) => {
                f(frame, list, row, range, &mut out)?;
                out.end_row()?;
            }
            None => out.null_row()?,
        }
    }
    frame.finish(out.finish(frame.ret())?)
}

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

/// More elements than any array may have.
const ELEMENTS_MAX: i64 = i32::MAX as i64 - 15;

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

fn bind_slice(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    sig::arity("slice", args.len(), 3, Some(3))?;
    let rest = args.split_off(1);
    let mut bound = bind_same(ctx, "slice", args, false)?;
    for (i, arg) in rest.into_iter().enumerate() {
        let arg = sig::cast(ctx, "slice", i + 1, arg, P::Int)?;
        bound.nullable |= arg.nullable;
        bound.args.push(arg);
    }
    Ok(bound)
}

fn slice(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let list = frame.array(0)?.as_list::<i32>().clone();
    let (start, length) = (frame.int(1)?, frame.int(2)?);
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("slice() without an element type"))?;
    let mut out = Gather::new(item, &[list.values().clone()])?;
    for row in 0..frame.rows() {
        let Some(((range, start), length)) = range(&list, frame.index(0, row)).zip(start.get(row)).zip(length.get(row)) else {
            out.null_row()?;
            continue;
        };
        if start == 0 {
            return Err(Error::raised(
                "INVALID_PARAMETER_VALUE.START",
                "22023",
                "The start of `slice` must not be 0; positions begin at 1.",
            ));
        }
        if length < 0 {
            return Err(Error::raised(
                "INVALID_PARAMETER_VALUE.LENGTH",
                "22023",
                format!("The length of `slice` must not be negative, but it is {length}."),
            ));
        }
        let from = if start > 0 { i64::from(start) - 1 } else { range.len() as i64 + i64::from(start) };
        if from >= 0 {
            range.skip(from as usize).take(length as usize).for_each(|i| out.push(0, i));
        }
        out.end_row()?;
    }
    frame.finish(out.finish(frame.ret())?)
}

fn bind_flatten(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    sig::arity("flatten", args.len(), 1, Some(1))?;
    match element(&args[0].ty) {
        Some((inner @ DataType::List(_), nulls)) => {
            let (ret, nullable) = (inner.clone(), args[0].nullable || nulls);
            Ok(Bound { args, ret, nullable })
        }
        _ => Err(sig::unexpected_input("flatten", 0, "ARRAY OF ARRAY", &args[0].ty)),
    }
}

fn flatten(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let list = frame.array(0)?.as_list::<i32>().clone();
    let inner = list.values().as_list::<i32>().clone();
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("flatten() without an element type"))?;
    let mut out = Gather::new(item, &[inner.values().clone()])?;
    for row in 0..frame.rows() {
        // One NULL array among them makes the whole NULL.
        let parts: Option<Vec<_>> = range(&list, frame.index(0, row)).and_then(|r| r.map(|i| range(&inner, i)).collect());
        match parts {
            Some(parts) => {
                parts.into_iter().flatten().for_each(|i| out.push(0, i));
                out.end_row()?;
            }
            None => out.null_row()?,
        }
    }
    frame.finish(out.finish(frame.ret())?)
}

fn bind_repeat(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    sig::arity("array_repeat", args.len(), 2, Some(2))?;
    let count = sig::cast(ctx, "array_repeat", 1, args.remove(1), P::Int)?;
    let ret = types::array(args[0].ty.clone(), args[0].nullable);
    let nullable = count.nullable;
    args.push(count);
    Ok(Bound { args, ret, nullable })
}

fn repeat(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("array_repeat() without an element type"))?;
    let count = frame.int(1)?;
    let mut out = Gather::new(item, &[frame.array(0)?.clone()])?;
    for row in 0..frame.rows() {
        match count.get(row) {
            Some(n) => {
                out.allow(n.max(0) as usize)?;
                (0..n).for_each(|_| out.push(0, frame.index(0, row)));
                out.end_row()?;
            }
            None => out.null_row()?,
        }
    }
    frame.finish(out.finish(frame.ret())?)
}

fn bind_join(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "array_join";
    sig::arity(NAME, args.len(), 2, Some(3))?;
    let (item, nulls) = list_of_call(NAME, &args)?;
    let list = args.remove(0);
    let strings = types::array(Utf8, nulls || types::cast_is_nullable(&item, &Utf8));
    let list = sig::cast_to(ctx, NAME, 0, list, &strings)?;
    let rest = args.into_iter().enumerate().map(|(i, a)| sig::cast(ctx, NAME, i + 1, a, P::Str));
    let args = std::iter::once(Ok(list)).chain(rest).collect::<Result<Vec<_>>>()?;
    Ok(sig::bound(args, sig::strict(Utf8)))
}

fn join(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let list = frame.array(0)?.as_list::<i32>();
    let values = retype(list.values(), &Utf8)?;
    let values = values.as_string::<i32>();
    let separator = frame.text(1)?;
    let replacement = if frame.len() > 2 { Some(frame.text(2)?) } else { None };
    frame.texts(|row| {
        let Some((range, separator)) = range(list, frame.index(0, row)).zip(separator.get(row)) else { return Ok(None) };
        let replacement = match &replacement {
            Some(r) => match r.get(row) {
                Some(r) => Some(r),
                None => return Ok(None),
            },
            None => None,
        };
        let parts: Vec<&str> = range.filter_map(|i| if values.is_valid(i) { Some(values.value(i)) } else { replacement }).collect();
        limit::allow(crate::strings::joined_bytes(parts.iter().map(|part| part.len()), separator))?;
        Ok(Some(parts.join(separator)))
    })
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

fn start_of_zero() -> String {
    let message = crate::duckdb::string("The start of `slice` must not be 0; positions begin at 1.");
    crate::duckdb::raise("INVALID_PARAMETER_VALUE.START", "22023", &message)
}

fn slice_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    if let (Some(from), Some(n)) = (duck::int(c, 1), duck::int(c, 2))
        && from > 0
        && n >= 0
    {
        return Ok(format!("list_slice({}, {from}, {})", c.args[0], from + n - 1));
    }
    let message = crate::duckdb::string("The length of `slice` must not be negative.");
    let negative = crate::duckdb::raise("INVALID_PARAMETER_VALUE.LENGTH", "22023", &message);
    Ok(duck::once_all(c.args, |a| {
        let (l, from, n) = (&a[0], format!("CAST({} AS BIGINT)", a[1]), &a[2]);
        format!(
            "CASE WHEN {} THEN NULL WHEN {from} = 0 THEN {} WHEN {n} < 0 THEN {negative} WHEN {from} > 0 THEN list_slice({l}, {from}, {from} + {n} - 1) \
             WHEN len({l}) + {from} < 0 THEN list_slice({l}, 1, 0) ELSE list_slice({l}, len({l}) + {from} + 1, len({l}) + {from} + {n}) END",
            duck::any_null(a),
            start_of_zero(),
        )
    }))
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

fn join_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    // DuckDB takes a constant separator only.
    let (Some(_), Some(list), Some(separator)) = (duck::text(c, 1), c.args.first(), c.args.get(1)) else {
        return Err("`array_join` with a computed separator isn't known on DuckDB".into());
    };
    let joined = |l: &str| format!("coalesce(array_to_string({l}, {separator}), '')");
    Ok(match c.args.get(2) {
        None => duck::once(list, |l| format!("CASE WHEN {l} IS NULL THEN NULL ELSE {} END", joined(l))),
        Some(replacement) => duck::once2(list, replacement, |l, r| {
            let filled = format!("list_transform({l}, lambda fp_x: coalesce(fp_x, {r}))");
            format!("CASE WHEN {l} IS NULL OR {r} IS NULL THEN NULL ELSE {} END", joined(&filled))
        }),
    })
}

pub(crate) static ARRAYS: &[FunctionDef] = &[
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
    scalar!("slice", [], bind: bind_slice, eval: slice,
        duckdb: slice_duckdb,
        proof: "nested-042, hard-043"),
    scalar!("flatten", [], bind: bind_flatten, eval: flatten,
        duckdb: |c| Ok(duck::once(&c.args[0], |l| format!("CASE WHEN list_count({l}) < len({l}) THEN NULL ELSE flatten({l}) END"))), proof: "nested-039"),
    scalar!("array_repeat", [], bind: bind_repeat, eval: repeat,
        duckdb: |c| {
            let name = crate::duckdb::type_name(c.ret)?;
            const MOST: i64 = 100_000;
            if duck::int(c, 1).is_some_and(|n| n > MOST) {
                return Err(format!("`array_repeat` of more than {MOST} elements isn't known to stay within memory on DuckDB"));
            }
            let far = duck::refuse_value("An array of more than 100,000 repetitions isn't known to stay within memory on DuckDB.");
            Ok(duck::once2(&c.args[0], &c.args[1], |x, n| format!(
                "CASE WHEN {n} IS NULL THEN NULL WHEN {n} > {MOST} THEN {far} ELSE CAST(list_transform(range(CAST(greatest({n}, 0) AS BIGINT)), lambda fp_i: {x}) AS {name}) END")))
        },
        proof: "nested-030, slt: nested_order"),
    scalar!("array_join", [], bind: bind_join, eval: join,
        duckdb: join_duckdb, proof: "nested-023, slt: nested_order"),
];
