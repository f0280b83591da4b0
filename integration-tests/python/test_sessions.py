"""What a session holds: settings that mean something, as they were written."""

import adbc_driver_manager
import pytest

from conftest import wait_until

OPTION = "adbc.flight.sql.session.option."


@pytest.fixture
def lake(tpch_dir, tmp_path):
    """TPC-H's tables, and a schema `other` with one of them."""
    root = tmp_path / "lake"
    (root / "other").mkdir(parents=True)
    for table in tpch_dir.iterdir():
        (root / table.name).symlink_to(table)
    (root / "other" / "places").symlink_to(tpch_dir / "nation")
    return root


def test_a_place_that_is_not_there_is_not_taken(server, lake):
    one = server("--data", lake)
    with one.connect() as connection, connection.cursor() as cursor:
        refused = {
            "SET catalog = 'nope'": "There are: lake", "USE CATALOG nope": "There are: lake", "USE nope.default": "There are: lake",
            "SET schema = 'nope'": "There are: default, other", "USE nope": "There are: default, other", "USE lake.nope": "There are: default, other",
        }
        for sql, message in refused.items():
            with pytest.raises(Exception, match=f"(?s)NOT_FOUND.*{message}|NotFound.*{message}|{message}.*NotFound"):
                cursor.execute(sql)
                cursor.fetchall()
        for name in ("catalog", "schema"):
            with pytest.raises(adbc_driver_manager.Error, match="(?i)invalid"):
                connection.adbc_connection.set_options(**{OPTION + name: "nope"})
        # None of it was stored.
        cursor.execute("SELECT count(*) FROM nation")
        assert cursor.fetchall() == [(25,)]
        cursor.execute("SET schema = 'OTHER'")
        cursor.fetchall()
        cursor.execute("SELECT count(*) FROM places")
        assert cursor.fetchall() == [(25,)]
        assert connection.adbc_connection.get_option(OPTION + "schema") == "other"
        # A catalog comes with its default schema.
        connection.adbc_connection.set_options(**{OPTION + "catalog": "LAKE"})
        assert connection.adbc_connection.get_option(OPTION + "catalog") == "lake"
        cursor.execute("SELECT count(*) FROM nation")
        assert cursor.fetchall() == [(25,)]


def test_a_value_of_several_words_is_kept_as_it_is(server, lake):
    one = server("--data", lake)
    with one.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET tag = nightly load of /orders ;")
        assert cursor.fetchall() == [("tag", "nightly load of /orders")]
        cursor.execute("SELECT 4711 AS x")
        cursor.fetchall()
    sql = "SELECT tag FROM system.queries WHERE text = 'SELECT 4711 AS x'"
    wait_until(lambda: one.query(sql).to_pylist() == [{"tag": "nightly load of /orders"}], what="the record")
    with pytest.raises(Exception, match="at most 1024"):
        one.query(f"SET tag = '{'x' * 2_000}'")



def test_headers_name_only_catalogs_and_schemas_that_are_there(server, tpch_dir):
    served = server("--data", tpch_dir)
    assert served.query("SELECT count(*) AS n FROM nation", headers={"catalog": "LAKE", "schema": "Default"}).to_pylist() == [{"n": 25}]
    for headers, nearest in (({"schema": "defalt"}, "default"), ({"catalog": "lakes"}, "lake"), ({"catalog": "lake", "schema": "defaultt"}, "default")):
        for sql in ("SELECT 1", "SELECT count(*) FROM nation"):
            with pytest.raises(Exception) as raised:
                served.query(sql, headers=headers)
            message = str(raised.value)
            assert f"`{nearest}`" in message and "flightpath-" in message and "NOT_FOUND" in message.upper(), message
