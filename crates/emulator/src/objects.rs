//! A simulated S3 bucket over the tables' folders, as strict as a real one about who reads: every
//! request is signed (AWS Signature Version 4) with credentials that were vended for one table and
//! one user, carries their session token, and comes before they expire. It reads only.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::state::App;
use crate::storage::refused;

/// The bucket that all tables are in.
pub(crate) const BUCKET: &str = "simulated";
/// Where buckets are reached, path-style.
pub(crate) const ENDPOINT: &str = "/objects";
const PAGE_MAX: usize = 1_000;
/// What a signature leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What one set of credentials opens.
#[derive(Clone)]
struct Grant {
    user: String,
    table: String,
    /// Key of the table's folder.
    prefix: String,
    folder: PathBuf,
    secret: String,
    token: String,
    until: Instant,
}

/// Credentials that were vended, by access key.
#[derive(Default)]
pub(crate) struct Grants {
    known: Mutex<HashMap<String, Grant>>,
}

/// The parts that a client signs with.
pub(crate) struct Keys {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
}

impl Grants {
    pub fn vend(&self, user: &str, table: &str, prefix: String, folder: &str, lifetime: Duration) -> Keys {
        let [access_key_id, secret, token] = std::array::from_fn(|_| Uuid::new_v4().simple().to_string());
        let grant = Grant {
            user: user.into(),
            table: table.into(),
            prefix,
            folder: folder.into(),
            secret: secret.clone(),
            token: token.clone(),
            until: Instant::now() + lifetime,
        };
        let mut known = self.known.lock();
        let now = Instant::now();
        // They are told to have expired for a while, then they're forgotten.
        known.retain(|_, grant| now.saturating_duration_since(grant.until) < Duration::from_secs(600));
        known.insert(access_key_id.clone(), grant);
        Keys { access_key_id, secret_access_key: secret, session_token: token }
    }
}

type Refusal = (StatusCode, &'static str, &'static str);

/// GET, HEAD and ListObjectsV2.
pub(crate) async fn get(State(app): State<App>, request: Request) -> Response {
    match answer(&app, &request) {
        Ok(response) => response,
        Err((status, code, message)) => {
            app.counters.object_refused(code);
            refused(status, code, message)
        }
    }
}

fn answer(app: &App, request: &Request) -> Result<Response, Refusal> {
    let grant = admitted(app, request)?;
    let path = request.uri().path().strip_prefix(ENDPOINT).unwrap_or_default();
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    if bucket != BUCKET {
        return Err((StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist"));
    }
    let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
    let query = pairs(request.uri().query().unwrap_or_default());
    let response = match key.is_empty() {
        true => list(&grant, &query)?,
        false => object(&grant, &key, request.headers())?,
    };
    app.counters.object_read(&grant.user, &grant.table);
    Ok(response)
}

/// Whose request this is, if it's signed as it should be.
fn admitted(app: &App, request: &Request) -> Result<Grant, Refusal> {
    let denied = |code, message| (StatusCode::FORBIDDEN, code, message);
    let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    let missing = || denied("AccessDenied", "The request carries no credentials");
    let authorization = text("authorization").and_then(|v| v.strip_prefix("AWS4-HMAC-SHA256 ")).ok_or_else(missing)?;
    let part = |name: &str| authorization.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let (Some(credential), Some(signed), Some(signature)) = (part("Credential"), part("SignedHeaders"), part("Signature")) else {
        return Err(missing());
    };
    let (key_id, scope) = credential.split_once('/').ok_or_else(missing)?;
    let grant = app.grants.known.lock().get(key_id).cloned();
    let grant = grant.ok_or(denied("InvalidAccessKeyId", "The access key does not exist in our records"))?;
    let names: Vec<&str> = signed.split(';').collect();
    if text("x-amz-security-token") != Some(grant.token.as_str()) || !names.contains(&"x-amz-security-token") {
        return Err((StatusCode::BAD_REQUEST, "InvalidToken", "The provided token is malformed or otherwise invalid"));
    }
    if expected_signature(request, &grant.secret, scope, &names).as_deref() != Some(signature) {
        return Err(denied("SignatureDoesNotMatch", "The signature we calculated does not match"));
    }
    if Instant::now() >= grant.until {
        return Err((StatusCode::BAD_REQUEST, "ExpiredToken", "The provided token has expired"));
    }
    Ok(grant)
}

fn expected_signature(request: &Request, secret: &str, scope: &str, names: &[&str]) -> Option<String> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    let mut query: Vec<(String, String)> = pairs(request.uri().query().unwrap_or_default());
    query.sort();
    let encoded = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let mut headers = String::new();
    for name in names {
        headers.push_str(&format!("{name}:{}\n", header(name)?.trim()));
    }
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        request.method(),
        request.uri().path(),
        query.join("&"),
        names.join(";"),
        header("x-amz-content-sha256")?
    );
    let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", header("x-amz-date")?, hex::encode(Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = keyed(&key, part)?;
    }
    Some(hex::encode(keyed(&key, &to_sign)?))
}

