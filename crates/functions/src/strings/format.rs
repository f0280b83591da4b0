//! Rows that format numbers, encode, hash and take URLs apart.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType::{self, Binary, Boolean, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Null, Utf8};
use arrow::datatypes::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::encode::{self, Charset, Url};
use super::number_format::Pattern;
use super::number_pattern::NumberFormat;
use super::printf::{Format, Value};
use super::{duck, duck_url};
use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::rows::{Frame, eval};
use crate::sig::{self, P, maybe, rewrite, scalar, strict};
use crate::types;

/// A number of any type, for formatting.
fn number(array: &dyn Array, row: usize) -> Option<Value> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        Int8 => Value::Int(i64::from(array.as_primitive::<Int8Type>().value(row)), 8),
        Int16 => Value::Int(i64::from(array.as_primitive::<Int16Type>().value(row)), 16),
        Int32 => Value::Int(i64::from(array.as_primitive::<Int32Type>().value(row)), 32),
        Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row), 64),
        Float32 => Value::Float(array.as_primitive::<Float32Type>().value(row)),
        Float64 => Value::Double(array.as_primitive::<Float64Type>().value(row)),
        Decimal128(_, s) => Value::Decimal(array.as_primitive::<Decimal128Type>().value(row), (*s).max(0) as usize),
        Boolean => Value::Bool(array.as_boolean().value(row)),
        Utf8 => Value::Text(array.as_string::<i32>().value(row).to_string()),
        // Java's formatter gets days and microseconds.
        DataType::Date32 => Value::Int(i64::from(array.as_primitive::<arrow::datatypes::Date32Type>().value(row)), 32),
        DataType::Timestamp(..) => Value::Int(array.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row), 64),
        _ => return None,
    })
}

fn bind_format_number(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "format_number";
    sig::arity(NAME, args.len(), 2, Some(2))?;
    let format = args.remove(1);
    let value = args.remove(0);
    let value = if types::is_numeric(&value.ty) { value } else { sig::cast_to(ctx, NAME, 0, value, &Float64)? };
    if !matches!(format.ty, Utf8 | Int32 | Null) {
        return Err(sig::unexpected_input(NAME, 1, "INT or STRING", &format.ty));
    }
    // A text is a pattern; anything else a number of digits.
    let p = if format.ty == Utf8 { P::Str } else { P::Int };
    let format = sig::cast(ctx, NAME, 1, format, p)?;
    Ok(sig::bound(vec![value, format], maybe(Utf8)))
}

fn format_number(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let pattern: Box<dyn Fn(usize) -> Result<Option<Pattern>> + '_> = if frame.ty(1)? == &Utf8 {
        let formats = frame.text(1)?;
        let mut known: Option<Pattern> = None;
        if let (1, Some(text)) = (frame.array(1)?.len(), formats.get(0)) {
            known = Some(Pattern::parse(text)?);
        }
        Box::new(move |row| match known {
            Some(pattern) => Ok(Some(pattern)),
            None => formats.get(row).map(Pattern::parse).transpose(),
        })
    } else {
        let digits = frame.int(1)?;
        Box::new(move |row| Ok(digits.get(row).and_then(|d| usize::try_from(d).ok()).map(Pattern::digits)))
    };
    let values = frame.array(0)?;
    frame.texts(|row| {
        let Some(value) = number(values, frame.index(0, row)) else { return Ok(None) };
        let Some(pattern) = pattern(row)? else { return Ok(None) };
        Ok(match value {
            Value::Int(v, _) => Some(pattern.format_decimal(i128::from(v), 0)),
            Value::Decimal(v, s) => Some(pattern.format_decimal(v, s)),
            Value::Double(v) => Some(pattern.format_double(v)),
            Value::Float(v) => Some(pattern.format_double(f64::from(v))),
            Value::Null | Value::Text(_) | Value::Bool(_) => None,
        })
    })
}

fn bind_format_string(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "format_string";
    sig::arity(NAME, args.len(), 1, None)?;
    let first = args.remove(0);
    let format = sig::cast(ctx, NAME, 0, first, P::Str)?;
    let known = |ty: &DataType| types::is_numeric(ty) || types::is_datetime(ty) || matches!(ty, Utf8 | Boolean | DataType::Null);
    if let Some(other) = args.iter().find(|a| !known(&a.ty)) {
        return Err(Error::not_eligible(format!(
            "`format_string` of a value of type {} isn't known; cast it to STRING first",
            types::name(&other.ty)
        )));
    }
    let nullable = format.nullable;
    args.insert(0, format);
    Ok(Bound { args, ret: Utf8, nullable })
}

