//! What the front door can be told: limits, lifetimes, who may come in, TLS. Plain values; names
//! in files and environment are the server's concern.

use std::sync::Arc;
use std::time::Duration;

use flightpath_types::{Principal, SecretToken};

use crate::auth::StaticUser;
use crate::live_auth::LiveAuth;
use crate::open::{OpenConnections, OpenSessions};
use crate::outside_tokens::OutsideTokens;

/// Everything [`crate::serve`] and [`crate::FrontDoor`] need.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub auth: Auth,
    pub limits: Limits,
    pub lifetimes: Lifetimes,
    pub tls: Option<Tls>,
    /// Keys that sign tickets, handles, tokens and cookies; the first signs, all verify. Replicas that
    /// share clients share these. Empty: a random key, good until this process ends.
    pub signing_keys: Vec<SigningKey>,
    /// Mixed into every signature, so that one deployment's tickets mean nothing to another's.
    pub audience: String,
    /// Whether statements that change something may be run, as GetSqlInfo says.
    pub writes: bool,
    /// What GetSqlInfo lists.
    pub functions: FunctionNames,
    /// Who knows the bearer tokens that `auth` doesn't list. With it, everybody has to show who they are.
    pub outside_tokens: Option<OutsideTokens>,
    /// Told of each caller whose bearer token isn't of our making.
    pub on_token: Option<OnToken>,
    /// Begins as `auth`; whoever holds a clone may replace who is let in.
    pub live_auth: LiveAuth,
    /// Kept true by [`crate::serve`]; whoever holds a clone may look.
    pub open_connections: OpenConnections,
    /// The same for sessions.
    pub open_sessions: OpenSessions,
}

/// Takes note of who showed which token, for asking outside systems in the caller's name.
#[derive(Clone)]
pub struct OnToken(Arc<dyn Fn(&Principal, &SecretToken) + Send + Sync>);

impl OnToken {
    pub fn new(take: impl Fn(&Principal, &SecretToken) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(crate) fn tell(&self, principal: &Principal, token: &SecretToken) {
        (self.0)(principal, token);
    }
}

impl std::fmt::Debug for OnToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnToken(..)")
    }
}

/// Names of supported functions by SqlInfo's groups; clients show them for completion.
#[derive(Debug, Clone, Default)]
pub struct FunctionNames {
    pub numeric: Vec<String>,
    pub string: Vec<String>,
    pub system: Vec<String>,
    pub datetime: Vec<String>,
}

/// Who may come in.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Everybody is `anonymous`. Only on loopback: [`crate::serve`] refuses any other address.
    #[default]
    None,
    Users(Vec<StaticUser>),
}

#[derive(Clone)]
pub struct SigningKey {
    pub id: u8,
    pub secret: [u8; 32],
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// PEM texts.
#[derive(Clone)]
pub struct Tls {
    pub certificate_pem: String,
    pub key_pem: String,
    /// With it, clients must show a certificate that this authority signed.
    pub client_ca_pem: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("client_ca", &self.client_ca_pem.is_some()).finish_non_exhaustive()
    }
}

/// Bounds on what clients can make this process hold.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: usize,
    /// Calls at once on one connection.
    pub streams_per_connection: u32,
    pub sessions: usize,
    pub sessions_per_principal: usize,
    /// One gRPC message from a client.
    pub request_bytes: usize,
    /// A statement's text.
    pub statement_bytes: usize,
    /// One bound row of parameters.
    pub parameter_bytes: usize,
    /// Texts and parameters kept for prepared statements, all clients together.
    pub prepared_bytes: u64,
    pub header_bytes: u32,
    /// Rows and bytes of one message of a result; a single row may be bigger.
    pub message_rows: usize,
    pub message_bytes: usize,
    /// A single row bigger than this is refused.
    pub row_bytes: usize,
    /// Tables one GetTables call may return with their schemas.
    pub listed_tables: usize,
    /// Failed logins of one user from one address within a minute, and of one address.
    pub failed_logins_per_user: u32,
    pub failed_logins_per_address: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            streams_per_connection: 256,
            sessions: 20_000,
            sessions_per_principal: 5_000,
            request_bytes: 32 << 20,
            statement_bytes: 30 << 20,
            parameter_bytes: 16 << 20,
            prepared_bytes: 256 << 20,
            header_bytes: 64 << 10,
            message_rows: 64 << 10,
            message_bytes: 2 << 20,
            row_bytes: 1 << 30,
            listed_tables: 100_000,
            failed_logins_per_user: 10,
            failed_logins_per_address: 50,
        }
    }
}

/// How long things last.
#[derive(Debug, Clone)]
pub struct Lifetimes {
    /// A ticket can be fetched, again and again, until it expires. Not longer than the pipeline keeps
    /// what was submitted.
    pub ticket: Duration,
    pub prepared: Duration,
    /// A token that a handshake gave, and a session cookie.
    pub token: Duration,
    /// A session that nobody uses. One with settings of its own is then an error to whoever comes back
    /// to it, never a session without them.
    pub session_idle: Duration,
    /// A client that takes nothing of a waiting result for so long loses it.
    pub client_stall: Duration,
    /// A new connection whose peer hasn't greeted by then is closed.
    pub greeting: Duration,
    pub http2_keepalive: Duration,
    /// Time for running calls to finish after the shutdown signal.
    pub drain: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            ticket: Duration::from_secs(600),
            prepared: Duration::from_secs(24 * 3600),
            token: Duration::from_secs(24 * 3600),
            session_idle: Duration::from_secs(8 * 3600),
            client_stall: Duration::from_secs(600),
            greeting: Duration::from_secs(10),
            http2_keepalive: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}
