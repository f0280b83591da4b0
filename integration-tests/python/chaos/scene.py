"""What the faults have in common: a fleet, questions with known answers, and who is busy with them."""

import collections
import contextlib
import random
import threading
import time

import adbc_driver_manager
from conftest import cpu_seconds, wait_until

CROSS = "FROM lineitem a CROSS JOIN (SELECT o_orderkey FROM orders WHERE o_orderkey <= {}) b"
# Computes for a while before its one row.
SLOW = "SELECT count(*) AS n, sum(a.l_orderkey * 3 + b.o_orderkey) AS s " + CROSS.format(1200)
# Hashes for a while between its few rows: a result of some hundred kilobytes.
TRICKLE = "SELECT l_orderkey, l_linenumber, sha2(repeat(l_comment, 1000), 256) AS h FROM lineitem WHERE l_orderkey <= 3000"
# Some ten seconds of computing.
LONG = "SELECT count(*) AS n, sum(a.l_orderkey * 3 + b.o_orderkey) AS s " + CROSS.format(24_000)
# Gigabytes.
FLOOD = "SELECT a.*, b.o_orderkey AS k " + CROSS.format(1600)
# Would take hours.
ENDLESS = "SELECT sum(a.l_orderkey * 3 + b.l_orderkey + c.l_orderkey) AS s FROM lineitem a CROSS JOIN lineitem b CROSS JOIN lineitem c"
# A tenth of a second: longer than it takes to ask.
BRIEF = "SELECT count(*) AS n, sum(a.l_orderkey * 3 + b.o_orderkey) AS s " + CROSS.format(240)


class Asked:
    """One question on a thread of its own."""

    def __init__(self, router, sql, engine="duckdb"):
        self.rows, self.error, self.seconds = None, None, None
        self.thread = threading.Thread(target=self._run, args=(router, sql, engine), daemon=True)
        self.thread.start()

    def _run(self, router, sql, engine):
        began = time.monotonic()
        try:
            self.rows = sorted_rows(router.query(sql, engine=engine))
        except adbc_driver_manager.Error as error:
            self.error = error
        self.seconds = time.monotonic() - began

    @property
    def runs(self):
        return self.seconds is None

    def wait(self, seconds=120):
        self.thread.join(seconds)
        if self.thread.is_alive():
            self.error = TimeoutError(f"no answer within {seconds} s")
        return self


def sorted_rows(table):
    return sorted(tuple(row.values()) for row in table.to_pylist())


class Known:
    """A question, its answer (from the other engine) and how long it takes on a quiet fleet."""

    def __init__(self, router, sql, runs=3):
        self.sql = sql
        self.answer = sorted_rows(router.query(sql, engine="datafusion"))
        self.seconds = sorted(Asked(router, sql).wait().seconds for _ in range(runs))[runs // 2]

    def judge(self, row, asked):
        """Counts the outcome of one trial; how much longer it took than on a quiet fleet."""
        row.queries += 1
        if asked.error is not None:
            row.client_error(asked.error)
        elif asked.rows != self.answer:
            row.wrong_answer(f"{self.sql}: {str(asked.rows)[:100]}")
        return max(0.0, (asked.seconds or 0.0) - self.seconds)


def busy(fleet, seconds=20):
    """The worker that runs something; None if nothing runs in time."""
    found = []

    def looked():
        found[:] = [worker] if (worker := busy_now(fleet)) else []
        return found

    with contextlib.suppress(AssertionError):
        wait_until(looked, seconds, "a busy worker")
    return found[0] if found else None


def busy_now(fleet):
    """The worker that runs something at this moment, or None."""
    found = [name for name, row in fleet.router.workers().items() if row["running"] > 0]
    return fleet.workers[found[0]] if found else None


def seen_after(fleet, began, condition, seconds, what):
    """Seconds from `began` until the router's table of workers says so, without the last look at it."""
    looked = [began]

    def holds():
        looked[0] = time.monotonic()
        return condition(fleet.router.workers())

    wait_until(holds, seconds, what)
    return looked[0] - began


def all_idle(workers):
    """By the router's own count."""
    return all(row["running"] == 0 for row in workers.values())


def all_free(workers):
    """By what the workers themselves told last, which is up to a second old."""
    return all(row["running_there"] == 0 for row in workers.values())


# One tick of the system's clock of processor time, and a little: what a heartbeat may take.
TICK_SECONDS = 0.015
# For so long a worker that computes gets more than that, however busy the machine is.
QUIET_SECONDS = 0.3


def off_after(worker, began, seconds=30):
    """Seconds from `began` until the worker's process computes no more, by its own processor time; None when it has ended instead."""
    samples = collections.deque()
    while time.monotonic() - began < seconds:
        if worker.process.poll() is not None:
            return None
        samples.append((time.monotonic(), cpu_seconds(worker.pid)))
        at, used = samples[0]
        if samples[-1][0] - at >= QUIET_SECONDS:
            if samples[-1][1] - used <= TICK_SECONDS:
                return at - began
            samples.popleft()
        time.sleep(0.01)
    raise AssertionError(f"{worker.name} still computes after {seconds} s")


def pause(seconds):
    """A random moment within that time."""
    time.sleep(random.uniform(0, seconds))


def no_longer_ready(name):
    return lambda workers: workers.get(name, {}).get("state") != "ready"


def tries_again(router):
    """Queries so far, and how often a worker's failure left one of them to another."""
    tries = "size(split(failovers, 'duckdb: ')) - 1"
    row = router.query(f"SELECT count(*) AS n, coalesce(sum({tries}), 0) AS f FROM system.queries").to_pylist()[0]
    return row["n"], row["f"]


def kill(worker):
    worker.process.kill()
    worker.process.wait()
