//! The `rules` strategy: few thresholds, each with its reason, good enough to start with.

use flightpath_types::{Candidate, EngineFacts, Features};

use crate::bytes_text;

/// Up to here the fixed cost of an engine outweighs its scan speed.
const SMALL_SCAN_BYTES: u64 = 4 << 20;
/// More joins than this aren't simple: the order of joins decides, and the faster engine wins.
const SIMPLE_JOINS_MAX: u32 = 1;

/// A candidate that may run the query, in order of preference, with the sentence that says why.
pub(crate) struct Ranked {
    pub index: usize,
    pub reason: String,
}

pub(crate) fn rank(features: &Features, candidates: &[(Candidate, &EngineFacts)]) -> Vec<Ranked> {
    let small =
        features.scan_bytes <= SMALL_SCAN_BYTES && features.joins + features.cross_joins <= SIMPLE_JOINS_MAX && features.windows == 0;
    let mut order: Vec<usize> = (0..candidates.len()).filter(|i| candidates[*i].0.refusal.is_none()).collect();
    let key = |i: &usize| {
        let (candidate, facts) = &candidates[*i];
        let spills = candidate.numbers.memory_bytes > facts.memory_bytes_max;
        let preference = if small { facts.overhead_ms } else { candidate.numbers.latency_ms };
        (spills, preference, facts.id.clone())
    };
    order.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
    });
    let what = describe(features);
    order
        .iter()
        .enumerate()
        .map(|(position, index)| {
            let (candidate, facts) = &candidates[*index];
            let reason = if order.len() == 1 {
                format!("{what}; the only engine that may run it")
            } else if candidate.numbers.memory_bytes > facts.memory_bytes_max {
                format!(
                    "{what}; would spill: needs about {}, has {}",
                    bytes_text(candidate.numbers.memory_bytes),
                    bytes_text(facts.memory_bytes_max)
                )
            } else if small {
                match position {
                    0 => format!("{what}: small and simple, lowest fixed cost"),
                    _ => format!("{what}: small and simple, higher fixed cost"),
                }
            } else {
                match position {
                    0 => format!("{what}: fastest scan"),
                    _ => format!("{what}: slower, about {:.0} ms", candidate.numbers.latency_ms),
                }
            };
            Ranked { index: *index, reason }
        })
        .collect()
}

/// `reads 12.0 MB in 3 of 40 files, 2 joins, 1 aggregate`
fn describe(features: &Features) -> String {
    let mut parts = Vec::new();
    if features.scans == 0 {
        parts.push("reads no table".to_string());
    } else if features.files_total == 0 {
        parts.push("reads no files".to_string());
    } else {
        parts.push(format!("reads {} in {} of {} files", bytes_text(features.scan_bytes), features.files, features.files_total));
    }
    for (count, one, many) in [
        (features.joins + features.cross_joins, "join", "joins"),
        (features.aggregates, "aggregate", "aggregates"),
        (features.windows, "window", "windows"),
        (features.sorts, "sort", "sorts"),
    ] {
        match count {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            n => parts.push(format!("{n} {many}")),
        }
    }
    parts.join(", ")
}
