"""Each fault of the (simulated) workspace, in each kind of call: the whole answer or a typed error,
within the deadline, nothing executed twice, no secret told."""

import re

import pytest

from conftest import Server, populate
from simulation import Simulation, connect, settings

PRINCIPALS = {"ana": "token-of-ana-00000001"}
ANA = PRINCIPALS["ana"]
# Nobody but the warehouse may answer for it.
RULES = {"main.default.orders": {"row_filter": "o_orderkey > 0"}}
ROWS = 1500
SECRETS = re.compile(r"token-of|X-Simulated-Signature|x-simulated-storage-key|/storage/[0-9a-f]", re.IGNORECASE)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace-faults")
    data = root / "data"
    populate("tpch", 0.001, data)
    # Many small chunks by links, so that each kind of call happens.
    simulated = {"attachment_bytes_max": 0, "chunk_rows": 300, "history_calls_per_second": 0}
    simulation = Simulation(root / "simulation", data, PRINCIPALS, RULES, simulated)
    config = settings(simulation, PRINCIPALS, data, monitor_token=ANA, monitor_seconds=0.2, access_seconds=0.5)
    server = Server(root / "state", settings='log_level = "debug"\n' + config)
    yield server, simulation
    server.stop()
    simulation.stop()


@pytest.fixture(autouse=True)
def without_faults(workspace):
    server, simulation = workspace
    yield
    simulation.call("DELETE", "/simulation/faults")
    assert not SECRETS.search(server.stderr())


def ask(server, sql, seconds=20):
    """Number of rows, or none and the error."""
    try:
        with connect(server, ANA, timeout_seconds=str(seconds)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table().num_rows, ""
    except Exception as failure:
        return None, str(failure)


KINDS = ["execute", "poll", "chunk", "storage", "cancel", "warehouses", "history", "unity", "permissions", "credentials", "identity"]
FAULTS = {
    "429": {"status": 429, "retry_after": "1"},
    "503": {"status": 503, "retry_after": "1"},
    "500": {"status": 500},
    "500-done": {"status": 500, "after_execution": True},
    "dropped": {"drop_connection_mid_body": True},
    "truncated": {"truncate_body": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_fault_in_any_call(workspace, kind, fault):
    server, simulation = workspace
    sql = f"SELECT o_orderkey FROM main.default.orders /* {kind} {fault} */"
    simulation.call("POST", "/simulation/faults", {"match": kind, "times": 1, **FAULTS[fault]})
    rows, failure = ask(server, sql)
    assert rows == ROWS or (rows is None and failure), (rows, failure)
    # What may have been done is not done again; else a single fault is got over.
    if kind != "execute":
        assert rows == ROWS, failure
    assert simulation.counters()["executions_by_text"].get(sql, 0) <= 1
    assert not SECRETS.search(failure), failure
    simulation.call("DELETE", "/simulation/faults")
    assert ask(server, sql + " -- later")[0] == ROWS


@pytest.mark.parametrize("kind", ["execute", "poll", "chunk", "storage"])
@pytest.mark.parametrize("fault", ["500", "dropped", "truncated"])
def test_a_lasting_fault_is_an_error_within_the_deadline_never_a_short_result(workspace, kind, fault):
    server, simulation = workspace
    sql = f"SELECT o_orderkey FROM main.default.orders /* lasting {kind} {fault} */"
    # Learned before: the table's rules.
    assert ask(server, "SELECT o_orderkey FROM main.default.orders")[0] == ROWS
    simulation.call("POST", "/simulation/faults", {"match": kind, "times": 0, **FAULTS[fault]})
    rows, failure = ask(server, sql, seconds=5)
    assert rows is None and failure and not SECRETS.search(failure), (rows, failure)
    assert simulation.counters()["executions_by_text"].get(sql, 0) <= 1


@pytest.mark.parametrize("times", [1, 0], ids=["once", "always"])
@pytest.mark.parametrize("effect", ["expire_links", "wrong_row_count"])
def test_expired_links_are_asked_for_anew_and_results_that_do_not_add_up_are_errors(workspace, effect, times):
    server, simulation = workspace
    sql = f"SELECT o_orderkey FROM main.default.orders /* {effect} {times} */"
    simulation.call("POST", "/simulation/faults", {effect: True, "times": times})
    rows, failure = ask(server, sql, seconds=10)
    if effect == "expire_links" and times == 1:
        assert rows == ROWS, failure
    else:
        assert rows is None and failure and not SECRETS.search(failure), (rows, failure)
    assert simulation.counters()["executions_by_text"][sql] == 1


def test_links_that_expire_while_a_result_is_read_are_renewed(workspace):
    server, simulation = workspace
    simulation.call("POST", "/simulation/settings", {"link_lifetime_ms": 300, "links_per_answer": 5})
    try:
        rows, failure = ask(server, "SELECT o_orderkey FROM main.default.orders /* short links */")
        assert rows == ROWS, failure
    finally:
        simulation.call("POST", "/simulation/settings", {"link_lifetime_ms": 900_000, "links_per_answer": 1})
