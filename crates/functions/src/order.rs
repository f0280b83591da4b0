//! Order of arrays and structs on DuckDB. Inside of them a NULL is the greatest value there and the
//! least one in Databricks, so that they are compared by a shadow of theirs: beside each value
//! stands whether there is one.

use arrow::datatypes::DataType;

use crate::{duckdb, types};

/// A text whose order on DuckDB is Databricks' order of `operand`, a value of type `ty`; NULL where
/// that is NULL.
pub fn key(ty: &DataType, operand: &str) -> Result<String, String> {
    if !ty.is_nested() {
        return Ok(operand.to_owned());
    }
    let shadow = shadow(ty, "fp_k", 0)?;
    Ok(format!("list_transform([{operand}], lambda fp_k: CASE WHEN fp_k IS NULL THEN NULL ELSE {shadow} END)[1]"))
}

/// `value` is a name that may be repeated; `depth` makes the names of lambdas' parameters differ.
pub(crate) fn shadow(ty: &DataType, value: &str, depth: usize) -> Result<String, String> {
    match ty {
        DataType::List(item) => {
            let name = format!("fp_k{depth}");
            let items = shadow(item.data_type(), &name, depth + 1)?;
            Ok(format!("{{'n': {value} IS NOT NULL, 'v': list_transform({value}, lambda {name}: {items})}}"))
        }
        DataType::Struct(fields) => {
            let mut parts = vec![format!("'n': {value} IS NOT NULL")];
            for (i, field) in fields.iter().enumerate() {
                let inner = format!("struct_extract({value}, {})", duckdb::string(field.name()));
                parts.push(format!("'f{i}': {}", shadow(field.data_type(), &inner, depth)?));
            }
            Ok(format!("{{{}}}", parts.join(", ")))
        }
        ty if ty.is_nested() => Err(format!("the order of values of type {} isn't known on DuckDB", types::name(ty))),
        _ => Ok(format!("{{'n': {value} IS NOT NULL, 'v': {value}}}")),
    }
}

/// A list sorted by its elements' order, NULLs first or last: `direction` is `ASC` or `DESC`.
pub(crate) fn sorted(item: &DataType, list: &str, direction: &str, nulls_first: bool) -> Result<String, String> {
    let shadow = shadow(item, "fp_e", 0)?;
    let null_last = if nulls_first == (direction == "ASC") { "fp_e IS NOT NULL" } else { "fp_e IS NULL" };
    Ok(format!(
        "list_transform(list_sort(list_transform({list}, lambda fp_e: {{'m': {null_last}, 'k': {shadow}, 'x': fp_e}}), '{direction}'), lambda fp_e: fp_e.x)"
    ))
}
