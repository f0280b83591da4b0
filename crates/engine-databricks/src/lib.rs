//! A Databricks SQL Warehouse as an engine.

#![forbid(unsafe_code)]
