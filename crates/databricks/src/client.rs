//! Makes calls: with a token, within limits, again where that's allowed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flightpath_types::{Error, ErrorKind, Result};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::body::{self, BodyError};
use crate::breaker::{Breaker, BreakerState};
use crate::config::{Auth, ClientConfig, Idempotency, Identity};
use crate::error::{ApiError, Cause};
use crate::retry::{self, Tries};
use crate::token::Tokens;
use crate::url_path;

/// One workspace's endpoints. Shared by all calls.
pub struct Client {
    config: ClientConfig,
    http: reqwest::Client,
    tokens: Tokens,
    breaker: Breaker,
}

/// One call, before it's known who makes it.
#[derive(Clone)]
pub struct Call<'a> {
    pub method: Method,
    /// From the host on, each name in it encoded with [`segment`](crate::segment).
    pub path: &'a str,
    pub query: &'a [(&'a str, String)],
    pub body: Option<Bytes>,
    pub idempotency: Idempotency,
    /// No try starts after it, and none is waited for longer than `answer_grace` past it.
    pub deadline: Option<Instant>,
    /// For a call whose answer must be known even when it comes too late to be of use.
    pub answer_grace: Duration,
    /// Asked before each try; once it's true, no other try is made.
    pub stop: Option<&'a (dyn Fn() -> bool + Send + Sync)>,
    /// True from when a try is sent until it's known that nothing came of it.
    pub taken: Option<&'a AtomicBool>,
}

