//! Tables of plain Parquet files.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use flightpath_catalog::Catalog;
use flightpath_types::ErrorKind;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::support::{Lake, anyone, latest, name};

pub fn write_columns(path: &Path, columns: &[(&str, ArrayRef)]) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, a)| (*n, a.clone(), true))).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

pub fn write(path: &Path, ids: &[i32]) {
    write_columns(path, &[("id", Arc::new(Int32Array::from(ids.to_vec())))]);
}

fn folder(lake: &Lake) -> std::path::PathBuf {
    let folder = lake.path().join("t");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test]
async fn statistics_come_from_all_row_groups() {
    let lake = Lake::new();
    let text = StringArray::from(vec![Some("b"), None, Some("zz"), Some("a"), None]);
    let float = Float64Array::from(vec![1.0, f64::NAN, -2.0, 0.0, 5.0]);
    let id = Int32Array::from(vec![Some(5), Some(-3), None, None, Some(9)]);
    write_columns(&lake.path().join("t.parquet"), &[("id", Arc::new(id)), ("s", Arc::new(text)), ("f", Arc::new(float))]);
    let snapshot = lake.reads("t").await;
    let file = &snapshot.files()[0];
    assert_eq!(file.rows, Some(5));
    let bound = |a: &Option<ArrayRef>| a.as_ref().map(|a| a.as_primitive::<Int32Type>().value(0));
    assert_eq!((bound(&file.stats[0].min), bound(&file.stats[0].max), file.stats[0].nulls), (Some(-3), Some(9), Some(2)));
    let text = |a: &Option<ArrayRef>| a.as_ref().map(|a| a.as_string::<i32>().value(0).to_string());
    assert_eq!((text(&file.stats[1].min), text(&file.stats[1].max), file.stats[1].nulls), (Some("a".into()), Some("zz".into()), Some(2)));
    assert!(file.stats[2].max.is_none(), "NaN is the greatest, and statistics may leave it out");
}

#[tokio::test]
async fn types_are_those_that_spark_reads() {
    let lake = Lake::new();
    let columns: [(&str, ArrayRef); 3] = [
        ("u", Arc::new(UInt32Array::from(vec![u32::MAX]))),
        ("ms", Arc::new(TimestampMillisecondArray::from(vec![1_500]).with_timezone("UTC"))),
        ("i", Arc::new(Int32Array::from(vec![1]))),
    ];
    write_columns(&lake.path().join("t.parquet"), &columns);
    let snapshot = lake.reads("t").await;
    let types: Vec<&DataType> = snapshot.schema.fields().iter().map(|f| f.data_type()).collect();
    assert_eq!(types, [&DataType::Int64, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), &DataType::Int32]);
    assert_eq!(snapshot.columns.iter().map(|c| c.widened).collect::<Vec<_>>(), [true, true, false]);
    assert!(snapshot.schema.fields().iter().all(|f| f.is_nullable()));
    let max = snapshot.files()[0].stats[0].max.clone().unwrap();
    assert_eq!(max.as_ref(), &Int64Array::from(vec![i64::from(u32::MAX)]) as &dyn Array);

    write_columns(&lake.path().join("nanos.parquet"), &[("ns", Arc::new(TimestampNanosecondArray::from(vec![1])))]);
    let error = lake.fails("nanos").await;
    assert!(error.kind() == ErrorKind::NotEligible && error.message().contains("`ns`"), "{error}");
}

#[tokio::test]
async fn files_are_put_together_by_name_when_their_types_agree() {
    let lake = Lake::new();
    let folder = folder(&lake);
    write(&folder.join("a.parquet"), &[1, 2]);
    let more: [(&str, ArrayRef); 2] = [("s", Arc::new(StringArray::from(vec!["x"]))), ("id", Arc::new(Int32Array::from(vec![3])))];
    write_columns(&folder.join("b.parquet"), &more);
    fs::write(folder.join("_metadata"), "hidden").unwrap();
    fs::write(folder.join(".b.parquet.crc"), "hidden").unwrap();
    let snapshot = lake.reads("t").await;
    assert_eq!(snapshot.schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["id", "s"]);
    assert_eq!(snapshot.files()[0].stats[1].nulls, Some(2), "a column that the file lacks is NULL in each row");

    write_columns(&folder.join("c.parquet"), &[("id", Arc::new(Int64Array::from(vec![3])))]);
    let error = lake.fails("t").await;
    assert!(error.kind() == ErrorKind::NotEligible && error.message().contains("c.parquet"), "{error}");
    fs::remove_file(folder.join("c.parquet")).unwrap();
    write_columns(&folder.join("c.parquet"), &[("ID", Arc::new(Int32Array::from(vec![3])))]);
    assert!(lake.fails("t").await.message().contains("disagree"));
    fs::remove_file(folder.join("c.parquet")).unwrap();
    fs::create_dir_all(folder.join("more")).unwrap();
    assert!(lake.fails("t").await.message().contains("subfolder `more`"));
}

#[tokio::test]
async fn changed_files_are_noticed_and_truncated_ones_are_data_loss() {
    let lake = Lake::new();
    let folder = folder(&lake);
    for file in 0..20 {
        write(&folder.join(format!("{file:02}.parquet")), &[file]);
    }
    let catalog = lake.catalog().await;
    let first = latest(&catalog, "t").await.unwrap();
    assert_eq!(first.files().len(), 20);
    catalog.refresh(&anyone(), &name("t")).await.unwrap();
    assert!(Arc::ptr_eq(&first, &latest(&catalog, "t").await.unwrap()), "unchanged files aren't read again");
    write(&folder.join("20.parquet"), &[1, 2, 3]);
    catalog.refresh(&anyone(), &name("t")).await.unwrap();
    let second = latest(&catalog, "t").await.unwrap();
    assert_eq!(second.files().iter().map(|f| f.rows.unwrap()).sum::<u64>(), 23);
    assert_ne!(first.version, second.version);

    let bytes = fs::read(folder.join("07.parquet")).unwrap();
    fs::write(folder.join("07.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    let error = catalog.refresh(&anyone(), &name("t")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::DataLoss && error.message().contains("07.parquet"), "{error}");
}
