//! Expressions that begin with a word: literals, calls and plain names.

use datafusion::sql::sqlparser::ast::{DataType, Expr, ObjectName, TimezoneInfo, TypedString};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Word};

use super::call::{parse_extract, parse_worded_call};
use super::interval::{begins_interval, parse_interval};

/// Functions with a grammar of their own.
pub(super) fn is_special_form(keyword: Keyword) -> bool {
    matches!(keyword, Keyword::CAST | Keyword::TRY_CAST | Keyword::EXTRACT | Keyword::EXISTS | Keyword::STRUCT)
}

pub(super) fn parse_word(parser: &mut Parser<'_>, word: &Word, next: &Token, at: Location) -> Option<Result<Expr, ParserError>> {
    if word.quote_style.is_none() {
        match word.keyword {
            Keyword::TRUE | Keyword::FALSE | Keyword::NULL => return Some(parser.parse_value().map(Expr::Value)),
            Keyword::CASE | Keyword::NOT => return None,
            Keyword::INTERVAL if begins_interval(parser, next) => return Some(parse_interval(parser)),
            keyword if matches!(next, Token::SingleQuotedString(_)) => {
                if let Some(data_type) = literal_type(word, keyword) {
                    parser.advance_token();
                    return Some(
                        parser.parse_value().map(|value| Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: false })),
                    );
                }
            }
            // The same as the operator.
            Keyword::LIKE if *next == Token::LParen => {}
            keyword if is_reserved(keyword) => {
                return Some(Err(ParserError::ParserError(format!("expected an expression{at}"))));
            }
            _ => {}
        }
    }
    match next {
        Token::Arrow => None,
        Token::LParen => {
            let star = matches!(parser.peek_nth_token_ref(2).token, Token::Mul)
                || (parser.peek_nth_token_ref(3).token == Token::Period && parser.peek_nth_token_ref(4).token == Token::Mul);
            let special = word.quote_style.is_none() && is_special_form(word.keyword) && !(word.keyword == Keyword::STRUCT && star);
            let subquery =
                || matches!(&parser.peek_nth_token_ref(2).token, Token::Word(w) if matches!(w.keyword, Keyword::SELECT | Keyword::WITH));
            let field = match (&parser.peek_nth_token_ref(2).token, &parser.peek_nth_token_ref(3).token) {
                (Token::Word(field), Token::Word(from)) if from.keyword == Keyword::FROM => Some(field.clone()),
                _ => None,
            };
            if special
                && word.keyword == Keyword::EXTRACT
                && let Some(field) = field
            {
                return Some(parse_extract(parser, &field));
            }
            if special && (word.keyword != Keyword::EXISTS || subquery()) {
                return None;
            }
            let span = parser.peek_token_ref().span;
            parser.advance_token();
            if word.quote_style.is_none()
                && matches!(word.keyword, Keyword::SUBSTR | Keyword::SUBSTRING | Keyword::OVERLAY | Keyword::POSITION | Keyword::TRIM)
            {
                return Some(parse_worded_call(parser, word, span));
            }
            Some(parser.parse_function(ObjectName::from(vec![word.to_ident(span)])))
        }
        _ => {
            let span = parser.peek_token_ref().span;
            parser.advance_token();
            Some(Ok(Expr::Identifier(word.to_ident(span))))
        }
    }
}

/// `DATE'...'` and its kind.
fn literal_type(word: &Word, keyword: Keyword) -> Option<DataType> {
    match keyword {
        Keyword::DATE => Some(DataType::Date),
        Keyword::TIMESTAMP => Some(DataType::Timestamp(None, TimezoneInfo::None)),
        _ if word.value.eq_ignore_ascii_case("timestamp_ntz") => Some(DataType::TimestampNtz(None)),
        _ if word.value.eq_ignore_ascii_case("timestamp_ltz") => Some(DataType::Timestamp(None, TimezoneInfo::WithTimeZone)),
        _ => None,
    }
}

fn is_reserved(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::SELECT
            | Keyword::FROM
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::ORDER
            | Keyword::HAVING
            | Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
            | Keyword::JOIN
            | Keyword::ON
            | Keyword::AND
            | Keyword::OR
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE
            | Keyword::AS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::BETWEEN
            | Keyword::IS
    )
}
