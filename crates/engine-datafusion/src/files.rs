//! Reading the bytes of data files on this machine's disks, and footers of all files through a cache.
//!
//! Every failure becomes a typed error here, while the file's name is still known. A file whose
//! size isn't the pinned one is never read: its row groups wouldn't be where the plan looks for them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use flightpath_engine::Findings;
use flightpath_types::{Error, ErrorKind, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::cloud::{Object, ObjectReader};

/// Read at once from a file's end in cloud storage: with most footers, one request.
const FOOTER_PREFETCH_BYTES: usize = 64 << 10;

/// One pinned file, as attached to the scan's file list.
#[derive(Debug, Clone)]
pub(crate) struct TableFile {
    /// `catalog.schema.table`, for messages.
    pub(crate) table: Arc<str>,
    pub(crate) path: Arc<str>,
    pub(crate) size_bytes: u64,
    /// Rows the file must have, where row positions depend on it.
    pub(crate) rows: Option<u64>,
    /// Where it is read, if not from this machine's disks.
    pub(crate) object: Option<Object>,
    /// Told what is read.
    pub(crate) findings: Arc<Findings>,
}

impl TableFile {
    pub(crate) fn data_loss(&self, what: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::DataLoss, format!("data file {} of table {} {what}", self.name(), self.table))
    }

    /// Its name without its folders: where a table lives isn't every client's business.
    pub(crate) fn name(&self) -> &str {
        file_name(&self.path)
    }

    fn open(&self) -> Result<OpenFile> {
        let file = File::open(&*self.path).map_err(|e| self.io(&e))?;
        let metadata = file.metadata().map_err(|e| self.io(&e))?;
        if !metadata.is_file() {
            return Err(self.data_loss("isn't a file"));
        }
        if metadata.len() != self.size_bytes {
            return Err(self.data_loss(format_args!(
                "is {} bytes long where the table's log says {}: it was truncated or replaced",
                metadata.len(),
                self.size_bytes
            )));
        }
        let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Ok(OpenFile { file, modified_ns })
    }

    fn io(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound => self.data_loss("is missing; it may have been vacuumed"),
            io::ErrorKind::UnexpectedEof => self.data_loss("ends too early: it was truncated"),
            // It may be whole, and another engine may read it.
            _ => Error::classed(
                ErrorKind::Internal,
                "FAILED_READ_FILE.NO_HINT",
                "KD001",
                format!("data file {} of table {} can't be read: {error}", self.name(), self.table),
            ),
        }
    }
}

/// The last part of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    modified_ns: i128,
}

/// A footer is the same as long as path, length and time of modification are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FooterKey {
    path: Arc<str>,
    size_bytes: u64,
    modified_ns: i128,
}

/// Footers of files read lately.
#[derive(Debug, Clone)]
pub(crate) struct Footers(moka::sync::Cache<FooterKey, Arc<ParquetMetaData>>);

