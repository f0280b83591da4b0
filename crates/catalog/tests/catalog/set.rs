//! Several catalogs as one.

use std::sync::Arc;

use flightpath_catalog::{
    AsOf, Catalog, CatalogSet, CommitInfo, Config, LocalCatalog, SystemTable, TableName, TableSnapshot, TableSummary,
};
use flightpath_types::{Error, ErrorKind, Principal, Result};

use crate::support::{Lake, anyone, quiet};

async fn named(lake: &Lake, catalog: &str) -> Arc<LocalCatalog> {
    let config = Config { catalog: catalog.into(), ..quiet(vec![lake.path().into()]) };
    Arc::new(LocalCatalog::open(config).await.unwrap())
}

#[derive(Debug)]
struct Nothing;

#[async_trait::async_trait]
impl SystemTable for Nothing {
    fn schema(&self) -> arrow::datatypes::SchemaRef {
        Arc::new(arrow::datatypes::Schema::empty())
    }

    async fn read(&self, _: &Principal) -> Result<Vec<arrow::record_batch::RecordBatch>> {
        Ok(Vec::new())
    }
}

/// Answers nothing but this kind of error.
struct Failing(ErrorKind);

impl Failing {
    fn fails<T>(&self) -> Result<T> {
        Err(Error::new(self.0, "no answer"))
    }
}

#[async_trait::async_trait]
impl Catalog for Failing {
    async fn snapshot(&self, _: &Principal, _: &TableName, _: &AsOf) -> Result<Arc<TableSnapshot>> {
        self.fails()
    }

    fn cached_snapshot(&self, _: &Principal, _: &TableName) -> Option<Arc<TableSnapshot>> {
        None
    }

    async fn catalogs(&self, _: &Principal) -> Result<Vec<String>> {
        self.fails()
    }

    async fn schemas(&self, _: &Principal, _: &str) -> Result<Vec<String>> {
        self.fails()
    }

    async fn tables(&self, _: &Principal, _: &str, _: &str) -> Result<Vec<TableSummary>> {
        self.fails()
    }

    async fn history(&self, _: &Principal, _: &TableName, _: usize) -> Result<Vec<CommitInfo>> {
        self.fails()
    }

    async fn refresh(&self, _: &Principal, _: &TableName) -> Result<()> {
        self.fails()
    }
}

#[tokio::test]
async fn a_catalog_that_does_not_answer_is_still_named_and_a_forbidden_one_is_not() {
    let lake = Lake::new();
    let listed = async |kind| {
        let members: Vec<(String, Arc<dyn Catalog>)> =
            vec![("lake".into(), named(&lake, "lake").await), ("main".into(), Arc::new(Failing(kind)))];
        CatalogSet::new(members).unwrap().catalogs(&anyone()).await.unwrap()
    };
    assert_eq!(listed(ErrorKind::Unavailable).await, ["lake", "main"]);
    assert_eq!(listed(ErrorKind::DeadlineExceeded).await, ["lake", "main"]);
    assert_eq!(listed(ErrorKind::PermissionDenied).await, ["lake"]);
}

#[tokio::test]
async fn names_lead_to_their_own_catalog() {
    let (first, second) = (Lake::new(), Lake::new());
    first.table("here").simple();
    second.table("there").simple();
    let lake = named(&first, "lake").await;
    lake.register_system("queries", Arc::new(Nothing));
    let set = CatalogSet::new(vec![("lake".into(), lake), ("Main".into(), named(&second, "main").await)]).unwrap();
    assert_eq!(set.catalogs(&anyone()).await.unwrap(), ["lake", "main"]);
    let at = |catalog: &str, table: &str| TableName::new(catalog, "default", table);
    let find = async |name: TableName| set.snapshot(&anyone(), &name, &AsOf::Latest).await;
    assert_eq!(find(at("LAKE", "here")).await.unwrap().name, at("lake", "here"));
    assert_eq!(find(at("main", "there")).await.unwrap().name, at("main", "there"));
    assert!(set.cached_snapshot(&anyone(), &at("MAIN", "there")).is_some());
    assert_eq!(find(at("main", "here")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(find(TableName::new("system", "system", "queries")).await.is_ok());
    assert_eq!(set.tables(&anyone(), "main", "default").await.unwrap().len(), 1);
}

#[tokio::test]
async fn unknown_catalogs_are_told_with_the_nearest() {
    let lake = Lake::new();
    let set = CatalogSet::new(vec![("lake".into(), named(&lake, "lake").await), ("main".into(), named(&lake, "main").await)]).unwrap();
    let error = set.schemas(&anyone(), "mian").await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::NotFound, Some("NO_SUCH_CATALOG_EXCEPTION")));
    assert!(error.message().contains("`main`"), "{error}");
    assert!(set.cached_snapshot(&anyone(), &TableName::new("mian", "default", "t")).is_none());
}

#[tokio::test]
async fn names_clash_whatever_their_case() {
    let lake = Lake::new();
    let member = |name: &str, catalog: Arc<LocalCatalog>| (name.to_string(), catalog as Arc<dyn Catalog>);
    let one = named(&lake, "lake").await;
    assert!(CatalogSet::new(vec![member("lake", one.clone()), member("LAKE", one.clone())]).is_err());
    assert!(CatalogSet::new(vec![member("system", one)]).is_err());
    assert!(CatalogSet::new(Vec::new()).is_err());
}
