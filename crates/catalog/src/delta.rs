//! Delta tables through the kernel: one version of a log as a complete [`TableSnapshot`]. Blocking;
//! the kernel may panic on bad input, so callers run it where a panic is caught. Never returns a
//! snapshot that lacks files, deletions or columns that the log names.

mod history;
mod paths;
mod schema;
mod stamp;
mod stats;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel::history_manager::error::{LogHistoryError, NearestTimestamp};
use delta_kernel::history_manager::{self, HistoryCommitType};
use delta_kernel::scan::ScanMetadata;
use delta_kernel::scan::state::ScanFile;
use delta_kernel::table_features::TableFeature;
use delta_kernel::{Engine, Error as KernelError, Snapshot, SnapshotRef};
use delta_kernel_default_engine::executor::tokio::TokioBackgroundExecutor;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use flightpath_types::{Error, ErrorKind, Result};
use url::Url;

pub(crate) use self::stamp::LogStamp;
use crate::values::{self, BadValue};
use crate::{
    AccessRules, CloudLocation, CommitInfo, DataFile, DeletionVector, Home, Limits, TableContents, TableFormat, TableName, TableSnapshot,
    TableStore, errors,
};

/// Reader features whose meaning the snapshot carries in full.
const KNOWN_FEATURES: [TableFeature; 7] = [
    TableFeature::ColumnMapping,
    TableFeature::DeletionVectors,
    TableFeature::TimestampWithoutTimezone,
    TableFeature::TypeWidening,
    TableFeature::TypeWideningPreview,
    TableFeature::V2Checkpoint,
    TableFeature::VacuumProtocolCheck,
];

/// Where a table lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    /// Canonical.
    Folder(PathBuf),
    Cloud(Arc<CloudLocation>),
}

impl Root {
    fn url(&self, name: &TableName) -> Result<String> {
        match self {
            Root::Folder(root) => root_url(name, root),
            Root::Cloud(location) => Ok(location.folder_url()),
        }
    }

    fn shown(&self) -> String {
        match self {
            Root::Folder(root) => root.display().to_string(),
            Root::Cloud(location) => location.to_string(),
        }
    }
}

/// What the kernel's requests run on. One for all readers in the cloud: it's a thread.
pub(crate) type Executor = Arc<TokioBackgroundExecutor>;

pub(crate) struct DeltaReader {
    engine: DefaultEngine<TokioBackgroundExecutor>,
    /// Whether `engine` reads from a storage service, whose words are kept out of errors.
    remote: bool,
    limits: Limits,
    partition_zone: Option<chrono_tz::Tz>,
    /// Canonical folders that a log may point into.
    allowed: Vec<PathBuf>,
}

/// A snapshot and what makes the next one cheap.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub snapshot: Arc<TableSnapshot>,
    kernel: SnapshotRef,
    /// Deletion vectors already read, by their unique id.
    deletions: Arc<HashMap<DeletionId, DeletionVector>>,
}

type DeletionId = (String, String, Option<i32>);

impl DeltaReader {
    pub fn new(limits: Limits, partition_zone: Option<chrono_tz::Tz>, allowed: Vec<PathBuf>) -> Self {
        let engine = DefaultEngineBuilder::new(Arc::new(object_store::local::LocalFileSystem::new())).build();
        Self { engine, remote: false, limits, partition_zone, allowed }
    }

    /// A reader of what `store` opens.
    pub fn of_store(store: &TableStore, limits: Limits, partition_zone: Option<chrono_tz::Tz>, executor: Executor) -> Self {
        let engine = DefaultEngineBuilder::new(store.store().clone()).with_task_executor(executor).build();
        Self { engine, remote: true, limits, partition_zone, allowed: Vec::new() }
    }

    fn failed(&self, name: &TableName, error: &KernelError) -> Error {
        if self.remote { errors::remote_kernel(name, error) } else { errors::kernel(name, error) }
    }

    /// The newest version, reading only what's new since `previous`.
    pub fn latest(&self, name: &TableName, root: &Root, previous: Option<&Loaded>) -> Result<Loaded> {
        if let Some(previous) = previous
            && let Ok(kernel) = Snapshot::builder_from(previous.kernel.clone()).build(&self.engine)
        {
            let table_id = kernel.table_configuration().metadata().id();
            if previous.snapshot.table_id.as_deref() == Some(table_id) {
                // Nothing new: in the cloud, only the listing tells.
                if self.remote && kernel.version() == previous.snapshot.version {
                    return Ok(previous.clone());
                }
                return self.load(name, root, kernel, &previous.deletions);
            }
        }
        let kernel = Snapshot::builder_for(root.url(name)?).build(&self.engine).map_err(|e| self.failed(name, &e))?;
        self.load(name, root, kernel, &HashMap::new())
    }

