//! Rows that make maps and take them apart. Keys are unique and never NULL.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType::{self, Boolean, Utf8};
use arrow::datatypes::Field;
use arrow::row::Rows;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::combine::{common, element, meet_tightly};
use super::gather::{Gather, entries, keys, list_of, map_of, range};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::rows::Frame;
use crate::sig::{self, P, mismatch, scalar, strict};
use crate::strings::duck;
use crate::types;

fn parts_of(name: &str, index: usize, ty: &DataType) -> Result<(DataType, DataType)> {
    types::map_parts(ty)
        .map(|(k, v)| (k.data_type().clone(), v.data_type().clone()))
        .ok_or_else(|| sig::unexpected_input(name, index, "MAP", ty))
}

pub(crate) fn check_key(name: &str, key: &DataType) -> Result<()> {
    if types::is_orderable(key) {
        Ok(())
    } else {
        Err(mismatch("INVALID_MAP_KEY_TYPE", name, format!("The key of a map can't be {}.", types::sql_name(key))))
    }
}

/// Collects a map's entries and sees to it that keys are unique and not NULL.
struct Entries<'a> {
    keys: Gather,
    values: Gather,
    /// Comparable keys of each source.
    rows: &'a [Rows],
    sources: &'a [ArrayRef],
    seen: HashSet<&'a [u8]>,
    offsets: Vec<i32>,
    valid: Vec<bool>,
    total: usize,
}

impl<'a> Entries<'a> {
    fn new(ret: &DataType, key_sources: &'a [ArrayRef], rows: &'a [Rows], value_sources: &[ArrayRef]) -> Result<Self> {
        let (key, value) = parts_of("map", 0, ret)?;
        Ok(Self {
            keys: Gather::new(&key, key_sources)?,
            values: Gather::new(&value, value_sources)?,
            rows,
            sources: key_sources,
            seen: HashSet::new(),
            offsets: vec![0],
            valid: Vec::new(),
            total: 0,
        })
    }

    fn push(&mut self, key: (usize, usize), value: (usize, usize)) -> Result<()> {
        if self.sources[key.0].is_null(key.1) {
            return Err(Error::raised("NULL_MAP_KEY", "2200E", "Cannot use null as map key."));
        }
        if !self.seen.insert(self.rows[key.0].row(key.1).data()) {
            return Err(Error::raised("DUPLICATED_MAP_KEY", "23505", "Duplicate map key was found, please check the input data."));
        }
        self.keys.push(key.0, key.1);
        self.values.push(value.0, value.1);
        self.total += 1;
        Ok(())
    }

    fn end(&mut self, valid: bool) -> Result<()> {
        self.seen.clear();
        self.offsets.push(i32::try_from(self.total).map_err(|_| Error::not_eligible("maps of one batch hold more than 2^31 entries"))?);
        self.valid.push(valid);
        Ok(())
    }

    fn finish(self, ret: &DataType) -> Result<ArrayRef> {
        map_of(ret, self.offsets, self.keys.values()?, self.values.values()?, NullBuffer::from(self.valid))
    }
}

/// A value to look for among keys: of their own kind, never a text for a number or the other way round.
pub(super) fn key_like(ctx: &BindContext, name: &str, wanted: Typed, key: &DataType) -> Result<Typed> {
    if !meet_tightly(key, &wanted.ty) {
        return Err(mismatch(
            "MAP_FUNCTION_DIFF_TYPES",
            name,
            format!("The map's keys have the type {}, but the value has {}.", types::sql_name(key), types::sql_name(&wanted.ty)),
        ));
    }
    let narrow = types::is_integral(key) && types::is_integral(&wanted.ty);
    if narrow && types::least_common_type([key, &wanted.ty]).is_some_and(|common| common != *key) {
        // What no key can hold is no key.
        return match wanted.as_literal().and_then(|v| crate::cast::cast_literal(v, key, &ctx.time_zone)) {
            Some(value) if !value.is_null() => Ok(Typed::literal(value)),
            _ if name == "map_contains_key" => {
                Err(Error::not_eligible(format!("`{name}` of a value whose type is wider than the keys' isn't known")))
            }
            _ => crate::cast::try_cast(ctx, wanted, key),
        };
    }
    if wanted.ty != *key && !narrow && wanted.ty != DataType::Null {
        return Err(Error::not_eligible(format!(
            "`{name}` of {} among keys of {} isn't known",
            types::sql_name(&wanted.ty),
            types::sql_name(key)
        )));
    }
    sig::cast_to(ctx, name, 1, wanted, key)
}

