//! `CAST`, `try_cast` and the casts that Databricks inserts by itself, for every pair of types.
//! Casts that lose nothing are DataFusion's own, so that pruning and pushdown see through them;
//! the rest are functions of ours. A cast must never lean on Arrow's or DuckDB's rules for text,
//! rounding or overflow: they differ.

mod eval;
mod parse;
mod rules;
mod text;
pub(crate) mod zone;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{ColumnarValue, Expr};
use flightpath_types::{Error, Result};

pub(crate) use eval::{Mode, cast_array, decimal_to_double, in_precision, power_of_ten};
pub(crate) use parse::days as days_from_civil;
pub(crate) use rules::decimal_text;
pub(crate) use text::{civil, double as double_text, float as float_text, write_value};
#[cfg(test)]
pub(crate) use text::{date as date_text, wall_clock as wall_clock_text};
use zone::Zone;

use crate::def::{BindContext, Bound, Invocation, ScalarDef, Typed};
use crate::{ops, types};

/// `CAST(x AS type)` where it isn't DataFusion's.
pub static CAST: ScalarDef = ScalarDef {
    name: "cast",
    aliases: &[],
    bind: not_by_name,
    eval: |call| evaluate(call, Mode::Ansi),
    duckdb: rules::cast,
    proof: "corpus: area cast, decimal-018, decimal-030, hard-012",
    deterministic: true,
};

/// `try_cast(x AS type)`.
pub static TRY_CAST: ScalarDef = ScalarDef {
    name: "try_cast",
    aliases: &[],
    bind: not_by_name,
    eval: |call| evaluate(call, Mode::Try),
    duckdb: rules::try_cast,
    proof: "corpus: cast-007, cast-019, cast-025, cast-031, cast-035, cast-036, decimal-011, times-001",
    deterministic: true,
};

/// An explicit `CAST(arg AS to)`.
pub fn cast(ctx: &BindContext, arg: Typed, to: &DataType) -> Result<Typed> {
    if !types::can_cast(&arg.ty, to) {
        return Err(illegal(&arg.ty, to));
    }
    if let Some(value) = ops::cast_literal_interval(&arg, to) {
        return Ok(Typed::new(Expr::Literal(value?, None), to.clone(), arg.nullable));
    }
    known_interval(&arg, to)?;
    if let Some(value) = special_datetime(ctx, &arg, to) {
        return Ok(value);
    }
    note_time_of_day(ctx, &arg, to);
    // An integral literal's value decides types in decimal arithmetic; a cast doesn't make one.
    let fold = !types::is_integral(to);
    Ok(make(ctx, arg, to, Mode::Ansi, fold))
}

/// An explicit `try_cast(arg AS to)`.
pub fn try_cast(ctx: &BindContext, arg: Typed, to: &DataType) -> Result<Typed> {
    if !types::can_cast(&arg.ty, to) {
        return Err(illegal(&arg.ty, to));
    }
    known_interval(&arg, to)?;
    if let Some(value) = special_datetime(ctx, &arg, to) {
        return Ok(value);
    }
    note_time_of_day(ctx, &arg, to);
    let nullable = arg.nullable || !widens(&arg.ty, to);
    let mut made = make(ctx, arg, to, Mode::Try, !types::is_integral(to));
    made.nullable = nullable;
    Ok(made)
}

/// A cast that Databricks inserts by itself. The caller has decided that it may stand here
/// ([`types::can_implicitly_cast`], [`types::least_common_type`]).
pub fn implicit_cast(ctx: &BindContext, arg: Typed, to: &DataType) -> Result<Typed> {
    if arg.ty == *to {
        return Ok(arg);
    }
    // An array's own NULLs stand in its type: a cast between labels only is always possible.
    if !types::can_cast(&arg.ty, to) && !types::same(&arg.ty, to) {
        return Err(illegal(&arg.ty, to));
    }
    note_time_of_day(ctx, &arg, to);
    Ok(make(ctx, arg, to, Mode::Ansi, true))
}

