"""Workers that don't answer: stopped, behind a black hole, out of reach for queries alone."""

import random
import signal
import time

from conftest import wait_until
from fleet import Load, with_answers

from .proxy import all_proxied
from .report import Row
from .scene import SLOW, Asked, Known, busy, no_longer_ready, seen_after, tries_again

LEASE_SECONDS = 3.0
# A connection that leads nowhere while heartbeats arrive: pinged after five seconds, given up fifteen later.
LOST_CONNECTION_SECONDS = 25.0
RETRIED_SHARE = 0.1
# Answers of the load for each fault, so that the share means something.
TRAFFIC = 50
CLIENTS = 4
# Of one worker, one after the other, until its breaker opens.
FAILURES_MAX = 3


def stopped(fleet, trials):
    return _silenced(fleet, trials, Row("worker SIGSTOP"), lambda w: w.signal(signal.SIGSTOP), lambda w: w.signal(signal.SIGCONT))


def black_hole(fleet, trials):
    """Everything to and from the worker is accepted and lost, heartbeats too."""
    with all_proxied(fleet) as proxied:
        row = Row("black hole: accepted and swallowed, heartbeats too")
        return _silenced(fleet, trials, row, lambda w: proxied[w.name].vanish(), lambda w: proxied[w.name].heal())


def _silenced(fleet, trials, row, silence, restore):
    known, noticed = Known(fleet.router, SLOW), []
    load = Load(fleet.router.connect, with_answers(fleet.router), clients=2, pinned_every=1)
    load.wait_for_more(TRAFFIC)
    before = tries_again(fleet.router)
    for _ in row.attempts(trials):
        asked = Asked(fleet.router, known.sql)
        worker = busy(fleet)
        if worker is None or not asked.runs:
            asked.wait()
            continue
        silence(worker)
        began = time.monotonic()
        noticed.append(seen_after(fleet, began, no_longer_ready(worker.name), 60, "the silence to be noticed"))
        row.injected += 1
        known.judge(row, asked.wait())
        restore(worker)
        fleet.heal()
        load.wait_for_more(TRAFFIC)
    load.stop()
    row.take(load)
    queries, again = (after - b for after, b in zip(tries_again(fleet.router), before))
    row.within("seen", noticed, LEASE_SECONDS, share=1.0)
    row.promise(0 < again <= RETRIED_SHARE * queries, f"{again} tries again for {queries} queries (at most 10%)")
    return row


def lost_connection(fleet, trials):
    """Queries' connections lead nowhere while heartbeats arrive: nothing but the connection itself can tell."""
    row, extra = Row("black hole for queries alone, heartbeats arrive"), []
    with all_proxied(fleet) as proxied:
        known = Known(fleet.router, SLOW)
        before = tries_again(fleet.router)[1]
        for _ in row.attempts(trials):
            asked = Asked(fleet.router, known.sql)
            worker = busy(fleet)
            if worker is None or not asked.runs:
                asked.wait()
                continue
            proxied[worker.name].data.swallow()
            row.injected += 1
            extra.append(known.judge(row, asked.wait()))
            proxied[worker.name].heal()
            fleet.heal()
        again = tries_again(fleet.router)[1] - before
    row.promise(again >= row.injected, f"{again} tries again")
    row.within("extra time beyond the query's own", extra, LOST_CONNECTION_SECONDS, share=1.0)
    return row


def used(fleet):
    """Workers that have read tables: queries of them come there again."""
    return [name for name, facts in fleet.router.workers().items() if facts["cached_tables"] > 0]


def breaker(fleet, trials):
    """A worker that is heard of and resets every query's connection."""
    row, turned, opened = Row("breaker: connections reset, heartbeats arrive"), [], 0
    with all_proxied(fleet) as proxied:
        load = Load(fleet.router.connect, with_answers(fleet.router), clients=CLIENTS, pinned_every=1)
        for _ in row.attempts(trials):
            load.wait_for_more(TRAFFIC)
            # Heartbeats tell of it, some time after.
            wait_until(lambda: used(fleet), 20, "a worker that has read tables")
            broken = proxied[random.choice(used(fleet))]
            broken.data.reset_all()
            failing = _fails(fleet, broken, load)
            # A worker may have nothing to do: then nobody can tell.
            if failing or broken.data.reset >= FAILURES_MAX:
                row.injected += 1
                opened += failing
                load.wait_for_more(4 * TRAFFIC)
                turned.append(broken.data.reset)
            broken.heal()
            wait_until(lambda: len(fleet.router.ready()) == len(fleet.workers), 60, "a closed breaker")
        load.stop()
    row.take(load)
    row.promise(opened == row.injected, f"{opened} times `failing` in system.workers, then `ready` again")
    # Three that open it, those under way then, and single ones that try it; without it, a third of them all.
    row.promise(turned and max(turned) <= 20, f"at most {max(turned, default=0)} connections tried in {4 * TRAFFIC} queries (at most 20)")
    return row


def _fails(fleet, broken, load):
    """Whether the worker is seen to fail while the load goes on for a while."""
    until = load.answered + 20 * TRAFFIC
    seen = []

    def settled():
        seen[:] = [fleet.router.workers()[broken.worker.name]["state"] == "failing"]
        return seen[0] or load.answered > until or load.errors

    wait_until(settled, 120, "an open breaker")
    return seen[0]
