-- Several routers share what was learned: whoever saves it has taken in what is there.
ALTER TABLE models ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;

-- What each profile has spent, by day (since 1970, UTC) of its queries' beginnings: kept along with `queries`,
-- so that budgets needn't sum up a day's.
CREATE TABLE spending (
    day      BIGINT NOT NULL,
    profile  TEXT NOT NULL,
    usd      DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (day, profile)
);
INSERT INTO spending (day, profile, usd)
SELECT started_unix_ms / 86400000, profile, SUM(COALESCE(usd_actual, predicted_usd, 0.0)) FROM queries
WHERE profile IS NOT NULL AND engine IS NOT NULL AND started_unix_ms >= (SELECT MAX(started_unix_ms) - 172800000 FROM queries)
GROUP BY started_unix_ms / 86400000, profile;
