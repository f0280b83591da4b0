//! Tables that Spark wrote: what the snapshot says, applied to the files, gives Spark's rows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use flightpath_catalog::{AsOf, Catalog, Config, DataFile, LocalCatalog, TableName, TableSnapshot};
use flightpath_types::ErrorKind;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use crate::support::{anyone, quiet};

/// Written in Los Angeles, with TIMESTAMP partition values that don't say so; the others in UTC.
const WRITTEN_IN_PACIFIC_TIME: &str = "data-reader-partition-values";
const ZONELESS: [&str; 4] =
    [WRITTEN_IN_PACIFIC_TIME, "kernel-timestamp-int96", "kernel-timestamp-pst", "kernel-timestamp-timestamp_micros"];

fn tables() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/data/delta-golden").canonicalize().unwrap()
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(tables())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .map(|p| p.file_name().unwrap().to_str().unwrap().to_string())
        .collect();
    names.sort();
    assert!(names.len() > 30, "the golden tables are missing");
    names
}

/// A catalog over links named after the tables, in the zone their writer was in.
async fn catalog(folder: &Path, zone: Option<chrono_tz::Tz>) -> LocalCatalog {
    for name in names() {
        let link = folder.join(&name);
        if !link.exists() {
            std::os::unix::fs::symlink(tables().join(&name).join("delta"), link).unwrap();
        }
    }
    LocalCatalog::open(Config { partition_time_zone: zone, ..quiet(vec![folder.into()]) }).await.unwrap()
}

fn read(path: &str) -> Vec<RecordBatch> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let file = File::open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).unwrap().build().unwrap().map(Result::unwrap).collect()
}

/// To the promised type; INT96 and legacy types included, nested fields by position.
fn coerce(array: &ArrayRef, to: &DataType) -> ArrayRef {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() }).unwrap()
}

fn stored<'a>(batch: &'a RecordBatch, physical: &str, field_id: Option<i32>) -> Option<&'a ArrayRef> {
    let schema = batch.schema_ref();
    let by_id = |field: &FieldRef| field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse().ok()) == field_id;
    let index = match field_id {
        Some(_) => schema.fields().iter().position(by_id),
        None => schema.index_of(physical).ok(),
    };
    index.map(|i| batch.column(i))
}

fn table_rows(snapshot: &TableSnapshot, file: &DataFile) -> RecordBatch {
    let batches = read(&file.path);
    let whole = concat_batches(&batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema), &batches).unwrap();
    let rows = whole.num_rows();
    assert!(file.rows.is_none_or(|r| r == rows as u64), "{}: statistics say another row count", file.path);
    check_bounds(snapshot, file, &whole);
    let mut columns = Vec::new();
    for (i, (field, column)) in snapshot.schema.fields().iter().zip(&snapshot.columns).enumerate() {
        let partition = snapshot.partition_columns.iter().position(|p| *p == i);
        columns.push(match partition {
            Some(p) => take(&file.partition_values[p], &UInt32Array::from(vec![0; rows]), None).unwrap(),
            None => stored(&whole, &column.physical_name, column.field_id)
                .map_or_else(|| new_null_array(field.data_type(), rows), |array| coerce(array, field.data_type())),
        });
    }
    let batch = RecordBatch::try_new(snapshot.schema.clone(), columns).unwrap();
    let deleted = file.deletion_vector.as_ref().map(|d| d.rows.clone()).unwrap_or_default();
    let kept: UInt32Array = (0..rows as u32).filter(|row| deleted.binary_search(&u64::from(*row)).is_err()).collect();
    arrow::compute::take_record_batch(&batch, &kept).unwrap()
}

/// Bounds and null counts hold for the file's own rows.
fn check_bounds(snapshot: &TableSnapshot, file: &DataFile, whole: &RecordBatch) {
    use arrow::compute::kernels::cmp;
    for ((field, column), stats) in snapshot.schema.fields().iter().zip(&snapshot.columns).zip(&file.stats) {
        let Some(array) = stored(whole, &column.physical_name, column.field_id) else { continue };
        if field.data_type().is_nested() {
            continue;
        }
        let values = coerce(array, field.data_type());
        if let Some(nulls) = stats.nulls {
            assert_eq!(nulls, values.null_count() as u64, "{} {}", file.path, field.name());
        }
        let holds = |flags: arrow::array::BooleanArray| flags.iter().flatten().all(|b| b);
        if let Some(min) = &stats.min {
            let min = arrow::array::Scalar::new(min.clone());
            assert!(holds(cmp::lt_eq(&min, &values).unwrap()), "{} {} min", file.path, field.name());
        }
        if let Some(max) = &stats.max {
            let max = arrow::array::Scalar::new(max.clone());
            assert!(holds(cmp::gt_eq(&max, &values).unwrap()), "{} {} max", file.path, field.name());
        }
    }
}

