//! Unity Catalog's columns as Arrow's, in the types that snapshots have. Refuses what has no such
//! type, rather than promise a client another one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use flightpath_catalog::{Column, TableName};
use flightpath_types::{Error, Result};
use serde_json::Value;

use crate::answers::ColumnInfo;

/// Types inside types; deeper ones are refused.
const DEPTH_MAX: usize = 64;
const COLLATIONS: &str = "__COLLATIONS";
const CHAR_VARCHAR: &str = "__CHAR_VARCHAR_TYPE_STRING";

pub(crate) struct Converted {
    pub schema: SchemaRef,
    pub columns: Vec<Column>,
    pub partition_columns: Vec<usize>,
}

pub(crate) fn convert(name: &TableName, infos: &[ColumnInfo]) -> Result<Converted> {
    let refuse = |what: String| Error::not_eligible(format!("table {name}: {what}"));
    if infos.is_empty() {
        return Err(refuse("its columns aren't known here".into()));
    }
    let mut seen = HashSet::new();
    let mut fields = Vec::with_capacity(infos.len());
    for info in infos {
        if !seen.insert(info.name.to_lowercase()) {
            return Err(refuse(format!("it has several columns named `{}`", info.name)));
        }
        let field = field(info).map_err(|what| refuse(format!("column `{}` {what}", info.name)))?;
        fields.push(field);
    }
    let column =
        |info: &ColumnInfo| Column { physical_name: info.name.clone(), field_id: None, comment: info.comment.clone(), widened: false };
    let mut partitions: Vec<(i64, usize)> =
        infos.iter().enumerate().filter_map(|(at, info)| info.partition_index.map(|index| (index, at))).collect();
    partitions.sort_unstable();
    Ok(Converted {
        schema: Arc::new(Schema::new(fields)),
        columns: infos.iter().map(column).collect(),
        partition_columns: partitions.into_iter().map(|(_, at)| at).collect(),
    })
}

/// The JSON form says the most: nullability inside, and the text of CHAR and VARCHAR.
fn field(info: &ColumnInfo) -> Result<Field, String> {
    let json = info.type_json.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    match (json, info.type_text.as_deref()) {
        (Some(Value::Object(json)), _) if json.contains_key("name") => {
            let field = json_field(&Value::Object(json), DEPTH_MAX)?;
            Ok(field.with_name(&info.name).with_nullable(info.nullable))
        }
        (Some(json), _) => Ok(Field::new(&info.name, json_type(&json, DEPTH_MAX)?, info.nullable)),
        (None, Some(text)) => Ok(Field::new(&info.name, parse_type(text)?, info.nullable)),
        (None, None) => Err("has no known type".into()),
    }
}

fn json_field(json: &Value, depth: usize) -> Result<Field, String> {
    let name = json.get("name").and_then(Value::as_str).ok_or("has a field without a name")?;
    let data_type = json_type(json.get("type").unwrap_or(&Value::Null), depth)?;
    let nullable = json.get("nullable").and_then(Value::as_bool).unwrap_or(true);
    let metadata = json.get("metadata");
    let collated = metadata.and_then(|m| m.get(COLLATIONS)).is_some_and(|c| !c.is_null() && c.as_object().is_none_or(|c| !c.is_empty()));
    if collated {
        return Err("has a collation, which isn't supported here".into());
    }
    let text = metadata.and_then(|m| m.get(CHAR_VARCHAR)).and_then(Value::as_str);
    let kept: HashMap<String, String> = text.map(|text| (CHAR_VARCHAR.to_string(), text.to_string())).into_iter().collect();
    Ok(Field::new(name, data_type, nullable).with_metadata(kept))
}

fn json_type(json: &Value, depth: usize) -> Result<DataType, String> {
    let Some(deeper) = depth.checked_sub(1) else { return Err("has a type nested too deeply".into()) };
    let flag = |field: &str| json.get(field).and_then(Value::as_bool).unwrap_or(true);
    let part = |field: &str| json_type(json.get(field).unwrap_or(&Value::Null), deeper);
    match json {
        Value::String(text) => primitive(text),
        Value::Object(map) => match map.get("type").and_then(Value::as_str) {
            Some("struct") => {
                let fields = map.get("fields").and_then(Value::as_array).ok_or("has a struct without fields")?;
                let fields: Result<Vec<Field>, String> = fields.iter().map(|field| json_field(field, deeper)).collect();
                Ok(DataType::Struct(Fields::from(fields?)))
            }
            Some("array") => Ok(list(part("elementType")?, flag("containsNull"))),
            Some("map") => Ok(map_of(part("keyType")?, part("valueType")?, flag("valueContainsNull"))),
            other => Err(format!("has the type {}, which isn't supported here", other.unwrap_or("of no name"))),
        },
        _ => Err("has no known type".into()),
    }
}

fn list(element: DataType, nullable: bool) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, nullable)))
}

fn map_of(key: DataType, value: DataType, nullable: bool) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, nullable)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// A type without parts, as SQL or Spark's JSON names it.
fn primitive(text: &str) -> Result<DataType, String> {
    let text = text.trim().to_ascii_lowercase();
    Ok(match text.as_str() {
        "string" => DataType::Utf8,
        "long" | "bigint" => DataType::Int64,
        "integer" | "int" => DataType::Int32,
        "short" | "smallint" => DataType::Int16,
        "byte" | "tinyint" => DataType::Int8,
        "float" | "real" => DataType::Float32,
        "double" => DataType::Float64,
        "boolean" => DataType::Boolean,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" | "timestamp_ltz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "void" | "null" => DataType::Null,
        "decimal" => DataType::Decimal128(10, 0),
        _ => match parameters(&text) {
            Some(("decimal", numbers)) => decimal(&numbers)?,
            Some(("char" | "varchar", numbers)) if numbers.len() == 1 => DataType::Utf8,
            _ => interval(&text).ok_or_else(|| format!("has the type {text}, which isn't supported here"))?,
        },
    })
}

