"""Measures Flightpath against other ways to the same rows, interleaved in one run.

Every line times each contender in turn, round after round, and reports medians and the median of
the rounds' ratios: the machine's noise hits all alike. Prints a Markdown table.

    FLIGHTPATH_BINARY=target/release/flightpath python benchmarks/run.py [--scale 1] [--rounds 15]
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import duckdb
import pyarrow as pa
import pyarrow.flight as flight

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "integration-tests/python"))
import telemetry  # noqa: E402
import warehouse  # noqa: E402
from conftest import BINARY, Server, populate  # noqa: E402
from flight_sql import statement  # noqa: E402

QUERIES = ROOT / "integration-tests/queries/tpch"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tables(data):
    return sorted(p for p in data.iterdir() if (p / "_delta_log").is_dir())


class Adbc:
    """Any Flight SQL server through ADBC; one connection, as a notebook has."""

    def __init__(self, uri, engine=None):
        kwargs = {"adbc.flight.sql.rpc.call_header.flightpath-engine": engine} if engine else {}
        self.connection = flightsql.connect(uri, db_kwargs=kwargs, autocommit=True)

    def __call__(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()


class InProcess:
    """DuckDB in this process, on the same files."""

    def __init__(self, data):
        self.connection = duckdb.connect()
        self.connection.execute("SET parquet_metadata_cache = true")
        for table in tables(data):
            self.connection.execute(f"CREATE VIEW {table.name} AS FROM read_parquet('{table}/**/*.parquet', hive_partitioning = true)")

    def __call__(self, sql):
        return self.connection.execute(sql).to_arrow_table()


@contextlib.contextmanager
def roapi(data):
    """roapi serving the same Delta tables, or nothing when it isn't installed."""
    program = pathlib.Path(sys.executable).parent / "roapi"
    if not program.exists():
        yield None
        return
    port = free_port()
    args = [str(program), "--addr-flight-sql", f"127.0.0.1:{port}", "--addr-http", f"127.0.0.1:{free_port()}", "--addr-postgres", f"127.0.0.1:{free_port()}"]
    for table in tables(data):
        args += ["--table", f"{table.name}={table},format=delta,use_memory_table=false"]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("roapi did not start")
            time.sleep(0.1)
        yield Adbc(f"grpc://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


class BareFlight(flight.FlightServerBase):
    """The floor: a Flight server that only sends a table that it holds."""

    def __init__(self, table):
        super().__init__("grpc://127.0.0.1:0")
        self.table = table

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(self.table)


def interleave(contenders, rounds, work):
    """Seconds per contender and round; a contender that fails is left out with its reason. They take turns
    in an order that is drawn anew each round: whoever comes behind another finds its caches, or what it left."""
    times, failed = {name: [] for name in contenders}, {}
    turns, order = list(contenders.items()), random.Random(1)
    for number in range(rounds + 1):
        for name, run in order.sample(turns, len(turns)):
            if name in failed:
                continue
            begun = time.perf_counter()
            try:
                work(run, number)
            except Exception as error:
                failed[name] = str(error).splitlines()[0][:100]
                continue
            # The first round warms up.
            if number:
                times[name].append(time.perf_counter() - begun)
    return times, failed


def line(title, times, failed, ours, unit=1000.0, suffix="ms"):
    cells = [title]
    for name, values in times.items():
        if name in failed or not values:
            cells.append("failed" if name in failed else "-")
            continue
        text = f"{statistics.median(values) * unit:.2f} {suffix}"
        if name != ours:
            ratios = [a / b for a, b in zip(times[ours], values)]
            text += f" ({statistics.median(ratios):.2f}x)"
        cells.append(text)
    print("| " + " | ".join(cells) + " |", flush=True)
    for name, why in failed.items():
        print(f"<!-- {title}: {name} failed: {why} -->")


def header(names):
    print("| | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|", flush=True)


def bench_latency(server, data, rounds):
    print("\n### Small queries through ADBC, median of", rounds, "rounds\n")
    ours, local = Adbc(server.uri), InProcess(data)
    with roapi(data) as other:
        contenders = {"flightpath": ours, "in-process DuckDB": local} | ({"roapi": other} if other else {})
        header(list(contenders))
        repeat = 20
        for title, make in [
            ("`SELECT 1`", lambda key: "SELECT 1"),
            ("point query", lambda key: f"SELECT o_orderkey, o_totalprice FROM orders WHERE o_orderkey = {key}"),
            ("small aggregate", lambda key: "SELECT n_regionkey, count(*) FROM nation GROUP BY n_regionkey"),
        ]:

            def work(run, number):
                keys = random.Random(number)
                for _ in range(repeat):
                    run(make(keys.randrange(1, 100_000)))

            times, failed = interleave(contenders, rounds, work)
            line(title, {k: [t / repeat for t in v] for k, v in times.items()}, failed, "flightpath")


def bench_tpch(server, data, rounds, scale, beside_roapi=True):
    print(f"\n### TPC-H at scale {scale:g}, milliseconds per query\n")
    texts = {p.stem: p.read_text().rstrip().rstrip(";") for p in sorted(QUERIES.glob("q*.sql")) if "." not in p.stem}
    with roapi(data) if beside_roapi else contextlib.nullcontext() as other:
        contenders = {"flightpath (duckdb)": Adbc(server.uri, "duckdb"), "flightpath (auto)": Adbc(server.uri), "in-process DuckDB": InProcess(data)}
        contenders |= {"roapi": other} if other else {}
        header(list(contenders))
        totals = {name: [0.0] * rounds for name in contenders}
        gaps = {}
        for name, text in texts.items():
            times, failed = interleave(contenders, rounds, lambda run, _: run(text))
            line(name, times, failed, "flightpath (duckdb)")
            for contender, values in times.items():
                if contender in failed:
                    gaps.setdefault(contender, []).append(name)
                for i, value in enumerate(values):
                    totals[contender][i] += value
        line("**total**", totals, {}, "flightpath (duckdb)", 1.0, "s")
        for contender, missing in gaps.items():
            print(f"\n{contender} failed {', '.join(missing)}; its total lacks them.")


def bench_fetch(server, data, rounds):
    sql = "SELECT l_orderkey, l_partkey, l_suppkey, l_linenumber, l_quantity, l_extendedprice, l_shipdate, l_shipmode FROM lineitem LIMIT 1000000"
    table = Adbc(server.uri)(sql)
    print(f"\n### Fetching {table.num_rows:,} rows, {table.nbytes / 1e6:.0f} MB of Arrow\n")
    bare = BareFlight(table)
    threading.Thread(target=bare.serve, daemon=True).start()
    bare_client = flight.connect(f"grpc://127.0.0.1:{bare.port}")
    with roapi(data) as other:
        contenders = {
            "flightpath (duckdb)": Adbc(server.uri, "duckdb"),
            "flightpath (datafusion)": Adbc(server.uri, "datafusion"),
            "bare pyarrow Flight": lambda _: bare_client.do_get(flight.Ticket(b"x")).read_all(),
        } | ({"roapi": other} if other else {})
        header(list(contenders))
        times, failed = interleave(contenders, rounds, lambda run, _: run(sql))
        size = table.nbytes / 1e9
        cells = ["GB/s"]
        for name, values in times.items():
            if name in failed:
                cells.append("failed")
                continue
            ratio = statistics.median([a / b for a, b in zip(times["flightpath (duckdb)"], values)])
            cells.append(f"{size / statistics.median(values):.2f} ({ratio:.2f}x time)")
        print("| " + " | ".join(cells) + " |")
    bare.shutdown()


def submit(client, text):
    """One statement by Flight SQL's CommandStatementQuery, which ADBC doesn't use: it prepares each
    statement first, so that what the record says of planning is always a hit of the plan cache."""
    info = client.get_flight_info(statement(text))
    return client.do_get(info.endpoints[0].ticket).read_all()


def tpc_texts(name):
    return [p.read_text().rstrip().rstrip(";") for p in sorted((QUERIES.parent / name).glob("q*.sql")) if "." not in p.stem]


def median(values):
    return statistics.median(values) / 1000.0


def bench_planning(server):
    print("\n### Planning and deciding TPC-H, as the server records them\n")
    client, texts = flight.connect(server.uri), tpc_texts("tpch")
    for number in range(5):
        for text in texts:
            # Another text each time is planned anew, the same one isn't.
            for _ in range(2):
                submit(client, f"EXPLAIN ROUTE SELECT * FROM ({text}) AS planned_{number}")
    query = "SELECT plan_cache_hit, plan_ms, decide_ms FROM system.queries WHERE text LIKE 'EXPLAIN ROUTE %AS planned_%'"
    rows = Adbc(server.uri)(query).to_pylist()
    print("| | p50 plan | p99 plan | p50 decide |")
    print("|---|---|---|---|")
    for hit, title in [(False, "cold"), (True, "plan-cache hit")]:
        plans = sorted(r["plan_ms"] for r in rows if r["plan_cache_hit"] == hit)
        decides = sorted(r["decide_ms"] for r in rows if r["plan_cache_hit"] == hit)
        if plans:
            print(f"| {title} ({len(plans)}) | {plans[len(plans) // 2]:.3f} ms | {plans[int(len(plans) * 0.99)]:.3f} ms | {decides[len(decides) // 2]:.3f} ms |")


def bench_planning_steps(folder, tpch):
    """The planner alone, step by step, each statement cold: the median of seven runs, then of all statements."""
    print("\n### Cold planning, step by step (p50 over the queries)\n", flush=True)
    tpcds = folder / "tpcds"
    populate("tpcds", 0.01, tpcds)
    print("| | bind and print | optimize | all |")
    print("|---|---|---|---|")
    command = ["cargo", "run", "--release", "--quiet", "-p", "flightpath-planner", "--example", "plan", "--", "--time"]
    for title, name, data in [("TPC-H", "tpch", tpch), ("TPC-DS", "tpcds", tpcds)]:
        lines = "".join(json.dumps({"sql": text}) + "\n" for text in tpc_texts(name))
        out = subprocess.run([*command, str(data)], cwd=ROOT, input=lines, text=True, capture_output=True, check=True).stdout
        answers = [json.loads(line) for line in out.splitlines()]
        steps = [a["steps_us"] for a in answers if "steps_us" in a]
        ours = median([s.get("bind", 0) + s.get("print", 0) for s in steps])
        whole = median([a["cold_us"] for a in answers if "steps_us" in a])
        print(f"| {title} ({len(steps)} of {len(answers)}) | {ours:.2f} ms | {median([s.get('optimize', 0) for s in steps]):.2f} ms | {whole:.2f} ms |", flush=True)


def bench_deciding():
    """The router alone: from features to a decision, warm. The example is built optimized."""
    print("\n### Deciding, features to decision\n", flush=True)
    command = ["cargo", "run", "--release", "--quiet", "-p", "flightpath-router", "--example", "decide"]
    subprocess.run(command, cwd=ROOT, check=True)


def machine():
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()} {platform.release()}"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--large-scale", type=float, default=5.0, help="scale of a second TPC-H run, without roapi; 0: none")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--only", choices=["latency", "tpch", "fetch", "planning", "deciding", "telemetry", "warehouse"])
    arguments.add_argument("--warehouse-gb", type=float, default=0.5, help="size of the result that the simulated warehouse sends")
    options = arguments.parse_args()
    print(f"TPC-H scale {options.scale:g}; {machine()}; DuckDB {duckdb.__version__}; {pathlib.Path(BINARY).parent.name} build")
    wanted = lambda name: options.only in (None, name)  # noqa: E731
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "tpch"
        populate("tpch", options.scale, data)
        server = Server(pathlib.Path(folder) / "state", "--data", data)
        try:
            if wanted("latency"):
                bench_latency(server, data, options.rounds)
            if wanted("tpch"):
                bench_tpch(server, data, max(4, options.rounds // 2), options.scale)
            if wanted("fetch"):
                bench_fetch(server, data, options.rounds)
            if wanted("planning"):
                bench_planning(server)
                bench_planning_steps(pathlib.Path(folder), data)
        finally:
            server.stop()
        if wanted("telemetry"):
            telemetry.measure(data, pathlib.Path(folder), 2 * options.rounds)
        # Where a query takes longer than the calls around it. Without roapi, which would take most of an hour.
        if wanted("tpch") and options.large_scale:
            data = pathlib.Path(folder) / "tpch-large"
            populate("tpch", options.large_scale, data)
            server = Server(pathlib.Path(folder) / "state-large", "--data", data)
            try:
                bench_tpch(server, data, 3, options.large_scale, beside_roapi=False)
            finally:
                server.stop()
    if wanted("deciding"):
        bench_deciding()
    if wanted("warehouse"):
        warehouse.measure(options.warehouse_gb, 3)


if __name__ == "__main__":
    main()
