//! What went wrong with a call: one error with its kind, and what a caller may decide by.

use std::fmt;
use std::time::Duration;

use flightpath_types::{Error, ErrorKind};
use serde::Deserialize;

/// A failed call. `Display` is fit for a client and a log.
#[derive(Debug, Clone)]
pub struct ApiError {
    error: Error,
    status: Option<u16>,
    error_code: Option<String>,
    pub(crate) cause: Cause,
}

/// What decides whether a call may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing was sent: bad arguments, no token, breaker open, no connection.
    NotSent { retry: bool },
    /// It may have been carried out: the connection broke or the time ran out.
    Broken,
    /// The answer's status, and how long the server asked to wait.
    Status { code: u16, retry_after: Option<Duration> },
    /// Carried out, with an answer that isn't understood.
    Answer,
}

impl ApiError {
    /// A failure before anything was sent, which trying again wouldn't mend.
    pub(crate) fn not_sent(error: Error) -> Self {
        Self { error, status: None, error_code: None, cause: Cause::NotSent { retry: false } }
    }

    pub(crate) fn new(error: Error, cause: Cause) -> Self {
        Self { error, status: None, error_code: None, cause }
    }

    /// An answer with a status that isn't a success. `body` is what came with it; `secrets` are
    /// taken out of it.
    pub(crate) fn of_status(what: &str, code: u16, retry_after: Option<Duration>, body: &[u8], secrets: &[&str]) -> Self {
        let said: Said = serde_json::from_slice(body).unwrap_or_default();
        let error_code = said.error_code.filter(|code| is_code(code));
        let kind = kind_of(code, error_code.as_deref());
        let mut message = format!("Databricks answered {what} with status {code}");
        if let Some(code) = &error_code {
            message.push_str(&format!(" {code}"));
        }
        if let Some(text) = said.message.or(said.error_description).or(said.error) {
            message.push_str(&format!(": {}", scrub(&text, secrets)));
        }
        let error = of_kind(kind, code, error_code.as_deref(), message);
        Self { error, status: Some(code), error_code, cause: Cause::Status { code, retry_after } }
    }

    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Databricks' own code: `TABLE_DOES_NOT_EXIST`. An open set.
    pub fn error_code(&self) -> Option<&str> {
        self.error_code.as_deref()
    }

    pub fn as_error(&self) -> &Error {
        &self.error
    }

    /// Whether the call may have been carried out although it failed.
    pub fn outcome_unknown(&self) -> bool {
        match self.cause {
            Cause::NotSent { .. } => false,
            Cause::Broken | Cause::Answer => true,
            Cause::Status { code, retry_after } => code >= 500 && !(code == 503 && retry_after.is_some()),
        }
    }

