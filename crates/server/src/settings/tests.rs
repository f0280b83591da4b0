use std::io::Write;

use super::*;

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Settings, Mistakes> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let result = Settings::load(Some(file.path()), environment.iter().map(|(k, v)| (k.to_string(), v.to_string())), |_| {});
    let name = format!("{}:", file.path().display());
    result.map_err(|m| Mistakes(m.0.into_iter().map(|m| Mistake { place: m.place.replace(&name, "line "), ..m }).collect()))
}

fn mistakes(toml: &str, environment: &[(&str, &str)]) -> Vec<(String, String)> {
    load(toml, environment).unwrap_err().0.into_iter().map(|m| (m.place, m.message)).collect()
}

#[test]
fn every_setting_is_read_from_toml_and_the_environment_wins() {
    let settings = load(
        r#"
listen = "127.0.0.1:0"
state_dir = "/tmp/state"
log_level = "debug"
[log]
url = "postgres://a:b@c/d"
spool_max = "1GiB"
[routing]
strategy = "always:duckdb"
[limits]
timeout_seconds = 1.5
queue_max = 7
drain_delay_seconds = 2.5
[engines.duckdb]
memory = "2GB"
threads = 3
[engines.datafusion]
enabled = false
[[auth.users]]
name = "ana"
password_hash = "$argon2id$v=19$x"
[[auth.tokens]]
principal = "etl"
token_sha256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"#,
        &[("FLIGHTPATH_ENGINES_DUCKDB_THREADS", "5"), ("FLIGHTPATH_URI", "ignored"), ("PATH", "x")],
    )
    .unwrap();
    assert_eq!(settings.listen.port(), 0);
    assert_eq!(settings.log_spool_bytes_max, 1 << 30);
    assert_eq!(settings.strategy, Strategy::Always(flightpath_types::EngineId::new("duckdb")));
    assert_eq!((settings.timeout, settings.drain_delay), (Some(Duration::from_millis(1500)), Duration::from_millis(2500)));
    assert_eq!((settings.duckdb.memory_bytes, settings.duckdb.threads), (2_000_000_000, 5));
    assert!(!settings.datafusion.enabled);
    assert_eq!((settings.users.len(), settings.tokens.len()), (1, 1));
    assert_eq!(settings.tokens[0].token_sha256, "a".repeat(64));
}

#[test]
fn all_mistakes_come_at_once_with_lines_and_suggestions() {
    let found = mistakes(
        "listne = \"127.0.0.1:1\"\n[limits]\nqueue_max = -1\nqueue_wait = 3\n[engines.duckdb]\nmemory = \"lots\"\n[engine]\nx = 1\n",
        &[("FLIGHTPATH_LOG_URLL", "x"), ("FLIGHTPATH_LIMITS_QUEUE_MAX", "many")],
    );
    let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(
        places,
        [
            "line 1",
            "line 3",
            "line 4",
            "line 6",
            "line 7",
            "environment variable FLIGHTPATH_LOG_URLL",
            "environment variable FLIGHTPATH_LIMITS_QUEUE_MAX"
        ]
    );
    assert!(found[0].1.contains("did you mean `listen`?"), "{}", found[0].1);
    assert!(found[2].1.contains("limits.queue_wait_seconds"), "{}", found[2].1);
    assert!(found[3].1.contains("512MB"), "{}", found[3].1);
    assert!(found[5].1.contains("FLIGHTPATH_LOG_URL?"), "{}", found[5].1);
}

#[test]
fn broken_toml_is_reported_with_its_line_and_hides_nothing() {
    assert_eq!(mistakes("listen = \"127.0.0.1:1\"\n[limits\n", &[])[0].0, "line 2");
    let toml =
        "listen = 127.0.0.1:1\nlog_level = \"debug\"\nlog_level = \"info\"\n[limits]\nqueue_max = -1\n[engines.duckdb]\nmemroy = 1\n";
    let found = mistakes(toml, &[]);
    let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["line 1", "line 3", "line 5", "line 7"], "{found:?}");
    assert!(found[1].1.contains("duplicate"), "{}", found[1].1);
    assert!(found[3].1.contains("did you mean `engines.duckdb.memory`?"), "{}", found[3].1);
}

