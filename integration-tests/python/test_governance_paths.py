"""The attacks of `test_governance` over the other ways into the server, and more of them: prepared
statements, bound parameters, metadata calls, the gRPC API, session settings, views."""

import pytest
from simulation import connect
from test_api import Api
from test_governance import PHONE, PRINCIPALS, RULES, SEGMENTS, attacks, execute, governed

C = "main.default.customer"
# A view with its owner's rights: whoever may read it sees what the owner sees, in Databricks alone.
VIEW = {"main.default.phones": {"view_definition": f"SELECT c_phone FROM {C}", "owner": "admin", "grants": {"admin": ["SELECT"]}}}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    with governed(tmp_path_factory.mktemp("paths"), {**RULES, **VIEW}) as both:
        yield both


def more_attacks(data):
    """What reads a file's values without reading its rows, names a file in passing, or nests a statement."""
    file = next((data / "customer").rglob("*.parquet"))
    folder = data / "customer"
    functions = [
        "parquet_metadata", "parquet_file_metadata", "parquet_schema", "parquet_kv_metadata", "read_blob", "read_csv", "read_csv_auto", "sniff_csv",
        "read_json", "read_json_auto", "read_ndjson", "read_json_objects", "iceberg_scan", "arrow_scan", "seq_scan", "st_read", "read_xlsx", "sqlite_scan",
    ]
    for function in functions:
        yield f"SELECT * FROM {function}('{file}')"
        yield f"SELECT n_name FROM lake.default.nation, LATERAL (SELECT * FROM {function}('{file}')) x"
    yield f"SELECT * FROM parquet_bloom_probe('{file}', 'c_phone', '1')"
    for table in (C, f"'{file}'", f"read_parquet('{file}')"):
        yield from (
            f"SUMMARIZE {table}", f"DESCRIBE {table}", f"DESCRIBE SELECT * FROM {table}", f"EXPLAIN ANALYZE SELECT * FROM {table}",
            f"FROM {table}", f"FROM {table} SELECT max(c_phone)", f"PIVOT {table} ON c_mktsegment", f"UNPIVOT {table} ON c_phone INTO NAME n VALUE v",
            f"SELECT COLUMNS(*) FROM {table}", f"SELECT * FROM query('FROM {C}')", f"SELECT * FROM {table} AS OF SYSTEM TIME '2020-01-01'",
            f"WITH x AS MATERIALIZED (FROM {table}) FROM x", f"SELECT * FROM (DESCRIBE {table})", f"SELECT * FROM (SUMMARIZE {table})",
            f"PREPARE p AS SELECT * FROM {table}", f"CREATE MACRO m() AS TABLE SELECT * FROM {table}", f"SELECT 1 UNION ALL BY NAME FROM {table}",
            f"SELECT * FROM lake.default.nation POSITIONAL JOIN {table}", f"SELECT * FROM lake.default.nation ASOF JOIN {table} x ON n_nationkey >= x.c_custkey",
        )
    yield from (
        "SELECT * FROM query_table('customer')", "SELECT * FROM query_table(['main.default.customer'])", "EXECUTE p", "FROM m()",
        "SELECT * FROM duckdb_logs()", "SELECT * FROM duckdb_external_file_cache()", "SELECT * FROM duckdb_temporary_files()",
        "SELECT * FROM duckdb_views()", "SELECT current_setting('allowed_paths')", "SELECT * FROM duckdb_secrets(redact=false)",
        "SET VARIABLE x = (SELECT 1)", "SELECT getvariable('x')", "SET enable_external_access = true", "RESET ALL", "USE system", "IMPORT DATABASE '/tmp'",
        f"CREATE OR REPLACE SECRET s (TYPE s3)", f"SELECT * FROM histogram('{file}', c_phone)", f"SELECT * FROM histogram({C}, c_phone)",
        f"SELECT * FROM system.default.customer", f"SELECT * FROM {C}.c_phone", f"SELECT * FROM lake.default.customer",
        f"SELECT * FROM `lake`.`default`.`../data/customer`", f"SELECT * FROM `{folder}`", f"SELECT * FROM file.`{file}`", f"SELECT * FROM csv.`{file}`",
        f"SELECT * FROM binaryFile.`{file}`", f"SELECT * FROM text.`{file}`", f"LIST '{folder}'", f"SELECT * FROM stream({C})",
        f"SELECT * FROM table_changes('{C}', 0)", f"SELECT * FROM table_changes_by_path('{folder}', 0)", f"SELECT * FROM {C} WITH (x = 1)",
        f"BEGIN SELECT c_phone FROM {C}; END", f"EXECUTE IMMEDIATE 'SELECT c_phone FROM {C}'", f"DECLARE v STRING = (SELECT max(c_phone) FROM {C})",
        f"SET VAR v = (SELECT max(c_phone) FROM {C})", f"SELECT from_json((SELECT to_json(collect_list(c_phone)) FROM {C}), 'array<string>')",
        f"SELECT n_name FROM lake.default.nation ORDER BY (SELECT max(c_phone) FROM {C})", f"SELECT n_name FROM lake.default.nation LIMIT (SELECT count(*) FROM {C})",
        f"SELECT transform(array(1), x -> (SELECT max(c_phone) FROM {C}))", f"SELECT * FROM VALUES ((SELECT max(c_phone) FROM {C})) AS t(p)",
        f"WITH RECURSIVE r AS (SELECT max(c_phone) AS p, 1 AS n FROM {C} UNION ALL SELECT p, n + 1 FROM r WHERE n < 2) SELECT * FROM r",
        "SELECT * FROM main.default.phones", "SELECT max(c_phone) FROM main.default.phones", f"SELECT * FROM main.default.phones JOIN {C} USING (c_phone)",
        f"SELECT * FROM \u200bmain.default.customer", "SELECT * FROM main.default.ｃustomer", f"SELECT * FROM main.default.`customer` -- \u2028 FROM nation",
        f"SELECT * FROM main.default.customer\x00", f"ＳELECT * FROM {C}", f"SELECT/**/c_phone/**/FROM/**/{C}", f"\ufeffSELECT c_phone FROM {C}",
    )


