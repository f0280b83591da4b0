"""`make demo`: generated tables, a server, and a session with it. Ends by itself unless a person watches."""

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

        if sys.stdin.isatty() and sys.stdout.isatty():
            print(f"{BOLD}The server stays up at {uri}{OFF}; try:  {BINARY} sql --uri {uri} \"SELECT ...\"\nCtrl-C ends it.")
            server.wait()
    except KeyboardInterrupt:
        print()
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
