"""Memory: queries that need more than a worker has, clients that read slowly, clients that are gone."""

import re
import subprocess
import sys
import time

import adbc_driver_manager
from conftest import Server
from simulation import Simulation, connect, settings

from .report import Row
from .scene import FLOOD, all_idle, seen_after

# Lists aren't spilled: more than a small worker's memory. How long the texts get no plan can know, so
# that a small engine is tried first.
HUNGRY = "SELECT size(collect_list(repeat(l_comment, {}))) AS n FROM {}lineitem"
REPEATED = 600
PRINCIPALS = {"ana": "token-of-ana-00000001"}
RECORD = "SELECT engine, failovers, error_kind FROM system.queries WHERE tag = '{}'"
# Nobody is left for being slow: on a busy machine that would come before the memory's end.
UNHURRIED = "[routing]\nescalation_factor = 0\n"
SLOT_SECONDS = 2.0
# Of one result the router holds 32 MB, and as much again on its way in and out.
ROUTER_GROWTH_BYTES = 128 << 20
SLOW_READS, READ_PAUSE_SECONDS = 10, 0.1


def out_of_memory(fleet, trials):
    """No warehouse is there: one try on a worker, then the other engine of this machine, then the error."""
    row = Row("worker out of memory, no other engine has more", errors_allowed=True)
    sql = HUNGRY.format(REPEATED, "")
    once = 0
    for _ in row.attempts(trials):
        row.queries += 1
        tag = f"hungry-{row.queries}"
        try:
            fleet.router.query(sql, headers={"tag": tag})
        except adbc_driver_manager.Error as error:
            row.client_error(error)
        [found] = fleet.router.query(RECORD.format(tag)).to_pylist()
        row.injected += found["failovers"] != "" or found["error_kind"] == "resource_exhausted"
        if found["failovers"].count("duckdb:") <= 1 and found["error_kind"] in (None, "resource_exhausted"):
            once += 1
        else:
            row.note(found)
    row.promise(once == row.queries, f"{once} of {row.queries}: one try on a worker, then the next candidate, then a typed error")
    row.promise(len(fleet.router.ready()) == len(fleet.workers), "no worker died of it")
    return row


def escalated(fleet, trials):
    """A (simulated) warehouse is there: it's next, and the other engine of this machine isn't tried."""
    row = Row("worker out of memory, a warehouse in the line")
    simulation = Simulation(fleet.folder / "simulation", fleet.data, PRINCIPALS)
    once = 0
    try:
        for _ in row.attempts(trials):
            # A router that hasn't learned yet what this costs: later it goes to the warehouse at once.
            local = '[engines.duckdb]\nmemory = "256MB"\nthreads = 1\n[engines.datafusion]\nmemory = "256MB"\n' + UNHURRIED
            server = Server(fleet.folder / f"state-{row.queries}", settings=settings(simulation, PRINCIPALS, fleet.data) + local)
            try:
                found = _hungry(row, server, simulation)
            finally:
                server.stop()
            tried = re.findall(r"(?:^|; )(duckdb|datafusion): ", found["failovers"])
            row.injected += len(tried) > 0
            alone = len(tried) <= 1
            if alone and found["engine"] == "databricks" and found["executions"] == 1:
                once += 1
                if row.injected == row.queries:
                    continue
            row.note(found)
    finally:
        simulation.stop()
    row.promise(once == row.queries, f"{once} of {row.queries}: one try here, then one statement on the warehouse")
    return row


def _hungry(row, server, simulation):
    sql = HUNGRY.format(REPEATED, "main.default.") + f" /* {row.queries} */"
    row.queries += 1
    token = PRINCIPALS["ana"]
    with connect(server, token, tag="hungry") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(l_comment) AS n FROM main.default.lineitem")
        want = cursor.fetch_arrow_table().to_pylist()
    with connect(server, token, tag="hungry") as connection, connection.cursor() as cursor:
        try:
            cursor.execute(sql)
            got = cursor.fetch_arrow_table().to_pylist()
            if got != want:
                row.wrong_answer(f"{got} instead of {want}")
        except adbc_driver_manager.Error as error:
            row.client_error(error)
    with connect(server, token) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT engine, failovers, error_kind, reason FROM system.queries WHERE tag = 'hungry' AND text LIKE '%collect_list%'")
        [found] = cursor.fetch_arrow_table().to_pylist()
    mark = f"/* {row.queries - 1} */"
    ran = [n for text, n in simulation.counters()["executions_by_text"].items() if "collect_list" in text and mark in text]
    return {**found, "executions": sum(ran)}


def slow_reader(fleet, trials):
    row = Row("slow reader of gigabytes")
    highest = 0
    for _ in row.attempts(trials):
        row.queries += 1
        before = fleet.router.resident_bytes()
        with fleet.router.connect("duckdb") as connection, connection.cursor() as cursor:
            cursor.execute(FLOOD)
            reader = cursor.fetch_record_batch()
            for _ in range(SLOW_READS):
                reader.read_next_batch()
                # So slow; nothing is judged by this time.
                time.sleep(READ_PAUSE_SECONDS)
                highest = max(highest, fleet.router.resident_bytes() - before)
            # It still computes: what isn't read isn't made.
            row.injected += not all_idle(fleet.router.workers())
            cursor.adbc_cancel()
        seen_after(fleet, time.monotonic(), all_idle, 30, "a free slot")
    row.promise(highest < ROUTER_GROWTH_BYTES, f"router grew by at most {highest >> 20} MiB (limit {ROUTER_GROWTH_BYTES >> 20})")
    return row


def client_vanishes(fleet, trials):
    row = Row("client vanishes mid-stream")
    took, before = [], None
    for _ in row.attempts(trials):
        row.queries += 1
        child = subprocess.Popen([*CLIENT, fleet.router.uri, FLOOD], stdout=subprocess.PIPE)
        child.stdout.readline()
        row.injected += not all_idle(fleet.router.workers())
        child.kill()
        gone = time.monotonic()
        child.wait()
        took.append(seen_after(fleet, gone, all_idle, 30, "a free slot"))
        # What the first one leaves are the allocators' own reserves.
        before = before or held(fleet)
    row.within("slot free after", took, SLOT_SECONDS)
    grown = max(now - then for now, then in zip(held(fleet), before))
    row.promise(grown < ROUTER_GROWTH_BYTES, f"router and workers grew by at most {grown >> 20} MiB each (limit {ROUTER_GROWTH_BYTES >> 20})")
    return row


def held(fleet):
    """Memory of the router and of all workers together."""
    return fleet.router.resident_bytes(), sum(w["memory_used_bytes"] for w in fleet.router.workers().values())


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
