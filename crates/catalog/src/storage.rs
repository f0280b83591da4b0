//! Where a table lives and how its files may be read. Credentials are short-lived, for one table
//! and one principal, and never appear in a log, an error or a `Debug` output.

use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;
use flightpath_types::Result;
use secrecy::SecretString;

use crate::TableStore;

/// Which system a table belongs to: who is asked about it, and who may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Home {
    /// This machine's folders, or this program itself.
    Local,
    /// A Databricks workspace, whose warehouses know the table by the same name.
    Databricks,
}

/// Hands out credentials for the files of one snapshot, for the principal that the snapshot was
/// made for and nobody else.
#[async_trait]
pub trait StorageAccess: Send + Sync + fmt::Debug {
    /// Credentials that allow reading only and live for a while yet. `PermissionDenied` when the
    /// table has come under rules since the snapshot was pinned.
    async fn credentials(&self) -> Result<StorageCredentials>;

    /// A store for this table's files, made for one use and dropped after it; `None` where they lie
    /// in this machine's folders.
    fn store(&self) -> Result<Option<TableStore>> {
        Ok(None)
    }
}

/// What opens one table's files, for reading.
#[derive(Debug, Clone)]
pub struct StorageCredentials {
    /// The root that they are good for: `s3://bucket/path`, `abfss://...`, `gs://...`, `file:///...`.
    pub url: String,
    pub expires: SystemTime,
    pub keys: StorageKeys,
}

/// The secret parts, by store. `Debug` shows the kind alone.
#[derive(Clone)]
pub enum StorageKeys {
    Aws {
        access_key_id: String,
        secret_access_key: SecretString,
        session_token: SecretString,
    },
    AzureSas(SecretString),
    GcpOauth(SecretString),
    /// Cloudflare R2: signs like S3.
    R2 {
        access_key_id: String,
        secret_access_key: SecretString,
        session_token: SecretString,
    },
}

impl fmt::Debug for StorageKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StorageKeys::Aws { .. } => "Aws(..)",
            StorageKeys::AzureSas(_) => "AzureSas(..)",
            StorageKeys::GcpOauth(_) => "GcpOauth(..)",
            StorageKeys::R2 { .. } => "R2(..)",
        })
    }
}
