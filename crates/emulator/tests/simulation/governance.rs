//! Row filters, masks, views and rights: no way of writing a statement gets round them.

use serde_json::{Value, json};

use crate::fixture::Simulation;

async fn governed() -> Simulation {
    let simulation = Simulation::start().await;
    let rules = json!({
        "row_filter": "name = current_user() OR is_account_group_member('hr')",
        "masks": {"ssn": "CASE WHEN is_account_group_member('hr') THEN ssn ELSE '***' END"},
    });
    simulation.simulate("tables/main.default.people", rules).await;
    simulation
}

#[tokio::test]
async fn filters_and_masks_follow_who_asks() {
    let simulation = governed().await;
    assert_eq!(simulation.rows("ann", "SELECT * FROM people").await, json!([["1", "ann", "***"]]));
    assert_eq!(simulation.rows("bob", "SELECT * FROM people").await, json!([["2", "bob", "***"]]));
    let all = simulation.rows("admin", "SELECT ssn FROM people ORDER BY id").await;
    assert_eq!(all, json!([["secret-1"], ["secret-2"], ["secret-3"]]));
}

#[tokio::test]
async fn no_form_of_reference_yields_a_governed_value() {
    let simulation = governed().await;
    let ways = [
        "SELECT p.ssn FROM people p",
        "SELECT ssn FROM main.default.people",
        "SELECT people.ssn FROM `PEOPLE` /* people */",
        "SELECT x.* FROM `main`.`default`.`people` AS x",
        "SELECT ssn FROM (SELECT * FROM default.people)",
        "WITH people AS (SELECT * FROM people) SELECT ssn FROM people",
        "WITH a AS (SELECT * FROM people), b AS (SELECT * FROM a) SELECT ssn FROM b",
        "SELECT (SELECT max(ssn) FROM people)",
        "SELECT n FROM numbers WHERE EXISTS (SELECT 1 FROM people WHERE ssn LIKE 'secret%')",
        "SELECT n FROM numbers WHERE CAST(n AS STRING) IN (SELECT substr(ssn, 8) FROM people)",
        "SELECT a.ssn FROM people a JOIN people b ON a.id = b.id",
        "SELECT ssn FROM people UNION ALL SELECT ssn FROM people",
        "SELECT t.ssn FROM numbers, LATERAL (SELECT ssn FROM people WHERE id = n) t",
        "TABLE people",
        "FROM people SELECT ssn",
        "SELECT ssn FROM people VERSION AS OF 0",
        "SELECT ssn FROM people@v0",
        "SELECT ssn FROM people TABLESAMPLE (100 PERCENT)",
        "SELECT * FROM people PIVOT (max(ssn) FOR id IN (1, 2, 3))",
        "SELECT * FROM parquet.`/people`",
        "SELECT * FROM read_files('/people')",
        "SELECT ssn FROM people ORDER BY (SELECT max(ssn) FROM people)",
        "EXPLAIN SELECT * FROM people WHERE ssn = (SELECT max(ssn) FROM people)",
        "EXPLAIN EXTENDED SELECT ssn FROM people",
        "DESCRIBE SELECT ssn FROM people",
        "DESCRIBE DETAIL people",
        "SELECT 'é', '\u{1F600}', ssn FROM people",
        "SELECT ssn -- people\nFROM people -- trailing",
        "SELECT ssn FROM people;",
    ];
    for way in ways {
        let answer = simulation.execute("ann", way, json!({})).await;
        let text = answer.to_string();
        assert!(!text.contains("secret-"), "{way}: {text}");
        assert!(!text.contains("__simulated_plain_"), "{way}: {text}");
        let rows = answer["result"]["data_array"].as_array().map_or(0, Vec::len);
        assert!(rows <= 4 || way.starts_with("EXPLAIN") || way.starts_with("DESC"), "{way}: {text}");
    }
    assert!(simulation.failure("ann", "SELECT * FROM main.`__simulated_plain_x_default`.people").await.contains("__simulated_plain_"));
    assert_eq!(simulation.rows("ann", "WITH people AS (SELECT * FROM people) SELECT ssn FROM people").await, json!([["***"]]));
    assert_eq!(simulation.rows("ann", "WITH people AS (SELECT 7 AS id) SELECT id FROM people").await, json!([["7"]]));
}

