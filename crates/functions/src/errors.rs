//! The errors that Databricks' operators and functions raise by their own semantics, with class,
//! SQL state and message, for DataFusion (values) and DuckDB (SQL that raises).

use arrow::datatypes::DataType;
use flightpath_types::Error;

use crate::{duckdb, types};

/// The closest float type name and value text go into messages; values are cut so that a message
/// stays small.
const VALUE_CHARS_MAX: usize = 200;

fn shown(value: &str) -> String {
    // Some clients end a message at a NUL.
    let value = &value.replace('\0', "\\0");
    match value.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

pub(crate) fn cast_invalid_input(value: &str, from: &DataType, to: &DataType) -> Error {
    Error::raised(
        "CAST_INVALID_INPUT",
        "22018",
        format!(
            "The value '{}' of the type {} cannot be cast to {} because it is malformed. Correct the value as per the syntax, or change its target type. Use `try_cast` to tolerate malformed input and return NULL instead.",
            shown(value),
            types::sql_name(from),
            types::sql_name(to)
        ),
    )
}

pub(crate) fn cast_overflow(value: &str, from: &DataType, to: &DataType) -> Error {
    Error::raised(
        "CAST_OVERFLOW",
        "22003",
        format!(
            "The value {} of the type {} cannot be cast to {} due to an overflow. Use `try_cast` to tolerate overflow and return NULL instead.",
            shown(value),
            types::sql_name(from),
            types::sql_name(to)
        ),
    )
}

pub(crate) fn numeric_out_of_range(value: &str, precision: u8, scale: i8) -> Error {
    Error::raised(
        "NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION",
        "22003",
        format!(
            "The value {} cannot be represented as Decimal({precision}, {scale}). If necessary, use a `try_` function or a wider type.",
            shown(value)
        ),
    )
}

pub(crate) fn divide_by_zero() -> Error {
    Error::raised("DIVIDE_BY_ZERO", "22012", DIVIDE_BY_ZERO)
}

pub(crate) fn remainder_by_zero() -> Error {
    Error::raised("REMAINDER_BY_ZERO", "22012", REMAINDER_BY_ZERO)
}

pub(crate) fn interval_divided_by_zero() -> Error {
    Error::raised(
        "INTERVAL_DIVIDED_BY_ZERO",
        "22012",
        "Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead.",
    )
}

/// Overflow of an operator on an integral type: tinyint and smallint have a class of their own.
pub(crate) fn integral_overflow(ty: &DataType, symbol: &str, left: &str, right: &str) -> Error {
    match ty {
        DataType::Int8 | DataType::Int16 => Error::raised(
            "BINARY_ARITHMETIC_OVERFLOW",
            "22003",
            format!("{left} {symbol} {right} caused overflow. Use a wider type or a `try_` function."),
        ),
        _ => arithmetic_overflow(types::name(ty).as_str()),
    }
}

pub(crate) fn arithmetic_overflow(what: &str) -> Error {
    Error::raised("ARITHMETIC_OVERFLOW", "22003", format!("{what} overflow. Use a wider type or a `try_` function to tolerate overflow."))
}

pub(crate) fn interval_overflow() -> Error {
    Error::raised("INTERVAL_ARITHMETIC_OVERFLOW", "22015", "Integer overflow while operating with intervals.")
}

pub(crate) fn microseconds_on_date() -> Error {
    Error::raised(
        "INVALID_INTERVAL_WITH_MICROSECONDS_ADDITION",
        "22006",
        "Cannot add an interval to a date because its microseconds part is not 0. If necessary, cast the date to a timestamp first.",
    )
}

pub(crate) fn datetime_overflow() -> Error {
    Error::raised("DATETIME_OVERFLOW", "22008", "Datetime operation overflow.")
}

const DIVIDE_BY_ZERO: &str = "Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead.";
const REMAINDER_BY_ZERO: &str = "Remainder by zero. Use `try_mod` to tolerate divisor being 0 and return NULL instead.";

/// The same errors as DuckDB SQL.
pub(crate) mod duck {
    use super::{DIVIDE_BY_ZERO, DataType, REMAINDER_BY_ZERO, duckdb, types};

    pub(crate) fn divide_by_zero() -> String {
        duckdb::raise("DIVIDE_BY_ZERO", "22012", &duckdb::string(DIVIDE_BY_ZERO))
    }

    pub(crate) fn remainder_by_zero() -> String {
        duckdb::raise("REMAINDER_BY_ZERO", "22012", &duckdb::string(REMAINDER_BY_ZERO))
    }

    pub(crate) fn arithmetic_overflow(what: &str) -> String {
        duckdb::raise(
            "ARITHMETIC_OVERFLOW",
            "22003",
            &duckdb::string(&format!("{what} overflow. Use a wider type or a `try_` function to tolerate overflow.")),
        )
    }

    pub(crate) fn cast_overflow(from: &DataType, to: &DataType) -> String {
        let text = format!(
            "A value of the type {} cannot be cast to {} due to an overflow. Use `try_cast` to tolerate overflow and return NULL instead.",
            types::sql_name(from),
            types::sql_name(to)
        );
        duckdb::raise("CAST_OVERFLOW", "22003", &duckdb::string(&text))
    }

    /// `value_sql` is DuckDB text of the value, a VARCHAR.
    pub(crate) fn cast_invalid_input(value_sql: &str, from: &DataType, to: &DataType) -> String {
        let tail = format!(
            "' of the type {} cannot be cast to {} because it is malformed. Use `try_cast` to tolerate malformed input and return NULL instead.",
            types::sql_name(from),
            types::sql_name(to)
        );
        duckdb::raise("CAST_INVALID_INPUT", "22018", &format!("'The value ''' || left({value_sql}, 200) || {}", duckdb::string(&tail)))
    }

    pub(crate) fn numeric_out_of_range(precision: u8, scale: i8) -> String {
        let text = format!(
            "The value cannot be represented as Decimal({precision}, {scale}). If necessary, use a `try_` function or a wider type."
        );
        duckdb::raise("NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION", "22003", &duckdb::string(&text))
    }
}