impl Footers {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        let weigh = |_: &FooterKey, footer: &Arc<ParquetMetaData>| u32::try_from(footer.memory_size()).unwrap_or(u32::MAX);
        Self(moka::sync::Cache::builder().weigher(weigh).max_capacity(limit_bytes).build())
    }

    /// The footer with its page indexes. Blocks.
    fn load(&self, spec: &TableFile, open: &OpenFile) -> Result<Arc<ParquetMetaData>> {
        let key = FooterKey { path: spec.path.clone(), size_bytes: spec.size_bytes, modified_ns: open.modified_ns };
        let footer = match self.0.get(&key) {
            Some(footer) => footer,
            None => {
                let footer = ParquetMetaDataReader::new()
                    .with_page_index_policy(PageIndexPolicy::Optional)
                    .parse_and_finish(&open.file)
                    .and_then(trusted)
                    .map_err(|e| unreadable(spec, &e))?;
                let footer = Arc::new(footer);
                self.0.insert(key, footer.clone());
                footer
            }
        };
        checked(spec, footer)
    }

    /// The same of an object, which is never written again under its name.
    pub(crate) async fn load_object(&self, spec: &TableFile, reader: &mut ObjectReader) -> Result<Arc<ParquetMetaData>> {
        let key = FooterKey { path: spec.path.clone(), size_bytes: spec.size_bytes, modified_ns: 0 };
        let footer = match self.0.get(&key) {
            Some(footer) => footer,
            None => {
                let footer = ParquetMetaDataReader::new()
                    .with_page_index_policy(PageIndexPolicy::Optional)
                    .with_prefetch_hint(Some(FOOTER_PREFETCH_BYTES))
                    .load_and_finish(reader, spec.size_bytes)
                    .await
                    .and_then(trusted)
                    .map_err(|e| match e {
                        ParquetError::External(inner) => match inner.downcast::<Error>() {
                            Ok(own) => *own,
                            Err(other) => unreadable(spec, &other),
                        },
                        other => unreadable(spec, &other),
                    })?;
                let footer = Arc::new(footer);
                self.0.insert(key, footer.clone());
                footer
            }
        };
        checked(spec, footer)
    }

    /// The number of rows in a file.
    pub(crate) async fn rows(&self, spec: &TableFile) -> Result<u64> {
        let footer = match &spec.object {
            Some(object) => self.load_object(spec, &mut ObjectReader::new(spec.clone(), object.clone(), self.clone())).await?,
            None => {
                let (footers, spec) = (self.clone(), spec.clone());
                blocking(move || footers.load(&spec, &spec.open()?)).await?
            }
        };
        u64::try_from(footer.file_metadata().num_rows())
            .map_err(|_| Error::new(ErrorKind::DataLoss, "a Parquet file has a negative number of rows"))
    }
}

fn unreadable(spec: &TableFile, why: &dyn std::fmt::Display) -> Error {
    spec.data_loss(format_args!("isn't a readable Parquet file: {why}"))
}

fn checked(spec: &TableFile, footer: Arc<ParquetMetaData>) -> Result<Arc<ParquetMetaData>> {
    match spec.rows {
        Some(rows) if u64::try_from(footer.file_metadata().num_rows()) != Ok(rows) => Err(spec.data_loss(format_args!(
            "has {} rows where the table's log says {rows}: deleted rows can't be told",
            footer.file_metadata().num_rows()
        ))),
        _ => Ok(footer),
    }
}

/// Gives DataFusion its readers.
#[derive(Debug)]
pub(crate) struct Readers {
    footers: Footers,
}

impl Readers {
    pub(crate) fn new(footers: Footers) -> Self {
        Self { footers }
    }
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        _partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion::error::Result<Box<dyn AsyncFileReader + Send>> {
        match file.extension::<TableFile>() {
            Some(spec @ TableFile { object: Some(object), .. }) => {
                Ok(Box::new(ObjectReader::new(spec.clone(), object.clone(), self.footers.clone())))
            }
            Some(spec) => Ok(Box::new(Reader { spec: spec.clone(), open: None, footers: self.footers.clone() })),
            None => datafusion::common::internal_err!("a file without its table reached the Parquet reader"),
        }
    }
}

struct Reader {
    spec: TableFile,
    open: Option<Arc<OpenFile>>,
    footers: Footers,
}

impl Reader {
    /// Runs `work` on the file in a blocking thread, opening it first where needed.
    async fn with_file<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&TableFile, &OpenFile) -> Result<T> + Send + 'static,
    ) -> Result<T, ParquetError> {
        let (spec, open) = (self.spec.clone(), self.open.clone());
        let done = blocking(move || {
            let open = match open {
                Some(open) => open,
                None => Arc::new(spec.open()?),
            };
            let value = work(&spec, &open)?;
            Ok((open, value))
        });
        let (open, value) = done.await.map_err(|e| ParquetError::External(Box::new(e)))?;
        self.open = Some(open);
        Ok(value)
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.with_file(move |spec, open| read(spec, open, &range)).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        self.with_file(move |spec, open| ranges.iter().map(|range| read(spec, open, range)).collect()).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let footers = self.footers.clone();
        self.with_file(move |spec, open| footers.load(spec, open)).boxed()
    }
}