    pub fn at_version(&self, name: &TableName, root: &Root, latest: &Loaded, version: u64) -> Result<Arc<TableSnapshot>> {
        let newest = latest.snapshot.version;
        if version == newest {
            return Ok(latest.snapshot.clone());
        }
        let oldest = self.oldest_version(name, &latest.kernel)?;
        if version > newest || version < oldest {
            return Err(Error::classed(
                ErrorKind::InvalidArgument,
                "DELTA_VERSION_NOT_FOUND",
                "22003",
                format!("Cannot time travel Delta table {name} to version {version}. Available versions: [{oldest}, {newest}]."),
            ));
        }
        let built = Snapshot::builder_for(root.url(name)?).at_version(version).build(&self.engine);
        let kernel = built.map_err(|e| self.failed(name, &e))?;
        Ok(self.load(name, root, kernel, &latest.deletions)?.snapshot)
    }

    /// The newest version committed at or before `micros` since the Unix epoch.
    pub fn version_at(&self, name: &TableName, latest: &Loaded, micros: i64) -> Result<u64> {
        let millis = micros.div_euclid(1000);
        if let Some(last) = latest.snapshot.committed_unix_ms
            && millis > last
        {
            return Err(Error::classed(
                ErrorKind::InvalidArgument,
                "DELTA_TIMESTAMP_GREATER_THAN_COMMIT",
                "42816",
                format!(
                    "The provided timestamp ({}) is after the latest version available to table {name} ({}). Please use a timestamp before or at {}.",
                    instant(millis),
                    instant(last),
                    instant(last)
                ),
            ));
        }
        match history_manager::latest_version_as_of(&latest.kernel, &self.engine, millis, HistoryCommitType::Recreatable) {
            Ok(commit) => Ok(commit.version),
            Err(KernelError::LogHistory(history)) => Err(out_of_range(name, millis, &history)),
            Err(other) => Err(self.failed(name, &other)),
        }
    }

    /// Commits newest first.
    pub fn history(&self, name: &TableName, root: &Root, limit: usize) -> Result<Vec<CommitInfo>> {
        match root {
            Root::Folder(root) => history::read(name, &root.join("_delta_log"), limit),
            Root::Cloud(location) => {
                let log = format!("{}_delta_log/", location.folder_url());
                let log = Url::parse(&log).map_err(|_| Error::internal(format!("the location of table {name} is no URL")))?;
                history::read_remote(name, self.engine.storage_handler().as_ref(), &log, limit, |e| self.failed(name, e))
            }
        }
    }

    fn oldest_version(&self, name: &TableName, kernel: &SnapshotRef) -> Result<u64> {
        history_manager::get_earliest_commit(&self.engine, &kernel.log_segment().log_root, None, HistoryCommitType::Recreatable)
            .map_err(|e| self.failed(name, &e))
    }

    fn load(&self, name: &TableName, root: &Root, kernel: SnapshotRef, known: &HashMap<DeletionId, DeletionVector>) -> Result<Loaded> {
        self.check_log(name, &kernel)?;
        check_features(name, &kernel)?;
        if kernel.schema().num_fields() == 0 {
            return Err(errors::not_eligible(name, "it has no columns yet; add some with ALTER TABLE ADD COLUMN"));
        }
        let configuration = kernel.table_configuration();
        let converted = schema::convert(name, &kernel.schema(), configuration.column_mapping_mode())?;
        let partition_columns = partition_columns(name, &converted, configuration.logical_partition_columns())?;
        let mut files = FileReader {
            reader: self,
            name,
            root,
            kernel: &kernel,
            converted: &converted,
            partition_columns: &partition_columns,
            known,
            deletions: HashMap::new(),
            deleted_rows: 0,
            files: Vec::new(),
        };
        files.read()?;
        let FileReader { files, deletions, .. } = files;
        check_totals(name, &kernel, &files)?;

        let metadata = configuration.metadata();
        let protocol = configuration.protocol();
        let features = |list: Option<&[TableFeature]>| list.unwrap_or_default().iter().map(|f| f.to_string()).collect();
        let snapshot = TableSnapshot {
            name: name.clone(),
            format: TableFormat::Delta,
            version: kernel.version(),
            committed_unix_ms: kernel.get_timestamp(&self.engine).ok(),
            schema: converted.schema,
            columns: converted.columns,
            partition_columns,
            contents: TableContents::Files(Arc::new(files)),
            access: AccessRules::Free,
            home: Home::Local,
            storage: None,
            location: root.shown(),
            properties: metadata.configuration().iter().map(|(k, v)| (k.clone(), v.clone())).collect::<BTreeMap<_, _>>(),
            min_reader_version: u32::try_from(protocol.min_reader_version()).unwrap_or(0),
            min_writer_version: u32::try_from(protocol.min_writer_version()).unwrap_or(0),
            reader_features: features(protocol.reader_features()),
            writer_features: features(protocol.writer_features()),
            table_id: Some(metadata.id().to_string()),
            description: metadata.description().map(str::to_string),
            created_unix_ms: metadata.created_time(),
        };
        Ok(Loaded { snapshot: Arc::new(snapshot), kernel, deletions: Arc::new(deletions) })
    }

