//! A decision as rows, for `EXPLAIN ROUTE`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use flightpath_plan::explain_route_schema;
use flightpath_types::{Candidate, Decision, Error, Result};

/// One row per candidate, ranked ones first. Numbers are NULL for engines that may not run it.
pub fn rows(decision: &Decision) -> Result<RecordBatch> {
    let all = &decision.candidates;
    let eligible = |c: &Candidate| c.refusal.is_none();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(all.iter().map(|c| c.engine.as_str()))),
        Arc::new(all.iter().map(|c| Some(eligible(c))).collect::<BooleanArray>()),
        Arc::new(all.iter().map(|c| Some(c.rank == Some(1))).collect::<BooleanArray>()),
        Arc::new(StringArray::from_iter_values(all.iter().map(|c| c.reason.as_str()))),
        Arc::new(all.iter().map(|c| eligible(c).then_some(c.numbers.latency_ms)).collect::<Float64Array>()),
        Arc::new(all.iter().map(|c| eligible(c).then_some(c.numbers.usd)).collect::<Float64Array>()),
        Arc::new(
            all.iter().map(|c| eligible(c).then_some(i64::try_from(c.numbers.scan_bytes).unwrap_or(i64::MAX))).collect::<Int64Array>(),
        ),
        Arc::new(all.iter().map(|c| c.rank.map(|r| i32::try_from(r).unwrap_or(i32::MAX))).collect::<Int32Array>()),
    ];
    RecordBatch::try_new(explain_route_schema(), columns).map_err(|e| Error::internal(format!("explaining the route: {e}")))
}
