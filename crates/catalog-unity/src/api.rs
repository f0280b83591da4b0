//! The calls that this catalog makes, over Databricks' REST client. Every call is made in the name
//! of one principal; which credential that means is for [`Identities`] to say.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use flightpath_databricks::{Client, Idempotency, Identity};
use flightpath_types::{Principal, Result};
use serde_json::{Value, json};

pub(crate) const ROOT: &str = "/api/2.1/unity-catalog";

/// Who a principal of this server is in Databricks.
pub trait Identities: Send + Sync {
    /// The credential to ask with: the user's own token where it is known, the service's otherwise.
    fn identity(&self, principal: &Principal) -> Identity;

    /// The name whose effective permissions decide.
    fn databricks_name(&self, principal: &Principal) -> String {
        principal.as_str().to_string()
    }
}

impl<F: Fn(&Principal) -> Identity + Send + Sync> Identities for F {
    fn identity(&self, principal: &Principal) -> Identity {
        self(principal)
    }
}

/// What is asked of Unity Catalog.
#[async_trait]
pub(crate) trait UnityApi: Send + Sync {
    /// `path` starts behind [`ROOT`].
    async fn get(&self, principal: &Principal, path: &str, query: &[(&str, String)], deadline: Instant) -> Result<Value>;

    /// Read credentials for one table.
    async fn vend(&self, principal: &Principal, table_id: &str, deadline: Instant) -> Result<Value>;

    fn databricks_name(&self, principal: &Principal) -> String;
}

pub(crate) struct ClientApi {
    pub client: Arc<Client>,
    pub identities: Arc<dyn Identities>,
}

#[async_trait]
impl UnityApi for ClientApi {
    async fn get(&self, principal: &Principal, path: &str, query: &[(&str, String)], deadline: Instant) -> Result<Value> {
        let identity = self.identities.identity(principal);
        self.client.get(&identity, &format!("{ROOT}{path}"), query, Some(deadline)).await
    }

    async fn vend(&self, principal: &Principal, table_id: &str, deadline: Instant) -> Result<Value> {
        let identity = self.identities.identity(principal);
        let body = json!({ "table_id": table_id, "operation": "READ" });
        let path = format!("{ROOT}/temporary-table-credentials");
        self.client.post(&identity, &path, &body, Idempotency::Safe, Some(deadline)).await
    }

    fn databricks_name(&self, principal: &Principal) -> String {
        self.identities.databricks_name(principal)
    }
}
