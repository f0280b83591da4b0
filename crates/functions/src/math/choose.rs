//! `greatest` and `least`: NULLs don't count, NaN is the greatest.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, make_comparator};
use arrow::compute::{SortOptions, interleave};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use flightpath_types::{Error, Result};

use crate::def::{BindContext, Bound, DuckCall, FunctionDef, Invocation, Typed};
use crate::ops::coerce_all;
use crate::sig::{arity, scalar};
use crate::types;

pub(crate) static CHOOSE: &[FunctionDef] = &[
    scalar!("greatest", [], bind: |x, a| bind(x, "greatest", a), eval: |c| choose(c, Ordering::Greater), duckdb: |c| text(c, "greatest"),
        proof: "corpus: arith-006, hard-045, decimal-001"),
    scalar!("least", [], bind: |x, a| bind(x, "least", a), eval: |c| choose(c, Ordering::Less), duckdb: |c| text(c, "least"),
        proof: "corpus: arith-006, hard-045"),
];

fn bind(ctx: &BindContext, name: &str, args: Vec<Typed>) -> Result<Bound> {
    arity(name, args.len(), 2, None)?;
    let (args, ret) = coerce_all(ctx, args, &format!("function {name}"))?;
    let nullable = args.iter().all(|a| a.nullable);
    if !types::is_orderable(&ret) {
        return Err(types::mismatch(
            "INVALID_ORDERING_TYPE",
            format!("`{name}` doesn't take values of the type {}", types::sql_name(&ret)),
        ));
    }
    Ok(Bound { args, ret, nullable })
}

fn choose(call: &Invocation<'_>, wanted: Ordering) -> Result<ColumnarValue> {
    let internal = |e: &dyn std::fmt::Display| Error::internal(e.to_string());
    let scalar = call.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
    let rows = if scalar { 1 } else { call.rows };
    let arrays: Result<Vec<ArrayRef>> = call.args.iter().map(|a| a.to_array(rows).map_err(|e| internal(&e))).collect();
    let arrays = arrays?;
    let compared: Result<Vec<ArrayRef>> = arrays.iter().map(canonical).collect();
    let compared = compared?;
    // The argument that each row takes, one comparison at a time.
    let mut best: Vec<usize> = vec![0; rows];
    for (i, candidate) in arrays.iter().enumerate().skip(1) {
        for (j, known) in arrays.iter().enumerate().take(i) {
            let compare = make_comparator(&compared[j], &compared[i], SortOptions::default()).map_err(|e| internal(&e))?;
            for (row, best) in best.iter_mut().enumerate() {
                if *best != j || candidate.is_null(row) {
                    continue;
                }
                if known.is_null(row) || compare(row, row) == wanted.reverse() {
                    *best = i;
                }
            }
        }
    }
    let refs: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    let indices: Vec<(usize, usize)> = best.into_iter().enumerate().map(|(row, i)| (i, row)).collect();
    let chosen = interleave(&refs, &indices).map_err(|e| internal(&e))?;
    if scalar {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&chosen, 0).map_err(|e| internal(&e))?));
    }
    Ok(ColumnarValue::Array(chosen))
}

/// Arrow orders zeros by their sign; of equal ones the first argument is taken.
fn canonical(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Float32 => {
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 }))
        }
        DataType::Float64 => {
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 }))
        }
        _ => array.clone(),
    })
}

fn text(call: &DuckCall<'_>, name: &str) -> Result<String, String> {
    if !types::is_atomic(call.ret) || types::is_interval(call.ret) {
        return Err(format!("{name} of {} isn't known on DuckDB", types::name(call.ret)));
    }
    if types::is_float(call.ret) && call.args.len() > 1 {
        // Of equals, as 0.0 and -0.0 are, the first one stays; comparisons order NaN as Databricks does.
        let better = if name == "greatest" { ">" } else { "<" };
        let list = call.args.join(", ");
        return Ok(format!(
            "list_reduce([{list}], lambda fp_a, fp_b: CASE WHEN fp_b IS NULL THEN fp_a WHEN fp_a IS NULL OR fp_b {better} fp_a THEN fp_b ELSE fp_a END, \
             CAST(NULL AS {}))",
            crate::duckdb::type_name(call.ret)?
        ));
    }
    Ok(format!("{name}({})", call.args.join(", ")))
}
