use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use flightpath_catalog::{AccessRules, TableSnapshot};
use flightpath_plan::Statement;
use flightpath_planner::{Config, PlanRequest, Planner, check_time_zone};
use flightpath_types::{ErrorKind, RefusalClass, Session};

use crate::catalog::{FakeCatalog, sales, system_queries};
use crate::{failure, plan, planner, query, request, session, with_params};

#[tokio::test]
async fn the_same_text_on_the_same_versions_is_planned_once() {
    let catalog = FakeCatalog::with_sales();
    let planner = planner(&catalog);
    let text = "SELECT region, count(*) FROM sales GROUP BY region";
    assert!(!plan(&planner, text).await.cache_hit);
    let asked = catalog.asked.load(Ordering::SeqCst);
    let again = plan(&planner, text).await;
    assert!(again.cache_hit);
    assert_eq!(catalog.asked.load(Ordering::SeqCst), asked, "a hit asks the catalog's cache only");
    assert!(matches!(again.statement, Statement::Query(_)));
}

#[tokio::test]
async fn a_new_version_or_other_access_rules_end_a_cached_plan() {
    let catalog = FakeCatalog::with_sales();
    let planner = planner(&catalog);
    let text = "SELECT id FROM sales";
    plan(&planner, text).await;
    catalog.put(sales(2));
    let replanned = plan(&planner, text).await;
    assert!(!replanned.cache_hit);
    let Statement::Query(query) = replanned.statement else { panic!("isn't a query") };
    assert_eq!(query.tables[0].snapshot.version, 2);
    catalog.put(TableSnapshot { access: AccessRules::Governed("a row filter".into()), ..sales(2) });
    assert!(!plan(&planner, text).await.cache_hit);
}

#[tokio::test]
async fn plans_are_kept_apart_by_what_they_depend_on() {
    let planner = planner(&FakeCatalog::with_sales());
    let text = "SELECT id FROM sales WHERE at > '2024-01-01'";
    plan(&planner, text).await;
    let change = |set: fn(&mut Session)| {
        let mut session = session();
        set(&mut session);
        PlanRequest { session, ..request(text) }
    };
    let others = [change(|s| s.time_zone = "Asia/Tokyo".into()), change(|s| s.principal = flightpath_types::Principal::new("bob"))];
    for other in others {
        assert!(!planner.plan(&other).await.expect("is planned").cache_hit, "{:?}", other.session);
    }
    let tagged = change(|s| s.tag = Some("report".into()));
    assert!(planner.plan(&tagged).await.expect("is planned").cache_hit, "a tag changes no plan");
}

#[tokio::test]
async fn the_time_of_a_statement_is_never_kept() {
    let planner = planner(&FakeCatalog::with_sales());
    let text = "SELECT id FROM sales WHERE at < current_timestamp()";
    plan(&planner, text).await;
    assert!(!plan(&planner, text).await.cache_hit);
}

#[tokio::test]
async fn parameters_are_typed_when_open_and_part_of_the_key_when_given() {
    let planner = planner(&FakeCatalog::with_sales());
    let text = "SELECT amount FROM sales WHERE id = ?";
    let open = plan(&planner, text).await;
    assert_eq!(open.parameters.fields().len(), 1);
    assert_eq!(open.parameters.field(0).data_type(), &DataType::Int32);
    let Statement::Query(unbound) = open.statement else { panic!("isn't a query") };
    assert!(unbound.duckdb.is_err() && unbound.datafusion.is_err(), "a plan with open parameters runs nowhere");
    let given = with_params(text, vec![ScalarValue::Int32(Some(15))]);
    let Statement::Query(bound) = planner.plan(&given).await.expect("is planned").statement else { panic!("isn't a query") };
    assert_eq!(bound.features.files, 2, "a value prunes");
    assert!(planner.plan(&given).await.expect("is planned").cache_hit);
    assert!(!planner.plan(&with_params(text, vec![ScalarValue::Int32(Some(16))])).await.expect("is planned").cache_hit);
}

