//! Databricks' REST endpoints: who asks, what may be tried again, and what must never be logged.

#![forbid(unsafe_code)]
