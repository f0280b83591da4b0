"""Faults of routers, clients and the log's database."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
from conftest import Server, wait_until
from fleet import SLOTS, Load, with_answers

from .report import Row
from .scene import FLOOD, QUICK, all_idle, seen_after

# What a client hears of a router that ends, or has ended.
CLOSING = "the server is shutting down"
GONE = "connection refused"
REFUSALS = [CLOSING, GONE, "connection reset", "connection error", "error reading from server: EOF"]
LOG_ROWS = "SELECT text, count(*) AS n FROM system.queries WHERE tag = 'counted' GROUP BY text"


@contextlib.contextmanager
def good_bye(closable):
    """Closes it; that its server has gone by then is no failure."""
    try:
        yield closable
    finally:
        with contextlib.suppress(adbc_driver_manager.Error, RuntimeError):
            closable.close()


def rolling(fleet, trials):
    """One router after the other ends and is replaced; clients know them all, as behind a balancer."""
    row = Row("router SIGTERM, rolling, under load")
    questions = with_answers(fleet.router)
    stop, lock, between = threading.Event(), threading.Lock(), []

    def ask(sql):
        """A client that goes to another router when one doesn't take its statement."""
        until = time.monotonic() + 30
        while True:
            for router in list(fleet.routers):
                if router.process.poll() is not None:
                    continue
                begun = False
                try:
                    with good_bye(flightsql.connect(router.uri, autocommit=True)) as connection, good_bye(connection.cursor()) as cursor:
                        cursor.execute(sql)
                        begun = True
                        return cursor.fetch_arrow_table().to_pylist()
                except adbc_driver_manager.Error as error:
                    # Refused before it had begun; anything else is a failed query.
                    late = begun and any(text in str(error) for text in (CLOSING, GONE))
                    between.extend([sql] if late else [])
                    refused = late or (not begun and any(text in str(error) for text in REFUSALS))
                    if not refused or time.monotonic() > until:
                        raise
            time.sleep(0.02)

    def client(number):
        turn = number
        while not stop.is_set():
            sql, want = questions[turn % len(questions)]
            turn += 1
            try:
                got = ask(sql)
            except adbc_driver_manager.Error as error:
                with lock:
                    row.client_error(error)
                continue
            with lock:
                row.trials += 1
                if got != want:
                    row.wrong_answer(sql)

    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    clean = 0
    for _ in range(trials):
        seen = row.trials
        wait_until(lambda: row.trials >= seen + 10 or row.errors, 60, "answers")
        old = fleet.routers[0]
        fleet.replace_router(0)
        clean += old.process.returncode == 0
        fleet.wait_for(len(fleet.workers))
    stop.set()
    for thread in threads:
        thread.join(60)
    row.promise(clean == trials, f"{clean} of {trials} routers ended with 0")
    row.promise(True, f"{len(between)} answers refused between their plan and their first byte, and asked for elsewhere")
    return row


def router_killed(fleet, trials):
    """Every answered query is on record once, however its router ended."""
    row = Row("router SIGKILL: the log")
    state = fleet.folder / "state-killed"
    answered, number = [], 0
    for _ in range(trials):
        server = Server(state, "--data", fleet.data, env={"FLIGHTPATH_ENGINES_DUCKDB_ENABLED": "false"})
        moment = time.monotonic() + 0.2 + (number % 7) * 0.05
        killer = threading.Thread(target=lambda: (time.sleep(max(0, moment - time.monotonic())), server.process.kill()), daemon=True)
        killer.start()
        with contextlib.suppress(adbc_driver_manager.Error), server.connect(headers={"tag": "counted"}) as connection, connection.cursor() as cursor:
            while True:
                sql = f"SELECT {number} AS n FROM region LIMIT 1"
                number += 1
                cursor.execute(sql)
                cursor.fetchall()
                answered.append(sql)
        killer.join()
        server.stop(signal.SIGKILL)
        row.trials += 1
    server = Server(state, "--data", fleet.data, env={"FLIGHTPATH_ENGINES_DUCKDB_ENABLED": "false", "FLIGHTPATH_LOG_READ_ROWS_MAX": "1000000"})
    try:
        wait_until(lambda: {r["text"] for r in server.query(LOG_ROWS).to_pylist()} >= set(answered), 60, "all records")
        lost = 0
    except AssertionError:
        lost = len(set(answered) - {r["text"] for r in server.query(LOG_ROWS).to_pylist()})
    doubled = sum(r["n"] > 1 for r in server.query(LOG_ROWS).to_pylist())
    server.stop()
    row.promise(lost == 0 and doubled == 0, f"{len(answered)} acknowledged records: {lost} lost, {doubled} doubled")
    return row


