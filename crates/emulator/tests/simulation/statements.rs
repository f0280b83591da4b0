//! The statement execution API.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use base64::Engine as _;
use serde_json::{Value, json};

use crate::fixture::{NUMBERS, Simulation, arrow_rows, decompressed};

#[tokio::test]
async fn a_small_result_comes_inline_in_the_first_answer() {
    let simulation = Simulation::start().await;
    let answer =
        simulation.execute("ann", "SELECT id, name, CAST(1.5 AS DECIMAL(10,2)) AS d FROM people ORDER BY id LIMIT 1", json!({})).await;
    assert_eq!(answer["status"], json!({"state": "SUCCEEDED"}));
    assert_eq!(answer["result"]["data_array"], json!([["1", "ann", "1.50"]]));
    let columns = &answer["manifest"]["schema"]["columns"];
    assert_eq!(columns[0], json!({"name": "id", "position": 0, "type_name": "LONG", "type_text": "BIGINT"}));
    assert_eq!(columns[2]["type_text"], "DECIMAL(10,2)");
    assert_eq!((columns[2]["type_precision"].clone(), columns[2]["type_scale"].clone()), (json!(10), json!(2)));
    assert_eq!(answer["manifest"]["truncated"], false);
}

#[tokio::test]
async fn names_and_types_are_databricks_own() {
    let simulation = Simulation::start().await;
    let answer = simulation
        .execute("ann", "SELECT NULL, 1 + 1, array(1), DATE'2020-01-02', TIMESTAMP'2020-01-02 03:04:05', count(*) FROM people", json!({}))
        .await;
    let columns = answer["manifest"]["schema"]["columns"].as_array().expect("columns").clone();
    let texts: Vec<&str> = columns.iter().map(|c| c["type_text"].as_str().expect("text")).collect();
    assert_eq!(texts, ["VOID", "INT", "ARRAY<INT>", "DATE", "TIMESTAMP", "BIGINT"]);
    assert_eq!((columns[0]["type_name"].clone(), columns[1]["name"].clone()), (json!("NULL"), json!("(1 + 1)")));
    assert_eq!(answer["result"]["data_array"], json!([[null, "2", "[1]", "2020-01-02", "2020-01-02T03:04:05.000Z", "3"]]));
}

#[tokio::test]
async fn a_failure_is_http_200_with_class_and_state() {
    let simulation = Simulation::start().await;
    let answer = simulation.execute("ann", "SELEC 1", json!({})).await;
    assert_eq!(answer["status"]["state"], "FAILED");
    assert_eq!(answer["status"]["error"]["error_code"], "BAD_REQUEST");
    assert_eq!(answer["status"]["sql_state"], "42601");
    let message = answer["status"]["error"]["message"].as_str().expect("text");
    assert!(message.starts_with("[PARSE_SYNTAX_ERROR]") && message.ends_with("SQLSTATE: 42601"), "{message}");
    assert!(answer.get("manifest").is_none());
    assert!(simulation.failure("ann", "SELECT 1 / (id - id) FROM people").await.starts_with("[DIVIDE_BY_ZERO]"));
}

#[tokio::test]
async fn chunks_come_by_signed_links_as_several_lz4_frames() {
    let simulation = Simulation::start_with(|c| (c.settings.chunk_rows, c.settings.links_per_answer) = (300, 2)).await;
    let wanted = json!({"disposition": "EXTERNAL_LINKS", "format": "ARROW_STREAM", "result_compression": "LZ4_FRAME"});
    let answer = simulation.execute("ann", "SELECT n FROM numbers ORDER BY n", wanted).await;
    let manifest = &answer["manifest"];
    assert_eq!((manifest["total_chunk_count"].clone(), manifest["total_row_count"].clone()), (json!(4), json!(NUMBERS)));
    assert_eq!(answer["result"]["external_links"].as_array().expect("links").len(), 2);

    let id = answer["statement_id"].as_str().expect("an id");
    let mut numbers = Vec::new();
    for chunk in 0..4 {
        let (_, bare) = simulation.get_as("ann", &format!("/api/2.0/sql/statements/{id}/result/chunks/{chunk}")).await;
        let link = &bare["external_links"][0];
        assert_eq!(link["chunk_index"], chunk);
        assert_eq!(link["next_chunk_index"], if chunk < 3 { json!(chunk + 1) } else { Value::Null });
        let (plain, frames) = decompressed(&simulation.download(link).await.expect("downloads"));
        assert!(frames > 1, "{frames}");
        assert_eq!(manifest["chunks"][chunk]["byte_count"], plain.len());
        for batch in arrow_rows(&plain) {
            numbers.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
        }
    }
    assert_eq!(numbers, (0..NUMBERS).collect::<Vec<_>>());
}

