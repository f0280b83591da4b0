//! Which names the data folders give, and how changes in them are noticed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use flightpath_catalog::{AsOf, Catalog, Config, LocalCatalog, SystemTable, TableContents, TableKind, TableName};
use flightpath_types::{ErrorKind, Principal, Result};

use crate::support::{Lake, anyone, eventually, latest, name, quiet};

async fn listed(catalog: &LocalCatalog, schema: &str) -> Vec<String> {
    catalog.tables(&anyone(), "lake", schema).await.unwrap().into_iter().map(|t| format!("{}:{}", t.name.table, t.format)).collect()
}

fn parquet(path: &Path) {
    crate::parquet_tables::write(path, &[1, 2, 3]);
}

#[tokio::test]
async fn folders_and_files_become_tables_and_schemas() {
    let lake = Lake::new();
    lake.table("orders").simple();
    lake.table("Sales/Regions").simple();
    parquet(&lake.path().join("nation.parquet"));
    fs::create_dir_all(lake.path().join("parts.parquet")).unwrap();
    parquet(&lake.path().join("parts.parquet/a.parquet"));
    fs::create_dir_all(lake.path().join("Sales/plain")).unwrap();
    parquet(&lake.path().join("Sales/plain/x.parquet"));
    fs::write(lake.path().join("Sales/plain/_SUCCESS"), "").unwrap();
    fs::create_dir_all(lake.path().join("empty")).unwrap();
    fs::create_dir_all(lake.path().join("_hidden")).unwrap();
    fs::write(lake.path().join("notes.txt"), "not a table").unwrap();
    let elsewhere = Lake::new();
    elsewhere.table("far").simple();
    symlink(elsewhere.path().join("far"), lake.path().join("linked")).unwrap();

    let catalog = lake.catalog().await;
    assert_eq!(catalog.catalogs(&anyone()).await.unwrap(), ["lake"]);
    assert_eq!(catalog.schemas(&anyone(), "LAKE").await.unwrap(), ["Sales", "default", "empty", "system"]);
    assert_eq!(listed(&catalog, "default").await, ["linked:delta", "nation:parquet", "orders:delta", "parts:parquet"]);
    assert_eq!(listed(&catalog, "SALES").await, ["plain:parquet", "Regions:delta"]);
    assert!(listed(&catalog, "empty").await.is_empty());

    let spelled = latest(&catalog, "sales.REGIONS").await.unwrap();
    assert_eq!(spelled.name.to_string(), "lake.Sales.Regions");
    let linked = latest(&catalog, "linked").await.unwrap();
    assert_eq!(linked.files()[0].path, elsewhere.path().canonicalize().unwrap().join("far/f0.parquet").to_str().unwrap());
    assert_eq!(latest(&catalog, "nation").await.unwrap().files()[0].rows, Some(3));
}

#[tokio::test]
async fn any_name_that_a_folder_can_have_is_a_table() {
    let lake = Lake::new();
    let names = ["with space", "a~b{c}[d]^e", "f\"g|h<i>*", "tick`s'", "hash#mark", "frage?", "größe", "a;b&c=d"];
    for table in names {
        lake.table(table).simple().append(1);
    }
    let catalog = lake.catalog().await;
    for table in names {
        let snapshot = latest(&catalog, table).await.unwrap_or_else(|e| panic!("{table}: {e}"));
        assert_eq!(snapshot.version, 1);
        assert_eq!(snapshot.files()[0].path.rsplit('/').nth(1), Some(table));
    }
    for table in ["per%20cent", "back\\slash"] {
        lake.table(table).simple();
        let error = latest(&catalog, table).await.unwrap_err();
        assert!(error.message().contains("not eligible") && error.message().contains("rename"), "{error}");
    }
}

#[tokio::test]
async fn a_data_folder_may_be_a_table_and_several_may_be_given() {
    let (one, two) = (Lake::new(), Lake::new());
    one.table("t").simple();
    two.table("sales/a").simple();
    one.table("sales/b").simple();
    let data = vec![one.path().join("t"), two.path().into(), one.path().join("sales/b")];
    let catalog = LocalCatalog::open(quiet(data)).await.unwrap();
    assert_eq!(listed(&catalog, "default").await, ["b:delta", "t:delta"]);
    assert_eq!(listed(&catalog, "sales").await, ["a:delta"]);
}

#[tokio::test]
async fn names_claimed_twice_are_an_error_that_names_both_places() {
    let (one, two) = (Lake::new(), Lake::new());
    one.table("Orders").simple();
    two.table("orders").simple();
    let error = LocalCatalog::open(quiet(vec![one.path().into(), two.path().into()])).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    for place in [one.path().join("Orders"), two.path().join("orders")] {
        assert!(error.message().contains(place.to_str().unwrap()), "{error}");
    }
    let reserved = Lake::new();
    reserved.table("System/t").simple();
    let error = LocalCatalog::open(quiet(vec![reserved.path().into()])).await.err().unwrap();
    assert!(error.message().contains("rename the folder"), "{error}");
    let missing = LocalCatalog::open(quiet(vec![one.path().join("nowhere")])).await.err().unwrap();
    assert!(missing.message().contains("nowhere"), "{missing}");
}

