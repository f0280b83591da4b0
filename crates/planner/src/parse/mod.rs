//! Text to one statement's syntax tree: Databricks' lexical rules, sqlparser's grammar with what it
//! lacks added, limits on size, nesting and work. Never looks at names or types, and never takes
//! more than one statement.

mod dialect;
mod lexer;
mod pipes;
mod rewritten;
pub(crate) mod steps;

pub(crate) use lexer::{DIV, SHIFT_RIGHT_UNSIGNED, tokens};
pub(crate) use rewritten::PATH;

use std::fmt;

use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};
use flightpath_functions::types;
use flightpath_types::{Error, ErrorKind, Result};

use dialect::Flightpath;

/// Longest text that is parsed, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// How deep expressions and queries may nest.
const NESTING_MAX: usize = 400;
/// Operators between two commas or parentheses: each may deepen the tree by one.
const CHAIN_MAX: usize = 20_000;
/// The parser tries alternatives; this many looks at each token end a search that has run wild.
const LOOKS_PER_TOKEN_MAX: usize = 200;
/// Stack for parsing and for freeing a tree, in bytes; taken from the system only as it's used.
const STACK_BYTES: usize = 256 << 20;

/// A parsed statement. Freed on a stack that is large enough for the longest chain of operators.
pub struct Parsed {
    statement: Option<Box<Statement>>,
}

impl Parsed {
    pub fn statement(&self) -> &Statement {
        // Taken only by `drop`.
        self.statement.as_deref().unwrap_or(&EMPTY)
    }
}

static EMPTY: Statement =
    Statement::UNLISTEN { channel: datafusion::sql::sqlparser::ast::Ident { value: String::new(), quote_style: None, span: EMPTY_SPAN } };
const EMPTY_SPAN: Span = Span { start: Location { line: 0, column: 0 }, end: Location { line: 0, column: 0 } };

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.statement().fmt(f)
    }
}

impl Drop for Parsed {
    fn drop(&mut self) {
        let statement = self.statement.take();
        with_stack(move || drop(statement));
    }
}

/// Runs `work` with room for recursion over any tree that [`parse`] lets through.
pub fn with_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_BYTES / 2, STACK_BYTES, work)
}

/// Parses exactly one statement; a trailing `;` and comments are fine.
pub fn parse(text: &str) -> Result<Parsed> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("the statement is {} bytes long; the limit is {TEXT_BYTES_MAX}", text.len()),
        ));
    }
    let tokens = rewritten::paths_in_except(rewritten::pivot_expressions(values_in_parentheses(numbered(tokens(text)?))));
    let tokens = pipes::pipes_written_out(tokens);
    check_nesting(&tokens)?;
    if tokens.iter().all(|t| t.token == Token::SemiColon) {
        return Err(syntax_error("the statement is empty", Location { line: 1, column: 1 }));
    }
    with_stack(|| parse_tokens(tokens))
}

fn parse_tokens(tokens: Vec<TokenWithSpan>) -> Result<Parsed> {
    let end = tokens.last().map_or(Location { line: 1, column: 1 }, |t| t.span.end);
    let dialect = Flightpath::new(tokens.len().saturating_mul(LOOKS_PER_TOKEN_MAX).saturating_add(10_000));
    let mut parser = Parser::new(&dialect).with_recursion_limit(NESTING_MAX).with_tokens_with_locations(tokens.clone());
    let parsed = parser.parse_statement().and_then(|statement| {
        let parsed = Parsed { statement: Some(Box::new(statement)) };
        while parser.consume_token(&Token::SemiColon) {}
        match parser.peek_token_ref() {
            rest if rest.token == Token::EOF => Ok(parsed),
            rest => Err(ParserError::ParserError(format!("expected the end of the statement{}", rest.span.start))),
        }
    });
    parsed.map_err(|error| match error {
        ParserError::RecursionLimitExceeded if dialect.exhausted() => {
            Error::new(ErrorKind::ResourceExhausted, "the statement is too ambiguous to parse within the limit; add or remove parentheses")
        }
        ParserError::RecursionLimitExceeded => too_deep(),
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            let (message, told) = split_location(&message);
            let reached = dialect.furthest();
            // Alternatives are tried and dropped: the furthest point is where the text went wrong.
            if reached > told.unwrap_or(reached_nothing()) {
                near(&tokens, reached, end, "")
            } else {
                near(&tokens, told.unwrap_or(end), end, message)
            }
        }
    })
}

fn reached_nothing() -> Location {
    Location { line: 0, column: 0 }
}

fn near(tokens: &[TokenWithSpan], at: Location, end: Location, detail: &str) -> Error {
    let token = tokens.iter().find(|t| t.span.start >= at);
    let (found, at) = match token {
        Some(token) => (format!("'{}'", token.token), token.span.start),
        None => ("end of input".to_string(), end),
    };
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    syntax_error(&format!("Syntax error at or near {found}{detail}"), at)
}

