"""Starts real servers for the tests. FLIGHTPATH_BINARY names the program under test."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import pytest

HERE = pathlib.Path(__file__).parent
DATA = HERE.parent / "data"
BINARY = os.environ.get("FLIGHTPATH_BINARY") or str(HERE.parent.parent / "target/debug/flightpath")
START_SECONDS = 60


class Server:
    """One `flightpath serve` of its own, with its own state folder."""

    def __init__(self, state_dir, *args, env=None, settings=None):
        self.state_dir = pathlib.Path(state_dir)
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.args = [str(a) for a in args]
        if settings is not None:
            config = self.state_dir / "flightpath.toml"
            config.write_text(settings)
            self.args += ["--config", str(config)]
        if not any(a == "--listen" for a in self.args) and "listen" not in (settings or ""):
            self.args += ["--listen", "127.0.0.1:0"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLIGHTPATH_")}
        environment |= {"FLIGHTPATH_STATE_DIR": str(self.state_dir), **(env or {})}
        self.log = open(self.state_dir / "stderr.log", "w+b")
        self.process = subprocess.Popen([BINARY, "serve", *self.args], stdout=subprocess.PIPE, stderr=self.log, env=environment, text=True)
        self.uri = self._wait_until_ready()

    def _wait_until_ready(self):
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                if found := re.match(r"listening on (grpc(?:\+tls)?://\S+)", line):
                    # Whatever else it prints must not fill the pipe.
                    threading.Thread(target=self.process.stdout.read, daemon=True).start()
                    return found[1]
        finally:
            timer.cancel()
        self.process.wait()
        raise RuntimeError(f"the server did not start (exit {self.process.returncode}):\n{self.stderr()}")

    def stderr(self):
        return (self.state_dir / "stderr.log").read_text(errors="replace")

    def connect(self, engine=None, headers=None, **db_kwargs):
        kwargs = dict(db_kwargs)
        for name, value in {**({"engine": engine} if engine else {}), **(headers or {})}.items():
            kwargs[f"adbc.flight.sql.rpc.call_header.flightpath-{name}"] = value
        return flightsql.connect(self.uri, db_kwargs=kwargs, autocommit=True)

    def query(self, sql, engine=None, headers=None, **db_kwargs):
        with self.connect(engine, headers, **db_kwargs) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def worker_pids(self):
        """The DuckDB workers that this server started."""
        pids = set()
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                pids |= {int(p) for p in (task / "children").read_text().split()}
        return sorted(pids)

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def stop(self, sig=signal.SIGTERM, seconds=60):
        if self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        self.log.close()
        return self.process.returncode


def wait_until(condition, seconds=30, what="the condition"):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        time.sleep(0.02)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def populate(kind, scale, out):
    subprocess.run([BINARY, "populate", kind, "--scale", str(scale), "--out", str(out)], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def tpch_dir(tmp_path_factory):
    out = tmp_path_factory.mktemp("tpch") / "data"
    populate("tpch", os.environ.get("TPCH_SCALE", "0.1"), out)
    return out


@pytest.fixture(scope="session")
def tpcds_dir(tmp_path_factory):
    out = tmp_path_factory.mktemp("tpcds") / "data"
    populate("tpcds", os.environ.get("TPCDS_SCALE", "0.01"), out)
    return out


@pytest.fixture(scope="session")
def tpch(tpch_dir, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("state-tpch"), "--data", tpch_dir)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tpcds(tpcds_dir, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("state-tpcds"), "--data", tpcds_dir)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def golden(tmp_path_factory):
    """The Delta tables that Spark wrote, each under its own name."""
    root = tmp_path_factory.mktemp("golden")
    for table in sorted((DATA / "delta-golden").iterdir()):
        if (table / "delta").is_dir():
            (root / table.name.replace("-", "_").lower()).symlink_to(table / "delta")
    server = Server(tmp_path_factory.mktemp("state-golden"), "--data", root)
    yield server
    server.stop()


@pytest.fixture
def server(tmp_path):
    """Makes servers; ends them all."""
    made = []

    def make(*args, **kwargs):
        made.append(Server(tmp_path / f"state-{len(made)}", *args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def copy_table(tmp_path):
    """A golden table's copy that a test may damage."""

    def copy(name, to):
        target = tmp_path / "lake" / to
        shutil.copytree(DATA / "delta-golden" / name / "delta", target)
        return target

    return copy
