//! What Databricks' grammar has and sqlparser's Databricks dialect hasn't: precedence of operators,
//! intervals, `DIV`, `LIKE ANY/ALL`, literals with a type in front. Also counts the parser's work.
//! Never accepts a construct without a place for it in the syntax tree.

mod call;
mod interval;
mod predicate;
mod word;

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Statement, UnaryOperator};
use datafusion::sql::sqlparser::dialect::{DatabricksDialect, Dialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

use super::lexer::SHIFT_RIGHT_UNSIGNED;
use predicate::{is_predicate, parse_distinct_from, parse_quantified_like};
use word::{is_special_form, parse_word};

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
