//! Who may come in, replaceable while the door is open. New users, passwords and tokens hold for every
//! call that comes from then on; nothing is replaced by what wasn't checked whole.

use std::sync::Arc;

use flightpath_types::Result;
use parking_lot::RwLock;

use crate::auth::{Authenticator, NoAuthentication, StaticUsers};
use crate::config::Auth;
use crate::outside_tokens::{OutsideTokens, OutsideUsers};

/// Clones share it.
#[derive(Clone)]
pub struct LiveAuth(Arc<RwLock<Arc<dyn Authenticator>>>);

/// Users and tokens that were checked and can be taken on.
pub struct CheckedAuth(Arc<dyn Authenticator>);

impl CheckedAuth {
    /// The error names the user whose hash or token is wrong.
    pub fn new(auth: &Auth, outside: Option<&OutsideTokens>) -> Result<Self> {
        let checked: Arc<dyn Authenticator> = match (auth, outside) {
            (Auth::None, None) => Arc::new(NoAuthentication),
            (Auth::Users(users), None) => Arc::new(StaticUsers::new(users)?),
            (Auth::None, Some(outside)) => Arc::new(OutsideUsers::new(StaticUsers::new(&[])?, outside)),
            (Auth::Users(users), Some(outside)) => Arc::new(OutsideUsers::new(StaticUsers::new(users)?, outside)),
        };
        Ok(Self(checked))
    }
}

impl LiveAuth {
    pub fn replace(&self, checked: CheckedAuth) {
        *self.0.write() = checked.0;
    }

    pub(crate) fn current(&self) -> Arc<dyn Authenticator> {
        self.0.read().clone()
    }
}

impl Default for LiveAuth {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Arc::new(NoAuthentication))))
    }
}

impl std::fmt::Debug for LiveAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LiveAuth(..)")
    }
}
