//! Lambdas over the entries of maps.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::DataType;
use flightpath_types::{Error, Result};

use super::arrays::{condition, higher};
use super::{DuckHigher, HigherInvocation, Lambda, Parameter};
use crate::def::{BindContext, FunctionDef, Typed};
use crate::nested::{check_key, checked_duckdb, checked_map, entries, keys, map_of, plain_entries};
use crate::rows::internal;
use crate::strings::duck;
use crate::{sig, types};

fn parts(name: &str, values: &[Typed], index: usize) -> Result<(Parameter, Parameter)> {
    let ty = &values[index].ty;
    let (key, value) = types::map_parts(ty).ok_or_else(|| sig::unexpected_input(name, index, "MAP", ty))?;
    Ok(((key.data_type().clone(), false), (value.data_type().clone(), value.is_nullable())))
}

fn entry(name: &str, values: &[Typed]) -> Result<(Vec<Parameter>, usize)> {
    let (key, value) = parts(name, values, 0)?;
    Ok((vec![key, value], 2))
}

fn map_at<'a>(call: &'a HigherInvocation<'_>, index: usize) -> Result<&'a MapArray> {
    call.value(index)?.as_map_opt().ok_or_else(|| Error::internal("a lambda over what is no map"))
}

/// Entries of all maps that aren't NULL, and where each map's end.
struct Entries {
    positions: Vec<u32>,
    owners: Vec<u32>,
    offsets: Vec<i32>,
}

impl Entries {
    fn of(map: &MapArray) -> Self {
        let mut all = Self { positions: Vec::new(), owners: Vec::new(), offsets: vec![0] };
        for row in 0..map.len() {
            for position in entries(map, row).into_iter().flatten() {
                all.positions.push(position as u32);
                all.owners.push(row as u32);
            }
            all.offsets.push(all.positions.len() as i32);
        }
        all
    }

    fn parameters(&self, map: &MapArray) -> Result<Vec<ArrayRef>> {
        let positions = UInt32Array::from(self.positions.clone());
        [map.keys(), map.values()].into_iter().map(|side| take(side, &positions, None).map_err(internal)).collect()
    }
}

fn nulls(map: &MapArray) -> NullBuffer {
    map.nulls().cloned().unwrap_or_else(|| NullBuffer::new_valid(map.len()))
}

fn filter(call: &HigherInvocation<'_>) -> Result<ArrayRef> {
    let map = map_at(call, 0)?;
    let all = Entries::of(map);
    let parameters = all.parameters(map)?;
    let kept = call.apply(0, &parameters, &all.owners)?;
    let kept = kept.as_boolean();
    let picked: Vec<u32> = (0..kept.len()).filter(|i| kept.is_valid(*i) && kept.value(*i)).map(|i| i as u32).collect();
    let mut offsets = vec![0i32];
    let mut next = 0;
    for end in &all.offsets[1..] {
        while picked.get(next).is_some_and(|p| (*p as i32) < *end) {
            next += 1;
        }
        offsets.push(next as i32);
    }
    let picked = UInt32Array::from(picked);
    let side = |i: usize| take(&parameters[i], &picked, None).map_err(internal);
    map_of(call.ret(), offsets, side(0)?, side(1)?, nulls(map))
}

fn transform_values(call: &HigherInvocation<'_>) -> Result<ArrayRef> {
    let map = map_at(call, 0)?;
    let all = Entries::of(map);
    let parameters = all.parameters(map)?;
    let values = call.apply(0, &parameters, &all.owners)?;
    map_of(call.ret(), all.offsets, parameters[0].clone(), values, nulls(map))
}

fn transform_keys(call: &HigherInvocation<'_>) -> Result<ArrayRef> {
    let map = map_at(call, 0)?;
    let all = Entries::of(map);
    let parameters = all.parameters(map)?;
    let made = call.apply(0, &parameters, &all.owners)?;
    checked_map(call.ret(), &all.offsets, &made, &parameters[1], &nulls(map))
}

/// The keys of the first map in their order, then those that only the second has.
fn zip_with(call: &HigherInvocation<'_>) -> Result<ArrayRef> {
    let (left, right) = (map_at(call, 0)?, map_at(call, 1)?);
    let (mut picks, mut lefts, mut rights, mut owners) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut offsets, mut valid) = (vec![0i32], Vec::new());
    let sources = [left.keys().clone(), right.keys().clone()];
    let rows = keys(&sources)?;
    for row in 0..call.rows {
        let both = entries(left, row).zip(entries(right, row));
        valid.push(both.is_some());
        if let Some((l, r)) = both {
            let mut at: HashMap<&[u8], usize> = r.clone().map(|i| (rows[1].row(i).data(), i)).collect();
            for i in l {
                picks.push((0, i));
                lefts.push(Some(i as u32));
                rights.push(at.remove(rows[0].row(i).data()).map(|i| i as u32));
                owners.push(row as u32);
            }
            for i in r.filter(|i| at.contains_key(rows[1].row(*i).data())) {
                picks.push((1, i));
                lefts.push(None);
                rights.push(Some(i as u32));
                owners.push(row as u32);
            }
        }
        offsets.push(owners.len() as i32);
    }
    let keys: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
    let keys = arrow::compute::interleave(&keys, &picks).map_err(internal)?;
    let lefts = take(left.values(), &UInt32Array::from(lefts), None).map_err(internal)?;
    let rights = take(right.values(), &UInt32Array::from(rights), None).map_err(internal)?;
    let values = call.apply(0, &[keys.clone(), lefts, rights], &owners)?;
    map_of(call.ret(), offsets, keys, values, NullBuffer::from(valid))
}

