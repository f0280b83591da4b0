//! Who is asking. Credentials become a principal here or the call ends here; nothing downstream
//! ever sees a password or a token. Comparisons take the same time whether they match or not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use async_trait::async_trait;
use flightpath_types::{Error, ErrorKind, Principal, Result};
use hmac::{Hmac, KeyInit, Mac};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::config::Limits;

/// Turns credentials into a principal.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Whether a call without credentials is refused; if not, it is `anonymous`.
    fn required(&self) -> bool;
    /// `Unauthenticated` when user or password is wrong, without saying which.
    async fn password(&self, user: &str, password: &str) -> Result<Principal>;
    async fn bearer(&self, token: &str) -> Result<Principal>;
    /// Whether a session that this principal opened with a password goes on: the user is still there.
    fn knows(&self, _principal: &Principal) -> bool {
        true
    }
}

/// Everybody is `anonymous`, whatever they show: for a server on loopback.
#[derive(Debug, Default)]
pub struct NoAuthentication;

#[async_trait]
impl Authenticator for NoAuthentication {
    fn required(&self) -> bool {
        false
    }

    async fn password(&self, _user: &str, _password: &str) -> Result<Principal> {
        Ok(anonymous())
    }

    async fn bearer(&self, _token: &str) -> Result<Principal> {
        Ok(anonymous())
    }
}

pub(crate) fn anonymous() -> Principal {
    Principal::new("anonymous")
}

/// A user given by settings.
#[derive(Clone)]
pub struct StaticUser {
    pub name: String,
    /// `$argon2id$v=19$...`; without one the user can't log in by password.
    pub password_hash: Option<String>,
    /// Bearer tokens, each as it is sent or as `sha256:<64 hex digits>` of it.
    pub tokens: Vec<String>,
}

impl std::fmt::Debug for StaticUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Users, password hashes and tokens that were given by settings.
pub struct StaticUsers {
    hashes: HashMap<String, String>,
    /// Verified against for unknown users, so that they take as long as known ones.
    decoy_hash: Option<String>,
    tokens: Vec<([u8; 32], Principal)>,
    /// Argon2 takes tens of megabytes and milliseconds: only so many at once.
    hashing: Arc<Semaphore>,
    /// Passwords verified lately, by a keyed digest: clients may send Basic with every call.
    verified: Cache<[u8; 32], ()>,
    digest_key: [u8; 32],
}

impl StaticUsers {
    /// Checks every hash and token; the error names the user.
    pub fn new(users: &[StaticUser]) -> Result<Self> {
        let mut hashes = HashMap::new();
        let mut tokens = Vec::new();
        for user in users {
            if user.name.is_empty() || user.name.contains(':') {
                return Err(Error::invalid(format!("user name '{}' must not be empty or contain ':'", user.name)));
            }
            if let Some(hash) = &user.password_hash {
                PasswordHash::new(hash)
                    .map_err(|e| Error::invalid(format!("password hash of user '{}' isn't in PHC form: {e}", user.name)))?;
                if hashes.insert(user.name.clone(), hash.clone()).is_some() {
                    return Err(Error::invalid(format!("user '{}' is given twice", user.name)));
                }
            }
            for token in &user.tokens {
                tokens.push((token_digest(token, &user.name)?, Principal::new(&user.name)));
            }
        }
        let decoy_hash = hashes.values().next().cloned();
        Ok(Self {
            hashes,
            decoy_hash,
            tokens,
            hashing: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, |n| n.get()))),
            verified: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(300)).build(),
            digest_key: rand::random(),
        })
    }

    fn digest(&self, user: &str, password: &str) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.digest_key) else { unreachable!("HMAC takes keys of any length") };
        mac.update(&(user.len() as u64).to_be_bytes());
        mac.update(user.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[async_trait]
impl Authenticator for StaticUsers {
    fn required(&self) -> bool {
        true
    }

    async fn password(&self, user: &str, password: &str) -> Result<Principal> {
        let wrong = || Error::new(ErrorKind::Unauthenticated, "user name or password is wrong");
        let digest = self.digest(user, password);
        if self.verified.contains_key(&digest) {
            return Ok(Principal::new(user));
        }
        let known = self.hashes.get(user).cloned();
        let is_known = known.is_some();
        let Some(hash) = known.or_else(|| self.decoy_hash.clone()) else { return Err(wrong()) };
        let permit = self.hashing.clone().acquire_owned().await.map_err(|_| wrong())?;
        let password = password.to_string();
        let matches = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            PasswordHash::new(&hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
        .map_err(|e| Error::internal(format!("checking a password failed: {e}")))?;
        if !(matches && is_known) {
            return Err(wrong());
        }
        self.verified.insert(digest, ());
        Ok(Principal::new(user))
    }

    fn knows(&self, principal: &Principal) -> bool {
        self.hashes.contains_key(principal.as_str()) || self.tokens.iter().any(|(_, owner)| owner == principal)
    }

    async fn bearer(&self, token: &str) -> Result<Principal> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        // Every token is compared, so that time tells nothing about where one matched.
        for (known, principal) in &self.tokens {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(principal);
            }
        }
        found.cloned().ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "the bearer token isn't valid"))
    }
}