fn format_string(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let formats = frame.text(0)?;
    let mut parsed: Option<(String, Format)> = None;
    frame.texts(|row| {
        let Some(text) = formats.get(row) else { return Ok(None) };
        if parsed.as_ref().is_none_or(|(t, _)| t != text) {
            parsed = Some((text.to_string(), Format::parse(text)?));
        }
        let args = (1..frame.len())
            .map(|i| Ok(number(frame.array(i)?, frame.index(i, row)).unwrap_or(Value::Null)))
            .collect::<Result<Vec<_>>>()?;
        parsed.as_ref().map(|(_, format)| format.format(&args)).transpose()
    })
}

fn as_bytes(frame: &Frame, index: usize) -> Result<Box<dyn Fn(usize) -> Option<Vec<u8>> + '_>> {
    if frame.ty(index)? == &Binary {
        let values = frame.binary(index)?;
        return Ok(Box::new(move |row| values.get(row).map(<[u8]>::to_vec)));
    }
    let values = frame.text(index)?;
    Ok(Box::new(move |row| values.get(row).map(|t| t.as_bytes().to_vec())))
}

fn parse_url(invocation: &Invocation<'_>, tolerate: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (urls, parts) = (frame.text(0)?, frame.text(1)?);
    let keys = if frame.len() > 2 { Some(frame.text(2)?) } else { None };
    frame.texts(|row| {
        let Some((url, part)) = urls.get(row).zip(parts.get(row)) else { return Ok(None) };
        let key = match &keys {
            Some(keys) => match keys.get(row) {
                Some(key) => Some(key),
                None => return Ok(None),
            },
            None => None,
        };
        match Url::parse(url) {
            Some(parsed) => Ok(parsed.part(part, key)),
            None if tolerate => Ok(None),
            None => Err(Error::raised(
                "INVALID_URL",
                "22P02",
                format!("The url is invalid: {url}. Use `try_parse_url` to tolerate invalid URL and return NULL instead."),
            )),
        }
    })
}

fn mask(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let text = frame.text(0)?;
    let with = |index: usize, row: usize, default: Option<char>| -> Result<Option<char>> {
        if index >= frame.len() {
            return Ok(default);
        }
        let Some(replacement) = frame.text(index)?.get(row) else { return Ok(None) };
        let mut chars = replacement.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Some(c)),
            _ => Err(Error::raised("INVALID_PARAMETER_VALUE.LENGTH", "22023", "A replacement of `mask` must be one character or NULL.")),
        }
    };
    frame.texts(|row| {
        let Some(t) = text.get(row) else { return Ok(None) };
        Ok(Some(encode::mask(t, with(1, row, Some('X'))?, with(2, row, Some('x'))?, with(3, row, Some('n'))?, with(4, row, None)?)))
    })
}

/// Replacements must be literals: one character each, or NULL to keep what's there.
fn mask_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let with = |index: usize, default: Option<char>| match c.literals.get(index) {
        None => Ok(default),
        Some(Some(value)) if value.is_null() => Ok(None),
        Some(Some(datafusion::common::ScalarValue::Utf8(Some(text)))) if text.chars().count() == 1 => Ok(text.chars().next()),
        _ => Err("`mask` with computed replacements isn't known on DuckDB"),
    };
    let kept = |with: Option<char>| with.map_or_else(|| "fp_c".to_string(), |c| crate::duckdb::string(&c.to_string()));
    let (upper, lower, digit, other) = (with(1, Some('X'))?, with(2, Some('x'))?, with(3, Some('n'))?, with(4, None)?);
    let other_text = kept(other);
    // Java masks UTF-16 units: what lies beyond the basic plane is two of no kind.
    let beyond = if other.is_some() { format!("{other_text} || {other_text}") } else { other_text.clone() };
    let one = format!(
        r"CASE WHEN unicode(fp_c) > 65535 THEN {beyond} WHEN regexp_matches(fp_c, '\p{{Lu}}') THEN {} WHEN regexp_matches(fp_c, '\p{{Ll}}') THEN {} WHEN regexp_matches(fp_c, '\p{{Nd}}') THEN {} ELSE {other_text} END",
        kept(upper),
        kept(lower),
        kept(digit),
    );
    Ok(duck::once(&c.args[0], |s| {
        format!(
            "CASE WHEN {s} IS NOT NULL THEN array_to_string(list_transform(regexp_extract_all({s}, '(?s).'), lambda fp_c: {one}), '') END"
        )
    }))
}

