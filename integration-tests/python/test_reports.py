"""`flightpath route-report` and `flightpath audit`: what a workload would take, and what it would have saved."""

import csv
import io
import json
import os
import subprocess
import urllib.request

import pytest
from conftest import BINARY, Server, populate, wait_until
from simulation import Simulation, connect, settings

PRINCIPALS = {"admin": "token-of-the-admin-01", "ana": "token-of-ana-00000001"}

WORKLOAD = r"""-- A workload; its comments part nothing.
USE lake.default;
SELECT count(*) FROM nation WHERE n_comment <> 'a;b';
/* the second; one */ SELECT r_name FROM region
WHERE r_comment <> r'\';
SELECT * FROM nowhere;
SHOW TABLES;;
SELECT n_name, count(*) FROM nation GROUP BY 1
"""


def run(*args, stdin=None, env=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLIGHTPATH_")} | (env or {})
    return subprocess.run([BINARY, *map(str, args)], capture_output=True, input=stdin, timeout=120, env=environment, text=True)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("reports")
    populate("tpch", 0.01, root / "data")
    simulation = Simulation(root / "simulation", root / "data", PRINCIPALS)
    server = Server(root / "state", settings=settings(simulation, PRINCIPALS, root / "data"))
    yield server, simulation
    server.stop()
    simulation.stop()


@pytest.fixture
def workload(tmp_path):
    path = tmp_path / "workload.sql"
    path.write_text(WORKLOAD)
    return path


def test_a_workload_is_reported_with_and_without_a_server(tpch, tpch_dir, workload):
    outcomes = ["local", "routed", "routed", "failed", "local", "routed"]
    for where in [["--uri", tpch.uri], ["--offline", "--data", tpch_dir]]:
        done = run("route-report", *where, "--format", "csv", workload)
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert [r["outcome"] for r in rows] == outcomes, done.stderr
        assert [int(r["line"]) for r in rows] == [2, 3, 4, 6, 7, 8]
        assert rows[2]["statement"].startswith("SELECT r_name") and "42P01" in rows[3]["reason"]
        assert all(float(r["predicted_ms"]) > 0 and r["reason"] for r in rows if r["outcome"] == "routed")
        assert "6 statements: 3 routed, 0 refused, 1 failed, 2 answered by the router itself" in done.stderr
        lines = run("route-report", *where, "--format", "json", workload).stdout.splitlines()
        assert [json.loads(line)["engine"] for line in lines] == [r["engine"] or None for r in rows]
    assert float(rows[1]["databricks_usd"]) > float(rows[1]["predicted_usd"])
    table = run("route-report", "--offline", "--data", tpch_dir, workload, workload)
    assert "file" in table.stdout and "12 statements: 6 routed" in table.stdout and "all on a warm Small warehouse" in table.stdout


def test_without_a_server_a_workspace_is_asked_and_its_warehouse_left_asleep(tmp_path):
    populate("tpch", 0.001, tmp_path / "data")
    simulation = Simulation(tmp_path / "simulation", tmp_path / "data", PRINCIPALS, {"main.default.customer": {"row_filter": "c_mktsegment = 'BUILDING'"}})
    try:
        config = tmp_path / "flightpath.toml"
        config.write_text(settings(simulation, PRINCIPALS, tmp_path / "data"))
        token = {"FLIGHTPATH_TOKEN": PRINCIPALS["ana"]}

        def explain(sql, env=token):
            return run("explain", "--offline", "--config", config, sql, env=env)

        both = explain("SELECT count(*) FROM main.default.nation")
        lines = both.stdout.splitlines()
        assert both.returncode == 0 and lines[0].startswith("→ duckdb") or lines[0].startswith("→ datafusion"), both.stderr
        [warehouse] = [line for line in lines if "databricks" in line]
        assert " ms " in warehouse and "$" in warehouse, both.stdout
        governed = explain("SELECT count(*) FROM main.default.customer")
        assert governed.stdout.startswith("→ databricks") and "row filter" in governed.stdout, governed.stdout + governed.stderr
        # Only the warehouse could say what this gives.
        unknown = explain("SELECT made_up(n_name) FROM main.default.nation")
        assert unknown.returncode == 4 and "nothing is sent to a warehouse" in unknown.stderr, unknown.stderr
        # No token, and one that the workspace doesn't know.
        assert explain("SELECT 1 FROM main.default.nation", env={}).returncode == 3
        assert explain("SELECT 1", env={"FLIGHTPATH_TOKEN": "token-of-nobody-000001"}).returncode == 3
        workload = tmp_path / "workload.sql"
        workload.write_text("SELECT count(*) FROM main.default.customer; SELECT n_name FROM main.default.nation")
        rows = run("route-report", "--offline", "--config", config, "--format", "json", workload, env=token).stdout.splitlines()
        assert [json.loads(row)["outcome"] for row in rows] == ["routed", "routed"] and json.loads(rows[0])["engine"] == "databricks"
        assert simulation.counters()["executions"] == 0
    finally:
        simulation.stop()


def test_the_two_sides_of_a_test_are_compared_from_the_record(server, tpch_dir, tmp_path):
    strategy = "ab:always:duckdb|always:datafusion:0.5:query"
    one = server("--data", tpch_dir, settings=f'[routing]\nstrategy = "{strategy}"\n')
    config = one.state_dir / "flightpath.toml"

    def report(*more):
        return run("ab-report", "--config", config, "--format", "json", *more, env={"FLIGHTPATH_STATE_DIR": str(one.state_dir)})

    nothing = report("--strategy", "ab:rules|latency")
    assert json.loads(nothing.stdout)["tests"] == [], nothing.stderr
    assert report("--strategy", "fastest").returncode == 2 and report("--strategy", "rules").returncode == 2
    misspelt = run("ab-report", env={"FLIGHTPATH_STATE_DIR": str(tmp_path / "misspelt")})
    assert misspelt.returncode == 1 and "there's no record at" in misspelt.stderr and not (tmp_path / "misspelt").exists()
    for turn in range(6):
        for shape in range(10):
            one.query(f"SELECT n_name, {', '.join(['n_regionkey'] * (shape + 1))} FROM nation ORDER BY n_nationkey LIMIT {turn + 1}")
    wait_until(lambda: sum(side["queries"] for test in json.loads(report().stdout)["tests"] for side in (test["a"], test["b"])) >= 60, what="the record")
    done = report("--days", "1")
    [test] = json.loads(done.stdout)["tests"]
    assert test["strategy"] == strategy and (test["a"]["strategy"], test["b"]["strategy"]) == ("always:duckdb", "always:datafusion")
    assert test["a"]["queries"] + test["b"]["queries"] == 60 and test["a"]["failed"] == test["b"]["failed"] == 0
    for measure in ("latency_ms", "usd"):
        found = test[measure]
        assert found["runs_a"] == test["a"]["queries"] and found["runs_b"] == test["b"]["queries"]
        assert found["method"] == "paired" and found["compared"] >= 8 and found["mean_a"] > 0 and found["mean_b"] > 0
        low, middle, high = (found["difference"][key] for key in ("low", "estimate", "high"))
        assert low <= middle <= high and found["ratio"]["low"] <= found["ratio"]["estimate"] <= found["ratio"]["high"]
        assert found["better"] == ("a" if low > 0 else "b" if high < 0 else None)
    table = run("ab-report", "--config", config, env={"FLIGHTPATH_STATE_DIR": str(one.state_dir)})
    assert strategy in table.stdout and "b - a" in table.stdout and "95%, paired over" in table.stdout, table.stdout
    same = report("--strategy", "ab:always:duckdb|always:datafusion:query")
    assert [test["strategy"] for test in json.loads(same.stdout)["tests"]] == [strategy], same.stderr
    other = run("ab-report", "--config", config, "--strategy", "ab:rules|latency", env={"FLIGHTPATH_STATE_DIR": str(one.state_dir)})
    assert "was part of the test `ab:rules|latency:0.5`" in other.stdout, other.stdout
    cut = report("--queries-max", "20")
    assert json.loads(cut.stdout)["cut"] and json.loads(cut.stdout)["queries_read"] == 20
    assert run("ab-report", "--config", config, "--days", "0").returncode == 2


def test_statements_that_change_something_are_decided_on_and_not_run(tmp_path):
    populate("tpch", 0.001, tmp_path / "data")
    simulation = Simulation(tmp_path / "simulation", tmp_path / "data", PRINCIPALS)
    config, workload = tmp_path / "flightpath.toml", tmp_path / "workload.sql"
    config.write_text(settings(simulation, PRINCIPALS, tmp_path / "data", writes=True))
    workload.write_text("INSERT INTO main.default.region VALUES (9, 'X', 'y'); DROP TABLE main.default.nation")
    server = Server(tmp_path / "state", settings=config.read_text())
    token = {"FLIGHTPATH_TOKEN": PRINCIPALS["ana"]}
    try:
        for where in [["--uri", server.uri], ["--offline", "--config", config]]:
            done = run("route-report", *where, "--format", "json", workload, env=token)
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert [(row["outcome"], row["engine"]) for row in rows] == [("routed", "databricks")] * 2, done.stdout + done.stderr
        explained = run("explain", "--uri", server.uri, "INSERT INTO main.default.region VALUES (9, 'X', 'y')", env=token)
        assert explained.stdout.startswith("→ databricks"), explained.stdout + explained.stderr
        texts = simulation.counters()["executions_by_text"]
        assert not any("INSERT" in text or "DROP" in text for text in texts), texts
    finally:
        server.stop()
        simulation.stop()


def test_statements_that_nobody_may_run_are_refused_and_wrong_ones_fail(tpch, tpch_dir, tmp_path):
    workload = tmp_path / "workload.sql"
    workload.write_text("DROP TABLE nation; SELECT made_up(n_name) FROM nation; SELECT nothing FROM nation")
    for where in [["--uri", tpch.uri], ["--offline", "--data", tpch_dir]]:
        done = run("route-report", *where, "--format", "json", workload)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["outcome"] for row in rows] == ["refused", "refused", "failed"], done.stdout + done.stderr
        assert "read-only" in rows[0]["reason"] and "3 statements: 0 routed, 2 refused, 1 failed" in done.stderr


