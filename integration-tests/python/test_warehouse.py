"""A (simulated) warehouse behind the server: asleep, full, stuck, cancelled; whose token it is; what only it can tell."""

import json
import threading

import adbc_driver_manager
import pyarrow.flight as flight
import pytest

from conftest import Server, populate, wait_until
from simulation import Simulation, connect, settings
from test_faults import statement

PRINCIPALS = {"admin": "token-of-the-admin-01", "ana": "token-of-ana-00000001", "bob": "token-of-bob-00000001"}
ANA = PRINCIPALS["ana"]
# What nobody but the warehouse may run.
GOVERNED = {"main.default.customer": {"row_filter": "c_mktsegment = 'BUILDING'"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("warehouse") / "data"
    populate("tpch", 0.001, out)
    return out


@pytest.fixture
def workspace(tmp_path, data):
    """Makes a server in front of a simulation; ends both."""
    made = []

    def make(tables=GOVERNED, warehouse=None, simulated=None, listed=PRINCIPALS, extra="", **databricks):
        simulation = Simulation(tmp_path / f"simulation-{len(made)}", data, PRINCIPALS, tables, {"history_calls_per_second": 0, **(simulated or {})}, warehouse)
        made.append(simulation)
        config = extra + settings(simulation, listed, data, **databricks)
        made.append(Server(tmp_path / f"state-{len(made)}", settings=config))
        return made[-1], simulation

    yield make
    for one in reversed(made):
        one.stop()


def rows(server, sql, token=ANA, **headers):
    with connect(server, token, **headers) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table().to_pylist()


def error(server, sql, token=ANA, **headers):
    with pytest.raises(Exception) as raised:
        rows(server, sql, token, **headers)
    return str(raised.value)


def states(simulation, text):
    """States of the statements with this text, as the workspace's own history has them."""
    import urllib.request

    request = urllib.request.Request(f"{simulation.url}/api/2.0/sql/history/queries?max_results=900", headers={"authorization": f"Bearer {ANA}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.loads(answer.read()).get("res", [])
    return [query["status"] for query in found if query["query_text"] == text]


def in_background(work):
    outcome = []

    def run():
        try:
            outcome.append(work())
        except Exception as failure:
            outcome.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


@pytest.mark.parametrize("lost", [0, 1], ids=["told-once", "first-cancel-lost"])
def test_a_cancelled_query_is_cancelled_in_the_warehouse_and_watched_until_it_has_ended(workspace, lost):
    server, simulation = workspace()
    sql = f"SELECT count(*) AS n FROM main.default.customer /* {lost} */"
    simulation.call("POST", "/simulation/faults", {"never_finish": True, "times": 0})
    if lost:
        simulation.call("POST", "/simulation/faults", {"lose_cancel": True, "times": lost})
    with connect(server, ANA) as connection, connection.cursor() as cursor:
        thread, outcome = in_background(lambda: (cursor.execute(sql), cursor.fetchall()))
        wait_until(lambda: states(simulation, sql) == ["RUNNING"], what="the statement in the warehouse")
        cursor.adbc_cancel()
        thread.join(30)
        assert isinstance(outcome[0], Exception), outcome
    wait_until(lambda: states(simulation, sql) == ["CANCELED"], 60, what="the statement's end in the warehouse")
    counters = simulation.counters()
    assert counters["cancels"] == 1 + lost and counters["executions_by_text"][sql] == 1


def test_a_statement_that_never_ends_meets_its_deadline_and_is_ended(workspace):
    server, simulation = workspace()
    simulation.call("POST", "/simulation/faults", {"never_finish": True, "times": 0})
    sql = "SELECT count(*) AS n FROM main.default.customer"
    assert "deadline" in error(server, sql, timeout_seconds="1").lower()
    wait_until(lambda: states(simulation, sql) == ["CANCELED"], 60, what="the statement's end in the warehouse")
    assert simulation.counters()["executions_by_text"][sql] == 1


def test_the_time_limit_holds_for_learning_columns_too(workspace):
    server, simulation = workspace()
    simulation.call("POST", "/simulation/faults", {"never_finish": True, "times": 0})
    assert "deadline" in error(server, "SELECT * FROM main.default.nation TABLESAMPLE (5 PERCENT)", timeout_seconds="1").lower()


def test_a_sleeping_warehouse_is_left_alone_until_it_is_needed_and_then_waited_for(workspace):
    server, simulation = workspace(
        warehouse={"running": False, "start_delay_ms": 1_500}, monitor_token=PRINCIPALS["admin"], monitor_seconds=0.1
    )
    starts = lambda: simulation.counters()["warehouses"]["simulated"]["starts"]
    free = "SELECT count(*) AS n FROM main.default.nation"
    route = "EXPLAIN ROUTE SELECT count(*) AS n FROM main.default.nation"
    wait_until(lambda: any(r["engine"] == "databricks" and r["predicted_ms"] > 1_000 for r in rows(server, route)), what="a look at the warehouse")
    assert rows(server, free) == [{"n": 25}]
    assert starts() == 0, "something woke the warehouse"
    assert rows(server, "SELECT count(*) AS n FROM main.default.customer")[0]["n"] > 0
    assert starts() == 1
    wait_until(lambda: all(r["predicted_ms"] < 1_000 for r in rows(server, route) if r["engine"] == "databricks"), what="a look at the warm warehouse")


def test_only_the_query_that_wakes_the_warehouse_is_charged_for_it(workspace):
    server, simulation = workspace(
        warehouse={"running": False, "start_delay_ms": 500}, monitor_token=PRINCIPALS["admin"], monitor_seconds=3_600, reconcile_seconds=0
    )
    sql = "SELECT count(*) AS n FROM main.default.customer"
    predicted = lambda: next(r for r in rows(server, "EXPLAIN ROUTE " + sql) if r["engine"] == "databricks")
    wait_until(lambda: predicted()["predicted_ms"] > 1_000, what="a look at the warehouse")
    asleep = predicted()
    assert rows(server, sql)[0]["n"] > 0
    # Nobody has looked since: that it's up is known by its answer.
    warm = predicted()
    assert warm["predicted_ms"] < 1_000 and warm["predicted_usd"] < asleep["predicted_usd"] / 10, (asleep, warm)
    assert rows(server, sql)[0]["n"] > 0
    woke, later = rows(server, "SELECT actual_usd FROM system.queries WHERE engine = 'databricks' AND text LIKE 'SELECT count%' ORDER BY started_at")
    assert woke["actual_usd"] > 0.9 * asleep["predicted_usd"] and later["actual_usd"] < woke["actual_usd"] / 10, (woke, later)
    assert simulation.counters()["warehouses"]["simulated"]["starts"] == 1


def test_who_may_not_use_the_warehouse_does_not_wake_it_by_asking_what_only_it_understands(workspace):
    profiles = '[profiles.local]\nengines = ["duckdb", "datafusion"]\n[profiles.broke]\nbudget_usd_per_day = 0\n'
    server, simulation = workspace(warehouse={"running": False, "start_delay_ms": 0}, extra=profiles)
    refused = (({"profile": "local"}, "doesn't use"), ({"profile": "broke"}, "has spent"), ({"engine": "duckdb"}, "pins engine"))
    sampled = "SELECT * FROM main.default.nation TABLESAMPLE (5 PERCENT)"
    for sql in (sampled, "EXPLAIN ROUTE " + sampled, "SHOW GRANTS ON TABLE main.default.nation"):
        for headers, why in refused:
            message = error(server, sql, **headers)
            assert "not eligible" in message and why in message, message
    # What is asked before anything is executed, too.
    with connect(server, ANA, profile="local") as connection, connection.cursor() as cursor:
        # The driver goes on to ask for parameters, and tells of that.
        with pytest.raises(Exception):
            cursor.adbc_prepare(sampled)
    counters = simulation.counters()
    assert counters["executions"] == 0 and counters["warehouses"]["simulated"]["starts"] == 0, counters
    rows(server, "SHOW GRANTS ON TABLE main.default.nation")
    assert simulation.counters()["warehouses"]["simulated"]["starts"] == 1


def test_who_wakes_the_warehouse_by_asking_what_only_it_understands_pays_for_it(workspace):
    profiles = '[profiles.poor]\nbudget_usd_per_day = 0.001\n'
    server, simulation = workspace(warehouse={"running": False, "start_delay_ms": 0}, extra=profiles)
    granted = "SHOW GRANTS ON TABLE main.default.nation"
    with connect(server, ANA, profile="poor") as connection, connection.cursor() as cursor:
        cursor.adbc_prepare(granted)
    assert simulation.counters()["warehouses"]["simulated"]["starts"] == 1
    # It was about this one, and about no other.
    rows(server, granted, profile="poor")
    for sql in ("SELECT count(*) AS n FROM main.default.customer", granted):
        message = error(server, sql, profile="poor")
        assert "poor" in message and "has spent" in message, message
    # Everybody else goes on.
    assert rows(server, "SELECT count(*) AS n FROM main.default.customer")[0]["n"] > 0


def test_an_outage_of_the_workspace_is_not_paid_for(workspace):
    profiles = '[profiles.small]\nbudget_usd_per_day = 0.6\n'
    server, simulation = workspace(warehouse={"running": False, "start_delay_ms": 0}, extra=profiles)
    simulation.call("POST", "/simulation/faults", {"match": "execute", "status": 500, "times": 0})
    for sql in ("SHOW GRANTS ON TABLE main.default.nation", "SELECT count(*) AS n FROM main.default.customer") * 2:
        message = error(server, sql, profile="small")
        assert "500" in message, message
    simulation.call("DELETE", "/simulation/faults")
    assert simulation.counters()["warehouses"]["simulated"]["starts"] == 0
    # Each of them would have cost most of the day's dollars.
    assert rows(server, "SELECT 1 AS x", profile="small") == [{"x": 1}]

    def is_answered():
        try:
            rows(server, "SHOW GRANTS ON TABLE main.default.nation", profile="small")
        except Exception as failed:
            # For a while the server leaves a workspace alone that has failed.
            assert "has spent" not in str(failed), failed
            return False
        return True

    wait_until(is_answered, 60, what="an answer")
    spent = rows(server, "SELECT coalesce(sum(actual_usd), 0) AS usd FROM system.queries WHERE outcome = 'error'")
    assert spent[0]["usd"] == 0, spent


def test_queries_beyond_the_warehouses_places_wait_and_all_are_answered(workspace):
    server, simulation = workspace(warehouse={"concurrency_per_cluster": 2, "base_latency_ms": 200})
    sql = "SELECT count(*) AS n, {} AS k FROM main.default.customer"
    asked = [in_background(lambda k=k: rows(server, sql.format(k))) for k in range(8)]
    for thread, _ in asked:
        thread.join(60)
    assert [outcome[0][0]["k"] for _, outcome in asked] == list(range(8)), [outcome for _, outcome in asked]
    texts = simulation.counters()["executions_by_text"]
    assert all(texts[sql.format(k)] == 1 for k in range(8))


def test_what_only_databricks_can_show_is_asked_there(workspace):
    server, simulation = workspace(tables={**GOVERNED, "main.default.orders": {"grants": {"ana": ["SELECT"]}}})
    assert rows(server, "SHOW GRANTS ON TABLE main.default.orders") == [
        {"Principal": "ana", "ActionType": "SELECT", "ObjectType": "TABLE", "ObjectKey": "main.default.orders"}
    ]
    # Short names mean what they mean in the session, and nothing to show is no error.
    with connect(server, ANA) as connection, connection.cursor() as cursor:
        cursor.execute("USE CATALOG main")
        cursor.fetchall()
        cursor.execute("SHOW CREATE TABLE nation")
        assert cursor.fetch_arrow_table()["createtab_stmt"][0].as_py().startswith("CREATE TABLE main.default.nation (")
        cursor.execute("SHOW VOLUMES")
        table = cursor.fetch_arrow_table()
        assert table.column_names == ["database", "volume_name"] and table.num_rows == 0
    # A governed table's history is Databricks' to tell, and its rules hold for who asks.
    assert rows(server, "DESCRIBE HISTORY main.default.customer")[0]["version"] == 0
    assert "SELECT" in error(server, "SHOW GRANTS ON TABLE main.default.orders", PRINCIPALS["bob"])
    # What is known here isn't asked there, and a pinned engine that can't is told so.
    before = simulation.counters()["executions"]
    assert {"tableName": "nation"}.items() <= rows(server, "SHOW TABLES IN main.default LIKE 'nation'")[0].items()
    assert simulation.counters()["executions"] == before
    assert "not eligible" in error(server, "SHOW GRANTS ON TABLE main.default.orders", engine="duckdb")


def test_an_update_says_how_many_rows_it_changed(tmp_path):
    own = tmp_path / "data"
    populate("tpch", 0.001, own)
    simulation = Simulation(tmp_path / "simulation", own, PRINCIPALS)
    server = Server(tmp_path / "state", settings=settings(simulation, PRINCIPALS, own, writes=True))
    try:
        with connect(server, ANA) as connection:
            for sql, changed in (
                ("INSERT INTO main.default.region VALUES (5, 'ATLANTIS', 'sunk'), (6, 'MU', 'sunk')", 2),
                ("DELETE FROM main.default.region WHERE r_comment = 'sunk'", 2),
                ("SET tag = 'x'", 0),
            ):
                with adbc_driver_manager.AdbcStatement(connection.adbc_connection) as update:
                    update.set_sql_query(sql)
                    assert update.execute_update() == changed, sql
            with adbc_driver_manager.AdbcStatement(connection.adbc_connection) as update:
                update.set_sql_query("SELECT 1")
                with pytest.raises(adbc_driver_manager.Error, match="execute it as a query"):
                    update.execute_update()
    finally:
        server.stop()
        simulation.stop()


def test_values_are_bound_in_statements_that_only_databricks_understands(tmp_path):
    own = tmp_path / "data"
    populate("tpch", 0.001, own)
    simulation = Simulation(tmp_path / "simulation", own, PRINCIPALS)
    server = Server(tmp_path / "state", settings=settings(simulation, PRINCIPALS, own, writes=True))
    insert = "INSERT INTO main.default.region VALUES (?, ?, ?)"
    try:
        with connect(server, ANA) as connection:
            with connection.cursor() as cursor:
                cursor.execute(insert, (10, "it's ?", "n"))
                cursor.fetchall()
            with connection.cursor() as cursor:
                cursor.executemany(insert, [(11, "a", "x"), (12, "b", "y"), (13, "c", "z")])
            # Without values it doesn't run, with NULLs in their place least of all.
            with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.Error):
                cursor.execute(insert)
                cursor.fetchall()
            with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.Error, match="3 parameters"):
                cursor.execute(insert, (1, "two"))
        found = rows(server, "SELECT r_regionkey AS k, r_name AS n, r_comment AS c FROM main.default.region WHERE r_regionkey > 9 OR r_regionkey IS NULL ORDER BY k")
        assert [tuple(row.values()) for row in found] == [(10, "it's ?", "n"), (11, "a", "x"), (12, "b", "y"), (13, "c", "z")]
    finally:
        server.stop()
        simulation.stop()


def test_time_zones_other_than_the_warehouses_are_refused_and_its_own_is_taken(workspace):
    sql = "SELECT count(*) AS n FROM main.default.customer"
    server, _ = workspace()
    refused = error(server, sql, time_zone="Europe/Berlin")
    assert "not eligible" in refused and "Europe/Berlin" in refused and "UTC" in refused
    # A table that may run elsewhere does, in the session's zone.
    free = "SELECT CAST(TIMESTAMP '2026-07-01 12:00:00' AS STRING) AS t, count(*) AS n FROM main.default.nation"
    assert rows(server, free, time_zone="Europe/Berlin") == [{"t": "2026-07-01 12:00:00", "n": 25}]
    server, _ = workspace(time_zone="Europe/Berlin")
    assert rows(server, sql, time_zone="Europe/Berlin")[0]["n"] > 0
    assert "Europe/Berlin" in error(server, sql)


def handshake(server, token):
    """The session token that a login by bearer token gives."""
    middleware = TokenKeeper()
    client = flight.connect(server.uri, middleware=[middleware])
    try:
        client.authenticate(BearerLogin(), flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())]))
    except flight.FlightError:
        pass
    assert middleware.token, "the login gave no token"
    return middleware.token