/// Functions that cast nothing to a STRING by themselves.
pub(super) fn text_only(name: &str, args: &[Typed], or_binary: bool) -> Result<()> {
    match args.first().map(|a| &a.ty) {
        Some(ty) if !(matches!(ty, Utf8 | DataType::Null) || or_binary && *ty == Binary) => {
            Err(sig::unexpected_input(name, 0, "STRING", ty))
        }
        _ => Ok(()),
    }
}

fn conversion_error(text: &str, format: &str) -> Error {
    Error::raised(
        "CONVERSION_INVALID_INPUT",
        "22018",
        format!(
            "The value '{text}' (STRING) cannot be converted to BINARY as {format} because it is malformed. Use `try_to_binary` to tolerate malformed input and return NULL instead."
        ),
    )
}

fn to_binary(invocation: &Invocation<'_>, tolerate: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let text = frame.text(0)?;
    let formats = if frame.len() > 1 { Some(frame.text(1)?) } else { None };
    frame.binaries(|row| {
        let format = match &formats {
            Some(formats) => formats.get(row),
            None => Some("hex"),
        };
        let Some((text, format)) = text.get(row).zip(format) else { return Ok(None) };
        let lower = format.to_ascii_lowercase();
        let bytes = match lower.as_str() {
            "hex" => unhex(text),
            "base64" => encode::strict_base64(text),
            "utf-8" | "utf8" => Some(text.as_bytes().to_vec()),
            _ if tolerate => return Ok(None),
            _ => {
                return Err(Error::raised(
                    "INVALID_PARAMETER_VALUE.BINARY_FORMAT",
                    "22023",
                    format!("The format of `to_binary` must be 'hex', 'base64', 'utf-8' or 'utf8', not '{format}'."),
                ));
            }
        };
        match bytes {
            Some(bytes) => Ok(Some(bytes)),
            None if tolerate => Ok(None),
            None => Err(conversion_error(text, &lower)),
        }
    })
}

/// Hexadecimal text, an odd number of digits having a zero in front.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let even = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_string() };
    hex::decode(even).ok()
}

fn bind_to_binary(ctx: &BindContext, name: &str, args: Vec<Typed>, nullable: bool) -> Result<Bound> {
    let format = args.get(1).and_then(|a| a.as_literal()).cloned();
    let mut bound = sig::call(ctx, name, args, &[P::Str, P::Opt, P::Str], strict(Binary))?;
    let is_hex = match format {
        None => true,
        Some(value) => value.try_as_str().flatten().is_some_and(|f| f.eq_ignore_ascii_case("hex")),
    };
    bound.nullable |= nullable || is_hex;
    Ok(bound)
}

