//! Interval literals, of one part or several.

use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, Interval, UnaryOperator, Value};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token};

/// One part of an interval: `-3 DAY`.
struct Part {
    negative: bool,
    value: Value,
    span: Span,
    unit: Option<DateTimeField>,
}

pub(super) fn begins_interval(parser: &Parser<'_>, next: &Token) -> bool {
    let number = |t: &Token| matches!(t, Token::Number(..) | Token::SingleQuotedString(_));
    match next {
        Token::Plus | Token::Minus => number(&parser.peek_nth_token_ref(2).token) && unit(&parser.peek_nth_token_ref(3).token).is_some(),
        t => number(t),
    }
}

/// `INTERVAL '1-2' YEAR TO MONTH`, `INTERVAL 3 days 2 hours`, `INTERVAL '1 day 2 hours'`.
pub(super) fn parse_interval(parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
    parser.advance_token();
    let mut parts = vec![parse_part(parser)?];
    let mut last_field = None;
    if parts[0].unit.is_some() && parser.parse_keyword(Keyword::TO) {
        let token = parser.next_token();
        last_field =
            Some(unit(&token.token).ok_or_else(|| ParserError::ParserError(format!("expected a unit of time{}", token.span.start)))?);
    } else if parts[0].unit.is_some() {
        while continues(parser) {
            parts.push(parse_part(parser)?);
        }
    }
    if parts.len() > 1 {
        let texts: Vec<String> = parts.iter().map(part_text).collect();
        let value = Value::SingleQuotedString(texts.join(" ")).with_span(parts[0].span);
        return Ok(interval(Expr::Value(value), None, None));
    }
    let part = parts.remove(0);
    let value = Expr::Value(part.value.with_span(part.span));
    let value = if part.negative { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(value) } } else { value };
    Ok(interval(value, part.unit, last_field))
}

fn interval(value: Expr, leading_field: Option<DateTimeField>, last_field: Option<DateTimeField>) -> Expr {
    Expr::Interval(Interval {
        value: Box::new(value),
        leading_field,
        leading_precision: None,
        last_field,
        fractional_seconds_precision: None,
    })
}

/// Whether `[sign] number unit` follows.
fn continues(parser: &Parser<'_>) -> bool {
    let is_value = |n: usize| matches!(parser.peek_nth_token_ref(n).token, Token::Number(..) | Token::SingleQuotedString(_));
    is_value(0) && unit(&parser.peek_nth_token_ref(1).token).is_some()
}

fn parse_part(parser: &mut Parser<'_>) -> Result<Part, ParserError> {
    let mut negative = false;
    if parser.consume_token(&Token::Minus) {
        negative = true;
    } else {
        let _ = parser.consume_token(&Token::Plus);
    }
    let value = parser.parse_value()?;
    let unit = unit(&parser.peek_token_ref().token);
    if unit.is_some() {
        parser.advance_token();
    } else if matches!(value.value, Value::Number(..)) {
        return Err(ParserError::ParserError(format!("expected a unit of time{}", parser.peek_token_ref().span.start)));
    }
    Ok(Part { negative, value: value.value, span: value.span, unit })
}

fn part_text(part: &Part) -> String {
    let sign = if part.negative { "-" } else { "" };
    let value = match &part.value {
        Value::Number(n, _) => n.clone(),
        Value::SingleQuotedString(s) => s.clone(),
        other => other.to_string(),
    };
    let unit = part.unit.as_ref().map(|u| u.to_string().to_lowercase()).unwrap_or_default();
    format!("{sign}{value} {unit}")
}

fn unit(token: &Token) -> Option<DateTimeField> {
    let Token::Word(word) = token else { return None };
    Some(match word.value.to_ascii_uppercase().as_str() {
        "YEAR" | "YEARS" => DateTimeField::Year,
        "QUARTER" | "QUARTERS" => DateTimeField::Quarter,
        "MONTH" | "MONTHS" => DateTimeField::Month,
        "WEEK" | "WEEKS" => DateTimeField::Weeks,
        "DAY" | "DAYS" => DateTimeField::Day,
        "HOUR" | "HOURS" => DateTimeField::Hour,
        "MINUTE" | "MINUTES" => DateTimeField::Minute,
        "SECOND" | "SECONDS" => DateTimeField::Second,
        "MILLISECOND" | "MILLISECONDS" => DateTimeField::Millisecond,
        "MICROSECOND" | "MICROSECONDS" => DateTimeField::Microsecond,
        _ => return None,
    })
}