def test_refusals_are_listed_and_files_that_cannot_be_used_are_named(tpch, tmp_path):
    refused = tmp_path / "refused.sql"
    refused.write_text("SELECT * FROM system.engines")
    done = run("route-report", "--uri", tpch.uri, "--engine", "duckdb", "--format", "json", refused)
    row = json.loads(done.stdout)
    assert row["outcome"] == "refused" and row["engine"] is None and "duckdb: " in row["reason"]
    empty = tmp_path / "empty.sql"
    empty.write_text("-- nothing; here\n")
    assert run("route-report", "--uri", tpch.uri, empty).returncode == 2
    assert "missing.sql" in run("route-report", "--uri", tpch.uri, tmp_path / "missing.sql").stderr
    assert run("route-report", "--uri", "grpc://127.0.0.1:1", refused).returncode == 3


def test_a_set_that_names_nothing_fails_and_changes_nothing(tpch, tpch_dir, tmp_path):
    workload = tmp_path / "workload.sql"
    workload.write_text("SET profile = nope; SET engine = spark; SET time_zone = 'Nowhere/Land'; SELECT 1; SET profile = batch; SELECT 1")
    for where in [["--uri", tpch.uri], ["--offline", "--data", tpch_dir]]:
        done = run("route-report", *where, "--format", "json", workload)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["outcome"] for row in rows] == ["failed"] * 3 + ["routed", "local", "routed"], done.stdout + done.stderr
        assert "there is no profile `nope`" in rows[0]["reason"] and "there is no engine `spark`" in rows[1]["reason"]
    assert run("route-report", "--offline", "--data", tpch_dir, "--engine", "spark", workload).returncode == 2


