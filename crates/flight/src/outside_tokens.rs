//! Bearer tokens that this server doesn't know and an outside system does: that system says whose
//! one is. Answers are kept for a while, refusals for a short one, and only so many questions are
//! asked at once; a token is kept as a digest only. What settings list is looked at first.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flightpath_types::{Error, ErrorKind, Principal, Result, SecretToken};
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::auth::{Authenticator, StaticUsers};

/// Says whose a token is.
#[async_trait]
pub trait TokenCheck: Send + Sync {
    /// `Unauthenticated` or `PermissionDenied`: it's nobody's. Anything else: it isn't known.
    async fn principal(&self, token: &SecretToken) -> Result<Principal>;
}

/// Who is asked about tokens, and how long an answer holds.
#[derive(Clone)]
pub struct OutsideTokens {
    pub check: Arc<dyn TokenCheck>,
    /// A token that was revoked meanwhile is let in until it's over.
    pub lifetime: Duration,
}

impl std::fmt::Debug for OutsideTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutsideTokens").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

const KEPT_MAX: u64 = 10_000;
const REFUSED_LIFETIME: Duration = Duration::from_secs(10);
/// Questions asked at once, and the wait for a turn.
const ASKING_MAX: usize = 16;
const TURN_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longer ones aren't asked about.
const TOKEN_BYTES_MAX: usize = 8 << 10;

type TokenDigest = [u8; 32];

/// [`StaticUsers`], and behind them the outside system.
pub(crate) struct OutsideUsers {
    own: StaticUsers,
    check: Arc<dyn TokenCheck>,
    known: Cache<TokenDigest, Principal>,
    refused: moka::sync::Cache<TokenDigest, ()>,
    asking: Semaphore,
}

impl OutsideUsers {
    pub fn new(own: StaticUsers, outside: &OutsideTokens) -> Self {
        Self {
            own,
            check: outside.check.clone(),
            known: Cache::builder().max_capacity(KEPT_MAX).time_to_live(outside.lifetime).build(),
            refused: moka::sync::Cache::builder().max_capacity(KEPT_MAX).time_to_live(REFUSED_LIFETIME).build(),
            asking: Semaphore::new(ASKING_MAX),
        }
    }

    async fn ask(&self, token: &str) -> Result<Principal> {
        let turn = tokio::time::timeout(TURN_WAIT_MAX, self.asking.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Error::new(ErrorKind::ResourceExhausted, "too many tokens are being checked; try again shortly"));
        };
        self.check.principal(&SecretToken::new(token)).await
    }
}

#[async_trait]
impl Authenticator for OutsideUsers {
    fn required(&self) -> bool {
        true
    }

    async fn password(&self, user: &str, password: &str) -> Result<Principal> {
        self.own.password(user, password).await
    }

    async fn bearer(&self, token: &str) -> Result<Principal> {
        let not_ours = match self.own.bearer(token).await {
            Err(error) if error.kind() == ErrorKind::Unauthenticated => error,
            answer => return answer,
        };
        let digest: TokenDigest = Sha256::digest(token.as_bytes()).into();
        if token.len() > TOKEN_BYTES_MAX || self.refused.contains_key(&digest) {
            return Err(not_ours);
        }
        match self.known.try_get_with(digest, self.ask(token)).await {
            Ok(principal) => Ok(principal),
            Err(error) if matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => {
                self.refused.insert(digest, ());
                Err(not_ours)
            }
            Err(error) => Err(error.as_ref().clone().context("the bearer token couldn't be checked")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::auth::StaticUser;

    /// Knows `good` and is down for `down`.
    #[derive(Default)]
    struct Workspace {
        asked: AtomicUsize,
    }

    #[async_trait]
    impl TokenCheck for Workspace {
        async fn principal(&self, token: &SecretToken) -> Result<Principal> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match token.expose() {
                "good" => Ok(Principal::new("ana")),
                "down" => Err(Error::unavailable("it doesn't answer")),
                _ => Err(Error::new(ErrorKind::PermissionDenied, "Invalid access token.")),
            }
        }
    }

    fn users(lifetime: Duration) -> (Arc<Workspace>, OutsideUsers) {
        let workspace = Arc::new(Workspace::default());
        let own = StaticUser { name: "bob".into(), password_hash: None, tokens: vec!["0123456789abcdef".into()] };
        let outside = OutsideTokens { check: workspace.clone(), lifetime };
        (workspace, OutsideUsers::new(StaticUsers::new(&[own]).unwrap(), &outside))
    }

    #[tokio::test]
    async fn the_outside_is_asked_once_for_what_settings_do_not_list() {
        let (workspace, users) = users(Duration::from_secs(3600));
        assert_eq!(users.bearer("0123456789abcdef").await.unwrap().as_str(), "bob");
        assert_eq!(workspace.asked.load(Ordering::SeqCst), 0);
        let both = tokio::join!(users.bearer("good"), users.bearer("good"));
        assert_eq!((both.0.unwrap().as_str(), both.1.unwrap().as_str()), ("ana", "ana"));
        users.bearer("good").await.unwrap();
        assert_eq!(workspace.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn refusals_are_kept_and_outages_are_not() {
        let (workspace, users) = users(Duration::from_secs(3600));
        for _ in 0..3 {
            assert_eq!(users.bearer("bad").await.unwrap_err().kind(), ErrorKind::Unauthenticated);
        }
        assert_eq!(workspace.asked.load(Ordering::SeqCst), 1);
        for _ in 0..2 {
            assert_eq!(users.bearer("down").await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        assert_eq!(workspace.asked.load(Ordering::SeqCst), 3);
        assert_eq!(users.bearer(&"x".repeat(TOKEN_BYTES_MAX + 1)).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
        assert_eq!(workspace.asked.load(Ordering::SeqCst), 3);
    }
}
