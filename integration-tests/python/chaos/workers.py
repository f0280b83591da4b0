"""Faults of workers."""

import signal
import threading
import time

import adbc_driver_manager
from conftest import cpu_seconds, wait_until
from fleet import Load, with_answers

from .report import Row
from .scene import ENDLESS, FLOOD, SLOW, TRICKLE, Asked, Known, all_idle, busy, failed_over, kill, pause, seen_after

LEASE_SECONDS = 3.0
NOTICE_SECONDS = 1.0
CANCEL_SECONDS = 0.5


def killed_before_the_first_byte(fleet, trials):
    row = Row("worker SIGKILL before the first byte")
    known, extra = Known(fleet.router, SLOW), []
    before = failed_over(fleet.router)
    for _ in range(trials):
        asked = Asked(fleet.router, known.sql)
        if worker := busy(fleet):
            pause(known.seconds * 0.5)
            kill(worker)
        extra.append(known.judge(row, asked.wait()))
        fleet.heal()
    # The second try begins anew: its own time comes on top.
    row.promise(True, f"{failed_over(fleet.router)[1] - before[1]} tried again")
    row.within("retry: extra time beyond the query's own", [max(0.0, e - known.seconds) for e in extra], 1.0)
    return row


def killed_within_the_buffer(fleet, trials):
    row = Row("worker SIGKILL mid-stream, within the buffer")
    known = Known(fleet.router, TRICKLE)
    before = failed_over(fleet.router)
    for _ in range(trials):
        asked = Asked(fleet.router, known.sql)
        if worker := busy(fleet):
            pause(known.seconds)
            kill(worker)
        known.judge(row, asked.wait())
        fleet.heal()
    row.promise(True, f"{failed_over(fleet.router)[1] - before[1]} tried again; every answer compared whole")
    return row


def killed_beyond_the_buffer(fleet, trials):
    row = Row("worker SIGKILL mid-stream, beyond the buffer", errors_allowed=True)
    whole = fleet.router.query(f"SELECT count(*) AS n FROM ({FLOOD})", engine="datafusion").to_pylist()[0]["n"]
    typed = 0
    for _ in range(trials):
        row.trials += 1
        with fleet.router.connect("duckdb") as connection, connection.cursor() as cursor:
            try:
                cursor.execute(FLOOD)
                reader = cursor.fetch_record_batch()
                rows = reader.read_next_batch().num_rows
                if worker := busy(fleet):
                    kill(worker)
                rows += sum(batch.num_rows for batch in reader)
                if rows != whole:
                    row.wrong_answer(f"{rows} of {whole} rows and no error")
            except (adbc_driver_manager.Error, OSError) as error:
                row.client_error(error)
                typed += "worker" in str(error).lower()
        fleet.heal()
    row.promise(typed == row.errors, f"{typed} of {row.errors} errors name the worker; none short")
    return row


def stopped(fleet, trials):
    row = Row("worker SIGSTOP")
    known, noticed = Known(fleet.router, SLOW), []
    load = Load(fleet.router.connect, with_answers(fleet.router), clients=2, pinned_every=1)
    load.wait_for_more(50)
    before = failed_over(fleet.router)
    for _ in range(trials):
        asked = Asked(fleet.router, known.sql)
        worker = busy(fleet)
        if worker is None:
            continue
        worker.signal(signal.SIGSTOP)
        began = time.monotonic()
        noticed.append(seen_after(fleet, began, no_longer_ready(worker.name), 60, "the silence to be noticed"))
        known.judge(row, asked.wait())
        worker.signal(signal.SIGCONT)
        fleet.heal()
    load.stop()
    after = failed_over(fleet.router)
    judge_load(row, load)
    row.within("seen", noticed, LEASE_SECONDS, share=1.0)
    queries, again = after[0] - before[0], after[1] - before[1]
    row.promise(again <= max(0.1 * queries, 4 * trials), f"{again} of {queries} queries tried again")
    return row


def no_longer_ready(name):
    return lambda workers: workers.get(name, {}).get("state") != "ready"


def spot_notice(fleet, trials):
    row = Row("spot notice: SIGTERM, queries shorter than it")
    load = Load(fleet.router.connect, with_answers(fleet.router), clients=4, pinned_every=1)
    known, noticed = Known(fleet.router, SLOW), []
    for trial in range(trials):
        worker = fleet.workers[sorted(fleet.workers)[trial % len(fleet.workers)]]
        asked = Asked(fleet.router, known.sql)
        pause(known.seconds)
        worker.signal(signal.SIGTERM)
        began = time.monotonic()
        noticed.append(seen_after(fleet, began, no_longer_ready(worker.name), 60, "the drain to be known"))
        known.judge(row, asked.wait())
        row.promise(worker.process.wait(60) == 0, "exit 0") if trial == 0 else worker.process.wait(60)
        fleet.heal()
    judge_load(row, load.stop())
    row.within("no new work after", noticed, NOTICE_SECONDS, share=1.0)
    return row


def cancelled(fleet, trials):
    row = Row("cancel at a random point")
    took = []
    for _ in range(trials):
        row.trials += 1
        with fleet.router.connect("duckdb") as connection, connection.cursor() as cursor:
            failure = []
            thread = threading.Thread(target=endless, args=(cursor, failure), daemon=True)
            thread.start()
            pause(0.5)
            computing = not all_idle(fleet.router.workers())
            cancelled_at = time.monotonic()
            cursor.adbc_cancel()
            if computing:
                took.append(seen_after(fleet, cancelled_at, all_idle, 30, "a worker without the query"))
            # A cancel that came before the driver had begun says nothing to anybody: again, then.
            while thread.is_alive():
                cursor.adbc_cancel()
                thread.join(0.5)
            if not failure:
                row.wrong_answer("a cancelled endless query gave an answer")
            elif "cancel" not in str(failure[0]).lower():
                row.client_error(failure[0])
        seen_after(fleet, time.monotonic(), all_idle, 30, "a worker without the query")
    row.within("workers without the query after", took, CANCEL_SECONDS)
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


def out_of_memory(fleet, trials):
    row = Row("worker out of memory", errors_allowed=True)
    sql = "SELECT size(collect_list(concat(a.l_comment, b.o_orderkey))) AS n " + FLOOD.split(" AS k ")[1]
    once = 0
    for trial in range(trials):
        row.trials += 1
        tag = f"hungry-{trial}"
        try:
            fleet.router.query(sql, headers={"tag": tag})
        except adbc_driver_manager.Error as error:
            row.client_error(error)
        record = f"SELECT failovers, error_kind FROM system.queries WHERE tag = '{tag}'"
        found = fleet.router.query(record).to_pylist()
        tried = (found[0]["failovers"] or "").count("duckdb:") if found else 0
        kind = found[0]["error_kind"] if found else "unrecorded"
        if tried <= 1 and kind in (None, "resource_exhausted"):
            once += 1
        else:
            row.note(found)
    row.promise(once == trials, f"{once} of {trials}: one try on a worker, then the next candidate, then a typed error")
    row.promise(len(fleet.router.ready()) == len(fleet.workers), "no worker died of it")
    return row


def judge_load(row, load):
    row.trials += load.answered
    row.wrong += len(load.wrong)
    row.errors += len(load.errors)
    for note in load.wrong[:2] + load.errors[:2]:
        row.note(note)
