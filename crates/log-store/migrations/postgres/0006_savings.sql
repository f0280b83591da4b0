-- Savings are counted along one warehouse's time, everybody's queries in it, from this index alone.
DROP INDEX queries_savings;
CREATE INDEX queries_savings ON queries (started_unix_ms, principal, databricks_ms, warehouse_ms, predicted_usd, usd_actual, predicted_bytes,
    result_bytes, databricks_usd, outcome, engine)
    WHERE databricks_usd IS NOT NULL AND outcome = 'success' AND engine IS NOT NULL;
