//! Expressions: one match over the syntax tree, each operand typed before its parent. Operands of
//! native comparisons are brought to one type here; everything else that needs a cast gets it from
//! the function table.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, UnaryOperator, Value};
use datafusion::sql::sqlparser::tokenizer::Span;
use flightpath_functions::ops::{self, coerce_all};
use flightpath_functions::{Typed, cast, lazy, types};
use flightpath_types::{Error, Result};

use super::error;
use super::literal;
use super::place::Place;
use super::query::State;
use super::typename;

/// An expression and the text that an unnamed column made of it has.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub t: Typed,
    pub name: String,
}

impl Bound {
    pub fn new(t: Typed, name: impl Into<String>) -> Self {
        Self { t, name: name.into() }
    }
}

impl State<'_> {
    pub fn expr(&mut self, place: &Place<'_>, e: &ast::Expr) -> Result<Bound> {
        self.spend(1)?;
        let mut bound = if place.drops_rows && !passes_on(e) {
            self.bare_expr(&Place { drops_rows: false, variables: place.variables.clone(), ..*place }, e)?
        } else {
            self.bare_expr(place, e)?
        };
        if place.nulled.is_some_and(|nulled| nulled.contains(&bound.t.expr)) {
            bound.t.nullable = true;
        }
        Ok(bound)
    }

    fn bare_expr(&mut self, place: &Place<'_>, e: &ast::Expr) -> Result<Bound> {
        match e {
            ast::Expr::Identifier(ident) => self.reference(place, std::slice::from_ref(ident)),
            ast::Expr::CompoundIdentifier(parts) => self.reference(place, parts),
            ast::Expr::CompoundFieldAccess { root, access_chain } => self.access(place, root, access_chain),
            ast::Expr::Value(v) => match &v.value {
                Value::Placeholder(name) => self.parameter(name),
                _ => literal::value(&self.ctx, v, false),
            },
            ast::Expr::TypedString(t) => literal::typed_string(&self.ctx, t),
            ast::Expr::Interval(i) => super::interval::interval(i),
            ast::Expr::Nested(inner) => self.expr(place, inner),
            ast::Expr::BinaryOp { left, op, right } => self.binary(place, left, op, right),
            ast::Expr::UnaryOp { op, expr } => self.unary(place, *op, expr),
            ast::Expr::IsNull(x) => self.test(place, x, "IS NULL", Expr::IsNull),
            ast::Expr::IsNotNull(x) => self.test(place, x, "IS NOT NULL", Expr::IsNotNull),
            ast::Expr::IsTrue(x) => self.truth(place, x, true, false),
            ast::Expr::IsNotTrue(x) => self.truth(place, x, true, true),
            ast::Expr::IsFalse(x) => self.truth(place, x, false, false),
            ast::Expr::IsNotFalse(x) => self.truth(place, x, false, true),
            ast::Expr::IsUnknown(x) => self.unknown(place, x, false),
            ast::Expr::IsNotUnknown(x) => self.unknown(place, x, true),
            ast::Expr::IsDistinctFrom(a, b) => self.distinct_from(place, a, b, true),
            ast::Expr::IsNotDistinctFrom(a, b) => self.distinct_from(place, a, b, false),
            ast::Expr::InList { expr, list, negated } => self.in_list(place, expr, list, *negated),
            ast::Expr::InSubquery { expr, subquery, negated } => self.in_subquery(place, expr, subquery, *negated),
            ast::Expr::Exists { subquery, negated } => self.exists(place, subquery, *negated),
            ast::Expr::Subquery(query) => self.scalar_subquery(place, query),
            ast::Expr::Between { expr, negated, low, high } => self.between(place, expr, *negated, low, high),
            ast::Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(place, expr, pattern, escape_char.as_ref(), *negated, false)
            }
            ast::Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.like(place, expr, pattern, escape_char.as_ref(), *negated, true)
            }
            ast::Expr::RLike { negated, expr, pattern, regexp: _ } => self.rlike(place, expr, pattern, *negated),
            ast::Expr::AnyOp { left, compare_op, right, is_some: false } => self.quantified_like(place, left, compare_op, right, true),
            ast::Expr::AllOp { left, compare_op, right } => self.quantified_like(place, left, compare_op, right, false),
            ast::Expr::Cast { kind, expr, data_type, array: false, format: None } => self.cast(place, kind, expr, data_type),
            ast::Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.case(place, operand.as_deref(), conditions, else_result.as_deref())
            }
            ast::Expr::Extract { field, syntax: _, expr } => {
                let field_name = field.to_string();
                self.extract(place, &field_name, expr)
            }
            ast::Expr::Position { expr, r#in } => self.call_with(place, "locate", &[expr, r#in], Span::empty()),
            ast::Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                let args: Vec<&ast::Expr> =
                    [Some(expr), substring_from.as_ref(), substring_for.as_ref()].into_iter().flatten().map(Box::as_ref).collect();
                self.call_with(place, "substring", &args, Span::empty())
            }
            ast::Expr::Trim { trim_where, trim_what, expr, trim_characters } => {
                self.trim(place, trim_where.as_ref(), trim_what.as_deref(), expr, trim_characters.as_deref())
            }
            ast::Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut args: Vec<&ast::Expr> = vec![expr, overlay_what, overlay_from];
                args.extend(overlay_for.as_deref());
                self.call_with(place, "overlay", &args, Span::empty())
            }
            ast::Expr::Struct { values, fields } if fields.is_empty() => self.structure(place, values),
            ast::Expr::Tuple(values) => self.tuple(place, values),
            ast::Expr::Function(function) => self.call(place, function),
            ast::Expr::Lambda(_) => Err(error::classed(
                "INVALID_LAMBDA_FUNCTION_CALL.NON_HIGHER_ORDER_FUNCTION",
                "42K0D",
                "Invalid lambda function call. A lambda function should only be used in a higher order function.",
            )),
            other => Err(Error::not_eligible(format!("expression `{other}` isn't supported"))),
        }
    }

    /// An expression that must be a condition.
    pub fn condition(&mut self, place: &Place<'_>, e: &ast::Expr) -> Result<Bound> {
        let drops_rows = matches!(place.clause, "WHERE" | "HAVING" | "QUALIFY");
        let mut bound = self.expr(&Place { drops_rows, variables: place.variables.clone(), ..*place }, e)?;
        if matches!(bound.t.ty, DataType::Null | DataType::Utf8) && !matches!(bound.t.expr, Expr::Placeholder(_)) {
            error::check_cast_condition(place.clause, &bound.t.ty)?;
        }
        bound.t = self.as_boolean(bound.t, place.clause)?;
        Ok(bound)
    }

    pub fn as_boolean(&mut self, t: Typed, what: &str) -> Result<Typed> {
        if t.ty == DataType::Null {
            return self.coerce(t, &DataType::Boolean);
        }
        ops::condition(&self.ctx, t, what)
    }

    /// An implicit cast whose possibility the caller has decided.
    pub fn coerce(&mut self, t: Typed, to: &DataType) -> Result<Typed> {
        if t.ty == *to {
            return Ok(t);
        }
        if let Expr::Placeholder(p) = &t.expr
            && t.ty == DataType::Null
        {
            let field = arrow::datatypes::Field::new("", to.clone(), true);
            let typed = Placeholder { id: p.id.clone(), field: Some(std::sync::Arc::new(field)) };
            self.note_parameter(&p.id, to);
            return Ok(Typed::new(Expr::Placeholder(typed), to.clone(), true));
        }
        cast::implicit_cast(&self.ctx, t, to)
    }

    /// Operands brought to their least common type, or the error that `what` can't take them.
    pub fn common(&mut self, operands: Vec<Typed>, what: &str) -> Result<(Vec<Typed>, DataType)> {
        let open = |t: &Typed| t.ty == DataType::Null && matches!(t.expr, Expr::Placeholder(_));
        if operands.iter().any(open) {
            let Some(ty) = types::least_common_type(operands.iter().map(|o| &o.ty)) else {
                return coerce_all(&self.ctx, operands, what);
            };
            let coerced: Result<Vec<Typed>> = operands.into_iter().map(|o| self.coerce(o, &ty)).collect();
            return Ok((coerced?, ty));
        }
        coerce_all(&self.ctx, operands, what)
    }

    /// `:name`, or `?` with its place in the text.
    fn parameter(&mut self, written: &str) -> Result<Bound> {
        let place = written.strip_prefix('?').and_then(|place| place.parse::<usize>().ok());
        let shown = if place.is_some() { "?" } else { written };
        let Some(parameters) = self.parameters() else {
            let id = self.placeholder(written, place);
            let placeholder = Expr::Placeholder(Placeholder { id, field: None });
            return Ok(Bound::new(Typed::new(placeholder, DataType::Null, true), shown));
        };
        let value = match place {
            Some(place) => place.checked_sub(1).and_then(|index| parameters.positional.get(index)).cloned(),
            None => parameters.named.get(written.trim_start_matches(':')).cloned(),
        };
        let Some(value) = value else {
            return Err(error::classed(
                "UNBOUND_SQL_PARAMETER",
                "42P02",
                format!("Found the unbound parameter: {shown}. Please give it a value."),
            ));
        };
        let name = literal::name_of(&self.ctx, &value);
        Ok(literal::literal(value, name))
    }

    fn binary(&mut self, place: &Place<'_>, left: &ast::Expr, op: &BinaryOperator, right: &ast::Expr) -> Result<Bound> {
        if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
            return self.junction(place, left, op, right);
        }
        // A chain of one operator is as long as its text: it isn't walked by recursion.
        let mut chain = vec![(op, right)];
        let mut first = left;
        while let ast::Expr::BinaryOp { left, op, right } = first
            && !matches!(op, BinaryOperator::And | BinaryOperator::Or)
        {
            chain.push((op, right));
            first = left;
        }
        if chain.len() > CHAIN_MAX {
            return Err(Error::new(
                flightpath_types::ErrorKind::ResourceExhausted,
                format!("an expression has {} operators in a row; the limit is {CHAIN_MAX}", chain.len()),
            ));
        }
        let mut result = self.expr(place, first)?;
        for (op, right) in chain.into_iter().rev() {
            let right = self.expr(place, right)?;
            result = self.operator(result, op, right)?;
        }
        Ok(result)
    }

    /// AND and OR over any number of operands, as a balanced tree: a list of ten thousand makes no
    /// deep plan. The operands keep their order.
    fn junction(&mut self, place: &Place<'_>, left: &ast::Expr, op: &BinaryOperator, right: &ast::Expr) -> Result<Bound> {
        let mut operands = vec![right];
        let mut first = left;
        while let ast::Expr::BinaryOp { left, op: inner, right } = first
            && inner == op
        {
            operands.push(right);
            first = left;
        }
        operands.push(first);
        let (native, word) = if *op == BinaryOperator::And { (Operator::And, "AND") } else { (Operator::Or, "OR") };
        let mut nullable = false;
        let mut exprs = Vec::with_capacity(operands.len());
        let mut name = "(".repeat(operands.len() - 1);
        for (i, operand) in operands.into_iter().rev().enumerate() {
            let bound = self.expr(place, operand)?;
            let t = self.as_boolean(bound.t, word)?;
            nullable |= t.nullable;
            exprs.push(t.expr);
            if i > 0 {
                name.push_str(&format!(" {word} {})", bound.name));
            } else {
                name.push_str(&bound.name);
            }
        }
        Ok(Bound::new(Typed::new(balanced(lazy::operands(exprs, native), native), DataType::Boolean, nullable), name))
    }

    fn unary(&mut self, place: &Place<'_>, op: UnaryOperator, operand: &ast::Expr) -> Result<Bound> {
        match op {
            UnaryOperator::Minus => {
                if let ast::Expr::Value(v) = operand
                    && matches!(v.value, Value::Number(..))
                {
                    return literal::value(&self.ctx, v, true);
                }
                let x = self.expr(place, operand)?;
                self.negative(x)
            }
            UnaryOperator::Plus => {
                let x = self.expr(place, operand)?;
                self.positive(x)
            }
            UnaryOperator::Not | UnaryOperator::BangNot => {
                if let Some(within) = super::subquery::not_within(operand) {
                    // NOT IN isn't the contrary of IN where a NULL leaves it open.
                    let bound = self.expr(place, &within)?;
                    if matches!(operand, ast::Expr::Nested(inner) if matches!(inner.as_ref(), ast::Expr::BinaryOp { .. })) {
                        if super::subquery::has_parameter(operand) {
                            return Err(Error::not_eligible("NOT over an IN with a subquery and parameters isn't supported"));
                        }
                        let name = self.expr(place, operand)?.name;
                        return Ok(Bound::new(bound.t, format!("(NOT {name})")));
                    }
                    return Ok(bound);
                }
                let x = self.expr(place, operand)?;
                let t = self.as_boolean(x.t, "NOT")?;
                let nullable = t.nullable;
                Ok(Bound::new(Typed::new(negated(t.expr), DataType::Boolean, nullable), format!("(NOT {})", x.name)))
            }
            UnaryOperator::BitwiseNot => {
                let x = self.expr(place, operand)?;
                let name = format!("~{}", x.name);
                ops::bit_not(&self.ctx, x.t).map(|t| Bound::new(t, name))
            }
            other => Err(Error::not_eligible(format!("operator {other} isn't part of Databricks SQL"))),
        }
    }

    fn test(&mut self, place: &Place<'_>, x: &ast::Expr, word: &str, make: fn(Box<Expr>) -> Expr) -> Result<Bound> {
        let x = self.expr(place, x)?;
        Ok(Bound::new(Typed::new(make(Box::new(x.t.expr)), DataType::Boolean, false), format!("({} {word})", x.name)))
    }

    fn truth(&mut self, place: &Place<'_>, x: &ast::Expr, value: bool, negate: bool) -> Result<Bound> {
        let x = self.expr(place, x)?;
        let t = self.as_boolean(x.t, "IS")?;
        let expr = match (value, negate) {
            (true, false) => Expr::IsTrue(Box::new(t.expr)),
            (true, true) => Expr::IsNotTrue(Box::new(t.expr)),
            (false, false) => Expr::IsFalse(Box::new(t.expr)),
            (false, true) => Expr::IsNotFalse(Box::new(t.expr)),
        };
        let plain = format!("({} <=> {value})", x.name);
        let name = if negate { format!("(NOT {plain})") } else { plain };
        Ok(Bound::new(Typed::new(expr, DataType::Boolean, false), name))
    }

    fn unknown(&mut self, place: &Place<'_>, x: &ast::Expr, negate: bool) -> Result<Bound> {
        let x = self.expr(place, x)?;
        let t = self.as_boolean(x.t, "IS UNKNOWN")?;
        let (expr, word) =
            if negate { (Expr::IsNotNull(Box::new(t.expr)), "IS NOT NULL") } else { (Expr::IsNull(Box::new(t.expr)), "IS NULL") };
        Ok(Bound::new(Typed::new(expr, DataType::Boolean, false), format!("({} {word})", x.name)))
    }

    fn distinct_from(&mut self, place: &Place<'_>, a: &ast::Expr, b: &ast::Expr, distinct: bool) -> Result<Bound> {
        let (a, b) = (self.expr(place, a)?, self.expr(place, b)?);
        let name = format!("({} <=> {})", a.name, b.name);
        let t = self.compare(a.t, Operator::IsNotDistinctFrom, b.t)?;
        if distinct {
            let t = match t.expr {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::IsNotDistinctFrom, right }) => {
                    Expr::BinaryExpr(BinaryExpr { left, op: Operator::IsDistinctFrom, right })
                }
                other => negated(other),
            };
            return Ok(Bound::new(Typed::new(t, DataType::Boolean, false), format!("(NOT {name})")));
        }
        Ok(Bound::new(t, name))
    }

    fn cast(&mut self, place: &Place<'_>, kind: &ast::CastKind, x: &ast::Expr, data_type: &ast::DataType) -> Result<Bound> {
        let x = self.expr(place, x)?;
        let to = typename::resolve(data_type)?;
        let (word, try_) = match kind {
            ast::CastKind::Cast | ast::CastKind::DoubleColon => ("CAST", false),
            ast::CastKind::TryCast => ("TRY_CAST", true),
            ast::CastKind::SafeCast => return Err(Error::invalid("SAFE_CAST isn't part of Databricks SQL; use try_cast")),
        };
        // Casts to nested types don't show.
        let name = if to.ty.is_nested() { x.name.clone() } else { format!("{word}({} AS {})", x.name, to.sql) };
        if matches!(x.t.expr, Expr::Placeholder(_)) && x.t.ty == DataType::Null {
            return Ok(Bound::new(self.coerce(x.t, &to.ty)?, name));
        }
        if let ast::DataType::Interval { fields: Some(fields), precision: None } = data_type
            && let Some(value) = x.t.as_literal()
            && let Some(made) = super::interval::cast(value, fields)
        {
            return match made {
                Err(_) if try_ => Ok(Bound::new(Typed::null(&to.ty)?, name)),
                made => Ok(Bound::new(made?, name)),
            };
        }
        let t = if try_ { cast::try_cast(&self.ctx, x.t, &to.ty)? } else { cast::cast(&self.ctx, x.t, &to.ty)? };
        Ok(Bound::new(t, name))
    }

    fn case(
        &mut self,
        place: &Place<'_>,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
    ) -> Result<Bound> {
        let operand = operand.map(|o| self.expr(place, o)).transpose()?;
        let mut whens = Vec::with_capacity(conditions.len());
        let mut results = Vec::with_capacity(conditions.len() + 1);
        let mut name = "CASE".to_string();
        for when in conditions {
            let condition = self.expr(place, &when.condition)?;
            let result = self.expr(place, &when.result)?;
            let test = match &operand {
                Some(operand) => {
                    name.push_str(&format!(" WHEN ({} = {})", operand.name, condition.name));
                    self.compare(operand.t.clone(), Operator::Eq, condition.t)?
                }
                None => {
                    name.push_str(&format!(" WHEN {}", condition.name));
                    let open = matches!(condition.t.expr, Expr::Placeholder(_));
                    if condition.t.ty != DataType::Boolean && !open {
                        return Err(error::mismatch(
                            "UNEXPECTED_INPUT_TYPE",
                            format!("CASE WHEN needs a \"BOOLEAN\" condition, but has the type {}.", types::sql_name(&condition.t.ty)),
                        ));
                    }
                    self.as_boolean(condition.t, "CASE WHEN")?
                }
            };
            name.push_str(&format!(" THEN {}", result.name));
            whens.push(test);
            results.push(result.t);
        }
        let no_else = otherwise.is_none();
        if let Some(otherwise) = otherwise {
            let otherwise = self.expr(place, otherwise)?;
            name.push_str(&format!(" ELSE {}", otherwise.name));
            results.push(otherwise.t);
        }
        name.push_str(" END");
        let (mut results, ty) = self.common(results, "CASE WHEN")?;
        // What stands behind a condition that is always true is never taken.
        let always = whens.iter().position(|w: &Typed| matches!(w.as_literal(), Some(ScalarValue::Boolean(Some(true)))));
        let nullable = match always {
            Some(at) => results[..=at].iter().any(|r| r.nullable),
            None => no_else || results.iter().any(|r| r.nullable),
        };
        let otherwise = if no_else { None } else { results.pop().map(|r| r.expr) };
        let branches = whens.into_iter().zip(results).map(|(w, r)| (w.expr, r.expr)).collect();
        Ok(Bound::new(Typed::new(lazy::case(branches, otherwise, &ty), ty, nullable), name))
    }
}

