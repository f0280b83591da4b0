use flightpath_plan::Statement;
use flightpath_types::ErrorKind;

use crate::catalog::FakeCatalog;
use crate::{failure, local, plan, planner, rows};

fn names(result: &flightpath_plan::LocalResult) -> Vec<&str> {
    result.schema.fields().iter().map(|f| f.name().as_str()).collect()
}

#[tokio::test]
async fn show_lists_what_the_catalog_has() {
    let planner = planner(&FakeCatalog::with_sales());
    let catalogs = local(&planner, "SHOW CATALOGS LIKE 'l*'").await;
    assert_eq!((names(&catalogs), rows(&catalogs)), (vec!["catalog"], vec![vec!["lake".to_string()]]));
    let schemas = local(&planner, "SHOW SCHEMAS").await;
    assert_eq!((names(&schemas), rows(&schemas).len()), (vec!["databaseName"], 2));
    let tables = local(&planner, "SHOW TABLES IN lake.default LIKE 's*|x'").await;
    assert_eq!(names(&tables), ["database", "tableName", "isTemporary"]);
    assert_eq!(rows(&tables), [["default", "sales", "false"]]);
    let columns = local(&planner, "SHOW COLUMNS IN people").await;
    assert_eq!((names(&columns), rows(&columns)), (vec!["col_name"], vec![vec!["id".to_string()], vec!["name".to_string()]]));
    let properties = local(&planner, "SHOW TBLPROPERTIES sales").await;
    assert_eq!(rows(&properties), [["delta.appendOnly", "true"]]);
    assert!(!rows(&local(&planner, "SHOW FUNCTIONS LIKE 'c*'").await).is_empty());
}

#[tokio::test]
async fn describe_tells_columns_partitions_detail_and_history() {
    let planner = planner(&FakeCatalog::with_sales());
    let table = local(&planner, "DESCRIBE TABLE EXTENDED sales").await;
    assert_eq!(names(&table), ["col_name", "data_type", "comment"]);
    let all = rows(&table);
    assert_eq!(all[0], ["id", "int", "NULL"]);
    assert_eq!(all[1], ["amount", "decimal(10,2)", "NULL"]);
    assert!(all.iter().any(|r| r[0] == "# Partition Information"));
    assert!(all.iter().any(|r| r[0] == "Location" && r[1] == "/data/table"));
    let detail = local(&planner, "DESCRIBE DETAIL sales").await;
    assert_eq!(names(&detail)[..3], ["format", "id", "name"]);
    assert_eq!(rows(&detail)[0][..3], ["delta", "1-2-3", "lake.default.sales"]);
    let history = local(&planner, "DESCRIBE HISTORY sales LIMIT 2").await;
    assert_eq!(names(&history)[..5], ["version", "timestamp", "userId", "userName", "operation"]);
    assert_eq!(rows(&history).iter().map(|r| r[0].clone()).collect::<Vec<_>>(), ["2", "1"]);
    let query = local(&planner, "DESCRIBE QUERY SELECT id AS x FROM sales").await;
    assert_eq!(rows(&query), [["x", "int", "NULL"]]);
    assert_eq!(failure(&planner, "DESCRIBE nowhere").await.kind(), ErrorKind::NotFound);
    assert_eq!(failure(&planner, "DESCRIBE sales nocolumn").await.sql_state(), Some("42703"));
}

#[tokio::test]
async fn explain_shows_plan_schema_and_what_engines_are_asked() {
    let planner = planner(&FakeCatalog::with_sales());
    let explained = local(&planner, "EXPLAIN EXTENDED SELECT id FROM sales WHERE region = 'us'").await;
    assert_eq!(names(&explained), ["plan"]);
    let text = &rows(&explained)[0][0];
    for part in [
        "== Typed Plan ==",
        "== Optimized Plan ==",
        "id: int",
        "1 of 4 files",
        "SELECT s0.\"id\" AS c0 FROM s0",
        "== DataFusion ==\neligible",
    ] {
        assert!(text.contains(part), "{part} isn't in\n{text}");
    }
    let route = plan(&planner, "/* x */ explain Route SELECT id FROM sales").await;
    assert!(matches!(route.statement, Statement::ExplainRoute(_)));
    assert_eq!(route.statement.schema().field(0).name(), "engine");
    let wrong = failure(&planner, "EXPLAIN ROUTE\n  SELECT idd FROM sales").await;
    assert!(wrong.to_string().contains("line 2, column 10"), "{wrong}");
    assert_eq!(failure(&planner, "EXPLAIN ROUTE SHOW TABLES").await.kind(), ErrorKind::InvalidArgument);
}

async fn assignments(text: &str) -> Vec<(String, String)> {
    let planner = planner(&FakeCatalog::with_sales());
    match plan(&planner, text).await.statement {
        Statement::SetSession { assignments, .. } => assignments,
        other => panic!("{text} sets nothing: {other:?}"),
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_string(), value.to_string())
}

#[tokio::test]
async fn use_and_set_are_checked_and_handed_on() {
    assert_eq!(assignments("USE CATALOG LAKE").await, [pair("catalog", "lake"), pair("schema", "default")]);
    assert_eq!(assignments("USE other").await, [pair("schema", "other")]);
    assert_eq!(assignments("USE system.Default").await, [pair("catalog", "system"), pair("schema", "default")]);
    assert_eq!(assignments("SET engine = duckdb").await, [pair("engine", "duckdb")]);
    assert_eq!(assignments("SET TIME ZONE 'Asia/Tokyo'").await, [pair("time_zone", "Asia/Tokyo")]);
    assert_eq!(assignments("SET spark.sql.session.timeZone = Asia/Tokyo").await, [pair("time_zone", "Asia/Tokyo")]);
    assert_eq!(assignments("SET ansi_mode = true").await, []);
    assert_eq!(assignments("SET catalog = LAKE").await, [pair("catalog", "lake"), pair("schema", "default")]);
    assert_eq!(assignments("SET schema = 'Other'").await, [pair("schema", "other")]);
    assert_eq!(assignments("RESET catalog").await, [pair("catalog", ""), pair("schema", "default")]);
    assert_eq!(assignments("RESET tag").await, [pair("tag", "")]);
    assert!(assignments("RESET").await.iter().all(|(name, _)| name != "catalog"));
    let planner = planner(&FakeCatalog::with_sales());
    assert_eq!(failure(&planner, "USE nowhere").await.kind(), ErrorKind::NotFound);
    for (text, there) in [("SET catalog = 'nope'", "There are: lake, system"), ("SET schema = nope", "There are: default, other")] {
        let error = failure(&planner, text).await;
        assert!(error.kind() == ErrorKind::NotFound && error.message().contains(there), "{error}");
    }
    let long = failure(&planner, &format!("SET tag = '{}'", "x".repeat(1_025))).await;
    assert!(long.kind() == ErrorKind::InvalidArgument && long.message().contains("1024"), "{long}");
    assert_eq!(failure(&planner, "SET TIME ZONE 'Mars'").await.sql_state(), Some("22009"));
    assert_eq!(failure(&planner, "SET nonsense = 1").await.kind(), ErrorKind::InvalidArgument);
    assert_eq!(failure(&planner, "SET ansi_mode = false").await.kind(), ErrorKind::NotEligible);
    let all = local(&planner, "SET").await;
    assert!(rows(&all).contains(&vec!["catalog".to_string(), "lake".to_string()]));
    assert_eq!(rows(&local(&planner, "SET time_zone").await), [["time_zone", "UTC"]]);
}
