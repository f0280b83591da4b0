//! Rows that take one value out of an array, map or struct, and those that make structs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, Expr};
use flightpath_types::{Error, ErrorKind, Result};

use super::combine::element;
use super::gather::{Gather, entries, keys, range};
use super::maps::key_like;
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::rows::{Frame, internal};
use crate::sig::{self, P, scalar};
use crate::strings::{duck, index_of_zero};
use crate::types;

/// How an array's position counts and what one outside means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// `a[i]`: from 0, an error outside.
    Subscript,
    /// `element_at(a, i)`: from 1 or -1, an error outside.
    ElementAt,
    /// `try_element_at(a, i)`: from 1 or -1, NULL outside.
    TryElementAt,
    /// `get(a, i)`: from 0, NULL outside.
    Get,
}

fn bind_access(ctx: &BindContext, name: &str, mut args: Vec<Typed>, access: Access) -> Result<Bound> {
    sig::arity(name, args.len(), 2, Some(2))?;
    if let Some((key, value)) = types::map_parts(&args[0].ty).filter(|_| access != Access::Get) {
        let (key, value) = (key.data_type().clone(), value.data_type().clone());
        let index = args.remove(1);
        args.push(match access {
            Access::Subscript if types::is_integral(&key) && types::is_integral(&index.ty) => crate::cast::cast(ctx, index, &key)?,
            Access::Subscript => sig::cast_to(ctx, name, 1, index, &key)?,
            _ => key_like(ctx, name, index, &key)?,
        });
        return Ok(Bound { args, ret: value, nullable: true });
    }
    let Some((item, nulls)) = element(&args[0].ty).map(|(item, nulls)| (item.clone(), nulls)) else {
        if access == Access::Subscript {
            return Err(Error::classed(
                ErrorKind::InvalidArgument,
                "INVALID_EXTRACT_BASE_FIELD_TYPE",
                "42000",
                format!("Can't extract a value from {}: a complex type is needed.", types::sql_name(&args[0].ty)),
            ));
        }
        return Err(sig::unexpected_input(name, 0, "ARRAY or MAP", &args[0].ty));
    };
    let index = args.remove(1);
    // A subscript takes any integer; the functions take an INT.
    let wide = access == Access::Subscript && index.ty == DataType::Int64;
    let index = sig::cast(ctx, name, 1, index, if wide { P::Long } else { P::Int })?;
    let nullable = args[0].nullable || index.nullable || access_is_nullable(&args[0], &index, nulls, access);
    args.push(index);
    Ok(Bound { args, ret: item, nullable })
}

/// Databricks knows that a literal position in a literal array isn't NULL, and otherwise trusts only
/// positions that aren't literals.
fn access_is_nullable(list: &Typed, index: &Typed, nulls: bool, access: Access) -> bool {
    let raises = !matches!(access, Access::TryElementAt | Access::Get);
    let position = match index.as_literal() {
        Some(ScalarValue::Int32(Some(v))) => i64::from(*v),
        Some(ScalarValue::Int64(Some(v))) => *v,
        _ => return nulls || !raises,
    };
    let Expr::ScalarFunction(call) = &list.expr else { return true };
    if call.name() != "array" {
        return true;
    }
    let len = call.args.len() as i64;
    let at = match access {
        Access::ElementAt | Access::TryElementAt if position > 0 => position - 1,
        Access::ElementAt | Access::TryElementAt => len + position,
        Access::Subscript | Access::Get => position,
    };
    // Only literals' own nullability shows in the plan: of other elements the array is taken whole.
    match usize::try_from(at).ok().and_then(|at| call.args.get(at)) {
        None => true,
        Some(Expr::Literal(value, _)) => value.is_null(),
        Some(_) => nulls,
    }
}

fn access(invocation: &Invocation<'_>, access: Access) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    if matches!(frame.ty(0)?, DataType::Map(..)) {
        return map_value(&frame);
    }
    let list = frame.array(0)?.as_list::<i32>();
    let position: Box<dyn Fn(usize) -> Option<i64>> = if frame.ty(1)? == &DataType::Int64 {
        let p = frame.long(1)?;
        Box::new(move |row| p.get(row))
    } else {
        let p = frame.int(1)?;
        Box::new(move |row| p.get(row).map(i64::from))
    };
    let mut out = Gather::new(frame.ret(), &[list.values().clone()])?;
    for row in 0..frame.rows() {
        let Some((range, position)) = range(list, frame.index(0, row)).zip(position(row)) else {
            out.push_null();
            continue;
        };
        let len = range.len() as i64;
        let at = match access {
            Access::Subscript | Access::Get => position,
            Access::ElementAt | Access::TryElementAt if position == 0 => return Err(index_of_zero()),
            Access::ElementAt | Access::TryElementAt if position > 0 => position - 1,
            Access::ElementAt | Access::TryElementAt => len + position,
        };
        if (0..len).contains(&at) {
            out.push(0, range.start + at as usize);
            continue;
        }
        match access {
            Access::Get | Access::TryElementAt => out.push_null(),
            Access::Subscript => return Err(invalid_index("INVALID_ARRAY_INDEX", position, len)),
            Access::ElementAt => return Err(invalid_index("INVALID_ARRAY_INDEX_IN_ELEMENT_AT", position, len)),
        }
    }
    frame.finish(out.values()?)
}

