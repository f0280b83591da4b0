//! Native operators: comparisons, AND and OR, `||`, LIKE, BETWEEN, IN. Printed only for the types and
//! patterns for which DuckDB's operator is the same.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use flightpath_functions::{FpScalar, duckdb, order};
use flightpath_types::{Refusal, RefusalClass};

use crate::relation::{Env, Printer, same_type, strip_alias, type_name};
use crate::sql::{Binding, Sql};
use crate::{Printed, refuse};

impl Printer {
    pub fn binary(&mut self, binary: &BinaryExpr, env: &Env) -> Printed<Sql> {
        let comparison = |symbol: &'static str, ordering: bool| Ok((symbol, ordering));
        let (symbol, ordering) = match binary.op {
            Operator::And | Operator::Or => return self.logical(binary, env),
            Operator::StringConcat => return self.concat(binary, env),
            Operator::Eq => comparison("=", false),
            Operator::NotEq => comparison("<>", false),
            Operator::Lt => comparison("<", true),
            Operator::LtEq => comparison("<=", true),
            Operator::Gt => comparison(">", true),
            Operator::GtEq => comparison(">=", true),
            Operator::IsDistinctFrom => comparison("IS DISTINCT FROM", false),
            Operator::IsNotDistinctFrom => comparison("IS NOT DISTINCT FROM", false),
            Operator::Plus
            | Operator::Minus
            | Operator::Multiply
            | Operator::Divide
            | Operator::Modulo
            | Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch
            | Operator::LikeMatch
            | Operator::ILikeMatch
            | Operator::NotLikeMatch
            | Operator::NotILikeMatch
            | Operator::BitwiseAnd
            | Operator::BitwiseOr
            | Operator::BitwiseXor
            | Operator::BitwiseShiftRight
            | Operator::BitwiseShiftLeft
            | Operator::AtArrow
            | Operator::ArrowAt
            | Operator::Arrow
            | Operator::LongArrow
            | Operator::HashArrow
            | Operator::HashLongArrow
            | Operator::AtAt
            | Operator::IntegerDivide
            | Operator::HashMinus
            | Operator::AtQuestion
            | Operator::Question
            | Operator::QuestionAnd
            | Operator::QuestionPipe
            | Operator::Colon => Err(refuse(format!("the native operator `{}`", binary.op))),
        }?;
        let (left, right) = (self.compared(&binary.left, &binary.right, env)?, self.compared(&binary.right, &binary.left, env)?);
        if ordering && left.ty.is_nested() && same_type(&left.ty, &right.ty) {
            let key = |side: Sql| {
                let ty = side.ty.clone();
                order::key(&ty, &side.operand()).map_err(|reason| Refusal::new(RefusalClass::Semantics, reason))
            };
            return Ok(Sql::boolean(format!("{} {symbol} {}", key(left)?, key(right)?)));
        }
        check_comparable(&left.ty, &right.ty, ordering)?;
        Ok(Sql::boolean(format!("{} {symbol} {}", left.operand(), right.operand())))
    }

    /// One side of a comparison. A window's row number against a constant goes without its cast, which
    /// would hide from DuckDB that only the first rows are asked for.
    fn compared(&mut self, side: &Expr, other: &Expr, env: &Env) -> Printed<Sql> {
        if let Expr::Cast(cast) = strip_alias(side)
            && matches!(strip_alias(other), Expr::Literal(ScalarValue::Int32(Some(_)), _))
        {
            let number = self.expr(&cast.expr, env)?;
            if number.ty == DataType::UInt64 && *cast.field.data_type() == DataType::Int32 {
                return Ok(Sql { ty: DataType::Int32, ..number });
            }
        }
        let printed = self.expr(side, env)?;
        Ok(if is_constant(other) { shielded(side, printed) } else { printed })
    }

