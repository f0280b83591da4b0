"""Flight SQL as its clients speak it: pyarrow.flight by hand, and ADBC's DBAPI."""

import datetime
import decimal
import hashlib
import json
import subprocess
import threading
import time

import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest
from conftest import BINARY, Server, wait_until
from flight_sql import command, field, statement

ROWS = 300_000


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    root = tmp_path_factory.mktemp("protocol") / "lake"
    # A folder of folders is a schema.
    (root / "other" / "elsewhere").mkdir(parents=True)
    numbers = pa.table(
        {
            "n": pa.array(range(ROWS), pa.int64()),
            "name": pa.array([f"row {i}" for i in range(ROWS)]),
            "price": pa.array([decimal.Decimal(i % 100_000) / 100 for i in range(ROWS)], pa.decimal128(12, 2)),
            "day": pa.array([datetime.date(2024, 1, 1 + i % 28) for i in range(ROWS)]),
        }
    )
    pq.write_table(numbers, root / "num_bers.parquet")
    pq.write_table(pa.table({"wrong": [1]}), root / "numxbers.parquet")
    pq.write_table(pa.table({"there": [1]}), root / "other" / "elsewhere" / "part.parquet")
    return root


@pytest.fixture(scope="module")
def door(lake, tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("state-protocol"), "--data", lake)
    yield one
    try:
        assert one.query("SELECT 1 AS x").to_pylist() == [{"x": 1}], "the server did not live on"
    finally:
        one.stop()


# pyarrow.flight


def test_a_flight_info_tells_the_decision_and_its_schema_is_the_results(door):
    client = flight.connect(door.uri)
    info = client.get_flight_info(statement("SELECT n, name, price FROM num_bers WHERE n < 10 ORDER BY n"))
    decision = json.loads(info.app_metadata)
    assert set(decision) == {"query_id", "engine", "reason", "predicted_ms", "predicted_usd"}
    assert decision["engine"] in ("duckdb", "datafusion") and decision["reason"]
    assert len(info.endpoints) == 1 and info.endpoints[0].locations == []
    assert info.total_records == -1
    for _ in range(2):
        reader = client.do_get(info.endpoints[0].ticket)
        assert reader.schema.equals(info.schema, check_metadata=True)
        assert reader.read_all()["n"].to_pylist() == list(range(10))


def test_empty_results_carry_their_schema(door):
    client = flight.connect(door.uri)
    info = client.get_flight_info(statement("SELECT n, name FROM num_bers WHERE n < 0"))
    table = client.do_get(info.endpoints[0].ticket).read_all()
    assert table.num_rows == 0 and table.schema.names == ["n", "name"] and table.schema.equals(info.schema)


def test_columns_tell_their_databricks_type(door):
    info = flight.connect(door.uri).get_flight_info(statement("SELECT n, name, price, day FROM num_bers"))
    names = [info.schema.field(i).metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"] for i in range(4)]
    assert names == [b"BIGINT", b"STRING", b"DECIMAL", b"DATE"]


def test_get_schema_does_not_run_the_query(door):
    client = flight.connect(door.uri)
    schema = client.get_schema(statement("SELECT count(*) AS c FROM num_bers a CROSS JOIN num_bers b CROSS JOIN num_bers c")).schema
    assert schema.names == ["c"]


def test_a_forged_ticket_and_a_bare_statement_are_refused(door):
    client = flight.connect(door.uri)
    ticket = client.get_flight_info(statement("SELECT 1")).endpoints[0].ticket.ticket
    assert b"SELECT" not in ticket
    with pytest.raises(pa.ArrowInvalid):
        client.do_get(flight.Ticket(ticket[:-1] + bytes([ticket[-1] ^ 1]))).read_all()
    with pytest.raises(pa.ArrowInvalid, match="CommandStatementQuery"):
        client.get_flight_info(flight.FlightDescriptor.for_command(b"SELECT 1"))


def test_headers_override_settings_for_one_call(door):
    client = flight.connect(door.uri)

    def engine(name):
        options = flight.FlightCallOptions(headers=[(b"flightpath-engine", name)])
        info = client.get_flight_info(statement("SELECT n FROM num_bers WHERE n = 5"), options)
        return json.loads(info.app_metadata)["engine"]

    assert [engine(b"duckdb"), engine(b"datafusion")] == ["duckdb", "datafusion"]
    with pytest.raises(pa.ArrowInvalid, match="oracle"):
        engine(b"oracle")


def test_actions_and_handshake(door):
    client = flight.connect(door.uri)
    assert {a.type for a in client.list_actions()} >= {"CreatePreparedStatement", "CloseSession", "CancelFlightInfo"}
    name, token = client.authenticate_basic_token("anyone", "anything")
    assert name == b"authorization" and token.startswith(b"Bearer ")
    options = flight.FlightCallOptions(headers=[(name, token)])
    info = client.get_flight_info(statement("SELECT 1 AS x"), options)
    assert client.do_get(info.endpoints[0].ticket, options).read_all().to_pylist() == [{"x": 1}]


# ADBC


def test_execute_and_fetch_whole_and_by_batches(door):
    with door.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT n, name FROM num_bers")
        table = cursor.fetch_arrow_table()
        assert table.num_rows == ROWS
        assert sorted(table["n"].to_pylist()) == list(range(ROWS))
        assert table.schema.field("name").type == pa.string()
        cursor.execute("SELECT n FROM num_bers")
        sizes = [batch.num_rows for batch in cursor.fetch_record_batch()]
        assert sum(sizes) == ROWS and max(sizes) <= 65_536
        cursor.execute("SELECT 1 AS a, 'x' AS b, NULL AS c")
        assert cursor.fetchall() == [(1, "x", None)]
        assert [d[0] for d in cursor.description] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "value, column",
    [
        (7, "n"),
        ("row 7", "name"),
        (decimal.Decimal("0.07"), "price"),
        (datetime.date(2024, 1, 8), "day"),
    ],
)
def test_parameters(door, value, column):
    with door.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT min(n) AS first FROM num_bers WHERE {column} = ?", (value,))
        assert cursor.fetchall() == [(7,)]