/// Rows as sorted text, columns by name.
fn printed(schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<String> {
    let mut order: Vec<&String> = schema.fields().iter().map(|f| f.name()).collect();
    order.sort();
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell = |name: &&String| array_value_to_string(batch.column_by_name(name).unwrap(), row).unwrap();
            let nulls: Vec<bool> = order.iter().map(|name| batch.column_by_name(name).unwrap().is_null(row)).collect();
            rows.push(format!("{:?} {nulls:?}", order.iter().map(cell).collect::<Vec<_>>()));
        }
    }
    rows.sort();
    rows
}

fn expected(table: &str, schema: &SchemaRef) -> Vec<RecordBatch> {
    let folder = tables().join(table).join("expected");
    let mut batches = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "parquet") {
            continue;
        }
        for batch in read(path.to_str().unwrap()) {
            assert_eq!(batch.num_columns(), schema.fields().len(), "{table}: columns");
            let columns = schema.fields().iter().map(|f| coerce(batch.column_by_name(f.name()).unwrap(), f.data_type())).collect();
            let nullable: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            batches.push(RecordBatch::try_new(Arc::new(Schema::new(nullable)), columns).unwrap());
        }
    }
    batches
}

#[tokio::test]
async fn every_table_reads_as_spark_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    for table in names() {
        let zone = if table == WRITTEN_IN_PACIFIC_TIME { chrono_tz::America::Los_Angeles } else { chrono_tz::UTC };
        let catalog = catalog(folder.path(), Some(zone)).await;
        let snapshot = catalog.snapshot(&anyone(), &TableName::new("lake", "default", &table), &AsOf::Latest).await;
        let snapshot = snapshot.unwrap_or_else(|e| panic!("{table}: {e}"));
        let actual: Vec<RecordBatch> = snapshot.files().iter().map(|file| table_rows(&snapshot, file)).collect();
        assert_eq!(printed(&snapshot.schema, &actual), printed(&snapshot.schema, &expected(&table, &snapshot.schema)), "{table}");
        assert!(snapshot.damaged_file(snapshot.files()).is_none(), "{table}");
        let history = catalog.history(&anyone(), &snapshot.name, 1000).await.unwrap();
        assert_eq!(history[0].version, snapshot.version, "{table}");
    }
}

#[tokio::test]
async fn timestamp_partitions_without_zone_are_refused_until_one_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = catalog(folder.path(), None).await;
    for table in names() {
        let result = catalog.snapshot(&anyone(), &TableName::new("lake", "default", &table), &AsOf::Latest).await;
        if ZONELESS.contains(&table.as_str()) {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotEligible);
            assert!(error.message().contains("partition_time_zone"), "{error}");
        } else {
            assert!(result.is_ok(), "{table}: {}", result.unwrap_err());
        }
    }
}

#[tokio::test]
async fn the_features_that_the_tables_are_named_for_show_in_the_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = catalog(folder.path(), Some(chrono_tz::UTC)).await;
    let get = async |table: &str| catalog.snapshot(&anyone(), &TableName::new("lake", "default", table), &AsOf::Latest).await.unwrap();

    let deleted = get("dv-partitioned-with-checkpoint").await;
    assert!(deleted.files().iter().any(|f| f.deletion_vector.is_some()));
    assert_eq!(deleted.reader_features, ["deletionVectors"]);

    let by_id = get("table-with-columnmapping-mode-id").await;
    assert!(by_id.columns.iter().all(|c| c.field_id.is_some()));
    let by_name = get("data-reader-timestamp_ntz-name-mode").await;
    assert!(by_name.columns.iter().all(|c| c.field_id.is_none() && c.physical_name.starts_with("col-")));
    assert!(by_name.schema.fields().iter().all(|f| f.metadata().contains_key("delta.columnMapping.physicalName")));

    let stats = get("data-skipping-basic-stats-all-types-columnmapping-name").await;
    let file = stats.files().iter().find(|f| f.rows == Some(1)).unwrap();
    let known = |column: &str| file.stats[stats.schema.index_of(column).unwrap()].min.is_some();
    for column in
        ["as_int", "as_long", "as_byte", "as_short", "as_float", "as_double", "as_string", "as_date", "as_timestamp", "as_big_decimal"]
    {
        assert!(known(column), "{column}");
    }
    let escaped = get("data-reader-escaped-chars").await;
    assert!(escaped.files().iter().all(|f| f.path.contains("/_2=bar+%25")));
    assert!(get("log-replay-special-characters").await.files().is_empty());
}
