"""Clients that people use, for real: polars, pandas, Arrow's JDBC driver."""

import datetime
import decimal
import os
import pathlib
import shutil
import subprocess

import pandas
import polars
import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
DRIVER = ROOT / ".deps/jdbc/flight-sql-jdbc-driver-18.3.0.jar"
MIXED = (
    "SELECT o_orderkey, o_orderstatus, o_totalprice, o_orderdate, CAST(o_orderdate AS TIMESTAMP) AS at, CAST(NULL AS INT) AS nothing "
    "FROM orders WHERE o_orderkey < 3 ORDER BY o_orderkey"
)


def test_polars_reads_rows_with_their_types(tpch):
    with tpch.connect() as connection:
        frame = polars.read_database(MIXED, connection)
    assert frame.columns == ["o_orderkey", "o_orderstatus", "o_totalprice", "o_orderdate", "at", "nothing"]
    first = frame.row(0, named=True)
    assert first["o_orderkey"] == 1 and isinstance(first["o_totalprice"], decimal.Decimal) and isinstance(first["o_orderdate"], datetime.date)
    assert first["at"].tzinfo is not None and first["nothing"] is None and frame.schema["nothing"] == polars.Int32


def test_pandas_reads_rows_with_their_types(tpch):
    with tpch.connect() as connection:
        frame = pandas.read_sql(MIXED, connection)
        counted = pandas.read_sql("SELECT o_orderstatus, count(*) AS n FROM orders GROUP BY o_orderstatus", connection, index_col="o_orderstatus")
    assert list(frame["o_orderkey"]) == [1, 2] and frame["at"].dt.tz is not None and frame["nothing"].isna().all()
    assert counted["n"].sum() == tpch.query("SELECT count(*) AS n FROM orders").to_pylist()[0]["n"]


@pytest.mark.skipif(not DRIVER.exists() or not shutil.which("javac"), reason="`scripts/setup jdbc` couldn't fetch Arrow's JDBC driver or a JDK")
def test_arrows_jdbc_driver(tpch):
    url = tpch.uri.replace("grpc://", "jdbc:arrow-flight-sql://") + "/?useEncryption=false"
    done = subprocess.run(
        ["java", "--add-opens=java.base/java.nio=ALL-UNNAMED", "-Duser.timezone=UTC", "-cp", str(DRIVER), str(ROOT / "integration-tests/java/Jdbc.java"), url],
        capture_output=True, text=True, timeout=180, env={"PATH": os.environ["PATH"]},
    )
    found = dict(line.split("|", 1) for line in done.stdout.splitlines())
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert found["product"] == "Flightpath" and found["catalogs"] == "lake;", said
    assert "default,lake;" in found["schemas"] and "TABLE;" in found["types"], said
    assert found["tables"] == "default,nation,TABLE;" and found["keys"] == found["typeinfo"] == "", said
    assert found["columns"] == "n_nationkey,BIGINT,1;n_name,STRING,2;n_regionkey,BIGINT,3;n_comment,STRING,4;", said
    assert found["query"] == "FRANCE;GERMANY;", said
    expected = "true,1,2,3,4,1.5,2.5,12.34,text,2024-02-29,2024-02-29 12:34:56.789,2024-02-29 12:34:56.789,null,null;"
    assert found["values"] == expected, said
    # A SELECT isn't taken for an update.
    assert found["execute"] == "true -1" and found["empty"] == "" and found["set"] == "true", said
    assert found["pinned"] == "default;" and found["alive"] == "2;", said
    assert "UNRESOLVED_COLUMN" in found["unknown"] and "DIVIDE_BY_ZERO" in found["raised"] and "read-only" in found["write"], said
    assert found["parameters"] == "4" and found["promised"] == "o_orderkey BIGINT", said
    for status in "OF":
        keys = tpch.query(
            "SELECT o_orderkey FROM orders WHERE o_orderdate >= DATE'1994-01-01' AND o_totalprice > 1000.50 "
            f"AND o_orderstatus = '{status}' AND o_orderkey < 1000 ORDER BY 1 LIMIT 2"
        )["o_orderkey"].to_pylist()
        assert found[f"prepared {status}"] == "".join(f"{key};" for key in keys), said
    assert found["cancel"].startswith("failed") and "cancelled" not in found, said
