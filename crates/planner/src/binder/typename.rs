//! Type names in the syntax tree to types, and to the text that Databricks' column names have for them.

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as Sql, ExactNumberInfo, Expr, IntervalFields, ObjectNamePart, SelectItem, SetExpr, Statement, StructField,
    TimezoneInfo,
};
use flightpath_functions::types;
use flightpath_types::{Error, Result};

use super::error;
use crate::parse::parse;

/// A type and its name in capitals, as `CAST(x AS ...)` shows it.
pub(super) struct TypeName {
    pub ty: DataType,
    pub sql: String,
}

fn simple(ty: DataType) -> Result<TypeName> {
    let sql = types::name(&ty).to_uppercase();
    Ok(TypeName { ty, sql })
}

pub(super) fn resolve(sql: &Sql) -> Result<TypeName> {
    match sql {
        Sql::Boolean | Sql::Bool => simple(DataType::Boolean),
        Sql::TinyInt(None) => simple(DataType::Int8),
        Sql::SmallInt(None) => simple(DataType::Int16),
        Sql::Int(None) | Sql::Integer(None) => simple(DataType::Int32),
        Sql::BigInt(None) => simple(DataType::Int64),
        Sql::Float(ExactNumberInfo::None) | Sql::Real => simple(DataType::Float32),
        Sql::Double(ExactNumberInfo::None) => simple(DataType::Float64),
        Sql::Decimal(info) | Sql::Dec(info) | Sql::Numeric(info) => decimal(*info),
        Sql::String(None) | Sql::Text => simple(DataType::Utf8),
        Sql::Varchar(Some(_)) | Sql::Char(Some(_)) | Sql::Character(Some(_)) => simple(DataType::Utf8),
        Sql::Binary(None) => simple(DataType::Binary),
        Sql::Date => simple(DataType::Date32),
        Sql::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithTimeZone) => simple(types::timestamp()),
        Sql::TimestampNtz(None) => simple(types::TIMESTAMP_NTZ),
        Sql::Interval { fields: Some(fields), precision: None } => Ok(interval(fields)),
        Sql::Array(ArrayElemTypeDef::AngleBracket(item)) => {
            let item = resolve(item)?;
            Ok(TypeName { ty: types::array(item.ty, true), sql: format!("ARRAY<{}>", item.sql) })
        }
        Sql::Map(key, value) => {
            let (key, value) = (resolve(key)?, resolve(value)?);
            Ok(TypeName { ty: types::map(key.ty, value.ty), sql: format!("MAP<{}, {}>", key.sql, value.sql) })
        }
        Sql::Struct(fields, _) => structure(fields),
        Sql::Custom(name, modifiers) if modifiers.is_empty() => match name.0.as_slice() {
            [ObjectNamePart::Identifier(ident)] => custom(&ident.value),
            _ => Err(unsupported(sql)),
        },
        other => Err(unsupported(other)),
    }
}

/// The type that a schema's text means: a type, or a struct's columns.
pub(super) fn of_schema(text: &str) -> Result<DataType> {
    let read = |text: &str| -> Result<DataType> {
        let parsed = parse(&format!("SELECT CAST(NULL AS {text})"))?;
        // Nothing but the type may have been written there.
        if let Statement::Query(query) = parsed.statement()
            && let SetExpr::Select(select) = query.body.as_ref()
            && let [SelectItem::UnnamedExpr(Expr::Cast { data_type, .. })] = select.projection.as_slice()
            && select.from.is_empty()
        {
            return Ok(resolve(data_type)?.ty);
        }
        Err(error::classed("PARSE_SYNTAX_ERROR", "42601", format!("Syntax error in the schema '{text}'.")))
    };
    // Whether a field may be NULL doesn't matter: what can't be read is.
    let nullable = if text.contains('`') { text.to_string() } else { without_not_null(text) };
    read(&nullable).or_else(|_| read(&format!("STRUCT<{nullable}>")))
}

