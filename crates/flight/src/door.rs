//! What every call shares, and how a call's headers become a [`Caller`]. No call goes on without
//! one: the gate asks here before a request's body is read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use flightpath_pipeline::{Caller as SharedCaller, QueryService, SessionHandle};
use flightpath_types::{Error, ErrorKind, Principal, Result, SecretToken, Session, trace};
use http::{Extensions, HeaderMap};

use crate::auth::{LoginGuard, anonymous};
use crate::config::Config;
use crate::live_auth::CheckedAuth;
use crate::prepared::PreparedStatements;
use crate::session::{SessionKey, Sessions};
use crate::sign::{Purpose, Signer, fixed};

/// The cookie's name, fixed by Flight SQL's clients.
pub(crate) const SESSION_COOKIE: &str = "arrow_flight_session_id";
/// Opens every token that this server issued, so that a static token is never taken for one.
const TOKEN_PREFIX: &str = "fp1.";
/// Whose password is a bearer token, by Databricks' custom, where an outside system knows tokens: for
/// clients that have a user and a password only.
const TOKEN_USER: &str = "token";
const OVERRIDE_PREFIX: &str = "flightpath-";

/// What a connection's calls share: who is at the other end and the session they have without
/// cookie or token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub address: Option<SocketAddr>,
    pub session: SessionKey,
}

/// One authenticated call.
#[derive(Debug)]
pub(crate) struct Caller {
    pub principal: Principal,
    pub session: SessionHandle,
    pub session_key: SessionKey,
    pub session_origin: SessionOrigin,
    /// The session's settings with this call's header overrides.
    pub settings: Session,
    /// A bearer token that isn't of our making: an outside system may know it.
    pub token: Option<SecretToken>,
    pub traceparent: Option<String>,
    arrived: Instant,
    /// From `grpc-timeout`.
    transport_deadline: Option<Instant>,
}

