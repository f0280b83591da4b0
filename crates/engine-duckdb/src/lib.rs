//! The DuckDB engine: sends a query's DuckDB SQL with its exact files to a worker process and
//! streams the answer back.
//!
//! DuckDB never runs in this process. Nothing is sent that the planner didn't compile for DuckDB
//! (or, in the `duckdb` dialect, that the user didn't write for it), a table that can't be bound
//! is refused with the reason, and a result that was cut short is an error, never an answer.

#![forbid(unsafe_code)]

mod binding;
mod client;
mod config;
mod engine;
mod supervisor;
mod ticket;
mod trace;

pub use config::{Config, Transport};
pub use engine::{DuckdbEngine, eligible, facts};
