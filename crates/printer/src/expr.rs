//! Expressions. Native DataFusion operators are printed only where DuckDB's operator is the same;
//! everything with semantics of its own is a call of the compile table.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{InList, Like, ScalarFunction};
use datafusion::logical_expr::{Between, BinaryExpr, Case, Expr, Operator};
use flightpath_functions::lambda::FpHigher;
use flightpath_functions::{DuckCall, FpScalar, duckdb, fold, order};
use flightpath_types::{Refusal, RefusalClass};

use crate::block::{Cell, CellKind};
use crate::relation::{Env, Printer, same_type, strip_alias, type_name};
use crate::{Printed, refuse};

/// How tightly a text holds together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// A complete operand of anything.
    Atom,
    /// Binds tighter than AND and OR: comparisons, tests, NOT.
    Comparison,
    /// Operands joined by AND.
    And,
    /// Anything looser.
    Loose,
}

/// A printed expression and its type.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    pub text: String,
    pub ty: DataType,
    pub binding: Binding,
}

impl Sql {
    pub fn atom(text: String, ty: DataType) -> Self {
        Self { text, ty, binding: Binding::Atom }
    }

    pub fn loose(text: String, ty: DataType) -> Self {
        Self { text, ty, binding: Binding::Loose }
    }

    /// A comparison or test.
    pub fn boolean(text: String) -> Self {
        Self { text, ty: DataType::Boolean, binding: Binding::Comparison }
    }

    /// Text of a definition's rule, which promises nothing about its outermost operator.
    pub fn of_rule(text: String, ty: DataType) -> Self {
        if is_complete(&text) { Self::atom(text, ty) } else { Self::loose(text, ty) }
    }

    /// As an operand of any operator.
    pub fn operand(self) -> String {
        match self.binding {
            Binding::Atom => self.text,
            Binding::Comparison | Binding::And | Binding::Loose => format!("({})", self.text),
        }
    }

    /// As one operand of AND.
    pub fn conjunct(self) -> String {
        match self.binding {
            Binding::Atom | Binding::Comparison | Binding::And => self.text,
            Binding::Loose => format!("({})", self.text),
        }
    }

    /// As one operand of AND or OR.
    fn term(self) -> String {
        match self.binding {
            Binding::Atom | Binding::Comparison => self.text,
            Binding::And | Binding::Loose => format!("({})", self.text),
        }
    }
}

