//! From text to a planned query: one typed plan over pinned snapshots, what it needs, and what each
//! engine would be sent. Plans are cached by what they depend on. Never runs a query.

#![forbid(unsafe_code)]

pub mod binder;
mod cache;
mod cardinality;
mod comparable;
mod constants;
mod eligible;
mod features;
mod fingerprint;
mod guard;
mod optimize;
pub mod parse;
mod passthrough;
mod planner;
mod pool;
mod prune;
mod query;
mod remote;
mod statements;
mod time_zone;
mod trace;

pub use planner::{Config, PassThroughDescriber, PlanRequest, Planned, Planner};
pub use remote::RemoteDescriber;
pub use time_zone::check_time_zone;
