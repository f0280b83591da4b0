//! Lists, page by page.

use flightpath_catalog::{Catalog, TableName};
use flightpath_types::ErrorKind;
use serde_json::json;

use super::fake::{Fake, ann};

#[tokio::test]
async fn empty_pages_do_not_end_a_list() {
    let fake = Fake::new();
    fake.pages.lock().insert(
        "/schemas".into(),
        vec![
            json!({"schemas": [], "next_page_token": "1"}),
            json!({"schemas": [{"name": "shop"}], "next_page_token": "2"}),
            json!({"next_page_token": "3"}),
            json!({"schemas": [{"name": "hr"}], "next_page_token": ""}),
        ],
    );
    let entry = |name: &str, kind: &str| json!({"name": name, "catalog_name": "main", "schema_name": "shop", "table_type": kind, "data_source_format": "DELTA"});
    fake.pages.lock().insert(
        "/tables".into(),
        vec![json!({"tables": [entry("sales", "MANAGED")], "next_page_token": "1"}), json!({"tables": [entry("a_view", "VIEW")]})],
    );
    fake.pages.lock().insert("/catalogs".into(), vec![json!({"catalogs": [{"name": "main"}, {"name": "hidden"}]})]);
    let catalog = fake.catalog();
    assert_eq!(catalog.catalogs(&ann()).await.unwrap(), ["main"]);
    assert_eq!(catalog.schemas(&ann(), "MAIN").await.unwrap(), ["hr", "shop"]);
    let tables = catalog.tables(&ann(), "main", "shop").await.unwrap();
    let shown: Vec<(String, &str)> = tables.iter().map(|t| (t.name.to_string(), t.format)).collect();
    assert_eq!(shown, [("main.shop.a_view".to_string(), "remote"), ("main.shop.sales".to_string(), "delta")]);
    assert_eq!(catalog.schemas(&ann(), "hidden").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_list_without_an_end_is_an_error() {
    let fake = Fake::new();
    fake.pages.lock().insert("/schemas".into(), vec![json!({"schemas": [{"name": "shop"}], "next_page_token": "0"})]);
    assert_eq!(fake.catalog().schemas(&ann(), "main").await.unwrap_err().kind(), ErrorKind::Unavailable);
    let long = (1..=5).map(|n| json!({"schemas": [], "next_page_token": n.to_string()})).collect();
    fake.pages.lock().insert("/schemas".into(), long);
    let catalog = fake.catalog_with(crate::Config { pages_max: 3, ..fake.config() });
    assert_eq!(catalog.schemas(&ann(), "main").await.unwrap_err().kind(), ErrorKind::ResourceExhausted);
}

#[tokio::test]
async fn what_is_not_there_is_told_with_what_is() {
    let fake = Fake::new();
    fake.pages.lock().insert("/tables".into(), vec![json!({"tables": [{"name": "sales"}, {"name": "people"}]})]);
    let catalog = fake.catalog();
    let missing = |table: &str| TableName::new("main", "shop", table);
    let error = catalog.snapshot(&ann(), &missing("sale"), &flightpath_catalog::AsOf::Latest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("Did you mean `sales`?"), "{error}");
    let asked = fake.table_calls.load(std::sync::atomic::Ordering::SeqCst);
    for odd in ["a/b", "a.b", "", "a b", "a\nb"] {
        let error = catalog.snapshot(&ann(), &missing(odd), &flightpath_catalog::AsOf::Latest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{odd}");
    }
    assert_eq!(fake.table_calls.load(std::sync::atomic::Ordering::SeqCst), asked);
}
