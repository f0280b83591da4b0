//! The checks: what was seen, if it isn't what must be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{CastOptions, SortColumn, SortOptions, cast_with_options, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Int64Type, Schema};
use flightpath_catalog::TableSnapshot;
use flightpath_plan::PlannedQuery;
use flightpath_types::{ErrorKind, Principal, QueryId};
use futures::StreamExt;

use super::fixture::{Fixture, NUMBERS_ROWS, Outcome};
use super::measure::cpu_time;
use super::{QUERY_MEMORY_BYTES_MAX, Subject, TEMP_BYTES_MAX};
use crate::{BatchStream, Execution};

type Verdict = Result<(), String>;

/// How long anything may take that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long work may linger once nobody wants it.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// A window without work: this little processor time in this long.
const IDLE_WINDOW: Duration = Duration::from_millis(200);
const IDLE_CPU_MAX: Duration = Duration::from_millis(40);

pub(super) async fn rows_arrive_complete_and_in_the_promised_shape(subject: &Subject, fixture: &Fixture) -> Verdict {
    let rows = rows_of(subject, &built(Fixture::whole(&fixture.types))?).await?;
    same_rows(&rows, &fixture.types_rows, 3)?;
    let numbers = rows_of(subject, &built(Fixture::whole(&fixture.numbers))?).await?;
    expect(numbers.num_rows() as i64 == NUMBERS_ROWS, || format!("{} rows arrived of {NUMBERS_ROWS}", numbers.num_rows()))
}

pub(super) async fn evolved_and_partitioned_files_read_as_the_snapshot_says(subject: &Subject, fixture: &Fixture) -> Verdict {
    let rows = rows_of(subject, &built(Fixture::whole(&fixture.evolved))?).await?;
    same_rows(&rows, &fixture.evolved_rows, 0)
}

/// Skipping row groups, stopping early and reading no column at all must not bring deleted rows back.
pub(super) async fn filters_limits_and_counts_see_live_rows_only(subject: &Subject, fixture: &Fixture) -> Verdict {
    let ids = |batch: &RecordBatch| -> Vec<i64> { batch.column(0).as_primitive::<Int64Type>().values().to_vec() };
    for (below, limit, expected) in [(10, 3, vec![8, 7, 6]), (4, 5, vec![2, 1]), (12, 4, vec![11, 10, 8, 7]), (1, 5, vec![])] {
        let seen = ids(&rows_of(subject, &built(fixture.top(below, limit))?).await?);
        expect(seen == expected, || format!("the {limit} highest ids below {below} are {seen:?}, not {expected:?}"))?;
    }
    let live = ids(&fixture.evolved_rows);
    for limit in [1, 5, 16, 17, 100] {
        let seen = ids(&rows_of(subject, &built(fixture.some(limit))?).await?);
        let distinct: BTreeSet<&i64> = seen.iter().filter(|id| live.contains(id)).collect();
        expect(seen.len() == limit.min(live.len()) && distinct.len() == seen.len(), || format!("LIMIT {limit} gives {seen:?}"))?;
    }
    let counts = rows_of(subject, &built(fixture.partition_counts())?).await?;
    let (parts, counts) = (counts.column(0).as_string::<i32>(), counts.column(1).as_primitive::<Int64Type>());
    let mut seen: Vec<(Option<&str>, i64)> = parts.iter().zip(counts.values().iter().copied()).collect();
    seen.sort();
    expect(seen == [(None, 10), (Some("a b"), 7)], || format!("rows in each partition: {seen:?}"))
}

pub(super) async fn an_empty_result_is_no_error(subject: &Subject, fixture: &Fixture) -> Verdict {
    let rows = rows_of(subject, &built(fixture.nothing())?).await?;
    expect(rows.num_rows() == 0, || format!("{} rows where there are none", rows.num_rows()))
}

/// More bytes arrive than the engine may hold in memory and temporary files together, long before
/// the result is complete.
pub(super) async fn large_results_stream(subject: &Subject, fixture: &Fixture) -> Verdict {
    let mut stream = start(subject, &built(fixture.huge())?, None).await?;
    let mut bytes = 0;
    while bytes < QUERY_MEMORY_BYTES_MAX + TEMP_BYTES_MAX {
        let batch = within(PATIENCE, stream.next()).await?.ok_or("the stream ended early")?.map_err(|e| e.to_string())?;
        bytes += batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0) as u64).sum::<u64>();
    }
    drop(stream);
    stopped(subject).await
}

pub(super) async fn errors_raised_at_the_start_keep_their_class(subject: &Subject, fixture: &Fixture) -> Verdict {
    raises(subject, &built(fixture.quotients(&fixture.zeros))?).await
}

pub(super) async fn errors_raised_in_mid_stream_keep_their_class(subject: &Subject, fixture: &Fixture) -> Verdict {
    raises(subject, &built(fixture.quotients(&fixture.numbers))?).await
}