/// sqlparser ends its messages with ` at Line: 1, Column: 2`.
fn split_location(message: &str) -> (&str, Option<Location>) {
    let Some((text, place)) = message.rsplit_once(" at Line: ") else { return (message, None) };
    let location = place
        .split_once(", Column: ")
        .and_then(|(line, column)| Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? }));
    // Line 0 stands for "at the end of the text".
    (text, location.filter(|l| l.line > 0))
}

pub(crate) fn syntax_error(message: &str, at: Location) -> Error {
    Error::classed(ErrorKind::InvalidArgument, "PARSE_SYNTAX_ERROR", "42601", format!("{message} (line {}, column {})", at.line, at.column))
}

fn too_deep() -> Error {
    Error::new(ErrorKind::ResourceExhausted, format!("the statement nests deeper than the limit of {NESTING_MAX} levels"))
}

/// Refuses what would make a tree too deep, before there is one.
fn check_nesting(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut operators = vec![0usize];
    // Types go by angle brackets: `ARRAY<ARRAY<INT>>`.
    let (mut open_types, mut before) = (0usize, None);
    for token in tokens {
        match &token.token {
            Token::Lt if before.is_some_and(opens_type) => {
                open_types += 1;
                if open_types > types::DEPTH_MAX {
                    let message = format!("a type nests deeper than the limit of {} levels", types::DEPTH_MAX);
                    return Err(Error::new(ErrorKind::ResourceExhausted, message));
                }
            }
            Token::Gt if open_types > 0 => open_types -= 1,
            Token::ShiftRight if open_types > 0 => open_types = open_types.saturating_sub(2),
            Token::LParen | Token::LBracket => {
                operators.push(0);
                if operators.len() > NESTING_MAX {
                    return Err(too_deep());
                }
            }
            Token::RParen | Token::RBracket if operators.len() > 1 => {
                operators.pop();
            }
            Token::Comma => {
                if let Some(count) = operators.last_mut() {
                    *count = 0;
                }
            }
            Token::Number(..) | Token::SingleQuotedString(_) | Token::HexStringLiteral(_) => {}
            Token::Word(word) if word.keyword == Keyword::NoKeyword => {}
            _ => {
                if let Some(count) = operators.last_mut() {
                    *count += 1;
                    if *count > CHAIN_MAX {
                        return Err(Error::new(
                            ErrorKind::ResourceExhausted,
                            format!("an expression has more than {CHAIN_MAX} operators in a row; use IN, a list or a join instead"),
                        ));
                    }
                }
            }
        }
        if !matches!(token.token, Token::Whitespace(_)) {
            before = Some(&token.token);
        }
    }
    Ok(())
}

/// Each `?` with its place in the text, from 1: clauses aren't bound in the order in which they are
/// written, and a clause that is written out twice means the same value.
fn numbered(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let markers = tokens.iter_mut().filter(|t| matches!(&t.token, Token::Placeholder(written) if written == "?"));
    for (index, marker) in markers.enumerate() {
        marker.token = Token::Placeholder(format!("?{}", index + 1));
    }
    tokens
}

fn opens_type(token: &Token) -> bool {
    matches!(token, Token::Word(word) if ["ARRAY", "MAP", "STRUCT"].iter().any(|name| word.value.eq_ignore_ascii_case(name)))
}

/// `FROM VALUES (1), (2) AS t(x)` becomes `FROM (VALUES (1), (2)) AS t(x)`, which may be followed by
/// all that follows a subquery.
fn values_in_parentheses(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_values = |t: &TokenWithSpan| matches!(&t.token, Token::Word(w) if w.keyword == Keyword::VALUES);
    if !tokens.iter().any(is_values) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 8);
    // Open parentheses since each rewritten VALUES.
    let mut open: Vec<usize> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let after_from = matches!(out.last().map(|t| &t.token), Some(Token::Comma))
            || matches!(out.last().map(|t| &t.token), Some(Token::Word(w)) if matches!(w.keyword, Keyword::FROM | Keyword::JOIN));
        let starts = is_values(&token) && after_from && matches!(tokens.peek().map(|t| &t.token), Some(Token::LParen));
        let span = token.span;
        if starts {
            out.push(TokenWithSpan { token: Token::LParen, span });
            out.push(token);
            open.push(0);
            continue;
        }
        let closes = token.token == Token::RParen;
        if let Some(depth) = open.last_mut() {
            match token.token {
                Token::LParen => *depth += 1,
                Token::RParen => *depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        let comma = token.token == Token::Comma;
        out.push(token);
        let goes_on = |next: Option<&TokenWithSpan>| matches!(next.map(|t| &t.token), Some(Token::Comma));
        if open.last() == Some(&0) {
            // A comma goes on with the rows only when a row follows it.
            let next_is_row = comma && matches!(tokens.peek().map(|t| &t.token), Some(Token::LParen));
            if comma && !next_is_row {
                let at = out.len() - 1;
                out.insert(at, TokenWithSpan { token: Token::RParen, span });
                open.pop();
            } else if closes && !goes_on(tokens.peek()) {
                out.push(TokenWithSpan { token: Token::RParen, span });
                open.pop();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
