//! The Unity Catalog endpoints.

use serde_json::{Value, json};

use crate::fixture::Simulation;

const TABLE: &str = "/api/2.1/unity-catalog/tables/main.default.people";

async fn credentials(simulation: &Simulation, user: &str, operation: &str) -> (u16, Value) {
    let (_, table) = simulation.get_as("admin", TABLE).await;
    let body = json!({"table_id": table["table_id"], "operation": operation});
    simulation.post_as(user, "/api/2.1/unity-catalog/temporary-table-credentials", body).await
}

#[tokio::test]
async fn a_table_tells_its_columns_place_and_capabilities() {
    let simulation = Simulation::start().await;
    let (status, table) =
        simulation.get_as("ann", &format!("{TABLE}?include_delta_metadata=true&include_manifest_capabilities=true")).await;
    assert_eq!((status, table["table_type"].clone()), (200, json!("MANAGED")));
    assert_eq!(table["full_name"], "main.default.people");
    let place = simulation.data.path().canonicalize().expect("a path").join("people");
    assert_eq!(table["storage_location"], format!("file://{}", place.display()));
    let column = &table["columns"][0];
    assert_eq!(
        (column["type_text"].clone(), column["type_name"].clone(), column["position"].clone()),
        (json!("bigint"), json!("LONG"), json!(0))
    );
    let spark: Value = serde_json::from_str(column["type_json"].as_str().expect("text")).expect("JSON");
    assert_eq!((spark["name"].clone(), spark["type"].clone()), (json!("id"), json!("long")));
    let capabilities = table["securable_kind_manifest"]["capabilities"].as_array().expect("a list");
    assert!(capabilities.contains(&json!("HAS_DIRECT_EXTERNAL_ENGINE_READ_SUPPORT")));
    assert_eq!(simulation.get_as("ann", "/api/2.1/unity-catalog/tables/main.default.nothing").await.0, 404);
}

#[tokio::test]
async fn rules_show_in_the_metadata_unless_hidden() {
    let simulation = Simulation::start().await;
    simulation
        .simulate("tables/main.default.people", json!({"row_filter": "id = 1", "masks": {"ssn": "'x'"}, "metadata": {"new_field": 1}}))
        .await;
    let (_, table) = simulation.get_as("ann", &format!("{TABLE}?include_manifest_capabilities=true")).await;
    assert!(table["row_filter"]["function_name"].is_string());
    assert!(table["columns"][2]["mask"]["function_name"].is_string() && table["columns"][0].get("mask").is_none());
    assert!(!table["securable_kind_manifest"].to_string().contains("DIRECT_EXTERNAL"));
    assert_eq!(table["new_field"], 1);
    simulation.simulate("tables/main.default.people", json!({"row_filter": "id = 1", "hidden": true, "capability": "unknown"})).await;
    let (_, table) = simulation.get_as("ann", &format!("{TABLE}?include_manifest_capabilities=true")).await;
    assert!(table.get("row_filter").is_none() && table.get("securable_kind_manifest").is_none());
}

#[tokio::test]
async fn credentials_are_for_reading_plain_tables_with_both_rights() {
    let simulation = Simulation::start().await;
    let (status, vended) = credentials(&simulation, "ann", "READ").await;
    assert_eq!(status, 200);
    assert!(vended["aws_temp_credentials"]["session_token"].is_string() && vended["url"].as_str().expect("a url").starts_with("file:///"));
    assert_eq!(credentials(&simulation, "ann", "READ_WRITE").await.0, 403);
    let refused = [
        json!({"row_filter": "id = 1"}),
        json!({"masks": {"ssn": "'x'"}}),
        json!({"vending_refused": true}),
        json!({"table_type": "STREAMING_TABLE"}),
        json!({"view_definition": "SELECT 1"}),
        json!({"grants": {"ann": ["SELECT"]}}),
        json!({"grants": {"ann": ["EXTERNAL_USE_SCHEMA"]}}),
    ];
    for rules in refused {
        simulation.simulate("tables/main.default.people", rules.clone()).await;
        assert_eq!(credentials(&simulation, "ann", "READ").await.0, 403, "{rules}");
    }
    simulation.simulate("tables/main.default.people", json!({})).await;
    simulation.simulate("settings", json!({"external_access": false})).await;
    assert_eq!(credentials(&simulation, "ann", "READ").await.0, 403);
}

