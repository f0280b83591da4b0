//! Writing and reading, once for both databases: sqlx has no trait that would let a function say it.

macro_rules! impl_log_store {
    ($store:ty, $database:ty) => {
        #[async_trait::async_trait]
        impl flightpath_querylog::LogStore for $store {
            async fn append(&self, records: &[flightpath_types::QueryRecord]) -> flightpath_types::Result<()> {
                self.insert(records).await.map_err(|e| match e {
                    crate::InsertError::Record(e) => e,
                    crate::InsertError::Database(e) => crate::database_error("writing", &e),
                })
            }

            async fn queries(&self, principal: Option<&str>, limit: usize) -> flightpath_types::Result<Vec<flightpath_types::QueryRecord>> {
                let columns = crate::rows::query_columns(flightpath_querylog::RecordParts::ALL);
                let mut select = sqlx::QueryBuilder::<$database>::new(format!("SELECT {columns} FROM queries"));
                if let Some(principal) = principal {
                    select.push(" WHERE principal = ").push_bind(principal.to_string());
                }
                select.push(" ORDER BY started_unix_ms DESC, query_id DESC LIMIT ");
                select.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
                let rows: Vec<crate::rows::QueryRow> = ask!(self.readers, "reading", fetch_all, select.build_query_as());
                rows.into_iter().map(crate::rows::QueryRow::into_record).collect()
            }

            async fn candidates(&self, limit: usize) -> flightpath_types::Result<Vec<flightpath_types::CandidateRecord>> {
                // Query ids are version 7 UUIDs: their order is the order of time.
                let mut select = sqlx::QueryBuilder::<$database>::new(format!(
                    "SELECT {} FROM candidates ORDER BY query_id DESC, position LIMIT ",
                    crate::rows::CANDIDATE_COLUMNS
                ));
                select.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
                let rows: Vec<crate::rows::CandidateRow> = ask!(self.readers, "reading", fetch_all, select.build_query_as());
                rows.into_iter().map(crate::rows::CandidateRow::into_record).collect()
            }
        }
    };
}
