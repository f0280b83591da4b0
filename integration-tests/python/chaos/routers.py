"""Routers that end, die, and are asked for too much."""

import contextlib
import signal
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
from conftest import Server, wait_until
from fleet import SLOTS, with_answers

from .report import Row
from .scene import BRIEF, pause

# What a client hears of a router that ends, or has ended.
CLOSING = "the server is shutting down"
GONE = "connection refused"
REFUSALS = [CLOSING, GONE, "connection reset", "connection error", "error reading from server: EOF"]
# Places for those who wait in the overload: fewer than come.
QUEUE_MAX = 32
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
    stop, lock, turned_away, between = threading.Event(), threading.Lock(), [], []

    def ask(sql):
        """A client that goes to another router when one is ending: what it hears then counts as held, but is told."""
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
                    refused = late or (not begun and any(text in str(error) for text in REFUSALS))
                    if not refused or time.monotonic() > until:
                        raise
                    (between if begun else turned_away).append(sql)
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
                row.queries += 1
                if got != want:
                    row.wrong_answer(sql)

    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    clean = 0
    for _ in row.attempts(trials):
        seen = row.queries
        wait_until(lambda: row.queries >= seen + 10 or row.errors, 60, "answers")
        old = fleet.routers[0]
        fleet.replace_router(0)
        row.injected += 1
        clean += old.process.returncode == 0
        fleet.wait_for(len(fleet.workers))
    stop.set()
    for thread in threads:
        thread.join(60)
    row.promise(clean == trials, f"{clean} of {trials} routers ended with 0")
    row.promise(
        True,
        f"asked again on the other router by the client itself: {len(turned_away)} statements that an ending one didn't take, "
        f"{len(between)} between their plan and their first byte",
    )
    return row


def router_killed(fleet, trials):
    """Every answered query is on record once, however its router ended."""
    row = Row("router SIGKILL: the log")
    state = fleet.folder / "state-killed"
    answered, number = [], 0
    for _ in row.attempts(trials):
        server = Server(state, "--data", fleet.data, env={"FLIGHTPATH_ENGINES_DUCKDB_ENABLED": "false"})
        first = threading.Event()
        # Once it has acknowledged something, at any moment.
        killer = threading.Thread(target=lambda: (first.wait(60), pause(0.3), server.process.kill()), daemon=True)
        killer.start()
        with contextlib.suppress(adbc_driver_manager.Error), server.connect(headers={"tag": "counted"}) as connection, connection.cursor() as cursor:
            while True:
                sql = f"SELECT {number} AS n FROM region LIMIT 1"
                number += 1
                cursor.execute(sql)
                cursor.fetchall()
                answered.append(sql)
                first.set()
        killer.join()
        row.injected += server.stop(signal.SIGKILL) == -signal.SIGKILL and first.is_set()
    row.queries = number
    server = Server(state, "--data", fleet.data, env={"FLIGHTPATH_ENGINES_DUCKDB_ENABLED": "false", "FLIGHTPATH_LOG_READ_ROWS_MAX": "1000000"})
    try:
        wait_until(lambda: {r["text"] for r in server.query(LOG_ROWS).to_pylist()} >= set(answered), 60, "all records")
        lost = 0
    except AssertionError:
        lost = len(set(answered) - {r["text"] for r in server.query(LOG_ROWS).to_pylist()})
    doubled = sum(r["n"] > 1 for r in server.query(LOG_ROWS).to_pylist())
    server.stop()
    row.promise(answered and lost == 0 and doubled == 0, f"{len(answered)} acknowledged records: {lost} lost, {doubled} doubled")
    return row


def overload(fleet, trials):
    """Ten clients for each slot ask at the same moment, `trials` times; fewer may wait than that."""
    slots = SLOTS * len(fleet.workers)
    clients = 10 * slots
    row = Row(f"overload: {clients} clients on {slots} slots, {QUEUE_MAX} may wait", errors_allowed=True)
    before = fleet.router.resident_bytes()
    (sql, want), lock, typed = with_answers(fleet.router, [BRIEF])[0], threading.Lock(), []
    at_once = threading.Barrier(clients)

    def ask(cursor):
        try:
            cursor.execute(sql)
            got, failure = cursor.fetch_arrow_table().to_pylist(), None
        except adbc_driver_manager.Error as error:
            got, failure = None, error
        with lock:
            row.queries += 1
            if failure is not None:
                row.client_error(failure)
                typed.append("resourceexhausted" in str(failure).lower() and "queries wait for it already" in str(failure))
            elif got != want:
                row.wrong_answer(str(got))

    def client():
        with fleet.router.connect("duckdb") as connection, connection.cursor() as cursor:
            for _ in range(trials):
                at_once.wait(120)
                ask(cursor)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60 + 30 * trials)
    row.wanted, row.injected = trials, row.queries // clients
    row.promise(not any(t.is_alive() for t in threads), "every client got an answer or an error")
    row.promise(typed and all(typed), f"{len(typed)} refused, {sum(typed)} of them as `ResourceExhausted`: the queue is full")
    row.promise(row.queries - row.errors >= trials * (slots + QUEUE_MAX), f"{row.queries - row.errors} answered: all that had a place")
    grown = (fleet.router.resident_bytes() - before) >> 20
    row.promise(grown < 512, f"router grew by {grown} MiB")
    row.promise(fleet.router.query(sql, engine="duckdb").to_pylist() == want, "answers afterwards")
    return row
