//! Literals: their values, types, and the text that column names have for them.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{DataType as Sql, TimezoneInfo, TypedString, Value, ValueWithSpan};
use flightpath_functions::{BindContext, Typed, cast, types};
use flightpath_types::{Error, Result};

use super::error;
use super::expr::Bound;

/// A literal with its text.
pub(super) fn literal(value: ScalarValue, name: impl Into<String>) -> Bound {
    Bound { t: Typed::literal(value), name: name.into() }
}

/// A plain literal. Parameters aren't literals.
pub(super) fn value(ctx: &BindContext, v: &ValueWithSpan, negative: bool) -> Result<Bound> {
    match &v.value {
        Value::Number(text, _) => number(ctx, text, negative).map_err(|e| e.context(format!("literal {text}{}", error::place(v.span)))),
        Value::SingleQuotedString(text) => Ok(literal(ScalarValue::Utf8(Some(text.clone())), text.clone())),
        Value::HexStringLiteral(text) => hex(text),
        Value::Boolean(b) => Ok(literal(ScalarValue::Boolean(Some(*b)), b.to_string())),
        Value::Null => Ok(literal(ScalarValue::Null, "NULL")),
        other => Err(Error::not_eligible(format!("literal {other} isn't understood"))),
    }
}

fn hex(text: &str) -> Result<Bound> {
    let digits = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_string() };
    let bytes: Option<Vec<u8>> =
        (0..digits.len()).step_by(2).map(|i| digits.get(i..i + 2).and_then(|d| u8::from_str_radix(d, 16).ok())).collect();
    let Some(bytes) = bytes else {
        return Err(error::classed(
            "INVALID_TYPED_LITERAL",
            "42604",
            format!("The value of the typed literal \"X\" is invalid: '{text}'."),
        ));
    };
    Ok(literal(ScalarValue::Binary(Some(bytes)), format!("X'{}'", digits.to_uppercase())))
}

/// `12`, `12L`, `1.5`, `1e3`, `1.5BD`, with a sign where one stands in front.
fn number(ctx: &BindContext, text: &str, negative: bool) -> Result<Bound> {
    let upper = text.to_ascii_uppercase();
    let sign = if negative { "-" } else { "" };
    let split = |suffix: &str| upper.strip_suffix(suffix).map(|digits| format!("{sign}{digits}"));
    if let Some(digits) = split("BD") {
        return decimal(&digits);
    }
    let out_of_range = |ty: &str| {
        error::classed(
            "INVALID_NUMERIC_LITERAL_RANGE",
            "22003",
            format!("Numeric literal {sign}{text} is outside the valid range of {ty}."),
        )
    };
    if let Some(digits) = split("D") {
        let v: f64 = digits.parse().map_err(|_| out_of_range("double"))?;
        let fits = v.is_finite() && !beyond(&digits, DOUBLE_MAX);
        return if fits { floating(ctx, ScalarValue::Float64(Some(v))) } else { Err(out_of_range("double")) };
    }
    if let Some(digits) = split("F") {
        let v: f32 = digits.parse().map_err(|_| out_of_range("float"))?;
        let fits = v.is_finite() && !beyond(&digits, FLOAT_MAX);
        return if fits { floating(ctx, ScalarValue::Float32(Some(v))) } else { Err(out_of_range("float")) };
    }
    if let Some(digits) = split("L") {
        let v: i64 = digits.parse().map_err(|_| out_of_range("bigint"))?;
        return Ok(literal(ScalarValue::Int64(Some(v)), v.to_string()));
    }
    if let Some(digits) = split("S") {
        let v: i16 = digits.parse().map_err(|_| out_of_range("smallint"))?;
        return Ok(literal(ScalarValue::Int16(Some(v)), v.to_string()));
    }
    if let Some(digits) = split("Y") {
        let v: i8 = digits.parse().map_err(|_| out_of_range("tinyint"))?;
        return Ok(literal(ScalarValue::Int8(Some(v)), v.to_string()));
    }
    if upper.contains('E') {
        let v: f64 = format!("{sign}{upper}").parse().map_err(|_| out_of_range("double"))?;
        return if v.is_finite() { floating(ctx, ScalarValue::Float64(Some(v))) } else { Err(out_of_range("double")) };
    }
    if upper.contains('.') {
        return decimal(&format!("{sign}{upper}"));
    }
    let digits = format!("{sign}{upper}");
    if let Ok(v) = digits.parse::<i32>() {
        return Ok(literal(ScalarValue::Int32(Some(v)), v.to_string()));
    }
    if let Ok(v) = digits.parse::<i64>() {
        return Ok(literal(ScalarValue::Int64(Some(v)), v.to_string()));
    }
    decimal(&digits)
}

/// The greatest float and double as Databricks compares literals with them: by their decimal digits,
/// so that a literal which would only round down to them is out of range.
const FLOAT_MAX: (&str, i32) = ("34028234663852886", 38);
const DOUBLE_MAX: (&str, i32) = ("17976931348623157", 308);

