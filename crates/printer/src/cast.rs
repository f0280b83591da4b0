//! Casts that stay native in a plan: those that lose nothing and can't fail. All others are calls
//! of the compile table, and a native one is refused.

use arrow::datatypes::{DataType, TimeUnit};

use crate::relation::{same_type, type_name};
use crate::sql::Sql;
use crate::{Printed, refuse};

pub(crate) fn lossless(value: Sql, to: &DataType) -> Printed<Sql> {
    if same_type(&value.ty, to) {
        return Ok(Sql { ty: to.clone(), ..value });
    }
    if !is_lossless(&value.ty, to) {
        return Err(refuse(format!("a native cast from {} to {to}", value.ty)));
    }
    Ok(Sql::atom(format!("CAST({} AS {})", value.text, type_name(to)?), to.clone()))
}

fn is_lossless(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Int32, Int64, List, Null, Struct, Timestamp, UInt8, UInt16, UInt32, UInt64};
    match (from, to) {
        (Null, _) => true,
        // Rounds to nearest where it must, in both.
        (from, Float32 | Float64) if integer_digits(from).is_some() => true,
        (Float32, Float64) => true,
        (Decimal128(p, s), Decimal128(q, t)) => t >= s && i16::from(*q) - i16::from(*t) >= i16::from(*p) - i16::from(*s),
        (from, Decimal128(p, s)) if integer_digits(from).is_some() => {
            integer_digits(from).is_some_and(|digits| i16::from(*p) - i16::from(*s) >= digits)
        }
        // Databricks has no unsigned types: these number grouping sets and rows of a window.
        (UInt8 | UInt16 | UInt32 | UInt64, Int32 | Int64) => true,
        (Date32, Timestamp(TimeUnit::Microsecond, None)) => true,
        (List(a), List(b)) => same_type(a.data_type(), b.data_type()) || is_lossless(a.data_type(), b.data_type()),
        (Struct(a), Struct(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| {
                    a.name() == b.name() && (same_type(a.data_type(), b.data_type()) || is_lossless(a.data_type(), b.data_type()))
                })
        }
        (from, to) => matches!((integer_digits(from), integer_digits(to)), (Some(a), Some(b)) if a <= b),
    }
}

/// Decimal digits that hold every value of an integer type.
fn integer_digits(ty: &DataType) -> Option<i16> {
    match ty {
        DataType::Int8 => Some(3),
        DataType::Int16 => Some(5),
        DataType::Int32 => Some(10),
        DataType::Int64 => Some(19),
        _ => None,
    }
}
