//! The storage behind result links. It knows no users: a link is its own permission, for a while.
//! It refuses what a real object store refuses, an Authorization header above all, and counts that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::spool::Stored;
use crate::state::App;
use crate::wire::Answered;

/// Demanded on every download; its value comes with the link, in `http_headers`.
const KEY_HEADER: &str = "x-simulated-storage-key";

struct Link {
    signature: String,
    key: String,
    until: Instant,
    stored: Arc<Stored>,
}

#[derive(Default)]
pub(crate) struct Links {
    known: Mutex<HashMap<String, Link>>,
}

/// What goes into `external_links[]`.
pub(crate) struct Issued {
    pub url: String,
    pub expiration: String,
    pub http_headers: Json,
}

impl Links {
    pub fn issue(&self, base: &str, stored: Arc<Stored>, lifetime: Duration) -> Issued {
        let [id, signature, key] = std::array::from_fn(|_| Uuid::new_v4().simple().to_string());
        let expires = chrono::Utc::now() + chrono::TimeDelta::from_std(lifetime).unwrap_or(chrono::TimeDelta::MAX);
        let now = Instant::now();
        let mut known = self.known.lock();
        // A link is told to have expired for a while, then it's forgotten.
        known.retain(|_, link| now.saturating_duration_since(link.until) < Duration::from_secs(600));
        let url = format!("{base}/storage/{id}?X-Simulated-Signature={signature}");
        let http_headers = json!({KEY_HEADER: key});
        known.insert(id, Link { signature, key, until: now + lifetime, stored });
        Issued { url, expiration: expires.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), http_headers }
    }
}

#[derive(Deserialize)]
pub(crate) struct Signed {
    #[serde(rename = "X-Simulated-Signature")]
    signature: Option<String>,
}

pub(crate) async fn get(State(app): State<App>, headers: HeaderMap, Path(id): Path<String>, Query(signed): Query<Signed>) -> Answered {
    app.counters.storage_request();
    if headers.contains_key(header::AUTHORIZATION) {
        app.counters.storage_with_authorization();
        return Ok(refused(StatusCode::BAD_REQUEST, "InvalidArgument", "Only one auth mechanism allowed: this link carries its own"));
    }
    let stored = {
        let known = app.links.known.lock();
        let Some(link) = known.get(&id).filter(|link| Some(&link.signature) == signed.signature.as_ref()) else {
            return Ok(refused(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "The link isn't one that the simulation issued"));
        };
        if headers.get(KEY_HEADER).and_then(|v| v.to_str().ok()) != Some(link.key.as_str()) {
            app.counters.storage_without_headers();
            return Ok(refused(StatusCode::FORBIDDEN, "AccessDenied", "The headers of the link's http_headers are missing"));
        }
        if Instant::now() >= link.until {
            return Ok(refused(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired"));
        }
        link.stored.clone()
    };
    match stored.read().await {
        Ok(body) => Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()),
        Err(error) => Ok(refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.message())),
    }
}

/// An error as an object store writes it.
pub(crate) fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message} (simulated storage)</Message></Error>"
    );
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}