pub(crate) static FORMAT: &[FunctionDef] = &[
    scalar!("format_number", [], bind: bind_format_number, eval: format_number,
        duckdb: super::duck_format::format_number, proof: "format-001, format-007, format-016, hard-101, slt: formatting"),
    scalar!("format_string", ["printf"], bind: bind_format_string, eval: format_string,
        duckdb: super::duck_format::format_string, proof: "format-001, format-007, format-015, hard-101, slt: formatting"),
    scalar!("elt", [], bind: bind_elt, eval: elt, duckdb: elt_duckdb, proof: "text-012, text-013, hard-025, slt: text_rules"),
    scalar!("base64", [], bind: |ctx, args| text_only("base64", &args, true).and_then(|()| sig::call(ctx, "base64", args, &[P::StrOrBin], strict(Utf8))),
        eval: |i| { let f = Frame::new(i)?; let b = as_bytes(&f, 0)?; f.texts(|row| Ok(b(row).map(|b| encode::base64(&b)))) },
        duckdb: |c| {
            let blob = if c.types[0] == Binary { c.args[0].clone() } else { format!("encode({})", c.args[0]) };
            // Lines of 76 digits, without a break behind the last.
            Ok(format!(r"regexp_replace(regexp_replace(base64({blob}), '(.{{76}})', '\1' || chr(13) || chr(10), 'g'), '\r\n$', '')"))
        },
        proof: "text-002, format-003, format-014"),
    scalar!("unbase64", [], [Str] => strict(Binary),
        eval: eval!(binaries; s: text => encode::unbase64(s).ok_or_else(|| conversion_error(s, "base64"))?),
        duckdb: |c| Ok(duck_url::unbase64(&c.args[0])), proof: "text-002, format-014, hard-003"),
    scalar!("to_binary", [], bind: |ctx, args| bind_to_binary(ctx, "to_binary", args, false), eval: |i| to_binary(i, false),
        duckdb: |_| duck::unknown("to_binary"), proof: "format-014"),
    scalar!("try_to_binary", [], bind: |ctx, args| bind_to_binary(ctx, "try_to_binary", args, true), eval: |i| to_binary(i, true),
        duckdb: |_| duck::unknown("try_to_binary"), proof: "format-014"),
    scalar!("encode", [], [Str, Str] => maybe(Binary),
        eval: eval!(binaries; s: text, charset: text => Charset::parse(charset)?.encode(s)?),
        duckdb: |c| match duck::text(c, 1) {
            Some(charset) if charset.eq_ignore_ascii_case("utf-8") => Ok(format!("encode({})", c.args[0])),
            _ => Err("`encode` is known on DuckDB for UTF-8 only".into()),
        },
        proof: "text-002"),
    scalar!("decode_charset", [], [Bin, Str] => maybe(Utf8),
        eval: eval!(texts; b: binary, charset: text => Charset::parse(charset)?.decode(b)?),
        duckdb: |_| duck::unknown("decode"), proof: "text-002"),
    rewrite!("to_char", ["to_varchar"], bind: bind_to_char, proof: "text-031, format-004, format-005, format-018, format-019"),
    scalar!("number_to_char", [], bind: bind_number_to_char, eval: number_to_char, duckdb: |_| duck::unknown("to_char"), proof: "text-031, format-004, format-019"),
    scalar!("to_number", [], bind: |ctx, args| bind_to_number(ctx, "to_number", args), eval: |i| to_number(i, false),
        duckdb: |_| duck::unknown("to_number"), proof: "slt: scalar_functions"),
    scalar!("try_to_number", [], bind: |ctx, args| bind_to_number(ctx, "try_to_number", args), eval: |i| to_number(i, true),
        duckdb: |_| duck::unknown("try_to_number"), proof: "slt: scalar_functions"),
    scalar!("binary_to_char", [], [Bin, Str] => strict(Utf8),
        eval: eval!(texts; b: binary, format: text => match format.to_ascii_lowercase().as_str() {
            "base64" => encode::base64(b),
            "hex" => hex::encode_upper(b),
            "utf-8" => Charset::Utf8.decode(b)?,
            _ => return Err(Error::raised("INVALID_PARAMETER_VALUE.BINARY_FORMAT", "22023", format!("The format of `to_char` must be 'base64', 'hex' or 'utf-8', not '{format}'."))),
        }),
        duckdb: |_| duck::unknown("to_char"), proof: "format-018"),
    rewrite!("decode", [], bind: bind_decode, proof: "text-002, hard-064"),
    scalar!("mask", [], [Str, Opt, Str, Str, Str, Str] => maybe(Utf8), eval: mask, duckdb: mask_duckdb, proof: "text-018, text-036, format-015, slt: text_rules"),
    scalar!("quote", [], [Str] => maybe(Utf8), eval: eval!(texts; s: text => encode::quote(s)),
        duckdb: |c| Ok(format!(r"('''' || replace({}, '''', '\''') || '''')", c.args[0])), proof: "format-015"),
    scalar!("luhn_check", [], [Str] => maybe(Boolean), eval: eval!(booleans; s: text => encode::luhn_check(s)), duckdb: |_| duck::unknown("luhn_check"), proof: "format-015"),
    scalar!("url_encode", [], [Str] => maybe(Utf8), eval: eval!(texts; s: text => encode::url_encode(s)), 
        duckdb: |c| Ok(duck_url::encode(&c.args[0])), proof: "unit tests"),
    scalar!("url_decode", [], [Str] => maybe(Utf8),
        eval: eval!(texts; s: text => encode::url_decode(s).ok_or_else(|| Error::raised("CANNOT_DECODE_URL", "22546", format!("The provided URL cannot be decoded: {s}. Please ensure that the URL is properly formatted and try again.")))?),
        duckdb: |c| Ok(duck_url::decode(&c.args[0], false)), proof: "text-005"),
    scalar!("try_url_decode", [], [Str] => maybe(Utf8), eval: eval!(texts; s: text =>? encode::url_decode(s)), duckdb: |c| Ok(duck_url::decode(&c.args[0], true)), proof: "text-005"),
    scalar!("parse_url", [], [Str, Str, Opt, Str] => maybe(Utf8), eval: |i| parse_url(i, false), duckdb: |_| duck::unknown("parse_url"), proof: "unit tests"),
    scalar!("try_parse_url", [], [Str, Str, Opt, Str] => maybe(Utf8), eval: |i| parse_url(i, true), duckdb: |_| duck::unknown("try_parse_url"), proof: "unit tests"),
];