fn invalid_index(class: &'static str, index: i64, len: i64) -> Error {
    Error::raised(
        class,
        "22003",
        format!(
            "The index {index} is out of bounds. The array has {len} elements. Use `get` or `try_element_at` to tolerate such an index and return NULL instead."
        ),
    )
}

fn map_value(frame: &Frame) -> Result<ColumnarValue> {
    let (map, wanted) = (frame.array(0)?.as_map(), frame.array(1)?);
    let keys = keys(&[map.keys().clone(), wanted.clone()])?;
    let mut out = Gather::new(frame.ret(), &[map.values().clone()])?;
    for row in 0..frame.rows() {
        let at = frame.index(1, row);
        let found = entries(map, frame.index(0, row))
            .filter(|_| wanted.is_valid(at))
            .and_then(|mut e| e.find(|i| keys[0].row(*i) == keys[1].row(at)));
        match found {
            Some(i) => out.push(0, i),
            None => out.push_null(),
        }
    }
    frame.finish(out.values()?)
}

fn access_duckdb(c: &DuckCall<'_>, access: Access) -> Result<String, String> {
    if matches!(c.types[0], DataType::Map(..)) {
        return Ok(format!("map_extract_value({}, {})", c.args[0], c.args[1]));
    }
    let fail = |class: &str, i: &str, l: &str| {
        crate::duckdb::raise(
            class,
            "22003",
            &format!("'The index ' || {i} || ' is out of bounds. The array has ' || len({l}) || ' elements.'"),
        )
    };
    let zero = || {
        crate::duckdb::raise(
            "INVALID_INDEX_OF_ZERO",
            "22003",
            "'The index 0 is invalid. An index shall be either < 0 or > 0 (the first element has index 1).'",
        )
    };
    Ok(match access {
        Access::Get => {
            duck::once2(&c.args[0], &c.args[1], |l, i| format!("CASE WHEN {i} < 0 THEN NULL ELSE list_extract({l}, {i} + 1) END"))
        }
        Access::TryElementAt => duck::once2(&c.args[0], &c.args[1], |l, i| {
            format!("CASE WHEN {l} IS NOT NULL AND {i} = 0 THEN {} ELSE list_extract({l}, {i}) END", zero())
        }),
        Access::Subscript => duck::once2(&c.args[0], &c.args[1], |l, i| {
            format!("CASE WHEN {i} < 0 OR {i} >= len({l}) THEN {} ELSE list_extract({l}, {i} + 1) END", fail("INVALID_ARRAY_INDEX", i, l))
        }),
        Access::ElementAt => duck::once2(&c.args[0], &c.args[1], |l, i| {
            let outside = fail("INVALID_ARRAY_INDEX_IN_ELEMENT_AT", i, l);
            format!(
                "CASE WHEN {l} IS NOT NULL AND {i} = 0 THEN {} WHEN abs({i}) > len({l}) THEN {outside} ELSE list_extract({l}, {i}) END",
                zero()
            )
        }),
    })
}

/// `s.field`: the second argument is the field's exact name, a literal.
fn bind_field(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    sig::arity("get_field", args.len(), 2, Some(2))?;
    let (DataType::Struct(fields), Some(ScalarValue::Utf8(Some(name)))) = (&args[0].ty, args[1].as_literal()) else {
        return Err(Error::internal("get_field() takes a struct and a literal name"));
    };
    let field = fields.iter().find(|f| f.name() == name).ok_or_else(|| Error::internal(format!("the struct has no field {name}")))?;
    let (ret, nullable) = (field.data_type().clone(), args[0].nullable || field.is_nullable());
    Ok(Bound { args, ret, nullable })
}

fn field(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let name = frame.text(1)?.get(0).map(str::to_string).ok_or_else(|| Error::internal("get_field() without a name"))?;
    let structs = frame.array(0)?.as_struct();
    let column = structs.column_by_name(&name).ok_or_else(|| Error::internal(format!("the struct has no field {name}")))?;
    let column = masked(column, structs.nulls())?;
    if column.len() == frame.rows() {
        return frame.finish(column);
    }
    Err(Error::internal("get_field() of a struct of another length"))
}

/// `column` with NULL where the struct around it is NULL.
fn masked(column: &ArrayRef, outer: Option<&NullBuffer>) -> Result<ArrayRef> {
    if outer.is_none_or(|n| n.null_count() == 0) || column.data_type() == &DataType::Null {
        return Ok(column.clone());
    }
    let nulls = NullBuffer::union(column.nulls(), outer);
    let data = column.to_data().into_builder().nulls(nulls).build().map_err(internal)?;
    Ok(make_array(data))
}

