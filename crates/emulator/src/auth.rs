//! Who asks: personal access tokens and tokens that the OAuth endpoint issued. Never prints one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use flightpath_types::Principal;
use parking_lot::RwLock;
use uuid::Uuid;

use crate::config::{OauthClient, PrincipalConfig};
use crate::wire::ApiError;

/// A principal of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub name: String,
    pub groups: Vec<String>,
    pub admin: bool,
    pub monitor: bool,
}

pub(crate) struct Accounts {
    principals: Vec<PrincipalConfig>,
    clients: Vec<OauthClient>,
    /// Tokens issued by OAuth: whose, and until when.
    issued: RwLock<HashMap<String, (String, Instant)>>,
    revoked: RwLock<Vec<String>>,
}

impl Accounts {
    pub fn new(principals: Vec<PrincipalConfig>, clients: Vec<OauthClient>) -> Self {
        Self { principals, clients, issued: RwLock::default(), revoked: RwLock::default() }
    }

    /// The user behind a name; one that isn't known is in no group and holds nothing of its own.
    pub fn user(&self, principal: &Principal) -> User {
        self.named(principal.as_str()).unwrap_or_else(|| User {
            name: principal.to_string(),
            groups: Vec::new(),
            admin: false,
            monitor: false,
        })
    }

    fn named(&self, name: &str) -> Option<User> {
        let found = self.principals.iter().find(|p| p.name == name)?;
        Some(User { name: found.name.clone(), groups: found.groups.clone(), admin: found.admin, monitor: found.monitor })
    }

    pub fn authenticate(&self, headers: &HeaderMap) -> Result<User, ApiError> {
        let value = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let Some(token) = value.and_then(|v| v.strip_prefix("Bearer ")) else {
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "UNAUTHENTICATED",
                "Credential was not sent or was of an unsupported type.",
            ));
        };
        let token = token.trim();
        if !self.revoked.read().iter().any(|t| t == token) {
            if let Some(owner) = self.principals.iter().find(|p| p.tokens.iter().any(|t| t == token)) {
                return self.named(&owner.name).ok_or_else(invalid_token);
            }
            match self.issued.read().get(token) {
                Some((name, until)) if *until > Instant::now() => return self.named(name).ok_or_else(invalid_token),
                Some(_) => return Err(ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "The access token has expired.")),
                None => {}
            }
        }
        Err(invalid_token())
    }

    pub fn revoke(&self, token: &str) {
        self.revoked.write().push(token.to_string());
    }

    pub fn client(&self, id: &str, secret: &str) -> Option<&str> {
        let client = self.clients.iter().find(|c| c.client_id == id && c.client_secret == secret)?;
        Some(&client.principal)
    }

    /// The principal whose name or subject a JWT's `sub` is.
    pub fn subject(&self, subject: &str) -> Option<&str> {
        let found = self.principals.iter().find(|p| p.name == subject || p.subjects.iter().any(|s| s == subject))?;
        Some(&found.name)
    }

    pub fn issue(&self, principal: &str, lifetime: Duration) -> String {
        let token = format!("simulated-oauth-{}", Uuid::new_v4().simple());
        self.issued.write().insert(token.clone(), (principal.to_string(), Instant::now() + lifetime));
        token
    }
}

fn invalid_token() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", "Invalid access token.")
}