class BearerLogin(flight.ClientAuthHandler):
    def authenticate(self, outgoing, incoming):
        outgoing.write(b"")
        incoming.read()

    def get_token(self):
        return b""


class TokenKeeper(flight.ClientMiddlewareFactory):
    token = None

    def start_call(self, info):
        keeper = self

        class Reader(flight.ClientMiddleware):
            def received_headers(self, headers):
                for name, values in headers.items():
                    if name.lower() == "authorization":
                        keeper.token = values[0]

        return Reader()


def test_a_login_by_bearer_token_asks_databricks_in_its_callers_name(workspace):
    server, simulation = workspace()
    session = handshake(server, ANA)
    assert session.startswith("Bearer fp1.") and ANA not in session
    client = flight.connect(server.uri)
    options = flight.FlightCallOptions(headers=[(b"authorization", session.encode())])
    sql = "SELECT count(*) AS n, current_user() AS who FROM main.default.customer"
    info = client.get_flight_info(statement(sql), options)
    assert json.loads(info.app_metadata)["engine"] == "databricks"
    (row,) = client.do_get(info.endpoints[0].ticket, options).read_all().to_pylist()
    assert row["n"] > 0 and row["who"] == "ana"
    list(client.do_action(flight.Action("CloseSession", b""), options))
    with pytest.raises(flight.FlightUnauthenticatedError):
        client.get_flight_info(statement(sql), options)


