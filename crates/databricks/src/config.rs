//! A client's settings, and who a call is for.

use std::fmt;
use std::time::Duration;

use flightpath_types::Principal;
use secrecy::SecretString;
use url::Url;

/// Where Azure's directory issues tokens, outside its national clouds.
pub const AZURE_LOGIN_HOST: &str = "https://login.microsoftonline.com";

/// How a client proves who it is.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A personal access token: every call is made as its owner.
    Pat(SecretString),
    /// A service principal of Databricks: every call is made as that principal.
    OAuthM2m { client_id: String, client_secret: SecretString },
    /// A service principal of Azure's directory.
    AzureServicePrincipal {
        tenant_id: String,
        client_id: String,
        client_secret: SecretString,
        /// [`AZURE_LOGIN_HOST`] but in national clouds.
        login_host: Url,
    },
    /// The user's own JWT is exchanged for a token of Databricks (RFC 8693): calls are made as the user.
    TokenExchange,
    /// The token that the user sent is sent on: calls are made as the user.
    PassThrough,
}

impl Auth {
    /// Whether calls are made as the user and not as one principal for everybody. Only then do
    /// Databricks' `current_user()`, row filters and grants see the user.
    pub fn is_per_user(&self) -> bool {
        match self {
            Auth::TokenExchange | Auth::PassThrough => true,
            Auth::Pat(_) | Auth::OAuthM2m { .. } | Auth::AzureServicePrincipal { .. } => false,
        }
    }
}

/// Who a call is for. Tokens are cached per identity.
#[derive(Clone)]
pub struct Identity {
    pub principal: Principal,
    /// What the user sent to prove who they are: a JWT to exchange or a token to send on.
    pub token: Option<SecretString>,
}

impl Identity {
    pub fn new(principal: Principal, token: Option<SecretString>) -> Self {
        Self { principal, token }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("principal", &self.principal).field("has_token", &self.token.is_some()).finish()
    }
}

/// Whether a call may be made again after a failure that leaves open whether it was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// Making it twice is the same as making it once.
    Safe,
    /// Tried again only when it certainly wasn't carried out: 429, 503 with `Retry-After`, or a
    /// connection that was never made.
    ExecuteOnce,
}

/// One workspace, and the limits of the calls to it.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The workspace: `https://adb-1.1.azuredatabricks.net`.
    pub host: Url,
    pub auth: Auth,
    pub connect_timeout: Duration,
    /// From sending one try of a call to the last byte of its answer. Longer than any wait that a
    /// caller asks the server for.
    pub request_timeout: Duration,
    /// For one try to get a token.
    pub token_timeout: Duration,
    pub tries_max: u32,
    /// From the first try to the last one's start.
    pub retry_total_max: Duration,
    /// The first wait between tries, doubled from try to try.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// A token is renewed this long before it expires.
    pub token_renew_before: Duration,
    /// Identities whose tokens are kept.
    pub tokens_max: u64,
    /// The largest JSON answer that is read.
    pub answer_bytes_max: usize,
    /// Failures in a row after which calls fail at once.
    pub breaker_failures: u32,
    /// How long calls fail at once, before one is let through to see.
    pub breaker_open: Duration,
}

impl ClientConfig {
    pub fn new(host: Url, auth: Auth) -> Self {
        Self {
            host,
            auth,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(90),
            token_timeout: Duration::from_secs(30),
            tries_max: 5,
            retry_total_max: Duration::from_secs(900),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            token_renew_before: Duration::from_secs(40),
            tokens_max: 10_000,
            answer_bytes_max: 64 << 20,
            breaker_failures: 10,
            breaker_open: Duration::from_secs(10),
        }
    }
}