impl Caller {
    /// The sooner of what the client's transport and the session's `timeout_seconds` allow.
    pub fn deadline(&self) -> Option<Instant> {
        let of_session = self.settings.timeout().and_then(|timeout| self.arrived.checked_add(timeout));
        match (self.transport_deadline, of_session) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// What other front doors need of it.
    pub fn shared(&self) -> SharedCaller {
        SharedCaller {
            principal: self.principal.clone(),
            session: self.session.clone(),
            settings: self.settings.clone(),
            token: self.token.clone(),
            deadline: self.deadline(),
            traceparent: self.traceparent.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionOrigin {
    Cookie,
    IssuedToken,
    OtherToken,
    Connection,
}

/// Everything the calls share.
pub(crate) struct Door {
    pub queries: Arc<dyn QueryService>,
    pub config: Config,
    pub signer: Arc<Signer>,
    pub sessions: Arc<Sessions>,
    pub prepared: PreparedStatements,
    logins: LoginGuard,
    /// Calls that need no authentication.
    open_paths: Vec<&'static str>,
}

/// What the credentials of a call told.
struct Identity {
    principal: Principal,
    /// The session that the token stands for.
    token_session: Option<(SessionKey, SessionOrigin)>,
    token: Option<SecretToken>,
}

enum Credentials {
    Basic { user: String, password: String },
    Bearer(String),
}

impl Door {
    pub fn new(queries: Arc<dyn QueryService>, config: Config, open_paths: Vec<&'static str>) -> Result<Arc<Self>> {
        config.live_auth.replace(CheckedAuth::new(&config.auth, config.outside_tokens.as_ref())?);
        let signer = Arc::new(Signer::new(&config.signing_keys, &config.audience));
        let sessions = Sessions::new(&config);
        config.open_sessions.follow(&sessions);
        Ok(Arc::new(Self {
            queries,
            sessions,
            prepared: PreparedStatements::new(&config, signer.clone()),
            logins: LoginGuard::new(&config.limits),
            open_paths,
            signer,
            config,
        }))
    }

    pub fn is_open(&self, path: &str) -> bool {
        self.open_paths.contains(&path)
    }

    /// Authenticates a call and finds its session and settings.
    pub async fn admit(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Caller> {
        let arrived = Instant::now();
        let peer = extensions.get::<Peer>().copied().unwrap_or_else(|| Peer { address: None, session: SessionKey::random() });
        let identity = self.identify(headers, peer.address.map(|a| a.ip())).await?;
        if let (Some(token), Some(on_token)) = (&identity.token, &self.config.on_token) {
            on_token.tell(&identity.principal, token);
        }
        let (session_key, session_origin) = match (self.cookie_session(headers, &identity.principal)?, identity.token_session) {
            (Some(key), _) => (key, SessionOrigin::Cookie),
            (None, Some(of_token)) => of_token,
            (None, None) => (peer.session, SessionOrigin::Connection),
        };
        let closes_for_good = matches!(session_origin, SessionOrigin::Cookie | SessionOrigin::IssuedToken);
        if closes_for_good && self.sessions.is_closed(session_key) {
            return Err(Error::new(ErrorKind::Unauthenticated, "this session was closed; log in again"));
        }
        self.refuse_lost(session_key, session_origin)?;
        let session = self.sessions.get(session_key, &identity.principal)?;
        let mut settings = session.settings();
        self.apply_overrides(headers, &mut settings).await?;
        Ok(Caller {
            principal: identity.principal,
            session,
            session_key,
            session_origin,
            settings,
            token: identity.token,
            traceparent: trace::joined(text_of(headers, "traceparent"), text_of(headers, "tracestate")),
            arrived,
            transport_deadline: transport_timeout(headers).and_then(|timeout| arrived.checked_add(timeout)),
        })
    }

    /// A handshake: the credentials of its headers or its payload, for a token with a session of its own.
    pub async fn log_in(&self, headers: &HeaderMap, payload: Option<(String, String)>, address: Option<IpAddr>) -> Result<String> {
        let identity = match payload {
            Some((user, password)) => self.by_password(&user, &password, address).await?,
            None => self.identify(headers, address).await?,
        };
        let key = SessionKey::random();
        if let Some(token) = identity.token {
            self.sessions.keep_credential(key, token);
        }
        Ok(self.issue_token(&identity.principal, key))
    }

    /// A session whose settings were dropped for not being used is told once as such: going on with
    /// others would be an answer from another catalog, or another engine.
    fn refuse_lost(&self, key: SessionKey, origin: SessionOrigin) -> Result<()> {
        if !self.sessions.is_lost(key) {
            return Ok(());
        }
        let idle = self.config.lifetimes.session_idle.as_secs();
        let (kind, how) = match origin {
            SessionOrigin::Cookie | SessionOrigin::IssuedToken => (ErrorKind::Unauthenticated, "connect again and set them anew"),
            SessionOrigin::Connection => (ErrorKind::NotFound, "connect again and set them anew"),
            // Its token stays the same: from the next call on, the session is a fresh one.
            SessionOrigin::OtherToken => {
                self.sessions.forget_loss(key);
                (ErrorKind::NotFound, "set them anew")
            }
        };
        Err(Error::new(kind, format!("this session wasn't used for {idle} s and its settings were dropped; {how}")))
    }

    pub fn cookie_for(&self, caller: &Caller) -> String {
        let sealed = self.signer.seal(Purpose::Cookie, &caller.principal, self.config.lifetimes.token, &caller.session_key.0);
        format!("{SESSION_COOKIE}={}; Path=/; HttpOnly", BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    async fn identify(&self, headers: &HeaderMap, address: Option<IpAddr>) -> Result<Identity> {
        match credentials(headers)? {
            Some(Credentials::Basic { user, password }) => self.by_password(&user, &password, address).await,
            Some(Credentials::Bearer(token)) => self.by_token(&token).await,
            None if self.config.live_auth.current().required() => Err(Error::new(
                ErrorKind::Unauthenticated,
                "no credentials: send 'authorization: Basic ...' or 'authorization: Bearer ...'",
            )),
            None => Ok(Identity { principal: anonymous(), token_session: None, token: None }),
        }
    }

    async fn by_password(&self, user: &str, password: &str, address: Option<IpAddr>) -> Result<Identity> {
        if user == TOKEN_USER && self.config.outside_tokens.is_some() {
            return self.by_token_as_password(password, address).await;
        }
        self.logins.check(address, user)?;
        match self.config.live_auth.current().password(user, password).await {
            Ok(principal) => Ok(Identity { principal, token_session: None, token: None }),
            Err(error) => {
                if error.kind() == ErrorKind::Unauthenticated {
                    self.logins.failed(address, user);
                }
                Err(error)
            }
        }
    }

    /// Failures are counted by token: many people are this user.
    async fn by_token_as_password(&self, token: &str, address: Option<IpAddr>) -> Result<Identity> {
        let tried = format!("{TOKEN_USER} {}", hex::encode(SessionKey::of_token(token).0));
        self.logins.check(address, &tried)?;
        self.by_token(token).await.inspect_err(|error| {
            if error.kind() == ErrorKind::Unauthenticated {
                self.logins.failed(address, &tried);
            }
        })
    }

    async fn by_token(&self, token: &str) -> Result<Identity> {
        let Some(sealed) = token.strip_prefix(TOKEN_PREFIX) else {
            let principal = self.config.live_auth.current().bearer(token).await?;
            let token_session = Some((SessionKey::of_token(token), SessionOrigin::OtherToken));
            return Ok(Identity { principal, token_session, token: Some(SecretToken::new(token)) });
        };
        let bad = || Error::new(ErrorKind::Unauthenticated, "the session token isn't valid; log in again");
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed).map_err(|_| bad())?;
        let opened = self.signer.open(Purpose::Token, &sealed)?;
        let (key, name) = opened.payload.split_at_checked(16).ok_or_else(bad)?;
        let principal = Principal::new(std::str::from_utf8(name).map_err(|_| bad())?);
        opened.payload_of(&principal)?;
        let key = SessionKey(fixed(key));
        let token = self.sessions.credential(key);
        // What the session was opened with has to be good still.
        let authenticator = self.config.live_auth.current();
        let good = match &token {
            Some(credential) => authenticator.bearer(credential.expose()).await? == principal,
            None => authenticator.knows(&principal),
        };
        if !good {
            return Err(bad());
        }
        Ok(Identity { principal, token_session: Some((key, SessionOrigin::IssuedToken)), token })
    }

    fn issue_token(&self, principal: &Principal, key: SessionKey) -> String {
        let mut payload = key.0.to_vec();
        payload.extend_from_slice(principal.as_str().as_bytes());
        let sealed = self.signer.seal(Purpose::Token, principal, self.config.lifetimes.token, &payload);
        format!("{TOKEN_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// A cookie that isn't valid any more is an error, not a fresh session: its client believes that
    /// its settings hold.
    fn cookie_session(&self, headers: &HeaderMap, principal: &Principal) -> Result<Option<SessionKey>> {
        let Some(value) = session_cookie(headers) else { return Ok(None) };
        let bad = || Error::new(ErrorKind::Unauthenticated, "the session cookie isn't valid; connect again");
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(value).map_err(|_| bad())?;
        let opened = self.signer.open(Purpose::Cookie, &sealed)?;
        let key = opened.payload_of(principal)?;
        Ok(Some(SessionKey(fixed(key))))
    }

    async fn apply_overrides(&self, headers: &HeaderMap, settings: &mut Session) -> Result<()> {
        let mut overrides = Vec::new();
        for (name, value) in headers {
            let Some(setting) = name.as_str().strip_prefix(OVERRIDE_PREFIX) else { continue };
            let value = value.to_str().map_err(|_| Error::invalid(format!("header '{name}' must be plain ASCII")))?;
            overrides.push((setting.replace('-', "_"), value));
        }
        // By name, so that `catalog` holds when `schema` is checked.
        overrides.sort();
        for (name, value) in overrides {
            let of_header = |e: Error| e.context(format!("header '{OVERRIDE_PREFIX}{}'", name.replace('_', "-")));
            for (name, value) in self.queries.resolve_setting(settings, &name, value).await.map_err(of_header)? {
                settings.set(&name, &value).map_err(of_header)?;
            }
        }
        Ok(())
    }
}

/// The first credentials of the headers that say anything: `authorization`, or `auth-token-bin`,
/// where Flight's old handshake puts its token.
fn credentials(headers: &HeaderMap) -> Result<Option<Credentials>> {
    let bad = |what: &str| Error::new(ErrorKind::Unauthenticated, format!("the authorization header isn't readable: {what}"));
    for value in headers.get_all(http::header::AUTHORIZATION) {
        let value = value.to_str().map_err(|_| bad("not ASCII"))?.trim();
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            let (user, password) = basic(rest).ok_or_else(|| bad("Basic wants base64 of user:password"))?;
            return Ok(Some(Credentials::Basic { user, password }));
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(bad("only Basic and Bearer are known"));
        }
        // Some clients send the word for nothing when they have no token.
        if !matches!(rest, "" | "None" | "null" | "undefined") {
            return Ok(Some(Credentials::Bearer(rest.to_string())));
        }
    }
    let Some(token) = headers.get("auth-token-bin") else { return Ok(None) };
    let token = token.as_bytes();
    let token = BASE64_STANDARD_NO_PAD.decode(token).or_else(|_| BASE64_STANDARD.decode(token)).map_err(|_| bad("auth-token-bin"))?;
    if token.is_empty() {
        return Ok(None);
    }
    Ok(Some(Credentials::Bearer(String::from_utf8(token).map_err(|_| bad("auth-token-bin"))?)))
}

fn basic(encoded: &str) -> Option<(String, String)> {
    let text = BASE64_STANDARD.decode(encoded).or_else(|_| BASE64_STANDARD_NO_PAD.decode(encoded)).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_string(), password.to_string()))
}

pub(crate) fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(SESSION_COOKIE)?.strip_prefix('='))
        .map(|value| value.trim_matches('"'))
        .filter(|value| !value.is_empty())
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `grpc-timeout`, a little shortened: tonic answers CANCELLED when it runs out, and a client should
/// see DEADLINE_EXCEEDED, so ours must run out first.
fn transport_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = text_of(headers, "grpc-timeout")?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout - (timeout / 10).min(Duration::from_millis(25)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (http::HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn credentials_are_read_from_every_place_that_clients_use() {
        let bearer = |h: &HeaderMap| match credentials(h).unwrap() {
            Some(Credentials::Bearer(token)) => Some(token),
            _ => None,
        };
        assert_eq!(bearer(&headers(&[("authorization", "bearer abc")])).unwrap(), "abc");
        assert_eq!(bearer(&headers(&[("auth-token-bin", "YWJj")])).unwrap(), "abc");
        assert!(bearer(&headers(&[("authorization", "Bearer None")])).is_none());
        assert!(credentials(&headers(&[])).unwrap().is_none());
        assert!(credentials(&headers(&[("authorization", "Digest x")])).is_err());
        let Some(Credentials::Basic { user, password }) = credentials(&headers(&[("authorization", "Basic YW5uOmE6Yg==")])).unwrap() else {
            panic!("Basic credentials expected");
        };
        assert_eq!((user.as_str(), password.as_str()), ("ann", "a:b"));
    }

    #[test]
    fn the_session_cookie_is_found_among_others() {
        let found = headers(&[("cookie", "a=b; arrow_flight_session_id=xyz; arrow_flight_session_id_2=no")]);
        assert_eq!(session_cookie(&found), Some("xyz"));
        assert_eq!(session_cookie(&headers(&[("cookie", "arrow_flight_session_id_2=no")])), None);
    }

    #[test]
    fn grpc_timeouts_of_every_unit_are_read() {
        let timeout = |text| transport_timeout(&headers(&[("grpc-timeout", text)]));
        assert_eq!(timeout("2S"), Some(Duration::from_millis(1975)));
        assert_eq!(timeout("10m"), Some(Duration::from_millis(9)));
        assert_eq!(timeout("1H").unwrap().as_secs(), 3599);
        for bad in ["", "S", "5", "123456789S", "-1S", "1x"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
