//! Reading the record back, forgetting it, and what queries turned out to cost; written once for
//! both databases as in `store.rs`.

use flightpath_querylog::{Baseline, DaySavings, Unreconciled};
use flightpath_types::{Error, ErrorKind, QueryId, Result};

/// The engine that savings are counted against.
pub(crate) const DATABRICKS: &str = "databricks";

#[derive(sqlx::FromRow)]
pub(crate) struct SavingsRow {
    day: i64,
    queries: i64,
    usd: f64,
    up_ms: f64,
    read_bytes: f64,
    sent_bytes: f64,
}

impl SavingsRow {
    pub fn into_savings(self, baseline: &Baseline) -> DaySavings {
        let databricks_usd = baseline.usd(self.up_ms, self.read_bytes, self.sent_bytes);
        DaySavings { day: self.day, queries: u64::try_from(self.queries).unwrap_or(0), usd: self.usd, databricks_usd }
    }
}

/// Everybody's queries as spans of one warehouse's work, each with when the ones before it end. What
/// the server answers itself, `EXPLAIN ROUTE` among it, has no engine. Ends with where to bind since when.
pub(crate) const SAVINGS_SPANS: &str = "WITH spans AS (SELECT started_unix_ms, principal, COALESCE(usd_actual, predicted_usd, 0.0) AS usd, \
     COALESCE(predicted_bytes, 0) AS read_bytes, result_bytes, started_unix_ms + COALESCE(warehouse_ms, databricks_ms, 0.0) AS ended, \
     MAX(started_unix_ms + COALESCE(warehouse_ms, databricks_ms, 0.0)) OVER \
     (ORDER BY started_unix_ms ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS up_until \
     FROM queries WHERE databricks_usd IS NOT NULL AND outcome = 'success' AND engine IS NOT NULL AND started_unix_ms >= ";

#[derive(sqlx::FromRow)]
pub(crate) struct UnreconciledRow {
    query_id: String,
    started_unix_ms: i64,
    scan_bytes: i64,
    result_bytes: i64,
    statement_id: Option<String>,
}

impl UnreconciledRow {
    pub fn into_unreconciled(self) -> Result<Unreconciled> {
        let damaged = || Error::new(ErrorKind::DataLoss, "query log: a row holds a bad query_id");
        Ok(Unreconciled {
            query_id: QueryId::parse(&self.query_id).ok_or_else(damaged)?,
            started_unix_ms: self.started_unix_ms,
            scan_bytes: u64::try_from(self.scan_bytes).unwrap_or(0),
            result_bytes: u64::try_from(self.result_bytes).unwrap_or(0),
            statement_id: self.statement_id,
        })
    }
}

