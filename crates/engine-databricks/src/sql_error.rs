//! Failed statements as typed errors. Databricks' class and SQL state stand in the message's own
//! fixed form, `[CLASS] text SQLSTATE: 22012`; the kind comes from the SQL state, never from words.

use flightpath_databricks::kind_of_error_code;
use flightpath_types::{Error, ErrorKind};

use crate::wire::{State, Status};

/// The error of a statement that ended without a result.
pub(crate) fn of_status(status: &Status) -> Error {
    let error = status.error.as_ref();
    let code = error.and_then(|e| e.error_code.as_deref());
    let text = error.and_then(|e| e.message.as_deref()).unwrap_or_default();
    let parsed = Parsed::of(text, status.sql_state.as_deref());
    let by_code = code.and_then(kind_of_error_code);
    let default = if status.state == State::Canceled { ErrorKind::Cancelled } else { by_code.unwrap_or(ErrorKind::Internal) };
    let kind = parsed.state.as_deref().and_then(kind_of_sql_state).unwrap_or(default);
    let message = match parsed.text.is_empty() {
        false => parsed.text,
        true if status.state == State::Canceled => "Databricks cancelled the statement".into(),
        true => format!("the statement failed on Databricks with {}", code.unwrap_or("no reason given")),
    };
    if kind == ErrorKind::ResourceExhausted {
        let (class, state) = (parsed.class.unwrap_or_else(|| limit_class(code)), parsed.state.unwrap_or_else(|| LIMIT_STATE.into()));
        return Error::classed(kind, class, state, message);
    }
    match (parsed.class, parsed.state) {
        (Some(class), Some(state)) => Error::classed(kind, class, state, message),
        (Some(class), None) => Error::new(kind, format!("[{class}] {message}")),
        (None, Some(state)) => Error::new(kind, format!("{message} SQLSTATE: {state}")),
        (None, None) => Error::new(kind, message),
    }
}

/// Insufficient resources, where Databricks names no state of its own.
const LIMIT_STATE: &str = "53000";

/// The class of a limit that came without one. A limit without any would pass for want of memory,
/// which a warehouse doesn't end a query for: it spills.
fn limit_class(code: Option<&str>) -> String {
    let of_limits = code.filter(|code| kind_of_error_code(code) == Some(ErrorKind::ResourceExhausted));
    of_limits.unwrap_or("RESOURCE_EXHAUSTED").into()
}

struct Parsed {
    class: Option<String>,
    state: Option<String>,
    text: String,
}

const MARK: &str = "SQLSTATE: ";

impl Parsed {
    fn of(message: &str, state: Option<&str>) -> Self {
        let mut text = message.trim().to_string();
        let mut found = None;
        if let Some(at) = text.rfind(MARK)
            && let Some(code) = text.get(at + MARK.len()..at + MARK.len() + 5)
            && is_sql_state(code)
        {
            found = Some(code.to_string());
            // What follows may be the place in the text and the text itself.
            let rest = text[at + MARK.len() + 5..].to_string();
            text.truncate(at);
            text.truncate(text.trim_end().len());
            if !rest.trim().is_empty() {
                text.push_str(if rest.starts_with(char::is_whitespace) { "" } else { " " });
                text.push_str(rest.trim_end());
            }
        }
        let class = leading_class(&text);
        if let Some((_, length)) = &class {
            text = text[*length..].trim_start().to_string();
        }
        let state = state.filter(|s| is_sql_state(s)).map(str::to_string).or(found);
        Self { class: class.map(|(class, _)| class), state, text }
    }
}

/// `[CLASS]` or `[CLASS.SUBCLASS]` at the start, and its length.
fn leading_class(text: &str) -> Option<(String, usize)> {
    let (class, _) = text.strip_prefix('[')?.split_once(']')?;
    let fits = class.starts_with(|c: char| c.is_ascii_uppercase())
        && class.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b'.');
    fits.then(|| (class.to_string(), class.len() + 2))
}

