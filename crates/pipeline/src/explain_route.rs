//! A decision as rows, for `EXPLAIN ROUTE`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use flightpath_plan::explain_route_schema;
use flightpath_types::{Candidate, CandidateNumbers, Decision, Error, Result};

/// One row per candidate, ranked ones first. Numbers are NULL for engines that may not run it. What decided is
/// the same on each row.
pub fn rows(decision: &Decision) -> Result<RecordBatch> {
    let all = &decision.candidates;
    let strategy = strategy(decision);
    let double =
        |of: fn(&CandidateNumbers) -> f64| -> ArrayRef { Arc::new(all.iter().map(|c| eligible(c).map(of)).collect::<Float64Array>()) };
    let long = |of: fn(&CandidateNumbers) -> u64| -> ArrayRef {
        Arc::new(all.iter().map(|c| eligible(c).map(|n| i64::try_from(of(n)).unwrap_or(i64::MAX))).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(all.iter().map(|c| c.engine.as_str()))),
        Arc::new(all.iter().map(|c| Some(c.refusal.is_none())).collect::<BooleanArray>()),
        Arc::new(all.iter().map(|c| Some(c.rank == Some(1))).collect::<BooleanArray>()),
        Arc::new(StringArray::from_iter_values(all.iter().map(|c| reason(decision, c)))),
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
        long(|n| n.scan_bytes_p95),
        Arc::new(StringArray::from_iter_values(all.iter().map(|_| strategy.as_str()))),
        Arc::new(all.iter().map(|_| decision.profile.as_deref()).collect::<StringArray>()),
    ];
    RecordBatch::try_new(explain_route_schema(), columns).map_err(|e| Error::internal(format!("explaining the route: {e}")))
}

fn eligible(candidate: &Candidate) -> Option<&CandidateNumbers> {
    candidate.refusal.is_none().then_some(&candidate.numbers)
}

/// Why it stands where it stands. Of the chosen one it's the decision's reason, which also says whose budget
/// has handed the query down.
fn reason<'a>(decision: &'a Decision, candidate: &'a Candidate) -> &'a str {
    let whole = decision.reason.strip_prefix(candidate.engine.as_str()).and_then(|rest| rest.strip_prefix(": "));
    whole.filter(|_| candidate.rank == Some(1)).unwrap_or(&candidate.reason)
}

/// As it was written, with the side of an `ab` that was drawn.
fn strategy(decision: &Decision) -> String {
    let (strategy, Some(arm)) = (&decision.strategy, &decision.arm) else { return decision.strategy.clone() };
    let side = if strategy.starts_with(&format!("ab:{arm}|")) { "a" } else { "b" };
    format!("{strategy} ({side}: {arm})")
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use flightpath_types::{EngineId, Refusal, RefusalClass};

    use super::*;

    fn candidate(engine: &str, rank: Option<u32>, reason: &str) -> Candidate {
        Candidate {
            engine: EngineId::new(engine),
            refusal: rank.is_none().then(|| Refusal::new(RefusalClass::Policy, reason)),
            numbers: CandidateNumbers::default(),
            rank,
            reason: reason.into(),
        }
    }

    fn decision(strategy: &str, arm: Option<&str>) -> Decision {
        Decision {
            strategy: strategy.into(),
            candidates: vec![
                candidate("duckdb", Some(1), "cheapest"),
                candidate("datafusion", Some(2), "dearer"),
                candidate("databricks", None, "isn't used"),
            ],
            reason: "duckdb: cheapest; profile `small` has spent its 1.00 dollars of today, so profile `frugal` holds".into(),
            profile: Some("frugal".into()),
            propensity: Some(1.0),
            arm: arm.map(Into::into),
        }
    }

    fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
        batch.column_by_name(column).unwrap().as_string::<i32>().iter().map(|text| text.unwrap().to_string()).collect()
    }

    #[test]
    fn every_row_says_what_decided_and_the_chosen_one_whose_budget_was_spent() {
        let rows = rows(&decision("cost", None)).unwrap();
        assert_eq!(texts(&rows, "strategy"), ["cost"; 3]);
        assert_eq!(texts(&rows, "profile"), ["frugal"; 3]);
        let spent = "cheapest; profile `small` has spent its 1.00 dollars of today, so profile `frugal` holds";
        assert_eq!(texts(&rows, "reason"), [spent, "dearer", "isn't used"]);
    }

    #[test]
    fn the_side_of_a_test_that_was_drawn_is_named() {
        let text = "ab:rules|cost(late=0.01):0.5";
        for (arm, expected) in [("rules", "a: rules"), ("cost(late=0.01)", "b: cost(late=0.01)")] {
            let rows = rows(&decision(text, Some(arm))).unwrap();
            assert_eq!(texts(&rows, "strategy")[0], format!("{text} ({expected})"));
        }
    }
}
