"""Bad input gets a typed error that says what to do, and the server lives on."""

import json
import pathlib
import shutil
import socket
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import BINARY, DATA


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    root = tmp_path_factory.mktemp("bad") / "lake"

    def golden(name, to):
        return pathlib.Path(shutil.copytree(DATA / "delta-golden" / name / "delta", root / to))

    simple = "snapshot-data0"
    golden(simple, "good")
    corrupt = golden(simple, "corrupt_log")
    next(iter(sorted((corrupt / "_delta_log").glob("*.json")))).write_text('{"add": {"path": ')
    missing = golden(simple, "missing_file")
    for file in missing.rglob("*.parquet"):
        if "_delta_log" not in str(file):
            file.unlink()
    truncated = golden(simple, "truncated_file")
    for file in truncated.rglob("*.parquet"):
        if "_delta_log" not in str(file):
            file.write_bytes(file.read_bytes()[:40])
    others = golden(simple, "other_types")
    for commit in (others / "_delta_log").glob("*.json"):
        commit.write_text(commit.read_text().replace('\\"type\\":\\"string\\"', '\\"type\\":\\"integer\\"'))
    garbage = golden(simple, "garbage_file")
    for file in garbage.rglob("*.parquet"):
        if "_delta_log" not in str(file):
            whole = file.read_bytes()
            # Of the right length, with the marks at both ends and the footer's length intact.
            file.write_bytes(whole[:4] + bytes(range(256)) * (len(whole) // 256 + 1))
            file.write_bytes(file.read_bytes()[: len(whole) - 8] + whole[-8:])
    future = golden(simple, "future_feature")
    log = sorted((future / "_delta_log").glob("*.json"))[0]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "protocol" in line:
            line["protocol"] = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["timeMachine"], "writerFeatures": ["timeMachine"]}
    log.write_text("\n".join(json.dumps(line) for line in lines))
    (root / "empty_table/_delta_log").mkdir(parents=True)
    pq.write_table(pa.table({f"c{i}": [i] for i in range(10_000)}), root / "wide.parquet")
    return root


@pytest.fixture(scope="module")
def bad(lake, tmp_path_factory):
    from conftest import Server

    one = Server(tmp_path_factory.mktemp("state-bad"), "--data", lake)
    yield one
    assert one.query("SELECT 1 AS x").to_pylist() == [{"x": 1}], "the server did not live on"
    one.stop()


@pytest.mark.parametrize(
    "sql, words",
    [
        ("SELEC 1", ["line 1", "column 1", "42601"]),
        ("SELECT 1 +\n  FROM good", ["line 2"]),
        ("SELECT 'open", ["line 1"]),
        ("SELECT * FROM goood", ["good", "42P01"]),
        ("SELECT nope FROM good", ["nope", "42703"]),
        ("SELECT nosuchfunction(1)", ["nosuchfunction"]),
        ("SELECT 1; SELECT 2", ["end of the statement"]),
        ("", []),
        ("DROP TABLE good", ["read-only"]),
        ("INSERT INTO good VALUES (1)", ["read-only"]),
        ("SELECT * FROM read_parquet('/etc/passwd')", ["read_parquet"]),
        ("SELECT * FROM delta.`/etc`", ["delta"]),
        ("SET nosuch = 1", ["nosuch"]),
        ("SET engine = 'oracle'", ["oracle", "duckdb"]),
        ("SELECT 1/0", ["DIVIDE_BY_ZERO", "22012"]),
        ("SELECT CAST('x' AS INT)", ["CAST_INVALID_INPUT", "22018"]),
        ("SELECT * FROM corrupt_log", ["corrupt_log"]),
        ("SELECT * FROM future_feature", ["not eligible", "timeMachine"]),
        ("SELECT * FROM empty_table", ["empty_table"]),
    ],
)
def test_bad_statements_are_explained(bad, sql, words):
    with pytest.raises(Exception) as caught:
        bad.query(sql)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert "panicked" not in message


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
@pytest.mark.parametrize("table", ["missing_file", "truncated_file"])
def test_damaged_files_are_data_loss_on_each_engine(bad, table, engine):
    with pytest.raises(Exception) as caught:
        bad.query(f"SELECT * FROM {table}", engine=engine)
    assert table in str(caught.value) or ".parquet" in str(caught.value), caught.value
    assert bad.query("SELECT count(*) AS n FROM good", engine=engine).to_pylist()[0]["n"] > 0


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
@pytest.mark.parametrize("table", ["garbage_file", "other_types"])
def test_files_that_hold_something_else_are_data_loss(bad, engine, table):
    with pytest.raises(Exception, match="DataLoss") as caught:
        bad.query(f"SELECT * FROM {table}", engine=engine)
    assert "/lake/" not in str(caught.value)


def test_ten_thousand_columns(bad):
    for engine in ["duckdb", "datafusion"]:
        assert bad.query("SELECT * FROM wide", engine=engine).num_columns == 10_000


def test_huge_and_deep_statements(bad):
    with pytest.raises(Exception, match="(?i)too long|larger|bytes|MB"):
        bad.query("SELECT '" + "x" * (20 << 20) + "'")
    for deep in ["SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT 1" + " + 1" * 20_000, "SELECT " + "NOT " * 20_000 + "true"]:
        try:
            bad.query(deep)
        except Exception as error:
            assert "panicked" not in str(error)
        assert bad.query("SELECT 2 AS x").to_pylist() == [{"x": 2}]


def nested_in_ctes(constructor, levels):
    ctes = [f"t0 AS (SELECT {constructor.format('1')} AS x)"]
    ctes += [f"t{n} AS (SELECT {constructor.format('x')} AS x FROM t{n - 1})" for n in range(1, levels)]
    return f"WITH {', '.join(ctes)} SELECT x FROM t{levels - 1}"


@pytest.mark.parametrize("sql", [
    f"SELECT CAST(NULL AS {'ARRAY<' * 3000}INT{'>' * 3000}) AS a",
    f"SELECT TRY_CAST(NULL AS {'MAP<INT, ' * 3000}INT{'>' * 3000}) AS a",
    f"SELECT CAST(NULL AS {'STRUCT<a: ' * 3000}INT{'>' * 3000}) AS a",
    f"SELECT CAST(NULL AS {'array < ' * 500}INT{' > ' * 500}) AS a",
    f"SELECT from_json('x', '{'ARRAY<' * 500}INT{'>' * 500}') AS a",
    nested_in_ctes("array({0})", 90),
    nested_in_ctes("struct({0}, {0}, {0})", 60),
    nested_in_ctes("collect_list({0})", 90),
], ids=["array", "map", "struct", "spaces", "from_json", "ctes", "wide", "aggregates"])
def test_types_nest_up_to_a_limit(bad, sql):
    with pytest.raises(Exception, match="nests deeper|has more than .* parts"):
        bad.query(sql)
    assert bad.query(nested_in_ctes("array({0})", 40)).num_rows == 1
    assert bad.query("SELECT 1 < 2 AND 3 > 2 AS x, CAST(NULL AS MAP<STRING, ARRAY<INT>>) AS y").num_rows == 1


def run(*args, **kwargs):
    return subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, timeout=60, **kwargs)