#[test]
fn what_only_settings_together_can_tell_has_a_line_too() {
    let toml = r#"
[tls]
certificate = "/nowhere/cert.pem"
client_ca = "/nowhere/ca.pem"
[databricks]
host = "http://example.com"
auth = "azure"
client_id = "x"
[telemetry]
prometheus = "0.0.0.0:9464"
[routing]
strategy = "always:durkdb"
profile = "weekly"
[profiles.nightly]
writes = true
engines = ["snowflake"]
[profiles.weekly]
budget_usd_per_day = 1
over_budget_profile = "never"
"#;
    let found = mistakes(toml, &[("FLIGHTPATH_FLEET_KEY_FILE", "/nowhere/key")]);
    let place = |says: &str| {
        let mistake = found.iter().find(|(_, message)| message.contains(says));
        mistake.unwrap_or_else(|| panic!("nothing says {says}: {found:?}")).0.as_str()
    };
    for (says, at) in [
        ("tls.certificate and tls.key are set together", "line 2"),
        ("/nowhere/cert.pem", "line 3"),
        ("/nowhere/ca.pem", "line 4"),
        ("unencrypted", "line 6"),
        ("warehouse_id is missing", "line 5"),
        ("catalogs is empty", "line 5"),
        ("needs databricks.tenant_id", "line 5"),
        ("needs databricks.client_secret", "line 5"),
        ("shared_principal = true", "line 5"),
        ("prometheus_token_sha256", "line 10"),
        ("there is no engine `durkdb`", "line 12"),
        ("profile `nightly`: there is no engine `snowflake`", "line 16"),
        ("there is no profile `never`", "line 19"),
        ("/nowhere/key", "environment variable FLIGHTPATH_FLEET_KEY_FILE"),
    ] {
        assert_eq!(place(says), at, "{says}: {found:?}");
    }
}

#[test]
fn one_token_is_one_principals() {
    let token = |principal: &str, digit: char| {
        format!("[[auth.tokens]]\nprincipal = \"{principal}\"\ntoken_sha256 = \"{}\"\n", digit.to_string().repeat(64))
    };
    let says = |toml: &str| load(toml, &[]).is_err_and(|found| found.0.iter().any(|m| m.message.contains("whose token is it?")));
    assert!(says(&(token("ana", 'a') + &token("bob", 'A'))));
    assert!(!says(&(token("ana", 'a') + &token("bob", 'b'))));
}

#[test]
fn every_entry_of_a_list_is_checked_and_nothing_follows_from_a_mistake() {
    let toml = r#"
listen = "0.0.0.0:31337"
[[auth.users]]
name = "ana"
password_hash = "hunter2"
[[auth.users]]
nam = "bob"
password_hash = "$argon2id$x"
[[auth.tokens]]
principal = "etl"
token_sha256 = "abc"
admin = "yes"
[tls]
certificate = 3
[profiles.broken]
slo_seconds = "fast"
rows_max = 0
[routing]
profile = "broken"
"#;
    let found = mistakes(toml, &[]);
    let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["line 5", "line 7", "line 6", "line 12", "line 11", "line 14", "line 16", "line 17"], "{found:?}");
}

