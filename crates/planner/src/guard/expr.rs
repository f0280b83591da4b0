//! What may stand in an expression.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DuplicateTreatment, Expr, ExtractSyntax, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Interval, JsonPath, JsonPathElem, LambdaFunction,
    LambdaFunctionParameter, LambdaSyntax, NullTreatment, OneOrManyWithParens, Subscript, TypedString, UnaryOperator, Value, ValueWithSpan,
    WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};
use flightpath_types::{Error, ErrorKind, Result};

use super::relation::check_object_name;
use super::{check_order_by_expr, check_query, check_wildcard, not, refuse};

pub(super) fn check_expr(e: &Expr) -> Result<()> {
    match e {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => Ok(()),
        Expr::CompoundFieldAccess { root, access_chain } => {
            check_expr(root)?;
            access_chain.iter().try_for_each(check_access)
        }
        Expr::JsonAccess { value, path: JsonPath { path } } => {
            path.iter().try_for_each(|step| match step {
                JsonPathElem::Dot { key: _, quoted: _ } => Ok(()),
                JsonPathElem::Bracket { key } | JsonPathElem::ColonBracket { key } => check_expr(key),
            })?;
            check_expr(value)
        }
        Expr::IsFalse(x)
        | Expr::IsNotFalse(x)
        | Expr::IsTrue(x)
        | Expr::IsNotTrue(x)
        | Expr::IsNull(x)
        | Expr::IsNotNull(x)
        | Expr::IsUnknown(x)
        | Expr::IsNotUnknown(x)
        | Expr::Nested(x) => check_expr(x),
        Expr::IsDistinctFrom(a, b) | Expr::IsNotDistinctFrom(a, b) => {
            check_expr(a)?;
            check_expr(b)
        }
        Expr::InList { expr, list, negated: _ } => {
            check_expr(expr)?;
            list.iter().try_for_each(check_expr)
        }
        Expr::InSubquery { expr, subquery, negated: _ } => {
            check_expr(expr)?;
            check_query(subquery)
        }
        Expr::Between { expr, negated: _, low, high } => [expr, low, high].into_iter().try_for_each(|e| check_expr(e)),
        Expr::BinaryOp { left, op, right } => {
            check_binary(op)?;
            // A chain is as long as its text; the left side is walked without recursion.
            let mut first = left;
            check_expr(right)?;
            while let Expr::BinaryOp { left, op, right } = first.as_ref() {
                check_binary(op)?;
                check_expr(right)?;
                first = left;
            }
            check_expr(first)
        }
        Expr::Like { negated: _, any, expr, pattern, escape_char } | Expr::ILike { negated: _, any, expr, pattern, escape_char } => {
            not(*any, "LIKE ANY of something other than a list")?;
            escape_char.iter().try_for_each(check_value)?;
            check_expr(expr)?;
            check_expr(pattern)
        }
        Expr::RLike { negated: _, expr, pattern, regexp: _ } => {
            check_expr(expr)?;
            check_expr(pattern)
        }
        Expr::AnyOp { left, compare_op, right, is_some } => {
            not(*is_some, "SOME over a comparison")?;
            check_quantified(left, compare_op, right)
        }
        Expr::AllOp { left, compare_op, right } => check_quantified(left, compare_op, right),
        Expr::UnaryOp { op, expr } => {
            check_unary(*op)?;
            check_expr(expr)
        }
        Expr::Cast { kind, expr, data_type: _, array, format } => {
            match kind {
                CastKind::Cast | CastKind::TryCast | CastKind::DoubleColon => {}
                CastKind::SafeCast => return Err(refuse("SAFE_CAST; use try_cast")),
            }
            not(*array, "CAST to an ARRAY of MySQL")?;
            not(format.is_some(), "FORMAT in CAST")?;
            check_expr(expr)
        }
        Expr::Extract { field: _, syntax, expr } => match syntax {
            ExtractSyntax::From => check_expr(expr),
            ExtractSyntax::Comma => Err(refuse("EXTRACT(field, x)")),
        },
        Expr::Ceil { expr, field } | Expr::Floor { expr, field } => {
            match field {
                CeilFloorKind::DateTimeField(_) => {}
                CeilFloorKind::Scale(v) => check_value(v)?,
            }
            check_expr(expr)
        }
        Expr::Position { expr, r#in } => {
            check_expr(expr)?;
            check_expr(r#in)
        }
        Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
            check_expr(expr)?;
            substring_from.iter().chain(substring_for).try_for_each(|e| check_expr(e))
        }
        Expr::Trim { trim_where: _, trim_what, expr, trim_characters } => {
            not(trim_characters.is_some(), "TRIM(x, characters); use btrim")?;
            trim_what.iter().try_for_each(|e| check_expr(e))?;
            check_expr(expr)
        }
        Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            [expr, overlay_what, overlay_from].into_iter().chain(overlay_for).try_for_each(|e| check_expr(e))
        }
        Expr::Value(v) => check_value(v),
        Expr::TypedString(TypedString { data_type: _, value, uses_odbc_syntax }) => {
            not(*uses_odbc_syntax, "an ODBC literal")?;
            check_value(value)
        }
        Expr::Function(f) => check_function(f),
        Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
            operand.iter().chain(else_result).try_for_each(|e| check_expr(e))?;
            conditions.iter().try_for_each(|CaseWhen { condition, result }| {
                check_expr(condition)?;
                check_expr(result)
            })
        }
        Expr::Exists { subquery, negated: _ } => check_query(subquery),
        Expr::Subquery(query) => check_query(query),
        Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => sets.iter().flatten().try_for_each(check_expr),
        Expr::Tuple(values) => values.iter().try_for_each(check_expr),
        Expr::Struct { values, fields } => {
            not(!fields.is_empty(), "STRUCT<...>(...)")?;
            values.iter().try_for_each(check_expr)
        }
        Expr::Named { expr, name: _ } => check_expr(expr),
        Expr::Array(Array { elem: _, named: _ }) => Err(refuse("[...] as an array; use array(...)")),
        Expr::Interval(Interval { value, leading_field: _, leading_precision, last_field: _, fractional_seconds_precision }) => {
            not(leading_precision.is_some() || fractional_seconds_precision.is_some(), "a precision in INTERVAL")?;
            check_expr(value)
        }
        Expr::Lambda(LambdaFunction { params, body, syntax }) => {
            match syntax {
                LambdaSyntax::Arrow => {}
                LambdaSyntax::LambdaKeyword => return Err(refuse("LAMBDA x : ...; use x -> ...")),
            }
            let typed = |LambdaFunctionParameter { name: _, data_type }: &LambdaFunctionParameter| data_type.is_some();
            let any_typed = match params {
                OneOrManyWithParens::One(p) => typed(p),
                OneOrManyWithParens::Many(ps) => ps.iter().any(typed),
            };
            not(any_typed, "a type of a lambda's parameter")?;
            check_expr(body)
        }
        Expr::IsNormalized { expr: _, form: _, negated: _ } => Err(refuse("IS NORMALIZED")),
        Expr::InUnnest { expr: _, array_expr: _, negated: _ } => Err(refuse("IN UNNEST; use array_contains")),
        Expr::SimilarTo { negated: _, expr: _, pattern: _, escape_char: _ } => Err(refuse("SIMILAR TO; use RLIKE")),
        Expr::Convert { is_try: _, expr: _, data_type: _, charset: _, target_before_value: _, styles: _ } => {
            Err(refuse("CONVERT; use CAST"))
        }
        Expr::AtTimeZone { timestamp: _, time_zone: _ } => Err(refuse("AT TIME ZONE; use from_utc_timestamp or convert_timezone")),
        Expr::Collate { expr: _, collation: _ } => Err(refuse("COLLATE")),
        Expr::Prefixed { prefix: _, value: _ } => Err(refuse("a character set in front of a literal")),
        Expr::Dictionary(_) => Err(refuse("{...}; use map(...) or named_struct(...)")),
        Expr::Map(_) => Err(refuse("MAP {...}; use map(...)")),
        Expr::MatchAgainst { columns: _, match_value: _, opt_search_modifier: _ } => Err(refuse("MATCH ... AGAINST")),
        Expr::Wildcard(_) => Err(Error::invalid("`*` may stand in the select list and in calls only")),
        Expr::QualifiedWildcard(_, _) => Err(Error::invalid("`t.*` may stand in the select list and in calls only")),
        Expr::OuterJoin(_) => Err(refuse("(+); use LEFT JOIN")),
        Expr::Prior(_) => Err(refuse("PRIOR")),
        Expr::MemberOf(_) => Err(refuse("MEMBER OF")),
    }
}

