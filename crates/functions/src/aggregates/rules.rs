//! Aggregates on DuckDB.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use crate::def::{DuckAggregate, DuckAggregateSql};
use crate::errors::duck;
use crate::strings::duck as text;
use crate::{duckdb, ops, order, types};

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
            let greatest = greatest_decimal(*s);
            let raise = duck::arithmetic_overflow(&types::name(call.ret));
            let checked = format!("CASE WHEN fp_w NOT BETWEEN -{greatest} AND {greatest} THEN {raise} ELSE fp_w END");
            wrapped(text, format!("list_transform([{{}}], lambda fp_w: {checked})[1]"))
        }
        ty if types::is_decimal(ty) || types::is_float(ty) => sql(text),
        ty if types::is_interval(ty) => {
            let number = ops::rules::interval_number(ty, arg(call)?);
            let made = ops::rules::interval_of(ty, "fp_w", &ops::rules::interval_overflow());
            wrapped(format!("sum({}{number})", distinct(call)), format!("list_transform([{{}}], lambda fp_w: {made})[1]"))
        }
        ty => Err(format!("sum of {} isn't known on DuckDB", types::name(ty))),
    }
}

fn greatest_decimal(scale: i8) -> String {
    let scale = scale as usize;
    format!("CAST('{}' AS DECIMAL(38,{scale}))", "9".repeat(38 - scale) + "." + &"9".repeat(scale))
}

