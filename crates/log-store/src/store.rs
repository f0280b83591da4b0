//! Writing and reading, once for both databases: sqlx has no trait that would let a function say it.

/// Rows per INSERT: 37 columns each, under both databases' limits of bound parameters.
pub(crate) const ROWS_PER_INSERT: usize = 500;

macro_rules! impl_log_store {
    ($store:ty, $database:ty) => {
        #[async_trait::async_trait]
        impl flightpath_querylog::LogStore for $store {
            async fn append(&self, records: &[flightpath_types::QueryRecord]) -> flightpath_types::Result<()> {
                use crate::rows::{CANDIDATE_COLUMNS, FLAT_COLUMNS, QUERY_COLUMNS, json, signed, storable};
                let failed = |e: sqlx::Error| crate::database_error("writing", &e);
                let mut transaction = self.pool.begin().await.map_err(failed)?;
                for chunk in records.chunks(crate::store::ROWS_PER_INSERT) {
                    let rows: Vec<_> = chunk
                        .iter()
                        .map(|r| Ok((r, json(&r.features)?, r.decision.as_ref().map(json).transpose()?, json(&r.failovers)?)))
                        .collect::<flightpath_types::Result<_>>()?;
                    let mut insert =
                        sqlx::QueryBuilder::<$database>::new(format!("INSERT INTO queries ({QUERY_COLUMNS}, {FLAT_COLUMNS}) "));
                    insert.push_values(rows, |mut row, (r, features, decision, failovers)| {
                        let (predicted, databricks) = (r.predicted(), r.predicted_on(crate::history::DATABRICKS));
                        row.push_bind(r.query_id.to_string())
                            .push_bind(r.started_unix_ms)
                            .push_bind(storable(&r.text))
                            .push_bind(r.fingerprint.map(|f| f.to_string()))
                            .push_bind(storable(&r.statement_kind))
                            .push_bind(r.session_id.as_deref().map(storable))
                            .push_bind(storable(&r.principal))
                            .push_bind(storable(&r.catalog))
                            .push_bind(storable(&r.schema))
                            .push_bind(storable(&r.dialect))
                            .push_bind(r.profile.as_deref().map(storable))
                            .push_bind(r.tag.as_deref().map(storable))
                            .push_bind(r.engine.as_deref().map(storable))
                            .push_bind(r.outcome.as_str())
                            .push_bind(r.error_kind.map(|k| k.as_str()))
                            .push_bind(r.error_message.as_deref().map(storable))
                            .push_bind(r.plan_cache_hit)
                            .push_bind(signed(r.times.plan_us))
                            .push_bind(signed(r.times.decide_us))
                            .push_bind(signed(r.times.queue_us))
                            .push_bind(signed(r.times.first_batch_us))
                            .push_bind(signed(r.times.stream_us))
                            .push_bind(signed(r.times.total_us))
                            .push_bind(signed(r.rows))
                            .push_bind(signed(r.bytes))
                            .push_bind(features)
                            .push_bind(decision)
                            .push_bind(failovers)
                            .push_bind(r.usd_actual)
                            .push_bind(signed(r.times.engine_us))
                            .push_bind(predicted.map(|n| n.latency_ms))
                            .push_bind(predicted.map(|n| n.usd))
                            .push_bind(predicted.map(|n| signed(n.scan_bytes)))
                            .push_bind(predicted.map(|n| signed(n.memory_bytes)))
                            .push_bind(databricks.map(|n| n.latency_ms))
                            .push_bind(databricks.map(|n| n.usd))
                            .push_bind(predicted.map(|n| n.latency_p95_ms));
                    });
                    insert.push(" ON CONFLICT DO NOTHING");
                    insert.build().execute(&mut *transaction).await.map_err(failed)?;

                    let candidates: Vec<_> = chunk.iter().flat_map(|r| r.candidates().into_iter().enumerate()).collect();
                    for part in candidates.chunks(crate::store::ROWS_PER_INSERT) {
                        let mut insert = sqlx::QueryBuilder::<$database>::new(format!("INSERT INTO candidates ({CANDIDATE_COLUMNS}) "));
                        insert.push_values(part, |mut row, (position, c)| {
                            row.push_bind(c.query_id.to_string())
                                .push_bind(i32::try_from(*position).unwrap_or(i32::MAX))
                                .push_bind(storable(&c.engine))
                                .push_bind(c.eligible)
                                .push_bind(c.chosen)
                                .push_bind(c.rank.map(|rank| i32::try_from(rank).unwrap_or(i32::MAX)))
                                .push_bind(storable(&c.reason))
                                .push_bind(c.predicted_ms)
                                .push_bind(c.predicted_usd)
                                .push_bind(signed(c.predicted_bytes))
                                .push_bind(signed(c.predicted_memory_bytes))
                                .push_bind(c.predicted_p95_ms)
                                .push_bind(signed(c.predicted_memory_p95_bytes))
                                .push_bind(c.source.as_str())
                                .push_bind(i32::try_from(c.observations).unwrap_or(i32::MAX));
                        });
                        insert.push(" ON CONFLICT DO NOTHING");
                        insert.build().execute(&mut *transaction).await.map_err(failed)?;
                    }
                }
                transaction.commit().await.map_err(failed)
            }

            async fn queries(&self, principal: Option<&str>, limit: usize) -> flightpath_types::Result<Vec<flightpath_types::QueryRecord>> {
                let mut select = sqlx::QueryBuilder::<$database>::new(format!("SELECT {} FROM queries", crate::rows::QUERY_COLUMNS));
                if let Some(principal) = principal {
                    select.push(" WHERE principal = ").push_bind(principal.to_string());
                }
                select.push(" ORDER BY started_unix_ms DESC, query_id DESC LIMIT ");
                select.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
                let rows: Vec<crate::rows::QueryRow> =
                    select.build_query_as().fetch_all(&self.readers).await.map_err(|e| crate::database_error("reading", &e))?;
                rows.into_iter().map(crate::rows::QueryRow::into_record).collect()
            }

            async fn candidates(&self, limit: usize) -> flightpath_types::Result<Vec<flightpath_types::CandidateRecord>> {
                // Query ids are version 7 UUIDs: their order is the order of time.
                let mut select = sqlx::QueryBuilder::<$database>::new(format!(
                    "SELECT {} FROM candidates ORDER BY query_id DESC, position LIMIT ",
                    crate::rows::CANDIDATE_COLUMNS
                ));
                select.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
                let rows: Vec<crate::rows::CandidateRow> =
                    select.build_query_as().fetch_all(&self.readers).await.map_err(|e| crate::database_error("reading", &e))?;
                rows.into_iter().map(crate::rows::CandidateRow::into_record).collect()
            }
        }
    };
}