fn check_access(step: &AccessExpr) -> Result<()> {
    match step {
        AccessExpr::Dot(e) => check_expr(e),
        AccessExpr::Subscript(Subscript::Index { index }) => check_expr(index),
        AccessExpr::Subscript(Subscript::Slice { lower_bound: _, upper_bound: _, stride: _ }) => Err(refuse("[a:b]; use slice(...)")),
    }
}

fn check_quantified(left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<()> {
    check_expr(left)?;
    check_expr(right)?;
    match op {
        BinaryOperator::PGLikeMatch | BinaryOperator::PGNotLikeMatch | BinaryOperator::PGILikeMatch | BinaryOperator::PGNotILikeMatch => {
            Ok(())
        }
        // Databricks' grammar has them behind LIKE and ILIKE only.
        _ => Err(Error::classed(
            ErrorKind::InvalidArgument,
            "PARSE_SYNTAX_ERROR",
            "42601",
            format!("Syntax error at or near '{op}': ANY and ALL stand behind LIKE and ILIKE only"),
        )),
    }
}

fn check_value(v: &ValueWithSpan) -> Result<()> {
    let ValueWithSpan { value, span: _ } = v;
    match value {
        Value::Number(_, long) => not(*long, "a number with a suffix of another dialect"),
        Value::SingleQuotedString(_) | Value::HexStringLiteral(_) | Value::Boolean(_) | Value::Null | Value::Placeholder(_) => Ok(()),
        Value::DollarQuotedString(_)
        | Value::TripleSingleQuotedString(_)
        | Value::TripleDoubleQuotedString(_)
        | Value::EscapedStringLiteral(_)
        | Value::UnicodeStringLiteral(_)
        | Value::SingleQuotedByteStringLiteral(_)
        | Value::DoubleQuotedByteStringLiteral(_)
        | Value::TripleSingleQuotedByteStringLiteral(_)
        | Value::TripleDoubleQuotedByteStringLiteral(_)
        | Value::SingleQuotedRawStringLiteral(_)
        | Value::DoubleQuotedRawStringLiteral(_)
        | Value::TripleSingleQuotedRawStringLiteral(_)
        | Value::TripleDoubleQuotedRawStringLiteral(_)
        | Value::NationalStringLiteral(_)
        | Value::QuoteDelimitedStringLiteral(_)
        | Value::NationalQuoteDelimitedStringLiteral(_)
        | Value::DoubleQuotedString(_) => Err(refuse("a literal of another dialect")),
    }
}

fn check_unary(op: UnaryOperator) -> Result<()> {
    match op {
        UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not | UnaryOperator::BangNot | UnaryOperator::BitwiseNot => Ok(()),
        UnaryOperator::AtDashAt
        | UnaryOperator::DoubleAt
        | UnaryOperator::Hash
        | UnaryOperator::PGAbs
        | UnaryOperator::PGCubeRoot
        | UnaryOperator::PGPostfixFactorial
        | UnaryOperator::PGPrefixFactorial
        | UnaryOperator::PGSquareRoot
        | UnaryOperator::QuestionDash
        | UnaryOperator::QuestionPipe => Err(refuse("an operator of another dialect")),
    }
}

fn check_binary(op: &BinaryOperator) -> Result<()> {
    match op {
        BinaryOperator::Plus
        | BinaryOperator::Minus
        | BinaryOperator::Multiply
        | BinaryOperator::Divide
        | BinaryOperator::Modulo
        | BinaryOperator::StringConcat
        | BinaryOperator::Gt
        | BinaryOperator::Lt
        | BinaryOperator::GtEq
        | BinaryOperator::LtEq
        | BinaryOperator::Spaceship
        | BinaryOperator::Eq
        | BinaryOperator::NotEq
        | BinaryOperator::And
        | BinaryOperator::Or
        | BinaryOperator::BitwiseOr
        | BinaryOperator::BitwiseAnd
        | BinaryOperator::BitwiseXor
        | BinaryOperator::PGBitwiseShiftLeft
        | BinaryOperator::PGBitwiseShiftRight => Ok(()),
        BinaryOperator::Custom(name) if name == crate::parse::DIV || name == crate::parse::SHIFT_RIGHT_UNSIGNED => Ok(()),
        BinaryOperator::Custom(_)
        | BinaryOperator::Xor
        | BinaryOperator::DuckIntegerDivide
        | BinaryOperator::MyIntegerDivide
        | BinaryOperator::Match
        | BinaryOperator::Regexp
        | BinaryOperator::PGBitwiseXor
        | BinaryOperator::PGExp
        | BinaryOperator::PGOverlap
        | BinaryOperator::PGRegexMatch
        | BinaryOperator::PGRegexIMatch
        | BinaryOperator::PGRegexNotMatch
        | BinaryOperator::PGRegexNotIMatch
        | BinaryOperator::PGLikeMatch
        | BinaryOperator::PGILikeMatch
        | BinaryOperator::PGNotLikeMatch
        | BinaryOperator::PGNotILikeMatch
        | BinaryOperator::PGStartsWith
        | BinaryOperator::Arrow
        | BinaryOperator::LongArrow
        | BinaryOperator::HashArrow
        | BinaryOperator::HashLongArrow
        | BinaryOperator::AtAt
        | BinaryOperator::AtArrow
        | BinaryOperator::ArrowAt
        | BinaryOperator::HashMinus
        | BinaryOperator::AtQuestion
        | BinaryOperator::Question
        | BinaryOperator::QuestionAnd
        | BinaryOperator::QuestionPipe
        | BinaryOperator::PGCustomBinaryOperator(_)
        | BinaryOperator::Overlaps
        | BinaryOperator::DoubleHash
        | BinaryOperator::LtDashGt
        | BinaryOperator::AndLt
        | BinaryOperator::AndGt
        | BinaryOperator::LtLtPipe
        | BinaryOperator::PipeGtGt
        | BinaryOperator::AndLtPipe
        | BinaryOperator::PipeAndGt
        | BinaryOperator::LtCaret
        | BinaryOperator::GtCaret
        | BinaryOperator::QuestionHash
        | BinaryOperator::QuestionDash
        | BinaryOperator::QuestionDashPipe
        | BinaryOperator::QuestionDoublePipe
        | BinaryOperator::At
        | BinaryOperator::TildeEq
        | BinaryOperator::Assignment => Err(refuse(&format!("operator {op}"))),
    }
}

fn check_function(f: &Function) -> Result<()> {
    let Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } = f;
    check_object_name(name)?;
    not(*uses_odbc_syntax, "{fn ...}")?;
    match parameters {
        FunctionArguments::None => {}
        FunctionArguments::Subquery(_) | FunctionArguments::List(_) => return Err(refuse("a call with two lists of arguments")),
    }
    match args {
        FunctionArguments::None => {}
        FunctionArguments::Subquery(_) => return Err(refuse("a subquery as an argument without parentheses of its own")),
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) => {
            match duplicate_treatment {
                None | Some(DuplicateTreatment::Distinct | DuplicateTreatment::All) => {}
            }
            args.iter().try_for_each(check_argument)?;
            clauses.iter().try_for_each(check_clause)?;
        }
    }
    match null_treatment {
        None | Some(NullTreatment::IgnoreNulls | NullTreatment::RespectNulls) => {}
    }
    filter.iter().try_for_each(|e| check_expr(e))?;
    within_group.iter().try_for_each(check_order_by_expr)?;
    match over {
        None | Some(WindowType::NamedWindow(_)) => Ok(()),
        Some(WindowType::WindowSpec(spec)) => check_window_spec(spec),
    }
}