def test_parameters_again_and_null(door):
    with door.connect() as connection, connection.cursor() as cursor:
        for low, high, expected in [(0, 10, 10), (5, 10, 5), (None, 10, 0)]:
            cursor.execute("SELECT count(*) AS c FROM num_bers WHERE n >= ? AND n < ?", (low, high))
            assert cursor.fetchall() == [(expected,)]


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
def test_parameters_go_by_their_place_in_the_text(door, engine):
    # No clause is bound in the order in which it is written.
    sql = "WITH w AS (SELECT n + ? AS m, n FROM num_bers WHERE n < ?) SELECT m, CAST(? AS STRING) AS s FROM w WHERE n > ? ORDER BY m + ? DESC LIMIT ?"
    with door.connect(engine) as connection, connection.cursor() as cursor:
        cursor.execute(sql, (1000, 9, "three", 4, 0, 2))
        assert cursor.fetch_arrow_table().to_pylist() == [{"m": 1008, "s": "three"}, {"m": 1007, "s": "three"}]


def test_wrong_numbers_of_parameters_are_refused(door):
    with door.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="no values are bound"):
            cursor.execute("SELECT count(*) FROM num_bers WHERE n = ?")
    for text, values in [("SELECT count(*) FROM num_bers WHERE n = ?", (1, 2)), ("SELECT count(*) FROM num_bers", (1,))]:
        with door.connect() as connection, connection.cursor() as cursor:
            with pytest.raises(adbc_driver_manager.ProgrammingError, match="values were bound"):
                cursor.execute(text, values)


@pytest.mark.parametrize("depth", ["catalogs", "db_schemas", "tables", "all"])
def test_get_objects(door, depth):
    with door.connect() as connection:
        catalogs = connection.adbc_get_objects(depth=depth).read_all().to_pylist()
    assert "lake" in [c["catalog_name"] for c in catalogs]
    lake = next(c for c in catalogs if c["catalog_name"] == "lake")
    if depth == "catalogs":
        return
    schemas = {s["db_schema_name"]: s for s in lake["catalog_db_schemas"]}
    assert {"default", "other"} <= set(schemas)
    if depth == "db_schemas":
        return
    tables = {t["table_name"]: t for t in schemas["default"]["db_schema_tables"]}
    assert {"num_bers", "numxbers"} <= set(tables) and tables["num_bers"]["table_type"] == "TABLE"
    if depth == "all":
        columns = tables["num_bers"]["table_columns"]
        assert [(c["column_name"], c["ordinal_position"]) for c in columns] == [("n", 1), ("name", 2), ("price", 3), ("day", 4)]


def test_get_objects_filters(door):
    with door.connect() as connection:

        def tables(**filters):
            catalogs = connection.adbc_get_objects(depth="tables", **filters).read_all().to_pylist()
            return {t["table_name"] for c in catalogs for s in c["catalog_db_schemas"] or [] for t in s["db_schema_tables"] or []}

        assert tables(table_name_filter="num%") == {"num_bers", "numxbers"}
        assert tables(table_name_filter=r"num\_bers") == {"num_bers"}
        assert tables(db_schema_filter="other") == {"elsewhere"}
        assert "queries" in tables(table_types_filter=["SYSTEM TABLE"])
        assert "num_bers" not in tables(table_types_filter=["SYSTEM TABLE"])
        assert tables(table_types_filter=["VIEW"]) == set()


