//! Puts a Parquet reader over the pinned files in place of each scan of a snapshot.
//!
//! The reader sees columns under their physical names, each file's through [`crate::conform`]; it
//! is told which rows of a file are deleted and what its partition values are. It never sees a
//! file that the scan's binding doesn't list.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{LogicalPlan, TableScan, UserDefinedLogicalNode};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use flightpath_catalog::{DataFile, DeletionVector, TableContents, TableSnapshot};
use flightpath_engine::Findings;
use flightpath_plan::{PlannedQuery, ScanBinding, SnapshotSource};
use flightpath_types::{Error, ErrorKind, Result};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use crate::cloud::Object;
use crate::conform::{FileColumns, SnapshotAdapterFactory};
use crate::files::{Footers, Readers, TableFile, file_name};
use crate::system::SystemReader;

/// Below this many bytes one task reads all files: starting more would cost more than they save.
const PARALLEL_BYTES_MIN: u64 = 1 << 20;

/// A column that no file has and no query reads. DataFusion doesn't ask the adapter about a file
/// whose schema is the table's; with this, none is.
const NEVER_READ: &str = "\0never read";

/// Plans the scans of one query.
pub(crate) struct ScanPlanner {
    query: Arc<PlannedQuery>,
    system: SystemReader,
    footers: Footers,
    findings: Arc<Findings>,
}

impl ScanPlanner {
    pub(crate) fn new(query: Arc<PlannedQuery>, system: SystemReader, footers: Footers, findings: Arc<Findings>) -> Self {
        // What reads no file has read nothing, which is known.
        findings.read(0);
        Self { query, system, footers, findings }
    }

    async fn plan(&self, scan: &TableScan, source: &SnapshotSource, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        match &source.snapshot.contents {
            TableContents::Files(_) => {}
            TableContents::System(table) => {
                return self.system.scan(scan, source, table).map_err(|e| crate::error::of_datafusion(&e));
            }
            // Without this it would read as an empty table.
            TableContents::Remote => {
                return Err(Error::internal(format!("table {} has no files here, and was planned all the same", source.snapshot.name)));
            }
        }
        let binding =
            self.query.scans.get(&source.scan).ok_or_else(|| Error::internal(format!("scan {} has no binding", source.scan.0)))?;
        if !Arc::ptr_eq(&binding.snapshot, &source.snapshot) && binding.snapshot.version != source.snapshot.version {
            return Err(Error::internal(format!("scan {} is bound to another version of {}", source.scan.0, source.snapshot.name)));
        }
        if binding.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(scan.projected_schema.inner().clone())));
        }
        let layout = Layout::new(&binding.snapshot);
        let files = partitioned_files(binding, &layout, &self.footers, &self.findings).await?;
        let planned = self.file_scan(scan, binding, &layout, files, session);
        planned.map_err(|e| crate::error::of_datafusion(&e))
    }

    fn file_scan(
        &self,
        scan: &TableScan,
        binding: &ScanBinding,
        layout: &Layout,
        files: Vec<PartitionedFile>,
        session: &dyn Session,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let snapshot = &binding.snapshot;
        let options = TableParquetOptions { global: session.config_options().execution.parquet.clone(), ..Default::default() };
        let source = ParquetSource::new(layout.schema.clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(Readers::new(self.footers.clone())));
        let all: Vec<usize> = (0..snapshot.schema.fields().len()).collect();
        let projection: ProjectionExprs = scan
            .projection
            .as_ref()
            .unwrap_or(&all)
            .iter()
            .map(|&index| {
                let position = layout.positions[index];
                let column = Column::new(layout.schema.table_schema().field(position).name(), position);
                ProjectionExpr::new(Arc::new(column), snapshot.schema.field(index).name())
            })
            .collect();
        let Some(source) = source.try_pushdown_projection(&projection)? else {
            return internal_err!("the Parquet source refused a projection");
        };

        let bytes: u64 = files.iter().map(|f| f.object_meta.size).sum();
        let groups = if bytes < PARALLEL_BYTES_MIN { 1 } else { session.config().target_partitions() };
        let groups = FileGroup::new(files).split_files(groups.max(1));
        let adapter: Arc<dyn PhysicalExprAdapterFactory> = Arc::new(SnapshotAdapterFactory::new(layout.columns.clone()));
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), source)
            .with_file_groups(groups)
            .with_statistics(statistics(binding, layout, scan.projection.as_deref().unwrap_or(&all), bytes))
            .with_limit(scan.fetch.filter(|_| scan.filters.is_empty()))
            .with_expr_adapter(Some(adapter))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