/// A map of entries that a query made: its keys are checked.
pub(crate) fn checked_map(ret: &DataType, offsets: &[i32], keys_of: &ArrayRef, values: &ArrayRef, nulls: &NullBuffer) -> Result<ArrayRef> {
    let (ks, vs) = ([keys_of.clone()], [values.clone()]);
    let rows = keys(&ks)?;
    let mut out = Entries::new(ret, &ks, &rows, &vs)?;
    for (row, bounds) in offsets.windows(2).enumerate() {
        (bounds[0]..bounds[1]).try_for_each(|i| out.push((0, i as usize), (0, i as usize)))?;
        out.end(nulls.is_valid(row))?;
    }
    out.finish(ret)
}

fn bind_map(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    if !args.len().is_multiple_of(2) {
        return Err(Error::classed(
            flightpath_types::ErrorKind::InvalidArgument,
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            "42605",
            format!("The `map` requires 2n (n > 0) parameters but the actual number is {}.", args.len()),
        ));
    }
    let (mut ks, mut vs) = (Vec::new(), Vec::new());
    for (i, arg) in args.into_iter().enumerate() {
        if i % 2 == 0 { ks.push(arg) } else { vs.push(arg) }
    }
    let (key, ks) = common(ctx, "map", ks)?;
    let (value, vs) = common(ctx, "map", vs)?;
    check_key("map", &key)?;
    let contains_null = vs.iter().any(|v| v.nullable);
    let args = ks.into_iter().zip(vs).flat_map(|(k, v)| [k, v]).collect();
    Ok(Bound { args, ret: types::map_of(key, value, contains_null), nullable: false })
}

fn map(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let column = |first: usize| (first..frame.len()).step_by(2).map(|i| frame.array(i).cloned()).collect::<Result<Vec<ArrayRef>>>();
    let (ks, vs) = (column(0)?, column(1)?);
    let rows = keys(&ks)?;
    let mut out = Entries::new(frame.ret(), &ks, &rows, &vs)?;
    for row in 0..frame.rows() {
        for i in 0..ks.len() {
            out.push((i, frame.index(i * 2, row)), (i, frame.index(i * 2 + 1, row)))?;
        }
        out.end(true)?;
    }
    frame.finish(out.finish(frame.ret())?)
}

/// Keys that DuckDB tells apart exactly as Databricks does.
fn plain_keys(ty: &DataType) -> std::result::Result<(), String> {
    match types::is_atomic(ty) && !types::is_float(ty) && !types::is_interval(ty) {
        true => Ok(()),
        false => Err(format!("a map with keys of type {} isn't known on DuckDB", types::name(ty))),
    }
}

/// The same for the map's own type, whose values aren't nothing but NULLs.
pub(crate) fn plain_entries(map: &DataType) -> std::result::Result<(), String> {
    let (key, value) = types::map_parts(map).ok_or("a map without its type")?;
    plain_keys(key.data_type())?;
    match value.data_type() {
        DataType::Null => Err("a map of nothing but NULLs isn't known on DuckDB".into()),
        _ => Ok(()),
    }
}

fn null_key() -> String {
    crate::duckdb::raise("NULL_MAP_KEY", "2200E", &crate::duckdb::string("Cannot use null as map key."))
}

fn duplicate_key() -> String {
    let message = crate::duckdb::string("Duplicate map key was found, please check the input data.");
    crate::duckdb::raise("DUPLICATED_MAP_KEY", "23505", &message)
}

fn map_duckdb(c: &DuckCall<'_>) -> std::result::Result<String, String> {
    let (key, value) = types::map_parts(c.ret).ok_or("a map without its type")?;
    if c.args.is_empty() || *value.data_type() == DataType::Null {
        return Err("an empty map, or one of nothing but NULLs, isn't known on DuckDB".into());
    }
    plain_keys(key.data_type())?;
    let side = |first: usize| c.args.iter().skip(first).step_by(2).cloned().collect::<Vec<String>>();
    let (ks, vs) = (side(0), side(1));
    let made = format!("map([{}], [{}])", ks.join(", "), vs.join(", "));
    let literals: Vec<_> = c.literals.iter().step_by(2).collect();
    let known = |l: &&Option<datafusion::common::ScalarValue>| l.as_ref().is_some_and(|v| !v.is_null());
    if literals.iter().all(known) && (1..literals.len()).all(|i| !literals[..i].contains(&literals[i])) {
        return Ok(made);
    }
    let any_null = ks.iter().map(|k| format!("{k} IS NULL")).collect::<Vec<_>>().join(" OR ");
    let duplicates = match ks.len() {
        1 => String::new(),
        n => format!(" WHEN len(list_distinct([{}])) < {n} THEN {}", ks.join(", "), duplicate_key()),
    };
    Ok(format!("(CASE WHEN {any_null} THEN {}{duplicates} ELSE {made} END)", null_key()))
}