    /// Of strings only: NULL with either side NULL in both.
    fn concat(&mut self, binary: &BinaryExpr, env: &Env) -> Printed<Sql> {
        let (left, right) = (self.expr(&binary.left, env)?, self.expr(&binary.right, env)?);
        if left.ty != DataType::Utf8 || right.ty != DataType::Utf8 {
            return Err(refuse(format!("`||` of {} and {}", left.ty, right.ty)));
        }
        Ok(Sql::loose(format!("{} || {}", left.operand(), right.operand()), DataType::Utf8))
    }

    /// A chain of ANDs or ORs, printed without nesting: DuckDB's parser is flat there too.
    fn logical(&mut self, binary: &BinaryExpr, env: &Env) -> Printed<Sql> {
        let mut operands = Vec::new();
        let mut pending: Vec<&Expr> = vec![&binary.right, &binary.left];
        while let Some(expr) = pending.pop() {
            match strip_alias(expr) {
                Expr::BinaryExpr(inner) if inner.op == binary.op => pending.extend([inner.right.as_ref(), inner.left.as_ref()]),
                other => operands.push(other),
            }
        }
        let mut texts = Vec::with_capacity(operands.len());
        for operand in operands {
            let printed = self.expr(operand, env)?;
            if !matches!(printed.ty, DataType::Boolean | DataType::Null) {
                return Err(refuse(format!("{} on a value of type {}", binary.op, printed.ty)));
            }
            texts.push(printed.term());
        }
        let (separator, binding) = if binary.op == Operator::And { (" AND ", Binding::And) } else { (" OR ", Binding::Loose) };
        Ok(Sql { text: texts.join(separator), ty: DataType::Boolean, binding })
    }

    pub fn like(&mut self, like: &Like, env: &Env) -> Printed<Sql> {
        if like.case_insensitive {
            return Err(refuse("the native operator ILIKE"));
        }
        let escape = like.escape_char.unwrap_or('\\');
        let literal = match strip_alias(&like.pattern) {
            Expr::Literal(pattern, _) => Some(pattern),
            _ => None,
        };
        if let Some(ScalarValue::Utf8(Some(pattern))) = literal
            && !is_valid_pattern(pattern, escape)
        {
            return Err(refuse("LIKE with an escape character in front of an ordinary one"));
        }
        let (text, pattern) = (self.expr(&like.expr, env)?, self.expr(&like.pattern, env)?);
        for ty in [&text.ty, &pattern.ty] {
            if !matches!(ty, DataType::Utf8 | DataType::Null) {
                return Err(refuse(format!("LIKE on a value of type {ty}")));
            }
        }
        let not = if like.negated { "NOT " } else { "" };
        let (text, pattern) = (text.operand(), pattern.operand());
        let plain = format!("{text} {not}LIKE {pattern}");
        // DuckDB is fast with a pattern in which nothing is escaped, if told so.
        if let Some(ScalarValue::Utf8(pattern)) = literal
            && !pattern.as_ref().is_some_and(|pattern| pattern.contains(escape))
        {
            return Ok(Sql::boolean(plain));
        }
        let like = format!("{plain} ESCAPE {}", duckdb::string(&escape.to_string()));
        if literal.is_some() {
            return Ok(Sql::boolean(like));
        }
        if escape != '\\' {
            return Err(refuse("LIKE with ESCAPE and a pattern that isn't a constant"));
        }
        // DuckDB takes an escape in front of an ordinary character for that character.
        let message = duckdb::string("The escape character is not allowed to precede an ordinary one or to end the pattern of LIKE.");
        let raise = duckdb::raise("INVALID_FORMAT.ESC_IN_THE_MIDDLE", "42601", &message);
        let invalid = duckdb::string(r"(?s)\A(?:[^\\]|\\[%_\\])*\\(?:[^%_\\]|\z)");
        let text = format!("CASE WHEN {text} IS NOT NULL AND regexp_matches({pattern}, {invalid}) THEN {raise} ELSE {like} END");
        crate::check_size(&text)?;
        Ok(Sql::atom(text, DataType::Boolean))
    }

