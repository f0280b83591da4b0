//! Rows that make arrays from several: construction, concatenation and set operations.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType::{self, Boolean, Utf8};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::gather::{Gather, keys, range};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::rows::Frame;
use crate::sig::{self, mismatch, scalar, strict};
use crate::strings::duck;
use crate::types;

pub(crate) fn element(ty: &DataType) -> Option<(&DataType, bool)> {
    match ty {
        DataType::List(field) => Some((field.data_type(), field.is_nullable())),
        _ => None,
    }
}

/// The type that all arguments are brought to, as `array(...)`, `CASE` and their like do.
pub(crate) fn common(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<(DataType, Vec<Typed>)> {
    let ty = types::least_common_type(args.iter().map(|a| &a.ty)).ok_or_else(|| {
        let given: Vec<String> = args.iter().map(|a| types::sql_name(&a.ty)).collect();
        mismatch("DATA_DIFF_TYPES", name, format!("Input to `{name}` should all be the same type, but it's [{}].", given.join(", ")))
    })?;
    let args = args.into_iter().map(|a| crate::cast::implicit_cast(ctx, a, &ty)).collect::<Result<_>>()?;
    Ok((ty, args))
}

fn bind_array(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    let (ty, args) = common(ctx, "array", args)?;
    let contains_null = args.iter().any(|a| a.nullable);
    Ok(Bound { args, ret: types::array(ty, contains_null), nullable: false })
}

fn array(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("array() without an element type"))?;
    let sources = (0..frame.len()).map(|i| frame.array(i).cloned()).collect::<Result<Vec<ArrayRef>>>()?;
    let mut out = Gather::new(item, &sources)?;
    for row in 0..frame.rows() {
        for column in 0..frame.len() {
            out.push(column, frame.index(column, row));
        }
        out.end_row()?;
    }
    frame.finish(out.finish(frame.ret())?)
}

/// Whether two types meet without a number becoming another DECIMAL, or a text another thing.
pub(crate) fn meet_tightly(a: &DataType, b: &DataType) -> bool {
    if a == b || *a == DataType::Null || *b == DataType::Null || a.is_nested() || b.is_nested() {
        return true;
    }
    match (types::is_decimal(a), types::is_decimal(b)) {
        (true, true) => false,
        (true, false) | (false, true) => {
            let (decimal, other) = if types::is_decimal(a) { (a, b) } else { (b, a) };
            let DataType::Decimal128(p, s) = decimal else { return false };
            let digits = match other {
                DataType::Int8 => 3,
                DataType::Int16 => 5,
                DataType::Int32 => 10,
                DataType::Int64 => 20,
                _ => return false,
            };
            i32::from(*p) - i32::from(*s) >= digits
        }
        (false, false) => (types::is_numeric(a) && types::is_numeric(b)) || (types::is_datetime(a) && types::is_datetime(b)),
    }
}

