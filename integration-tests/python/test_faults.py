"""Killing and cancelling: the client sees the right answer or a typed error, never a wrong or short one."""

import contextlib
import os
import signal
import threading
import time

import adbc_driver_manager
import pyarrow.flight as flight
import pytest
from conftest import cpu_seconds, wait_until
from flight_sql import statement

# Long enough to be caught in the act: 600 million rows through a hash.
LONG = "SELECT count(*), sum(a.l_orderkey * 3 + b.o_orderkey) FROM lineitem a CROSS JOIN (SELECT o_orderkey FROM orders LIMIT 1000) b"


def idle(pid, seconds=0.3):
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return cpu_seconds(pid) - before <= 0.05


def test_killing_the_worker_under_twenty_clients_gives_right_answers_or_typed_errors(server, tpch_dir):
    one = server("--data", tpch_dir)
    sql = "SELECT l_returnflag, count(*), sum(l_quantity) FROM lineitem GROUP BY l_returnflag ORDER BY 1"
    want = one.query(sql).to_pylist()
    answers, errors, stop = [], [], threading.Event()

    def client(number):
        # A few are pinned: those can only wait for the worker to come back.
        engine = "duckdb" if number % 4 == 0 else None
        with one.connect(engine) as connection:
            while not stop.is_set():
                try:
                    with connection.cursor() as cursor:
                        cursor.execute(sql)
                        answers.append(cursor.fetch_arrow_table().to_pylist())
                except adbc_driver_manager.Error as error:
                    errors.append(error)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    killed = 0
    while killed < 5:
        done = len(answers)
        wait_until(lambda: len(answers) + len(errors) >= done + 20, 60, "progress")
        for pid in one.worker_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    stop.set()
    for thread in threads:
        thread.join(60)
    assert len(answers) >= 100
    assert all(answer == want for answer in answers)
    # Results of one batch have not left yet when the worker dies: another try serves them.
    assert not errors, errors[:3]
    wait_until(lambda: one.worker_pids(), what="a new worker")
    assert one.query(sql, engine="duckdb").to_pylist() == want


def test_killing_the_worker_in_mid_stream_is_a_typed_error_never_a_short_result(server, tpch_dir):
    one = server("--data", tpch_dir)
    client = flight.connect(one.uri)
    options = flight.FlightCallOptions(headers=[(b"flightpath-engine", b"duckdb")])
    descriptor = statement("SELECT a.*, b.o_orderkey AS k FROM lineitem a CROSS JOIN (SELECT o_orderkey FROM orders LIMIT 50) b")
    reader = client.do_get(client.get_flight_info(descriptor, options).endpoints[0].ticket, options)
    rows = reader.read_chunk().data.num_rows
    for pid in one.worker_pids():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(flight.FlightUnavailableError):
        while True:
            rows += reader.read_chunk().data.num_rows
    assert rows > 0


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
def test_cancelling_in_mid_query_leaves_the_cpu_idle(server, tpch_dir, engine):
    one = server("--data", tpch_dir)
    with one.connect(engine) as connection, connection.cursor() as cursor:
        failure = []

        def run():
            try:
                cursor.execute(LONG)
                cursor.fetchall()
            except Exception as error:
                failure.append(error)

        thread = threading.Thread(target=run)
        busy = one.worker_pids()[0] if engine == "duckdb" else one.process.pid
        before = cpu_seconds(busy)
        thread.start()
        wait_until(lambda: cpu_seconds(busy) > before + 0.3, what="the query to run")
        cursor.adbc_cancel()
        thread.join(30)
        assert failure, "the cancelled query gave an answer"
    wait_until(lambda: idle(busy), 5, "an idle CPU")
    assert one.query("SELECT 1 AS x", engine=engine).to_pylist() == [{"x": 1}]


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
def test_a_client_that_vanishes_frees_the_engine(server, tpch_dir, engine):
    one = server("--data", tpch_dir)
    client = flight.connect(one.uri)
    options = flight.FlightCallOptions(headers=[(b"flightpath-engine", engine.encode())])
    info = client.get_flight_info(statement(f"SELECT a.* FROM lineitem a CROSS JOIN (SELECT o_orderkey FROM orders LIMIT 1000) b"), options)
    reader = client.do_get(info.endpoints[0].ticket, options)
    reader.read_chunk()
    reader.cancel()
    client.close()
    busy = one.worker_pids()[0] if engine == "duckdb" else one.process.pid
    wait_until(lambda: idle(busy), 5, "an idle CPU")
    wait_until(lambda: one.query("SELECT sum(running) AS n FROM system.engines WHERE engine = 'duckdb'").to_pylist() == [{"n": 0}], 5)