fn is_sql_state(text: &str) -> bool {
    text.len() == 5 && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// The kind of a SQL state, by its class of two characters where it isn't singled out.
fn kind_of_sql_state(state: &str) -> Option<ErrorKind> {
    Some(match state {
        "42501" => ErrorKind::PermissionDenied,
        // Undefined: catalog, schema, table or view, other object.
        "3D000" | "3F000" | "42P01" | "42704" => ErrorKind::NotFound,
        "57014" => ErrorKind::Cancelled,
        _ => match state.get(..2)? {
            // Cardinality, data, constraint: the statement's own doing. P0: `raise_error`.
            "21" | "22" | "23" | "P0" => ErrorKind::Raised,
            "07" | "0A" | "2B" | "42" | "44" | "46" => ErrorKind::InvalidArgument,
            "28" => ErrorKind::PermissionDenied,
            "08" | "57" | "58" => ErrorKind::Unavailable,
            "53" | "54" => ErrorKind::ResourceExhausted,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::StatusError;

    fn failed(code: &str, message: &str, sql_state: Option<&str>) -> Error {
        let error = Some(StatusError { error_code: Some(code.into()), message: Some(message.into()) });
        of_status(&Status { state: State::Failed, error, sql_state: sql_state.map(Into::into) })
    }

    #[test]
    fn class_and_state_are_taken_from_their_places() {
        let error = failed("BAD_REQUEST", "[DIVIDE_BY_ZERO] Division by zero. Use try_divide. SQLSTATE: 22012", None);
        assert_eq!(error.kind(), ErrorKind::Raised);
        assert_eq!((error.class(), error.sql_state()), (Some("DIVIDE_BY_ZERO"), Some("22012")));
        assert_eq!(error.to_string(), "[DIVIDE_BY_ZERO] Division by zero. Use try_divide. SQLSTATE: 22012");

        let text = "[PARSE_SYNTAX_ERROR] Syntax error at or near 'x'. SQLSTATE: 42601 (line 1, pos 7)\n\n== SQL ==\nSELECT x x x";
        let error = failed("BAD_REQUEST", text, None);
        assert_eq!((error.kind(), error.sql_state()), (ErrorKind::InvalidArgument, Some("42601")));
        assert!(error.message().ends_with("SELECT x x x"));
    }

    #[test]
    fn kinds_follow_the_sql_state_and_then_the_code() {
        let cases = [
            ("BAD_REQUEST", "[TABLE_OR_VIEW_NOT_FOUND] no. SQLSTATE: 42P01", None, ErrorKind::NotFound),
            ("BAD_REQUEST", "[X.Y] no", Some("42501"), ErrorKind::PermissionDenied),
            ("BAD_REQUEST", "words about 22012 only", None, ErrorKind::InvalidArgument),
            ("TEMPORARILY_UNAVAILABLE", "later", None, ErrorKind::Unavailable),
            ("RESOURCE_EXHAUSTED", "", None, ErrorKind::ResourceExhausted),
            ("SOMETHING_NEW", "what", Some("XXKD0"), ErrorKind::Internal),
        ];
        for (code, message, state, kind) in cases {
            assert_eq!(failed(code, message, state).kind(), kind, "{code} {message}");
        }
        // A limit always has a class, and its own where it came with one.
        let limits = [
            ("QUOTA_EXCEEDED", "too much", None, "[QUOTA_EXCEEDED] too much SQLSTATE: 53000"),
            ("BAD_REQUEST", "too many", Some("54000"), "[RESOURCE_EXHAUSTED] too many SQLSTATE: 54000"),
            ("BAD_REQUEST", "[X.Y] no SQLSTATE: 53200", None, "[X.Y] no SQLSTATE: 53200"),
            ("RESOURCE_EXHAUSTED", "[X] no", None, "[X] no SQLSTATE: 53000"),
        ];
        for (code, message, state, told) in limits {
            assert_eq!(failed(code, message, state).to_string(), told);
        }
        let cancelled = of_status(&Status { state: State::Canceled, error: None, sql_state: None });
        assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
    }
}
