//! Unity Catalog as a catalog: what a table is, who may read it, and whether it may leave
//! Databricks. Never calls a table free for other engines unless every condition is known to hold
//! for the one who asks; never shows one principal what was answered to another.

#![forbid(unsafe_code)]

mod answers;
mod api;
mod ask;
mod catalog;
mod columns;
mod config;
mod credentials;
mod eligibility;
mod entry;
mod listing;
#[cfg(test)]
mod tests;

pub use api::Identities;
pub use catalog::UnityCatalog;
pub use config::Config;