def test_a_deadline_ends_a_query_with_its_own_error(server, tpch_dir):
    one = server("--data", tpch_dir)
    for engine in ["duckdb", "datafusion"]:
        with pytest.raises(Exception, match="(?i)deadline|time"):
            one.query(LONG, engine=engine, headers={"timeout_seconds": "1"})


def test_a_slow_reader_does_not_grow_the_router(server, tpch_dir):
    """A result of about 2 GB, read a message at a time with pauses."""
    one = server("--data", tpch_dir)
    client = flight.connect(one.uri)
    for engine in [b"duckdb", b"datafusion"]:
        options = flight.FlightCallOptions(headers=[(b"flightpath-engine", engine)])
        info = client.get_flight_info(statement("SELECT a.* FROM lineitem a CROSS JOIN (SELECT o_orderkey FROM orders LIMIT 20) b"), options)
        before = one.resident_bytes()
        reader = client.do_get(info.endpoints[0].ticket, options)
        read, highest = 0, before
        while read < 2_000_000_000:
            try:
                read += reader.read_chunk().data.nbytes
            except StopIteration:
                break
            highest = max(highest, one.resident_bytes())
        reader.cancel()
        assert read > 1_000_000_000
        assert highest - before < 512 * 1024 * 1024, f"{engine}: grew by {(highest - before) >> 20} MiB"


def test_sigterm_lets_running_queries_finish_and_takes_no_new_ones(server, tpch_dir):
    one = server("--data", tpch_dir)
    client = flight.connect(one.uri)
    info = client.get_flight_info(statement("SELECT l_orderkey, l_comment FROM lineitem"))
    reader = client.do_get(info.endpoints[0].ticket)
    rows = reader.read_chunk().data.num_rows
    workers = one.worker_pids()
    one.process.send_signal(signal.SIGTERM)
    with pytest.raises(Exception):
        wait_for_refusal(one)
    while True:
        try:
            rows += reader.read_chunk().data.num_rows
        except StopIteration:
            break
    assert rows == 600_572
    assert one.process.wait(60) == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)


def wait_for_refusal(one):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        one.query("SELECT 1")


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
def test_a_query_whose_files_were_vacuumed_is_planned_again(tmp_path, engine):
    from chaos.tables import QUESTIONS, Marked
    from conftest import Server

    table = Marked(tmp_path / "data", keeps=False)
    # The server looks at the table once, and not again by itself.
    server = Server(tmp_path / "state", "--data", tmp_path / "data", env={"FLIGHTPATH_CATALOG_REFRESH_SECONDS": "3600"})
    try:
        for _ in range(3):
            [before] = server.query(QUESTIONS[0], engine).to_pylist()
            assert before["low"] == before["high"] == table.version
            table.commit()
        [after] = server.query(QUESTIONS[0], engine).to_pylist()
        assert after["low"] == after["high"] == table.version > before["low"]
        again = server.query("SELECT failovers FROM system.queries WHERE failovers IS NOT NULL").to_pylist()
        assert any("planned again" in str(row) for row in again), again
    finally:
        server.stop()