fn read(spec: &TableFile, open: &OpenFile, range: &Range<u64>) -> Result<Bytes> {
    if range.end < range.start || range.end > spec.size_bytes {
        return Err(spec.data_loss("has a footer that points beyond its end"));
    }
    let length = usize::try_from(range.end - range.start).map_err(|_| spec.data_loss("has a column too large for this machine"))?;
    let mut buffer = vec![0; length];
    open.file.read_exact_at(&mut buffer, range.start).map_err(|e| spec.io(&e))?;
    spec.findings.read(range.end - range.start);
    Ok(buffer.into())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => Err(crate::error::panicked(&e.to_string())),
        Err(_) => Err(Error::unavailable("engine datafusion is shutting down")),
    }
}

/// Takes away statistics that would make pruning drop rows it must not:
/// - of byte arrays in the deprecated fields, whose writers compared bytes as signed;
/// - without a count of NULLs, which DataFusion takes for zero.
fn trusted(footer: ParquetMetaData) -> Result<ParquetMetaData, ParquetError> {
    if !footer.row_groups().iter().any(|group| group.columns().iter().any(misleading)) {
        return Ok(footer);
    }
    let groups = footer
        .row_groups()
        .iter()
        .map(|group| {
            let columns: Result<Vec<ColumnChunkMetaData>, ParquetError> = group
                .columns()
                .iter()
                .map(
                    |column| if misleading(column) { column.clone().into_builder().clear_statistics().build() } else { Ok(column.clone()) },
                )
                .collect();
            group.clone().into_builder().set_column_metadata(columns?).build()
        })
        .collect::<Result<Vec<_>, ParquetError>>()?;
    Ok(footer.into_builder().set_row_groups(groups).build())
}

fn misleading(column: &ColumnChunkMetaData) -> bool {
    column.statistics().is_some_and(|statistics| {
        let signed_bytes = statistics.is_min_max_deprecated()
            && matches!(column.column_type(), PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY | PhysicalType::INT96);
        signed_bytes || statistics.null_count_opt().is_none()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::data_type::ByteArray;
    use parquet::file::statistics::Statistics;

    use super::*;

    fn footer(change: impl Fn(usize) -> Statistics) -> ParquetMetaData {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let columns: Vec<(&str, ArrayRef)> =
            vec![("n", Arc::new(Int64Array::from(vec![1]))), ("s", Arc::new(StringArray::from(vec!["a"])))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let footer = ParquetMetaDataReader::new().parse_and_finish(&File::open(&path).unwrap()).unwrap();
        let group = footer.row_group(0).clone();
        let changed =
            |(index, column): (usize, &ColumnChunkMetaData)| column.clone().into_builder().set_statistics(change(index)).build().unwrap();
        let columns = group.columns().iter().enumerate().map(changed).collect();
        let group = group.into_builder().set_column_metadata(columns).build().unwrap();
        footer.into_builder().set_row_groups(vec![group]).build()
    }

    fn kept(footer: ParquetMetaData) -> Vec<bool> {
        trusted(footer).unwrap().row_group(0).columns().iter().map(|column| column.statistics().is_some()).collect()
    }

    fn text(nulls: Option<u64>, deprecated: bool) -> Statistics {
        Statistics::byte_array(Some(ByteArray::from("a")), Some(ByteArray::from("z")), None, nulls, deprecated)
    }

    #[test]
    fn statistics_that_would_prune_wrongly_are_not_used() {
        let number = |nulls| Statistics::int64(Some(1), Some(1), None, nulls, false);
        let pick = |index: usize, n: Statistics, s: Statistics| if index == 0 { n } else { s };
        assert_eq!(kept(footer(|i| pick(i, number(Some(0)), text(Some(0), false)))), [true, true]);
        assert_eq!(kept(footer(|i| pick(i, number(None), text(Some(0), false)))), [false, true]);
        assert_eq!(kept(footer(|i| pick(i, number(Some(0)), text(Some(0), true)))), [true, false]);
    }
}