def test_get_table_schema_means_the_table_that_it_names(door):
    with door.connect() as connection:
        assert connection.adbc_get_table_schema("num_bers").names == ["n", "name", "price", "day"]
        assert connection.adbc_get_table_schema("elsewhere", db_schema_filter="other").names == ["there"]
        with pytest.raises(adbc_driver_manager.Error):
            connection.adbc_get_table_schema("no_such_table")


def test_get_info_and_table_types(door):
    with door.connect() as connection:
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "Flightpath" and info["vendor_version"] and info["driver_name"]
        assert set(connection.adbc_get_table_types()) == {"TABLE", "SYSTEM TABLE"}


def test_session_options_and_set_are_the_same_settings(door):
    option = "adbc.flight.sql.session.option."
    with door.connect() as connection, connection.cursor() as cursor:
        connection.adbc_connection.set_options(**{option + "engine": "datafusion"})
        cursor.execute("SELECT count(*) AS c FROM num_bers")
        cursor.fetchall()
        assert connection.adbc_connection.get_option(option + "engine") == "datafusion"
        cursor.execute("SET engine = 'duckdb'")
        cursor.fetchall()
        assert connection.adbc_connection.get_option(option + "engine") == "duckdb"
        connection.adbc_connection.set_options(**{option + "schema": "other"})
        cursor.execute("SELECT there FROM elsewhere")
        assert cursor.fetchall() == [(1,)]
        with pytest.raises(adbc_driver_manager.Error):
            connection.adbc_connection.set_options(**{option + "engine": "oracle"})
        with pytest.raises(adbc_driver_manager.Error):
            connection.adbc_connection.set_options(**{option + "no_such_setting": "1"})
        assert connection.adbc_connection.get_option(option + "engine") == "duckdb"
    with door.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error):
            cursor.execute("SELECT there FROM elsewhere")


ENDLESS = "SELECT count(*) AS c FROM num_bers a CROSS JOIN num_bers b CROSS JOIN num_bers c WHERE a.n + b.n + c.n = -1"


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
def test_cancel_in_mid_query(door, engine):
    with door.connect(engine) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchall()
        timer = threading.Timer(0.5, cursor.adbc_cancel)
        timer.start()
        started = time.monotonic()
        with pytest.raises(adbc_driver_manager.Error, match="(?i)cancel"):
            cursor.execute(ENDLESS)
            cursor.fetch_arrow_table()
        assert time.monotonic() - started < 30
        timer.cancel()


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
def test_timeouts_of_session_and_transport(door, engine):
    with door.connect(engine, headers={"timeout_seconds": "1"}) as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match="(?i)deadline|timeout"):
            cursor.execute(ENDLESS)
            cursor.fetch_arrow_table()
    with door.connect(engine, **{"adbc.flight.sql.rpc.timeout_seconds.fetch": "1.0"}) as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match="(?i)deadline|timeout"):
            cursor.execute(ENDLESS)
            cursor.fetch_arrow_table()


# Far more than a client that reads nothing is sent.
LONG = "SELECT a.name AS a, b.name AS b FROM num_bers a CROSS JOIN num_bers b"


def rest(reader):
    """The rest of a stream, batch by batch: pyarrow's `read_all` takes CANCELLED for Ctrl-C and interrupts the process."""
    return [chunk.data for chunk in reader]


def begun(client):
    """A long result on DuckDB of which its client has read a batch, and reads no more."""
    options = flight.FlightCallOptions(headers=[(b"flightpath-engine", b"duckdb")])
    info = client.get_flight_info(statement(LONG), options)
    reader = client.do_get(info.endpoints[0].ticket)
    assert reader.read_chunk().data.num_rows > 0
    return info, reader


def ended(server, info):
    """How the record says that it ended, once it has; DuckDB runs nothing then."""
    query_id = json.loads(info.app_metadata)["query_id"]

    def found():
        return server.query(f"SELECT outcome, error_kind FROM system.queries WHERE query_id = '{query_id}'").to_pylist()

    # A client that takes nothing would lose its result after ten minutes.
    wait_until(found, seconds=90, what="the query's end")
    wait_until(lambda: server.query("SELECT running FROM system.engines WHERE engine = 'duckdb'").to_pylist() == [{"running": 0}], what="an idle engine")
    return found()


def test_a_cancel_ends_a_query_whose_client_reads_nothing(door):
    client = flight.connect(door.uri)
    info, reader = begun(client)
    [answer] = client.do_action(flight.Action("CancelFlightInfo", field(1, info.serialize())))
    assert answer.body.to_pybytes() == b"\x08\x01", "it wasn't cancelled"
    assert ended(door, info) == [{"outcome": "cancelled", "error_kind": "cancelled"}]
    with pytest.raises(flight.FlightCancelledError, match="(?i)cancel"):
        rest(reader)