/// Whether an operand of it drops rows where the whole does.
fn passes_on(e: &ast::Expr) -> bool {
    match e {
        ast::Expr::Nested(_) | ast::Expr::InSubquery { .. } | ast::Expr::Exists { .. } => true,
        ast::Expr::BinaryOp { op, .. } => matches!(op, BinaryOperator::And | BinaryOperator::Or),
        ast::Expr::UnaryOp { op, .. } => matches!(op, UnaryOperator::Not | UnaryOperator::BangNot),
        _ => false,
    }
}

/// The longest chain of operators other than AND and OR that becomes a plan.
const CHAIN_MAX: usize = 500;

pub(super) fn negated(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

/// One operator over all operands, in order, at the least depth.
pub(super) fn balanced(mut exprs: Vec<Expr>, op: Operator) -> Expr {
    while exprs.len() > 1 {
        let mut next = Vec::with_capacity(exprs.len().div_ceil(2));
        let mut pairs = exprs.into_iter();
        while let Some(left) = pairs.next() {
            next.push(match pairs.next() {
                Some(right) => Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) }),
                None => left,
            });
        }
        exprs = next;
    }
    exprs.pop().unwrap_or(Expr::Literal(ScalarValue::Boolean(Some(op == Operator::And)), None))
}

/// How many nodes an expression has.
pub(super) fn expression_size(expr: &Expr) -> usize {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    let mut size = 0usize;
    let counted = expr.apply(|_| {
        size += 1;
        Ok(TreeNodeRecursion::Continue)
    });
    if counted.is_ok() { size } else { usize::MAX }
}
