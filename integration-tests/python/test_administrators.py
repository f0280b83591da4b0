"""Who sees what everybody did: administrators by name and by a group of the workspace, and nobody else."""

import hashlib
import signal
import threading

import grpc
import pytest

from conftest import Server, populate, wait_until
from simulation import Simulation, connect
from test_api import Api

TOKENS = {"boss": "token-of-the-boss-001", "ana": "token-of-ana-00000001", "bob": "token-of-bob-00000001"}
TABLES = ["queries", "decisions", "shadow_runs", "savings"]


def entry(name, **more):
    text = f'[[auth.tokens]]\nprincipal = "{name}"\ntoken_sha256 = "{hashlib.sha256(TOKENS[name].encode()).hexdigest()}"\n'
    return text + "".join(f"{key} = {value}\n" for key, value in more.items())


def rows(server, sql, who):
    with connect(server, TOKENS[who]) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table().to_pylist()


def askers(server, who):
    return {r["principal"] for r in rows(server, "SELECT DISTINCT principal FROM system.queries", who)}


@pytest.fixture
def api():
    made = []

    def make(server, who):
        made.append(Api(server, f"Bearer {TOKENS[who]}"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_by_default_nobody_sees_more_than_their_own(server, tpch_dir):
    one = server("--data", tpch_dir, settings="".join(map(entry, TOKENS)))
    for who in TOKENS:
        rows(one, "SELECT count(*) FROM nation", who)
        assert askers(one, who) == {who}


def test_an_administrator_sees_everybodys_tables_and_calls(server, tpch_dir, api):
    one = server("--data", tpch_dir, settings=entry("boss", admin="true") + entry("ana") + entry("bob", admin="false"))
    for who in TOKENS:
        rows(one, f"SELECT count(*) AS of_{who} FROM nation", who)
    assert askers(one, "boss") == set(TOKENS)
    assert askers(one, "ana") == {"ana"} and askers(one, "bob") == {"bob"}
    for table in TABLES:
        rows(one, f"SELECT * FROM system.{table}", "boss")
    of_ana = "SELECT count(DISTINCT d.query_id) AS n FROM system.decisions d JOIN system.queries q ON q.query_id = d.query_id WHERE q.principal = 'ana'"
    assert rows(one, of_ana, "boss")[0]["n"] >= 1 and rows(one, of_ana, "bob")[0]["n"] == 0

    boss, ana, bob = (api(one, who) for who in TOKENS)
    [query] = [q for q in ana.call("ListQueries").queries if "of_ana" in q.text and "system." not in q.text]
    assert boss.call("GetQuery", query_id=query.query_id).query.principal == "ana"
    assert bob.refused("GetQuery", query_id=query.query_id)[0] == grpc.StatusCode.NOT_FOUND
    assert {q.principal for q in boss.call("ListQueries", page_size=1000).queries} == set(TOKENS)
    assert {q.principal for q in boss.call("ListQueries", page_size=1000, principal="bob").queries} == {"bob"}
    assert {q.principal for q in bob.call("ListQueries", page_size=1000).queries} == {"bob"}
    code, said = bob.refused("ListQueries", principal="ana")
    assert code == grpc.StatusCode.PERMISSION_DENIED and "your own" in said


def first_of(watch, marker, what):
    """The first decision on a statement with this marker."""
    found, ended = [], threading.Event()

    def look():
        try:
            for message in watch:
                if marker in message.text:
                    found.append(message)
                    break
        finally:
            ended.set()

    threading.Thread(target=look, daemon=True).start()
    return found, ended


def test_decisions_are_watched_by_whoever_may_see_them(server, tpch_dir, api):
    one = server("--data", tpch_dir, settings=entry("boss", admin="true") + entry("ana") + entry("bob"))
    boss, bob = api(one, "boss"), api(one, "bob")
    assert bob.refused_stream("WatchDecisions", principal="ana")[0] == grpc.StatusCode.PERMISSION_DENIED
    all_of_them, anas, bobs = boss.call("WatchDecisions"), boss.call("WatchDecisions", principal="ana"), bob.call("WatchDecisions")
    seen = {"all": first_of(all_of_them, "watched", "all"), "ana": first_of(anas, "watched", "ana"), "bob": first_of(bobs, "watched", "bob")}

    def ask():
        for who in ("ana", "bob"):
            rows(one, f"SELECT count(*) AS watched_{who} FROM nation", who)
        return all(ended.is_set() for _, ended in seen.values())

    wait_until(ask, what="every watcher's first decision")
    assert seen["ana"][0][0].principal == "ana" and seen["bob"][0][0].principal == "bob"
    assert seen["all"][0][0].principal in ("ana", "bob")


def test_the_role_is_given_and_taken_without_a_restart(server, tpch_dir):
    one = server("--data", tpch_dir, settings=entry("boss") + entry("ana"))
    config = one.state_dir / "flightpath.toml"
    rows(one, "SELECT count(*) FROM nation", "ana")
    assert askers(one, "boss") <= {"boss"}
    config.write_text(entry("boss", admin="true") + entry("ana"))
    one.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "ana" in askers(one, "boss"), what="the role")
    config.write_text(entry("boss") + entry("ana"))
    one.process.send_signal(signal.SIGHUP)
    wait_until(lambda: askers(one, "boss") == {"boss"}, what="the end of the role")


def test_members_of_a_group_of_the_workspace_are_administrators(tmp_path):
    data = tmp_path / "data"
    populate("tpch", 0.001, data)
    simulation = Simulation(tmp_path / "simulation", data, TOKENS, groups={"boss": ["platform-admins"], "bob": ["analysts"]})
    own = {"host": simulation.url, "warehouse_id": "simulated", "catalogs": ["main"], "local_roots": [str(data)]}
    import json

    text = '[auth]\ndatabricks_tokens = true\nadmin_groups = ["platform-admins"]\n[databricks]\n'
    text += "".join(f"{name} = {json.dumps(value)}\n" for name, value in own.items())
    server = Server(tmp_path / "state", settings=text)
    try:
        for who in TOKENS:
            rows(server, "SELECT count(*) FROM main.default.nation", who)
        assert askers(server, "boss") == set(TOKENS)
        assert askers(server, "bob") == {"bob"} and askers(server, "ana") == {"ana"}
    finally:
        server.stop()
        simulation.stop()