    pub fn between(&mut self, between: &Between, env: &Env) -> Printed<Sql> {
        let value = shielded(&between.expr, self.expr(&between.expr, env)?);
        let (low, high) = (self.expr(&between.low, env)?, self.expr(&between.high, env)?);
        check_comparable(&value.ty, &low.ty, true)?;
        check_comparable(&value.ty, &high.ty, true)?;
        let not = if between.negated { "NOT " } else { "" };
        Ok(Sql::boolean(format!("{} {not}BETWEEN {} AND {}", value.operand(), low.operand(), high.operand())))
    }

    pub fn in_list(&mut self, list: &InList, env: &Env) -> Printed<Sql> {
        let value = shielded(&list.expr, self.expr(&list.expr, env)?);
        if list.list.is_empty() {
            return Ok(Sql::atom(if list.negated { "TRUE" } else { "FALSE" }.into(), DataType::Boolean));
        }
        let mut items = Vec::with_capacity(list.list.len());
        for item in &list.list {
            let item = self.expr(item, env)?;
            check_comparable(&value.ty, &item.ty, false)?;
            items.push(item.text);
        }
        let not = if list.negated { "NOT " } else { "" };
        Ok(Sql::boolean(format!("{} {not}IN ({})", value.operand(), items.join(", "))))
    }
}

/// `x + 1 > 5` becomes `x > 4` on DuckDB, which never overflows: sums, differences and products of
/// integers are hidden from what is compared with a constant.
pub(crate) fn shielded(side: &Expr, printed: Sql) -> Sql {
    let is_arithmetic = |f: &FpScalar| {
        matches!(f.def.name, "add" | "subtract" | "multiply" | "negative") && flightpath_functions::types::is_integral(&f.ret)
    };
    let overflows = side
        .exists(|e| Ok(matches!(e, Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<FpScalar>().is_some_and(is_arithmetic))));
    if overflows.unwrap_or(true) && !is_constant(side) { Sql::atom(duckdb::hidden(&printed.text), printed.ty) } else { printed }
}

fn is_constant(expr: &Expr) -> bool {
    !expr.exists(|e| Ok(matches!(e, Expr::Column(_) | Expr::OuterReferenceColumn(..)) || crate::relation::is_subquery(e))).unwrap_or(true)
}

/// Whether DuckDB compares values of these types as Databricks does. Arrays and structs are equal
/// in both when their NULLs stand in the same places; their order differs.
pub(crate) fn check_comparable(left: &DataType, right: &DataType, ordering: bool) -> Printed<()> {
    if matches!(left, DataType::Null) || matches!(right, DataType::Null) {
        return Ok(());
    }
    if !same_type(left, right) {
        return Err(refuse(format!("a comparison of {left} with {right}")));
    }
    match left {
        DataType::List(_) | DataType::Struct(_) if !ordering && !crate::relation::contains_map(left) => Ok(()),
        // Numbers of rows and grouping sets.
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Ok(()),
        ty if ty.is_nested() => Err(refuse(format!("a comparison of values of type {ty}"))),
        ty => type_name(ty).map(|_| ()),
    }
}

/// Databricks raises an error for an escape in front of anything but `_`, `%` and itself.
fn is_valid_pattern(pattern: &str, escape: char) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c == escape && !matches!(chars.next(), Some(next) if next == '_' || next == '%' || next == escape) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_valid_pattern;

    #[test]
    fn a_pattern_may_escape_wildcards_and_the_escape_only() {
        assert!(is_valid_pattern(r"a\%b\_c\\", '\\'));
        assert!(!is_valid_pattern(r"a\b", '\\'));
        assert!(!is_valid_pattern("a\\", '\\'));
        assert!(is_valid_pattern(r"a\b", '!'));
    }
}
