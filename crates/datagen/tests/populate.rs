//! Populated folders, read back through the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Int32Type};
use flightpath_catalog::{AsOf, Catalog, Config, LocalCatalog, TableName, TableSnapshot};
use flightpath_datagen::{Benchmark, Options, Progress, Silent, Summary, populate};
use flightpath_types::{ErrorKind, Principal};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::sync::Notify;

const SCALE: f64 = 0.01;

fn options(benchmark: Benchmark, out: &Path) -> Options {
    Options::new(benchmark, SCALE, out.into())
}

async fn snapshots(out: &Path) -> BTreeMap<String, Arc<TableSnapshot>> {
    let catalog = LocalCatalog::open(Config::new(vec![out.into()])).await.unwrap();
    let anyone = Principal::new("anonymous");
    let mut found = BTreeMap::new();
    for table in catalog.tables(&anyone, "lake", "default").await.unwrap() {
        let name = TableName::new("lake", "default", &table.name.table);
        found.insert(table.name.table.to_string(), catalog.snapshot(&anyone, &name, &AsOf::Latest).await.unwrap());
    }
    found
}

fn rows(snapshot: &TableSnapshot) -> u64 {
    snapshot.files().iter().map(|f| f.rows.unwrap()).sum()
}

fn read(path: &str) -> Vec<RecordBatch> {
    ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap().map(Result::unwrap).collect()
}