    /// What the kernel would read without complaint, though something is wrong with it.
    fn check_log(&self, name: &TableName, kernel: &SnapshotRef) -> Result<()> {
        let listed = &kernel.log_segment().listed;
        // Without a checkpoint a table is all of its commits, from the very first.
        if let (true, Some(first)) = (listed.checkpoint_parts.is_empty(), listed.ascending_commit_files.first())
            && first.version > 0
        {
            let what =
                format!("its log begins with `_delta_log/{}` and has no checkpoint: what was committed before is gone", first.filename);
            return Err(errors::data_loss(name, what, errors::RESTORE_LOG));
        }
        let mut bytes: u64 = 0;
        for file in listed.ascending_commit_files.iter().chain(&listed.checkpoint_parts) {
            if file.location.size == 0 {
                return Err(errors::data_loss(name, format!("`_delta_log/{}` is empty", file.filename), errors::RESTORE_LOG));
            }
            bytes = bytes.saturating_add(file.location.size);
        }
        if bytes > self.limits.log_bytes_max {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "the log of table {name} holds {bytes} bytes, more than the limit of {}; checkpoint the table or raise the limit",
                    self.limits.log_bytes_max
                ),
            ));
        }
        Ok(())
    }
}

fn root_url(name: &TableName, root: &Path) -> Result<String> {
    // The kernel's storage takes these for an escape and a separator, and then reads another path.
    if root.as_os_str().as_encoded_bytes().iter().any(|b| matches!(b, b'%' | b'\\')) {
        return Err(errors::not_eligible(
            name,
            format!("the path of its folder `{}` has a `%` or a backslash, which isn't supported; rename the folder", root.display()),
        ));
    }
    Url::from_directory_path(root).map(String::from).map_err(|()| Error::internal(format!("the folder of table {name} isn't absolute")))
}

fn check_features(name: &TableName, kernel: &SnapshotRef) -> Result<()> {
    let protocol = kernel.table_configuration().protocol();
    for feature in protocol.reader_features().unwrap_or_default() {
        if !KNOWN_FEATURES.contains(feature) {
            return Err(errors::not_eligible(name, format!("it uses the Delta reader feature `{feature}`, which isn't supported")));
        }
    }
    if protocol.min_reader_version() > 3 {
        return Err(errors::not_eligible(name, format!("it needs Delta reader version {}; 3 is supported", protocol.min_reader_version())));
    }
    Ok(())
}

/// The log's own checksum, where a writer left one for this version.
fn check_totals(name: &TableName, kernel: &SnapshotRef, files: &[Arc<DataFile>]) -> Result<()> {
    let Some(expected) = kernel.get_file_stats_if_present() else { return Ok(()) };
    let bytes: u64 = files.iter().map(|f| f.size_bytes).sum();
    let same = u64::try_from(expected.num_files()).ok() == Some(files.len() as u64)
        && u64::try_from(expected.table_size_bytes()).ok() == Some(bytes);
    if same {
        return Ok(());
    }
    let what = format!(
        "its log names {} files of {bytes} bytes, but its checksum file says {} files of {} bytes",
        files.len(),
        expected.num_files(),
        expected.table_size_bytes()
    );
    Err(errors::data_loss(name, what, errors::RESTORE_LOG))
}

fn partition_columns(name: &TableName, converted: &schema::Converted, names: &[String]) -> Result<Vec<usize>> {
    let index = |column: &String| {
        let found = converted.schema.fields().iter().position(|f| f.name() == column);
        found.or_else(|| converted.schema.fields().iter().position(|f| f.name().eq_ignore_ascii_case(column)))
    };
    names
        .iter()
        .map(|column| {
            index(column)
                .ok_or_else(|| errors::data_loss(name, format!("its partition column `{column}` isn't in its schema"), errors::RESTORE_LOG))
        })
        .collect()
}

