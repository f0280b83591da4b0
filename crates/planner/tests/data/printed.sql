-- Each statement and what DuckDB is sent for it, or why it isn't.

SELECT id, amount FROM sales WHERE region = 'eu' ORDER BY amount DESC LIMIT 10 OFFSET 2
-- DuckDB: SELECT s0."id" AS c0, s0."amount" AS c1 FROM s0 WHERE s0."region" = 'eu' ORDER BY s0."amount" DESC NULLS LAST LIMIT 10 OFFSET 2

SELECT * FROM people
-- DuckDB: SELECT s0."id" AS c0, s0."name" AS c1 FROM s0

SELECT count(*) FROM sales
-- DuckDB: SELECT count(*) AS c0 FROM s0 GROUP BY ()

SELECT region, count(*), sum(amount) FROM sales GROUP BY region HAVING count(*) > 1 ORDER BY 2 DESC
-- DuckDB: SELECT t0.c0 AS c0, t0.c1 AS c1, t0.c2 AS c2 FROM (SELECT s0."region" AS c0, count(*) AS c1, sum(s0."amount") AS c2 FROM s0 GROUP BY s0."region") AS t0 WHERE t0.c1 > CAST(1 AS BIGINT) ORDER BY t0.c1 DESC NULLS LAST

SELECT DISTINCT region FROM sales ORDER BY region
-- DuckDB: SELECT t0.c0 AS c0 FROM (SELECT DISTINCT s0."region" AS c0 FROM s0) AS t0 ORDER BY t0.c0 ASC NULLS FIRST

SELECT s.id, p.name FROM sales s JOIN people p ON s.id = p.id WHERE s.amount > 10
-- DuckDB: SELECT s0."id" AS c0, s1."name" AS c1 FROM s0 JOIN s1 ON s0."id" = s1."id" WHERE s0."amount" > CAST('10.00' AS DECIMAL(10,2))

SELECT s.id, p.name FROM sales s LEFT JOIN (SELECT * FROM people WHERE name LIKE 'A%') p ON s.id = p.id
-- DuckDB: SELECT s0."id" AS c0, t0.c1 AS c1 FROM s0 LEFT JOIN (SELECT s1."id" AS c0, s1."name" AS c1 FROM s1 WHERE s1."name" LIKE 'A%') AS t0 ON s0."id" = t0.c0

SELECT s.id FROM sales s, people p, people q WHERE s.id = p.id AND p.id = q.id
-- DuckDB: SELECT s0."id" AS c0 FROM s0 CROSS JOIN s1 CROSS JOIN s2 WHERE s0."id" = s1."id" AND s1."id" = s2."id"

SELECT id FROM sales s FULL JOIN people p USING (id)
-- DuckDB: SELECT CASE WHEN s0."id" IS NOT NULL THEN s0."id" ELSE s1."id" END AS c0 FROM s0 FULL JOIN s1 ON s0."id" = s1."id"

SELECT id FROM sales WHERE EXISTS (SELECT * FROM people p WHERE p.id = sales.id)
-- DuckDB: SELECT s0."id" AS c0 FROM s0 WHERE EXISTS (SELECT 1 AS c0 FROM s1 WHERE s1."id" = s0."id")

SELECT id FROM sales WHERE id NOT IN (SELECT id FROM people)
-- DuckDB: SELECT s0."id" AS c0 FROM s0 WHERE s0."id" NOT IN (SELECT s1."id" AS c0 FROM s1)

SELECT id FROM sales s WHERE amount > (SELECT max(amount) FROM sales t WHERE t.region = s.region)
-- DuckDB: SELECT s0."id" AS c0 FROM s0 WHERE s0."amount" > (SELECT max(s1."amount") AS c0 FROM s1 WHERE s1."region" = s0."region" GROUP BY ())

