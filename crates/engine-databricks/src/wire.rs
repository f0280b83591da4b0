//! The Statement Execution API's JSON. What holds links or data has no `Debug`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::statement::StatementParameter;

pub(crate) const STATEMENTS: &str = "/api/2.0/sql/statements";

#[derive(Serialize)]
pub(crate) struct ExecuteBody<'a> {
    pub statement: &'a str,
    pub warehouse_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub parameters: &'a [StatementParameter],
    pub format: &'static str,
    pub disposition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_compression: Option<&'static str>,
    pub wait_timeout: String,
    pub on_wait_timeout: &'static str,
    pub query_tags: Vec<Tag>,
}

#[derive(Serialize)]
pub(crate) struct Tag {
    pub key: &'static str,
    pub value: String,
}

#[derive(Deserialize)]
pub(crate) struct Answer {
    pub statement_id: Option<String>,
    #[serde(default)]
    pub status: Status,
    pub manifest: Option<Manifest>,
    pub result: Option<Part>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub state: State,
    pub error: Option<StatusError>,
    pub sql_state: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Running,
    Succeeded,
    Failed,
    Canceled,
    Closed,
    /// One that came after this was written, or none.
    #[default]
    Unknown,
}

impl State {
    pub fn is_terminal(&self) -> bool {
        match self {
            State::Succeeded | State::Failed | State::Canceled | State::Closed => true,
            State::Pending | State::Running | State::Unknown => false,
        }
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(d)?.as_str() {
            "PENDING" => State::Pending,
            "RUNNING" => State::Running,
            "SUCCEEDED" => State::Succeeded,
            "FAILED" => State::Failed,
            "CANCELED" => State::Canceled,
            "CLOSED" => State::Closed,
            _ => State::Unknown,
        })
    }
}

#[derive(Default, Deserialize)]
pub(crate) struct StatusError {
    pub error_code: Option<String>,
    pub message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Manifest {
    pub schema: Option<ManifestSchema>,
    #[serde(default)]
    pub total_chunk_count: u64,
    #[serde(default)]
    pub total_row_count: u64,
    #[serde(default)]
    pub total_byte_count: u64,
    #[serde(default)]
    pub truncated: bool,
    #[serde(default)]
    pub chunks: Option<Vec<ChunkInfo>>,
    pub result_compression: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ManifestSchema {
    #[serde(default)]
    pub columns: Vec<ColumnInfo>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ColumnInfo {
    pub name: String,
    pub type_text: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ChunkInfo {
    pub chunk_index: u64,
    pub row_count: u64,
    /// Before compression.
    #[serde(default)]
    pub byte_count: u64,
}

/// Some of a result: in the answer itself, or as links.
#[derive(Default, Deserialize)]
pub(crate) struct Part {
    pub chunk_index: Option<u64>,
    pub external_links: Option<Vec<Link>>,
    /// Base64 of an Arrow stream.
    pub attachment: Option<String>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Link {
    pub chunk_index: u64,
    pub row_count: Option<u64>,
    #[serde(default)]
    pub byte_count: u64,
    pub external_link: String,
    pub expiration: Option<String>,
    pub http_headers: Option<BTreeMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Answer {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn answers_of_every_state_are_read() {
        let ddl = read(
            r#"{"statement_id":"s","status":{"state":"SUCCEEDED"},"result":{},
            "manifest":{"format":"ARROW_STREAM","schema":{"column_count":0},"total_chunk_count":0,"truncated":false}}"#,
        );
        assert_eq!((ddl.status.state, ddl.manifest.unwrap().total_row_count), (State::Succeeded, 0));
        let failed = read(r#"{"status":{"state":"FAILED","error":{"error_code":"BAD_REQUEST","message":"[X] y SQLSTATE: 42601"}}}"#);
        assert_eq!(failed.status.error.unwrap().error_code.as_deref(), Some("BAD_REQUEST"));
        assert_eq!(read(r#"{"status":{"state":"THINKING"}}"#).status.state, State::Unknown);
        assert!(read(r#"{"status":{"state":"CLOSED"}}"#).status.state.is_terminal());
    }
}
