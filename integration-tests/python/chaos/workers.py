"""Workers that die, get a notice, and lose their queries' clients."""

import signal
import subprocess
import threading
import time

import adbc_driver_manager
from conftest import cpu_seconds, wait_until
from fleet import Load, with_answers

from .report import Row
from .scene import (
    ENDLESS,
    FLOOD,
    LONG,
    SLOW,
    TRICKLE,
    Asked,
    Known,
    all_free,
    all_idle,
    busy,
    busy_now,
    kill,
    no_longer_ready,
    off_after,
    pause,
    seen_after,
    tries_again,
)

NOTICE_SECONDS = 1.0
CANCEL_SECONDS = 0.5
RECYCLE_SECONDS = 2.0


def killed_before_the_first_byte(fleet, trials):
    row = Row("worker SIGKILL before the first byte")
    known = Known(fleet.router, SLOW)
    extra = _killed(fleet, trials, row, known, known.seconds * 0.5)
    # The second try begins anew: its own time comes on top.
    row.within("retry: extra time beyond the query's own", [max(0.0, e - known.seconds) for e in extra], 1.0)
    return row


def killed_within_the_buffer(fleet, trials):
    row = Row("worker SIGKILL mid-stream, within the buffer")
    known = Known(fleet.router, TRICKLE)
    _killed(fleet, trials, row, known, known.seconds)
    return row


def _killed(fleet, trials, row, known, until):
    """Kills the worker that runs the question, within that time; by how much each answer was late."""
    extra = []
    before = tries_again(fleet.router)[1]
    for _ in row.attempts(trials):
        asked = Asked(fleet.router, known.sql)
        if worker := busy(fleet):
            pause(until)
            if asked.runs:
                kill(worker)
                row.injected += 1
        extra.append(known.judge(row, asked.wait()))
        fleet.heal()
    again = tries_again(fleet.router)[1] - before
    # One that had ended as its worker was killed needs no other try.
    row.promise(2 * again >= row.injected, f"{again} tried again, every answer compared whole")
    return extra


def killed_beyond_the_buffer(fleet, trials):
    row = Row("worker SIGKILL mid-stream, beyond the buffer", errors_allowed=True)
    whole = fleet.router.query(f"SELECT count(*) AS n FROM ({FLOOD})", engine="datafusion").to_pylist()[0]["n"]
    typed = 0
    for _ in row.attempts(trials):
        row.queries += 1
        with fleet.router.connect("duckdb") as connection, connection.cursor() as cursor:
            try:
                cursor.execute(FLOOD)
                reader = cursor.fetch_record_batch()
                rows = reader.read_next_batch().num_rows
                if worker := busy(fleet):
                    kill(worker)
                    row.injected += 1
                rows += sum(batch.num_rows for batch in reader)
                if rows != whole:
                    row.wrong_answer(f"{rows} of {whole} rows and no error")
            except (adbc_driver_manager.Error, OSError) as error:
                row.client_error(error)
                typed += "worker" in str(error).lower() and "unavailable" in str(error).lower()
        fleet.heal()
    row.promise(typed == row.errors == row.injected, f"{typed} of {row.injected} ended as `Unavailable`, naming the worker; none short")
    return row


def spot_notice(seconds):
    """A notice of so many seconds; at its end the machine is gone."""

    def noticed(fleet, trials):
        row = Row(f"spot notice of {seconds} s, queries shorter than it")
        load = Load(fleet.router.connect, with_answers(fleet.router), clients=4, pinned_every=1)
        short, seen, ended = Known(fleet.router, SLOW), [], 0
        # Every tenth is a long query; a few trials do without.
        long = Known(fleet.router, LONG, runs=1) if trials > 2 else short
        for trial in row.attempts(trials):
            known = long if trial % 10 == 2 else short
            asked = Asked(fleet.router, known.sql)
            # Where this question runs, and so does the load.
            worker = busy(fleet)
            pause(known.seconds / 2)
            if worker is None or not asked.runs:
                asked.wait()
                continue
            worker.signal(signal.SIGTERM)
            began = time.monotonic()
            row.injected += 1
            seen.append(seen_after(fleet, began, no_longer_ready(worker.name), 60, "the drain to be known"))
            known.judge(row, asked.wait())
            ended += _ended(worker, began + seconds)
            fleet.heal()
        row.take(load.stop())
        row.promise(ended == row.injected, f"{ended} of {row.injected} workers ended with 0 before the notice did")
        row.within("no new work after", seen, NOTICE_SECONDS, share=1.0)
        return row

    noticed.__name__ = f"spot_notice_{seconds}"
    return noticed


def _ended(worker, until):
    try:
        return worker.process.wait(max(0.0, until - time.monotonic())) == 0
    except subprocess.TimeoutExpired:
        kill(worker)
        return False


def cancelled(fleet, trials):
    row = Row("cancel at a random point")
    took, recycled = [], []
    for _ in row.attempts(trials):
        row.queries += 1
        with fleet.router.connect("duckdb") as connection, connection.cursor() as cursor:
            failure = []
            thread = threading.Thread(target=endless, args=(cursor, failure), daemon=True)
            thread.start()
            pause(0.5)
            worker = busy_now(fleet)
            cancelled_at = time.monotonic()
            cursor.adbc_cancel()
            if worker:
                row.injected += 1
                off = off_after(worker, cancelled_at)
                if off is None:
                    # The query didn't leave it, and it gave its place up.
                    recycled.append(time.monotonic() - cancelled_at)
                else:
                    took.append(off)
            # A cancel that came before the driver had begun says nothing to anybody: again, then.
            while thread.is_alive():
                cursor.adbc_cancel()
                thread.join(0.5)
            if not failure:
                row.wrong_answer("a cancelled endless query gave an answer")
            elif "cancel" not in str(failure[0]).lower():
                row.client_error(failure[0])
        if recycled:
            fleet.heal()
        seen_after(fleet, time.monotonic(), all_idle, 30, "a router that gives the query up")
        seen_after(fleet, time.monotonic(), all_free, 30, "workers without the query")
    if took or not recycled:
        row.within("processors without the query after", took, CANCEL_SECONDS)
    if recycled:
        row.within("workers that didn't hear of it gone after", recycled, RECYCLE_SECONDS, share=1.0)
    wait_until(lambda: idle(fleet), 10, "idle processors")
    row.promise(True, "processors idle")
    return row


def endless(cursor, failure):
    try:
        cursor.execute(ENDLESS)
        cursor.fetchall()
    except Exception as error:
        failure.append(error)


def idle(fleet):
    before = {worker.pid: cpu_seconds(worker.pid) for worker in fleet.workers.values()}
    time.sleep(0.3)
    return all(cpu_seconds(pid) - used <= 0.05 for pid, used in before.items())
