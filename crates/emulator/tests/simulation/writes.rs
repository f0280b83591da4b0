//! Statements that change data, as commits of real Delta tables.

use serde_json::json;

use crate::fixture::Simulation;

#[tokio::test]
async fn a_created_table_takes_inserts_and_deletes_and_reads_its_own_writes() {
    let simulation = Simulation::start().await;
    let created = simulation.rows("ann", "CREATE TABLE copy AS SELECT id, name, DATE'2020-01-01' AS d FROM people WHERE id < 3").await;
    assert_eq!(created, json!([["2", "2"]]));
    assert_eq!(simulation.rows("ann", "INSERT INTO copy (name, id) VALUES ('dan', 4), ('eve', 5);").await, json!([["2", "2"]]));
    assert_eq!(
        simulation.rows("ann", "INSERT INTO TABLE main.default.copy SELECT id, ssn, NULL FROM people WHERE id = 3").await,
        json!([["1", "1"]])
    );
    let rows = simulation.rows("ann", "SELECT id, name, d FROM copy ORDER BY id").await;
    let expected =
        json!([["1", "ann", "2020-01-01"], ["2", "bob", "2020-01-01"], ["3", "secret-3", null], ["4", "dan", null], ["5", "eve", null],]);
    assert_eq!(rows, expected);
    assert_eq!(simulation.rows("ann", "DELETE FROM copy WHERE d IS NULL").await, json!([["3"]]));
    assert_eq!(simulation.rows("ann", "SELECT count(*) FROM copy").await, json!([["2"]]));
    assert_eq!(simulation.rows("ann", "SELECT count(*) FROM copy VERSION AS OF 1").await, json!([["4"]]));
    let (_, table) = simulation.get_as("ann", "/api/2.1/unity-catalog/tables/main.default.copy?include_delta_metadata=true").await;
    assert_eq!((table["data_source_format"].clone(), table["properties"]["delta.lastUpdateVersion"].clone()), (json!("DELTA"), json!("3")));
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_and_leaves_nothing() {
    let simulation = Simulation::start().await;
    assert!(simulation.failure("ann", "CREATE TABLE people AS SELECT 1 AS a").await.starts_with("[TABLE_OR_VIEW_ALREADY_EXISTS]"));
    assert!(simulation.failure("ann", "CREATE TABLE t AS SELECT 1 / 0 AS a").await.starts_with("[DIVIDE_BY_ZERO]"));
    assert!(simulation.failure("ann", "CREATE TABLE t AS SELECT NULL AS a").await.contains("VOID"));
    assert!(!simulation.data.path().join("t").exists());
    assert!(simulation.failure("ann", "INSERT INTO people SELECT * FROM people").await.contains("isn't a Delta table"));
    assert!(simulation.failure("ann", "CREATE TABLE `../t` AS SELECT 1 AS a").await.contains("letters, digits"));
    simulation.rows("ann", "CREATE TABLE t AS SELECT 1 AS a").await;
    simulation.simulate("tables/main.default.t", json!({"grants": {"ann": ["SELECT"]}})).await;
    assert!(simulation.failure("ann", "INSERT INTO t VALUES (2)").await.starts_with("[INSUFFICIENT_PERMISSIONS]"));
    assert_eq!(simulation.rows("ann", "SELECT * FROM t").await, json!([["1"]]));
}
