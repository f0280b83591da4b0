//! What a query would take on an engine, from counts and priors alone.

use flightpath_types::{CandidateNumbers, EngineFacts, Features};

/// Parquet's encoded bytes grow about this much when decoded into vectors.
const DECODED_FACTOR: u64 = 3;
/// A hash table's bytes per row, keys and payload of a few columns.
const HASH_ROW_BYTES: u64 = 64;
/// Groups per input row where nothing is known.
const GROUPS_PER_ROW: f64 = 0.1;
/// What any query takes: plan, buffers of one row group per core.
const MEMORY_FLOOR_BYTES: u64 = 16 << 20;
/// Work of a join, aggregate, window, sort or distinct relative to the scan that feeds it.
const OPERATOR_SHARE: f64 = 0.25;

/// Latency = overhead + bytes / rate, more for each heavy operator; memory = what joins' smaller
/// sides, groups and sorts hold; dollars = latency at the engine's hourly price.
pub fn predict(features: &Features, facts: &EngineFacts) -> CandidateNumbers {
    let heavy = features.joins + features.aggregates + features.windows + features.sorts + features.distincts;
    let rate = (facts.scan_bytes_per_second_per_core * f64::from(facts.cores.max(1))).max(1.0);
    let scan_ms = features.scan_bytes as f64 / rate * 1000.0;
    let latency_ms = facts.overhead_ms + scan_ms * (1.0 + OPERATOR_SHARE * f64::from(heavy));
    CandidateNumbers {
        latency_ms,
        memory_bytes: memory_bytes(features),
        scan_bytes: features.scan_bytes,
        usd: latency_ms / 3_600_000.0 * facts.usd_per_hour,
    }
}

fn memory_bytes(features: &Features) -> u64 {
    let largest = features.tables.iter().map(|t| t.bytes).max().unwrap_or(0);
    let build_sides = if features.joins > 0 { features.scan_bytes.saturating_sub(largest) } else { 0 };
    let rows = features.scan_rows.unwrap_or(features.scan_bytes / 16);
    let groups = if features.group_keys > 0 || features.distincts > 0 { (rows as f64 * GROUPS_PER_ROW) as u64 } else { 0 };
    // A sort with a limit keeps only the limit's rows.
    let held_rows =
        if features.windows > 0 || features.sorts > features.limits { features.result_rows.unwrap_or(rows).min(rows) } else { 0 };
    MEMORY_FLOOR_BYTES
        .saturating_add(build_sides.saturating_mul(DECODED_FACTOR))
        .saturating_add(groups.saturating_mul(HASH_ROW_BYTES))
        .saturating_add(held_rows.saturating_mul(HASH_ROW_BYTES))
}
