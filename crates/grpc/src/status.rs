//! The one place where an error becomes a gRPC status. Matches every kind, so that a new kind
//! forces a decision here; never looks at an error's text.

use flightpath_types::{Error, ErrorKind};
use tonic::{Code, Status};

/// gRPC clients read at most 8 KB of headers, and the message travels percent-encoded in one.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The gRPC code of each kind.
///
/// `Raised` (the query's own division by zero, overflow, bad cast) is INVALID_ARGUMENT: ADBC makes
/// that a `ProgrammingError` that shows the message with class and SQL state, and no client library
/// retries it. FAILED_PRECONDITION or OUT_OF_RANGE would read as "try later" or vanish into
/// "unknown" in some drivers.
pub fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::NotEligible => Code::Unimplemented,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Raised => Code::InvalidArgument,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The status a client sees: class, message and SQL state as one text. Defects of ours are logged.
pub fn status_of(error: &Error) -> Status {
    if error.kind() == ErrorKind::Internal {
        tracing::error!(error = %error, "internal error answered to a client");
    }
    Status::new(code_of(error.kind()), shorten(error.to_string()))
}

/// Cuts a text so that its percent-encoded form fits a client's header limit.
fn shorten(text: String) -> String {
    let mut encoded_bytes = 0;
    for (at, character) in text.char_indices() {
        encoded_bytes += match character {
            ' '..='~' if character != '%' => 1,
            other => other.len_utf8() * 3,
        };
        if encoded_bytes > MESSAGE_BYTES_MAX {
            return format!("{}... (shortened)", &text[..at]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_and_none_is_ok_or_unknown() {
        for kind in ErrorKind::ALL {
            assert!(!matches!(code_of(kind), Code::Ok | Code::Unknown), "{kind:?}");
        }
    }

    #[test]
    fn class_and_sql_state_are_in_the_message() {
        let status = status_of(&Error::raised("DIVIDE_BY_ZERO", "22012", "Division by zero."));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "[DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let status = status_of(&Error::invalid("ä".repeat(10_000)));
        assert!(status.message().ends_with("ä... (shortened)"));
        assert!(status.message().chars().filter(|c| *c == 'ä').count() * 6 <= MESSAGE_BYTES_MAX);
    }
}