fn from_arrays_duckdb(c: &DuckCall<'_>) -> std::result::Result<String, String> {
    plain_entries(c.ret)?;
    let message = crate::duckdb::string("The key array and the value array of a map must have the same length.");
    let lengths = crate::duckdb::raise("INVALID_PARAMETER_VALUE.MAP_ARRAYS", "22023", &message);
    Ok(duck::once2(&c.args[0], &c.args[1], |k, v| {
        format!("CASE WHEN {k} IS NULL OR {v} IS NULL THEN NULL WHEN len({k}) <> len({v}) THEN {lengths} {} END", checked_duckdb(k, v))
    }))
}

/// The last branches of a CASE that makes a map of lists of keys and values as long as each other.
pub(crate) fn checked_duckdb(k: &str, v: &str) -> String {
    format!(
        "WHEN list_count({k}) < len({k}) THEN {} WHEN len(list_distinct({k})) < len({k}) THEN {} ELSE map({k}, {v})",
        null_key(),
        duplicate_key()
    )
}

fn from_entries_duckdb(c: &DuckCall<'_>) -> std::result::Result<String, String> {
    plain_entries(c.ret)?;
    let Some((DataType::Struct(fields), _)) = element(&c.types[0]) else { return Err("entries that aren't structs".into()) };
    let side = |e: &str, i: usize| format!("list_transform({e}, lambda fp_e: fp_e.{})", crate::duckdb::identifier(fields[i].name()));
    Ok(duck::once(&c.args[0], |e| {
        let made = duck::once2(&side(e, 0), &side(e, 1), |k, v| format!("CASE {} END", checked_duckdb(k, v)));
        format!("CASE WHEN {e} IS NULL OR len(list_filter({e}, lambda fp_e: fp_e IS NULL)) > 0 THEN NULL ELSE {made} END")
    }))
}

fn concat_duckdb(c: &DuckCall<'_>) -> std::result::Result<String, String> {
    plain_entries(c.ret)?;
    Ok(duck::once(&format!("[{}]", c.args.join(", ")), |maps| {
        let side = |of: &str| format!("flatten(list_transform({maps}, lambda fp_m: {of}(fp_m)))");
        let made = duck::once2(&side("map_keys"), &side("map_values"), |k, v| format!("CASE {} END", checked_duckdb(k, v)));
        format!("CASE WHEN list_count({maps}) < len({maps}) THEN NULL ELSE {made} END")
    }))
}

fn bind_from_arrays(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "map_from_arrays";
    sig::arity(NAME, args.len(), 2, Some(2))?;
    let item = |i: usize| {
        let element = element(&args[i].ty).map(|(t, nulls)| (t.clone(), nulls));
        element.ok_or_else(|| sig::unexpected_input(NAME, i, "ARRAY", &args[i].ty))
    };
    let ((key, _), (value, contains_null)) = (item(0)?, item(1)?);
    check_key(NAME, &key)?;
    Ok(sig::bound(args, strict(types::map_of(key, value, contains_null))))
}

fn from_arrays(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (kl, vl) = (frame.array(0)?.as_list::<i32>(), frame.array(1)?.as_list::<i32>());
    let (ks, vs) = ([kl.values().clone()], [vl.values().clone()]);
    let rows = keys(&ks)?;
    let mut out = Entries::new(frame.ret(), &ks, &rows, &vs)?;
    for row in 0..frame.rows() {
        match range(kl, frame.index(0, row)).zip(range(vl, frame.index(1, row))) {
            Some((k, v)) if k.len() == v.len() => {
                k.zip(v).try_for_each(|(k, v)| out.push((0, k), (0, v)))?;
                out.end(true)?;
            }
            Some(_) => {
                return Err(Error::raised(
                    "INVALID_PARAMETER_VALUE.MAP_ARRAYS",
                    "22023",
                    "The key array and the value array of a map must have the same length.",
                ));
            }
            None => out.end(false)?,
        }
    }
    frame.finish(out.finish(frame.ret())?)
}

fn bind_from_entries(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "map_from_entries";
    sig::arity(NAME, args.len(), 1, Some(1))?;
    match element(&args[0].ty) {
        Some((DataType::Struct(fields), nulls)) if fields.len() == 2 => {
            check_key(NAME, fields[0].data_type())?;
            let (key, value) = (fields[0].data_type().clone(), fields[1].data_type().clone());
            let (ret, nullable) = (types::map_of(key, value, fields[1].is_nullable()), args[0].nullable || nulls);
            Ok(Bound { args, ret, nullable })
        }
        _ => Err(sig::unexpected_input(NAME, 0, "ARRAY of pair STRUCT", &args[0].ty)),
    }
}