def test_savings_are_counted_against_databricks_and_its_history_can_be_audited(workspace, tmp_path):
    server, simulation = workspace
    with connect(server, PRINCIPALS["ana"]) as connection, connection.cursor() as cursor:
        for number in range(3):
            cursor.execute(f"SELECT count(*) FROM main.default.nation WHERE n_nationkey > {number}")
            cursor.fetchall()
        cursor.execute("SELECT queries, usd, databricks_usd, saved_usd FROM system.savings")
        [(queries, usd, databricks_usd, saved_usd)] = cursor.fetchall()
    assert queries == 3 and databricks_usd >= usd >= 0 and saved_usd == pytest.approx(databricks_usd - usd)
    asked = tmp_path / "asked.sql"
    asked.write_text("SELECT count(*) FROM main.default.nation")
    done = run("route-report", "--uri", server.uri, "--format", "json", asked, env={"FLIGHTPATH_TOKEN": PRINCIPALS["ana"]})
    assert json.loads(done.stdout)["databricks_usd"] > 0 and "if each were alone on Databricks" in done.stderr, done.stderr

    # What the workspace itself says of its history.
    with connect(server, PRINCIPALS["ana"], engine="databricks") as connection, connection.cursor() as cursor:
        for number in range(3):
            cursor.execute(f"SELECT count(*) FROM main.default.nation WHERE n_nationkey > {number}")
            cursor.fetchall()
    request = urllib.request.Request(
        simulation.url + "/api/2.0/sql/history/queries?include_metrics=true&max_results=500", headers={"authorization": "Bearer " + PRINCIPALS["ana"]}
    )
    exported = tmp_path / "history.json"
    exported.write_bytes(urllib.request.urlopen(request, timeout=30).read())
    done = run("audit", "--warehouse", "simulated=Small,10,serverless", "--format", "json", exported)
    report = json.loads(done.stdout)
    assert report["queries"] >= 3 and report["selects"] >= 3, done.stderr
    [warehouse] = report["warehouses"]
    assert warehouse["id"] == "simulated" and warehouse["size"] == "Small" and [e["warehouses"]["level"] for e in report["estimates"]] == ["low", "expected", "high"]