fn without_not_null(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
    let mut kept: Vec<String> = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let null = words
            .get(at + 1)
            .filter(|_| word.eq_ignore_ascii_case("not"))
            .filter(|w| w.get(..4).is_some_and(|n| n.eq_ignore_ascii_case("null")));
        match null {
            Some(null) => {
                kept.push(null[4..].to_string());
                at += 2;
            }
            None => {
                kept.push((*word).to_string());
                at += 1;
            }
        }
    }
    kept.join(" ")
}

fn custom(name: &str) -> Result<TypeName> {
    match name.to_ascii_lowercase().as_str() {
        "byte" => simple(DataType::Int8),
        "short" => simple(DataType::Int16),
        "long" => simple(DataType::Int64),
        "void" => simple(DataType::Null),
        "timestamp_ltz" => simple(types::timestamp()),
        "timestamp_ntz" => simple(types::TIMESTAMP_NTZ),
        other => Err(error::classed("UNSUPPORTED_DATATYPE", "0A000", format!("Unsupported data type \"{}\"", other.to_uppercase()))),
    }
}

fn decimal(info: ExactNumberInfo) -> Result<TypeName> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (10, 0),
        ExactNumberInfo::Precision(p) => (p, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => (p, s),
    };
    if precision > 38 {
        return Err(error::classed(
            "DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION",
            "22003",
            format!("Decimal precision {precision} exceeds max precision 38."),
        ));
    }
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p), Ok(s)) if p > 0 && s >= 0 && s as u8 <= p => simple(DataType::Decimal128(p, s)),
        _ => Err(error::classed(
            "INVALID_DECIMAL",
            "42K09",
            format!("DECIMAL({precision},{scale}) isn't a type: the scale must be between 0 and the precision"),
        )),
    }
}

fn interval(fields: &IntervalFields) -> TypeName {
    let (ty, sql) = match fields {
        IntervalFields::Year => (types::YEAR_MONTH, "YEAR"),
        IntervalFields::Month => (types::YEAR_MONTH, "MONTH"),
        IntervalFields::YearToMonth => (types::YEAR_MONTH, "YEAR TO MONTH"),
        IntervalFields::Day => (types::DAY_TIME, "DAY"),
        IntervalFields::Hour => (types::DAY_TIME, "HOUR"),
        IntervalFields::Minute => (types::DAY_TIME, "MINUTE"),
        IntervalFields::Second => (types::DAY_TIME, "SECOND"),
        IntervalFields::DayToHour => (types::DAY_TIME, "DAY TO HOUR"),
        IntervalFields::DayToMinute => (types::DAY_TIME, "DAY TO MINUTE"),
        IntervalFields::DayToSecond => (types::DAY_TIME, "DAY TO SECOND"),
        IntervalFields::HourToMinute => (types::DAY_TIME, "HOUR TO MINUTE"),
        IntervalFields::HourToSecond => (types::DAY_TIME, "HOUR TO SECOND"),
        IntervalFields::MinuteToSecond => (types::DAY_TIME, "MINUTE TO SECOND"),
    };
    TypeName { ty, sql: format!("INTERVAL {sql}") }
}

fn structure(fields: &[StructField]) -> Result<TypeName> {
    let mut typed = Vec::with_capacity(fields.len());
    let mut names = Vec::with_capacity(fields.len());
    for field in fields {
        let Some(name) = &field.field_name else {
            return Err(Error::invalid("a field of a STRUCT type needs a name"));
        };
        let inner = resolve(&field.field_type)?;
        names.push(format!("{}: {}", name.value, inner.sql));
        typed.push(Field::new(name.value.as_str(), inner.ty, true));
    }
    Ok(TypeName { ty: DataType::Struct(Fields::from(typed)), sql: format!("STRUCT<{}>", names.join(", ")) })
}

fn unsupported(sql: &Sql) -> Error {
    error::classed("UNSUPPORTED_DATATYPE", "0A000", format!("Unsupported data type \"{}\"", sql.to_string().to_uppercase()))
}