/// A value of a literal cast at planning time, as [`cast`] does; `None` when it raises or isn't possible.
pub fn cast_literal(value: &ScalarValue, to: &DataType, time_zone: &str) -> Option<ScalarValue> {
    fold(value, to, Mode::Ansi, time_zone)
}

fn make(ctx: &BindContext, arg: Typed, to: &DataType, mode: Mode, may_fold: bool) -> Typed {
    if arg.ty == *to {
        return arg;
    }
    let nullable = arg.nullable || types::cast_is_nullable(&arg.ty, to);
    if may_fold
        && let Some(value) = arg.as_literal()
        && let Some(folded) = fold(value, to, mode, &ctx.time_zone)
    {
        return Typed::new(Expr::Literal(folded, None), to.clone(), nullable);
    }
    if native(&arg.ty, to) {
        let field = Arc::new(Field::new("", to.clone(), true));
        return Typed::new(Expr::Cast(Cast { expr: Box::new(arg.expr), field }), to.clone(), nullable);
    }
    let def = match mode {
        Mode::Ansi => &CAST,
        Mode::Try => &TRY_CAST,
    };
    let nullable = nullable || mode == Mode::Try;
    def.expression(ctx, Bound { args: vec![arg], ret: to.clone(), nullable })
}

fn fold(value: &ScalarValue, to: &DataType, mode: Mode, time_zone: &str) -> Option<ScalarValue> {
    if value.is_null() {
        return ScalarValue::try_from(to).ok();
    }
    let array = value.to_array().ok()?;
    // A value that raises stays a call: it may stand in a branch that is never taken.
    let cast = cast_array(&array, to, Zone::parse(time_zone)?, mode).ok()?;
    ScalarValue::try_from_array(&cast, 0).ok()
}

/// Pairs for which Arrow's cast and DuckDB's are exact and never fail.
fn native(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Null, t) => types::is_atomic(t) && !types::is_interval(t),
        (f, t) if types::is_integral(f) && types::is_integral(t) => widens(f, t),
        (f, DataType::Float64) => types::is_integral(f) || *f == DataType::Float32,
        (f, DataType::Decimal128(p, s)) => types::decimal_is_wider((*p, *s), f),
        _ => false,
    }
}

/// Databricks' up-casts: those for which `try_cast` stays not nullable.
fn widens(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (f, t) if types::same(f, t) => true,
        (f, DataType::Decimal128(p, s)) => types::decimal_is_wider((*p, *s), f),
        (f, t) if types::is_decimal(f) && types::is_numeric(t) => false,
        (f, t) if types::is_numeric(f) && types::is_numeric(t) => types::can_implicitly_cast(f, t),
        (DataType::Date32, t) => types::is_datetime(t),
        (f, t) if types::is_timestamp_ntz(f) && types::is_timestamp(t) => true,
        (f, t) if types::is_timestamp(f) && types::is_timestamp_ntz(t) => true,
        (f, DataType::Utf8) => types::is_atomic(f) && *f != DataType::Binary,
        _ => false,
    }
}

fn illegal(from: &DataType, to: &DataType) -> Error {
    let message = format!("cannot cast {} to {}", types::sql_name(from), types::sql_name(to));
    let suggestion = match (from, to) {
        (f, DataType::Date32) if types::is_integral(f) => Some("`DATE_FROM_UNIX_DATE`"),
        (DataType::Date32, t) if types::is_integral(t) => Some("`UNIX_DATE`"),
        _ => None,
    };
    match suggestion {
        Some(function) => {
            types::mismatch("CAST_WITH_FUNC_SUGGESTION", format!("{message}; to convert values, use the function {function} instead"))
        }
        None => types::mismatch("CAST_WITHOUT_SUGGESTION", message),
    }
}

/// Casts between intervals and other types go by the interval's fields, which types don't carry.
fn known_interval(arg: &Typed, to: &DataType) -> Result<()> {
    let mixed = types::is_interval(&arg.ty) != types::is_interval(to) && arg.ty != DataType::Null;
    match mixed && !arg.as_literal().is_some_and(ScalarValue::is_null) {
        true => Err(Error::not_eligible(format!("casting {} to {} isn't known", types::name(&arg.ty), types::name(to)))),
        false => Ok(()),
    }
}