    #[must_use]
    pub(crate) fn note(mut self, note: &str) -> Self {
        let (kind, message) = (self.error.kind(), format!("{}; {note}", self.error.message()));
        self.error = match (self.error.class(), self.error.sql_state()) {
            (Some(class), Some(state)) => Error::classed(kind, class.to_string(), state.to_string(), message),
            _ => Error::new(kind, message),
        };
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for Error {
    fn from(failed: ApiError) -> Self {
        failed.error
    }
}

/// Databricks' shape of an error, and OAuth's.
#[derive(Default, Deserialize)]
struct Said {
    error_code: Option<String>,
    message: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// What a code of Databricks means, whatever status it came with; `None` for one that isn't known.
pub fn kind_of_error_code(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "UNAUTHENTICATED" | "invalid_client" | "invalid_grant" | "unauthorized_client" => ErrorKind::Unauthenticated,
        "PERMISSION_DENIED" | "INSUFFICIENT_PERMISSIONS" => ErrorKind::PermissionDenied,
        "NOT_FOUND" | "RESOURCE_DOES_NOT_EXIST" | "ENDPOINT_NOT_FOUND" => ErrorKind::NotFound,
        "RESOURCE_EXHAUSTED" | "RESOURCE_LIMIT_EXCEEDED" | "REQUEST_LIMIT_EXCEEDED" | "QUOTA_EXCEEDED" => ErrorKind::ResourceExhausted,
        "TEMPORARILY_UNAVAILABLE"
        | "SERVICE_UNAVAILABLE"
        | "SERVICE_UNDER_MAINTENANCE"
        | "WORKSPACE_TEMPORARILY_UNAVAILABLE"
        | "INTERNAL_ERROR"
        | "IO_ERROR"
        | "UNKNOWN"
        | "ABORTED"
        | "DATA_LOSS" => ErrorKind::Unavailable,
        "DEADLINE_EXCEEDED" => ErrorKind::DeadlineExceeded,
        "CANCELLED" | "CANCELED" => ErrorKind::Cancelled,
        "BAD_REQUEST"
        | "INVALID_PARAMETER_VALUE"
        | "INVALID_REQUEST"
        | "MALFORMED_REQUEST"
        | "INVALID_STATE"
        | "ALREADY_EXISTS"
        | "RESOURCE_ALREADY_EXISTS"
        | "NOT_IMPLEMENTED" => ErrorKind::InvalidArgument,
        code if code.ends_with("_DOES_NOT_EXIST") => ErrorKind::NotFound,
        _ => return None,
    })
}

fn kind_of(status: u16, error_code: Option<&str>) -> ErrorKind {
    match status {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::PermissionDenied,
        404 => error_code.and_then(kind_of_error_code).filter(|kind| *kind == ErrorKind::PermissionDenied).unwrap_or(ErrorKind::NotFound),
        408 | 425 => ErrorKind::Unavailable,
        429 => ErrorKind::ResourceExhausted,
        499 => ErrorKind::Cancelled,
        400..=499 => error_code.and_then(kind_of_error_code).unwrap_or(ErrorKind::InvalidArgument),
        _ => ErrorKind::Unavailable,
    }
}

/// A limit has a class: without one it would pass for an engine's want of memory.
fn of_kind(kind: ErrorKind, status: u16, error_code: Option<&str>, message: String) -> Error {
    if kind != ErrorKind::ResourceExhausted {
        return Error::new(kind, message);
    }
    let class = if status == 429 { "TOO_MANY_REQUESTS" } else { error_code.unwrap_or("RESOURCE_EXHAUSTED") };
    Error::classed(kind, class.to_string(), "53400", message)
}

fn is_code(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

/// Longest text of a server that is handed on, in characters.
const TEXT_CHARS_MAX: usize = 2_000;

/// A server's text without the secrets of the call and without what follows the `?` of a URL.
pub(crate) fn scrub(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_string();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "[hidden]");
    }
    let mut out = String::with_capacity(text.len().min(TEXT_CHARS_MAX));
    let mut rest = text.as_str();
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "\"'<>`".contains(c)).unwrap_or(after.len());
        let url = &after[..end];
        let shown = url.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = shown.split_at(shown.find('/').unwrap_or(shown.len()));
        // `user:password@`; a name alone, as in `abfss://container@account`, is none.
        out.push_str(match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => host,
            _ => authority,
        });
        out.push_str(path);
        rest = &after[end..];
    }
    out.push_str(rest);
    match out.char_indices().nth(TEXT_CHARS_MAX) {
        Some((cut, _)) => format!("{}...", &out[..cut]),
        None => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_servers_lose_secrets_and_queries() {
        let text = scrub("token dapi123 at https://u:p@h.test/a?sig=abc#x, 'https://h.test/b?sig=d' end", &["dapi123"]);
        assert_eq!(text, "token [hidden] at https://h.test/a 'https://h.test/b' end");
        assert_eq!(scrub("abfss://c@a.test/x@y", &[]), "abfss://c@a.test/x@y");
        assert_eq!(scrub(&"é".repeat(3_000), &[]).chars().count(), TEXT_CHARS_MAX + 3);
    }

    #[test]
    fn statuses_have_kinds() {
        let of = |status, body: &str| ApiError::of_status("GET /x", status, None, body.as_bytes(), &[]);
        assert_eq!(of(404, "{}").kind(), ErrorKind::NotFound);
        assert_eq!(of(400, r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"no"}"#).kind(), ErrorKind::NotFound);
        assert_eq!(of(400, "not json").kind(), ErrorKind::InvalidArgument);
        assert_eq!(of(429, "").kind(), ErrorKind::ResourceExhausted);
        assert_eq!(of(302, "").kind(), ErrorKind::Unavailable);
        let quota = of(400, r#"{"error_code":"QUOTA_EXCEEDED","message":"no"}"#);
        assert_eq!((quota.kind(), quota.as_error().class()), (ErrorKind::ResourceExhausted, Some("QUOTA_EXCEEDED")));
        let busy = of(429, r#"{"error_code":"REQUEST_LIMIT_EXCEEDED","message":"no"}"#).note("tried 5 times");
        let told =
            "[TOO_MANY_REQUESTS] Databricks answered GET /x with status 429 REQUEST_LIMIT_EXCEEDED: no; tried 5 times SQLSTATE: 53400";
        assert_eq!(busy.to_string(), told);
        let broken = of(500, "").note("tried 5 times");
        assert_eq!(broken.to_string(), "Databricks answered GET /x with status 500; tried 5 times");
        let denied = of(403, r#"{"error_code":"PERMISSION_DENIED","message":"User may not."}"#);
        assert_eq!(denied.to_string(), "Databricks answered GET /x with status 403 PERMISSION_DENIED: User may not.");
        assert_eq!(denied.error_code(), Some("PERMISSION_DENIED"));
    }

    #[test]
    fn what_may_have_happened_is_known() {
        let of = |status, wait| ApiError::of_status("POST /x", status, wait, b"", &[]).outcome_unknown();
        assert!(of(500, None) && of(503, None) && of(504, Some(Duration::ZERO)));
        assert!(!of(503, Some(Duration::ZERO)) && !of(429, None) && !of(400, None));
    }
}
