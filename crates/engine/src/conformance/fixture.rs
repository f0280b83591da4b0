//! Tables of a few thousand rows, written as Parquet files and described as pinned snapshots.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use flightpath_catalog::{AccessRules, Column, DataFile, DeletionVector, Home, TableContents, TableFormat, TableName, TableSnapshot};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

pub(super) type Outcome<T> = Result<T, Box<dyn StdError + Send + Sync>>;

/// Rows of `numbers`, whose `id` counts from 0.
pub(super) const NUMBERS_ROWS: i64 = 100_000;
/// The `divisor` of `numbers` is 0 in this row, and in `zeros` in the first one; 1 elsewhere.
pub(super) const ZERO_AT: i64 = 99_999;
/// Bytes of each `payload` in `numbers`.
pub(super) const PAYLOAD_BYTES: usize = 200;

/// The suite's tables.
pub struct Fixture {
    pub(super) numbers: Arc<TableSnapshot>,
    pub(super) zeros: Arc<TableSnapshot>,
    pub(super) types: Arc<TableSnapshot>,
    pub(super) types_rows: RecordBatch,
    pub(super) evolved: Arc<TableSnapshot>,
    pub(super) evolved_rows: RecordBatch,
    pub(super) missing: Arc<TableSnapshot>,
    pub(super) truncated: Arc<TableSnapshot>,
}

impl Fixture {
    /// Writes the files into `folder`, which must exist.
    pub fn write(folder: &Path) -> Outcome<Self> {
        let folder = folder.canonicalize()?;
        let zeros = numbers(&folder, "zeros", 0)?;
        let numbers = numbers(&folder, "numbers", ZERO_AT)?;
        let missing =
            numbers_like(
                &numbers,
                "missing",
                |file, index| {
                    if index == 1 { DataFile { path: format!("{}.gone", file.path), ..file } } else { file }
                },
            );
        let truncated = truncated(&folder, &numbers)?;
        let (types, types_rows) = types(&folder)?;
        let (evolved, evolved_rows) = evolved(&folder)?;
        Ok(Self { numbers, zeros, types, types_rows, evolved, evolved_rows, missing, truncated })
    }
}

/// A table `lake.conformance.<name>` of these files, free for all.
pub fn snapshot(
    name: &str,
    schema: SchemaRef,
    columns: Vec<Column>,
    partition_columns: Vec<usize>,
    files: Vec<DataFile>,
) -> Arc<TableSnapshot> {
    Arc::new(TableSnapshot {
        name: TableName::new("lake", "conformance", name),
        format: TableFormat::Delta,
        version: 0,
        committed_unix_ms: None,
        schema,
        columns,
        partition_columns,
        contents: TableContents::Files(Arc::new(files.into_iter().map(Arc::new).collect())),
        access: AccessRules::Free,
        home: Home::Local,
        storage: None,
        location: String::new(),
        properties: BTreeMap::new(),
        min_reader_version: 3,
        min_writer_version: 7,
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        table_id: None,
        description: None,
        created_unix_ms: None,
    })
}

fn plain_columns(schema: &Schema) -> Vec<Column> {
    schema.fields().iter().map(|f| column(f.name())).collect()
}

/// A column that is found by name.
pub fn column(physical_name: &str) -> Column {
    Column { physical_name: physical_name.into(), field_id: None, comment: None, widened: false }
}

/// Writes one data file, without partition values or deleted rows.
pub fn write_file(path: PathBuf, batch: &RecordBatch, row_group_rows: usize) -> Outcome<DataFile> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group_rows)).build();
    let mut writer = ArrowWriter::try_new(File::create(&path)?, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.close()?;
    let metadata = std::fs::metadata(&path)?;
    let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH)?;
    Ok(DataFile {
        path: path.to_str().ok_or("a folder whose name isn't UTF-8")?.to_string(),
        size_bytes: metadata.len(),
        modified_unix_ms: i64::try_from(modified.as_millis())?,
        rows: Some(batch.num_rows() as u64),
        partition_values: Vec::new(),
        stats: Vec::new(),
        deletion_vector: None,
    })
}

/// `id BIGINT NOT NULL, divisor BIGINT NOT NULL, payload STRING NOT NULL` in four files.
fn numbers(folder: &Path, name: &str, zero_at: i64) -> Outcome<Arc<TableSnapshot>> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("divisor", DataType::Int64, false),
        Field::new("payload", DataType::Utf8, false),
    ]));
    let rows_per_file = NUMBERS_ROWS / 4;
    let mut files = Vec::new();
    for part in 0..4 {
        let ids = part * rows_per_file..(part + 1) * rows_per_file;
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(Int64Array::from_iter_values(ids.clone())),
                Arc::new(Int64Array::from_iter_values(ids.clone().map(|id| i64::from(id != zero_at)))),
                Arc::new(StringArray::from_iter_values(ids.map(|id| format!("{id:0width$}", width = PAYLOAD_BYTES)))),
            ],
        )?;
        files.push(write_file(folder.join(format!("{name}-{part}.parquet")), &batch, 10_000)?);
    }
    Ok(snapshot(name, schema.clone(), plain_columns(&schema), Vec::new(), files))
}

fn numbers_like(numbers: &TableSnapshot, name: &str, change: impl Fn(DataFile, usize) -> DataFile) -> Arc<TableSnapshot> {
    let files = numbers.files().iter().enumerate().map(|(index, file)| change(file.as_ref().clone(), index)).collect();
    snapshot(name, numbers.schema.clone(), numbers.columns.clone(), Vec::new(), files)
}

