//! Predicates: IN over a list, BETWEEN, LIKE and its kin.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, InList, Like};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Value};
use flightpath_functions::ops::comparable_float;
use flightpath_functions::{Typed, types};
use flightpath_types::{Error, Result};

use super::error;
use super::expr::{Bound, balanced, expression_size, negated};
use super::place::Place;
use super::query::State;

impl State<'_> {
    pub(super) fn in_list(&mut self, place: &Place<'_>, x: &ast::Expr, list: &[ast::Expr], negate: bool) -> Result<Bound> {
        let x = self.expr(place, x)?;
        let mut operands = vec![x.t];
        let mut item_names = Vec::with_capacity(list.len());
        for item in list {
            let item = self.expr(place, item)?;
            let t = self.like_named(&operands[0].ty.clone(), item.t)?;
            operands.push(t);
            item_names.push(item.name);
        }
        let plain = format!("({} IN ({}))", x.name, item_names.join(", "));
        let (operands, ty) = self.common(operands, "IN")?;
        super::operator::check_comparable(&ty, "IN", false)?;
        let nullable = operands.iter().any(|o| o.nullable);
        let computed = |o: &Typed| o.expr.any_column_refs() || o.expr.contains_outer() || o.expr.contains_scalar_subquery();
        let expr = if operands.iter().skip(1).any(computed) {
            // DataFusion looks below the NULLs of values that it has to compute for each row.
            let mut operands = operands.into_iter();
            let Some(first) = operands.next() else { return Err(Error::internal("IN without an operand")) };
            // It's written once for each of them.
            self.spend(expression_size(&first.expr).saturating_mul(operands.len()))?;
            let equal = operands.map(|o| Ok(self.compare(first.clone(), Operator::Eq, o)?.expr)).collect::<Result<Vec<Expr>>>()?;
            let any = balanced(equal, Operator::Or);
            if negate { negated(any) } else { any }
        } else {
            let mut exprs = operands.into_iter().map(|o| comparable_float(&self.ctx, o).expr);
            let Some(first) = exprs.next() else { return Err(Error::internal("IN without an operand")) };
            Expr::InList(InList { expr: Box::new(first), list: exprs.collect(), negated: negate })
        };
        let name = if negate { format!("(NOT {plain})") } else { plain };
        Ok(Bound::new(Typed::new(expr, DataType::Boolean, nullable), name))
    }

    pub(super) fn between(&mut self, place: &Place<'_>, x: &ast::Expr, negate: bool, low: &ast::Expr, high: &ast::Expr) -> Result<Bound> {
        let (x, low, high) = (self.expr(place, x)?, self.expr(place, low)?, self.expr(place, high)?);
        let plain = format!("between({}, {}, {})", x.name, low.name, high.name);
        let name = if negate { format!("(NOT {plain})") } else { plain };
        // It means two comparisons, each with its own common type.
        let above = self.compare(x.t.clone(), Operator::GtEq, low.t)?;
        let below = self.compare(x.t, Operator::LtEq, high.t)?;
        let nullable = above.nullable || below.nullable;
        let expr = match (above.expr, below.expr) {
            (Expr::BinaryExpr(a), Expr::BinaryExpr(b)) if a.left == b.left => {
                Expr::Between(Between { expr: a.left, negated: negate, low: a.right, high: b.right })
            }
            (a, b) => {
                let both = balanced(vec![a, b], Operator::And);
                if negate { negated(both) } else { both }
            }
        };
        Ok(Bound::new(Typed::new(expr, DataType::Boolean, nullable), name))
    }

    pub(super) fn like(
        &mut self,
        place: &Place<'_>,
        x: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::ValueWithSpan>,
        negate: bool,
        ignore_case: bool,
    ) -> Result<Bound> {
        let (x, pattern) = (self.expr(place, x)?, self.expr(place, pattern)?);
        let escape = match escape.map(|e| &e.value) {
            None => '\\',
            Some(Value::SingleQuotedString(s)) if s.chars().count() == 1 => s.chars().next().unwrap_or('\\'),
            Some(_) => return Err(error::classed("INVALID_ESCAPE_CHAR", "42604", "ESCAPE needs a string of one character.")),
        };
        let plain = match (ignore_case, escape) {
            (false, '\\') => format!("{} LIKE {}", x.name, pattern.name),
            (false, c) => format!("{} LIKE {} ESCAPE '{c}'", x.name, pattern.name),
            (true, _) => format!("ilike({}, {})", x.name, pattern.name),
        };
        let name = if negate { format!("(NOT {plain})") } else { plain };
        let t = self.like_of(x.t, pattern.t, escape, negate, ignore_case)?;
        Ok(Bound::new(t, name))
    }

    pub(super) fn like_of(&mut self, x: Typed, pattern: Typed, escape: char, negate: bool, ignore_case: bool) -> Result<Typed> {
        let (x, pattern) = (self.as_text(x, "LIKE")?, self.as_text(pattern, "LIKE")?);
        let nullable = x.nullable || pattern.nullable;
        if ignore_case {
            let escape = Typed::literal(ScalarValue::Utf8(Some(escape.to_string())));
            let t = self.function("ilike", vec![x, pattern, escape])?;
            return Ok(if negate { Typed::new(negated(t.expr), DataType::Boolean, t.nullable) } else { t });
        }
        let pattern = match pattern.as_literal() {
            Some(ScalarValue::Utf8(Some(text))) => {
                check_pattern(text, escape)?;
                Typed::literal(ScalarValue::Utf8(Some(with_backslashes(text, escape))))
            }
            Some(_) => pattern,
            None => {
                let escape = (escape != '\\').then(|| Typed::literal(ScalarValue::Utf8(Some(escape.to_string()))));
                let t = self.function("like", [x, pattern].into_iter().chain(escape).collect())?;
                return Ok(if negate { Typed::new(negated(t.expr), DataType::Boolean, t.nullable) } else { t });
            }
        };
        let like = Like {
            negated: negate,
            expr: Box::new(x.expr),
            pattern: Box::new(pattern.expr),
            escape_char: Some('\\'),
            case_insensitive: false,
        };
        Ok(Typed::new(Expr::Like(like), DataType::Boolean, nullable))
    }

    /// A string, or a simple value cast to one.
    pub(super) fn as_text(&mut self, t: Typed, what: &str) -> Result<Typed> {
        if types::can_implicitly_cast(&t.ty, &DataType::Utf8) {
            return self.coerce(t, &DataType::Utf8);
        }
        Err(error::mismatch("UNEXPECTED_INPUT_TYPE", format!("{what} needs a STRING, but has the type {}.", types::sql_name(&t.ty))))
    }

    pub(super) fn rlike(&mut self, place: &Place<'_>, x: &ast::Expr, pattern: &ast::Expr, negate: bool) -> Result<Bound> {
        let (x, pattern) = (self.expr(place, x)?, self.expr(place, pattern)?);
        let plain = format!("RLIKE({}, {})", x.name, pattern.name);
        let t = self.function("rlike", vec![x.t, pattern.t])?;
        if negate {
            let nullable = t.nullable;
            return Ok(Bound::new(Typed::new(negated(t.expr), DataType::Boolean, nullable), format!("(NOT {plain})")));
        }
        Ok(Bound::new(t, plain))
    }

    pub(super) fn quantified_like(
        &mut self,
        place: &Place<'_>,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        any: bool,
    ) -> Result<Bound> {
        let (negate, ignore_case) = match op {
            BinaryOperator::PGLikeMatch => (false, false),
            BinaryOperator::PGNotLikeMatch => (true, false),
            BinaryOperator::PGILikeMatch => (false, true),
            BinaryOperator::PGNotILikeMatch => (true, true),
            other => return Err(Error::not_eligible(format!("operator {other} with ANY or ALL isn't supported"))),
        };
        let ast::Expr::Tuple(patterns) = right else {
            return Err(Error::not_eligible("LIKE ANY and LIKE ALL take a list of patterns"));
        };
        let x = self.expr(place, left)?;
        let mut tests = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let pattern = self.expr(place, pattern)?;
            tests.push(self.like_of(x.t.clone(), pattern.t, '\\', negate, ignore_case)?.expr);
        }
        let function = match (negate, any) {
            (false, true) => "likeany",
            (false, false) => "likeall",
            (true, true) => "notlikeany",
            (true, false) => "notlikeall",
        };
        let expr = balanced(tests, if any { Operator::Or } else { Operator::And });
        // Without regard to case means to compare in lower case, which shows.
        let shown = if ignore_case { format!("{function}(lower({}))", x.name) } else { format!("{function}({})", x.name) };
        Ok(Bound::new(Typed::new(expr, DataType::Boolean, true), shown))
    }
}

/// The same pattern with `\` as its escape, the only one that engines share.
fn with_backslashes(pattern: &str, escape: char) -> String {
    if escape == '\\' {
        return pattern.to_string();
    }
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c == escape => match chars.next() {
                Some(next @ ('%' | '_')) => out.extend(['\\', next]),
                Some(next) => out.push(next),
                None => {}
            },
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    out
}

/// The escape character must stand before `%`, `_` or itself.
fn check_pattern(pattern: &str, escape: char) -> Result<()> {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c == escape {
            match chars.next() {
                Some('%' | '_') => {}
                Some(next) if next == escape => {}
                Some(next) => {
                    return Err(error::classed(
                        "INVALID_FORMAT.ESC_IN_THE_MIDDLE",
                        "42601",
                        format!("The escape character is not allowed to precede '{next}' in the pattern '{pattern}'."),
                    ));
                }
                None => {
                    return Err(error::classed(
                        "INVALID_FORMAT.ESC_AT_THE_END",
                        "42601",
                        format!("The escape character is not allowed to end with in the pattern '{pattern}'."),
                    ));
                }
            }
        }
    }
    Ok(())
}