def leaks(name, sql, rows, segments=True):
    """Values that `name` may not see. The record holds the asker's own texts, which name segments."""
    if name == "admin" or rows is None:
        return False
    named = segments and name == "ana" and "system." not in sql and any(repr(s) in rows for s in SEGMENTS)
    return bool(PHONE.search(rows)) or named


@pytest.mark.parametrize("name", PRINCIPALS)
@pytest.mark.parametrize("path", ["auto", "duckdb", "datafusion", "databricks", "duckdb-dialect"])
def test_prepared_statements_leak_nothing(workspace, name, path):
    server, data = workspace
    headers = {"auto": {}, "duckdb-dialect": {"dialect": "duckdb"}}.get(path, {"engine": path})
    known = list(attacks(data))
    statements = [*known, *more_attacks(data)]
    assert len(statements) > 250
    local = path in ("duckdb", "datafusion", "duckdb-dialect")
    with connect(server, PRINCIPALS[name], **headers) as connection, connection.cursor() as cursor:
        for sql in statements:
            # Directly, the others are tried elsewhere.
            for prepared in (True,) if sql in known else (False, True):
                try:
                    # Bound to nothing, it is prepared first.
                    cursor.execute(sql, [] if prepared else None)
                    rows, failure = str(cursor.fetch_arrow_table().to_pylist()), ""
                except Exception as error:
                    rows, failure = None, str(error)
                assert not leaks(name, sql, rows) and not leaks(name, sql, failure, segments=False), f"{sql}: {rows} {failure}"
                # Nobody's governed values come from another engine, not even who may see them all.
                assert not (local and rows and PHONE.search(rows)), f"{sql}: {rows[:200]}"


