//! DuckDB text for wall clocks and instants. DuckDB's connection has the zone UTC, always: any other
//! session zone is refused.

use arrow::datatypes::DataType;

use crate::cast::zone::Zone;
use crate::def::DuckCall;

pub(crate) fn utc_only(call: &DuckCall<'_>) -> Result<(), String> {
    if Zone::parse(call.time_zone).is_some_and(Zone::is_utc) {
        Ok(())
    } else {
        Err(format!("the rules of time zone {} aren't known to be Databricks' on DuckDB", call.time_zone))
    }
}

/// A timestamp argument's wall clock, a TIMESTAMP there.
pub(crate) fn local(call: &DuckCall<'_>, index: usize) -> Result<String, String> {
    let arg = &call.args[index];
    match &call.types[index] {
        DataType::Timestamp(_, Some(_)) => {
            utc_only(call)?;
            Ok(format!("timezone('UTC', {arg})"))
        }
        DataType::Timestamp(_, None) | DataType::Date32 => Ok(arg.clone()),
        other => Err(format!("a date function of type {other} isn't known on DuckDB")),
    }
}

/// A wall clock as a value of the call's own type.
pub(crate) fn from_local(call: &DuckCall<'_>, local: &str) -> Result<String, String> {
    match call.ret {
        DataType::Timestamp(_, Some(_)) => {
            utc_only(call)?;
            Ok(format!("timezone('UTC', {local})"))
        }
        _ => Ok(local.to_string()),
    }
}

/// DuckDB's timestamps end some hours before their microseconds do, and the greatest is its infinity.
pub(crate) fn timestamp_of_micros(micros: &str) -> String {
    let raise = too_far();
    crate::strings::duck::once(micros, |n| {
        format!("CASE WHEN {n} NOT BETWEEN -9223372022400000000 AND 9223372036854775806 THEN {raise} ELSE make_timestamptz({n}) END")
    })
}

pub(crate) fn timestamp_of_seconds(seconds: &str) -> String {
    let raise = too_far();
    crate::strings::duck::once(seconds, |n| {
        format!("CASE WHEN {n} NOT BETWEEN -9223372022400 AND 9223372036853 THEN {raise} ELSE make_timestamptz({n} * 1000000) END")
    })
}

/// A constant beyond its dates is seen by DuckDB also where a CASE keeps it away.
pub(crate) fn date_from_unix_date(call: &crate::DuckCall<'_>) -> Result<String, String> {
    match crate::strings::duck::int(call, 0) {
        Some(days) if days.unsigned_abs() > 2_147_483_646 => Err("a date this far away isn't known on DuckDB".into()),
        _ => Ok(date_of_days(&call.args[0])),
    }
}

/// Dates end some days before the integers do.
pub(crate) fn date_of_days(days: &str) -> String {
    let raise = too_far();
    crate::strings::duck::once(days, |n| {
        format!("CASE WHEN {n} NOT BETWEEN -2147483646 AND 2147483646 THEN {raise} ELSE DATE '1970-01-01' + {n} END")
    })
}

fn too_far() -> String {
    crate::duckdb::raise("UNSUPPORTED_FEATURE", "0A000", "'A date or time this far away isn''t known on DuckDB.'")
}

/// An error for what DuckDB would write differently.
pub(crate) fn year_out_of_range() -> String {
    crate::duckdb::raise("UNSUPPORTED_FEATURE", "0A000", "'Years outside 0 to 9999 can''t be formatted on DuckDB.'")
}
