//! The rows of the compile table for aggregates.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use super::bind;
use super::bitmaps::Bitmap;
use super::moments::{Comoment, Moment};
use super::rules;
use crate::def::{AggregateDef, BindContext, Bound, DuckCall, FunctionDef, Invocation, ScalarDef, Typed};

macro_rules! aggregates {
    ($($name:literal [$($alias:literal),*] $bind:expr, $rule:expr, $proof:literal;)*) => {
        &[$(FunctionDef::Aggregate(AggregateDef { name: $name, aliases: &[$($alias),*], bind: $bind, duckdb: $rule, proof: $proof })),*]
    };
}

pub(crate) static FAMILY: &[FunctionDef] = aggregates! {
    "count" [] bind::count, rules::count, "corpus: agg-013, agg-009, hard-057";
    "count_if" [] bind::count_if, rules::count, "corpus: agg-038";
    "approx_count_distinct" [] bind::approx_count_distinct, rules::count, "corpus: agg-007";
    "sum" [] bind::sum, rules::sum, "corpus: agg-048, agg-045, arith-015, hard-096";
    "try_sum" [] bind::try_sum, rules::try_sum, "corpus: agg-024, arith-021";
    "avg" ["mean"] bind::avg, rules::avg, "corpus: agg-048, decimal-007, decimal-010";
    "try_avg" [] bind::try_avg, rules::try_avg, "corpus: agg-024, decimal-010";
    "min" [] bind::min, |c| rules::extreme(c, "min"), "corpus: agg-044, agg-029, slt: nested_order";
    "max" [] bind::max, |c| rules::extreme(c, "max"), "corpus: agg-044, agg-029, slt: nested_order";
    "bool_and" ["every"] bind::bool_and, |c| rules::plain(c, "bool_and"), "corpus: agg-005, conditional-015";
    "bool_or" ["some", "any"] bind::bool_or, |c| rules::plain(c, "bool_or"), "corpus: agg-005, conditional-015";
    "bit_and" [] bind::bit_and, |c| rules::plain(c, "bit_and"), "corpus: arith-029";
    "bit_or" [] bind::bit_or, |c| rules::plain(c, "bit_or"), "corpus: arith-029";
    "bit_xor" [] bind::bit_xor, |c| rules::plain(c, "bit_xor"), "corpus: arith-029";
    "var_pop" [] |x, c| bind::moment(x, c, "var_pop", Moment::VarPop), |c| rules::moment(c, "var_pop"), "corpus: window-030";
    "var_samp" ["variance"] |x, c| bind::moment(x, c, "var_samp", Moment::VarSamp), |c| rules::moment(c, "var_samp"), "slt: aggregates";
    "stddev_pop" [] |x, c| bind::moment(x, c, "stddev_pop", Moment::StddevPop), |c| rules::moment(c, "stddev_pop"), "slt: aggregates";
    "stddev_samp" ["stddev", "std"] |x, c| bind::moment(x, c, "stddev_samp", Moment::StddevSamp), |c| rules::moment(c, "stddev_samp"), "corpus: window-030, agg-052";
    "skewness" [] |x, c| bind::moment(x, c, "skewness", Moment::Skewness), rules::skewness, "corpus: agg-025, agg-047";
    "kurtosis" [] |x, c| bind::moment(x, c, "kurtosis", Moment::Kurtosis), rules::kurtosis, "corpus: agg-025, agg-035, agg-047";
    "covar_pop" [] |x, c| bind::comoment(x, c, "covar_pop", Comoment::CovarPop), |c| rules::comoment(c, "covar_pop", "{}"), "corpus: agg-035";
    "covar_samp" [] |x, c| bind::comoment(x, c, "covar_samp", Comoment::CovarSamp), |c| rules::comoment(c, "covar_samp", "{}"), "corpus: agg-035";
    "corr" [] |x, c| bind::comoment(x, c, "corr", Comoment::Corr), rules::corr, "corpus: agg-035";
    "regr_count" [] bind::regr_count, rules::count, "slt: statistics";
    "regr_avgx" [] |x, c| bind::regr_avg(x, c, "regr_avgx", 1), rules::avg, "slt: statistics";
    "regr_avgy" [] |x, c| bind::regr_avg(x, c, "regr_avgy", 0), rules::avg, "slt: statistics";
    "regr_sxx" [] |x, c| bind::comoment(x, c, "regr_sxx", Comoment::Sxx), |c| rules::comoment(c, "regr_sxx", "{}"), "slt: statistics";
    "regr_syy" [] |x, c| bind::comoment(x, c, "regr_syy", Comoment::Syy), |c| rules::comoment(c, "regr_syy", "{}"), "slt: statistics";
    "regr_sxy" [] |x, c| bind::comoment(x, c, "regr_sxy", Comoment::Sxy), |c| rules::comoment(c, "regr_sxy", "{}"), "slt: statistics";
    "regr_r2" [] |x, c| bind::comoment(x, c, "regr_r2", Comoment::R2), |c| rules::comoment(c, "regr_r2", "{}"), "slt: statistics";
    "regr_slope" [] |x, c| bind::comoment(x, c, "regr_slope", Comoment::Slope), |c| rules::regression(c, "regr_slope"), "slt: statistics";
    "regr_intercept" [] |x, c| bind::comoment(x, c, "regr_intercept", Comoment::Intercept), |c| rules::regression(c, "regr_intercept"), "slt: statistics";
    "bitmap_construct_agg" [] |x, c| bind::bitmap(x, c, "bitmap_construct_agg", Bitmap::Construct), |_| Err("bitmaps aren't known on DuckDB".into()), "slt: statistics";
    "bitmap_or_agg" [] |x, c| bind::bitmap(x, c, "bitmap_or_agg", Bitmap::Or), |_| Err("bitmaps aren't known on DuckDB".into()), "slt: statistics";
    "first" ["first_value"] |_, c| bind::edge(c, "first", false), |c| rules::edge(c, false), "corpus: window-024, window-025, window-027";
    "any_value" [] |_, c| bind::edge(c, "any_value", false), |c| rules::edge(c, false), "corpus: window-022";
    "last" ["last_value"] |_, c| bind::edge(c, "last", true), |c| rules::edge(c, true), "corpus: window-024, window-025, window-027";
    "max_by" [] |x, c| bind::by_key(x, c, "max_by", true), |c| rules::by_key(c, "arg_max_null"), "corpus: agg-014, agg-039, hard-039, slt: nested_order";
    "min_by" [] |x, c| bind::by_key(x, c, "min_by", false), |c| rules::by_key(c, "arg_min_null"), "corpus: agg-014, agg-039, slt: nested_order";
    "collect_list" ["array_agg"] |_, c| bind::list(c, "collect_list", false, None), rules::list, "corpus: hard-034, agg-052";
    "collect_set" [] |x, c| bind::list(c, "collect_set", true, Some(x)), rules::set, "corpus: hard-034, agg-033";
    "listagg" ["string_agg"] bind::listagg, rules::listagg, "corpus: hard-033";
    "percentile" [] bind::percentile, rules::percentile, "corpus: decimal-005, hard-079";
    "median" [] bind::median, rules::percentile, "corpus: agg-003, hard-079";
    "percentile_cont" [] |x, c| bind::ordered_percentile(x, c, "percentile_cont", false), |c| rules::ordered_percentile(c, "percentile_cont"), "corpus: agg-006, hard-079";
    "percentile_disc" [] |x, c| bind::ordered_percentile(x, c, "percentile_disc", true), |c| rules::ordered_percentile(c, "percentile_disc"), "corpus: agg-006, hard-079";
    "percentile_approx" ["approx_percentile"] bind::percentile_approx, rules::percentile_approx, "corpus: agg-015, hard-079";
    "mode" [] bind::mode, rules::mode, "corpus: agg-001";
};

