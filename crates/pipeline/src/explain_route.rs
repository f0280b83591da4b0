//! A decision as rows, for `EXPLAIN ROUTE`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use flightpath_plan::explain_route_schema;
use flightpath_types::{Candidate, CandidateNumbers, Decision, Error, Result};

/// One row per candidate, ranked ones first. Numbers are NULL for engines that may not run it.
pub fn rows(decision: &Decision) -> Result<RecordBatch> {
    let all = &decision.candidates;
    let double =
        |of: fn(&CandidateNumbers) -> f64| -> ArrayRef { Arc::new(all.iter().map(|c| eligible(c).map(of)).collect::<Float64Array>()) };
    let long = |of: fn(&CandidateNumbers) -> u64| -> ArrayRef {
        Arc::new(all.iter().map(|c| eligible(c).map(|n| i64::try_from(of(n)).unwrap_or(i64::MAX))).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(all.iter().map(|c| c.engine.as_str()))),
        Arc::new(all.iter().map(|c| Some(c.refusal.is_none())).collect::<BooleanArray>()),
        Arc::new(all.iter().map(|c| Some(c.rank == Some(1))).collect::<BooleanArray>()),
        Arc::new(StringArray::from_iter_values(all.iter().map(|c| c.reason.as_str()))),
        double(|n| n.latency_ms),
        double(|n| n.usd),
        long(|n| n.scan_bytes),
        Arc::new(all.iter().map(|c| c.rank.map(|r| i32::try_from(r).unwrap_or(i32::MAX))).collect::<Int32Array>()),
        double(|n| n.latency_p95_ms),
        double(|n| n.usd_p95),
        long(|n| n.memory_bytes),
        long(|n| n.memory_p95_bytes),
        Arc::new(all.iter().map(|c| eligible(c).map(|n| n.source.as_str())).collect::<StringArray>()),
        long(|n| u64::from(n.observations)),
    ];
    RecordBatch::try_new(explain_route_schema(), columns).map_err(|e| Error::internal(format!("explaining the route: {e}")))
}

fn eligible(candidate: &Candidate) -> Option<&CandidateNumbers> {
    candidate.refusal.is_none().then_some(&candidate.numbers)
}
