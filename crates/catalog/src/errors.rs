//! The errors a catalog gives, in Databricks' classes where it has one, with what to do.

use std::io;
use std::path::Path;

use delta_kernel::Error as KernelError;
use flightpath_types::{Error, ErrorKind};

use crate::TableName;
use crate::cloud::{own_error, store_error};

/// A table that isn't there, or that this principal may not know of; `nearest`: as a user would write them.
pub fn table_not_found(name: &TableName, nearest: &[String]) -> Error {
    let mut message = format!(
        "The table or view `{}`.`{}`.`{}` cannot be found. Verify the spelling and correctness of the schema and catalog.",
        name.catalog, name.schema, name.table
    );
    if !nearest.is_empty() {
        let quoted: Vec<String> = nearest.iter().map(|n| format!("`{n}`")).collect();
        message.push_str(&format!(" Did you mean {}?", quoted.join(", ")));
    }
    Error::classed(ErrorKind::NotFound, "TABLE_OR_VIEW_NOT_FOUND", "42P01", message)
}

pub fn schema_not_found(catalog: &str, schema: &str, nearest: &[String]) -> Error {
    let mut message =
        format!("The schema `{catalog}`.`{schema}` cannot be found. Verify the spelling and correctness of the schema and catalog.");
    if !nearest.is_empty() {
        message.push_str(&format!(" Did you mean `{}`?", nearest.join("`, `")));
    }
    Error::classed(ErrorKind::NotFound, "SCHEMA_NOT_FOUND", "42704", message)
}

/// Names offered when one isn't found, and how near they must be.
pub(crate) const NEAREST_MAX: usize = 3;
pub(crate) const NEAREST_SCORE_MIN: f64 = 0.75;

pub(crate) fn catalog_not_in_set(catalog: &str, near: &[&str]) -> Error {
    let message = format!(
        "Catalog '{catalog}' was not found. Please verify the catalog name and then retry the query. Did you mean `{}`?",
        near.join("`, `")
    );
    Error::classed(ErrorKind::NotFound, "NO_SUCH_CATALOG_EXCEPTION", "42704", message)
}

pub(crate) fn catalog_not_found(catalog: &str, known: &str) -> Error {
    let message = format!(
        "Catalog '{catalog}' was not found. Please verify the catalog name and then retry the query. The catalog here is `{known}`."
    );
    Error::classed(ErrorKind::NotFound, "NO_SUCH_CATALOG_EXCEPTION", "42704", message)
}

/// Stored metadata that can't be read; `what` says what's wrong, `remedy` what to do.
pub(crate) fn data_loss(name: &TableName, what: impl std::fmt::Display, remedy: &str) -> Error {
    Error::new(ErrorKind::DataLoss, format!("table {name} can't be read: {what}. {remedy}"))
}

pub(crate) const RESTORE_LOG: &str = "Restore the missing or damaged files of its `_delta_log` from a copy, or write the table anew";
pub(crate) const RESTORE_FILE: &str = "Restore the file from a copy, or write the table anew";

pub(crate) fn not_eligible(name: &TableName, reason: impl std::fmt::Display) -> Error {
    Error::not_eligible(format!("table {name}: {reason}"))
}

/// A folder or file that the system doesn't let us read.
pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => " Give the user that runs flightpath the right to read it.",
        _ => "",
    };
    Error::new(kind, format!("{what} `{}`: {error}.{advice}", path.display()))
}

/// What the kernel says about a log, by its variant, never by its text.
pub(crate) fn kernel(name: &TableName, error: &KernelError) -> Error {
    match error {
        KernelError::Backtraced { source, .. } => kernel(name, source),
        KernelError::Unsupported(what) => not_eligible(name, format!("its Delta log needs what isn't supported: {what}")),
        KernelError::Cancelled => Error::new(ErrorKind::Cancelled, format!("reading the log of table {name} was cancelled")),
        KernelError::IOError(e) if e.kind() == io::ErrorKind::PermissionDenied => denied(name, error),
        KernelError::ObjectStore(e) if store_denied(e) => denied(name, error),
        other => data_loss(name, format!("its Delta log is damaged or incomplete: {other}"), RESTORE_LOG),
    }
}

/// The same for a log in cloud storage. What the storage service said isn't repeated.
pub(crate) fn remote_kernel(name: &TableName, error: &KernelError) -> Error {
    let what = || format!("the Delta log of table {name}");
    match error {
        KernelError::Backtraced { source, .. } => remote_kernel(name, source),
        KernelError::Unsupported(_) | KernelError::Cancelled => kernel(name, error),
        KernelError::ObjectStore(e) => store_error(what(), e),
        other => {
            let mut next = Some(other as &(dyn std::error::Error + 'static));
            while let Some(cause) = next {
                if let Some(e) = cause.downcast_ref::<object_store::Error>() {
                    return store_error(what(), e);
                }
                next = cause.source();
            }
            if let Some(own) = own_error(other) {
                return own.context(format!("{} can't be read", what()));
            }
            data_loss(name, "its Delta log is damaged or incomplete", RESTORE_LOG)
        }
    }
}

fn denied(name: &TableName, error: &KernelError) -> Error {
    Error::new(
        ErrorKind::PermissionDenied,
        format!("table {name} can't be read: {error}. Give the user that runs flightpath the right to read its folder."),
    )
}

fn store_denied(error: &object_store::Error) -> bool {
    if matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) {
        return true;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(e) = cause {
        if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = e.source();
    }
    false
}