#[tokio::test]
async fn listings_page_with_empty_pages_too() {
    let simulation = Simulation::start_with(|c| (c.settings.page_size, c.settings.empty_pages) = (1, true)).await;
    let (mut token, mut found, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let path = format!("/api/2.1/unity-catalog/tables?catalog_name=main&schema_name=default&page_token={token}");
        let (status, page) = simulation.get_as("ann", &path).await;
        assert_eq!(status, 200, "{page}");
        found.extend(page["tables"].as_array().expect("a list").iter().map(|t| t["name"].clone()));
        pages += 1;
        match page["next_page_token"].as_str() {
            Some(next) => token = next.to_string(),
            None => break,
        }
    }
    assert_eq!((found, pages), (vec![json!("numbers"), json!("people")], 4));
    simulation.simulate("settings", json!({"empty_pages": false, "page_size": 100})).await;
    let (_, catalogs) = simulation.get_as("ann", "/api/2.1/unity-catalog/catalogs").await;
    assert_eq!(catalogs["catalogs"][0]["name"], "main");
    let (_, schemas) = simulation.get_as("ann", "/api/2.1/unity-catalog/schemas?catalog_name=main").await;
    assert_eq!(schemas["schemas"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn permissions_are_ones_own_and_policies_need_manage() {
    let simulation = Simulation::start().await;
    simulation.simulate("tables/main.default.people", json!({"grants": {"ann": ["SELECT"]}, "policies": [{"name": "p"}]})).await;
    let path = "/api/2.1/unity-catalog/effective-permissions/TABLE/main.default.people";
    let (_, own) = simulation.get_as("ann", &format!("{path}?principal=ann")).await;
    assert_eq!(own["privilege_assignments"], json!([{"principal": "ann", "privileges": [{"privilege": "SELECT"}]}]));
    assert_eq!(simulation.get_as("bob", path).await, (200, json!({})));
    assert_eq!(simulation.get_as("bob", &format!("{path}?principal=ann")).await.0, 403);
    assert_eq!(simulation.get_as("bob", TABLE).await.0, 403);
    let policies = "/api/2.1/unity-catalog/policies/TABLE/main.default.people?include_inherited=true";
    assert_eq!(simulation.get_as("ann", policies).await.0, 403);
    assert_eq!(simulation.get_as("admin", policies).await.1["policies"][0]["name"], "p");
}

#[tokio::test]
async fn who_asks_is_told_with_groups_and_what_those_hold() {
    let simulation = Simulation::start_with(|config| config.settings.privileges_by_holder = true).await;
    let (status, me) = simulation.get_as("admin", "/api/2.0/preview/scim/v2/Me").await;
    assert_eq!((status, me["userName"].clone(), me["groups"][0]["display"].clone()), (200, json!("admin"), json!("hr")));
    assert_eq!(simulation.get_as("nobody", "/api/2.0/preview/scim/v2/Me").await.0, 403);
    simulation.simulate("tables/main.default.people", json!({"grants": {"hr": ["SELECT"], "ann": ["MODIFY"]}})).await;
    let path = "/api/2.1/unity-catalog/effective-permissions/table/main.default.people";
    let (_, held) = simulation.get_as("admin", path).await;
    assert_eq!(held["privilege_assignments"], json!([{"principal": "hr", "privileges": [{"privilege": "SELECT"}]}]));
}

#[tokio::test]
async fn grants_and_definitions_are_shown_to_who_may_read() {
    let simulation = Simulation::start().await;
    simulation.simulate("tables/main.default.people", json!({"grants": {"ann": ["SELECT"]}})).await;
    assert_eq!(simulation.rows("ann", "SHOW GRANTS ON people").await, json!([["ann", "SELECT", "TABLE", "main.default.people"]]));
    let shown = simulation.rows("ann", "SHOW CREATE TABLE main.default.people").await;
    assert!(shown[0][0].as_str().expect("text").starts_with("CREATE TABLE main.default.people (\n  id BIGINT,"), "{shown}");
    assert_eq!(simulation.rows("ann", "SHOW VOLUMES IN default").await, json!([]));
    for statement in ["SHOW GRANTS ON TABLE people", "SHOW CREATE TABLE people"] {
        assert!(simulation.failure("bob", statement).await.contains("SELECT"));
    }
}
