//! What rows over one array share: their typing, and the walk over each row's elements. And `slice`,
//! `flatten`, `array_repeat`, `array_join`.

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::datatypes::DataType::{self, Utf8};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::combine::{common, element, meet_tightly};
use super::gather::{Gather, range, retype};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::limit;
use crate::rows::Frame;
use crate::sig::{self, P, mismatch, scalar};
use crate::strings::duck;
use crate::types;

/// Arrays and what else a call may take, by position.
pub(super) fn list_of_call(name: &str, args: &[Typed]) -> Result<(DataType, bool)> {
    let first = args.first().ok_or_else(|| Error::internal("an array function without arguments"))?;
    match element(&first.ty) {
        Some((item, nulls)) => Ok((item.clone(), nulls)),
        // `array_size(NULL)` and its like are typed as an array of VOID.
        None if first.ty == DataType::Null => Ok((DataType::Null, true)),
        None => Err(sig::unexpected_input(name, 0, "ARRAY", &first.ty)),
    }
}

pub(super) fn array_argument(ctx: &BindContext, args: &mut [Typed], item: &DataType, nulls: bool) -> Result<()> {
    if args[0].ty == DataType::Null {
        let arg = args[0].clone();
        args[0] = crate::cast::implicit_cast(ctx, arg, &types::array(item.clone(), nulls))?;
    }
    Ok(())
}

/// One array in, an array of the same type out.
pub(super) fn bind_same(ctx: &BindContext, name: &str, mut args: Vec<Typed>, ordered: bool) -> Result<Bound> {
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
pub(super) fn bind_with_value(ctx: &BindContext, name: &str, mut args: Vec<Typed>) -> Result<(Vec<Typed>, DataType, bool)> {
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

/// Calls `f` with each row's elements; it pushes what the result holds.
pub(super) fn rebuild(
    invocation: &Invocation<'_>,
    f: impl FnMut(&Frame, &ListArray, usize, std::ops::Range<usize>, &mut Gather) -> Result<()>,
) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let list = frame.array(0)?.as_list::<i32>().clone();
    rebuild_with(&frame, &list, &[list.values().clone()], f)
}

pub(super) fn rebuild_with(
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
