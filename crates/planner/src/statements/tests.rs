use super::command::matches;
use super::{Command, blank_before, read};
use crate::parse::tokens;

fn command(text: &str) -> Command {
    read(&tokens(text).expect("has tokens")).expect("is read")
}

fn names(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|p| p.to_string()).collect()
}

#[test]
fn show_and_describe_are_read_with_their_options() {
    assert_eq!(command("show catalogs like 'l*'"), Command::ShowCatalogs { like: Some("l*".into()) });
    assert_eq!(command("SHOW DATABASES"), Command::ShowSchemas { catalog: None, like: None });
    assert_eq!(command("SHOW SCHEMAS IN lake LIKE 'd*';"), Command::ShowSchemas { catalog: Some("lake".into()), like: Some("d*".into()) });
    assert_eq!(
        command("SHOW TABLES FROM `my lake`.default 'x|y'"),
        Command::ShowTables { schema: names(&["my lake", "default"]), like: Some("x|y".into()) }
    );
    assert_eq!(command("SHOW COLUMNS IN t FROM s"), Command::ShowColumns { table: names(&["s", "t"]) });
    assert_eq!(
        command("SHOW TBLPROPERTIES a.b.c ('delta.x')"),
        Command::ShowProperties { table: names(&["a", "b", "c"]), key: Some("delta.x".into()) }
    );
    assert_eq!(command("DESC t"), Command::Describe { table: names(&["t"]), column: None, extended: false });
    assert_eq!(command("DESCRIBE TABLE EXTENDED s.t"), Command::Describe { table: names(&["s", "t"]), column: None, extended: true });
    assert_eq!(command("DESCRIBE t c"), Command::Describe { table: names(&["t"]), column: Some("c".into()), extended: false });
    assert_eq!(command("DESCRIBE DETAIL t"), Command::DescribeDetail { table: names(&["t"]) });
    assert_eq!(command("DESCRIBE HISTORY t LIMIT 3"), Command::DescribeHistory { table: names(&["t"]), limit: Some(3) });
    assert_eq!(command("DESCRIBE detail"), Command::Describe { table: names(&["detail"]), column: None, extended: false });
}

#[test]
fn settings_are_read_whatever_their_value_looks_like() {
    assert_eq!(command("SET"), Command::ShowSettings(None));
    assert_eq!(command("SET engine"), Command::ShowSettings(Some("engine".into())));
    assert_eq!(command("SET engine = duckdb"), Command::Set { name: "engine".into(), value: "duckdb".into() });
    assert_eq!(command("SET flightpath.tag = 'a b'"), Command::Set { name: "flightpath.tag".into(), value: "a b".into() });
    assert_eq!(command("SET TIME ZONE 'Europe/Berlin'"), Command::Set { name: "time_zone".into(), value: "Europe/Berlin".into() });
    assert_eq!(command("SET timezone = Europe/Berlin"), Command::Set { name: "timezone".into(), value: "Europe/Berlin".into() });
    assert_eq!(command("SET tag = a b"), Command::Set { name: "tag".into(), value: "a b".into() });
    assert_eq!(command("SET tag = a-b/c ;"), Command::Set { name: "tag".into(), value: "a-b/c".into() });
    assert_eq!(command("set time zone local"), Command::Set { name: "time_zone".into(), value: String::new() });
    assert_eq!(command("RESET timeout_seconds"), Command::Reset(Some("timeout_seconds".into())));
    assert_eq!(command("USE lake.default"), Command::UseSchema(names(&["lake", "default"])));
    assert_eq!(command("USE CATALOG lake"), Command::UseCatalog("lake".into()));
    assert_eq!(command("USE SCHEMA default"), Command::UseSchema(names(&["default"])));
}

#[test]
fn explain_keeps_the_places_of_its_query() {
    let text = "-- why\nEXPLAIN /* which */ Route\n  SELECT 1";
    let Command::ExplainRoute(start) = command(text) else { panic!("isn't EXPLAIN ROUTE") };
    let query = blank_before(text, start);
    assert_eq!(query.trim_start(), "SELECT 1");
    let position = |t: &str| tokens(t).expect("has tokens").into_iter().find(|t| t.token.to_string() == "1").map(|t| t.span.start);
    assert_eq!(position(&query), position(text));
    assert!(matches!(command("explain extended select 1"), Command::Explain { extended: true, .. }));
    assert!(matches!(command("EXPLAIN COST SELECT 1"), Command::Refused(_)));
    assert_eq!(command("SELECT 'EXPLAIN ROUTE'"), Command::Other);
}

#[test]
fn what_is_left_over_is_a_syntax_error_with_its_place() {
    for bad in ["SHOW TABLES x y", "DESCRIBE", "EXPLAIN", "SHOW", "USE a.b.c.d", "SHOW COLUMNS t", "DESCRIBE HISTORY t LIMIT x"] {
        let error = read(&tokens(bad).expect("has tokens")).expect_err(bad);
        assert!(error.to_string().contains("line 1, column"), "{bad}: {error}");
    }
}

#[test]
fn patterns_know_stars_and_alternatives() {
    assert!(matches(None, "anything"));
    assert!(matches(Some("line*"), "LineItem"));
    assert!(matches(Some("a*c*e|x"), "abcde"));
    assert!(matches(Some("a|x"), "X"));
    assert!(!matches(Some("line"), "lineitem"));
    assert!(!matches(Some(""), "a"));
}
