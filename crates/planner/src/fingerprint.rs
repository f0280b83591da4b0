//! The shape of a statement: its tokens in lower case with literals taken out.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use flightpath_types::Fingerprint;

/// Statements with one fingerprint differ only in literal values, case and white space.
pub(crate) fn of_tokens(tokens: &[TokenWithSpan]) -> Fingerprint {
    let mut normal = String::with_capacity(tokens.len() * 8);
    for token in tokens {
        if !normal.is_empty() {
            normal.push(' ');
        }
        match &token.token {
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_) => normal.push('?'),
            Token::Whitespace(_) => {
                normal.pop();
            }
            other => normal.push_str(&other.to_string().to_lowercase()),
        }
    }
    Fingerprint::of(normal.trim_end_matches([' ', ';']))
}

/// For texts whose tokens aren't known: white space and case folded.
pub(crate) fn of_text(text: &str) -> Fingerprint {
    Fingerprint::of(&text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
}