#[tokio::test]
async fn storage_refuses_authorization_missing_headers_and_wrong_signatures() {
    let simulation = Simulation::start().await;
    let answer = simulation.execute("ann", "SELECT 1", json!({"disposition": "EXTERNAL_LINKS", "format": "ARROW_STREAM"})).await;
    let link = &answer["result"]["external_links"][0];
    let url = link["external_link"].as_str().expect("a link");
    let key = link["http_headers"].as_object().expect("headers").iter().next().expect("one");
    let with_token =
        simulation.http.get(url).header(key.0, key.1.as_str().expect("text")).bearer_auth("token-ann").send().await.expect("answers");
    assert_eq!(with_token.status(), 400);
    assert_eq!(simulation.http.get(url).send().await.expect("answers").status(), 403);
    let forged = simulation.http.get(format!("{url}x")).header(key.0, key.1.as_str().expect("text")).send().await.expect("answers");
    assert_eq!(forged.status(), 403);
    simulation.download(link).await.expect("downloads");
    let counters = simulation.counters().await;
    assert_eq!((counters["storage_requests"].clone(), counters["storage_requests_with_authorization"].clone()), (json!(4), json!(1)));
}

#[tokio::test]
async fn small_arrow_results_are_attached_where_the_wire_allows() {
    let simulation = Simulation::start().await;
    let wanted = json!({"disposition": "INLINE_OR_EXTERNAL_LINKS", "format": "ARROW_STREAM", "result_compression": "LZ4_FRAME"});
    let answer = simulation.execute("ann", "SELECT id FROM people", wanted.clone()).await;
    let body =
        base64::engine::general_purpose::STANDARD.decode(answer["result"]["attachment"].as_str().expect("attached")).expect("base64");
    assert_eq!(arrow_rows(&decompressed(&body).0).iter().map(|b| b.num_rows()).sum::<usize>(), 3);
    simulation.simulate("settings", json!({"attachment_bytes_max": 10})).await;
    let answer = simulation.execute("ann", "SELECT id FROM people", wanted).await;
    assert!(answer["result"]["external_links"][0]["external_link"].is_string(), "{answer}");
}

#[tokio::test]
async fn inline_fails_above_its_limit_and_others_truncate() {
    let simulation = Simulation::start_with(|c| c.settings.inline_bytes_max = 100).await;
    let message = simulation.failure("ann", "SELECT n FROM numbers").await;
    assert!(message.contains("Inline byte limit exceeded"), "{message}");
    let limited = json!({"disposition": "EXTERNAL_LINKS", "row_limit": 10});
    let answer = simulation.execute("ann", "SELECT n FROM numbers", limited).await;
    assert_eq!((answer["manifest"]["truncated"].clone(), answer["manifest"]["total_row_count"].clone()), (json!(true), json!(10)));
    let enough = json!({"disposition": "EXTERNAL_LINKS", "row_limit": NUMBERS});
    let answer = simulation.execute("ann", "SELECT n FROM numbers", enough).await;
    assert_eq!((answer["manifest"]["truncated"].clone(), answer["manifest"]["total_row_count"].clone()), (json!(false), json!(NUMBERS)));
    let bytes = json!({"disposition": "EXTERNAL_LINKS", "byte_limit": 50});
    assert_eq!(simulation.execute("ann", "SELECT n FROM numbers", bytes).await["manifest"]["truncated"], true);
}

#[tokio::test]
async fn an_empty_result_has_a_schema_and_no_chunk() {
    let simulation = Simulation::start().await;
    let answer = simulation.execute("ann", "SELECT id FROM people WHERE id > 9", json!({})).await;
    assert_eq!((answer["manifest"]["total_chunk_count"].clone(), answer["result"].clone()), (json!(0), json!({})));
    assert_eq!(answer["manifest"]["schema"]["column_count"], 1);
}

#[tokio::test]
async fn parameters_are_values_and_nothing_else() {
    let simulation = Simulation::start().await;
    let query =
        "SELECT name FROM people WHERE id >= :least AND name <> :other AND (name LIKE '%:least%') IS NOT NULL ORDER BY id LIMIT :most";
    let parameters = json!({"parameters": [
        {"name": "least", "value": "2", "type": "BIGINT"},
        {"name": "other", "value": "x' OR '1'='1"},
        {"name": "most", "value": "1", "type": "INT"},
    ]});
    let answer = simulation.execute("ann", query, parameters).await;
    assert_eq!(answer["result"]["data_array"], json!([["bob"]]), "{answer}");
    let positional = json!({"parameters": [{"value": "3", "type": "INT"}, {"type": "INT"}]});
    let answer = simulation
        .execute(
            "ann",
            "SELECT name, ? FROM people WHERE id = ? OR id IS NULL",
            json!({"parameters": [{"value": "a"}, {"value": "3", "type": "INT"}]}),
        )
        .await;
    assert_eq!(answer["result"]["data_array"], json!([["cy", "a"]]), "{answer}");
    let answer = simulation.execute("ann", "SELECT ? + 1, ? IS NULL", positional).await;
    assert_eq!(answer["result"]["data_array"], json!([["4", "true"]]), "{answer}");
    assert!(simulation.failure("ann", "SELECT :missing").await.starts_with("[UNBOUND_SQL_PARAMETER]"));
}

