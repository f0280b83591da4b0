"""Collects what the regret harness replays: every query on every engine, three runs each.

Starts servers on generated TPC-H and TPC-DS tables, runs their queries and a mixed workload pinned
on DuckDB and on DataFusion through ADBC, takes features, times and peaks of memory from the query
log, adds a *simulated* Databricks warehouse, and writes one JSON object per line: the engines, the
queries with their runs, and the order in which the queries come. Then the harness itself prints its
tables (`crates/router/examples/regret`).

    FLIGHTPATH_BINARY=target/release/flightpath python benchmarks/regret.py --scale 1 --large-scale 10 --memory 2GiB
"""

import argparse
import json
import math
import pathlib
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
from run import machine  # noqa: E402
from conftest import BINARY, Server, populate  # noqa: E402
from workload import mixed_queries, mixed_sequence  # noqa: E402

QUERIES = ROOT / "integration-tests/queries"
LOCAL = ["duckdb", "datafusion"]
# What the engines tell the router before anything is learned.
PRIORS = {"duckdb": (2.0, 400e6), "datafusion": (0.2, 150e6)}
# A serverless 2X-Small: 4 DBU an hour at $0.70, one worker of 8 cores, stops after 10 minutes.
WAREHOUSE = {"usd_per_hour": 4 * 0.70, "cores": 8, "start_ms": 4000.0, "auto_stop_ms": 600_000.0}
# Nothing on a warehouse is faster than this (the fastest query of public benchmarks takes 0.216 s).
WAREHOUSE_FLOOR_MS = 230.0


def texts(kind):
    return {f"{kind}-{p.stem}": p.read_text().rstrip().rstrip(";") for p in sorted((QUERIES / kind).glob("q*.sql")) if "." not in p.stem}


def facts(engine, row, utilisation):
    overhead_ms, rate = PRIORS[engine]
    return {
        "id": engine,
        "state": "ready",
        "shape": f"{engine}:{row['cores']}c:{row['memory_bytes'] >> 20}MiB",
        "memory_bytes_max": row["memory_bytes"],
        "slots": row["slots"],
        "running": 0,
        "cores": row["cores"],
        "overhead_ms": overhead_ms,
        "scan_bytes_per_second_per_core": rate,
        "pricing": {"compute": {"hourly": {"usd_per_hour": row["usd_per_hour"], "utilisation": utilisation}}},
    }


def warehouse_facts():
    compute = {k: WAREHOUSE[k] for k in ("usd_per_hour", "start_ms", "auto_stop_ms")} | {"activity": "asleep"}
    return {
        "id": "databricks",
        "state": "ready",
        "shape": "databricks:2X-Small:serverless",
        "memory_bytes_max": 1 << 50,
        "slots": 10,
        "running": 0,
        "cores": WAREHOUSE["cores"],
        "overhead_ms": 250.0,
        "scan_bytes_per_second_per_core": 150e6,
        "pricing": {"compute": {"warehouse": compute}},
    }


def simulated(features, rng):
    """Times of a warm warehouse: a floor, a scan on all cores, exchanges between stages, the result's
    way through storage; runs of one query vary up to twofold. Not the router's own formula, so
    that its prior is wrong here as it is in the field."""
    stages = features["joins"] + features["aggregates"] + features["windows"] + features["distincts"] + features["sorts"]
    scan_ms = features["scan_bytes"] / (WAREHOUSE["cores"] * 90e6) * 1000
    rows = min(features.get("result_rows") or 0, 10_000_000)
    ms = WAREHOUSE_FLOOR_MS + scan_ms * (1 + 0.15 * stages) + 45 * stages + rows / 2000
    return [ms * math.exp(rng.gauss(0, 0.17)) for _ in range(3)]


