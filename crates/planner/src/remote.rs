//! The client's own text for a Databricks warehouse: what it is sent for a planned query, and what
//! becomes of statements that only Databricks understands. Never interprets those: it learns their
//! columns from the warehouse, and whether they are queries from their first word.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use flightpath_plan::DatabricksText;
use flightpath_types::{Error, ErrorKind, Result, SecretToken, Session};

use crate::parse;

/// How long a learned schema is promised without asking again.
pub(crate) const LEARNED_LIFETIME: Duration = Duration::from_secs(60);

/// First words of statements that answer with rows, change nothing, and that DESCRIBE QUERY takes.
const QUERY_WORDS: [&str; 5] = ["select", "with", "values", "from", "table"];
/// First words of statements that answer with rows, change nothing, and whose columns only running
/// them tells.
const LISTING_WORDS: [&str; 5] = ["show", "describe", "desc", "explain", "list"];

/// Asks the warehouse about statements that the planner doesn't understand.
#[async_trait]
pub trait RemoteDescriber: Send + Sync {
    /// Whether a catalog of this name lives in Databricks.
    fn has_catalog(&self, catalog: &str) -> bool;

    /// Whether statements that change something may be sent.
    fn writes_allowed(&self, session: &Session) -> bool;

    /// Whether the warehouse may be asked about a statement of this session, which may start it; why not.
    fn may_ask(&self, _session: &Session) -> Result<()> {
        Ok(())
    }

    /// The columns of a query.
    async fn describe(&self, text: &DatabricksText, session: &Session, token: Option<&SecretToken>) -> Result<SchemaRef>;

    /// The columns of a statement that shows something: it is run for them.
    async fn try_out(&self, text: &DatabricksText, session: &Session, token: Option<&SecretToken>) -> Result<SchemaRef>;
}

/// What sort of statement a text is by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Query,
    Listing,
    Write,
}

pub(crate) fn sort_of(text: &str) -> Sort {
    let word = first_word(text);
    if word.is_empty() || QUERY_WORDS.contains(&word.as_str()) {
        Sort::Query
    } else if LISTING_WORDS.contains(&word.as_str()) {
        Sort::Listing
    } else {
        Sort::Write
    }
}

/// Whether an error of ours leaves the statement to Databricks: what isn't understood, not what is
/// understood and wrong.
pub(crate) fn not_understood(error: &Error) -> bool {
    error.kind() == ErrorKind::NotEligible || error.class() == Some("PARSE_SYNTAX_ERROR")
}

/// Why a statement that changes something isn't sent, with what the planner said of it.
pub(crate) fn write_refused(why: &Error) -> Error {
    let what = why.message().trim_start_matches("not eligible: ");
    Error::not_eligible(format!(
        "{what}; the settings don't let it be sent to Databricks (`databricks.writes`, or `writes` of your profile)"
    ))
}

/// Why the warehouse isn't asked about a statement that it alone may understand, with what the planner said
/// of it. What is wrong with the session itself is said alone.
pub(crate) fn not_asked(why: &Error, refused: Error) -> Error {
    if refused.kind() != ErrorKind::NotEligible {
        return refused;
    }
    let [what, reason] = [why, &refused].map(|error| error.message().trim_start_matches("not eligible: "));
    Error::not_eligible(format!("{what}; Databricks may understand it and isn't asked: {reason}"))
}

/// What a statement that isn't a query answers with.
pub(crate) fn write_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("num_affected_rows", DataType::Int64, true)]))
}

/// How many parameters a text has.
pub(crate) fn parameters(text: &str) -> Result<usize> {
    if text.contains('?') { Ok(marker_offsets(text, &parse::tokens(text)?).len()) } else { Ok(0) }
}

/// The same with NULL for each value that isn't bound yet, to ask what the statement gives.
pub(crate) fn described(text: &DatabricksText, parameters: usize) -> DatabricksText {
    let mut text = text.clone();
    text.parameters.resize(parameters, ScalarValue::Null);
    text
}