pub(super) async fn a_condition_guards_those_behind_it(subject: &Subject, fixture: &Fixture) -> Verdict {
    for (and, expected) in [(true, NUMBERS_ROWS - 1), (false, NUMBERS_ROWS)] {
        let rows = rows_of(subject, &built(fixture.guarded(and))?).await?.num_rows() as i64;
        expect(rows == expected, || format!("{rows} rows, not {expected}"))?;
    }
    Ok(())
}

pub(super) async fn a_missing_file_is_data_loss(subject: &Subject, fixture: &Fixture) -> Verdict {
    loses_data(subject, fixture, &fixture.missing).await
}

pub(super) async fn a_truncated_file_is_data_loss(subject: &Subject, fixture: &Fixture) -> Verdict {
    loses_data(subject, fixture, &fixture.truncated).await
}

pub(super) async fn dropping_the_stream_stops_the_work(subject: &Subject, fixture: &Fixture) -> Verdict {
    let mut stream = start(subject, &built(fixture.huge())?, None).await?;
    within(PATIENCE, stream.next()).await?.ok_or("the stream ended early")?.map_err(|e| e.to_string())?;
    expect(subject.engine.facts().running == 1, || format!("{} queries run where one does", subject.engine.facts().running))?;
    drop(stream);
    stopped(subject).await
}

pub(super) async fn dropping_the_stream_before_its_first_batch_stops_the_work(subject: &Subject, fixture: &Fixture) -> Verdict {
    stops_at_work(subject, &built(fixture.endless())?).await
}

pub(super) async fn a_join_that_matches_nothing_can_be_stopped(subject: &Subject, fixture: &Fixture) -> Verdict {
    let query = built(fixture.barren())?;
    stops_at_work(subject, &query).await?;
    let error = error_of(subject, &query, Some(Instant::now() + Duration::from_millis(300))).await?;
    expect(error.kind() == ErrorKind::DeadlineExceeded, || format!("not DeadlineExceeded but {:?}: {error}", error.kind()))?;
    stopped(subject).await
}

pub(super) async fn the_deadline_stops_the_work(subject: &Subject, fixture: &Fixture) -> Verdict {
    let deadline = Instant::now() + Duration::from_millis(500);
    let error = error_of(subject, &built(fixture.endless())?, Some(deadline)).await?;
    expect(error.kind() == ErrorKind::DeadlineExceeded, || format!("not DeadlineExceeded but {:?}: {error}", error.kind()))?;
    expect(Instant::now() >= deadline, || "it was over before its deadline".into())?;
    stopped(subject).await
}

pub(super) async fn memory_is_limited_and_the_engine_lives_on(subject: &Subject, fixture: &Fixture) -> Verdict {
    let error = error_of(subject, &built(fixture.sorted())?, None).await?;
    expect(error.kind() == ErrorKind::ResourceExhausted, || format!("not ResourceExhausted but {:?}: {error}", error.kind()))?;
    stopped(subject).await?;
    rows_arrive_complete_and_in_the_promised_shape(subject, fixture).await
}

pub(super) async fn queries_at_once_do_not_disturb_each_other(subject: &Subject, fixture: &Fixture) -> Verdict {
    let failing = built(fixture.quotients(&fixture.numbers))?;
    let whole = built(Fixture::whole(&fixture.evolved))?;
    let each = (0..8).map(|round| {
        let (failing, whole) = (&failing, &whole);
        async move {
            if round % 2 == 0 {
                raises(subject, failing).await
            } else {
                same_rows(&rows_of(subject, whole).await?, &fixture.evolved_rows, 0)
            }
        }
    });
    futures::future::join_all(each).await.into_iter().collect()
}

