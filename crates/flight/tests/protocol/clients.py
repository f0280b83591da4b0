"""Real clients against the fake server, whose few statements they know. Argument: its URI."""

import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight

URI = sys.argv[1]


def connect(**kwargs):
    return flightsql.connect(URI, autocommit=True, **kwargs)


def queries():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]
        cursor.execute("rows 200000")
        table = cursor.fetch_arrow_table()
        assert table.num_rows == 200_000 and table["n"][199_999].as_py() == 199_999
        cursor.execute("empty")
        assert cursor.fetch_arrow_table().schema.names == ["n"]
        cursor.execute("views")
        assert cursor.fetch_arrow_table().schema.field("v").type == pa.string()


def parameters():
    with connect() as connection, connection.cursor() as cursor:
        for value in [7, "seven", 7.5, True, None, b"\x00"]:
            cursor.execute("SELECT ?", (value,))
            assert cursor.fetchall() == [(value,)], value


def errors():
    with connect() as connection, connection.cursor() as cursor:
        for statement, expected in [
            ("SELEC", adbc_driver_manager.ProgrammingError),
            ("fail raised", adbc_driver_manager.ProgrammingError),
            ("fail not_eligible", adbc_driver_manager.NotSupportedError),
            ("fail unavailable", adbc_driver_manager.OperationalError),
            ("INSERT INTO t VALUES (1)", adbc_driver_manager.NotSupportedError),
        ]:
            try:
                cursor.execute(statement)
            except expected as error:
                assert "as asked" in str(error) or "42601" in str(error) or "read-only" in str(error), error
            else:
                raise AssertionError(f"{statement} did not fail")
        cursor.execute("fail later data_loss")
        try:
            cursor.fetch_arrow_table()
        except Exception as error:
            assert "as asked, later" in str(error), error
        else:
            raise AssertionError("an error in mid-stream was lost")


def objects():
    with connect() as connection:
        for depth in ["catalogs", "db_schemas", "tables", "all"]:
            found = connection.adbc_get_objects(depth=depth).read_all().to_pylist()
            assert [c["catalog_name"] for c in found] == ["archive", "lake"], depth
        lake = found[1]["catalog_db_schemas"]
        tables = {t["table_name"]: t for s in lake for t in s["db_schema_tables"]}
        columns = [c["column_name"] for c in tables["my_table"]["table_columns"]]
        assert columns == ["id", "price", "my_table"], columns
        schema = connection.adbc_get_table_schema("my_table")
        assert schema.names == ["id", "price", "my_table"], schema
        assert connection.adbc_get_table_types() == ["SYSTEM TABLE", "TABLE"]
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "Flightpath", info


def sessions():
    with connect() as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET tag = nightly")
        assert connection.adbc_connection.get_option("adbc.flight.sql.session.option.tag") == "nightly"
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.engine": "duckdb"})
        assert connection.adbc_connection.get_option("adbc.flight.sql.session.option.engine") == "duckdb"
    with connect() as connection:
        try:
            value = connection.adbc_connection.get_option("adbc.flight.sql.session.option.tag")
        except Exception:
            value = ""
        assert value == "", "a setting came from another session"


def cancelling():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("forever")
        threading.Timer(0.2, cursor.adbc_cancel).start()
        started = time.monotonic()
        try:
            cursor.fetch_arrow_table()
        except Exception as error:
            assert "ancel" in str(error), error
        else:
            raise AssertionError("the query wasn't cancelled")
        assert time.monotonic() - started < 10


def timeouts():
    option = "adbc.flight.sql.rpc.timeout_seconds.query"
    with connect() as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{option: "0.3"})
        try:
            cursor.execute("stuck")
        except Exception as error:
            assert "imeout" in str(error) or "eadline" in str(error), error
        else:
            raise AssertionError("the statement did not time out")


def plain_flight():
    client = flight.connect(URI)
    token = client.authenticate_basic_token("anyone", "anything")
    assert token[0] == b"authorization" and token[1].startswith(b"Bearer "), token
    assert {a.type for a in client.list_actions()} >= {"CancelFlightInfo", "CreatePreparedStatement"}
    try:
        client.get_flight_info(flight.FlightDescriptor.for_command(b"SELECT 1"))
    except pa.ArrowInvalid as error:
        assert "CommandStatementQuery" in str(error), error
    else:
        raise AssertionError("a bare statement isn't a command")


def speed():
    with connect() as connection, connection.cursor() as cursor:
        times = []
        for _ in range(300):
            started = time.perf_counter()
            cursor.execute("SELECT 1")
            cursor.fetchall()
            times.append(time.perf_counter() - started)
    times.sort()
    print(f"SELECT 1 through ADBC: p50 {times[150] * 1e3:.2f} ms, p99 {times[297] * 1e3:.2f} ms (for information)")


for check in [queries, parameters, errors, objects, sessions, cancelling, timeouts, plain_flight, speed]:
    try:
        check()
    except Exception:
        print("failed:", check.__name__)
        raise
