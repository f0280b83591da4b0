//! Shadow runs and the quarantine, written once for both databases as in `store.rs`.

use flightpath_types::{EngineId, Error, Fingerprint, Quarantined, QueryId, Result, ShadowOutcome, ShadowRun};

pub(crate) const RUN_COLUMNS: &str =
    "query_id, ended_unix_ms, fingerprint, principal, engine, digest, shadow_engine, shadow_digest, outcome, detail";

pub(crate) const QUARANTINE_COLUMNS: &str = "fingerprint, engine, since_unix_ms, query_id, reason";

#[derive(sqlx::FromRow)]
pub(crate) struct RunRow {
    query_id: String,
    ended_unix_ms: i64,
    fingerprint: String,
    principal: String,
    engine: String,
    digest: String,
    shadow_engine: String,
    shadow_digest: String,
    outcome: String,
    detail: String,
}

#[derive(sqlx::FromRow)]
pub(crate) struct QuarantineRow {
    fingerprint: String,
    engine: String,
    since_unix_ms: i64,
    query_id: String,
    reason: String,
}

fn unreadable(what: &str) -> Error {
    Error::internal(format!("query log: a row of the shadow tables has an unreadable {what}"))
}

fn fingerprint(text: &str) -> Result<Fingerprint> {
    u64::from_str_radix(text, 16).map(Fingerprint::from_u64).map_err(|_| unreadable("fingerprint"))
}

fn query_id(text: &str) -> Result<QueryId> {
    QueryId::parse(text).ok_or_else(|| unreadable("query id"))
}

impl RunRow {
    pub fn into_run(self) -> Result<ShadowRun> {
        Ok(ShadowRun {
            query_id: query_id(&self.query_id)?,
            ended_unix_ms: self.ended_unix_ms,
            fingerprint: fingerprint(&self.fingerprint)?,
            principal: self.principal,
            engine: EngineId::new(self.engine),
            digest: self.digest,
            shadow_engine: EngineId::new(self.shadow_engine),
            shadow_digest: self.shadow_digest,
            outcome: ShadowOutcome::parse(&self.outcome).ok_or_else(|| unreadable("outcome"))?,
            detail: self.detail,
        })
    }
}

impl QuarantineRow {
    pub fn into_entry(self) -> Result<Quarantined> {
        Ok(Quarantined {
            fingerprint: fingerprint(&self.fingerprint)?,
            engine: EngineId::new(self.engine),
            since_unix_ms: self.since_unix_ms,
            query_id: query_id(&self.query_id)?,
            reason: self.reason,
        })
    }
}

macro_rules! impl_shadow_log {
    ($store:ty, $database:ty) => {
        #[async_trait::async_trait]
        impl flightpath_querylog::ShadowLog for $store {
            async fn append_shadow(&self, run: &flightpath_types::ShadowRun) -> flightpath_types::Result<()> {
                use crate::rows::storable;
                let columns = crate::shadow::RUN_COLUMNS;
                let mut insert = sqlx::QueryBuilder::<$database>::new(format!("INSERT INTO shadow_runs ({columns}) "));
                insert.push_values([run], |mut row, r| {
                    row.push_bind(r.query_id.to_string())
                        .push_bind(r.ended_unix_ms)
                        .push_bind(r.fingerprint.to_string())
                        .push_bind(storable(&r.principal))
                        .push_bind(storable(r.engine.as_str()))
                        .push_bind(storable(&r.digest))
                        .push_bind(storable(r.shadow_engine.as_str()))
                        .push_bind(storable(&r.shadow_digest))
                        .push_bind(r.outcome.as_str())
                        .push_bind(storable(&r.detail));
                });
                insert.push(" ON CONFLICT DO NOTHING");
                ask!(self.pool, "writing", execute, insert.build());
                Ok(())
            }

            async fn shadow_runs(
                &self,
                filter: &flightpath_querylog::ShadowFilter,
                after: Option<&flightpath_querylog::ShadowKey>,
                limit: usize,
            ) -> flightpath_types::Result<Vec<flightpath_types::ShadowRun>> {
                let columns = crate::shadow::RUN_COLUMNS;
                let mut select = sqlx::QueryBuilder::<$database>::new(format!("SELECT {columns} FROM shadow_runs WHERE 1 = 1"));
                if let Some(principal) = &filter.principal {
                    select.push(" AND principal = ").push_bind(principal.clone());
                }
                if let Some(from) = filter.from_unix_ms {
                    select.push(" AND ended_unix_ms >= ").push_bind(from);
                }
                if let Some(until) = filter.until_unix_ms {
                    select.push(" AND ended_unix_ms < ").push_bind(until);
                }
                if let Some(fingerprint) = filter.fingerprint {
                    select.push(" AND fingerprint = ").push_bind(fingerprint.to_string());
                }
                if let Some(query_id) = filter.query_id {
                    select.push(" AND query_id = ").push_bind(query_id.to_string());
                }
                if let Some(outcome) = filter.outcome {
                    select.push(" AND outcome = ").push_bind(outcome.as_str());
                }
                if let Some(after) = after {
                    select.push(" AND (ended_unix_ms, query_id, shadow_engine) < (").push_bind(after.ended_unix_ms);
                    select.push(", ").push_bind(after.query_id.to_string());
                    select.push(", ").push_bind(after.shadow_engine.to_string()).push(")");
                }
                select.push(" ORDER BY ended_unix_ms DESC, query_id DESC, shadow_engine DESC LIMIT ");
                select.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
                let rows: Vec<crate::shadow::RunRow> = ask!(self.readers, "reading", fetch_all, select.build_query_as());
                rows.into_iter().map(crate::shadow::RunRow::into_run).collect()
            }

            async fn quarantine(&self) -> flightpath_types::Result<Vec<flightpath_types::Quarantined>> {
                let columns = crate::shadow::QUARANTINE_COLUMNS;
                let mut select = sqlx::QueryBuilder::<$database>::new(format!("SELECT {columns} FROM quarantine ORDER BY since_unix_ms"));
                let rows: Vec<crate::shadow::QuarantineRow> = ask!(self.readers, "reading", fetch_all, select.build_query_as());
                rows.into_iter().map(crate::shadow::QuarantineRow::into_entry).collect()
            }

            async fn add_quarantine(&self, entry: &flightpath_types::Quarantined) -> flightpath_types::Result<()> {
                use crate::rows::storable;
                let columns = crate::shadow::QUARANTINE_COLUMNS;
                let mut insert = sqlx::QueryBuilder::<$database>::new(format!("INSERT INTO quarantine ({columns}) "));
                insert.push_values([entry], |mut row, e| {
                    row.push_bind(e.fingerprint.to_string())
                        .push_bind(storable(e.engine.as_str()))
                        .push_bind(e.since_unix_ms)
                        .push_bind(e.query_id.to_string())
                        .push_bind(storable(&e.reason));
                });
                insert.push(" ON CONFLICT DO NOTHING");
                ask!(self.pool, "writing", execute, insert.build());
                Ok(())
            }

            async fn lift_quarantine(
                &self,
                fingerprint: flightpath_types::Fingerprint,
                engine: Option<&flightpath_types::EngineId>,
            ) -> flightpath_types::Result<u64> {
                let mut delete = sqlx::QueryBuilder::<$database>::new("DELETE FROM quarantine WHERE fingerprint = ");
                delete.push_bind(fingerprint.to_string());
                if let Some(engine) = engine {
                    delete.push(" AND engine = ").push_bind(engine.to_string());
                }
                let done = ask!(self.pool, "writing", execute, delete.build());
                Ok(done.rows_affected())
            }
        }
    };
}