#[tokio::test]
async fn governed_tables_are_refused_everywhere_with_the_reason() {
    let catalog = FakeCatalog::with_sales();
    catalog.put(TableSnapshot { access: AccessRules::Governed("a row filter".into()), ..sales(1) });
    let query = query(&planner(&catalog), "SELECT id FROM sales").await;
    for refusal in [query.duckdb.as_ref().err(), query.datafusion.as_ref().err()] {
        let refusal = refusal.expect("is refused");
        assert_eq!(refusal.class, RefusalClass::Governance);
        assert!(refusal.reason.contains("a row filter") && refusal.reason.contains("lake.default.sales"), "{}", refusal.reason);
    }
}

#[tokio::test]
async fn the_servers_own_tables_are_read_in_process_only() {
    let catalog = FakeCatalog::with_sales();
    catalog.put(system_queries());
    let query = query(&planner(&catalog), "SELECT query_id FROM system.queries").await;
    assert_eq!(query.duckdb.as_ref().expect_err("is refused").class, RefusalClass::TableFeature);
    assert_eq!(query.datafusion, Ok(()));
}

#[tokio::test]
async fn time_travel_pins_the_version_asked_for() {
    let query = query(&planner(&FakeCatalog::with_sales()), "SELECT id FROM sales VERSION AS OF 7").await;
    assert_eq!(query.tables[0].snapshot.version, 7);
    assert_eq!(query.features.tables[0].version, Some(7));
}

#[tokio::test]
async fn features_count_what_the_plan_does() {
    let planner = planner(&FakeCatalog::with_sales());
    let text = "SELECT region, count(DISTINCT name) AS n FROM sales s JOIN people p ON s.id = p.id WHERE s.id > 15 GROUP BY region ORDER BY n DESC LIMIT 5";
    let query = query(&planner, text).await;
    let f = &query.features;
    assert_eq!((f.scans, f.joins, f.cross_joins, f.files, f.files_total), (2, 1, 0, 4, 5));
    assert!(f.aggregates >= 1 && f.sorts == 1, "{f:?}");
    assert_eq!(f.scan_rows, Some(130));
    assert!(f.result_rows.is_some_and(|rows| rows <= 5));
    assert_eq!(f.tables.len(), 2);
    assert!(query.ordered && query.deterministic);
}

#[tokio::test]
async fn columns_that_only_the_plan_names_are_not_read() {
    let planner = planner(&FakeCatalog::with_sales());
    for text in ["SELECT region, count(*) FROM sales GROUP BY region", "SELECT region, count(*) FROM sales GROUP BY ROLLUP (region)"] {
        let query = query(&planner, text).await;
        assert_eq!(query.features.tables[0].columns, ["region"], "{text}");
        assert_eq!(query.features.columns_read, 1, "{text}");
    }
}

#[tokio::test]
async fn null_safe_equality_in_a_filter_is_no_join() {
    let query = query(&planner(&FakeCatalog::with_sales()), "SELECT id FROM sales WHERE region <=> 'eu'").await;
    assert!(query.datafusion.is_ok(), "{:?}", query.datafusion);
}