fn token_digest(token: &str, user: &str) -> Result<[u8; 32]> {
    let Some(hex_digits) = token.strip_prefix("sha256:") else {
        if token.len() < 16 {
            return Err(Error::invalid(format!("a bearer token of user '{user}' has fewer than 16 characters")));
        }
        return Ok(Sha256::digest(token.as_bytes()).into());
    };
    let mut digest = [0; 32];
    hex::decode_to_slice(hex_digits, &mut digest)
        .map_err(|_| Error::invalid(format!("a bearer token of user '{user}' isn't 'sha256:' and 64 hex digits")))?;
    Ok(digest)
}

/// Counts failed logins of the last minute, by address and user, and refuses more.
pub(crate) struct LoginGuard {
    failures: Cache<(Option<IpAddr>, Option<String>), u32>,
    per_user: u32,
    per_address: u32,
}

impl LoginGuard {
    pub fn new(limits: &Limits) -> Self {
        Self {
            failures: Cache::builder().max_capacity(100_000).time_to_live(Duration::from_secs(60)).build(),
            per_user: limits.failed_logins_per_user,
            per_address: limits.failed_logins_per_address,
        }
    }

    /// Whether one more try is allowed.
    pub fn check(&self, address: Option<IpAddr>, user: &str) -> Result<()> {
        let of_user = self.failures.get(&(address, Some(user.to_string()))).unwrap_or(0);
        let of_address = self.failures.get(&(address, None)).unwrap_or(0);
        if of_user < self.per_user && of_address < self.per_address {
            return Ok(());
        }
        Err(Error::new(ErrorKind::ResourceExhausted, "too many failed logins; wait a minute before the next try"))
    }

    pub fn failed(&self, address: Option<IpAddr>, user: &str) {
        for key in [(address, Some(user.to_string())), (address, None)] {
            self.failures.entry(key).and_upsert_with(|old| old.map_or(1, |e| e.into_value().saturating_add(1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use argon2::{Algorithm, Params, PasswordHasher, Version};

    use super::*;

    fn users() -> StaticUsers {
        let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        let hash = cheap.hash_password(b"secret").unwrap().to_string();
        let by_hash = format!("sha256:{}", hex::encode(Sha256::digest(b"another-long-token")));
        StaticUsers::new(&[
            StaticUser { name: "ann".into(), password_hash: Some(hash), tokens: vec!["0123456789abcdef".into()] },
            StaticUser { name: "bob".into(), password_hash: None, tokens: vec![by_hash] },
        ])
        .unwrap()
    }

    #[tokio::test]
    async fn passwords_and_tokens_name_their_user_and_nothing_else_does() {
        let users = users();
        for _ in 0..2 {
            assert_eq!(users.password("ann", "secret").await.unwrap().as_str(), "ann");
        }
        assert!(users.password("ann", "Secret").await.is_err());
        assert!(users.password("bob", "secret").await.is_err());
        assert!(users.password("", "").await.is_err());
        assert_eq!(users.bearer("0123456789abcdef").await.unwrap().as_str(), "ann");
        assert_eq!(users.bearer("another-long-token").await.unwrap().as_str(), "bob");
        assert!(users.bearer("").await.is_err());
    }

    #[test]
    fn bad_settings_are_named() {
        let user = |hash: Option<&str>, token: &str| StaticUser {
            name: "ann".into(),
            password_hash: hash.map(Into::into),
            tokens: vec![token.into()],
        };
        for user in [user(Some("plain"), "0123456789abcdef"), user(None, "short"), user(None, "sha256:zz")] {
            assert!(StaticUsers::new(&[user]).err().unwrap().message().contains("ann"));
        }
    }

    #[test]
    fn failed_logins_are_limited_per_user_and_address() {
        let guard = LoginGuard::new(&Limits { failed_logins_per_user: 2, failed_logins_per_address: 3, ..Limits::default() });
        let here = Some(IpAddr::from([10, 0, 0, 1]));
        guard.failed(here, "ann");
        assert!(guard.check(here, "ann").is_ok());
        guard.failed(here, "ann");
        assert_eq!(guard.check(here, "ann").unwrap_err().kind(), ErrorKind::ResourceExhausted);
        assert!(guard.check(here, "bob").is_ok());
        guard.failed(here, "eve");
        assert!(guard.check(here, "bob").is_err());
        assert!(guard.check(Some(IpAddr::from([10, 0, 0, 2])), "ann").is_ok());
    }
}