/// `text` with its `?` named, and its values. Without values it can't run: Databricks says so.
pub(crate) fn text(text: &Arc<str>, params: Option<&[ScalarValue]>, returns_rows: bool) -> Result<DatabricksText> {
    let parameters = params.unwrap_or_default().to_vec();
    let markers = match text.contains('?') {
        true => marker_offsets(text, &parse::tokens(text)?),
        false => Vec::new(),
    };
    if markers.len() != parameters.len() && params.is_some() {
        let (have, want) = (parameters.len(), markers.len());
        return Err(Error::invalid(format!("the statement has {want} parameters and {have} values are bound")));
    }
    let mut sql = String::with_capacity(text.len() + markers.len() * 16);
    let mut from = 0;
    for (position, at) in markers.iter().enumerate() {
        sql.push_str(&text[from..*at]);
        sql.push(':');
        sql.push_str(&DatabricksText::parameter_name(position));
        from = at + 1;
    }
    sql.push_str(&text[from..]);
    Ok(DatabricksText { sql: sql.into(), parameters, returns_rows, catalog: None, schema: None })
}

/// Short names are looked up where the session looks, if that place is in Databricks.
pub(crate) fn place(text: &mut DatabricksText, session: &Session, warehouse: &dyn RemoteDescriber) {
    if warehouse.has_catalog(&session.catalog) {
        text.catalog = Some(session.catalog.clone());
        text.schema = Some(session.schema.clone());
    }
}

/// What isn't found in Databricks may well be where the session looks for short names.
pub(crate) fn misplaced(error: Error, session: &Session, warehouse: &dyn RemoteDescriber) -> Error {
    if error.kind() != ErrorKind::NotFound || warehouse.has_catalog(&session.catalog) {
        return error;
    }
    error.context(format!("Databricks alone understands this, and the session's catalog `{}` isn't there", session.catalog))
}

/// Byte offsets of the `?` that are markers, not parts of literals, names or comments.
fn marker_offsets(text: &str, tokens: &[TokenWithSpan]) -> Vec<usize> {
    let mut wanted = tokens
        .iter()
        .filter(|t| matches!(&t.token, Token::Placeholder(p) if p == "?"))
        .map(|t| (t.span.start.line, t.span.start.column))
        .peekable();
    let (mut line, mut column) = (1u64, 1u64);
    let mut offsets = Vec::new();
    for (offset, c) in text.char_indices() {
        if wanted.peek() == Some(&(line, column)) {
            wanted.next();
            offsets.push(offset);
        }
        if c == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
    }
    offsets
}

/// The first word in lower case, comments and opening parentheses skipped; empty where there's none.
fn first_word(text: &str) -> String {
    let mut rest = text.trim_start();
    loop {
        let skipped = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            after_block_comment(comment)
        } else if let Some(inner) = rest.strip_prefix('(') {
            inner
        } else {
            return rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>().to_lowercase();
        };
        rest = skipped.trim_start();
    }
}

/// Behind the end of a block comment, which may hold others.
fn after_block_comment(text: &str) -> &str {
    let mut depth = 1;
    let mut rest = text;
    while let Some(at) = rest.find(['*', '/']) {
        if rest[at..].starts_with("*/") {
            depth -= 1;
            rest = &rest[at + 2..];
            if depth == 0 {
                return rest;
            }
        } else if rest[at..].starts_with("/*") {
            depth += 1;
            rest = &rest[at + 2..];
        } else {
            rest = &rest[at + 1..];
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_tells_queries_from_writes() {
        for (text, sort) in [
            ("SELECT 1", Sort::Query),
            ("  ((select 1))", Sort::Query),
            ("-- INSERT\n/* DELETE /* nested */ still */ WITH a AS (SELECT 1) SELECT * FROM a", Sort::Query),
            ("show grants on table t", Sort::Listing),
            ("INSERT INTO t VALUES (1)", Sort::Write),
            ("/* SELECT */ DELETE FROM t", Sort::Write),
            ("CALL p()", Sort::Write),
            ("selective_procedure()", Sort::Write),
        ] {
            assert_eq!(sort_of(text), sort, "{text}");
        }
    }

    #[test]
    fn markers_are_named_and_question_marks_elsewhere_are_not() {
        let given: Arc<str> = "SELECT '?', `a?`, ?\n -- ?\n , ? FROM t".into();
        let values = [ScalarValue::Int32(Some(1)), ScalarValue::Int32(Some(2))];
        let text = text(&given, Some(&values), true).unwrap();
        assert_eq!(&*text.sql, "SELECT '?', `a?`, :flightpath_1\n -- ?\n , :flightpath_2 FROM t");
        assert_eq!(text.parameters.len(), 2);
    }

    #[test]
    fn a_wrong_number_of_values_is_an_error() {
        let given: Arc<str> = "SELECT ?".into();
        assert!(text(&given, Some(&[]), true).is_err());
    }
}
