"""The query log's database goes and comes back."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import adbc_driver_manager
from conftest import Server, wait_until
from fleet import Load, with_answers

from .proxy import free_port
from .report import Row

SPOOL_BYTES_MAX = 64 << 20
SHORT_SECONDS = 3
COUNT = "SELECT count(*) AS n, count(DISTINCT query_id) AS d FROM system.queries WHERE tag = 'counted'"


def long_outage(fleet, seconds):
    """One outage of so many seconds."""
    return _outages(fleet, Row(f"log database down for {seconds} s"), 1, seconds)


def short_outages(fleet, trials):
    return _outages(fleet, Row(f"log database down for {SHORT_SECONDS} s, again and again"), trials, SHORT_SECONDS)


def _outages(fleet, row, outages, seconds):
    if not Postgres.available():
        row.promise(False, "PostgreSQL's server isn't installed: scripts/setup postgres")
        return row
    spool = 0
    settings = {"FLIGHTPATH_LOG_SPOOL_MAX": str(SPOOL_BYTES_MAX), "FLIGHTPATH_LOG_READ_ROWS_MAX": "1000000"}
    with Postgres(fleet.folder / "postgres") as postgres:
        server = Server(fleet.folder / "state-log", "--data", fleet.data, env={"FLIGHTPATH_LOG_URL": postgres.url, **settings})
        try:
            load = Load(lambda engine: server.connect(engine, headers={"tag": "counted"}), with_answers(server), clients=2)
            for _ in row.attempts(outages):
                load.wait_for_more(20)
                postgres.stop()
                row.injected += 1
                until = time.monotonic() + seconds
                while time.monotonic() < until and not (load.errors or load.wrong):
                    load.wait_for_more(5)
                    spool = max(spool, spooled(server))
                postgres.start()
            load.wait_for_more(20)
            row.take(load.stop())
            with contextlib.suppress(AssertionError):
                wait_until(lambda: counted(server)["n"] >= load.answered, 120, "all records")
            found = counted(server)
            row.promise(found["n"] == found["d"] == load.answered, f"{found['n']} records of {load.answered} answered queries, each once")
            row.promise(0 < spool <= 2 * SPOOL_BYTES_MAX, f"spool at most {spool >> 10} KiB")
        finally:
            server.stop()
    return row


def counted(server):
    try:
        return server.query(COUNT).to_pylist()[0]
    except adbc_driver_manager.Error:
        return {"n": -1, "d": -1}


def spooled(server):
    """Bytes below the server's own folder for what its database doesn't take."""
    total = 0
    for path in server.state_dir.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if "spool" in str(path.relative_to(server.state_dir)) and path.is_file() else 0
    return total


class Postgres:
    """A PostgreSQL of its own, in a folder, on a port of its own."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.port = free_port()
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
