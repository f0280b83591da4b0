//! Free means that every condition holds, whatever the metadata look like.

use std::time::{Duration, Instant};

use flightpath_catalog::{AccessRules, TableName};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::fake::{Fake, ann, latest, reason, table};
use crate::answers::{Permissions, TableInfo};
use crate::eligibility::{Evidence, Policies, READ_CAPABILITY, Vending, eligibility};

const LIFETIME: Duration = Duration::from_secs(300);

fn choice(values: Vec<Option<Value>>) -> impl Strategy<Value = Option<Value>> {
    prop::sample::select(values)
}

/// The good value in most cases, so that tables which are free come up, too.
fn mostly(good: Option<Value>, others: Vec<Option<Value>>) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![6 => Just(good), 1 => choice(others)]
}

fn answers() -> impl Strategy<Value = Value> {
    let clear = vec![None, Some(Value::Null)];
    let rules = vec![Some(json!({})), Some(json!({"function_name": "f"})), Some(json!(false)), Some(json!("f"))];
    let table_type = mostly(
        Some(json!("MANAGED")),
        vec![
            Some(json!("EXTERNAL")),
            Some(json!("VIEW")),
            Some(json!("MANAGED_SHALLOW_CLONE")),
            Some(json!("FOREIGN")),
            Some(json!("managed")),
            Some(json!("NEW_TYPE")),
            Some(json!(3)),
            Some(Value::Null),
            None,
        ],
    );
    let format = mostly(Some(json!("DELTA")), vec![Some(json!("ICEBERG")), Some(json!("DELTASHARING")), Some(json!("delta")), None]);
    let filter = prop_oneof![6 => choice(clear.clone()), 1 => choice(rules.clone())];
    let mask = prop_oneof![6 => choice(clear), 1 => choice(rules)];
    let capabilities = mostly(
        Some(json!([READ_CAPABILITY])),
        vec![
            None,
            Some(Value::Null),
            Some(json!([])),
            Some(json!(["OTHER"])),
            Some(json!([READ_CAPABILITY, 3])),
            Some(json!(READ_CAPABILITY)),
        ],
    );
    let top_level = mostly(None, vec![Some(json!([READ_CAPABILITY])), Some(json!([])), Some(json!({}))]);
    let unknown = mostly(None, vec![Some(json!(true)), Some(json!(null)), Some(json!({"a": 1}))]);
    let telling = prop::sample::select(vec!["browse_only", "view_definition", "pipeline_id", "deleted_at", "encryption_details"]);
    let told = mostly(None, vec![Some(json!(true)), Some(json!("x")), Some(json!(false)), Some(json!(1))]);
    let name = mostly(Some(json!("sales")), vec![Some(json!("SALES")), Some(json!("other")), None]);
    (table_type, format, filter, mask, capabilities, top_level, unknown, telling, told, name).prop_map(
        |(table_type, format, filter, mask, capabilities, top_level, unknown, telling, told, name)| {
            let mut answer = table("file:///data/sales");
            let fields: &mut Map<String, Value> = answer.as_object_mut().unwrap();
            let mut set = |field: &str, value: Option<Value>| match value {
                Some(value) => drop(fields.insert(field.into(), value)),
                None => drop(fields.remove(field)),
            };
            set("table_type", table_type);
            set("data_source_format", format);
            set("row_filter", filter);
            set("securable_kind_manifest", capabilities.map(|list| json!({"capabilities": list})));
            set("manifest_capabilities", top_level);
            set("a_field_of_next_year", unknown);
            set(telling, told);
            set("name", name);
            if let Some(mask) = mask {
                answer["columns"][0]["mask"] = mask;
            }
            answer
        },
    )
}

fn held() -> impl Strategy<Value = Option<bool>> {
    prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)]
}

fn absent(answer: &Value, field: &str) -> bool {
    answer.get(field).is_none_or(Value::is_null)
}

