//! What DuckDB says when something fails: its own type of error and the message. Instances run
//! with `errors_as_json`, so the type is known also where the C API gives a text alone.

use libduckdb_sys as ffi;
use serde_json::Value;

macro_rules! error_types {
    ($($variant:ident = $code:ident, $name:literal;)*) => {
        /// DuckDB's types of errors.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorType {
            $($variant,)*
        }

        impl ErrorType {
            fn from_code(code: ffi::duckdb_error_type) -> Self {
                match code {
                    $(ffi::$code => ErrorType::$variant,)*
                    _ => ErrorType::Invalid,
                }
            }

            /// From the name that stands in an error's JSON as `exception_type`.
            fn from_name(name: &str) -> Self {
                match name {
                    $($name => ErrorType::$variant,)*
                    _ => ErrorType::Invalid,
                }
            }
        }
    };
}

error_types! {
    Invalid = duckdb_error_type_DUCKDB_ERROR_INVALID, "Invalid";
    OutOfRange = duckdb_error_type_DUCKDB_ERROR_OUT_OF_RANGE, "Out of Range";
    Conversion = duckdb_error_type_DUCKDB_ERROR_CONVERSION, "Conversion";
    UnknownType = duckdb_error_type_DUCKDB_ERROR_UNKNOWN_TYPE, "Unknown Type";
    Decimal = duckdb_error_type_DUCKDB_ERROR_DECIMAL, "Decimal";
    MismatchType = duckdb_error_type_DUCKDB_ERROR_MISMATCH_TYPE, "Mismatch Type";
    DivideByZero = duckdb_error_type_DUCKDB_ERROR_DIVIDE_BY_ZERO, "Divide by Zero";
    ObjectSize = duckdb_error_type_DUCKDB_ERROR_OBJECT_SIZE, "Object Size";
    InvalidType = duckdb_error_type_DUCKDB_ERROR_INVALID_TYPE, "Invalid type";
    Serialization = duckdb_error_type_DUCKDB_ERROR_SERIALIZATION, "Serialization";
    Transaction = duckdb_error_type_DUCKDB_ERROR_TRANSACTION, "TransactionContext";
    NotImplemented = duckdb_error_type_DUCKDB_ERROR_NOT_IMPLEMENTED, "Not implemented";
    Expression = duckdb_error_type_DUCKDB_ERROR_EXPRESSION, "Expression";
    Catalog = duckdb_error_type_DUCKDB_ERROR_CATALOG, "Catalog";
    Parser = duckdb_error_type_DUCKDB_ERROR_PARSER, "Parser";
    Planner = duckdb_error_type_DUCKDB_ERROR_PLANNER, "Planner";
    Scheduler = duckdb_error_type_DUCKDB_ERROR_SCHEDULER, "Scheduler";
    Executor = duckdb_error_type_DUCKDB_ERROR_EXECUTOR, "Executor";
    Constraint = duckdb_error_type_DUCKDB_ERROR_CONSTRAINT, "Constraint";
    Index = duckdb_error_type_DUCKDB_ERROR_INDEX, "Index";
    Stat = duckdb_error_type_DUCKDB_ERROR_STAT, "Stat";
    Connection = duckdb_error_type_DUCKDB_ERROR_CONNECTION, "Connection";
    Syntax = duckdb_error_type_DUCKDB_ERROR_SYNTAX, "Syntax";
    Settings = duckdb_error_type_DUCKDB_ERROR_SETTINGS, "Settings";
    Binder = duckdb_error_type_DUCKDB_ERROR_BINDER, "Binder";
    Network = duckdb_error_type_DUCKDB_ERROR_NETWORK, "Network";
    Optimizer = duckdb_error_type_DUCKDB_ERROR_OPTIMIZER, "Optimizer";
    NullPointer = duckdb_error_type_DUCKDB_ERROR_NULL_POINTER, "NullPointer";
    Io = duckdb_error_type_DUCKDB_ERROR_IO, "IO";
    Interrupt = duckdb_error_type_DUCKDB_ERROR_INTERRUPT, "INTERRUPT";
    Fatal = duckdb_error_type_DUCKDB_ERROR_FATAL, "FATAL";
    Internal = duckdb_error_type_DUCKDB_ERROR_INTERNAL, "INTERNAL";
    InvalidInput = duckdb_error_type_DUCKDB_ERROR_INVALID_INPUT, "Invalid Input";
    OutOfMemory = duckdb_error_type_DUCKDB_ERROR_OUT_OF_MEMORY, "Out of Memory";
    Permission = duckdb_error_type_DUCKDB_ERROR_PERMISSION, "Permission";
    ParameterNotResolved = duckdb_error_type_DUCKDB_ERROR_PARAMETER_NOT_RESOLVED, "Parameter Not Resolved";
    ParameterNotAllowed = duckdb_error_type_DUCKDB_ERROR_PARAMETER_NOT_ALLOWED, "Parameter Not Allowed";
    Dependency = duckdb_error_type_DUCKDB_ERROR_DEPENDENCY, "Dependency";
    Http = duckdb_error_type_DUCKDB_ERROR_HTTP, "HTTP";
    MissingExtension = duckdb_error_type_DUCKDB_ERROR_MISSING_EXTENSION, "Missing Extension";
    Autoload = duckdb_error_type_DUCKDB_ERROR_AUTOLOAD, "Extension Autoloading";
    Sequence = duckdb_error_type_DUCKDB_ERROR_SEQUENCE, "Sequence";
    InvalidConfiguration = duckdb_error_type_DUCKDB_INVALID_CONFIGURATION, "Invalid Configuration";
}

/// A failure inside DuckDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuckError {
    pub kind: ErrorType,
    /// DuckDB's message, without its type in front.
    pub message: String,
    /// Where in the SQL text, in bytes from 0.
    pub position: Option<usize>,
}

impl DuckError {
    pub fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), position: None }
    }

    /// From a text alone: the JSON that `errors_as_json` makes of an error.
    pub(crate) fn from_text(text: &str) -> Self {
        Self::from_json(text).unwrap_or_else(|| Self::new(ErrorType::Invalid, text))
    }

    /// From a type and a text; the text's own type is the more exact one when it has one.
    pub(crate) fn from_result(code: ffi::duckdb_error_type, text: &str) -> Self {
        let kind = ErrorType::from_code(code);
        match Self::from_json(text) {
            Some(error) if error.kind != ErrorType::Invalid => error,
            Some(error) => Self { kind, ..error },
            None => Self::new(kind, text),
        }
    }

    fn from_json(text: &str) -> Option<Self> {
        // DuckDB puts "<type> Error: " before the JSON in some places and not in others.
        let json = &text[text.find('{')?..];
        let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
        let value = values.next()?.ok()?;
        let name = value.get("exception_type")?.as_str()?;
        let message = value.get("exception_message").and_then(Value::as_str).unwrap_or_default();
        let position = value.get("position").and_then(Value::as_str).and_then(|p| p.parse().ok());
        Some(Self { kind: ErrorType::from_name(name), message: message.to_string(), position })
    }
}

impl std::fmt::Display for DuckError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for DuckError {}
