//! A query as numbers of about one, for the models. Nothing of the engine is among them: a model
//! belongs to one engine, and an engine that gets better must never look worse.

use flightpath_types::Features;

pub(crate) const SIZE: usize = 26;

pub(crate) type Vector = [f64; SIZE];

/// Where the plan can't tell, all that is read may go through the operators there are.
fn estimated(told: Option<u64>, read: u64, there: bool) -> u64 {
    told.unwrap_or(if there { read } else { 0 })
}

/// What grows over orders of magnitude is taken as its logarithm.
pub(crate) fn vector(features: &Features) -> Vector {
    let log = |value: f64, unit: f64| (value / unit).ln_1p() / 4.0;
    let count = |value: u32| f64::from(value).ln_1p();
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) };
    let bytes = log(features.scan_bytes as f64, 1e6);
    let rows = features.scan_rows.unwrap_or(features.scan_bytes / 16);
    let rows_log = log(rows as f64, 1e5);
    let largest = features.tables.iter().map(|table| table.bytes).max().unwrap_or(0);
    let grouped = estimated(features.grouped_rows, rows, features.group_keys > 0 || features.distincts > 0);
    let groups = estimated(features.groups, grouped, features.group_keys > 0 || features.distincts > 0);
    let joined = estimated(features.joined_rows, rows, features.joins > 0);
    let sorted = estimated(features.sorted_rows, rows, features.windows > 0 || features.sorts > features.limits);
    let keeps_rows = features.aggregates == 0 && features.distincts == 0;
    [
        1.0,
        bytes,
        bytes * bytes,
        rows_log,
        log(features.files as f64, 4.0),
        count(features.columns_read) / 2.0,
        count(features.joins),
        count(features.joins) * bytes,
        log(joined as f64, 1e5),
        count(features.cross_joins),
        count(features.aggregates),
        count(features.group_keys),
        log(grouped as f64, 1e5),
        log(groups as f64, 1e4),
        count(features.windows),
        log(sorted as f64, 1e4),
        count(features.distincts),
        count(features.sorts.saturating_sub(features.limits)),
        count(features.limits),
        count(features.unions),
        count(features.subqueries),
        count(features.filters) / 2.0,
        f64::from(features.depth).ln_1p() / 3.0,
        share(features.deleted_rows, rows.saturating_add(features.deleted_rows)),
        // How much of the work isn't in the one big table.
        1.0 - share(largest, features.file_bytes.max(largest)),
        if keeps_rows { log(features.result_rows.unwrap_or(rows) as f64, 1e4) } else { 0.0 },
    ]
}