fn out_of_range(name: &TableName, millis: i64, history: &LogHistoryError) -> Error {
    let LogHistoryError::TimestampOutOfRange { nearest_timestamp, .. } = history else {
        return errors::data_loss(name, history, errors::RESTORE_LOG);
    };
    let earliest = match nearest_timestamp {
        NearestTimestamp::Earliest(at) | NearestTimestamp::Latest(at) => format!(" ({})", instant(*at)),
        _ => String::new(),
    };
    Error::classed(
        ErrorKind::InvalidArgument,
        "DELTA_TIMESTAMP_EARLIER_THAN_COMMIT_RETENTION",
        "42816",
        format!(
            "The provided timestamp ({}) is before the earliest version available to table {name}{earliest}. Please use a later timestamp.",
            instant(millis)
        ),
    )
}

fn instant(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis)
        .map_or_else(|| format!("{millis} ms"), |at| at.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string())
}

/// Reads the add actions of one snapshot.
struct FileReader<'a> {
    reader: &'a DeltaReader,
    name: &'a TableName,
    root: &'a Root,
    kernel: &'a SnapshotRef,
    converted: &'a schema::Converted,
    partition_columns: &'a [usize],
    known: &'a HashMap<DeletionId, DeletionVector>,
    deletions: HashMap<DeletionId, DeletionVector>,
    deleted_rows: u64,
    files: Vec<Arc<DataFile>>,
}

impl FileReader<'_> {
    fn read(&mut self) -> Result<()> {
        let kernel_error = |e: KernelError| self.reader.failed(self.name, &e);
        let scan = self.kernel.clone().scan_builder().without_row_transforms().build().map_err(kernel_error)?;
        let batches = scan.scan_metadata(&self.reader.engine).map_err(kernel_error)?;
        for batch in batches {
            let batch = batch.map_err(|e| self.reader.failed(self.name, &e))?;
            self.batch(batch)?;
        }
        Ok(())
    }

    fn batch(&mut self, batch: ScanMetadata) -> Result<()> {
        let kernel_error = |e: KernelError| self.reader.failed(self.name, &e);
        let files = batch.visit_scan_files(Vec::new(), |found: &mut Vec<ScanFile>, file| found.push(file)).map_err(kernel_error)?;
        let selected = batch.scan_files.apply_selection_vector().map_err(kernel_error)?;
        let rows = Rows::of(&selected.try_into_record_batch().map_err(kernel_error)?, files.len())
            .ok_or_else(|| Error::internal(format!("the kernel's list of files of table {} has another shape than expected", self.name)))?;
        let limits = &self.reader.limits;
        if self.files.len() + files.len() > limits.files_max {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("table {} has more than {} files; compact it with OPTIMIZE, or raise the limit", self.name, limits.files_max),
            ));
        }
        for (row, file) in files.into_iter().enumerate() {
            // Beyond the limit only row counts are kept: unknown bounds are right, if slower.
            let with_columns = self.files.len().saturating_mul(self.converted.columns.len()) < limits.stats_columns_max;
            let json = rows.stats.is_valid(row).then(|| rows.stats.value(row));
            let stats = stats::parse(json, &self.converted.schema, &self.converted.columns, with_columns);
            let deletion_vector = self.deletion_vector(&file, rows.deletion_id(row), stats.rows)?;
            let data_file = DataFile {
                path: self.data_file(&file.path)?,
                size_bytes: u64::try_from(file.size).map_err(|_| self.damaged(format!("its log gives `{}` a negative size", file.path)))?,
                modified_unix_ms: file.modification_time,
                rows: stats.rows,
                partition_values: self.partition_values(&file)?,
                stats: stats.columns,
                deletion_vector,
            };
            self.files.push(Arc::new(data_file));
        }
        Ok(())
    }

    fn data_file(&self, raw: &str) -> Result<String> {
        match self.root {
            Root::Folder(root) => paths::data_file(self.name, root, &self.reader.allowed, raw),
            Root::Cloud(location) => location.file(raw, paths::has_scheme(raw)).ok_or_else(|| crate::cloud::outside(self.name)),
        }
    }

    fn partition_values(&self, file: &ScanFile) -> Result<Vec<arrow::array::ArrayRef>> {
        let mut values = Vec::with_capacity(self.partition_columns.len());
        for &index in self.partition_columns {
            let field = self.converted.schema.field(index);
            let text = file.partition_values.get(&self.converted.columns[index].physical_name).map(String::as_str);
            let value = values::partition_value(text, field.data_type(), self.reader.partition_zone).map_err(|bad| match bad {
                BadValue::Malformed => self.damaged(format!(
                    "its log gives the partition column `{}` the value `{}`, which isn't a {}",
                    field.name(),
                    text.unwrap_or_default(),
                    field.data_type()
                )),
                BadValue::ZoneUnknown => errors::not_eligible(
                    self.name,
                    format!(
                        "values of its partition column `{}` were written without a time zone (`{}`); set `catalog.partition_time_zone` to the zone of the writer's session",
                        field.name(),
                        text.unwrap_or_default()
                    ),
                ),
                BadValue::Type => errors::not_eligible(self.name, format!("it is partitioned by `{}` of type {}", field.name(), field.data_type())),
            })?;
            values.push(value);
        }
        Ok(values)
    }

    fn deletion_vector(&mut self, file: &ScanFile, id: Option<Deletion>, rows: Option<u64>) -> Result<Option<DeletionVector>> {
        let Some(id) = id else { return Ok(None) };
        if id.storage == "p" {
            // By an absolute path: only where data files may lie, too.
            self.data_file(&id.path)?;
        }
        let key: DeletionId = (id.storage, id.path, id.offset);
        let vector = match self.known.get(&key) {
            Some(known) => known.clone(),
            None => {
                let read = file.dv_info.get_row_indexes(&self.reader.engine, self.kernel.table_root());
                let read = read.map_err(|e| match self.reader.remote {
                    true => self.reader.failed(self.name, &e),
                    false => self.damaged(format!("the deletion vector of `{}` can't be read: {e}", file.path)),
                })?;
                DeletionVector { rows: Arc::new(read.unwrap_or_default()) }
            }
        };
        let count = vector.rows.len() as u64;
        let beyond = rows.is_some_and(|rows| vector.rows.last().is_some_and(|last| *last >= rows));
        if i64::try_from(count).ok() != Some(id.cardinality) || beyond {
            return Err(self.damaged(format!("the deletion vector of `{}` doesn't fit what the log says of it", file.path)));
        }
        self.deleted_rows = self.deleted_rows.saturating_add(count);
        if self.deleted_rows > self.reader.limits.deleted_rows_max {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "table {} has more than {} deleted rows in its deletion vectors; purge them with REORG TABLE ... APPLY (PURGE)",
                    self.name, self.reader.limits.deleted_rows_max
                ),
            ));
        }
        self.deletions.insert(key, vector.clone());
        Ok(Some(vector))
    }

    fn damaged(&self, what: String) -> Error {
        errors::data_loss(self.name, what, errors::RESTORE_LOG)
    }
}

