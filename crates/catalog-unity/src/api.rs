//! The calls that this catalog makes, over Databricks' REST client. Every call is made in the name
//! of one principal; which credential that means is for [`Identities`] to say.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use flightpath_databricks::{Client, Idempotency, Identity};
use flightpath_types::{Principal, Result};
use serde_json::{Value, json};

pub(crate) const ROOT: &str = "/api/2.1/unity-catalog";
/// The user that a call is made as, by SCIM.
const ME_PATH: &str = "/api/2.0/preview/scim/v2/Me";

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

    /// Names of the groups that the principal is in.
    async fn groups(&self, principal: &Principal, deadline: Instant) -> Result<Vec<String>>;

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

    async fn groups(&self, principal: &Principal, deadline: Instant) -> Result<Vec<String>> {
        let identity = self.identities.identity(principal);
        let me: Value = self.client.get(&identity, ME_PATH, &[], Some(deadline)).await?;
        // Whose token it was matters: another's groups say nothing of this principal's rights.
        let wanted = self.identities.databricks_name(principal);
        if !me["userName"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(&wanted)) {
            return Ok(Vec::new());
        }
        let groups = me["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(groups.iter().filter_map(|group| group["display"].as_str().map(str::to_string)).collect())
    }

    fn databricks_name(&self, principal: &Principal) -> String {
        self.identities.databricks_name(principal)
    }
}
