//! Typing calls as Databricks does: how many arguments, of which types, with which implicit casts,
//! and the errors when they don't fit.

use arrow::datatypes::DataType;
use flightpath_types::{Error, ErrorKind, Result};

use crate::def::{BindContext, Bound, FunctionDef, Typed};
use crate::types;

/// What a parameter takes. A call's argument is cast to it where Databricks casts implicitly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum P {
    Str,
    /// BINARY as it is; anything else as a STRING.
    StrOrBin,
    Bin,
    Bool,
    Int,
    Long,
    Double,
    Date,
    /// TIMESTAMP, from a DATE, TIMESTAMP_NTZ or STRING.
    Ts,
    /// TIMESTAMP_NTZ.
    Ntz,
    /// TIMESTAMP or TIMESTAMP_NTZ as it is; a DATE or STRING as a TIMESTAMP.
    AnyTs,
    /// Not a parameter: those behind it may be left out.
    Opt,
}

/// A result's type, and whether it's nullable even when no argument is.
pub(crate) struct Ret {
    pub ty: DataType,
    pub nullable: bool,
}

/// NULL only where an argument is.
pub(crate) fn strict(ty: DataType) -> Ret {
    Ret { ty, nullable: false }
}

/// May be NULL.
pub(crate) fn maybe(ty: DataType) -> Ret {
    Ret { ty, nullable: true }
}

/// Types a call with fixed parameters.
pub(crate) fn call(ctx: &BindContext, name: &str, args: Vec<Typed>, params: &[P], ret: Ret) -> Result<Bound> {
    let args = cast_all(ctx, name, args, params)?;
    Ok(bound(args, ret))
}

pub(crate) fn bound(args: Vec<Typed>, ret: Ret) -> Bound {
    let nullable = ret.nullable || args.iter().any(|a| a.nullable);
    Bound { args, ret: ret.ty, nullable }
}

/// The arguments checked in number and cast to the parameters' types.
pub(crate) fn cast_all(ctx: &BindContext, name: &str, args: Vec<Typed>, params: &[P]) -> Result<Vec<Typed>> {
    let required = params.iter().position(|p| *p == P::Opt).unwrap_or(params.len());
    let all: Vec<P> = params.iter().copied().filter(|p| *p != P::Opt).collect();
    arity(name, args.len(), required, Some(all.len()))?;
    args.into_iter().zip(all).enumerate().map(|(i, (arg, p))| cast(ctx, name, i, arg, p)).collect()
}

/// WRONG_NUM_ARGS unless `actual` lies in `min..=max`.
pub(crate) fn arity(name: &str, actual: usize, min: usize, max: Option<usize>) -> Result<()> {
    if actual >= min && max.is_none_or(|max| actual <= max) {
        return Ok(());
    }
    let expected = match max {
        Some(max) if max == min => min.to_string(),
        Some(max) => (min..=max).map(|n| n.to_string()).collect::<Vec<_>>().join(" or "),
        None => format!("> {}", min.saturating_sub(1)),
    };
    Err(Error::classed(
        ErrorKind::InvalidArgument,
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        "42605",
        format!("The `{name}` requires {expected} parameters but the actual number is {actual}."),
    ))
}

/// One argument cast to a parameter's type.
pub(crate) fn cast(ctx: &BindContext, name: &str, index: usize, arg: Typed, p: P) -> Result<Typed> {
    let is_timestamp = matches!(arg.ty, DataType::Timestamp(_, _));
    match p {
        P::Opt => Ok(arg),
        _ if takes_as_it_is(name) && arg.ty != DataType::Null && !types::same(&arg.ty, &wanted(p)) && !(is_timestamp && p == P::Ts) => {
            Err(unexpected_input(name, index, &type_text(&wanted(p)), &arg.ty))
        }
        P::StrOrBin if arg.ty == DataType::Binary => Ok(arg),
        P::AnyTs if is_timestamp => Ok(arg),
        // A parameter takes any number, which raises where it doesn't fit; days to add must be whole.
        P::Int | P::Long if types::is_numeric(&arg.ty) && !takes_integers_only(name) => crate::cast::implicit_cast(ctx, arg, &wanted(p)),
        _ => cast_to(ctx, name, index, arg, &wanted(p)),
    }
}

/// Functions that take no fractions, and no integers wider than theirs.
fn takes_integers_only(name: &str) -> bool {
    matches!(
        name,
        "date_add"
            | "date_sub"
            | "date_add_days"
            | "timestamp_millis"
            | "timestamp_micros"
            | "element_at"
            | "try_element_at"
            | "get"
            | "array_insert"
    )
}

