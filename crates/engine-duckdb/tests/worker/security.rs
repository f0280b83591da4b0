//! What a statement may not do, whoever wrote it.

use std::sync::Arc;

use arrow::array::Int32Array;
use arrow::datatypes::{DataType, Field, Schema};
use flightpath_engine::Engine;
use flightpath_plan::ScanBinding;
use flightpath_types::{ErrorKind, Principal, Session};

use crate::fixture::*;

fn one_file(folder: &std::path::Path) -> ScanBinding {
    let file = write(&folder.join("f.parquet"), vec![("i", Arc::new(Int32Array::from(vec![1, 2, 3])))]);
    table(Schema::new(vec![Field::new("i", DataType::Int32, true)]), vec![], vec![file])
}

/// Statements that must not run; `{other}` is a Parquet file that isn't bound.
const FORBIDDEN: &[&str] = &[
    "SELECT 1; SELECT 2",
    "SELECT * FROM s0; DROP VIEW s0",
    "SELECT * FROM read_parquet('{other}')",
    "SELECT * FROM '{other}'",
    "SELECT * FROM parquet_scan(['{other}'])",
    "SELECT * FROM parquet_metadata('{other}')",
    "SELECT * FROM parquet_schema('{other}')",
    "SELECT * FROM (SELECT (SELECT count(*) FROM read_parquet('{other}')) AS n)",
    "SELECT 1 WHERE EXISTS (FROM read_parquet('{other}'))",
    "WITH x AS (FROM read_parquet('{other}')) SELECT * FROM x",
    "SELECT * FROM read_text('/etc/hostname')",
    "SELECT * FROM read_blob('/etc/hostname')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/hostname'')')",
    "SELECT * FROM query_table('{other}')",
    "COPY (SELECT 1) TO '{written}'",
    "COPY s0 TO '{written}'",
    "EXPORT DATABASE '{written}'",
    "ATTACH '{written}' AS a",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "SET threads = 64",
    "RESET threads",
    "SET GLOBAL lock_configuration = false",
    "CREATE TABLE t2 AS SELECT 1",
    "CREATE SECRET (TYPE s3)",
    "INSERT INTO s0 VALUES (1)",
    "DELETE FROM s0",
    "CALL pragma_version()",
    "PREPARE p AS SELECT 1",
    "CHECKPOINT",
    "BEGIN",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT $1",
    "",
];

/// A closed instance can show these to their own user; compiled SQL never holds them.
const FORBIDDEN_COMPILED: &[&str] = &[
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM main.s0",
    "SELECT * FROM temp.main.s0",
    "SELECT * FROM s7",
    "SHOW TABLES",
    "DESCRIBE s0",
    "SUMMARIZE s0",
    "FROM s0 TABLESAMPLE 10%",
    "WITH \"{other}\" AS (SELECT 1 AS i) SELECT * FROM (SELECT 1) a, (FROM \"{other}\") b",
    "SELECT * FROM (WITH s0 AS (SELECT 7 AS i) SELECT * FROM s0)",
    "PIVOT s0 ON i",
];

#[test]
fn statements_cannot_leave_their_bindings() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other.parquet");
        write(&other, vec![("i", Arc::new(Int32Array::from(vec![42])))]);
        let written = folder.path().join("written");
        let fill = |text: &str| text.replace("{other}", other.to_str().unwrap()).replace("{written}", written.to_str().unwrap());

        let mut run_on_compiled = 0;
        for text in FORBIDDEN.iter().chain(FORBIDDEN_COMPILED) {
            let text = fill(text);
            let outcome = run(&engine, query(&text, vec![one_file(folder.path())])).await;
            let error = outcome.err().unwrap_or_else(|| panic!("compiled: {text} gave rows"));
            assert!(matches!(error.kind(), ErrorKind::PermissionDenied), "compiled: {text}: {error:?}");
            run_on_compiled += 1;
        }
        assert_eq!(run_on_compiled, FORBIDDEN.len() + FORBIDDEN_COMPILED.len());
        for text in FORBIDDEN {
            let text = fill(&text.replace("s0", "t"));
            let outcome = run(&engine, user_query(&text, vec![one_file(folder.path())])).await;
            let error = outcome.err().unwrap_or_else(|| panic!("user: {text} gave rows"));
            assert!(
                matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidArgument | ErrorKind::NotFound),
                "user: {text}: {error:?}"
            );
        }
        assert!(!written.exists());
        // What is allowed still works afterwards.
        let allowed = "SELECT i, unnest([i, 10]) AS u FROM s0, range(2) WHERE i = 1 ORDER BY ALL";
        assert_eq!(rows(&engine, query(allowed, vec![one_file(folder.path())])).await, ["1 | 1", "1 | 1", "1 | 10", "1 | 10"]);
        engine.shutdown().await;
    });
}

#[test]
fn a_users_text_sees_its_tables_by_name_and_is_described_without_running() {
    runtime().block_on(async {
        let engine = start(config()).await;
        let folder = tempfile::tempdir().unwrap();
        for text in [
            "SELECT sum(i)::BIGINT AS s FROM t",
            "FROM lake.\"default\".t SELECT sum(i)::BIGINT AS s",
            "WITH x AS (FROM \"default\".t) SELECT sum(i)::BIGINT AS s FROM x",
        ] {
            assert_eq!(rows(&engine, user_query(text, vec![one_file(folder.path())])).await, ["6"], "{text}");
        }
        // Many at once, each on an instance of its own.
        let texts: Vec<String> = (0..8).map(|n| format!("SELECT sum(i + {n})::BIGINT AS s FROM t")).collect();
        let all = futures::future::join_all(texts.iter().map(|text| rows(&engine, user_query(text, vec![one_file(folder.path())])))).await;
        assert_eq!(all.concat(), (0..8).map(|n| (6 + 3 * n).to_string()).collect::<Vec<_>>());

        let session = Session::new(Principal::new("tester"));
        let text = "SELECT i, error('never run') AS e, i / 2 AS h FROM t";
        let schema = engine.describe(text, &[one_file(folder.path())], &session).await.unwrap();
        let types: Vec<_> = schema.fields().iter().map(|f| (f.name().as_str(), f.data_type().clone())).collect();
        assert_eq!(types[0], ("i", DataType::Int32));
        assert_eq!(types[2], ("h", DataType::Float64));
        let error = engine.describe("SELECT nothing FROM t", &[one_file(folder.path())], &session).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        let error = engine.describe("SELECT * FROM nowhere", &[], &session).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        engine.shutdown().await;

        let mut without = config();
        without.user_slots = 0;
        let engine = start(without).await;
        let error = run(&engine, user_query("SELECT 1", vec![])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        engine.shutdown().await;
    });
}