def run_all(server, queries, runs, timeout):
    """Every query on every engine, round after round, engines alternating; what failed, by query and engine."""
    headers = {"tag": "regret", "timeout_seconds": str(timeout)}
    connections = {engine: server.connect(engine, headers) for engine in LOCAL}
    failed = {}
    begun = time.monotonic()
    for number in range(runs):
        for at, (name, sql) in enumerate(queries.items()):
            for engine in LOCAL if (at + number) % 2 else reversed(LOCAL):
                if (name, engine) in failed:
                    continue
                try:
                    with connections[engine].cursor() as cursor:
                        cursor.execute(sql)
                        for _ in cursor.fetch_record_batch():
                            pass
                except Exception as error:
                    failed[name, engine] = " ".join(str(error).split())[:300]
        print(f"  round {number + 1} of {runs}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    for connection in connections.values():
        connection.close()
    return failed


def logged(state_dir):
    """Features and fingerprint by text; times and peaks of memory by text and engine, of the runs that got through."""
    with sqlite3.connect(f"file:{state_dir / 'log.sqlite'}?mode=ro", uri=True) as log:
        rows = log.execute(
            "SELECT text, engine, fingerprint, features, (first_batch_us + stream_us) / 1000.0, outcome, memory_bytes FROM queries "
            "WHERE tag = 'regret' AND statement_kind = 'query' AND fingerprint IS NOT NULL ORDER BY started_unix_ms"
        ).fetchall()
    about, times, peaks = {}, {}, {}
    for text, engine, fingerprint, features, ms, outcome, memory_bytes in rows:
        about[text] = (fingerprint, json.loads(features))
        if outcome == "success":
            times.setdefault((text, engine), []).append(ms)
            if memory_bytes is not None:
                peaks.setdefault((text, engine), []).append(memory_bytes)
    return about, times, peaks


def elsewhere(fingerprint, workload):
    """The same statement on tables of other names is another shape."""
    return format(int(fingerprint, 16) ^ zlib.crc32(workload.encode()), "016x")


def entries(workload, queries, state_dir, failed, rng, grown=False):
    about, times, peaks = logged(state_dir)
    for name, sql in queries.items():
        if sql not in about:
            print(f"  {name} isn't on record: {failed.get((name, LOCAL[0]))}", file=sys.stderr)
            continue
        # What the query itself raises, it raises everywhere.
        if any("SQLSTATE" in failed.get((name, engine), "") for engine in LOCAL):
            continue
        fingerprint, features = about[sql]
        # Two workloads have tables of the same name.
        for table in features["tables"]:
            table["name"] = f"{'tpch' if workload == 'mixed' else workload}.{table['name'].rsplit('.', 1)[-1]}"
        runs = {"databricks": {"latency_ms": simulated(features, rng)}}
        for engine in LOCAL:
            why = failed.get((name, engine))
            if why is None:
                memory = sorted(peaks.get((sql, engine), []))
                runs[engine] = {"latency_ms": times.get((sql, engine), []), "memory_bytes": memory[len(memory) // 2] if memory else None}
            else:
                runs[engine] = {"refused": why} if "not eligible" in why else {"failed": why}
        entry = {"kind": "query", "id": name, "workload": workload, "fingerprint": fingerprint, "grown": False, "features": features, "runs": runs}
        if not grown:
            yield entry
            continue
        # Once as the tables of before that have grown, and once as large tables that always were beside them.
        yield entry | {"id": f"{name}-grown", "grown": True}
        tables = [table | {"name": table["name"].replace(".", "_large.")} for table in features["tables"]]
        large = {"id": f"{name}-large", "workload": "large", "fingerprint": elsewhere(fingerprint, "large")}
        yield entry | large | {"features": features | {"tables": tables}}


def collect(data, workloads, folder, options, rng, grown=False):
    """One server over one set of tables; its engines, and the entries of the workloads on it."""
    state = folder / f"state-{data.name}"
    memory = "".join(f'[engines.{engine}]\nmemory = "{options.memory}"\n' for engine in LOCAL if options.memory)
    server = Server(state, "--data", data, settings=memory)
    try:
        engines = {row["engine"]: row for row in server.query("SELECT * FROM system.engines").to_pylist()}
        failed = {}
        for workload, queries in workloads.items():
            print(f"{workload}{' (grown)' if grown else ''}: {len(queries)} queries", file=sys.stderr)
            failed[workload] = run_all(server, queries, options.runs, options.timeout)
    finally:
        server.stop()
    found = [entry for workload, queries in workloads.items() for entry in entries(workload, queries, state, failed[workload], rng, grown)]
    return engines, found


def sequences(found, rng, draws):
    """Benchmarks: ten passes in changing order. The mixed workload: few shapes often, many seldom. A
    lakehouse's day: the mixed workload, and among ten queries one on large tables."""
    by_workload = {w: [e["id"] for e in found if e["workload"] == w and not e["grown"]] for w in ("tpch", "tpcds", "mixed", "large")}
    for workload in ("tpch", "tpcds"):
        passes = [rng.sample(by_workload[workload], len(by_workload[workload])) for _ in range(10)]
        if by_workload[workload]:
            yield {"kind": "sequence", "name": workload, "ids": [name for one in passes for name in one]}
    if by_workload["mixed"]:
        mixed = mixed_sequence(set(by_workload["mixed"]), rng, draws)
        yield {"kind": "sequence", "name": "mixed", "ids": mixed}
        if large := by_workload["large"]:
            day = [name for number, name in enumerate(mixed) for name in ([name, rng.choice(large)] if number % 9 == 0 else [name])]
            yield {"kind": "sequence", "name": "mixed with large tables", "ids": day}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scale", type=float, default=1.0, help="of TPC-H and the mixed workload")
    arguments.add_argument("--tpcds-scale", type=float, help="of TPC-DS; 0 leaves it out; as --scale when not given")
    arguments.add_argument("--large-scale", type=float, default=0.0, help="TPC-H and the mixed workload again on tables of this scale")
    arguments.add_argument("--memory", help="of each local engine, `2GiB` say; the machine's when not given")
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--draws", type=int, default=1000, help="length of the mixed workload")
    arguments.add_argument("--timeout", type=int, default=120, help="seconds for one query")
    arguments.add_argument("--utilisation", type=float, default=0.3, help="share of its hours that the worker works, for its price")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path("regret.jsonl"))
    arguments.add_argument("--report", action="append", default=None, metavar="ARGS", help="arguments for the harness, once per report; `none` for no report")
    options = arguments.parse_args()
    tpcds_scale = options.scale if options.tpcds_scale is None else options.tpcds_scale
    rng = random.Random(options.seed)
    mixed = mixed_queries(random.Random(options.seed))
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        populate("tpch", options.scale, folder / "tpch")
        engines, found = collect(folder / "tpch", {"tpch": texts("tpch"), "mixed": mixed}, folder, options, rng)
        if tpcds_scale:
            populate("tpcds", tpcds_scale, folder / "tpcds")
            found += collect(folder / "tpcds", {"tpcds": texts("tpcds")}, folder, options, rng)[1]
        if options.large_scale:
            populate("tpch", options.large_scale, folder / "large")
            once = {name: sql for name, sql in mixed.items() if name.endswith("-0")}
            found += collect(folder / "large", {"tpch": texts("tpch"), "mixed": once}, folder, options, rng, grown=True)[1]
    note = (
        f"TPC-H and mixed at scale {options.scale:g}, TPC-DS at {tpcds_scale:g}, large tables at {options.large_scale:g}; "
        f"{machine()}, {options.memory or 'all its memory'} for each engine; {pathlib.Path(BINARY).parent.name} build; "
        f"{options.runs} runs each, server's times. Databricks is SIMULATED (serverless 2X-Small, $2.80 an hour). "
        f"Worker priced at a utilisation of {options.utilisation:g}."
    )
    header = {
        "kind": "engines",
        "note": note,
        "timeout_ms": options.timeout * 1000.0,
        "engines": [{"facts": facts(name, engines[name], options.utilisation), "simulated": False} for name in LOCAL]
        + [{"facts": warehouse_facts(), "simulated": True}],
    }
    lines = [header, *found, *sequences(found, rng, options.draws)]
    options.out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{options.out}: {len(found)} queries", file=sys.stderr)
    for extra in options.report if options.report is not None else ["--profile interactive", "--profile dashboard"]:
        if extra != "none":
            command = ["cargo", "run", "--release", "--quiet", "-p", "flightpath-router", "--example", "regret", "--", str(options.out.resolve())]
            subprocess.run(command + extra.split(), cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