impl<'a> Call<'a> {
    pub fn get(path: &'a str, query: &'a [(&'a str, String)]) -> Self {
        Self::new(Method::GET, path, query, None, Idempotency::Safe)
    }

    pub fn post(path: &'a str, body: &impl Serialize, idempotency: Idempotency) -> Result<Self> {
        Ok(Self::new(Method::POST, path, &[], Some(encode(body)?), idempotency))
    }

    fn new(method: Method, path: &'a str, query: &'a [(&'a str, String)], body: Option<Bytes>, idempotency: Idempotency) -> Self {
        Self { method, path, query, body, idempotency, deadline: None, answer_grace: Duration::ZERO, stop: None, taken: None }
    }

    #[must_use]
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }
}

impl Client {
    pub fn new(config: ClientConfig) -> Result<Self> {
        if config.host.cannot_be_a_base() || !matches!(config.host.scheme(), "http" | "https") || config.host.host().is_none() {
            return Err(Error::invalid("the Databricks host must be a URL such as https://adb-1.1.azuredatabricks.net"));
        }
        if !config.host.username().is_empty() || config.host.password().is_some() {
            return Err(Error::invalid("the Databricks host can't hold a user or password"));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            // A redirect could carry a token or a statement to another place.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // What may be tried again is decided here alone.
            .retry(reqwest::retry::never())
            .user_agent(concat!("flightpath/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Error::unavailable(format!("can't prepare to talk to Databricks: {}", chain(&e.without_url()))))?;
        let tokens = Tokens::new(&config, http.clone());
        let breaker = Breaker::new(config.breaker_failures, config.breaker_open);
        Ok(Self { config, http, tokens, breaker })
    }

    pub fn host(&self) -> &Url {
        &self.config.host
    }

    pub fn auth(&self) -> &Auth {
        &self.config.auth
    }

    /// Whether the host is being asked at all.
    pub fn breaker_state(&self) -> BreakerState {
        self.breaker.state()
    }

    pub async fn get<T: DeserializeOwned>(
        &self,
        who: &Identity,
        path: &str,
        query: &[(&str, String)],
        deadline: Option<Instant>,
    ) -> Result<T> {
        Ok(self.call(who, Call::get(path, query).until(deadline)).await?)
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        who: &Identity,
        path: &str,
        body: &impl Serialize,
        idempotency: Idempotency,
        deadline: Option<Instant>,
    ) -> Result<T> {
        Ok(self.call(who, Call::post(path, body, idempotency)?.until(deadline)).await?)
    }

    /// One call, with its failure told in full.
    pub async fn call<T: DeserializeOwned>(&self, who: &Identity, call: Call<'_>) -> Result<T, ApiError> {
        let what = format!("{} {}", call.method, call.path);
        let url = url_path::below(&self.config.host, call.path, call.query).map_err(ApiError::not_sent)?;
        let mut tries = Tries::new(&self.config);
        let mut renewed = false;
        loop {
            let token = self.tokens.bearer(who, call.deadline).await?;
            let failed = match self.attempt(&what, &url, &call, &token).await.and_then(|body| decode(&what, &body)) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if failed.status() == Some(401) {
                self.tokens.forget(who).await;
                // A token that was withdrawn before its time; refused at the door, so nothing was done.
                if call.idempotency == Idempotency::Safe && self.tokens.are_fetched() && !renewed {
                    renewed = true;
                    continue;
                }
            }
            let cause = failed.cause;
            let wait = tries.next(failed, call.idempotency, call.deadline)?;
            tracing::debug!(call = what, ?cause, wait_ms = wait.as_millis() as u64, "Databricks is asked again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, what: &str, url: &Url, call: &Call<'_>, token: &SecretString) -> Result<Bytes, ApiError> {
        if call.stop.is_some_and(|stop| stop()) {
            return Err(ApiError::not_sent(Error::new(ErrorKind::Cancelled, format!("{what} wasn't asked any more"))));
        }
        if call.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(ApiError::not_sent(deadline_passed(what)));
        }
        let (timeout, until_deadline) = time_left(self.config.request_timeout, call.deadline.map(|at| at + call.answer_grace));
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| ApiError::not_sent(Error::new(ErrorKind::Unauthenticated, "the token has characters that no token has")))?;
        authorization.set_sensitive(true);
        let mut request = self.http.request(call.method.clone(), url.clone()).header(AUTHORIZATION, authorization).timeout(timeout);
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let admitted = self.breaker.admit()?;
        let taken = |taken| call.taken.iter().for_each(|flag| flag.store(taken, Ordering::Relaxed));
        taken(true);
        let answer = exchange(what, request, self.config.answer_bytes_max, &[token.expose_secret()]).await;
        if answer.as_ref().is_err_and(|failed| !failed.outcome_unknown()) {
            taken(false);
        }
        match &answer {
            Err(failed) => match failed.cause {
                // The caller's haste says nothing about the host.
                Cause::Broken if until_deadline && failed.kind() == ErrorKind::DeadlineExceeded => {}
                Cause::NotSent { retry: false } => {}
                Cause::Broken | Cause::NotSent { retry: true } => admitted.failed(),
                Cause::Status { code, .. } if code >= 500 => admitted.failed(),
                Cause::Status { .. } | Cause::Answer => admitted.answered(),
            },
            Ok(_) => admitted.answered(),
        }
        match answer {
            // Without a deadline of the caller's, it's the host that took too long.
            Err(failed) if failed.kind() == ErrorKind::DeadlineExceeded && !until_deadline => {
                let error = Error::unavailable(format!("Databricks gave no answer to {what} in {} s", timeout.as_secs()));
                Err(ApiError::new(error, failed.cause))
            }
            answer => answer,
        }
    }
}

/// Sends one request and reads its answer. Time running out is `DeadlineExceeded`.
pub(crate) async fn exchange(what: &str, request: reqwest::RequestBuilder, bytes_max: usize, secrets: &[&str]) -> Result<Bytes, ApiError> {
    let response = request.send().await.map_err(|e| of_transport(what, e))?;
    let status = response.status();
    let retry_after = retry::retry_after(response.headers());
    let body = body::read(response, bytes_max).await;
    if status.is_success() {
        return body.map_err(|e| match e {
            BodyError::Broken(e) => of_transport(what, e),
            BodyError::TooLarge => {
                let message = format!("Databricks' answer to {what} is larger than {bytes_max} bytes");
                ApiError::new(Error::classed(ErrorKind::ResourceExhausted, "ANSWER_TOO_LARGE", "54000", message), Cause::Answer)
            }
        });
    }
    // The status alone decides; the text is only worth having.
    let text = body.unwrap_or_default();
    Err(ApiError::of_status(what, status.as_u16(), retry_after, &text, secrets))
}

fn of_transport(what: &str, error: reqwest::Error) -> ApiError {
    let error = error.without_url();
    let reason = chain(&error);
    if error.is_connect() {
        let error = Error::unavailable(format!("can't connect to Databricks for {what}: {reason}"));
        return ApiError::new(error, Cause::NotSent { retry: true });
    }
    if error.is_builder() {
        return ApiError::not_sent(Error::invalid(format!("{what} can't be asked of Databricks: {reason}")));
    }
    if error.is_timeout() {
        return ApiError::new(deadline_passed(what), Cause::Broken);
    }
    ApiError::new(Error::unavailable(format!("the connection to Databricks broke during {what}: {reason}")), Cause::Broken)
}

fn deadline_passed(what: &str) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, format!("no time was left for Databricks to answer {what}"))
}

/// An error and its causes in one line; reqwest's own text doesn't name them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    crate::error::scrub(&text, &[])
}

/// The time for one try, and whether it's the deadline that limits it.
fn time_left(most: Duration, deadline: Option<Instant>) -> (Duration, bool) {
    match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
        Some(left) if left < most => (left, true),
        _ => (most, false),
    }
}

fn encode(body: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|_| Error::internal("a request to Databricks can't be written as JSON"))
}

/// The answer as `T`; an empty body reads as JSON's `null`. One that ends too early counts as a
/// broken connection, as proxies cut answers short. The text of a mismatch isn't told: it quotes the
/// answer, which may hold credentials.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, ApiError> {
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"null" } else { body };
    serde_json::from_slice(body).map_err(|e| {
        let at = format!("line {} column {}", e.line(), e.column());
        let error = Error::unavailable(format!("Databricks' answer to {what} isn't understood, at {at}"));
        ApiError::new(error, if e.is_eof() { Cause::Broken } else { Cause::Answer })
    })
}
