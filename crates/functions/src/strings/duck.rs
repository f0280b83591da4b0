//! Pieces of DuckDB text that several definitions share.

use datafusion::common::ScalarValue;

use crate::def::DuckCall;

/// `body` over an operand that it names more than once, without printing (and so nesting) the
/// operand more than once.
pub(crate) fn once(operand: &str, body: impl Fn(&str) -> String) -> String {
    let is_name = operand.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '"'));
    if is_name { format!("({})", body(operand)) } else { format!("list_transform([{operand}], lambda fp_s: {})[1]", body("fp_s")) }
}

/// The same for two operands.
pub(crate) fn once2(a: &str, b: &str, body: impl Fn(&str, &str) -> String) -> String {
    format!("list_transform([{{'a': {a}, 'b': {b}}}], lambda fp_p: {})[1]", body("fp_p.a", "fp_p.b"))
}

/// The same for any number of operands, which `body` gets in their order.
pub(crate) fn once_all(operands: &[String], body: impl Fn(&[String]) -> String) -> String {
    let fields: Vec<String> = operands.iter().enumerate().map(|(i, o)| format!("'a{i}': {o}")).collect();
    let names: Vec<String> = (0..operands.len()).map(|i| format!("fp_p.a{i}")).collect();
    format!("list_transform([{{{}}}], lambda fp_p: {})[1]", fields.join(", "), body(&names))
}

/// TRUE where one of the operands is NULL.
pub(crate) fn any_null(operands: &[String]) -> String {
    operands.iter().map(|o| format!("{o} IS NULL")).collect::<Vec<_>>().join(" OR ")
}

/// The refusal, at run time, of a value that DuckDB would treat otherwise; another engine may answer.
pub(crate) fn refuse_value(what: &str) -> String {
    crate::duckdb::raise("UNSUPPORTED_FEATURE", "0A000", &crate::duckdb::string(what))
}

/// A literal STRING argument's text; `None` when it isn't a literal or is NULL.
pub(crate) fn text<'a>(call: &'a DuckCall<'_>, index: usize) -> Option<&'a str> {
    match call.literals.get(index) {
        Some(Some(ScalarValue::Utf8(Some(text)))) => Some(text),
        _ => None,
    }
}

/// A literal INT or BIGINT argument's value.
pub(crate) fn int(call: &DuckCall<'_>, index: usize) -> Option<i64> {
    match call.literals.get(index) {
        Some(Some(ScalarValue::Int32(Some(v)))) => Some(i64::from(*v)),
        Some(Some(ScalarValue::Int64(Some(v)))) => Some(*v),
        _ => None,
    }
}

/// `name(arguments)`, for functions that are the same in both.
pub(crate) fn same(name: &str, call: &DuckCall<'_>) -> Result<String, String> {
    Ok(format!("{name}({})", call.args.join(", ")))
}

/// The refusal of a function that has no rule.
pub(crate) fn unknown(name: &str) -> Result<String, String> {
    Err(format!("function `{name}` isn't known to answer as Databricks does on DuckDB"))
}

/// An integer argument, 0 where it's negative, NULL where it's NULL.
pub(crate) fn at_least_zero(call: &DuckCall<'_>, index: usize) -> String {
    match int(call, index) {
        Some(n) => n.max(0).to_string(),
        None => once(&call.args[index], |n| format!("CASE WHEN {n} < 0 THEN 0 ELSE {n} END")),
    }
}
