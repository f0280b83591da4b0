"""Every query leaves a record, whatever becomes of it or of the log's database."""

import signal

import pytest
from conftest import wait_until


def test_queries_and_their_decisions_can_be_read_in_sql(server, tpch_dir):
    one = server("--data", tpch_dir)
    one.query("SELECT count(*) FROM nation", headers={"tag": "first"})
    with pytest.raises(Exception, match="42P01|NOT_FOUND"):
        one.query("SELECT * FROM nowhere", headers={"tag": "second"})
    rows = one.query("SELECT tag, outcome, engine, result_rows, error_kind FROM system.queries WHERE tag IS NOT NULL ORDER BY started_at").to_pylist()
    assert [r["tag"] for r in rows] == ["first", "second"]
    assert rows[0]["outcome"] == "success" and rows[0]["engine"] in ("duckdb", "datafusion") and rows[0]["result_rows"] == 1
    assert rows[1]["outcome"] == "error" and rows[1]["error_kind"] == "not_found"
    decisions = one.query(
        "SELECT d.engine, d.chosen, d.rank, d.reason FROM system.decisions d JOIN system.queries q ON d.query_id = q.query_id WHERE q.tag = 'first' ORDER BY d.rank"
    ).to_pylist()
    assert {d["engine"] for d in decisions} == {"duckdb", "datafusion"}
    assert [d["chosen"] for d in decisions] == [True, False]
    assert all(d["reason"] for d in decisions)
    engines = one.query("SELECT engine, state FROM system.engines ORDER BY engine").to_pylist()
    assert engines == [{"engine": "datafusion", "state": "ready"}, {"engine": "duckdb", "state": "ready"}]
    tables = one.query("SELECT `table`, format, rows FROM system.tables WHERE `table` = 'region'").to_pylist()
    assert tables == [{"table": "region", "format": "delta", "rows": 5}]


def test_the_memory_that_queries_took_is_on_record_and_predicted_from(server, tpch_dir):
    one = server("--data", tpch_dir)
    # Sorts what it can't do without: some megabytes, for more than a few hundredths of a second.
    sql = (
        "SELECT a.l_orderkey, a.l_comment, row_number() OVER (ORDER BY sha2(concat(a.l_comment, b.n_name), 256)) AS n "
        "FROM lineitem a CROSS JOIN nation b WHERE a.l_orderkey < 4000 QUALIFY n <= 3"
    )

    def took(engine):
        one.query(sql, engine=engine)
        text = "SELECT memory_bytes, predicted_memory_bytes FROM system.queries WHERE text LIKE 'SELECT a.l_orderkey%' AND engine = '{}' ORDER BY started_at DESC LIMIT 1"
        return one.query(text.format(engine)).to_pylist()[0]

    # A run that was over before anybody looked at its memory says nothing.
    def foreseen(memory_bytes, predicted_memory_bytes):
        return memory_bytes is not None and predicted_memory_bytes < 4 * memory_bytes

    for engine in ("datafusion", "duckdb"):
        wait_until(lambda: (took(engine)["memory_bytes"] or 0) > 1_000_000, what=f"the memory of {engine}")
        # What is seen is what is expected the next time, within a factor.
        wait_until(lambda: foreseen(**took(engine)), what=f"a prediction on {engine}")
    # Nobody knows what the server answers by itself.
    one.query("SHOW TABLES")
    assert one.query("SELECT memory_bytes FROM system.queries WHERE text = 'SHOW TABLES'").to_pylist() == [{"memory_bytes": None}]


def test_a_killed_server_loses_no_record(server, tpch_dir, tmp_path):
    state = tmp_path / "state-shared"
    first = server("--data", tpch_dir, env={"FLIGHTPATH_STATE_DIR": str(state)})
    for number in range(50):
        first.query(f"SELECT {number} AS n FROM region LIMIT 1", headers={"tag": "kept"})
    first.stop(signal.SIGKILL)
    second = server("--data", tpch_dir, env={"FLIGHTPATH_STATE_DIR": str(state)})
    count = "SELECT count(*) AS n, count(DISTINCT query_id) AS d FROM system.queries WHERE tag = 'kept'"
    wait_until(lambda: second.query(count).to_pylist() == [{"n": 50, "d": 50}], what="50 records")


def test_a_log_database_that_is_down_costs_queries_nothing(server, tpch_dir):
    one = server("--data", tpch_dir, env={"FLIGHTPATH_LOG_URL": "postgres://nobody@127.0.0.1:1/none"})
    assert one.query("SELECT count(*) AS n FROM region").to_pylist() == [{"n": 5}]
    with pytest.raises(Exception, match="query log"):
        one.query("SELECT * FROM system.queries")
