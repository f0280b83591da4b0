"""A frozen file of queries and their routes: a change of any route must be seen in review.

UPDATE_ROUTES=1 writes the file anew."""

import json
import os
import pathlib

HERE = pathlib.Path(__file__).parent
FROZEN = HERE.parent / "data" / "routes.json"
QUERIES = HERE.parent / "queries"

# The machine decides predictions; these settings stand for a small one.
SETTINGS = """
[engines.duckdb]
memory = "4GiB"
threads = 2
usd_per_hour = 0.1
[engines.datafusion]
memory = "4GiB"
threads = 2
usd_per_hour = 0.1
"""

OTHERS = {
    "constant": "SELECT 1",
    "point": "SELECT * FROM orders WHERE o_orderkey = 7",
    "small join": "SELECT n_name, r_name FROM nation JOIN region ON n_regionkey = r_regionkey",
    "full scan": "SELECT * FROM lineitem",
    "pruned by partition": "SELECT sum(l_quantity) FROM lineitem WHERE l_shipyear = 1998",
    "window": "SELECT o_orderkey, rank() OVER (PARTITION BY o_custkey ORDER BY o_totalprice) FROM orders",
    "cross join": "SELECT count(*) FROM lineitem, orders, part",
    "system table": "SELECT count(*) FROM system.queries",
    "not on duckdb": "SELECT soundex(o_clerk) FROM orders",
    "no engine": "SELECT nosuchfunction(o_orderkey) FROM orders",
}


def route(server, sql):
    try:
        rows = server.query(f"EXPLAIN ROUTE {sql}").to_pylist()
    except Exception as error:
        assert "not eligible" in str(error), error
        return "refused"
    return [("→ " if r["chosen"] else "  " if r["eligible"] else "✗ ") + r["engine"] + ("" if r["eligible"] else ": " + r["reason"]) for r in rows]


def test_routes_are_as_frozen(server, tpch_dir):
    one = server("--data", tpch_dir, settings=SETTINGS)
    queries = dict(OTHERS)
    for file in sorted((QUERIES / "tpch").glob("q*.sql")):
        queries[f"tpch {file.stem}"] = file.read_text().rstrip().rstrip(";")
    now = {name: route(one, sql) for name, sql in queries.items()}
    if os.environ.get("UPDATE_ROUTES"):
        FROZEN.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n")
    assert now == json.loads(FROZEN.read_text())
    # Whatever is frozen: each answer names every engine once, and only one is chosen.
    for name, rows in now.items():
        if rows != "refused":
            assert len(rows) == 2 and sum(r.startswith("→") for r in rows) == 1, name
