//! Lambdas over the elements of arrays.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::DataType;
use flightpath_types::{Error, Result};
use std::sync::Arc;

use super::{DuckHigher, HigherInvocation, Lambda, Parameter};
use crate::cast::implicit_cast;
use crate::def::{BindContext, FunctionDef, Typed};
use crate::nested::{Gather, element, list_of, nullable, range};
use crate::rows::internal;
use crate::strings::duck;
use crate::{duckdb, lazy, sig, types};

pub(super) fn element_of(name: &str, values: &[Typed], index: usize) -> Result<Parameter> {
    let ty = &values[index].ty;
    match element(ty) {
        Some((item, nullable)) => Ok((item.clone(), nullable)),
        None if *ty == DataType::Null => Err(Error::not_eligible(format!("`{name}` of a NULL without a type isn't known"))),
        None => Err(sig::unexpected_input(name, index, "ARRAY", ty)),
    }
}

/// A lambda that decides must be BOOLEAN.
pub(super) fn condition(ctx: &BindContext, name: &str, lambda: &mut Lambda) -> Result<()> {
    match lambda.ty {
        DataType::Boolean => Ok(()),
        DataType::Null => {
            let cast = implicit_cast(ctx, lambda.typed(), &DataType::Boolean)?;
            lambda.replace(cast);
            Ok(())
        }
        _ => Err(sig::unexpected_input(name, 1, "BOOLEAN", &lambda.ty)),
    }
}

fn with_index(name: &str, values: &[Typed]) -> Result<(Vec<Parameter>, usize)> {
    Ok((vec![element_of(name, values, 0)?, (DataType::Int32, false)], 1))
}

fn alone(name: &str, values: &[Typed]) -> Result<(Vec<Parameter>, usize)> {
    Ok((vec![element_of(name, values, 0)?], 1))
}

/// Every element of every array that isn't NULL: where it stands, its row, its index from 0.
struct Elements {
    positions: Vec<u32>,
    owners: Vec<u32>,
    indices: Vec<i32>,
}

impl Elements {
    fn of(list: &ListArray) -> Self {
        let mut all = Self { positions: Vec::new(), owners: Vec::new(), indices: Vec::new() };
        for row in 0..list.len() {
            for (index, position) in range(list, row).into_iter().flatten().enumerate() {
                all.positions.push(position as u32);
                all.owners.push(row as u32);
                all.indices.push(index as i32);
            }
        }
        all
    }

    fn parameters(&self, list: &ListArray) -> Result<Vec<ArrayRef>> {
        let positions = UInt32Array::from(self.positions.clone());
        Ok(vec![take(list.values(), &positions, None).map_err(internal)?, Arc::new(Int32Array::from(self.indices.clone()))])
    }
}

pub(super) fn list_at(call: &HigherInvocation<'_>, index: usize) -> Result<ListArray> {
    call.value(index)?.as_list_opt::<i32>().cloned().ok_or_else(|| Error::internal("a lambda over what is no array"))
}

fn lengths(list: &ListArray) -> Vec<i32> {
    let mut offsets = Vec::with_capacity(list.len() + 1);
    offsets.push(0);
    let mut end = 0;
    for row in 0..list.len() {
        end += range(list, row).map_or(0, |r| r.len()) as i32;
        offsets.push(end);
    }
    offsets
}

fn nulls(list: &ListArray) -> NullBuffer {
    list.nulls().cloned().unwrap_or_else(|| NullBuffer::new_valid(list.len()))
}

fn transform(call: &HigherInvocation<'_>) -> Result<ArrayRef> {
    let list = list_at(call, 0)?;
    let elements = Elements::of(&list);
    let made = call.apply(0, &elements.parameters(&list)?, &elements.owners)?;
    list_of(call.ret(), lengths(&list), made, nulls(&list))
}

fn filter(call: &HigherInvocation<'_>) -> Result<ArrayRef> {
    let list = list_at(call, 0)?;
    let elements = Elements::of(&list);
    let kept = call.apply(0, &elements.parameters(&list)?, &elements.owners)?;
    let kept = kept.as_boolean();
    let (item, _) = element(call.ret()).ok_or_else(|| Error::internal("filter() without an element type"))?;
    let mut out = Gather::new(item, &[list.values().clone()])?;
    let mut next = 0;
    for row in 0..list.len() {
        let Some(range) = range(&list, row) else {
            out.null_row()?;
            continue;
        };
        for position in range {
            if kept.is_valid(next) && kept.value(next) {
                out.push(0, position);
            }
            next += 1;
        }
        out.end_row()?;
    }
    out.finish(call.ret())
}

