"""Faults of a Databricks workspace, which is simulated here."""

import random
import threading
import time
import urllib.request

import adbc_driver_manager
from conftest import Server
from simulation import Simulation, connect, settings

from .report import Row

PRINCIPALS = {"ana": "token-of-ana-00000001"}
GOVERNED = {"main.default.nation": {"row_filter": "n_nationkey >= 0"}}
# Governed: nobody else may run it.
SQL = "SELECT count(*) AS n, sum(n_nationkey) AS s FROM main.default.nation WHERE n_nationkey <> {}"
TIMEOUT_SECONDS = 20
GRACE_SECONDS = 3
# A deadline that no answer can keep.
SHORT_SECONDS = 3
KINDS = ("DeadlineExceeded", "ResourceExhausted", "Unavailable")
QUEUE_MAX = 4
SLOTS = 10
# What heals: each strikes once or twice and asks to be tried again, or takes a while.
HEALING = [
    {"match": "execute", "status": 429, "retry_after": "1"},
    {"match": "execute", "status": 503, "retry_after": "1"},
    {"match": "poll", "status": 429, "retry_after": "1"},
    {"match": "poll", "status": 503},
    {"match": "warehouses", "status": 503},
    {"match": "unity", "status": 429, "retry_after": "1"},
    None,
]
# What doesn't heal before the deadline.
LASTING = [{"match": "execute", "status": 429, "retry_after": "1", "times": 0}, {"match": "execute", "status": 503, "retry_after": "1", "times": 0}]


class Workspace:
    def __init__(self, folder, data):
        warehouse = {"running": False, "start_delay_ms": 500, "base_latency_ms": 300, "auto_stop_mins": 0}
        self.simulation = Simulation(folder / "simulation", data, PRINCIPALS, GOVERNED, {"history_calls_per_second": 0}, warehouse)
        limits = f"[limits]\nqueue_max = {QUEUE_MAX}\nqueue_wait_seconds = {TIMEOUT_SECONDS}\n"
        self.server = Server(folder / "state", settings=settings(self.simulation, PRINCIPALS, data) + limits)

    def ask(self, number, seconds=TIMEOUT_SECONDS):
        """Rows or the error, and how long it took."""
        began = time.monotonic()
        try:
            with connect(self.server, PRINCIPALS["ana"], timeout_seconds=str(seconds)) as connection, connection.cursor() as cursor:
                cursor.execute(SQL.format(number))
                return cursor.fetch_arrow_table().to_pylist(), None, time.monotonic() - began
        except adbc_driver_manager.Error as error:
            return None, error, time.monotonic() - began

    def fault(self, fault):
        self.simulation.call("POST", "/simulation/faults", fault)

    def calls(self, fault):
        """How many calls were made of the kind that the fault strikes."""
        return self.simulation.counters()["calls"].get(fault["match"], 0) if fault else 0

    def put_to_sleep(self):
        request = urllib.request.Request(
            f"{self.simulation.url}/api/2.0/sql/warehouses/simulated/stop",
            data=b"{}",
            headers={"authorization": f"Bearer {PRINCIPALS['ana']}", "content-type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=30).close()

    def stop(self):
        self.server.stop()
        self.simulation.stop()


def answer(number):
    return [{"n": 25 - (0 <= number < 25), "s": sum(range(25)) - (number if 0 <= number < 25 else 0)}]


def busy(fleet, trials):
    """429, 503 and a warehouse that sleeps: answered where it heals, a typed error by the deadline where it doesn't."""
    row = Row("Databricks 429, 503, cold start")
    workspace = Workspace(fleet.folder / "workspace", fleet.data)
    late, ended = [], []
    try:
        for _ in row.attempts(trials):
            trial, row.queries = row.queries, row.queries + 1
            fault = HEALING[trial % len(HEALING)]
            if fault is None:
                workspace.put_to_sleep()
            else:
                workspace.fault({**fault, "times": random.randint(1, 2)})
            before = workspace.calls(fault)
            rows, error, took = workspace.ask(trial)
            late.append(max(0.0, took - TIMEOUT_SECONDS))
            if error is not None:
                row.client_error(f"{fault}: {error}")
            elif rows != answer(trial):
                row.wrong_answer(str(rows))
            # Some calls aren't made for every query: then nothing struck.
            row.injected += fault is None or workspace.calls(fault) > before
            workspace.simulation.call("DELETE", "/simulation/faults")
        for fault in LASTING:
            workspace.fault(fault)
            _, error, took = workspace.ask(-1, SHORT_SECONDS)
            row.promise(error is not None and typed(error), f"{fault['status']} that lasts is a typed error")
            ended.append(took - SHORT_SECONDS)
            workspace.simulation.call("DELETE", "/simulation/faults")
        row.within("past the deadline", late, GRACE_SECONDS)
        row.within("what doesn't heal, past its deadline", ended, GRACE_SECONDS)
        _queue(workspace, row)
    finally:
        workspace.stop()
    return row


def _queue(workspace, row):
    """More at once than there are places: so many wait, the rest is told at once."""
    outcomes, lock = [], threading.Lock()

    def one(number):
        outcome = workspace.ask(number)
        with lock:
            outcomes.append((number, outcome))

    threads = [threading.Thread(target=one, args=(100 + n,), daemon=True) for n in range(3 * (SLOTS + QUEUE_MAX))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    wrong = [rows for number, (rows, error, _) in outcomes if error is None and rows != answer(number)]
    refused = [str(error) for _, (_, error, _) in outcomes if error is not None]
    for rows in wrong:
        row.wrong_answer(str(rows))
    as_too_many = [said for said in refused if "resourceexhausted" in said.lower()]
    row.promise(refused and len(as_too_many) == len(refused), f"{len(as_too_many)} of {len(threads)} at once refused, each as `ResourceExhausted`")
    row.promise(len(outcomes) == len(threads), "every client got an answer or an error")
    row.queries += len(outcomes)


def typed(error):
    """Says of which kind it is; never just that something went wrong inside."""
    return any(kind in str(error) for kind in KINDS)
