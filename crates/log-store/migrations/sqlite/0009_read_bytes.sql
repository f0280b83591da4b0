-- Bytes really read of tables' files, where the engine tells, and what 95 of 100 such queries were thought to stay under.
ALTER TABLE queries ADD COLUMN read_bytes BIGINT;
ALTER TABLE queries ADD COLUMN predicted_p95_bytes BIGINT;
ALTER TABLE candidates ADD COLUMN predicted_p95_bytes BIGINT NOT NULL DEFAULT 0;
