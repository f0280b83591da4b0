//! Predicates: which take no operator behind them, and `IS DISTINCT FROM` and `LIKE ANY/ALL`, which
//! sqlparser reads otherwise.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// What takes no operator behind it without parentheses but AND and OR.
pub(super) fn is_predicate(e: &Expr) -> bool {
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

/// `a IS [NOT] DISTINCT FROM b`: sqlparser takes all that follows as `b`.
pub(super) fn parse_distinct_from(parser: &mut Parser<'_>, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
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
pub(super) fn parse_quantified_like(parser: &mut Parser<'_>, left: &Expr) -> Option<Result<Expr, ParserError>> {
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

fn is_like(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::PGLikeMatch | BinaryOperator::PGNotLikeMatch | BinaryOperator::PGILikeMatch | BinaryOperator::PGNotILikeMatch
    )
}