/// `exists` (decided by the first TRUE) and `forall` (by the first FALSE). A condition that may
/// raise isn't evaluated behind the element that decides.
fn quantified(call: &HigherInvocation<'_>, decides: bool) -> Result<ArrayRef> {
    let list = list_at(call, 0)?;
    let ranges: Vec<_> = (0..list.len()).map(|row| range(&list, row)).collect();
    let step = if lazy::may_raise(&call.lambda(0)?.body) { 1 } else { usize::MAX };
    let mut answers: Vec<Option<bool>> = ranges.iter().map(|r| r.as_ref().map(|_| !decides)).collect();
    let mut open: Vec<usize> = (0..list.len()).filter(|row| ranges[*row].is_some()).collect();
    let mut from = 0usize;
    while !open.is_empty() {
        let to = from.saturating_add(step);
        let (mut positions, mut owners) = (Vec::new(), Vec::new());
        for row in &open {
            for position in ranges[*row].clone().into_iter().flatten().skip(from).take(to - from) {
                positions.push(position as u32);
                owners.push(*row as u32);
            }
        }
        let values = take(list.values(), &UInt32Array::from(positions), None).map_err(internal)?;
        let tested = call.apply(0, &[values], &owners)?;
        let tested = tested.as_boolean();
        for (i, owner) in owners.iter().enumerate() {
            let answer = &mut answers[*owner as usize];
            match tested.is_valid(i).then(|| tested.value(i)) {
                Some(value) if value == decides => *answer = Some(decides),
                None if *answer != Some(decides) => *answer = None,
                _ => {}
            }
        }
        from = to;
        open.retain(|row| answers[*row] != Some(decides) && ranges[*row].as_ref().is_some_and(|r| r.len() > from));
    }
    Ok(Arc::new(BooleanArray::from(answers)))
}

/// Element by element over all rows at once.
fn aggregate(call: &HigherInvocation<'_>) -> Result<ArrayRef> {
    let list = list_at(call, 0)?;
    let mut state = crate::nested::retype(call.value(1)?, &call.lambda(0)?.ty)?;
    let ranges: Vec<_> = (0..list.len()).map(|row| range(&list, row)).collect();
    let longest = ranges.iter().flatten().map(|r| r.len()).max().unwrap_or(0);
    for step in 0..longest {
        let active: Vec<usize> = (0..list.len()).filter(|row| ranges[*row].as_ref().is_some_and(|r| r.len() > step)).collect();
        let owners: Vec<u32> = active.iter().map(|row| *row as u32).collect();
        let positions: Vec<u32> = active.iter().filter_map(|row| ranges[*row].as_ref().map(|r| (r.start + step) as u32)).collect();
        let before = take(&state, &UInt32Array::from(owners.clone()), None).map_err(internal)?;
        let values = take(list.values(), &UInt32Array::from(positions), None).map_err(internal)?;
        let after = call.apply(0, &[before, values], &owners)?;
        if active.len() == list.len() {
            state = after;
            continue;
        }
        let mut picks: Vec<(usize, usize)> = (0..list.len()).map(|row| (0, row)).collect();
        active.iter().enumerate().for_each(|(i, row)| picks[*row] = (1, i));
        state = interleave(&[state.as_ref(), after.as_ref()], &picks).map_err(internal)?;
    }
    let whole: Vec<u32> = (0..list.len()).filter(|row| ranges[*row].is_some()).map(|row| row as u32).collect();
    let mut result = take(&state, &UInt32Array::from(whole.clone()), None).map_err(internal)?;
    if call.lambdas() == 2 {
        result = call.apply(1, &[result], &whole)?;
    }
    let mut next = 0u32;
    let back: Vec<Option<u32>> = ranges
        .iter()
        .map(|r| {
            r.as_ref().map(|_| {
                next += 1;
                next - 1
            })
        })
        .collect();
    take(&crate::nested::retype(&result, call.ret())?, &UInt32Array::from(back), None).map_err(internal)
}

