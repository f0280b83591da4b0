//! Read credentials as Unity Catalog vends them. Short-lived, for one table and one principal; the
//! secrets live in types that print nothing.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use flightpath_catalog::{CloudLocation, StorageAccess, StorageCredentials, StorageKeys, TableName, TableStore};
use flightpath_types::{Error, Principal, Result};
use secrecy::SecretString;
use serde_json::Value;

use crate::catalog::Inner;

/// The credentials in an answer; the error says what is wrong with it and never repeats a value.
pub(crate) fn read(answer: &Value, now: SystemTime) -> Result<StorageCredentials, String> {
    let expires_ms = answer.get("expiration_time").and_then(Value::as_u64).ok_or("the answer has no time of expiry")?;
    let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(expires_ms)).ok_or("the time of expiry is out of range")?;
    if expires <= now {
        return Err("the credentials are out of date already".into());
    }
    let url = answer.get("url").and_then(Value::as_str).unwrap_or_default().to_string();
    Ok(StorageCredentials { url, expires, keys: keys(answer)? })
}

fn keys(answer: &Value) -> Result<StorageKeys, String> {
    let part = |kind: &str| answer.get(kind).filter(|part| !part.is_null());
    let text = |part: &Value, field: &str| {
        part.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_string).ok_or("the credentials aren't complete")
    };
    let secret = |part: &Value, field: &str| text(part, field).map(SecretString::from);
    if let Some(aws) = part("aws_temp_credentials") {
        return Ok(StorageKeys::Aws {
            access_key_id: text(aws, "access_key_id")?,
            secret_access_key: secret(aws, "secret_access_key")?,
            session_token: secret(aws, "session_token")?,
        });
    }
    if let Some(azure) = part("azure_user_delegation_sas") {
        return Ok(StorageKeys::AzureSas(secret(azure, "sas_token")?));
    }
    if let Some(gcp) = part("gcp_oauth_token") {
        return Ok(StorageKeys::GcpOauth(secret(gcp, "oauth_token")?));
    }
    if let Some(r2) = part("r2_temp_credentials") {
        return Ok(StorageKeys::R2 {
            access_key_id: text(r2, "access_key_id")?,
            secret_access_key: secret(r2, "secret_access_key")?,
            session_token: secret(r2, "session_token")?,
        });
    }
    Err("the credentials are of an unknown kind".into())
}

/// Credentials for one table in the name of one principal, as long as it stays free for them.
#[derive(Clone)]
pub(crate) struct Vended {
    pub catalog: Weak<Inner>,
    pub principal: Principal,
    pub name: TableName,
    /// Where its files lie, if that's in cloud storage.
    pub cloud: Option<Arc<CloudLocation>>,
}

#[async_trait]
impl StorageAccess for Vended {
    async fn credentials(&self) -> Result<StorageCredentials> {
        let catalog = self.catalog.upgrade().ok_or_else(|| Error::unavailable("the catalog is shutting down"))?;
        catalog.credentials(&self.principal, &self.name).await
    }

    fn store(&self) -> Result<Option<TableStore>> {
        let Some(location) = &self.cloud else { return Ok(None) };
        let catalog = self.catalog.upgrade().ok_or_else(|| Error::unavailable("the catalog is shutting down"))?;
        catalog.stores.open(location, Arc::new(self.clone())).map(Some)
    }
}

impl fmt::Debug for Vended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vended({} for {})", self.name, self.principal)
    }
}
