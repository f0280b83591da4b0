//! A statement as the wire takes it, made of the client's own text.

use std::sync::Arc;

use flightpath_plan::DatabricksText;
use flightpath_types::{Refusal, RefusalClass};
use serde::Serialize;

use crate::parameters;

/// Longest text that the wire takes.
const TEXT_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Clone, PartialEq)]
pub struct StatementRequest {
    pub sql: Arc<str>,
    pub parameters: Vec<StatementParameter>,
    /// Where short names are looked up; the warehouse's own defaults when not set.
    pub catalog: Option<String>,
    pub schema: Option<String>,
}

/// One named marker's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatementParameter {
    pub name: String,
    /// `None` is NULL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A type of Databricks SQL: `DECIMAL(10,2)`.
    #[serde(rename = "type")]
    pub type_text: String,
}

impl StatementRequest {
    /// The statement of a planned text, or why the wire can't carry it.
    pub fn of(text: &DatabricksText) -> Result<Self, Refusal> {
        if text.sql.len() > TEXT_BYTES_MAX {
            let reason = format!("the statement is longer than the {} MiB that Databricks takes", TEXT_BYTES_MAX >> 20);
            return Err(Refusal::new(RefusalClass::Resources, reason));
        }
        let parameters = text.parameters.iter().enumerate().map(|(position, value)| {
            parameters::parameter(DatabricksText::parameter_name(position), value)
                .map_err(|reason| Refusal::new(RefusalClass::Semantics, format!("parameter {}: {reason}", position + 1)))
        });
        Ok(Self {
            sql: text.sql.clone(),
            parameters: parameters.collect::<Result<_, _>>()?,
            catalog: text.catalog.clone(),
            schema: text.schema.clone(),
        })
    }
}