def test_a_port_in_use_and_missing_folders_are_explained(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--data", tmp_path, "--listen", f"127.0.0.1:{port}", env={"FLIGHTPATH_STATE_DIR": str(tmp_path / "s"), "PATH": "/bin"})
        assert done.returncode == 1 and str(port) in done.stderr and "in use" in done.stderr, done.stderr
    done = run("serve", "--data", tmp_path / "none")
    assert done.returncode == 2 and "none" in done.stderr
    done = run("serve", "--data", tmp_path, "--listen", "0.0.0.0:0")
    assert done.returncode == 2 and "auth" in done.stderr, done.stderr


def test_every_mistake_in_a_settings_file_is_reported(tmp_path):
    file = tmp_path / "f.toml"
    file.write_text('listne = "x"\n[limits]\nqueue_max = -1\n')
    done = run("check", "--config", file)
    assert done.returncode == 2
    assert f"{file}:1" in done.stderr and "did you mean `listen`" in done.stderr and f"{file}:3" in done.stderr


# Little text, much memory: what an expression makes is no operator's, so no memory pool sees it.
LONG = "x" * 1_000_000
GROWING = [
    "SELECT sequence(1, 2147483000)",
    "SELECT repeat('x', 2000000000)",
    "SELECT max(length(s)) FROM (SELECT space(100000 + o_orderkey % 2) s FROM orders)",
    "SELECT max(length(lpad(o_comment, 100000, 'x'))) FROM orders",
    "SELECT max(size(array_repeat(repeat(o_comment, 10000), 1000))) FROM orders",
    "SELECT max(length(replace(repeat('a', 20000), 'a', repeat('b', 20000)))) FROM orders",
    "SELECT max(length(regexp_replace(repeat('a', 100000), 'a', repeat('b', 100000)))) FROM orders",
    "SELECT aggregate(sequence(1, 40), 'aaaaaaaa', (acc, x) -> concat(acc, acc)) FROM orders",
    "SELECT length(concat_ws(repeat('s', 1000000), sequence(1, 100000)))",
    "SELECT max(size(array_insert(array(1), 2000000000, 2))) FROM orders",
    f"SELECT max(length('{LONG}' || o_comment)) FROM orders",
    "SELECT count(DISTINCT array_join(sequence(1, 50000), ',')) FROM orders",
    "SELECT max(x) FROM (SELECT o_comment, explode(array_repeat(o_comment, 2000)) x FROM orders)",
]


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    from conftest import Server, populate

    root = tmp_path_factory.mktemp("growing")
    populate("tpch", 0.005, root / "data")
    one = Server(root / "state", "--data", root / "data")
    yield one
    one.stop()


@pytest.mark.parametrize("engine, sql", [("datafusion", sql) for sql in GROWING] + [("duckdb", sql) for sql in GROWING[:2] + GROWING[8:]])
def test_an_expression_cannot_take_all_memory(orders, engine, sql):
    pathlib.Path(f"/proc/{orders.process.pid}/clear_refs").write_text("5")
    try:
        assert orders.query(sql, engine, {"timeout_seconds": "5"}).num_rows >= 1
    except Exception as failure:
        known = ["ResourceExhausted", "not eligible", "DeadlineExceeded", "COLLECTION_SIZE_LIMIT"]
        assert any(word in str(failure) for word in known), str(failure)[:500]
    status = pathlib.Path(f"/proc/{orders.process.pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    assert peak < 3 << 30, f"{peak >> 20} MB"
    assert orders.query("SELECT count(*) AS n FROM orders", engine).to_pylist() == [{"n": 7500}]