struct Deletion {
    storage: String,
    path: String,
    offset: Option<i32>,
    cardinality: i64,
}

/// The columns of the kernel's scan rows that its visitor doesn't hand out.
struct Rows {
    stats: StringArray,
    deletions: arrow::array::StructArray,
    storage: StringArray,
    path: StringArray,
}

impl Rows {
    fn of(batch: &RecordBatch, rows: usize) -> Option<Self> {
        let utf8 = |array: &dyn Array| arrow::compute::cast(array, &DataType::Utf8).ok().map(|a| a.as_string::<i32>().clone());
        let path = utf8(batch.column_by_name("path")?)?;
        let keep: arrow::array::BooleanArray = (0..path.len()).map(|i| Some(path.is_valid(i))).collect();
        let batch = if keep.true_count() == path.len() { batch.clone() } else { arrow::compute::filter_record_batch(batch, &keep).ok()? };
        if batch.num_rows() != rows {
            return None;
        }
        let deletions = batch.column_by_name("deletionVector")?.as_struct_opt()?.clone();
        let storage = utf8(deletions.column_by_name("storageType")?)?;
        let dv_path = utf8(deletions.column_by_name("pathOrInlineDv")?)?;
        deletions.column_by_name("cardinality")?.as_primitive_opt::<Int64Type>()?;
        Some(Self { stats: utf8(batch.column_by_name("stats")?)?, storage, path: dv_path, deletions })
    }

    fn deletion_id(&self, row: usize) -> Option<Deletion> {
        if self.deletions.is_null(row) || self.storage.is_null(row) {
            return None;
        }
        let offset = self.deletions.column_by_name("offset").and_then(|c| c.as_primitive_opt::<Int32Type>());
        let cardinality = self.deletions.column_by_name("cardinality").and_then(|c| c.as_primitive_opt::<Int64Type>());
        Some(Deletion {
            storage: self.storage.value(row).to_string(),
            path: self.path.value(row).to_string(),
            offset: offset.filter(|o| o.is_valid(row)).map(|o| o.value(row)),
            cardinality: cardinality.filter(|c| c.is_valid(row)).map_or(-1, |c| c.value(row)),
        })
    }
}