def test_tokens_that_settings_do_not_list_are_asked_about_in_the_workspace(workspace):
    server, simulation = workspace(listed={}, extra="[auth]\ndatabricks_tokens = true\n", access_seconds=1.0)
    who = "SELECT count(*) AS n, current_user() AS who FROM main.default.customer"
    for name in ("ana", "bob"):
        assert rows(server, who, PRINCIPALS[name])[0]["who"] == name
    asked = simulation.counters()["calls"]["identity"]
    for _ in range(3):
        assert "UNAUTHENTICATED" in error(server, "SELECT 1", "no-such-token-00000001").upper()
    # A refusal is kept for a while; nobody gets in without a token at all.
    assert simulation.counters()["calls"]["identity"] == asked + 1
    with pytest.raises(flight.FlightUnauthenticatedError):
        flight.connect(server.uri).get_flight_info(statement("SELECT 1"))
    # A session that a login gave lasts no longer than the token that it was given for.
    session = handshake(server, ANA).removeprefix("Bearer ")
    assert rows(server, who, session)[0]["who"] == "ana"
    simulation.call("POST", "/simulation/revoke", {"token": ANA})
    for token in (ANA, session):
        wait_until(lambda: "UNAUTHENTICATED" in failure_of(server, "SELECT 1 AS x", token), what="the revoked token's end")
    # The workspace is down: who isn't known isn't let in, and hears why.
    simulation.call("POST", "/simulation/faults", {"match": "identity", "status": 500, "times": 0})
    assert "couldn't be checked" in error(server, "SELECT 1", PRINCIPALS["admin"])


