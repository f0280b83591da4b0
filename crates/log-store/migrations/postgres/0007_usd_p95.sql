-- Dollars if the query takes as long as its 95th percentile.
ALTER TABLE queries ADD COLUMN predicted_usd_p95 DOUBLE PRECISION;
ALTER TABLE candidates ADD COLUMN predicted_usd_p95 DOUBLE PRECISION NOT NULL DEFAULT 0;