fn truncated(folder: &Path, numbers: &TableSnapshot) -> Outcome<Arc<TableSnapshot>> {
    let path = folder.join("truncated.parquet");
    let original = std::fs::read(&numbers.files()[1].path)?;
    std::fs::write(&path, &original[..original.len() / 2])?;
    let path = path.to_str().ok_or("a folder whose name isn't UTF-8")?.to_string();
    // Its size is told as it was before, as a table's log would.
    Ok(numbers_like(numbers, "truncated", |file, index| if index == 1 { DataFile { path: path.clone(), ..file } } else { file }))
}

/// One column of each type that a table can have, with NULLs.
fn types(folder: &Path) -> Outcome<(Arc<TableSnapshot>, RecordBatch)> {
    let pairs = Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)]);
    let x: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
    let y: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]));
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    let list = ListArray::try_new(
        Arc::new(Field::new("element", DataType::Int64, true)),
        list.offsets().clone(),
        list.values().clone(),
        list.nulls().cloned(),
    )?;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a_boolean", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("a_tinyint", Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)]))),
        ("a_smallint", Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)]))),
        ("an_int", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]))),
        ("a_bigint", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("a_float", Arc::new(Float32Array::from(vec![Some(-1.5), None, Some(f32::INFINITY)]))),
        ("a_double", Arc::new(Float64Array::from(vec![Some(-2.25), None, Some(f64::MAX)]))),
        ("a_decimal", Arc::new(Decimal128Array::from(vec![Some(-12_345), None, Some(99_999_999)]).with_precision_and_scale(10, 2)?)),
        ("a_wide_decimal", Arc::new(Decimal128Array::from(vec![Some(10_i128.pow(37)), None, Some(-1)]).with_precision_and_scale(38, 18)?)),
        ("a_string", Arc::new(StringArray::from(vec![Some("größe 'x'"), None, Some("")]))),
        ("a_binary", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None, Some(&b""[..])]))),
        ("a_date", Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)]))),
        ("a_timestamp", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)]).with_timezone("UTC"))),
        ("a_timestamp_ntz", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)]))),
        ("an_array", Arc::new(list)),
        ("a_struct", Arc::new(StructArray::try_new(pairs, vec![x, y], Some(vec![true, false, true].into()))?)),
    ];
    let schema =
        Arc::new(Schema::new(columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect())?;
    let file = write_file(folder.join("types.parquet"), &batch, 2)?;
    Ok((snapshot("types", schema.clone(), plain_columns(&schema), Vec::new(), vec![file]), batch))
}

/// A table with a past: files that lack a column, hold a narrower type, name a column otherwise and
/// order columns otherwise; with deleted rows and a partition column.
fn evolved(folder: &Path) -> Outcome<(Arc<TableSnapshot>, RecordBatch)> {
    let mapped = HashMap::from([("delta.columnMapping.physicalName".to_string(), "col-7f".to_string())]);
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("part", DataType::Utf8, true),
        Field::new("grown", DataType::Int64, true),
        Field::new("label", DataType::Utf8, true).with_metadata(mapped),
        Field::new("added", DataType::Int32, true),
    ]));
    let mut columns = plain_columns(&schema);
    columns[2].widened = true;
    columns[3] = column("col-7f");
    let label = |id: i64| format!("row {id}");

    let old_ids: Vec<i64> = (0..10).collect();
    let old = RecordBatch::try_from_iter_with_nullable(vec![
        ("id", Arc::new(Int64Array::from(old_ids.clone())) as ArrayRef, false),
        ("grown", Arc::new(Int32Array::from_iter_values(old_ids.iter().map(|id| *id as i32 * 10))), true),
        ("col-7f", Arc::new(StringArray::from_iter_values(old_ids.iter().map(|id| label(*id)))), true),
    ])?;
    let new_ids: Vec<i64> = (10..20).collect();
    let new = RecordBatch::try_from_iter_with_nullable(vec![
        ("added", Arc::new(Int32Array::from_iter_values(new_ids.iter().map(|id| *id as i32))) as ArrayRef, true),
        ("col-7f", Arc::new(StringArray::from_iter_values(new_ids.iter().map(|id| label(*id)))), true),
        ("grown", Arc::new(Int64Array::from_iter_values(new_ids.iter().map(|id| id << 40))), true),
        ("id", Arc::new(Int64Array::from(new_ids.clone())), false),
    ])?;
    let deleted = [0_u64, 3, 9];
    // Row groups of four rows, so that deleted positions fall into several.
    let mut old_file = write_file(folder.join("evolved old=1%.parquet"), &old, 4)?;
    old_file.deletion_vector = Some(DeletionVector { rows: Arc::new(deleted.to_vec()) });
    old_file.partition_values = vec![Arc::new(StringArray::from(vec!["a b"]))];
    let mut new_file = write_file(folder.join("evolved-new.parquet"), &new, 4)?;
    new_file.partition_values = vec![new_null_array(&DataType::Utf8, 1)];

    let left: Vec<i64> = old_ids.into_iter().filter(|id| !deleted.contains(&(*id as u64))).collect();
    let all: Vec<i64> = left.iter().chain(&new_ids).copied().collect();
    let is_new = |id: i64| id >= 10;
    let rows = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int64Array::from(all.clone())),
            Arc::new(StringArray::from_iter(all.iter().map(|id| (!is_new(*id)).then_some("a b")))),
            Arc::new(Int64Array::from_iter_values(all.iter().map(|id| if is_new(*id) { id << 40 } else { id * 10 }))),
            Arc::new(StringArray::from_iter_values(all.iter().map(|id| label(*id)))),
            Arc::new(Int32Array::from_iter(all.iter().map(|id| is_new(*id).then_some(*id as i32)))),
        ],
    )?;
    let table = snapshot("evolved", schema, columns, vec![1], vec![old_file, new_file]);
    Ok((table, rows))
}
