-- The query log. One row per query, one per candidate engine of it.
-- Times: unix milliseconds for instants, microseconds for durations. JSON columns hold what the
-- router saw; the flat columns beside them are what people filter and sum by.
CREATE TABLE queries (
    query_id          TEXT PRIMARY KEY,
    started_unix_ms   BIGINT NOT NULL,
    text              TEXT NOT NULL,
    fingerprint       TEXT,
    statement_kind    TEXT NOT NULL,
    session_id        TEXT,
    principal         TEXT NOT NULL,
    catalog           TEXT NOT NULL,
    schema_name       TEXT NOT NULL,
    dialect           TEXT NOT NULL,
    profile           TEXT,
    tag               TEXT,
    engine            TEXT,
    outcome           TEXT NOT NULL,
    error_kind        TEXT,
    error_message     TEXT,
    plan_cache_hit    BOOLEAN NOT NULL,
    plan_us           BIGINT NOT NULL,
    decide_us         BIGINT NOT NULL,
    queue_us          BIGINT NOT NULL,
    first_batch_us    BIGINT NOT NULL,
    stream_us         BIGINT NOT NULL,
    total_us          BIGINT NOT NULL,
    result_rows       BIGINT NOT NULL,
    result_bytes      BIGINT NOT NULL,
    features          TEXT NOT NULL,
    decision          TEXT,
    failovers         TEXT NOT NULL
);

CREATE INDEX queries_by_time ON queries (started_unix_ms);
CREATE INDEX queries_by_principal ON queries (principal, started_unix_ms);
CREATE INDEX queries_by_engine ON queries (engine, started_unix_ms);
CREATE INDEX queries_by_fingerprint ON queries (fingerprint, started_unix_ms);
CREATE INDEX queries_by_outcome ON queries (outcome, started_unix_ms);

CREATE TABLE candidates (
    query_id                TEXT NOT NULL REFERENCES queries (query_id) ON DELETE CASCADE,
    position                INTEGER NOT NULL,
    engine                  TEXT NOT NULL,
    eligible                BOOLEAN NOT NULL,
    chosen                  BOOLEAN NOT NULL,
    rank                    INTEGER,
    reason                  TEXT NOT NULL,
    predicted_ms            DOUBLE PRECISION NOT NULL,
    predicted_usd           DOUBLE PRECISION NOT NULL,
    predicted_bytes         BIGINT NOT NULL,
    predicted_memory_bytes  BIGINT NOT NULL,
    PRIMARY KEY (query_id, position)
);
