use datafusion::sql::sqlparser::ast::Statement;
use flightpath_types::{ErrorKind, Result};

use crate::parse::parse;

fn check(sql: &str) -> Result<()> {
    let parsed = parse(sql)?;
    match parsed.statement() {
        Statement::Query(query) => super::check_query(query),
        other => Err(super::refuse_statement(other)),
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (sql, clause) in [
        ("SELECT * FROM t TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
        ("SELECT a FROM t FETCH FIRST 3 ROWS ONLY", "FETCH"),
        ("SELECT a FROM t FOR UPDATE", "FOR UPDATE"),
        ("SELECT a FROM b.c.my_udtf(1)", "table function"),
        ("SELECT a AT TIME ZONE 'UTC' FROM t", "AT"),
        ("SELECT sum(a ORDER BY b) FROM t", "ORDER BY inside a call"),
        ("SELECT a[1:2] FROM t", "[a:b]"),
        ("SELECT f(x => 1) FROM t", "named argument"),
        ("SELECT a COLLATE UTF8_LCASE FROM t", "COLLATE"),
        ("INSERT INTO t VALUES (1)", "read-only"),
        ("DROP TABLE t", "read-only"),
        ("CREATE TABLE t AS SELECT 1", "read-only"),
        ("DELETE FROM t", "read-only"),
    ] {
        let error = check(sql).expect_err(sql);
        assert!(matches!(error.kind(), ErrorKind::NotEligible | ErrorKind::InvalidArgument), "{sql}: {error}");
        assert!(error.message().contains(clause) || error.class() == Some("PARSE_SYNTAX_ERROR"), "{sql}: {error}");
    }
}

#[test]
fn no_relation_reads_past_the_catalog() {
    for sql in [
        "SELECT * FROM delta.`/data/t`",
        "SELECT * FROM parquet.`s3://bucket/t`",
        "SELECT * FROM read_parquet('/etc/x')",
        "SELECT * FROM read_files('/etc/x')",
        "SELECT * FROM `/data/t.parquet`",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM csv.`/etc/passwd`)",
        "SELECT (SELECT max(a) FROM delta_scan('/x'))",
        "WITH x AS (SELECT * FROM json.`/x`) SELECT 1",
    ] {
        assert_eq!(check(sql).expect_err(sql).kind(), ErrorKind::PermissionDenied, "{sql}");
    }
}
