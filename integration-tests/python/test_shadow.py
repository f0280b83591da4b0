"""Comparing engines in the background, and the quarantine that a person lifts."""

import sqlite3
import subprocess
import uuid

from conftest import BINARY, wait_until


def fetch(server, sql):
    return [tuple(row.values()) for row in server.query(sql).to_pylist()]


def shadow_runs(server):
    return fetch(server, "SELECT fingerprint, engine, shadow_engine, outcome, digest, shadow_digest FROM system.shadow_runs")


def command(server, *arguments):
    environment = {"FLIGHTPATH_STATE_DIR": str(server.state_dir)}
    return subprocess.run([BINARY, "quarantine", *arguments], env=environment, capture_output=True, text=True, timeout=60)


def test_queries_are_compared_and_the_comparison_is_logged(server, tpch_dir):
    running = server("--data", tpch_dir, env={"FLIGHTPATH_SHADOW_SHARE": "1"})
    fetch(running, "SELECT l_returnflag, sum(l_quantity), avg(l_discount) FROM lineitem GROUP BY l_returnflag")
    wait_until(lambda: shadow_runs(running), what="the comparison")
    fingerprint, engine, shadow_engine, outcome, digest, shadow_digest = shadow_runs(running)[0]
    assert outcome == "same" and digest == shadow_digest and digest.startswith("rows=3 ")
    assert {engine, shadow_engine} == {"duckdb", "datafusion"}
    assert len(fingerprint) == 16
    listed = command(running, "list")
    assert (listed.returncode, listed.stdout) == (0, "nothing is in quarantine\n")


def test_by_default_nothing_is_compared(server, tpch_dir):
    running = server("--data", tpch_dir)
    fetch(running, "SELECT count(*) FROM orders")
    assert shadow_runs(running) == []


def test_every_comparison_is_read_whatever_their_number(server, tpch_dir):
    running = server("--data", tpch_dir)
    principal = fetch(running, "SELECT current_user()")[0][0]
    ended = 1_700_000_000_000

    def run(number, who):
        outcome = "mismatch" if number % 500 == 7 else "same"
        ids = (str(uuid.uuid4()), ended + number // 3, f"{number % 2:016x}", who)
        return (*ids, "duckdb", "rows=1", "datafusion", "rows=1", outcome, "")

    rows = [run(number, principal) for number in range(2_600)] + [run(number, "somebody else") for number in range(50)]
    with sqlite3.connect(running.state_dir / "log.sqlite") as database:
        database.executemany(f"INSERT INTO shadow_runs VALUES ({', '.join('?' * 10)})", rows)

    def count(condition):
        return fetch(running, f"SELECT count(*), count(DISTINCT query_id) FROM system.shadow_runs WHERE {condition}")[0]

    assert count("true") == (2_600, 2_600)
    assert count("outcome = 'mismatch'") == (6, 6)
    assert count("fingerprint = '0000000000000001' AND outcome = 'same'") == (1_294, 1_294)
    assert count(f"ended_at >= timestamp_millis({ended + 100}) AND ended_at < timestamp_millis({ended + 200})") == (300, 300)
    assert count(f"query_id = '{rows[1234][0]}'") == (1, 1)
    newest = fetch(running, "SELECT query_id FROM system.shadow_runs ORDER BY ended_at DESC, query_id DESC LIMIT 2")
    latest = sorted(((row[1], row[0]) for row in rows[:2_600]), reverse=True)
    assert newest == [(query_id,) for _, query_id in latest[:2]]


def test_a_quarantined_shape_is_refused_on_that_engine_until_it_is_lifted(server, tpch_dir):
    sql = "SELECT count(*) FROM orders WHERE o_orderkey > {}"
    running = server("--data", tpch_dir)
    fetch(running, sql.format(1))
    recorded = "SELECT fingerprint, engine FROM system.queries WHERE text LIKE 'SELECT count%o_orderkey%' AND engine IS NOT NULL"
    wait_until(lambda: fetch(running, recorded), what="the record")
    fingerprint, engine = fetch(running, recorded)[0]
    other = {"duckdb": "datafusion", "datafusion": "duckdb"}[engine]
    with sqlite3.connect(running.state_dir / "log.sqlite") as database:
        row = (fingerprint, engine, 0, str(uuid.uuid4()), "its answer and another differ")
        database.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?)", row)

    def route():
        rows = fetch(running, "EXPLAIN ROUTE " + sql.format(2))
        return {name: (eligible, reason) for name, eligible, _, reason, *_ in rows}

    wait_until(lambda: not route()[engine][0], what="the quarantine")
    assert "quarantine" in route()[engine][1] and route()[other][0]
    assert fetch(running, "SELECT fingerprint, engine FROM system.quarantine") == [(fingerprint, engine)]
    listed = command(running, "list")
    assert fingerprint in listed.stdout and engine in listed.stdout
    lifted = command(running, "lift", fingerprint)
    assert (lifted.returncode, lifted.stdout) == (0, f"lifted {fingerprint} on 1 engine\n")
    again = command(running, "lift", fingerprint)
    assert again.returncode == 1 and "isn't in quarantine" in again.stderr
    wait_until(lambda: route()[engine][0], what="the lift")
    assert command(running, "lift", "xyz").returncode == 2
