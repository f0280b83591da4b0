//! OAuth for machines: discovery, client credentials, and the exchange of a user's JWT. The JWT's
//! signature isn't checked, because there's no identity provider to check it with: this is a
//! simulation. Tokens expire; there are no refresh tokens.

use std::time::Duration;

use axum::Json;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::state::App;
use crate::wire::Answered;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

pub(crate) async fn discovery(State(app): State<App>) -> Answered {
    let url = &app.url;
    Ok(Json(json!({
        "issuer": format!("{url}/oidc"), "token_endpoint": format!("{url}/oidc/v1/token"),
        "authorization_endpoint": format!("{url}/oidc/v1/authorize"), "scopes_supported": ["all-apis", "offline_access", "sql"],
        "grant_types_supported": ["client_credentials", EXCHANGE],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
    }))
    .into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TokenRequest {
    grant_type: String,
    scope: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    subject_token: String,
    subject_token_type: String,
}

pub(crate) async fn token(State(app): State<App>, headers: HeaderMap, Form(request): Form<TokenRequest>) -> Answered {
    let principal = match request.grant_type.as_str() {
        "client_credentials" => {
            let posted = request.client_id.clone().zip(request.client_secret.clone());
            let Some((id, secret)) = basic(&headers).or(posted) else {
                return Ok(refused(StatusCode::UNAUTHORIZED, "invalid_client", "Client authentication failed"));
            };
            app.accounts.client(&id, &secret).map(String::from)
        }
        EXCHANGE if request.subject_token_type != JWT => {
            return Ok(refused(StatusCode::BAD_REQUEST, "invalid_request", "subject_token_type must be a JWT"));
        }
        EXCHANGE => subject(&request.subject_token).and_then(|sub| app.accounts.subject(&sub).map(String::from)),
        _ => return Ok(refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", "client_credentials or token-exchange")),
    };
    let Some(principal) = principal else {
        let code = if request.grant_type == EXCHANGE { "invalid_grant" } else { "invalid_client" };
        return Ok(refused(StatusCode::UNAUTHORIZED, code, "Client authentication failed"));
    };
    let lifetime = Duration::from_millis(app.settings().oauth_token_lifetime_ms);
    let scope = if request.scope.is_empty() { "all-apis" } else { &request.scope };
    Ok(Json(json!({
        "access_token": app.accounts.issue(&principal, lifetime), "token_type": "Bearer", "expires_in": lifetime.as_secs(), "scope": scope,
    }))
    .into_response())
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((id.to_string(), secret.to_string()))
}

/// The `sub` of a JWT that hasn't expired.
fn subject(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let expired = claims["exp"].as_i64().is_some_and(|exp| exp <= chrono::Utc::now().timestamp());
    claims["sub"].as_str().filter(|_| !expired).map(String::from)
}

fn refused(status: StatusCode, error: &str, description: &str) -> Response {
    (status, Json(json!({"error": error, "error_description": format!("{description} (simulated)")}))).into_response()
}
