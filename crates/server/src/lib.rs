//! Settings, composition, start and drain: the only crate that names adapters.

#![forbid(unsafe_code)]

mod ab_report;
mod check;
mod compose;
mod databricks;
mod describe;
mod fleet;
mod lazy_log;
mod learned;
mod offline;
mod password;
mod quarantine;
mod reconcile;
mod reload;
mod serve;
pub mod settings;
mod state;
mod system_tables;
mod telemetry;
mod worker;

pub use ab_report::{AbComparison, AbFindings, AbInterval, AbQuestion, AbSide, AbTestReport, AbTestStrategy, ab_report};
pub use check::{Finding, check};
pub use flightpath_functions::types::name as type_name;
pub use offline::{Offline, OfflineRouter};
pub use password::hash_password;
pub use quarantine::{lift_quarantine, quarantine};
pub use reload::Load;
pub use serve::serve;
pub use worker::{run_supervised_worker, run_worker};
