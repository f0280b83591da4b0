"""What queries cost, checked against the (simulated) warehouse's own history."""

import json
import urllib.request

import pytest

from conftest import Server, populate, wait_until
from simulation import Simulation, connect, settings

PRINCIPALS = {"admin": "token-of-the-admin-01", "ana": "token-of-ana-00000001"}
ANA = PRINCIPALS["ana"]
GOVERNED = {"main.default.customer": {"row_filter": "c_mktsegment = 'BUILDING'"}}
ON_WAREHOUSE = "SELECT count(*) AS n FROM main.default.customer"
# Small, serverless: 12 DBU an hour at 0.70 USD.
USD_PER_MS = 12 * 0.70 / 3_600_000
AUTO_STOP_MS = 600_000


@pytest.fixture
def workspace(tmp_path):
    data = tmp_path / "data"
    populate("tpch", 0.001, data)
    made = []

    def make(warehouse=None, simulated=None, **databricks):
        simulation = Simulation(tmp_path / "simulation", data, PRINCIPALS, GOVERNED, {"history_calls_per_second": 0, **(simulated or {})}, warehouse, monitors=["admin"])
        made.append(simulation)
        own = {"monitor_token": PRINCIPALS["admin"], "monitor_seconds": 0.1, "reconcile_seconds": 0.2, **databricks}
        made.append(Server(tmp_path / "state", settings=settings(simulation, PRINCIPALS, data, **own)))
        return made[-1], simulation

    yield make
    for one in reversed(made):
        one.stop()


def rows(server, sql, token=ANA):
    with connect(server, token) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table().to_pylist()


def recorded(server, where="engine = 'databricks'"):
    return rows(
        server,
        "SELECT query_id, text, outcome, predicted_usd, actual_usd, statement_id, warehouse_ms, reconciled_at, engine_ms "
        f"FROM system.queries WHERE {where} AND text NOT LIKE '%system.queries%' ORDER BY started_at",
    )


def history(simulation):
    url = f"{simulation.url}/api/2.0/sql/history/queries?include_metrics=true&max_results=900"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {PRINCIPALS['admin']}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.loads(answer.read())["res"]
    ours = {}
    for line in found:
        for tag in line.get("query_tags", []):
            if tag["key"] == "flightpath_query_id":
                ours[tag["value"]] = line
    return ours


def reconciled(server, count):
    wait_until(lambda: sum(r["reconciled_at"] is not None for r in recorded(server)) >= count, what="the costs' check")
    return recorded(server)


def test_costs_are_those_that_the_history_tells(workspace):
    server, simulation = workspace(warehouse={"running": False, "start_delay_ms": 300, "cluster_size": "Small"})
    for _ in range(3):
        rows(server, ON_WAREHOUSE)
    found = reconciled(server, 3)
    told = history(simulation)
    assert [r["query_id"] in told and told[r["query_id"]]["query_id"] == r["statement_id"] for r in found] == [True] * 3
    for record in found:
        line = told[record["query_id"]]
        assert record["warehouse_ms"] == line["execution_end_time_ms"] - line["metrics"]["query_compilation_start_timestamp"]
        assert record["warehouse_ms"] <= record["engine_ms"] + 1
    # The first one woke it: start, run and idle tail. The others lengthened its time by theirs and the idle time before.
    woke, *later = found
    first = told[woke["query_id"]]["metrics"]
    start_ms = first["query_compilation_start_timestamp"] - first["provisioning_queue_start_timestamp"]
    assert start_ms >= 290
    assert woke["actual_usd"] == pytest.approx((start_ms + woke["warehouse_ms"] + AUTO_STOP_MS) * USD_PER_MS)
    before = told[woke["query_id"]]["execution_end_time_ms"]
    for record in later:
        line = told[record["query_id"]]
        idle_ms = max(0, line["metrics"]["query_compilation_start_timestamp"] - before)
        assert record["actual_usd"] == pytest.approx((idle_ms + record["warehouse_ms"]) * USD_PER_MS)
        before = line["execution_end_time_ms"]
    # Together they pay for all the time that it was up, once.
    up_ms = before - first["provisioning_queue_start_timestamp"] + AUTO_STOP_MS
    assert sum(r["actual_usd"] for r in found) == pytest.approx(up_ms * USD_PER_MS)
    # What a day cost follows.
    [day] = rows(server, "SELECT queries, usd FROM system.savings")
    assert day["queries"] == 3 and day["usd"] == pytest.approx(sum(r["actual_usd"] for r in found))


def test_an_outage_of_the_history_is_outlived_and_nothing_wakes_the_warehouse(workspace):
    server, simulation = workspace(warehouse={"running": False, "start_delay_ms": 0, "cluster_size": "Small"})
    fault = {"match": "history", "status": 503, "times": 0}
    simulation.call("POST", "/simulation/faults", fault)
    rows(server, ON_WAREHOUSE)
    wait_until(lambda: "can't be checked against the warehouse's history" in server.stderr(), what="the warning")
    [before] = recorded(server)
    assert before["outcome"] == "success" and before["reconciled_at"] is None and before["actual_usd"] > 0
    statements = simulation.counters()
    statements = simulation.counters()
    simulation.call("DELETE", "/simulation/faults")
    [after] = reconciled(server, 1)
    assert after["warehouse_ms"] is not None and server.stderr().count("can't be checked against the warehouse's history") == 1
    # Looking ran no statement and started nothing.
    now = simulation.counters()
    usage = lambda counters: (counters["executions"], counters["warehouses"]["simulated"]["starts"])
    assert usage(now) == usage(statements)


def test_it_can_be_switched_off(workspace):
    server, simulation = workspace(reconcile_seconds=0, monitor_seconds=60)
    rows(server, ON_WAREHOUSE)
    asked = simulation.counters()["calls"].get("history", 0)
    [record] = recorded(server)
    assert record["reconciled_at"] is None and record["actual_usd"] > 0
    assert simulation.counters()["calls"].get("history", 0) == asked


def test_without_a_monitors_token_it_says_so(workspace):
    server, _ = workspace(monitor_token="")
    assert "costs aren't checked against the warehouse's history: set databricks.monitor_token" in server.stderr()
    assert rows(server, ON_WAREHOUSE)[0]["n"] >= 0
