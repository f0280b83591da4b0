//! Messages of Flight and Flight SQL that the `arrow-flight` crate doesn't define, written from
//! `Flight.proto` and `FlightSql.proto` of Arrow's format folder.

use std::collections::HashMap;

/// `SessionOptionValue`: one of five types, or none, which unsets.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub option_value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OptionValue {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    StringList(StringListValue),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StringListValue {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSessionOptionsResult {
    /// Only options that could not be set.
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, SetSessionOptionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSessionOptionError {
    #[prost(enumeration = "SetSessionOptionErrorValue", tag = "1")]
    pub value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum SetSessionOptionErrorValue {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetSessionOptionsRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseSessionResult {
    #[prost(enumeration = "CloseSessionStatus", tag = "1")]
    pub status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum CloseSessionStatus {
    Unspecified = 0,
    Closed = 1,
    Closing = 2,
    NotCloseable = 3,
}

/// `ActionCreatePreparedStatementResult` with `is_update`, which the crate's version lacks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PreparedStatementResult {
    #[prost(bytes = "bytes", tag = "1")]
    pub prepared_statement_handle: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub dataset_schema: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub parameter_schema: bytes::Bytes,
    #[prost(bool, optional, tag = "4")]
    pub is_update: Option<bool>,
}

/// Its type URL inside an `Any`.
pub const PREPARED_STATEMENT_RESULT_URL: &str = "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult";