def client_vanishes(fleet, trials):
    row = Row("client vanishes mid-stream")
    took = []
    for _ in range(trials):
        row.trials += 1
        child = subprocess.Popen([*CLIENT, fleet.router.uri, FLOOD], stdout=subprocess.PIPE)
        child.stdout.readline()
        child.kill()
        gone = time.monotonic()
        child.wait()
        took.append(seen_after(fleet, gone, all_idle, 30, "a free slot"))
    row.within("slot free after", took, 2.0)
    return row


# A client of its own, so that it can vanish as a machine does: without a word.
CLIENT = [
    sys.executable,
    "-c",
    "import sys, time, adbc_driver_flightsql.dbapi as f\n"
    "c = f.connect(sys.argv[1], db_kwargs={'adbc.flight.sql.rpc.call_header.flightpath-engine': 'duckdb'}, autocommit=True).cursor()\n"
    "c.execute(sys.argv[2])\n"
    "c.fetch_record_batch().read_next_batch()\n"
    "print('reading', flush=True)\n"
    "time.sleep(600)\n",
]


def overload(fleet, trials):
    """Ten clients for each slot, all at once, `trials` questions each."""
    clients = 10 * SLOTS * len(fleet.workers)
    row = Row(f"overload: {clients} clients on {SLOTS * len(fleet.workers)} slots", errors_allowed=True)
    before = fleet.router.resident_bytes()
    (sql, want), lock, typed = with_answers(fleet.router, [QUICK])[0], threading.Lock(), []

    def client():
        for _ in range(trials):
            try:
                got, failure = fleet.router.query(sql, engine="duckdb").to_pylist(), None
            except adbc_driver_manager.Error as error:
                got, failure = None, error
            with lock:
                row.trials += 1
                if failure is not None:
                    row.client_error(failure)
                    typed.append("busy" in str(failure) or "no free slot" in str(failure) or "RESOURCE" in str(failure).upper())
                elif got != want:
                    row.wrong_answer(str(got))

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    row.promise(not any(t.is_alive() for t in threads), "every client got an answer or an error")
    row.promise(all(typed), f"{len(typed)} refused, all with a typed error")
    grown = (fleet.router.resident_bytes() - before) >> 20
    row.promise(grown < 512, f"router grew by {grown} MiB")
    row.promise(fleet.router.query(sql, engine="duckdb").to_pylist() == want, "answers afterwards")
    return row


def log_down(fleet, seconds):
    """The log's database stops for so long and comes back."""
    row = Row(f"log database down for {seconds} s")
    if not Postgres.available():
        row.promise(False, "PostgreSQL's server isn't installed: scripts/setup postgres")
        return row
    with Postgres(fleet.folder / "postgres") as postgres:
        server = Server(fleet.folder / "state-log", "--data", fleet.data, env={"FLIGHTPATH_LOG_URL": postgres.url})
        try:
            load = Load(lambda engine: server.connect(engine, headers={"tag": "counted"}), with_answers(server), clients=2)
            load.wait_for_more(20)
            postgres.stop()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                load.wait_for_more(5)
            postgres.start()
            load.wait_for_more(20)
            load.stop()
            row.trials = load.answered
            row.wrong, row.errors = len(load.wrong), len(load.errors)
            for note in load.errors[:3]:
                row.note(note)
            count = "SELECT count(*) AS n, count(DISTINCT query_id) AS d FROM system.queries WHERE tag = 'counted'"

            def counted():
                try:
                    return server.query(count).to_pylist()[0]
                except adbc_driver_manager.Error:
                    return {"n": -1, "d": -1}

            with contextlib.suppress(AssertionError):
                wait_until(lambda: counted()["n"] >= load.answered, 120, "all records")
            found = counted()
            row.promise(found["n"] == found["d"] == load.answered, f"{found['n']} records of {load.answered} queries")
        finally:
            server.stop()
    return row


class Postgres:
    """A PostgreSQL of its own, in a folder, on a port of its own."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    @staticmethod
    def programs():
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
        path = str(found[0]) if found else shutil.which("initdb")
        return pathlib.Path(path).parent if path else None

    @classmethod
    def available(cls):
        return cls.programs() is not None

    def _command(self, program, *arguments):
        # It refuses to run as root.
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        return [*user, str(self.programs() / program), *arguments]

    def __enter__(self):
        self.folder.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
            # The folders above are their maker's alone.
            for parent in list(self.folder.parents)[:-1]:
                if parent.stat().st_uid == 0 and parent != pathlib.Path("/tmp"):
                    parent.chmod(parent.stat().st_mode | 0o011)
        made = self._command("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D", str(self.folder / "data"))
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, cwd="/")
        self.start()
        return self

    def start(self):
        run = self._command("postgres", "-D", str(self.folder / "data"), "-h", "127.0.0.1", "-p", str(self.port), "-F", "-k", "")
        self.process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        asked = [str(self.programs() / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        wait_until(lambda: subprocess.run(asked).returncode == 0, 60, "PostgreSQL")

    def stop(self):
        # Its fast shutdown.
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()