fn from_entries(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let list = frame.array(0)?.as_list::<i32>();
    let structs = list.values().as_struct();
    let (ks, vs) = ([structs.column(0).clone()], [structs.column(1).clone()]);
    let rows = keys(&ks)?;
    let mut out = Entries::new(frame.ret(), &ks, &rows, &vs)?;
    for row in 0..frame.rows() {
        match range(list, frame.index(0, row)).filter(|r| r.clone().all(|i| structs.is_valid(i))) {
            Some(mut range) => {
                range.try_for_each(|i| out.push((0, i), (0, i)))?;
                out.end(true)?;
            }
            None => out.end(false)?,
        }
    }
    frame.finish(out.finish(frame.ret())?)
}

fn bind_concat(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    if args.is_empty() {
        return Err(Error::not_eligible("`map_concat` without a map isn't known"));
    }
    for (i, arg) in args.iter().enumerate() {
        parts_of("map_concat", i, &arg.ty)?;
    }
    let (ty, args) = common(ctx, "map_concat", args)?;
    Ok(sig::bound(args, strict(ty)))
}

fn concat(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let maps = (0..frame.len()).map(|i| Ok(frame.array(i)?.as_map().clone())).collect::<Result<Vec<_>>>()?;
    let ks: Vec<ArrayRef> = maps.iter().map(|m| m.keys().clone()).collect();
    let vs: Vec<ArrayRef> = maps.iter().map(|m| m.values().clone()).collect();
    let rows = keys(&ks)?;
    let mut out = Entries::new(frame.ret(), &ks, &rows, &vs)?;
    for row in 0..frame.rows() {
        let ranges: Option<Vec<_>> = maps.iter().enumerate().map(|(c, m)| entries(m, frame.index(c, row))).collect();
        let valid = ranges.is_some();
        for (column, mut range) in ranges.into_iter().flatten().enumerate() {
            range.try_for_each(|i| out.push((column, i), (column, i)))?;
        }
        out.end(valid)?;
    }
    frame.finish(out.finish(frame.ret())?)
}

/// One side of a map, or its entries, as an array.
fn bind_side(name: &str, args: Vec<Typed>, item: fn(DataType, DataType) -> (DataType, bool)) -> Result<Bound> {
    sig::arity(name, args.len(), 1, Some(1))?;
    let (key, value) = parts_of(name, 0, &args[0].ty)?;
    let (item, contains_null) = item(key, value);
    Ok(sig::bound(args, strict(types::array(item, contains_null))))
}

/// A map's entries keep its own word on NULL values.
fn bind_entries(args: Vec<Typed>) -> Result<Bound> {
    let value_nullable = args.first().and_then(|a| types::map_parts(&a.ty)).is_none_or(|(_, v)| v.is_nullable());
    let item = if value_nullable { |k, v| (entry_type(k, v, true), false) } else { |k, v| (entry_type(k, v, false), false) };
    bind_side("map_entries", args, item)
}

fn entry_type(key: DataType, value: DataType, nullable: bool) -> DataType {
    DataType::Struct(vec![Field::new("key", key, false), Field::new("value", value, nullable)].into())
}

fn side(invocation: &Invocation<'_>, pick: fn(&StructArray) -> ArrayRef) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let map = frame.array(0)?.as_map();
    let nulls = map.nulls().cloned().unwrap_or_else(|| NullBuffer::new_valid(map.len()));
    frame.finish(list_of(frame.ret(), map.offsets().to_vec(), pick(map.entries()), nulls)?)
}

fn bind_contains_key(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "map_contains_key";
    sig::arity(NAME, args.len(), 2, Some(2))?;
    let (key, _) = parts_of(NAME, 0, &args[0].ty)?;
    let wanted = args.remove(1);
    if wanted.ty == DataType::Null {
        return Err(mismatch("NULL_TYPE", NAME, "Null typed values cannot be used as arguments of `map_contains_key`."));
    }
    args.push(key_like(ctx, NAME, wanted, &key)?);
    // The keys of a map come as an array whose elements are declared nullable.
    Ok(Bound { args, ret: Boolean, nullable: true })
}