fn hidden(out: &Path) -> Vec<String> {
    let names = fs::read_dir(out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.starts_with('.') && n != ".populate.lock").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch_has_the_standards_rows_in_partitioned_files_with_statistics() {
    let out = tempfile::tempdir().unwrap();
    let summary = populate(options(Benchmark::TpcH, out.path()), Arc::new(Silent)).await.unwrap();
    let tables = snapshots(out.path()).await;
    let expected = [
        ("customer", 1_500),
        ("lineitem", 60_175),
        ("nation", 25),
        ("orders", 15_000),
        ("part", 2_000),
        ("partsupp", 8_000),
        ("region", 5),
        ("supplier", 100),
    ];
    let counted: Vec<(&str, u64)> = tables.iter().map(|(name, t)| (name.as_str(), rows(t))).collect();
    assert_eq!(counted, expected);
    assert_eq!(summary.rows(), expected.iter().map(|(_, n)| n).sum::<u64>());
    assert_eq!(summary.bytes(), tables.values().flat_map(|t| t.files()).map(|f| f.size_bytes).sum::<u64>());
    assert!(hidden(out.path()).is_empty());

    for (table, partition, date) in [("lineitem", "l_shipyear", "l_shipdate"), ("orders", "o_orderyear", "o_orderdate")] {
        let snapshot = &tables[table];
        let index = snapshot.schema.fields().len() - 1;
        assert_eq!(snapshot.partition_columns, [index], "the partition column comes last");
        assert_eq!(snapshot.schema.field(index).name(), partition);
        let date_index = snapshot.schema.index_of(date).unwrap();
        let mut years = BTreeSet::new();
        for file in snapshot.files() {
            let year = file.partition_values[0].as_primitive::<Int32Type>().value(0);
            years.insert(year);
            let in_year = |days: i32| (year - 1970) * 365 <= days && days < (year - 1969) * 366;
            for batch in read(&file.path) {
                let days = batch.column_by_name(date).unwrap().as_primitive::<Date32Type>();
                assert!(days.values().iter().all(|d| in_year(*d)), "{}", file.path);
            }
            let bounds = &file.stats[date_index];
            let (min, max) = (bounds.min.as_ref().unwrap(), bounds.max.as_ref().unwrap());
            assert!(in_year(min.as_primitive::<Date32Type>().value(0)) && in_year(max.as_primitive::<Date32Type>().value(0)));
        }
        assert_eq!(years, (1992..=1998).collect());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_databricks_and_each_file_has_bounds() {
    let out = tempfile::tempdir().unwrap();
    populate(options(Benchmark::TpcH, out.path()), Arc::new(Silent)).await.unwrap();
    let tables = snapshots(out.path()).await;
    let lineitem = &tables["lineitem"].schema;
    let data_type = |column: &str| lineitem.field_with_name(column).unwrap().data_type().clone();
    assert_eq!(data_type("l_orderkey"), DataType::Int64);
    assert_eq!(data_type("l_extendedprice"), DataType::Decimal128(15, 2));
    assert_eq!(data_type("l_comment"), DataType::Utf8);
    assert_eq!(data_type("l_shipdate"), DataType::Date32);
    assert_eq!(data_type("l_shipyear"), DataType::Int32);
    for (name, table) in &tables {
        for file in table.files() {
            for (i, field) in table.schema.fields().iter().enumerate() {
                if table.partition_columns.contains(&i) {
                    continue;
                }
                let stats = &file.stats[i];
                assert!(stats.min.is_some() && stats.max.is_some() && stats.nulls == Some(0), "{name}.{}", field.name());
            }
            for batch in read(&file.path) {
                assert!(batch.schema().fields().iter().all(|f| *f.data_type() != DataType::Utf8View), "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_written_in_parallel_hold_the_same_rows() {
    let (whole, split) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = Options { rows_per_file: Some(u64::MAX), ..options(Benchmark::TpcH, whole.path()) };
    let many = Options { rows_per_file: Some(700), threads: 3, ..options(Benchmark::TpcH, split.path()) };
    populate(one, Arc::new(Silent)).await.unwrap();
    populate(many, Arc::new(Silent)).await.unwrap();
    let (whole, split) = (snapshots(whole.path()).await, snapshots(split.path()).await);
    for name in ["lineitem", "partsupp"] {
        assert!(split[name].files().len() >= 2 * whole[name].files().len(), "{name}");
        assert_eq!(printed(&whole[name]), printed(&split[name]), "{name}");
    }
}

fn printed(snapshot: &TableSnapshot) -> Vec<String> {
    let mut rows = Vec::new();
    for file in snapshot.files() {
        for batch in read(&file.path) {
            for row in 0..batch.num_rows() {
                let cell = |c: &arrow::array::ArrayRef| arrow::util::display::array_value_to_string(c, row).unwrap();
                rows.push(batch.columns().iter().map(cell).collect::<Vec<_>>().join("|"));
            }
        }
    }
    rows.sort_unstable();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn tpcds_has_all_tables_however_they_are_split() {
    let (whole, split) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = Options { rows_per_file: Some(u64::MAX), ..options(Benchmark::TpcDs, whole.path()) };
    let many = Options { rows_per_file: Some(10_000), ..options(Benchmark::TpcDs, split.path()) };
    let one: Summary = populate(one, Arc::new(Silent)).await.unwrap();
    let many: Summary = populate(many, Arc::new(Silent)).await.unwrap();
    assert_eq!(one.tables.len(), 24);
    let counts = |summary: &Summary| summary.tables.iter().map(|t| (t.name.clone(), t.rows)).collect::<BTreeMap<_, _>>();
    assert_eq!(counts(&one), counts(&many));
    let counts = counts(&one);
    // These don't depend on the scale.
    let fixed = [
        ("customer_demographics", 1_920_800),
        ("date_dim", 73_049),
        ("household_demographics", 7_200),
        ("income_band", 20),
        ("ship_mode", 20),
        ("time_dim", 86_400),
    ];
    for (name, rows) in fixed {
        assert_eq!(counts[name], rows, "{name}");
    }
    let tables = snapshots(split.path()).await;
    assert_eq!(tables.iter().map(|(n, t)| (n.clone(), rows(t))).collect::<BTreeMap<_, _>>(), counts);
    assert!(tables["store_sales"].files().len() > 1);
    for name in ["store_sales", "web_returns", "catalog_sales"] {
        assert_eq!(printed(&snapshots(whole.path()).await[name]), printed(&tables[name]), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_replaced_without_force() {
    let out = tempfile::tempdir().unwrap();
    let tiny = |force: bool| Options { scale: 0.001, force, ..options(Benchmark::TpcH, out.path()) };
    populate(tiny(false), Arc::new(Silent)).await.unwrap();
    let before = snapshots(out.path()).await;
    let error = populate(tiny(false), Arc::new(Silent)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("lineitem") && error.message().contains("--force"), "{error}");
    populate(tiny(true), Arc::new(Silent)).await.unwrap();
    let after = snapshots(out.path()).await;
    assert_ne!(before["nation"].files()[0].path, after["nation"].files()[0].path);
    assert_eq!(rows(&before["lineitem"]), rows(&after["lineitem"]));
    assert!(hidden(out.path()).is_empty());

    fs::remove_dir_all(out.path().join("part")).unwrap();
    fs::create_dir(out.path().join("part")).unwrap();
    fs::write(out.path().join("part/thesis.txt"), "years of work").unwrap();
    let error = populate(tiny(true), Arc::new(Silent)).await.unwrap_err();
    assert!(error.message().contains("isn't a Delta table"), "{error}");
    assert!(out.path().join("part/thesis.txt").exists());
}

/// Tells when rows of one table come.
struct Watch {
    table: &'static str,
    rows: AtomicU64,
    seen: Notify,
}

impl Progress for Watch {
    fn table_started(&self, _table: &str, _rows_expected: u64) {}

    fn rows_written(&self, table: &str, rows: u64) {
        if table == self.table {
            self.rows.fetch_add(rows, Ordering::Relaxed);
            self.seen.notify_one();
        }
    }

    fn table_finished(&self, _table: &str, _rows: u64, _files: usize) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_leaves_whole_tables_only_and_is_tidied_up() {
    let out = tempfile::tempdir().unwrap();
    let watch = Arc::new(Watch { table: "lineitem", rows: AtomicU64::new(0), seen: Notify::new() });
    let work = populate(Options { scale: 0.1, ..options(Benchmark::TpcH, out.path()) }, watch.clone());
    tokio::select! {
        result = work => panic!("ended before it was interrupted: {result:?}"),
        () = watch.seen.notified() => {}
    }
    assert!(hidden(out.path()).contains(&".populating-lineitem".to_string()));
    let tables = snapshots(out.path()).await;
    assert_eq!(tables.len(), 7, "no lineitem");
    assert_eq!(rows(&tables["orders"]), 150_000);

    let again = Options { force: true, ..options(Benchmark::TpcH, out.path()) };
    let deadline = Instant::now() + Duration::from_secs(60);
    let summary = loop {
        // The abandoned writers hold the folder until they have noticed.
        match populate(again.clone(), Arc::new(Silent)).await {
            Ok(summary) => break summary,
            Err(e) if e.kind() == ErrorKind::ResourceExhausted && Instant::now() < deadline => tokio::task::yield_now().await,
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(summary.tables.last().unwrap().rows, 60_175);
    assert!(hidden(out.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_was_interrupted_is_undone() {
    let out = tempfile::tempdir().unwrap();
    let tiny = || Options { scale: 0.001, ..options(Benchmark::TpcH, out.path()) };
    populate(tiny(), Arc::new(Silent)).await.unwrap();
    // As a run leaves it that dies between moving the old table away and the new one in.
    fs::rename(out.path().join("orders"), out.path().join(".replaced-orders")).unwrap();
    fs::create_dir(out.path().join(".populating-orders")).unwrap();
    let error = populate(tiny(), Arc::new(Silent)).await.unwrap_err();
    assert!(error.message().contains("orders"), "{error}");
    assert!(hidden(out.path()).is_empty());
    assert_eq!(rows(&snapshots(out.path()).await["orders"]), 1_500);
}

#[tokio::test]
async fn bad_options_are_refused() {
    let out = tempfile::tempdir().unwrap();
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        let error = populate(Options { scale, ..options(Benchmark::TpcH, out.path()) }, Arc::new(Silent)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let file = out.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(populate(options(Benchmark::TpcH, &file), Arc::new(Silent)).await.is_err());
    assert_eq!(Benchmark::parse("TPCDS"), Some(Benchmark::TpcDs));
    assert_eq!(Benchmark::parse("tpcc"), None);
}