/// Whether a number's decimal text is beyond `max`, given as digits and the first one's power of ten.
fn beyond(text: &str, max: (&str, i32)) -> bool {
    let text = text.trim_start_matches(['-', '+']);
    let (mantissa, exponent) = text.split_once('E').map_or((text, 0), |(m, e)| (m, e.parse::<i32>().unwrap_or(0)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let zeros = i32::try_from(all.len() - digits.len()).unwrap_or(i32::MAX);
    let first = i32::try_from(whole.len()).unwrap_or(i32::MAX).saturating_sub(1).saturating_sub(zeros).saturating_add(exponent);
    // Digits of equal rank compare as texts do.
    !digits.is_empty() && (first, digits.trim_end_matches('0')) > (max.1, max.0)
}

fn floating(ctx: &BindContext, value: ScalarValue) -> Result<Bound> {
    let name = text_of(ctx, &value)?;
    Ok(literal(value, name))
}

/// The value as CAST to STRING shows it.
pub(super) fn text_of(ctx: &BindContext, value: &ScalarValue) -> Result<String> {
    match cast::cast_literal(value, &DataType::Utf8, &ctx.time_zone) {
        Some(ScalarValue::Utf8(Some(text))) => Ok(text),
        _ => Err(Error::internal(format!("no text for a literal of type {}", value.data_type()))),
    }
}

/// A decimal's precision is that of its digits, at least its scale.
fn decimal(text: &str) -> Result<Bound> {
    let too_wide = || {
        error::classed(
            "NUMERIC_VALUE_OUT_OF_RANGE.WITHOUT_SUGGESTION",
            "22003",
            format!("The decimal literal {text} has more than 38 digits."),
        )
    };
    let (mantissa, exponent) = match text.split_once('E') {
        Some((m, e)) => (m, e.parse::<i32>().map_err(|_| too_wide())?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let mut scale = i32::try_from(fraction.len()).map_err(|_| too_wide())? - exponent;
    let mut digits = digits.trim_start_matches('0').to_string();
    if scale < 0 {
        if -scale > 38 {
            return Err(too_wide());
        }
        digits.extend(std::iter::repeat_n('0', usize::try_from(-scale).unwrap_or(0)));
        scale = 0;
    }
    if digits.len() > 38 || scale > 38 {
        return Err(too_wide());
    }
    let unscaled: i128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| too_wide())? };
    let unscaled = if negative { -unscaled } else { unscaled };
    let precision = digits.len().max(scale as usize).max(1) as u8;
    let value = ScalarValue::Decimal128(Some(unscaled), precision, scale as i8);
    Ok(literal(value, decimal_name(unscaled, scale)))
}

/// Small values are shown with an exponent: `1E-9`.
fn decimal_name(unscaled: i128, scale: i32) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    let exponent = digits.len() as i32 - 1 - scale;
    if exponent >= -6 {
        return flightpath_functions::duckdb::decimal_text(unscaled, usize::try_from(scale).unwrap_or(0));
    }
    let sign = if unscaled < 0 { "-" } else { "" };
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}E{exponent}")
}

/// `DATE'...'`, `TIMESTAMP'...'`, `TIMESTAMP_NTZ'...'`.
pub(super) fn typed_string(ctx: &BindContext, t: &TypedString) -> Result<Bound> {
    let (ty, word) = match &t.data_type {
        Sql::Date => (DataType::Date32, "DATE"),
        Sql::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithTimeZone) => (types::timestamp(), "TIMESTAMP"),
        Sql::TimestampNtz(None) => (types::TIMESTAMP_NTZ, "TIMESTAMP_NTZ"),
        other => return Err(Error::not_eligible(format!("a literal of type {other} isn't supported"))),
    };
    let Value::SingleQuotedString(text) = &t.value.value else {
        return Err(Error::invalid(format!("{word} needs a string literal")));
    };
    let value = cast::cast_literal(&ScalarValue::Utf8(Some(text.clone())), &ty, &ctx.time_zone);
    let Some(value) = value.filter(|v| !v.is_null()) else {
        return Err(error::classed(
            "INVALID_TYPED_LITERAL",
            "42604",
            format!("The value of the typed literal \"{word}\" is invalid: '{text}'{}.", error::place(t.value.span)),
        ));
    };
    let name = format!("{word} '{}'", text_of(ctx, &value)?);
    Ok(literal(value, name))
}

/// The name of a value that takes a parameter's place.
pub(super) fn name_of(ctx: &BindContext, value: &ScalarValue) -> String {
    match value {
        v if v.is_null() => "NULL".into(),
        ScalarValue::Utf8(Some(s)) => s.clone(),
        v => text_of(ctx, v).unwrap_or_else(|_| v.to_string()),
    }
}
