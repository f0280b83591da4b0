//! A simulation of the parts of a Databricks workspace that Flightpath talks to: statement
//! execution, warehouses, query history, Unity Catalog, OAuth and result links, over the same Delta
//! and Parquet folders that `serve --data` reads. It exists for demos and tests on machines without
//! an account; it says that it is a simulation in everything it prints, and it is never part of the
//! router's process.
//!
//! Its one duty besides the wire is governance: no statement of a principal ever yields a row that a
//! row filter hides, a value that a mask covers, or a table without the right to read it.

#![forbid(unsafe_code)]

mod auth;
mod commit;
mod config;
mod execution;
mod faults;
mod guarded;
mod history;
mod identity;
mod json_rows;
mod lakehouse;
mod listings;
mod literals;
mod oauth;
mod objects;
mod results;
mod rewrite;
mod router;
mod rules;
mod simulation;
mod spool;
mod state;
mod statements;
mod storage;
mod types;
mod unity;
mod warehouses;
mod wire;
mod writes;

pub use config::{Capability, CatalogConfig, Config, CredentialKind, OauthClient, PrincipalConfig, Settings, TableRules, WarehouseConfig};
pub use faults::Fault;
pub use router::{Emulator, RunningEmulator};
