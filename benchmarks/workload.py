"""A mixed workload over TPC-H's tables: sizes from a single row to whole tables, and the repetition
of real warehouses, where few shapes make up most of the queries."""

import datetime

VARIANTS = 3


def _date(rng, first=1992, last=1998):
    return (datetime.date(first, 1, 1) + datetime.timedelta(days=rng.randrange((last - first + 1) * 365))).isoformat()


def _range(rng, column, days):
    begin = datetime.date.fromisoformat(_date(rng, 1992, 1996))
    return f"{column} >= DATE'{begin}' AND {column} < DATE'{begin + datetime.timedelta(days=days)}'"


# Name, and the text for drawn literals.
TEMPLATES = {
    "one": lambda r: f"SELECT {r.randrange(100)} AS n",
    "nations": lambda r: f"SELECT n_name FROM nation WHERE n_regionkey = {r.randrange(5)} ORDER BY n_name",
    "order": lambda r: f"SELECT * FROM orders WHERE o_orderkey = {r.randrange(1, 60_000)}",
    "customer": lambda r: f"SELECT c_name, c_acctbal FROM customer WHERE c_custkey = {r.randrange(1, 1_500)}",
    "order-lines": lambda r: f"SELECT l_linenumber, l_quantity, p_name FROM lineitem JOIN part ON l_partkey = p_partkey WHERE l_orderkey = {r.randrange(1, 60_000)} ORDER BY 1",
    "priorities": lambda r: f"SELECT o_orderpriority, count(*) AS n FROM orders WHERE {_range(r, 'o_orderdate', 90)} GROUP BY o_orderpriority ORDER BY 1",
    "revenue-week": lambda r: f"SELECT sum(l_extendedprice * (1 - l_discount)) AS revenue FROM lineitem WHERE {_range(r, 'l_shipdate', 7)}",
    "revenue-year": lambda r: f"SELECT sum(l_extendedprice * (1 - l_discount)) AS revenue FROM lineitem WHERE {_range(r, 'l_shipdate', 365)}",
    "flags": lambda r: f"SELECT l_returnflag, l_linestatus, sum(l_quantity) AS q, avg(l_discount) AS d, count(*) AS n FROM lineitem WHERE l_shipdate <= DATE'{_date(r)}' GROUP BY ALL ORDER BY 1, 2",
    "ship-modes": lambda r: f"SELECT l_shipmode, count(*) AS n, max(l_extendedprice) AS m FROM lineitem WHERE {_range(r, 'l_shipdate', 180)} GROUP BY l_shipmode ORDER BY n DESC",
    "top-customers": lambda r: f"SELECT c_name, sum(o_totalprice) AS total FROM customer JOIN orders ON c_custkey = o_custkey WHERE {_range(r, 'o_orderdate', 365)} GROUP BY c_name ORDER BY total DESC LIMIT 10",
    "segments": lambda r: f"SELECT c_mktsegment, count(*) AS n, sum(o_totalprice) AS total FROM customer JOIN orders ON c_custkey = o_custkey WHERE o_totalprice > {r.randrange(1, 300_000)} GROUP BY c_mktsegment ORDER BY 1",
    "nation-revenue": lambda r: f"SELECT n_name, sum(l_extendedprice * (1 - l_discount)) AS revenue FROM lineitem JOIN orders ON l_orderkey = o_orderkey JOIN customer ON o_custkey = c_custkey JOIN nation ON c_nationkey = n_nationkey WHERE {_range(r, 'o_orderdate', 180)} GROUP BY n_name ORDER BY revenue DESC",
    "suppliers": lambda r: f"SELECT count(DISTINCT l_suppkey) AS n FROM lineitem WHERE {_range(r, 'l_shipdate', 60)}",
    "distinct-parts": lambda r: f"SELECT count(DISTINCT l_partkey) AS n FROM lineitem WHERE l_quantity > {r.randrange(1, 50)}",
    "colours": lambda r: f"SELECT count(*) AS n FROM part WHERE p_name LIKE '%{r.choice(['green', 'red', 'ivory', 'azure', 'lime'])}%'",
    "comments": lambda r: f"SELECT count(*) AS n FROM orders WHERE o_comment LIKE '%{r.choice(['special', 'pending', 'express'])}%requests%'",
    "biggest-orders": lambda r: f"SELECT o_orderkey, o_totalprice, o_orderdate FROM orders WHERE o_orderdate >= DATE'{_date(r)}' ORDER BY o_totalprice DESC LIMIT {r.randrange(10, 100)}",
    "best-of-customer": lambda r: f"SELECT o_custkey, o_orderkey, o_totalprice FROM (SELECT o_custkey, o_orderkey, o_totalprice, row_number() OVER (PARTITION BY o_custkey ORDER BY o_totalprice DESC, o_orderkey) AS r FROM orders WHERE {_range(r, 'o_orderdate', 365)}) AS t WHERE r = 1",
    "running-total": lambda r: f"SELECT o_orderdate, sum(total) OVER (ORDER BY o_orderdate) AS running FROM (SELECT o_orderdate, sum(o_totalprice) AS total FROM orders WHERE {_range(r, 'o_orderdate', 700)} GROUP BY o_orderdate) AS t ORDER BY 1",
    "heavy-orders": lambda r: f"SELECT l_orderkey, sum(l_quantity) AS q FROM lineitem GROUP BY l_orderkey HAVING sum(l_quantity) > {r.randrange(250, 320)} ORDER BY q DESC LIMIT 100",
    "late": lambda r: f"SELECT o_orderpriority, count(*) AS n FROM orders WHERE {_range(r, 'o_orderdate', 90)} AND EXISTS (SELECT 1 FROM lineitem WHERE l_orderkey = o_orderkey AND l_commitdate < l_receiptdate) GROUP BY o_orderpriority ORDER BY 1",
    "rich": lambda r: f"SELECT count(*) AS n FROM customer WHERE c_custkey IN (SELECT o_custkey FROM orders WHERE o_totalprice > {r.randrange(100_000, 400_000)})",
    "without-orders": lambda r: f"SELECT count(*) AS n, avg(c_acctbal) AS a FROM customer WHERE c_acctbal > {r.randrange(0, 5_000)} AND NOT EXISTS (SELECT 1 FROM orders WHERE o_custkey = c_custkey)",
    "stock": lambda r: f"SELECT ps_partkey, min(ps_supplycost) AS cost FROM partsupp WHERE ps_availqty > {r.randrange(1, 9_000)} GROUP BY ps_partkey ORDER BY cost LIMIT 50",
    "export-month": lambda r: f"SELECT l_orderkey, l_partkey, l_quantity, l_extendedprice, l_shipdate FROM lineitem WHERE {_range(r, 'l_shipdate', 30)}",
    "export-orders": lambda r: f"SELECT * FROM orders WHERE {_range(r, 'o_orderdate', 180)}",
    "wide": lambda r: f"SELECT max(l_comment) AS a, min(l_shipinstruct) AS b, max(l_extendedprice) AS c, count(*) AS n FROM lineitem WHERE l_tax < {r.randrange(1, 9) / 100}",
    "brands": lambda r: f"SELECT p_brand, sum(l_extendedprice) AS s FROM lineitem JOIN part ON l_partkey = p_partkey WHERE p_size < {r.randrange(5, 50)} GROUP BY p_brand ORDER BY s DESC",
    "trade": lambda r: f"SELECT sn.n_name AS seller, cn.n_name AS buyer, sum(l_extendedprice) AS s FROM lineitem JOIN supplier ON l_suppkey = s_suppkey JOIN orders ON l_orderkey = o_orderkey JOIN customer ON o_custkey = c_custkey JOIN nation AS sn ON s_nationkey = sn.n_nationkey JOIN nation AS cn ON c_nationkey = cn.n_nationkey WHERE {_range(r, 'l_shipdate', 365)} GROUP BY ALL ORDER BY s DESC LIMIT 20",
}


def mixed_queries(rng):
    """Name to text; three draws of literals per template, no text twice."""
    queries = {}
    for name, make in TEMPLATES.items():
        texts = list(dict.fromkeys(make(rng) for _ in range(VARIANTS * 4)))[:VARIANTS]
        queries |= {f"mixed-{name}-{variant}": text for variant, text in enumerate(texts)}
    return queries


def mixed_sequence(known, rng, draws):
    """Names in the order they come; a shape's frequency falls with its rank."""
    shapes = list(TEMPLATES)
    rng.shuffle(shapes)
    weights = [1 / (rank + 1) for rank in range(len(shapes))]
    names = (f"mixed-{shape}-{rng.randrange(VARIANTS)}" for shape in rng.choices(shapes, weights, k=draws))
    return [name for name in names if name in known]
