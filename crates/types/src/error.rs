//! The one error that crosses crates, engines and processes: a kind that decides what happens
//! next (retry, other engine, which gRPC code) and a message fit for the client.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Opens the text of an error that SQL *we* compiled raises inside an engine, as
/// `FLIGHTPATH_RAISED|CLASS|SQLSTATE|message`. Only the printer emits it and only the worker
/// reads it; nothing else is ever classified by its text.
pub const RAISED_PREFIX: &str = "FLIGHTPATH_RAISED|";

/// What sort of failure this is. Every consumer matches without a wildcard, so that a new
/// kind forces a decision everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The statement or an argument is wrong: syntax, types, unknown column, bad setting.
    InvalidArgument,
    /// A table, schema, catalog, prepared statement or query that doesn't exist.
    NotFound,
    /// Understood, but no engine that may run it can; says `not eligible` and why.
    NotEligible,
    /// This principal may not do that.
    PermissionDenied,
    /// Missing or wrong credentials.
    Unauthenticated,
    /// The query raised an error by its own semantics: division by zero, overflow, a bad cast.
    /// Deterministic: another engine would raise it too, so it is never retried.
    Raised,
    /// Memory, temp space, queue or another limit was exceeded.
    ResourceExhausted,
    /// The deadline passed.
    DeadlineExceeded,
    /// The client or an operator cancelled.
    Cancelled,
    /// An engine, worker or outside system is down or died; the same query may succeed elsewhere.
    Unavailable,
    /// Stored data can't be read: corrupt log, missing or truncated file.
    DataLoss,
    /// A defect of ours.
    Internal,
}

impl ErrorKind {
    pub const ALL: [ErrorKind; 12] = [
        ErrorKind::InvalidArgument,
        ErrorKind::NotFound,
        ErrorKind::NotEligible,
        ErrorKind::PermissionDenied,
        ErrorKind::Unauthenticated,
        ErrorKind::Raised,
        ErrorKind::ResourceExhausted,
        ErrorKind::DeadlineExceeded,
        ErrorKind::Cancelled,
        ErrorKind::Unavailable,
        ErrorKind::DataLoss,
        ErrorKind::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::InvalidArgument => "invalid_argument",
            ErrorKind::NotFound => "not_found",
            ErrorKind::NotEligible => "not_eligible",
            ErrorKind::PermissionDenied => "permission_denied",
            ErrorKind::Unauthenticated => "unauthenticated",
            ErrorKind::Raised => "raised",
            ErrorKind::ResourceExhausted => "resource_exhausted",
            ErrorKind::DeadlineExceeded => "deadline_exceeded",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::DataLoss => "data_loss",
            ErrorKind::Internal => "internal",
        }
    }

    /// Inverse of [`ErrorKind::as_str`]; how a kind travels between router and worker.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether another candidate may be tried, as long as no byte has reached the client.
    pub fn may_fail_over(self) -> bool {
        match self {
            ErrorKind::Unavailable | ErrorKind::ResourceExhausted | ErrorKind::Internal => true,
            ErrorKind::InvalidArgument
            | ErrorKind::NotFound
            | ErrorKind::NotEligible
            | ErrorKind::PermissionDenied
            | ErrorKind::Unauthenticated
            | ErrorKind::Raised
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Cancelled
            | ErrorKind::DataLoss => false,
        }
    }
}

/// A failure with its kind, Databricks' error class and SQL state where one applies, and a
/// message for the client: no paths of credentials, no secrets, what to do where that's known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    class: Option<Cow<'static, str>>,
    sql_state: Option<Cow<'static, str>>,
    message: String,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, class: None, sql_state: None, message: message.into() }
    }

    /// An error of Databricks' catalogue: `class` such as `DIVIDE_BY_ZERO`, `sql_state` such as `22012`.
    pub fn classed(
        kind: ErrorKind,
        class: impl Into<Cow<'static, str>>,
        sql_state: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, class: Some(class.into()), sql_state: Some(sql_state.into()), message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// `reason` completes the sentence "not eligible: ...".
    pub fn not_eligible(reason: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotEligible, format!("not eligible: {reason}"))
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// An error the query raises by itself at run time.
    pub fn raised(class: impl Into<Cow<'static, str>>, sql_state: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::classed(ErrorKind::Raised, class, sql_state, message)
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    pub fn sql_state(&self) -> Option<&str> {
        self.sql_state.as_deref()
    }

    /// The bare message, without class and SQL state.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same failure with `context: ` in front of its message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(class) = &self.class {
            write!(f, "[{class}] ")?;
        }
        f.write_str(&self.message)?;
        if let Some(state) = &self.sql_state {
            write!(f, " SQLSTATE: {state}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