#[async_trait]
impl ExtensionPlanner for ScanPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        _node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        _physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        Ok(None)
    }

    async fn plan_table_scan(
        &self,
        _planner: &dyn PhysicalPlanner,
        scan: &TableScan,
        session: &dyn Session,
        _context: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(source) = scan.source.downcast_ref::<SnapshotSource>() else { return Ok(None) };
        match self.plan(scan, source, session).await {
            Ok(plan) => Ok(Some(plan)),
            Err(e) => Err(DataFusionError::External(Box::new(e))),
        }
    }
}

/// A snapshot's columns as the Parquet source wants them: those of the files first, under their
/// physical names, then [`NEVER_READ`], then the partition columns.
struct Layout {
    schema: TableSchema,
    /// For each column of the snapshot, where it stands in `schema`.
    positions: Vec<usize>,
    columns: Arc<FileColumns>,
}

impl Layout {
    fn new(snapshot: &TableSnapshot) -> Self {
        let physical =
            |index: usize| -> Field { snapshot.schema.field(index).clone().with_name(snapshot.columns[index].physical_name.clone()) };
        let count = snapshot.schema.fields().len();
        let in_files: Vec<usize> = (0..count).filter(|index| !snapshot.partition_columns.contains(index)).collect();
        let mut positions = vec![0; count];
        for (position, &index) in in_files.iter().enumerate() {
            positions[index] = position;
        }
        for (number, &index) in snapshot.partition_columns.iter().enumerate() {
            positions[index] = in_files.len() + 1 + number;
        }
        let never_read = Field::new(NEVER_READ, DataType::Null, true);
        let fields: Vec<Field> = in_files.iter().map(|&index| physical(index)).chain([never_read]).collect();
        let file_schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields, snapshot.schema.metadata().clone()));
        let partition_fields: Vec<_> = snapshot.partition_columns.iter().map(|&index| Arc::new(physical(index))).collect();
        let columns = FileColumns::new(
            snapshot.name.to_string(),
            in_files.iter().map(|&index| {
                let column = &snapshot.columns[index];
                (column.physical_name.clone(), snapshot.schema.field(index).name().clone(), column.field_id)
            }),
        );
        Self {
            schema: TableSchema::builder(file_schema).with_table_partition_cols(partition_fields).build(),
            positions,
            columns: Arc::new(columns),
        }
    }
}

async fn partitioned_files(
    binding: &ScanBinding,
    layout: &Layout,
    footers: &Footers,
    findings: &Arc<Findings>,
) -> Result<Vec<PartitionedFile>> {
    let table: Arc<str> = binding.snapshot.name.to_string().into();
    // For this scan of this query alone; it goes with the plan.
    let store = match &binding.snapshot.storage {
        Some(storage) => storage.store()?,
        None => None,
    };
    let mut files = Vec::with_capacity(binding.files.len());
    for file in binding.files.iter() {
        let mut spec = TableFile {
            findings: findings.clone(),
            table: table.clone(),
            path: file.path.as_str().into(),
            size_bytes: file.size_bytes,
            rows: None,
            object: store.as_ref().map(|store| Object::new(store, &file.path)).transpose()?,
        };
        let mut partitioned =
            PartitionedFile::new(file.path.as_str(), file.size_bytes).with_partition_values(partition_values(file, layout, &table)?);
        if let Some(deleted) = &file.deletion_vector {
            let rows = match file.rows {
                Some(rows) => rows,
                None => footers.rows(&spec).await?,
            };
            spec.rows = Some(rows);
            partitioned = partitioned.with_extension(remaining_rows(deleted, rows, &spec)?);
        }
        files.push(partitioned.with_extension(spec));
    }
    Ok(files)
}

fn partition_values(file: &DataFile, layout: &Layout, table: &str) -> Result<Vec<ScalarValue>> {
    let fields = layout.schema.table_partition_cols();
    let wrong = |what: &str| Error::internal(format!("data file {} of table {table} has {what}", file_name(&file.path)));
    if fields.len() != file.partition_values.len() {
        return Err(wrong("the wrong number of partition values"));
    }
    fields
        .iter()
        .zip(&file.partition_values)
        .map(|(field, array)| {
            if array.len() != 1 || array.data_type() != field.data_type() {
                return Err(wrong("a partition value of another type than its column"));
            }
            ScalarValue::try_from_array(array, 0).map_err(|e| crate::error::of_datafusion(&e))
        })
        .collect()
}

