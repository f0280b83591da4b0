//! DataFusion inside this process: runs a query's optimized plan over the pinned files of its
//! scans, on threads of its own.
//!
//! It never plans SQL, never optimizes the logical plan again, never lists a table and never reads
//! a file that a scan's binding doesn't name. What can't be read exactly is refused or an error.

#![forbid(unsafe_code)]

mod batch_rows;
mod cloud;
mod conform;
mod constant;
mod engine;
mod error;
mod files;
mod interrupt;
mod lazy_logic;
mod memory;
mod projections;
mod run;
mod scan;
mod single_row;
mod spill;
mod system;

pub use engine::{Config, DataFusionEngine};
