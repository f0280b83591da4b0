//! `from_json` and `schema_of_json`: JSON texts as typed values, in Databricks' PERMISSIVE mode: what
//! can't be read is NULL and never an error. A struct keeps the fields that could be read; an array or a
//! map with one bad value is NULL as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float32Array, Float64Array, ListArray, MapArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, FieldRef, Fields, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::cast::zone::Zone;
use crate::cast::{parse_date, parse_decimal, parse_timestamp, session_zone};
use crate::def::{BindContext, Bound, FunctionDef, Invocation, Typed};
use crate::json::Json;
use crate::rows::{Frame, eval};
use crate::sig::{self, scalar};
use crate::strings::duck;
use crate::types;

pub(crate) static FROM_JSON: &[FunctionDef] = &[
    scalar!("from_json", [], bind: bind, eval: from_json, duckdb: |_| duck::unknown("from_json"), proof: "slt: scalar_functions"),
    scalar!("schema_of_json", [], bind: bind_schema,
        eval: eval!(texts; json: text => schema_of(json)?),
        duckdb: |_| duck::unknown("schema_of_json"), proof: "slt: scalar_functions"),
];

/// The binder gives the type that was asked for as a NULL of it.
fn bind(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    sig::arity("from_json", args.len(), 2, Some(2))?;
    let mut args = args.into_iter();
    let (Some(json), Some(schema)) = (args.next(), args.next()) else { return Err(Error::internal("arity was checked")) };
    let json = sig::cast(ctx, "from_json", 0, json, sig::P::Str)?;
    if !matches!(schema.ty, DataType::Struct(_) | DataType::List(_) | DataType::Map(..)) || !readable(&schema.ty) {
        return Err(Error::not_eligible(format!("`from_json` to {} isn't known", types::name(&schema.ty))));
    }
    let ret = schema.ty;
    Ok(Bound { args: vec![json], ret, nullable: true })
}

fn readable(ty: &DataType) -> bool {
    match ty {
        DataType::List(item) => readable(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| readable(f.data_type())),
        DataType::Map(..) => types::map_parts(ty).is_some_and(|(k, v)| k.data_type() == &DataType::Utf8 && readable(v.data_type())),
        DataType::Boolean | DataType::Utf8 | DataType::Date32 => true,
        other => types::is_numeric(other) || types::is_timestamp(other),
    }
}

fn from_json(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let zone = session_zone(invocation.time_zone)?;
    let texts = frame.text(0)?;
    let cells = (0..frame.rows())
        .map(|row| match texts.get(row) {
            Some(text) if !text.trim_matches([' ', '\t', '\r', '\n']).is_empty() => root(text, frame.ret(), zone),
            _ => Ok(Cell::Null),
        })
        .collect::<Result<Vec<_>>>()?;
    frame.finish(array(frame.ret(), cells)?)
}

/// A value once read, of the type asked for.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Bool(bool),
    /// Integers, days and microseconds.
    Int(i64),
    Double(f64),
    Decimal(i128),
    Text(String),
    List(Vec<Cell>),
    Struct(Vec<Cell>),
    Map(Vec<(String, Cell)>),
}

fn root(text: &str, ty: &DataType, zone: Zone) -> Result<Cell> {
    let json = Json::read(text);
    if json.is_none() && (text.contains("NaN") || text.contains("INF") || text.contains("Infinity")) {
        return Err(Error::not_eligible("`from_json` of a text with a bare NaN or infinity isn't known"));
    }
    let empty = |fields: &Fields| Cell::Struct(vec![Cell::Null; fields.len()]);
    Ok(match (ty, json) {
        (DataType::Struct(fields), None | Some(Json::Null)) => empty(fields),
        (DataType::Struct(fields), Some(json)) => read(&json, ty, zone).unwrap_or_else(|| empty(fields)),
        // One object where an array of them is asked for.
        (DataType::List(item), Some(json @ Json::Object(_))) if matches!(item.data_type(), DataType::Struct(_)) => {
            read(&json, item.data_type(), zone).map_or(Cell::Null, |one| Cell::List(vec![one]))
        }
        (_, json) => json.and_then(|json| read(&json, ty, zone)).unwrap_or(Cell::Null),
    })
}

