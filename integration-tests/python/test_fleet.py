"""Workers that register: what clients notice when one dies, falls silent, drains or comes. Nothing."""

import os
import secrets
import signal
import subprocess

import adbc_driver_flightsql.dbapi as flightsql
import pytest
from conftest import populate, wait_until
from fleet import Fleet, Load, with_answers


@pytest.fixture(scope="module")
def small_tpch(tmp_path_factory):
    out = tmp_path_factory.mktemp("fleet") / "data"
    populate("tpch", 0.01, out)
    return out


@pytest.fixture
def fleets(tmp_path, small_tpch):
    """Makes fleets over the small tables; ends them all."""
    made = []

    def make(**kwargs):
        made.append(Fleet(tmp_path / f"fleet-{len(made)}", small_tpch, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_workers_die_fall_silent_and_drain_under_load_and_no_client_notices(fleets):
    fleet = fleets(workers=3)
    router = fleet.router
    load = Load(router.connect, with_answers(router))
    load.wait_for_more(20)
    # One after the other, while the others go on.
    fleet.workers["w0"].signal(signal.SIGKILL)
    load.wait_for_more(30)
    wait_until(lambda: router.ready() == ["w1", "w2"], what="the dead worker to be known")
    fleet.add_worker("w0")
    wait_until(lambda: router.ready() == ["w0", "w1", "w2"], what="its successor")

    fleet.workers["w1"].signal(signal.SIGSTOP)
    wait_until(lambda: router.workers()["w1"]["state"] == "silent", what="the silence to be noticed")
    load.wait_for_more(30)
    fleet.workers["w1"].signal(signal.SIGCONT)
    wait_until(lambda: "w1" in router.ready(), what="the worker to be heard of again")

    fleet.workers["w2"].signal(signal.SIGTERM)
    wait_until(lambda: "w2" not in router.ready(), what="the drain to be known")
    load.wait_for_more(30)
    assert fleet.workers["w2"].process.wait(60) == 0, fleet.workers["w2"].stderr()
    load.check()
    assert "w2" not in router.workers()


def test_several_workers_of_the_servers_own_are_used_and_replaced(server, small_tpch):
    one = server("--data", small_tpch, env={"FLIGHTPATH_ENGINES_DUCKDB_WORKERS": "2", "FLIGHTPATH_ENGINES_DUCKDB_SLOTS": "8"})
    rows = "SELECT worker, slots FROM system.workers WHERE state = 'ready' ORDER BY worker"
    both = [{"worker": "local-0", "slots": 4}, {"worker": "local-1", "slots": 4}]
    wait_until(lambda: one.query(rows).to_pylist() == both, what="both workers")
    load = Load(one.connect, with_answers(one))
    for _ in range(3):
        load.wait_for_more(20)
        os.kill(one.worker_pids()[0], signal.SIGKILL)
        wait_until(lambda: one.query(rows).to_pylist() == both, what="both workers")
    load.check()


def test_workers_with_one_slot_each_answer(server, fleets, small_tpch):
    one = server("--data", small_tpch, env={"FLIGHTPATH_ENGINES_DUCKDB_WORKERS": "2", "FLIGHTPATH_ENGINES_DUCKDB_SLOTS": "2"})
    rows = "SELECT slots FROM system.workers WHERE state = 'ready'"
    wait_until(lambda: one.query(rows).to_pylist() == [{"slots": 1}] * 2, what="both workers")
    assert one.query("SELECT count(*) AS n FROM region", engine="duckdb").to_pylist() == [{"n": 5}]
    fleet = fleets(workers=0)
    fleet.add_worker("narrow", environment={"FLIGHTPATH_ENGINES_DUCKDB_SLOTS": "1"})
    wait_until(lambda: fleet.router.ready() == ["narrow"], what="the worker")
    assert fleet.router.workers()["narrow"]["slots"] == 1
    assert fleet.router.query("SELECT count(*) AS n FROM region", engine="duckdb").to_pylist() == [{"n": 5}]


def test_a_worker_that_joins_later_gets_work(fleets):
    fleet = fleets(workers=1)
    router = fleet.router
    load = Load(router.connect, with_answers(router), pinned_every=1)
    load.wait_for_more(10)
    fleet.add_worker("late")
    wait_until(lambda: router.ready() == ["late", "w0"], what="the second worker")
    wait_until(lambda: router.workers()["late"]["cached_tables"] > 0, what="work for the second worker")
    row = router.workers()["late"]
    assert row["labels"] == "kind=test" and row["slots"] == 4 and row["memory_used_bytes"] > 0
    engine = router.query("SELECT slots, state FROM system.engines WHERE engine = 'duckdb'").to_pylist()
    assert engine == [{"slots": 8, "state": "ready"}]
    load.check()


def test_a_drain_lets_a_running_result_end_whole(fleets):
    fleet = fleets(workers=2)
    router = fleet.router
    with router.connect("duckdb") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT a.l_orderkey, a.l_comment, b.o_orderkey AS k FROM lineitem a CROSS JOIN (SELECT o_orderkey FROM orders LIMIT 20) b")
        reader = cursor.fetch_record_batch()
        rows = reader.read_next_batch().num_rows
        busy = [name for name, row in router.workers().items() if row["running"] > 0]
        assert len(busy) == 1
        fleet.workers[busy[0]].signal(signal.SIGTERM)
        wait_until(lambda: busy[0] not in router.ready(), what="the drain to be known")
        assert router.query("SELECT count(*) AS n FROM region", engine="duckdb").to_pylist() == [{"n": 5}]
        rows += sum(batch.num_rows for batch in reader)
    assert rows == 20 * router.query("SELECT count(*) AS n FROM lineitem").to_pylist()[0]["n"]
    assert fleet.workers[busy[0]].process.wait(60) == 0


def test_strangers_are_not_taken_in_and_the_key_is_never_written(fleets, tmp_path):
    fleet = fleets(workers=1)
    router, key = fleet.router, fleet.key_file.read_text()
    other = tmp_path / "other-key"
    other.write_text(secrets.token_hex(32))
    other.chmod(0o600)
    fleet.add_worker("stranger", environment={"FLIGHTPATH_FLEET_KEY": other.read_text()})
    wait_until(lambda: "doesn't know this fleet's key" in fleet.workers["stranger"].stderr(), what="the refusal")
    # A second one of the same name isn't the first one.
    fleet.workers["double"] = type(fleet.workers["w0"])(fleet.folder / "double", "w0", [router.fleet_uri], fleet.key_file)
    wait_until(lambda: "names are unique" in fleet.workers["double"].stderr(), what="the refusal")
    assert list(router.workers()) == ["w0"]
    written = router.stderr() + "".join(worker.stderr() for worker in fleet.workers.values())
    assert key not in written and other.read_text() not in written


def certificates(folder):
    """An authority, and a certificate of it for this machine: (authority, certificate, key)."""
    made = {name: folder / name for name in ("ca.crt", "ca.key", "tls.csr", "tls.crt", "tls.key", "names")}
    made["names"].write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")

    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new, "-days", 2, "-subj", "/CN=test authority", "-keyout", made["ca.key"], "-out", made["ca.crt"])
    openssl("req", *new, "-subj", "/CN=localhost", "-keyout", made["tls.key"], "-out", made["tls.csr"])
    signed = ("-CA", made["ca.crt"], "-CAkey", made["ca.key"], "-CAcreateserial", "-days", 2, "-extfile", made["names"])
    openssl("x509", "-req", "-in", made["tls.csr"], *signed, "-out", made["tls.crt"])
    return made["ca.crt"], made["tls.crt"], made["tls.key"]


def test_a_fleet_over_tls(fleets, tmp_path):
    authority, certificate, private = certificates(tmp_path)
    tls = f'[tls]\ncertificate = "{certificate}"\nkey = "{private}"\n'
    fleet = fleets(workers=0, settings=f'ca = "{authority}"\n{tls}')
    router = fleet.router
    assert router.fleet_uri.startswith("grpc+tls://")
    worker = fleet.add_worker("w0", settings=tls, environment={"FLIGHTPATH_FLEET_CA": str(authority)})
    kwargs = {"adbc.flight.sql.client_option.tls_root_certs": authority.read_text()}
    kwargs["adbc.flight.sql.rpc.call_header.flightpath-engine"] = "duckdb"
    with flightsql.connect(router.uri, db_kwargs=kwargs, autocommit=True) as connection, connection.cursor() as cursor:

        def answers():
            try:
                cursor.execute("SELECT count(*) AS n FROM nation")
                return cursor.fetch_arrow_table().to_pylist() == [{"n": 25}]
            except Exception:
                return False

        wait_until(answers, 60, "an answer over TLS")
    assert "registered" in worker.stderr()
