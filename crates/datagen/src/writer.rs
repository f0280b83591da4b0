//! One table through deltalake: parts written in parallel, each in a stream, and one commit when
//! all are done.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::{Action, Add, StructType};
use deltalake::operations::create::CreateBuilder;
use deltalake::parquet::basic::Compression;
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use flightpath_types::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

use crate::folder::Staged;
use crate::progress::Progress;
use crate::table::Table;
use crate::{Options, TableSummary};

/// Bounds what an open file holds in memory, and is enough for a reader's threads to share.
const ROW_GROUP_ROWS: usize = 122_880;
/// Files that a big table has per partition, so that readers can work in parallel.
const FILES_WANTED: u64 = 8;
const ROWS_PER_FILE_MIN: u64 = 250_000;
const ROWS_PER_FILE_MAX: u64 = 4_000_000;

pub(crate) async fn write_table(
    table: &Arc<Table>,
    staged: &Staged,
    options: &Options,
    progress: &Arc<dyn Progress>,
) -> Result<TableSummary> {
    let location = Url::from_directory_path(&staged.path).map_err(|()| Error::internal("the staging folder isn't absolute"))?;
    let parts = parts(table, options.rows_per_file);
    let stop = Stop(Arc::default());
    let slots = Arc::new(Semaphore::new(options.threads.max(1)));
    let mut running = JoinSet::new();
    for part in 1..=parts {
        let (table, location, progress) = (table.clone(), location.clone(), progress.clone());
        let (stop, slots, lock) = (stop.0.clone(), slots.clone(), staged.lock.clone());
        running.spawn(async move {
            let _slot = slots.acquire_owned().await.map_err(|_| Error::internal("the writers' slots are gone"))?;
            let runtime = tokio::runtime::Handle::current();
            let work = tokio::task::spawn_blocking(move || {
                // An abandoned writer ends after its batch; until then the folder isn't free.
                let _lock = lock;
                runtime.block_on(write_part(&table, part, parts, &location, &stop, &progress))
            });
            work.await.map_err(|e| Error::internal(format!("a writer failed: {e}")))?
        });
    }
    let mut adds = Vec::new();
    while let Some(done) = running.join_next().await {
        adds.extend(done.map_err(|e| Error::internal(format!("a writer failed: {e}")))??);
    }
    commit(table, &location, adds).await
}

/// Tells the parts to end when the work is abandoned.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn parts(table: &Table, rows_per_file: Option<u64>) -> u32 {
    if !table.splits {
        return 1;
    }
    let partitions = table.year.map_or(1, |y| y.years);
    let rows_per_file = rows_per_file
        .unwrap_or_else(|| (table.rows_expected / (FILES_WANTED * partitions)).clamp(ROWS_PER_FILE_MIN, ROWS_PER_FILE_MAX))
        .max(1);
    u32::try_from(table.rows_expected.div_ceil(rows_per_file.saturating_mul(partitions)).clamp(1, 100_000)).unwrap_or(1)
}

async fn write_part(
    table: &Table,
    part: u32,
    parts: u32,
    location: &Url,
    stop: &AtomicBool,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Add>> {
    let failed = |e: deltalake::DeltaTableError| write_failed(table.name, &e);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by("flightpath".into())
        .build();
    let partitions = table.year.map(|y| vec![y.column.to_string()]);
    let mut writer =
        RecordBatchWriter::try_new(location, table.schema.clone(), partitions, None).map_err(failed)?.with_writer_properties(properties);
    let generated = |e: arrow::error::ArrowError| Error::internal(format!("generating table {} failed: {e}", table.name));
    for batch in table.open(part, parts) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, format!("writing table {} was stopped", table.name)));
        }
        let batch = table.convert(&batch.map_err(generated)?).map_err(generated)?;
        let rows = batch.num_rows() as u64;
        writer.write(batch).await.map_err(failed)?;
        progress.rows_written(table.name, rows);
    }
    writer.flush().await.map_err(failed)
}

/// Version 0 with all files in it: before this, the folder is no table.
async fn commit(table: &Table, location: &Url, adds: Vec<Add>) -> Result<TableSummary> {
    let failed = |e: deltalake::DeltaTableError| write_failed(table.name, &e);
    let schema: StructType = table
        .schema
        .as_ref()
        .try_into_kernel()
        .map_err(|e| Error::internal(format!("the schema of table {} isn't Delta's: {e}", table.name)))?;
    let mut summary = TableSummary { name: table.name.into(), rows: 0, files: adds.len(), bytes: 0 };
    for add in &adds {
        let rows = add.get_stats().ok().flatten().and_then(|stats| u64::try_from(stats.num_records).ok());
        summary.rows += rows.ok_or_else(|| Error::internal(format!("a file of table {} was written without statistics", table.name)))?;
        summary.bytes += u64::try_from(add.size).unwrap_or(0);
    }
    CreateBuilder::new()
        .with_location(location.as_str())
        .with_table_name(table.name)
        .with_columns(schema.fields().cloned())
        .with_partition_columns(table.year.iter().map(|y| y.column))
        .with_actions(adds.into_iter().map(Action::Add))
        .await
        .map_err(failed)?;
    Ok(summary)
}

fn write_failed(table: &str, error: &deltalake::DeltaTableError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut kind = ErrorKind::Unavailable;
    while let Some(e) = cause {
        match e.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => kind = ErrorKind::ResourceExhausted,
            Some(io::ErrorKind::PermissionDenied) => kind = ErrorKind::PermissionDenied,
            _ => {}
        }
        cause = e.source();
    }
    Error::new(kind, format!("writing table {table} failed: {error}"))
}
