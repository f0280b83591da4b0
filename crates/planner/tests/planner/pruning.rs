use std::collections::BTreeSet;

use flightpath_plan::ScanId;

use crate::catalog::FakeCatalog;
use crate::{planner, query};

/// Names of the files that the scans of `sales` in `sql` keep, over all its scans.
async fn kept(sql: &str) -> Vec<Vec<String>> {
    let planner = planner(&FakeCatalog::with_sales());
    let query = query(&planner, sql).await;
    let sales = query.scans.values().filter(|s| s.snapshot.name.table.as_ref() == "sales");
    sales.map(|s| s.files.iter().map(|f| f.path.clone()).collect()).collect()
}

async fn kept_by(filter: &str) -> Vec<String> {
    kept(&format!("SELECT amount FROM sales WHERE {filter}")).await.remove(0)
}

#[tokio::test]
async fn partition_values_are_exact() {
    assert_eq!(kept_by("region = 'us'").await, ["us-1"]);
    assert_eq!(kept_by("region <> 'us'").await, ["eu-1", "eu-2"]);
    assert_eq!(kept_by("region IS NULL").await, ["none"]);
    assert_eq!(kept_by("region IS NOT NULL").await, ["eu-1", "eu-2", "us-1"]);
    assert_eq!(kept_by("region IN ('us', 'xx')").await, ["us-1"]);
    assert_eq!(kept_by("region LIKE 'e%'").await, ["eu-1", "eu-2"]);
}

#[tokio::test]
async fn statistics_prune_and_their_absence_does_not() {
    assert_eq!(kept_by("id = 15").await, ["eu-2", "none"]);
    assert_eq!(kept_by("id > 10 AND id < 12").await, ["eu-2", "none"]);
    assert_eq!(kept_by("id < 5 OR id > 25").await, ["eu-1", "us-1", "none"]);
    assert_eq!(kept_by("id BETWEEN 5 AND 15 AND region = 'eu'").await, ["eu-1", "eu-2"]);
    assert_eq!(kept_by("id IN (3, 29)").await, ["eu-1", "us-1", "none"]);
    assert_eq!(kept_by("amount > 5").await.len(), 4);
}

#[tokio::test]
async fn bounds_of_floats_are_not_trusted_and_those_of_timestamps_have_slack() {
    // A file that holds NaN answers `score > 100`, whatever its greatest number is.
    assert_eq!(kept_by("score > 100D").await.len(), 4);
    // Bounds are cut to milliseconds: 10.0005 ms may be in a file whose maximum is said to be 10 ms.
    assert_eq!(kept_by("at >= TIMESTAMP'1970-01-01 00:00:00.010500'").await, ["eu-1", "eu-2", "us-1", "none"]);
    assert_eq!(kept_by("at >= TIMESTAMP'1970-01-01 00:00:00.011500'").await, ["eu-2", "us-1", "none"]);
}

#[tokio::test]
async fn each_scan_of_a_table_is_pruned_by_its_own_filters() {
    let both = kept("SELECT x.id FROM sales x JOIN sales y ON x.amount = y.amount WHERE x.region = 'us' AND y.id <= 10").await;
    assert_eq!(both, [vec!["us-1"], vec!["eu-1", "none"]]);
}

#[tokio::test]
async fn filters_of_subqueries_prune_their_own_scans_only() {
    let both = kept("SELECT id FROM sales WHERE region = 'eu' AND id IN (SELECT id FROM sales WHERE region = 'us')").await;
    let both: BTreeSet<Vec<String>> = both.into_iter().collect();
    assert_eq!(both, BTreeSet::from([vec!["eu-1".to_string(), "eu-2".to_string()], vec!["us-1".to_string()]]));
    let outer = kept("SELECT id FROM sales WHERE (SELECT max(id) FROM people) > 3").await;
    assert_eq!(outer[0].len(), 4);
}

#[tokio::test]
async fn a_filter_that_is_never_true_leaves_a_plan_that_still_runs() {
    let planner = planner(&FakeCatalog::with_sales());
    let query = query(&planner, "SELECT id FROM sales WHERE id > 1000 AND region = 'eu'").await;
    assert_eq!(query.scans[&ScanId(0)].files.len(), 0);
    assert_eq!(query.features.files, 0);
    assert_eq!(query.features.files_total, 4);
}

#[tokio::test]
async fn only_the_columns_that_are_needed_are_read() {
    let planner = planner(&FakeCatalog::with_sales());
    let query = query(&planner, "SELECT amount FROM sales WHERE id > 15").await;
    assert_eq!(query.scans[&ScanId(0)].columns, vec![0, 1]);
    assert_eq!(query.features.columns_read, 2);
    assert!(query.features.scan_bytes < query.features.file_bytes);
}

#[tokio::test]
async fn subplans_that_compute_the_same_are_read_once_with_what_any_of_them_needs() {
    let planner = planner(&FakeCatalog::with_sales());
    let text = "WITH c AS (SELECT region, id, sum(amount) AS s, max(score) AS m FROM sales GROUP BY region, id)
        SELECT a.s, b.m FROM c a JOIN c b ON a.s = b.s WHERE a.region = 'us' AND b.region = 'eu'";
    let query = query(&planner, text).await;
    let compiled = query.duckdb.as_ref().expect("runs on DuckDB");
    assert_eq!(compiled.sql.matches("GROUP BY").count(), 1, "{}", compiled.sql);
    let [scan] = compiled.scans[..] else { panic!("{:?}", compiled.scans) };
    assert!(!compiled.sql.contains("s0.") && compiled.sql.contains(&format!("s{}.", scan.0)));
    let paths = |scan: &ScanId| query.scans[scan].files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>();
    assert_eq!(paths(&scan), ["eu-1", "eu-2", "us-1"]);
    assert_eq!(query.scans[&scan].columns, [0, 1, 2, 4]);
    // DataFusion's scans keep their own.
    assert_eq!((paths(&ScanId(0)), paths(&ScanId(1))), (vec!["us-1"], vec!["eu-1", "eu-2"]));
    assert_eq!(query.features.scans, 2);
}
