//! What Databricks' grammar has and sqlparser's Databricks dialect hasn't: precedence of operators,
//! intervals, `DIV`, `LIKE ANY/ALL`, literals with a type in front. Also counts the parser's work.
//! Never accepts a construct without a place for it in the syntax tree.

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, DateTimeField, Expr, ExtractSyntax, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Interval, ObjectName, Statement, TimezoneInfo, TrimWhereField, TypedString, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::{DatabricksDialect, Dialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, Word};

use super::lexer::SHIFT_RIGHT_UNSIGNED;

#[derive(Debug)]
pub(super) struct Flightpath {
    /// Looks at tokens still allowed.
    remaining: Cell<usize>,
    furthest: Cell<Location>,
}

impl Flightpath {
    pub(super) fn new(looks_max: usize) -> Self {
        Self { remaining: Cell::new(looks_max), furthest: Cell::new(Location { line: 0, column: 0 }) }
    }

    pub(super) fn exhausted(&self) -> bool {
        self.remaining.get() == 0
    }

    pub(super) fn furthest(&self) -> Location {
        self.furthest.get()
    }

    fn look(&self, parser: &Parser<'_>) -> Result<(), ParserError> {
        let at = parser.peek_token_ref().span.start;
        if at > self.furthest.get() {
            self.furthest.set(at);
        }
        let remaining = self.remaining.get();
        if remaining == 0 {
            // The one error that the parser's trials don't swallow.
            return Err(ParserError::RecursionLimitExceeded);
        }
        self.remaining.set(remaining - 1);
        Ok(())
    }
}

impl Dialect for Flightpath {
    fn dialect(&self) -> TypeId {
        TypeId::of::<DatabricksDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch == '_' || ch.is_alphabetic()
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch == '_' || ch.is_alphanumeric()
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_lambda_functions(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_bang_not_operator(&self) -> bool {
        true
    }

    fn supports_cte_without_as(&self) -> bool {
        true
    }

    fn supports_select_item_multi_column_alias(&self) -> bool {
        true
    }

    fn supports_pipe_operator(&self) -> bool {
        true
    }

    fn supports_from_first_select(&self) -> bool {
        true
    }

    fn supports_order_by_all(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        true
    }

    fn supports_long_type_as_bigint(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_select_expr_star(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        is_special_form(keyword) || matches!(keyword, Keyword::CASE | Keyword::NOT | Keyword::INTERVAL)
    }

    fn prec_value(&self, prec: Precedence) -> u8 {
        match prec {
            Precedence::Period => 100,
            Precedence::DoubleColon => 50,
            Precedence::AtTz => 41,
            Precedence::MulDivModOp => 40,
            Precedence::PlusMinus => 30,
            Precedence::Ampersand => 26,
            Precedence::Caret => 25,
            Precedence::Pipe => 24,
            Precedence::Eq => 22,
            Precedence::Between | Precedence::Like | Precedence::Is => 18,
            Precedence::PgOther => 16,
            Precedence::UnaryNot => 15,
            Precedence::And => 10,
            Precedence::Xor | Precedence::Or => 5,
            // Inside `[...]`, where a colon would end a bound: Databricks has no slices.
            Precedence::Colon => 1,
        }
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        if let Err(error) = self.look(parser) {
            return Some(Err(error));
        }
        match &parser.peek_token_ref().token {
            Token::CustomBinaryOperator(_) => Some(Ok(self.prec_value(Precedence::MulDivModOp))),
            Token::StringConcat => Some(Ok(self.prec_value(Precedence::PlusMinus))),
            Token::ShiftLeft | Token::ShiftRight => Some(Ok(28)),
            // `value:path` binds tighter than any operator.
            Token::Colon => Some(Ok(60)),
            Token::Word(w) => match w.keyword {
                // Infix in other dialects, plain names in this one.
                Keyword::XOR
                | Keyword::OVERLAPS
                | Keyword::MATCH
                | Keyword::MEMBER
                | Keyword::OPERATOR
                | Keyword::AT
                | Keyword::SIMILAR
                | Keyword::NOTNULL => Some(Ok(0)),
                _ => None,
            },
            Token::Tilde | Token::ExclamationMark | Token::Arrow | Token::AtSign | Token::Assignment => Some(Ok(0)),
            _ => None,
        }
    }

    fn parse_statement(&self, parser: &mut Parser<'_>) -> Option<Result<Statement, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::Word(w) if w.keyword == Keyword::TABLE => Some(parser.parse_query().map(Statement::Query)),
            _ => None,
        }
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        if let Err(error) = self.look(parser) {
            return Some(Err(error));
        }
        let next = parser.peek_nth_token_ref(1).token.clone();
        let at = parser.peek_token_ref().span.start;
        match parser.peek_token_ref().token.clone() {
            Token::Number(..) | Token::SingleQuotedString(_) | Token::HexStringLiteral(_) | Token::Placeholder(_) => {
                Some(parser.parse_value().map(Expr::Value))
            }
            // A sign in front of a number belongs to the literal.
            Token::Minus if matches!(next, Token::Number(..)) => {
                parser.advance_token();
                Some(parser.parse_value().map(|v| Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(Expr::Value(v)) }))
            }
            Token::Tilde => {
                parser.advance_token();
                let operand = parser.parse_subexpr(self.prec_value(Precedence::MulDivModOp));
                Some(operand.map(|e| Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: Box::new(e) }))
            }
            Token::Word(word) => parse_word(parser, &word, &next, at),
            _ => None,
        }
    }

