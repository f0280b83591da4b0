//! Arrow's types by the names of the two APIs: statements write `BIGINT` with type name `LONG`,
//! Unity Catalog writes `bigint` and Spark's JSON.

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit};
use serde_json::{Value as Json, json};

/// The enumerated name both APIs share.
pub(crate) fn type_name(ty: &DataType) -> &'static str {
    match ty {
        DataType::Null => "NULL",
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "BYTE",
        DataType::Int16 => "SHORT",
        DataType::Int32 => "INT",
        DataType::Int64 => "LONG",
        DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Decimal128(..) => "DECIMAL",
        DataType::Utf8 => "STRING",
        DataType::Binary => "BINARY",
        DataType::Date32 => "DATE",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP",
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ",
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL",
        DataType::List(_) => "ARRAY",
        DataType::Struct(_) => "STRUCT",
        DataType::Map(..) => "MAP",
        _ => "USER_DEFINED_TYPE",
    }
}

/// As DDL in capitals, field names as they are: `STRUCT<a: INT>`.
pub(crate) fn sql_text(ty: &DataType) -> String {
    match ty {
        DataType::List(item) => format!("ARRAY<{}>", sql_text(item.data_type())),
        DataType::Struct(fields) => {
            let parts: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name(), sql_text(f.data_type()))).collect();
            format!("STRUCT<{}>", parts.join(", "))
        }
        DataType::Map(entries, _) => match key_value(entries) {
            Some((key, value)) => format!("MAP<{}, {}>", sql_text(key.data_type()), sql_text(value.data_type())),
            None => "MAP".into(),
        },
        other => catalog_text(other).to_uppercase(),
    }
}

/// As the catalog writes it: `decimal(10,2)`, `array<int>`, `struct<a:int>`.
pub(crate) fn catalog_text(ty: &DataType) -> String {
    match ty {
        DataType::Null => "void".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Utf8 => "string".into(),
        DataType::Binary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp".into(),
        DataType::Timestamp(_, None) => "timestamp_ntz".into(),
        DataType::Interval(_) | DataType::Duration(_) => format!("interval {}", interval(ty).unwrap_or_default().to_lowercase()),
        DataType::List(item) => format!("array<{}>", catalog_text(item.data_type())),
        DataType::Struct(fields) => {
            let parts: Vec<String> = fields.iter().map(|f| format!("{}:{}", f.name(), catalog_text(f.data_type()))).collect();
            format!("struct<{}>", parts.join(","))
        }
        DataType::Map(entries, _) => match key_value(entries) {
            Some((key, value)) => format!("map<{},{}>", catalog_text(key.data_type()), catalog_text(value.data_type())),
            None => "map".into(),
        },
        other => other.to_string(),
    }
}

/// `type_interval_type` of the statement API.
pub(crate) fn interval(ty: &DataType) -> Option<&'static str> {
    match ty {
        DataType::Interval(IntervalUnit::YearMonth) => Some("YEAR TO MONTH"),
        DataType::Interval(_) | DataType::Duration(_) => Some("DAY TO SECOND"),
        _ => None,
    }
}

/// One column of `manifest.schema`.
pub(crate) fn manifest_column(field: &Field, position: usize) -> Json {
    let ty = field.data_type();
    let mut column = json!({"name": field.name(), "position": position, "type_name": type_name(ty), "type_text": sql_text(ty)});
    if let DataType::Decimal128(precision, scale) = ty {
        column["type_precision"] = json!(precision);
        column["type_scale"] = json!(scale);
    }
    if let Some(interval) = interval(ty) {
        column["type_interval_type"] = json!(interval);
    }
    column
}

/// Spark's JSON of a field, which `type_json` and Delta's `schemaString` hold.
pub(crate) fn spark_field(field: &Field) -> Json {
    json!({"name": field.name(), "type": spark_type(field.data_type()), "nullable": field.is_nullable(), "metadata": {}})
}

pub(crate) fn spark_struct<'a>(fields: impl IntoIterator<Item = &'a FieldRef>) -> Json {
    json!({"type": "struct", "fields": fields.into_iter().map(|f| spark_field(f)).collect::<Vec<_>>()})
}

fn spark_type(ty: &DataType) -> Json {
    match ty {
        DataType::Int8 => json!("byte"),
        DataType::Int16 => json!("short"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::List(item) => json!({"type": "array", "elementType": spark_type(item.data_type()), "containsNull": item.is_nullable()}),
        DataType::Struct(fields) => spark_struct(fields),
        DataType::Map(entries, _) => match key_value(entries) {
            Some((key, value)) => json!({
                "type": "map", "keyType": spark_type(key.data_type()), "valueType": spark_type(value.data_type()),
                "valueContainsNull": value.is_nullable(),
            }),
            None => json!("map"),
        },
        other => json!(catalog_text(other)),
    }
}

fn key_value(entries: &Field) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => Some((fields.first()?, fields.get(1)?)),
        _ => None,
    }
}
