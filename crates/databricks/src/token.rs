//! The token each call is made with. Fetched tokens are kept per identity, renewed before they
//! expire, and fetched once however many calls wait for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flightpath_types::{Error, ErrorKind};
use moka::Expiry;
use moka::future::Cache;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::config::{Auth, ClientConfig, Identity};
use crate::error::ApiError;
use crate::oauth::{Fetched, OAuth};

pub(crate) struct Tokens {
    auth: Auth,
    oauth: OAuth,
    cache: Cache<Key, Fetched>,
}

/// Whose token it is. The user's own token is part of it, so that a name alone never gets another's.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    /// One service principal for all.
    Service,
    User {
        principal: Arc<str>,
        token_digest: [u8; 32],
    },
}

struct Lifetime {
    renew_before: Duration,
}

impl Expiry<Key, Fetched> for Lifetime {
    fn expire_after_create(&self, _: &Key, token: &Fetched, _: Instant) -> Option<Duration> {
        // A token that hardly lives longer than the margin is used for half its life.
        Some(token.expires_in.saturating_sub(self.renew_before).max(token.expires_in / 2))
    }
}

impl Tokens {
    pub(crate) fn new(config: &ClientConfig, http: reqwest::Client) -> Self {
        Self {
            auth: config.auth.clone(),
            oauth: OAuth::new(config, http),
            cache: Cache::builder()
                .max_capacity(config.tokens_max)
                .expire_after(Lifetime { renew_before: config.token_renew_before })
                .build(),
        }
    }

    /// Whether tokens are fetched, and so can be fetched anew.
    pub(crate) fn are_fetched(&self) -> bool {
        match self.auth {
            Auth::OAuthM2m { .. } | Auth::AzureServicePrincipal { .. } | Auth::TokenExchange => true,
            Auth::Pat(_) | Auth::PassThrough => false,
        }
    }

    pub(crate) async fn bearer(&self, who: &Identity, deadline: Option<Instant>) -> Result<SecretString, ApiError> {
        match &self.auth {
            Auth::Pat(token) => return Ok(token.clone()),
            Auth::PassThrough => return own_token(who).cloned(),
            Auth::OAuthM2m { .. } | Auth::AzureServicePrincipal { .. } | Auth::TokenExchange => {}
        }
        let key = self.key(who)?;
        let fetch = self.cache.try_get_with(key, self.oauth.fetch(&self.auth, who));
        let fetched = match deadline {
            None => fetch.await,
            // Whoever else waits takes the fetching over when this caller's time is up.
            Some(deadline) => tokio::time::timeout_at(deadline.into(), fetch).await.map_err(|_| {
                ApiError::not_sent(Error::new(ErrorKind::DeadlineExceeded, "no time was left to get a token for Databricks"))
            })?,
        };
        fetched.map(|fetched| fetched.token).map_err(|failed: Arc<ApiError>| {
            // Of the call nothing was sent, and trying again has been done already.
            ApiError::not_sent(failed.as_error().clone())
        })
    }

    /// Drops what is kept for an identity: its token was refused.
    pub(crate) async fn forget(&self, who: &Identity) {
        if self.are_fetched()
            && let Ok(key) = self.key(who)
        {
            self.cache.invalidate(&key).await;
        }
    }

    fn key(&self, who: &Identity) -> Result<Key, ApiError> {
        if !self.auth.is_per_user() {
            return Ok(Key::Service);
        }
        let token = own_token(who)?;
        let token_digest = Sha256::digest(token.expose_secret().as_bytes()).into();
        Ok(Key::User { principal: Arc::from(who.principal.as_str()), token_digest })
    }
}

/// What the user sent to prove who they are.
pub(crate) fn own_token(who: &Identity) -> Result<&SecretString, ApiError> {
    who.token.as_ref().ok_or_else(|| {
        let message = "Databricks is called as the user, and this connection has brought no token of the user's";
        ApiError::not_sent(Error::new(ErrorKind::Unauthenticated, message))
    })
}
