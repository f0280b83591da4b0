-- Queries run a second time on another engine, and what came of it. Unix milliseconds.
CREATE TABLE shadow_runs (
    query_id        TEXT NOT NULL,
    ended_unix_ms   BIGINT NOT NULL,
    fingerprint     TEXT NOT NULL,
    principal       TEXT NOT NULL,
    engine          TEXT NOT NULL,
    digest          TEXT NOT NULL,
    shadow_engine   TEXT NOT NULL,
    shadow_digest   TEXT NOT NULL,
    outcome         TEXT NOT NULL,
    detail          TEXT NOT NULL,
    PRIMARY KEY (query_id, shadow_engine)
);

CREATE INDEX shadow_runs_by_time ON shadow_runs (ended_unix_ms);
CREATE INDEX shadow_runs_by_fingerprint ON shadow_runs (fingerprint, ended_unix_ms);

-- Shapes of queries that an engine may not run until a person lifts the row.
CREATE TABLE quarantine (
    fingerprint     TEXT NOT NULL,
    engine          TEXT NOT NULL,
    since_unix_ms   BIGINT NOT NULL,
    query_id        TEXT NOT NULL,
    reason          TEXT NOT NULL,
    PRIMARY KEY (fingerprint, engine)
);
