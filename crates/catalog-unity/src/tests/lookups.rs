//! What a lookup gives, how long it holds, and what becomes of it when Unity Catalog is down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flightpath_catalog::{AccessRules, AsOf, Catalog, Home, TableContents, TableName};
use flightpath_types::ErrorKind;
use serde_json::json;

use super::fake::{Fake, GROUP, SECRET, ann, bob, latest, reason, sales};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_free_table_is_its_log_in_databricks_name() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    assert!(catalog.cached_snapshot(&ann(), &sales()).is_none());
    let snapshot = catalog.snapshot(&ann(), &TableName::new("MAIN", "Shop", "SALES"), &AsOf::Latest).await.unwrap();
    assert_eq!((snapshot.access.clone(), snapshot.home, snapshot.name.clone()), (AccessRules::Free, Home::Databricks, sales()));
    assert!(matches!(&snapshot.contents, TableContents::Files(files) if files.len() == 1));
    let again = catalog.cached_snapshot(&ann(), &sales()).unwrap();
    assert!(Arc::ptr_eq(&again, &snapshot));
    assert_eq!(fake.table_calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn commits_are_seen_after_the_background_looked() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    latest(&catalog, &ann()).await.unwrap();
    fake.commit(1);
    catalog.inner.refresh_logs().await;
    assert_eq!(catalog.cached_snapshot(&ann(), &sales()).unwrap().version, 1);
    fake.commit(2);
    catalog.refresh(&ann(), &sales()).await.unwrap();
    assert_eq!(catalog.cached_snapshot(&ann(), &sales()).unwrap().version, 2);
    let old = catalog.snapshot(&ann(), &sales(), &AsOf::Version(0)).await.unwrap();
    assert_eq!((old.version, &old.access, old.home), (0, &AccessRules::Free, Home::Databricks));
    assert_eq!(catalog.history(&ann(), &sales(), 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn two_principals_never_share_an_answer() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    assert_eq!(latest(&catalog, &ann()).await.unwrap().access, AccessRules::Free);
    assert!(catalog.cached_snapshot(&bob(), &sales()).is_none());
    let of_bob = latest(&catalog, &bob()).await.unwrap();
    assert!(reason(&of_bob).contains("USE CATALOG"));
    assert_eq!(latest(&catalog, &ann()).await.unwrap().access, AccessRules::Free);
    assert_eq!(catalog.snapshot(&bob(), &sales(), &AsOf::Version(0)).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(catalog.inner.credentials(&bob(), &sales()).await.is_err());
}

#[tokio::test]
async fn what_a_group_holds_counts_for_its_members_alone() {
    let fake = Fake::new();
    fake.hold(GROUP, "catalog", vec!["USE_CATALOG"]);
    fake.hold(GROUP, "schema", vec!["USE_SCHEMA"]);
    fake.hold("bob", "schema", vec!["EXTERNAL_USE_SCHEMA"]);
    fake.hold(GROUP, "table", vec!["SELECT"]);
    assert!(reason(&latest(&fake.catalog(), &bob()).await.unwrap()).contains("USE CATALOG"));
    fake.join("bob", "writers");
    assert!(reason(&latest(&fake.catalog(), &bob()).await.unwrap()).contains("USE CATALOG"));
    fake.join("bob", GROUP);
    assert_eq!(latest(&fake.catalog(), &bob()).await.unwrap().access, AccessRules::Free);
}

#[tokio::test]
async fn governed_tables_have_no_past_here() {
    let fake = Fake::new();
    fake.add_filter();
    let catalog = fake.catalog();
    for as_of in [AsOf::Version(0), AsOf::TimestampMicros(0)] {
        let error = catalog.snapshot(&ann(), &sales(), &as_of).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.message().contains("row filter"), "{error}");
    }
    assert_eq!(catalog.history(&ann(), &sales(), 1).await.unwrap_err().kind(), ErrorKind::NotEligible);
}

#[tokio::test]
async fn rules_are_renewed_before_they_grow_old_where_they_are_used() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    latest(&catalog, &ann()).await.unwrap();
    fake.advance(4 * MINUTE);
    catalog.inner.renew_ahead().await;
    assert_eq!(fake.table_calls.load(Ordering::SeqCst), 2);
    fake.advance(4 * MINUTE);
    assert!(catalog.cached_snapshot(&ann(), &sales()).is_some());
    catalog.inner.renew_ahead().await;
    fake.advance(4 * MINUTE);
    // Nobody looked since.
    catalog.inner.renew_ahead().await;
    assert_eq!(fake.table_calls.load(Ordering::SeqCst), 3);
    fake.advance(MINUTE);
    assert!(catalog.cached_snapshot(&ann(), &sales()).is_none());
}

#[tokio::test]
async fn old_rules_keep_a_table_in_databricks_while_the_catalog_is_down() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    latest(&catalog, &ann()).await.unwrap();
    fake.down.store(true, Ordering::SeqCst);
    fake.advance(4 * MINUTE);
    catalog.inner.renew_ahead().await;
    assert_eq!(catalog.cached_snapshot(&ann(), &sales()).unwrap().access, AccessRules::Free);
    fake.advance(MINUTE);
    assert!(catalog.cached_snapshot(&ann(), &sales()).is_none());
    let stale = latest(&catalog, &ann()).await.unwrap();
    assert!(reason(&stale).starts_with("access rules of main.shop.sales couldn't be refreshed"), "{}", reason(&stale));
    assert_eq!(stale.schema.field(0).name(), "id");
    // A renewal that failed just before the rules grew old.
    fake.down.store(false, Ordering::SeqCst);
    fake.advance(MINUTE);
    assert_eq!(latest(&catalog, &ann()).await.unwrap().access, AccessRules::Free);
    fake.down.store(true, Ordering::SeqCst);
    fake.advance(5 * MINUTE - Duration::from_secs(1));
    catalog.inner.renew_ahead().await;
    fake.advance(Duration::from_secs(2));
    fake.down.store(false, Ordering::SeqCst);
    // Not asked again so soon.
    let stale = latest(&catalog, &ann()).await.unwrap();
    assert!(reason(&stale).starts_with("access rules of main.shop.sales couldn't be refreshed"), "{}", reason(&stale));
    fake.down.store(true, Ordering::SeqCst);
    // Columns may be old for a while, and not for longer.
    fake.advance(30 * MINUTE);
    assert_eq!(latest(&catalog, &ann()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    fake.down.store(false, Ordering::SeqCst);
    fake.advance(MINUTE);
    assert_eq!(latest(&catalog, &ann()).await.unwrap().access, AccessRules::Free);
}

#[tokio::test]
async fn a_table_that_is_gone_is_forgotten() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    latest(&catalog, &ann()).await.unwrap();
    fake.remove("main.shop.sales");
    assert_eq!(catalog.refresh(&ann(), &sales()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(catalog.cached_snapshot(&ann(), &sales()).is_none());
    assert_eq!(latest(&catalog, &ann()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_here_leaves_the_table_to_databricks() {
    let fake = Fake::new();
    std::fs::remove_dir_all(fake.folder.path().join("sales/_delta_log")).unwrap();
    std::fs::create_dir_all(fake.folder.path().join("sales/_delta_log")).unwrap();
    let catalog = fake.catalog();
    let snapshot = latest(&catalog, &ann()).await.unwrap();
    assert!(reason(&snapshot).contains("log can't be read here"), "{}", reason(&snapshot));
    assert!(Arc::ptr_eq(&catalog.cached_snapshot(&ann(), &sales()).unwrap(), &snapshot));
    fake.commit(0);
    fake.advance(MINUTE);
    // The log itself keeps real time; a second catalog has no memory of the failure.
    assert_eq!(latest(&fake.catalog(), &ann()).await.unwrap().access, AccessRules::Free);
}

#[tokio::test]
async fn credentials_are_fresh_silent_and_end_with_the_rules() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    let snapshot = latest(&catalog, &ann()).await.unwrap();
    let storage = snapshot.storage.clone().unwrap();
    let credentials = storage.credentials().await.unwrap();
    assert_eq!(fake.vend_calls.load(Ordering::SeqCst), 1);
    let shown = format!("{credentials:?} {storage:?} {snapshot:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    fake.add_filter();
    catalog.refresh(&bob(), &sales()).await.unwrap();
    assert_eq!(storage.credentials().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn credentials_about_to_expire_are_vended_anew() {
    let fake = Fake::new();
    *fake.credentials_live.lock() = Duration::from_secs(30);
    let catalog = fake.catalog();
    let storage = latest(&catalog, &ann()).await.unwrap().storage.clone().unwrap();
    *fake.credentials_live.lock() = Duration::from_secs(3_600);
    storage.credentials().await.unwrap();
    storage.credentials().await.unwrap();
    assert_eq!(fake.vend_calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn columns_without_a_type_here_are_refused_by_name() {
    let fake = Fake::new();
    fake.add_filter();
    fake.set("main.shop.sales", "columns", json!([{"name": "v", "type_text": "variant"}]));
    let error = latest(&fake.catalog(), &ann()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEligible);
    assert!(error.message().contains("column `v` has the type variant"), "{error}");
}

#[tokio::test]
async fn after_a_change_somewhere_everything_is_asked_anew() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    latest(&catalog, &ann()).await.unwrap();
    fake.commit(1);
    catalog.refresh_all().await;
    assert!(catalog.cached_snapshot(&ann(), &sales()).is_none());
    assert_eq!(latest(&catalog, &ann()).await.unwrap().version, 1);
    assert_eq!(fake.table_calls.load(Ordering::SeqCst), 2);
}