fn check_clause(clause: &FunctionArgumentClause) -> Result<()> {
    match clause {
        FunctionArgumentClause::IgnoreOrRespectNulls(NullTreatment::IgnoreNulls | NullTreatment::RespectNulls) => Ok(()),
        FunctionArgumentClause::OrderBy(_) => Err(refuse("ORDER BY inside a call; use WITHIN GROUP")),
        FunctionArgumentClause::Limit(_) => Err(refuse("LIMIT inside a call")),
        FunctionArgumentClause::OnOverflow(_) => Err(refuse("ON OVERFLOW")),
        FunctionArgumentClause::Having(_) => Err(refuse("HAVING inside a call")),
        FunctionArgumentClause::Separator(_) => Err(refuse("SEPARATOR")),
        FunctionArgumentClause::JsonNullClause(_) => Err(refuse("NULL ON NULL")),
        FunctionArgumentClause::JsonReturningClause(_) => Err(refuse("RETURNING")),
    }
}

pub(super) fn check_argument(arg: &FunctionArg) -> Result<()> {
    match arg {
        FunctionArg::Unnamed(value) => match value {
            FunctionArgExpr::Expr(e) => check_expr(e),
            FunctionArgExpr::QualifiedWildcard(name) => check_object_name(name),
            FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::WildcardWithOptions(options) => {
                check_wildcard(options)?;
                Err(refuse("* EXCEPT inside a call"))
            }
        },
        FunctionArg::Named { name: _, arg: _, operator: _ } | FunctionArg::ExprNamed { name: _, arg: _, operator: _ } => {
            Err(refuse("a named argument; give arguments by position"))
        }
    }
}

pub(super) fn check_window_spec(spec: &WindowSpec) -> Result<()> {
    let WindowSpec { window_name: _, partition_by, order_by, window_frame } = spec;
    partition_by.iter().try_for_each(check_expr)?;
    order_by.iter().try_for_each(check_order_by_expr)?;
    let Some(WindowFrame { units, start_bound, end_bound }) = window_frame else { return Ok(()) };
    match units {
        WindowFrameUnits::Rows | WindowFrameUnits::Range => {}
        WindowFrameUnits::Groups => {
            return Err(Error::classed(
                flightpath_types::ErrorKind::InvalidArgument,
                "PARSE_SYNTAX_ERROR",
                "42601",
                "GROUPS frames aren't part of Databricks SQL",
            ));
        }
    }
    std::iter::once(start_bound).chain(end_bound).try_for_each(|bound| match bound {
        WindowFrameBound::CurrentRow => Ok(()),
        WindowFrameBound::Preceding(e) | WindowFrameBound::Following(e) => e.iter().try_for_each(|e| check_expr(e)),
    })
}