fn keyed(key: &[u8], text: &str) -> Option<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(text.as_bytes());
    Some(mac.finalize().into_bytes().to_vec())
}

/// Decoded.
fn pairs(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, ""))).map(|(name, value)| (decoded(name), decoded(value))).collect()
}

const OUTSIDE: Refusal = (StatusCode::FORBIDDEN, "AccessDenied", "The credentials are for another table");

fn object(grant: &Grant, key: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
    let rest = key.strip_prefix(&grant.prefix).and_then(|rest| rest.strip_prefix('/')).ok_or(OUTSIDE)?;
    if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(OUTSIDE);
    }
    let missing = (StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist");
    let broken = (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "The object can't be read");
    let mut file = File::open(grant.folder.join(rest)).map_err(|_| missing)?;
    let metadata = file.metadata().ok().filter(|m| m.is_file()).ok_or(missing)?;
    let size = metadata.len();
    let range = headers.get(header::RANGE).and_then(|v| v.to_str().ok()).map(|range| bounds(range, size));
    let (from, to) = match range {
        None => (0, size),
        Some(Some(range)) => range,
        Some(None) => return Err((StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "The requested range is not satisfiable")),
    };
    let mut body = Vec::new();
    let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.take(to - from).read_to_end(&mut body));
    read.map_err(|_| broken)?;
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = (status, [(header::ETAG, etag(&metadata)), (header::LAST_MODIFIED, http_date(&metadata))], body).into_response();
    if range.is_some()
        && let Ok(value) = format!("bytes {from}-{}/{size}", to.saturating_sub(1)).parse()
    {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// Half open.
fn bounds(range: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from, to) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size),
        (from, "") => (from.parse().ok()?, size),
        (from, to) => (from.parse().ok()?, to.parse::<u64>().ok()?.saturating_add(1).min(size)),
    };
    (from < to).then_some((from, to))
}

fn list(grant: &Grant, query: &[(String, String)]) -> Result<Response, Refusal> {
    let value = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let prefix = value("prefix").unwrap_or_default();
    let inside = prefix.strip_prefix(&grant.prefix).is_some_and(|rest| rest.starts_with('/'));
    if !inside || prefix.split('/').any(|part| part == "..") {
        return Err(OUTSIDE);
    }
    let mut keys = Vec::new();
    walk(&grant.folder, &grant.prefix, &mut keys);
    let after = value("continuation-token").or(value("start-after")).unwrap_or_default();
    keys.retain(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
    keys.sort_by(|(a, _), (b, _)| a.cmp(b));
    let more = keys.len() > PAGE_MAX;
    keys.truncate(PAGE_MAX);
    let mut body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>{BUCKET}</Name><Prefix>{}</Prefix><KeyCount>{}</KeyCount><IsTruncated>{more}</IsTruncated>",
        escaped(prefix),
        keys.len()
    );
    if let (true, Some((last, _))) = (more, keys.last()) {
        body.push_str(&format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(last)));
    }
    for (key, metadata) in &keys {
        let modified: chrono::DateTime<chrono::Utc> = metadata.modified().unwrap_or(UNIX_EPOCH).into();
        body.push_str(&format!(
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
            escaped(key),
            modified.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            escaped(&etag(metadata)),
            metadata.len()
        ));
    }
    body.push_str("</ListBucketResult>");
    Ok(([(header::CONTENT_TYPE, "application/xml")], body).into_response())
}

fn walk(folder: &FilePath, prefix: &str, keys: &mut Vec<(String, std::fs::Metadata)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) else { continue };
        let key = format!("{prefix}/{name}");
        match metadata.is_dir() {
            true => walk(&entry.path(), &key, keys),
            false => keys.push((key, metadata)),
        }
    }
}

fn etag(metadata: &std::fs::Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("\"{:x}-{:x}\"", modified.as_nanos(), metadata.len())
}

fn http_date(metadata: &std::fs::Metadata) -> String {
    let modified: chrono::DateTime<chrono::Utc> = metadata.modified().unwrap_or(UNIX_EPOCH).into();
    modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