def test_the_servers_time_limit_ends_a_query_whose_client_reads_nothing(lake, tmp_path):
    one = Server(tmp_path / "state", "--data", lake, settings='[limits]\ntimeout_seconds = 15\nhold_max = "1MB"\n')
    try:
        info, reader = begun(flight.connect(one.uri))
        assert ended(one, info) == [{"outcome": "error", "error_kind": "deadline_exceeded"}]
        with pytest.raises(flight.FlightTimedOutError, match="(?i)deadline"):
            rest(reader)
    finally:
        one.stop()


@pytest.mark.parametrize(
    "text, error, words",
    [
        ("SELEC 1", adbc_driver_manager.ProgrammingError, ["line 1", "INVALID_ARGUMENT"]),
        ("SELECT * FROM no_such_table", adbc_driver_manager.Error, ["no_such_table", "NOT_FOUND"]),
        ("SELECT 1 / 0", adbc_driver_manager.ProgrammingError, ["DIVIDE_BY_ZERO", "22012"]),
        ("DROP TABLE num_bers", adbc_driver_manager.Error, ["read-only"]),
    ],
)
def test_errors_have_their_kind_and_words(door, text, error, words):
    with door.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(error) as raised:
            cursor.execute(text)
            cursor.fetch_arrow_table()
    message = str(raised.value).replace("InvalidArgument", "INVALID_ARGUMENT").replace("NotFound", "NOT_FOUND")
    for word in words:
        assert word in message


def test_updates_and_ingestion_are_refused(door):
    with door.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match="read-only"):
            cursor.adbc_ingest("made", pa.table({"x": [1]}), mode="create")
    with door.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match="read-only|not eligible"):
            cursor.execute("INSERT INTO num_bers VALUES (1, 'x', 1.0, DATE'2024-01-01')")


# Who may come in


@pytest.fixture(scope="module")
def guarded(lake, tmp_path_factory):
    hashed = subprocess.run([BINARY, "hash-password"], input="secret\n", capture_output=True, text=True, check=True).stdout.strip()
    token = hashlib.sha256(b"a-static-bearer-token").hexdigest()
    settings = f"""
[[auth.users]]
name = "ann"
password_hash = "{hashed}"

[[auth.tokens]]
principal = "service"
token_sha256 = "{token}"
"""
    one = Server(tmp_path_factory.mktemp("state-guarded"), "--data", lake, settings=settings)
    yield one
    one.stop()


def test_no_credentials_no_answer_at_once(guarded):
    client = flight.connect(guarded.uri)
    for call in [
        lambda: client.get_flight_info(statement("SELECT 1")),
        lambda: client.get_schema(command("CommandGetTables")),
        lambda: list(client.do_action(flight.Action("GetSessionOptions", b""))),
        lambda: client.do_get(flight.Ticket(b"x")).read_all(),
        lambda: list(client.list_actions()),
    ]:
        started = time.monotonic()
        # Some of pyarrow's calls have no error type of their own for this code.
        with pytest.raises((flight.FlightUnauthenticatedError, OSError), match="no credentials"):
            call()
        assert time.monotonic() - started < 5
    for header in [b"Bearer None", b"Bearer wrong-token-of-no-one", b"Basic bm86Ym9keQ=="]:
        with pytest.raises(flight.FlightUnauthenticatedError):
            client.get_flight_info(statement("SELECT 1"), flight.FlightCallOptions(headers=[(b"authorization", header)]))


def test_password_and_token_lead_in(guarded):
    with guarded.connect(username="ann", password="secret") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS x")
        assert cursor.fetchall() == [(1,)]
    with guarded.connect(**{"adbc.flight.sql.authorization_header": "Bearer a-static-bearer-token"}) as connection:
        assert connection.adbc_get_info()["vendor_name"] == "Flightpath"
    with pytest.raises(adbc_driver_manager.Error):
        with guarded.connect(username="ann", password="Secret") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")


def test_a_ticket_is_good_for_its_principal_only(guarded):
    client = flight.connect(guarded.uri)
    service = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer a-static-bearer-token")])
    ann = flight.FlightCallOptions(headers=[client.authenticate_basic_token("ann", "secret")])
    ticket = client.get_flight_info(statement("SELECT 1 AS x"), service).endpoints[0].ticket
    with pytest.raises(flight.FlightUnauthorizedError):
        client.do_get(ticket, ann).read_all()
    assert client.do_get(ticket, service).read_all().to_pylist() == [{"x": 1}]


def test_sessions_of_two_logins_are_apart(guarded):
    option = "adbc.flight.sql.session.option.tag"

    def login():
        return guarded.connect(username="ann", password="secret")

    with login() as one, login() as two:
        one.adbc_connection.set_options(**{option: "mine"})
        assert one.adbc_connection.get_option(option) == "mine"
        with pytest.raises(adbc_driver_manager.Error):
            two.adbc_connection.get_option(option)