#[test]
fn a_profile_with_one_mistake_hides_no_other() {
    let toml = r#"[profiles.ab]
base = "zz"
speed = 1
strategy = "fastest"
rows_max = 0
engines = ["spark"]
over_budget_engines = [
    "flink"
]
over_budget_profile = "self"
writes = true
[profiles.cd]
users = ["ana"]
budget_usd_per_day = 1
over_budget_profile = "cd"
[profiles.ef]
slo_seconds = "fast"
users = ["ana"]
"#;
    let found = mistakes(toml, &[]);
    let place = |says: &str| {
        let mistake = found.iter().find(|(_, message)| message.contains(says));
        mistake.unwrap_or_else(|| panic!("nothing says {says}: {found:?}")).0.as_str()
    };
    for (says, at) in [
        ("no shipped profile `zz`", "line 2"),
        ("unknown setting `speed`", "line 3"),
        ("strategy must be one of", "line 4"),
        ("`rows_max` must be", "line 5"),
        ("profile `ab`: there is no engine `spark`", "line 6"),
        ("profile `ab`: there is no engine `flink`", "line 7"),
        ("profile `ab`: over its budget, there is no profile `self`", "line 10"),
        ("`over_budget_profile` or `over_budget_engines`, not both", "line 10"),
        ("profiles.ab: `writes = true` needs [databricks]", "line 11"),
        ("profile `cd` is handed down in a circle", "line 15"),
        ("profiles.ef: `slo_seconds`", "line 17"),
        ("user `ana` stands in both `cd` and `ef`", "line 18"),
    ] {
        assert_eq!(place(says), at, "{says}: {found:?}");
    }
    assert_eq!(found.len(), 12, "{found:?}");
}

#[test]
fn listening_beyond_this_machine_needs_authentication() {
    let found = mistakes("listen = \"0.0.0.0:31337\"\n", &[]);
    assert!(found[0].1.contains("[[auth.users]]"), "{}", found[0].1);
    assert!(load("listen = \"0.0.0.0:1\"\n[[auth.users]]\nname=\"a\"\npassword_hash=\"$argon2id$\"\n", &[]).is_ok());
}

#[test]
fn a_password_in_clear_is_refused_without_repeating_it() {
    let found = mistakes("[[auth.users]]\nname = \"ana\"\npassword_hash = \"hunter2\"\n", &[]);
    assert!(found[0].1.contains("argon2") && !found[0].1.contains("hunter2"), "{}", found[0].1);
}

#[test]
fn sections_and_values_are_told_apart() {
    let found = mistakes("limits = 3\n[listen]\nx = 1\n", &[]);
    assert!(found[0].1.contains("[limits]"), "{}", found[0].1);
    assert!(found[1].1.contains("a value"), "{}", found[1].1);
}

#[test]
fn telemetry_is_set_by_settings_then_by_the_standards_variables_and_its_secrets_are_not_shown() {
    let toml = "[telemetry]\notlp_endpoint = \"http://c:4317\"\notlp_headers = \"x-key=hush\"\nprometheus = \"127.0.0.1:9464\"\nsample_ratio = 0.1\n";
    let environment = [("OTEL_EXPORTER_OTLP_HEADERS", "x-other=hush"), ("OTEL_SERVICE_NAME", "lake"), ("OTEL_BSP_SCHEDULE_DELAY", "9")];
    let settings = load(toml, &environment).unwrap();
    let config = settings.telemetry.config().unwrap();
    let otlp = config.otlp.as_ref().unwrap();
    assert_eq!((otlp.endpoint.as_str(), otlp.headers.0.len()), ("http://c:4317", 2));
    assert_eq!((config.service_name.as_deref(), config.sample_ratio), (Some("lake"), Some(0.1)));
    assert_eq!(config.page.as_ref().unwrap().listen.port(), 9464);
    assert_eq!(settings.telemetry.batch_variables().collect::<Vec<_>>(), [("OTEL_BSP_SCHEDULE_DELAY".to_string(), "9".to_string())]);
    assert!(!format!("{settings:?} {config:?}").contains("hush"));
    assert!(!load("", &[]).unwrap().telemetry.config().unwrap().is_on());

    let found = mistakes(
        "[telemetry]\notlp_protocol = \"carrier pigeon\"\nprometheus = \"9464\"\notlp_headers = \"hush\"\n",
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317")],
    );
    let text = format!("{found:?}");
    assert_eq!(found.len(), 4, "{text}");
    assert!(text.contains("line 2") && text.contains("must be \\\"grpc\\\" or"), "{text}");
    assert!(text.contains("telemetry.otlp_endpoint must be a URL") && !text.contains("hush"), "{text}");
}