impl Printer {
    pub fn expr(&mut self, expr: &Expr, env: &Env) -> Printed<Sql> {
        let printed = stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || self.expr_here(expr, env));
        match printed {
            Err(refusal) if refusal.class == RefusalClass::Semantics => crate::constant::expression(expr).unwrap_or(Err(refusal)),
            printed => printed,
        }
    }

    fn expr_here(&mut self, expr: &Expr, env: &Env) -> Printed<Sql> {
        match expr {
            Expr::Alias(alias) => self.expr(&alias.expr, env),
            Expr::Column(column) => {
                let (cell, ty) = self.column_cell(column, env)?;
                Ok(cell_sql(cell, ty))
            }
            Expr::OuterReferenceColumn(_, column) => self.outer_column(column),
            Expr::Literal(value, _) => literal(value),
            Expr::BinaryExpr(binary) => self.binary(binary, env),
            Expr::Like(like) => self.like(like, env),
            Expr::Not(inner) => {
                let inner = self.boolean_operand(inner, env, "NOT")?;
                Ok(Sql::boolean(format!("NOT {inner}")))
            }
            Expr::IsNull(inner) => Ok(Sql::boolean(format!("{} IS NULL", self.expr(inner, env)?.operand()))),
            Expr::IsNotNull(inner) => Ok(Sql::boolean(format!("{} IS NOT NULL", self.expr(inner, env)?.operand()))),
            Expr::IsTrue(inner) => Ok(Sql::boolean(format!("{} IS TRUE", self.boolean_operand(inner, env, "IS TRUE")?))),
            Expr::IsFalse(inner) => Ok(Sql::boolean(format!("{} IS FALSE", self.boolean_operand(inner, env, "IS FALSE")?))),
            Expr::IsUnknown(inner) => Ok(Sql::boolean(format!("{} IS NULL", self.boolean_operand(inner, env, "IS UNKNOWN")?))),
            Expr::IsNotTrue(inner) => Ok(Sql::boolean(format!("{} IS NOT TRUE", self.boolean_operand(inner, env, "IS NOT TRUE")?))),
            Expr::IsNotFalse(inner) => Ok(Sql::boolean(format!("{} IS NOT FALSE", self.boolean_operand(inner, env, "IS NOT FALSE")?))),
            Expr::IsNotUnknown(inner) => Ok(Sql::boolean(format!("{} IS NOT NULL", self.boolean_operand(inner, env, "IS NOT UNKNOWN")?))),
            Expr::Between(between) => self.between(between, env),
            Expr::Case(case) => self.case(case, env),
            Expr::Cast(cast) => {
                let inner = self.expr(&cast.expr, env)?;
                crate::cast::lossless(inner, cast.field.data_type())
            }
            Expr::ScalarFunction(call) => self.scalar_function(call, env),
            Expr::InList(list) => self.in_list(list, env),
            Expr::Exists(exists) => self.exists(exists, env),
            Expr::InSubquery(in_subquery) => self.in_subquery(in_subquery, env),
            Expr::ScalarSubquery(subquery) => self.scalar_subquery(subquery, env),
            Expr::AggregateFunction(call) => Err(refuse(format!("aggregate `{}` outside of an aggregation", call.func.name()))),
            Expr::WindowFunction(call) => Err(refuse(format!("window function `{}` outside of a window", call.fun.name()))),
            Expr::SimilarTo(_) => Err(refuse("SIMILAR TO")),
            Expr::Negative(_) => Err(refuse("the native operator `-`")),
            Expr::TryCast(cast) => Err(refuse(format!("a native TRY_CAST to {}", cast.field.data_type()))),
            Expr::ScalarVariable(_, names) => Err(refuse(format!("variable `{}`", names.join(".")))),
            Expr::SetComparison(_) => Err(refuse("a comparison with ANY or ALL of a subquery")),
            Expr::GroupingSet(_) => Err(refuse("a grouping set outside of GROUP BY")),
            Expr::Placeholder(placeholder) => Err(refuse(format!("parameter {} without a value", placeholder.id))),
            Expr::Unnest(_) => Err(refuse("UNNEST inside an expression")),
            Expr::HigherOrderFunction(call) => Err(refuse(format!("higher-order function `{}`", call.name()))),
            Expr::Lambda(_) => Err(refuse("a lambda")),
            Expr::LambdaVariable(variable) => Err(refuse(format!("lambda variable `{}`", variable.name))),
            #[expect(deprecated, reason = "the variant exists, so it needs a decision")]
            Expr::Wildcard { .. } => Err(refuse("`*` that wasn't expanded")),
        }
    }

    /// The cell that a column refers to, and its type.
    pub fn column_cell<'e>(&self, column: &Column, env: &'e Env) -> Printed<(&'e Cell, &'e DataType)> {
        for (schema, cells) in &env.parts {
            if let Some(index) = schema.maybe_index_of_column(column) {
                let cell = &cells[index];
                if cell.kind == CellKind::Absent {
                    return Err(internal(column));
                }
                return Ok((cell, schema.field(index).data_type()));
            }
        }
        Err(internal(column))
    }

    fn outer_column(&mut self, column: &Column) -> Printed<Sql> {
        for env in self.outers.iter().rev() {
            if let Ok((cell, ty)) = self.column_cell(column, env) {
                if cell.kind == CellKind::Computed {
                    return Err(refuse(format!("a reference to the computed column `{column}` of an outer query")));
                }
                return Ok(cell_sql(cell, ty));
            }
        }
        Err(internal(column))
    }

    fn boolean_operand(&mut self, expr: &Expr, env: &Env, operator: &str) -> Printed<String> {
        let printed = self.expr(expr, env)?;
        match printed.ty {
            DataType::Boolean | DataType::Null => Ok(printed.operand()),
            ty => Err(refuse(format!("{operator} on a value of type {ty}"))),
        }
    }

    fn binary(&mut self, binary: &BinaryExpr, env: &Env) -> Printed<Sql> {
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

    fn like(&mut self, like: &Like, env: &Env) -> Printed<Sql> {
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

    fn between(&mut self, between: &Between, env: &Env) -> Printed<Sql> {
        let value = shielded(&between.expr, self.expr(&between.expr, env)?);
        let (low, high) = (self.expr(&between.low, env)?, self.expr(&between.high, env)?);
        check_comparable(&value.ty, &low.ty, true)?;
        check_comparable(&value.ty, &high.ty, true)?;
        let not = if between.negated { "NOT " } else { "" };
        Ok(Sql::boolean(format!("{} {not}BETWEEN {} AND {}", value.operand(), low.operand(), high.operand())))
    }

    fn case(&mut self, case: &Case, env: &Env) -> Printed<Sql> {
        let mut text = String::from("CASE");
        let operand = match &case.expr {
            Some(expr) => {
                let printed = shielded(expr, self.expr(expr, env)?);
                let ty = printed.ty.clone();
                text.push_str(&format!(" {}", printed.operand()));
                Some(ty)
            }
            None => None,
        };
        let mut ty = DataType::Null;
        let mut unify = |branch: &DataType| match (&ty, branch) {
            (_, DataType::Null) => Ok(()),
            (DataType::Null, _) => {
                ty = branch.clone();
                Ok(())
            }
            (have, branch) if same_type(have, branch) => Ok(()),
            (have, branch) => Err(refuse(format!("CASE with branches of {have} and {branch}"))),
        };
        for (when, then) in &case.when_then_expr {
            let when = self.expr(when, env)?;
            match &operand {
                Some(ty) => check_comparable(ty, &when.ty, false)?,
                None if matches!(when.ty, DataType::Boolean | DataType::Null) => {}
                None => return Err(refuse(format!("CASE WHEN on a value of type {}", when.ty))),
            }
            let then = self.expr(then, env)?;
            unify(&then.ty)?;
            text.push_str(&format!(" WHEN {} THEN {}", when.text, then.text));
        }
        if let Some(otherwise) = &case.else_expr {
            let otherwise = self.expr(otherwise, env)?;
            unify(&otherwise.ty)?;
            text.push_str(&format!(" ELSE {}", otherwise.text));
        }
        text.push_str(" END");
        crate::check_size(&text)?;
        Ok(Sql::atom(text, ty))
    }

    fn in_list(&mut self, list: &InList, env: &Env) -> Printed<Sql> {
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

    fn scalar_function(&mut self, call: &ScalarFunction, env: &Env) -> Printed<Sql> {
        if let Some(higher) = FpHigher::of(call) {
            return self.higher_function(call, higher, env);
        }
        let Some(function) = call.func.inner().downcast_ref::<FpScalar>() else {
            return Err(refuse(format!("the native function `{}`", call.name())));
        };
        // DuckDB's decimals overflow where Databricks' don't: those of constants are computed here.
        if function.def.deterministic
            && (function.ret.is_decimal() || call.args.iter().any(|arg| fold::type_of(arg).is_some_and(|ty| ty.is_decimal())))
            && let Ok(value) = fold::constant_call(call)
        {
            return literal(&value);
        }
        let args = self.arguments(&call.args, env)?;
        let duck_call = DuckCall {
            args: &args.texts,
            types: &args.types,
            literals: &args.literals,
            ret: &function.ret,
            time_zone: &function.time_zone,
        };
        let text = (function.def.duckdb)(&duck_call).map_err(|reason| by_rule(function.def.name, &args.types, reason))?;
        crate::check_size(&text)?;
        // A rule that leaves some values to other engines isn't asked about known ones.
        if crate::constant::refuses_values(&text)
            && let Ok(value) = fold::constant_call(call)
        {
            return literal(&value);
        }
        Ok(Sql::of_rule(text, function.ret.clone()))
    }

    pub fn arguments(&mut self, exprs: &[Expr], env: &Env) -> Printed<Arguments> {
        let mut args = Arguments::default();
        for expr in exprs {
            let printed = self.expr(expr, env)?;
            args.types.push(printed.ty.clone());
            args.literals.push(match strip_alias(expr) {
                Expr::Literal(value, _) => Some(value.clone()),
                // A rule that asks for a literal may as well have a constant's value.
                call @ Expr::ScalarFunction(_) => fold::constant(call).ok(),
                _ => None,
            });
            args.texts.push(printed.operand());
        }
        Ok(args)
    }
}

/// `x + 1 > 5` becomes `x > 4` on DuckDB, which never overflows: sums, differences and products of
/// integers are hidden from what is compared with a constant.
fn shielded(side: &Expr, printed: Sql) -> Sql {
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

#[derive(Default)]
pub(crate) struct Arguments {
    pub texts: Vec<String>,
    pub types: Vec<DataType>,
    pub literals: Vec<Option<ScalarValue>>,
}

/// What a definition's rule says against a call, with the call named.
pub(crate) fn by_rule(name: &str, types: &[DataType], reason: String) -> Refusal {
    let types: Vec<String> = types.iter().map(|t| t.to_string().to_lowercase()).collect();
    Refusal::new(RefusalClass::Semantics, format!("`{name}({})` on DuckDB: {reason}", types.join(", ")))
}

fn internal(column: &Column) -> Refusal {
    refuse(format!("the column reference `{column}`, which isn't in scope there and"))
}

fn cell_sql(cell: &Cell, ty: &DataType) -> Sql {
    match cell.kind {
        CellKind::Column => Sql::atom(cell.text.clone(), ty.clone()),
        CellKind::Literal | CellKind::Computed | CellKind::Absent => Sql::of_rule(cell.text.clone(), ty.clone()),
    }
}

pub(crate) fn literal(value: &ScalarValue) -> Printed<Sql> {
    if matches!(value, ScalarValue::Null) {
        return Ok(Sql::atom("NULL".into(), DataType::Null));
    }
    let text = duckdb::literal(value).map_err(|reason| Refusal::new(RefusalClass::Semantics, reason))?;
    Ok(Sql::of_rule(text, value.data_type()))
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

/// Whether `text` is one operand as it stands: a literal, a name, a call, CASE ... END or something
/// in parentheses that close at the end.
fn is_complete(text: &str) -> bool {
    const SCAN_BYTES_MAX: usize = 1 << 16;
    if text.len() > SCAN_BYTES_MAX {
        return false;
    }
    let bytes = text.as_bytes();
    let (mut depth, mut quote) = (0usize, None);
    let mut quoted_all = matches!(bytes.first(), Some(b'\''));
    let mut closed_at = None;
    for (i, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (Some(q), b) if *b == q => {
                quote = None;
                // A doubled quote opens again at once.
                if q == b'\'' && i + 1 < bytes.len() && bytes[i + 1] != b'\'' {
                    quoted_all = false;
                }
            }
            (Some(_), _) => {}
            (None, b'\'') if i > 0 && depth == 0 && !quoted_all => return false,
            (None, b'\'' | b'"') => quote = Some(*byte),
            (None, b'(') => {
                if depth == 0 && closed_at.is_some() {
                    return false;
                }
                depth += 1;
            }
            (None, b')') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    closed_at = Some(i);
                }
            }
            (None, b) if depth == 0 && !(b.is_ascii_alphanumeric() || *b == b'_' || *b == b'.') => return false,
            (None, _) if depth == 0 && closed_at.is_some() => return false,
            (None, _) => {}
        }
    }
    !bytes.is_empty() && quote.is_none() && depth == 0
}

#[cfg(test)]
mod tests {
    use super::{is_complete, is_valid_pattern};

    #[test]
    fn a_text_is_complete_when_nothing_hangs_outside_its_parentheses() {
        for complete in ["1", "'a'", "'it''s'", "s0.\"a b\"", "t1.c0", "f(a, ')')", "(a + b)", "CAST('x' AS BLOB)", "NULL", "list_value(1)"]
        {
            assert!(is_complete(complete), "{complete}");
        }
        for loose in [
            "a + b",
            "(a) + (b)",
            "NOT a",
            "'a' || 'b'",
            "f(a) + 1",
            "-1",
            "CASE WHEN a THEN b END",
            "f(a) FILTER (WHERE b)",
            "f(a)(b)",
            "a[1]",
            "",
        ] {
            assert!(!is_complete(loose), "{loose}");
        }
    }

    #[test]
    fn a_pattern_may_escape_wildcards_and_the_escape_only() {
        assert!(is_valid_pattern(r"a\%b\_c\\", '\\'));
        assert!(!is_valid_pattern(r"a\b", '\\'));
        assert!(!is_valid_pattern("a\\", '\\'));
        assert!(is_valid_pattern(r"a\b", '!'));
    }
}