/// Functions whose arguments have to be of the parameters' types: only NULL becomes one by itself, and a
/// TIMESTAMP_NTZ a TIMESTAMP.
fn takes_as_it_is(name: &str) -> bool {
    matches!(
        name,
        "array_join"
            | "array_repeat"
            | "bitmap_count"
            | "from_json"
            | "get_json_object"
            | "json_array_length"
            | "json_object_keys"
            | "mask"
            | "parse_url"
            | "schema_of_json"
            | "str_to_map"
            | "try_parse_url"
            | "unix_date"
            | "unix_micros"
            | "unix_millis"
            | "unix_seconds"
    )
}

fn wanted(p: P) -> DataType {
    match p {
        P::Str | P::StrOrBin | P::Opt => DataType::Utf8,
        P::Bin => DataType::Binary,
        P::Bool => DataType::Boolean,
        P::Int => DataType::Int32,
        P::Long => DataType::Int64,
        P::Double => DataType::Float64,
        P::Date => DataType::Date32,
        P::Ts | P::AnyTs => types::timestamp(),
        P::Ntz => types::TIMESTAMP_NTZ,
    }
}

/// `arg` cast implicitly to `ty`, or Databricks' error that says which type was asked for.
pub(crate) fn cast_to(ctx: &BindContext, name: &str, index: usize, arg: Typed, ty: &DataType) -> Result<Typed> {
    let counts = matches!(name, "timestamp_seconds" | "timestamp_millis" | "timestamp_micros");
    if !types::can_implicitly_cast(&arg.ty, ty) || counts && arg.ty == DataType::Utf8 {
        return Err(unexpected_input(name, index, &type_text(ty), &arg.ty));
    }
    crate::cast::implicit_cast(ctx, arg, ty)
}

/// DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE for the argument at `index`.
pub(crate) fn unexpected_input(name: &str, index: usize, required: &str, given: &DataType) -> Error {
    const ORDINALS: [&str; 7] = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh"];
    let ordinal = ORDINALS.get(index).map_or_else(|| format!("{}th", index + 1), |o| (*o).to_string());
    mismatch(
        "UNEXPECTED_INPUT_TYPE",
        name,
        format!("The {ordinal} parameter requires the \"{required}\" type, however it has the type \"{}\".", type_text(given)),
    )
}

pub(crate) fn mismatch(subclass: &str, name: &str, message: impl std::fmt::Display) -> Error {
    Error::classed(
        ErrorKind::InvalidArgument,
        format!("DATATYPE_MISMATCH.{subclass}"),
        "42K09",
        format!("Cannot resolve \"{name}\" due to data type mismatch: {message}"),
    )
}

/// A type's name in upper case, as in error messages.
pub(crate) fn type_text(ty: &DataType) -> String {
    types::name(ty).to_uppercase()
}

/// Types a call of another row of the table.
pub(crate) fn call_by_name(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<Typed> {
    match crate::registry::lookup(name) {
        Some(FunctionDef::Scalar(def)) => def.call(ctx, args),
        Some(FunctionDef::Rewrite(def)) => (def.bind)(ctx, args),
        _ => Err(Error::internal(format!("function `{name}` isn't in the table"))),
    }
}

/// One row of the table that stays a function.
macro_rules! scalar {
    ($name:literal, [$($alias:literal),*], bind: $bind:expr, eval: $eval:expr, duckdb: $duckdb:expr, proof: $proof:literal) => {
        $crate::def::FunctionDef::Scalar($crate::def::ScalarDef {
            name: $name,
            aliases: &[$($alias),*],
            bind: $bind,
            eval: $eval,
            duckdb: $duckdb,
            proof: $proof,
            deterministic: true,
        })
    };
    ($name:literal, [$($alias:literal),*], [$($param:ident),*] => $ret:expr, eval: $eval:expr, duckdb: $duckdb:expr, proof: $proof:literal) => {
        $crate::sig::scalar!($name, [$($alias),*],
            bind: |ctx, args| $crate::sig::call(ctx, $name, args, &[$($crate::sig::P::$param),*], $ret),
            eval: $eval, duckdb: $duckdb, proof: $proof)
    };
}
pub(crate) use scalar;

/// One row that is written with other rows.
macro_rules! rewrite {
    ($name:literal, [$($alias:literal),*], bind: $bind:expr, proof: $proof:literal) => {
        $crate::def::FunctionDef::Rewrite($crate::def::RewriteDef { name: $name, aliases: &[$($alias),*], bind: $bind, proof: $proof })
    };
}
pub(crate) use rewrite;