#[tokio::test]
async fn a_clash_that_appears_later_concerns_that_name_alone() {
    let lake = Lake::new();
    lake.table("orders").simple();
    lake.table("items").simple();
    let catalog = lake.catalog().await;
    latest(&catalog, "orders").await.unwrap();
    parquet(&lake.path().join("orders.parquet"));
    listed(&catalog, "default").await;
    let error = latest(&catalog, "orders").await.unwrap_err();
    assert!(error.message().contains("orders.parquet"), "{error}");
    latest(&catalog, "items").await.unwrap();
}

#[tokio::test]
async fn unknown_names_get_databricks_errors_with_the_nearest() {
    let lake = Lake::new();
    lake.table("lineitem").simple();
    lake.table("sales/orders").simple();
    let catalog = lake.catalog().await;
    let error = latest(&catalog, "lineitems").await.unwrap_err();
    assert_eq!((error.kind(), error.class(), error.sql_state()), (ErrorKind::NotFound, Some("TABLE_OR_VIEW_NOT_FOUND"), Some("42P01")));
    assert!(error.message().contains("Did you mean `lineitem`?"), "{error}");
    let error = latest(&catalog, "order").await.unwrap_err();
    assert!(error.message().contains("`sales`.`orders`"), "{error}");
    let error = latest(&catalog, "nowhere.t").await.unwrap_err();
    assert_eq!(error.class(), Some("TABLE_OR_VIEW_NOT_FOUND"));
    let error = catalog.tables(&anyone(), "lake", "sale").await.unwrap_err();
    assert_eq!((error.class(), error.sql_state()), (Some("SCHEMA_NOT_FOUND"), Some("42704")));
    assert!(error.message().contains("`sales`"), "{error}");
    let error = catalog.snapshot(&anyone(), &TableName::new("laek", "default", "lineitem"), &AsOf::Latest).await.unwrap_err();
    assert_eq!(error.class(), Some("NO_SUCH_CATALOG_EXCEPTION"));
}

#[tokio::test]
async fn new_tables_are_found_on_demand_and_removed_ones_are_gone() {
    let lake = Lake::new();
    let catalog = lake.catalog().await;
    assert!(latest(&catalog, "t").await.is_err());
    let log = lake.table("t").simple();
    assert_eq!(latest(&catalog, "t").await.unwrap().version, 0);
    fs::remove_dir_all(&log.root).unwrap();
    let error = catalog.refresh(&anyone(), &name("t")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(latest(&catalog, "t").await.unwrap_err().class(), Some("TABLE_OR_VIEW_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_background_refresh_notices_commits_replacements_and_removals() {
    let lake = Lake::new();
    let log = lake.table("t").simple();
    let catalog =
        LocalCatalog::open(Config { refresh_interval: Duration::from_millis(5), ..Config::new(vec![lake.path().into()]) }).await.unwrap();
    let at = |version: u64, files: usize| {
        let catalog = &catalog;
        move || async move { catalog.cached_snapshot(&anyone(), &name("t")).filter(|s| s.version == version && s.files().len() == files) }
    };
    let first = eventually("the table is read ahead", at(0, 1)).await;
    log.append(1);
    eventually("a commit", at(1, 2)).await;
    assert_eq!((first.version, first.files().len()), (0, 1), "a pinned snapshot never changes");

    let other = Lake::new();
    let replacement = other.table("t").simple();
    fs::rename(&log.root, lake.path().join("_old")).unwrap();
    fs::rename(&replacement.root, &log.root).unwrap();
    eventually("a replaced table of an older version", at(0, 1)).await;

    fs::remove_dir_all(&log.root).unwrap();
    eventually("a removed table", || async { catalog.cached_snapshot(&anyone(), &name("t")).is_none().then_some(()) }).await;
    lake.table("u").simple();
    eventually("a new table", || async { listed(&catalog, "default").await.contains(&"u:delta".to_string()).then_some(()) }).await;
}

struct Numbers;

#[async_trait]
impl SystemTable for Numbers {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
    }

    async fn read(&self, _principal: &Principal) -> Result<Vec<RecordBatch>> {
        Ok(vec![RecordBatch::new_empty(self.schema())])
    }
}

#[tokio::test]
async fn system_tables_are_in_the_schema_system() {
    let lake = Lake::new();
    let catalog = lake.catalog().await;
    catalog.register_system("queries", Arc::new(Numbers));
    let snapshot = catalog.cached_snapshot(&anyone(), &name("SYSTEM.Queries")).unwrap();
    assert!(matches!(snapshot.contents, TableContents::System(_)));
    assert_eq!(snapshot.columns.len(), 1);
    let listed = catalog.tables(&anyone(), "lake", "system").await.unwrap();
    assert_eq!((listed[0].name.to_string().as_str(), listed[0].kind), ("lake.system.queries", TableKind::System));
    assert!(catalog.snapshot(&anyone(), &TableName::new("system", "system", "queries"), &AsOf::Latest).await.is_ok());
    let error = latest(&catalog, "system.querys").await.unwrap_err();
    assert!(error.message().contains("`queries`"), "{error}");
    assert!(catalog.snapshot(&anyone(), &name("system.queries"), &AsOf::Version(1)).await.is_err());
}