    fn parse_infix(&self, parser: &mut Parser<'_>, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        let token = parser.peek_token_ref().token.clone();
        let joins = matches!(&token, Token::Word(w) if matches!(w.keyword, Keyword::AND | Keyword::OR));
        if !joins && is_predicate(left) {
            let at = parser.peek_token_ref().span.start;
            return Some(Err(ParserError::ParserError(format!("expected AND, OR or parentheses around the predicate before it{at}"))));
        }
        match &token {
            Token::ShiftRight => {
                let (shift, next) = (parser.peek_token_ref().span, parser.peek_nth_token_ref(1));
                if next.token != Token::Gt || next.span.start != shift.end {
                    return None;
                }
                parser.advance_token();
                parser.advance_token();
                let op = BinaryOperator::Custom(SHIFT_RIGHT_UNSIGNED.into());
                let right = parser.parse_subexpr(precedence);
                Some(right.map(|right| Expr::BinaryOp { left: Box::new(left.clone()), op, right: Box::new(right) }))
            }
            Token::Word(w) => match w.keyword {
                Keyword::IS => parse_distinct_from(parser, left, precedence),
                Keyword::NOT | Keyword::LIKE | Keyword::ILIKE => parse_quantified_like(parser, left),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What takes no operator behind it without parentheses but AND and OR.
fn is_predicate(e: &Expr) -> bool {
    match e {
        Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::RLike { .. }
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Between { .. }
        | Expr::Exists { .. }
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..) => true,
        Expr::AnyOp { compare_op, .. } | Expr::AllOp { compare_op, .. } => is_like(compare_op),
        _ => false,
    }
}

fn is_like(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::PGLikeMatch | BinaryOperator::PGNotLikeMatch | BinaryOperator::PGILikeMatch | BinaryOperator::PGNotILikeMatch
    )
}

/// Functions with a grammar of their own.
fn is_special_form(keyword: Keyword) -> bool {
    matches!(keyword, Keyword::CAST | Keyword::TRY_CAST | Keyword::EXTRACT | Keyword::EXISTS | Keyword::STRUCT)
}

fn parse_word(parser: &mut Parser<'_>, word: &Word, next: &Token, at: Location) -> Option<Result<Expr, ParserError>> {
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

/// `EXTRACT(field FROM x)`, the field as it is written: it shows in the column's name.
fn parse_extract(parser: &mut Parser<'_>, field: &Word) -> Result<Expr, ParserError> {
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
fn parse_worded_call(parser: &mut Parser<'_>, word: &Word, span: Span) -> Result<Expr, ParserError> {
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

fn begins_interval(parser: &Parser<'_>, next: &Token) -> bool {
    let number = |t: &Token| matches!(t, Token::Number(..) | Token::SingleQuotedString(_));
    match next {
        Token::Plus | Token::Minus => number(&parser.peek_nth_token_ref(2).token) && unit(&parser.peek_nth_token_ref(3).token).is_some(),
        t => number(t),
    }
}

/// One part of an interval: `-3 DAY`.
struct Part {
    negative: bool,
    value: Value,
    span: Span,
    unit: Option<DateTimeField>,
}

/// `INTERVAL '1-2' YEAR TO MONTH`, `INTERVAL 3 days 2 hours`, `INTERVAL '1 day 2 hours'`.
fn parse_interval(parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
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

/// `a IS [NOT] DISTINCT FROM b`: sqlparser takes all that follows as `b`.
fn parse_distinct_from(parser: &mut Parser<'_>, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
    let word = |n: usize, k: Keyword| matches!(&parser.peek_nth_token_ref(n).token, Token::Word(w) if w.keyword == k);
    let negated = word(1, Keyword::NOT);
    let first = if negated { 2 } else { 1 };
    if !(word(first, Keyword::DISTINCT) && word(first + 1, Keyword::FROM)) {
        return None;
    }
    for _ in 0..first + 2 {
        parser.advance_token();
    }
    Some(parser.parse_subexpr(precedence).map(|right| {
        let (left, right) = (Box::new(left.clone()), Box::new(right));
        if negated { Expr::IsNotDistinctFrom(left, right) } else { Expr::IsDistinctFrom(left, right) }
    }))
}

/// `a [NOT] LIKE ANY|ALL (...)`, as a quantified operator over the list.
fn parse_quantified_like(parser: &mut Parser<'_>, left: &Expr) -> Option<Result<Expr, ParserError>> {
    let keyword = |n: usize| match &parser.peek_nth_token_ref(n).token {
        Token::Word(w) => w.keyword,
        _ => Keyword::NoKeyword,
    };
    let negated = keyword(0) == Keyword::NOT;
    let at = usize::from(negated);
    let op = match (keyword(at), negated) {
        (Keyword::LIKE, false) => BinaryOperator::PGLikeMatch,
        (Keyword::LIKE, true) => BinaryOperator::PGNotLikeMatch,
        (Keyword::ILIKE, false) => BinaryOperator::PGILikeMatch,
        (Keyword::ILIKE, true) => BinaryOperator::PGNotILikeMatch,
        _ => return None,
    };
    let quantifier = keyword(at + 1);
    if !matches!(quantifier, Keyword::ANY | Keyword::ALL | Keyword::SOME) || parser.peek_nth_token_ref(at + 2).token != Token::LParen {
        return None;
    }
    for _ in 0..at + 3 {
        parser.advance_token();
    }
    let patterns = parser.parse_comma_separated(Parser::parse_expr).and_then(|list| parser.expect_token(&Token::RParen).map(|_| list));
    Some(patterns.map(|list| {
        let (left, right) = (Box::new(left.clone()), Box::new(Expr::Tuple(list)));
        match quantifier {
            Keyword::ALL => Expr::AllOp { left, compare_op: op, right },
            _ => Expr::AnyOp { left, compare_op: op, right, is_some: false },
        }
    }))
}
