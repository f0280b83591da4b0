//! Named blobs, written once for both databases as in `store.rs`.

macro_rules! impl_model_store {
    ($store:ty, $database:ty) => {
        #[async_trait::async_trait]
        impl flightpath_querylog::ModelStore for $store {
            async fn load(&self, name: &str) -> flightpath_types::Result<Option<Vec<u8>>> {
                let mut select = sqlx::QueryBuilder::<$database>::new("SELECT contents FROM models WHERE name = ");
                select.push_bind(name.to_string());
                let row: Option<(Vec<u8>,)> =
                    select.build_query_as().fetch_optional(&self.readers).await.map_err(|e| crate::database_error("reading", &e))?;
                Ok(row.map(|(contents,)| contents))
            }

            async fn save(&self, name: &str, bytes: &[u8]) -> flightpath_types::Result<()> {
                let most = flightpath_querylog::MODEL_BYTES_MAX;
                if bytes.len() > most {
                    return Err(flightpath_types::Error::new(
                        flightpath_types::ErrorKind::ResourceExhausted,
                        format!("model `{name}` has {} bytes; at most {most} are kept", bytes.len()),
                    ));
                }
                let mut insert = sqlx::QueryBuilder::<$database>::new("INSERT INTO models (name, saved_unix_ms, contents) VALUES (");
                insert.push_bind(name.to_string()).push(", ").push_bind(crate::rows::now_unix_ms());
                insert.push(", ").push_bind(bytes.to_vec());
                insert.push(") ON CONFLICT (name) DO UPDATE SET saved_unix_ms = excluded.saved_unix_ms, contents = excluded.contents");
                insert.build().execute(&self.pool).await.map(|_| ()).map_err(|e| crate::database_error("writing", &e))
            }
        }
    };
}
