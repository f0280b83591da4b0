//! JSON functions: those whose answers are certain. Texts are read as leniently as Databricks does:
//! single quotes and control characters pass, what follows the value isn't looked at.

mod csv;
mod rules;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType::{self, Int32, Utf8};
use arrow::datatypes::{Decimal128Type, TimestampMicrosecondType};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::cast::zone::Zone;
use crate::cast::{double_text, session_zone};
use crate::datetime::pattern::{Moment, Pattern};
use crate::def::{BindContext, Bound, FunctionDef, Invocation, ScalarDef, Typed};
use crate::rows::{Frame, eval};
use crate::sig::{self, maybe, scalar};
use crate::strings::string_array;
use crate::types;

/// Deeper texts aren't read.
const DEPTH_MAX: usize = 500;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

struct Reader<'a> {
    rest: std::str::Chars<'a>,
}

impl Json {
    /// The text's first value; `None` when it isn't JSON.
    pub(crate) fn read(text: &str) -> Option<Json> {
        Reader { rest: text.chars() }.value(0)
    }

    /// As Databricks writes it back: without white space, fractions as doubles.
    pub(crate) fn write(&self, out: &mut String) -> Option<()> {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Number(n) if n.contains(['.', 'e', 'E']) => {
                let value: f64 = n.parse().ok()?;
                if value.is_finite() {
                    out.push_str(&double_text(value));
                } else {
                    write_text(if value > 0.0 { "Infinity" } else { "-Infinity" }, out);
                }
            }
            Json::Number(n) if n == "-0" => out.push('0'),
            Json::Number(n) => out.push_str(n),
            Json::Text(t) => write_text(t, out),
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out)?;
                }
                out.push(']');
            }
            Json::Object(fields) => {
                out.push('{');
                for (i, (name, value)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    value.write(out)?;
                }
                out.push('}');
            }
        }
        Some(())
    }
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|c| matches!(c, ' ' | '\t' | '\r' | '\n')) {
            self.rest.next();
        }
    }

    fn eat(&mut self, wanted: char) -> Option<()> {
        self.space();
        (self.rest.next()? == wanted).then_some(())
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.space();
        match self.peek()? {
            '{' => self.object(depth),
            '[' => self.array(depth),
            '"' | '\'' => self.text().map(Json::Text),
            '-' | '0'..='9' => self.number(),
            _ => {
                let word: String = self.rest.clone().take_while(char::is_ascii_alphabetic).collect();
                word.chars().for_each(|_| {
                    self.rest.next();
                });
                match word.as_str() {
                    "null" => Some(Json::Null),
                    "true" => Some(Json::Bool(true)),
                    "false" => Some(Json::Bool(false)),
                    _ => None,
                }
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.eat('{')?;
        let mut fields = Vec::new();
        self.space();
        if self.peek()? == '}' {
            self.rest.next();
            return Some(Json::Object(fields));
        }
        loop {
            self.space();
            let name = self.text()?;
            self.eat(':')?;
            fields.push((name, self.value(depth + 1)?));
            self.space();
            match self.rest.next()? {
                ',' => {}
                '}' => return Some(Json::Object(fields)),
                _ => return None,
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.eat('[')?;
        let mut items = Vec::new();
        self.space();
        if self.peek()? == ']' {
            self.rest.next();
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.rest.next()? {
                ',' => {}
                ']' => return Some(Json::Array(items)),
                _ => return None,
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.rest.next().filter(|c| matches!(c, '"' | '\''))?;
        let mut out = String::new();
        loop {
            match self.rest.next()? {
                c if c == quote => return Some(out),
                '\\' => match self.rest.next()? {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    'b' => out.push('\x08'),
                    'f' => out.push('\x0C'),
                    'u' => out.push(self.unicode()?),
                    c @ ('"' | '\\' | '/' | '\'') => out.push(c),
                    _ => return None,
                },
                c => out.push(c),
            }
        }
    }

    fn unicode(&mut self) -> Option<char> {
        let mut unit = || -> Option<u16> { (0..4).try_fold(0u16, |v, _| Some((v << 4) | self.rest.next()?.to_digit(16)? as u16)) };
        let first = unit()?;
        if !(0xD800..0xE000).contains(&first) {
            return char::from_u32(u32::from(first));
        }
        if self.rest.next()? != '\\' || self.rest.next()? != 'u' {
            return None;
        }
        let mut unit = || -> Option<u16> { (0..4).try_fold(0u16, |v, _| Some((v << 4) | self.rest.next()?.to_digit(16)? as u16)) };
        let second = unit()?;
        char::decode_utf16([first, second]).next()?.ok()
    }

    fn number(&mut self) -> Option<Json> {
        let text: String = self.rest.clone().take_while(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E')).collect();
        text.chars().for_each(|_| {
            self.rest.next();
        });
        let body = text.strip_prefix('-').unwrap_or(&text);
        let (mantissa, exponent) = body.split_once(['e', 'E']).map_or((body, None), |(m, e)| (m, Some(e)));
        let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let valid = digits(whole)
            && (whole.len() == 1 || !whole.starts_with('0'))
            && fraction.is_none_or(digits)
            && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
        // A value ends in white space, a bracket, a comma or the text.
        let ended = self.peek().is_none_or(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | ',' | ']' | '}'));
        (valid && ended).then_some(Json::Number(text))
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x08' => out.push_str("\\b"),
            '\x0C' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
    Every,
}

/// A path such as `$.a['b c'][0][*]`; `None` for what isn't one.
fn path(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let name = &after[..end];
            if name.is_empty() {
                return None;
            }
            steps.push(Step::Field(name.to_string()));
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix("['") {
            let (name, after) = after.split_once("']")?;
            if name.is_empty() || name.contains(['\'', '?']) {
                return None;
            }
            steps.push(Step::Field(name.to_string()));
            rest = after;
        } else {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(if index == "*" {
                Step::Every
            } else {
                Step::Index(index.parse().ok().filter(|_| index.bytes().all(|b| b.is_ascii_digit()))?)
            });
            rest = after;
        }
    }
    Some(steps)
}

/// Paths whose answers are certain: at most one `[*]`, and no `*` as a name.
fn is_certain(steps: &[Step]) -> bool {
    steps.iter().filter(|s| **s == Step::Every).count() <= 1 && !steps.contains(&Step::Field("*".into()))
}

fn get<'a>(value: &'a Json, steps: &[Step], found: &mut Vec<&'a Json>) {
    match (steps.split_first(), value) {
        (None, Json::Null) => {}
        (None, value) => found.push(value),
        // The first of equal names that leads anywhere.
        (Some((Step::Field(name), rest)), Json::Object(fields)) => {
            for (_, inner) in fields.iter().filter(|(n, _)| n == name) {
                let before = found.len();
                get(inner, rest, found);
                if found.len() > before {
                    return;
                }
            }
        }
        (Some((Step::Index(i), rest)), Json::Array(items)) => {
            if let Some(inner) = items.get(*i) {
                get(inner, rest, found);
            }
        }
        (Some((Step::Every, rest)), Json::Array(items)) => items.iter().for_each(|inner| get(inner, rest, found)),
        _ => {}
    }
}

fn get_json_object(json: &str, text: &str) -> Result<Option<String>> {
    let Some(steps) = path(text) else { return Ok(None) };
    if !is_certain(&steps) {
        return Err(Error::not_eligible(format!("the JSON path '{text}' isn't known")));
    }
    let Some(root) = Json::read(json) else { return Ok(None) };
    let mut found = Vec::new();
    get(&root, &steps, &mut found);
    let many = steps.contains(&Step::Every);
    let mut out = String::new();
    let written = match found.as_slice() {
        [] => return Ok(None),
        [Json::Text(text)] if !many => return Ok(Some(text.clone())),
        [one] => one.write(&mut out),
        all => Json::Array(all.iter().map(|j| (*j).clone()).collect()).write(&mut out),
    };
    Ok(written.map(|()| out))
}

fn bind_get(ctx: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    let bound = sig::call(ctx, "get_json_object", args, &[sig::P::Str, sig::P::Str], maybe(Utf8))?;
    let literal = bound.args[1].as_literal().and_then(|v| v.try_as_str().flatten()).and_then(path);
    if literal.is_some_and(|steps| !is_certain(&steps)) {
        return Err(Error::not_eligible("a JSON path with several wildcards isn't known"));
    }
    Ok(bound)
}

fn object_keys(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let texts = frame.text(0)?;
    string_array(&frame, |row| {
        Ok(match texts.get(row).and_then(Json::read) {
            Some(Json::Object(fields)) => Some(fields.into_iter().map(|(name, _)| name).collect()),
            _ => None,
        })
    })
}

fn writable(ty: &DataType) -> bool {
    match ty {
        DataType::List(item) => writable(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| writable(f.data_type())),
        DataType::Map(..) => types::map_parts(ty)
            .is_some_and(|(k, v)| (k.data_type() == &Utf8 || types::is_integral(k.data_type())) && writable(v.data_type())),
        other => !types::is_interval(other),
    }
}

fn bind_to_json(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    sig::arity("to_json", args.len(), 1, Some(2))?;
    if args.len() == 2 {
        return Err(Error::not_eligible("`to_json` with options isn't known"));
    }
    if types::is_atomic(&args[0].ty) || args[0].ty == DataType::Null {
        return Err(sig::unexpected_input("to_json", 0, "STRUCT, ARRAY or MAP", &args[0].ty));
    }
    if !writable(&args[0].ty) {
        return Err(Error::not_eligible(format!("`to_json` of {} isn't known", types::name(&args[0].ty))));
    }
    Ok(sig::bound(args, maybe(Utf8)))
}

struct Writer<'a> {
    zone: Zone,
    zone_name: &'a str,
    zoned: Pattern,
    local: Pattern,
}

impl<'a> Writer<'a> {
    fn new(invocation: &Invocation<'a>) -> Result<Self> {
        Ok(Self {
            zone: session_zone(invocation.time_zone)?,
            zone_name: invocation.time_zone,
            zoned: Pattern::for_formatting("yyyy-MM-dd'T'HH:mm:ss.SSSXXX")?,
            local: Pattern::for_formatting("yyyy-MM-dd'T'HH:mm:ss.SSS")?,
        })
    }

    /// A timestamp in ISO's form, with the zone's offset where it is an instant.
    fn timestamp(&self, array: &dyn Array, row: usize, instant: bool) -> Result<String> {
        let value = array.as_primitive::<TimestampMicrosecondType>().value(row);
        let (zone, pattern) = if instant { (self.zone, &self.zoned) } else { (Zone::UTC, &self.local) };
        let local = zone.to_local(value).ok_or_else(crate::errors::datetime_overflow)?;
        let offset = i32::try_from((local - value) / 1_000_000).unwrap_or(0);
        pattern.format(&Moment { local, offset, zone: self.zone_name })
    }

    fn value(&self, array: &dyn Array, row: usize, out: &mut String) -> Result<()> {
        if array.is_null(row) || array.data_type() == &DataType::Null {
            out.push_str("null");
            return Ok(());
        }
        match array.data_type() {
            DataType::Utf8 => write_text(array.as_string::<i32>().value(row), out),
            DataType::Binary => {
                use base64::Engine;
                write_text(&base64::engine::general_purpose::STANDARD.encode(array.as_binary::<i32>().value(row)), out);
            }
            DataType::Timestamp(_, tz) => write_text(&self.timestamp(array, row, tz.is_some())?, out),
            DataType::Float64 | DataType::Float32 => {
                let mut text = String::new();
                crate::cast::write_value(&mut text, array, row, self.zone)?;
                // What isn't a number is written as a text.
                if text.ends_with(['N', 'y']) { write_text(&text, out) } else { out.push_str(&text) }
            }
            // As Java writes decimals: with an exponent where more than six zeros would follow the point.
            DataType::Decimal128(_, scale) if *scale > 6 => {
                out.push_str(&decimal_text(array.as_primitive::<Decimal128Type>().value(row), i32::from(*scale)));
            }
            DataType::Date32 => {
                let mut text = String::new();
                crate::cast::write_value(&mut text, array, row, self.zone)?;
                write_text(&text, out);
            }
            DataType::List(_) => {
                let items = array.as_list::<i32>().value(row);
                out.push('[');
                for i in 0..items.len() {
                    if i > 0 {
                        out.push(',');
                    }
                    self.value(&items, i, out)?;
                }
                out.push(']');
            }
            DataType::Struct(fields) => {
                out.push('{');
                let start = out.len();
                // Fields that are NULL are left out.
                for (field, column) in
                    fields.iter().zip(array.as_struct().columns()).filter(|(_, c)| c.is_valid(row) && c.data_type() != &DataType::Null)
                {
                    if out.len() > start {
                        out.push(',');
                    }
                    write_text(field.name(), out);
                    out.push(':');
                    self.value(column, row, out)?;
                }
                out.push('}');
            }
            DataType::Map(..) => {
                let entries = array.as_map().value(row);
                out.push('{');
                for i in 0..entries.len() {
                    if i > 0 {
                        out.push(',');
                    }
                    let mut key = String::new();
                    crate::cast::write_value(&mut key, entries.column(0), i, self.zone)?;
                    write_text(&key, out);
                    out.push(':');
                    self.value(entries.column(1), i, out)?;
                }
                out.push('}');
            }
            _ => crate::cast::write_value(out, array, row, self.zone)?,
        }
        Ok(())
    }
}

fn decimal_text(unscaled: i128, scale: i32) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    let exponent = i32::try_from(digits.len()).unwrap_or(i32::MAX) - 1 - scale;
    if exponent >= -6 {
        return crate::duckdb::decimal_text(unscaled, usize::try_from(scale).unwrap_or(0));
    }
    let sign = if unscaled < 0 { "-" } else { "" };
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}E{exponent}")
}

fn to_json(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let writer = Writer::new(invocation)?;
    let values = frame.array(0)?;
    frame.texts(|row| {
        let at = frame.index(0, row);
        if values.is_null(at) {
            return Ok(None);
        }
        let mut out = String::new();
        writer.value(values, at, &mut out)?;
        Ok(Some(out))
    })
}

/// A field of an object as `json_tuple` gives it: the last of equal names, names with dots too.
fn field(json: &str, name: &str) -> Option<String> {
    let Some(Json::Object(fields)) = Json::read(json) else { return None };
    let (_, value) = fields.into_iter().rfind(|(n, _)| n == name)?;
    match value {
        Json::Null => None,
        Json::Text(text) => Some(text),
        other => {
            let mut out = String::new();
            other.write(&mut out)?;
            Some(out)
        }
    }
}

/// What `json_tuple` is made of. No function that can be called.
pub static JSON_FIELD: ScalarDef = ScalarDef {
    name: "json_field",
    aliases: &[],
    bind: |ctx, args| sig::call(ctx, "json_tuple", args, &[sig::P::Str, sig::P::Str], maybe(Utf8)),
    eval: eval!(texts; json: text, name: text =>? field(json, name)),
    duckdb: rules::field,
    proof: "slt: json",
    deterministic: true,
};

pub(crate) static JSON: &[FunctionDef] = &[
    scalar!("get_json_object", [], bind: bind_get, eval: eval!(texts; json: text, steps: text =>? get_json_object(json, steps)?),
        duckdb: rules::get_json_object, proof: "nested-009, nested-018, hard-013"),
    scalar!("json_array_length", [], [Str] => maybe(Int32),
        eval: eval!(ints; json: text =>? match Json::read(json) { Some(Json::Array(items)) => Some(items.len() as i32), _ => None }),
        duckdb: rules::array_length, proof: "nested-018, hard-038"),
    scalar!("json_object_keys", [], [Str] => maybe(types::array(Utf8, true)), eval: object_keys,
        duckdb: rules::object_keys, proof: "nested-018, hard-060"),
    scalar!("to_csv", [], bind: csv::bind_to_csv, eval: csv::to_csv, duckdb: |_| Err("function `to_csv` isn't known to answer as Databricks does on DuckDB".into()), proof: "slt: json"),
    scalar!("to_json", [], bind: bind_to_json, eval: to_json, duckdb: rules::to_json, proof: "nested-037, hard-038, hard-060"),
];