/// Arrays of one element type; NULL when one is.
pub(crate) fn bind_same_arrays(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<Bound> {
    if let Some((i, other)) = args.iter().enumerate().find(|(_, a)| !matches!(a.ty, DataType::List(_) | DataType::Null)) {
        return Err(sig::unexpected_input(name, i, "ARRAY", &other.ty));
    }
    let (ty, args) = common(ctx, name, args)?;
    Ok(sig::bound(args, strict(ty)))
}

/// Two arrays whose elements can be compared.
fn bind_sets(ctx: &BindContext, name: &str, args: Vec<Typed>, contains_null: fn(bool, bool) -> bool) -> Result<Bound> {
    sig::arity(name, args.len(), 2, Some(2))?;
    let nulls: Vec<bool> = args.iter().map(|a| element(&a.ty).is_none_or(|(_, n)| n)).collect();
    refuse_promotion(name, &args[0].ty, &args[1].ty)?;
    if args.iter().any(|a| a.ty == DataType::Null) {
        return Err(mismatch("BINARY_ARRAY_DIFF_TYPES", name, "both have to be arrays, and a NULL without a type is none; cast it"));
    }
    if let (Some((a, _)), Some((b, _))) = (element(&args[0].ty), element(&args[1].ty))
        && !meet_tightly(a, b)
    {
        return Err(mismatch(
            "BINARY_ARRAY_DIFF_TYPES",
            name,
            format!("the arrays' elements must have one type, not {} and {}", types::sql_name(a), types::sql_name(b)),
        ));
    }
    let mut bound = bind_same_arrays(ctx, name, args)?;
    let Some((item, _)) = element(&bound.ret) else { return Err(sig::unexpected_input(name, 0, "ARRAY", &bound.ret)) };
    if !types::is_orderable(item) {
        return Err(mismatch("INVALID_ORDERING_TYPE", name, format!("elements of type {} can't be compared", types::sql_name(item))));
    }
    bound.ret = types::array(item.clone(), contains_null(nulls[0], nulls[1]));
    Ok(bound)
}

/// These functions don't turn texts into numbers or dates by themselves.
fn refuse_promotion(name: &str, a: &DataType, b: &DataType) -> Result<()> {
    let text = |t: &DataType| element(t).is_some_and(|(item, _)| *item == Utf8);
    let other = |t: &DataType| element(t).is_some_and(|(item, _)| *item != Utf8 && *item != DataType::Null);
    if (text(a) && other(b)) || (other(a) && text(b)) {
        return Err(mismatch(
            "BINARY_ARRAY_DIFF_TYPES",
            name,
            format!("the arrays' elements must have one type, not {} and {}", types::sql_name(a), types::sql_name(b)),
        ));
    }
    Ok(())
}

pub(crate) fn concat_arrays(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("concat() without an element type"))?;
    let lists = (0..frame.len()).map(|i| Ok(frame.array(i)?.as_list::<i32>().clone())).collect::<Result<Vec<_>>>()?;
    let sources: Vec<ArrayRef> = lists.iter().map(|l| l.values().clone()).collect();
    let mut out = Gather::new(item, &sources)?;
    for row in 0..frame.rows() {
        let ranges: Option<Vec<_>> = lists.iter().enumerate().map(|(c, l)| range(l, frame.index(c, row))).collect();
        match ranges {
            Some(ranges) => {
                for (column, range) in ranges.into_iter().enumerate() {
                    range.for_each(|i| out.push(column, i));
                }
                out.end_row()?;
            }
            None => out.null_row()?,
        }
    }
    frame.finish(out.finish(frame.ret())?)
}

