-- What the engine that answered took, in microseconds, and what predictions rest on.
ALTER TABLE queries ADD COLUMN engine_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE queries ADD COLUMN predicted_p95_ms DOUBLE PRECISION;
ALTER TABLE candidates ADD COLUMN predicted_p95_ms DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE candidates ADD COLUMN predicted_memory_p95_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE candidates ADD COLUMN source TEXT NOT NULL DEFAULT 'prior';
ALTER TABLE candidates ADD COLUMN observations INTEGER NOT NULL DEFAULT 0;