/// What is left of a file's rows without the deleted ones.
fn remaining_rows(deleted: &DeletionVector, rows: u64, file: &TableFile) -> Result<ParquetRowSelection> {
    let wrong = || {
        Error::new(
            ErrorKind::DataLoss,
            format!("the deletion vector of data file {} of table {} doesn't fit its {rows} rows", file.name(), file.table),
        )
    };
    let count = |n: u64| usize::try_from(n).map_err(|_| wrong());
    let mut selectors = Vec::with_capacity(deleted.rows.len() * 2 + 1);
    let mut next = 0;
    for &row in deleted.rows.iter() {
        if row < next || row >= rows {
            return Err(wrong());
        }
        if row > next {
            selectors.push(RowSelector::select(count(row - next)?));
        }
        selectors.push(RowSelector::skip(1));
        next = row + 1;
    }
    if next < rows {
        selectors.push(RowSelector::select(count(rows - next)?));
    }
    Ok(ParquetRowSelection::new(RowSelection::from(selectors)))
}

/// Estimates by which joins are arranged; inexact, so that no answer is ever made from them.
fn statistics(binding: &ScanBinding, layout: &Layout, projected: &[usize], bytes: u64) -> Statistics {
    let mut statistics = Statistics::new_unknown(layout.schema.table_schema());
    let rows: Option<u64> = binding
        .files
        .iter()
        .map(|file| file.rows.map(|rows| rows.saturating_sub(file.deletion_vector.as_ref().map_or(0, |d| d.rows.len() as u64))))
        .sum();
    if let Some(rows) = rows.and_then(|rows| usize::try_from(rows).ok()) {
        statistics.num_rows = Precision::Inexact(rows);
    }
    if let Ok(bytes) = usize::try_from(bytes) {
        statistics.total_byte_size = Precision::Inexact(bytes);
    }
    if binding.files.len() <= BOUNDED_FILES_MAX {
        for &index in projected {
            if let Some((min, max)) = bounds(&binding.files, binding.snapshot.schema.field(index).data_type(), index) {
                let column = &mut statistics.column_statistics[layout.positions[index]];
                (column.min_value, column.max_value) = (Precision::Inexact(min), Precision::Inexact(max));
            }
        }
    }
    statistics
}

/// Of more files than this, bounds of columns aren't gathered for each query.
const BOUNDED_FILES_MAX: usize = 1_024;

/// The bounds of a column of whole numbers or dates, whose width tells how many values it may have at
/// most: what a join on it makes of its inputs.
fn bounds(files: &[Arc<DataFile>], ty: &DataType, index: usize) -> Option<(ScalarValue, ScalarValue)> {
    if !ty.is_signed_integer() && *ty != DataType::Date32 {
        return None;
    }
    let scalar = |array: &ArrayRef| ScalarValue::try_from_array(array, 0).ok().filter(|value| !value.is_null() && value.data_type() == *ty);
    let mut bounds: Option<(ScalarValue, ScalarValue)> = None;
    for file in files {
        let stats = file.stats.get(index)?;
        // A file of NULLs alone has none, which leaves the others' as they are.
        if stats.nulls.is_some() && stats.nulls == file.rows {
            continue;
        }
        let (min, max) = (scalar(stats.min.as_ref()?)?, scalar(stats.max.as_ref()?)?);
        bounds = Some(match bounds {
            None => (min, max),
            Some((low, high)) => (if min < low { min } else { low }, if max > high { max } else { high }),
        });
    }
    bounds
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use flightpath_catalog::ColumnStats;

    use super::*;

    fn file(min: Option<i64>, max: Option<i64>, nulls: u64) -> Arc<DataFile> {
        let one = |value: Option<i64>| value.map(|value| Arc::new(Int64Array::from(vec![value])) as ArrayRef);
        Arc::new(DataFile {
            path: "/part".into(),
            size_bytes: 1,
            modified_unix_ms: 0,
            rows: Some(10),
            partition_values: Vec::new(),
            stats: vec![ColumnStats { min: one(min), max: one(max), nulls: Some(nulls) }],
            deletion_vector: None,
        })
    }

    #[test]
    fn bounds_are_those_of_all_files_or_none() {
        let of = |files: &[Arc<DataFile>]| bounds(files, &DataType::Int64, 0);
        let scalar = |value: i64| ScalarValue::Int64(Some(value));
        let (low, high, nulls) = (file(Some(-3), Some(5), 0), file(Some(2), Some(9), 1), file(None, None, 10));
        assert_eq!(of(&[low.clone(), high.clone(), nulls.clone()]), Some((scalar(-3), scalar(9))));
        assert_eq!(of(&[high.clone(), low.clone()]), Some((scalar(-3), scalar(9))));
        assert_eq!(of(&[nulls]), None);
        assert_eq!(of(&[low.clone(), file(Some(1), None, 0)]), None, "a file without bounds may hold anything");
        assert_eq!(bounds(&[low], &DataType::Utf8, 0), None);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
        let mistyped = DataFile { stats: vec![ColumnStats { min: Some(text.clone()), max: Some(text), nulls: None }], ..(*high).clone() };
        assert_eq!(of(&[Arc::new(mistyped)]), None);
    }
}
