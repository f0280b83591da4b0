-- What engines tell of a run: its peak of memory in bytes, and a warehouse's name for the statement.
ALTER TABLE queries ADD COLUMN memory_bytes BIGINT;
ALTER TABLE queries ADD COLUMN statement_id TEXT;
-- What the warehouse's own history said later, and when it was asked. Milliseconds.
ALTER TABLE queries ADD COLUMN warehouse_ms DOUBLE PRECISION;
ALTER TABLE queries ADD COLUMN reconciled_unix_ms BIGINT;

CREATE INDEX queries_to_reconcile ON queries (engine, started_unix_ms) WHERE reconciled_unix_ms IS NULL AND engine = 'databricks';