macro_rules! impl_query_history {
    ($store:ty, $database:ty) => {
        #[async_trait::async_trait]
        impl flightpath_querylog::QueryHistory for $store {
            async fn read_page(
                &self,
                request: &flightpath_querylog::PageRequest<'_>,
            ) -> flightpath_types::Result<Vec<flightpath_types::QueryRecord>> {
                let filter = request.filter;
                let columns = crate::rows::query_columns(request.parts);
                let mut select = sqlx::QueryBuilder::<$database>::new(format!("SELECT {columns} FROM queries WHERE 1 = 1"));
                if let Some(principal) = &filter.principal {
                    select.push(" AND principal = ").push_bind(principal.clone());
                }
                if let Some(from) = filter.from_unix_ms {
                    select.push(" AND started_unix_ms >= ").push_bind(from);
                }
                if let Some(until) = filter.until_unix_ms {
                    select.push(" AND started_unix_ms < ").push_bind(until);
                }
                if let Some(engine) = &filter.engine {
                    select.push(" AND engine = ").push_bind(engine.to_string());
                }
                if let Some(fingerprint) = filter.fingerprint {
                    select.push(" AND fingerprint = ").push_bind(fingerprint.to_string());
                }
                if let Some(outcome) = filter.outcome {
                    select.push(" AND outcome = ").push_bind(outcome.as_str());
                }
                if let Some(tag) = &filter.tag {
                    select.push(" AND tag = ").push_bind(tag.clone());
                }
                if let Some(query_id) = filter.query_id {
                    select.push(" AND query_id = ").push_bind(query_id.to_string());
                }
                let (behind, order) = if request.oldest_first { (">", "ASC") } else { ("<", "DESC") };
                if let Some(after) = request.after {
                    select.push(format!(" AND (started_unix_ms, query_id) {behind} (")).push_bind(after.started_unix_ms);
                    select.push(", ").push_bind(after.query_id.to_string()).push(")");
                }
                select.push(format!(" ORDER BY started_unix_ms {order}, query_id {order} LIMIT "));
                select.push_bind(i64::try_from(request.limit).unwrap_or(i64::MAX));
                let rows: Vec<crate::rows::QueryRow> = ask!(self.readers, "reading", fetch_all, select.build_query_as());
                rows.into_iter().map(crate::rows::QueryRow::into_record).collect()
            }

            async fn query(
                &self,
                query_id: flightpath_types::QueryId,
                principal: Option<&str>,
            ) -> flightpath_types::Result<Option<flightpath_types::QueryRecord>> {
                let columns = crate::rows::query_columns(flightpath_querylog::RecordParts::ALL);
                let mut select = sqlx::QueryBuilder::<$database>::new(format!("SELECT {columns} FROM queries WHERE query_id = "));
                select.push_bind(query_id.to_string());
                if let Some(principal) = principal {
                    select.push(" AND principal = ").push_bind(principal.to_string());
                }
                let row: Option<crate::rows::QueryRow> = ask!(self.readers, "reading", fetch_optional, select.build_query_as());
                row.map(crate::rows::QueryRow::into_record).transpose()
            }

            async fn savings(
                &self,
                principal: Option<&str>,
                since_unix_ms: i64,
                baseline: &flightpath_querylog::Baseline,
            ) -> flightpath_types::Result<Vec<flightpath_querylog::DaySavings>> {
                let mut select = sqlx::QueryBuilder::<$database>::new(crate::history::SAVINGS_SPANS);
                select.push_bind(since_unix_ms);
                // A query adds its run and the idle tail where the warehouse slept; where it's up, what it
                // moves the end of the last run by.
                select.push(
                    ") SELECT started_unix_ms / 86400000 AS day, COUNT(*) AS queries, SUM(usd) AS usd, \
                     SUM(CASE WHEN up_until IS NULL OR started_unix_ms - up_until > ",
                );
                select.push_bind(baseline.auto_stop_ms).push(" THEN ended - started_unix_ms + ").push_bind(baseline.auto_stop_ms);
                select.push(
                    " WHEN ended > up_until THEN ended - up_until ELSE 0.0 END) AS up_ms, \
                     SUM(CAST(read_bytes AS DOUBLE PRECISION)) AS read_bytes, \
                     SUM(CAST(result_bytes AS DOUBLE PRECISION)) AS sent_bytes FROM spans",
                );
                if let Some(principal) = principal {
                    select.push(" WHERE principal = ").push_bind(principal.to_string());
                }
                select.push(" GROUP BY started_unix_ms / 86400000 ORDER BY 1 DESC");
                let rows: Vec<crate::history::SavingsRow> = ask!(self.readers, "reading", fetch_all, select.build_query_as());
                Ok(rows.into_iter().map(|row| row.into_savings(baseline)).collect())
            }

            async fn spending(&self, day: i64) -> flightpath_types::Result<Vec<(String, f64)>> {
                let mut select = sqlx::QueryBuilder::<$database>::new("SELECT profile, usd FROM spending WHERE day = ");
                select.push_bind(day);
                Ok(ask!(self.readers, "reading", fetch_all, select.build_query_as()))
            }

            async fn unreconciled(
                &self,
                from_unix_ms: i64,
                until_unix_ms: i64,
                limit: usize,
            ) -> flightpath_types::Result<Vec<flightpath_querylog::Unreconciled>> {
                // The engine stands in the text, so that the partial index fits.
                let mut select = sqlx::QueryBuilder::<$database>::new(
                    "SELECT query_id, started_unix_ms, COALESCE(predicted_bytes, 0) AS scan_bytes, result_bytes, statement_id FROM queries \
                     WHERE reconciled_unix_ms IS NULL AND engine = 'databricks' AND started_unix_ms >= ",
                );
                select.push_bind(from_unix_ms).push(" AND started_unix_ms < ").push_bind(until_unix_ms);
                select.push(" ORDER BY started_unix_ms LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
                let rows: Vec<crate::history::UnreconciledRow> = ask!(self.readers, "reading", fetch_all, select.build_query_as());
                rows.into_iter().map(crate::history::UnreconciledRow::into_unreconciled).collect()
            }

            async fn record_costs(&self, costs: &[flightpath_querylog::Cost]) -> flightpath_types::Result<u64> {
                let failed = |e: sqlx::Error| crate::database_error("writing", &e);
                let mut lease = crate::lease::Lease::of(&self.pool).await.map_err(failed)?;
                let written: Result<u64, sqlx::Error> = async {
                    let mut transaction = sqlx::Connection::begin(&mut *lease).await?;
                    let mut noted = 0;
                    let now = crate::rows::now_unix_ms();
                    let mut spending = crate::spending::Spending::default();
                    for cost in costs {
                        let mut update = sqlx::QueryBuilder::<$database>::new("UPDATE queries SET warehouse_ms = ");
                        update.push_bind(cost.warehouse_ms).push(", reconciled_unix_ms = ").push_bind(now);
                        update.push(", read_bytes = ").push_bind(cost.read_bytes.map(crate::rows::signed));
                        update.push(" WHERE query_id = ").push_bind(cost.query_id.to_string());
                        update.push(
                            " RETURNING started_unix_ms, CASE WHEN engine IS NULL THEN NULL ELSE profile END, \
                             CAST(COALESCE(usd_actual, predicted_usd, 0.0) AS DOUBLE PRECISION)",
                        );
                        // SQLite stores whole numbers as integers, and only a column's own type says what they are.
                        // The row is this transaction's from here on: nobody else changes what it cost before.
                        let before: Option<(i64, Option<String>, f64)> = update.build_query_as().fetch_optional(&mut *transaction).await?;
                        let Some((started_unix_ms, profile, usd_before)) = before else { continue };
                        noted += 1;
                        let Some(usd) = cost.usd else { continue };
                        let mut update = sqlx::QueryBuilder::<$database>::new("UPDATE queries SET usd_actual = ");
                        update.push_bind(usd).push(" WHERE query_id = ").push_bind(cost.query_id.to_string());
                        update.build().execute(&mut *transaction).await?;
                        if let Some(profile) = profile {
                            spending.add(started_unix_ms, profile, usd - usd_before);
                        }
                    }
                    add_spending!($database, transaction, spending);
                    transaction.commit().await?;
                    Ok(noted)
                }
                .await;
                let noted = written.map_err(failed)?;
                lease.give_back();
                Ok(noted)
            }

            async fn delete_before(&self, unix_ms: i64, limit: usize) -> flightpath_types::Result<u64> {
                let failed = |e: sqlx::Error| crate::database_error("deleting", &e);
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let mut lease = crate::lease::Lease::of(&self.pool).await.map_err(failed)?;
                let written: flightpath_types::Result<u64> = async {
                    let mut transaction = sqlx::Connection::begin(&mut *lease).await.map_err(failed)?;
                    if let Some(statement) = Self::MORE_TIME {
                        sqlx::QueryBuilder::<$database>::new(statement).build().execute(&mut *transaction).await.map_err(failed)?;
                    }
                    // Candidates go with their queries.
                    let mut queries = sqlx::QueryBuilder::<$database>::new(
                        "DELETE FROM queries WHERE query_id IN (SELECT query_id FROM queries WHERE started_unix_ms < ",
                    );
                    queries.push_bind(unix_ms).push(" ORDER BY started_unix_ms LIMIT ").push_bind(limit).push(")");
                    let mut deleted = queries.build().execute(&mut *transaction).await.map_err(failed)?.rows_affected();
                    let mut runs = sqlx::QueryBuilder::<$database>::new(
                        "DELETE FROM shadow_runs WHERE (query_id, shadow_engine) IN \
                     (SELECT query_id, shadow_engine FROM shadow_runs WHERE ended_unix_ms < ",
                    );
                    runs.push_bind(unix_ms).push(" ORDER BY ended_unix_ms LIMIT ").push_bind(limit).push(")");
                    deleted += runs.build().execute(&mut *transaction).await.map_err(failed)?.rows_affected();
                    let mut days = sqlx::QueryBuilder::<$database>::new("DELETE FROM spending WHERE day < ");
                    days.push_bind(unix_ms.div_euclid(86_400_000));
                    days.build().execute(&mut *transaction).await.map_err(failed)?;
                    transaction.commit().await.map_err(failed)?;
                    Ok(deleted)
                }
                .await;
                let deleted = written?;
                lease.give_back();
                Ok(deleted)
            }
        }
    };
}