SELECT (SELECT name FROM people WHERE id = 3) AS n
-- DuckDB: SELECT (SELECT CASE WHEN count(*) > 1 THEN error('FLIGHTPATH_RAISED|SCALAR_SUBQUERY_TOO_MANY_ROWS|21000|' || 'More than one row returned by a subquery used as an expression.') ELSE first(t0.c0) END FROM (SELECT s0."name" AS c0 FROM s0 WHERE s0."id" = 3) AS t0) AS c0

SELECT id FROM sales LEFT SEMI JOIN people USING (id)
-- DuckDB: SELECT s0."id" AS c0 FROM s0 SEMI JOIN s1 ON s0."id" = s1."id"

SELECT id FROM sales s LEFT ANTI JOIN people p ON s.id = p.id
-- DuckDB: SELECT s0."id" AS c0 FROM s0 ANTI JOIN s1 ON s0."id" = s1."id"

SELECT id, row_number() OVER (PARTITION BY region ORDER BY amount) AS n FROM sales
-- DuckDB: SELECT s0."id" AS c0, CAST(row_number() OVER (PARTITION BY s0."region" ORDER BY s0."amount" ASC NULLS FIRST) AS INTEGER) AS c1 FROM s0

SELECT id, sum(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s FROM sales
-- DuckDB: SELECT s0."id" AS c0, sum(s0."amount") OVER (ORDER BY s0."id" ASC NULLS FIRST ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS c1 FROM s0

SELECT region, amount, rank() OVER (ORDER BY sum(amount) DESC) AS r FROM sales GROUP BY region, amount
-- DuckDB: SELECT t0.c0 AS c0, t0.c1 AS c1, CAST(rank() OVER (ORDER BY t0.c2 DESC NULLS LAST) AS INTEGER) AS c2 FROM (SELECT s0."region" AS c0, s0."amount" AS c1, sum(s0."amount") AS c2 FROM s0 GROUP BY s0."region", s0."amount") AS t0

SELECT id FROM sales QUALIFY row_number() OVER (PARTITION BY region ORDER BY id) = 1
-- DuckDB: SELECT t0.c0 AS c0 FROM (SELECT s0."id" AS c0, s0."region" AS c2, row_number() OVER (PARTITION BY s0."region" ORDER BY s0."id" ASC NULLS FIRST) AS c5 FROM s0) AS t0 WHERE t0.c5 = 1

SELECT region, id, count(*), grouping(region) FROM sales GROUP BY ROLLUP (region, id)
-- DuckDB: SELECT t0.c0 AS c0, t0.c1 AS c1, t0.c3 AS c2, CASE WHEN CAST(t0.c2 AS BIGINT) IN (CAST(3 AS BIGINT)) THEN CAST(1 AS TINYINT) ELSE CAST(0 AS TINYINT) END AS c3 FROM (SELECT s0."region" AS c0, s0."id" AS c1, CAST(GROUPING(s0."region", s0."id") AS BIGINT) AS c2, count(*) AS c3, count(*) AS c4 FROM s0 GROUP BY GROUPING SETS ((s0."region", s0."id"), (s0."region"), ())) AS t0 WHERE t0.c4 > CAST(0 AS BIGINT)

SELECT region, count(*) FROM sales GROUP BY GROUPING SETS ((region), ())
-- DuckDB: SELECT t0.c0 AS c0, t0.c2 AS c1 FROM (SELECT s0."region" AS c0, CAST(GROUPING(s0."region") AS BIGINT) AS c1, count(*) AS c2, count(*) AS c3 FROM s0 GROUP BY GROUPING SETS ((s0."region"), ())) AS t0 WHERE t0.c3 > CAST(0 AS BIGINT)

SELECT id FROM sales UNION ALL SELECT id FROM people
-- DuckDB: (SELECT s0."id" AS c0 FROM s0) UNION ALL (SELECT s1."id" AS c0 FROM s1)

SELECT id FROM sales UNION SELECT id FROM people
-- DuckDB: SELECT DISTINCT t0.c0 AS c0 FROM ((SELECT s0."id" AS c0 FROM s0) UNION ALL (SELECT s1."id" AS c0 FROM s1)) AS t0

SELECT id FROM sales INTERSECT SELECT id FROM people
-- DuckDB: SELECT t0.c0 AS c0 FROM (SELECT DISTINCT s0."id" AS c0 FROM s0) AS t0 SEMI JOIN s1 ON t0.c0 IS NOT DISTINCT FROM s1."id"

SELECT id FROM sales EXCEPT SELECT id FROM people
-- DuckDB: SELECT t0.c0 AS c0 FROM (SELECT DISTINCT s0."id" AS c0 FROM s0) AS t0 ANTI JOIN s1 ON t0.c0 IS NOT DISTINCT FROM s1."id"

WITH c AS (SELECT region, sum(amount) AS s FROM sales GROUP BY region) SELECT a.region FROM c a JOIN c b ON a.region = b.region WHERE a.s > b.s
-- DuckDB: WITH w0 AS (SELECT s2."region" AS c0, sum(s2."amount") AS c1 FROM s2 GROUP BY s2."region") SELECT t0.c0 AS c0 FROM w0 AS t0 JOIN w0 AS t1 ON t0.c0 = t1.c0 WHERE t0.c1 > t1.c1

SELECT CASE WHEN id > 1 THEN 'many' WHEN id = 1 THEN 'one' ELSE NULL END AS how FROM people
-- DuckDB: SELECT CASE WHEN s0."id" > 1 THEN 'many' WHEN s0."id" = 1 THEN 'one' ELSE CAST(NULL AS VARCHAR) END AS c0 FROM s0

SELECT id FROM people WHERE name LIKE 'a\\_b%' OR name IS NULL AND id BETWEEN 1 AND 5
-- DuckDB: SELECT s0."id" AS c0 FROM s0 WHERE (s0."name" LIKE 'a\_b%' ESCAPE '\' OR (s0."name" IS NULL AND s0."id" BETWEEN 1 AND 5))

SELECT id FROM people WHERE id IN (1, 2, 3) AND NOT (name <=> 'x')
-- DuckDB: SELECT s0."id" AS c0 FROM s0 WHERE s0."id" IN (1, 2, 3) AND NOT (s0."name" IS NOT DISTINCT FROM 'x')

SELECT x, y FROM VALUES (1, 'a'), (2, NULL) AS t(x, y)
-- DuckDB: SELECT t0.c0 AS c0, t0.c1 AS c1 FROM (VALUES (1, 'a'), (2, CAST(NULL AS VARCHAR))) AS t0(c0, c1)

SELECT 1 AS a, a + 1 AS b, b * 2 AS c
-- DuckDB: SELECT 1 AS c0, (1 + 1) AS c1, ((1 + 1) * 2) AS c2

SELECT id + 1 AS a, a * a AS b FROM people
-- DuckDB: SELECT (s0."id" + 1) AS c0, ((s0."id" + 1) * (s0."id" + 1)) AS c1 FROM s0

SELECT p.id, n.x FROM people p LATERAL VIEW explode(array(1, 2)) n AS x
-- DuckDB: SELECT t1.c0 AS c0, t1.c2 AS c1 FROM (SELECT t0.c0 AS c0, t0.c1 AS c1, unnest(t0.c2) AS c2 FROM (SELECT s0."id" AS c0, s0."name" AS c1, CAST([1, 2] AS INTEGER[]) AS c2 FROM s0) AS t0) AS t1

SELECT p.id, t.m FROM people p, LATERAL (SELECT max(amount) AS m FROM sales s WHERE s.id = p.id) t
-- DuckDB: SELECT s0."id" AS c0, t0.c0 AS c1 FROM s0 CROSS JOIN LATERAL (SELECT max(s1."amount") AS c0 FROM s1 WHERE s1."id" = s0."id" GROUP BY ()) AS t0

SELECT id FROM (SELECT id, amount FROM sales ORDER BY amount LIMIT 5) ORDER BY id
-- DuckDB: SELECT t0.c0 AS c0 FROM (SELECT s0."id" AS c0 FROM s0 ORDER BY s0."amount" ASC NULLS FIRST LIMIT 5) AS t0 ORDER BY t0.c0 ASC NULLS FIRST

SELECT count(DISTINCT region), count(*) FILTER (WHERE id > 3) FROM sales
-- DuckDB: SELECT count(DISTINCT s0."region") AS c0, count(*) FILTER (WHERE s0."id" > 3) AS c1 FROM s0 GROUP BY ()

SELECT DATE'2024-02-29' AS d, TIMESTAMP'2024-02-29 12:00:00' AS t, 1.50 AS m, 'it''s' AS s
-- DuckDB: SELECT CAST('2024-02-29' AS DATE) AS c0, make_timestamptz(CAST(1709208000000000 AS BIGINT)) AS c1, CAST('1.50' AS DECIMAL(3,2)) AS c2, 'it''s' AS c3

SELECT at FROM sales WHERE at >= '2024-01-01'
-- DuckDB: SELECT s0."at" AS c0 FROM s0 WHERE s0."at" >= make_timestamptz(CAST(1704067200000000 AS BIGINT))

SELECT nothing(id) FROM people
-- error: [UNRESOLVED_ROUTINE] not eligible: function `nothing` isn't known here (line 1, column 8). SQLSTATE: 42883

SELECT region || '!' AS r, count(*) FROM sales GROUP BY region || '!'
-- DuckDB: SELECT t0.c5 AS c0, count(*) AS c1 FROM (SELECT (s0."region" || '!') AS c5 FROM s0) AS t0 GROUP BY t0.c5

SELECT 'x' AS k, count(*) FROM sales GROUP BY 1
-- DuckDB: SELECT t0.c5 AS c0, count(*) AS c1 FROM (SELECT 'x' AS c5 FROM s0) AS t0 GROUP BY t0.c5

TABLE people
-- DuckDB: SELECT s0."id" AS c0, s0."name" AS c1 FROM s0

VALUES (1, 'a')
-- DuckDB: SELECT t0.c0 AS c0, t0.c1 AS c1 FROM (VALUES (1, 'a')) AS t0(c0, c1)

SELECT id FROM sales s WHERE id IN (SELECT id FROM people p WHERE p.name = s.region) OR amount > 5
-- DuckDB: SELECT s0."id" AS c0 FROM s0 WHERE (s0."id" IN (SELECT s1."id" AS c0 FROM s1 WHERE s1."name" = s0."region") OR s0."amount" > CAST('5.00' AS DECIMAL(10,2)))

SELECT p.name FROM people p WHERE NOT EXISTS (SELECT 1 FROM sales s JOIN people q ON s.id = q.id WHERE q.name = p.name)
-- DuckDB: SELECT s0."name" AS c0 FROM s0 WHERE NOT EXISTS (SELECT 1 AS c0 FROM s1 JOIN s2 ON s1."id" = s2."id" WHERE s2."name" = s0."name")

SELECT max(n) FROM (SELECT region, count(*) AS n FROM sales GROUP BY region)
-- DuckDB: SELECT max(t0.c1) AS c0 FROM (SELECT s0."region" AS c0, count(*) AS c1 FROM s0 GROUP BY s0."region") AS t0 GROUP BY ()

SELECT id, lag(id, 1) OVER (ORDER BY id) AS l, first_value(id) OVER (PARTITION BY name ORDER BY id) AS f FROM people
-- DuckDB: SELECT s0."id" AS c0, lag(s0."id", CAST(1 AS BIGINT)) OVER (ORDER BY s0."id" ASC NULLS FIRST) AS c1, first_value(s0."id") OVER (PARTITION BY s0."name" ORDER BY s0."id" ASC NULLS FIRST RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS c2 FROM s0

SELECT id FROM people ORDER BY name NULLS LAST, id DESC
-- DuckDB: SELECT s0."id" AS c0 FROM s0 ORDER BY s0."name" ASC NULLS LAST, s0."id" DESC NULLS LAST

SELECT a.id FROM people a JOIN (people b LEFT JOIN sales s ON b.id = s.id) ON a.id = b.id
-- DuckDB: SELECT s0."id" AS c0 FROM s0 JOIN (s1 LEFT JOIN s2 ON s1."id" = s2."id") ON s0."id" = s1."id"

SELECT count(*) FROM (SELECT id FROM sales LIMIT 3)
-- DuckDB: SELECT count(*) AS c0 FROM (SELECT s0."id" AS c0 FROM s0 LIMIT 3) AS t0 GROUP BY ()

SELECT region, array_agg(id) FROM sales GROUP BY region
-- DuckDB: SELECT s0."region" AS c0, coalesce(list_filter(list(s0."id"), lambda e: e IS NOT NULL), []) AS c1 FROM s0 GROUP BY s0."region"

SELECT id FROM people WHERE id > ALL (SELECT id FROM sales)
-- error: [PARSE_SYNTAX_ERROR] Syntax error at or near '>': ANY and ALL stand behind LIKE and ILIKE only SQLSTATE: 42601

WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r
-- DuckDB: WITH RECURSIVE t0 AS ((SELECT 1 AS c0, 0 AS c1) UNION ALL (SELECT (t1.c0 + 1) AS c0, (CASE WHEN t1.c1 >= 99 THEN error('FLIGHTPATH_RAISED|RECURSION_LEVEL_LIMIT_EXCEEDED|42836|' || 'Recursion level limit 100 reached but query has not exhausted, try increasing it like ''WITH RECURSIVE t(col) MAX RECURSION LEVEL 200''.') ELSE t1.c1 + 1 END) AS c1 FROM t0 AS t1 WHERE t1.c0 < 5)) SELECT t3.c0 AS c0 FROM (SELECT t2.c0 AS c0, t2.c1 AS c1, row_number() OVER () AS c2 FROM t0 AS t2) AS t3 WHERE (CASE WHEN CAST(t3.c2 AS BIGINT) > 1000000 THEN error('FLIGHTPATH_RAISED|RECURSION_ROW_LIMIT_EXCEEDED|42836|' || 'Recursion row limit 1000000 reached but query has not exhausted, try setting a larger LIMIT value when querying the CTE relation.') ELSE TRUE END)

SELECT region FROM sales s JOIN people p ON s.region LIKE p.name
-- DuckDB: SELECT s0."region" AS c0 FROM s0 JOIN s1 ON (CASE WHEN s0."region" IS NOT NULL AND regexp_matches(s1."name", '(?s)\A(?:[^\\]|\\[%_\\])*\\(?:[^%_\\]|\z)') THEN error('FLIGHTPATH_RAISED|INVALID_FORMAT.ESC_IN_THE_MIDDLE|42601|' || 'The escape character is not allowed to precede an ordinary one or to end the pattern of LIKE.') ELSE s0."region" LIKE s1."name" ESCAPE '\' END)

SELECT at, count(*) OVER (ORDER BY at) FROM sales
-- DuckDB: SELECT s0."at" AS c0, count(*) OVER (ORDER BY s0."at" ASC NULLS FIRST RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS c1 FROM s0

SELECT id FROM sales INTERSECT ALL SELECT id FROM people
-- DuckDB: SELECT t0.c0 AS c0 FROM (SELECT s0."id" AS c0, row_number() OVER (PARTITION BY s0."id") AS c1 FROM s0) AS t0 SEMI JOIN (SELECT s1."id" AS c0, row_number() OVER (PARTITION BY s1."id") AS c1 FROM s1) AS t1 ON t0.c0 IS NOT DISTINCT FROM t1.c0 AND t0.c1 IS NOT DISTINCT FROM t1.c1