#[tokio::test]
async fn describe_query_tells_a_querys_columns_and_commands_are_answered() {
    let simulation = Simulation::start().await;
    let rows = simulation.rows("ann", "DESCRIBE QUERY SELECT id, name AS n FROM people").await;
    assert_eq!(rows, json!([["id", "bigint", null], ["n", "string", null]]));
    assert_eq!(simulation.rows("ann", "DESCRIBE people").await.as_array().expect("rows").len(), 3);
    assert!(simulation.rows("ann", "SHOW TABLES").await.to_string().contains("numbers"));
    assert!(simulation.failure("ann", "VACUUM people").await.contains("simulated Databricks"));
}

#[tokio::test]
async fn waiting_ends_as_asked_and_cancelling_cancels() {
    let simulation = Simulation::start().await;
    simulation.simulate("faults", json!({"never_finish": true, "times": 0})).await;
    let answer = simulation.execute("ann", "SELECT 1", json!({"wait_timeout": "0s"})).await;
    assert!(["PENDING", "RUNNING"].contains(&answer["status"]["state"].as_str().expect("state")), "{answer}");
    let id = answer["statement_id"].as_str().expect("an id");
    assert_eq!(simulation.get_as("bob", &format!("/api/2.0/sql/statements/{id}")).await.0, 404);
    assert_eq!(simulation.post_as("ann", &format!("/api/2.0/sql/statements/{id}/cancel"), json!({})).await, (200, Value::Null));
    assert_eq!(simulation.end("ann", id).await["status"]["state"], "CANCELED");
    let (status, _) = simulation
        .post_as("ann", "/api/2.0/sql/statements", json!({"statement": "SELECT 1", "warehouse_id": "w", "wait_timeout": "3s"}))
        .await;
    assert_eq!(status, 400);
    let answer = simulation.execute("ann", "SELECT 2", json!({"wait_timeout": "5s", "on_wait_timeout": "CANCEL"})).await;
    assert_eq!(answer["status"]["state"], "CANCELED");
}

#[tokio::test]
async fn requests_without_a_known_token_are_refused() {
    let simulation = Simulation::start().await;
    let url = format!("{}/api/2.0/sql/warehouses/w", simulation.url);
    assert_eq!(simulation.http.get(&url).send().await.expect("answers").status(), 401);
    assert_eq!(simulation.http.get(&url).bearer_auth("wrong").send().await.expect("answers").status(), 403);
    simulation.simulate("revoke", json!({"token": "token-bob"})).await;
    assert_eq!(simulation.get_as("bob", "/api/2.0/sql/warehouses/w").await.0, 403);
}

#[tokio::test]
async fn oauth_issues_tokens_for_clients_and_for_users_jwts_and_they_expire() {
    let simulation = Simulation::start().await;
    let (_, discovered) = simulation.get_as("ann", "/oidc/.well-known/oauth-authorization-server").await;
    let endpoint = discovered["token_endpoint"].as_str().expect("an endpoint");
    let form = [("grant_type", "client_credentials"), ("scope", "all-apis")];
    let issued: Value = simulation
        .http
        .post(endpoint)
        .basic_auth("id", Some("secret"))
        .form(&form)
        .send()
        .await
        .expect("answers")
        .json()
        .await
        .expect("JSON");
    let who = |token: String| async move {
        let body = json!({"statement": "SELECT current_user()", "warehouse_id": "w"});
        let request = simulation.http.post(format!("{}/api/2.0/sql/statements", simulation.url)).bearer_auth(token).json(&body);
        let response = request.send().await.expect("answers");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON")["result"]["data_array"].clone(), simulation)
    };
    let (status, rows, simulation) = who(issued["access_token"].as_str().expect("a token").to_string()).await;
    assert_eq!((status, rows), (200, json!([["ann"]])));

    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json!({"sub": "subject-of-ann"}).to_string());
    let jwt = format!("x.{claims}.x");
    let exchange = |subject: String| {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange".to_string()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt".to_string()),
            ("subject_token", subject),
        ];
        simulation.http.post(endpoint).form(&form).send()
    };
    let answer = exchange(jwt.clone()).await.expect("answers");
    assert_eq!(answer.status(), 200);
    assert_eq!(exchange("x.y.z".into()).await.expect("answers").status(), 401);
    simulation.simulate("settings", json!({"oauth_token_lifetime_ms": 0})).await;
    let issued: Value = exchange(jwt).await.expect("answers").json().await.expect("JSON");
    let expired = issued["access_token"].as_str().expect("a token");
    let response =
        simulation.http.get(format!("{}/api/2.0/sql/warehouses", simulation.url)).bearer_auth(expired).send().await.expect("answers");
    assert_eq!(response.status(), 401);
}