/// `decode(bytes, charset)`, or `decode(x, a, r, b, s, ..., default)`, in which NULL equals NULL.
fn bind_decode(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Typed> {
    use datafusion::logical_expr::expr::{BinaryExpr, Case};
    use datafusion::logical_expr::{Expr, Operator};
    sig::arity("decode", args.len(), 2, None)?;
    if args.len() == 2 {
        return sig::call_by_name(ctx, "decode_charset", args);
    }
    let value = args.remove(0);
    let default = if args.len() % 2 == 1 { args.pop() } else { None };
    let (mut tests, mut results) = (Vec::new(), Vec::new());
    for (i, arg) in args.into_iter().enumerate() {
        if i % 2 == 0 { tests.push(arg) } else { results.push(arg) }
    }
    results.push(match default {
        Some(default) => default,
        None => Typed::literal(datafusion::common::ScalarValue::Null),
    });
    let (ty, mut results) = crate::nested::common(ctx, "decode", results)?;
    let nullable = results.iter().any(|r| r.nullable);
    let otherwise = results.pop().map(|r| Box::new(r.expr));
    let branches = tests
        .into_iter()
        .zip(results)
        .map(|(test, result)| {
            let (_, mut pair) = crate::nested::common(ctx, "decode", vec![value.clone(), test])?;
            let (right, left) = (pair.pop(), pair.pop());
            let (Some(left), Some(right)) = (left, right) else { return Err(Error::internal("decode() lost its operands")) };
            let same = Expr::BinaryExpr(BinaryExpr::new(Box::new(left.expr), Operator::IsNotDistinctFrom, Box::new(right.expr)));
            Ok((Box::new(same), Box::new(result.expr)))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Typed::new(Expr::Case(Case::new(None, branches, otherwise)), ty, nullable))
}

/// Dates and timestamps by a date pattern, BINARY by an encoding, numbers by a number format.
fn bind_to_char(ctx: &BindContext, args: Vec<Typed>) -> Result<Typed> {
    sig::arity("to_char", args.len(), 2, Some(2))?;
    match &args[0].ty {
        ty if types::is_datetime(ty) => sig::call_by_name(ctx, "date_format", args),
        Binary if args[1].as_literal().and_then(|v| v.try_as_str().flatten()).is_some_and(|f| f.eq_ignore_ascii_case("utf-8")) => {
            sig::call_by_name(ctx, "decode_charset", args)
        }
        Binary => sig::call_by_name(ctx, "binary_to_char", args),
        _ => sig::call_by_name(ctx, "number_to_char", args),
    }
}

fn bind_number_to_char(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    const NAME: &str = "to_char";
    sig::arity(NAME, args.len(), 2, Some(2))?;
    let format = sig::cast(ctx, NAME, 1, args.remove(1), P::Str)?;
    let value = args.remove(0);
    let Some((precision, scale)) = types::decimal_of(&value.ty) else {
        return Err(Error::not_eligible(format!("`to_char` of {} isn't known; cast it to DECIMAL first", types::name(&value.ty))));
    };
    match format.as_literal().and_then(|v| v.try_as_str().flatten()) {
        Some(text) => NumberFormat::parse(text).map(drop)?,
        None => return Err(Error::not_eligible("`to_char` with a computed format isn't known")),
    }
    let value = crate::cast::implicit_cast(ctx, value, &Decimal128(precision, scale))?;
    Ok(sig::bound(vec![value, format], strict(Utf8)))
}

fn number_to_char(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let Decimal128(_, scale) = *frame.ty(0)? else { return Err(Error::internal("to_char() of another type than DECIMAL")) };
    let (values, formats) = (frame.decimal(0)?, frame.text(1)?);
    let format = formats.get(0).map(NumberFormat::parse).transpose()?;
    frame.texts(|row| Ok(values.get(row).zip(format.as_ref()).map(|(v, f)| f.format(v, scale.max(0) as usize))))
}

fn bind_to_number(ctx: &BindContext, name: &str, mut args: Vec<Typed>) -> Result<Bound> {
    sig::arity(name, args.len(), 2, Some(2))?;
    let format = sig::cast(ctx, name, 1, args.remove(1), P::Str)?;
    let value = sig::cast(ctx, name, 0, args.remove(0), P::Str)?;
    let Some(text) = format.as_literal().and_then(|v| v.try_as_str().flatten()) else {
        return Err(types::mismatch("NON_FOLDABLE_INPUT", format!("the format of `{name}` must be a literal")));
    };
    let (precision, scale) = NumberFormat::parse(text)?.decimal();
    let ret = Decimal128(precision, scale);
    Ok(sig::bound(vec![value, format], if name == "to_number" { strict(ret) } else { maybe(ret) }))
}

fn to_number(invocation: &Invocation<'_>, tolerate: bool) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let (values, formats) = (frame.text(0)?, frame.text(1)?);
    let Some(text) = formats.get(0) else { return Err(Error::internal("to_number() without a format")) };
    let format = NumberFormat::parse(text)?;
    frame.primitives::<Decimal128Type>(|row| {
        let Some(value) = values.get(row) else { return Ok(None) };
        match format.read(value) {
            Some(number) => Ok(Some(number)),
            None if tolerate => Ok(None),
            None => Err(Error::raised(
                "INVALID_FORMAT.MISMATCH_INPUT",
                "42601",
                format!("The format is invalid: '{text}'. The input STRING '{value}' does not match the format."),
            )),
        }
    })
}

fn bind_elt(ctx: &BindContext, mut args: Vec<Typed>) -> Result<Bound> {
    sig::arity("elt", args.len(), 2, None)?;
    let index = sig::cast(ctx, "elt", 0, args.remove(0), P::Int)?;
    let p = if args.iter().all(|a| a.ty == Binary) { P::Bin } else { P::Str };
    let values = args.into_iter().enumerate().map(|(i, a)| sig::cast(ctx, "elt", i + 1, a, p));
    let args = std::iter::once(Ok(index)).chain(values).collect::<Result<Vec<_>>>()?;
    Ok(sig::bound(args, maybe(if p == P::Bin { Binary } else { Utf8 })))
}

fn elt_duckdb(c: &DuckCall<'_>) -> Result<String, String> {
    let last = c.args.len() - 1;
    let tail = crate::duckdb::string(&format!(" is out of bounds. The array has {last} elements."));
    Ok(duck::once_all(c.args, |a| {
        let n = &a[0];
        let raise = crate::duckdb::raise("INVALID_ARRAY_INDEX", "22003", &format!("'The index ' || {n} || {tail}"));
        let branches: Vec<String> = (1..=last).map(|i| format!("WHEN {i} THEN {}", a[i])).collect();
        format!("CASE WHEN {n} IS NULL THEN NULL ELSE CASE {n} {} ELSE {raise} END END", branches.join(" "))
    }))
}

fn elt(invocation: &Invocation<'_>) -> Result<ColumnarValue> {
    let frame = Frame::new(invocation)?;
    let index = frame.int(0)?;
    let pick = |row: usize| -> Result<Option<usize>> {
        let Some(n) = index.get(row) else { return Ok(None) };
        match usize::try_from(n) {
            Ok(n) if n >= 1 && n < frame.len() => Ok(Some(n)),
            _ => Err(Error::raised(
                "INVALID_ARRAY_INDEX",
                "22003",
                format!("The index {n} is out of bounds. The array has {} elements.", frame.len() - 1),
            )),
        }
    };
    if frame.ret() == &Binary {
        return frame.binaries(|row| {
            Ok(match pick(row)? {
                Some(n) => frame.binary(n)?.get(row).map(<[u8]>::to_vec),
                None => None,
            })
        });
    }
    frame.texts(|row| {
        Ok(match pick(row)? {
            Some(n) => frame.text(n)?.get(row).map(str::to_string),
            None => None,
        })
    })
}
