//! Named blobs, written once for both databases as in `store.rs`.

macro_rules! impl_model_store {
    ($store:ty, $database:ty) => {
        #[async_trait::async_trait]
        impl flightpath_querylog::ModelStore for $store {
            async fn load(&self, name: &str) -> flightpath_types::Result<Option<flightpath_querylog::KeptModel>> {
                let mut select = sqlx::QueryBuilder::<$database>::new("SELECT contents, revision FROM models WHERE name = ");
                select.push_bind(name.to_string());
                let row: Option<(Vec<u8>, i64)> = ask!(self.readers, "reading", fetch_optional, select.build_query_as());
                Ok(row.map(|(contents, revision)| flightpath_querylog::KeptModel { contents, revision: revision.unsigned_abs() }))
            }

            async fn revision(&self, name: &str) -> flightpath_types::Result<Option<u64>> {
                let mut select = sqlx::QueryBuilder::<$database>::new("SELECT revision FROM models WHERE name = ");
                select.push_bind(name.to_string());
                let row: Option<(i64,)> = ask!(self.readers, "reading", fetch_optional, select.build_query_as());
                Ok(row.map(|(revision,)| revision.unsigned_abs()))
            }

            async fn save(&self, name: &str, contents: &[u8], replaces: Option<u64>) -> flightpath_types::Result<Option<u64>> {
                let most = flightpath_querylog::MODEL_BYTES_MAX;
                if contents.len() > most {
                    return Err(flightpath_types::Error::new(
                        flightpath_types::ErrorKind::ResourceExhausted,
                        format!("model `{name}` has {} bytes; at most {most} are kept", contents.len()),
                    ));
                }
                let revision = replaces.map_or(1, |replaced| replaced.saturating_add(1));
                let signed = crate::rows::signed;
                let mut write = sqlx::QueryBuilder::<$database>::new("");
                match replaces {
                    None => {
                        write.push("INSERT INTO models (name, saved_unix_ms, contents, revision) VALUES (").push_bind(name.to_string());
                        write.push(", ").push_bind(crate::rows::now_unix_ms()).push(", ").push_bind(contents.to_vec());
                        write.push(", ").push_bind(signed(revision)).push(") ON CONFLICT (name) DO NOTHING");
                    }
                    Some(replaced) => {
                        write.push("UPDATE models SET saved_unix_ms = ").push_bind(crate::rows::now_unix_ms());
                        write.push(", contents = ").push_bind(contents.to_vec()).push(", revision = ").push_bind(signed(revision));
                        write.push(" WHERE name = ").push_bind(name.to_string()).push(" AND revision = ").push_bind(signed(replaced));
                    }
                }
                let written = ask!(self.pool, "writing", execute, write.build());
                Ok((written.rows_affected() > 0).then_some(revision))
            }
        }
    };
}
