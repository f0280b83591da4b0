//! The DuckDB engine: sends a query's DuckDB SQL with its exact files to one of its workers and
//! streams the answer back. Workers are processes: some are started and kept alive here, others
//! have registered from elsewhere; `roster` knows them all alike.
//!
//! DuckDB never runs in this process. Nothing is sent that the planner didn't compile for DuckDB
//! (or, in the `duckdb` dialect, that the user didn't write for it), a table that can't be bound
//! is refused with the reason, and a result that was cut short is an error, never an answer.

#![forbid(unsafe_code)]

mod binding;
mod breaker;
mod client;
mod config;
mod engine;
mod guarded;
mod member;
mod placement;
mod roster;
mod supervisor;
mod ticket;
mod trace;

pub use config::{Config, Transport};
pub use engine::{DuckdbEngine, RemoteWorker, eligible, facts};
pub use member::WorkerFacts;
pub use roster::Seat;
