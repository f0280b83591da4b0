//! The local catalog against real folders: tables that Spark wrote, and logs made here to be
//! damaged, replaced and raced.

mod damaged;
mod folders;
mod golden;
mod logs;
mod parquet_tables;
mod set;
mod time_travel;

mod support;
