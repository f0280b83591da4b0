//! Databricks' names of types, as DESCRIBE QUERY and manifests show them, as Arrow types. A name
//! that isn't understood whole is refused, never guessed at.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use flightpath_types::{Error, Result};

/// Types inside one another; more than any schema has and few enough for the stack.
const DEPTH_MAX: usize = 64;

/// `array<struct<a:int,b:decimal(10,2)>>` as its Arrow type.
pub fn parse(text: &str) -> Result<DataType> {
    let mut parser = Parser { rest: text };
    let parsed = parser.data_type(0).filter(|_| parser.rest.trim().is_empty());
    parsed.ok_or_else(|| Error::not_eligible(format!("the type `{text}` of a column isn't supported")))
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn data_type(&mut self, depth: usize) -> Option<DataType> {
        if depth > DEPTH_MAX {
            return None;
        }
        let word = self.word()?;
        Some(match word.as_str() {
            "array" => {
                self.expect('<')?;
                let element = self.data_type(depth + 1)?;
                self.expect('>')?;
                DataType::List(Arc::new(Field::new("element", element, true)))
            }
            "map" => {
                self.expect('<')?;
                let key = self.data_type(depth + 1)?;
                self.expect(',')?;
                let value = self.data_type(depth + 1)?;
                self.expect('>')?;
                let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
            }
            "struct" => DataType::Struct(self.fields(depth)?),
            "interval" => self.interval()?,
            "decimal" | "dec" | "numeric" => self.decimal()?,
            "char" | "varchar" | "character" => {
                self.numbers()?;
                DataType::Utf8
            }
            "string" => {
                if self.keyword("collate") {
                    self.word()?;
                }
                DataType::Utf8
            }
            // Its text is JSON.
            "variant" => DataType::Utf8,
            "void" | "null" => DataType::Null,
            "boolean" => DataType::Boolean,
            "tinyint" | "byte" => DataType::Int8,
            "smallint" | "short" => DataType::Int16,
            "int" | "integer" => DataType::Int32,
            "bigint" | "long" => DataType::Int64,
            "float" | "real" => DataType::Float32,
            "double" => DataType::Float64,
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "timestamp" | "timestamp_ltz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => return None,
        })
    }

    fn fields(&mut self, depth: usize) -> Option<Fields> {
        self.expect('<')?;
        let mut fields = Vec::new();
        if self.take('>') {
            return Some(Fields::from(fields));
        }
        loop {
            let name = self.field_name()?;
            let data_type = self.data_type(depth + 1)?;
            let nullable = !(self.keyword("not") && self.keyword("null"));
            if self.keyword("comment") {
                self.quoted('\'')?;
            }
            fields.push(Field::new(name, data_type, nullable));
            if self.take('>') {
                return Some(Fields::from(fields));
            }
            self.expect(',')?;
        }
    }

    /// Up to the colon; in backquotes or bare, where it may hold anything but structure.
    fn field_name(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start();
        if self.rest.starts_with('`') {
            let name = self.quoted('`')?;
            self.expect(':')?;
            return Some(name);
        }
        let (name, after) = self.rest.split_once(':')?;
        // A type that is too wide to be shown whole ends in "... 3 more fields".
        if name.is_empty() || name.contains(['<', '>', ',']) || name.contains("...") {
            return None;
        }
        self.rest = after;
        Some(name.trim().to_string())
    }

    /// The text between two quotes; a doubled one stands for itself.
    fn quoted(&mut self, quote: char) -> Option<String> {
        self.rest = self.rest.trim_start().strip_prefix(quote)?;
        let mut text = String::new();
        loop {
            let (part, after) = self.rest.split_once(quote)?;
            text.push_str(part);
            match after.strip_prefix(quote) {
                Some(after) => {
                    text.push(quote);
                    self.rest = after;
                }
                None => {
                    self.rest = after;
                    return Some(text);
                }
            }
        }
    }

    fn decimal(&mut self) -> Option<DataType> {
        let (precision, scale) = match self.numbers()?.as_slice() {
            [] => (10, 0),
            [precision] => (*precision, 0),
            [precision, scale] => (*precision, *scale),
            _ => return None,
        };
        let fits = (1..=38).contains(&precision) && scale <= precision;
        fits.then_some(DataType::Decimal128(u8::try_from(precision).ok()?, i8::try_from(scale).ok()?))
    }

    fn interval(&mut self) -> Option<DataType> {
        let from = self.word()?;
        let to = if self.keyword("to") { self.word()? } else { from.clone() };
        let rank = |unit: &str| ["year", "month", "day", "hour", "minute", "second"].iter().position(|u| *u == unit);
        let (from, to) = (rank(&from)?, rank(&to)?);
        match (from <= to, from < 2, to < 2) {
            (true, true, true) => Some(DataType::Interval(IntervalUnit::YearMonth)),
            (true, false, false) => Some(DataType::Duration(TimeUnit::Microsecond)),
            _ => None,
        }
    }

    /// `(1,2)`, or nothing.
    fn numbers(&mut self) -> Option<Vec<u32>> {
        if !self.take('(') {
            return Some(Vec::new());
        }
        let (inside, after) = self.rest.split_once(')')?;
        self.rest = after;
        inside.split(',').map(|number| number.trim().parse().ok()).collect()
    }

    fn word(&mut self) -> Option<String> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        self.rest = after;
        (!word.is_empty()).then(|| word.to_ascii_lowercase())
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let before = self.rest;
        let found = self.word().is_some_and(|word| word == keyword);
        if !found {
            self.rest = before;
        }
        found
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.trim_start().strip_prefix(c) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Option<()> {
        self.take(c).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(item: DataType) -> DataType {
        DataType::List(Arc::new(Field::new("element", item, true)))
    }

    #[test]
    fn names_of_types() {
        let cases = [
            ("INT", DataType::Int32),
            ("decimal(10, 2)", DataType::Decimal128(10, 2)),
            ("DECIMAL", DataType::Decimal128(10, 0)),
            ("varchar(12)", DataType::Utf8),
            ("string collate UTF8_LCASE", DataType::Utf8),
            ("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            ("timestamp_ntz", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("interval year to month", DataType::Interval(IntervalUnit::YearMonth)),
            ("INTERVAL MONTH", DataType::Interval(IntervalUnit::YearMonth)),
            ("interval day to second", DataType::Duration(TimeUnit::Microsecond)),
            ("VOID", DataType::Null),
            ("array<array<bigint>>", list(list(DataType::Int64))),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn structs_and_maps_nest() {
        let parsed = parse("struct<a:int,`b``:,c`: map<string,struct<>> NOT NULL COMMENT 'it''s',some name:decimal(3,1)>").unwrap();
        let entries =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Struct(Fields::empty()), true)]);
        let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
        let fields = vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b`:,c", map, false),
            Field::new("some name", DataType::Decimal128(3, 1), true),
        ];
        assert_eq!(parsed, DataType::Struct(Fields::from(fields)));
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let deep = format!("{}int{}", "array<".repeat(5_000), ">".repeat(5_000));
        for text in [
            "",
            "geography(4326)",
            "array<int",
            "int x",
            "decimal(39,0)",
            "decimal(2,3)",
            "struct<a:int,... 3 more fields>",
            "interval year to second",
            &deep,
        ] {
            assert!(parse(text).is_err(), "{}", &text[..text.len().min(40)]);
        }
    }
}
