"""The `flightpath` command as a person uses it."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pyarrow as pa
import pytest
from conftest import BINARY, populate

PASSWORD = "correct horse"


def run(*args, stdin=None, env=None, seconds=120):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLIGHTPATH_")} | (env or {})
    return subprocess.run([BINARY, *map(str, args)], capture_output=True, input=stdin, timeout=seconds, env=environment)


def test_sql_in_every_format(tpch):
    sql = "SELECT r_regionkey, r_name FROM region ORDER BY 1 LIMIT 2"
    table = run("sql", "--uri", tpch.uri, sql)
    assert table.returncode == 0, table.stderr
    text = table.stdout.decode()
    assert "r_regionkey" in text and "bigint" in text and "AFRICA" in text and "2 rows in" in text and " on " in text
    csv = run("sql", "--uri", tpch.uri, "--format", "csv", sql)
    assert csv.stdout.decode().splitlines() == ["r_regionkey,r_name", "0,AFRICA", "1,AMERICA"]
    rows = [json.loads(line) for line in run("sql", "--uri", tpch.uri, "--format", "json", sql).stdout.splitlines()]
    assert rows == [{"r_regionkey": 0, "r_name": "AFRICA"}, {"r_regionkey": 1, "r_name": "AMERICA"}]
    arrow = run("sql", "--uri", tpch.uri, "--format", "arrow", sql)
    assert pa.ipc.open_stream(arrow.stdout).read_all().num_rows == 2
    empty = run("sql", "--uri", tpch.uri, "--format", "csv", "SELECT r_name FROM region WHERE false")
    assert empty.stdout.decode().splitlines() == ["r_name"]


def test_sql_reads_standard_input_and_several_statements(tpch):
    done = run("sql", "--uri", tpch.uri, "--format", "csv", stdin=b"SELECT 1 AS a; -- first; not a statement\nSELECT ';' AS b;")
    assert done.stdout.decode().splitlines() == ["a", "1", "b", ";"], done.stderr


def test_json_of_maps_whose_keys_are_no_texts(tpch):
    done = run("sql", "--uri", tpch.uri, "--format", "json", "SELECT map(1, array(map(DATE'2024-01-02', 2.5D))) AS m, CAST(NULL AS MAP<INT, INT>) AS n")
    assert json.loads(done.stdout) == {"m": {"1": [{"2024-01-02": 2.5}]}, "n": None}, done.stderr


def test_an_error_in_a_script_tells_where_its_statement_begins(tpch):
    done = run("sql", "--uri", tpch.uri, stdin=b"SELECT 1;\n\n-- the second\nSELECT nothing FROM nation;")
    assert done.returncode == 1 and b"in the statement that begins on line 4: " in done.stderr, done.stderr
    alone = run("sql", "--uri", tpch.uri, "SELECT nothing FROM nation")
    assert alone.returncode == 1 and b"begins on line" not in alone.stderr


def test_a_duckdb_text_may_use_functions_that_read_nothing(tpch):
    done = run("sql", "--uri", tpch.uri, "--dialect", "duckdb", "--engine", "duckdb", "--format", "csv", "SELECT sum(range) AS s FROM range(4)")
    assert done.stdout.decode().splitlines() == ["s", "6"], done.stderr


def test_exit_codes_tell_what_went_wrong(tpch):
    assert b"no engine may run the query" in run("--help").stdout
    assert run("sql", "--uri", tpch.uri, "SELECT 1/0").returncode == 1
    assert run("sql", "--uri", "grpc://127.0.0.1:1", "SELECT 1").returncode == 3
    assert run("sql", "--uri", tpch.uri, "--engine", "duckdb", "SELECT * FROM system.engines").returncode == 4
    assert run("sql", "--uri", tpch.uri, stdin=b"  ").returncode == 2
    assert run("nosuchcommand").returncode == 2


def test_explain_with_and_without_a_server(tpch, tpch_dir):
    online = run("explain", "--uri", tpch.uri, "SELECT count(*) FROM lineitem")
    offline = run("explain", "--offline", "--data", tpch_dir, "SELECT count(*) FROM lineitem")
    for done in [online, offline]:
        text = done.stdout.decode()
        assert done.returncode == 0 and text.startswith("→ ") and "duckdb" in text and "datafusion" in text, done.stderr
        lines = text.splitlines()
        assert all(re.search(r"[\d.]+ ms \(95%: [\d.]+\) ", line) for line in lines[:2]), text
        assert lines[2:] == ["decided by strategy `rules` of profile `default`"]
    assert run("explain", "--offline", "--data", tpch_dir, "SELECT * FROM nowhere").returncode == 1
    assert run("explain", "--offline", "--data", tpch_dir, "DROP TABLE nation").returncode == 4
    assert run("explain", "--offline", "--data", tpch_dir, "--engine", "spark", "SELECT 1").returncode == 2
    refused = run("explain", "--uri", tpch.uri, "--engine", "duckdb", "SELECT count(*) FROM system.queries")
    assert refused.returncode == 4 and refused.stdout.count("✗".encode()) == 2 and b"no engine may run this query" in refused.stderr


def test_explain_says_which_strategy_and_profile_decided(server, tpch_dir):
    one = server("--data", tpch_dir, settings='[profiles.mine]\nstrategy = "ab:rules|latency"\n[routing]\nprofile = "mine"\n')
    rows = one.query("EXPLAIN ROUTE SELECT count(*) FROM lineitem").to_pylist()
    assert {row["profile"] for row in rows} == {"mine"}
    [strategy] = {row["strategy"] for row in rows}
    assert re.fullmatch(r"ab:rules\|latency:0\.5 \((a: rules|b: latency)\)", strategy), strategy
    # The same shape of the same user is drawn for the same side.
    done = run("explain", "--uri", one.uri, "SELECT count(*) FROM lineitem")
    assert done.stdout.decode().splitlines()[-1] == f"decided by strategy `{strategy}` of profile `mine`", done.stderr


def test_check_names_what_is_wrong(tpch_dir, tmp_path):
    good = run("check", "--data", tpch_dir, env={"FLIGHTPATH_STATE_DIR": str(tmp_path / "state"), "FLIGHTPATH_LISTEN": "127.0.0.1:0"})
    assert good.returncode == 0, good.stdout
    assert b"8 tables can be read" in good.stdout and b"the worker starts" in good.stdout
    lake = tmp_path / "lake"
    (lake / "broken/_delta_log").mkdir(parents=True)
    (lake / "broken/_delta_log/00000000000000000000.json").write_text("{")
    bad = run(
        "check", "--data", lake,
        env={"FLIGHTPATH_STATE_DIR": str(tmp_path / "state"), "FLIGHTPATH_LISTEN": "127.0.0.1:0", "FLIGHTPATH_LOG_URL": "postgres://x:topsecret@127.0.0.1:1/y"},
    )
    assert bad.returncode == 1
    assert b"lake.default.broken" in bad.stdout and b"FAIL  log" in bad.stdout and b"127.0.0.1:1 (database y)" in bad.stdout and b"topsecret" not in bad.stdout + bad.stderr
    (tmp_path / "empty").mkdir()
    empty = run("check", "--data", tmp_path / "empty", env={"FLIGHTPATH_STATE_DIR": str(tmp_path / "state"), "FLIGHTPATH_LISTEN": "127.0.0.1:0"})
    assert empty.returncode == 1 and b"a table is a folder with a _delta_log" in empty.stdout
    listed = run("check", "--list-settings").stdout.decode()
    assert "engines.duckdb.memory" in listed and "FLIGHTPATH_LOG_URL" in listed


def test_populate_refuses_to_overwrite_and_leaves_no_half_table(tmp_path):
    out = tmp_path / "data"
    populate("tpch", 0.001, out)
    again = run("populate", "tpch", "--scale", 0.001, "--out", out)
    assert again.returncode == 1 and b"--force" in again.stderr
    assert run("populate", "tpch", "--scale", 0.001, "--out", out, "--force").returncode == 0
    interrupted = tmp_path / "interrupted"
    process = subprocess.Popen([BINARY, "populate", "tpch", "--scale", "5", "--out", str(interrupted)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(interrupted.rglob("*.parquet")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # What looks like a table is one, whole.
    for table in [p for p in interrupted.iterdir() if (p / "_delta_log").is_dir() and not p.name.startswith((".", "_"))]:
        assert any((table / "_delta_log").glob("*.json"))
    shutil.rmtree(interrupted)


@pytest.fixture(scope="module")
def password_hash():
    done = run("hash-password", stdin=PASSWORD.encode() + b"\n")
    assert done.returncode == 0
    return done.stdout.decode().strip()


def authenticated(password_hash, extra=""):
    token = hashlib.sha256(b"robot-token").hexdigest()
    return f'{extra}\n[[auth.users]]\nname = "ana"\npassword_hash = "{password_hash}"\n[[auth.tokens]]\nprincipal = "robot"\ntoken_sha256 = "{token}"\n'


def test_users_and_tokens_by_settings(server, tpch_dir, password_hash):
    one = server("--data", tpch_dir, settings=authenticated(password_hash))
    assert one.query("SELECT 1 AS x", username="ana", password=PASSWORD).to_pylist() == [{"x": 1}]
    for wrong in [{}, {"username": "ana", "password": "wrong"}, {"username": "eve", "password": PASSWORD}]:
        with pytest.raises(Exception, match="(?i)unauthenticated"):
            one.query("SELECT 1", **wrong)
    bearer = {"adbc.flight.sql.authorization_header": "Bearer robot-token"}
    assert one.query("SELECT 1 AS x", **bearer).to_pylist() == [{"x": 1}]
    # Each sees its own queries only.
    assert {r["principal"] for r in one.query("SELECT principal FROM system.queries", **bearer).to_pylist()} == {"robot"}
    done = run("sql", "--uri", one.uri, "--user", "ana", "SELECT 1", env={"FLIGHTPATH_PASSWORD": PASSWORD})
    assert done.returncode == 0, done.stderr
    assert run("sql", "--uri", one.uri, "SELECT 1").returncode == 3


def test_tls_by_settings(server, tpch_dir, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    one = server("--data", tpch_dir, settings=f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    assert one.uri.startswith("grpc+tls://")
    trusted = {"adbc.flight.sql.client_option.tls_root_certs": certificate.read_text()}
    assert one.query("SELECT 1 AS x", **trusted).to_pylist() == [{"x": 1}]
    done = run("sql", "--uri", one.uri, "--tls-ca", certificate, "SELECT 1")
    assert done.returncode == 0, done.stderr
    with pytest.raises(Exception):
        one.query("SELECT 1")