fn make_struct(invocation: &Invocation<'_>, first: usize, step: usize) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let DataType::Struct(fields) = frame.ret() else { return Err(Error::internal("struct() without fields")) };
    let columns = (first..frame.len())
        .step_by(step)
        .zip(fields)
        .map(|(i, f)| {
            let mut out = Gather::new(f.data_type(), &[frame.array(i)?.clone()])?;
            (0..frame.rows()).for_each(|row| out.push(0, frame.index(i, row)));
            out.values()
        })
        .collect::<Result<Vec<_>>>()?;
    frame.finish(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, frame.rows()).map_err(internal)?))
}

/// Fields are named after columns and aliases, others `col1`, `col2`...
fn bind_struct(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    sig::arity("struct", args.len(), 1, None)?;
    let fields: Vec<Field> = args
        .iter()
        .enumerate()
        .map(|(i, arg)| {
            let name = match &arg.expr {
                Expr::Column(column) => column.name.clone(),
                Expr::Alias(alias) => alias.name.clone(),
                Expr::ScalarFunction(call) if call.name() == "get_field" => match call.args.get(1) {
                    Some(Expr::Literal(ScalarValue::Utf8(Some(name)), _)) => name.clone(),
                    _ => format!("col{}", i + 1),
                },
                _ => format!("col{}", i + 1),
            };
            Field::new(name, arg.ty.clone(), arg.nullable)
        })
        .collect();
    Ok(Bound { args, ret: DataType::Struct(Fields::from(fields)), nullable: false })
}

fn bind_named_struct(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    if args.is_empty() || !args.len().is_multiple_of(2) {
        return Err(Error::classed(
            ErrorKind::InvalidArgument,
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            "42605",
            format!("The `named_struct` requires 2n (n > 0) parameters but the actual number is {}.", args.len()),
        ));
    }
    let fields = args
        .chunks(2)
        .map(|pair| match pair[0].as_literal() {
            Some(ScalarValue::Utf8(Some(name))) => Ok(Field::new(name, pair[1].ty.clone(), pair[1].nullable)),
            _ => {
                Err(sig::mismatch("CREATE_NAMED_STRUCT_WITHOUT_FOLDABLE_STRING", "named_struct", "Only literal STRING names are allowed."))
            }
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Bound { args, ret: DataType::Struct(Fields::from(fields)), nullable: false })
}

/// One name may stand once in a DuckDB struct, whatever its case.
fn struct_duckdb(c: &DuckCall<'_>, first: usize, step: usize) -> Result<String, String> {
    let DataType::Struct(fields) = c.ret else { return Err("a struct without fields isn't known on DuckDB".into()) };
    let mut names: Vec<String> = fields.iter().map(|f| f.name().to_lowercase()).collect();
    names.sort();
    names.dedup();
    if names.len() != fields.len() {
        return Err("structs with two fields of one name aren't known on DuckDB".into());
    }
    let parts: Vec<String> = c
        .args
        .iter()
        .skip(first)
        .step_by(step)
        .zip(fields)
        .map(|(a, f)| format!("{} := {a}", crate::duckdb::identifier(f.name())))
        .collect();
    Ok(format!("struct_pack({})", parts.join(", ")))
}

pub(crate) static ACCESS: &[FunctionDef] = &[
    // `x[i]` of arrays and maps.
    scalar!("subscript", [], bind: |ctx, args| bind_access(ctx, "subscript", args, Access::Subscript), eval: |i| access(i, Access::Subscript),
        duckdb: |c| access_duckdb(c, Access::Subscript), proof: "hard-015, hard-019, hard-059, nested-008"),
    scalar!("element_at", [], bind: |ctx, args| bind_access(ctx, "element_at", args, Access::ElementAt), eval: |i| access(i, Access::ElementAt),
        duckdb: |c| access_duckdb(c, Access::ElementAt), proof: "hard-015, hard-019, nested-008, nested-015, nested-042"),
    scalar!("try_element_at", [], bind: |ctx, args| bind_access(ctx, "try_element_at", args, Access::TryElementAt), eval: |i| access(i, Access::TryElementAt),
        duckdb: |c| access_duckdb(c, Access::TryElementAt), proof: "nested-010, nested-043"),
    scalar!("get", [], bind: |ctx, args| bind_access(ctx, "get", args, Access::Get), eval: |i| access(i, Access::Get),
        duckdb: |c| access_duckdb(c, Access::Get), proof: "nested-042, nested-043"),
    scalar!("get_field", [], bind: bind_field, eval: field,
        duckdb: |c| match duck::text(c, 1) {
            Some(name) => Ok(format!("struct_extract({}, {})", c.args[0], crate::duckdb::string(name))),
            None => Err("a struct's field must be named by a literal".into()),
        },
        proof: "hard-051, nested-005, nested-020"),
    scalar!("struct", [], bind: bind_struct, eval: |i| make_struct(i, 0, 1), duckdb: |c| struct_duckdb(c, 0, 1), proof: "hard-051, nested-004"),
    scalar!("named_struct", [], bind: bind_named_struct, eval: |i| make_struct(i, 1, 2), duckdb: |c| struct_duckdb(c, 1, 2), proof: "hard-051, nested-007"),
];