fn zip_parameters(_: &BindContext, values: &[Typed], _: &[Lambda]) -> Result<(Vec<Parameter>, usize)> {
    let ((key, left), (other, right)) = (parts("map_zip_with", values, 0)?, parts("map_zip_with", values, 1)?);
    if !types::same(&key.0, &other.0) {
        return Err(Error::not_eligible("`map_zip_with` is known for maps with keys of one type only"));
    }
    Ok((vec![key, (left.0, true), (right.0, true)], 3))
}

fn with_values(values: &[Typed], lambda: &Lambda) -> Result<(DataType, bool)> {
    let (key, _) = parts("map", values, 0)?;
    Ok((types::map_of(key.0, lambda.ty.clone(), lambda.nullable), values.iter().any(|v| v.nullable)))
}

fn finish_keys(_: &BindContext, values: &[Typed], lambdas: &mut [Lambda]) -> Result<(DataType, bool)> {
    let (_, value) = parts("transform_keys", values, 0)?;
    check_key("transform_keys", &lambdas[0].ty)?;
    Ok((types::map_of(lambdas[0].ty.clone(), value.0, value.1), values[0].nullable))
}

/// `body` over each entry `e`, its parameters bound one by one.
fn over_entry(c: &DuckHigher<'_>) -> Result<(String, String), String> {
    let lambda = c.lambdas.first().ok_or("a call without its lambda")?;
    let [k, v] = lambda.parameters.as_slice() else { return Err("a lambda of two".into()) };
    let e = format!("{k}{v}");
    let body = format!("list_transform([{e}.key], lambda {k}: list_transform([{e}.value], lambda {v}: {})[1])[1]", lambda.body);
    Ok((e, body))
}

fn filter_duckdb(c: &DuckHigher<'_>) -> Result<String, String> {
    let (e, body) = over_entry(c)?;
    Ok(format!("map_from_entries(list_filter(map_entries({}), lambda {e}: {body}))", c.args[0]))
}

fn values_duckdb(c: &DuckHigher<'_>) -> Result<String, String> {
    let (e, body) = over_entry(c)?;
    Ok(format!("map_from_entries(list_transform(map_entries({}), lambda {e}: {{'k': {e}.key, 'v': {body}}}))", c.args[0]))
}

fn keys_duckdb(c: &DuckHigher<'_>) -> Result<String, String> {
    plain_entries(c.ret)?;
    let (e, body) = over_entry(c)?;
    let made = format!("list_transform(map_entries({}), lambda {e}: {{'k': {body}, 'v': {e}.value}})", c.args[0]);
    Ok(duck::once(&made, |entries| {
        let side = |field: &str| format!("list_transform({entries}, lambda fp_e: fp_e.{field})");
        let checked = duck::once2(&side("k"), &side("v"), |k, v| format!("CASE {} END", checked_duckdb(k, v)));
        format!("CASE WHEN {entries} IS NOT NULL THEN {checked} END")
    }))
}

fn zip_duckdb(c: &DuckHigher<'_>) -> Result<String, String> {
    plain_entries(c.ret)?;
    let lambda = c.lambdas.first().ok_or("a call without its lambda")?;
    let [k, l, r] = lambda.parameters.as_slice() else { return Err("a lambda of three".into()) };
    let body = format!(
        "list_transform([fp_e], lambda {k}: list_transform([map_extract_value(fp_p.a, {k})], lambda {l}: list_transform([map_extract_value(fp_p.b, {k})], lambda {r}: {})[1])[1])[1]",
        lambda.body
    );
    Ok(duck::once2(&c.args[0], &c.args[1], |a, b| {
        let others = format!("list_filter(map_keys({b}), lambda fp_e: NOT list_contains(map_keys({a}), fp_e))");
        let keys = format!("list_concat(map_keys({a}), {others})");
        format!(
            "CASE WHEN {a} IS NOT NULL AND {b} IS NOT NULL THEN map_from_entries(list_transform({keys}, lambda fp_e: {{'k': fp_e, 'v': {body}}})) END"
        )
    }))
}

pub(crate) static MAPS: &[FunctionDef] = &[
    higher!("map_filter", [], 1 values, 1 to 1, parameters: |_, values, _| entry("map_filter", values),
        finish: |ctx, values, lambdas| condition(ctx, "map_filter", &mut lambdas[0]).map(|()| (values[0].ty.clone(), values[0].nullable)),
        eval: filter, duckdb: filter_duckdb, raises: false, proof: "nested-006, hard-055"),
    higher!("transform_values", [], 1 values, 1 to 1, parameters: |_, values, _| entry("transform_values", values),
        finish: |_, values, lambdas| with_values(values, &lambdas[0]),
        eval: transform_values, duckdb: values_duckdb, raises: false, proof: "hard-055"),
    higher!("transform_keys", [], 1 values, 1 to 1, parameters: |_, values, _| entry("transform_keys", values), finish: finish_keys,
        eval: transform_keys, duckdb: keys_duckdb, raises: true, proof: "slt: lambdas"),
    higher!("map_zip_with", [], 2 values, 1 to 1, parameters: zip_parameters, finish: |_, values, lambdas| with_values(values, &lambdas[0]),
        eval: zip_with, duckdb: zip_duckdb, raises: false, proof: "nested-006, slt: lambdas"),
];
