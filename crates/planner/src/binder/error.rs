//! The errors of binding, with Databricks' classes and SQL states.

use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::Span;
use flightpath_types::{Error, ErrorKind};

/// Few clauses make a condition of a text, or of NULL alone.
pub(super) fn check_cast_condition(clause: &str, ty: &DataType) -> flightpath_types::Result<()> {
    let (class, state) = match clause {
        "WHERE" => ("DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN", "42K09"),
        "the JOIN condition" => ("JOIN_CONDITION_IS_NOT_BOOLEAN_TYPE", "42K0E"),
        "an aggregate function" | "a window function" => ("INVALID_AGGREGATE_FILTER.NOT_BOOLEAN", "42903"),
        _ => return Ok(()),
    };
    let given = flightpath_functions::types::sql_name(ty);
    Err(classed(class, state, format!("A condition of the type \"BOOLEAN\" is required, but it has the type {given}; cast it.")))
}

/// ` (line 1, column 8)`, or nothing where the tree has no position.
pub(super) fn place(span: Span) -> String {
    if span.start.line == 0 { String::new() } else { format!(" (line {}, column {})", span.start.line, span.start.column) }
}

pub(super) fn unresolved_column(name: &str, candidates: &[String], span: Span) -> Error {
    let place = place(span);
    if candidates.is_empty() {
        return classed(
            "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION",
            "42703",
            format!("A column or function parameter with name {name} cannot be resolved{place}."),
        );
    }
    let mut near: Vec<(f64, &String)> =
        candidates.iter().map(|c| (strsim::jaro_winkler(&name.replace('`', "").to_lowercase(), &c.to_lowercase()), c)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<String> = near.into_iter().take(5).map(|(_, c)| format!("`{c}`")).collect();
    classed(
        "UNRESOLVED_COLUMN.WITH_SUGGESTION",
        "42703",
        format!(
            "A column or function parameter with name {name} cannot be resolved{place}. Did you mean one of the following? [{}].",
            near.join(", ")
        ),
    )
}

pub(super) fn ambiguous(name: &str, candidates: &[String], span: Span) -> Error {
    classed("AMBIGUOUS_REFERENCE", "42704", format!("Reference {name} is ambiguous, could be: [{}]{}.", candidates.join(", "), place(span)))
}

pub(super) fn missing_aggregation(name: &str) -> Error {
    classed(
        "MISSING_AGGREGATION",
        "42803",
        format!(
            "The non-aggregating expression {name} is based on columns which are not participating in the GROUP BY clause. Add the columns or the expression to the GROUP BY, aggregate the expression, or use any_value() if you do not care which of the values within a group is returned."
        ),
    )
}

pub(super) fn mismatch(sub: &str, message: impl Into<String>) -> Error {
    classed(format!("DATATYPE_MISMATCH.{sub}"), "42K09", message)
}

pub(super) fn classed(class: impl Into<std::borrow::Cow<'static, str>>, state: &'static str, message: impl Into<String>) -> Error {
    Error::classed(ErrorKind::InvalidArgument, class, state, message)
}

/// DataFusion's builders only check what the binder has made sure of already.
pub(super) fn built<T>(result: Result<T, DataFusionError>) -> flightpath_types::Result<T> {
    result.map_err(|e| Error::internal(format!("the typed plan doesn't hold together: {}", e.strip_backtrace())))
}