/// `None` where the value isn't of the type.
fn read(json: &Json, ty: &DataType, zone: Zone) -> Option<Cell> {
    Some(match (ty, json) {
        (_, Json::Null) => Cell::Null,
        (DataType::Utf8, Json::Text(text)) => Cell::Text(text.clone()),
        (DataType::Utf8, other) => {
            let mut out = String::new();
            other.write(&mut out)?;
            Cell::Text(out)
        }
        (DataType::Boolean, Json::Bool(b)) => Cell::Bool(*b),
        (DataType::Float32 | DataType::Float64, Json::Number(n)) => Cell::Double(n.parse().ok()?),
        (DataType::Float32 | DataType::Float64, Json::Text(text)) => Cell::Double(match text.as_str() {
            "NaN" => f64::NAN,
            "Infinity" | "+Infinity" | "+INF" => f64::INFINITY,
            "-Infinity" | "-INF" => f64::NEG_INFINITY,
            _ => return None,
        }),
        (DataType::Decimal128(p, s), Json::Number(text) | Json::Text(text)) => Cell::Decimal(parse_decimal(text, *p, *s)?),
        (DataType::Date32, Json::Text(text)) => Cell::Int(i64::from(parse_date(text)?)),
        (t, Json::Text(text)) if types::is_timestamp(t) => Cell::Int(parse_timestamp(text, zone)?),
        (t, Json::Number(n)) if types::is_timestamp(t) => Cell::Int(n.parse::<i64>().ok()?.checked_mul(1_000_000)?),
        (t, Json::Number(n)) if types::is_integral(t) => {
            let (min, max) = types::integral_bounds(t)?;
            Cell::Int(n.parse::<i64>().ok().filter(|v| (min..=max).contains(v))?)
        }
        (DataType::List(item), Json::Array(items)) => {
            Cell::List(items.iter().map(|i| read(i, item.data_type(), zone)).collect::<Option<_>>()?)
        }
        (DataType::Struct(fields), Json::Object(given)) => {
            // The last of equal names counts.
            let of = |name: &str| given.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value);
            let cell = |f: &FieldRef| of(f.name()).and_then(|value| read(value, f.data_type(), zone)).unwrap_or(Cell::Null);
            Cell::Struct(fields.iter().map(cell).collect())
        }
        (DataType::Map(..), Json::Object(given)) => {
            let (_, value) = types::map_parts(ty)?;
            Cell::Map(given.iter().map(|(n, v)| Some((n.clone(), read(v, value.data_type(), zone)?))).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn internal(e: impl std::fmt::Display) -> Error {
    Error::internal(e.to_string())
}

fn integers<T: ArrowPrimitiveType>(ty: &DataType, cells: &[Cell]) -> ArrayRef
where
    T::Native: TryFrom<i64>,
{
    let value = |cell: &Cell| if let Cell::Int(v) = cell { T::Native::try_from(*v).ok() } else { None };
    let values: PrimitiveArray<T> = cells.iter().map(value).collect();
    Arc::new(values.with_data_type(ty.clone()))
}

/// Cells of one type as an array of it.
fn array(ty: &DataType, cells: Vec<Cell>) -> Result<ArrayRef> {
    let double = |cell: &Cell| if let Cell::Double(v) = cell { Some(*v) } else { None };
    Ok(match ty {
        DataType::Boolean => Arc::new(cells.iter().map(|c| if let Cell::Bool(b) = c { Some(*b) } else { None }).collect::<BooleanArray>()),
        DataType::Int8 => integers::<Int8Type>(ty, &cells),
        DataType::Int16 => integers::<Int16Type>(ty, &cells),
        DataType::Int32 => integers::<Int32Type>(ty, &cells),
        DataType::Int64 => integers::<Int64Type>(ty, &cells),
        DataType::Date32 => integers::<Date32Type>(ty, &cells),
        DataType::Timestamp(..) => integers::<TimestampMicrosecondType>(ty, &cells),
        DataType::Float32 => Arc::new(cells.iter().map(|c| double(c).map(|v| v as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(cells.iter().map(double).collect::<Float64Array>()),
        DataType::Decimal128(..) => {
            let values: Decimal128Array = cells.iter().map(|c| if let Cell::Decimal(v) = c { Some(*v) } else { None }).collect();
            Arc::new(values.with_data_type(ty.clone()))
        }
        DataType::Utf8 => {
            Arc::new(cells.iter().map(|c| if let Cell::Text(t) = c { Some(t.as_str()) } else { None }).collect::<StringArray>())
        }
        DataType::List(item) => {
            let nulls = NullBuffer::from_iter(cells.iter().map(|c| *c != Cell::Null));
            let lists: Vec<Vec<Cell>> = cells.into_iter().map(|c| if let Cell::List(items) = c { items } else { Vec::new() }).collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
            let values = array(item.data_type(), lists.into_iter().flatten().collect())?;
            Arc::new(ListArray::try_new(item.clone(), offsets, values, Some(nulls)).map_err(internal)?)
        }
        DataType::Struct(fields) => Arc::new(structs(fields, cells)?),
        DataType::Map(entries, sorted) => {
            let DataType::Struct(parts) = entries.data_type() else { return Err(Error::internal("a map without entries")) };
            let nulls = NullBuffer::from_iter(cells.iter().map(|c| *c != Cell::Null));
            let maps: Vec<Vec<(String, Cell)>> = cells.into_iter().map(|c| if let Cell::Map(m) = c { m } else { Vec::new() }).collect();
            let offsets = OffsetBuffer::from_lengths(maps.iter().map(Vec::len));
            let pairs = maps.into_iter().flatten().map(|(k, v)| Cell::Struct(vec![Cell::Text(k), v])).collect();
            Arc::new(MapArray::try_new(entries.clone(), offsets, structs(parts, pairs)?, Some(nulls), *sorted).map_err(internal)?)
        }
        other => return Err(Error::internal(format!("from_json made a value of type {other}"))),
    })
}

fn structs(fields: &Fields, cells: Vec<Cell>) -> Result<StructArray> {
    let rows = cells.len();
    let present: Vec<bool> = cells.iter().map(|c| *c != Cell::Null).collect();
    let mut columns: Vec<Vec<Cell>> = fields.iter().map(|_| Vec::with_capacity(rows)).collect();
    for cell in cells {
        let values = if let Cell::Struct(values) = cell { values } else { vec![Cell::Null; fields.len()] };
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(value);
        }
    }
    let columns = fields.iter().zip(columns).map(|(f, c)| array(f.data_type(), c)).collect::<Result<Vec<_>>>()?;
    let nulls = present.contains(&false).then(|| NullBuffer::from(present));
    StructArray::try_new_with_length(fields.clone(), columns, nulls, rows).map_err(internal)
}

/// What a JSON value's type is, as far as the values seen say.
#[derive(Debug, Clone, PartialEq)]
enum Inferred {
    Null,
    Bool,
    Long,
    /// Whole numbers beyond BIGINT, of so many digits.
    Decimal(usize),
    Double,
    Text,
    Array(Box<Inferred>),
    Struct(BTreeMap<String, Inferred>),
}

fn bind_schema(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    let bound = sig::call(ctx, "schema_of_json", args, &[sig::P::Str], sig::strict(DataType::Utf8))?;
    match bound.args.iter().all(|a| a.as_literal().is_some()) {
        true => Ok(bound),
        false => Err(types::mismatch("NON_FOLDABLE_INPUT", "the JSON of `schema_of_json` must be a literal")),
    }
}

fn schema_of(text: &str) -> Result<String> {
    let json = Json::read(text).ok_or_else(|| Error::not_eligible("`schema_of_json` of a text that isn't JSON isn't known"))?;
    let mut out = String::new();
    infer(&json).write(&mut out);
    Ok(out)
}

fn infer(json: &Json) -> Inferred {
    match json {
        Json::Null => Inferred::Null,
        Json::Bool(_) => Inferred::Bool,
        Json::Number(n) if n.contains(['.', 'e', 'E']) => Inferred::Double,
        Json::Number(n) if n.parse::<i64>().is_ok() => Inferred::Long,
        Json::Number(n) => match n.trim_start_matches('-').len() {
            digits if digits <= usize::from(types::MAX_PRECISION) => Inferred::Decimal(digits),
            _ => Inferred::Double,
        },
        Json::Text(_) => Inferred::Text,
        Json::Array(items) => Inferred::Array(Box::new(items.iter().map(infer).fold(Inferred::Null, Inferred::merge))),
        Json::Object(fields) => {
            let mut known: BTreeMap<String, Inferred> = BTreeMap::new();
            for (name, value) in fields {
                let ty = infer(value);
                let merged = known.remove(name).map_or_else(|| ty.clone(), |before| before.merge(ty.clone()));
                known.insert(name.clone(), merged);
            }
            Inferred::Struct(known)
        }
    }
}

impl Inferred {
    fn merge(self, other: Inferred) -> Inferred {
        use Inferred::{Array, Decimal, Double, Long, Null, Struct, Text};
        match (self, other) {
            (Null, x) | (x, Null) => x,
            (a, b) if a == b => a,
            (Long | Decimal(_), Double) | (Double, Long | Decimal(_)) => Double,
            (Long, Decimal(p)) | (Decimal(p), Long) => Decimal(p.max(20)),
            (Decimal(a), Decimal(b)) => Decimal(a.max(b)),
            (Array(a), Array(b)) => Array(Box::new(a.merge(*b))),
            (Struct(mut a), Struct(b)) => {
                for (name, ty) in b {
                    let merged = match a.remove(&name) {
                        Some(before) => before.merge(ty),
                        None => ty,
                    };
                    a.insert(name, merged);
                }
                Struct(a)
            }
            _ => Text,
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Inferred::Null | Inferred::Text => out.push_str("STRING"),
            Inferred::Bool => out.push_str("BOOLEAN"),
            Inferred::Long => out.push_str("BIGINT"),
            Inferred::Decimal(p) => out.push_str(&format!("DECIMAL({p},0)")),
            Inferred::Double => out.push_str("DOUBLE"),
            Inferred::Array(item) => {
                out.push_str("ARRAY<");
                item.write(out);
                out.push('>');
            }
            Inferred::Struct(fields) => {
                out.push_str("STRUCT<");
                for (i, (name, ty)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    let plain =
                        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(|c: char| c.is_ascii_digit());
                    if plain && !name.is_empty() {
                        out.push_str(name)
                    } else {
                        out.push_str(&format!("`{}`", name.replace('`', "``")))
                    }
                    out.push_str(": ");
                    ty.write(out);
                }
                out.push('>');
            }
        }
    }
}
