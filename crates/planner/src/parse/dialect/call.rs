//! Calls with words between their arguments: EXTRACT, OVERLAY, POSITION, SUBSTRING, TRIM. Most may have
//! commas there instead, as any call has.

use datafusion::sql::sqlparser::ast::{
    DateTimeField, Expr, ExtractSyntax, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, ObjectName,
    TrimWhereField,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, Word};

/// `EXTRACT(field FROM x)`, the field as it is written: it shows in the column's name.
pub(super) fn parse_extract(parser: &mut Parser<'_>, field: &Word) -> Result<Expr, ParserError> {
    parser.advance_token();
    parser.expect_token(&Token::LParen)?;
    let span = parser.peek_token_ref().span;
    parser.advance_token();
    parser.expect_keyword(Keyword::FROM)?;
    let expr = Box::new(parser.parse_expr()?);
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Extract { field: DateTimeField::Custom(field.to_ident(span)), syntax: ExtractSyntax::From, expr })
}

/// Functions that take commas or words between their arguments: `overlay(a PLACING b FROM c)`.
pub(super) fn parse_worded_call(parser: &mut Parser<'_>, word: &Word, span: Span) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    if word.keyword == Keyword::TRIM {
        return parse_trim(parser, word, span);
    }
    // `IN` separates position's arguments, so it can't be an operator of the first.
    let first = parser.parse_subexpr(18)?;
    let expr = Box::new(first);
    match word.keyword {
        Keyword::POSITION if parser.parse_keyword(Keyword::IN) => {
            let r#in = Box::new(parser.parse_expr()?);
            parser.expect_token(&Token::RParen)?;
            Ok(Expr::Position { expr, r#in })
        }
        Keyword::OVERLAY if parser.parse_keyword(Keyword::PLACING) => {
            let overlay_what = Box::new(parser.parse_expr()?);
            parser.expect_keyword(Keyword::FROM)?;
            let overlay_from = Box::new(parser.parse_expr()?);
            let overlay_for = if parser.parse_keyword(Keyword::FOR) { Some(Box::new(parser.parse_expr()?)) } else { None };
            parser.expect_token(&Token::RParen)?;
            Ok(Expr::Overlay { expr, overlay_what, overlay_from, overlay_for })
        }
        Keyword::SUBSTR | Keyword::SUBSTRING if parser.parse_keyword(Keyword::FROM) => {
            let from = Some(Box::new(parser.parse_expr()?));
            let length = if parser.parse_keyword(Keyword::FOR) { Some(Box::new(parser.parse_expr()?)) } else { None };
            parser.expect_token(&Token::RParen)?;
            let shorthand = word.keyword == Keyword::SUBSTR;
            Ok(Expr::Substring { expr, substring_from: from, substring_for: length, special: true, shorthand })
        }
        _ => parse_rest_of_call(parser, word, span, *expr),
    }
}

fn parse_trim(parser: &mut Parser<'_>, word: &Word, span: Span) -> Result<Expr, ParserError> {
    let trim_where = match parser.parse_one_of_keywords(&[Keyword::BOTH, Keyword::LEADING, Keyword::TRAILING]) {
        Some(Keyword::BOTH) => Some(TrimWhereField::Both),
        Some(Keyword::LEADING) => Some(TrimWhereField::Leading),
        Some(Keyword::TRAILING) => Some(TrimWhereField::Trailing),
        _ => None,
    };
    if trim_where.is_some() && parser.parse_keyword(Keyword::FROM) {
        let expr = Box::new(parser.parse_expr()?);
        parser.expect_token(&Token::RParen)?;
        return Ok(Expr::Trim { trim_where, trim_what: None, expr, trim_characters: None });
    }
    let first = parser.parse_expr()?;
    if parser.parse_keyword(Keyword::FROM) {
        let expr = Box::new(parser.parse_expr()?);
        parser.expect_token(&Token::RParen)?;
        return Ok(Expr::Trim { trim_where, trim_what: Some(Box::new(first)), expr, trim_characters: None });
    }
    if trim_where.is_some() {
        return Err(ParserError::ParserError(format!("expected FROM{}", parser.peek_token_ref().span.start)));
    }
    parse_rest_of_call(parser, word, span, first)
}

/// `, b, c)` of a plain call whose first argument is parsed.
fn parse_rest_of_call(parser: &mut Parser<'_>, word: &Word, span: Span, first: Expr) -> Result<Expr, ParserError> {
    let mut args = vec![first];
    while parser.consume_token(&Token::Comma) {
        args.push(parser.parse_expr()?);
    }
    parser.expect_token(&Token::RParen)?;
    let args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Ok(Expr::Function(Function {
        name: ObjectName::from(vec![word.to_ident(span)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }))
}