pub(crate) fn concat_arrays_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    // DuckDB's list_concat skips a NULL list.
    Ok(duck::once_all(c.args, |lists| {
        let joined = lists.iter().cloned().reduce(|a, b| format!("list_concat({a}, {b})")).unwrap_or_default();
        format!("CASE WHEN {} THEN NULL ELSE {joined} END", duck::any_null(lists))
    }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SetOp {
    Union,
    Intersect,
    Except,
}

/// Without duplicates, in the order of first occurrence; NULL is a value like others.
fn set_operation(invocation: &Invocation<'_>, op: SetOp) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (item, _) = element(frame.ret()).ok_or_else(|| Error::internal("a set operation without an element type"))?;
    let (left, right) = (frame.array(0)?.as_list::<i32>(), frame.array(1)?.as_list::<i32>());
    let sources = [left.values().clone(), right.values().clone()];
    let keys = keys(&sources)?;
    let mut out = Gather::new(item, &sources)?;
    let mut seen: HashSet<&[u8]> = HashSet::new();
    for row in 0..frame.rows() {
        let (Some(l), Some(r)) = (range(left, frame.index(0, row)), range(right, frame.index(1, row))) else {
            out.null_row()?;
            continue;
        };
        seen.clear();
        let others: HashSet<&[u8]> = if op == SetOp::Union { HashSet::new() } else { r.clone().map(|i| keys[1].row(i).data()).collect() };
        for i in l {
            let key = keys[0].row(i).data();
            let wanted = match op {
                SetOp::Union => true,
                SetOp::Intersect => others.contains(key),
                SetOp::Except => !others.contains(key),
            };
            if wanted && seen.insert(key) {
                out.push(0, i);
            }
        }
        if op == SetOp::Union {
            r.filter(|i| seen.insert(keys[1].row(*i).data())).for_each(|i| out.push(1, i));
        }
        out.end_row()?;
    }
    frame.finish(out.finish(frame.ret())?)
}

/// Elements are looked for one by one, which keeps their order and finds NULLs.
fn set_operation_duckdb(c: &DuckCall<'_>, op: SetOp) -> Result<String, String> {
    let [l, r] = c.args else { return Err("a set operation takes two arrays".into()) };
    Ok(duck::once2(l, r, |l, r| {
        let kept = match op {
            SetOp::Union => format!("list_concat({l}, {r})"),
            SetOp::Intersect => format!("list_filter({l}, lambda fp_y: list_position({r}, fp_y) IS NOT NULL)"),
            SetOp::Except => format!("list_filter({l}, lambda fp_y: list_position({r}, fp_y) IS NULL)"),
        };
        format!("CASE WHEN {l} IS NULL OR {r} IS NULL THEN NULL ELSE {} END", super::sort::distinct_duckdb(&kept))
    }))
}

fn overlap_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let [l, r] = c.args else { return Err("`arrays_overlap` takes two arrays".into()) };
    Ok(duck::once2(l, r, |l, r| {
        let common = format!("list_filter({l}, lambda fp_y: fp_y IS NOT NULL AND list_position({r}, fp_y) IS NOT NULL)");
        format!(
            "CASE WHEN {l} IS NULL OR {r} IS NULL THEN NULL WHEN len({common}) > 0 THEN TRUE \
             WHEN len({l}) > 0 AND len({r}) > 0 AND (list_count({l}) < len({l}) OR list_count({r}) < len({r})) THEN NULL ELSE FALSE END"
        )
    }))
}

fn zip_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let Some((DataType::Struct(fields), _)) = element(c.ret) else { return Err("a zip without fields".into()) };
    let mut names: Vec<String> = fields.iter().map(|f| f.name().to_lowercase()).collect();
    names.sort();
    names.dedup();
    if names.len() != fields.len() {
        return Err("structs with two fields of one name aren't known on DuckDB".into());
    }
    Ok(duck::once_all(c.args, |lists| {
        let lengths: Vec<String> = lists.iter().map(|l| format!("len({l})")).collect();
        let parts: Vec<String> =
            lists.iter().zip(fields).map(|(l, f)| format!("{} := list_extract({l}, fp_i)", crate::duckdb::identifier(f.name()))).collect();
        format!(
            "CASE WHEN {} THEN NULL ELSE list_transform(range(1, greatest({}) + 1), lambda fp_i: struct_pack({})) END",
            duck::any_null(lists),
            lengths.join(", "),
            parts.join(", ")
        )
    }))
}

fn overlap(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (left, right) = (frame.array(0)?.as_list::<i32>(), frame.array(1)?.as_list::<i32>());
    let keys = keys(&[left.values().clone(), right.values().clone()])?;
    // Elements of no type are NULL without a bitmap that says so.
    let (lv, rv) = (left.values().logical_nulls(), right.values().logical_nulls());
    let null = |nulls: &Option<NullBuffer>, i: usize| nulls.as_ref().is_some_and(|n| n.is_null(i));
    frame.booleans(|row| {
        let (Some(l), Some(r)) = (range(left, frame.index(0, row)), range(right, frame.index(1, row))) else { return Ok(None) };
        let others: HashSet<&[u8]> = r.clone().filter(|i| !null(&rv, *i)).map(|i| keys[1].row(i).data()).collect();
        if l.clone().any(|i| !null(&lv, i) && others.contains(keys[0].row(i).data())) {
            return Ok(Some(true));
        }
        let open = !l.is_empty() && !r.is_empty() && (l.clone().any(|i| null(&lv, i)) || r.clone().any(|i| null(&rv, i)));
        Ok(if open { None } else { Some(false) })
    })
}

fn bind_overlap(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    let mut bound = bind_sets(ctx, "arrays_overlap", args, |a, b| a || b)?;
    bound.nullable |= element(&bound.ret).is_some_and(|(_, n)| n);
    bound.ret = Boolean;
    Ok(bound)
}