/// The shorter array is filled up with NULLs.
fn zip_with(call: &HigherInvocation<'_>) -> Result<ArrayRef> {
    let (left, right) = (list_at(call, 0)?, list_at(call, 1)?);
    let (mut lefts, mut rights, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    let (mut offsets, mut valid) = (vec![0i32], Vec::new());
    for row in 0..call.rows {
        let both = range(&left, row).zip(range(&right, row));
        valid.push(both.is_some());
        if let Some((l, r)) = both {
            for i in 0..l.len().max(r.len()) {
                lefts.push((i < l.len()).then_some((l.start + i) as u32));
                rights.push((i < r.len()).then_some((r.start + i) as u32));
                owners.push(row as u32);
            }
        }
        let end = i32::try_from(owners.len()).map_err(|_| Error::not_eligible("arrays of one batch hold more than 2^31 elements"))?;
        offsets.push(end);
    }
    let lefts = take(left.values(), &UInt32Array::from(lefts), None).map_err(internal)?;
    let rights = take(right.values(), &UInt32Array::from(rights), None).map_err(internal)?;
    let made = call.apply(0, &[lefts, rights], &owners)?;
    list_of(call.ret(), offsets, made, NullBuffer::from(valid))
}

fn aggregate_parameters(_: &BindContext, values: &[Typed], bound: &[Lambda]) -> Result<(Vec<Parameter>, usize)> {
    let state = (nullable(&values[1].ty), true);
    Ok(if bound.is_empty() { (vec![state, element_of("aggregate", values, 0)?], 2) } else { (vec![state], 1) })
}

fn finish_aggregate(_: &BindContext, values: &[Typed], lambdas: &mut [Lambda]) -> Result<(DataType, bool)> {
    let (zero, merged) = (&values[1], &lambdas[0]);
    if !types::same(&zero.ty, &merged.ty) {
        return Err(sig::unexpected_input("aggregate", 2, &sig::type_text(&zero.ty), &merged.ty));
    }
    let (ty, may_be_null) = match lambdas.get(1) {
        Some(last) => (last.ty.clone(), last.nullable),
        // The state may always be NULL.
        None => (merged.ty.clone(), true),
    };
    Ok((ty, values[0].nullable || may_be_null))
}

fn list_call(function: &str, c: &DuckHigher<'_>) -> Result<String, String> {
    Ok(format!("{function}({}, {})", c.args[0], c.lambda(0)?))
}

fn quantified_duckdb(name: &str, decides: bool, c: &DuckHigher<'_>) -> Result<String, String> {
    c.whole(name)?;
    let tested = format!("list_transform({}, {})", c.args[0], c.lambda(0)?);
    let (decided, other) = if decides { ("TRUE", "FALSE") } else { ("FALSE", "TRUE") };
    Ok(duck::once(&tested, |b| {
        format!(
            "CASE WHEN {b} IS NULL THEN NULL WHEN list_contains({b}, {decided}) THEN {decided} WHEN len({b}) <> list_count({b}) THEN NULL ELSE {other} END"
        )
    }))
}

/// DuckDB casts the elements to the first state's type, so both types must be one.
fn reduced(c: &DuckHigher<'_>) -> Result<String, String> {
    let (array, zero) = (&c.args[0], &c.args[1]);
    let item = element(&c.types[0]).map(|(item, _)| item).ok_or("an aggregate over what is no array")?;
    if types::same(item, &c.types[1]) {
        return Ok(format!("list_reduce({array}, {}, {zero})", c.lambda(0)?));
    }
    let [a, x] = c.lambdas[0].parameters.as_slice() else { return Err("a lambda of two".into()) };
    let (left, right, body) = (format!("{a}{x}"), format!("{x}{a}"), &c.lambdas[0].body);
    let (state, value) = (duckdb::type_name(&c.types[1])?, duckdb::type_name(item)?);
    let pairs = format!("list_transform({array}, lambda {x}: {{'a': CAST(NULL AS {state}), 'x': {x}}})");
    let next = format!("list_transform([{left}.a], lambda {a}: list_transform([{right}.x], lambda {x}: {body})[1])[1]");
    Ok(format!(
        "(list_reduce({pairs}, lambda {left}, {right}: {{'a': {next}, 'x': {right}.x}}, {{'a': {zero}, 'x': CAST(NULL AS {value})}})).a"
    ))
}

fn aggregate_duckdb(c: &DuckHigher<'_>) -> Result<String, String> {
    let reduced = reduced(c)?;
    if c.lambdas.len() < 2 {
        return Ok(reduced);
    }
    // A NULL array is no state to finish.
    let last = &c.lambdas[1];
    let name = last.parameters.first().ok_or("a lambda without its parameter")?;
    let array = &c.args[0];
    Ok(format!("(CASE WHEN {array} IS NOT NULL THEN list_transform([{reduced}], lambda {name}: {})[1] END)", last.body))
}

fn zip_duckdb(c: &DuckHigher<'_>) -> Result<String, String> {
    let [a, b] = c.args else { return Err("`zip_with` takes two arrays".into()) };
    let lambda = &c.lambdas[0];
    let [x, y] = lambda.parameters.as_slice() else { return Err("`zip_with` takes a lambda of two".into()) };
    // One pair at a time, taken apart by an inner lambda over the two.
    let pairs = format!("list_zip({a}, {b})");
    Ok(format!(
        "(CASE WHEN {a} IS NULL OR {b} IS NULL THEN NULL ELSE list_transform({pairs}, lambda {x}{y}: list_transform([{x}{y}[1]], lambda {x}: list_transform([{x}{y}[2]], lambda {y}: {})[1])[1]) END)",
        lambda.body
    ))
}

macro_rules! higher {
    ($name:literal, [$($alias:literal),*], $values:literal values, $least:literal to $most:literal, parameters: $parameters:expr, finish: $finish:expr, eval: $eval:expr, duckdb: $duckdb:expr, raises: $raises:literal, proof: $proof:literal) => {
        $crate::def::FunctionDef::Higher($crate::lambda::HigherDef {
            name: $name,
            aliases: &[$($alias),*],
            values: $values,
            lambdas: ($least, $most),
            parameters: $parameters,
            finish: $finish,
            eval: $eval,
            duckdb: $duckdb,
            raises: $raises,
            proof: $proof,
        })
    };
}
pub(super) use higher;

pub(crate) static ARRAYS: &[FunctionDef] = &[
    higher!("transform", [], 1 values, 1 to 1, parameters: |_, values, _| with_index("transform", values),
        finish: |_, values, lambdas| Ok((types::array(lambdas[0].ty.clone(), lambdas[0].nullable), values[0].nullable)),
        eval: transform, duckdb: |c| list_call("list_transform", c), raises: false, proof: "nested-001, nested-042"),
    higher!("filter", [], 1 values, 1 to 1, parameters: |_, values, _| with_index("filter", values),
        finish: |ctx, values, lambdas| condition(ctx, "filter", &mut lambdas[0]).map(|()| (values[0].ty.clone(), values[0].nullable)),
        eval: filter, duckdb: |c| list_call("list_filter", c), raises: false, proof: "slt: lambdas"),
    higher!("exists", [], 1 values, 1 to 1, parameters: |_, values, _| alone("exists", values),
        finish: |ctx, values, lambdas| condition(ctx, "exists", &mut lambdas[0]).map(|()| (DataType::Boolean, values[0].nullable || lambdas[0].nullable)),
        eval: |c| quantified(c, true), duckdb: |c| quantified_duckdb("exists", true, c), raises: false, proof: "subquery-003, nested-042"),
    higher!("forall", [], 1 values, 1 to 1, parameters: |_, values, _| alone("forall", values),
        finish: |ctx, values, lambdas| condition(ctx, "forall", &mut lambdas[0]).map(|()| (DataType::Boolean, values[0].nullable || lambdas[0].nullable)),
        eval: |c| quantified(c, false), duckdb: |c| quantified_duckdb("forall", false, c), raises: false, proof: "slt: lambdas"),
    higher!("aggregate", ["reduce"], 2 values, 1 to 2, parameters: aggregate_parameters, finish: finish_aggregate,
        eval: aggregate, duckdb: aggregate_duckdb, raises: false, proof: "nested-001, nested-012, nested-028, bi-005"),
    higher!("zip_with", [], 2 values, 1 to 1,
        parameters: |_, values, _| Ok((vec![(element_of("zip_with", values, 0)?.0, true), (element_of("zip_with", values, 1)?.0, true)], 2)),
        finish: |_, values, lambdas| Ok((types::array(lambdas[0].ty.clone(), lambdas[0].nullable), values[0].nullable || values[1].nullable)),
        eval: zip_with, duckdb: zip_duckdb, raises: false, proof: "nested-006"),
];
