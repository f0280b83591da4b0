use super::*;

fn text(sql: &str) -> String {
    match parse(sql) {
        Ok(parsed) => parsed.statement().to_string(),
        Err(error) => format!("ERROR {error}"),
    }
}

#[test]
fn reads_what_databricks_writes() {
    for (sql, want) in [
        (r"SELECT 'it\'s', 'a' 'b', r'\d', 'a\\%b\%'", r"SELECT 'it''s', 'ab', '\d', 'a\%b\%'"),
        ("SELECT 1L, 2.5BD, 1e3 -- end", "SELECT 1L, 2.5BD, 1e3"),
        ("SELECT a || b + c = d IS NULL", "SELECT a || b + c = d IS NULL"),
        ("SELECT * FROM t@v3 x", "SELECT * FROM t x VERSION AS OF 3"),
        ("SELECT 1 FROM VALUES (1), (2) AS t(x), u", "SELECT 1 FROM (VALUES (1), (2)) AS t (x), u"),
        ("SELECT INTERVAL 3 days 2 hours", "SELECT INTERVAL '3 day 2 hour'"),
        ("SELECT 7 DIV 2 * 3;", "SELECT 7 div 2 * 3"),
        ("TABLE t |> LIMIT 2", "FROM t |> LIMIT 2"),
        ("FROM t |> UNION ALL SELECT 1 |> SEMI JOIN u USING (a)", "FROM t |> UNION ALL (SELECT 1) |> LEFT SEMI JOIN u USING(a)"),
        ("SELECT * FROM (FROM t |> EXCEPT (SELECT 1))", "SELECT * FROM (FROM t |> EXCEPT DISTINCT (SELECT 1))"),
        ("FROM t |> SELECT DISTINCT a |> OFFSET 2 + 1", "FROM t |> SELECT a |> CALL `\u{1}distinct`() |> CALL `\u{1}offset`(2 + 1)"),
        ("FROM t |> INTERSECT ALL (SELECT (1)) |> LIMIT 1", "FROM t |> CALL `\u{1}intersect all`((SELECT (1))) |> LIMIT 1"),
    ] {
        assert_eq!(text(sql), want, "{sql}");
    }
}

#[test]
fn errors_name_the_place() {
    for (sql, place) in [
        ("SELEC 1", "line 1, column 1"),
        ("SELECT a FROM\n(SELECT b FORM c)", "line 2, column"),
        ("SELECT 'abc", "line 1, column 8"),
        ("SELECT 1; SELECT 2", "line 1, column 11"),
        ("SELECT a,, b FROM t", "line 1, column 10"),
        ("", "line 1, column 1"),
    ] {
        let error = parse(sql).expect_err(sql);
        assert_eq!(error.class(), Some("PARSE_SYNTAX_ERROR"), "{sql}: {error}");
        assert!(error.message().contains(place), "{sql}: {error}");
    }
}

#[test]
fn limits_hold_without_a_large_stack() {
    let nested = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(parse(&nested).expect_err("too deep").kind(), ErrorKind::ResourceExhausted);
    let calls = format!("SELECT {}1{} x y", "coalesce(".repeat(150), ")".repeat(150));
    assert_eq!(parse(&calls).expect_err("syntax").class(), Some("PARSE_SYNTAX_ERROR"));
    let wild = format!("SELECT {}1", "(SELECT (".repeat(60));
    parse(&wild).expect_err("unclosed");
    let chain = format!("SELECT 1 WHERE {} x = 1", "x = 2 OR ".repeat(4000));
    parse(&chain).expect("a long chain is fine");
    let not = format!("SELECT {} true", "NOT ".repeat(100_000));
    parse(&not).expect_err("too deep");
    let long = format!("SELECT '{}'", "x".repeat(20 << 20));
    assert_eq!(parse(&long).expect_err("too long").kind(), ErrorKind::ResourceExhausted);
}