fn contains_key(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (map, wanted) = (frame.array(0)?.as_map(), frame.array(1)?);
    let rows = keys(&[map.keys().clone(), wanted.clone()])?;
    frame.booleans(|row| {
        let at = frame.index(1, row);
        Ok(entries(map, frame.index(0, row)).filter(|_| wanted.is_valid(at)).map(|mut e| e.any(|i| rows[0].row(i) == rows[1].row(at))))
    })
}

fn bind_str_to_map(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    let bound = sig::call(ctx, "str_to_map", args, &[P::Str, P::Opt, P::Str, P::Str], strict(types::map(Utf8, Utf8)))?;
    // Delimiters are regular expressions; those without special characters are certain.
    for delimiter in &bound.args[1..] {
        let plain = delimiter
            .as_literal()
            .and_then(|v| v.try_as_str().flatten())
            .is_some_and(|d| !d.is_empty() && d.chars().all(|c| !r"\.[]{}()*+-?^$|".contains(c)));
        if !plain {
            return Err(Error::not_eligible("`str_to_map` is known for literal delimiters without special characters only"));
        }
    }
    Ok(bound)
}

fn str_to_map(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    use arrow::array::StringArray;
    let frame = Frame::new(invocation)?;
    let text = frame.text(0)?;
    let delimiter = |i: usize, default: &str| -> Result<String> {
        Ok(if frame.len() > i { frame.text(i)?.get(0).unwrap_or(default).to_string() } else { default.to_string() })
    };
    let (pair, key_value) = (delimiter(1, ",")?, delimiter(2, ":")?);
    let (mut ks, mut vs): (Vec<String>, Vec<Option<String>>) = (Vec::new(), Vec::new());
    let mut counts = Vec::with_capacity(frame.rows());
    for row in 0..frame.rows() {
        let before = ks.len();
        let Some(text) = text.get(row) else {
            counts.push(None);
            continue;
        };
        for part in text.split(pair.as_str()) {
            match part.split_once(key_value.as_str()) {
                Some((k, v)) => {
                    ks.push(k.to_string());
                    vs.push(Some(v.to_string()));
                }
                None => {
                    ks.push(part.to_string());
                    vs.push(None);
                }
            }
        }
        counts.push(Some(ks.len() - before));
    }
    let ks: [ArrayRef; 1] = [Arc::new(StringArray::from(ks))];
    let vs: [ArrayRef; 1] = [Arc::new(StringArray::from(vs))];
    let rows = keys(&ks)?;
    let mut out = Entries::new(frame.ret(), &ks, &rows, &vs)?;
    let mut at = 0;
    for count in counts {
        for i in at..at + count.unwrap_or(0) {
            out.push((0, i), (0, i))?;
        }
        at += count.unwrap_or(0);
        out.end(count.is_some())?;
    }
    frame.finish(out.finish(frame.ret())?)
}

pub(crate) static MAPS: &[FunctionDef] = &[
    scalar!("map", [], bind: bind_map, eval: map,
        duckdb: map_duckdb, proof: "nested-029, nested-035"),
    scalar!("map_from_arrays", [], bind: bind_from_arrays, eval: from_arrays, duckdb: from_arrays_duckdb, proof: "nested-029, hard-002"),
    scalar!("map_from_entries", [], bind: bind_from_entries, eval: from_entries, duckdb: from_entries_duckdb, proof: "nested-029"),
    scalar!("map_concat", [], bind: bind_concat, eval: concat, duckdb: concat_duckdb, proof: "nested-029, hard-055"),
    scalar!("map_keys", [], bind: |_, args| bind_side("map_keys", args, |k, _| (k, true)), eval: |i| side(i, |e| e.column(0).clone()),
        duckdb: |c| duck::same("map_keys", c), proof: "nested-015, hard-002"),
    scalar!("map_values", [], bind: |_, args| bind_side("map_values", args, |_, v| (v, true)), eval: |i| side(i, |e| e.column(1).clone()),
        duckdb: |c| duck::same("map_values", c), proof: "nested-003, hard-002"),
    scalar!("map_entries", [], bind: |_, args| bind_entries(args), eval: |i| side(i, |e| Arc::new(e.clone())),
        duckdb: |c| duck::same("map_entries", c), proof: "hard-002"),
    scalar!("map_contains_key", [], bind: bind_contains_key, eval: contains_key,
        duckdb: |c| Ok(duck::once2(&c.args[0], &c.args[1], |m, k| format!("CASE WHEN {k} IS NULL THEN NULL ELSE list_contains(map_keys({m}), {k}) END"))),
        proof: "nested-020, hard-055"),
    scalar!("str_to_map", [], bind: bind_str_to_map, eval: str_to_map, duckdb: |_| duck::unknown("str_to_map"), proof: "nested-029, hard-065"),
];