/// Drops the stream of a query that has no batch yet, while the engine works on it.
async fn stops_at_work(subject: &Subject, query: &Arc<PlannedQuery>) -> Verdict {
    let before = total_cpu(subject);
    let stream = start(subject, query, None).await?;
    // The engine must be at work before the drop says anything.
    let at_work = Instant::now();
    while total_cpu(subject) < before + Duration::from_millis(100) {
        expect(at_work.elapsed() < PATIENCE, || "the engine never began to work".into())?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(stream);
    stopped(subject).await
}

async fn raises(subject: &Subject, query: &Arc<PlannedQuery>) -> Verdict {
    let error = error_of(subject, query, None).await?;
    let seen = (error.kind(), error.class(), error.sql_state());
    expect(seen == (ErrorKind::Raised, Some("DIVIDE_BY_ZERO"), Some("22012")), || format!("not division by zero but {seen:?}: {error}"))
}

async fn loses_data(subject: &Subject, fixture: &Fixture, table: &Arc<TableSnapshot>) -> Verdict {
    let error = error_of(subject, &built(Fixture::whole(table))?, None).await?;
    expect(error.kind() == ErrorKind::DataLoss, || format!("not DataLoss but {:?}: {error}", error.kind()))?;
    rows_arrive_complete_and_in_the_promised_shape(subject, fixture).await
}

fn built(query: Outcome<Arc<PlannedQuery>>) -> Result<Arc<PlannedQuery>, String> {
    query.map_err(|e| format!("the suite's own query can't be made: {e}"))
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

async fn within<T>(limit: Duration, what: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(limit, what).await.map_err(|_| format!("nothing happened for {} seconds", limit.as_secs()))
}

fn execution(deadline: Option<Instant>) -> Execution {
    Execution {
        query_id: QueryId::generate(),
        principal: Principal::new("conformance"),
        token: None,
        deadline,
        traceparent: None,
        findings: Default::default(),
    }
}

async fn start(subject: &Subject, query: &Arc<PlannedQuery>, deadline: Option<Instant>) -> Result<BatchStream, String> {
    subject.engine.eligible(query).map_err(|refusal| format!("refused: {}", refusal.reason))?;
    let stream = within(PATIENCE, subject.engine.execute(query.clone(), execution(deadline))).await?;
    stream.map_err(|e| format!("didn't start: {e}"))
}

/// The error that ends the query, at its start or in its stream, after which there is nothing.
async fn error_of(subject: &Subject, query: &Arc<PlannedQuery>, deadline: Option<Instant>) -> Result<flightpath_types::Error, String> {
    subject.engine.eligible(query).map_err(|refusal| format!("refused: {}", refusal.reason))?;
    let mut stream = match within(PATIENCE, subject.engine.execute(query.clone(), execution(deadline))).await? {
        Ok(stream) => stream,
        Err(e) => return Ok(e),
    };
    let mut rows = 0;
    loop {
        match within(PATIENCE, stream.next()).await? {
            Some(Ok(batch)) => rows += batch.num_rows(),
            Some(Err(e)) => {
                expect(within(PATIENCE, stream.next()).await?.is_none(), || "the stream goes on after an error".into())?;
                return Ok(e);
            }
            None => return Err(format!("no error, but {rows} rows that look complete")),
        }
    }
}

/// All rows of the query, cast to the promised schema.
async fn rows_of(subject: &Subject, query: &Arc<PlannedQuery>) -> Result<RecordBatch, String> {
    let mut stream = start(subject, query, None).await?;
    let mut batches = Vec::new();
    while let Some(batch) = within(PATIENCE, stream.next()).await? {
        batches.push(stamped(&batch.map_err(|e| e.to_string())?, &query.schema)?);
    }
    concat_batches(&query.schema, &batches).map_err(|e| e.to_string())
}

fn stamped(batch: &RecordBatch, schema: &Arc<Schema>) -> Result<RecordBatch, String> {
    expect(batch.num_columns() == schema.fields().len(), || {
        format!("{} columns where {} are promised", batch.num_columns(), schema.fields().len())
    })?;
    let options = CastOptions { safe: false, ..Default::default() };
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            cast_with_options(column, field.data_type(), &options).map_err(|e| {
                format!("column {} comes as {}, which doesn't cast to {}: {e}", field.name(), column.data_type(), field.data_type())
            })
        })
        .collect::<Result<_, _>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| e.to_string())
}

/// Compares rows in the order of one column of each.
fn same_rows(seen: &RecordBatch, expected: &RecordBatch, key: usize) -> Verdict {
    expect(seen.num_rows() == expected.num_rows(), || format!("{} rows where there are {}", seen.num_rows(), expected.num_rows()))?;
    let (seen, expected) = (sorted(seen, key)?, sorted(expected, key)?);
    for ((field, seen), expected) in expected.schema().fields().iter().zip(seen.columns()).zip(expected.columns()) {
        expect(seen.to_data() == expected.to_data(), || format!("column {} holds {seen:?}, not {expected:?}", field.name()))?;
    }
    Ok(())
}

fn sorted(batch: &RecordBatch, key: usize) -> Result<RecordBatch, String> {
    let column = SortColumn { values: batch.column(key).clone(), options: Some(SortOptions::default()) };
    let indices = lexsort_to_indices(&[column], None).map_err(|e| e.to_string())?;
    take_record_batch(batch, &indices).map_err(|e| e.to_string())
}

/// Waits until the engine says that nothing runs and its processors are idle.
async fn stopped(subject: &Subject) -> Verdict {
    let since = Instant::now();
    while subject.engine.facts().running != 0 {
        expect(since.elapsed() < STOPPED_WITHIN, || format!("{} queries still run", subject.engine.facts().running))?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    loop {
        let before = total_cpu(subject);
        tokio::time::sleep(IDLE_WINDOW).await;
        let used = total_cpu(subject).saturating_sub(before);
        if used <= IDLE_CPU_MAX {
            return Ok(());
        }
        expect(since.elapsed() < STOPPED_WITHIN, || format!("{used:?} of processor time used in {IDLE_WINDOW:?}, though nothing runs"))?;
    }
}

fn total_cpu(subject: &Subject) -> Duration {
    (subject.processes)().into_iter().filter_map(cpu_time).sum()
}