/// Every condition, written down a second time and from the answer itself.
fn all_clear(answer: &Value) -> bool {
    let nested = &answer["securable_kind_manifest"]["capabilities"];
    let lists: Vec<&Value> = [nested, &answer["manifest_capabilities"]].into_iter().filter(|list| !list.is_null()).collect();
    let able =
        |list: &&Value| list.as_array().is_some_and(|list| list.contains(&json!(READ_CAPABILITY)) && list.iter().all(Value::is_string));
    let quiet = ["browse_only", "view_definition", "pipeline_id", "deleted_at", "encryption_details"];
    (answer["table_type"] == "MANAGED" || answer["table_type"] == "EXTERNAL")
        && answer["data_source_format"] == "DELTA"
        && absent(answer, "row_filter")
        && absent(&answer["columns"][0], "mask")
        && !lists.is_empty()
        && lists.iter().all(able)
        && absent(answer, "a_field_of_next_year")
        && quiet.iter().all(|field| absent(answer, field) || answer[field] == false)
        && answer["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("sales"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn free_implies_every_condition(
        answer in answers(),
        (use_catalog, use_schema, external_use_schema, select) in (held(), held(), held(), held()),
        policies in prop_oneof![8 => Just(Policies::NoneSeen), 1 => Just(Policies::Some), 1 => Just(Policies::Unknown)],
        vending in prop_oneof![8 => Just(Vending::Granted), 1 => Just(Vending::Refused("no".into()))],
        stored_here in prop::bool::weighted(0.9),
        age_seconds in prop_oneof![8 => 0u64..300, 1 => 300u64..10_000],
    ) {
        let asked_for = TableName::new("main", "shop", "sales");
        let table = TableInfo::read(&asked_for, &answer);
        let permissions = Permissions { use_catalog, use_schema, external_use_schema, select };
        let asked = Instant::now();
        let evidence = Evidence {
            table: &table,
            permissions: &permissions,
            policies,
            vending: &vending,
            storage: if stored_here { Ok(()) } else { Err("elsewhere".into()) },
            asked,
        };
        let free = eligibility(&evidence, asked + Duration::from_secs(age_seconds), LIFETIME) == AccessRules::Free;
        let may = [use_catalog, use_schema, external_use_schema, select] == [Some(true); 4]
            && policies == Policies::NoneSeen
            && vending == Vending::Granted
            && stored_here
            && age_seconds < 300;
        prop_assert_eq!(free, may && all_clear(&answer), "{} {:?}", answer, permissions);
    }
}

#[tokio::test]
async fn reasons_say_what_keeps_a_table_in_databricks() {
    let cases: Vec<(&str, Value, &str)> = vec![
        ("row_filter", json!({"function_name": "f"}), "row filter"),
        ("table_type", json!("MATERIALIZED_VIEW"), "owner's rights"),
        ("table_type", json!("QUANTUM_TABLE"), "QUANTUM_TABLE"),
        ("data_source_format", json!("ICEBERG"), "ICEBERG"),
        ("securable_kind_manifest", json!({"capabilities": []}), "doesn't let other engines"),
        ("securable_kind_manifest", Value::Null, "isn't known whether"),
        ("storage_location", json!("dbfs:/sales"), "stored in `dbfs:`, which Databricks alone reads"),
        ("storage_location", json!("s3://bucket"), "a whole bucket"),
        ("storage_location", json!("s3://bucket/a%2Fb"), "characters that aren't supported"),
        ("storage_location", json!("abfss://c@elsewhere.example/sales"), "known Azure cloud"),
        ("storage_location", json!("file:///etc"), "no folder of the settings"),
        ("columns", json!([{"name": "id", "type_text": "int", "mask": {"function_name": "m"}}]), "`id` has a mask"),
        ("columns", json!([{"name": "id", "type_text": "int", "veil": 1}]), "`veil`"),
    ];
    for (field, value, expected) in cases {
        let fake = Fake::new();
        fake.set("main.shop.sales", field, value);
        let snapshot = latest(&fake.catalog(), &ann()).await.unwrap();
        assert!(reason(&snapshot).contains(expected), "{field}: {}", reason(&snapshot));
        assert_eq!(snapshot.schema.field(0).name(), "id");
        assert!(snapshot.files().is_empty() && snapshot.storage.is_none());
        assert_eq!(fake.vend_calls.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn policies_and_refused_credentials_govern() {
    let fake = Fake::new();
    fake.policies.lock().push(json!({"name": "p"}));
    assert!(reason(&latest(&fake.catalog(), &ann()).await.unwrap()).contains("policy"));
    let fake = Fake::new();
    fake.vending_refused.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(reason(&latest(&fake.catalog(), &ann()).await.unwrap()).contains("external access is off"));
}

#[tokio::test]
async fn all_privileges_do_not_stand_for_external_use() {
    let fake = Fake::new();
    for kind in ["catalog", "schema", "table"] {
        fake.hold("ann", kind, vec!["ALL PRIVILEGES"]);
    }
    assert!(reason(&latest(&fake.catalog(), &ann()).await.unwrap()).contains("EXTERNAL USE SCHEMA"));
    fake.hold("ann", "schema", vec!["ALL_PRIVILEGES", "EXTERNAL_USE_SCHEMA"]);
    assert_eq!(latest(&fake.catalog(), &ann()).await.unwrap().access, AccessRules::Free);
}
