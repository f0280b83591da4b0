//! Unity Catalog's types as Arrow's.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use flightpath_catalog::TableName;
use serde_json::{Value, json};

use crate::answers::TableInfo;
use crate::columns::{convert, parse_type};

fn columns(list: Value) -> Result<crate::columns::Converted, String> {
    let name = TableName::new("main", "shop", "sales");
    let info = TableInfo::read(&name, &json!({"columns": list}));
    convert(&name, info.columns.as_deref().unwrap()).map_err(|e| e.message().to_string())
}

fn shown(text: &str) -> String {
    parse_type(text).map_or_else(|e| e, |ty| ty.to_string())
}

#[test]
fn types_are_read_from_their_text() {
    let primitives = [
        ("bigint", DataType::Int64),
        ("INT", DataType::Int32),
        ("tinyint", DataType::Int8),
        ("decimal(38,18)", DataType::Decimal128(38, 18)),
        ("decimal(5)", DataType::Decimal128(5, 0)),
        ("varchar(20)", DataType::Utf8),
        ("char(1)", DataType::Utf8),
        ("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("timestamp_ntz", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("interval year to month", DataType::Interval(IntervalUnit::YearMonth)),
        ("interval month", DataType::Interval(IntervalUnit::YearMonth)),
        ("interval day to second", DataType::Duration(TimeUnit::Microsecond)),
        ("interval hour", DataType::Duration(TimeUnit::Microsecond)),
        ("void", DataType::Null),
    ];
    for (text, expected) in primitives {
        assert_eq!(parse_type(text), Ok(expected), "{text}");
    }
    let nested = parse_type("map<string, array<struct<a:int not null,`b c`:decimal(10,2),`d``:e`:struct<>>>>").unwrap();
    let DataType::Map(entries, false) = &nested else { panic!("{nested}") };
    let DataType::Struct(pair) = entries.data_type() else { panic!("{entries}") };
    assert_eq!((pair[0].name().as_str(), pair[0].is_nullable(), pair[1].name().as_str()), ("key", false, "value"));
    let DataType::List(item) = pair[1].data_type() else { panic!("{}", pair[1]) };
    assert_eq!(item.name(), "element");
    let DataType::Struct(fields) = item.data_type() else { panic!("{item}") };
    let described: Vec<(&str, bool)> = fields.iter().map(|f| (f.name().as_str(), f.is_nullable())).collect();
    assert_eq!(described, [("a", false), ("b c", true), ("d`:e", true)]);
    assert_eq!(fields[1].data_type(), &DataType::Decimal128(10, 2));
}

#[test]
fn what_has_no_type_here_is_an_error() {
    let deep = "array<".repeat(500);
    for text in [
        "variant",
        "geometry(4326)",
        "string collate utf8_lcase",
        "decimal(39,1)",
        "decimal(5,6)",
        "decimal(0)",
        "array<int",
        "array<int>>",
        "map<int>",
        "struct<a int>",
        "struct<`a:int>",
        "interval month to day",
        "interval",
        "",
        "int,int",
        &deep,
    ] {
        assert!(parse_type(text).is_err(), "{text}: {}", shown(text));
    }
}

#[test]
fn the_json_form_comes_first() {
    let of = |json: Value, text: &str| columns(json!([{"name": "c", "type_json": json.to_string(), "type_text": text, "nullable": false}]));
    let array =
        json!({"name": "c", "nullable": false, "metadata": {}, "type": {"type": "array", "elementType": "short", "containsNull": false}});
    let converted = of(array, "array<smallint>").unwrap();
    let DataType::List(item) = converted.schema.field(0).data_type() else { panic!() };
    assert_eq!((item.is_nullable(), item.data_type(), converted.schema.field(0).is_nullable()), (false, &DataType::Int16, false));
    assert_eq!(of(json!("long"), "bigint").unwrap().schema.field(0).data_type(), &DataType::Int64);
    let char_text = json!({"name": "c", "type": "string", "metadata": {"__CHAR_VARCHAR_TYPE_STRING": "char(3)"}});
    assert_eq!(of(char_text, "char(3)").unwrap().schema.field(0).metadata()["__CHAR_VARCHAR_TYPE_STRING"], "char(3)");
    let collated = json!({"name": "c", "type": "string", "metadata": {"__COLLATIONS": {"c": "icu.UNICODE"}}});
    assert!(of(collated, "string").is_err_and(|e| e.contains("collation")));
    assert!(of(json!({"name": "c", "type": {"type": "udt"}}), "int").is_err());
    assert_eq!(columns(json!([{"name": "c", "type_json": "not json", "type_text": "int"}])).unwrap().schema.fields().len(), 1);
}

#[test]
fn columns_stand_in_their_order_and_partitions_in_theirs() {
    let converted = columns(json!([
        {"name": "b", "type_text": "int", "position": 2, "partition_index": 0},
        {"name": "a", "type_text": "int", "position": 0, "comment": "first"},
        {"name": "c", "type_text": "int", "position": 1, "partition_index": 1},
    ]))
    .unwrap();
    let names: Vec<&str> = converted.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!((names, converted.partition_columns), (vec!["a", "c", "b"], vec![2, 1]));
    assert_eq!(converted.columns[0].comment.as_deref(), Some("first"));
    assert!(columns(json!([])).is_err());
    assert!(columns(json!([{"name": "a", "type_text": "int"}, {"name": "A", "type_text": "int"}])).is_err());
}
