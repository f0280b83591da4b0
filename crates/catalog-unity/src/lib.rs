//! Unity Catalog as a catalog: what a table is, who may read it, and whether it may leave Databricks.

#![forbid(unsafe_code)]