/// `arrays_zip`: structs as long as the longest array, named after the columns they came from.
fn bind_zip(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    use arrow::datatypes::{Field, Fields};
    use datafusion::logical_expr::Expr;
    let mut fields = Vec::new();
    for (i, arg) in args.iter().enumerate() {
        let Some((item, _)) = element(&arg.ty) else { return Err(sig::unexpected_input("arrays_zip", i, "ARRAY", &arg.ty)) };
        let name = match &arg.expr {
            Expr::Column(column) => column.name.clone(),
            Expr::Alias(alias) => alias.name.clone(),
            _ => i.to_string(),
        };
        fields.push(Field::new(name, item.clone(), true));
    }
    if fields.is_empty() {
        return Err(Error::not_eligible("`arrays_zip` without arguments isn't known"));
    }
    let nullable = args.iter().any(|a| a.nullable);
    // The names are of no further use.
    let args = args.into_iter().map(|a| Typed { expr: a.expr.unalias(), ..a }).collect();
    Ok(Bound { args, ret: types::array(DataType::Struct(Fields::from(fields)), false), nullable })
}

fn zip(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    use arrow::array::StructArray;
    let frame = Frame::new(invocation)?;
    let Some((DataType::Struct(fields), _)) = element(frame.ret()) else { return Err(Error::internal("arrays_zip() without fields")) };
    let lists = (0..frame.len()).map(|i| Ok(frame.array(i)?.as_list::<i32>().clone())).collect::<Result<Vec<_>>>()?;
    let mut columns =
        lists.iter().zip(fields).map(|(l, f)| Gather::new(f.data_type(), &[l.values().clone()])).collect::<Result<Vec<_>>>()?;
    let (mut offsets, mut valid) = (vec![0i32], Vec::new());
    let mut total = 0usize;
    for row in 0..frame.rows() {
        let ranges: Option<Vec<_>> = lists.iter().enumerate().map(|(c, l)| range(l, frame.index(c, row))).collect();
        valid.push(ranges.is_some());
        if let Some(ranges) = ranges {
            let longest = ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
            total += longest;
            for (column, range) in columns.iter_mut().zip(ranges) {
                for i in 0..longest {
                    if i < range.len() { column.push(0, range.start + i) } else { column.push_null() }
                }
            }
        }
        offsets.push(i32::try_from(total).map_err(|_| Error::not_eligible("arrays of one batch hold more than 2^31 elements"))?);
    }
    let values = columns.iter().map(Gather::values).collect::<Result<Vec<_>>>()?;
    let structs = StructArray::try_new_with_length(fields.clone(), values, None, total).map_err(crate::rows::internal)?;
    frame.finish(super::gather::list_of(frame.ret(), offsets, std::sync::Arc::new(structs), NullBuffer::from(valid))?)
}

pub(crate) static COMBINE: &[FunctionDef] = &[
    scalar!("array", [], bind: bind_array, eval: array,
        duckdb: |c| Ok(format!("CAST([{}] AS {})", c.args.join(", "), crate::duckdb::type_name(c.ret)?)),
        proof: "nested-014, nested-008"),
    scalar!("array_union", [], bind: |ctx, args| bind_sets(ctx, "array_union", args, |a, b| a || b), eval: |i| set_operation(i, SetOp::Union),
        duckdb: |c| set_operation_duckdb(c, SetOp::Union), proof: "nested-030, hard-043, slt: nested_order"),
    scalar!("array_intersect", [], bind: |ctx, args| bind_sets(ctx, "array_intersect", args, |a, b| a && b), eval: |i| set_operation(i, SetOp::Intersect),
        duckdb: |c| set_operation_duckdb(c, SetOp::Intersect), proof: "nested-030, nested-040, slt: nested_order"),
    scalar!("array_except", [], bind: |ctx, args| bind_sets(ctx, "array_except", args, |a, _| a), eval: |i| set_operation(i, SetOp::Except),
        duckdb: |c| set_operation_duckdb(c, SetOp::Except), proof: "nested-030, nested-040, slt: nested_order"),
    scalar!("arrays_overlap", [], bind: bind_overlap, eval: overlap, duckdb: overlap_duckdb, proof: "nested-040, hard-076, slt: nested_order"),
    scalar!("arrays_zip", [], bind: bind_zip, eval: zip, duckdb: zip_duckdb, proof: "nested-016, hard-022, slt: nested_order"),
];
