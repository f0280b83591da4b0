//! Statement parameters as SQL literals. A value never becomes anything but one literal, whatever
//! it holds; a type is taken only when it is one this file knows.

use flightpath_types::{Error, ErrorKind, Result};
use serde::Deserialize;

/// One entry of `parameters`. Without a name it stands for the next `?`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parameter {
    pub name: Option<String>,
    /// Left out: NULL.
    pub value: Option<String>,
    #[serde(rename = "type")]
    pub ty: Option<String>,
}

impl Parameter {
    pub fn literal(&self) -> Result<String> {
        let ty = self.ty.as_deref().unwrap_or("STRING").trim().to_uppercase();
        if !known_type(&ty) {
            return Err(invalid(format!("The parameter type `{ty}` isn't supported.")));
        }
        let Some(value) = &self.value else {
            return Ok(if ty == "VOID" { "NULL".into() } else { format!("CAST(NULL AS {})", sql_type(&ty)) });
        };
        Ok(match ty.as_str() {
            "STRING" => quoted(value),
            "VOID" => "NULL".into(),
            // LIMIT and ordinals take bare numbers only.
            "INT" | "INTEGER" if is_digits(value) => value.clone(),
            "BIGINT" | "LONG" if is_digits(value) => format!("{value}L"),
            "BOOLEAN" if value.eq_ignore_ascii_case("true") => "TRUE".into(),
            "BOOLEAN" if value.eq_ignore_ascii_case("false") => "FALSE".into(),
            _ => format!("CAST({} AS {})", quoted(value), sql_type(&ty)),
        })
    }
}

/// A string literal; Databricks reads backslashes as escapes.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name in backticks.
pub(crate) fn name(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

fn is_digits(value: &str) -> bool {
    !value.is_empty() && value.len() <= 9 && value.bytes().all(|b| b.is_ascii_digit())
}

fn known_type(ty: &str) -> bool {
    const SIMPLE: [&str; 21] = [
        "STRING",
        "VOID",
        "BOOLEAN",
        "TINYINT",
        "BYTE",
        "SMALLINT",
        "SHORT",
        "INT",
        "INTEGER",
        "BIGINT",
        "LONG",
        "FLOAT",
        "REAL",
        "DOUBLE",
        "DATE",
        "TIMESTAMP",
        "TIMESTAMP_NTZ",
        "BINARY",
        "DECIMAL",
        "INTERVAL YEAR TO MONTH",
        "INTERVAL DAY TO SECOND",
    ];
    let decimal = || {
        let digits = ty.strip_prefix("DECIMAL")?.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(digits.split(',').all(|d| is_digits(d.trim())))
    };
    SIMPLE.contains(&ty) || decimal() == Some(true)
}

fn sql_type(ty: &str) -> &str {
    match ty {
        "LONG" => "BIGINT",
        "SHORT" => "SMALLINT",
        "BYTE" => "TINYINT",
        "INTEGER" => "INT",
        "REAL" => "FLOAT",
        other => other,
    }
}

fn invalid(message: String) -> Error {
    Error::classed(ErrorKind::InvalidArgument, "INVALID_PARAMETER_MARKER_VALUE", "22023", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(ty: &str, value: &str) -> String {
        Parameter { name: None, value: Some(value.into()), ty: Some(ty.into()) }.literal().expect("is a literal")
    }

    #[test]
    fn a_value_is_one_literal_whatever_it_holds() {
        assert_eq!(literal("STRING", "a' OR '1'='1\\"), r"'a\' OR \'1\'=\'1\\'");
        assert_eq!(literal("INT", "5"), "5");
        assert_eq!(literal("INT", "5 OR 1=1"), "CAST('5 OR 1=1' AS INT)");
        assert_eq!(literal("INT", "-5"), "CAST('-5' AS INT)");
        assert_eq!(literal("decimal(10, 2)", "1.5"), "CAST('1.5' AS DECIMAL(10, 2))");
        assert_eq!(literal("LONG", "7"), "7L");
    }

    #[test]
    fn a_type_is_never_passed_on_unread() {
        for ty in ["INT) FROM t --", "DECIMAL(1,2) x", "DECIMAL()", "STRUCT<a:INT>"] {
            assert!(Parameter { name: None, value: None, ty: Some(ty.into()) }.literal().is_err(), "{ty}");
        }
    }
}
