//! A Databricks SQL warehouse as an engine: sends the client's own text through the Statement
//! Execution API and streams the result's chunks back in order.
//!
//! It never executes a statement twice, never ends a stream without an error unless every row the
//! manifest promised was handed on, never shows a credential to a storage link, never puts a link
//! or a token into a message or a log, and never wakes a warehouse by looking at it.

#![forbid(unsafe_code)]

mod cancel;
mod chunk;
mod config;
mod conform;
mod decode;
mod describe;
mod download;
mod engine;
mod history;
mod links;
mod lz4;
mod monitor;
mod parameters;
mod result;
mod run;
mod sql_error;
mod statement;
mod type_text;
mod warehouse;
mod wire;

pub use config::{Config, MonitorAccess, MonitorConfig, Prices};
pub use engine::DatabricksEngine;
pub use history::{Past, PastRun, PastStatement, runs};
pub use statement::{StatementParameter, StatementRequest};
pub use type_text::parse as parse_type_text;
pub use warehouse::{WarehousePhase, WarehouseState};
