//! Operators on DuckDB.

use super::arithmetic::Op;
use crate::cast::Mode;
use crate::def::DuckCall;
use crate::types;

pub(crate) fn arithmetic(call: &DuckCall<'_>, op: Op, _mode: Mode) -> Result<String, String> {
    unknown(call, op.symbol())
}

fn unknown(call: &DuckCall<'_>, operator: &str) -> Result<String, String> {
    let names: Vec<String> = call.types.iter().map(types::name).collect();
    Err(format!("`{operator}` of {} isn't known to answer as Databricks does on DuckDB", names.join(" and ")))
}

pub(crate) fn infix(call: &DuckCall<'_>, operator: &str) -> Result<String, String> {
    match call.args {
        [a, b] => Ok(format!("({a} {operator} {b})")),
        _ => unknown(call, operator),
    }
}

macro_rules! pending {
    ($($name:ident $text:literal;)*) => { $(pub(crate) fn $name(call: &DuckCall<'_>) -> Result<String, String> { unknown(call, $text) })* };
}
macro_rules! pending_mode {
    ($($name:ident $text:literal;)*) => { $(pub(crate) fn $name(call: &DuckCall<'_>, _mode: Mode) -> Result<String, String> { unknown(call, $text) })* };
}
pending! { bit_xor "^"; bit_not "~"; shift_left "<<"; shift_right ">>"; shift_right_unsigned ">>>"; negate "-"; canonical_float "="; }
pending_mode! { date_plus_days "+"; date_minus_days "-"; date_difference "-"; timestamp_difference "-"; plus_months "+"; minus_months "-";
 plus_duration "+"; minus_duration "-"; interval_add "+"; interval_subtract "-"; interval_scaled "*"; interval_negate "-"; }
