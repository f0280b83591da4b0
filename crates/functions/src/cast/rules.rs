//! Casts on DuckDB: an expression that is known to mean the same for a pair of types, or why there
//! is none. DuckDB's own casts round, trim and parse differently, so a plain `CAST` stands only
//! where it was tried.

use crate::def::DuckCall;
use crate::types;

pub(super) fn cast(call: &DuckCall<'_>) -> Result<String, String> {
    unknown(call)
}

pub(super) fn try_cast(call: &DuckCall<'_>) -> Result<String, String> {
    unknown(call)
}

fn unknown(call: &DuckCall<'_>) -> Result<String, String> {
    let from = call.types.first().map(types::name).unwrap_or_default();
    Err(format!("casting {from} to {} isn't known to answer as Databricks does on DuckDB", types::name(call.ret)))
}