/// `'now'`, `'today'`, `'epoch'`... mean something only where the text is a literal.
fn special_datetime(ctx: &BindContext, arg: &Typed, to: &DataType) -> Option<Typed> {
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    let Some(ScalarValue::Utf8(Some(text))) = arg.as_literal() else { return None };
    if !types::is_datetime(to) {
        return None;
    }
    let name = parse::trim(text).to_ascii_lowercase();
    if !matches!(name.as_str(), "epoch" | "now" | "today" | "tomorrow" | "yesterday") {
        return None;
    }
    let zone = Zone::parse(&ctx.time_zone)?;
    let now = zone.to_local(ctx.now_micros)?;
    let midnight = now.div_euclid(MICROS_PER_DAY) * MICROS_PER_DAY;
    let local = match name.as_str() {
        "epoch" => None,
        "now" => Some(now),
        "today" => Some(midnight),
        "tomorrow" => Some(midnight + MICROS_PER_DAY),
        _ => Some(midnight - MICROS_PER_DAY),
    };
    if local.is_some() {
        ctx.mark_uncacheable();
    }
    let value = match to {
        DataType::Date32 => ScalarValue::Date32(Some(i32::try_from(local.unwrap_or(0).div_euclid(MICROS_PER_DAY)).ok()?)),
        t if types::is_timestamp(t) => {
            let instant = match local {
                Some(local) => zone.to_instant(local)?,
                None => 0,
            };
            ScalarValue::TimestampMicrosecond(Some(instant), Some(Arc::from("UTC")))
        }
        _ => ScalarValue::TimestampMicrosecond(Some(local.unwrap_or(0)), None),
    };
    Some(Typed::new(Expr::Literal(value, None), to.clone(), true))
}

/// `CAST('12:30' AS TIMESTAMP)` means today.
fn note_time_of_day(ctx: &BindContext, arg: &Typed, to: &DataType) {
    if types::is_timestamp(to)
        && let Some(ScalarValue::Utf8(Some(text))) = arg.as_literal()
        && parse::timestamp_text(text).is_some_and(|t| t.time_only)
    {
        ctx.mark_uncacheable();
    }
}

fn not_by_name(_: &BindContext, _: Vec<Typed>) -> Result<Bound> {
    Err(Error::invalid("a cast is written CAST(expression AS type)"))
}

fn evaluate(call: &Invocation<'_>, mode: Mode) -> Result<ColumnarValue> {
    let zone = session_zone(call.time_zone)?;
    match call.args.first() {
        Some(ColumnarValue::Array(array)) => Ok(ColumnarValue::Array(cast_array(array, call.ret, zone, mode)?)),
        Some(ColumnarValue::Scalar(value)) => {
            let array = value.to_array().map_err(|e| Error::internal(e.to_string()))?;
            let cast = cast_array(&array, call.ret, zone, mode)?;
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&cast, 0).map_err(|e| Error::internal(e.to_string()))?))
        }
        None => Err(Error::internal("a cast without an argument")),
    }
}

/// A text as a DATE, a TIMESTAMP or a decimal, as CAST reads it; `None` where that raises.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    parse::date(text)
}

pub(crate) fn parse_timestamp(text: &str, zone: Zone) -> Option<i64> {
    parse::timestamp(text, zone)
}

pub(crate) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    match parse::decimal(text, precision, scale) {
        parse::DecimalText::Value(v) => Some(v),
        parse::DecimalText::Malformed | parse::DecimalText::OutOfRange => None,
    }
}

/// The session's zone as kernels need it.
pub(crate) fn session_zone(time_zone: &str) -> Result<Zone> {
    Zone::parse(time_zone).ok_or_else(|| {
        Error::invalid(format!("time zone '{time_zone}' isn't known; use an IANA name such as Europe/Berlin, or an offset such as +02:00"))
    })
}
