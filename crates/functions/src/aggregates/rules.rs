//! Aggregates on DuckDB.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use crate::def::{DuckAggregate, DuckAggregateSql};
use crate::errors::duck;
use crate::{duckdb, ops, types};

type Rule = Result<DuckAggregateSql, String>;

fn sql(call: String) -> Rule {
    Ok(DuckAggregateSql { call, wrap: None, second: None })
}

fn wrapped(call: String, wrap: String) -> Rule {
    Ok(DuckAggregateSql { call, wrap: Some(wrap), second: None })
}

fn distinct(call: &DuckAggregate<'_>) -> &'static str {
    if call.distinct { "DISTINCT " } else { "" }
}

fn arg<'a>(call: &'a DuckAggregate<'_>) -> Result<&'a str, String> {
    call.args.first().map(String::as_str).ok_or_else(|| "an aggregate without arguments".into())
}

fn arg_type<'a>(call: &'a DuckAggregate<'_>) -> &'a DataType {
    call.types.first().unwrap_or(&DataType::Null)
}

fn literal_text<'a>(call: &'a DuckAggregate<'_>, index: usize) -> Option<&'a str> {
    match call.literals.get(index)?.as_ref()? {
        ScalarValue::Utf8(Some(text)) => Some(text),
        _ => None,
    }
}

/// The same aggregate under DuckDB's name.
pub(super) fn plain(call: &DuckAggregate<'_>, name: &str) -> Rule {
    sql(format!("{name}({}{})", distinct(call), call.args.join(", ")))
}

pub(super) fn count(call: &DuckAggregate<'_>) -> Rule {
    match call.literals.first() {
        Some(Some(value)) if !value.is_null() && !call.distinct => sql("count(*)".into()),
        _ => plain(call, "count"),
    }
}

pub(super) fn sum(call: &DuckAggregate<'_>) -> Rule {
    let text = format!("sum({}{})", distinct(call), arg(call)?);
    match arg_type(call) {
        // Four billion of these fit into a BIGINT.
        DataType::Int8 | DataType::Int16 | DataType::Int32 => wrapped(text, "CAST({} AS BIGINT)".into()),
        DataType::Int64 if call.windowed => {
            let raise = duck::arithmetic_overflow("bigint");
            let checked = format!("coalesce(TRY_CAST(fp_w AS BIGINT), CASE WHEN fp_w IS NOT NULL THEN {raise} END)");
            wrapped(text, format!("list_transform([{{}}], lambda fp_w: {checked})[1]"))
        }
        DataType::Int64 => {
            let raise = duck::arithmetic_overflow("bigint");
            wrapped(text, format!("coalesce(TRY_CAST({{}} AS BIGINT), CASE WHEN {{}} IS NOT NULL THEN {raise} END)"))
        }
        // DuckDB lets a sum grow beyond 38 digits. With ten digits to spare it can't.
        DataType::Decimal128(p, s) if *p + 10 > types::MAX_PRECISION => {
            let greatest = format!("CAST('{}' AS DECIMAL(38,{s}))", "9".repeat(38 - *s as usize) + "." + &"9".repeat(*s as usize));
            let raise = duck::arithmetic_overflow(&types::name(call.ret));
            let checked = format!("CASE WHEN fp_w NOT BETWEEN -{greatest} AND {greatest} THEN {raise} ELSE fp_w END");
            wrapped(text, format!("list_transform([{{}}], lambda fp_w: {checked})[1]"))
        }
        ty if types::is_decimal(ty) || types::is_float(ty) => sql(text),
        ty => Err(format!("sum of {} isn't known on DuckDB", types::name(ty))),
    }
}

pub(super) fn try_sum(call: &DuckAggregate<'_>) -> Rule {
    let text = format!("sum({}{})", distinct(call), arg(call)?);
    match arg_type(call) {
        ty if types::is_integral(ty) => wrapped(text, duckdb::hidden("TRY_CAST({} AS BIGINT)")),
        ty if types::is_float(ty) => sql(text),
        ty => Err(format!("try_sum of {} isn't known on DuckDB", types::name(ty))),
    }
}

pub(super) fn avg(call: &DuckAggregate<'_>) -> Rule {
    match (arg_type(call), call.ret) {
        (DataType::Float64, _) => plain(call, "avg"),
        (DataType::Decimal128(_, s), DataType::Decimal128(_, to)) => {
            let (x, distinct) = (arg(call)?, distinct(call));
            let quotient = ops::rules::quotient(("{}", i32::from(*s)), ("{second}", 0), i32::from(*to));
            Ok(DuckAggregateSql {
                call: format!("sum({distinct}{x})"),
                wrap: Some(quotient),
                second: Some(format!("count({distinct}{x})")),
            })
        }
        (ty, _) => Err(format!("avg of {} isn't known on DuckDB", types::name(ty))),
    }
}

pub(super) fn try_avg(call: &DuckAggregate<'_>) -> Rule {
    match arg_type(call) {
        DataType::Float64 => plain(call, "avg"),
        ty => Err(format!("try_avg of {} isn't known on DuckDB", types::name(ty))),
    }
}

pub(super) fn extreme(call: &DuckAggregate<'_>, name: &str) -> Rule {
    match arg_type(call) {
        ty if types::is_atomic(ty) && !types::is_interval(ty) => plain(call, name),
        // NULLs inside are greatest there and least here.
        ty => Err(format!("{name} of {} isn't known on DuckDB", types::name(ty))),
    }
}

pub(super) fn skewness(_: &DuckAggregate<'_>) -> Rule {
    Err("skewness is a sample's on DuckDB and a population's on Databricks".into())
}

pub(super) fn corr(call: &DuckAggregate<'_>) -> Rule {
    comoment(call, "corr", "CASE WHEN NOT isnan({}) THEN {} END")
}

pub(super) fn kurtosis(_: &DuckAggregate<'_>) -> Rule {
    Err("kurtosis is made of sums of powers on DuckDB, which lose all digits of values far from zero".into())
}

/// The squares that a moment sums stay far from what a DOUBLE holds up to this value. DuckDB
/// raises where a moment is infinite or NaN, Databricks answers it.
const MOMENT_BOUND: &str = "1e145";

fn bounded(call: String, greatest: String, wrap: &str) -> Rule {
    let message = duckdb::string("Moments of infinite, NaN or extreme values aren't known on DuckDB.");
    let raise = duckdb::raise("UNSUPPORTED_FEATURE", "0A000", &message);
    // NaN is greater than any bound.
    let wrap = format!("CASE WHEN {{second}} > {MOMENT_BOUND} THEN {raise} ELSE {wrap} END");
    Ok(DuckAggregateSql { call, wrap: Some(wrap), second: Some(greatest) })
}

pub(super) fn moment(call: &DuckAggregate<'_>, name: &str) -> Rule {
    let (x, distinct) = (arg(call)?, distinct(call));
    bounded(format!("{name}({distinct}CASE WHEN abs({x}) <= {MOMENT_BOUND} THEN {x} END)"), format!("max(abs({x}))"), "{}")
}

pub(super) fn comoment(call: &DuckAggregate<'_>, name: &str, wrap: &str) -> Rule {
    let [x, y] = call.args else { return Err(format!("{name} takes two arguments")) };
    let (distinct, bound) = (distinct(call), MOMENT_BOUND);
    let kept = format!("{name}({distinct}CASE WHEN abs({x}) <= {bound} AND abs({y}) <= {bound} THEN {x} END, {y})");
    let greatest = format!("max(CASE WHEN {x} IS NOT NULL AND {y} IS NOT NULL THEN greatest(abs({x}), abs({y})) END)");
    bounded(kept, greatest, wrap)
}

pub(super) fn edge(call: &DuckAggregate<'_>, last: bool) -> Rule {
    let x = arg(call)?;
    match (call.windowed, last, call.ignore_nulls) {
        (true, false, nulls) => sql(format!("first_value({x}{})", if nulls { " IGNORE NULLS" } else { "" })),
        (true, true, nulls) => sql(format!("last_value({x}{})", if nulls { " IGNORE NULLS" } else { "" })),
        (false, false, true) => sql(format!("any_value({x})")),
        (false, false, false) => sql(format!("first({x})")),
        (false, true, false) => sql(format!("last({x})")),
        (false, true, true) => wrapped(format!("list({x})"), "list_filter({}, lambda e: e IS NOT NULL)[-1]".into()),
    }
}

pub(super) fn list(call: &DuckAggregate<'_>) -> Rule {
    collected(call, distinct(call))
}

pub(super) fn set(call: &DuckAggregate<'_>) -> Rule {
    collected(call, "DISTINCT ")
}

fn collected(call: &DuckAggregate<'_>, distinct: &str) -> Rule {
    let text = format!("list({distinct}{})", arg(call)?);
    wrapped(text, "coalesce(list_filter({}, lambda e: e IS NOT NULL), [])".into())
}

/// Arguments are the text, the separator, the keys, and a direction per key.
pub(super) fn listagg(call: &DuckAggregate<'_>) -> Rule {
    let keys = (call.args.len().saturating_sub(2)) / 2;
    let separator = literal_text(call, 1).ok_or("listagg with a separator that isn't a literal")?;
    let mut order = Vec::with_capacity(keys);
    for i in 0..keys {
        let direction = literal_text(call, 2 + keys + i).ok_or("listagg with an order that isn't known")?;
        order.push(format!("{} {direction}", call.args[2 + i]));
    }
    let order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
    sql(format!("string_agg({}{}, {}{order})", distinct(call), arg(call)?, duckdb::string(separator)))
}

/// The shares as DuckDB takes them.
fn shares(call: &DuckAggregate<'_>) -> Result<String, String> {
    match call.literals.get(1) {
        Some(Some(ScalarValue::Utf8(Some(many)))) => {
            Ok(format!("[{}]", many.split(',').map(|s| format!("CAST({s} AS DOUBLE)")).collect::<Vec<_>>().join(", ")))
        }
        Some(Some(share)) => duckdb::literal(share),
        _ => Err("percentages that aren't literals aren't known on DuckDB".into()),
    }
}

/// Interpolation goes through DOUBLE, in another order of operations than Databricks': the last
/// digit may differ, as it may between any two runs of a float aggregate.
pub(super) fn percentile(call: &DuckAggregate<'_>) -> Rule {
    match arg_type(call) {
        DataType::Float64 if call.args.len() == 2 => sql(format!("quantile_cont({}{}, {})", distinct(call), arg(call)?, shares(call)?)),
        ty => Err(format!("percentiles of {} like this aren't known on DuckDB", types::name(ty))),
    }
}

pub(super) fn percentile_approx(call: &DuckAggregate<'_>) -> Rule {
    match arg_type(call) {
        ty if types::is_interval(ty) => Err(format!("percentile_approx of {} isn't known on DuckDB", types::name(ty))),
        _ => sql(format!("quantile_disc({}{}, {})", distinct(call), arg(call)?, shares(call)?)),
    }
}

pub(super) fn ordered_percentile(call: &DuckAggregate<'_>, name: &str) -> Rule {
    let direction = literal_text(call, 2).ok_or("a percentile with an order that isn't known")?;
    match arg_type(call) {
        DataType::Float64 if !call.distinct && !call.windowed => {
            sql(format!("{name}({}) WITHIN GROUP (ORDER BY {} {direction} NULLS LAST)", shares(call)?, arg(call)?))
        }
        ty => Err(format!("percentiles of {} like this aren't known on DuckDB", types::name(ty))),
    }
}

pub(super) fn mode(call: &DuckAggregate<'_>) -> Rule {
    match literal_text(call, 1) {
        Some("ANY") => sql(format!("mode({}{})", distinct(call), arg(call)?)),
        _ => Err("which of several modes is taken isn't known on DuckDB".into()),
    }
}