@pytest.mark.parametrize("name", PRINCIPALS)
def test_bound_values_name_nothing_to_read(workspace, name):
    server, data = workspace
    file = str(next((data / "customer").rglob("*.parquet")))
    texts = [
        "SELECT * FROM IDENTIFIER(?)", "SELECT * FROM read_parquet(?)", "SELECT * FROM parquet_metadata(?)", "SELECT * FROM ?", "SELECT * FROM query(?)",
        "SELECT * FROM delta.?", "SELECT n_name FROM lake.default.nation WHERE n_name IN (SELECT c_phone FROM IDENTIFIER(?))", "EXECUTE IMMEDIATE ?",
    ]
    for engine in ({}, {"engine": "duckdb"}, {"engine": "datafusion"}, {"dialect": "duckdb"}):
        for sql in texts:
            for value in (C, file, f"SELECT c_phone FROM {C}", f"{C}' --", "main.default.phones"):
                with connect(server, PRINCIPALS[name], **engine) as connection, connection.cursor() as cursor:
                    try:
                        cursor.execute(sql, [value])
                        rows = str(cursor.fetch_arrow_table().to_pylist())
                    except Exception as error:
                        rows = str(error)
                assert not (PHONE.search(rows) and (engine or name != "admin")), f"{sql} {value}: {rows[:200]}"


@pytest.mark.parametrize("name", PRINCIPALS)
def test_decisions_and_metadata_tell_no_values(workspace, name):
    server, data = workspace
    api = Api(server, f"Bearer {PRINCIPALS[name]}")
    for sql in [*attacks(data), *more_attacks(data)]:
        try:
            told = str(api.call("Route", sql=sql))
        except Exception as error:
            told = str(error)
        assert not PHONE.search(told), f"{sql}: {told[:300]}"
    with connect(server, PRINCIPALS[name]) as connection:
        for depth in ("catalogs", "db_schemas", "tables", "all"):
            told = str(connection.adbc_get_objects(depth=depth).read_all().to_pylist())
            assert not PHONE.search(told)
        tables = str(connection.adbc_get_objects(depth="tables", catalog_filter="main").read_all().to_pylist())
        # Mallory may not even know of it.
        assert ("'customer'" in tables) == (name != "mallory"), tables


@pytest.mark.parametrize("name", ["ana", "mallory"])
def test_session_settings_open_nothing(workspace, name):
    server, data = workspace
    folder = data / "customer"
    settings = [
        ["USE CATALOG main", "USE SCHEMA default"], ["SET catalog = main", "SET engine = duckdb"], ["SET engine = datafusion", "USE main.default"],
        ["SET dialect = duckdb", "SET catalog = main"], ["SET tag = admin"], ["SET profile = batch"], ["SET time_zone = 'Europe/Rome'"],
    ]
    for steps in settings:
        with connect(server, PRINCIPALS[name]) as connection, connection.cursor() as cursor:
            for step in steps:
                cursor.execute(step)
            for sql in ("SELECT c_phone FROM customer", f"SELECT c_phone FROM {C}", f"SELECT * FROM '{folder}/*.parquet'", "SELECT * FROM phones"):
                try:
                    cursor.execute(sql)
                    rows = str(cursor.fetch_arrow_table().to_pylist())
                except Exception as error:
                    rows = str(error)
                assert not PHONE.search(rows), f"{steps} {sql}: {rows[:200]}"
    for headers in ({"user": "admin"}, {"principal": "admin"}, {"token": PRINCIPALS["admin"]}, {"catalog": "main", "schema": "../default"}):
        rows, failure = execute(server, PRINCIPALS[name], f"SELECT c_phone FROM {C}", headers)
        assert rows is None or not PHONE.search(rows), f"{headers}: {rows}"
        assert rows is None, f"an unknown header was taken: {headers}"