pub(super) fn try_sum(call: &DuckAggregate<'_>) -> Rule {
    let text = format!("sum({}{})", distinct(call), arg(call)?);
    match arg_type(call) {
        ty if types::is_integral(ty) => wrapped(text, duckdb::hidden("TRY_CAST({} AS BIGINT)")),
        ty if types::is_float(ty) => sql(text),
        DataType::Decimal128(p, _) if *p + 10 <= types::MAX_PRECISION => sql(text),
        DataType::Decimal128(_, s) => {
            let greatest = greatest_decimal(*s);
            wrapped(
                text,
                format!("list_transform([{{}}], lambda fp_w: CASE WHEN fp_w BETWEEN -{greatest} AND {greatest} THEN fp_w END)[1]"),
            )
        }
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
        (ty, _) if types::is_interval(ty) => {
            let (number, distinct) = (ops::rules::interval_number(ty, arg(call)?), distinct(call));
            let made = ops::rules::interval_of(ty, "fp_w", &ops::rules::interval_overflow());
            let value = "CASE WHEN {second} > 0 THEN ({} * 2 + CASE WHEN {} < 0 THEN -{second} ELSE {second} END) // ({second} * 2) END";
            Ok(DuckAggregateSql {
                call: format!("sum({distinct}{number})"),
                wrap: Some(format!("list_transform([{value}], lambda fp_w: {made})[1]")),
                second: Some(format!("count({distinct}{})", arg(call)?)),
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
        ty if types::is_atomic(ty) => plain(call, name),
        // NULLs inside are greatest there and least here.
        ty => {
            let x = arg(call)?;
            sql(format!("arg_{name}({x}, {})", order::key(ty, x)?))
        }
    }
}

/// `max_by` and `min_by`: rows without a key don't count, a value that is NULL does.
pub(super) fn by_key(call: &DuckAggregate<'_>, name: &str) -> Rule {
    match (call.args, call.types) {
        ([x, key], [_, ty]) => sql(format!("{name}({x}, {})", order::key(ty, key)?)),
        _ => Err(format!("{name} of other than two values")),
    }
}

/// A population's, by the running moments that Databricks keeps. DuckDB's own functions are a
/// sample's, or sums of powers, which lose the digits of values far from zero.
fn running(call: &DuckAggregate<'_>, result: &str) -> Rule {
    if call.windowed {
        return Err("skewness and kurtosis over a window aren't known on DuckDB".into());
    }
    let refuse = text::refuse_value("Moments of infinite, NaN or extreme values aren't known on DuckDB.");
    // One step: d is the distance from the mean, e its share, and b the new second moment.
    let zero = "CAST(0 AS DOUBLE)";
    let start = |x: &str| format!("{{'n': {zero}, 'm': {zero}, 'p': {zero}, 'q': {zero}, 'r': {zero}, 'x': {x}}}");
    let distance = "{'a': fp_a, 'n': fp_a.n + 1, 'd': fp_b.x - fp_a.m, 'x': fp_b.x}";
    let share = "{'a': fp_d.a, 'n': fp_d.n, 'd': fp_d.d, 'e': fp_d.d / fp_d.n, 'x': fp_d.x}";
    let second = "{'s': fp_e, 'p': fp_e.a.p + fp_e.d * (fp_e.d - fp_e.e)}";
    let third =
        "{'s': fp_f.s, 'p': fp_f.p, 'q': fp_f.s.a.q - 3 * fp_f.s.e * fp_f.p + fp_f.s.d * (fp_f.s.d * fp_f.s.d - fp_f.s.e * fp_f.s.e)}";
    let fourth = "{'n': fp_g.s.n, 'm': fp_g.s.a.m + fp_g.s.e, 'p': fp_g.p, 'q': fp_g.q, \
                  'r': fp_g.s.a.r + (-4 * fp_g.s.e * fp_g.q - 6 * (fp_g.s.e * fp_g.s.e) * fp_g.p + fp_g.s.d * (fp_g.s.d * (fp_g.s.d * fp_g.s.d) - fp_g.s.e * (fp_g.s.e * fp_g.s.e))), 'x': fp_g.s.x}";
    let step = format!(
        "list_transform(list_transform(list_transform(list_transform([{distance}], lambda fp_d: {share}), lambda fp_e: {second}), lambda fp_f: {third}), lambda fp_g: {fourth})[1]"
    );
    let values = format!("list_transform(fp_w, lambda fp_x: {})", start("fp_x"));
    let moments = format!("list_reduce({values}, lambda fp_a, fp_b: {step}, {})", start(zero));
    let of_list = format!(
        "CASE WHEN list_max(list_transform(fp_w, lambda fp_x: abs(fp_x))) > CAST('1e70' AS DOUBLE) THEN {refuse} \
         ELSE list_transform([{moments}], lambda fp_r: CASE WHEN fp_r.p > 0 THEN {result} END)[1] END"
    );
    wrapped(
        format!("list({}{})", distinct(call), arg(call)?),
        format!("list_transform([list_filter({{}}, lambda fp_x: fp_x IS NOT NULL)], lambda fp_w: {of_list})[1]"),
    )
}

pub(super) fn skewness(call: &DuckAggregate<'_>) -> Rule {
    running(call, "sqrt(fp_r.n) * fp_r.q / sqrt(fp_r.p * fp_r.p * fp_r.p)")
}

pub(super) fn corr(call: &DuckAggregate<'_>) -> Rule {
    comoment(call, "corr", "CASE WHEN NOT isnan({}) THEN {} END")
}

/// NaN where there is nothing to draw a line through.
pub(super) fn regression(call: &DuckAggregate<'_>, name: &str) -> Rule {
    comoment(call, name, "CASE WHEN NOT isnan({}) THEN {} END")
}

pub(super) fn kurtosis(call: &DuckAggregate<'_>) -> Rule {
    running(call, "fp_r.n * fp_r.r / (fp_r.p * fp_r.p) - 3")
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
    let order = order_of(call, 1)?;
    let text = format!("list({distinct}{}{order})", arg(call)?);
    wrapped(text, "coalesce(list_filter({}, lambda e: e IS NOT NULL), [])".into())
}

/// ` ORDER BY ...` of the keys, and a direction per key, that begin at an argument.
fn order_of(call: &DuckAggregate<'_>, first: usize) -> Result<String, String> {
    let keys = (call.args.len().saturating_sub(first)) / 2;
    let mut order = Vec::with_capacity(keys);
    for i in 0..keys {
        let direction = literal_text(call, first + keys + i).ok_or("an aggregate with an order that isn't known")?;
        order.push(format!("{} {direction}", call.args[first + i]));
    }
    Ok(if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) })
}

/// Arguments are the text, the separator, the keys, and a direction per key.
pub(super) fn listagg(call: &DuckAggregate<'_>) -> Rule {
    let separator = literal_text(call, 1).ok_or("listagg with a separator that isn't a literal")?;
    let order = order_of(call, 2)?;
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
        // Windows take no WITHIN GROUP. Interpolation is the same from either end.
        DataType::Float64 if call.windowed && !call.distinct && name == "percentile_cont" => {
            let share = match call.literals.get(1) {
                Some(Some(ScalarValue::Float64(Some(share)))) if direction == "ASC" => *share,
                Some(Some(ScalarValue::Float64(Some(share)))) => 1.0 - *share,
                _ => return Err("several percentages over a window aren't known on DuckDB".into()),
            };
            sql(format!("quantile_cont({}, {})", arg(call)?, duckdb::literal(&ScalarValue::Float64(Some(share)))?))
        }
        DataType::Float64 if !call.distinct && !call.windowed => {
            sql(format!("{name}({}) WITHIN GROUP (ORDER BY {} {direction} NULLS LAST)", shares(call)?, arg(call)?))
        }
        ty => Err(format!("percentiles of {} like this aren't known on DuckDB", types::name(ty))),
    }
}

pub(super) fn mode(call: &DuckAggregate<'_>) -> Rule {
    match literal_text(call, 1) {
        Some("ANY") => sql(format!("mode({}{})", distinct(call), arg(call)?)),
        Some(direction) if types::is_atomic(arg_type(call)) && !types::is_interval(arg_type(call)) => {
            let pick = if direction == "ASC" { "list_min" } else { "list_max" };
            let most = "list_filter(map_entries(fp_w), lambda fp_e: fp_e.value = list_max(map_values(fp_w)))";
            wrapped(
                format!("histogram({}{})", distinct(call), arg(call)?),
                format!("list_transform([{{}}], lambda fp_w: {pick}(list_transform({most}, lambda fp_e: fp_e.key)))[1]"),
            )
        }
        _ => Err("which of several modes is taken isn't known on DuckDB".into()),
    }
}
