"""Queries of queries, as templates with `{items}` and perhaps `{where}`: tables in tables, in conditions and in values."""

from . import data

COMPARED = [name for name, kind, _ in data.COLUMNS if kind not in ("as", "m")]


def nested(chooser, table, other):
    column = chooser.choice(COMPARED)
    return chooser.choice([
        f"SELECT id, {{items}} FROM {table} WHERE {column} IN (SELECT {column} FROM {other}{{where}})",
        f"SELECT id, {{items}} FROM {table} WHERE {column} NOT IN (SELECT {column} FROM {other} WHERE {column} IS NOT NULL)",
        f"SELECT id, {{items}} FROM {table} WHERE {column} NOT IN (SELECT {column} FROM {other}{{where}})",
        f"SELECT id, {{items}} FROM {table} o WHERE EXISTS (SELECT 1 FROM {other} i WHERE i.{column} = o.{column})",
        f"SELECT id, {{items}} FROM {table} o WHERE NOT EXISTS (SELECT 1 FROM {other} i WHERE i.{column} = o.{column} AND i.id < o.id)",
        f"SELECT id, {{items}}, (SELECT max({column}) FROM {other} i WHERE i.c_n = o.c_n) AS m FROM {table} o",
        f"WITH w AS (SELECT * FROM {table}{{where}}) SELECT id, {{items}} FROM w",
    ])


def unread(chooser, table):
    """Rows of which nothing is read must be as many all the same."""
    column, key = chooser.choice(COMPARED), chooser.choice(COMPARED)
    inner = chooser.choice([
        f"SELECT max({column}) AS a, count(*) AS b FROM {table}",
        f"SELECT count({column}) AS a, typeof(min({column})) AS b FROM {table}",
        f"SELECT min({column}) AS a FROM {table} GROUP BY {key}",
        f"SELECT {column} AS a, count(*) AS b FROM {table} GROUP BY ROLLUP ({column})",
        f"SELECT count(*) AS a FROM {table} HAVING max({column}) IS NOT NULL",
        f"SELECT DISTINCT {column} AS a FROM {table}",
        f"SELECT row_number() OVER (PARTITION BY {key} ORDER BY id) AS a FROM {table}",
        f"SELECT explode(array(id, id + 1)) AS a FROM {table}",
        f"SELECT id AS a FROM {table} ORDER BY id LIMIT 3",
        f"SELECT {column} AS a FROM {table} UNION SELECT {column} FROM solid",
    ])
    return chooser.choice([
        f"SELECT {{items}} FROM ({inner}) q",
        f"SELECT count(*) AS n, {{items}} FROM ({inner}) q",
        f"SELECT o.id AS id, {{items}} FROM solid o, ({inner}) q",
        f"SELECT id, {{items}} FROM solid WHERE EXISTS ({inner})",
        f"SELECT id, {{items}}, (SELECT count(*) FROM ({inner}) q) AS n FROM solid",
    ])


def correlated(chooser, table, other):
    """Subqueries that read the outer row. What they give of no rows at all is where engines go wrong: an
    aggregation without GROUP BY has a row even then."""
    column, read, key = (chooser.choice(COMPARED) for _ in range(3))
    related = chooser.choice([
        f"i.{column} = o.{column}",
        f"i.{column} <=> o.{column}",
        f"i.{column} = o.{column} AND i.id < o.id",
        f"i.{column} = o.{column} AND i.{read} IS NOT NULL",
        "i.c_n = o.c_i32",
        "i.id = o.id - 20",
        "i.id < o.id",
        f"i.{column} = o.{column} OR i.id = o.c_n",
    ])
    aggregate = chooser.choice([
        f"max(i.{read})",
        f"min(i.{read})",
        "count(*)",
        f"count(i.{read})",
        f"count(DISTINCT i.{read})",
        "sum(i.c_n)",
        "coalesce(sum(i.c_n), -1)",
        "count(*) + 1",
        "max(i.c_n) IS NULL",
        "1",
    ])
    tail = chooser.choice([
        "",
        "",
        "",
        " HAVING count(*) > 1",
        " HAVING count(*) = 0",
        f" HAVING max(i.{read}) IS NULL",
        f" GROUP BY i.{key}",
        f" GROUP BY i.{key} HAVING count(*) > 1",
    ])
    plain = f"SELECT i.{read} AS m FROM {other} i WHERE {related}"
    grouped = f"SELECT {aggregate} AS m FROM {other} i WHERE {related}{tail}"
    inner = chooser.choice([
        grouped,
        grouped,
        plain,
        f"SELECT DISTINCT i.{read} AS m FROM {other} i WHERE {related}",
        f"SELECT q.m FROM ({grouped}) q",
        f"SELECT q.m FROM ({grouped}) q WHERE q.m IS NOT NULL",
        f"SELECT count(q.m) AS m FROM ({grouped}) q",
        f"SELECT sum(q.n) AS m FROM (SELECT i.{column}, i.id, i.c_n, count(*) AS n FROM {other} i GROUP BY ALL) q WHERE q.c_n = o.c_n",
        f"{plain} ORDER BY i.id LIMIT 1",
        f"{plain} UNION ALL {plain}",
    ])
    # A value must come of one row at most.
    value = chooser.choice([
        f"SELECT max(q.m) FROM ({inner}) q",
        f"SELECT {aggregate} FROM {other} i WHERE {related}",
        f"SELECT count(*) FROM {other} i WHERE {related}",
    ])
    return chooser.choice([
        f"SELECT id, {{items}} FROM {table} o WHERE EXISTS ({inner})",
        f"SELECT id, {{items}} FROM {table} o WHERE NOT EXISTS ({inner})",
        f"SELECT id, {{items}} FROM {table} o WHERE c_n > 1 OR EXISTS ({inner})",
        f"SELECT id, {{items}}, EXISTS ({inner}) AS e FROM {table} o",
        f"SELECT count(*) AS n, {{items}} FROM {table} o WHERE EXISTS ({inner})",
        f"SELECT id, {{items}} FROM {table} o WHERE EXISTS (SELECT 1 FROM ({inner}) q WHERE q.m IS NULL)",
        f"SELECT id, {{items}} FROM {table} o WHERE 1 IN (SELECT count(*) FROM ({inner}) q)",
        f"SELECT id, {{items}} FROM {table} o WHERE 0 NOT IN (SELECT count(i.{read}) FROM {other} i WHERE {related}{tail})",
        f"SELECT id, {{items}} FROM {table} o WHERE c_n IN (SELECT i.c_n FROM {other} i WHERE {related})",
        f"SELECT id, {{items}} FROM {table} o WHERE c_n NOT IN (SELECT i.c_n FROM {other} i WHERE {related})",
        f"SELECT id, {{items}}, ({value}) AS n FROM {table} o",
        f"SELECT id, {{items}}, coalesce(CAST(({value}) AS STRING), 'none') AS n FROM {table} o",
        f"SELECT id, {{items}}, CASE WHEN c_n > 1 THEN ({value}) END AS n FROM {table} o",
        f"SELECT id, {{items}} FROM {table} o WHERE ({value}) IS NULL",
        f"SELECT id, {{items}}, l.m AS n FROM {table} o, LATERAL ({inner}) l",
        f"SELECT id, {{items}}, l.m AS n FROM {table} o LEFT JOIN LATERAL ({inner}) l ON true",
    ])