def test_what_the_warehouse_may_have_to_answer_isnt_told_as_the_routers(workspace, tpch, tmp_path):
    server, simulation = workspace
    workload = tmp_path / "workload.sql"
    workload.write_text("SHOW GRANTS ON TABLE main.default.nation; DESCRIBE HISTORY main.default.nation; SHOW TABLES; DESCRIBE main.default.nation")
    before = simulation.counters()["executions"]
    done = run("route-report", "--uri", server.uri, "--format", "json", workload, env={"FLIGHTPATH_TOKEN": PRINCIPALS["ana"]})
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["outcome"] for row in rows] == ["not_asked", "not_asked", "local", "local"], done.stdout + done.stderr
    assert "else by the warehouse" in rows[0]["reason"] and "2 may be the warehouse's to answer" in done.stderr
    assert simulation.counters()["executions"] == before
    # Without a warehouse the router answers all that's answered.
    workload.write_text("SHOW GRANTS ON TABLE nation; DESCRIBE HISTORY nation; EXPLAIN SELECT 1")
    rows = run("route-report", "--uri", tpch.uri, "--format", "json", workload).stdout.splitlines()
    assert [json.loads(row)["outcome"] for row in rows] == ["refused", "local", "local"], rows


def test_audit_says_what_it_assumes_and_what_it_left_out(tmp_path):
    start = 1_760_000_000_000
    page = {"next_page_token": "t", "res": [
        {"query_id": f"q{i}", "status": "FINISHED", "statement_type": "SELECT", "query_text": f"SELECT {i}", "warehouse_id": "w1",
         "query_start_time_ms": start + i * 60_000, "duration": 1_000, "metrics": {"read_bytes": 10_000_000}}
        for i in range(100)
    ] + [{"query_id": "r", "status": "RUNNING", "query_start_time_ms": start}]}
    first, second = tmp_path / "one.json", tmp_path / "two.json"
    first.write_text(json.dumps(page))
    second.write_text(json.dumps(page))
    done = run("audit", first, second)
    assert done.returncode == 0, done.stderr
    for expected in ["100 queries", "100 exported twice", "2 not ended", "USD saved in 30 days", "NOT KNOWN: size of w1", "This is an estimate",
                     "kind not known, taken as serverless", "NOT KNOWN: kind of w1", "100% of the queries that could leave, and 100% of their time: SELECT 0"]:
        assert expected in done.stdout, expected
    piped = run("audit", "--share", "0.5,0.6,0.7", "-", stdin=json.dumps(page))
    assert "50%, 60%, 70%" in piped.stdout
    marked, listed = tmp_path / "marked.json", tmp_path / "warehouses.json"
    marked.write_text(json.dumps(page), encoding="utf-8-sig")
    listed.write_text(json.dumps({"warehouses": [{"id": "w1", "cluster_size": "Small", "warehouse_type": "PRO"}]}), encoding="utf-8-sig")
    report = json.loads(run("audit", "--warehouses", listed, "--format", "json", marked).stdout)
    [warehouse], [heavy] = report["warehouses"], report["heavy_shapes"]
    assert report["queries"] == 100 and warehouse["size"] == "Small" and warehouse["kind"] == "pro" and warehouse["auto_stop_minutes"] is None
    assert heavy["queries"] == 100 and heavy["example"] == "SELECT 0"
    low, expected, high = (estimate["saved_usd"] for estimate in report["estimates"])
    assert low <= expected <= high
    page["res"].append({"query_id": "z", "status": "FINISHED", "query_start_time_ms": 0, "duration": 5})
    assert "1 without a start time" in run("audit", "-", stdin=json.dumps(page)).stdout
    piped = run("audit", "-", stdin=json.dumps(page) + '{"error_code": "PERMISSION_DENIED", "message": "no"}')
    assert "queries may be missing: PERMISSION_DENIED: no" in piped.stdout, piped.stderr
    refused = run("audit", "-", stdin='{"error_code": "PERMISSION_DENIED", "message": "no"}')
    assert refused.returncode == 1 and "the API answered PERMISSION_DENIED: no" in refused.stderr
    second.write_text(json.dumps(page)[:-20])
    torn = run("audit", second)
    assert torn.returncode == 1 and "two.json ends in the middle" in torn.stderr
    assert run("audit", "--share", "0.9,0.5,1", first).returncode == 2
    assert run("audit", "--warehouse", "w1=Huge", first).returncode == 2
    assert run("audit", tmp_path / "none.json").returncode == 2