#[tokio::test]
async fn features_tell_of_rows_that_are_made() {
    let planner = planner(&FakeCatalog::with_sales());
    let of = async |text: &str| query(&planner, text).await.features.clone();
    let pairs = of("SELECT count(*) FROM sales a CROSS JOIN sales b").await;
    let each = pairs.scan_rows.unwrap() / 2;
    assert_eq!((pairs.cross_joins, pairs.produced_rows, pairs.generators), (1, each * each, 0), "{pairs:?}");
    let compared = of("SELECT count(*) FROM sales a JOIN sales b ON a.id < b.id").await;
    assert_eq!(compared.produced_rows, each * each);
    assert_eq!(of("SELECT count(*) FROM sales a JOIN sales b ON a.id = b.id").await.produced_rows, 0);
    let groups = "(SELECT id, count(*) AS n FROM sales GROUP BY id)";
    let crossed = of(&format!("SELECT a.n, b.n FROM {groups} a CROSS JOIN {groups} b")).await;
    assert!(crossed.cross_joins == 1 && (1..=each).contains(&crossed.produced_rows), "{crossed:?}");
    for text in ["SELECT count(*) FROM (SELECT explode(sequence(1, 100000000)) AS n)", "SELECT explode(sequence(200000000, 2, -2))"] {
        let made = of(text).await;
        assert_eq!((made.generators, made.produced_rows, made.array_elements), (1, 100_000_000, 100_000_000), "{text}: {made:?}");
    }
    let few = of("SELECT explode(array(id, 2)) FROM sales").await;
    assert_eq!((few.generators, few.array_elements), (1, 0), "{few:?}");
    assert!(few.produced_rows > 0);
    assert_eq!(of("SELECT collect_list(id), sum(id), max(id) FROM sales").await.collects, 1);
}

#[tokio::test]
async fn the_fingerprint_looks_past_literals_case_and_white_space() {
    let planner = planner(&FakeCatalog::with_sales());
    let of = async |text: &str| query(&planner, text).await.fingerprint;
    let first = of("SELECT id FROM sales WHERE id = 1 AND region = 'eu'").await;
    assert_eq!(first, of("select  id\nfrom SALES -- all\nwhere id=22 and region='us';").await);
    assert_ne!(first, of("SELECT id FROM sales WHERE id > 1 AND region = 'eu'").await);
}

#[tokio::test]
async fn mistakes_are_told_with_their_place_and_kind() {
    let planner = planner(&FakeCatalog::with_sales());
    let syntax = failure(&planner, "SELECT id\nFROM sales WHERE").await;
    assert_eq!(syntax.kind(), ErrorKind::InvalidArgument);
    assert!(syntax.to_string().contains("line 2"), "{syntax}");
    assert_eq!(failure(&planner, "SELECT id FROM nowhere").await.kind(), ErrorKind::NotFound);
    let column = failure(&planner, "SELECT idd FROM sales").await;
    assert_eq!(column.sql_state(), Some("42703"));
    for write in
        ["INSERT INTO sales VALUES (1)", "DROP TABLE sales", "CREATE TABLE t (a INT)", "DELETE FROM sales", "UPDATE sales SET id = 1"]
    {
        assert_eq!(failure(&planner, write).await.kind(), ErrorKind::NotEligible, "{write}");
    }
}

#[tokio::test]
async fn limits_hold_for_long_texts_and_plans_that_explode() {
    let catalog = FakeCatalog::with_sales();
    let planner = Planner::new(catalog, Config { text_bytes_max: 1_000, plan_nodes_max: 500, ..Config::default() });
    let long = format!("SELECT '{}'", "x".repeat(2_000));
    assert_eq!(failure(&planner, &long).await.kind(), ErrorKind::ResourceExhausted);
    let mut text = String::from("WITH c0 AS (SELECT id FROM sales)");
    (1..12).for_each(|i| text.push_str(&format!(", c{i} AS (SELECT a.id FROM c{p} a JOIN c{p} b ON a.id = b.id)", p = i - 1)));
    text.push_str(" SELECT * FROM c11");
    assert_eq!(failure(&planner, &text).await.kind(), ErrorKind::ResourceExhausted);
}

#[tokio::test]
async fn errors_of_constants_are_left_to_the_run() {
    let planner = planner(&FakeCatalog::with_sales());
    let query = query(&planner, "SELECT CASE WHEN id > 0 THEN 1 ELSE 1 / 0 END FROM sales").await;
    assert!(query.datafusion.is_ok(), "{:?}", query.datafusion);
}

#[test]
fn time_zones_are_checked() {
    assert!(check_time_zone("Europe/Berlin").is_ok());
    assert_eq!(check_time_zone("Mars/Olympus").expect_err("isn't one").sql_state(), Some("22009"));
    let _: Arc<str> = "UTC".into();
}
