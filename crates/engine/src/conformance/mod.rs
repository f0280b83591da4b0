//! What every engine adapter must do, as checks to be run against a real one.
//!
//! An adapter's test starts its engine with at most the limits below, writes the [`Fixture`] into a
//! folder, and asserts that [`run`] reports no failure. The same queries stand in the fixture as
//! typed plans and as DuckDB SQL. Nothing here knows an engine by name.

mod checks;
mod fixture;
mod golden;
mod measure;
mod queries;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use fixture::{Fixture, column, snapshot, write_file};
pub use golden::{Reading, golden};
pub use measure::cpu_time;
pub use queries::{planned, scan};

use crate::Engine;

/// The engine under test may give a query no more memory than this...
pub const QUERY_MEMORY_BYTES_MAX: u64 = 128 << 20;
/// ...and no more temporary space, or the check of limits takes long.
pub const TEMP_BYTES_MAX: u64 = 256 << 20;

/// An engine and the processes it computes in.
pub struct Subject {
    pub engine: Arc<dyn Engine>,
    /// Process ids now; asked again each time, since a worker may be replaced.
    pub processes: Box<dyn Fn() -> Vec<u32> + Send + Sync>,
}

/// One check and how it went.
#[derive(Debug)]
pub struct Report {
    pub name: &'static str,
    /// What was seen instead of what must be.
    pub failure: Option<String>,
    pub took: Duration,
}

/// Runs every check, one after the other, whatever fails.
pub async fn run(subject: &Subject, fixture: &Fixture) -> Vec<Report> {
    let mut reports = Vec::new();
    macro_rules! check {
        ($($name:ident),* $(,)?) => {$(
            let started = Instant::now();
            let outcome = checks::$name(subject, fixture).await;
            reports.push(Report { name: stringify!($name), failure: outcome.err(), took: started.elapsed() });
        )*};
    }
    check!(
        rows_arrive_complete_and_in_the_promised_shape,
        evolved_and_partitioned_files_read_as_the_snapshot_says,
        filters_limits_and_counts_see_live_rows_only,
        an_empty_result_is_no_error,
        large_results_stream,
        errors_raised_at_the_start_keep_their_class,
        errors_raised_in_mid_stream_keep_their_class,
        a_condition_guards_those_behind_it,
        a_missing_file_is_data_loss,
        a_truncated_file_is_data_loss,
        dropping_the_stream_stops_the_work,
        dropping_the_stream_before_its_first_batch_stops_the_work,
        a_join_that_matches_nothing_can_be_stopped,
        the_deadline_stops_the_work,
        memory_is_limited_and_the_engine_lives_on,
        queries_at_once_do_not_disturb_each_other,
    );
    reports
}

/// The failures as one text, for an assertion; empty when there are none.
pub fn failures(reports: &[Report]) -> String {
    reports.iter().filter_map(|report| report.failure.as_ref().map(|failure| format!("{}: {failure}\n", report.name))).collect()
}