def failure_of(server, sql, token):
    try:
        rows(server, sql, token)
        return ""
    except Exception as failure:
        return str(failure).upper()


@pytest.mark.parametrize("by_holder", [False, True], ids=["under-the-user", "under-the-group"])
def test_what_a_group_may_read_its_members_read_on_every_engine(tmp_path, data, by_holder):
    folder = tmp_path / "grouped"
    grants = {"main.default.orders": {"grants": {"analysts": ["SELECT", "EXTERNAL_USE_SCHEMA"], "bob": ["SELECT"]}}}
    simulation = Simulation(folder, data, PRINCIPALS, grants, {"privileges_by_holder": by_holder}, groups={"ana": ["analysts"]})
    server = Server(tmp_path / "state", settings=settings(simulation, PRINCIPALS, data))
    try:
        sql = "SELECT count(*) AS n FROM main.default.orders"
        for engine in ("duckdb", "datafusion", "databricks"):
            assert rows(server, sql, engine=engine) == [{"n": 1500}]
        # Bob may read it, and not with other engines.
        assert rows(server, sql, PRINCIPALS["bob"]) == [{"n": 1500}]
        assert "not eligible" in error(server, sql, PRINCIPALS["bob"], engine="duckdb")
        assert error(server, sql, PRINCIPALS["admin"])
    finally:
        server.stop()
        simulation.stop()


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("s3://bucket/nation", "isn't known which place the credentials are for"),
        ("dbfs:/nation", "stored in `dbfs:`, which Databricks alone reads"),
    ],
)
def test_a_table_that_is_stored_where_nothing_else_reads_runs_in_databricks_and_says_why(workspace, location, why):
    tables = {"main.default.nation": {"metadata": {"storage_location": location}}}
    server, _ = workspace(tables=tables)
    sql = "SELECT count(*) AS n FROM main.default.nation"
    assert rows(server, sql) == [{"n": 25}]
    reasons = {row["engine"]: row["reason"] for row in rows(server, "EXPLAIN ROUTE " + sql)}
    assert why in reasons["duckdb"], reasons


