-- What the questions of a console need without looking into JSON. Milliseconds and US dollars.
-- The chosen candidate's prediction:
ALTER TABLE queries ADD COLUMN predicted_ms DOUBLE PRECISION;
ALTER TABLE queries ADD COLUMN predicted_usd DOUBLE PRECISION;
ALTER TABLE queries ADD COLUMN predicted_bytes BIGINT;
ALTER TABLE queries ADD COLUMN predicted_memory_bytes BIGINT;
-- The same query's prediction on Databricks, where it could have run there:
ALTER TABLE queries ADD COLUMN databricks_ms DOUBLE PRECISION;
ALTER TABLE queries ADD COLUMN databricks_usd DOUBLE PRECISION;
-- What it turned out to cost, once that is known:
ALTER TABLE queries ADD COLUMN usd_actual DOUBLE PRECISION;

UPDATE queries SET
    predicted_ms = (SELECT c.predicted_ms FROM candidates c WHERE c.query_id = queries.query_id AND c.rank = 1),
    predicted_usd = (SELECT c.predicted_usd FROM candidates c WHERE c.query_id = queries.query_id AND c.rank = 1),
    predicted_bytes = (SELECT c.predicted_bytes FROM candidates c WHERE c.query_id = queries.query_id AND c.rank = 1),
    predicted_memory_bytes = (SELECT c.predicted_memory_bytes FROM candidates c WHERE c.query_id = queries.query_id AND c.rank = 1),
    databricks_ms = (SELECT MIN(c.predicted_ms) FROM candidates c WHERE c.query_id = queries.query_id AND c.engine = 'databricks' AND c.rank IS NOT NULL),
    databricks_usd = (SELECT MIN(c.predicted_usd) FROM candidates c WHERE c.query_id = queries.query_id AND c.engine = 'databricks' AND c.rank IS NOT NULL);

CREATE INDEX queries_by_tag ON queries (tag, started_unix_ms) WHERE tag IS NOT NULL;
-- Savings are summed from this index alone.
CREATE INDEX queries_savings ON queries (principal, started_unix_ms, outcome, predicted_usd, usd_actual, databricks_usd)
    WHERE databricks_usd IS NOT NULL AND outcome = 'success';

-- What was learned, kept over restarts.
CREATE TABLE models (
    name            TEXT PRIMARY KEY,
    saved_unix_ms   BIGINT NOT NULL,
    contents        BLOB NOT NULL
);
