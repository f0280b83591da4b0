//! What a workload on Databricks SQL warehouses would have cost behind this router, from exported
//! query history alone: which queries could have left, when each warehouse would still have been
//! up, and what the machines for the rest cost. Every number is an estimate at three levels, with
//! the assumptions named; it never promises what the history can't tell (which tables are governed,
//! which functions another engine would refuse).

#![forbid(unsafe_code)]

mod estimate;
mod leaving;
mod lenient;
mod outcome;
mod read;
mod timeline;
mod warehouse;

pub use estimate::{Assumptions, Estimate, Level, Report, WarehouseEstimate, estimate};
pub use leaving::HeavyShape;
pub use read::{History, QUERIES_MAX};
pub use warehouse::{Warehouse, Warehouses};
