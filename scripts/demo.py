"""`make demo`: generated tables, a server, and a session with it. Ends by itself unless a person watches."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time

import adbc_driver_flightsql.dbapi as flightsql

BINARY = os.environ["FLIGHTPATH_BINARY"]
ROOT = pathlib.Path(__file__).parent.parent
DATA = ROOT / ".demo" / "tpch"
STATE = ROOT / ".demo" / "state"
BOLD, DIM, CYAN, OFF = ("\033[1m", "\033[2m", "\033[36m", "\033[0m") if sys.stdout.isatty() else ("", "", "", "")


def say(text):
    print(f"\n{BOLD}{text}{OFF}")


def run(*args, **kwargs):
    return subprocess.run([BINARY, *map(str, args)], check=True, **kwargs)


def show(uri, sql, *options):
    print(f"{CYAN}> {sql}{OFF}", flush=True)
    subprocess.run([BINARY, "sql", "--uri", uri, *options, sql], check=False)
    print(flush=True)


def databricks(processes):
    """A simulated workspace with a masked table, and a server in front of it."""
    token = "a-token-of-the-demo-only"
    simulation = {
        "catalogs": [{"name": "main", "data": [str(DATA)]}],
        "principals": [{"name": "ana", "tokens": [token]}],
        "tables": {"main.default.customer": {"masks": {"c_phone": "'***'"}, "row_filter": "c_mktsegment = 'BUILDING'"}},
    }
    (STATE / "simulation.json").write_text(json.dumps(simulation))
    started = start(processes, "simulation.log", "emulate", "databricks", "--config", STATE / "simulation.json")
    print(started)
    settings = STATE / "workspace.toml"
    settings.write_text(
        f'listen = "127.0.0.1:0"\nstate_dir = "{STATE / "workspace"}"\n'
        f'[[auth.tokens]]\nprincipal = "ana"\ntoken_sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n'
        f'[databricks]\nhost = "{started.split()[-1]}"\nwarehouse_id = "simulated"\ncatalogs = ["main"]\nmonitor_token = "{token}"\nmonitor_seconds = 0.5\nlocal_roots = ["{DATA}"]\n'
        # Small on purpose: a tenth of a gigabyte is big then.
        '[shadow]\nshare = 1.0\n[engines.duckdb]\nmemory = "64MiB"\n[engines.datafusion]\nmemory = "64MiB"\n'
    )
    uri = start(processes, "workspace.log", "serve", "--config", settings).removeprefix("listening on ")
    os.environ["FLIGHTPATH_TOKEN"] = token
    print(f"{DIM}a free table runs on a small engine; a table with a mask and a row filter runs in Databricks alone{OFF}\n")
    show(uri, "SELECT o_orderpriority, count(*) FROM main.default.orders GROUP BY ALL ORDER BY ALL")
    governed = "SELECT c_name, c_phone, c_mktsegment FROM main.default.customer ORDER BY c_custkey LIMIT 3"
    show(uri, governed)
    print(f'{CYAN}$ flightpath explain "{governed}"{OFF}', flush=True)
    run("explain", "--uri", uri, governed)
    show(uri, governed, "--engine", "duckdb")
    print(f"{DIM}answers are compared between engines in the background (shadow.share = 1 in this demo){OFF}\n")
    show(uri, "SELECT engine, shadow_engine, outcome, digest FROM system.shadow_runs")
    print(f"{DIM}a big query: the small engines (64 MiB each here) could only spill it, the warehouse has room{OFF}\n")
    big = ("SELECT what, day, sum(price) OVER (PARTITION BY what ORDER BY day, id) AS so_far FROM ("
           "SELECT 'ordered' AS what, o_orderdate AS day, o_totalprice AS price, o_orderkey AS id FROM main.default.orders UNION ALL "
           "SELECT 'shipped', l_shipdate, l_extendedprice, l_orderkey FROM main.default.lineitem UNION ALL "
           "SELECT 'received', l_receiptdate, l_extendedprice, l_orderkey FROM main.default.lineitem)")
    print(f'{CYAN}$ flightpath explain "{big}"{OFF}', flush=True)
    run("explain", "--uri", uri, big)
    with flightsql.connect(uri, autocommit=True, db_kwargs={"adbc.flight.sql.authorization_header": f"Bearer {token}"}) as connection:
        with connection.cursor() as cursor:
            begun = time.perf_counter()
            cursor.execute(big)
            table = cursor.fetch_arrow_table()
            print(f"fetched {table.num_rows:,} rows in {time.perf_counter() - begun:.2f} s\n")
    show(uri, "SELECT engine, outcome, result_rows, left(text, 40) AS query FROM system.queries WHERE text LIKE 'SELECT what, day%'")
    del os.environ["FLIGHTPATH_TOKEN"]


def start(processes, log, *args):
    """Starts a process and gives the line with which it says that it is ready."""
    with open(STATE / log, "w") as stderr:
        process = subprocess.Popen([BINARY, *map(str, args)], stdout=subprocess.PIPE, stderr=stderr, text=True)
    processes.append(process)
    line = process.stdout.readline().strip()
    if "listening on " not in line:
        sys.exit(f"{args[0]} did not start:\n{(STATE / log).read_text()}")
    return line


def main():
    say("1. Real Delta tables: TPC-H, a tenth of a gigabyte")
    if (DATA / "lineitem" / "_delta_log").exists():
        print(f"{DIM}{DATA.relative_to(ROOT)} is there already{OFF}")
    else:
        run("populate", "tpch", "--scale", "0.1", "--out", DATA)

    say("2. One command starts the server: DataFusion inside it, DuckDB in a worker process")
    STATE.mkdir(parents=True, exist_ok=True)
    with open(STATE / "server.log", "w") as log:
        server = subprocess.Popen(
            [BINARY, "serve", "--data", str(DATA), "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | {"FLIGHTPATH_STATE_DIR": str(STATE)},
        )
    processes = []
    try:
        ready = server.stdout.readline().strip()
        if not ready.startswith("listening on "):
            sys.exit(f"the server did not start:\n{(STATE / 'server.log').read_text()}")
        print(ready)
        uri = ready.removeprefix("listening on ")

        say("3. Every query says where it ran, and why")
        show(uri, "SELECT r_name, count(*) AS nations FROM nation JOIN region ON n_regionkey = r_regionkey GROUP BY r_name ORDER BY r_name")
        show(uri, "SELECT l_returnflag, l_linestatus, sum(l_quantity) AS quantity, avg(l_extendedprice) AS price, count(*) "
                  "FROM lineitem WHERE l_shipdate <= DATE '1998-09-02' GROUP BY 1, 2 ORDER BY 1, 2")

        say("4. The decision alone: who may run it, what each would take, what decided")
        query = "SELECT o_orderpriority, count(*) FROM orders JOIN lineitem ON l_orderkey = o_orderkey GROUP BY 1"
        print(f'{CYAN}$ flightpath explain "{query}"{OFF}', flush=True)
        run("explain", "--uri", uri, query)

        say("5. Databricks' semantics, whichever engine: integers don't wrap, / is exact, errors have their class")
        show(uri, "SELECT 5 / 2 AS half, CAST(1 AS DECIMAL(10,2)) / 3 AS third, 'a' || NULL AS nothing, substring('hello', 0, 2) AS he")
        show(uri, "SELECT 2147483647 + 1")

        say("6. From Python, through ADBC")
        with flightsql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
            begun = time.perf_counter()
            cursor.execute("SELECT l_orderkey, l_quantity, l_shipdate FROM lineitem")
            table = cursor.fetch_arrow_table()
            print(f"fetched {table.num_rows:,} rows, {table.nbytes / 1e6:.1f} MB of Arrow in {time.perf_counter() - begun:.2f} s")

        say("7. All of it on record, in SQL")
        show(uri, "SELECT engine, outcome, round(total_ms, 1) AS ms, result_rows, left(text, 48) AS query FROM system.queries "
                  "WHERE statement_kind = 'query' ORDER BY started_at DESC LIMIT 6")

        say("8. In front of Databricks (a simulation here): rules on rows and columns hold")
        databricks(processes)

        if sys.stdin.isatty() and sys.stdout.isatty():
            print(f"{BOLD}The server stays up at {uri}{OFF}; try:  {BINARY} sql --uri {uri} \"SELECT ...\"\nCtrl-C ends it.")
            server.wait()
    except KeyboardInterrupt:
        print()
    finally:
        for process in [*reversed(processes), server]:
            process.terminate()
            process.wait(60)


if __name__ == "__main__":
    main()