/// The rows that `count(a, b)` counts: a struct of the values, NULL where any is.
pub(crate) static COUNT_KEY: ScalarDef = ScalarDef {
    name: "count_key",
    aliases: &[],
    bind: bind_key,
    eval: key,
    duckdb: key_text,
    proof: "corpus: agg-013, hard-057",
    deterministic: true,
};

fn bind_key(_: &BindContext, args: Vec<Typed>) -> Result<Bound> {
    let fields: Fields = args.iter().enumerate().map(|(i, a)| Field::new(format!("a{i}"), a.ty.clone(), true)).collect();
    let nullable = args.iter().any(|a| a.nullable);
    Ok(Bound { args, ret: DataType::Struct(fields), nullable })
}

fn key(call: &Invocation<'_>) -> Result<ColumnarValue> {
    let internal = |e: &dyn std::fmt::Display| Error::internal(e.to_string());
    let arrays: Result<Vec<ArrayRef>> = call.args.iter().map(|a| a.to_array(call.rows).map_err(|e| internal(&e))).collect();
    let arrays = arrays?;
    let nulls = arrays.iter().fold(None, |nulls, a| NullBuffer::union(nulls.as_ref(), a.logical_nulls().as_ref()));
    let DataType::Struct(fields) = call.ret else { return Err(Error::internal("count_key returns a struct")) };
    let made = StructArray::try_new_with_length(fields.clone(), arrays, nulls, call.rows).map_err(|e| internal(&e))?;
    Ok(ColumnarValue::Array(Arc::new(made)))
}

fn key_text(call: &DuckCall<'_>) -> Result<String, String> {
    let present: Vec<String> = call.args.iter().map(|a| format!("{a} IS NOT NULL")).collect();
    Ok(format!("(CASE WHEN {} THEN row({}) END)", present.join(" AND "), call.args.join(", ")))
}
