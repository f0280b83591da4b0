"""A router with DuckDB workers that register with it, each a process of its own, and a load of queries on them."""

import os
import pathlib
import re
import secrets
import signal
import subprocess
import threading
import time

import adbc_driver_manager
from conftest import BINARY, START_SECONDS, Server, wait_until

SLOTS = 4


class Router(Server):
    """`flightpath serve` where workers register."""

    def _wait_until_ready(self):
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                if found := re.match(r"workers register at (\S+)", line):
                    self.fleet_uri = found[1]
                if found := re.match(r"listening on (grpc(?:\+tls)?://\S+)", line):
                    threading.Thread(target=self.process.stdout.read, daemon=True).start()
                    return found[1]
        finally:
            timer.cancel()
        self.process.wait()
        raise RuntimeError(f"the router did not start (exit {self.process.returncode}):\n{self.stderr()}")

    def workers(self):
        """What `system.workers` says, by name."""
        return {row["worker"]: row for row in self.query("SELECT * FROM system.workers", engine="datafusion").to_pylist()}

    def ready(self):
        return sorted(name for name, row in self.workers().items() if row["state"] == "ready")


class Worker:
    """One `flightpath worker` that registers."""

    def __init__(self, folder, name, routers, key_file, settings="", environment=None, listen=None):
        self.name = name
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "worker.toml"
        uris = ", ".join(f'"{uri}"' for uri in routers)
        config.write_text(
            f'state_dir = "{self.folder}"\n'
            f'[engines.duckdb]\nmemory = "256MB"\nthreads = 1\nslots = {SLOTS}\n'
            f'[fleet]\nkey_file = "{key_file}"\n[worker]\nrouter = [{uris}]\nname = "{name}"\nlabels = ["kind=test"]\n{settings}'
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FLIGHTPATH_")}
        self.log = open(self.folder / "stderr.log", "ab")
        command = [BINARY, "worker", "--config", str(config), *(["--listen", listen] if listen else [])]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log, env=kept | (environment or {}))

    @property
    def pid(self):
        return self.process.pid

    def signal(self, sig):
        self.process.send_signal(sig)

    def stderr(self):
        return (self.folder / "stderr.log").read_text(errors="replace")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Fleet:
    """Routers and workers that share a key; everything ends with it."""

    def __init__(self, folder, data, workers=3, routers=1, settings="", environment=None, worker_settings=""):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key_file = self.folder / "key"
        self.key_file.write_text(secrets.token_hex(32))
        self.key_file.chmod(0o600)
        self.data, self.settings, self.environment, self.worker_settings = data, settings, environment, worker_settings
        self.routers, self.workers = [], {}
        try:
            for _ in range(routers):
                self.add_router()
            for number in range(workers):
                self.add_worker(f"w{number}")
            self.wait_for(workers)
        except BaseException:
            self.end()
            raise

    @property
    def router(self):
        return self.routers[0]

    def add_router(self):
        self.routers.append(self._router(len(self.routers), 0))
        return self.routers[-1]

    def replace_router(self, number):
        """Ends a router and starts another where its workers look for it."""
        port = self.routers[number].fleet_uri.rsplit(":", 1)[1]
        self.routers[number].stop()
        self.routers[number] = self._router(number, port)

    def _router(self, number, fleet_port):
        state = self.folder / f"router-{number}"
        settings = (
            f'listen = "127.0.0.1:0"\ndata = ["{self.data}"]\n'
            f'[engines.duckdb]\nworkers = 0\nslots = {SLOTS * 4}\n[engines.datafusion]\nmemory = "256MB"\n'
            '[log]\nread_rows_max = 1000000\n'
            f'[fleet]\nlisten = "127.0.0.1:{fleet_port}"\nkey_file = "{self.key_file}"\n{self.settings}'
        )
        return Router(state, settings=settings, env=self.environment)

    def add_worker(self, name, **kwargs):
        """Starts a worker of this name; an earlier one has to be dead."""
        if name in self.workers:
            self.workers[name].end()
        uris = [router.fleet_uri for router in self.routers if router.process.poll() is None]
        self.workers[name] = Worker(self.folder / name, name, uris, self.key_file, **{"settings": self.worker_settings, **kwargs})
        return self.workers[name]

    def wait_for(self, count, seconds=60):
        for router in self.routers:
            if count and router.process.poll() is None:
                wait_until(lambda: len(router.ready()) >= count, seconds, f"{count} ready workers")

    def heal(self):
        """Starts anew whoever is dead and lets go on whoever was stopped."""
        for name, worker in list(self.workers.items()):
            if worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
            else:
                self.add_worker(name)
        self.wait_for(len(self.workers))

    def end(self):
        for worker in self.workers.values():
            worker.end()
        for router in self.routers:
            router.stop(signal.SIGKILL)


class Load:
    """Clients that ask one thing after the other and compare each answer."""

    def __init__(self, connect, questions, clients=6, pinned_every=2):
        """`connect(engine)` gives a connection; `questions` are texts with the answers they must have."""
        self.connect, self.questions, self.pinned_every = connect, questions, pinned_every
        self.answered, self.wrong, self.errors = 0, [], []
        self.latencies = []
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def _client(self, number):
        engine = "duckdb" if number % self.pinned_every == 0 else None
        turn = number
        with self.connect(engine) as connection:
            while not self.stopping.is_set():
                sql, want = self.questions[turn % len(self.questions)]
                turn += 1
                began = time.monotonic()
                try:
                    with connection.cursor() as cursor:
                        cursor.execute(sql)
                        got = cursor.fetch_arrow_table().to_pylist()
                except adbc_driver_manager.Error as error:
                    with self.lock:
                        self.errors.append(f"{sql}: {error}")
                    continue
                with self.lock:
                    self.answered += 1
                    self.latencies.append(time.monotonic() - began)
                    if got != want:
                        self.wrong.append((sql, got))

    def wait_for_more(self, count, seconds=120):
        target = self.answered + count
        wait_until(lambda: self.answered >= target or self.errors or self.wrong, seconds, f"{count} more answers")

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self.threads), "a client hangs"
        return self

    def check(self):
        self.stop()
        assert not self.wrong, self.wrong[:2]
        assert not self.errors, self.errors[:3]
        assert self.answered


QUESTIONS = [
    "SELECT l_returnflag, count(*) AS n, sum(l_quantity) AS q FROM lineitem GROUP BY l_returnflag ORDER BY 1",
    "SELECT o_orderpriority, count(*) AS n FROM orders GROUP BY o_orderpriority ORDER BY 1",
    "SELECT n_name, count(*) AS n FROM customer JOIN nation ON c_nationkey = n_nationkey GROUP BY n_name ORDER BY 1",
    "SELECT s_nationkey, count(*) AS n FROM supplier GROUP BY s_nationkey ORDER BY 1",
]


def with_answers(router, questions=QUESTIONS):
    """Each with the answer that the other engine gives."""
    return [(sql, router.query(sql, engine="datafusion").to_pylist()) for sql in questions]
