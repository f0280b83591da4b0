//! What a query would take on an engine where nothing was seen yet: counts, a scan rate, a fixed
//! overhead. Wrong in detail, sensible in order of magnitude, and finite whatever comes in.

use flightpath_types::{EngineFacts, Features};

use crate::number::{clamped, saturating_u64};

/// Parquet's encoded bytes grow about this much when decoded into vectors.
const DECODED_FACTOR: u64 = 3;
/// A hash table's bytes per row, keys and payload of a few columns.
const HASH_ROW_BYTES: u64 = 64;
/// Groups per input row where nothing is known.
const GROUPS_PER_ROW: f64 = 0.1;
/// Estimates multiply along a chain of joins, and so do their errors. More groups and rows than this for each that
/// is read aren't believed: too much memory is a reason to refuse a query.
const GROUPS_PER_ROW_MAX: u64 = 4;
const OPERATOR_ROWS_PER_ROW_MAX: u64 = 64;
/// What any query takes: plan, buffers of one row group per core.
const MEMORY_FLOOR_BYTES: u64 = 16 << 20;
/// Work of a join, aggregate, window, sort or distinct relative to the scan that feeds it.
const OPERATOR_SHARE: f64 = 0.25;
/// Work of a row that is read, and of one that is joined, grouped or sorted, as bytes to be read: tens of nanoseconds
/// on one core.
const READ_ROW_BYTES: f64 = 8.0;
const OPERATOR_ROW_BYTES: f64 = 8.0;
/// Work of a row that a join without keys or a generator makes, as bytes to be read.
const PRODUCED_ROW_BYTES: f64 = 4.0;
/// An array's element in memory, while it is made and unfolded.
const ELEMENT_BYTES: u64 = 16;
/// A plan that only reads, filters, joins by keys, sorts and sums doesn't hold more than this...
const READING_FLOOR_BYTES: u64 = 128 << 20;
/// ...and so many times what it reads.
const READING_FACTOR: u64 = 32;
/// Nothing takes less or more than this, in milliseconds: 10 microseconds to about a month.
pub(crate) const LATENCY_MS_MIN: f64 = 0.01;
pub(crate) const LATENCY_MS_MAX: f64 = 3e9;

/// Overhead + bytes / rate, and the work of rows that go through operators or aren't read but made.
pub(crate) fn latency_ms(features: &Features, facts: &EngineFacts) -> f64 {
    let rate = clamped(facts.scan_bytes_per_second_per_core, 1.0, 1e15) * f64::from(facts.cores.max(1));
    let scan_ms = features.scan_bytes as f64 / rate * 1000.0;
    let rows_ms = |rows: u64, bytes: f64| rows as f64 * bytes / rate * 1000.0;
    let produced_ms = rows_ms(features.produced_rows, PRODUCED_ROW_BYTES);
    // Who only counts rows decodes none.
    let decoded = if features.columns_read == 0 { 0 } else { features.scan_rows.unwrap_or(0) };
    let operators_ms = match operator_rows(features) {
        Some(rows) => rows_ms(decoded, READ_ROW_BYTES) + rows_ms(rows, OPERATOR_ROW_BYTES),
        None => scan_ms * OPERATOR_SHARE * heavy(features) as f64,
    };
    let overhead_ms = clamped(facts.overhead_ms, 0.0, LATENCY_MS_MAX);
    clamped(overhead_ms + scan_ms + operators_ms + produced_ms, LATENCY_MS_MIN, LATENCY_MS_MAX)
}

/// Rows that are joined, grouped and sorted, and groups that are made of them; `None` where the plan can't tell.
fn operator_rows(features: &Features) -> Option<u64> {
    let rows = [features.joined_rows?, features.grouped_rows?, features.groups?, features.sorted_rows?];
    let believed = rows_read(features).max(features.produced_rows).saturating_mul(OPERATOR_ROWS_PER_ROW_MAX);
    Some(rows.iter().fold(0, |sum: u64, rows| sum.saturating_add(*rows)).min(believed))
}

fn heavy(features: &Features) -> u64 {
    [features.joins, features.aggregates, features.windows, features.sorts, features.distincts].iter().map(|n| u64::from(*n)).sum()
}

/// What joins' smaller sides, groups, sorts and generated arrays hold.
pub(crate) fn memory_bytes(features: &Features) -> u64 {
    let largest = features.tables.iter().map(|t| t.bytes).max().unwrap_or(0);
    let build_sides = if features.joins > 0 { features.scan_bytes.saturating_sub(largest) } else { 0 };
    // A join without keys holds one of its sides whole, of the same table too.
    let crossed_side = if features.cross_joins > 0 { features.scan_bytes / u64::from(features.scans.max(2)) } else { 0 };
    let rows = rows_read(features).max(features.produced_rows);
    let grouping = features.group_keys > 0 || features.distincts > 0;
    let groups = features.groups.unwrap_or(if grouping { saturating_u64(rows as f64 * GROUPS_PER_ROW) } else { 0 });
    let groups = groups.min(rows.saturating_mul(GROUPS_PER_ROW_MAX));
    // A sort with a limit keeps only the limit's rows.
    let sorting = features.windows > 0 || features.sorts > features.limits;
    // One sort after the other holds no more than there is.
    let held_rows = features.sorted_rows.map(|sorted| sorted.min(rows)).unwrap_or(if sorting {
        features.result_rows.unwrap_or(rows).min(rows)
    } else {
        0
    });
    MEMORY_FLOOR_BYTES
        .saturating_add(build_sides.max(crossed_side).saturating_mul(DECODED_FACTOR))
        .saturating_add(groups.saturating_mul(HASH_ROW_BYTES))
        .saturating_add(held_rows.saturating_mul(HASH_ROW_BYTES))
        .saturating_add(features.array_elements.saturating_mul(ELEMENT_BYTES))
}

fn rows_read(features: &Features) -> u64 {
    features.scan_rows.unwrap_or(features.scan_bytes / 16)
}

/// What a plan can't reasonably exceed, whatever other queries took there; `None` where what it holds
/// isn't bounded by what it reads.
pub(crate) fn memory_bytes_limit(features: &Features) -> Option<u64> {
    let unbounded = features.cross_joins > 0 || features.generators > 0 || features.collects > 0;
    let read = features.scan_bytes.max(rows_read(features).saturating_mul(16));
    (!unbounded).then(|| READING_FLOOR_BYTES.saturating_add(read.saturating_mul(READING_FACTOR)))
}

/// How much slower a query runs beside those that run already: they share the cores of all machines.
pub(crate) fn load_factor(facts: &EngineFacts) -> f64 {
    1.0 + f64::from(facts.running) / f64::from(facts.cores_total.max(facts.cores).max(1))
}
