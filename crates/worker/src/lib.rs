//! The DuckDB worker: its own process, reached over Arrow Flight, which runs the SELECTs that its
//! router has signed, over the files that these name.
//!
//! It never serves anyone without the key, never runs more than one statement per ticket or
//! anything but a SELECT, never reads a file that the ticket doesn't name, and never materializes
//! a result. It holds no credentials and no state: it can be killed at any moment.
//!
//! | file | what |
//! |---|---|
//! | `serve` | listening, start, drain, the process's life |
//! | `service` | the Flight endpoint, slots, the queue |
//! | `ticket` | signatures, expiry, limits |
//! | `query` | one query on its thread |
//! | `cancel` | ending a query, and giving up one that doesn't hear of it |
//! | `sql_check`, `bindings` | what a statement may name, and what that is |
//! | `sandbox` | what the kernel lets DuckDB's threads do |
//! | `checks` | verdicts on compiled SQL that are known already |
//! | `instance` | DuckDB instances and how they are closed |
//! | `memory` | how much memory a query holds |
//! | `duck` | DuckDB's C API: the one file with `unsafe` |

mod bindings;
mod cancel;
mod checks;
mod config;
mod duck;
mod duck_error;
mod error;
mod instance;
mod memory;
mod query;
mod sandbox;
mod serve;
mod service;
mod sql_check;
mod threads;
mod ticket;
mod trace;
mod type_text;

pub use config::{Config, Key, Tls};
pub use serve::{Endpoint, Listener, harden, run_supervised, serve};
pub use ticket::{Grant, TICKET_VERSION};