/// `decimal(10,2)` in its parts.
fn parameters(text: &str) -> Option<(&str, Vec<u8>)> {
    let (name, rest) = text.split_once('(')?;
    let numbers: Option<Vec<u8>> = rest.strip_suffix(')')?.split(',').map(|n| Some(n.trim().parse::<u32>().ok()?.min(255) as u8)).collect();
    Some((name.trim(), numbers?))
}

fn decimal(numbers: &[u8]) -> Result<DataType, String> {
    let (precision, scale) = match numbers {
        [precision] => (*precision, 0),
        [precision, scale] => (*precision, *scale),
        _ => return Err("has a malformed decimal type".into()),
    };
    if precision == 0 || precision > DECIMAL128_MAX_PRECISION || scale > precision {
        return Err(format!("has the impossible type decimal({precision},{scale})"));
    }
    Ok(DataType::Decimal128(precision, scale as i8))
}

/// `interval year to month` and its kind: months, or microseconds.
fn interval(text: &str) -> Option<DataType> {
    let mut words = text.split_ascii_whitespace();
    if words.next() != Some("interval") {
        return None;
    }
    let rank = |unit: &str| ["year", "month", "day", "hour", "minute", "second"].iter().position(|u| *u == unit);
    let from = rank(words.next()?)?;
    let to = match (words.next(), words.next()) {
        (None, None) => from,
        (Some("to"), Some(unit)) => rank(unit)?,
        _ => return None,
    };
    match (words.next(), from, to) {
        (None, 0..=1, 0..=1) if from <= to => Some(DataType::Interval(IntervalUnit::YearMonth)),
        (None, 2.., 2..) if from <= to => Some(DataType::Duration(TimeUnit::Microsecond)),
        _ => None,
    }
}

/// A type as SQL writes it: `map<string,array<struct<a:int,b c:decimal(10,2)>>>`.
pub(crate) fn parse_type(text: &str) -> Result<DataType, String> {
    let mut reader = TypeReader { rest: text };
    let parsed = reader.data_type(DEPTH_MAX)?;
    match reader.rest.trim() {
        "" => Ok(parsed),
        _ => Err("has a malformed type".into()),
    }
}

struct TypeReader<'a> {
    rest: &'a str,
}

impl TypeReader<'_> {
    fn data_type(&mut self, depth: usize) -> Result<DataType, String> {
        let Some(deeper) = depth.checked_sub(1) else { return Err("has a type nested too deeply".into()) };
        // A primitive ends where what surrounds it goes on; commas in parentheses are its own.
        let mut inside = 0;
        let end = self.rest.find(|c| {
            inside += i32::from(c == '(') - i32::from(c == ')');
            matches!(c, '<' | '>') || (c == ',' && inside == 0)
        });
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if !rest.starts_with('<') {
            self.rest = rest;
            return typed_words(word);
        }
        self.rest = &rest[1..];
        let parsed = match word.trim().to_ascii_lowercase().as_str() {
            "array" => list(self.data_type(deeper)?, true),
            "map" => {
                let key = self.data_type(deeper)?;
                self.expect(',')?;
                map_of(key, self.data_type(deeper)?, true)
            }
            "struct" => self.fields(deeper)?,
            other => return Err(format!("has the type {other}, which isn't supported here")),
        };
        self.expect('>')?;
        Ok(parsed)
    }

    fn fields(&mut self, depth: usize) -> Result<DataType, String> {
        let mut fields = Vec::new();
        if self.rest.trim_start().starts_with('>') {
            return Ok(DataType::Struct(Fields::empty()));
        }
        loop {
            let name = self.name()?;
            let before = self.rest;
            let data_type = self.data_type(depth)?;
            let written = &before[..before.len() - self.rest.len()];
            fields.push(Field::new(name, data_type, !written.to_ascii_lowercase().trim_end().ends_with(" not null")));
            if !self.rest.trim_start().starts_with(',') {
                return Ok(DataType::Struct(Fields::from(fields)));
            }
            self.expect(',')?;
        }
    }

    /// A field's name and the colon behind it.
    fn name(&mut self) -> Result<String, String> {
        let rest = self.rest.trim_start();
        let name = if let Some(quoted) = rest.strip_prefix('`') {
            let mut name = String::new();
            let mut rest = quoted;
            loop {
                let at = rest.find('`').ok_or("has a malformed type")?;
                name.push_str(&rest[..at]);
                rest = &rest[at + 1..];
                match rest.strip_prefix('`') {
                    Some(more) => {
                        name.push('`');
                        rest = more;
                    }
                    None => break,
                }
            }
            self.rest = rest;
            name
        } else {
            let at = rest.find(':').ok_or("has a malformed type")?;
            self.rest = &rest[at..];
            rest[..at].trim().to_string()
        };
        self.expect(':')?;
        Ok(name)
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        self.rest = self.rest.trim_start().strip_prefix(wanted).ok_or("has a malformed type")?;
        Ok(())
    }
}

/// A primitive, with `not null` behind it where it stands in a struct.
fn typed_words(words: &str) -> Result<DataType, String> {
    let lower = words.trim().to_ascii_lowercase();
    primitive(lower.strip_suffix(" not null").unwrap_or(&lower))
}
