//! Gets tokens: OAuth for machines, Azure's directory, and the exchange of a user's JWT.

use std::time::Duration;

use flightpath_types::{Error, ErrorKind};
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use crate::client::{decode, exchange};
use crate::config::{Auth, ClientConfig, Idempotency, Identity};
use crate::error::{ApiError, Cause};
use crate::retry::Tries;
use crate::token::own_token;
use crate::url_path;

const DISCOVERY_PATH: &str = "/oidc/.well-known/oauth-authorization-server";
const DISCOVERY: &str = "GET /oidc/.well-known/oauth-authorization-server";
/// Where tokens are issued when discovery isn't served.
const TOKEN_PATH: &str = "/oidc/v1/token";
const SCOPE: &str = "all-apis";
/// Azure Databricks as Azure's directory knows it; the same in every tenant.
const AZURE_SCOPE: &str = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default";
const GRANT_CLIENT: &str = "client_credentials";
const GRANT_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const SUBJECT_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// A token without a stated lifetime is taken to live as long as Databricks' do.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(3_600);
const LIFETIME_MAX: Duration = Duration::from_secs(7 * 86_400);
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
pub(crate) struct Fetched {
    pub(crate) token: SecretString,
    pub(crate) expires_in: Duration,
}

pub(crate) struct OAuth {
    config: ClientConfig,
    http: reqwest::Client,
    token_url: OnceCell<Url>,
}

#[derive(Deserialize)]
struct Discovered {
    token_endpoint: String,
}

#[derive(Deserialize)]
struct Issued {
    access_token: SecretText,
    expires_in: Option<u64>,
}

/// A secret as JSON text.
struct SecretText(SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|text| Self(SecretString::from(text)))
    }
}

/// One request for a token.
struct Ask<'a> {
    url: Url,
    basic: Option<(&'a str, &'a SecretString)>,
    form: Vec<(&'static str, &'a str)>,
    secret: &'a SecretString,
}

impl OAuth {
    pub(crate) fn new(config: &ClientConfig, http: reqwest::Client) -> Self {
        Self { config: config.clone(), http, token_url: OnceCell::new() }
    }

    pub(crate) async fn fetch(&self, auth: &Auth, who: &Identity) -> Result<Fetched, ApiError> {
        let ask = match auth {
            Auth::OAuthM2m { client_id, client_secret } => Ask {
                url: self.token_url().await?,
                basic: Some((client_id, client_secret)),
                form: vec![("grant_type", GRANT_CLIENT), ("scope", SCOPE)],
                secret: client_secret,
            },
            Auth::AzureServicePrincipal { tenant_id, client_id, client_secret, login_host } => Ask {
                url: url_path::below(login_host, &format!("/{}/oauth2/v2.0/token", url_path::segment(tenant_id)), &[])
                    .map_err(ApiError::not_sent)?,
                basic: None,
                form: vec![
                    ("grant_type", GRANT_CLIENT),
                    ("client_id", client_id),
                    ("client_secret", client_secret.expose_secret()),
                    ("scope", AZURE_SCOPE),
                ],
                secret: client_secret,
            },
            Auth::TokenExchange => {
                let jwt = own_token(who)?;
                let form = vec![
                    ("grant_type", GRANT_EXCHANGE),
                    ("subject_token", jwt.expose_secret()),
                    ("subject_token_type", SUBJECT_JWT),
                    ("scope", SCOPE),
                ];
                Ask { url: self.token_url().await?, basic: None, form, secret: jwt }
            }
            Auth::Pat(_) | Auth::PassThrough => return Err(ApiError::not_sent(Error::internal("this token isn't one to fetch"))),
        };
        let what = "POST for a token";
        let body = self
            .try_often(|| {
                let mut request = self.http.post(ask.url.clone()).form(&ask.form);
                if let Some((id, secret)) = ask.basic {
                    request = request.basic_auth(id, Some(secret.expose_secret()));
                }
                exchange_owned(what, request.timeout(self.config.token_timeout), ask.secret.clone())
            })
            .await
            .map_err(refused)?;
        let issued: Issued = decode(what, &body)?;
        let expires_in = issued.expires_in.map_or(LIFETIME_DEFAULT, Duration::from_secs).min(LIFETIME_MAX);
        Ok(Fetched { token: issued.access_token.0, expires_in })
    }

    /// Where the workspace issues tokens; asked once.
    async fn token_url(&self) -> Result<Url, ApiError> {
        self.token_url.get_or_try_init(|| self.discover()).await.cloned()
    }

    async fn discover(&self) -> Result<Url, ApiError> {
        let url = url_path::below(&self.config.host, DISCOVERY_PATH, &[]).map_err(ApiError::not_sent)?;
        let answer = self
            .try_often(|| {
                let request = self.http.get(url.clone()).timeout(self.config.token_timeout);
                exchange_owned(DISCOVERY, request, SecretString::default())
            })
            .await;
        let found = match answer {
            Ok(body) => Url::parse(&decode::<Discovered>(DISCOVERY, &body)?.token_endpoint)
                .map_err(|_| ApiError::not_sent(Error::unavailable("the workspace names a place for tokens that isn't a URL")))?,
            Err(failed) if failed.status() == Some(StatusCode::NOT_FOUND.as_u16()) => {
                url_path::below(&self.config.host, TOKEN_PATH, &[]).map_err(ApiError::not_sent)?
            }
            Err(failed) => return Err(failed),
        };
        // A secret never goes where it can be read on the way, unless the workspace itself is so.
        if found.scheme() != "https" && found.scheme() != self.config.host.scheme() {
            let error = Error::unavailable("the workspace names a place for tokens that isn't https");
            return Err(ApiError::not_sent(error));
        }
        Ok(found)
    }

    async fn try_often<F: Future<Output = Result<bytes::Bytes, ApiError>>>(&self, once: impl Fn() -> F) -> Result<bytes::Bytes, ApiError> {
        let mut tries = Tries::new(&self.config);
        loop {
            match once().await {
                Ok(body) => return Ok(body),
                Err(failed) => tokio::time::sleep(tries.next(failed, Idempotency::Safe, None)?).await,
            }
        }
    }
}

async fn exchange_owned(what: &'static str, request: reqwest::RequestBuilder, secret: SecretString) -> Result<bytes::Bytes, ApiError> {
    let answer = exchange(what, request, ANSWER_BYTES_MAX, &[secret.expose_secret()]).await;
    answer.map_err(|failed| match failed.kind() {
        // The time was the host's to keep, not the caller's.
        ErrorKind::DeadlineExceeded => ApiError::new(Error::unavailable(format!("no answer in time to {what}")), failed.cause),
        _ => failed,
    })
}

/// A token endpoint says 400 and 401 alike to credentials it doesn't take.
fn refused(failed: ApiError) -> ApiError {
    match failed.cause {
        Cause::Status { code: 400 | 401 | 403, .. } => {
            let message = format!("no token for Databricks: {}", failed.as_error().message());
            ApiError::new(Error::new(ErrorKind::Unauthenticated, message), failed.cause)
        }
        Cause::Status { .. } | Cause::NotSent { .. } | Cause::Broken | Cause::Answer => failed,
    }
}