def test_a_profile_allows_or_refuses_writes(workspace, tmp_path, data):
    import shutil

    own = tmp_path / "own"
    shutil.copytree(data / "region", own / "region")
    insert = "INSERT INTO main.default.region VALUES (7, 'X', 'y')"
    profiles = "[profiles.loader]\nwrites = true\n[profiles.reader]\nwrites = false\n"

    def executed(simulation):
        return sum(times for text, times in simulation.counters()["executions_by_text"].items() if text.startswith("INSERT"))

    for by_default, allowed, refused in ((False, ["loader"], [None, "reader", "batch"]), (True, [None, "loader", "batch"], ["reader"])):
        simulation = Simulation(tmp_path / f"writes-{by_default}", own, PRINCIPALS)
        server = Server(tmp_path / f"state-writes-{by_default}", settings=profiles + settings(simulation, PRINCIPALS, own, writes=by_default))
        try:
            for profile in refused:
                message = error(server, insert, **({"profile": profile} if profile else {}))
                assert "writes" in message and "not eligible" in message, message
            assert executed(simulation) == 0
            for profile in allowed:
                rows(server, insert + f" -- {profile}", **({"profile": profile} if profile else {}))
            assert executed(simulation) == len(allowed)
        finally:
            server.stop()
            simulation.stop()
    # A profile that could never do what it says is a mistake in the settings.
    with pytest.raises(RuntimeError, match=r"writes = true.*needs \[databricks\]"):
        Server(tmp_path / "state-none", settings='[profiles.loader]\nwrites = true\n').stop()