#[tokio::test]
async fn a_filter_may_read_tables_that_its_reader_may_not() {
    let simulation = Simulation::start().await;
    simulation.simulate("tables/main.default.numbers", json!({"grants": {"admin": ["SELECT"]}})).await;
    simulation.simulate("tables/main.default.people", json!({"row_filter": "id IN (SELECT n FROM numbers WHERE n < 2)"})).await;
    assert!(simulation.failure("ann", "SELECT n FROM numbers").await.starts_with("[INSUFFICIENT_PERMISSIONS]"));
    assert_eq!(simulation.rows("ann", "SELECT id FROM people").await, json!([["1"]]));
}

#[tokio::test]
async fn rights_are_checked_wherever_a_table_is_named() {
    let simulation = Simulation::start().await;
    simulation.simulate("tables/main.default.people", json!({"grants": {"hr": ["SELECT"], "bob": ["EXTERNAL USE SCHEMA"]}})).await;
    for way in
        ["SELECT 1 FROM people", "SELECT (SELECT max(ssn) FROM people)", "TABLE people", "DESCRIBE people", "DESCRIBE HISTORY people"]
    {
        let answer = simulation.execute("bob", way, json!({})).await;
        assert_eq!(answer["status"]["sql_state"], "42501", "{way}: {answer}");
    }
    assert_eq!(simulation.rows("admin", "SELECT count(*) FROM people").await, json!([["3"]]));
}

#[tokio::test]
async fn views_read_with_their_owners_rights_and_keep_filters_for_the_reader() {
    let simulation = governed().await;
    simulation.simulate("tables/main.default.numbers", json!({"grants": {}})).await;
    simulation
        .simulate("tables/main.default.v", json!({"view_definition": "SELECT p.name, p.ssn, n FROM people p JOIN numbers ON n = id"}))
        .await;
    assert_eq!(simulation.rows("bob", "SELECT * FROM v").await, json!([["bob", "***", "2"]]));
    assert_eq!(simulation.rows("bob", "SELECT w.name FROM main.default.v w").await, json!([["bob"]]));
    simulation.simulate("tables/main.default.loop", json!({"view_definition": "SELECT * FROM loop"})).await;
    assert!(simulation.failure("bob", "SELECT * FROM loop").await.contains("without end"));
}

#[tokio::test]
async fn a_rule_holds_from_the_next_statement_on() {
    let simulation = Simulation::start().await;
    let query = "SELECT ssn FROM people WHERE id = 1";
    assert_eq!(simulation.rows("ann", query).await, json!([["secret-1"]]));
    simulation.simulate("tables/main.default.people", json!({"masks": {"SSN": "'***'"}, "hidden": true})).await;
    assert_eq!(simulation.rows("ann", query).await, json!([["***"]]));
    let removed =
        simulation.http.delete(format!("{}/simulation/tables/main.default.people", simulation.url)).send().await.expect("answers");
    assert_eq!(removed.status(), 200);
    assert_eq!(simulation.rows("ann", query).await, json!([["secret-1"]]));
}

#[tokio::test]
async fn a_mask_keeps_its_columns_type_and_must_be_of_a_column() {
    let simulation = Simulation::start().await;
    simulation.simulate("tables/main.default.people", json!({"masks": {"id": "0"}})).await;
    let answer = simulation.execute("ann", "SELECT id FROM people LIMIT 1", json!({})).await;
    assert_eq!(answer["manifest"]["schema"]["columns"][0]["type_text"], "BIGINT");
    assert_eq!(answer["result"]["data_array"], json!([["0"]]));
    simulation.simulate("tables/main.default.people", json!({"masks": {"nothing": "0"}})).await;
    assert!(simulation.failure("ann", "SELECT id FROM people").await.contains("nothing"));
    let writes: Value = json!({"masks": {"ssn": "'x'"}});
    simulation.simulate("tables/main.default.people", writes).await;
    assert!(simulation.failure("ann", "DELETE FROM people").await.contains("row filters or column masks"));
}
