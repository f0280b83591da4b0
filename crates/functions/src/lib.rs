//! Databricks' functions, operators, casts and aggregates: how each call is typed, what DataFusion
//! runs for it, and what DuckDB runs for it. Together the definitions are the *compile table*:
//! what isn't in it isn't eligible, it is never guessed. One file per family, one definition per
//! function; the binder looks calls up here, the printer asks a bound call for its DuckDB text.

#![forbid(unsafe_code)]

mod aggregates;
pub mod cast;
mod conditional;
mod datetime;
mod def;
pub mod duckdb;
mod errors;
pub mod fold;
mod from_json;
mod hash;
mod json;
pub mod lambda;
pub mod lazy;
pub mod limit;
mod math;
mod misc;
mod nested;
pub mod ops;
pub mod order;
#[cfg(test)]
mod recorded_tests;
mod regexp;
mod registry;
mod rows;
mod sig;
mod strings;
pub mod types;
mod windows;

pub use def::{
    AggregateCall, AggregateDef, BindContext, Bound, BoundAggregate, DuckAggregate, DuckAggregateSql, DuckCall, FpScalar, FunctionDef,
    Invocation, RewriteDef, ScalarDef, Typed, WindowDef,
};
pub use json::JSON_FIELD;
pub use misc::{RECURSION_LEVEL, RECURSION_ROW};
pub use registry::{all, families, lookup, nearest};
